"""What callers and the model say: speech cut into words that begin at known places, as clips of frames.

A clip can be found again in what a server makes of it. Its words are laid on a grid of 100 ms with quiet
between them, each beginning 10 ms after a line of the grid with a loud sample. Such a *mark* survives mu-law,
other rates and other sizes of message, and is farther from the edges of frames than a resampler delays.
"""

import base64
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from fastagent._native import g711
from fastagent._native.load import LOUD, QUIET_MS, SIGN_LEVEL, sign_intervals_ms
from fastagent.audio.formats import AudioFormat, Encoding

__all__ = [
    "FRAME_MS",
    "SPEECH_RATE",
    "Clip",
    "Speech",
    "babble",
    "lay_words",
    "sign_clip",
    "silence_clip",
    "speech_clip",
]

SPEECH_RATE = 24_000
FRAME_MS = 20
GRID_MS = 100
MARK_MS = 10
"""Where on the grid a word begins."""
GAP_MS = QUIET_MS + 40
"""Quiet before each word, at the least: more than a mark needs, less than an end of speech."""
TAIL_MS = 200
WORD_BREAK_MS = 40
WORD_MS_MIN = 30
PEAK = 20_000
MURMUR_MS = 6
MURMUR_HZ = 1000
MURMUR_PEAK = 2 * SIGN_LEVEL
"""Far below what is loud, and below what detectors take for speech."""

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Speech:
    """PCM16 at `SPEECH_RATE` whose words lie on the grid."""

    pcm: Samples
    marks_ms: tuple[int, ...]

    @property
    def duration_ms(self) -> int:
        """A whole number of grid steps."""
        return len(self.pcm) * 1000 // SPEECH_RATE


@dataclass(frozen=True, slots=True)
class Clip:
    """Base64 frames for the engine, with what is loud in them and where the marks are."""

    text: bytes
    frames: int
    frame_ms: int
    flags: bytes
    mark_us: bytes


def lay_words(pcm: bytes, sample_rate: int) -> Speech:
    """Lay speech on the grid.

    Args:
        pcm: PCM16, mono.

    Raises:
        ValueError: nothing in it is loud.
    """
    given = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    if sample_rate != SPEECH_RATE:
        given = np.asarray(soxr.resample(given, sample_rate, SPEECH_RATE, quality="HQ"), dtype=np.float32)
    peak = float(np.abs(given).max(initial=0.0))
    if peak < 1:
        raise ValueError("expected speech, got silence")
    loud_enough = np.clip(given * (PEAK / peak), -32768, 32767).astype(np.int16)
    laid: list[Samples] = []
    marks_ms: list[int] = []
    at = 0
    for word in _words(loud_enough):
        start = _next_mark(at)
        laid += [np.zeros(start - at, dtype=np.int16), word]
        marks_ms.append(start * 1000 // SPEECH_RATE)
        at = start + len(word)
    step = GRID_MS * SPEECH_RATE // 1000
    end = -(-(at + TAIL_MS * SPEECH_RATE // 1000) // step) * step
    laid.append(np.zeros(end - at, dtype=np.int16))
    return Speech(np.concatenate(laid), tuple(marks_ms))


def _words(pcm: Samples) -> list[Samples]:
    """Stretches without a pause, each from its first loud sample to its last."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) >= int(LOUD * 1.1))
    breaks = np.flatnonzero(np.diff(loud) >= WORD_BREAK_MS * SPEECH_RATE // 1000)
    firsts = np.concatenate(([loud[0]], loud[breaks + 1]))
    lasts = np.concatenate((loud[breaks], [loud[-1]]))
    least = WORD_MS_MIN * SPEECH_RATE // 1000
    return [pcm[a : b + 1] for a, b in zip(firsts, lasts, strict=True) if b - a >= least]


def _next_mark(at: int) -> int:
    # Before the first word there is quiet already: the line's, or the end of what was said before.
    earliest_ms = at * 1000 / SPEECH_RATE + GAP_MS if at else MARK_MS
    return (math.ceil((earliest_ms - MARK_MS) / GRID_MS) * GRID_MS + MARK_MS) * SPEECH_RATE // 1000


@functools.cache
def babble(duration_ms: int, seed: int) -> Speech:
    """Speech-like sound without words, the same for the same seed: voiced syllables with two formants."""
    chance = np.random.default_rng(seed)
    pieces: list[Samples] = []
    total = 0
    while total < duration_ms:
        length_ms = int(chance.integers(120, 420))
        t = np.arange(length_ms * SPEECH_RATE // 1000) / SPEECH_RATE
        pitch = 110 + 70 * chance.random() + 25 * np.sin(2 * np.pi * 3 * t)
        phase = 2 * np.pi * np.cumsum(pitch) / SPEECH_RATE
        formants = (350 + 500 * chance.random(), 900 + 1300 * chance.random())
        voice = np.zeros_like(t)
        for harmonic in range(1, 24):
            hz = harmonic * 145
            gain = sum(math.exp(-(((hz - f) / 220) ** 2)) for f in formants) + 0.05
            voice += gain * np.sin(harmonic * phase)
        voice *= np.minimum(1, (length_ms / 1000 - t) / 0.03)
        pieces += [(voice / np.abs(voice).max() * PEAK).astype(np.int16), np.zeros(1200, dtype=np.int16)]
        total += length_ms + 150
    return lay_words(np.concatenate(pieces).tobytes(), SPEECH_RATE)


def speech_clip(speech: Speech, audio_format: AudioFormat, frame_ms: int) -> Clip:
    """The clip in a format, in frames of ``frame_ms`` (a divisor of 100)."""
    pcm = speech.pcm
    if audio_format.sample_rate != SPEECH_RATE:
        smooth = soxr.resample(pcm.astype(np.float32), SPEECH_RATE, audio_format.sample_rate, quality="HQ")
        pcm = np.clip(smooth, -32768, 32767).astype(np.int16)
    frames = speech.duration_ms // frame_ms
    size = audio_format.samples_in_ms(frame_ms)
    by_frame = np.abs(pcm[: frames * size].reshape(frames, size).astype(np.int32)).max(axis=1) >= LOUD
    marks = {at // frame_ms: at % frame_ms for at in speech.marks_ms}
    flags = bytes(int(by_frame[i]) | (2 if i in marks else 0) for i in range(frames))
    mark_us = np.array([marks.get(i, 0) * 1000 for i in range(frames)], dtype=np.uint32)
    data = _encoded(pcm.tobytes(), audio_format)
    return Clip(
        _base64_frames(data, audio_format, frame_ms, frames), frames, frame_ms, flags, mark_us.tobytes()
    )


def silence_clip(audio_format: AudioFormat, frame_ms: int) -> Clip:
    """One second of what a line carries while nobody speaks: faint noise, no two frames the same."""
    frames = 1000 // frame_ms
    noise = np.random.default_rng(audio_format.sample_rate).integers(-8, 9, audio_format.sample_rate)
    if audio_format.encoding is not Encoding.PCM16:
        noise = noise * 6  # else too few codes to tell frames apart
    data = _encoded(noise.astype("<i2").tobytes(), audio_format)
    text = _base64_frames(data, audio_format, frame_ms, frames)
    return Clip(text, frames, frame_ms, bytes(frames), bytes(4 * frames))


def sign_clip(number: int, audio_format: AudioFormat, frame_ms: int) -> Clip:
    """A caller's number in faint murmurs, to be sent over and over: `fa_sign.h` says how it is read.

    Raises:
        ValueError: not below `SIGN_NUMBERS`.
    """
    begin_ms, *intervals_ms = sign_intervals_ms(number)
    frames = -(-(begin_ms + sum(intervals_ms)) // frame_ms)
    rate = audio_format.sample_rate
    pcm = np.zeros(frames * audio_format.samples_in_ms(frame_ms), dtype=np.float32)
    t = np.arange(MURMUR_MS * rate // 1000) / rate
    murmur = MURMUR_PEAK * np.cos(2 * np.pi * MURMUR_HZ * t)
    for at_ms in itertools.accumulate(intervals_ms, initial=0):
        at = at_ms * rate // 1000
        pcm[at : at + len(murmur)] = murmur
    text = _base64_frames(_encoded(pcm.astype("<i2").tobytes(), audio_format), audio_format, frame_ms, frames)
    return Clip(text, frames, frame_ms, bytes(frames), bytes(4 * frames))


def _encoded(pcm: bytes, audio_format: AudioFormat) -> bytes:
    match audio_format.encoding:
        case Encoding.MULAW:
            return g711.ulaw_encode(pcm)
        case Encoding.ALAW:
            return g711.alaw_encode(pcm)
        case Encoding.PCM16:
            return pcm


def _base64_frames(data: bytes, audio_format: AudioFormat, frame_ms: int, frames: int) -> bytes:
    size = audio_format.bytes_per_ms * frame_ms
    pieces: Sequence[bytes] = [base64.b64encode(data[i * size : (i + 1) * size]) for i in range(frames)]
    return b"".join(pieces)
