"""The knee: the most calls at which every limit is kept. Up to the first failure, then halving the gap."""

__all__ = ["FIRST_LEVEL", "KneeSearch"]

FIRST_LEVEL = 10
STEP_S = 10.0
GROWTH = 1.6
PRECISION = 0.08
"""Of the knee: the gap between what was kept and what was not, at the end."""


class KneeSearch:
    """Chooses levels.

    Args:
        first: where to begin.
        most: where to stop, kept or not.
        step_s: how long each level is measured.
    """

    def __init__(self, *, first: int = FIRST_LEVEL, most: int = 2000, step_s: float = STEP_S) -> None:
        if not 1 <= first <= most:
            raise ValueError("expected 1 <= first <= most")
        self.step_s = step_s
        self.kept = 0
        """The highest level that kept the limits."""
        self.broken: int | None = None
        """The lowest level that did not."""
        self._first = first
        self._most = most

    @property
    def is_found(self) -> bool:
        """A level broke the limits, and one not far below it kept them."""
        return self.broken is not None and self.broken - self.kept <= max(1, round(self.kept * PRECISION))

    def next_level(self) -> int | None:
        """The level to measure next; None when there is none worth it."""
        if self.is_found or self.kept >= self._most:
            return None
        if self.broken is None:
            return min(self._most, max(self._first, round(self.kept * GROWTH)))
        return (self.kept + self.broken) // 2 or None

    def judge(self, calls: int, is_kept: bool) -> None:
        """Say how a level went."""
        if is_kept:
            self.kept = max(self.kept, calls)
        else:
            self.broken = calls if self.broken is None else min(self.broken, calls)
