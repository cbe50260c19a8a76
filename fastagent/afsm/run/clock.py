"""Clocks of a machine: the loop's own, and one that a test, an exploration or a replay moves by hand."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

__all__ = ["LOOP_CLOCK", "Clock", "Deadline", "LoopClock", "ManualClock", "Timer"]


class Timer(Protocol):
    """A callback that will be called."""

    def cancel(self) -> None:
        """Have it not called."""


class Clock(Protocol):
    """Seconds that only go forward, and callbacks at a time."""

    def now(self) -> float:
        """Seconds since some moment."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back after so many seconds."""


class LoopClock:
    """The running event loop's clock."""

    def now(self) -> float:
        """The loop's monotonic seconds."""
        return asyncio.get_running_loop().time()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back from the loop."""
        return asyncio.get_running_loop().call_later(delay_s, callback)


LOOP_CLOCK = LoopClock()


class _ManualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock that stands still until `advance` moves it."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, _ManualTimer]] = []

    def now(self) -> float:
        """Where it stands."""
        return self._now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back from within `advance`."""
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (self._now + max(0.0, delay_s), next(self._numbers), timer))
        return timer

    def next_due(self) -> float | None:
        """When the earliest callback is due."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, seconds: float) -> None:
        """Move on, and call what falls due, in order, each at its own time."""
        until = self._now + seconds
        while (due := self.next_due()) is not None and due <= until:
            self._now = max(self._now, due)
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()
        self._now = until


class Deadline:
    """``async with Deadline(clock, seconds)``: as `asyncio.timeout`, by a clock of one's own.

    Raises `TimeoutError` when the time is up; the time-outs and cancellations of others pass through.
    """

    __slots__ = ("_clock", "_earlier", "_seconds", "_task", "_timer", "has_expired")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._timer: Timer | None = None
        self._task: asyncio.Task[object] | None = None
        self._earlier = 0
        self.has_expired = False

    async def __aenter__(self) -> "Deadline":
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a deadline needs a task")
        self._earlier = self._task.cancelling()
        self._timer = self._clock.call_later(self._seconds, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.has_expired or self._task is None:
            return
        # Only a cancellation that is this deadline's own becomes a time-out.
        if self._task.uncancel() <= self._earlier and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self.has_expired = True
        if self._task is not None:
            self._task.cancel()
