"""WAV headers and files: what we write the standard library reads, what others write we read."""

import io
import struct
import wave
from pathlib import Path

import pytest

from fastagent.audio import wav
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, AudioFormat, Encoding
from fastagent.errors import FormatMismatchError

RAMP = struct.pack("<100h", *range(-50, 50))


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def fmt(
    tag: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    block: int | None = None,
    tail: bytes = b"",
) -> bytes:
    block = channels * bits // 8 if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + tail)


def extensible(tag: int, bits: int, guid_tail: bytes = wav.SUBFORMAT_TAIL) -> bytes:
    tail = struct.pack("<HHIH", 22, bits, 0, tag) + guid_tail
    return fmt(0xFFFE, 2, 16000, bits, tail=tail)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", [PCM16_8K, PCM16_16K, PCM16_24K])
def test_pcm_header_is_read_by_the_standard_library(format: AudioFormat, channels: int) -> None:
    head = wav.header(format, channels, len(RAMP))
    assert len(head) == 44
    with wave.open(io.BytesIO(head + RAMP)) as file:
        assert file.getparams()[:4] == (channels, 2, format.sample_rate, 100 // channels)
        assert file.readframes(100) == RAMP


@pytest.mark.parametrize("data_bytes", [None, 0, 1, 160, wav.DATA_BYTES_MAX])
@pytest.mark.parametrize("format", [PCM16_8K, PCM16_24K, MULAW_8K, ALAW_8K])
def test_header_says_what_it_was_given(format: AudioFormat, data_bytes: int | None) -> None:
    head = wav.header(format, 1, data_bytes)
    assert wav.parse_header(head) == wav.WavHeader(format, 1, len(head), data_bytes)


def test_g711_header_has_extension_size_and_fact_chunk() -> None:
    head = wav.header(MULAW_8K, 1, 160)
    assert len(head) == 58
    assert head[16:38] == struct.pack("<IHHIIHHH", 18, 7, 1, 8000, 8000, 1, 8, 0)
    assert head[38:50] == b"fact" + struct.pack("<II", 4, 160)


def test_streaming_header_says_its_sizes_are_unknown() -> None:
    head = wav.header(PCM16_8K)
    assert head[4:8] == head[40:44] == b"\xff\xff\xff\xff"


def test_header_may_arrive_byte_by_byte() -> None:
    head = riff(chunk(b"LIST", b"odd"), fmt(), chunk(b"data", RAMP))
    at = head.index(b"data") + 8
    for size in range(at):
        assert wav.parse_header(head[:size]) is None, size
    assert wav.parse_header(head[:at]) == wav.WavHeader(PCM16_8K, 1, at, len(RAMP))
    assert wav.parse_header(memoryview(head)) == wav.parse_header(bytearray(head))


@pytest.mark.parametrize(
    ("fmt_chunk", "format", "channels"),
    [
        (fmt(), PCM16_8K, 1),
        (fmt(rate=44100, channels=2), AudioFormat(Encoding.PCM16, 44100), 2),
        (fmt(tail=b"\0\0"), PCM16_8K, 1),
        (fmt(7, bits=8), MULAW_8K, 1),
        (fmt(6, bits=8, tail=b"\0\0"), ALAW_8K, 1),
        (extensible(1, 16), PCM16_16K, 2),
        (extensible(7, 8), AudioFormat(Encoding.MULAW, 16000), 2),
    ],
)
def test_formats_of_other_writers_are_understood(
    fmt_chunk: bytes, format: AudioFormat, channels: int
) -> None:
    found = wav.parse_header(riff(chunk(b"JUNK", b"\0" * 28), fmt_chunk, chunk(b"data", RAMP)))
    assert found is not None
    assert (found.format, found.channels, found.data_bytes) == (format, channels, len(RAMP))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"OggS", "RIFF/WAVE"),
        (b"RIFX\0\0\0\0WAVE", "RIFF/WAVE"),
        (b"RIFF\0\0\0\0AVI ", "RIFF/WAVE"),
        (riff(chunk(b"data", RAMP)), "before the data"),
        (riff(chunk(b"fmt ", b"\0" * 14)), "at least 16"),
        (riff(fmt(3, bits=32)), "tag 3"),
        (riff(fmt(1, bits=8)), "8 bits"),
        (riff(fmt(1, bits=24)), "24 bits"),
        (riff(fmt(0x11, bits=4, block=256)), "tag 17"),
        (riff(fmt(channels=0)), "channels"),
        (riff(fmt(channels=9)), "channels"),
        (riff(fmt(rate=0)), "sample rate"),
        (riff(fmt(rate=400_000)), "sample rate"),
        (riff(fmt(block=4)), "blocks of 2"),
        (riff(extensible(1, 16, bytes(14))), "extensible"),
        (riff(fmt(0xFFFE, tail=b"\0\0")), "extensible"),
        (riff(extensible(3, 32)), "tag 3"),
        (riff(fmt(), b"LIST" + struct.pack("<I", 70_000)), "65536"),
        (riff(b"fmt " + struct.pack("<I", 0xFFFFFFF0)), "65536"),
    ],
)
def test_what_is_not_pcm16_or_g711_is_refused_clearly(content: bytes, reason: str) -> None:
    with pytest.raises(FormatMismatchError, match=reason):
        wav.parse_header(content)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0])
def test_file_of_a_streaming_writer_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stream.wav"
    path.write_bytes(
        riff(fmt(), b"data" + struct.pack("<I", size), RAMP, b"\1", size=0 if size == 0 else size)
    )
    assert wav.read_wav(path) == (PCM16_8K, 1, RAMP)


def test_file_is_read_without_the_chunks_after_its_data(tmp_path: Path) -> None:
    path = tmp_path / "tagged.wav"
    path.write_bytes(riff(fmt(), chunk(b"data", RAMP), chunk(b"LIST", b"artist")))
    assert wav.read_wav(str(path)) == (PCM16_8K, 1, RAMP)


def test_empty_file_of_a_proper_writer_holds_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.write_bytes(riff(fmt(), chunk(b"data", b""), chunk(b"LIST", b"artist")))
    assert wav.read_wav(path) == (PCM16_8K, 1, b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "data chunk"),
        (riff(fmt()), "data chunk"),
        (riff(fmt(), b"data" + struct.pack("<I", 400) + RAMP), "400 bytes"),
        (riff(fmt(), chunk(b"data", RAMP + b"\0")), "whole"),
    ],
)
def test_broken_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(FormatMismatchError, match=reason):
        wav.read_wav(path)


def test_stereo_file_pads_the_shorter_side_with_silence(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    wav.write_stereo(path, struct.pack("<3h", 1, 2, 3), struct.pack("<1h", -1), 8000)
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (2, 2, 8000, 3)
        assert struct.unpack("<6h", file.readframes(3)) == (1, -1, 2, 0, 3, 0)
    assert wav.interleave(b"", b"") == b""
    with pytest.raises(FormatMismatchError):
        wav.interleave(b"\0", b"")


def test_writer_appends_and_fixes_its_header_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with wav.WavWriter(path, 16000) as writer:
        for _ in range(8):
            writer.write(RAMP)
        assert writer.duration_ms == 50
        with pytest.raises(FormatMismatchError):
            writer.write(b"\0")
    writer.close()
    assert wav.read_wav(path) == (PCM16_16K, 1, RAMP * 8)
    with pytest.raises(ValueError, match="closed"):
        writer.write(RAMP)


def test_file_of_a_writer_that_never_closed_is_still_readable(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    writer = wav.WavWriter(path, 8000)
    writer.write(RAMP)
    writer._file.flush()
    assert wav.read_wav(path) == (PCM16_8K, 1, RAMP)
    writer.close()


def test_writer_refuses_to_outgrow_riff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "DATA_BYTES_MAX", 300)
    with wav.WavWriter(tmp_path / "big.wav", 8000) as writer:
        writer.write(RAMP)
        with pytest.raises(FormatMismatchError, match="at most 300"):
            writer.write(RAMP)


@pytest.mark.parametrize(("channels", "data_bytes"), [(0, 0), (9, 0), (1, -1), (1, wav.DATA_BYTES_MAX + 1)])
def test_impossible_header_is_a_programming_error(channels: int, data_bytes: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        wav.header(PCM16_8K, channels, data_bytes)
