"""Bench: transitions of a machine, without a language model and without a store.

"classes" hands an answer from state to state, each with a guard; "json" does the same with states that the
engine runs; "one slot" asks, parses, validates and reads back. The cost is that of one transition (or slot
step), the loop's own work included. The goal is 50 µs.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastagent.afsm import AFSMState, Graph, Machine, StateResult
from fastagent.afsm.definition import JsonState
from fastagent.context import ConversationContext

TRANSITIONS = 400


class Quiet:
    """A call that takes orders and does nothing."""

    call_id, caller = "bench", ""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: None


class Hop(AFSMState):
    def __init__(self, name: str, to: str) -> None:
        super().__init__(name, "", (to, "end"))
        self.to = to
        self.guards = {to: "facts.level >= 1"}

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        return {
            "response": "Next?",
            "next_state": self.to if input_text == "go" else "end",
            "confidence": 1.0,
        }


class End(AFSMState):
    name = "end"
    description = "Done."


def of_classes() -> Graph:
    return Graph.from_states([Hop("a", "b"), Hop("b", "a"), End()], "a")


def of_json() -> Graph:
    def hop(name: str, to: str) -> JsonState:
        guards = {to: "'go' in words and facts.level >= 1", "end": "'stop' in words"}
        return JsonState.read(
            {"name": name, "prompt_template": "Next?", "allowed_transitions": [to, "end"], "guards": guards}
        )

    return Graph.from_states([hop("a", "b"), hop("b", "a"), End()], "a")


def of_slots() -> Graph:
    slot = {"name": "n", "type": "number", "prompt": "How many?", "confirmation": "read_back"}
    state = {"name": "a", "slots": [slot], "allowed_transitions": ["end"]}
    return Graph.from_states([JsonState.read(state), End()], "a")


async def walk(graph: Graph, answers: list[str], last: str) -> int:
    moves = 0
    context = ConversationContext().task_view()
    context.add_salient_fact("level", 1)

    def ask(question: str) -> None:
        nonlocal moves
        moves += 1
        machine.post(answers[moves % len(answers)] if moves < TRANSITIONS else last)

    machine = Machine(graph, context, Quiet(), ask=ask)
    outcome = await machine.run(answers[0])
    assert outcome.status in ("done", "failed")
    return moves


CASES = {
    "classes": (of_classes, ["go"], "stop"),
    "json": (of_json, ["go"], "stop"),
    "one slot": (of_slots, ["twelve", "no"], "yes"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_transition(benchmark: BenchmarkFixture, case: str) -> None:
    make, answers, last = CASES[case]
    graph = make()

    def run() -> Coroutine[Any, Any, int]:
        return walk(graph, answers, last)

    with asyncio.Runner() as runner:
        moves = runner.run(run())
        assert moves >= TRANSITIONS
        benchmark.extra_info["transitions"] = moves
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: runner.run(run()), rounds=15, warmup_rounds=2
        )
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_transition"] = benchmark.stats.stats.median / moves * 1e6
