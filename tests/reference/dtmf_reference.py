"""DTMF bursts from their definition (ITU-T Q.23), and the checks of a receiver (ITU-T Q.24) made of them.

Levels are dBm0 per tone: full scale of mu-law (32124) is +3.17 dBm0 (ITU-T G.711).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tests.reference import g711_reference
from tests.reference.g711_reference import Law

RATE = 8000
LOW_HZ = (697, 770, 852, 941)
HIGH_HZ = (1209, 1336, 1477, 1633)
KEYS = ("123A", "456B", "789C", "*0#D")
DIGITS = "".join(KEYS)
DBM0_PEAK = 32124 / 10 ** (3.17 / 20)

Floats = NDArray[np.float64]


def pair_of(digit: str) -> tuple[int, int]:
    """The low and the high frequency of a digit, Hz."""
    row = next(row for row, keys in enumerate(KEYS) if digit in keys)
    return LOW_HZ[row], HIGH_HZ[KEYS[row].index(digit)]


def peak(level_dbm0: float) -> float:
    """The peak of a sine of that level."""
    return float(DBM0_PEAK * 10 ** (level_dbm0 / 20))


@dataclass(frozen=True)
class Burst:
    """One tone pair, switched on and off hard."""

    digit: str = "5"
    tone_ms: float = 50.0
    low_dbm0: float = -10.0
    high_dbm0: float = -10.0
    low_offset: float = 0.0
    """Relative deviation of the low frequency: 0.015 is +1.5 %."""
    high_offset: float = 0.0
    low_phase: float = 0.0
    high_phase: float = 0.0

    def samples(self) -> Floats:
        time = np.arange(ms(self.tone_ms)) / RATE
        low, high = pair_of(self.digit)
        return peak(self.low_dbm0) * np.sin(
            2 * np.pi * low * (1 + self.low_offset) * time + self.low_phase
        ) + peak(self.high_dbm0) * np.sin(2 * np.pi * high * (1 + self.high_offset) * time + self.high_phase)


def ms(duration_ms: float) -> int:
    """Samples that last so long."""
    return round(duration_ms * RATE / 1000)


def silence(duration_ms: float) -> Floats:
    return np.zeros(ms(duration_ms))


def sine(frequency: float, duration_ms: float, level_dbm0: float, phase: float = 0.0) -> Floats:
    return peak(level_dbm0) * np.sin(2 * np.pi * frequency * np.arange(ms(duration_ms)) / RATE + phase)


def pcm(*parts: Floats) -> bytes:
    """The parts one after the other as PCM16, saturated."""
    return np.clip(np.rint(np.concatenate(parts)), -32768, 32767).astype("<i2").tobytes()


Make = Callable[[np.random.Generator, str, float], tuple[Floats, str]]
"""Chance, a digit and the parameter under test give audio and the digits to be heard in it."""


@dataclass(frozen=True)
class Check:
    """One line of a receiver's conformance table."""

    name: str
    limit: float
    unit: str
    make: Make
    beyond: tuple[float, ...] = ()
    """Harder values than the limit, in order: how far the check still holds is the margin."""

    def cases(self, value: float, rounds: int, seed: int = 1) -> Iterator[tuple[bytes, str]]:
        """PCM16 and the digits in it: every digit `rounds` times, at any alignment and phase."""
        chance = np.random.default_rng(seed)
        for digit in DIGITS * rounds:
            audio, expected = self.make(chance, digit, value)
            lead = np.zeros(ms(60) + int(chance.integers(0, 160)))
            yield pcm(lead, audio, silence(80)), expected


def phased(chance: np.random.Generator, burst: Burst) -> Floats:
    """The burst at phases of chance."""
    low, high = chance.uniform(0, 2 * np.pi, 2)
    return replace(burst, low_phase=float(low), high_phase=float(high)).samples()


def frequencies(low: int, high: int, *, is_taken: bool) -> Make:
    def make(chance: np.random.Generator, digit: str, percent: float) -> tuple[Floats, str]:
        off = percent / 100
        burst = Burst(digit, low_offset=low * off, high_offset=high * off)
        return phased(chance, burst), digit if is_taken else ""

    return make


def duration(chance: np.random.Generator, digit: str, tone_ms: float) -> tuple[Floats, str]:
    return phased(chance, Burst(digit, tone_ms)), digit


def too_short(chance: np.random.Generator, digit: str, tone_ms: float) -> tuple[Floats, str]:
    return phased(chance, Burst(digit, tone_ms)), ""


def pause(chance: np.random.Generator, digit: str, gap_ms: float) -> tuple[Floats, str]:
    tones = [phased(chance, Burst(digit, 40)) for _ in range(3)]
    return np.concatenate([tones[0], silence(gap_ms), tones[1], silence(gap_ms), tones[2]]), 3 * digit


def drop_out(chance: np.random.Generator, digit: str, gap_ms: float) -> tuple[Floats, str]:
    audio = phased(chance, Burst(digit, 120))
    start = int(chance.integers(0, len(audio) - ms(gap_ms)))
    audio[start : start + ms(gap_ms)] = 0
    return audio, digit


def velocity(chance: np.random.Generator, digit: str, period_ms: float) -> tuple[Floats, str]:
    digits = digit + "".join(chance.choice(list(DIGITS), 9))
    tone_ms = round(period_ms / 2)
    tones = [phased(chance, Burst(one, tone_ms)) for one in digits]
    return np.concatenate([part for tone in tones for part in (tone, silence(period_ms - tone_ms))]), digits


def twist(low_db: int, high_db: int, *, is_taken: bool) -> Make:
    def make(chance: np.random.Generator, digit: str, decibels: float) -> tuple[Floats, str]:
        burst = Burst(digit, low_dbm0=-10 + low_db * decibels, high_dbm0=-10 + high_db * decibels)
        return phased(chance, burst), digit if is_taken else ""

    return make


def level(is_taken: bool, tone_ms: float = 40) -> Make:
    def make(chance: np.random.Generator, digit: str, dbm0: float) -> tuple[Floats, str]:
        audio = phased(chance, Burst(digit, tone_ms, low_dbm0=dbm0, high_dbm0=dbm0))
        return audio, digit if is_taken else ""

    return make


def framed(audio: Floats) -> Floats:
    """With 60 ms of silence on both sides, for what is present before and after the tone."""
    return np.concatenate([silence(60), audio, silence(60)])


def white_noise(chance: np.random.Generator, digit: str, ratio_db: float) -> tuple[Floats, str]:
    audio = framed(phased(chance, Burst(digit)))
    # Two tones of peak P have the power P^2.
    return audio + chance.normal(0, peak(-10) / 10 ** (ratio_db / 20), len(audio)), digit


def dial_tone(chance: np.random.Generator, digit: str, above_db: float) -> tuple[Floats, str]:
    audio = framed(phased(chance, Burst(digit)))
    for frequency in (350, 440):
        audio += sine(frequency, len(audio) / 8, -10 + above_db, float(chance.uniform(0, 2 * np.pi)))
    return audio, digit


def echo(chance: np.random.Generator, digit: str, delay_ms: float) -> tuple[Floats, str]:
    audio, digits = velocity(chance, digit, 100)
    late = np.concatenate([silence(delay_ms), audio])[: len(audio)]
    return audio + 10 ** (-10 / 20) * late, digits


def coded(law: Law) -> Make:
    def make(chance: np.random.Generator, digit: str, dbm0: float) -> tuple[Floats, str]:
        audio = pcm(phased(chance, Burst(digit, 40, low_dbm0=dbm0, high_dbm0=dbm0)))
        decoded = g711_reference.decode(law, g711_reference.encode(law, audio))
        return np.frombuffer(decoded, "<i2").astype(np.float64), digit

    return make


def third_tone(chance: np.random.Generator, digit: str, below_db: float) -> tuple[Floats, str]:
    other = chance.choice([frequency for frequency in LOW_HZ + HIGH_HZ if frequency not in pair_of(digit)])
    audio = phased(chance, Burst(digit, 100))
    return audio + sine(float(other), 100, -10 - below_db, float(chance.uniform(0, 6))), ""


def lone_tone(chance: np.random.Generator, digit: str, dbm0: float) -> tuple[Floats, str]:
    return sine(pair_of(digit)[int(chance.integers(2))], 200, dbm0, float(chance.uniform(0, 6))), ""


def harmonics(chance: np.random.Generator, digit: str, below_db: float) -> tuple[Floats, str]:
    audio = phased(chance, Burst(digit, 100))
    for frequency in pair_of(digit):
        audio += sine(2 * frequency, 100, -10 - below_db, float(chance.uniform(0, 6)))
    return audio, ""


CALL_PROGRESS = (
    (350, 440),
    (440, 480),
    (480, 620),
    (425, 425),
    (400, 450),
    (950, 1400),
    (1400, 1800),
    (2100, 2100),
)
"""Dial, ringback and busy tones of North America and Europe, SIT, fax answer (ITU-T E.180)."""


def call_progress(chance: np.random.Generator, digit: str, dbm0: float) -> tuple[Floats, str]:
    audio = silence(200)
    for frequency in CALL_PROGRESS[DIGITS.index(digit) % len(CALL_PROGRESS)]:
        audio = audio + sine(frequency, 200, dbm0, float(chance.uniform(0, 6)))
    return audio, ""


BOTH_WAYS = (
    ("low", 1, 0),
    ("low", -1, 0),
    ("high", 0, 1),
    ("high", 0, -1),
    *(("both", low, high) for low in (1, -1) for high in (1, -1)),
)


def offset_name(group: str, low: int, high: int) -> str:
    signs = {"low": f"{low:+d}", "high": f"{high:+d}", "both": f"{low:+d} {high:+d}"}[group]
    return f"{group} {signs.replace('1', '')}"


CHECKS = (
    Check("16 digits, 50 ms", -10, "dBm0", level(True, 50)),
    *(
        Check(
            f"takes offset, {offset_name(*way)}",
            1.5,
            "%",
            frequencies(*way[1:], is_taken=True),
            (1.7, 1.9, 2.1),
        )
        for way in BOTH_WAYS
    ),
    *(
        Check(
            f"refuses offset, {offset_name(*way)}",
            3.5,
            "%",
            frequencies(*way[1:], is_taken=False),
            (3.1, 2.7, 2.4),
        )
        for way in BOTH_WAYS
    ),
    Check("takes duration", 40, "ms", duration, (38, 37, 36, 35)),
    Check("refuses duration", 23, "ms", too_short, (25, 27, 29, 31)),
    Check("pause makes two digits", 40, "ms", pause, (35, 30, 28)),
    Check("drop-out makes no second digit", 10, "ms", drop_out, (12, 14, 16, 18)),
    Check("ten digits at a period of", 93, "ms", velocity, (85, 80, 75)),
    Check("takes twist, low tone louder", 8, "dB", twist(0, -1, is_taken=True), (8.3, 8.6)),
    Check("takes twist, high tone louder", 4, "dB", twist(-1, 0, is_taken=True), (4.5, 5, 5.5)),
    Check("refuses twist, low tone louder", 10, "dB", twist(0, -1, is_taken=False), (9.7, 9.4)),
    Check("refuses twist, high tone louder", 7, "dB", twist(-1, 0, is_taken=False), (6.7, 6.4, 6.1)),
    Check("takes level, loudest", 0, "dBm0", level(True), (3,)),
    Check("takes level, softest", -25, "dBm0", level(True), (-27, -28, -29, -30)),
    Check("refuses level", -36, "dBm0", level(False, 100), (-34, -33, -32, -31)),
    Check("white noise, ratio", 12, "dB", white_noise, (9, 8, 7, 6)),
    Check("dial tone, each against each", -9, "dB", dial_tone, (-6, -3, 0, 3, 5, 7, 9)),
    Check("echo 10 dB down, delay", 20, "ms", echo, (25,)),
    Check("mu-law, soft", -25, "dBm0", coded("ulaw"), (-28, -30)),
    Check("mu-law, loud", 0, "dBm0", coded("ulaw"), (3,)),
    Check("A-law, soft", -25, "dBm0", coded("alaw"), (-28, -30)),
    Check("A-law, loud", 0, "dBm0", coded("alaw"), (3,)),
    Check("refuses a third tone of the plan", 0, "dB below", third_tone, (2, 3, 4)),
    Check("refuses loud second harmonics", 0, "dB below", harmonics, (2, 4)),
    Check("refuses one tone alone", -5, "dBm0", lone_tone, (0, 3)),
    Check("refuses call progress tones", -10, "dBm0", call_progress, (-5, 0)),
)
"""ITU-T Q.24, "AT&T" column, at its limits; what it leaves open (refused twist and level, harmonics, third
tones) at limits of our own."""
