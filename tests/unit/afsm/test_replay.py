"""A recorded run goes the same way again, without its effects; another graph is told apart at its entry."""

import asyncio
from datetime import datetime

import pytest

from fastagent.afsm.effects.effects import Effects
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.graph import Graph
from fastagent.afsm.replay import _SilentControl, replay, runs_of
from fastagent.afsm.run.clock import ManualClock
from fastagent.afsm.run.machine import Machine
from fastagent.afsm.run.proposal import Proposal, ProposalError
from fastagent.afsm.spec import Event, SilenceStep, WatchSpec, WatchStep
from fastagent.afsm.state import AFSMState
from fastagent.context import ConversationContext
from fastagent.errors import EffectFailedError
from fastagent.examples.appointment import appointment_agent
from fastagent.journal import MemoryJournal, RunRecorder

MONDAY = datetime(2026, 11, 23, 10)


class Bank:
    def __init__(self) -> None:
        self.moved: list[int] = []
        self.error: Exception | None = None


class Ask(AFSMState):
    name = "ask"
    allowed_transitions = ("confirm", "end")
    silence = (SilenceStep(after_s=5, say="Are you there?"), SilenceStep(after_s=12, next_state="end"))

    def __init__(self, words: str = "How much?") -> None:
        super().__init__()
        self.words = words

    async def process(self, input_text, context):
        if input_text.isdigit():
            context.slots["amount"] = int(input_text)
            return {"response": f"Move {input_text}?", "next_state": "confirm", "confidence": 1.0}
        return {"response": self.words, "next_state": self.name, "confidence": 1.0}


class Confirm(AFSMState):
    name = "confirm"
    allowed_transitions = ("ask", "end")

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.bank = bank
        self.factor = 1

    @effect(undo="take_back")
    async def move(self, amount: int) -> str:
        if self.bank.error is not None:
            raise self.bank.error
        self.bank.moved.append(amount)
        return f"receipt {len(self.bank.moved)}"

    async def take_back(self, amount: int) -> None: ...

    async def process(self, input_text, context):
        if input_text != "yes":
            return {"response": "", "next_state": "ask", "confidence": 1.0}
        try:
            receipt = await self.effect_runner.run(
                "", self.move, {"amount": context.slots["amount"] * self.factor}
            )
        except EffectFailedError:
            return {"response": "That failed. Again?", "next_state": "confirm", "confidence": 1.0}
        context.slots["receipt"] = receipt
        return {"response": "", "next_state": "end", "confidence": 1.0}


class End(AFSMState):
    name = "end"
    description = "Goodbye."


def bank_graph(bank: Bank, words: str = "How much?") -> Graph:
    return Graph.from_states([Ask(words), Confirm(bank), End()], "ask")


async def recorded(
    graph, script, *, run="call1", slots=None, journal=None, effects=None, redacted=(), reasoner=None
):
    """Have a run recorded: texts are answers, events signals, numbers seconds that pass."""
    journal = journal or MemoryJournal()
    journal.redaction.add(redacted)
    recorder, clock = RunRecorder(journal, run), ManualClock(50.0)
    effects = effects or Effects(journal, "session")
    context = ConversationContext().task_view()
    context.slots.update(slots or {})
    recorder.begin("task", graph.content_hash, slots=context.slots)
    machine = Machine(
        graph, context, _SilentControl(run), ask=lambda question: None,
        recorder=recorder, clock=clock, effects=effects.for_call(run), reasoner=reasoner,
    )  # fmt: skip
    running = asyncio.create_task(machine.run(script[0]))
    for step in script[1:]:
        for _ in range(1000):
            await asyncio.sleep(0)
            if machine.is_idle or running.done():
                break
        if isinstance(step, Event):
            machine.signal(step)
        elif isinstance(step, tuple):
            machine.hear(*step)
        elif isinstance(step, str):
            machine.post(step)
        else:
            clock.advance(step)
            for _ in range(3):
                await asyncio.sleep(0)
    outcome = await asyncio.wait_for(running, 10)
    recorder.end(outcome.status, outcome.state)
    return list(journal.entries())


def replayed(entries, graph, run="call1"):
    return asyncio.run(replay(entries, graph, run=run))


@pytest.mark.parametrize(
    "script",
    [
        ["hello", "30", "yes"],
        ["20", "no", "hello", "25", "yes"],
        ["hello", 5.5, "30", "yes"],
        ["hello", 5.5, 8.0],
        ["30", Event.BARGE_IN, "yes"],
    ],
)
def test_the_same_states_and_effects_and_nothing_is_done(script):
    bank = Bank()
    entries = asyncio.run(recorded(bank_graph(bank), script))
    moved = list(bank.moved)
    found = replayed(entries, bank_graph(bank))
    assert (found.status, found.divergence, found.reason) == ("same", None, "")
    assert found.version == "same"
    assert found.states[0] == "ask"
    assert found.states[-1] == "end"
    assert found.compared >= len(found.states)
    assert bank.moved == moved


@pytest.mark.parametrize(
    "script",
    [
        ["hello", ("stop it now",)],
        ["hello", ("all fine",), "stop it"],
        ["hello", ("stop it",), "stop it now"],
    ],
)
def test_what_a_watch_heard_leads_there_again(script):
    def graph():
        watch = WatchSpec("stop", (WatchStep(next_state="end"),), words=("stop it",))
        return Graph.from_states([Ask(), Confirm(Bank()), End()], "ask", supervisor=(watch,))

    entries = asyncio.run(recorded(graph(), script))
    found = replayed(entries, graph())
    assert (found.status, found.divergence, found.reason) == ("same", None, "")
    assert found.states == ("ask", "end")


def test_a_failed_effect_fails_again():
    bank = Bank()
    bank.error = EffectFailedError()
    entries = asyncio.run(recorded(bank_graph(bank), ["30", "yes", "no", "bye", 5.5, 8.0]))
    bank.error = None
    assert replayed(entries, bank_graph(bank)).status == "same"
    assert bank.moved == []


def test_other_words_are_named_with_their_entry():
    entries = asyncio.run(recorded(bank_graph(Bank()), ["hello", "30", "yes"]))
    found = replayed(entries, bank_graph(Bank(), "What amount?"))
    assert found.status == "diverged"
    assert found.divergence is not None
    assert entries[found.divergence.seq].kind == "asked"
    assert "How much?" in found.divergence.expected
    assert "What amount?" in found.divergence.got
    assert "How much?" not in repr(found)


def test_another_move_is_named_with_its_entry():
    entries = asyncio.run(recorded(bank_graph(Bank()), ["30", "yes"]))
    graph = bank_graph(Bank())
    graph.states["confirm"].allowed_transitions = ("ask", "end")

    async def stray(input_text, context):
        return {"response": "", "next_state": "end", "confidence": 1.0}

    graph.states["confirm"].process = stray  # type: ignore[method-assign]
    found = replayed(entries, graph)
    assert found.status == "diverged"
    assert found.divergence is not None
    assert found.divergence.expected.startswith("effect_intent")
    assert found.divergence.got == ""


def test_another_amount_is_named_and_not_moved():
    entries = asyncio.run(recorded(bank_graph(Bank()), ["30", "yes"]))
    bank = Bank()
    graph = bank_graph(bank)
    graph.states["confirm"].factor = 2  # type: ignore[attr-defined]
    found = replayed(entries, graph)
    assert found.divergence is not None
    assert found.divergence.expected == 'effect_intent {"arguments":{"amount":30},"name":"move"}'
    assert found.divergence.got == 'effect_intent {"arguments":{"amount":60},"name":"move"}'
    assert bank.moved == []


def test_a_graph_of_another_version_is_told():
    entries = asyncio.run(recorded(bank_graph(Bank()), ["30", "yes"]))
    other = Graph.from_states([Ask(), Confirm(Bank()), End(description="Bye.")], "ask")
    assert replayed(entries, other).version == "other"


def test_a_journal_that_ends_in_the_middle_agrees_as_far_as_it_goes():
    entries = asyncio.run(recorded(bank_graph(Bank()), ["hello", "30", "yes"]))
    asked = [entry.seq for entry in entries if entry.kind == "asked"]
    found = replayed(entries[: asked[1] + 1], bank_graph(Bank()))
    assert (found.status, found.states) == ("same", ("ask", "confirm"))


def test_a_redacted_input_ends_the_replay_and_is_named():
    entries = asyncio.run(recorded(bank_graph(Bank()), ["hello", "30", "yes"], redacted=["text"]))
    found = replayed(entries, bank_graph(Bank()))
    assert found.status == "incomplete"
    assert "is redacted" in found.reason


def test_a_state_that_waits_for_the_world_is_incomplete(monkeypatch):
    monkeypatch.setattr("fastagent.afsm.replay.STALL_S", 0.0)
    entries = asyncio.run(recorded(bank_graph(Bank()), ["30", "yes"]))
    graph = bank_graph(Bank())

    async def hang(input_text, context):
        await asyncio.Event().wait()

    graph.states["confirm"].process = hang  # type: ignore[method-assign]
    found = replayed(entries, graph)
    assert found.status == "incomplete"
    assert "'confirm' waits" in found.reason


def test_runs_of_one_journal_are_told_apart():
    journal = MemoryJournal()
    graph, effects = bank_graph(Bank()), Effects(journal, "session")
    asyncio.run(recorded(graph, ["30", "yes"], run="a", journal=journal, effects=effects))
    script = ["hello", "40", "no", "41", "yes"]
    asyncio.run(recorded(graph, script, run="b", journal=journal, effects=effects))
    entries = list(journal.entries())
    assert runs_of(entries) == ["a", "b"]
    assert [replayed(entries, graph, run).status for run in "ab"] == ["same", "same"]
    assert replayed(entries, graph, "c").reason == "no input was recorded"
    assert runs_of([]) == []


def test_the_appointment_example_replays():
    def graph():
        return appointment_agent(clock=lambda: MONDAY).tasks["book_appointment"].graph

    script = ["i need an appointment", "friday", "at ten", "yes", "no thank you"]
    entries = asyncio.run(recorded(graph(), script))
    found = replayed(entries, graph())
    assert found.status == "same"
    assert found.states == ("collect_date", "collect_time", "confirm", "anything_else", "goodbye")
    later = appointment_agent(clock=lambda: datetime(2026, 11, 30, 10)).tasks["book_appointment"].graph
    assert replayed(entries, later).status == "diverged"


class Model:
    """Proposes one thing after another; None is no usable proposal."""

    def __init__(self, *proposals: Proposal | None) -> None:
        self.proposals = list(proposals)

    async def propose(self, request):
        proposal = self.proposals.pop(0) if self.proposals else None
        if proposal is None:
            raise ProposalError("nothing")
        return proposal


def test_recorded_proposals_take_the_place_of_the_model():
    states = [
        {
            "name": "menu",
            "description": "What would you like?",
            "allowed_transitions": ["sales", "support"],
            "llm_config": {"model": "m"},
        },
        {"name": "sales", "description": "Sales."},
        {"name": "support", "description": "Support."},
    ]
    graph = Graph.from_states(states, "menu")
    model = Model(None, Proposal("nowhere"), Proposal("support", say="I connect you."))
    entries = asyncio.run(recorded(graph, ["hello", "hm", "help", "it is broken", "thanks"], reasoner=model))
    found = replayed(entries, graph)
    assert (found.status, found.divergence) == ("same", None)
    assert found.states == ("menu", "support")
