"""The caller's turn: whether they speak, what the carrier is told of it, when it is over."""

from fastagent.bridge.commands import Command
from fastagent.wire import events as carrier

__all__ = ["CallerTurn"]


class CallerTurn:
    """At most one turn is under way. All times are monotonic seconds.

    Args:
        silence_s: by our own ears, how long after the caller's last sound their turn is over.
    """

    def __init__(self, *, silence_s: float) -> None:
        self.is_speaking = False
        """To be read by all, and set by the methods alone."""
        self._silence_s = silence_s
        self._is_reported = False
        """The carrier was told that the caller speaks, and not yet that they stopped."""
        self._ends_at: float | None = None
        """When the turn is over, unless they speak again."""

    def begin(self) -> None:
        """The caller speaks."""
        self.is_speaking = True

    def go_on(self) -> None:
        """There is speech: the turn is not about to end."""
        self._ends_at = None

    def fall_silent(self, now: float) -> None:
        """There is none any more; the turn may be over."""
        if self.is_speaking:
            self._ends_at = now + self._silence_s

    def end_at(self, when: float) -> None:
        """The turn is over then, unless they speak again before."""
        if self.is_speaking:
            self._ends_at = when

    def is_over(self, now: float) -> bool:
        """Whether they were silent for long enough; true once."""
        if self._ends_at is None or now < self._ends_at:
            return False
        self._ends_at = None
        return True

    def stop(self) -> None:
        """The model heard the caller stop, or is gone and will not say when they do."""
        self.is_speaking = False

    def end(self) -> None:
        """The turn is over, by our own word."""
        self.is_speaking = False
        self._ends_at = None

    def forget(self) -> None:
        """The carrier's socket is gone, and the caller with it."""
        self.end()
        self._is_reported = False

    def next_deadline(self) -> float | None:
        """When the turn `is_over`."""
        return self._ends_at

    # What the carrier is told

    def report_start(self) -> list[Command]:
        """The caller speaks, if the carrier does not know."""
        if self._is_reported:
            return []
        self._is_reported = True
        return [carrier.ReportSpeech(carrier.SpeechPhase.STARTED)]

    def report_stop(self) -> list[Command]:
        """They stopped, if it was told that they speak."""
        if not self._is_reported:
            return []
        self._is_reported = False
        return [carrier.ReportSpeech(carrier.SpeechPhase.STOPPED)]
