"""AgentSession with a keeper: runs are kept by their function calls, and the focus follows the states."""

import asyncio
import json
from typing import ClassVar
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import Event
from fastagent.afsm.voice import VoicePolicy
from fastagent.agent import FastAgent, Task
from fastagent.tools.kept import Undone

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Kept:
    """A run whose effects happen at once."""

    def __init__(self, keeper, run_id):
        self.run_id = run_id
        self.effects = self
        self.keeper = keeper
        self.undone = keeper.undone

    def begin(self, task, graph_hash, *, slots, facts, profile):
        self.keeper.entries.append((self.run_id, "begin", {"task": task, "slots": dict(slots)}))

    def record(self, kind, data):
        self.keeper.entries.append((self.run_id, kind, dict(data)))

    def end(self, status, state):
        self.keeper.entries.append((self.run_id, "end", {"status": status, "state": state}))

    async def run(self, name, function, arguments, *, call_id=None):
        self.keeper.entries.append((self.run_id, "effect", dict(arguments)))
        return await function(**arguments)

    async def undo(self, reason):
        self.keeper.entries.append((self.run_id, "undo", {"reason": reason}))
        await self.keeper.may_undo.wait()
        if isinstance(self.undone, Exception):
            raise self.undone
        return self.undone


class Keeper:
    def __init__(self):
        self.entries = []
        self.commits = 0
        self.undone = Undone()
        self.may_undo = asyncio.Event()
        self.may_undo.set()

    def record(self, kind, data):
        self.entries.append(("", kind, dict(data)))

    def keep(self, run_id):
        return Kept(self, run_id)

    async def commit(self):
        self.commits += 1

    def of(self, run_id):
        return [kind for name, kind, _ in self.entries if name == run_id]


class Ask(AFSMState):
    name = "ask"
    description = "Find out what it is."
    allowed_transitions = ("sure",)
    handles: ClassVar = {Event.BARGE_IN: ""}

    def __init__(self):
        super().__init__()
        self.events = []

    async def on_event(self, event, text, context):
        self.events.append(event)

    async def process(self, input_text, context):
        if self.scratchpad:
            return {"response": "Sure?", "next_state": "sure", "confidence": 1.0}
        self.scratchpad.append("asked")
        return {"response": "Which one?", "next_state": "ask", "confidence": 1.0}


class Sure(AFSMState):
    name = "sure"
    description = "Have it confirmed."
    allowed_transitions = ("end",)
    voice_policy = VoicePolicy(speech="patient", tools=("search",), redaction="digits")

    @effect()
    async def do(self, what):
        return what

    async def process(self, input_text, context):
        await self.effect_runner.run("", self.do, {"what": input_text})
        return {"response": "", "next_state": "end", "confidence": 1.0}


def search() -> str:
    """Search."""
    return "found"


def browse() -> str:
    """Browse."""
    return "found"


class Bench:
    def __init__(self, *, is_kept=True, patience_s=10.0):
        self.control = create_autospec(CallControl, instance=True)
        self.control.call_id = "call-1"
        self.announced = asyncio.Queue()
        self.control.announce.side_effect = lambda text: self.announced.put_nowait(json.loads(text))
        self.ask = Ask()
        self.keeper = Keeper()
        self.focused = []
        book = Task(
            "book", "Book.", {"properties": {"day": {"type": "string"}}},
            [self.ask, Sure(), AFSMState("end", "All done.")], "ask",
        )  # fmt: skip
        chat = Task("chat", "Chat.", None, [Ask(), Sure(), AFSMState("end", "Bye.")], "ask")
        agent = FastAgent(
            "desk", instructions="You are a desk.", tasks=[book, chat], functions=[search, browse],
            task_patience_s=patience_s,
        )  # fmt: skip
        self.session = agent.open(self.control)
        if is_kept:
            self.session.keep_in(self.keeper)
        self.session.on_focus = lambda: self.focused.append(self.session.focus)
        self.calls = 0

    async def call(self, name, /, **arguments):
        self.calls += 1
        outcome = await self.session.call_function(f"fc{self.calls}", name, json.dumps(arguments))
        return json.loads(outcome.output)


# What is kept


async def test_a_run_is_kept_under_the_function_call_that_began_it():
    bench = Bench()
    await bench.call("book", day="Monday")
    await bench.call("task_reply", task="book", answer="that one")
    assert (await bench.call("task_reply", task="book", answer="yes"))["status"] == "done"
    entries = bench.keeper.entries
    assert entries[0] == ("fc1", "begin", {"task": "book", "slots": {"day": "Monday"}})
    assert entries[-1] == ("fc1", "end", {"status": "done", "state": "end"})
    assert {name for name, _, _ in entries} == {"fc1"}
    assert bench.keeper.of("fc1").count("effect") == 1
    assert bench.keeper.commits == 3


async def test_runs_at_once_are_kept_apart_and_audit_records_by_themselves():
    bench = Bench()
    await bench.call("book")
    await bench.call("chat")
    await bench.call("search")
    assert bench.keeper.of("fc1")[:1] == bench.keeper.of("fc2")[:1] == ["begin"]
    assert bench.keeper.of("") == ["tool_call", "tool_outcome"]


async def test_a_repeated_function_call_begins_no_other_run():
    bench = Bench()
    for _ in range(2):
        await bench.session.call_function("same", "book", "{}")
    assert bench.keeper.of("same").count("begin") == 1


async def test_without_a_keeper_effects_are_refused_not_done_twice():
    bench = Bench(is_kept=False)
    await bench.call("book")
    await bench.call("task_reply", task="book", answer="that one")
    assert (await bench.call("task_reply", task="book", answer="yes"))["status"] == "failed"


# Cancelling


@pytest.mark.parametrize(
    ("undone", "words", "lists"),
    [
        (Undone(), "All right, I have stopped that.", None),
        (Undone(("do",)), "All right, I have stopped that, and taken back what was done.", (["do"], [])),
        (
            Undone((), ("do",)),
            "I have stopped that, but something that was done already could not be taken back.",
            ([], ["do"]),
        ),
        (
            RuntimeError(),
            "I have stopped that, but something that was done already could not be taken back.",
            ([], ["unknown"]),
        ),
    ],
)
async def test_cancelling_tells_what_became_of_what_was_done(undone, words, lists):
    bench = Bench()
    bench.keeper.undone = undone
    await bench.call("book")
    report = await bench.call("task_cancel", task="book")
    assert (report["status"], report["say"]) == ("cancelled", words)
    assert (None if lists is None else (report["undone"], report["not_undone"])) == lists
    assert bench.keeper.of("fc1")[-2:] == ["end", "undo"]
    assert (await bench.call("book"))["status"] == "needs_input"


async def test_a_task_counts_as_running_until_it_is_undone_and_tells_then():
    bench = Bench(patience_s=0.05)
    bench.keeper.undone = Undone(("do",))
    bench.keeper.may_undo.clear()
    assert (await bench.call("book"))["status"] == "needs_input"
    assert (await bench.call("task_cancel", task="book"))["status"] == "working"
    assert (await bench.call("book"))["status"] == "working"
    bench.keeper.may_undo.set()
    async with asyncio.timeout(5):
        assert (await bench.announced.get())["undone"] == ["do"]
    assert bench.keeper.of("fc1").count("begin") == 1


async def test_the_end_of_the_call_undoes_nothing():
    bench = Bench()
    await bench.call("book")
    await bench.session.close("over")
    assert bench.keeper.of("fc1")[-1] == "end"


async def test_the_end_of_the_call_does_not_wait_for_an_undo():
    bench = Bench(patience_s=0.05)
    bench.keeper.may_undo.clear()
    await bench.call("book")
    await bench.call("task_cancel", task="book")
    await bench.session.close("over", timeout_s=5.0)
    assert not bench.session.background


# What the model goes by


async def test_the_focus_follows_the_states_and_begins_with_the_same_words():
    bench = Bench()
    before = bench.session.focus
    assert before.instructions == bench.session.instructions
    assert (before.tools, before.speech) == (bench.session.tools, "")
    await bench.call("book")
    asked = bench.focused[-1]
    assert asked.instructions == (
        before.instructions + "\nThe task book is at this point now: Find out what it is."
    )
    assert asked.tools == before.tools
    await bench.call("task_reply", task="book", answer="that one")
    sure = bench.focused[-1]
    assert sure.instructions.endswith("now: Have it confirmed.")
    assert {tool["name"] for tool in before.tools} - {tool["name"] for tool in sure.tools} == {"browse"}
    assert sure.speech == "patient"
    await bench.call("task_reply", task="book", answer="yes")
    assert bench.focused[-1] == before


async def test_the_focus_names_every_task_that_runs():
    bench = Bench()
    await bench.call("book")
    await bench.call("chat")
    lines = bench.session.focus.instructions.removeprefix(bench.session.instructions).split("\n")
    assert [line.split()[2] for line in lines[1:]] == ["book", "chat"]


async def test_the_end_of_the_call_changes_no_focus():
    bench = Bench()
    await bench.call("book")
    bench.focused.clear()
    await bench.session.close("over")
    assert bench.focused == []


async def test_a_state_that_redacts_or_asks_for_a_redacted_slot_is_told_of():
    bench = Bench()
    assert not bench.session.is_redacting
    await bench.call("book")
    assert not bench.session.is_redacting
    await bench.call("task_reply", task="book", answer="that one")
    assert bench.session.is_redacting

    class Pin(AFSMState):
        name = "pin"
        allowed_transitions = ("end",)
        slots: ClassVar = {"pin": Slot(str, "Your PIN?", is_redacted=True)}

    agent = FastAgent("desk", [Pin(), AFSMState("end", "Bye.")], "pin", task_name="check")
    session = agent.open(bench.control)
    await session.call_function("f1", "check", "{}")
    assert session.is_redacting


# Events


async def test_events_reach_those_states_that_answer_to_them():
    bench = Bench()
    await bench.call("book")
    bench.session.signal(Event.RESUME)
    bench.session.signal(Event.BARGE_IN)
    report = await bench.call("task_reply", task="book", answer="that one")
    assert report["say"] == "Sure?"
    assert bench.ask.events == [Event.BARGE_IN]
    bench.session.signal(Event.BARGE_IN)
    assert (await bench.call("task_reply", task="book", answer="yes"))["status"] == "done"
    assert [data.get("event") for _, kind, data in bench.keeper.entries if kind == "input"] == [
        "input",
        "barge_in",
        "input",
        "input",
    ]
