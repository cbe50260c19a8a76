"""Bench: one 20 ms frame through the DTMF detector, beside eight Goertzel filters in numpy.

The stream runs on as in a call. The peer only measures the eight energies of a frame: no decision, no
frequencies, no duration. Numpy is what a Python service has at hand, and already costs more than the whole
detector.
"""

from collections.abc import Callable
from itertools import cycle

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import PTIME_MS, voice
from fastagent._native import dtmf
from fastagent.audio.dtmf import dtmf_tones
from fastagent.audio.formats import PCM16_8K

SECONDS = 2
FRAME_BYTES = 16 * PTIME_MS
ROUNDS, ITERATIONS = 100, 100
FREQUENCIES = np.array([697, 770, 852, 941, 1209, 1336, 1477, 1633])
BASIS = np.exp(-2j * np.pi * np.outer(FREQUENCIES, np.arange(FRAME_BYTES // 2)) / 8000)
DIGITS = "0123456789"

Feed = Callable[[bytes], object]


def detector() -> Feed:
    return dtmf.Detector().process


def numpy_energies() -> Feed:
    return lambda frame: np.abs(BASIS @ np.frombuffer(frame, "<i2")) ** 2


ENGINES = {"fastagent": detector, "numpy-energies": numpy_energies}
INPUTS = {
    "silence": lambda: bytes(FRAME_BYTES * 100),
    "voice": lambda: voice(8000, SECONDS * 1000),
    "digits": lambda: dtmf_tones(DIGITS, PCM16_8K),
}


def frames(kind: str) -> list[bytes]:
    pcm = INPUTS[kind]()
    return [pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm), FRAME_BYTES)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", INPUTS)
def test_frame(benchmark: BenchmarkFixture, kind: str, engine: str) -> None:
    benchmark.group = f"dtmf, 20 ms of {kind}"
    benchmark.extra_info.update(
        subject=f"dtmf {kind}", implementation=engine, unit="20 ms frame", goal_ns=1000
    )
    fed = frames(kind)
    if engine == "fastagent":
        check = dtmf.Detector()
        found = [event for frame in fed for event in check.process(frame)]
        heard = "".join(event.digit for event in found if not event.is_end)
        assert heard == (DIGITS if kind == "digits" else "")
    feed = ENGINES[engine]()
    stream = cycle(fed)
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: feed(next(stream)), iterations=ITERATIONS, rounds=ROUNDS, warmup_rounds=2
    )


def test_generator(benchmark: BenchmarkFixture) -> None:
    """Ten digits of 100 ms with pauses of 100 ms at 8 kHz."""
    benchmark.group = "dtmf, ten digits made"
    benchmark.extra_info.update(subject="dtmf generator", unit="ten digits")
    out = benchmark(dtmf_tones, DIGITS, PCM16_8K)
    assert len(out) == 10 * 200 * 16
