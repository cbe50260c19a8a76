"""The band analysis and the detector's net as their definitions say: numpy's transform, the header's net."""

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INCLUDE = Path(__file__).parents[2] / "native" / "include"

FRAME, WINDOW = 160, 256
OVERLAP = WINDOW - FRAME
FIRST_LINE, SECOND_LINE = 26, 27
TONE_SHARE, TONE_LOG_ODDS = 0.95, 1.5

Floats = NDArray[np.float64]


def _define(header: str, name: str) -> str:
    found = re.search(rf"#define {name} (.+)", (INCLUDE / header).read_text())
    assert found is not None
    return found[1]


def _numbers(text: str, name: str) -> Floats:
    found = re.search(rf"\b{name}(?:\[\w+\])* = (.*?);", text, re.DOTALL)
    assert found is not None
    return np.array([float(number) for number in re.findall(r"-?\d[\d.]*(?:e[-+]\d+)?(?=f)", found[1])])


def band_edges() -> list[int]:
    return [int(edge) for edge in re.findall(r"\d+", _define("fa_bands.h", "FA_BAND_EDGES_INIT"))]


def spectra(pcm: NDArray[np.int16]) -> Floats:
    """Mean square per bin of every whole frame, 128 bins."""
    slope = np.sin(np.pi / 2 * (np.arange(OVERLAP) + 0.5) / OVERLAP)
    window = np.concatenate([slope, np.ones(WINDOW - 2 * OVERLAP), slope[::-1]])
    line = np.concatenate([np.zeros(OVERLAP), pcm.astype(np.float64)])
    rows = []
    for at in range(0, len(pcm) - FRAME + 1, FRAME):
        power = np.square(np.abs(np.fft.rfft(window * line[at : at + WINDOW]))) / (WINDOW * FRAME)
        rows.append(np.concatenate([power[:1], 2 * power[1 : WINDOW // 2]]))
    return np.array(rows)


def bands(pcm: NDArray[np.int16]) -> Floats:
    """Mean square per band of every whole frame."""
    edges = band_edges()
    rows = spectra(pcm)
    return np.stack([rows[:, a:b].sum(axis=1) for a, b in pairwise(edges)], axis=1)


@dataclass(frozen=True)
class Net:
    w_in: Floats
    b_in: Floats
    w_past: Floats
    b_past: Floats
    w_out: Floats
    b_out: float


@cache
def net() -> Net:
    text = (INCLUDE / "fa_vad_weights.h").read_text()
    measures, units = (int(_define("fa_vad.h", name)) for name in ("FA_VAD_MEASURES", "FA_VAD_UNITS"))
    gates = 3 * units
    return Net(
        _numbers(text, "INPUT_WEIGHTS").reshape(measures, gates),
        _numbers(text, "BIAS"),
        _numbers(text, "PAST_WEIGHTS").reshape(units, gates),
        _numbers(text, "PAST_BIAS"),
        _numbers(text, "OUTPUT_WEIGHTS"),
        float(_numbers(text, "OUTPUT_BIAS")[0]),
    )


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def probabilities(measures: Floats) -> Floats:
    """What the net makes of a stream's measures, one row per frame."""
    n = net()
    units = len(n.w_out)
    h = np.zeros(units)
    out = []
    for row in measures:
        now, past = row @ n.w_in + n.b_in, h @ n.w_past + n.b_past
        update = _sigmoid(now[:units] + past[:units])
        reset = _sigmoid(now[units : 2 * units] + past[units : 2 * units])
        candidate = np.tanh(now[2 * units :] + reset * past[2 * units :])
        h = (1 - update) * candidate + update * h
        is_tone = row[FIRST_LINE] + row[SECOND_LINE] > TONE_SHARE
        out.append(_sigmoid(np.array(h @ n.w_out + n.b_out - TONE_LOG_ODDS * is_tone)))
    return np.array(out)
