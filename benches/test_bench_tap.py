"""Bench: the whole uplink pump with each tap: what hearing costs beside carrying.

The peer does in Python what a bridge without native ears does: the pump of `test_bench_pump`, with the levels
by numpy and the voice by webrtcvad on the same frame. Each case first checks that the tap heard something.
"""

import base64
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import orjson
import pytest
import webrtcvad
from pytest_benchmark.fixture import BenchmarkFixture

from benches.test_bench_pump import APPEND, CALLER, MULAW, PCM_16K, PCM_24K, Feed, Format, in_python
from benches.workloads import PTIME_MS, voice
from fastagent._native import g711
from fastagent._native.pump import Uplink
from fastagent._native.tap import Tap

SECONDS = 4
LISTENING: dict[str, dict[str, Any] | None] = {
    "no tap": None,
    "levels": {},
    "turns": {"speech": True},
    "barge-in": {"overlap": True},
    "barge-in, bot speaking": {"overlap": True},
    "digits": {"digits": True},
    "recording": {},
    "all": {"speech": True, "overlap": True, "digits": True},
}
WAYS: list[tuple[Format, Format]] = [(MULAW, MULAW), (PCM_24K, PCM_24K), (PCM_16K, PCM_24K)]
GOAL_NS = 6_000
"""A frame carried, heard and recorded: what HAProxy's share leaves of "twice a byte relay"."""


def sounds(form: Format) -> list[bytes]:
    """Four seconds of the caller's frames in the carrier's format."""
    encoding, rate = form
    pcm = voice(rate, SECONDS * 1000)
    size = rate // 1000 * PTIME_MS * 2
    frames = [pcm[at : at + size] for at in range(0, len(pcm), size)]
    return frames if encoding == "pcm16" else [g711.ulaw_encode(frame) for frame in frames]


def messages(form: Format) -> list[bytes]:
    texts = [base64.b64encode(frame).decode() for frame in sounds(form)]
    return [
        orjson.dumps({"type": "userStream.chunk", "conversationId": "c", "audioChunk": one}) for one in texts
    ]


def listening(
    name: str, source: Format, target: Format
) -> tuple[Callable[[bytes], object], Callable[[], bool]]:
    """A pump with a tap, fed on a clock of its own, and whether its tap has heard anything."""
    pump = Uplink(CALLER, *source, *target, *APPEND)
    wants = LISTENING[name]
    if wants is None:
        return pump.feed, lambda: True
    tap = Tap(*source)
    recorded: list[bytes] = []
    if wants:
        tap.open_ears(0.0, **wants)
    if name in ("recording", "all"):
        tap.record(recorded.append, "pcm16", 0.0)
    pump.connect_tap(tap)
    speaks = name in ("barge-in, bot speaking", "all")
    bot = cycle(sounds(source))
    now = 0.0

    def feed(message: bytes) -> object:
        nonlocal now
        now += PTIME_MS / 1000
        if speaks:
            tap.bot(next(bot), now)
        sent = pump.feed(message, now)
        recorded.clear()
        return sent

    return feed, lambda: tap.caller_level(now).samples > 0


def by_hand(source: Format, target: Format) -> Feed:
    carry = in_python(source, target, "audioChunk", APPEND)
    detector = webrtcvad.Vad(2)

    def feed(message: bytes) -> bytes:
        data = base64.b64decode(orjson.loads(message)["audioChunk"])
        pcm = np.frombuffer(g711.ulaw_decode(data) if source[0] == "mulaw" else data, "<i2")
        float(np.sqrt(np.mean(pcm.astype(np.float32) ** 2)))
        slow = pcm if source[1] == 8_000 else pcm[:: source[1] // 8_000]
        detector.is_speech(np.ascontiguousarray(slow).tobytes(), 8_000)
        return carry(message)

    return feed


def run(benchmark: BenchmarkFixture, feed: Callable[[bytes], object], source: Format) -> None:
    stream = messages(source)

    def once() -> None:
        for message in stream:
            feed(message)

    benchmark.pedantic(once, rounds=15, warmup_rounds=2)  # type: ignore[no-untyped-call]
    benchmark.extra_info["units_per_call"] = len(stream)


@pytest.mark.parametrize("name", list(LISTENING))
@pytest.mark.parametrize(("source", "target"), WAYS, ids=lambda form: f"{form[0]}-{form[1] // 1000}k")
def test_listening(benchmark: BenchmarkFixture, source: Format, target: Format, name: str) -> None:
    feed, has_heard = listening(name, source, target)
    sent = feed(messages(source)[0])
    assert isinstance(sent, bytes)
    assert sent.startswith(APPEND[0])
    assert has_heard()
    benchmark.group = f"tap {source[0]} {source[1] // 1000}k to {target[0]} {target[1] // 1000}k"
    benchmark.extra_info.update(
        subject=f"{benchmark.group}, all" if name == "all" else benchmark.group,
        implementation="fastagent" if name == "all" else f"fastagent, {name}",
        unit="20 ms frame",
        **({"goal_ns": GOAL_NS} if name == "all" else {}),
    )
    run(benchmark, feed, source)


@pytest.mark.parametrize(("source", "target"), WAYS[:2], ids=lambda form: f"{form[0]}-{form[1] // 1000}k")
def test_listening_by_hand(benchmark: BenchmarkFixture, source: Format, target: Format) -> None:
    feed = by_hand(source, target)
    assert feed(messages(source)[0]).startswith(APPEND[0])
    benchmark.group = f"tap {source[0]} {source[1] // 1000}k to {target[0]} {target[1] // 1000}k"
    benchmark.extra_info.update(
        subject=f"{benchmark.group}, all", implementation="Python, webrtcvad", unit="20 ms frame"
    )
    run(benchmark, feed, source)
