"""What the kernels' benchmarks took on a class of machines: measured, stored, read again.

``python -m benches.baseline [--runs N] [pytest arguments]`` runs every ``benches/test_bench_*.py`` N times
and writes ``benches/baselines/<machine class>.json``. How a case says what it measures: benches/README.md.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["FRAME", "OURS", "Figures", "Subject", "load", "machine_class", "measure", "read_results", "save"]

ROOT = Path(__file__).resolve().parents[1]
BASELINES = ROOT / "benches" / "baselines"
FRAME = "20 ms frame"
"""The unit whose subjects are drawn."""
OURS = "fastagent"
ENGINE_PARAMETERS = ("engine", "decoder", "peer")
"""Parameters of a bench that name the implementation where `extra_info` does not."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Nanoseconds per unit."""

    min_ns: float
    """Shortest round of all runs: what noise touches least."""
    median_ns: float
    """Median over the runs of each run's median."""


@dataclass(slots=True)
class Subject:
    """One piece of work, and what it takes whom."""

    unit: str
    goal_ns: float | None = None
    figures: dict[str, Figures] = field(default_factory=dict)
    """By implementation."""

    def ours(self) -> dict[str, Figures]:
        """Our implementation and its variants."""
        return {name: figures for name, figures in self.figures.items() if name.startswith(OURS)}

    def peers(self) -> dict[str, Figures]:
        """Everybody else's."""
        return {name: figures for name, figures in self.figures.items() if not name.startswith(OURS)}


def machine_class(cpuinfo: str | None = None) -> str:
    """Processor and interpreter, as the name of a file: figures of one class may be compared."""
    if cpuinfo is None:
        source = Path("/proc/cpuinfo")
        cpuinfo = source.read_text() if source.exists() else f"model name : {platform.processor()}"
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    words = [found.get(key, "") for key in ("model name", "cpu family", "model")]
    processor = " ".join(word for word in words if word) or platform.machine()
    version = ".".join(platform.python_version_tuple()[:2])
    return re.sub(r"[^a-z0-9.]+", "-", f"{processor} {platform.python_implementation()} {version}".lower())


def measure(runs: int, pytest_arguments: Sequence[str] = ()) -> dict[str, Subject]:
    """Run the benchmarks that often, each run over all of them, so that a busy minute spoils one run only.

    Raises:
        SystemExit: a bench failed; its output has been shown.
    """
    reports: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            report = Path(folder) / f"{run}.json"
            print(f"run {run + 1} of {runs}", file=sys.stderr)
            command = [
                sys.executable,
                "-m",
                "pytest",
                "benches",
                "--benchmark-only",
                "-q",
                "-p",
                "no:cacheprovider",
            ]
            command += [f"--benchmark-json={report}", *pytest_arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{done.stdout}{done.stderr}")
            reports.append(json.loads(report.read_text()))
    return read_results(reports)


def read_results(reports: Iterable[Mapping[str, Any]]) -> dict[str, Subject]:
    """What several reports of pytest-benchmark say together, by subject.

    Raises:
        ValueError: two benches of one report claim the same subject and implementation, or one names none.
    """
    subjects: dict[str, Subject] = {}
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for report in reports:
        seen: dict[tuple[str, str], str] = {}
        for key, case in _named(report["benchmarks"]):
            if key in seen:
                raise ValueError(f"{case['fullname']} and {seen[key]} both measure {key[0]!r} of {key[1]!r}")
            seen[key] = case["fullname"]
            info: dict[str, Any] = case["extra_info"]
            subject = subjects.setdefault(key[0], Subject(info.get("unit", "call")))
            if key[1] == OURS and "goal_ns" in info:
                subject.goal_ns = float(info["goal_ns"])
            to_unit_ns = 1e9 / info.get("units_per_call", 1)
            stats = case["stats"]
            times.setdefault(key, []).append((stats["min"] * to_unit_ns, stats["median"] * to_unit_ns))
    for (name, implementation), rounds in times.items():
        subjects[name].figures[implementation] = Figures(
            round(min(shortest for shortest, _ in rounds), 2),
            round(median(middle for _, middle in rounds), 2),
        )
    return subjects


def _named(cases: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str, str], Mapping[str, Any]]]:
    """Each case with its subject and implementation; cases alike are told apart by their parameters."""
    keys = []
    for case in cases:
        params: dict[str, Any] = case.get("params") or {}
        named = next((str(params[key]) for key in ENGINE_PARAMETERS if key in params), OURS)
        if named.startswith("UNSERIALIZABLE") and "implementation" not in case["extra_info"]:
            raise ValueError(f"{case['fullname']} must name its implementation in extra_info")
        subject = case["extra_info"].get("subject") or case["group"] or case["name"]
        keys.append((str(subject), str(case["extra_info"].get("implementation", named))))
    alike = {key for key, count in Counter(keys).items() if count > 1}
    return [
        (
            (f"{key[0]} [{case['param']}]", key[1])
            if key in alike and "subject" not in case["extra_info"] and case.get("param")
            else key,
            case,
        )
        for key, case in zip(keys, cases, strict=True)
    ]


def save(path: Path, subjects: Mapping[str, Subject], runs: int) -> None:
    """Write a baseline; equal figures give equal bytes."""
    content = {
        "machine_class": machine_class(),
        "runs": runs,
        "subjects": {
            name: {
                "unit": subject.unit,
                **({} if subject.goal_ns is None else {"goal_ns": subject.goal_ns}),
                "implementations": {
                    implementation: {"min_ns": figures.min_ns, "median_ns": figures.median_ns}
                    for implementation, figures in subject.figures.items()
                },
            }
            for name, subject in sorted(subjects.items())
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def load(path: Path) -> dict[str, Subject]:
    """Read a baseline.

    Raises:
        SystemExit: there is none for this class of machines.
    """
    if not path.exists():
        sys.exit(f"no baseline {path.name}: measure one with scripts/bench baseline")
    return {
        name: Subject(
            entry["unit"],
            entry.get("goal_ns"),
            {of: Figures(**figures) for of, figures in entry["implementations"].items()},
        )
        for name, entry in json.loads(path.read_text())["subjects"].items()
    }


def stored(folder: Path = BASELINES) -> Path:
    """Where the baseline of this class of machines is."""
    return folder / f"{machine_class()}.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description="Measure the kernels and store the figures as the baseline.")
    parser.add_argument("--runs", type=int, default=5, help="runs over all benches (default %(default)s)")
    parser.add_argument("--out", type=Path, help="another file than that of this class of machines")
    options, pytest_arguments = parser.parse_known_args(arguments)
    path = options.out or stored()
    subjects = measure(options.runs, pytest_arguments)
    save(path, subjects, options.runs)
    missed = [
        f"  {name}: {figures.median_ns:.0f} ns, goal {subject.goal_ns:.0f} ns per {subject.unit}"
        for name, subject in subjects.items()
        if subject.goal_ns is not None
        and (figures := subject.figures.get(OURS)) is not None
        and figures.median_ns > subject.goal_ns
    ]
    print(f"{path}: {len(subjects)} subjects, {len(missed)} over their goal", *missed, sep="\n")


if __name__ == "__main__":
    main()
