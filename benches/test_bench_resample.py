"""Bench: one 20 ms frame through the streaming resampler, beside soxr's streams at the qualities people use.

The streams run on as in a call. `extra_info` holds what matters more than the time: `hold_ms`, by how much
the samples that came out ever fell short of those fed (a filter's constant shift not counted).
"""

from collections.abc import Callable

import numpy as np
import pytest
import soxr
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import PTIME_MS, voice
from fastagent._native import resample

PAIRS = [(8000, 16000), (16000, 8000), (8000, 24000), (24000, 8000), (16000, 24000), (24000, 16000)]

SECONDS = 2
ROUNDS, ITERATIONS = 40, 100

Feed = Callable[[bytes], int]
"""Takes a frame of PCM16, gives the number of samples that came out."""


def ours(in_rate: int, out_rate: int) -> Feed:
    stream = resample.Resampler(in_rate, out_rate)
    return lambda frame: len(stream.process(frame)) // 2


def soxr_stream(quality: str) -> Callable[[int, int], Feed]:
    def make(in_rate: int, out_rate: int) -> Feed:
        stream = soxr.ResampleStream(in_rate, out_rate, 1, dtype="int16", quality=quality)
        return lambda frame: len(stream.resample_chunk(np.frombuffer(frame, dtype=np.int16)))

    return make


ENGINES = {
    "fastagent": ours,
    "soxr-VHQ": soxr_stream("VHQ"),
    "soxr-HQ": soxr_stream("HQ"),
    "soxr-QQ": soxr_stream("QQ"),
}


def frames(in_rate: int) -> list[bytes]:
    pcm = voice(in_rate, SECONDS * 1000)
    size = 2 * in_rate * PTIME_MS // 1000
    return [pcm[i : i + size] for i in range(0, len(pcm), size)]


def hold_ms(feed: Feed, in_rate: int, out_rate: int) -> float:
    due = came = worst = 0
    for frame in frames(in_rate):
        due += out_rate * PTIME_MS // 1000
        came += feed(frame)
        worst = max(worst, due - came)
    return worst * 1000 / out_rate


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_frame(benchmark: BenchmarkFixture, in_rate: int, out_rate: int, engine: str) -> None:
    benchmark.group = f"resample {in_rate // 1000}->{out_rate // 1000} kHz, 20 ms"
    benchmark.extra_info.update(
        subject=f"resample {in_rate // 1000} to {out_rate // 1000} kHz",
        implementation=engine,
        unit="20 ms frame",
    )
    held = hold_ms(ENGINES[engine](in_rate, out_rate), in_rate, out_rate)
    benchmark.extra_info["hold_ms"] = round(held, 1)
    benchmark.extra_info["variant"] = resample.variant()
    if engine == "fastagent":
        assert held == 0
    frame = frames(in_rate)[25]
    feed = ENGINES[engine](in_rate, out_rate)
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        feed, args=(frame,), iterations=ITERATIONS, rounds=ROUNDS, warmup_rounds=2
    )


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_answers_agree(in_rate: int, out_rate: int) -> None:
    """Aligned by the stated delay, our stream is soxr's within a small error in the speech band."""
    edge = 3400 if min(in_rate, out_rate) == 8000 else 7000
    time = np.arange(in_rate) / in_rate
    pcm = sum(3000 * np.sin(2 * np.pi * f * time + f) for f in (310.0, 1000.0, 0.5 * edge, 0.97 * edge))
    source = np.asarray(pcm).astype("<i2")
    stream = resample.Resampler(in_rate, out_rate)
    late = np.frombuffer(stream.process(source.tobytes()) + stream.flush(), dtype="<i2")
    out = late[stream.delay_samples :]
    peer = soxr.resample(source, in_rate, out_rate, quality="VHQ")
    assert len(out) == len(peer)
    middle = slice(out_rate // 20, -out_rate // 20)
    error = out[middle].astype(float) - peer[middle]
    assert np.sqrt(np.mean(error**2)) < 0.003 * np.sqrt(np.mean(peer[middle].astype(float) ** 2))
