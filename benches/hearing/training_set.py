"""What the native speech detector learns from: labelled clips of one side of a call, from fixed seeds."""

import tempfile
import wave
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benches.hearing import music, sounds, voices

__all__ = ["CLIP_S", "Clip", "clips_of", "human_clips"]

CLIP_S = 12.0
SPOKEN_SHARE = 0.57
"""Of the clips, those in which somebody speaks."""
BABBLES = 40
"""Different crowds."""
SEED = 20

HELD_OUT_NOISES = ("street", "office", "fan")
"""Kinds of noise that are kept for measuring."""

Floats = NDArray[np.float32]


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
        return sounds.babble(seconds, int(rng.integers(BABBLES)), talkers=int(rng.integers(6, 13)))
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
    """A tone of the network, or one to three lines that no network uses, in some cadence; some swing."""
    if rng.random() < 0.5:
        return sounds.tone(str(rng.choice(sounds.TONES)), seconds, begin_s=rng.uniform(0, 1.5))
    out = np.zeros(round(seconds * voices.SAMPLE_RATE))
    hz = rng.uniform(150, 3400, rng.integers(1, 4)).tolist()
    at = rng.uniform(0, 1.0)
    on_s = float(rng.choice([0.03, 0.06, 0.2, 0.5, 1.0, 3.0]))
    longest_pause_s = float(rng.choice([0.0, 0.1, 1.0]))
    changes = rng.random() < 0.4
    swing_hz, swing = rng.uniform(8, 50), float(rng.choice([0.0, 0.0, rng.uniform(0.3, 1.0)]))
    while at < seconds:
        if changes:
            hz = rng.uniform(200, 3400, rng.integers(1, 4)).tolist()
        tone = sounds.tones(hz, on_s)
        begin = round(at * voices.SAMPLE_RATE)
        end = min(len(out), begin + len(tone))
        out[begin:end] = tone[: end - begin]
        at += on_s + rng.uniform(0, longest_pause_s)
    time = np.arange(len(out)) / voices.SAMPLE_RATE
    return np.asarray(out * (1 + swing * np.sin(2 * np.pi * swing_hz * time)))


def some_music(seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    kinds = music.BANDS if rng.random() < 0.75 else sounds.MUSIC
    kind = str(rng.choice(list(kinds)))
    return kinds[kind](seconds, int(rng.integers(1 << 30)))


def on_hold(
    rng: np.random.Generator, spoken: voices.Utterance
) -> tuple[voices.Utterance, NDArray[np.float64]]:
    """The same from one of its sentences on, and the music before it."""
    starts = np.flatnonzero(np.diff(spoken.is_speech.astype(np.int8), prepend=0) == 1)
    begin = int(rng.choice(starts)) if len(starts) else len(spoken.samples)
    later = np.arange(len(spoken.samples)) >= begin
    end = begin - round(rng.uniform(-0.1, 0.8) * voices.SAMPLE_RATE)
    held = some_music(len(later) / voices.SAMPLE_RATE, rng) * (np.arange(len(later)) < end)
    return voices.Utterance(spoken.samples * later, spoken.is_speech & later), held


def spoken_clip(rng: np.random.Generator, spoken: voices.Utterance) -> Clip:
    held = None
    if rng.random() < 0.12:
        spoken, held = on_hold(rng, spoken)
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
    elif chance < 0.48:
        mixed = mixed + voices.at_level(some_music(seconds, rng), level - rng.uniform(4, 30))
    if held is not None and held.any():
        mixed = mixed + voices.at_level(held, level - rng.uniform(-8, 12), held != 0)
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
    if chance < 0.16:
        mixed = voices.at_level(background(CLIP_S, rng), rng.uniform(-65, -15))
    elif chance < 0.29:
        mixed, weight = floor + keys(CLIP_S, rng), 5.0
    elif chance < 0.45:
        mixed, weight = floor + voices.at_level(network_tone(CLIP_S, rng), rng.uniform(-48, -8)), 5.0
    elif chance < 0.87:
        mixed, weight = floor + voices.at_level(some_music(CLIP_S, rng), rng.uniform(-45, -10)), 3.0
    elif chance < 0.97:
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
    if rng.random() < SPOKEN_SHARE:
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


def _render_into(cache: Path) -> None:
    voices.CACHE = cache


def clips_of(indices: Sequence[int], jobs: int) -> list[Clip]:
    """The clips of those numbers, the same bits from run to run."""
    with tempfile.TemporaryDirectory() as name:
        # espeak-ng carries phases over from text to text. So all voices are rendered here, in one process, in
        # one order, into a cache that holds nothing from before; the rest may be spread.
        cache, kept = Path(name), voices.CACHE
        _render_into(cache)
        try:
            for index in indices:
                rng = np.random.default_rng((SEED, index))
                if rng.random() < SPOKEN_SHARE:
                    voices.conversation(voices.TRAIN_VOICES, CLIP_S, SEED * 100_000 + index)
            for index in range(BABBLES):
                sounds.babble(CLIP_S, index, talkers=12)
            with ProcessPoolExecutor(jobs, initializer=_render_into, initargs=(cache,)) as pool:
                return list(pool.map(clip, indices, chunksize=16))
        finally:
            _render_into(kept)
