"""Measures and writes the page of results: ``python -m benches.page [WHAT ...]``."""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from benches.page.findings import Findings, commit_of, this_machine
from benches.page.goals import goals_of
from benches.page.measure import PARTS, measure_part
from benches.page.writing import write_page
from benches.peers.run import relay_version

__all__ = ["main"]

RESULTS = Path(__file__).resolve().parents[1] / "results"

EPILOG = """\
examples:
  fastagent bench                     everything, about 20 minutes on two idle cores
  fastagent bench --quick             the same in about 3 minutes, to see that it runs
  fastagent bench peers               Pipecat, the Agents SDK and FastAPI beside FastAgent
  fastagent bench --from benches/results/FOLDER/results.json     draw stored figures again

The page is results.md in a folder below benches/results/, which is named by date, class of machine and
commit; its pictures and results.json lie beside it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or read what was measured, and write the page.

    Returns:
        0; 1 under ``--strict`` when a measured goal was missed.
    """
    parser = argparse.ArgumentParser(
        prog="fastagent bench",
        description="Measure this checkout and write one page of results: every goal beside its figure.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"all, or among {', '.join(PARTS)} (all)")
    parser.add_argument("--quick", action="store_true", help="short windows and few levels")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the page goes (benches/results/…)")
    parser.add_argument(
        "--from", dest="stored", type=Path, metavar="FILE", help="measure nothing, draw these figures"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a measured goal was missed")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.what if part not in (*PARTS, "all")]:
        parser.error(f"expected all, or parts among {', '.join(PARTS)}, got {', '.join(unknown)}")
    if options.stored is not None:
        findings = Findings.load(options.stored)
    else:
        signal.signal(signal.SIGTERM, _leave)
        parts = PARTS if not options.what or "all" in options.what else tuple(dict.fromkeys(options.what))
        findings = _begun(parts, options.quick)
    folder = options.out or RESULTS / findings.folder_name
    if options.stored is None:
        _measure(parts, findings, folder)
    page = write_page(findings, folder)
    goals = goals_of(findings)
    for goal in goals:
        if goal.is_met is False:
            print(f"missed: {goal.section}: {goal.what}: {goal.figure}, goal {goal.goal}")
    print(f"{sum(goal.is_met is True for goal in goals)} of {len(goals)} goals hit; {page}")
    return 1 if options.strict and any(goal.is_met is False for goal in goals) else 0


def _begun(parts: Sequence[str], is_quick: bool) -> Findings:
    commit, is_dirty = commit_of()
    words = ["fastagent bench", *([] if tuple(parts) == PARTS else parts), *(["--quick"] if is_quick else [])]
    return Findings(
        date=datetime.now(UTC).date().isoformat(),
        commit=commit,
        is_dirty=is_dirty,
        command=" ".join(words),
        machine=this_machine(relay_version()),
        is_quick=is_quick,
    )


def _measure(parts: Sequence[str], findings: Findings, folder: Path) -> None:
    """Measure part after part; the page of those that are done is there if a later one is interrupted."""
    started_s = time.monotonic()
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        measure_part(part, findings)
        findings.took_s = round(time.monotonic() - started_s, 1)
        write_page(findings, folder)


def _leave(signal_number: int, _frame: FrameType | None) -> None:
    # As an exception, so that every child is ended on the way out.
    raise SystemExit(128 + signal_number)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
