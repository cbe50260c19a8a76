"""Conversion of a whole stream as its parts define it: G.711 by formula, the resampler by its taps."""

import struct

from tests.reference import g711_reference, resample_reference

LAWS: dict[str, g711_reference.Law] = {"mulaw": "ulaw", "alaw": "alaw"}

FORMATS = (("pcm16", 8000), ("pcm16", 16000), ("pcm16", 24000), ("mulaw", 8000), ("alaw", 8000))
"""Encoding and sample rate in Hz of everything a carrier or a model speaks."""


def to_samples(audio: bytes, encoding: str) -> list[int]:
    """Whole samples; bytes of an unfinished one are left out."""
    if encoding != "pcm16":
        audio = g711_reference.decode(LAWS[encoding], audio)
    count = len(audio) // 2
    return list(struct.unpack(f"<{count}h", audio[: 2 * count]))


def to_bytes(samples: list[int], encoding: str) -> bytes:
    pcm = struct.pack(f"<{len(samples)}h", *samples)
    return pcm if encoding == "pcm16" else g711_reference.encode(LAWS[encoding], pcm)


def convert(
    audio: bytes, source: tuple[str, int], target: tuple[str, int], *, is_flushed: bool = False
) -> bytes:
    """All that has come out after ``audio`` went in, with the resampler's tail if the stream was flushed."""
    if source == target:
        return audio[: len(audio) // 2 * 2] if source[0] == "pcm16" else audio
    samples = to_samples(audio, source[0])
    if source[1] != target[1]:
        resample = resample_reference.flushed if is_flushed else resample_reference.resample
        samples = resample(samples, source[1], target[1])
    return to_bytes(samples, target[0])
