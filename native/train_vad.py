"""Trains the voice activity detector and writes its weights as ``native/include/fa_vad_weights.h``.

Run ``python native/train_vad.py`` (needs numpy, scipy, a C compiler and, for espeak-ng,
``pip install 'fastagent[local]'``) and commit the header. On two cores it takes six to eight minutes: two for
the clips, the rest on one core. ``--human FOLDER`` also learns from recorded prompts: WAV files of clean
speech, 8 kHz mono PCM16, in any folders below; the committed weights are made without it.

What it learns from is made by `benches.hearing.training_set` from fixed seeds: clips of one side of a call.
In most of them one of `voices.TRAIN_VOICES` speaks, through a random telephone (band, tilt, reverberation,
level -45 to -10 dBFS, G.711) over noise 0 to 40 dB down, sometimes with clicks, keys, tones or music
besides or after music on hold; in the others there is only noise, a crowd, the network's tones, keypad
tones, music, clicks or nothing. A frame's label is exact: it is speech if the clean voice is active in half
of it.

The measures come from the kernel itself (bands.c and vad.c, compiled here into a library of their own), so
there is no second meaning of them. The net is a layer of gated recurrent units and a logistic output, trained
by back-propagation through whole clips with Adam, in numpy. Most clips begin in the state in which another
one ended, and on the floor that it left, because a call is longer than a clip: without that, a minute of
music leaves the net in a state from which it no longer hears. Means and spreads of the measures are folded
into the weights.

Two runs on one machine write the same bits, however many processes make the clips: espeak-ng is seeded and
renders into a cache of its own, in one order. The first line printed holds a digest of the clips. Another
espeak-ng, compiler or BLAS, like another seed, writes other weights that detect alike: over three such runs
AUC on recorded people stayed within 0.005 and the share of recorded music called speech within 2.5 points.
"""

import argparse
import ctypes
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The matrices are small: threads of the BLAS would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

NATIVE = Path(__file__).resolve().parent
sys.path.insert(0, str(NATIVE.parent))

from benches.hearing import voices  # noqa: E402
from benches.hearing.training_set import CLIP_S, clips_of, human_clips  # noqa: E402

HEADER = NATIVE / "include" / "fa_vad_weights.h"

CLIPS = 3400
EPOCHS = 38
BATCH = 48
LEARNING_RATE = 4e-3
SEED = 20
CONTINUED_SHARE = 0.67
"""Of the clips in a step, those that go on from another clip's end."""

Floats = NDArray[np.float32]


# Measures


def _size(name: str) -> int:
    found = re.search(rf"#define {name} (\d+)", (NATIVE / "include" / "fa_vad.h").read_text())
    assert found is not None
    return int(found[1])


MEASURES, UNITS = _size("FA_VAD_MEASURES"), _size("FA_VAD_UNITS")

_STREAM = """
#include "fa_vad.h"
static fa_vad vad;
static fa_bands bands;
void measure_stream(int is_new, const int16_t *pcm, long frames, float *out)
{
    fa_band_frame frame;
    if (is_new) {
        fa_vad_init(&vad);
        fa_bands_init(&bands);
    }
    for (long i = 0; i < frames; i++, pcm += FA_FRAME_SAMPLES, out += FA_VAD_MEASURES) {
        fa_bands_process(&bands, pcm, &frame);
        fa_vad_measure(&vad, pcm, &frame, out);
    }
}
"""


class Measurer:
    """The kernel's measures of a stream, new or going on."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # Its own weights, all zero, found before the committed ones: the sizes may just have changed.
            (folder / "fa_vad_weights.h").write_text(header(Net.zero()))
            (folder / "stream.c").write_text(_STREAM)
            library = folder / "vad.so"
            sources = [NATIVE / "src" / "bands.c", NATIVE / "src" / "vad.c", folder / "stream.c"]
            flags = ["-std=c11", "-O3", "-fPIC", "-shared", f"-I{folder}", f"-I{NATIVE / 'include'}"]
            subprocess.run(["cc", *flags, *map(str, sources), "-o", str(library)], check=True)
            self._library: Any = ctypes.CDLL(str(library))

    def measure(self, pcm: NDArray[np.int16], *, is_new: bool) -> Floats:
        frames = len(pcm) // voices.FRAME_SAMPLES
        pcm = np.ascontiguousarray(pcm, dtype=np.int16)
        out = np.empty((frames, MEASURES), dtype=np.float32)
        pointers = pcm.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p)
        self._library.measure_stream(ctypes.c_int(is_new), pointers[0], ctypes.c_long(frames), pointers[1])
        return out


# The net


def sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


@dataclass
class Net:
    """One layer of gated recurrent units (update, reset, candidate) and a logistic output."""

    w_in: Floats
    b_in: Floats
    w_past: Floats
    b_past: Floats
    w_out: Floats
    b_out: Floats

    @classmethod
    def zero(cls) -> "Net":
        gates = 3 * UNITS
        shapes = ((MEASURES, gates), (gates,), (UNITS, gates), (gates,), (UNITS,), (1,))
        return cls(*(np.zeros(shape, dtype=np.float32) for shape in shapes))

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Net":
        net = cls.zero()
        net.w_in = (rng.standard_normal(net.w_in.shape) / np.sqrt(MEASURES)).astype(np.float32)
        for gate in range(3):
            square = np.linalg.qr(rng.standard_normal((UNITS, UNITS)))[0]
            net.w_past[:, gate * UNITS : (gate + 1) * UNITS] = square
        net.b_in[:UNITS] = 1.0  # units begin by remembering
        net.w_out = (rng.standard_normal(UNITS) / np.sqrt(UNITS)).astype(np.float32)
        return net

    def parameters(self) -> list[Floats]:
        return [self.w_in, self.b_in, self.w_past, self.b_past, self.w_out, self.b_out]

    def probabilities(self, x: Floats) -> Floats:
        """Of clips side by side: (frames, clips, measures) -> (frames, clips)."""
        inputs = x @ self.w_in + self.b_in
        h = np.zeros((x.shape[1], UNITS), dtype=np.float32)
        out = np.empty(x.shape[:2], dtype=np.float32)
        for t in range(len(x)):
            past = h @ self.w_past + self.b_past
            gates = sigmoid(inputs[t, :, : 2 * UNITS] + past[:, : 2 * UNITS])
            update, reset = gates[:, :UNITS], gates[:, UNITS:]
            candidate = np.tanh(inputs[t, :, 2 * UNITS :] + reset * past[:, 2 * UNITS :])
            h = candidate + update * (h - candidate)
            out[t] = h @ self.w_out
        return sigmoid(out + self.b_out)

    def gradients(
        self, x: Floats, labels: Floats, weights: Floats, start: Floats
    ) -> tuple[float, list[Floats], Floats]:
        """The weighted mean cross-entropy from a state on, its slopes, and the last state."""
        frames, clips, _ = x.shape
        u = UNITS
        inputs = x @ self.w_in + self.b_in
        hs = np.empty((frames + 1, clips, u), dtype=np.float32)
        hs[0] = start
        gates = np.empty((frames, clips, 2 * u), dtype=np.float32)
        candidates = np.empty((frames, clips, u), dtype=np.float32)
        pasts = np.empty((frames, clips, u), dtype=np.float32)
        for t in range(frames):
            past = hs[t] @ self.w_past + self.b_past
            gates[t] = sigmoid(inputs[t, :, : 2 * u] + past[:, : 2 * u])
            pasts[t] = past[:, 2 * u :]
            candidates[t] = np.tanh(inputs[t, :, 2 * u :] + gates[t, :, u:] * pasts[t])
            hs[t + 1] = candidates[t] + gates[t, :, :u] * (hs[t] - candidates[t])
        p = sigmoid(hs[1:] @ self.w_out + self.b_out)
        scale = 1.0 / float(weights.sum())
        clear = np.clip(p, 1e-6, 1 - 1e-6)
        loss = -float(np.sum(weights * np.where(labels > 0.5, np.log(clear), np.log(1 - clear)))) * scale
        d_odds = (p - labels) * weights * np.float32(scale)
        d_in = np.empty((frames, clips, 3 * u), dtype=np.float32)
        d_past = np.empty_like(d_in)
        dh = np.zeros((clips, u), dtype=np.float32)
        for t in range(frames - 1, -1, -1):
            dh = dh + d_odds[t][:, None] * self.w_out
            update, reset, candidate = gates[t, :, :u], gates[t, :, u:], candidates[t]
            d_candidate = dh * (1 - update) * (1 - candidate * candidate)
            d_in[t, :, :u] = dh * (hs[t] - candidate) * update * (1 - update)
            d_in[t, :, u : 2 * u] = d_candidate * pasts[t] * reset * (1 - reset)
            d_in[t, :, 2 * u :] = d_candidate
            d_past[t] = d_in[t]
            d_past[t, :, 2 * u :] *= reset
            dh = dh * update + d_past[t] @ self.w_past.T
        flat_in, flat_past = d_in.reshape(-1, 3 * u), d_past.reshape(-1, 3 * u)
        slopes = [
            x.reshape(-1, MEASURES).T @ flat_in,
            flat_in.sum(axis=0),
            hs[:-1].reshape(-1, u).T @ flat_past,
            flat_past.sum(axis=0),
            np.tensordot(d_odds, hs[1:], axes=([0, 1], [0, 1])).astype(np.float32),
            np.array([d_odds.sum()], dtype=np.float32),
        ]
        return loss, slopes, hs[-1]


def train(x: Floats, labels: Floats, weights: Floats, epochs: int) -> Net:
    """Adam with a falling rate; x is (frames, clips, measures), of mean 0 and spread 1."""
    rng = np.random.default_rng(SEED)
    net = Net.random(rng)
    ends = np.zeros((BATCH, UNITS), dtype=np.float32)
    first = [np.zeros_like(p) for p in net.parameters()]
    second = [np.zeros_like(p) for p in net.parameters()]
    clips = x.shape[1]
    steps = epochs * (clips // BATCH)
    step = 0
    began = time.monotonic()
    for epoch in range(epochs):
        order = rng.permutation(clips)
        losses = []
        for at in range(0, clips - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            batch = x[:, chosen] + rng.normal(0, 0.05, (1, BATCH, MEASURES)).astype(np.float32)
            # A call goes on: most clips begin in the state in which another one ended, whatever it was.
            start = rng.permutation(ends) * (rng.random((BATCH, 1)) < CONTINUED_SHARE).astype(np.float32)
            loss, slopes, ends = net.gradients(batch, labels[:, chosen], weights[:, chosen], start)
            losses.append(loss)
            norm = np.sqrt(sum(float(np.sum(np.square(slope))) for slope in slopes))
            step += 1
            rate = LEARNING_RATE * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps)))
            rate *= min(1.0, step / 50)
            for p, slope, m, v in zip(net.parameters(), slopes, first, second, strict=True):
                slope = slope * np.float32(min(1.0, 1.0 / max(norm, 1e-9)))
                m += 0.1 * (slope - m)
                v += 0.002 * (slope * slope - v)
                m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.998**step)
                p -= (rate * m_hat / (np.sqrt(v_hat) + 1e-8)).astype(np.float32)
        if epoch % 5 == 4 or epoch == epochs - 1:
            elapsed = time.monotonic() - began
            print(f"epoch {epoch + 1:3}: loss {np.mean(losses):.4f}, {elapsed:.0f} s", flush=True)
    return net


def folded(net: Net, mean: Floats, spread: Floats) -> Net:
    """The same net for measures as they come."""
    w_in = net.w_in / spread[:, None]
    return Net(w_in, net.b_in - mean @ w_in, net.w_past, net.b_past, net.w_out, net.b_out)


def auc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Area under the ROC curve: how often speech scores above what is not, ties counting half."""
    from scipy.stats import rankdata

    labels = labels.astype(bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


# The header


def _rows(values: Floats) -> str:
    lines = []
    numbers = [f"{value:.6e}f" for value in np.round(values, 6) + 0.0]
    for at in range(0, len(numbers), 6):
        lines.append("    " + ", ".join(numbers[at : at + 6]) + ",")
    return "\n".join(lines)


def header(net: Net) -> str:
    parts = [
        "/* Written by native/train_vad.py: do not edit. Columns: update, reset, candidate of every unit. */",
        "#ifndef FA_VAD_WEIGHTS_H\n#define FA_VAD_WEIGHTS_H\n",
        "#define FA_VAD_GATES (3 * FA_VAD_UNITS)\n",
    ]
    for name, rows, matrix in (
        ("INPUT_WEIGHTS", "FA_VAD_MEASURES", net.w_in),
        ("PAST_WEIGHTS", "FA_VAD_UNITS", net.w_past),
    ):
        parts.append(f"static const float {name}[{rows}][FA_VAD_GATES] = {{")
        parts += ["{\n" + _rows(row) + "\n}," for row in matrix]
        parts.append("};\n")
    for name, size, vector in (
        ("BIAS", "FA_VAD_GATES", net.b_in),
        ("PAST_BIAS", "FA_VAD_GATES", net.b_past),
        ("OUTPUT_WEIGHTS", "FA_VAD_UNITS", net.w_out),
    ):
        parts.append(f"static const float {name}[{size}] = {{\n{_rows(vector)}\n}};\n")
    parts.append(f"static const float OUTPUT_BIAS = {float(net.b_out[0]):.6e}f;\n")
    parts.append("#endif\n")
    return "\n".join(parts)


# All of it


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the voice activity detector.")
    parser.add_argument("--human", type=Path, help="folder of recorded prompts to learn from as well")
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips to make (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="times through them (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that make clips")
    parser.add_argument("--out", type=Path, default=HEADER, help="header to write (default %(default)s)")
    args = parser.parse_args()

    began = time.monotonic()
    clips = clips_of(range(args.clips), args.jobs)
    if args.human is not None:
        clips += human_clips(args.human)
    digest = hashlib.sha256(b"".join(c.pcm.tobytes() for c in clips)).hexdigest()[:16]
    print(f"{len(clips)} clips of {CLIP_S:.0f} s ({digest}), {time.monotonic() - began:.0f} s", flush=True)
    measurer = Measurer()
    x = np.stack([measurer.measure(c.pcm, is_new=i % 3 == 0) for i, c in enumerate(clips)], axis=1)
    labels = np.stack([c.labels for c in clips], axis=1).astype(np.float32)
    weights = np.stack([c.weights for c in clips], axis=1)
    mean = x.mean(axis=(0, 1)).astype(np.float32)
    spread = np.maximum(x.std(axis=(0, 1)), 1e-3).astype(np.float32)
    x = (x - mean) / spread
    print(f"{labels.size} frames, {labels.mean():.0%} speech", flush=True)
    net = train(x, labels, weights, args.epochs)
    sample = net.probabilities(x[:, :256])
    found = auc(sample.ravel(), labels[:, :256].ravel())
    print(f"AUC over {sample.shape[1]} of the training clips: {found:.4f}")
    args.out.write_text(header(folded(net, mean, spread)))
    print(f"wrote {args.out}, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
