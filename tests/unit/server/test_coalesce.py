"""Coalescing: a loop with many calls naps between turns, one with few wakes for each message."""

import asyncio

import pytest

from fastagent.server import coalesce
from fastagent.server.coalesce import BUSY_CALLS, NAP_MIN_S, Coalescer

PAUSE_US = 400
PAUSE_S = PAUSE_US * 1e-6


class Clock:
    """Stands for the module's ``time``; a nap lets it go on, and so may what the loop does in a turn."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


class Calls:
    def __init__(self, count: int) -> None:
        self.count = count


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(coalesce, "time", clock)
    return clock


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(calls, body, pause_us=PAUSE_US):
    async def main():
        coalescer = Coalescer(pause_us, lambda: calls.count)
        try:
            await body(coalescer)
        finally:
            coalescer.close()

    asyncio.run(main())


def test_turns_begin_a_pause_apart(clock):
    async def body(coalescer):
        await turns(5)
        assert coalescer.is_busy
        # The first begins at once.
        assert clock.naps[0:3] == [pytest.approx(PAUSE_S)] * 3
        clock.now += PAUSE_S / 4
        naps = len(clock.naps)
        await turns(1)
        assert clock.naps[naps:] == [pytest.approx(PAUSE_S * 3 / 4)]

    run(Calls(BUSY_CALLS), body)


@pytest.mark.parametrize("late_s", [PAUSE_S - NAP_MIN_S / 2, PAUSE_S, 1.0])
def test_turn_that_lasts_as_long_is_followed_by_the_next_at_once(clock, late_s):
    async def body(coalescer):
        await turns(3)
        naps = len(clock.naps)
        for _ in range(10):
            clock.now += late_s
            await turns(1)
        assert len(clock.naps) == naps

    run(Calls(BUSY_CALLS), body)


@pytest.mark.parametrize(("calls", "pause_us"), [(BUSY_CALLS - 1, PAUSE_US), (10 * BUSY_CALLS, 0)])
def test_loop_with_few_calls_or_without_a_pause_never_naps(clock, calls, pause_us):
    async def body(coalescer):
        await turns(20)
        assert not coalescer.is_busy

    run(Calls(calls), body, pause_us)
    assert clock.naps == []


def test_calls_are_counted_again_and_again(clock, monkeypatch):
    monkeypatch.setattr(coalesce, "LOOK_S", 0.001)
    calls = Calls(0)

    async def until(busy, coalescer):
        async with asyncio.timeout(30):
            while coalescer.is_busy is not busy:  # noqa: ASYNC110 - a look comes with time: no event tells of it
                await asyncio.sleep(0.001)

    async def body(coalescer):
        for count, busy in ((BUSY_CALLS, True), (BUSY_CALLS - 1, False), (BUSY_CALLS, True)):
            calls.count = count
            await until(busy, coalescer)
        calls.count = 0
        await until(False, coalescer)
        await turns(2)
        naps = len(clock.naps)
        await turns(20)
        assert len(clock.naps) == naps

    run(calls, body)


def test_closed_one_naps_no_more(clock):
    async def body(coalescer):
        await turns(3)
        coalescer.close()
        await turns(2)
        naps = len(clock.naps)
        await turns(20)
        assert (len(clock.naps), coalescer.is_busy) == (naps, False)

    run(Calls(BUSY_CALLS), body)
