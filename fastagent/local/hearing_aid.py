"""Telephone speech made palatable to an acoustic model of 16 kHz speech.

Such a model looks at 130–6800 Hz; a telephone line ends below 4 kHz, which takes the features out of the
trained range. Two kinds of noise put them back: a little white noise everywhere, and noise above 4 kHz that
follows the loudness just below it, which is where "s", "f" and "x" would have been heard.
"""

from typing import Any

import numpy as np
import soxr

__all__ = ["SAMPLE_RATE", "prepare"]

Samples = np.ndarray[Any, np.dtype[np.float32]]

SAMPLE_RATE = 16_000
FLOOR_SIGMA = 30.0
"""Standard deviation of the white noise, in int16 steps."""
SEED = 5
"""The noise is the same every time: an utterance is always heard alike."""
MARGIN_MS = 30
"""Kept before the first and after the last loud moment, and as much noise around that."""
LEVEL = 3_000.0
"""Root mean square that speech is brought to, in int16 steps; the noise is measured against it."""
GAIN_MAX = 10.0
HISS_GAIN = 5.0
HISS_STEP_MS = 5
LINE_END_RATIO = 0.1
"""Sound above the telephone band as loud as this share of its upper end: the audio is wide-band already."""
LEVEL_MIN = 300.0
"""Smallest peak, in int16 steps, that counts as speech."""
LEVEL_RATIO = 0.06
"""A moment is loud when its peak reaches this share of the utterance's."""
TAPS = 63


def _low_pass(cutoff_hz: int) -> Samples:
    """A windowed sinc at 16 kHz, unity gain at 0 Hz."""
    time = np.arange(TAPS) - TAPS // 2
    kernel = np.sinc(2 * cutoff_hz / SAMPLE_RATE * time) * np.hamming(TAPS)
    unity: Samples = (kernel / kernel.sum()).astype(np.float32)
    return unity


_VOICED = _low_pass(2_000)
_UPPER = _low_pass(3_900) - _low_pass(2_800)
_BEYOND = _low_pass(7_200) - _low_pass(4_300)


def prepare(pcm: bytes, sample_rate: int) -> tuple[bytes, int]:
    """The utterance at 16 kHz, ready to decode, and how many milliseconds lie between its loud ends.

    Args:
        pcm: PCM16 mono.
        sample_rate: of ``pcm``, in Hz.
    """
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    if sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ")
    begin, end = _loud_part(samples)
    if begin == end:
        return b"", 0
    margin = SAMPLE_RATE * MARGIN_MS // 1000
    speech = samples[max(0, begin - margin) : end + margin]
    speech = speech * min(LEVEL / max(float(np.sqrt((speech**2).mean())), 1.0), GAIN_MAX)
    noise = np.random.default_rng(SEED)
    speech = np.pad(speech + _hiss(speech, noise), margin)
    speech += noise.normal(0.0, FLOOR_SIGMA, len(speech))
    return np.clip(speech, -32768, 32767).astype("<i2").tobytes(), (end - begin) * 1000 // SAMPLE_RATE


def _loud_part(samples: Samples) -> tuple[int, int]:
    """Where the first loud 10 ms begin and the last end; equal when there are none."""
    width = SAMPLE_RATE // 100
    whole = len(samples) // width * width
    if not whole:
        return 0, 0
    peaks = np.abs(samples[:whole].reshape(-1, width)).max(axis=1)
    loud = np.flatnonzero(peaks > max(LEVEL_MIN, LEVEL_RATIO * float(peaks.max())))
    return (int(loud[0]) * width, (int(loud[-1]) + 1) * width) if len(loud) else (0, 0)


def _hiss(speech: Samples, noise: np.random.Generator) -> Samples:
    """Noise above 4 kHz, as loud as the speech's upper end where that outweighs the voice below it."""
    upper, voiced = _loudness(speech, _UPPER), _loudness(speech, _VOICED)
    if _loudness(speech, _BEYOND).sum() > LINE_END_RATIO * upper.sum():
        return np.zeros(len(speech), np.float32)
    gain = HISS_GAIN * upper * np.minimum(upper / (voiced + FLOOR_SIGMA), 1.0)
    steps = (np.arange(len(gain)) + 0.5) * SAMPLE_RATE * HISS_STEP_MS / 1000
    envelope = np.interp(np.arange(len(speech)), steps, gain)
    white = np.convolve(noise.normal(0.0, 1.0, len(speech)), _BEYOND, mode="same")
    shaped: Samples = (envelope * white / max(float(white.std()), 1e-6)).astype(np.float32)
    return shaped


def _loudness(speech: Samples, kernel: Samples) -> Samples:
    """Root mean square of a band in steps of 5 ms, smoothed over three."""
    band = np.convolve(speech, kernel, mode="same")[: len(speech)]
    width = SAMPLE_RATE * HISS_STEP_MS // 1000
    steps = band[: len(band) // width * width].reshape(-1, width)
    smooth: Samples = np.convolve(np.sqrt((steps**2).mean(axis=1)), np.ones(3) / 3, mode="same").astype(
        np.float32
    )
    return smooth
