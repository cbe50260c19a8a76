"""Bench: finding the audio of a media message, against decoding the whole message with orjson and json.

The scanner's figure holds the binding too: the buffer, the match and the copy of the audio text.
"""

import base64
import json
from collections.abc import Callable
from random import Random
from typing import Any

import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastagent._native.envelope import Scanner, is_utf8


def audio_text(size_bytes: int) -> str:
    return base64.b64encode(Random(size_bytes).randbytes(size_bytes)).decode()


# 1280 characters: the text of one 20 ms chunk of 24 kHz linear PCM.
AUDIOCODES = (
    '{"type":"userStream.chunk","conversationId":"7d0c2a34-51f7-4b1e-9a43-0c9d6e7f2b11",'
    f'"audioChunk":"{audio_text(960)}"}}'
).encode()
# 6400 characters: the text of one 100 ms delta of 24 kHz linear PCM.
REALTIME = (
    '{"type":"response.output_audio.delta","event_id":"event_12","response_id":"resp_1","item_id":"item_B2",'
    f'"output_index":0,"content_index":0,"delta":"{audio_text(4800)}"}}'
).encode()
# 216 characters: 20 ms of mu-law, 160 bytes.
TWILIO = (
    '{"event":"media","sequenceNumber":"2","streamSid":"MZ00000000000000000000000000000001",'
    f'"media":{{"track":"inbound","chunk":"1","timestamp":"20","payload":"{audio_text(160)}"}}}}'
).encode()

SCANNERS = {
    "audiocodes": (Scanner(("type",), ("userStream.chunk",), ("audioChunk",)), AUDIOCODES, ("audioChunk",)),
    "realtime": (
        Scanner(("type",), ("response.output_audio.delta",), ("delta",), (("item_id",), ("content_index",))),
        REALTIME,
        ("delta",),
    ),
    "twilio": (Scanner(("event",), ("media",), ("media", "payload")), TWILIO, ("media", "payload")),
}
DECODERS: dict[str, Callable[[bytes], Any]] = {"orjson": orjson.loads, "json": json.loads}


def describe(benchmark: BenchmarkFixture, work: str, wire: str, implementation: str) -> None:
    """A carrier's message is one frame; a model's delta holds more."""
    benchmark.group = f"{work} {wire}"
    unit = "message" if wire == "realtime" else "20 ms frame"
    benchmark.extra_info.update(subject=benchmark.group, implementation=implementation, unit=unit)


def measure(benchmark: BenchmarkFixture, target: Callable[[bytes], Any], message: bytes) -> Any:
    """Time the target in batches: one call is not much longer than reading the clock."""
    return benchmark.pedantic(target, (message,), rounds=200, iterations=1000, warmup_rounds=5)  # type: ignore[no-untyped-call]


def audio_at(message: Any, path: tuple[str, ...]) -> bytes:
    for key in path:
        message = message[key]
    assert isinstance(message, str)
    return message.encode()


@pytest.mark.parametrize("wire", SCANNERS)
def test_scan(benchmark: BenchmarkFixture, wire: str) -> None:
    scanner, message, path = SCANNERS[wire]
    describe(benchmark, "envelope", wire, "fastagent")
    match = measure(benchmark, scanner.scan, message)
    assert match is not None
    assert match.audio == audio_at(orjson.loads(message), path)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("wire", SCANNERS)
def test_decode_whole(benchmark: BenchmarkFixture, wire: str, decoder: str) -> None:
    scanner, message, path = SCANNERS[wire]
    describe(benchmark, "envelope", wire, decoder)
    decoded = measure(benchmark, DECODERS[decoder], message)
    match = scanner.scan(message)
    assert match is not None
    assert audio_at(decoded, path) == match.audio


@pytest.mark.parametrize("wire", SCANNERS)
def test_utf8(benchmark: BenchmarkFixture, wire: str) -> None:
    message = SCANNERS[wire][1]
    describe(benchmark, "utf8", wire, "fastagent")
    assert measure(benchmark, is_utf8, message)


@pytest.mark.parametrize("wire", SCANNERS)
def test_utf8_by_bytes_decode(benchmark: BenchmarkFixture, wire: str) -> None:
    message = SCANNERS[wire][1]
    describe(benchmark, "utf8", wire, "bytes.decode")
    assert measure(benchmark, bytes.decode, message)
