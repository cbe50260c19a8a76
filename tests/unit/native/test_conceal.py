"""Concealment: no step at either join, never louder, silent in the end, and better than leaving a hole."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fastagent._native.conceal import Concealer
from tests.reference import conceal_reference

RATES = pytest.mark.parametrize("sample_rate", [8000, 16000, 24000])

JOIN_MS = 5
SILENT_AFTER_MS = 305

Wave = NDArray[np.float64]


def sine(sample_rate: int, frequency: float, seconds: float = 0.5, amplitude: float = 10_000) -> Wave:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(sample_rate * seconds)) / sample_rate)


def vowel(sample_rate: int, pitch_hz: float = 120, seconds: float = 0.5) -> Wave:
    """A pulse train through two formants, with the ripple of a voice in pitch."""
    count = round(sample_rate * seconds)
    phase = (
        np.cumsum(pitch_hz * (1 + 0.01 * np.sin(np.arange(count) * 6 / sample_rate * 2 * np.pi)))
        / sample_rate
    )
    wave = np.diff(np.floor(phase), prepend=0.0)
    for formant_hz, width_hz in ((600, 80), (1400, 120)):
        radius, angle = np.exp(-np.pi * width_hz / sample_rate), 2 * np.pi * formant_hz / sample_rate
        out = np.zeros(count + 2)
        for i, pulse in enumerate(wave):
            out[i + 2] = pulse + 2 * radius * np.cos(angle) * out[i + 1] - radius**2 * out[i]
        wave = out[2:]
    scaled: Wave = wave * (12_000 / np.abs(wave).max())
    return scaled


def hiss(sample_rate: int, seconds: float = 0.5) -> Wave:
    scaled: Wave = 3000 * np.random.default_rng(5).standard_normal(round(sample_rate * seconds))
    return scaled


SIGNALS: dict[str, Callable[[int], Wave]] = {
    "vowel": vowel,
    "sine-200": lambda rate: sine(rate, 200),
    "sine-430": lambda rate: sine(rate, 430),
    "sine-1004": lambda rate: sine(rate, 1004),
    "hiss": hiss,
}


def packed(wave: Wave) -> bytes:
    return np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes()


def unpacked(pcm: bytes) -> Wave:
    return np.frombuffer(pcm, dtype="<i2").astype(float)


def through_a_loss(pcm: Wave, sample_rate: int, start: int, count: int) -> Wave:
    concealer = Concealer(sample_rate)
    source = packed(pcm)
    before = concealer.good(source[: 2 * start])
    assert before == source[: 2 * start]
    return unpacked(before + concealer.lost(count) + concealer.good(source[2 * (start + count) :]))


def power_db(wave: Wave) -> float:
    return float(10 * np.log10(np.mean(wave**2) + 1e-9))


# The joins


@RATES
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("lost_ms", [10, 20, 60, 200])
def test_no_step_is_larger_than_the_signals_own(sample_rate: int, name: str, lost_ms: int) -> None:
    pcm = SIGNALS[name](sample_rate)
    own = np.abs(np.diff(pcm)).max()
    count = sample_rate * lost_ms // 1000
    for start in range(sample_rate // 5, sample_rate // 5 + sample_rate // 50, sample_rate // 500):
        heard = through_a_loss(pcm, sample_rate, start, count)
        first = np.abs(np.diff(heard[start - 2 : start + sample_rate // 200])).max()
        join = start + count
        second = np.abs(np.diff(heard[join - 2 : join + sample_rate // 200 + 2])).max()
        assert max(first, second) <= 1.25 * own + 2


@pytest.mark.parametrize("lost_ms", [20, 60])
def test_a_hole_would_fail_the_step_test(lost_ms: int) -> None:
    """The same measure on zero fill: it can tell."""
    pcm = sine(8000, 200)
    start = next(i for i in range(1600, 1700) if abs(pcm[i]) > 9000)
    heard = pcm.copy()
    heard[start : start + 8 * lost_ms] = 0
    assert np.abs(np.diff(heard)).max() > 1.25 * np.abs(np.diff(pcm)).max() + 2


@RATES
@pytest.mark.parametrize("frequency", [100, 200, 350, 1000])
def test_a_sine_goes_on_through_a_lost_frame(sample_rate: int, frequency: float) -> None:
    pcm = sine(sample_rate, frequency)
    start, count = sample_rate // 5 + 37, sample_rate // 50
    filled = through_a_loss(pcm, sample_rate, start, count)[start : start + count]
    true = pcm[start : start + count]
    assert filled @ true / np.sqrt((filled @ filled) * (true @ true)) > 0.95
    assert -4.5 <= power_db(filled) - power_db(true) <= 0.5
    opening = slice(0, sample_rate // 200)
    assert power_db(filled[opening] - true[opening]) - power_db(true[opening]) < -12


def test_a_vowel_is_filled_better_than_by_its_last_frame() -> None:
    pcm = packed(vowel(8000, seconds=2.0))
    samples = np.frombuffer(pcm, dtype="<i2")
    lost = conceal_reference.losses(len(samples) // 160, 0.1, 1, seed=3)
    concealer = Concealer()
    frames = [pcm[i : i + 320] for i in range(0, len(pcm), 320)]
    heard = b"".join(
        concealer.lost(160) if gone else concealer.good(f) for f, gone in zip(frames, lost, strict=True)
    )
    error = power_db(unpacked(heard) - samples)
    assert error < power_db(conceal_reference.repeat(samples, lost).astype(float) - samples) - 6
    assert error < power_db(conceal_reference.zero_fill(samples, lost).astype(float) - samples) - 6


@RATES
def test_only_the_first_five_milliseconds_after_a_loss_are_changed(sample_rate: int) -> None:
    pcm, start, count = hiss(sample_rate), sample_rate // 10, sample_rate // 50
    heard = through_a_loss(pcm, sample_rate, start, count)
    join = start + count + sample_rate * JOIN_MS // 1000
    assert np.array_equal(heard[join:], unpacked(packed(pcm))[join:])
    assert not np.array_equal(heard[start + count : join], unpacked(packed(pcm))[start + count : join])


# How loud, how long


@RATES
@pytest.mark.parametrize("name", SIGNALS)
def test_a_fill_is_no_louder_than_what_came_before_and_fades(sample_rate: int, name: str) -> None:
    pcm = SIGNALS[name](sample_rate)[: sample_rate // 4]
    concealer = Concealer(sample_rate)
    concealer.good(packed(pcm))
    block = sample_rate // 200
    loudest = max((pcm[len(pcm) - i * block :][:block] ** 2).sum() for i in range(1, 5))
    filled = unpacked(concealer.lost(sample_rate // 2))
    energies = (filled.reshape(-1, block) ** 2).sum(axis=1)
    assert energies.max() <= 1.05 * loudest
    frames = energies.reshape(-1, 4).sum(axis=1)
    assert frames[0] > 0.1 * (pcm[-4 * block :] ** 2).sum()
    assert frames[2] > 0.05 * frames[0]
    assert frames[14] < 0.01 * frames[0]


@RATES
def test_a_long_loss_ends_in_silence_and_speech_comes_back_smoothly(sample_rate: int) -> None:
    concealer = Concealer(sample_rate)
    pcm = packed(vowel(sample_rate))
    concealer.good(pcm)
    filled = unpacked(concealer.lost(sample_rate))
    silent = sample_rate * SILENT_AFTER_MS // 1000
    assert np.any(filled[silent - sample_rate // 20 : silent])
    assert not np.any(filled[silent:])
    heard, join = unpacked(concealer.good(pcm)), sample_rate * JOIN_MS // 1000
    assert np.array_equal(heard[join:], unpacked(pcm)[join:])
    assert np.all(np.abs(heard[:join]) <= np.abs(unpacked(pcm)[:join]))


def test_a_fill_of_noise_does_not_buzz() -> None:
    """Repeating one stretch of noise would show as a peak of the fill's correlation with itself."""
    concealer = Concealer()
    concealer.good(packed(hiss(8000)))
    filled = unpacked(concealer.lost(480))
    flat = filled / (np.abs(np.convolve(filled**2, np.ones(81), "same")) ** 0.5 + 1)
    peaks = [flat[lag:] @ flat[:-lag] / (flat @ flat) for lag in range(20, 160)]
    assert max(peaks) < 0.5


# Any input


@RATES
@pytest.mark.parametrize(
    "pattern",
    [[0], [1], [-1], [32767], [-32768], [32767, -32768], [32767] * 9 + [-32768] * 9, [0] * 99 + [-32768]],
    ids=["silence", "one", "minus-one", "top", "bottom", "nyquist", "square", "impulses"],
)
def test_extremes_stay_in_bounds(sample_rate: int, pattern: list[int]) -> None:
    wave = np.resize(np.array(pattern, dtype=float), sample_rate // 4)
    concealer = Concealer(sample_rate)
    for _ in range(3):
        concealer.good(packed(wave))
        filled = unpacked(concealer.lost(sample_rate // 20))
        block = sample_rate // 200
        energies = (filled.reshape(-1, block) ** 2).sum(axis=1)
        loudest = max((wave[len(wave) - i * block :][:block] ** 2).sum() for i in range(1, 5))
        assert energies.max() <= 1.05 * loudest + block


def test_silence_stays_silence() -> None:
    concealer = Concealer()
    for _ in range(5):
        assert concealer.good(bytes(320)) == bytes(320)
        assert concealer.lost(160) == bytes(320)


@RATES
def test_a_loss_at_the_very_start_is_silent(sample_rate: int) -> None:
    concealer = Concealer(sample_rate)
    assert concealer.lost(500) == bytes(1000)
    pcm = packed(vowel(sample_rate))
    assert (
        concealer.good(pcm)[2 * sample_rate * JOIN_MS // 1000 :] == pcm[2 * sample_rate * JOIN_MS // 1000 :]
    )


@RATES
def test_a_loss_after_a_few_samples_is_bounded(sample_rate: int) -> None:
    for count in (1, 2, 17, 40, 160):
        concealer = Concealer(sample_rate)
        concealer.good(packed(np.full(count, 20_000.0)))
        assert np.abs(unpacked(concealer.lost(480))).max() <= 32_767


@RATES
def test_a_second_loss_continues_what_was_heard(sample_rate: int) -> None:
    pcm = packed(sine(sample_rate, 200))
    concealer = Concealer(sample_rate)
    size = 2 * sample_rate // 50
    heard = concealer.good(pcm[: 10 * size]) + concealer.lost(size // 2)
    heard += concealer.good(pcm[11 * size : 12 * size]) + concealer.lost(size // 2)
    own = np.abs(np.diff(unpacked(pcm))).max()
    assert np.abs(np.diff(unpacked(heard))).max() <= 1.25 * own + 2


# Chunks


@RATES
def test_samples_do_not_depend_on_how_they_are_cut(sample_rate: int) -> None:
    pcm = packed(vowel(sample_rate))
    half, tenth = sample_rate // 4, sample_rate // 10
    whole = Concealer(sample_rate)
    expected = (
        whole.good(pcm[: 2 * half]) + whole.lost(tenth) + whole.good(pcm[2 * half :]) + whole.lost(tenth)
    )
    chance = random.Random(sample_rate)
    for longest in (1, 3, 41, 160, 1000):
        concealer = Concealer(sample_rate)
        heard = b""
        for source, count in ((pcm[: 2 * half], half), (None, tenth), (pcm[2 * half :], half), (None, tenth)):
            done = 0
            while done < count:
                n = min(chance.randint(0, longest), count - done)
                heard += (
                    concealer.lost(n) if source is None else concealer.good(source[2 * done : 2 * (done + n)])
                )
                done += n
        assert heard == expected


def test_in_place_is_the_same_at_every_alignment() -> None:
    pcm = packed(vowel(8000))
    expected = Concealer()
    expected.good(pcm)
    expected.lost(100)
    joined = expected.good(pcm)
    for start in range(17):
        concealer = Concealer()
        concealer.good(memoryview(bytes(start) + pcm)[start:])
        concealer.lost(100)
        room = bytearray(start) + pcm
        concealer.good_into(memoryview(room)[start:])
        assert room[start:] == joined


def test_the_input_of_good_is_left_alone() -> None:
    concealer, pcm = Concealer(), packed(vowel(8000))
    kept = bytes(bytearray(pcm))
    concealer.good(pcm)
    concealer.lost(160)
    assert concealer.good(pcm) != kept
    assert pcm == kept


def test_reset_forgets_all() -> None:
    concealer, pcm = Concealer(), packed(hiss(8000))

    def heard() -> bytes:
        return concealer.good(pcm) + concealer.lost(300) + concealer.good(pcm)

    fresh = heard()
    assert heard() != fresh
    concealer.reset()
    assert concealer.lost(160) == bytes(320)
    concealer.reset()
    assert heard() == fresh


# What is refused, what it takes


@pytest.mark.parametrize("sample_rate", [0, -8000, 8001, 44100, 48000])
def test_other_rates_are_refused(sample_rate: int) -> None:
    with pytest.raises(ValueError, match=f"got {sample_rate}"):
        Concealer(sample_rate)


def test_refusals_change_nothing() -> None:
    concealer, pcm = Concealer(), packed(vowel(8000))
    concealer.good(pcm)
    for wrong in (b"123", bytearray(5)):
        with pytest.raises(ValueError, match="samples of two bytes expected"):
            concealer.good(wrong)
    with pytest.raises(ValueError, match="got 7 bytes"):
        concealer.good_into(bytearray(7))
    with pytest.raises(BufferError):
        concealer.good_into(bytes(4))
    for count in (-1, 240_001):
        with pytest.raises(ValueError, match=f"got {count}"):
            concealer.lost(count)
    for other in ("text", 7, None):
        with pytest.raises(TypeError):
            concealer.good(other)  # type: ignore[arg-type]
    same = Concealer()
    same.good(pcm)
    assert concealer.lost(160) == same.lost(160)


def test_nothing_lost_is_no_loss() -> None:
    concealer, pcm = Concealer(), packed(hiss(8000))
    concealer.good(pcm)
    assert concealer.lost(0) == b""
    assert concealer.good(b"") == b""
    assert concealer.good(pcm) == pcm


def test_state_is_small() -> None:
    assert Concealer(8000).state_bytes <= 3 * 1024
    assert Concealer(24000).state_bytes <= 5 * 1024
    assert Concealer(16000).sample_rate == 16000
