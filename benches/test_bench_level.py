"""Bench: the level meter on one 20 ms frame, beside numpy doing a part of its work.

`by_numpy` takes the sums and the extremes alone: no clipping, silence, window or arrivals. The meter's time
from Python is mostly the call; in C a frame costs about 40 ns.
"""

from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import PTIME_MS, voice
from fastagent._native.level import LevelMeter

SECONDS = 2
ROUNDS, ITERATIONS = 50, 2000

Feed = Callable[[bytes], object]
Answer = Callable[[], tuple[int, float, float, int]]
"""Samples, mean square relative to full scale, mean and peak."""


def ours() -> tuple[Feed, Answer]:
    meter = LevelMeter()

    def answer() -> tuple[int, float, float, int]:
        figures = meter.snapshot(0.0)
        return figures.samples, 10 ** (figures.rms_dbfs / 10), figures.dc_offset, figures.peak

    return lambda frame: meter.process(frame, 0.0), answer


def by_numpy() -> tuple[Feed, Answer]:
    count = squares = total = peak = 0

    def feed(frame: bytes) -> None:
        nonlocal count, squares, total, peak
        wide = np.frombuffer(frame, dtype="<i2").astype(np.int64)
        count += len(wide)
        squares += int(wide @ wide)
        total += int(wide.sum())
        peak = max(peak, int(wide.max()), -int(wide.min()))

    return feed, lambda: (count, squares / count / 32768**2, total / count, peak)


@pytest.mark.parametrize("engine", [ours, by_numpy], ids=["fastagent", "numpy-sums"])
def test_frame(benchmark: BenchmarkFixture, engine: Callable[[], tuple[Feed, Answer]]) -> None:
    benchmark.group = "level, 20 ms at 8 kHz"
    name = "fastagent" if engine is ours else "numpy-sums"
    benchmark.extra_info.update(subject="level meter", implementation=name, unit="20 ms frame")
    pcm = voice(8000, SECONDS * 1000)
    size = 2 * 8 * PTIME_MS
    frames = [pcm[i : i + size] for i in range(0, len(pcm), size)]
    feed, answer = engine()
    for frame in frames:
        feed(frame)
    whole = np.frombuffer(pcm, dtype="<i2").astype(np.int64)
    expected = (len(whole), float(whole @ whole) / len(whole) / 32768**2, whole.mean(), np.abs(whole).max())
    assert answer() == pytest.approx(expected)
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        feed, args=(frames[25],), iterations=ITERATIONS, rounds=ROUNDS, warmup_rounds=2
    )


def test_snapshot(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "level, snapshot"
    benchmark.extra_info.update(subject="level snapshot")
    meter = LevelMeter()
    meter.process(voice(8000, 1000), 0.0)
    figures = benchmark(meter.snapshot, 1.0)
    assert figures.samples == 8000
