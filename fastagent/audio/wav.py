"""WAV files and streams: PCM16 and G.711 in RIFF/WAVE, with headers for audio whose end is not yet known.

Sources: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, WAVE); RFC 2361
(format tags); Microsoft, "WAVEFORMATEXTENSIBLE". All integers are little-endian. A streaming header says
0xFFFFFFFF for the sizes it cannot know, as common encoders do when they write to a pipe.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from fastagent.audio.formats import AudioFormat, Encoding
from fastagent.errors import FormatMismatchError

__all__ = ["WavHeader", "WavWriter", "header", "interleave", "parse_header", "read_wav", "write_stereo"]

TAG_PCM = 1
TAG_ALAW = 6
TAG_MULAW = 7
TAG_EXTENSIBLE = 0xFFFE
TAGS = {Encoding.PCM16: TAG_PCM, Encoding.ALAW: TAG_ALAW, Encoding.MULAW: TAG_MULAW}
ENCODINGS = {(TAG_PCM, 16): Encoding.PCM16, (TAG_ALAW, 8): Encoding.ALAW, (TAG_MULAW, 8): Encoding.MULAW}

SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in the GUID of a WAVE_FORMAT_EXTENSIBLE sub-format."""
UNKNOWN_SIZE = 0xFFFFFFFF
STREAMING_SIZE_MIN = 0x7FFFF000
"""Encoders that write to a pipe put this or more where the data size belongs."""
HEADER_BYTES_MAX = 65_536
"""Chunks before the data (tags, cues) may take this much; more is not a header."""
CHANNELS_MAX = 8
SAMPLE_RATE_MAX = 384_000
DATA_BYTES_MAX = STREAMING_SIZE_MIN - 1


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What a RIFF header says, and where the samples begin."""

    format: AudioFormat
    """Encoding and rate of one channel."""
    channels: int
    data_offset: int
    """Bytes from the start of the file to the first sample."""
    data_bytes: int | None
    """Bytes of samples; None when the writer did not know (a stream)."""


def parse_header(data: bytes | bytearray | memoryview) -> WavHeader | None:
    """Read the header at the start of ``data``; None when more bytes are needed to see all of it.

    Raises:
        FormatMismatchError: not RIFF/WAVE, or not PCM16 or G.711 inside.
    """
    text = bytes(data[: HEADER_BYTES_MAX + 8])
    if not (b"RIFF" + text[4:8] + b"WAVE").startswith(text[:12]):
        raise FormatMismatchError("expected a RIFF/WAVE header")
    if len(text) < 12:
        return None
    (riff_bytes,) = struct.unpack_from("<I", text, 4)
    described: tuple[AudioFormat, int] | None = None
    at = 12
    while at + 8 <= len(text):
        name, size = struct.unpack_from("<4sI", text, at)
        at += 8
        if name == b"data":
            if described is None:
                raise FormatMismatchError("expected a WAV fmt chunk before the data chunk")
            format, channels = described
            # A writer that never came back to fill in the sizes leaves zeros in both places.
            is_stream = size >= STREAMING_SIZE_MIN or (size == 0 and riff_bytes == 0)
            return WavHeader(format, channels, at, None if is_stream else size)
        if at + size > HEADER_BYTES_MAX:
            raise FormatMismatchError(f"expected WAV data within {HEADER_BYTES_MAX} bytes of the start")
        if name == b"fmt ":
            if at + size > len(text):
                return None
            described = _parse_fmt(text[at : at + size])
        at += size + size % 2
    return None


def _parse_fmt(chunk: bytes) -> tuple[AudioFormat, int]:
    if len(chunk) < 16:
        raise FormatMismatchError(f"expected a WAV fmt chunk of at least 16 bytes, got {len(chunk)}")
    tag, channels, rate, _bytes_per_s, block_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == TAG_EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != SUBFORMAT_TAIL:
            raise FormatMismatchError("expected a PCM or G.711 sub-format in the extensible WAV header")
        (tag,) = struct.unpack_from("<H", chunk, 24)
    encoding = ENCODINGS.get((tag, bits))
    if encoding is None:
        raise FormatMismatchError(f"expected 16-bit PCM or G.711 in the WAV, got tag {tag} with {bits} bits")
    if not 1 <= channels <= CHANNELS_MAX:
        raise FormatMismatchError(f"expected 1 to {CHANNELS_MAX} WAV channels, got {channels}")
    if not 1 <= rate <= SAMPLE_RATE_MAX:
        raise FormatMismatchError(f"expected a WAV sample rate of 1 to {SAMPLE_RATE_MAX} Hz, got {rate}")
    if block_bytes != channels * encoding.bytes_per_sample:
        raise FormatMismatchError(
            f"expected WAV blocks of {channels * encoding.bytes_per_sample} bytes, got {block_bytes}"
        )
    return AudioFormat(encoding, rate), channels


def header(format: AudioFormat, channels: int = 1, data_bytes: int | None = None) -> bytes:
    """The RIFF header for ``data_bytes`` of samples, or for a stream of unknown length when None.

    44 bytes for PCM16; 58 for G.711, whose header carries an extension size and a ``fact`` chunk.

    Raises:
        ValueError: an impossible channel count or size.
    """
    if not 1 <= channels <= CHANNELS_MAX:
        raise ValueError(f"expected 1 to {CHANNELS_MAX} channels, got {channels}")
    if data_bytes is not None and not 0 <= data_bytes <= DATA_BYTES_MAX:
        raise ValueError(f"expected 0 to {DATA_BYTES_MAX} bytes of samples, got {data_bytes}")
    width = format.encoding.bytes_per_sample
    fmt = struct.pack(
        "<HHIIHH",
        TAGS[format.encoding],
        channels,
        format.sample_rate,
        format.sample_rate * channels * width,
        channels * width,
        8 * width,
    )
    fact = b""
    if format.encoding is not Encoding.PCM16:
        fmt += struct.pack("<H", 0)
        samples = UNKNOWN_SIZE if data_bytes is None else data_bytes // (channels * width)
        fact = struct.pack("<4sII", b"fact", 4, samples)
    head = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + fact
    if data_bytes is None:
        riff_bytes = size = UNKNOWN_SIZE
    else:
        size = data_bytes
        riff_bytes = 4 + len(head) + 8 + size + size % 2
    return struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + head + struct.pack("<4sI", b"data", size)


def read_wav(path: str | Path) -> tuple[AudioFormat, int, bytes]:
    """The format, the channel count and the samples (interleaved, as stored) of a file.

    Raises:
        FormatMismatchError: not a WAV of PCM16 or G.711, or shorter than it says.
        OSError: the file cannot be read.
    """
    content = Path(path).read_bytes()
    found = parse_header(content)
    if found is None:
        raise FormatMismatchError(f"expected a WAV with a data chunk, got {len(content)} bytes without")
    data = content[found.data_offset :]
    if found.data_bytes is None:
        # A stream that was cut off may end inside a sample.
        block_bytes = found.channels * found.format.encoding.bytes_per_sample
        return found.format, found.channels, data[: len(data) - len(data) % block_bytes]
    if len(data) < found.data_bytes:
        raise FormatMismatchError(f"expected {found.data_bytes} bytes of WAV samples, got {len(data)}")
    data = data[: found.data_bytes]
    if len(data) % (found.channels * found.format.encoding.bytes_per_sample):
        raise FormatMismatchError(f"expected whole WAV sample blocks, got {len(data)} bytes")
    return found.format, found.channels, data


def interleave(left: bytes, right: bytes) -> bytes:
    """Two PCM16 channels as one stereo stream; the shorter is filled up with silence.

    Raises:
        FormatMismatchError: a channel ends inside a sample.
    """
    for channel in (left, right):
        if len(channel) % 2:
            raise FormatMismatchError(f"expected whole pcm16 samples, got {len(channel)} bytes")
    stereo = np.zeros((max(len(left), len(right)) // 2, 2), dtype="<i2")
    stereo[: len(left) // 2, 0] = np.frombuffer(left, dtype="<i2")
    stereo[: len(right) // 2, 1] = np.frombuffer(right, dtype="<i2")
    return stereo.tobytes()


def write_stereo(path: str | Path, left: bytes, right: bytes, sample_rate: int) -> None:
    """Write two PCM16 channels to one file; see `interleave`."""
    with WavWriter(path, sample_rate, channels=2) as writer:
        writer.write(interleave(left, right))


class WavWriter:
    """A PCM16 file written piece by piece.

    Until `close` the header is a streaming one, so that a file cut short by a crash still plays.
    """

    def __init__(self, path: str | Path, sample_rate: int, *, channels: int = 1) -> None:
        self._format = AudioFormat(Encoding.PCM16, sample_rate)
        self._channels = channels
        self._data_bytes = 0
        head = header(self._format, channels)
        self._file: BinaryIO = Path(path).open("wb")  # noqa: SIM115 - closed by close()
        self._file.write(head)

    @property
    def duration_ms(self) -> int:
        """Whole milliseconds written so far."""
        return self._format.ms(self._data_bytes // (2 * self._channels))

    def write(self, data: bytes) -> None:
        """Append samples, interleaved when there are several channels.

        Raises:
            FormatMismatchError: ``data`` ends inside a sample block, or the file would outgrow RIFF's sizes.
            ValueError: the writer is closed.
        """
        if len(data) % (2 * self._channels):
            raise FormatMismatchError(f"expected whole blocks of {2 * self._channels} bytes, got {len(data)}")
        if self._data_bytes + len(data) > DATA_BYTES_MAX:
            raise FormatMismatchError(f"a WAV file holds at most {DATA_BYTES_MAX} bytes of samples")
        self._file.write(data)
        self._data_bytes += len(data)

    def close(self) -> None:
        """Put the real sizes into the header. Closing again does nothing."""
        if self._file.closed:
            return
        try:
            self._file.seek(0)
            self._file.write(header(self._format, self._channels, self._data_bytes))
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
