"""The level meter's figures from a whole stream at once, as their definitions read; Python's integers."""

import math
from dataclasses import dataclass
from itertools import groupby

FULL_SCALE_SQUARE = 32768**2
RAILS = {"pcm16": 32767, "mulaw": 32124, "alaw": 32256}
MILLIWATT_DBFS = {"pcm16": -6.15, "mulaw": -6.22, "alaw": -6.15}
CLIP_RUN = 3
BLOCKS_PER_S = 50


@dataclass(frozen=True)
class Figures:
    samples: int
    rms_dbfs: float
    rms_dbm0: float
    recent_rms_dbfs: float
    recent_rms_dbm0: float
    peak: int
    peak_dbfs: float
    clipped_samples: int
    clip_runs: int
    dc_offset: float
    silence_share: float
    silence_s: float
    silence_max_s: float


def dbfs(pcm: list[int]) -> float:
    square = sum(sample * sample for sample in pcm)
    if square == 0:
        return -127.0
    return max(-127.0, 10 * math.log10(square / len(pcm) / FULL_SCALE_SQUARE))


def recent(pcm: list[int], block: int) -> list[int]:
    """The slot of 100 ms that the last whole block stands in, the nine before, and what follows them."""
    blocks = len(pcm) // block
    last_slot = max(blocks - 1, 0) // 5
    return pcm[max(last_slot - 9, 0) * 5 * block :]


def figures(pcm: list[int], sample_rate: int, encoding: str) -> Figures:
    block = sample_rate // BLOCKS_PER_S
    rail = RAILS[encoding]
    sides = [(sample >= rail) - (sample <= -rail) for sample in pcm]
    runs = [(side, len(list(run))) for side, run in groupby(sides)]
    clips = [length for side, length in runs if side and length >= CLIP_RUN]
    blocks = [pcm[i : i + block] for i in range(0, len(pcm) - block + 1, block)]
    silent = [sum(s * s for s in b) * 10**6 < block * FULL_SCALE_SQUARE for b in blocks]
    stretches = [(is_silent, len(list(run))) for is_silent, run in groupby(silent)]
    silences = [length for is_silent, length in stretches if is_silent]
    peak = max((abs(sample) for sample in pcm), default=0)
    milliwatt = MILLIWATT_DBFS[encoding]
    now = recent(pcm, block)
    return Figures(
        samples=len(pcm),
        rms_dbfs=dbfs(pcm),
        rms_dbm0=dbfs(pcm) - milliwatt,
        recent_rms_dbfs=dbfs(now),
        recent_rms_dbm0=dbfs(now) - milliwatt,
        peak=peak,
        peak_dbfs=dbfs([peak]),
        clipped_samples=sum(clips),
        clip_runs=len(clips),
        dc_offset=sum(pcm) / len(pcm) if pcm else 0.0,
        silence_share=sum(silent) / len(silent) if silent else 0.0,
        silence_s=stretches[-1][1] / BLOCKS_PER_S if stretches and stretches[-1][0] else 0.0,
        silence_max_s=max(silences, default=0) / BLOCKS_PER_S,
    )
