"""The inputs of all benchmarks: fixed seeds, sizes in units of the field."""

import random
from functools import cache

import numpy as np

PTIME_MS = 20
"""Audio per frame on a telephone leg."""

DELTA_MS = 100
"""Audio per delta from a model: a usual size."""

MEBIBYTE = 1 << 20


@cache
def voice(sample_rate: int, duration_ms: int, seed: int = 1) -> bytes:
    """PCM16 with the spectrum and the pauses of speech, roughly: shaped noise under a slow envelope."""
    generator = np.random.default_rng(seed)
    count = sample_rate * duration_ms // 1000
    shaped = np.convolve(generator.standard_normal(count), np.hanning(9), mode="same")
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * np.arange(count) / sample_rate)
    return np.clip(shaped * envelope * 5000, -32768, 32767).astype("<i2").tobytes()


@cache
def payload(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes of any value."""
    return random.Random(seed).randbytes(size_bytes)
