"""Is a kernel slower than its baseline? Exit 1 if so.

``python -m benches.compare [--runs N] [pytest arguments]``

Absolute times of a shared machine say little, so ours is held against its peers of the same run: the ratio to
each peer, now against then; the middle one over the peers counts. Where there is no peer, the times are
scaled by how much faster or slower all peers together ran. What seems slow is measured again before it is
called so: noise only ever adds, and the shortest round is judged.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benches.baseline import Figures, Subject, load, measure, stored

__all__ = ["TOLERANCE", "Change", "changes", "merged"]

TOLERANCE = 0.25
"""A slowdown up to this share is noise: repeated runs of one build differ by half of it."""
TOLERANCE_NS = 15.0
"""A slowdown up to this is noise, whatever its share: the clock and the call itself."""
RETRIES = 2


@dataclass(frozen=True, slots=True)
class Change:
    """How one of our implementations of a subject moved."""

    subject: str
    implementation: str
    before_ns: float
    now_ns: float
    """Scaled to the machine's pace when the baseline was made."""
    by_peers: bool
    """Judged by the ratio to peers, not by the machine's pace alone."""

    @property
    def slowdown(self) -> float:
        """0.1: takes a tenth more than before."""
        return self.now_ns / self.before_ns - 1

    @property
    def is_slow(self) -> bool:
        """Slower beyond noise."""
        return self.slowdown > TOLERANCE and self.now_ns - self.before_ns > TOLERANCE_NS


def changes(before: Mapping[str, Subject], now: Mapping[str, Subject]) -> list[Change]:
    """All of ours that both have, the slowest first."""
    peers = {
        name: [
            now[name].figures[peer].min_ns / old.min_ns
            for peer, old in subject.peers().items()
            if peer in now[name].figures
        ]
        for name, subject in before.items()
        if name in now
    }
    every = [ratio for ratios in peers.values() for ratio in ratios]
    pace_of_all = median(every) if every else 1.0
    found = []
    for name, ratios in peers.items():
        subject, pace = before[name], median(ratios) if ratios else pace_of_all
        for implementation, old in subject.ours().items():
            if implementation in now[name].figures:
                scaled_ns = now[name].figures[implementation].min_ns / pace
                found.append(Change(name, implementation, old.min_ns, scaled_ns, bool(ratios)))
    return sorted(found, key=lambda change: -change.slowdown)


def merged(first: Mapping[str, Subject], second: Mapping[str, Subject]) -> dict[str, Subject]:
    """Both measurements as one: the shorter of each."""
    both = dict(first)
    for name, subject in second.items():
        if name not in both:
            both[name] = subject
            continue
        figures = dict(both[name].figures)
        for implementation, new in subject.figures.items():
            old = figures.get(implementation, new)
            figures[implementation] = Figures(min(old.min_ns, new.min_ns), min(old.median_ns, new.median_ns))
        both[name] = Subject(subject.unit, subject.goal_ns, figures)
    return both


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare, print; exit 1 on a slowdown beyond noise."""
    parser = argparse.ArgumentParser(description="Compare the kernels with the stored baseline.")
    parser.add_argument("--runs", type=int, default=3, help="runs over all benches (default %(default)s)")
    parser.add_argument("--baseline", type=Path, help="another file than that of this class of machines")
    options, pytest_arguments = parser.parse_known_args(arguments)
    before = load(options.baseline or stored())
    now = measure(options.runs, pytest_arguments)
    for retry in range(RETRIES):
        slow = [change.subject for change in changes(before, now) if change.is_slow]
        if not slow:
            break
        print(f"{len(slow)} seem slower; measured again ({retry + 1} of {RETRIES})", file=sys.stderr)
        now = merged(now, measure(options.runs, pytest_arguments))
    found = changes(before, now)
    for change in found:
        mark = "SLOWER" if change.is_slow else "      "
        how = "against peers" if change.by_peers else "by the machine's pace"
        print(
            f"{mark} {change.slowdown:+7.1%}  {change.before_ns:10.0f} -> {change.now_ns:10.0f} ns"
            f"  {change.subject} ({change.implementation}; {how})"
        )
    for name in sorted(now.keys() - before.keys()):
        print(f"new, not in the baseline: {name}")
    gone = [] if pytest_arguments else sorted(before.keys() - now.keys())
    for name in gone:
        print(f"GONE, in the baseline only: {name}")
    slow_count = sum(change.is_slow for change in found)
    print(f"{len(found)} compared, {slow_count} slower by more than {TOLERANCE:.0%}")
    if slow_count or gone:
        sys.exit(1)


if __name__ == "__main__":
    main()
