"""The parts of a page, each measured by the bench that owns it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benches.baseline import OURS, Subject
from benches.baseline import measure as measure_kernels
from benches.page.findings import Findings, Kernel, RelayFindings
from benches.peers.climb import Climb
from benches.peers.peer import PEERS, peers_named
from benches.peers.run import Entrant, entrants, measure
from benches.relay.toolchain import BuildError

__all__ = ["PARTS", "Pace", "measure_part"]

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_EARS = {"FASTAGENT_BARGE_IN": "model"}
"""What the relay's goals are for: the model hears who interrupts."""
PARTS = ("kernels", "relay", "capacity", "peers")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part may take."""

    kernel_arguments: tuple[str, ...]
    kernel_runs: int
    relay_arguments: tuple[str, ...]
    relay_limit_s: float
    capacity_levels: tuple[int, ...]
    capacity_seconds: float
    peer_levels: tuple[int, ...] | None
    """Instead of each peer's own, as far as these reach."""
    peer_seconds: float


FULL = Pace(
    kernel_arguments=(),
    kernel_runs=1,
    relay_arguments=("--repeats", "1", "--seconds", "10", "--passthrough-calls", "0"),
    relay_limit_s=900.0,
    capacity_levels=(100, 200, 300, 400, 500, 600, 800, 1000),
    capacity_seconds=8.0,
    peer_levels=None,
    peer_seconds=6.0,
)
QUICK = Pace(
    kernel_arguments=("--benchmark-max-time=0.05", "--benchmark-min-rounds=3", "--benchmark-warmup=off"),
    kernel_runs=1,
    relay_arguments=(
        *("--repeats", "1", "--seconds", "4", "--calls", "200", "--passthrough-calls", "0"),
        *("--formats", "twilio/mulaw"),
    ),
    relay_limit_s=240.0,
    capacity_levels=(200, 500, 1000),
    capacity_seconds=2.0,
    peer_levels=(10, 20, 60),
    peer_seconds=2.0,
)


def measure_part(part: str, findings: Findings) -> None:
    """Measure one part into the findings; what cannot be measured becomes a remark."""
    pace = QUICK if findings.is_quick else FULL
    try:
        match part:
            case "kernels":
                findings.kernels = kernels(pace)
            case "relay":
                findings.relay = relay(pace)
            case "capacity":
                findings.capacity = measure(
                    entrants([], findings.remarks), lambda _: pace.capacity_levels, pace.capacity_seconds
                )
            case "peers":
                findings.peers = peers(pace, findings.remarks)
            case _:
                raise ValueError(f"expected a part among {', '.join(PARTS)}, got {part}")
    except (BuildError, MeasureError) as error:
        findings.remarks.append(f"{part}: not measured: {str(error).splitlines()[0]}")


class MeasureError(Exception):
    """A bench gave no figures."""


def kernels(pace: Pace) -> list[Kernel]:
    """Every subject of the kernels' benches that is ours."""
    try:
        subjects = measure_kernels(pace.kernel_runs, pace.kernel_arguments)
    except SystemExit as error:
        print(error.code, file=sys.stderr)
        raise MeasureError("a kernel's bench failed, see the output") from error
    return [_kernel(name, subject) for name, subject in sorted(subjects.items()) if OURS in subject.figures]


def _kernel(name: str, subject: Subject) -> Kernel:
    figures = subject.figures.items()
    return Kernel(
        name,
        subject.unit,
        subject.goal_ns,
        min_ns={who: found.min_ns for who, found in figures},
        median_ns={who: found.median_ns for who, found in figures},
    )


def relay(pace: Pace) -> RelayFindings:
    """FastAgent beside a byte relay, by `benches.relay.run`.

    Raises:
        MeasureError: it failed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="page-bench-") as folder:
        report = Path(folder) / "relay.json"
        command = [sys.executable, "-m", "benches.relay.run", "--json", str(report), *pace.relay_arguments]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | WITHOUT_EARS,
                stdout=subprocess.DEVNULL,
                timeout=pace.relay_limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"the relay bench took longer than {pace.relay_limit_s:.0f} s") from error
        if done.returncode or not report.exists():
            raise MeasureError("the relay bench failed, see the output")
        document = json.loads(report.read_text())
    return RelayFindings(verdicts=document["verdicts"], trials=document["trials"])


def peers(pace: Pace, remarks: list[str]) -> list[Climb]:
    """The byte relay, FastAgent and every peer, each at its own levels."""
    own = {peer.name: peer.levels for peer in PEERS}
    all_levels = tuple(sorted({level for levels in own.values() for level in levels}))

    def levels_of(entrant: Entrant) -> Sequence[int]:
        levels = own.get(entrant.name, all_levels)
        if pace.peer_levels is None:
            return levels
        return [level for level in pace.peer_levels if level <= levels[-1]]

    return measure(entrants([peer.name for peer in peers_named([])], remarks), levels_of, pace.peer_seconds)
