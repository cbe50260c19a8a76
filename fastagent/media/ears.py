"""Our own ears of a call: which are needed, and the native tap that has them."""

from collections.abc import Callable
from dataclasses import dataclass

from fastagent._native.tap import Tap
from fastagent.media.detectors import SpeechDetector
from fastagent.media.pumps import MediaPlan

__all__ = ["NO_EARS", "EarsPlan", "build_tap"]

OVERLAP_CONFIRM_MS = 60
"""Evidence asked for before the bot is held: with the frame's own wait, some 100 ms from the first sound."""


@dataclass(frozen=True, slots=True)
class EarsPlan:
    """What is listened for beside the levels, which are always measured."""

    hears_overlap: bool = False
    """The caller over the bot."""
    hears_turns: bool = False
    """The beginnings and ends of what the caller says."""
    hears_digits: bool = False
    """Keypad tones in the audio."""
    preset: str = "balanced"
    new_detector: Callable[[], SpeechDetector] | None = None
    """Another voice detector than the native one; each call has its own."""

    @property
    def is_needed(self) -> bool:
        """Any of it is wanted."""
        return self.hears_overlap or self.hears_turns or self.hears_digits


NO_EARS = EarsPlan()


def build_tap(plan: MediaPlan, ears: EarsPlan, now: float) -> Tap:
    """The tap of one call.

    Raises:
        ConfigurationError: the voice detector asked for is not installed.
    """
    media = plan.offer.format
    tap = Tap(media.encoding.value, media.sample_rate, has_wav_header=plan.offer.has_wav_header)
    if ears.is_needed:
        listens_for_speech = ears.hears_overlap or ears.hears_turns
        detector = ears.new_detector() if ears.new_detector is not None and listens_for_speech else None
        tap.open_ears(
            now,
            speech=ears.hears_turns,
            overlap=ears.hears_overlap,
            digits=ears.hears_digits,
            preset=ears.preset,
            confirm_ms=OVERLAP_CONFIRM_MS,
            detector=None if detector is None else detector.process,
        )
    return tap
