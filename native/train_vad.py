"""Trains the voice activity detector and writes its weights as ``native/include/fa_vad_weights.h``.

Run ``python native/train_vad.py`` (needs numpy, scipy, a C compiler and, for espeak-ng,
``pip install 'fastagent[local]'``) and commit the header. It takes six minutes on two cores. ``--human
FOLDER`` also learns from recorded prompts: WAV files of clean speech, 8 kHz mono PCM16, in any folders below;
the committed weights are made without it.

What it learns from is made here, from fixed seeds: clips of one side of a call. In most of them one of
`benches.hearing.voices.TRAIN_VOICES` speaks, through a random telephone (band, tilt, reverberation, level -45
to -10 dBFS, G.711) over noise 0 to 40 dB down, sometimes with clicks, keys, tones or music besides; in the
others there is only noise, a crowd, the network's tones, keypad tones, music, clicks or nothing. A frame's
label is exact: it is speech if the clean voice is active in half of it.

The measures come from the kernel itself (bands.c and vad.c, compiled here into a library of their own), so
there is no second meaning of them. The net is a layer of gated recurrent units and a logistic output, trained
by back-propagation through whole clips with Adam, in numpy. Means and spreads of the measures are folded into
the weights. Two runs agree in what they detect, not in the last digit: that is up to the BLAS, and to
espeak-ng, which carries its state from text to text.
"""

import argparse
import ctypes
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
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

from benches.hearing import sounds, voices  # noqa: E402

HEADER = NATIVE / "include" / "fa_vad_weights.h"

CLIPS = 3600
CLIP_S = 8.0
EPOCHS = 42
BATCH = 64
LEARNING_RATE = 4e-3
SEED = 20

HELD_OUT_NOISES = ("street", "office", "fan")
"""Kinds of noise that are kept for measuring."""

Floats = NDArray[np.float32]


# Clips


@dataclass(frozen=True)
class Clip:
    pcm: NDArray[np.int16]
    labels: NDArray[np.bool_]
    """One per frame."""
    weights: Floats
    """How much a frame's error counts."""


def tilted(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A microphone's colour: up to 5 dB per octave and one broad resonance."""
    count = len(samples)
    hz = np.maximum(np.fft.rfftfreq(count, 1 / voices.SAMPLE_RATE), 50.0)
    octaves = np.log2(hz / 1000)
    peak = rng.uniform(-8, 8) * np.exp(-np.square((octaves - rng.uniform(-1.5, 1.5)) / 0.5))
    gain_db = rng.uniform(-5, 5) * octaves + peak
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * 10 ** (gain_db / 20), count))


def breathy(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Speech with noise on its own envelope: human voices are never as clean as a synthesiser's."""
    envelope = np.sqrt(np.convolve(np.square(samples), np.hanning(80) / 40, mode="same"))
    hiss = (
        np.diff(rng.standard_normal(len(samples) + 1))
        if rng.random() < 0.5
        else rng.standard_normal(len(samples))
    )
    return np.asarray(samples + rng.uniform(0.03, 0.35) * envelope * hiss)


def roomy(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    tail = sounds.echo_of(
        samples,
        loss_db=rng.uniform(6, 20),
        delay_ms=rng.uniform(2, 20),
        seed=int(rng.integers(1 << 30)),
        tail_ms=rng.uniform(60, 250),
    )
    return samples + tail


def background(seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    seed = int(rng.integers(1 << 30))
    if rng.random() < 0.12:
        return sounds.babble(seconds, int(rng.integers(40)), talkers=int(rng.integers(6, 13)))
    kinds = [kind for kind in sounds.NOISES if kind not in HELD_OUT_NOISES]
    return sounds.noise(str(rng.choice(kinds)), seconds, seed)


def keys(seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    out = np.zeros(round(seconds * voices.SAMPLE_RATE))
    at = rng.uniform(0, 1.0)
    while at < seconds:
        on_s, off_s = rng.uniform(0.04, 0.5), rng.uniform(0.04, 0.6)
        key = str(rng.choice(list(sounds.DTMF_HZ)))
        tone = sounds.dtmf(
            key, on_s=on_s, off_s=off_s, twist_db=rng.uniform(-8, 8), dbfs=rng.uniform(-40, -6)
        )
        begin = round(at * voices.SAMPLE_RATE)
        end = min(len(out), begin + len(tone))
        out[begin:end] = tone[: end - begin]
        at += on_s + off_s
    return out


def network_tone(seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A tone of the network, or one to three lines that no network uses, in some cadence."""
    if rng.random() < 0.5:
        return sounds.tone(str(rng.choice(sounds.TONES)), seconds, begin_s=rng.uniform(0, 1.5))
    out = np.zeros(round(seconds * voices.SAMPLE_RATE))
    hz = rng.uniform(150, 3400, rng.integers(1, 4)).tolist()
    at = rng.uniform(0, 1.0)
    on_s = float(rng.choice([0.06, 0.2, 0.5, 1.0, 3.0]))
    changes = rng.random() < 0.3
    while at < seconds:
        if changes:
            hz = rng.uniform(200, 3400, rng.integers(1, 4)).tolist()
        tone = sounds.tones(hz, on_s)
        begin = round(at * voices.SAMPLE_RATE)
        end = min(len(out), begin + len(tone))
        out[begin:end] = tone[: end - begin]
        at += on_s + rng.uniform(0.02, 1.0)
    return out


def music(seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    kind = str(rng.choice(list(sounds.MUSIC)))
    return sounds.MUSIC[kind](seconds, int(rng.integers(1 << 30)))


def spoken_clip(rng: np.random.Generator, spoken: voices.Utterance) -> Clip:
    speech = spoken.samples
    if rng.random() < 0.7:
        speech = breathy(speech, rng)
    if rng.random() < 0.4:
        speech = roomy(speech, rng)
    if rng.random() < 0.8:
        speech = tilted(speech, rng)
    level = rng.uniform(-45, -10)
    speech = voices.at_level(speech, level, spoken.is_speech)
    seconds = len(speech) / voices.SAMPLE_RATE
    mixed = speech
    if rng.random() < 0.92:
        noise_level = max(level - rng.uniform(0, 40), -75.0)
        mixed = mixed + voices.at_level(background(seconds, rng), noise_level)
    chance = rng.random()
    if chance < 0.2:
        mixed = mixed + sounds.clicks(seconds, int(rng.integers(1 << 30)), per_second=rng.uniform(0.5, 4))
    elif chance < 0.28:
        quiet = ~np.convolve(spoken.is_speech, np.ones(800), mode="same").astype(bool)
        mixed = mixed + keys(seconds, rng) * quiet
    elif chance < 0.36:
        mixed = mixed + voices.at_level(network_tone(seconds, rng), level - rng.uniform(3, 25))
    elif chance < 0.42:
        mixed = mixed + voices.at_level(music(seconds, rng), level - rng.uniform(12, 30))
    labels = voices.frame_labels(spoken.is_speech)
    weights = np.ones(len(labels), dtype=np.float32)
    # The first frames of an utterance are what a listener waits for.
    starts = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0) == 1)
    for start in starts:
        weights[start : start + 4] = 2.0
    return finished(mixed, labels, weights, rng)


def silent_clip(rng: np.random.Generator) -> Clip:
    chance = rng.random()
    weight = 1.0
    floor = voices.at_level(background(CLIP_S, rng), rng.uniform(-80, -45))
    if chance < 0.18:
        mixed = voices.at_level(background(CLIP_S, rng), rng.uniform(-65, -15))
    elif chance < 0.36:
        mixed, weight = floor + keys(CLIP_S, rng), 5.0
    elif chance < 0.56:
        mixed, weight = floor + voices.at_level(network_tone(CLIP_S, rng), rng.uniform(-48, -8)), 5.0
    elif chance < 0.84:
        mixed, weight = floor + voices.at_level(music(CLIP_S, rng), rng.uniform(-45, -10)), 2.5
    elif chance < 0.96:
        click = sounds.clicks(CLIP_S, int(rng.integers(1 << 30)), per_second=rng.uniform(1, 8))
        mixed, weight = floor + click, 1.5
    else:
        mixed = np.zeros(round(CLIP_S * voices.SAMPLE_RATE)) + rng.uniform(-200, 200)
    if rng.random() < 0.3:  # no noise at all before and behind
        mixed = mixed - floor
    count = len(mixed) // voices.FRAME_SAMPLES
    labels = np.zeros(count, dtype=bool)
    return finished(mixed, labels, np.full(count, weight, dtype=np.float32), rng)


def finished(
    mixed: NDArray[np.float64], labels: NDArray[np.bool_], weights: Floats, rng: np.random.Generator
) -> Clip:
    if rng.random() < 0.75:
        mixed = voices.telephone_band(mixed, rng.uniform(80, 330), rng.uniform(3100, 3900))
    law: voices.Law = "mulaw" if rng.random() < 0.5 else "alaw" if rng.random() < 0.6 else "pcm16"
    return Clip(voices.on_the_line(mixed, law), labels, weights)


def clip(index: int) -> Clip:
    """The clip of that number; the same each time."""
    rng = np.random.default_rng((SEED, index))
    if rng.random() < 0.62:
        spoken = voices.conversation(voices.TRAIN_VOICES, CLIP_S, SEED * 100_000 + index)
        return spoken_clip(rng, spoken)
    return silent_clip(rng)


def human_clips(folder: Path) -> list[Clip]:
    """Clips of recorded prompts, each file once, strung together between pauses."""
    clips: list[Clip] = []
    rng = np.random.default_rng(SEED)
    length = round(CLIP_S * voices.SAMPLE_RATE)
    paths = sorted(folder.rglob("*.wav"))
    rng.shuffle(paths)
    samples, mask, at = np.zeros(length), np.zeros(length, dtype=bool), 4000
    for path in paths:
        with wave.open(str(path)) as reader:
            if reader.getframerate() != voices.SAMPLE_RATE or reader.getnchannels() != 1:
                continue
            prompt = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2").astype(np.float64)
        active = voices.activity(prompt)
        if not active.any():
            continue
        end = min(length, at + len(prompt))
        samples[at:end] = voices.at_level(prompt, -26, active)[: end - at]
        mask[at:end] = active[: end - at]
        at = end + round(rng.uniform(0.2, 1.5) * voices.SAMPLE_RATE)
        if at >= length:
            clips.append(spoken_clip(rng, voices.Utterance(samples, mask)))
            samples, mask, at = np.zeros(length), np.zeros(length, dtype=bool), 4000
    return clips


# Measures


def _size(name: str) -> int:
    found = re.search(rf"#define {name} (\d+)", (NATIVE / "include" / "fa_vad.h").read_text())
    assert found is not None
    return int(found[1])


MEASURES, UNITS = _size("FA_VAD_MEASURES"), _size("FA_VAD_UNITS")

_STREAM = """
#include "fa_vad.h"
void measure_stream(const int16_t *pcm, long frames, float *out)
{
    fa_vad vad;
    fa_bands bands;
    fa_band_frame frame;
    fa_vad_init(&vad);
    fa_bands_init(&bands);
    for (long i = 0; i < frames; i++, pcm += FA_FRAME_SAMPLES, out += FA_VAD_MEASURES) {
        fa_bands_process(&bands, pcm, &frame);
        fa_vad_measure(&vad, pcm, &frame, out);
    }
}
"""


class Measurer:
    """The kernel's measures of a whole stream."""

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

    def measure(self, pcm: NDArray[np.int16]) -> Floats:
        frames = len(pcm) // voices.FRAME_SAMPLES
        pcm = np.ascontiguousarray(pcm, dtype=np.int16)
        out = np.empty((frames, MEASURES), dtype=np.float32)
        pointers = pcm.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p)
        self._library.measure_stream(pointers[0], ctypes.c_long(frames), pointers[1])
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

    def gradients(self, x: Floats, labels: Floats, weights: Floats) -> tuple[float, list[Floats]]:
        """The weighted mean cross-entropy, and its slope along every parameter."""
        frames, clips, _ = x.shape
        u = UNITS
        inputs = x @ self.w_in + self.b_in
        hs = np.zeros((frames + 1, clips, u), dtype=np.float32)
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
        return loss, [
            x.reshape(-1, MEASURES).T @ flat_in,
            flat_in.sum(axis=0),
            hs[:-1].reshape(-1, u).T @ flat_past,
            flat_past.sum(axis=0),
            np.tensordot(d_odds, hs[1:], axes=([0, 1], [0, 1])).astype(np.float32),
            np.array([d_odds.sum()], dtype=np.float32),
        ]


def train(x: Floats, labels: Floats, weights: Floats, epochs: int) -> Net:
    """Adam with a falling rate; x is (frames, clips, measures), of mean 0 and spread 1."""
    rng = np.random.default_rng(SEED)
    net = Net.random(rng)
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
            loss, slopes = net.gradients(batch, labels[:, chosen], weights[:, chosen])
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


def clips_of(indices: Sequence[int], jobs: int) -> list[Clip]:
    # Voices are rendered in one process and one order, because espeak-ng remembers; the rest may be spread.
    for index in indices:
        rng = np.random.default_rng((SEED, index))
        if rng.random() < 0.62:
            voices.conversation(voices.TRAIN_VOICES, CLIP_S, SEED * 100_000 + index)
    for index in range(40):
        sounds.babble(CLIP_S, index, talkers=12)
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(clip, indices, chunksize=16))


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
    print(f"{len(clips)} clips of {CLIP_S:.0f} s, {time.monotonic() - began:.0f} s", flush=True)
    measurer = Measurer()
    x = np.stack([measurer.measure(c.pcm) for c in clips], axis=1)
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
