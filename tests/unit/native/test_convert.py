"""Conversion as the uplink does it: formats, unfinished samples, RIFF headers and escaped text."""

import base64
import json
import random
import struct

import pytest

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Uplink
from tests.reference.convert_reference import FORMATS, convert

SPEC = EnvelopeSpec(("type",), ("chunk",), ("audio",), ())
PREFIX, SUFFIX = b'{"out":"', b'"}'
PCM_8K, PCM_16K, PCM_24K = ("pcm16", 8000), ("pcm16", 16000), ("pcm16", 24000)

NOISE = random.Random(7).randbytes(960)


def uplink(source: tuple[str, int], target: tuple[str, int], *, has_wav_header: bool = False) -> Uplink:
    return Uplink(SPEC, *source, *target, PREFIX, SUFFIX, has_wav_header=has_wav_header)


def chunk(audio: bytes) -> bytes:
    return json.dumps({"type": "chunk", "audio": base64.b64encode(audio).decode()}).encode()


def heard(message: bytes | None) -> bytes:
    """The audio of a message sent on; nothing for no message."""
    if message is None:
        return b""
    assert message.startswith(PREFIX)
    assert message.endswith(SUFFIX)
    return base64.b64decode(message[len(PREFIX) : -len(SUFFIX)], validate=True)


def fed(pump: Uplink, chunks: list[bytes]) -> bytes:
    return b"".join(heard(pump.feed(chunk(part))) for part in chunks)


def riff(*, data_size: int = 0xFFFFFFFF, extra: bytes = b"") -> bytes:
    """A header as VoiceAI Connect and ffmpeg write it while the length is not known."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 0xFFFFFFFF)
        + b"WAVE"
        + form
        + extra
        + b"data"
        + struct.pack("<I", data_size)
    )


@pytest.mark.parametrize("target", FORMATS, ids=str)
@pytest.mark.parametrize("source", FORMATS, ids=str)
def test_every_format_becomes_every_other_as_the_reference_says(source, target):
    pump = uplink(source, target)
    assert pump.is_passthrough is (source == target)
    assert heard(pump.feed(chunk(NOISE))) == convert(NOISE, source, target)
    assert pump.samples_in == len(NOISE) // (2 if source[0] == "pcm16" else 1)


@pytest.mark.parametrize(
    ("source", "target"), [(PCM_24K, PCM_24K), (PCM_16K, PCM_24K), (PCM_8K, ("mulaw", 8000))], ids=str
)
@pytest.mark.parametrize(
    "sizes",
    [(1,) * 12, (3, 3), (1, 2, 3, 4, 5, 6, 7), (0, 1, 0, 1), (959, 1), (1, 959), (7, 8, 9, 10, 11)],
    ids=str,
)
def test_unfinished_sample_waits_for_the_next_chunk(source, target, sizes):
    total = sum(sizes)
    at, parts = 0, []
    for size in sizes:
        parts.append(NOISE[at : at + size])
        at += size
    pump = uplink(source, target)
    assert fed(pump, parts) == convert(NOISE[:total], source, target)
    assert pump.samples_in == total // 2


def test_passthrough_is_verbatim_again_after_an_odd_pair():
    pump = uplink(PCM_24K, PCM_24K)
    assert fed(pump, [NOISE[:3], NOISE[3:6]]) == NOISE[:6]
    message = chunk(NOISE)
    text = json.loads(message)["audio"].encode()
    assert pump.feed(message) == PREFIX + text + SUFFIX


def test_single_byte_gives_no_message():
    pump = uplink(PCM_24K, PCM_24K)
    assert pump.feed(chunk(b"\x01")) is None
    assert heard(pump.feed(chunk(b"\x02"))) == b"\x01\x02"


def test_reset_forgets_an_unfinished_sample_and_the_filter():
    pump = uplink(PCM_8K, PCM_24K)
    pump.feed(chunk(NOISE[:331]))
    pump.reset()
    assert heard(pump.feed(chunk(NOISE))) == convert(NOISE, PCM_8K, PCM_24K)


def test_g711_of_odd_length_has_no_unfinished_samples():
    pump = uplink(("mulaw", 8000), PCM_8K)
    assert fed(pump, [NOISE[:3], NOISE[3:4]]) == convert(NOISE[:4], ("mulaw", 8000), PCM_8K)
    assert pump.samples_in == 4


# RIFF headers

LIST = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"


@pytest.mark.parametrize("extra", [b"", LIST, LIST * 20], ids=["plain", "odd-list", "long"])
@pytest.mark.parametrize("target", [PCM_24K, PCM_8K, ("alaw", 8000)], ids=str)
def test_header_on_the_first_chunk_is_skipped(target, extra):
    pump = uplink(PCM_8K, target, has_wav_header=True)
    assert not pump.is_passthrough
    assert fed(pump, [riff(extra=extra) + NOISE[:320], NOISE[320:]]) == convert(NOISE, PCM_8K, target)
    assert pump.samples_in == len(NOISE) // 2


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_g711_behind_a_header_keeps_its_bytes(encoding):
    audio = bytes(range(256))
    pump = uplink((encoding, 8000), (encoding, 8000), has_wav_header=True)
    assert fed(pump, [riff() + audio, audio]) == audio * 2


def test_header_on_each_chunk_is_skipped():
    pump = uplink(PCM_8K, PCM_24K, has_wav_header=True)
    parts = [riff(data_size=320) + NOISE[at : at + 320] for at in range(0, 960, 320)]
    assert fed(pump, parts) == convert(NOISE, PCM_8K, PCM_24K)
    assert pump.samples_in == len(NOISE) // 2


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 11, 12, 13, 20, 36, 43, 44, 45, 100])
def test_header_split_over_chunks_is_skipped(size):
    stream = riff(extra=LIST) + NOISE
    pump = uplink(PCM_8K, PCM_24K, has_wav_header=True)
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert fed(pump, parts) == convert(NOISE, PCM_8K, PCM_24K)


def test_header_after_an_unfinished_sample_does_not_shift_the_audio():
    pump = uplink(PCM_8K, PCM_24K, has_wav_header=True)
    assert fed(pump, [riff() + NOISE[:3], riff() + NOISE[3:]]) == convert(NOISE, PCM_8K, PCM_24K)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"R",
        b"RIFX" + bytes(20),
        b"RIFF" + bytes(4) + b"AVI " + bytes(12),
        riff()[:36] + struct.pack("<4sI", b"junk", 1 << 20) + bytes(8),
    ],
    ids=["none", "one-letter", "other-magic", "not-wave", "absurd-chunk"],
)
def test_what_is_no_header_is_audio(start):
    stream = start + NOISE
    pump = uplink(PCM_8K, PCM_24K, has_wav_header=True)
    assert fed(pump, [stream, b""]) == convert(stream, PCM_8K, PCM_24K)


def test_header_without_end_is_given_up_after_512_bytes_for_any_chunking():
    endless = riff()[:36] + (b"note" + struct.pack("<I", 100) + bytes(100)) * 6 + b"data" + bytes(4)
    stream = endless + NOISE
    expected = convert(stream[512:], PCM_8K, PCM_24K)
    assert fed(uplink(PCM_8K, PCM_24K, has_wav_header=True), [stream]) == expected
    assert fed(uplink(PCM_8K, PCM_24K, has_wav_header=True), [stream[:200], stream[200:]]) == expected


def test_riff_bytes_are_audio_where_no_header_is_expected():
    stream = riff() + NOISE
    assert heard(uplink(PCM_24K, PCM_24K).feed(chunk(stream))) == stream


# Escapes


@pytest.mark.parametrize("target", [PCM_24K, PCM_8K], ids=["passthrough", "converted"])
@pytest.mark.parametrize(
    ("plain", "written"),
    [("/", "\\/"), ("/", "\\u002f"), ("/", "\\u002F"), ("+", "\\u002b"), ("A", "\\u0041"), ("=", "\\u003d")],
    ids=["slash", "u002f", "u002F", "plus", "letter", "padding"],
)
def test_escaped_base64_is_the_same_audio(target, plain, written):
    audio = (b"\xff\xef\xbe\x00\x00\x00\xfb\xef\xbe" * 9)[:80]
    text = base64.b64encode(audio).decode()
    assert plain in text
    message = f'{{"type":"chunk","audio":"{text.replace(plain, written)}"}}'.encode()
    assert json.loads(message)["audio"] == text
    assert heard(uplink(PCM_24K, target).feed(message)) == convert(audio, PCM_24K, target)


def test_large_chunk_is_converted_whole():
    audio = random.Random(3).randbytes(48_001)
    pump = uplink(("mulaw", 8000), ("pcm16", 8000))
    assert heard(pump.feed(chunk(audio))) == convert(audio, ("mulaw", 8000), PCM_8K)
