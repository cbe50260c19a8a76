"""Who is speaking: voice activity over a tracked noise floor, and the end of a turn.

::

    QUIET --onset--> SPEAKING --silence_duration_ms of quiet--> QUIET

Sans-I/O: samples in, verdicts out, positions in samples since the stream began.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SpeechEnd", "SpeechStart", "TurnDetector"]

FRAME_MS = 10
ONSET_FRAMES = 6
"""Loud frames needed to believe in speech…"""
ONSET_WINDOW = 10
"""…among so many: a click is shorter."""
FLOOR_START_DB = -42.0
"""Before the first quiet frame: as loud as a noisy street, or its noise would pass for a long first turn."""
FLOOR_MIN_DB = -66.0
"""dBFS. Digital silence must not make the faintest hiss look like speech."""
FLOOR_MAX_DB = -30.0
FLOOR_RISE_DB_PER_S = 4.0
"""How fast the floor follows a louder background; it follows a quieter one at once."""
FLOOR_RISE_SPEECH_DB_PER_S = 0.5
"""The same during speech: slow, yet a noise that came to stay ends by itself."""
MARGIN_MIN_DB = 4.0
MARGIN_SPAN_DB = 16.0
"""Speech is louder than the floor by MIN plus threshold × SPAN: 12 dB at 0.5."""
HYSTERESIS_DB = 3.0
"""A frame in the middle of speech may be so much quieter than its beginning had to be."""
FULL_SCALE = 32768.0


@dataclass(frozen=True, slots=True)
class SpeechStart:
    """Speech began at ``position``; it was believed at ``decided_position``, some frames later."""

    position: int
    decided_position: int


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """The silence after speech has lasted long enough, at ``decided_position``."""

    decided_position: int


class TurnDetector:
    """Finds turns in a stream of int16 samples.

    Args:
        sample_rate: Hz.
        threshold: 0 to 1, higher needs louder speech.
        silence_duration_ms: quiet that ends a turn.
        position: where in the stream the first sample stands.
    """

    def __init__(
        self, sample_rate: int, *, threshold: float = 0.5, silence_duration_ms: int = 500, position: int = 0
    ) -> None:
        self.is_speaking = False
        self._sample_rate = sample_rate
        self._frame_samples = sample_rate * FRAME_MS // 1000
        self._rest = np.zeros(0, np.int16)
        self._position = position
        self._floor_db = FLOOR_START_DB
        self._recent: list[bool] = []
        self._quiet_frames = 0
        self.configure(threshold=threshold, silence_duration_ms=silence_duration_ms)

    def configure(self, *, threshold: float, silence_duration_ms: int) -> None:
        """Change the settings; the state of the current turn is kept."""
        self._margin_db = MARGIN_MIN_DB + MARGIN_SPAN_DB * threshold
        self._silence_frames = max(1, silence_duration_ms // FRAME_MS)

    def process(self, samples: np.ndarray[Any, np.dtype[np.int16]]) -> list[SpeechStart | SpeechEnd]:
        """Take the next samples, any number of them; give what they decided, in order."""
        if len(self._rest):
            samples = np.concatenate([self._rest, samples])
        count = len(samples) // self._frame_samples
        used = count * self._frame_samples
        self._rest = samples[used:].copy()
        if not count:
            return []
        frames = samples[:used].reshape(count, self._frame_samples).astype(np.float32)
        # A line's DC offset is not loudness.
        power = frames.var(axis=1) / FULL_SCALE**2
        levels_db = 10.0 * np.log10(power + 1e-10)
        verdicts: list[SpeechStart | SpeechEnd] = []
        for level_db in levels_db.tolist():
            self._position += self._frame_samples
            verdict = self._frame(level_db)
            if verdict is not None:
                verdicts.append(verdict)
        return verdicts

    def reset(self) -> None:
        """Forget the current turn; the floor stays."""
        self.is_speaking = False
        self._recent = []
        self._quiet_frames = 0

    def _frame(self, level_db: float) -> SpeechStart | SpeechEnd | None:
        margin_db = self._margin_db - (HYSTERESIS_DB if self.is_speaking else 0.0)
        is_loud = level_db > self._floor_db + margin_db
        rise_db_per_s = FLOOR_RISE_SPEECH_DB_PER_S if is_loud else FLOOR_RISE_DB_PER_S
        raised_db = self._floor_db + rise_db_per_s * FRAME_MS / 1000
        self._floor_db = min(max(min(level_db, raised_db), FLOOR_MIN_DB), FLOOR_MAX_DB)
        if self.is_speaking:
            self._quiet_frames = 0 if is_loud else self._quiet_frames + 1
            if self._quiet_frames < self._silence_frames:
                return None
            self.reset()
            return SpeechEnd(self._position)
        self._recent = [*self._recent[1 - ONSET_WINDOW :], is_loud]
        if sum(self._recent) < ONSET_FRAMES:
            return None
        first_loud = len(self._recent) - self._recent.index(True)
        self.is_speaking = True
        self._quiet_frames = 0
        return SpeechStart(self._position - first_loud * self._frame_samples, self._position)
