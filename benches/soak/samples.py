"""What the server's process holds, looked at again and again while calls go by."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benches.soak.house import House
from benches.soak.slope import Slope, theil_sen

__all__ = ["LEAK_KINDS", "Held", "Sample", "Sampler", "calls_over", "leaks", "settled"]

PERIOD_S = 5.0
WARM_SHARE = 0.25
"""The first part of the run, which the slope leaves out."""
SETTLE_LIMIT_S = 60.0
SETTLE_STEP_S = 0.5
STILL = 4
"""Looks in a row that must be the same."""
LEAK_KINDS = ("rss_bytes", "uss_bytes", "blocks")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look."""

    at_s: float
    """Since the run began."""
    calls_over: int
    """Since the server began."""
    calls_open: int
    rss_bytes: int
    uss_bytes: int
    """What is this process's alone."""
    descriptors: int
    threads: int
    tasks: int
    blocks: int
    """Pieces that Python's allocator has handed out."""
    cpu_s: float
    lag_count: float
    lag_s: float
    """Of the loop's timers, added up."""
    late_lags: float
    """How many of them were later than 20 ms."""
    stalls: float


@dataclass(frozen=True, slots=True)
class Held:
    """What must be the same before and after."""

    tasks: int
    descriptors: int
    threads: int
    stored_live: int
    parts: int


def calls_over(metrics: Mapping[str, float]) -> int:
    """Finished calls of any outcome."""
    return int(sum(value for name, value in metrics.items() if name.startswith("fastagent_calls_total")))


def _memory(pid: int) -> tuple[int, int]:
    """Resident and unique bytes."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = 1024 * int(rest.split()[0])
    return fields["Rss"], fields["Private_Clean"] + fields["Private_Dirty"]


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


async def _look(house: House, begun_s: float) -> Sample:
    metrics = await house.metrics()
    pid = house.process.pid
    rss, uss = _memory(pid)
    stat = _stat(pid)
    count = metrics["fastagent_loop_lag_seconds_count"]
    return Sample(
        at_s=round(time.monotonic() - begun_s, 2),
        calls_over=calls_over(metrics),
        calls_open=int(metrics["fastagent_active_sessions"]),
        rss_bytes=rss,
        uss_bytes=uss,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(stat[17]),
        tasks=int(metrics["fastagent_tasks"]),
        blocks=int(metrics["fastagent_python_blocks"]),
        cpu_s=(int(stat[11]) + int(stat[12])) / TICKS_PER_S,
        lag_count=count,
        lag_s=round(metrics["fastagent_loop_lag_seconds_sum"], 4),
        late_lags=count - metrics['fastagent_loop_lag_seconds_bucket{le="0.02"}'],
        stalls=metrics["fastagent_loop_stalls_seconds_count"],
    )


class Sampler:
    """Looks every 5 s and tells how it goes."""

    def __init__(self, house: House, tell: Callable[[Sample], None]) -> None:
        self.samples: list[Sample] = []
        self.missed = 0
        """Looks that were not answered, as while the server stood still."""
        self.worst_lag_s = 0.0
        """How late the callers' own process ever was: seconds mean that the machine was not free."""
        self.begun_s = time.monotonic()
        self._house = house
        self._tell = tell

    async def run(self) -> None:
        """Look until cancelled."""
        due_s = self.begun_s
        while True:
            due_s += PERIOD_S
            await asyncio.sleep(due_s - time.monotonic())
            self.worst_lag_s = max(self.worst_lag_s, time.monotonic() - due_s)
            try:
                self.samples.append(await _look(self._house, self.begun_s))
            except (OSError, TimeoutError, KeyError):
                self.missed += 1
                continue
            self._tell(self.samples[-1])
            self._house.drop_recordings()


async def settled(house: House) -> Held:
    """What the server holds once nothing of any call is left, and nothing changes any more.

    Gives the last look where it does not come to rest.
    """
    deadline_s = time.monotonic() + SETTLE_LIMIT_S
    same, former = 0, None
    while True:
        sample = await _look(house, 0.0)
        found = Held(sample.tasks, sample.descriptors, sample.threads, house.stored_live(), house.parts())
        is_idle = sample.calls_open == 0
        same = same + 1 if found == former and is_idle else 0
        former = found
        if same >= STILL or time.monotonic() > deadline_s:
            return found
        await asyncio.sleep(SETTLE_STEP_S)


def leaks(samples: list[Sample], seed: int) -> dict[str, Any]:
    """The slopes of the last three quarters, for each finished call and for each hour."""
    kept = [one for one in samples if one.at_s >= WARM_SHARE * samples[-1].at_s] if samples else []
    over = np.array([one.calls_over for one in kept], dtype=float)
    hours = np.array([one.at_s / 3600 for one in kept], dtype=float)
    found: dict[str, Any] = {"samples": len(kept)}
    for kind in LEAK_KINDS:
        values = np.array([getattr(one, kind) for one in kept], dtype=float)
        for name, x in (("per_call", over), ("per_hour", hours)):
            try:
                slope: Slope | None = theil_sen(x, values, seed=seed)
            except ValueError:
                slope = None
            found[f"{kind}_{name}"] = None if slope is None else asdict(slope)
    return found
