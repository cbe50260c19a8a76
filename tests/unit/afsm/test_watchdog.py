"""Watchdog: who holds the loop is named, who waits is not."""

import asyncio
import threading
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, Graph, Machine
from fastagent.afsm.run import machine as machine_module
from fastagent.afsm.run import watchdog as watchdog_module
from fastagent.afsm.run.watchdog import Watchdog
from fastagent.context import ConversationContext

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def seen(monkeypatch):
    """Set when the watchdog has logged something."""
    event = threading.Event()

    class Log:
        def __init__(self):
            self.lines = []

        def warning(self, text, *arguments):
            self.lines.append(text % arguments)
            event.set()

    log = Log()
    monkeypatch.setattr(watchdog_module, "_log", log)
    event.lines = log.lines
    return event


def spin_until(event):
    """Hold the loop, as a careless state does, until the watchdog has noticed."""
    assert event.wait(30)


async def run_of(watchdog, work, state="count"):
    run = watchdog.begin("call-1", lambda: state)
    try:
        await work()
    finally:
        watchdog.end(run)


async def test_state_that_holds_the_loop_is_named_with_its_place(seen):
    watchdog = Watchdog(0.02)

    async def hold():
        spin_until(seen)

    await run_of(watchdog, hold)
    assert watchdog.holds == 1
    assert len(seen.lines) == 1, "one hold is told once"
    assert seen.lines[0].startswith(
        "call call-1: state 'count' holds the event loop for more than 20 ms, at "
    )
    assert ".py:" in seen.lines[0]


async def test_each_hold_counts(seen):
    watchdog = Watchdog(0.02)

    async def hold_twice():
        spin_until(seen)
        seen.clear()
        await asyncio.sleep(0)  # the loop gives the sign of life that it owes
        spin_until(seen)

    await run_of(watchdog, hold_twice)
    assert watchdog.holds == 2


async def test_state_that_waits_is_not_named_whoever_holds_the_loop(seen):
    watchdog = Watchdog(0.02)
    waiting = asyncio.Event()
    run = asyncio.create_task(run_of(watchdog, waiting.wait))
    await asyncio.sleep(0)
    looks = threading.Event()
    look, count = watchdog._look, 0

    def counting(watched):
        nonlocal count
        look(watched)
        count += 1
        if count > 20:
            looks.set()

    watchdog._look = counting
    spin_until(looks)  # this task is not a run
    waiting.set()
    await run
    assert (watchdog.holds, seen.lines) == (0, [])


async def test_nobody_is_watched_once_the_runs_are_over():
    watchdog = Watchdog(0.02)

    async def nothing():
        assert watchdog._has_runs.is_set()

    await asyncio.gather(run_of(watchdog, nothing), run_of(watchdog, nothing))
    assert not watchdog._loops
    assert not watchdog._has_runs.is_set()
    assert watchdog._thread is not None
    assert watchdog._thread.daemon


def test_runs_of_a_loop_that_was_closed_are_forgotten():
    watchdog = Watchdog(0.02)

    async def begin():
        watchdog.begin("call-1", lambda: "count")

    asyncio.run(begin())
    gone = threading.Event()
    look = watchdog._look

    def looking(watched):
        look(watched)
        if not watchdog._loops:
            gone.set()

    watchdog._look = looking
    assert gone.wait(30)
    assert not watchdog._has_runs.is_set(), "its thread rests"


async def test_run_goes_on_where_no_thread_can_be_had(seen, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    watchdog = Watchdog(0.02)
    await run_of(watchdog, lambda: asyncio.sleep(0))
    assert seen.lines == ["the event loop is not watched: no thread could be started"]
    assert watchdog._thread is None


async def test_machine_is_watched_while_it_runs(seen, monkeypatch):
    watchdog = Watchdog(0.02)
    monkeypatch.setattr(machine_module, "process_watchdog", watchdog)

    class Loop(AFSMState):
        async def process(self, input_text, context):
            spin_until(seen)
            return await super().process(input_text, context)

    control = create_autospec(CallControl, instance=True)
    control.call_id = "call-2"
    graph = Graph.from_states([Loop("loop", "Bye.", [])], "loop")
    outcome = await Machine(graph, ConversationContext(), control, ask=print).run("4711")
    assert outcome.status == "done"
    assert seen.lines[0].startswith("call call-2: state 'loop' holds")
    assert "4711" not in seen.lines[0]
    assert not watchdog._loops


async def test_loop_that_another_watches_is_left_to_it_who_is_told_the_run(seen):
    watchdog = Watchdog(0.02)
    loop = asyncio.get_running_loop()
    watchdog.leave(loop)
    run = watchdog.begin("call-1", lambda: "count")
    try:
        assert watchdog.holder(loop) is run
        assert watchdog.holds == 1
        for watched in list(watchdog._loops.values()):
            assert watched.loop in watchdog._left
    finally:
        watchdog.end(run)
    assert watchdog.holder(loop) is None
    watchdog.take_back(loop)

    async def hold():
        spin_until(seen)

    await run_of(watchdog, hold)
    assert len(seen.lines) == 1
