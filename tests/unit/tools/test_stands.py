"""Where tasks under way stand, as whoever watches a call is told."""

import asyncio
import json
from typing import Any, ClassVar
from unittest.mock import create_autospec

import pytest

from fastagent import AFSMState, FastAgent
from fastagent.afsm import CallControl, Slot
from fastagent.agent import AgentSession, Task


class Ask(AFSMState):
    name = "ask"
    allowed_transitions = ("secret",)

    async def process(self, input_text, context):
        self.scratchpad.append(f"heard {input_text}")
        to = "secret" if input_text == "go on" else "ask"
        return {"response": "And?", "next_state": to, "confidence": 1.0}


class Quiet(Ask):
    scratchpad_enabled = False


class Secret(AFSMState):
    name = "secret"
    allowed_transitions = ("more",)
    slots: ClassVar = {"pin": Slot(str, "Your PIN?", is_redacted=True)}

    async def process(self, input_text, context):
        self.scratchpad.append(f"PIN {input_text}")
        if input_text != "4711":
            return {"response": "PIN?", "next_state": "secret", "confidence": 1.0}
        context.slots["pin"] = input_text
        return {"response": "And now?", "next_state": "more", "confidence": 1.0}


class More(AFSMState):
    name = "more"
    allowed_transitions = ("end",)

    async def process(self, input_text, context):
        self.scratchpad += [f"told {context.slots['pin']}", "asked for more"]
        return {"response": "More?", "next_state": "more", "confidence": 1.0}


class End(AFSMState):
    name = "end"


def session_of(*tasks: Task) -> AgentSession:
    control = create_autospec(CallControl, instance=True)
    control.call_id = "call-1"
    return FastAgent("bot", tasks=tasks).open(control)


def task(name: str, kind: type[Ask] = Ask) -> Task:
    return Task(name, "", None, [kind(), Secret(), More(), End()], "ask")


async def call(session: AgentSession, name: str, **arguments: str) -> None:
    report = json.loads(
        (await session.call_function(f"{name}{arguments}", name, json.dumps(arguments))).output
    )
    assert report["status"] == "needs_input", report


def test_the_task_that_asked_last_stands_at_the_end():
    async def main() -> None:
        session = session_of(task("one"), task("two"))
        assert session.stands == []
        await call(session, "one", request="a")
        await call(session, "two", request="b")
        await call(session, "task_reply", task="one", answer="c")
        assert [(stand.task, stand.state) for stand in session.stands] == [("two", "ask"), ("one", "ask")]
        assert session.stands[1].scratchpads == {"ask": ["heard a", "heard c"]}
        assert "heard" not in repr(session.stands)
        await session.close("end")
        assert session.stands == []

    asyncio.run(main())


@pytest.mark.parametrize(("kind", "notes"), [(Ask, {"ask": ["heard a"]}), (Quiet, {})])
def test_notes_are_shown_where_the_state_keeps_any(kind, notes):
    async def main() -> None:
        session = session_of(task("one", kind))
        await call(session, "one", request="a")
        assert session.stands[0].scratchpads == notes
        await session.close("end")

    asyncio.run(main())


def test_no_note_is_shown_of_a_secret_then_or_later():
    async def main() -> None:
        session = session_of(task("one"))
        await call(session, "one", request="a")
        await call(session, "task_reply", task="one", answer="go on")
        await call(session, "task_reply", task="one", answer="what?")
        [stand] = session.stands
        assert (stand.state, set(stand.scratchpads)) == ("secret", {"ask"})
        await call(session, "task_reply", task="one", answer="4711")
        await call(session, "task_reply", task="one", answer="more")
        [stand] = session.stands
        assert (stand.state, stand.scratchpads["more"]) == ("more", ["asked for more"])
        assert "4711" not in str(stand.scratchpads)
        await session.close("end")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("declared", "needs_call"),
    [
        ({}, False),
        ({"voice_policy": {"is_call_only": True}}, True),
        ({"voice_policy": {"redaction": "digits"}}, True),
        ({"slots": [{"name": "day", "type": "string", "confirmation": "keypad"}]}, True),
        ({"slots": [{"name": "day", "type": "string", "redacted": True}]}, True),
        ({"slots": [{"name": "day", "type": "string", "confirmation": "read_back"}]}, False),
    ],
)
def test_what_stays_out_of_records_takes_a_key_or_says_so_is_for_calls(
    declared: dict[str, Any], needs_call: bool
) -> None:
    ask = {
        "name": "ask",
        "allowed_transitions": ["end"],
        "slots": [{"name": "day", "type": "string"}],
        **declared,
    }

    async def scenario() -> None:
        session = session_of(Task("one", states=[ask, End()], initial_state="ask"))
        assert not session.needs_call
        assert session.open_question is None
        outcome = await session.call_function("f1", "one", "{}")
        assert session.needs_call is needs_call
        assert session.open_question == json.loads(outcome.output)
        await session.close("over")

    asyncio.run(scenario())
