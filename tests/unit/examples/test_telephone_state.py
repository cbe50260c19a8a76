"""What all examples do alike: silence, deadlines, hanging up; and effects with and without a journal."""

import asyncio
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import CallControl, Event, Machine
from fastagent.afsm.effects.effects import Effects, TaskEffects
from fastagent.afsm.run.clock import ManualClock
from fastagent.afsm.verify import check
from fastagent.cli.demo import EXAMPLES, Example
from fastagent.context import ConversationContext
from fastagent.examples.telephone_state import (
    ASK_AFTER_S,
    DEADLINE_S,
    HANG_UP_AFTER_S,
    STILL_THERE,
    Goodbye,
    Human,
    TelephoneState,
)
from fastagent.journal import MemoryJournal

pytestmark = pytest.mark.anyio

NAMES = sorted(EXAMPLES.keys() - {"appointment"})


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("name", NAMES)
def test_callers_are_handed_on_to_declared_targets_alone(name):
    agent = Example.agent(name)
    (task,) = agent.tasks.values()
    people = [state.target for state in task.graph.states.values() if isinstance(state, Human)]
    assert people
    assert set(people) <= agent.declared_targets


class Run:
    """One run of an example's task on a clock that is moved by hand."""

    def __init__(self, name):
        (self.task,) = Example.agent(name).tasks.values()
        self.clock = ManualClock()
        self.control = create_autospec(CallControl, instance=True)
        self.said = []
        self.machine = Machine(
            self.task.graph,
            ConversationContext().task_view(),
            self.control,
            ask=self.said.append,
            clock=self.clock,
        )

    async def __aenter__(self):
        self.running = asyncio.create_task(self.machine.run(""))
        await self.settle()
        return self

    async def __aexit__(self, *error):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)

    async def wait(self, seconds):
        self.clock.advance(seconds)
        await self.settle()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
async def test_nothing_is_found_wrong_with_an_example(name):
    assert check(Example.agent(name)) == []


@pytest.mark.parametrize("name", NAMES)
async def test_silence_is_asked_about_and_then_ends_the_call(name):
    async with Run(name) as run:
        question = run.said[-1]
        await run.wait(ASK_AFTER_S - 0.1)
        assert run.said == [question]
        await run.wait(0.2)
        assert run.said == [question, STILL_THERE]
        await run.wait(HANG_UP_AFTER_S - ASK_AFTER_S)
        assert run.machine.state == "hung_up"
        assert run.running.done()
        run.control.hang_up.assert_called_once_with("nobody there")


@pytest.mark.parametrize("name", NAMES)
async def test_a_state_that_takes_too_long_goes_to_a_person(name):
    async with Run(name) as run:
        for _ in range(int(DEADLINE_S // 15) + 1):
            run.machine.note_activity()
            await run.wait(15)
        assert run.machine.state == "human"
        run.control.transfer.assert_called_once()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("event", "state"), [(Event.HANG_UP, "hung_up"), (Event.TRANSFER, "human")])
async def test_events_of_the_line_end_the_task(name, event, state):
    async with Run(name) as run:
        run.machine.signal(event)
        await run.settle()
        assert (run.machine.state, run.running.done()) == (state, True)


@pytest.mark.parametrize("name", NAMES)
async def test_every_state_has_a_way_out_of_silence_and_hanging_up(name):
    graph = Run(name).task.graph
    assert {spec.kind for spec in graph.specs.values()} == {"class", "json"}
    for spec in graph.specs.values():
        if not spec.is_terminal:
            assert spec.silence, spec.name
            assert spec.targets(Event.HANG_UP) == ("hung_up",), spec.name
            assert spec.deadline_s, spec.name


class Doing(TelephoneState):
    name = "doing"

    def __init__(self):
        super().__init__()
        self.keys = []

    async def act(self, what, idempotency_key):
        self.keys.append(idempotency_key)
        return what


def bound(state, effects=None):
    control = create_autospec(CallControl, instance=True)
    control.call_id = "call-1"
    return state.bound_to(control, effects)


async def test_without_a_journal_equal_arguments_of_a_call_give_equal_keys():
    state = bound(Doing())
    for what in ("a", "a", "b"):
        assert await state.run_once(state.act, {"what": what}) == what
    first, again, other = state.keys
    assert first == again
    assert other != first


async def test_with_a_journal_equal_arguments_are_done_once():
    state = bound(Doing(), TaskEffects(Effects(MemoryJournal(), "call-1"), "fc1"))
    for what in ("a", "a", "b"):
        assert await state.run_once(state.act, {"what": what}) == what
    assert len(state.keys) == 2


async def test_asking_again_goes_to_a_person_in_the_end():
    state = Doing()
    assert [state.again("What?")["next_state"] for _ in range(3)] == ["doing", "doing", "human"]


async def test_an_end_forgets_what_is_not_part_of_the_result():
    context = ConversationContext().task_view()
    context.slots.update(pin="1234", visit="V1")
    result = await bound(Goodbye(("pin", "missing"))).process("", context)
    assert context.slots == {"visit": "V1"}
    assert result["next_state"] == "goodbye"
