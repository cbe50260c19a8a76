"""Stall watchdog: the line that holds the loop is named once, with its state; what only waits is not."""

import asyncio
import logging
import threading

import pytest

from fastagent.afsm.run.watchdog import Watchdog
from fastagent.server.watch import stall_watchdog as module
from fastagent.server.watch.stall_watchdog import StallWatchdog

pytestmark = pytest.mark.anyio
LIMIT_S = 0.02


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Log(logging.Handler):
    """What the watchdog logs, and when."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.seen = threading.Event()

    def emit(self, record):
        self.lines.append(record.getMessage())
        self.seen.set()


@pytest.fixture
def log():
    handler = Log()
    logger = logging.getLogger(module.logger.name)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def hold_until(event):
    """Hold the loop, as careless code does."""
    assert event.wait(30)


async def settle(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the thread's looks come with time: no event tells of them
            await asyncio.sleep(0.001)


async def started(watchdog, log=None):
    """Begin to watch; on a busy machine the beginning itself is a stall."""
    watchdog.start()
    await asyncio.sleep(0)
    await settle(lambda: watchdog.stalled_s == 0 and not watchdog.is_dead)
    if log is not None:
        log.lines.clear()
        log.seen.clear()


async def test_line_that_holds_the_loop_is_named_once_and_its_length_counted(log):
    lengths = []
    watchdog = StallWatchdog(limit_s=LIMIT_S, on_stall=lengths.append, runs=Watchdog())
    await started(watchdog, log)
    lengths.clear()
    try:
        hold_until(log.seen)
        await settle(lambda: lengths)
    finally:
        watchdog.close()
    held = [line for line in log.lines if "is held" in line]
    assert len(held) == 1
    assert "hold_until" in held[0]
    assert "test_stall_watchdog.py:" in held[0], "a library's wait is not to blame"
    assert lengths[0] >= LIMIT_S
    assert "goes on after" in log.lines[-1]


async def test_each_stall_is_told(log):
    lengths = []
    watchdog = StallWatchdog(limit_s=LIMIT_S, on_stall=lengths.append, runs=Watchdog())
    await started(watchdog, log)
    lengths.clear()
    try:
        for n in (1, 2):
            log.seen.clear()
            hold_until(log.seen)
            await settle(lambda n=n: len(lengths) == n)
    finally:
        watchdog.close()
    assert len([line for line in log.lines if "is held" in line]) == 2


async def test_loop_that_waits_is_not_told(log):
    watchdog = StallWatchdog(limit_s=LIMIT_S, runs=Watchdog())
    watchdog.start()
    asked = watchdog._loop.call_soon_threadsafe
    turns = []
    watchdog._loop = type("Loop", (), {"call_soon_threadsafe": lambda self, f: (turns.append(1), asked(f))})()
    try:
        await settle(lambda: len(turns) > 5)
    finally:
        watchdog._loop = asyncio.get_running_loop()
        watchdog.close()
    assert log.lines == []
    assert watchdog.stalled_s == 0


async def test_state_at_work_is_named_and_told_once(log):
    runs = Watchdog(LIMIT_S)
    watchdog = StallWatchdog(limit_s=LIMIT_S, runs=runs)
    watchdog.start()
    run = runs.begin("call-1", lambda: "count")
    try:
        hold_until(log.seen)
    finally:
        runs.end(run)
        watchdog.close()
    assert log.lines[0].startswith("call call-1: state 'count' holds the event loop for more than 20 ms, at ")
    assert runs.holds == 1
    assert runs._thread is None or not log.lines[1:], "one watchdog looks at a loop"


async def test_dead_loop_is_known_from_outside_and_acted_upon():
    acted = threading.Event()
    watchdog = StallWatchdog(limit_s=LIMIT_S, dead_after_s=0.05, while_dead=acted.set, runs=Watchdog())
    await started(watchdog)
    acted.clear()
    try:
        assert not watchdog.is_dead
        hold_until(acted)
        assert watchdog.is_dead, "the loop has not answered yet"
        assert watchdog.stalled_s > 0.05
        await settle(lambda: not watchdog.is_dead)
    finally:
        watchdog.close()


async def test_closing_gives_the_loop_back():
    runs = Watchdog()
    watchdog = StallWatchdog(limit_s=LIMIT_S, runs=runs)
    watchdog.start()
    thread = watchdog._thread
    assert asyncio.get_running_loop() in runs._left
    watchdog.close()
    assert not thread.is_alive()
    assert runs._left == set()
