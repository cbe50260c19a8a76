"""What one run of the benches found, as it is kept: ``results.json``."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benches.baseline import OURS, machine_class
from benches.peers.climb import Climb

__all__ = ["Findings", "Kernel", "Machine", "RelayFindings", "commit_of", "this_machine"]

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = 1
GIT_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran; never a host's name."""

    processor: str
    machine_class: str
    cores: int
    linux: str
    python: str
    relay: str
    """The byte relay, with its version."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One piece of a kernel's work."""

    subject: str
    unit: str
    goal_ns: float | None
    min_ns: dict[str, float]
    """Shortest round by implementation; ours is called ``fastagent``."""
    median_ns: dict[str, float]

    @property
    def ours_ns(self) -> float:
        """Our median."""
        return self.median_ns[OURS]

    @property
    def peers_ns(self) -> dict[str, float]:
        """Medians of those who do the same work, the quickest first."""
        found = {name: ns for name, ns in self.median_ns.items() if not name.startswith(OURS)}
        return dict(sorted(found.items(), key=lambda item: item[1]))


@dataclass(frozen=True, slots=True)
class RelayFindings:
    """What `benches.relay.run --json` wrote."""

    verdicts: list[dict[str, Any]]
    trials: list[dict[str, Any]]


@dataclass(slots=True)
class Findings:
    """All figures of one run. A part that was not run is empty."""

    date: str
    commit: str
    is_dirty: bool
    """The checkout held changes that no commit holds."""
    command: str
    machine: Machine
    is_quick: bool = False
    took_s: float = 0.0
    kernels: list[Kernel] = field(default_factory=list)
    relay: RelayFindings | None = None
    capacity: list[Climb] = field(default_factory=list)
    peers: list[Climb] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What could not be run, and why."""

    @property
    def folder_name(self) -> str:
        """Date, class of machine and commit."""
        return f"{self.date}-{self.machine.machine_class}-{self.commit}{'-dirty' if self.is_dirty else ''}"

    def save(self, path: Path) -> None:
        """Write them; equal findings give equal bytes."""
        path.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Findings":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is of another schema.
        """
        document: dict[str, Any] = json.loads(path.read_text())
        if (schema := document.pop("schema", None)) != SCHEMA:
            raise ValueError(f"{path}: expected schema {SCHEMA}, got {schema}")
        relay: Mapping[str, Any] | None = document["relay"]
        return cls(
            **document
            | {
                "machine": Machine(**document["machine"]),
                "kernels": [Kernel(**kernel) for kernel in document["kernels"]],
                "relay": None if relay is None else RelayFindings(**relay),
                "capacity": [Climb.from_json(one) for one in document["capacity"]],
                "peers": [Climb.from_json(one) for one in document["peers"]],
            }
        )


def commit_of(root: Path = ROOT) -> tuple[str, bool]:
    """The short name of the checked-out commit, and whether files differ from it; ``unknown`` without git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=root,
                capture_output=True,
                text=True,
                timeout=GIT_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=9", "HEAD")
    return (commit or "unknown", bool(git("status", "--porcelain", "--untracked-files=no")))


def this_machine(relay: str) -> Machine:
    """The machine that this runs on."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return Machine(
        processor=processor,
        machine_class=machine_class(),
        cores=os.cpu_count() or 1,
        linux=platform.release(),
        python=platform.python_version(),
        relay=relay,
    )
