"""Bench: one 20 ms frame of both directions through the barge-in gate, while the bot speaks.

"gate" is all of it: bands of both directions, voice detector, gate. "bands and detector" is what the same
frames cost without the gate's own work, so that the difference is the gate's. webrtcvad, which knows no echo,
stands beside them.
"""

from collections.abc import Callable

import numpy as np
import pytest
import webrtcvad
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import voice
from fastagent._native.bargein import FRAME_BYTES, BargeInGate
from fastagent._native.vad import BandAnalyser, VoiceDetector

SECONDS = 8
ROUNDS, ITERATIONS = 40, 200

Feed = Callable[[bytes, bytes], object]


def directions() -> tuple[list[bytes], list[bytes]]:
    """(caller, bot): the caller is the bot's echo, 20 dB down and 180 ms late, on a noisy line."""
    bot = np.frombuffer(voice(8000, SECONDS * 1000), dtype="<i2").astype(np.float64)
    noise = np.random.default_rng(2).standard_normal(len(bot)) * 20
    caller = 0.1 * np.concatenate([np.zeros(1440), bot])[: len(bot)] + noise

    def cut(samples: NDArray[np.float64]) -> list[bytes]:
        pcm = samples.astype("<i2").tobytes()
        return [pcm[i : i + FRAME_BYTES] for i in range(0, len(pcm), FRAME_BYTES)]

    return cut(caller), cut(bot)


def ours() -> Feed:
    return BargeInGate().process


def without_the_gate() -> Feed:
    detector, bands = VoiceDetector(), BandAnalyser()

    def feed(caller: bytes, bot: bytes) -> object:
        detector.process(caller)
        return bands.process(bot)

    return feed


def peer() -> Feed:
    vad = webrtcvad.Vad(3)
    return lambda caller, _bot: vad.is_speech(caller, 8000)


ENGINES = {"fastagent": ours, "fastagent, bands and detector": without_the_gate, "webrtcvad": peer}


@pytest.mark.parametrize("engine", ENGINES)
def test_frame(benchmark: BenchmarkFixture, engine: str) -> None:
    benchmark.extra_info.update(subject="barge-in gate", implementation=engine, unit="20 ms frame")
    caller, bot = directions()
    feed = ENGINES[engine]()
    answers = [feed(heard, played) for heard, played in zip(caller, bot, strict=True)]
    if engine == "fastagent":
        assert "confirmed" not in answers
        assert "echo" in answers
    pairs = iter(zip(caller * 2000, bot * 2000, strict=True))
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: feed(*next(pairs)), iterations=ITERATIONS, rounds=ROUNDS, warmup_rounds=2
    )
