"""Music without singing, richer than `sounds.hold_music`: bands of made-up instruments and drums.

Every kind of `BANDS` gives float64 samples at 8 kHz on the int16 scale, at -26 dBFS; the same arguments give
the same samples. A piece has a tempo of 60 to 180 beats a minute, a scale, patterns of sixteenths that
repeat, parts that enter and leave, and a room. The kinds of `HELD_OUT_BANDS` sound by other principles than
the rest and are kept for measuring.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benches.hearing.instruments import DRUMS, Instrument, frequency_modulated, plucked_string, time_s
from benches.hearing.sounds import LEVEL_DBFS, echo_of
from benches.hearing.voices import SAMPLE_RATE, at_level

__all__ = ["BANDS", "HELD_OUT_BANDS", "band"]

Samples = NDArray[np.float64]

SCALES = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 3, 5, 7, 9, 10),
    (0, 2, 4, 7, 9),
    (0, 3, 5, 6, 7, 10),
)
STEPS = 16
"""Of a bar: sixteenths."""


# Bands


class _Piece:
    """Where notes are put, in steps of a sixteenth."""

    def __init__(self, seconds: float, rng: np.random.Generator) -> None:
        self.rng = rng
        self.seconds = seconds
        self.step_s = 15 / rng.uniform(60, 180)
        self.swing = float(rng.choice([0.0, 0.0, rng.uniform(0.1, 0.33)]))
        self.bars = int(seconds / (STEPS * self.step_s)) + 1
        self.scale = SCALES[rng.integers(len(SCALES))]
        self.root_hz = 55 * 2 ** rng.uniform(0, 1)
        self.chords = rng.integers(0, len(self.scale), 4)
        self.out = np.zeros(round(seconds * SAMPLE_RATE))

    def hz(self, degree: int, octave: int) -> float:
        up, step = divmod(degree, len(self.scale))
        return float(self.root_hz * 2 ** (octave + up + self.scale[step] / 12))

    def put(self, note: Samples, step: float, gain: float) -> None:
        late = self.swing if int(step) % 2 else 0.0
        begin = round((step + late) * self.step_s * SAMPLE_RATE)
        end = min(len(self.out), begin + len(note))
        if 0 <= begin < end:
            self.out[begin:end] += gain * note[: end - begin]

    def chord_at(self, bar: int) -> int:
        return int(self.chords[bar % len(self.chords)])

    def plays(self) -> list[bool]:
        """A part rests in some pairs of bars."""
        pairs = self.rng.random(self.bars // 2 + 1) < 0.8
        return [bool(pairs[bar // 2]) for bar in range(self.bars)]

    def pattern(self, density: float) -> list[int]:
        """The steps of a bar on which something begins; the strong ones are likelier."""
        weight = np.array([1.6 if step % 4 == 0 else 1.1 if step % 2 == 0 else 0.5 for step in range(STEPS)])
        return np.flatnonzero(self.rng.random(STEPS) < density * weight).tolist()


Play = Callable[[float, float, float], Samples]
"""Hz, seconds and the Hz before: a note."""


def _player(piece: _Piece) -> Play:
    instrument = Instrument.drawn(piece.rng)
    return lambda hz, seconds, before: instrument.note(hz, seconds, piece.rng, before)


def _pad(piece: _Piece, play: Play) -> None:
    held = int(piece.rng.choice([4, 8, 16, 16]))
    for bar, on in enumerate(piece.plays()):
        root = piece.chord_at(bar)
        for step in range(0, STEPS, held) if on else ():
            for third in range(int(piece.rng.integers(2, 5))):
                note = play(piece.hz(root + 2 * third, 1), held * piece.step_s, 0.0)
                piece.put(note, bar * STEPS + step, 0.5)


def _stabs(piece: _Piece, play: Play) -> None:
    pattern, length = piece.pattern(0.35), piece.rng.uniform(0.5, 3.0)
    for bar, on in enumerate(piece.plays()):
        root = piece.chord_at(bar)
        for step in pattern if on else ():
            for third in range(3):
                note = play(piece.hz(root + 2 * third, 2), length * piece.step_s, 0.0)
                piece.put(note, bar * STEPS + step, 0.5)


def _bass(piece: _Piece, play: Play) -> None:
    pattern, length = piece.pattern(0.4), piece.rng.uniform(0.8, 4.0)
    for bar, on in enumerate(piece.plays()):
        for step in pattern if on else ():
            degree = piece.chord_at(bar) + int(piece.rng.choice([0, 0, 0, 4]))
            piece.put(play(piece.hz(degree, 0), length * piece.step_s, 0.0), bar * STEPS + step, 0.9)


def _line(piece: _Piece, play: Play) -> None:
    """A tune: a motif of a bar or two that comes back, now and then changed."""
    rng = piece.rng
    octave = int(rng.integers(1, 4))
    motif, degree = [], int(rng.integers(0, 7))
    for step in sorted({*piece.pattern(0.4), *(STEPS + s for s in piece.pattern(0.4))}):
        degree = int(np.clip(degree + rng.integers(-3, 4), -4, 11))
        motif.append((step, degree))
    legato = rng.random() < 0.6
    before_hz = 0.0
    for bar, on in enumerate(piece.plays()):
        turn = bar % 2 * STEPS
        for place, (step, degree) in enumerate(motif):
            if not on or not turn <= step < turn + STEPS:
                continue
            until = motif[place + 1][0] if place + 1 < len(motif) else 2 * STEPS
            length = max(until - step, 1) if legato else 1.0
            shift = int(rng.integers(-2, 3)) if rng.random() < 0.15 else 0
            hz = piece.hz(degree + shift + piece.chord_at(bar) % 3, octave)
            gain = rng.uniform(0.6, 1.1)
            piece.put(play(hz, length * piece.step_s, before_hz), bar * STEPS + step - turn, gain)
            before_hz = hz


def _arpeggio(piece: _Piece, play: Play) -> None:
    each, order = int(piece.rng.choice([1, 2])), piece.rng.permutation(4)
    for bar, on in enumerate(piece.plays()):
        for number, step in enumerate(range(0, STEPS, each) if on else ()):
            degree = piece.chord_at(bar) + 2 * int(order[number % 4])
            note = play(piece.hz(degree, 2), each * piece.step_s * 1.2, 0.0)
            piece.put(note, bar * STEPS + step, 0.6)


def _drums(piece: _Piece) -> None:
    """A kit: each drum has its own pattern, with hits of varying strength."""
    kit = piece.rng.permutation(len(DRUMS))[: piece.rng.integers(1, 6)]
    for number in kit.tolist():
        hit = DRUMS[number](piece.rng)
        hit = hit / (np.abs(hit).max() + 1e-9) * piece.rng.uniform(0.5, 3.0)
        pattern = piece.pattern(piece.rng.uniform(0.15, 0.7))
        for bar, on in enumerate(piece.plays()):
            for step in pattern if on else ():
                piece.put(hit, bar * STEPS + step, piece.rng.uniform(0.4, 1.0))


def _sweep(piece: _Piece) -> None:
    """Noise whose resonance moves over some bars: surf, risers, a flanger."""
    time = time_s(piece.seconds)
    hz = 1200 * 2 ** (1.5 * np.sin(2 * np.pi * piece.rng.uniform(0.05, 0.6) * time + piece.rng.uniform(0, 6)))
    slow = np.convolve(piece.rng.standard_normal(len(time)), np.hanning(40) / 20, mode="same")
    piece.out += piece.rng.uniform(0.3, 1.5) * slow * np.cos(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE)


def _finished(piece: _Piece) -> Samples:
    rng, out = piece.rng, piece.out
    if rng.random() < 0.3:  # echoes in time
        delay = round(3 * piece.step_s * SAMPLE_RATE)
        for turn in (1, 2, 3):
            if turn * delay < len(out):
                out = out + 0.5**turn * np.concatenate([np.zeros(turn * delay), piece.out[: -turn * delay]])
    if rng.random() < 0.7:
        seed, tail_ms = int(rng.integers(1 << 30)), float(np.exp(rng.uniform(4.0, 7.6)))
        out = out + echo_of(
            out, loss_db=rng.uniform(0, 18), delay_ms=rng.uniform(1, 40), seed=seed, tail_ms=tail_ms
        )
    if rng.random() < 0.4:  # a mastered mix is dense
        out = np.tanh(out / (np.sqrt(np.mean(np.square(out))) + 1e-9) * rng.uniform(0.4, 1.5))
    return at_level(out, LEVEL_DBFS)


def band(seconds: float, seed: int) -> Samples:
    """One to five parts, with or without drums."""
    rng = np.random.default_rng(seed)
    piece = _Piece(seconds, rng)
    parts = (_pad, _stabs, _bass, _line, _line, _arpeggio)
    for number in rng.permutation(len(parts))[: rng.integers(1, 6)].tolist():
        parts[number](piece, _player(piece))
    if rng.random() < 0.65:
        _drums(piece)
    if rng.random() < 0.1:
        _sweep(piece)
    return _finished(piece)


def solo(seconds: float, seed: int) -> Samples:
    """One instrument alone."""
    rng = np.random.default_rng(seed)
    piece = _Piece(seconds, rng)
    (_line, _line, _arpeggio, _stabs, _bass)[rng.integers(5)](piece, _player(piece))
    return _finished(piece)


def beats(seconds: float, seed: int) -> Samples:
    """Drums over little else, as in dance music."""
    rng = np.random.default_rng(seed)
    piece = _Piece(seconds, rng)
    _drums(piece)
    _drums(piece)
    piece.out *= rng.uniform(1.0, 3.0)
    for part in (_bass, _stabs, _pad):
        if rng.random() < 0.5:
            part(piece, _player(piece))
    if rng.random() < 0.4:
        _sweep(piece)
    return _finished(piece)


def strings(seconds: float, seed: int) -> Samples:
    """Guitars: plucked strings in chords and a tune."""
    rng = np.random.default_rng(seed)
    piece = _Piece(seconds, rng)
    brightness = rng.uniform(0.1, 0.9)

    def play(hz: float, length_s: float, before_hz: float) -> Samples:
        return plucked_string(hz, min(2.5 * length_s, 3.0), rng, brightness)

    for part in ((_arpeggio,), (_stabs, _line), (_pad, _bass, _line), (_line,))[rng.integers(4)]:
        part(piece, play)
    return _finished(piece)


def bells(seconds: float, seed: int) -> Samples:
    """Bells, brass and electric pianos by frequency modulation, at times over drums."""
    rng = np.random.default_rng(seed)
    piece = _Piece(seconds, rng)
    parts = (_pad, _stabs, _bass, _line, _arpeggio)
    for number in rng.permutation(len(parts))[: rng.integers(1, 4)].tolist():
        ratio = float(rng.choice([1.0, 2.0, 3.0, 1.41, 3.5, 0.5]))
        index, fade = rng.uniform(0.5, 6.0), rng.uniform(0.3, 6.0)

        def play(
            hz: float, length_s: float, _: float, r: float = ratio, i: float = index, f: float = fade
        ) -> Samples:
            return frequency_modulated(hz, length_s, rng, r, i, f)

        parts[number](piece, play)
    if rng.random() < 0.3:
        _drums(piece)
    return _finished(piece)


BANDS: dict[str, Callable[[float, int], Samples]] = {"band": band, "solo": solo, "beats": beats}
"""What a detector may learn from; each takes seconds and a seed."""

HELD_OUT_BANDS: dict[str, Callable[[float, int], Samples]] = {"strings": strings, "bells": bells}
"""Kept for measuring."""
