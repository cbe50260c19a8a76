"""A call's two tracks on their way into a recording."""

from typing import Literal

from fastagent._native.tap import Tap
from fastagent.audio.formats import Encoding
from fastagent.recording.marks import PAUSED
from fastagent.recording.writer import Recording

__all__ = ["CallTrack"]


class CallTrack:
    """Has a call's tap fill a recording; see `fastagent._native.record` for the rules of the clock.

    Once the recording stopped by itself nothing more is kept. Times are monotonic seconds.
    """

    def __init__(self, recording: Recording, tap: Tap, now: float) -> None:
        encoding: Literal["pcm16", "mulaw"] = (
            "mulaw" if recording.format.encoding is Encoding.MULAW else "pcm16"
        )
        self.recording = recording
        self._tap = tap
        self._paused_at: int | None = None
        self._is_closed = False
        tap.record(recording.append, encoding, now)

    @property
    def is_paused(self) -> bool:
        """Nothing is kept at present."""
        return self._paused_at is not None

    def advance(self, now: float) -> None:
        """Let time pass, at least every half second: the caller may send nothing."""
        self._tap.settle_recording(now)

    def pause(self, now: float) -> None:
        """Keep nothing from ``now`` on. Pausing again does nothing."""
        if self._paused_at is None and not self._is_closed:
            self._paused_at = self._tap.pause_recording(now)

    def resume(self, now: float) -> None:
        """Keep audio again, and mark the stretch that was left out."""
        if self._paused_at is not None and not self._is_closed:
            self.recording.mark(self._paused_at, self._tap.resume_recording(now), PAUSED)
            self._paused_at = None

    def close(self, now: float) -> None:
        """End the recording and have it published. Closing again does nothing."""
        if self._is_closed:
            return
        if self._paused_at is not None:
            self.resume(now)
        self._is_closed = True
        self._tap.end_recording(now)
        self.recording.close()
