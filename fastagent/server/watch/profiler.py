"""Measures this process for some seconds: stages of the audio path, loop, garbage, memory, processor.

Nothing of it runs until somebody asks, and everything is off again when the time is over or nobody listens
any more. While it runs, timed frames read the clock some ten times, each block of memory costs one more call,
and each collection two.
"""

import asyncio
import gc
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastagent import __version__
from fastagent._native import stages
from fastagent._native.stages import StageTimes, WayTimes
from fastagent.profile.reading import (
    GcReading,
    LoopReading,
    MemoryReading,
    ProcessReading,
    ProfileReading,
    StageReading,
    StagesReading,
    WayReading,
)
from fastagent.stats import Histogram

__all__ = ["Profiler"]

BEAT_S = 0.01
"""How often the loop is asked how late it is."""
LAG_BOUNDS_MS = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 250.0, 1000.0)
STATM = Path("/proc/self/statm")


class Profiler:
    """Measures one process, one measurement at a time.

    Args:
        calls: tells how many calls there are now.
    """

    def __init__(self, calls: Callable[[], int]) -> None:
        self._calls = calls
        self.is_running = False

    async def measure(self, seconds: float, every: int) -> ProfileReading:
        """Measure from now on.

        Args:
            every: one frame in so many is timed; 0 times none and counts no allocations, so that whoever else
                measures is not disturbed.

        Raises:
            RuntimeError: a measurement runs already.
        """
        if self.is_running:
            raise RuntimeError("a measurement runs")
        self.is_running = True
        # Before anything is timed: the first reading may compare clocks for a moment.
        await asyncio.to_thread(stages.ns_per_tick)
        lag, garbage = _LoopLag(), _Garbage()
        try:
            stages.set_every(every)
            stages.count_allocations(every > 0)
            before = _Moment()
            calls = self._calls()
            lag.start()
            gc.callbacks.append(garbage.note)
            await asyncio.sleep(seconds)
            after = _Moment()
        finally:
            stages.set_every(0)
            stages.count_allocations(False)
            lag.close()
            if garbage.note in gc.callbacks:
                gc.callbacks.remove(garbage.note)
            self.is_running = False
        return ProfileReading(
            pid=os.getpid(),
            version=__version__,
            python=python_version(),
            seconds=after.now - before.now,
            calls_begin=calls,
            calls_end=self._calls(),
            stages=_stages(before.ways, after.ways, every),
            loop=lag.reading(),
            gc=garbage.reading(),
            memory=MemoryReading(
                allocations=after.allocations - before.allocations,
                blocks_delta=after.blocks - before.blocks,
                rss_bytes=after.rss_bytes,
                rss_delta_bytes=after.rss_bytes - before.rss_bytes,
                page_faults=after.usage.ru_minflt - before.usage.ru_minflt,
            ),
            process=ProcessReading(
                user_s=after.usage.ru_utime - before.usage.ru_utime,
                system_s=after.usage.ru_stime - before.usage.ru_stime,
                loop_s=after.loop_s - before.loop_s,
                switches_voluntary=after.usage.ru_nvcsw - before.usage.ru_nvcsw,
                switches_forced=after.usage.ru_nivcsw - before.usage.ru_nivcsw,
                threads=threading.active_count(),
            ),
        )


def python_version() -> str:
    """Implementation and version of the interpreter."""
    return f"{platform.python_implementation()} {platform.python_version()}"


class _Moment:
    """Everything that is counted since the process began."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.ways = stages.read()
        self.allocations = stages.allocations()
        self.blocks = sys.getallocatedblocks()
        self.usage = resource.getrusage(resource.RUSAGE_SELF)
        self.loop_s = time.thread_time()
        self.rss_bytes = _rss_bytes()


def _rss_bytes() -> int:
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _LoopLag:
    """A timer that notes how late it is."""

    def __init__(self) -> None:
        self._lag_ms = Histogram(LAG_BOUNDS_MS)
        self._most_ms = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        # Kept: asking for the running loop is a system call (getpid), which would be counted.
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def _schedule(self) -> None:
        self._due = time.monotonic() + BEAT_S
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        late_ms = max(0.0, time.monotonic() - self._due) * 1000
        self._lag_ms.note(late_ms)
        self._most_ms = max(self._most_ms, late_ms)
        self._schedule()

    def reading(self) -> LoopReading:
        histogram = self._lag_ms
        return LoopReading(
            beats=histogram.total,
            lag_mean_ms=histogram.sum / histogram.total if histogram.total else 0.0,
            lag_p50_ms=self._quantile(0.5),
            lag_p99_ms=self._quantile(0.99),
            lag_max_ms=self._most_ms,
            bounds_ms=histogram.bounds,
            counts=tuple(histogram.counts),
        )

    def _quantile(self, q: float) -> float:
        """The upper bound of the class that holds it, and never more than the most."""
        seen = 0
        for bound, count in zip(self._lag_ms.bounds, self._lag_ms.counts, strict=False):
            seen += count
            if count and seen >= q * self._lag_ms.total:
                return min(bound, self._most_ms)
        return self._most_ms


class _Garbage:
    """Hears Python's collector."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._collections = [0, 0, 0]
        self._total_s = 0.0
        self._most_s = 0.0

    def note(self, phase: str, info: dict[str, Any]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._begun = now
        elif self._begun is not None:
            self._collections[min(int(info["generation"]), 2)] += 1
            self._total_s += now - self._begun
            self._most_s = max(self._most_s, now - self._begun)
            self._begun = None

    def reading(self) -> GcReading:
        return GcReading(
            collections=tuple(self._collections),
            pause_total_ms=self._total_s * 1000,
            pause_max_ms=self._most_s * 1000,
        )


def _stages(before: dict[str, WayTimes], after: dict[str, WayTimes], every: int) -> StagesReading:
    clock_ns = stages.clock_ns()
    ways = {}
    for name, new in after.items():
        old = before[name]
        met = {
            stage: _stage(old.stages[stage], times, clock_ns)
            for stage, times in new.stages.items()
            if times.frames > old.stages[stage].frames
        }
        timed = new.timed - old.timed
        whole = _stage(old.whole, new.whole, 0.0)
        if timed:
            # Of a whole frame, one reading for each stage that it met.
            laps = sum(one.frames for one in met.values()) / timed
            whole = whole.model_copy(update={"mean_ns": max(0.0, whole.mean_ns - laps * clock_ns)})
        ways[name] = WayReading(
            frames=new.frames - old.frames,
            timed=timed,
            allocations_per_frame=(new.allocations - old.allocations) / timed if timed else 0.0,
            whole=whole,
            stages=met,
        )
    return StagesReading(clock=stages.clock(), clock_ns=clock_ns, every=every, ways=ways)


def _stage(old: StageTimes, new: StageTimes, clock_ns: float) -> StageReading:
    frames = new.frames - old.frames
    classes = [b - a for a, b in zip(old.classes, new.classes, strict=True)]
    return StageReading(
        frames=frames,
        mean_ns=max(0.0, (new.ns - old.ns) / frames - clock_ns) if frames else 0.0,
        p50_ns=_quantile_ns(classes, 0.5),
        p99_ns=_quantile_ns(classes, 0.99),
    )


def _quantile_ns(classes: list[int], q: float) -> float:
    """The time within which the share ``q`` of frames was done, estimated within a power of two."""
    wanted = q * sum(classes)
    seen = 0
    for k, count in enumerate(classes):
        if count and seen + count >= wanted:
            within = (wanted - seen) / count
            return 2.0**k * (1 + within) * stages.ns_per_tick()
        seen += count
    return 0.0
