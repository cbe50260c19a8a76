"""Every row of the fault bench, once, in the midst of twenty calls that must not notice.

`python -m benches.faults` runs the same rows many times, and prints figures.
"""

import asyncio

import pytest
import uvloop

from benches.faults.rows import ROWS, Row
from benches.faults.run import RowReport, run_row
from benches.faults.stage import open_stage

WITNESSES = 20
LIMIT_FACTOR = 3.0
LIMIT_MIN_MS = 3_000.0
"""The bench measures against the limits; here other tests share the processors, and what hangs is found."""
MACHINE_STALL_MS = 200.0
"""A loop that stood still for so long without computing was not given a processor: nobody's fault here."""

GROUPS = {
    "model socket": ("1-1011", "1-1012", "1-rst", "1-fin", "5"),
    "model upgrade": ("2-503", "2-429", "2-401", "2-rst", "3-0.5", "3-30"),
    "model stalls": ("4-silent",),
    "model owes": ("4-owes",),
    "model link": ("7-poor", "13"),
    "carrier socket": ("6", "9"),
    "carrier half-open": ("7-carrier",),
    "carrier audio": ("8-drop", "8-twice", "8-order", "12"),
    "strangers": ("11", "17"),
    "clock": ("10",),
    "loop": ("19",),
}
"""Rows that share a stage; together they keep two workers busy for half a minute."""
BENCH_ONLY = {"1-1001", "1-1013", "18", "20"}
"""Like others, or too heavy for a shared machine."""


def play(rows: list[Row]) -> list[RowReport]:
    async def main() -> list[RowReport]:
        async with open_stage(witnesses=WITNESSES) as stage:
            return [await run_row(stage, row, 1) for row in rows]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@pytest.mark.parametrize("numbers", GROUPS.values(), ids=[name.replace(" ", "-") for name in GROUPS])
def test_call_recovers_and_nobody_else_notices(numbers):
    rows = [row for row in ROWS if row.number in numbers]
    for row, report in zip(rows, play(rows), strict=True):
        assert report.failures == []
        assert report.recovered == report.injected == 1, row.name
        for values, limit_ms in (
            (report.detected_ms, row.detected_limit_ms),
            (report.recovered_ms, row.recovered_limit_ms),
        ):
            if limit_ms is not None:
                assert max(values, default=0.0) <= max(limit_ms * LIMIT_FACTOR, LIMIT_MIN_MS), row.name
        if row.spares_witnesses and report.worst_stall_ms - report.own_stall_ms < MACHINE_STALL_MS:
            assert report.late_frames == 0, row.name
        assert (report.lost_witnesses, report.fds_left, report.tasks_left) == (0, 0, 0), row.name


def test_every_row_is_played_here_or_named_as_too_heavy():
    played = [number for group in GROUPS.values() for number in group]
    assert len(set(played)) == len(played)
    assert set(played) | BENCH_ONLY == {row.number for row in ROWS}
