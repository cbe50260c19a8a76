"""A talk that goes on in another process: what was confirmed, and what is asked again."""

import asyncio
import json
from datetime import date
from decimal import Decimal
from typing import Annotated, ClassVar
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl
from fastagent.afsm.slots import Digits, Slot
from fastagent.agent import FastAgent, Task

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Identify(AFSMState):
    name = "identify"
    allowed_transitions = ("amount",)
    slots: ClassVar = {"pin": Slot(Annotated[str, Digits()], "Your PIN?", is_redacted=True)}


class Amount(AFSMState):
    name = "amount"
    allowed_transitions = ("note",)
    slots: ClassVar = {
        "amount": Slot(Decimal, "How much?"),
        "day": Slot(date, "On which day?"),
        "payee": Slot(str, "To whom?", confirmation="read_back"),
    }


class Note(AFSMState):
    name = "note"
    allowed_transitions = ("end",)

    async def process(self, input_text, context):
        if not self.scratchpad:
            self.scratchpad.append("asked")
            return {"response": "Any note?", "next_state": "note", "confidence": 1.0}
        context.slots["note"] = input_text
        return {"response": "", "next_state": "end", "confidence": 1.0}


class Talk:
    """One process's part of a talk."""

    def __init__(self, *, closing: str = "All done."):
        self.control = create_autospec(CallControl, instance=True)
        self.control.call_id = "call-1"
        states = [Identify(), Amount(), Note(), AFSMState("end", closing)]
        pay = Task("pay", "Pay.", None, states, "identify")
        chat = Task("chat", "Chat.", None, [Note(), AFSMState("end", "Bye.")], "note")
        self.session = FastAgent("bank", tasks=[pay, chat], task_patience_s=5.0).open(self.control)
        self.calls = 0

    async def call(self, name, /, **arguments):
        self.calls += 1
        outcome = await self.session.call_function(f"fc{self.calls}", name, json.dumps(arguments))
        return json.loads(outcome.output)

    async def says(self, *answers):
        for answer in answers:
            report = await self.call("task_reply", task="pay", answer=answer)
        return report

    async def leave(self):
        """Give what another process goes on with."""
        snapshot = json.loads(json.dumps(self.session.snapshot()))
        await self.session.close("gone")
        return snapshot


async def moved_on(talk, **options):
    snapshot = await talk.leave()
    other = Talk(**options)
    return other, snapshot, await other.session.resume(snapshot)


ANSWERS = ("one two three four", "fifty", "2026-12-24", "Smith", "yes", "for rent")


@pytest.mark.parametrize("after", range(len(ANSWERS)))
async def test_the_open_question_is_asked_again_and_the_result_is_the_same(after):
    talk = Talk()
    talk.session.context.add_salient_fact("city", "Bonn")
    asked = await talk.call("pay")
    for answer in ANSWERS[:after]:
        asked = await talk.says(answer)
    talk, _, (questions, lost) = await moved_on(talk)
    assert (questions, lost) == ([asked], [])
    assert talk.session.context.facts == {"city": "Bonn"}
    report = await talk.says(*ANSWERS[after:])
    assert (report["status"], report["say"]) == ("done", "All done.")
    pin = {"pin": "1234"} if after == 0 else {}
    assert report["result"] == {
        **pin, "amount": "50", "day": "2026-12-24", "payee": "Smith", "note": "for rent",
    }  # fmt: skip


async def test_what_must_not_be_written_down_is_in_no_snapshot():
    talk = Talk()
    await talk.call("pay")
    await talk.says("one two three four")
    assert "1234" not in json.dumps(await talk.leave())


async def test_several_tasks_go_on_and_what_ended_is_known():
    talk = Talk()
    await talk.call("chat")
    await talk.call("task_reply", task="chat", answer="fine")
    await talk.call("chat")
    await talk.call("pay")
    talk, snapshot, (questions, lost) = await moved_on(talk)
    assert [one["run"] for one in snapshot["runs"]] == ["fc3", "fc4"]
    assert [one["say"] for one in questions] == ["Any note?", "Your PIN?"]
    assert lost == []
    assert [one["task"] for one in talk.session.results] == ["chat"]


async def test_a_task_at_work_goes_on_from_its_last_question():
    gate = asyncio.Event()

    class Slow(Note):
        async def process(self, input_text, context):
            if self.scratchpad:
                await gate.wait()
            return await super().process(input_text, context)

    def slow_session():
        control = create_autospec(CallControl, instance=True)
        control.call_id = "call-1"
        task = Task("chat", "Chat.", None, [Slow(), AFSMState("end", "Bye.")], "note")
        return FastAgent("bank", tasks=[task], task_patience_s=0.05).open(control)

    session = slow_session()
    await session.call_function("fc1", "chat", "{}")
    await session.call_function("fc2", "task_reply", json.dumps({"task": "chat", "answer": "fine"}))
    assert session.is_at_work
    snapshot = session.snapshot()
    await session.close("gone")
    other = slow_session()
    questions, _ = await other.resume(snapshot)
    assert [one["say"] for one in questions] == ["Any note?"]
    gate.set()
    outcome = await other.call_function("fc3", "task_reply", json.dumps({"task": "chat", "answer": "fine"}))
    assert json.loads(outcome.output)["result"] == {"note": "fine"}


async def test_a_task_that_is_not_what_it_was_does_not_go_on():
    talk = Talk()
    await talk.call("pay")
    other, _, (questions, lost) = await moved_on(talk, closing="Something else.")
    assert (questions, lost) == ([], ["pay"])
    assert (await other.call("pay"))["say"] == "Your PIN?"
