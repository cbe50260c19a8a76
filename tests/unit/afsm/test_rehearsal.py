"""Rehearsal: a run without a call."""

import asyncio

import pytest

from fastagent.afsm import AFSMState, Graph
from fastagent.afsm.coverage import Coverage
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.rehearsal import Rehearsal
from fastagent.afsm.spec import Event
from fastagent.errors import AgentError

GRAPH = Graph.from_states(
    [
        {"name": "ask", "slots": [{"name": "amount", "type": "integer", "confirmation": "keypad"}],
         "allowed_transitions": ["pay"], "silence": [{"after_s": 5, "say": "Hello?"}],
         "deadline_s": 60, "on_deadline": "end", "handles": {"transfer": "end"}},
        {"name": "pay", "effects": [{"name": "charge", "key": "amount"}], "allowed_transitions": ["end"],
         "handles": {"tool_failed": "sorry"}},
        {"name": "sorry", "prompt_template": "That went wrong."},
        {"name": "end", "prompt_template": "Bye."},
    ],
    "ask",
    functions={"charge": lambda amount: pytest.fail("an effect is never run")},
)  # fmt: skip


def rehearsed(*steps, **options):
    async def run():
        rehearsal = Rehearsal(GRAPH, **options)
        await rehearsal.start("hello")
        for name, value in steps:
            await getattr(rehearsal, name)(value)
        await rehearsal.close()
        return rehearsal

    return asyncio.run(run())


def test_words_keys_and_effects():
    coverage = Coverage()
    done = rehearsed(("say", "forty"), ("press", "1"), outcomes={"charge": "ok"}, observer=coverage.note)
    assert done.states == ["ask", "pay", "end"]
    assert done.effects == ["charge"]
    assert done.outcome.result == {"amount": 40, "charge": "ok"}
    assert done.said[-1] == "Bye."
    assert coverage.states.keys() == {"ask", "pay", "end"}


def test_an_effect_may_fail():
    done = rehearsed(("say", "forty"), ("press", "1"), outcomes={"charge": RuntimeError()})
    assert done.states[-1] == "sorry"


def test_an_effect_that_is_run_without_a_name_has_the_one_it_was_declared_with():
    class Pays(AFSMState):
        @effect(name="charge")
        async def pay(self):
            pytest.fail("an effect is never run")

        async def process(self, input_text, context):
            context.slots["receipt"] = await self.effect_runner.run("", self.pay, {})
            return {"response": "Paid.", "next_state": "only", "confidence": 1.0}

    async def run():
        rehearsal = Rehearsal(Graph.from_states([Pays("only")], "only"), outcomes={"charge": "R1"})
        await rehearsal.start()
        return rehearsal

    done = asyncio.run(run())
    assert done.effects == ["charge"]
    assert done.outcome.result == {"receipt": "R1"}


def test_time_passes_only_when_told_to():
    done = rehearsed(("wait", 6))
    assert done.said[-1] == "Hello?"
    assert rehearsed(("wait", 61)).states == ["ask", "end"]


def test_other_events_happen():
    assert rehearsed(("happen", Event.TRANSFER)).states == ["ask", "end"]


def test_what_states_order_is_noted():
    class Orders(AFSMState):
        async def process(self, input_text, context):
            self.call.transfer("tel:+1", "asked")
            self.call.send_metadata({"b": 1, "a": 2})
            self.call.play_clip("music")
            self.call.stop_clips()
            self.call.send_digits("1")
            self.call.hold("music")
            self.call.resume()
            self.call.announce("so")
            self.call.hang_up("done")
            return {"response": "Bye.", "next_state": "only", "confidence": 1.0}

    async def run():
        rehearsal = Rehearsal(Graph.from_states([Orders("only", "")], "only"))
        await rehearsal.start()
        return rehearsal.control.orders

    assert asyncio.run(run()) == [
        ("transfer", "tel:+1"), ("send_metadata", "a, b"), ("play_clip", "music"), ("stop_clips", ""),
        ("send_digits", "1"), ("hold", "music"), ("resume", ""), ("announce", "so"), ("hang_up", "done"),
    ]  # fmt: skip


def test_it_must_be_started():
    with pytest.raises(AgentError, match="started"):
        asyncio.run(Rehearsal(GRAPH).say("hello"))
