"""Writes ``native/include/fa_bands_tables.h``: the band analysis kernel's window and twiddle factors.

Run ``python native/design_bands.py`` and commit the header; ``--check`` only says whether the committed one
is what this script writes. The window's slope is a quarter of a sine, so that a falling slope and the next
window's rising one add up to one in power. Twiddles are laid out as each stage of the transform reads them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = Path(__file__).parent / "include" / "fa_bands_tables.h"

WINDOW, FRAME = 256, 160
STAGES = (128, 32, 8)  # lengths at which the radix-4 stages of the 128-point transform work
PER_LINE = 6


def tables() -> dict[str, NDArray[np.float64]]:
    overlap = WINDOW - FRAME
    out = {"SLOPE": np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap)}
    for length in STAGES:
        p = np.arange(length // 4)
        for power in (1, 2, 3):
            angle = 2 * np.pi * p * power / length
            out[f"COS_{length}_{power}"] = np.cos(angle)
            out[f"SIN_{length}_{power}"] = np.sin(angle)
    angle = 2 * np.pi * np.arange(1, WINDOW // 4 + 1) / WINDOW
    out["COS_SPLIT"], out["SIN_SPLIT"] = np.cos(angle), np.sin(angle)
    return out


def header() -> str:
    lines = [
        "/* Written by native/design_bands.py: do not edit. Power n: exp(-2j pi n p / length). */",
        "#ifndef FA_BANDS_TABLES_H",
        "#define FA_BANDS_TABLES_H",
    ]
    for name, values in tables().items():
        lines += ["", f"static const float {name}[{len(values)}] = {{"]
        numbers = [f"{value:.9e}f" for value in np.round(values, 15) + 0.0]
        for at in range(0, len(numbers), PER_LINE):
            lines.append("    " + ", ".join(numbers[at : at + PER_LINE]) + ",")
        lines.append("};")
    return "\n".join([*lines, "", "#endif", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the band analysis kernel's tables.")
    parser.add_argument("--check", action="store_true", help="only compare with the committed header")
    if parser.parse_args().check:
        is_same = HEADER.exists() and HEADER.read_text() == header()
        print(f"{HEADER.name}: {'as designed' if is_same else 'differs from its design'}")
        return 0 if is_same else 1
    HEADER.write_text(header())
    print(f"wrote {HEADER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
