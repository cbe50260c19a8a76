"""Bench: G.711, seen from Python, beside audioop and a numpy table.

`extra_info` holds gigabytes of PCM per second. audioop's mu-law encoder is not the ITU's (508 samples
differ), so its answer must only come within one step of it; it left the standard library in Python 3.13.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import MEBIBYTE, PTIME_MS, voice
from fastagent._native import g711

DATA = Path(__file__).parents[1] / "tests" / "data"

FRAME = voice(8000, PTIME_MS)
BLOCK = (voice(8000, 10_000) * (MEBIBYTE // 160_000 + 1))[:MEBIBYTE]
FRAME_GOAL_NS = 90
SIZES = {"frame-20ms": FRAME, "block-1MiB": BLOCK}

Convert = Callable[[bytes], bytes]


def itu(law: str, direction: str) -> Convert:
    """The conversion by the ITU's table, with numpy."""
    raw = (DATA / f"itu_{law}_{direction}.bin").read_bytes()
    if direction == "enc":
        codes = np.frombuffer(raw, dtype=np.uint8)
        return lambda pcm: codes[np.frombuffer(pcm, dtype="<u2")].tobytes()
    samples = np.frombuffer(raw, dtype="<i2")
    return lambda text: samples[np.frombuffer(text, dtype=np.uint8)].tobytes()


def by_audioop(law: str, direction: str) -> Convert:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop: Any = pytest.importorskip("audioop", reason="left the standard library in Python 3.13")
    if direction == "enc":
        function = getattr(audioop, f"lin2{law}")
        return lambda pcm: bytes(function(pcm, 2))
    function = getattr(audioop, f"{law}2lin")
    return lambda codes: bytes(function(codes, 2))


def ours(law: str, direction: str) -> Convert:
    convert: Convert = getattr(g711, f"{law}_{direction}ode")
    return convert


NAMES: dict[Callable[..., Convert], str] = {ours: "fastagent", itu: "numpy-table", by_audioop: "audioop"}


def describe(benchmark: BenchmarkFixture, work: str, size: str, implementation: str) -> None:
    """One frame has a goal and counts in frames; a block is a subject of its own."""
    benchmark.group = f"g711 {work} {size}"
    if size == "frame-20ms":
        benchmark.extra_info.update(subject=f"g711 {work}", unit="20 ms frame", goal_ns=FRAME_GOAL_NS)
    benchmark.extra_info["implementation"] = implementation


def measure(benchmark: BenchmarkFixture, convert: Convert, source: bytes, pcm_bytes: int) -> bytes:
    iterations, rounds = (2000, 50) if len(source) < MEBIBYTE // 4 else (20, 15)
    benchmark.extra_info["variant"] = g711.variant()
    answer: bytes = benchmark.pedantic(  # type: ignore[no-untyped-call]
        convert, args=(source,), iterations=iterations, rounds=rounds, warmup_rounds=2
    )
    if benchmark.stats is not None:
        benchmark.extra_info["pcm_gb_per_s"] = round(pcm_bytes / benchmark.stats.stats.median / 1e9, 2)
    return answer


@pytest.mark.parametrize("engine", NAMES, ids=NAMES.values())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_encode(benchmark: BenchmarkFixture, law: str, size: str, engine: Callable[..., Convert]) -> None:
    describe(benchmark, f"{law} encode", size, NAMES[engine])
    pcm = SIZES[size]
    codes = measure(benchmark, engine(law, "enc"), pcm, len(pcm))
    expected = itu(law, "enc")(pcm)
    if engine is by_audioop:
        decode = itu(law, "dec")
        heard, right = (np.frombuffer(decode(c), dtype="<i2").astype(int) for c in (codes, expected))
        assert np.abs(heard - right).max() <= 1024  # one step of the coarsest segment
    else:
        assert codes == expected


@pytest.mark.parametrize("engine", NAMES, ids=NAMES.values())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_decode(benchmark: BenchmarkFixture, law: str, size: str, engine: Callable[..., Convert]) -> None:
    describe(benchmark, f"{law} decode", size, NAMES[engine])
    codes = itu(law, "enc")(SIZES[size])
    assert measure(benchmark, engine(law, "dec"), codes, 2 * len(codes)) == itu(law, "dec")(codes)


@pytest.mark.parametrize("direction", ["enc", "dec"])
@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_block_into_a_buffer(benchmark: BenchmarkFixture, law: str, direction: str) -> None:
    """Without the allocation of the answer: what the body itself can do."""
    benchmark.group = f"g711 {law} {direction}ode into, block-1MiB"
    source = BLOCK if direction == "enc" else itu(law, "enc")(BLOCK)
    out = bytearray(len(BLOCK) // 2 if direction == "enc" else len(BLOCK))
    into = getattr(g711, f"{law}_{direction}ode_into")
    measure(benchmark, lambda data: into(data, out), source, len(BLOCK))
    assert out == itu(law, direction)(source)
