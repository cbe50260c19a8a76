"""Bench: one 20 ms frame through the band analysis and the speech detectors, beside WebRTC's and Silero's.

The stream runs on as in a call. `extra_info` holds what matters more than the time: `auc` on a small labelled
set of telephone speech, and `tones`, the share of frames of keypad tones called speech.
"""

from collections.abc import Callable
from functools import cache
from itertools import cycle

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.hearing import sounds, vad_report, voices
from fastagent._native import vad
from fastagent.media.detectors import DETECTORS, DetectorName, build_detector, silero_weight_file

ROUNDS, ITERATIONS = 40, 100
AUC_GOAL = 0.88

AVAILABLE = [name for name in DETECTORS if name != "silero" or silero_weight_file() is not None]
"""Silero's weight file is not among the test packages, because its package would bring torch."""


@cache
def labelled() -> list[vad_report.Stream]:
    return vad_report.telephone_set(noises=("street", "car"))


@cache
def frames() -> list[bytes]:
    return list(voices.frames_of(labelled()[3].pcm))


def timed(benchmark: BenchmarkFixture, take: Callable[[bytes], object]) -> None:
    stream = cycle(frames())
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: take(next(stream)), iterations=ITERATIONS, rounds=ROUNDS, warmup_rounds=2
    )


def test_bands(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "bands, 20 ms"
    benchmark.extra_info.update(subject="vad bands", unit="20 ms frame")
    analyser = vad.BandAnalyser()
    spectrum = np.array([analyser.process(frame) for frame in frames()])
    power = np.mean(np.square(labelled()[3].pcm.astype(np.float64)))
    # What the bands leave out of telephone sound is below 200 Hz.
    assert 0.8 * power < spectrum.sum(axis=1).mean() <= 1.01 * power
    timed(benchmark, analyser.process)


@pytest.mark.parametrize("name", AVAILABLE)
def test_detector(benchmark: BenchmarkFixture, name: DetectorName) -> None:
    benchmark.group = "speech detectors, 20 ms"
    engine = "fastagent" if name == "native" else name
    benchmark.extra_info.update(
        subject="vad detector", implementation=engine, unit="20 ms frame", goal_ns=3000
    )
    detector = build_detector(name)
    scores = np.concatenate([vad_report.judge(detector, stream.pcm) for stream in labelled()])
    labels = np.concatenate([voices.frame_labels(stream.is_speech) for stream in labelled()])
    tones = vad_report.judge(detector, voices.on_the_line(sounds.dtmf("0123456789*#ABCD", on_s=0.2)))
    found = vad_report.auc(scores, labels)
    benchmark.extra_info["auc"] = round(found, 3)
    benchmark.extra_info["tones"] = round(float(np.mean(tones >= vad_report.THRESHOLD)), 3)
    if name == "native":
        assert found >= AUC_GOAL
        assert tones.max() < vad_report.THRESHOLD
    timed(benchmark, detector.process)
