"""Made-up instruments and drums, note by note, for `benches.hearing.music`.

Notes are float64 samples at 8 kHz of an amplitude near 1; the same generator in the same state gives the same
note.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benches.hearing.voices import SAMPLE_RATE

__all__ = ["DRUMS", "Instrument", "frequency_modulated", "plucked_string", "time_s"]

Samples = NDArray[np.float64]

TABLE = 1024
"""Samples of a stored period."""
HIGHEST_HZ = 3800.0


def time_s(seconds: float) -> Samples:
    """The instants of a note's samples, at least one."""
    return np.arange(max(round(seconds * SAMPLE_RATE), 1)) / SAMPLE_RATE


def _cycle(gains: Samples, phases: Samples) -> Samples:
    """One period with the given harmonics, the first being the fundamental."""
    spectrum = np.zeros(TABLE // 2 + 1, dtype=complex)
    spectrum[1 : len(gains) + 1] = gains * np.exp(1j * phases)
    return np.fft.irfft(spectrum, TABLE) * TABLE / 2


@dataclass(frozen=True)
class Instrument:
    """A note is two sounds of the same pitch, bright and dark, that change places while it lasts."""

    bright: float
    """The k-th harmonic of the bright sound is k to this power weaker."""
    dark: float
    comb: int
    """Every harmonic that is a multiple of it is missing; 2 gives a square or a reed, 0 leaves all."""
    body_hz: float
    """Centre of a resonance, 0 for none."""
    attack_s: float
    fade_per_s: float
    dulling_per_s: float
    """How fast the bright sound gives way."""
    wobble_hz: float
    """Rate at which the brightness swings, 0 for not at all."""
    vibrato_hz: float
    vibrato: float
    """Share of the frequency, reached after a third of a second."""
    tremolo: float
    glide_s: float
    """Time in which a note leaves the pitch of the one before it."""
    unison: int
    spread: float
    """How far the voices of a unison are apart, a share of the frequency."""
    breath: float
    drive: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Instrument":
        bright = rng.uniform(0.2, 1.8)
        struck = rng.random() < 0.55
        return cls(
            bright=bright,
            dark=bright + rng.uniform(0.3, 2.5),
            comb=int(rng.choice([0, 0, 0, 2, 2, 3, 5])),
            body_hz=float(rng.choice([0.0, rng.uniform(250, 3000)])),
            attack_s=rng.uniform(0.001, 0.008) if struck else float(np.exp(rng.uniform(-5.0, -1.6))),
            fade_per_s=float(np.exp(rng.uniform(0.0, 2.5))) if struck else rng.uniform(0.0, 0.5),
            dulling_per_s=float(np.exp(rng.uniform(0.0, 3.0))) if rng.random() < 0.7 else 0.0,
            wobble_hz=float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0.3, 9.0)])),
            vibrato_hz=rng.uniform(4.0, 7.5),
            vibrato=float(rng.choice([0.0, 0.0, rng.uniform(0.002, 0.02)])),
            tremolo=float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0.1, 0.6)])),
            glide_s=float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0.02, 0.2)])),
            unison=int(rng.choice([1, 1, 1, 2, 3])),
            spread=rng.uniform(0.001, 0.012),
            breath=float(rng.choice([0.0, 0.0, rng.uniform(0.01, 0.3)])),
            drive=float(rng.choice([0.0, 0.0, 0.0, rng.uniform(1.0, 8.0)])),
        )

    def note(self, hz: float, seconds: float, rng: np.random.Generator, before_hz: float = 0.0) -> Samples:
        time = time_s(seconds)
        numbers = np.arange(1, int(np.clip(HIGHEST_HZ / hz, 1, 60)) + 1)
        gains = np.ones(len(numbers))
        if self.comb:
            gains[numbers % self.comb == 0] = 0.02
        if self.body_hz:
            gains *= 1 + 5 * np.exp(-np.square(np.log2(hz * numbers / self.body_hz) / 0.5))
        phases = rng.uniform(0, 2 * np.pi, len(numbers))
        bright = _cycle(gains * numbers**-self.bright, phases)
        dark = _cycle(gains * numbers**-self.dark, phases)

        swing = np.sin(2 * np.pi * self.vibrato_hz * time + rng.uniform(0, 6))
        pitch = hz * (1 + self.vibrato * np.minimum(1.0, time / 0.35) * swing)
        if self.glide_s and before_hz:
            pitch = pitch * (before_hz / hz) ** np.exp(-time * 3 / self.glide_s)
        turns = np.cumsum(pitch) / SAMPLE_RATE
        share = np.exp(-time * self.dulling_per_s)
        if self.wobble_hz:
            share = share * (0.5 + 0.5 * np.sin(2 * np.pi * self.wobble_hz * time + rng.uniform(0, 6)))
        out = np.zeros(len(time))
        for voice in range(self.unison):
            detune = 1 + self.spread * (voice - (self.unison - 1) / 2)
            at = ((turns * detune + rng.random()) * TABLE).astype(np.int64) % TABLE
            out += dark[at] + share * (bright[at] - dark[at])
        out /= np.sqrt(np.mean(np.square(out))) + 1e-9
        if self.breath:
            out = out + self.breath * rng.standard_normal(len(out))
        if self.drive:
            out = np.tanh(self.drive * out)
        rise = np.minimum(1.0, (time + 1 / SAMPLE_RATE) / self.attack_s)
        fall = np.clip((seconds - time) / 0.02, 0.0, 1.0)
        return out * rise * fall * np.exp(-time * self.fade_per_s) * (1 + self.tremolo * swing)


def plucked_string(hz: float, seconds: float, rng: np.random.Generator, brightness: float) -> Samples:
    """Karplus and Strong's string: noise round a delay line that averages neighbours."""
    period = max(round(SAMPLE_RATE / hz), 2)
    line = rng.standard_normal(period)
    keep = 0.5 + 0.5 * brightness
    rounds = []
    for _ in range(max(round(seconds * SAMPLE_RATE), 1) // period + 1):
        rounds.append(line)
        line = 0.996 * (keep * line + (1 - keep) * np.roll(line, 1))
    return np.concatenate(rounds)[: max(round(seconds * SAMPLE_RATE), 1)]


def frequency_modulated(
    hz: float, seconds: float, rng: np.random.Generator, ratio: float, index: float, fade_per_s: float
) -> Samples:
    """Chowning's bells, brass and electric pianos: one sine turns the phase of another."""
    time = time_s(seconds)
    fade = np.exp(-time * fade_per_s)
    depth = min(index, 3000.0 / (hz * ratio))
    inner = np.sin(2 * np.pi * hz * ratio * time + rng.uniform(0, 6))
    out = np.sin(2 * np.pi * hz * time + depth * fade * inner) * fade * np.minimum(1.0, time / 0.004)
    return np.asarray(out * np.clip((seconds - time) / 0.01, 0.0, 1.0))


# Drums


def _kick(rng: np.random.Generator) -> Samples:
    time = time_s(rng.uniform(0.1, 0.35))
    low, drop = rng.uniform(45, 90), rng.uniform(2, 25)
    thump = np.sin(2 * np.pi * low * time + drop * np.exp(-time * 40)) * np.exp(-time * rng.uniform(8, 25))
    return np.asarray(thump + 0.2 * rng.standard_normal(len(time)) * np.exp(-time * 300))


def _snare(rng: np.random.Generator) -> Samples:
    time = time_s(rng.uniform(0.1, 0.3))
    tone = np.sin(2 * np.pi * rng.uniform(150, 260) * time) * np.exp(-time * 25)
    rattle = rng.standard_normal(len(time)) * np.exp(-time * rng.uniform(10, 40))
    return np.asarray(tone * rng.uniform(0, 1) + 0.7 * rattle)


def _hat(rng: np.random.Generator) -> Samples:
    time = time_s(rng.uniform(0.04, 0.5))
    hiss = np.diff(rng.standard_normal(len(time) + 1), n=1)
    return np.asarray(0.4 * hiss * np.exp(-time * rng.uniform(8, 120)))


def _clap(rng: np.random.Generator) -> Samples:
    time = time_s(0.2)
    steps = [np.where(time >= at, np.exp(-(time - at) * rate), 0) for at, rate in
             ((0, 200), (0.011, 200), (0.022, 200), (0.03, rng.uniform(20, 50)))]  # fmt: skip
    ring = np.sin(2 * np.pi * rng.uniform(700, 1800) * time + 3 * rng.standard_normal(len(time)))
    return np.asarray(np.sum(steps, axis=0) * ring)


def _tom(rng: np.random.Generator) -> Samples:
    time = time_s(0.35)
    hz = rng.uniform(80, 400) * (1 + 0.4 * np.exp(-time * 15))
    return np.asarray(np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE) * np.exp(-time * rng.uniform(8, 20)))


def _block(rng: np.random.Generator) -> Samples:
    """Wood, cowbell, triangle: a few lines that are no harmonics."""
    time = time_s(rng.uniform(0.05, 0.4))
    lines = [np.sin(2 * np.pi * hz * time) for hz in rng.uniform(400, 3500, rng.integers(1, 5))]
    return np.asarray(0.5 * np.sum(lines, axis=0) * np.exp(-time * rng.uniform(8, 60)))


DRUMS = (_kick, _snare, _hat, _hat, _clap, _tom, _block, _block)
"""Each gives one hit."""
