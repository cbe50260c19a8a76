"""Designs the resampler's filters and writes them as ``native/include/fa_resample_filters.h``.

Run ``python native/design_filters.py`` (needs scipy) and commit the header; ``--check`` only says whether the
committed one is what this script designs.

Each pair of rates shares one linear-phase low-pass at the lowest common multiple of both, an equiripple
design (Parks-McClellan). The pass band ends at the edge of speech in the slower rate's usual band, the stop
band starts where its mirror image would fall into that band:

    =============  =======  ====  =========  =========  ===========  ==========
    pair, kHz      at, kHz  taps  delay, ms  pass, kHz  stop, kHz    weight
    =============  =======  ====  =========  =========  ===========  ==========
    8  <-> 16      16       61    1.875      0 - 3.4    4.6 - 8      1 : 100
    8  <-> 24      24       91    1.875      0 - 3.4    4.6 - 12     1 : 100
    16 <-> 24      48       109   1.125      0 - 7      9 - 24       1 : 100
    =============  =======  ====  =========  =========  ===========  ==========

They come out flat within 0.021 dB with 98 dB of rejection. The lengths keep the delay a whole number of
samples in both rates, so that a flushed stream lines up with its source without interpolation, and nearly
fill the vector widths of a phase (31 of 32, 37 of 48, 61 of 64, 91 of 96 taps).

A phase's taps are scaled to sum to exactly one, so a constant comes out as itself, and are rounded to
24 fraction bits. They are stored as ``high * 1024 + low``, two int16 each, so that products of int16 pairs
can be summed exactly in int32 in any order: the sums of |high| and of |low| stay below 2^16.
"""

import argparse
import sys
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import remez

HEADER = Path(__file__).parent / "include" / "fa_resample_filters.h"

FRACTION_BITS = 24
LOW_BITS = 10
VECTOR_TAPS = 16  # int16 lanes of a 256-bit vector: the widths are multiples of it
STOP_WEIGHT = 100.0


@dataclass(frozen=True)
class Pair:
    """One low-pass for both directions between two rates; all frequencies in Hz."""

    slow: int
    fast: int
    taps: int
    pass_edge: int
    stop_edge: int

    @property
    def common_rate(self) -> int:
        return self.slow * self.fast // gcd(self.slow, self.fast)


PAIRS = (
    Pair(8000, 16000, taps=61, pass_edge=3400, stop_edge=4600),
    Pair(8000, 24000, taps=91, pass_edge=3400, stop_edge=4600),
    Pair(16000, 24000, taps=109, pass_edge=7000, stop_edge=9000),
)


def design(pair: Pair) -> NDArray[np.float64]:
    """Taps at the pair's common rate, oldest or newest first (they are symmetric), summing to about one."""
    bands = [0, pair.pass_edge, pair.stop_edge, pair.common_rate / 2]
    taps = remez(
        pair.taps, bands, [1, 0], weight=[1, STOP_WEIGHT], fs=pair.common_rate, maxiter=250, grid_density=64
    )
    return np.asarray(taps, dtype=np.float64)


def phases(taps: NDArray[np.float64], up: int) -> NDArray[np.int64]:
    """One row per phase, oldest input first, zeros in front up to the width; FRACTION_BITS fraction bits."""
    longest = -(-len(taps) // up)
    width = -(-longest // VECTOR_TAPS) * VECTOR_TAPS
    rows = np.zeros((up, width), dtype=np.int64)
    for phase in range(up):
        row = taps[phase::up]
        fixed = np.rint(row / row.sum() * 2**FRACTION_BITS).astype(np.int64)
        fixed[np.argmax(np.abs(fixed))] += 2**FRACTION_BITS - fixed.sum()
        rows[phase, width - len(fixed) :] = fixed[::-1]
    return rows


def split(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The high and the low part of each tap, checked against the range of their sums."""
    half = 1 << (LOW_BITS - 1)
    low = (rows + half) % (1 << LOW_BITS) - half
    high = (rows - low) >> LOW_BITS
    for part in (high, low):
        assert np.abs(part).max() < 2**15
        assert np.abs(part).sum(axis=1).max() < 2**16
    return high, low


def c_rows(name: str, rows: NDArray[np.int64]) -> str:
    lines = [f"static const int16_t {name}[{rows.size}] FA_ALIGNED = {{"]
    for phase in rows:
        for start in range(0, len(phase), VECTOR_TAPS):
            lines.append("    " + " ".join(f"{tap}," for tap in phase[start : start + VECTOR_TAPS]))
    return "\n".join([*lines, "};", ""])


def direction(pair: Pair, in_rate: int, out_rate: int, taps: NDArray[np.float64]) -> tuple[str, str]:
    """The tables of one direction and its row in the list of plans."""
    up, down = out_rate // gcd(in_rate, out_rate), in_rate // gcd(in_rate, out_rate)
    rows = phases(taps, up)
    high, low = split(rows)
    delay, rest = divmod((pair.taps - 1) // 2, down)
    assert rest == 0
    assert pair.taps % 2 == 1
    name = f"fa_taps_{in_rate // 1000}_{out_rate // 1000}"
    plan = f"    X({in_rate}, {out_rate}, {up}, {down}, {rows.shape[1]}, {delay}, {name})"
    return c_rows(f"{name}_high", high) + c_rows(f"{name}_low", low), plan


def header() -> str:
    tables, plans = [], []
    for pair in PAIRS:
        taps = design(pair)
        for in_rate, out_rate in ((pair.slow, pair.fast), (pair.fast, pair.slow)):
            table, plan = direction(pair, in_rate, out_rate, taps)
            tables.append(table)
            plans.append(plan)
    return "\n".join(
        [
            "/* Written by native/design_filters.py, which says how these filters were made. Do not edit.",
            " *",
            " * A table holds one row of `width` taps per phase, oldest input first; a tap is",
            f" * (high * {1 << LOW_BITS} + low) / 2^{FRACTION_BITS}.",
            " */",
            "#ifndef FA_RESAMPLE_FILTERS_H",
            "#define FA_RESAMPLE_FILTERS_H",
            "",
            "#include <stdint.h>",
            "",
            "#define FA_ALIGNED __attribute__((aligned(32)))",
            f"#define FA_RESAMPLE_FRACTION_BITS {FRACTION_BITS}",
            f"#define FA_RESAMPLE_LOW_BITS {LOW_BITS}",
            "",
            "/* in_rate, out_rate, up, down, width, delay in output samples, table */",
            "#define FA_RESAMPLE_PLANS(X) \\",
            " \\\n".join(plans),
            "",
            *tables,
            "#endif",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Designs the resampler's filters.")
    parser.add_argument("--check", action="store_true", help="compare with the committed header only")
    text = header()
    if parser.parse_args().check:
        same = HEADER.read_text() == text
        print("the header is what this script designs" if same else "the header differs from this design")
        return 0 if same else 1
    HEADER.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
