"""Runs rows, each so many times, and puts the figures together."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from benches.faults.rows import Row
from benches.faults.stage import Outcome, Stage, count_tasks, open_fds

__all__ = ["RowReport", "run_row"]

ROW_LIMIT_S = 60.0


@dataclass(slots=True)
class RowReport:
    """What became of one row's faults."""

    row: str
    injected: int = 0
    recovered: int = 0
    detected_ms: list[float] = field(default_factory=list)
    recovered_ms: list[float] = field(default_factory=list)
    late_frames: int = 0
    """Of the witnesses, while this row ran."""
    worst_stall_ms: float = 0.0
    """The longest time that the loop stood still, this bench's own work included."""
    own_stall_ms: float = 0.0
    """How much of that this process was computing; the rest was the machine's."""
    lost_witnesses: int = 0
    fds_left: int = 0
    tasks_left: int = 0
    failures: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    """The greatest value of each."""

    def as_json(self) -> dict[str, object]:
        """All of it, with quantiles."""
        return asdict(self) | {
            "detected": quantiles(self.detected_ms),
            "recovered_after": quantiles(self.recovered_ms),
        }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the greatest."""
    if not values:
        return {}
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]

    return {"p50": at(0.5), "p95": at(0.95), "max": ordered[-1]}


async def run_row(stage: Stage, row: Row, times: int) -> RowReport:
    """Inject one row's fault so many times, one after the other."""
    report = RowReport(row.name)
    late_before = stage.late_frames()
    stage.loop_clock.take()
    for _ in range(times):
        fds, tasks = open_fds(), count_tasks()
        report.injected += 1
        outcome = Outcome(is_recovered=False)
        try:
            async with asyncio.timeout(ROW_LIMIT_S):
                outcome = await row.run(stage)
        except Exception as error:
            report.failures.append(f"{type(error).__name__}: {error}")
        await stage.clear()
        report.recovered += outcome.is_recovered
        if outcome.detected_ms is not None:
            report.detected_ms.append(outcome.detected_ms)
        if outcome.recovered_ms is not None:
            report.recovered_ms.append(outcome.recovered_ms)
        for name, value in outcome.notes.items():
            report.notes[name] = max(value, report.notes.get(name, 0.0))
        fds_left, tasks_left = await stage.left_over(fds, tasks)
        report.fds_left = max(report.fds_left, fds_left)
        report.tasks_left = max(report.tasks_left, tasks_left)
    report.late_frames = stage.late_frames() - late_before
    report.worst_stall_ms, report.own_stall_ms = (1000 * value for value in stage.loop_clock.take())
    report.lost_witnesses = stage.lost_witnesses()
    return report
