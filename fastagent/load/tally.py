"""What came of the calls so far: counts, failures by reason, and durations that Python measures."""

from collections import Counter
from collections.abc import Mapping

from fastagent._native.load import HISTOGRAMS, LoadEngine
from fastagent.load.histogram import DurationHistogram

__all__ = ["DURATIONS", "Tally", "Window"]

DURATIONS = (*HISTOGRAMS, "setup", "turn", "barge_in")
"""Every duration that is measured; `docs/load.md` says from what to what."""

FAILURES_MAX = 50
"""Different reasons that are kept apart."""


class Window:
    """Histograms and counts of a stretch of time."""

    def __init__(self) -> None:
        self.durations = {name: DurationHistogram() for name in DURATIONS}
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def add(self, other: "Window") -> None:
        """Add another one."""
        for name, histogram in other.durations.items():
            self.durations[name].add(histogram)
        self.counts.update(other.counts)
        self.failures.update(other.failures)


class Tally:
    """Collects into a window that `take` closes; what the engine counts is added to it then."""

    def __init__(self, engine: LoadEngine) -> None:
        self.live = 0
        """Calls that are answered and not over."""
        self.opening = 0
        """Calls that were begun and not answered."""
        self.failed = 0
        """Since the start."""
        self._engine = engine
        self._window = Window()
        self._before = engine.counters()

    def note(self, name: str, n: int = 1) -> None:
        """Count something."""
        self._window.counts[name] += n

    def answer(self) -> None:
        """Count a call that was answered."""
        self.live += 1
        self._window.counts["answered"] += 1

    def fail(self, reason: str) -> None:
        """Count a failed call."""
        self.failed += 1
        self._window.counts["failed"] += 1
        known = self._window.failures
        known[reason if reason in known or len(known) < FAILURES_MAX else "other"] += 1

    def duration(self, name: str, value_ns: int) -> None:
        """Count a duration."""
        self._window.durations[name].note_ns(value_ns)

    def take(self) -> Window:
        """Everything since the last call."""
        window, self._window = self._window, Window()
        for name in HISTOGRAMS:
            window.durations[name].add_classes(*self._engine.take_histogram(name))
        now = self._engine.counters()
        window.counts.update(_less(now, self._before))
        self._before = now
        return window


def _less(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in now.items()}
