"""Bench: 20 ms of packet loss concealment, beside a plain pitch-cycle repetition in numpy.

A first lost frame pays for finding pitch and predictor, those after it only for the fill. The peer is the one
of tests/reference; both must leave what arrived alone and give a fill that resembles what was lost.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import PTIME_MS
from fastagent._native.conceal import Concealer
from tests.reference.conceal_reference import PitchCycle

ROUNDS = 200
RATES = pytest.mark.parametrize("sample_rate", [8000, 16000, 24000])

Fill = Callable[[], bytes]


def harmonics(time: NDArray[np.float64]) -> NDArray[np.float64]:
    """20 harmonics of 130 Hz, falling like a voice's."""
    k = np.arange(1, 21)
    wave: NDArray[np.float64] = np.sum(np.sin(2 * np.pi * 130 * np.outer(time, k) + k * k) / k, axis=1)
    return wave


def voiced(sample_rate: int) -> bytes:
    """Half a second of it."""
    return (4000 * harmonics(np.arange(sample_rate // 2) / sample_rate)).astype("<i2").tobytes()


LOST_GOAL_NS = 15_000


def resembles(fill: bytes, sample_rate: int, samples: int) -> bool:
    """The voice's period divides no frame, so what was lost is the wave's own continuation."""
    time = (sample_rate // 2 + np.arange(samples)) / sample_rate
    lost = harmonics(time)
    heard = np.frombuffer(fill, dtype="<i2").astype(float)
    return float(heard @ lost / np.sqrt((heard @ heard) * (lost @ lost))) > 0.9


@RATES
@pytest.mark.parametrize("engine", ["fastagent", "numpy"])
def test_first_lost_frame(benchmark: BenchmarkFixture, sample_rate: int, engine: str) -> None:
    benchmark.group = f"conceal first lost 20 ms, {sample_rate // 1000} kHz"
    benchmark.extra_info.update(implementation=engine, unit="20 ms frame", goal_ns=LOST_GOAL_NS)
    pcm, samples = voiced(sample_rate), sample_rate * PTIME_MS // 1000
    concealer = Concealer(sample_rate)
    history = np.frombuffer(pcm, dtype="<i2").astype(float)[-sample_rate * 60 // 1000 :]

    def prepare() -> None:
        concealer.reset()
        concealer.good(pcm)

    def by_numpy() -> bytes:
        return PitchCycle(history, sample_rate).take(samples).astype("<i2").tobytes()

    fill = benchmark.pedantic(  # type: ignore[no-untyped-call]
        (lambda: concealer.lost(samples)) if engine == "fastagent" else by_numpy,
        setup=prepare,
        rounds=ROUNDS,
        warmup_rounds=5,
    )
    assert resembles(fill, sample_rate, samples)


@RATES
def test_further_lost_frame(benchmark: BenchmarkFixture, sample_rate: int) -> None:
    benchmark.group = f"conceal further lost 20 ms, {sample_rate // 1000} kHz"
    benchmark.extra_info.update(unit="20 ms frame", goal_ns=LOST_GOAL_NS)
    pcm, samples = voiced(sample_rate), sample_rate * PTIME_MS // 1000
    concealer = Concealer(sample_rate)

    def prepare() -> None:
        concealer.reset()
        concealer.good(pcm)
        concealer.lost(samples)

    fill = benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: concealer.lost(samples), setup=prepare, rounds=ROUNDS, warmup_rounds=5
    )
    assert any(fill)


@RATES
def test_good_frame(benchmark: BenchmarkFixture, sample_rate: int) -> None:
    """In place, as in a pump: a frame that arrived costs a copy into the history."""
    benchmark.group = f"conceal good 20 ms, {sample_rate // 1000} kHz"
    benchmark.extra_info.update(unit="20 ms frame")
    frame = bytearray(voiced(sample_rate)[: 2 * sample_rate * PTIME_MS // 1000])
    before = bytes(frame)
    concealer = Concealer(sample_rate)
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        concealer.good_into, args=(frame,), iterations=2000, rounds=50, warmup_rounds=2
    )
    assert frame == before
