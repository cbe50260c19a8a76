"""Bench: base64 of telephone frames, model deltas and a block, beside the standard library.

The peers of decoding are the lenient decoder that most programs call and binascii's strict mode, which still
lets set bits below the last byte pass. Time is per payload, call from Python included.
"""

import base64 as stdlib
import binascii
from collections.abc import Callable
from typing import TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import DELTA_MS, MEBIBYTE, PTIME_MS, payload
from fastagent._native import base64

SIZES = {
    "ulaw-frame-160B": 8 * PTIME_MS,
    "pcm24-frame-960B": 48 * PTIME_MS,
    "pcm24-delta-4800B": 48 * DELTA_MS,
    "block-1MiB": MEBIBYTE,
}

Answer = TypeVar("Answer")
Convert = Callable[[bytes], bytes]

ENCODERS: dict[str, Convert] = {
    "fastagent": base64.encode,
    "binascii": lambda data: binascii.b2a_base64(data, newline=False),
    "base64": stdlib.b64encode,
}
DECODERS: dict[str, Convert] = {
    "fastagent": base64.decode,
    "binascii-strict": lambda text: binascii.a2b_base64(text, strict_mode=True),
    "base64-lenient": stdlib.b64decode,
}


def describe(benchmark: BenchmarkFixture, work: str, size: str) -> None:
    benchmark.group = f"base64 {work} {size}"
    codec, kind, _ = size.split("-") if size.count("-") == 2 else ("", "", "")
    if kind == "frame":
        benchmark.extra_info.update(subject=f"base64 {work} {codec}", unit="20 ms frame")


def measure(
    benchmark: BenchmarkFixture, convert: Callable[[bytes], Answer], source: bytes, raw_bytes: int
) -> Answer:
    iterations, rounds = (1000, 40) if raw_bytes < MEBIBYTE else (5, 15)
    benchmark.extra_info["variant"] = base64.variant()
    answer: Answer = benchmark.pedantic(  # type: ignore[no-untyped-call]
        convert, args=(source,), iterations=iterations, rounds=rounds, warmup_rounds=2
    )
    if benchmark.stats is not None:
        benchmark.extra_info["raw_gb_per_s"] = round(raw_bytes / benchmark.stats.stats.median / 1e9, 2)
    return answer


@pytest.mark.parametrize("engine", ENCODERS)
@pytest.mark.parametrize("size", SIZES)
def test_encode(benchmark: BenchmarkFixture, size: str, engine: str) -> None:
    describe(benchmark, "encode", size)
    data = payload(SIZES[size])
    assert measure(benchmark, ENCODERS[engine], data, len(data)) == stdlib.b64encode(data)


@pytest.mark.parametrize("engine", DECODERS)
@pytest.mark.parametrize("size", SIZES)
def test_decode(benchmark: BenchmarkFixture, size: str, engine: str) -> None:
    describe(benchmark, "decode", size)
    data = payload(SIZES[size])
    assert measure(benchmark, DECODERS[engine], stdlib.b64encode(data), len(data)) == data


@pytest.mark.parametrize("size", SIZES)
def test_validate(benchmark: BenchmarkFixture, size: str) -> None:
    describe(benchmark, "validate", size)
    data = payload(SIZES[size])
    assert measure(benchmark, base64.validate, stdlib.b64encode(data), len(data)) == len(data)
