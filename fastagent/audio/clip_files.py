"""Audio files as mono samples: WAV by ourselves, other containers by the optional package soundfile.

A file is taken whole, from the disk or from a request, so every size it claims is held against limits before
anything is allocated for it. Sources: as `fastagent.audio.wav`; RFC 9639 (FLAC), RFC 3533 (Ogg),
ISO/IEC 11172-3 (MP3 frame header), ID3v2.4 for their first bytes.
"""

import importlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastagent._native import g711
from fastagent.audio.wav import (
    STREAMING_SIZE_MIN,
    SUBFORMAT_TAIL,
    TAG_ALAW,
    TAG_EXTENSIBLE,
    TAG_MULAW,
    TAG_PCM,
)
from fastagent.errors import AudioError, ClipTooLargeError, FormatMismatchError

__all__ = ["MEDIA_TYPES", "ClipLimits", "container_of", "decode_file"]

Samples = npt.NDArray[np.float32]
"""Mono, full scale is ±1."""

TAG_FLOAT = 3
SAMPLE_RATE_MIN = 4_000
SAMPLE_RATE_MAX = 192_000
CHANNELS_MAX = 32
FRAMES_UNKNOWN_MIN = 1 << 62
"""libsndfile gives the largest int64 for a stream that was written to a pipe."""
BLOCK_FRAMES = 65_536
"""Decoded and mixed down at once: the memory beside file and result, and how long a GIL may be held."""
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
"""The containers that are known, and their media types."""


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """How large a clip may be; a larger one is refused, never cut short."""

    file_bytes: int = 32 << 20
    """The file as stored."""
    duration_s: float = 300.0
    samples: int = 16_000_000
    """After mixing down, at the file's own rate: 64 MB while it is converted, 333 s at 48 kHz."""

    def check_file(self, size_bytes: int) -> None:
        """Refuse a file for its size.

        Raises:
            ClipTooLargeError: it is larger than ``file_bytes``.
        """
        if size_bytes > self.file_bytes:
            raise ClipTooLargeError(
                f"expected at most {self.file_bytes} bytes of audio file, got {size_bytes}"
            )

    def check_length(self, frames: int, sample_rate: int) -> None:
        """Refuse audio for its length.

        Raises:
            ClipTooLargeError: it lasts longer than ``duration_s``, or has more than ``samples``.
        """
        if frames > self.duration_s * sample_rate:
            raise ClipTooLargeError(
                f"expected at most {self.duration_s:g} s of audio, got {frames / sample_rate:.1f} s"
            )
        if frames > self.samples:
            raise ClipTooLargeError(f"expected at most {self.samples} samples a channel, got {frames}")


def container_of(data: bytes) -> str | None:
    """The container that the first bytes tell: a key of `MEDIA_TYPES`, or None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "ogg"
    # A frame of MPEG audio: eleven sync bits, a version that exists, layer III.
    is_frame = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[1] & 0x18 != 0x08
    return "mp3" if data[:3] == b"ID3" or is_frame else None


def decode_file(data: bytes, limits: ClipLimits) -> tuple[Samples, int]:
    """The samples of an audio file, its channels averaged, and their rate in Hz.

    Values beyond full scale, which files of floats may hold, saturate.

    Raises:
        ClipTooLargeError: a limit is exceeded.
        FormatMismatchError: no audio file, a broken one, or of a kind that is not supported.
        AudioError: reading it needs the package soundfile.
    """
    limits.check_file(len(data))
    container = container_of(data)
    if container is None:
        raise FormatMismatchError(
            f"expected an audio file ({', '.join(MEDIA_TYPES)}), got {len(data)} other bytes"
        )
    if container == "wav" and (layout := _wav_layout(data)) is not None:
        frames = len(layout.data) // layout.block_bytes
        sample_rate = layout.sample_rate
        blocks = _wav_blocks(layout)
        return _mix(blocks, frames, sample_rate, limits), sample_rate
    return _decode_foreign(data, container, limits)


def _mix(blocks: Iterator[npt.NDArray[Any]], frames: int, sample_rate: int, limits: ClipLimits) -> Samples:
    """Average the channels of ``blocks`` (frames by channels), which together hold ``frames``, or fewer."""
    if not SAMPLE_RATE_MIN <= sample_rate <= SAMPLE_RATE_MAX:
        raise FormatMismatchError(
            f"expected a sample rate of {SAMPLE_RATE_MIN} to {SAMPLE_RATE_MAX} Hz, got {sample_rate}"
        )
    limits.check_length(frames, sample_rate)
    mono = np.zeros(frames, np.float32)
    at = 0
    for block in blocks:
        with np.errstate(over="ignore", invalid="ignore"):  # looked for next
            mixed: Samples = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mixed).all():
            raise FormatMismatchError("expected finite samples, got NaN or infinity")
        size = min(len(mixed), frames - at)
        np.clip(mixed[:size], -1.0, 1.0, out=mono[at : at + size])
        at += size
    if at == 0:
        raise FormatMismatchError("expected audio, got a file without samples")
    return mono[:at]


# WAV


@dataclass(frozen=True, slots=True)
class _WavLayout:
    data: memoryview
    channels: int
    sample_rate: int
    block_bytes: int
    decode: Callable[[bytes], npt.NDArray[Any]]
    """Samples as stored to floats, channels still interleaved."""


def _wav_layout(data: bytes) -> _WavLayout | None:
    """Where and what the samples of a WAV are; None for an encoding that only soundfile might know."""
    fmt: bytes | None = None
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if name == b"fmt ":
            fmt = data[at : at + size]
        elif name == b"data":
            if fmt is None:
                raise FormatMismatchError("expected a WAV fmt chunk before the data chunk")
            # A writer that never came back to fill in the sizes leaves its maximum, or zeros in both places.
            is_stream = size >= STREAMING_SIZE_MIN or (size == 0 and riff_bytes == 0)
            if not is_stream and at + size > len(data):
                raise FormatMismatchError(f"expected {size} bytes of WAV samples, got {len(data) - at}")
            return _parse_fmt(fmt, memoryview(data)[at : len(data) if is_stream else at + size])
        at += size + size % 2
    raise FormatMismatchError("expected a WAV with a data chunk")


def _parse_fmt(fmt: bytes, data: memoryview) -> _WavLayout | None:
    if len(fmt) < 16:
        raise FormatMismatchError(f"expected a WAV fmt chunk of at least 16 bytes, got {len(fmt)}")
    tag, channels, sample_rate, _bytes_per_s, block_bytes, _bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == TAG_EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] == SUBFORMAT_TAIL:
        (tag,) = struct.unpack_from("<H", fmt, 24)
    if not 1 <= channels <= CHANNELS_MAX:
        raise FormatMismatchError(f"expected 1 to {CHANNELS_MAX} channels, got {channels}")
    # The container counts, not the bits in use: samples are justified to its top.
    decode = _DECODERS.get((tag, block_bytes // channels))
    if decode is None or block_bytes % channels:
        return None
    return _WavLayout(data, channels, sample_rate, block_bytes, decode)


def _wav_blocks(layout: _WavLayout) -> Iterator[npt.NDArray[Any]]:
    whole = len(layout.data) - len(layout.data) % layout.block_bytes
    step = BLOCK_FRAMES * layout.block_bytes
    for at in range(0, whole, step):
        samples = layout.decode(bytes(layout.data[at : min(at + step, whole)]))
        yield samples.reshape(-1, layout.channels)


def _pcm8(data: bytes) -> npt.NDArray[Any]:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0


def _pcm16(data: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(data, "<i2").astype(np.float32) / 2.0**15


def _pcm24(data: bytes) -> npt.NDArray[Any]:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return _pcm32(wide.tobytes())


def _pcm32(data: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(data, "<i4").astype(np.float32) / 2.0**31


_DECODERS: dict[tuple[int, int], Callable[[bytes], npt.NDArray[Any]]] = {
    (TAG_PCM, 1): _pcm8,
    (TAG_PCM, 2): _pcm16,
    (TAG_PCM, 3): _pcm24,
    (TAG_PCM, 4): _pcm32,
    (TAG_FLOAT, 4): lambda data: np.frombuffer(data, "<f4"),
    (TAG_FLOAT, 8): lambda data: np.frombuffer(data, "<f8"),
    (TAG_MULAW, 1): lambda data: _pcm16(g711.ulaw_decode(data)),
    (TAG_ALAW, 1): lambda data: _pcm16(g711.alaw_decode(data)),
}
"""By format tag and bytes per sample."""


# Everything else


def _decode_foreign(data: bytes, container: str, limits: ClipLimits) -> tuple[Samples, int]:
    try:
        soundfile = importlib.import_module("soundfile")
    except (ImportError, OSError):  # OSError: the package without its library
        raise AudioError(
            f"reading this {container} file needs soundfile: pip install 'fastagent[export]'"
        ) from None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if not 1 <= file.channels <= CHANNELS_MAX:
                raise FormatMismatchError(f"expected 1 to {CHANNELS_MAX} channels, got {file.channels}")
            if file.frames >= FRAMES_UNKNOWN_MIN:
                raise FormatMismatchError(f"expected a {container} file that says how long it is")
            # Some containers only estimate their length, so it is counted again while decoding.
            blocks = file.blocks(blocksize=BLOCK_FRAMES, dtype="float32", always_2d=True)
            samples = _mix(blocks, file.frames, file.samplerate, limits)
            return samples, file.samplerate
    except AudioError:
        raise
    except Exception:  # a broken file brings out most kinds; the library's words may quote the file's tags
        raise FormatMismatchError(
            f"this {container} file is broken, or of a kind that is not supported"
        ) from None
