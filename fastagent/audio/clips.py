"""A clip: audio of known length that is played into calls, such as music on hold or an announcement."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr

from fastagent._native import g711
from fastagent.audio.clip_files import ClipLimits, decode_file
from fastagent.audio.formats import AudioFormat, Encoding

__all__ = ["LEVEL_DBFS_MIN", "PEAK_DBFS_MAX", "Clip"]

LEVEL_DBFS_MIN = -60.0
PEAK_DBFS_MAX = -1.0
"""Where levelling leaves the highest peak at most; resampling may still raise it by a fraction of a dB."""
GAIN_DB_MAX = 30.0
"""Levelling raises no further: what is quieter is noise."""
LEVEL_BLOCK_MS = 50
GATE_DB = 20.0
"""Blocks this far below the loudest one are pauses, and say nothing about the level."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Mono samples at any rate, full scale ±1; immutable, so threads may share it."""

    samples: npt.NDArray[np.float32] = field(repr=False)
    sample_rate: int

    @classmethod
    def from_file(cls, data: bytes, limits: ClipLimits) -> "Clip":
        """The clip that an audio file holds; errors as `decode_file`."""
        return cls(*decode_file(data, limits))

    @property
    def duration_s(self) -> float:
        """How long it plays."""
        return len(self.samples) / self.sample_rate

    @property
    def level_dbfs(self) -> float:
        """RMS level where it sounds, its pauses left out; -inf for silence.

        0 is the RMS of a full-scale square wave (the dBov of ITU-T G.100.1), so a full-scale sine has -3.
        """
        block = min(len(self.samples), max(1, self.sample_rate * LEVEL_BLOCK_MS // 1000))
        if block == 0:
            return -math.inf
        powers = np.add.reduceat(np.square(self.samples), np.arange(0, len(self.samples), block)) / block
        sounding = powers[powers >= powers.max() * 10 ** (-GATE_DB / 10)]
        mean = float(sounding.mean(dtype=np.float64))
        return 10 * math.log10(mean) if mean > 0 else -math.inf

    def at_level(self, level_dbfs: float) -> "Clip":
        """The clip made louder or quieter as a whole, so that its level is ``level_dbfs``.

        It stays below that where its peaks would exceed `PEAK_DBFS_MAX`; nothing is compressed or clipped.

        Raises:
            ValueError: the level is not from `LEVEL_DBFS_MIN` to 0.
        """
        if not LEVEL_DBFS_MIN <= level_dbfs <= 0:
            raise ValueError(f"expected a level of {LEVEL_DBFS_MIN:g} to 0 dBFS, got {level_dbfs:g}")
        level = self.level_dbfs
        if level == -math.inf:
            return self
        peak_dbfs = 20 * math.log10(float(np.abs(self.samples).max()))
        gain_db = min(level_dbfs - level, PEAK_DBFS_MAX - peak_dbfs, GAIN_DB_MAX)
        return Clip(self.samples * np.float32(10 ** (gain_db / 20)), self.sample_rate)

    def encoded(self, format: AudioFormat) -> bytes:
        """The whole clip in a call's format, without a header.

        Resampled once, end to end, at soxr's very high quality. What was beyond full scale saturates. A clip
        too short for one sample of ``format`` gives one.
        """
        samples = self.samples
        if self.sample_rate != format.sample_rate:
            samples = soxr.resample(samples, self.sample_rate, format.sample_rate, quality="VHQ")
        if len(samples) == 0:
            samples = self.samples[:1]
        scaled = np.rint(samples * np.float32(2**15))
        pcm: bytes = np.clip(scaled, -(2**15), 2**15 - 1).astype("<i2").tobytes()
        match format.encoding:
            case Encoding.PCM16:
                return pcm
            case Encoding.MULAW:
                return g711.ulaw_encode(pcm)
            case Encoding.ALAW:
                return g711.alaw_encode(pcm)
