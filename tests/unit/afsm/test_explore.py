"""`explore`: it breaks what can be broken, tells it as a short call, and finds nothing where nothing is."""

import logging
import sys

import pytest

from fastagent.afsm import AFSMState, Graph
from fastagent.afsm.definition import read_watches
from fastagent.afsm.explore import (
    NO_CRASH,
    Moment,
    always,
    eventually,
    explore,
    never,
    stimuli_of,
)
from fastagent.afsm.spec import Event
from fastagent.errors import ConfigurationError


def charge(amount):
    pytest.fail("an effect is never run")


def bank(*, guard="slots.pin == '1234' and slots.amount <= 500"):
    """Pays a hundred, after a look at the pin that may have a hole."""
    return Graph.from_states(
        [
            {"name": "ask", "slots": [{"name": "amount", "type": "integer", "maximum": 1000},
                                      {"name": "pin", "type": "digits"}],
             "allowed_transitions": ["pay", "refuse"], "guards": {"pay": guard},
             "silence": [{"after_s": 9, "next_state": "refuse"}]},
            {"name": "pay", "prompt_template": "Paid {amount}.", "allowed_transitions": ["bye"],
             "effects": [{"name": "charge", "key": "amount"}]},
            {"name": "refuse", "prompt_template": "No."},
            {"name": "bye", "prompt_template": "Bye."},
        ],
        "ask",
        functions={"charge": charge},
    )  # fmt: skip


PAID_WITHOUT_PIN = never(
    "pays without the pin", lambda now: "charge" in now.effects and now.slots.get("pin") != "1234"
)


def test_a_promise_that_holds_is_not_broken():
    found = explore(bank(), [PAID_WITHOUT_PIN], calls=60, steps=12)
    assert found.counterexample is None
    assert found.coverage.states["refuse"] > 0


def test_a_hole_in_a_guard_is_found_and_told_as_a_short_call():
    found = explore(bank(guard="slots.amount <= 500"), [PAID_WITHOUT_PIN], calls=100, steps=12)
    broken = found.counterexample
    assert broken.invariant == "never pays without the pin"
    callers = [line for line in broken.lines if line.startswith("caller: ")]
    assert len(callers) == 3, broken
    assert "[pay]" in broken.lines
    assert str(broken).startswith("broken: never pays without the pin\n  caller: ")
    assert any(line == "bot:    What is the pin?" for line in broken.lines)


@pytest.mark.parametrize(
    ("invariant", "name"),
    [
        (always("is asking", lambda now: now.state == "ask"), "always is asking"),
        (never("refuses", lambda now: "refuse" in now.states), "never refuses"),
        (eventually("pays", lambda now: "pay" in now.states), "eventually pays"),
    ],
)
def test_each_kind_of_promise_is_broken_in_few_steps(invariant, name):
    broken = explore(bank(), [invariant], calls=60, steps=8).counterexample
    assert broken.invariant == name
    assert len([line for line in broken.lines if line.startswith(("caller", "time", "event", "world"))]) <= 3


def test_eventually_is_not_asked_of_calls_that_go_on():
    graph = Graph.from_states([{"name": "a", "slots": [{"name": "b"}], "allowed_transitions": ["c"]},
                               {"name": "c"}], "a")  # fmt: skip
    held = eventually("was in a", lambda now: now.state == "a" or now.outcome is not None)
    assert explore(graph, [held], calls=20, steps=5).counterexample is None


class Fragile(AFSMState):
    name, allowed_transitions = "fragile", ("end",)

    async def process(self, input_text, context):
        where = "vault" if input_text == "open sesame" else self.name
        return {"response": "Yes?", "next_state": where, "confidence": 1.0}


def test_a_state_that_fails_breaks_what_nobody_had_to_promise(caplog):
    graph = Graph.from_states([Fragile(), {"name": "end"}], "fragile")
    with caplog.at_level(logging.WARNING):
        broken = explore(graph, calls=100, steps=5).counterexample
    assert broken.invariant == NO_CRASH
    assert "may not move" in broken.reason
    assert broken.lines[0] == "caller: open sesame"
    assert broken.lines[-1] == "end:    failed"
    assert caplog.records == []


def test_the_same_calls_are_made_up_each_time_and_others_by_a_seed():
    graph = bank(guard="slots.amount <= 500")
    first = explore(graph, calls=15, steps=5)
    assert first.coverage.states == explore(graph, calls=15, steps=5).coverage.states
    seeded = [explore(graph, calls=15, steps=5, seed=seed).coverage.states for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1]
    assert seeded[0] != seeded[2]


def test_callers_say_and_do_what_the_graph_looks_for():
    graph = Graph.from_states(
        [
            {"name": "a", "slots": [{"name": "tier", "type": "choice", "choices": ["gold", "tin"]},
                                    {"name": "day", "type": "date"}],
             "guards": {"b": "slots.n > 7 and 'more' in words"}, "allowed_transitions": ["b"],
             "deadline_s": 40, "silence": [{"after_s": 9, "say": "Hello?"}]},
            Fragile("b", "", ["a"]),
        ],
        "a",
        supervisor=read_watches([{"name": "w", "words": ["damn"], "steps": [{"say": "Hm."}]}]),
    )  # fmt: skip
    found = stimuli_of(graph, ["book it"])
    assert set(found.answers) >= {
        "gold",
        "tin",
        "more",
        "7",
        "8",
        "damn",
        "book it",
        "open sesame",
        "tomorrow",
    }
    assert {9.0, 40.0} <= set(found.waits_s)
    assert Event.HANG_UP in found.events


def test_effects_fail_too():
    states = [
        {"name": "pay", "effects": [{"name": "charge", "key": "amount"}], "handles": {"tool_failed": "sorry"},
         "slots": [{"name": "amount", "type": "integer"}], "allowed_transitions": ["end"]},
        {"name": "sorry"}, {"name": "end"},
    ]  # fmt: skip
    graph = Graph.from_states(states, "pay", functions={"charge": charge})
    broken = explore(graph, [never("is sorry", lambda now: now.state == "sorry")], calls=100, steps=8)
    assert "world:  the next effect will fail" in broken.counterexample.lines


def test_a_moment_shows_what_states_did():
    seen: list[Moment] = []
    explore(bank(), [always("watched", lambda now: seen.append(now) is None)], calls=30, steps=8)
    assert any(now.outcome is not None for now in seen)
    assert all(now.states[-1] == now.state for now in seen)


def test_two_promises_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="one name"):
        explore(bank(), [PAID_WITHOUT_PIN, PAID_WITHOUT_PIN])


def test_how_to_install_is_said_when_hypothesis_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ConfigurationError, match="pip install hypothesis"):
        explore(bank())
