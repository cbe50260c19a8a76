"""Limits that a run must keep: a figure of the report, and the most that it may be.

::

    p99_ms=5            of both ways, by marks: shorthand for up_p99_ms and down_p99_ms
    turn_p95_ms=1500    any duration of the report, any of its figures
    failed=0            counts
    cpu_ms=2            of the server, for a call-second
    kib_per_call=96
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastagent.errors import ConfigurationError

__all__ = ["DEFAULT_LIMITS", "Breach", "Limit", "breaches", "parse_limit"]

DEFAULT_LIMITS = ("failed=0", "up_p99_ms=30", "down_p99_ms=30")
"""Of a search for the knee that is given none: beyond it, speech begins to stumble."""

FIGURES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "mean_ms")
WAYS = ("up", "down")
KNOWN = frozenset(
    [f"{what}_{figure}" for what in (*WAYS, "up_frame", "down_frame", "turn", "barge_in", "setup", "late")
     for figure in FIGURES]
    + ["failed", "lost_frames", "lost_marks", "unknown_marks", "barge_ins_ignored", "unreadable", "blocked"]
    + ["cpu_ms", "cpu_percent", "kib_per_call", "rss_mib"]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a figure may be."""

    name: str
    most: float

    def __str__(self) -> str:
        return f"{self.name}={self.most:g}"


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that was not kept; ``value`` is None when the figure could not be measured."""

    limit: Limit
    value: float | None

    def __str__(self) -> str:
        got = "was not measured" if self.value is None else f"was {self.value:g}"
        return f"{self.limit.name} {got}, at most {self.limit.most:g}"


def parse_limit(text: str) -> list[Limit]:
    """Read ``NAME=NUMBER``; a shorthand gives several.

    Raises:
        ConfigurationError: a name that is no figure, or no number.
    """
    name, _, number = text.partition("=")
    name = name.strip()
    try:
        most = float(number)
    except ValueError:
        most = math.nan
    if not (math.isfinite(most) and most >= 0):
        raise ConfigurationError(f"--limit {name}: expected a number behind '='")
    names = [f"{way}_{name}" for way in WAYS] if name in FIGURES else [name]
    for one in names:
        if one not in KNOWN:
            raise ConfigurationError(
                f"--limit: unknown figure {one!r}; for example p99_ms, turn_p95_ms, failed, cpu_ms"
            )
    return [Limit(one, most) for one in names]


def breaches(limits: list[Limit], figures: Mapping[str, float | None]) -> list[Breach]:
    """Those that are not kept. What was not measured is not kept."""
    found = []
    for limit in limits:
        value = figures.get(limit.name)
        if value is None or value > limit.most:
            found.append(Breach(limit, value))
    return found
