"""Bench: a whole pump, message in to message out, beside the same work done in Python with fast libraries.

The peer parses with orjson, checks base64 strictly with binascii, converts G.711 by numpy tables and
resamples with soxr's streaming resampler at its quickest setting; where the formats are one it copies the
text. Both must give the same number of samples, and where nothing is resampled the same bytes. `extra_info`
holds microseconds per message.
"""

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import soxr
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import DELTA_MS, PTIME_MS, voice
from fastagent._native import g711, stages
from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Downlink, Uplink

DATA = Path(__file__).parents[1] / "tests" / "data"

CALLER = EnvelopeSpec(("type",), ("userStream.chunk",), ("audioChunk",), ())
MODEL = EnvelopeSpec(
    ("type",),
    ("response.output_audio.delta", "response.audio.delta"),
    ("delta",),
    (("response_id",), ("item_id",), ("content_index",)),
)
APPEND = b'{"type":"input_audio_buffer.append","audio":"', b'"}'
PLAY = b'{"type":"playStream.chunk","streamId":"play-1","audioChunk":"', b'"}'

Format = tuple[str, int]
PCM_24K: Format = ("pcm16", 24_000)
PCM_16K: Format = ("pcm16", 16_000)
PCM_8K: Format = ("pcm16", 8_000)
MULAW: Format = ("mulaw", 8_000)
ALAW: Format = ("alaw", 8_000)

UP = [
    (PCM_24K, PCM_24K),
    (MULAW, MULAW),
    (PCM_16K, PCM_24K),
    (PCM_8K, PCM_24K),
    (MULAW, PCM_24K),
    (ALAW, MULAW),
]
DOWN = [(target, source) for source, target in UP]

Feed = Callable[[bytes], bytes]


def audio(form: Format, duration_ms: int) -> bytes:
    encoding, rate = form
    pcm = voice(rate, duration_ms)
    if encoding == "pcm16":
        return pcm
    return g711.ulaw_encode(pcm) if encoding == "mulaw" else g711.alaw_encode(pcm)


def caller_message(form: Format) -> bytes:
    text = base64.b64encode(audio(form, PTIME_MS)).decode()
    conversation = "7d0c2a34-51f7-4b1e-9a43-0c9d6e7f2b11"
    return orjson.dumps({"type": "userStream.chunk", "conversationId": conversation, "audioChunk": text})


def model_message(form: Format) -> bytes:
    return orjson.dumps(
        {
            "type": "response.output_audio.delta",
            "event_id": "event_C9G5RJeJ2gF77mV7f2B1j",
            "response_id": "resp_C9G5QPteg4UmbotdLQ6Zv",
            "item_id": "item_C9G5QL7CZd5ojqHYB7h8u",
            "output_index": 0,
            "content_index": 0,
            "delta": base64.b64encode(audio(form, DELTA_MS)).decode(),
        }
    )


def table(law: str, direction: str, kind: str) -> np.ndarray[Any, Any]:
    return np.frombuffer((DATA / f"itu_{law}_{direction}.bin").read_bytes(), dtype=kind)


def in_python(source: Format, target: Format, key: str, template: tuple[bytes, bytes]) -> Feed:
    """What one would write without a native path."""
    laws = {"mulaw": "ulaw", "alaw": "alaw"}
    expand = table(laws[source[0]], "dec", "<i2") if source[0] in laws else None
    compress = table(laws[target[0]], "enc", "u1") if target[0] in laws else None
    stream = (
        soxr.ResampleStream(source[1], target[1], 1, dtype="int16", quality="QQ")
        if source[1] != target[1]
        else None
    )
    prefix, suffix = template

    def feed(message: bytes) -> bytes:
        text: str = orjson.loads(message)[key]
        data = binascii.a2b_base64(text, strict_mode=True)
        if source == target:
            return prefix + text.encode() + suffix
        pcm = np.frombuffer(data, dtype="<i2") if expand is None else expand[np.frombuffer(data, dtype="u1")]
        if stream is not None:
            pcm = stream.resample_chunk(pcm)
        data = pcm.tobytes() if compress is None else compress[pcm.view("<u2")].tobytes()
        return prefix + binascii.b2a_base64(data, newline=False) + suffix

    return feed


def up(source: Format, target: Format) -> Feed:
    pump = Uplink(CALLER, *source, *target, *APPEND)
    return pump.feed  # type: ignore[return-value]


def down(source: Format, target: Format) -> Feed:
    pump = Downlink(MODEL, *source, *target, *PLAY)
    clock = [0.0]

    def feed(message: bytes) -> bytes:
        # The caller has just heard all of it: every delta is sent at once.
        clock[0] += DELTA_MS / 1000 + 0.001
        return pump.feed(message, clock[0])  # type: ignore[return-value]

    return feed


def sent_audio(message: bytes, template: tuple[bytes, bytes]) -> bytes:
    prefix, suffix = template
    assert message.startswith(prefix)
    assert message.endswith(suffix)
    return base64.b64decode(message[len(prefix) : len(message) - len(suffix)], validate=True)


def measure(benchmark: BenchmarkFixture, feed: Feed, message: bytes) -> None:
    benchmark.pedantic(feed, args=(message,), iterations=200, rounds=30, warmup_rounds=2)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_message"] = round(benchmark.stats.stats.median * 1e6, 2)


def describe(benchmark: BenchmarkFixture, way: str, source: Format, target: Format, engine: str) -> None:
    forms = " to ".join(f"{encoding} {rate // 1000}k" for encoding, rate in (source, target))
    benchmark.extra_info.update(subject=f"pump {way} {forms}", implementation=engine, unit="20 ms frame")


def check(
    feed: Feed, message: bytes, source: Format, target: Format, duration_ms: int, template: Any
) -> None:
    count = target[1] * duration_ms // 1000
    size = count * (2 if target[0] == "pcm16" else 1)
    if source[1] == target[1]:
        expected = in_python(source, target, "audioChunk" if template is APPEND else "delta", template)
        assert sent_audio(feed(message), template) == sent_audio(expected(message), template)
    else:
        # soxr holds some audio back at first; ours never does.
        sizes = [len(sent_audio(feed(message), template)) for _ in range(50)]
        assert abs(sum(sizes[10:]) - 40 * size) <= size


@pytest.mark.parametrize("engine", ["fastagent", "python"])
@pytest.mark.parametrize(("source", "target"), UP, ids=lambda form: f"{form[0]}-{form[1] // 1000}k")
def test_uplink_frame(benchmark: BenchmarkFixture, source: Format, target: Format, engine: str) -> None:
    benchmark.group = f"pump up {source[0]}@{source[1]} to {target[0]}@{target[1]}, {PTIME_MS} ms"
    describe(benchmark, "up", source, target, engine)
    message = caller_message(source)
    make = up if engine == "fastagent" else lambda a, b: in_python(a, b, "audioChunk", APPEND)
    check(make(source, target), message, source, target, PTIME_MS, APPEND)
    if engine == "fastagent" and source[1] != target[1]:
        first = sent_audio(up(source, target)(message), APPEND)
        assert len(first) == target[1] * PTIME_MS // 1000 * (2 if target[0] == "pcm16" else 1)
    measure(benchmark, make(source, target), message)


@pytest.mark.parametrize("every", [0, 16, 1], ids=["idle", "16th", "all"])
def test_uplink_frame_timed(benchmark: BenchmarkFixture, every: int) -> None:
    """What the stage counters cost: switched off, as `fastagent profile` uses them, and with every frame."""
    benchmark.group = f"pump up mulaw@8000 to mulaw@8000, {PTIME_MS} ms, stages timed"
    timed = {0: "no", 1: "each"}.get(every, f"one in {every}")
    benchmark.extra_info.update(
        subject="pump up timed", implementation=f"fastagent, {timed} frame", unit="20 ms frame"
    )
    feed, message = up(MULAW, MULAW), caller_message(MULAW)
    check(feed, message, MULAW, MULAW, PTIME_MS, APPEND)
    stages.set_every(every)
    try:
        measure(benchmark, feed, message)
    finally:
        stages.set_every(0)


@pytest.mark.parametrize("engine", ["fastagent", "python"])
@pytest.mark.parametrize(("source", "target"), DOWN, ids=lambda form: f"{form[0]}-{form[1] // 1000}k")
def test_downlink_delta(benchmark: BenchmarkFixture, source: Format, target: Format, engine: str) -> None:
    benchmark.group = f"pump down {source[0]}@{source[1]} to {target[0]}@{target[1]}, {DELTA_MS} ms"
    describe(benchmark, "down", source, target, engine)
    benchmark.extra_info["units_per_call"] = DELTA_MS // PTIME_MS
    message = model_message(source)
    make = down if engine == "fastagent" else lambda a, b: in_python(a, b, "delta", PLAY)
    check(make(source, target), message, source, target, DELTA_MS, PLAY)
    measure(benchmark, make(source, target), message)


@pytest.mark.parametrize("reads", [1, 8], ids=["due", "paced"])
def test_downlink_queue(benchmark: BenchmarkFixture, reads: int) -> None:
    """A second of audio at once, let out as the lead has room."""
    benchmark.group = "pump down, one second queued and let out"
    benchmark.extra_info.update(subject=f"pump down queue {'paced' if reads > 1 else 'due'}", unit="second")
    text = base64.b64encode(voice(24_000, 1000)).decode()
    message = orjson.dumps(
        {
            "type": "response.audio.delta",
            "response_id": "r",
            "item_id": "i",
            "content_index": 0,
            "delta": text,
        }
    )
    pump = Downlink(MODEL, *PCM_24K, *PCM_24K, *PLAY, lead_ms=400 if reads > 1 else 1000)
    clock = [0.0]
    around = len(PLAY[0]) + len(PLAY[1])

    def audio_bytes(play: bytes | None) -> int:
        assert play is not None
        return (len(play) - around) // 4 * 3 - play[-len(PLAY[1]) - 2 :].count(b"=")

    def second() -> int:
        clock[0] += 2.0
        sent = audio_bytes(pump.feed(message, clock[0]))
        for _ in range(10 * (reads > 1)):
            clock[0] += 0.1
            while (more := pump.due(clock[0])) is not None:
                sent += audio_bytes(more)
        return sent

    assert second() == 48_000
    assert not pump.is_queued
    benchmark.pedantic(second, iterations=10, rounds=20)  # type: ignore[no-untyped-call]
