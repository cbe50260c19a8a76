"""Level and quality meter of one direction of a call: always on, about 40 ns per 20 ms frame in C.

All sums are exact integers and time is counted in blocks of 20 ms from the first sample, so every figure but
the arrivals is the same for any chunking. dBFS is relative to the square wave at full scale (dBov of ITU-T
G.100.1: a sine at full scale has -3.01), dBm0 to the digital milliwatt of ITU-T G.711.
"""

from typing import Final, Literal, NamedTuple, final

from typing_extensions import Buffer

FLOOR_DB: Final[float]
"""What digital silence measures, in dBFS: no level is lower (RFC 6464)."""

SILENCE_DBFS: Final[float]
"""A block of 20 ms whose RMS is below this is silent."""

class LevelFigures(NamedTuple):
    """What a meter has seen since it was made or reset."""

    samples: int

    rms_dbfs: float
    """Of everything, DC included."""

    rms_dbm0: float

    recent_rms_dbfs: float
    """Of the newest 0.9 to 1.0 s."""

    recent_rms_dbm0: float

    peak: int
    """Greatest magnitude, 0 to 32768."""

    peak_dbfs: float

    clipped_samples: int
    """All samples that stand in runs of three and more at one rail.

    The rail is the encoding's own end: 32124 in mu-law, 32256 in A-law, 32767 in PCM16, either sign.
    """

    clip_runs: int

    dc_offset: float
    """The mean sample."""

    silence_share: float
    """Silent blocks among all whole blocks, 0 to 1."""

    silence_s: float
    """How long it has been silent up to now; 0 while it is not."""

    silence_max_s: float

    age_s: float | None
    """Time since audio last arrived; None before the first."""

    gap_max_s: float
    """The longest time between two arrivals; one that has not ended shows in ``age_s`` alone."""

@final
class LevelMeter:
    """Measures level, clipping, silence and arrivals of a stream of int16 samples, little-endian, mono."""

    def __new__(
        cls, sample_rate: int = 8000, encoding: Literal["pcm16", "mulaw", "alaw"] = "pcm16"
    ) -> LevelMeter:
        """Prepare for a rate in Hz and for what the samples were stored as before they were decoded.

        Raises:
            ValueError: the rate is no multiple of 50 in 8000 to 48000, or the encoding is another.
        """

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def encoding(self) -> str:
        """Sets the rails and 0 dBm0."""

    def process(self, pcm: Buffer, now: float, /) -> None:
        """Take a chunk of any length that arrived at ``now``, in monotonic seconds; empty is no arrival.

        A clock that stands still or runs back gives no gap.

        Raises:
            ValueError: ``pcm`` has an odd number of bytes, or ``now`` is negative or not finite; nothing has
                been taken.
        """

    def snapshot(self, now: float, /) -> LevelFigures:
        """All figures as of ``now``."""

    def reset(self) -> None:
        """Forget all samples and arrivals, as if newly made."""
