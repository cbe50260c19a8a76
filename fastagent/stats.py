"""Plain counters, histograms and time classes; knows no exporter."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Sequence

__all__ = ["Counters", "Histogram", "RecentTimes", "TimeClasses"]

RECENT_TIMES_MAX = 1024
"""What `RecentTimes` remembers by default: some hundred calls' answers."""


class Counters(Counter[str]):
    """Counts by name. Names are a closed set in the code, never a caller's or a model's words."""

    def note(self, name: str, n: int = 1) -> None:
        """Add ``n`` to ``name``."""
        self[name] += n


class TimeClasses:
    """Durations by powers of two: class k counts those of [2^k, 2^(k+1)) nanoseconds."""

    def __init__(self, classes: Iterable[int] = ()) -> None:
        self._counts = [0] * 32
        self.add(list(classes))

    def add(self, classes: Sequence[int]) -> None:
        """Add another set of classes, as the native listener reports them."""
        for k, count in enumerate(classes):
            self._counts[k] += count

    @property
    def counts(self) -> Sequence[int]:
        """How many there are in each class."""
        return self._counts

    @property
    def total(self) -> int:
        """Durations counted."""
        return sum(self._counts)

    def quantile_us(self, q: float) -> float:
        """The upper bound, in microseconds, of the class that holds quantile ``q`` (0 when empty).

        A bound, not an estimate: the true value lies within a factor of two below.
        """
        wanted = q * self.total
        seen = 0
        for k, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return float(2 ** (k + 1)) / 1000
        return 0.0


class Histogram:
    """Values by upper bounds; one more class holds what is beyond the last.

    Args:
        bounds: ascending.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Per class, not cumulative."""
        self.sum = 0.0

    def note(self, value: float, n: int = 1) -> None:
        """Count ``value``, ``n`` times."""
        self.counts[bisect_left(self.bounds, value)] += n
        self.sum += value * n

    @property
    def total(self) -> int:
        """Values counted."""
        return sum(self.counts)


class RecentTimes:
    """The last durations, for figures that a human reads.

    Args:
        limit: how many are remembered.
    """

    def __init__(self, limit: int = RECENT_TIMES_MAX) -> None:
        self._times_s: deque[float] = deque(maxlen=limit)

    def note(self, seconds: float) -> None:
        """Remember one."""
        self._times_s.append(seconds)

    def figures_ms(self) -> dict[str, float]:
        """``avg``, ``min``, ``max``, ``p95`` and ``p99`` in milliseconds; zeros while there is none."""
        ordered = sorted(self._times_s)
        n = len(ordered)
        if not n:
            return dict.fromkeys(("avg", "min", "max", "p95", "p99"), 0.0)
        figures = {
            "avg": sum(ordered) / n,
            "min": ordered[0],
            "max": ordered[-1],
            # Nearest rank: a value that was measured.
            "p95": ordered[max(0, -(-95 * n // 100) - 1)],
            "p99": ordered[max(0, -(-99 * n // 100) - 1)],
        }
        return {name: round(1000 * value, 3) for name, value in figures.items()}
