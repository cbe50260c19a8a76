"""Plain counters and time classes; knows no exporter."""

from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["Counters", "TimeClasses"]


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
