"""Computes the DTMF detector's tables and writes them as ``native/include/fa_dtmf_tables.h``.

Run ``python native/design_dtmf_tables.py`` (needs numpy) and commit the header; ``--check`` only says whether
the committed one is what this script computes.

The detector looks through a Hann window of 20 ms at 8 kHz. The window's middle lies between two samples, so a
spectrum needs the sums and the differences of mirrored samples only: 80 products with windowed cosines and 80
with windowed sines per frequency. Products of int16 pairs are summed exactly in int32: the absolute taps of a
row, 11 bits each, sum to less than 2^16, so no input overflows. `FA_DTMF_UNIT` takes such sums of halved
samples to magnitudes whose squares, at a tone's own frequency, are the tone's energy under the window: the
sum over 160 samples of (w * x)^2.

Dial tone (350 and 440 Hz, 1.8 lines of the window apart) is measured as a pair: its energy is b' G^-1 b,
where b are the correlations with both frequencies and G is the Gram matrix of the windowed basis, for cosines
and sines apart.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = Path(__file__).parent / "include" / "fa_dtmf_tables.h"

SAMPLE_RATE = 8000
WINDOW = 160
HALF = WINDOW // 2
HOP = 40
TAP_BITS = 11
LOW_HZ = (697, 770, 852, 941)
HIGH_HZ = (1209, 1336, 1477, 1633)
DIAL_HZ = (350, 440)

Floats = NDArray[np.float64]

OPENING = """\
/* Written by native/design_dtmf_tables.py, which says what these numbers are. Do not edit. */
#ifndef FA_DTMF_TABLES_H
#define FA_DTMF_TABLES_H

#include <stdint.h>

#define FA_DTMF_ALIGNED __attribute__((aligned(16)))
#define FA_DTMF_WINDOW 160 /* samples seen at a time, 20 ms */
#define FA_DTMF_HALF 80"""


def radians(frequency: float) -> float:
    return 2 * np.pi * frequency / SAMPLE_RATE


def middle_out() -> Floats:
    """The later half's places, in samples from the window's middle."""
    places: Floats = np.arange(HALF, dtype=np.float64) + 0.5
    return places


def window() -> Floats:
    hann: Floats = 0.5 + 0.5 * np.cos(2 * np.pi * middle_out() / WINDOW)
    return hann


def scale() -> float:
    """Makes the squared magnitude of a tone its energy under the window."""
    return float(np.sqrt(2 * 2 * np.sum(window() ** 2) / (2 * np.sum(window())) ** 2))


def rows_of(frequencies: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Windowed cosines and sines, a row per frequency."""
    angles = np.outer([radians(frequency) for frequency in frequencies], middle_out())
    cosines: Floats = window() * np.cos(angles)
    sines: Floats = window() * np.sin(angles)
    return cosines, sines


def taps(table: Floats) -> NDArray[np.int16]:
    rounded = np.rint(table * (1 << TAP_BITS))
    assert np.abs(rounded).sum(axis=-1).max() < 1 << 16
    return rounded.astype(np.int16)


def written(name: str, table: Floats | NDArray[np.int16]) -> str:
    shape = "".join(f"[{size}]" for size in table.shape)
    is_float = table.dtype.kind == "f"
    rows = []
    for row in table.reshape(-1, table.shape[-1]):
        numbers = [f"{value:#.9g}f" if is_float else str(value) for value in row]
        lines = [", ".join(numbers[at : at + 14]) for at in range(0, len(numbers), 14)]
        rows.append(",\n     ".join(lines))
    text = ",\n    ".join("{" + row + "}" if table.ndim > 1 else row for row in rows)
    kind = "float" if is_float else "int16_t"
    return f"static const {kind} {name}{shape} FA_DTMF_ALIGNED = {{\n    {text}\n}};\n"


def turns(angles: list[float]) -> Floats:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles])


def header() -> str:
    cosines, sines = rows_of(LOW_HZ + HIGH_HZ)
    dial_cosines, dial_sines = rows_of(DIAL_HZ)
    inverses = [np.linalg.inv(2 * table @ table.T) for table in (dial_cosines, dial_sines)]
    nominal = [radians(frequency) for frequency in LOW_HZ + HIGH_HZ]
    dial = [radians(frequency) for frequency in DIAL_HZ]
    parts = [
        OPENING,
        f"#define FA_DTMF_TAP 0x1p-{TAP_BITS - 1}f /* what a sum of halved samples times taps is worth */",
        f"#define FA_DTMF_UNIT ({scale():.9g}f * FA_DTMF_TAP)",
        "",
        "/* The window from the middle outwards, 15 bits. */",
        written("fa_dtmf_hann", np.rint(window() * 32767).astype(np.int16)),
        f"/* {', '.join(map(str, LOW_HZ + HIGH_HZ))} Hz. */",
        written("fa_dtmf_cosines", taps(cosines)),
        written("fa_dtmf_sines", taps(sines)),
        "/* Cosines of 350 and 440 Hz, then their sines, windowed twice: basis and audio both are. */",
        written("fa_dtmf_dial", taps(np.vstack([dial_cosines, dial_sines]) * window())),
        "/* G^-1 of the cosines, then of the sines: 350 with itself, 440 with itself, mixed. */",
        written("fa_dtmf_dial_gram", np.array([[m[0, 0], m[1, 1], m[0, 1]] for m in inverses])),
        "/* The turn of a frequency's phase in 40 samples, in one and in half a one: cosine, sine. */",
        written("fa_dtmf_hop_turn", turns([HOP * angle for angle in nominal])),
        written("fa_dtmf_sample_turn", turns(nominal)),
        written("fa_dtmf_half_turn", turns([angle / 2 for angle in nominal])),
        written("fa_dtmf_dial_turn", turns(dial)),
        written("fa_dtmf_dial_half_turn", turns([angle / 2 for angle in dial])),
        "/* Hz. */",
        written("fa_dtmf_hz", np.array(LOW_HZ + HIGH_HZ, dtype=float)),
        "#endif",
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compute the DTMF detector's tables.")
    parser.add_argument("--check", action="store_true", help="only compare with the committed header")
    text = header()
    if parser.parse_args().check:
        is_same = HEADER.read_text() == text
        print("same" if is_same else "the committed header is another one", file=sys.stderr)
        return 0 if is_same else 1
    HEADER.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
