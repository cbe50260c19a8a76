"""The resampler as its definition says: taps of the committed header, one output at a time, whole numbers."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HEADER = Path(__file__).parents[2] / "native" / "include" / "fa_resample_filters.h"

PAIRS = ((8000, 16000), (16000, 8000), (8000, 24000), (24000, 8000), (16000, 24000), (24000, 16000))
"""Input and output rates in Hz."""


@dataclass(frozen=True)
class Plan:
    up: int
    down: int
    delay: int
    """Output samples."""
    taps: tuple[int, ...]
    """The low-pass at the common rate, newest input first, in units of 2**-fraction_bits."""
    fraction_bits: int


def _numbers(text: str, name: str) -> list[int]:
    found = re.search(rf"\b{name}\[\d+\] FA_ALIGNED = \{{(.*?)\}}", text, re.DOTALL)
    assert found is not None
    return [int(number) for number in re.findall(r"-?\d+", found[1])]


def _constant(text: str, name: str) -> int:
    found = re.search(rf"#define {name} (\d+)", text)
    assert found is not None
    return int(found[1])


@cache
def plan(in_rate: int, out_rate: int) -> Plan:
    text = HEADER.read_text()
    found = re.search(rf"X\({in_rate}, {out_rate}, (\d+), (\d+), (\d+), (\d+), (\w+)\)", text)
    assert found is not None
    up, down, width, delay = (int(number) for number in found.groups()[:4])
    low_bits = _constant(text, "FA_RESAMPLE_LOW_BITS")
    high, low = _numbers(text, f"{found[5]}_high"), _numbers(text, f"{found[5]}_low")
    fixed = [h * 2**low_bits + rest for h, rest in zip(high, low, strict=True)]
    rows = [fixed[phase * width : (phase + 1) * width][::-1] for phase in range(up)]
    taps = tuple(rows[i % up][i // up] for i in range(up * width))
    return Plan(up, down, delay, taps, _constant(text, "FA_RESAMPLE_FRACTION_BITS"))


def output_count(samples: int, in_rate: int, out_rate: int) -> int:
    return -(-samples * out_rate // in_rate)


def unclipped(pcm: list[int], in_rate: int, out_rate: int) -> list[int]:
    """Output k is the low-pass over the input stuffed with zeros, taken at position k * down."""
    p = plan(in_rate, out_rate)
    half = 1 << (p.fraction_bits - 1)
    outputs = []
    for k in range(output_count(len(pcm), in_rate, out_rate)):
        newest, phase = divmod(k * p.down, p.up)
        total = 0
        for age, tap in enumerate(p.taps[phase :: p.up]):
            if age > newest:
                break
            total += tap * pcm[newest - age]
        outputs.append((total + half) >> p.fraction_bits)
    return outputs


def resample(pcm: list[int], in_rate: int, out_rate: int) -> list[int]:
    return [max(-32768, min(32767, value)) for value in unclipped(pcm, in_rate, out_rate)]


def flushed(pcm: list[int], in_rate: int, out_rate: int) -> list[int]:
    """All outputs of a stream and its tail."""
    p = plan(in_rate, out_rate)
    whole = resample(pcm + [0] * len(p.taps), in_rate, out_rate)
    return whole[: output_count(len(pcm), in_rate, out_rate) + p.delay]
