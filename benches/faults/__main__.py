"""Faults injected into running calls; prints what became of them.

``python -m benches.faults [--times 20] [--rows 1-rst 4] [--witnesses 20] [--seed 1] [--json FILE]``
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benches.faults.rows import ROWS, Row
from benches.faults.run import RowReport, quantiles, run_row
from benches.faults.stage import open_stage

HEAD = (
    f"{'row':<44} {'n':>4} {'seen p50':>9} {'p95':>7} {'max':>7} {'again p50':>9} {'p95':>7} {'max':>7} "
    f"{'ok %':>6} {'late':>5} {'stall':>5} {'lost':>4} {'fds':>4} {'tasks':>5}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when something did not recover or was left over."""
    parser = argparse.ArgumentParser(prog="benches.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20, help="how often each fault is injected")
    parser.add_argument("--rows", nargs="*", default=[], help="numbers, or how they begin; all without")
    parser.add_argument("--witnesses", type=int, default=20, help="calls beside the one that is hit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    options = parser.parse_args(arguments)
    rows = [row for row in ROWS if not options.rows or any(_is(row, name) for name in options.rows)]
    if not rows:
        parser.error("no such row; there are " + " ".join(row.number for row in ROWS))
    logging.disable(logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reports = runner.run(_run(rows, options.times, options.witnesses, options.seed))
    if options.json:
        figures = {
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "seed": options.seed,
            "witnesses": options.witnesses,
            "rows": [report.as_json() for report in reports],
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(report.recovered < report.injected or _is_littered(report) for report in reports))


def _is(row: Row, name: str) -> bool:
    return row.number == name or row.number.startswith(name + "-")


def _is_littered(report: RowReport) -> bool:
    return bool(report.lost_witnesses or report.fds_left or report.tasks_left)


async def _run(rows: Sequence[Row], times: int, witnesses: int, seed: int) -> list[RowReport]:
    reports: list[RowReport] = []
    print(HEAD, flush=True)
    begun = time.monotonic()
    async with open_stage(witnesses=witnesses, seed=seed) as stage:
        for row in rows:
            report = await run_row(stage, row, times)
            reports.append(report)
            print(_line(report), flush=True)
            for failure in dict.fromkeys(report.failures):
                print(f"    {failure}")
    print(
        f"times in ms; late: frames of {witnesses} witnesses; stall: the worst of the loop; "
        f"{time.monotonic() - begun:.0f} s in all"
    )
    return reports


def _line(report: RowReport) -> str:
    seen, again = quantiles(report.detected_ms), quantiles(report.recovered_ms)
    cells = [
        f"{values[name]:.0f}" if values else "-" for values in (seen, again) for name in ("p50", "p95", "max")
    ]
    share = 100 * report.recovered / report.injected
    notes = " ".join(f"{name}={value:.3g}" for name, value in report.notes.items())
    return (
        f"{report.row:<44} {report.injected:>4} {cells[0]:>9} {cells[1]:>7} {cells[2]:>7} {cells[3]:>9} "
        f"{cells[4]:>7} {cells[5]:>7} {share:>6.1f} {report.late_frames:>5} {report.worst_stall_ms:>5.0f} "
        f"{report.lost_witnesses:>4} {report.fds_left:>4} {report.tasks_left:>5}  {notes}"
    ).rstrip()


if __name__ == "__main__":
    sys.exit(main())
