"""What else is heard on a telephone: noises, tones, keys, music, clicks, and words that only say "go on".

Every generator gives float64 samples at 8 kHz on the int16 scale, at -26 dBFS over their active parts unless
said otherwise; the same arguments give the same samples. `voices.at_level` scales them, `voices.on_the_line`
makes int16 of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benches.hearing.voices import SAMPLE_RATE, TRAIN_VOICES, Utterance, at_level, conversation, say

__all__ = [
    "BACKCHANNELS",
    "DTMF_HZ",
    "MUSIC",
    "NOISES",
    "STEADY_TONES",
    "TONES",
    "babble",
    "backchannel",
    "chords",
    "clicks",
    "dtmf",
    "echo_of",
    "hold_music",
    "melody",
    "noise",
    "tone",
    "tones",
]

Samples = NDArray[np.float64]

LEVEL_DBFS = -26.0
SLOPE_S = 0.002
"""Tones begin and end within 2 ms, as from a generator at an exchange."""

BACKCHANNELS = ("uh-huh", "okay", "mm-hm", "yeah", "right", "I see", "mhm", "sure")
"""What a listener says without wanting the turn."""

_BACKCHANNEL_TEXT = {"uh-huh": "uh huh", "mm-hm": "mm hmm", "mhm": "hm hm"}

DTMF_HZ: dict[str, tuple[int, int]] = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}
"""ITU-T Q.23: low and high group frequency of a key."""


def _time(seconds: float) -> Samples:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _shaped(seconds: float, rng: np.random.Generator, gain: Callable[[Samples], Samples]) -> Samples:
    """White noise through a magnitude response over Hz."""
    count = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    return np.asarray(np.fft.irfft(spectrum * gain(np.maximum(hz, 1.0)), count))


def _sum_of_tones(hz: Sequence[float], time: Samples, rng: np.random.Generator | None = None) -> Samples:
    phases = rng.uniform(0, 2 * np.pi, len(hz)) if rng is not None else np.zeros(len(hz))
    out = np.zeros(len(time))
    for frequency, phase in zip(hz, phases, strict=True):
        out += np.sin(2 * np.pi * frequency * time + phase)
    return out


def _gate(count: int, spans: Sequence[tuple[float, float]]) -> Samples:
    """One inside the spans (seconds), zero outside, with short slopes."""
    envelope = np.zeros(count)
    for begin_s, end_s in spans:
        begin, end = round(begin_s * SAMPLE_RATE), min(round(end_s * SAMPLE_RATE), count)
        if end <= begin:
            continue
        envelope[begin:end] = 1
        slope = min(round(SLOPE_S * SAMPLE_RATE), (end - begin) // 2)
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(slope) + 0.5) / max(slope, 1))
        envelope[begin : begin + slope] = rise
        envelope[end - slope : end] = rise[::-1]
    return envelope


def _at_active_level(samples: Samples, dbfs: float = LEVEL_DBFS) -> Samples:
    return at_level(samples, dbfs, np.abs(samples) > 0)


# Noises


def _white(seconds: float, rng: np.random.Generator) -> Samples:
    return rng.standard_normal(round(seconds * SAMPLE_RATE))


def _pink(seconds: float, rng: np.random.Generator) -> Samples:
    return _shaped(seconds, rng, lambda hz: 1 / np.sqrt(hz))


def _brown(seconds: float, rng: np.random.Generator) -> Samples:
    return _shaped(seconds, rng, lambda hz: 1 / np.maximum(hz, 20.0))


def _blue(seconds: float, rng: np.random.Generator) -> Samples:
    return _shaped(seconds, rng, np.sqrt)


def _speech_shaped(seconds: float, rng: np.random.Generator) -> Samples:
    """Steady noise with the long-term spectrum of speech: level to 500 Hz, then -9 dB per octave."""
    return _shaped(seconds, rng, lambda hz: np.minimum(1.0, (hz / 100) ** 2) / (1 + (hz / 500) ** 1.5))


def _car(seconds: float, rng: np.random.Generator) -> Samples:
    """Engine harmonics that wander slowly over low rumble."""
    time = _time(seconds)
    engine_hz = rng.uniform(28, 60) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.05, 0.2) * time))
    phase = 2 * np.pi * np.cumsum(engine_hz) / SAMPLE_RATE
    engine = sum(np.sin(k * phase + k) / k for k in range(1, 9))
    return np.asarray(2.0 * _shaped(seconds, rng, lambda hz: 1 / (1 + (hz / 150) ** 2)) + 0.02 * engine)


def _wind(seconds: float, rng: np.random.Generator) -> Samples:
    """Low noise in gusts."""
    time = _time(seconds)
    gusts = np.exp(1.2 * np.sin(2 * np.pi * rng.uniform(0.3, 1.2) * time + rng.uniform(0, 6)))
    return np.asarray(gusts * _shaped(seconds, rng, lambda hz: 1 / (1 + (hz / 250) ** 1.5)))


def _fan(seconds: float, rng: np.random.Generator) -> Samples:
    """Broad noise with the lines of a blade."""
    lines = _sum_of_tones([rng.uniform(90, 260) * k for k in (1, 2, 3)], _time(seconds), rng)
    return _pink(seconds, rng) * 1.0 + 0.004 * lines


def _hum(seconds: float, rng: np.random.Generator) -> Samples:
    """Mains at 50 or 60 Hz with its harmonics and a little hiss."""
    mains = float(rng.choice([50.0, 60.0]))
    hz = [mains * k for k in (1, 2, 3, 4, 5, 6, 7, 9, 11, 13)]
    weights = rng.uniform(0.1, 1.0, len(hz)) / np.arange(1, len(hz) + 1) ** 0.5
    time = _time(seconds)
    out = sum(w * np.sin(2 * np.pi * f * time + f) for w, f in zip(weights, hz, strict=True))
    return np.asarray(out + 0.01 * _white(seconds, rng))


def _street(seconds: float, rng: np.random.Generator) -> Samples:
    """Passing vehicles: shaped noise that swells and fades, and a horn now and then."""
    time = _time(seconds)
    out = 0.3 * _shaped(seconds, rng, lambda hz: 1 / (1 + (hz / 300) ** 1.2))
    for _ in range(max(1, round(seconds / 3))):
        centre, width = rng.uniform(0, seconds), rng.uniform(0.6, 2.0)
        swell = np.exp(-0.5 * ((time - centre) / width) ** 2)
        out = out + swell * _shaped(seconds, rng, lambda hz: 1 / (1 + (hz / 500) ** 1.4))
    if rng.random() < 0.3:
        begin = rng.uniform(0, seconds)
        horn = _sum_of_tones([395.0, 495.0, 790.0, 990.0], time, rng)
        out = out + 0.05 * horn * _gate(len(time), [(begin, begin + rng.uniform(0.2, 0.8))])
    return np.asarray(out)


def _office(seconds: float, rng: np.random.Generator) -> Samples:
    """Ventilation, keyboards and a door."""
    keys = clicks(seconds, int(rng.integers(1 << 30)), per_second=rng.uniform(2, 6))
    return at_level(_pink(seconds, rng), -36) + at_level(keys, -34)


def _crackle(seconds: float, rng: np.random.Generator) -> Samples:
    """A bad line: hiss with impulses."""
    hiss = _white(seconds, rng)
    struck = rng.random(len(hiss)) < 0.002
    return hiss + struck * rng.standard_normal(len(hiss)) * 25


def _modulated(seconds: float, rng: np.random.Generator) -> Samples:
    """Broad noise whose level goes up and down at the rate of syllables, but which is no voice."""
    time = _time(seconds)
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(1.0, 6.0) * time + rng.uniform(0, 6))
    return np.asarray(envelope**2 * _pink(seconds, rng))


def _bursts(seconds: float, rng: np.random.Generator) -> Samples:
    """Breath, rustle and bumps: coloured noise in bursts of 30 to 600 ms."""
    out = np.zeros(round(seconds * SAMPLE_RATE))
    at = rng.uniform(0, 0.5)
    while at < seconds:
        length = rng.uniform(0.03, 0.6)
        tilt, corner = rng.uniform(0.3, 2.0), rng.uniform(100, 2500)
        burst = _shaped(length, rng, lambda hz, t=tilt, c=corner: 1 / (1 + (hz / c) ** t))  # type: ignore[misc]
        shape = np.hanning(len(burst)) ** rng.uniform(0.3, 2.0)
        begin = round(at * SAMPLE_RATE)
        end = min(len(out), begin + len(burst))
        out[begin:end] += at_level(burst, -26)[: end - begin] * shape[: end - begin] * rng.uniform(0.3, 1.5)
        at += length + rng.uniform(0.1, 1.2)
    return out + at_level(_pink(seconds, rng), -60)


NOISES: dict[str, Callable[[float, np.random.Generator], Samples]] = {
    "white": _white, "pink": _pink, "brown": _brown, "blue": _blue, "speech-shaped": _speech_shaped,
    "car": _car, "wind": _wind, "fan": _fan, "hum": _hum, "street": _street, "office": _office,
    "crackle": _crackle, "modulated": _modulated, "bursts": _bursts,
}  # fmt: skip
"""Everything `noise` can make."""


def noise(kind: str, seconds: float, seed: int) -> Samples:
    """Background noise of a kind of `NOISES`."""
    return at_level(NOISES[kind](seconds, np.random.default_rng(seed)), LEVEL_DBFS)


def babble(
    seconds: float, seed: int, *, talkers: int = 8, speakers: Sequence[tuple[str, str]] = TRAIN_VOICES
) -> Samples:
    """Several people at once, none of them the caller: a room full of talk."""
    voices = [
        conversation(speakers, seconds, seed * 1009 + k, pause_s=(0.05, 0.4)).samples for k in range(talkers)
    ]
    return at_level(np.sum(voices, axis=0), LEVEL_DBFS)


# Tones

_CADENCES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # Frequencies in Hz, seconds on and off in turn; from ITU-T E.180 supplement 2 and the SIT of E.180.
    "dial-us": ((350, 440), (1e9,)),
    "dial-eu": ((425,), (1e9,)),
    "dial-uk": ((350, 450), (1e9,)),
    "stutter-us": ((350, 440), (0.1, 0.1)),
    "ringback-us": ((440, 480), (2, 4)),
    "ringback-eu": ((425,), (1, 4)),
    "ringback-uk": ((400, 450), (0.4, 0.2, 0.4, 2)),
    "busy-us": ((480, 620), (0.5, 0.5)),
    "busy-eu": ((425,), (0.5, 0.5)),
    "reorder-us": ((480, 620), (0.25, 0.25)),
    "congestion-uk": ((400,), (0.4, 0.35, 0.225, 0.525)),
    "call-waiting-us": ((440,), (0.3, 9.7)),
    "call-waiting-eu": ((425,), (0.2, 0.6)),
    "record-warning": ((1400,), (0.5, 1.5)),
    "fax-calling": ((1100,), (0.5, 3)),
    "fax-answer": ((2100,), (1e9,)),
    "beep-1000": ((1000,), (0.4, 0.6)),
    "milliwatt": ((1004,), (1e9,)),
}

TONES = tuple(_CADENCES)
"""Everything `tone` can make."""

STEADY_TONES = ("dial-us", "dial-eu", "dial-uk", "fax-answer", "milliwatt")


def tone(kind: str, seconds: float, *, begin_s: float = 0.0) -> Samples:
    """A tone of the network with its cadence, from ``begin_s`` on; a kind of `TONES`."""
    hz, cadence = _CADENCES[kind]
    time = _time(seconds)
    spans, at, step = [], begin_s, 0
    while at < seconds:
        length = cadence[step % len(cadence)]
        if step % 2 == 0:
            spans.append((at, min(seconds, at + length)))
        at += length
        step += 1
    return _at_active_level(_sum_of_tones(hz, time) * _gate(len(time), spans))


def tones(hz: Sequence[float], seconds: float) -> Samples:
    """Any steady sum of tones."""
    time = _time(seconds)
    return _at_active_level(_sum_of_tones(hz, time) * _gate(len(time), [(0, seconds)]))


def dtmf(
    keys: str, *, on_s: float = 0.1, off_s: float = 0.1, twist_db: float = 0.0, dbfs: float = -15.0
) -> Samples:
    """Keypad tones, one after the other, each followed by a pause.

    Args:
        keys: of ``0-9 * # A-D``.
        on_s: how long a key sounds.
        off_s: silence after it.
        twist_db: level of the high group over the low one.
        dbfs: level of the pair while it sounds.
    """
    out = []
    for key in keys:
        low, high = DTMF_HZ[key]
        time = _time(on_s)
        pair = np.sin(2 * np.pi * low * time) + 10 ** (twist_db / 20) * np.sin(2 * np.pi * high * time)
        out.append(at_level(pair, dbfs) * _gate(len(time), [(0, on_s)]))
        out.append(np.zeros(round(off_s * SAMPLE_RATE)))
    return np.concatenate(out) if out else np.zeros(0)


# Clicks and music


def clicks(seconds: float, seed: int, *, per_second: float = 4.0) -> Samples:
    """Key clicks, taps and handset bumps: impulses that ring for 1 to 25 ms, over faint hiss."""
    rng = np.random.default_rng(seed)
    out = 8.0 * rng.standard_normal(round(seconds * SAMPLE_RATE))
    at = rng.uniform(0, 0.3)
    while at < seconds:
        time = _time(0.06)
        ring = np.zeros(len(time))
        for _ in range(rng.integers(1, 4)):
            decay = rng.uniform(0.001, 0.025 if rng.random() < 0.3 else 0.008)
            ring += np.sin(2 * np.pi * rng.uniform(200, 3600) * time + rng.uniform(0, 6)) * np.exp(
                -time / decay
            )
        ring += rng.standard_normal(len(time)) * np.exp(-time / rng.uniform(0.001, 0.004))
        begin = round(at * SAMPLE_RATE)
        end = min(len(out), begin + len(ring))
        out[begin:end] += (ring * 32768 * 10 ** (rng.uniform(-30, -10) / 20))[: end - begin]
        if rng.random() < 0.5:  # the key comes up again
            again = begin + round(rng.uniform(0.05, 0.12) * SAMPLE_RATE)
            end = min(len(out), again + len(ring))
            if again < end:
                out[again:end] += (ring * 32768 * 10 ** (rng.uniform(-36, -18) / 20))[: end - again]
        at += rng.exponential(1 / per_second) + 0.04
    return np.asarray(out)


@dataclass(frozen=True)
class _Timbre:
    """How an instrument sounds: its harmonics, how a note begins and dies, and how it trembles."""

    rolloff: float
    """The k-th harmonic is k to this power weaker."""
    attack_s: float
    decay_per_s: float = 0.0
    vibrato: float = 0.0
    """Share of the frequency."""
    tremolo: float = 0.0
    has_even_harmonics: bool = True
    body_hz: float = 0.0
    """Centre of a resonance, 0 for none."""


_INSTRUMENTS = (
    _Timbre(1.2, 0.003, decay_per_s=1.5),  # plucked
    _Timbre(1.0, 0.02),  # organ
    _Timbre(0.9, 0.08, vibrato=0.006),  # strings
    _Timbre(2.0, 0.003, decay_per_s=1.5),  # electric piano
    _Timbre(0.7, 0.04, vibrato=0.006),  # brass
    _Timbre(2.5, 0.05),  # flute
)


def _timbre(rng: np.random.Generator) -> _Timbre:
    """One of the instruments, or as often one that nobody has built."""
    if rng.random() < 0.5:
        return _INSTRUMENTS[rng.integers(len(_INSTRUMENTS))]
    return _Timbre(
        rolloff=rng.uniform(0.3, 2.5),
        attack_s=float(rng.choice([0.002, 0.01, 0.03, 0.08])),
        decay_per_s=float(rng.choice([0.0, 0.5, 2.0, 6.0])),
        vibrato=float(rng.choice([0.0, 0.003, 0.008, 0.015])),
        tremolo=float(rng.choice([0.0, 0.0, 0.3])),
        has_even_harmonics=bool(rng.random() < 0.7),
        body_hz=float(rng.choice([0.0, rng.uniform(300, 2500)])),
    )


def _note(hz: float, seconds: float, timbre: _Timbre, rng: np.random.Generator) -> Samples:
    time = _time(seconds)
    wave = np.sin(2 * np.pi * 5.5 * time + rng.uniform(0, 6))
    phase = 2 * np.pi * hz * np.cumsum(1 + timbre.vibrato * wave) / SAMPLE_RATE
    out = np.zeros(len(time))
    for k in range(1, 25, 1 if timbre.has_even_harmonics else 2):
        if hz * k > 3800:
            break
        gain = k**-timbre.rolloff
        if timbre.body_hz:
            gain *= 1 + 4 * np.exp(-np.square(np.log2(hz * k / timbre.body_hz) / 0.4))
        fade = np.exp(-time * timbre.decay_per_s * (1 + 0.5 * k))
        out += gain * np.sin(k * phase + rng.uniform(0, 6)) * fade
    rise = np.minimum(1.0, time / timbre.attack_s)
    fall = np.clip((seconds - time) / 0.03, 0.0, 1.0)
    return np.asarray(out * rise * fall * (1 + timbre.tremolo * wave))


_SCALE = (0, 2, 4, 5, 7, 9, 11)
_CHORDS = ((0, 2, 4), (3, 5, 7), (4, 6, 8), (5, 7, 9), (1, 3, 5))


def _degree(root_hz: float, degree: int) -> float:
    octave, step = divmod(degree, 7)
    return float(root_hz * 2 ** (octave + _SCALE[step] / 12))


def chords(seconds: float, seed: int) -> Samples:
    """Held chords of three or four notes, changing every half to two seconds."""
    rng = np.random.default_rng(seed)
    timbre, root = _timbre(rng), rng.uniform(110, 262)
    out = np.zeros(round(seconds * SAMPLE_RATE))
    at = 0.0
    while at < seconds:
        length = rng.uniform(0.5, 2.0)
        begin = round(at * SAMPLE_RATE)
        for degree in _CHORDS[rng.integers(len(_CHORDS))]:
            note = _note(_degree(root, degree), length, timbre, rng)
            end = min(len(out), begin + len(note))
            out[begin:end] += note[: end - begin]
        at += length
    return at_level(out, LEVEL_DBFS)


def melody(seconds: float, seed: int) -> Samples:
    """One line of single notes, as a ring tone or a solo."""
    rng = np.random.default_rng(seed)
    timbre, root = _timbre(rng), rng.uniform(196, 523)
    out = np.zeros(round(seconds * SAMPLE_RATE))
    at, degree = 0.0, 0
    while at < seconds:
        length = float(rng.choice([0.12, 0.2, 0.25, 0.4, 0.5]))
        degree = int(np.clip(degree + rng.integers(-3, 4), -3, 9))
        note = _note(_degree(root, degree), length, timbre, rng)
        begin = round(at * SAMPLE_RATE)
        end = min(len(out), begin + len(note))
        out[begin:end] += note[: end - begin]
        at += length * float(rng.choice([1.0, 1.0, 1.0, 2.0]))
    return at_level(out, LEVEL_DBFS)


def _drums(seconds: float, beat_s: float, rng: np.random.Generator) -> Samples:
    out = np.zeros(round(seconds * SAMPLE_RATE))
    for step in range(int(seconds / (beat_s / 2))):
        time = _time(0.15)
        if step % 4 == 0:
            hit = np.sin(2 * np.pi * 70 * time + 6 * np.exp(-time * 40)) * np.exp(-time * 25)
        elif step % 4 == 2:
            hit = 0.6 * rng.standard_normal(len(time)) * np.exp(-time * 30)
        else:
            hit = 0.2 * np.diff(rng.standard_normal(len(time) + 1)) * np.exp(-time * 90)
        begin = round(step * beat_s / 2 * SAMPLE_RATE)
        end = min(len(out), begin + len(hit))
        out[begin:end] += hit[: end - begin]
    return out


def hold_music(seconds: float, seed: int) -> Samples:
    """A small band: chords, a bass, a tune and often drums."""
    rng = np.random.default_rng(seed)
    beat_s, root = rng.uniform(0.35, 0.7), rng.uniform(130, 220)
    pad, lead, bass = _timbre(rng), _timbre(rng), _INSTRUMENTS[0]
    out = np.zeros(round(seconds * SAMPLE_RATE))

    def add(note: Samples, at_s: float, gain: float) -> None:
        begin = round(at_s * SAMPLE_RATE)
        end = min(len(out), begin + len(note))
        out[begin:end] += gain * note[: max(end - begin, 0)]

    bar = 0
    while bar * 4 * beat_s < seconds:
        begin_s = bar * 4 * beat_s
        chord = _CHORDS[rng.integers(len(_CHORDS))]
        for degree in chord:
            add(_note(_degree(root, degree), 4 * beat_s, pad, rng), begin_s, 0.5)
        for beat in range(4):
            at_s = begin_s + beat * beat_s
            if at_s >= seconds:
                break
            add(_note(_degree(root / 2, chord[0]), 0.9 * beat_s, bass, rng), at_s, 0.8)
            if rng.random() < 0.7:
                degree = chord[rng.integers(3)] + int(rng.choice([0, 7]))
                add(_note(_degree(root, degree), beat_s * rng.choice([0.45, 0.9]), lead, rng), at_s, 0.7)
        bar += 1
    if rng.random() < 0.7:
        out += rng.uniform(0.3, 1.0) * _drums(seconds, beat_s, rng)
    return at_level(out, LEVEL_DBFS)


MUSIC: dict[str, Callable[[float, int], Samples]] = {
    "chords": chords,
    "melody": melody,
    "hold": hold_music,
}
"""Music without singing, by kind; each takes seconds and a seed."""


# What listeners say


@cache
def backchannel(word: str, voice: str = "en-us+f3", speed: float = 1.0, pitch: float = 1.0) -> Utterance:
    """A word of `BACKCHANNELS` by an espeak-ng voice, without the silence around it."""
    spoken = say(_BACKCHANNEL_TEXT.get(word, word), voice, speed, pitch)
    inside = np.flatnonzero(spoken.is_speech)
    begin, end = int(inside[0]), int(inside[-1]) + 1
    return Utterance(spoken.samples[begin:end], spoken.is_speech[begin:end])


def echo_of(
    played: Samples, *, loss_db: float, delay_ms: float, seed: int = 0, tail_ms: float = 40.0
) -> Samples:
    """What comes back of what we play: late, weaker by ``loss_db``, coloured by reflections."""
    rng = np.random.default_rng(seed)
    taps = rng.standard_normal(max(round(tail_ms * SAMPLE_RATE / 1000), 1))
    taps *= np.exp(-np.arange(len(taps)) / (len(taps) / 4))
    taps[0] = 2.0
    count = len(played)
    padded = 1 << (count + len(taps)).bit_length()
    path = np.fft.rfft(taps, padded)
    returned = np.fft.irfft(np.fft.rfft(played, padded) * path, padded)[:count]
    delayed = np.concatenate([np.zeros(round(delay_ms * SAMPLE_RATE / 1000)), returned])[:count]
    power = float(np.sum(np.square(delayed)))
    if power <= 0:
        return np.zeros(count)
    gain = np.sqrt(float(np.sum(np.square(played))) / power) * 10 ** (-loss_db / 20)
    return np.asarray(delayed * gain)
