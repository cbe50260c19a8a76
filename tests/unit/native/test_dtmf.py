"""The DTMF detector at the limits of ITU-T Q.24, what it says of a tone, and the generator."""

from statistics import median

import numpy as np
import pytest
import soxr

from fastagent._native import dtmf
from fastagent.audio.dtmf import DBM0_PEAK, DTMF_DIGITS, dtmf_tones
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, AudioFormat
from fastagent.local.voice import Espeak
from tests.reference.dtmf_reference import (
    CHECKS,
    DIGITS,
    RATE,
    Burst,
    Check,
    Floats,
    ms,
    pair_of,
    pcm,
    peak,
    phased,
    silence,
    sine,
)

FRAME_BYTES = 320
ROUNDS = 4

SPOKEN = (
    "Good morning, I would like to move my appointment from Tuesday to Thursday afternoon, if there is room.",
    "My number is nine zero five, two seven one, eight eight four three, and the code ends with a star.",
    "Well, you see, we really need to be there by three, or else the whole evening will be for nothing.",
    "Could you please repeat that slowly? The line is poor, and I am standing beside a very loud road.",
)


def events(audio: bytes, step_bytes: int = FRAME_BYTES) -> list[tuple[str, bool, int, int]]:
    """Everything the detector says of a stream, at its end too."""
    detector = dtmf.Detector()
    found = [
        event
        for at in range(0, len(audio), step_bytes)
        for event in detector.process(audio[at : at + step_bytes])
    ]
    return [(e.digit, e.is_end, e.position, e.duration) for e in found + detector.flush()]


def heard(audio: bytes) -> str:
    """The digits that started; each has ended, too, before the next one starts."""
    found = events(audio)
    assert [is_end for _, is_end, _, _ in found] == [False, True] * (len(found) // 2)
    assert [digit for digit, _, _, _ in found[::2]] == [digit for digit, _, _, _ in found[1::2]]
    return "".join(digit for digit, _, _, _ in found[::2])


def noise(count: int, seed: int = 3, scale: float = 3000.0) -> Floats:
    return np.random.default_rng(seed).normal(0, scale, count)


# The limits


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_strict_limits(check: Check) -> None:
    wrong = [
        place
        for place, (audio, expected) in enumerate(check.cases(check.limit, ROUNDS))
        if heard(audio) != expected
    ]
    assert wrong == []


@pytest.mark.parametrize("offset", range(0, 160, 8))
def test_limits_of_duration_at_every_millisecond_of_a_frame(offset: int) -> None:
    chance = np.random.default_rng(offset)
    for digit in DIGITS:
        lead = np.zeros(800 + offset)
        assert heard(pcm(lead, phased(chance, Burst(digit, 40)), silence(60))) == digit
        assert heard(pcm(lead, phased(chance, Burst(digit, 23)), silence(60))) == ""


def test_digits_are_reported_within_45_ms_of_their_start_in_the_median() -> None:
    chance = np.random.default_rng(7)
    delays = []
    for digit in DIGITS * 8:
        lead = 800 + int(chance.integers(0, 160))
        audio = pcm(np.zeros(lead), phased(chance, Burst(digit, 60)), silence(100))
        detector = dtmf.Detector()
        frames = (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))
        reported = next(place for place, frame in enumerate(frames) if detector.process(frame))
        delays.append(((reported + 1) * 160 - lead) / 8)
    assert median(delays) <= 45
    assert max(delays) <= 55


# What an event says


@pytest.mark.parametrize("digit", DIGITS)
@pytest.mark.parametrize("tone_ms", [45, 60, 100, 400])
def test_position_and_duration_are_right_to_two_milliseconds(digit: str, tone_ms: int) -> None:
    chance = np.random.default_rng(tone_ms)
    lead = 1000 + int(chance.integers(0, 160))
    audio = pcm(np.zeros(lead), phased(chance, Burst(digit, tone_ms)), silence(100))
    (_, _, start, so_far), (_, is_end, same_start, whole) = events(audio)
    assert is_end
    assert start == same_start
    assert abs(start - lead) <= ms(2)
    assert abs(start + whole - lead - ms(tone_ms)) <= ms(2)
    assert ms(28) <= so_far <= ms(40)


def test_a_long_press_is_one_digit_whose_start_is_told_while_it_sounds() -> None:
    detector = dtmf.Detector()
    tone = Burst("9", 30_000).samples()
    (start,) = detector.process(pcm(silence(100), tone))
    assert (start.digit, start.is_end, detector.digit) == ("9", False, "9")
    (end,) = detector.process(pcm(silence(100)))
    assert (end.digit, end.is_end, detector.digit) == ("9", True, None)
    assert abs(end.duration - len(tone)) <= ms(2)


def test_flush_ends_a_digit_that_sounds_and_starts_anew() -> None:
    detector = dtmf.Detector()
    audio = pcm(silence(50), Burst("2", 100).samples())
    first = detector.process(audio) + detector.flush()
    assert [(e.digit, e.is_end) for e in first] == [("2", False), ("2", True)]
    assert abs(first[1].duration - ms(100)) <= ms(2)
    assert detector.flush() == []
    second = detector.process(audio)
    assert second[0].position == first[0].position


def test_reset_forgets_a_tone_half_heard() -> None:
    detector = dtmf.Detector()
    half = pcm(Burst("2", 25).samples())
    detector.process(half)
    detector.reset()
    assert detector.process(half + bytes(1600)) == []


def test_digits_stay_out_of_representations() -> None:
    (event,) = dtmf.Detector().process(pcm(Burst("7", 50).samples()))
    assert event.digit == "7"
    assert repr(event) == f"<ToneEvent start, {event.duration} samples from {event.position}>"
    with pytest.raises(TypeError, match="detector"):
        dtmf.ToneEvent()


# Streams


def dialling(digits: str = "0123456789*#ABCD") -> bytes:
    chance = np.random.default_rng(11)
    parts = [part for digit in digits for part in (phased(chance, Burst(digit, 47)), silence(51))]
    audio = np.concatenate(parts)
    return pcm(audio + noise(len(audio), scale=100.0))


@pytest.mark.parametrize("step", [1, 2, 39, 40, 41, 160, 279, 280, 281, 1000, 100_000])
def test_events_do_not_depend_on_chunking(step: int) -> None:
    assert events(dialling(), 2 * step) == events(dialling())
    assert heard(dialling()) == "0123456789*#ABCD"


@pytest.mark.parametrize("wrap", [bytearray, memoryview, lambda b: np.frombuffer(b, "<i2")])
def test_any_buffer_at_any_alignment(wrap: type) -> None:
    audio = pcm(Burst("8", 60).samples())
    for shift in range(4):
        source = memoryview(bytes(shift) + audio)[shift:] if wrap is memoryview else wrap(audio)
        assert [event.digit for event in dtmf.Detector().process(source)] == ["8"]


def test_an_odd_number_of_bytes_is_refused_and_nothing_fed() -> None:
    detector = dtmf.Detector()
    audio = pcm(Burst("8", 60).samples())
    detector.process(audio[:320])
    with pytest.raises(ValueError, match="two bytes expected, got 3"):
        detector.process(b"abc")
    (event,) = detector.process(audio[320:])
    assert event.position <= 8
    assert detector.process(b"") == []
    with pytest.raises(TypeError):
        detector.process("abc")  # type: ignore[arg-type]


# What is no digit


@pytest.mark.parametrize(
    "audio",
    [
        silence(1000),
        np.full(8000, 32767.0),
        np.full(8000, -32768.0),
        np.tile([32767.0, -32768.0], 4000),
        np.repeat(np.tile([32767.0, -32768.0], 500), 8),
        noise(80_000),
        noise(80_000, scale=30_000.0),
        np.cumsum(noise(80_000, scale=50.0)),
        np.where(np.arange(8000) % 100 == 0, 32767.0, 0.0),
    ],
    ids=["silence", "top", "bottom", "nyquist", "square", "noise", "clipped noise", "brown noise", "pulses"],
)
def test_extreme_input_is_no_digit(audio: Floats) -> None:
    assert heard(pcm(audio)) == ""


def test_a_siren_through_the_plan_is_no_digit() -> None:
    """It stays within 2.2 % of a pair for less than 20 ms."""
    time = np.arange(4 * RATE) / RATE
    swept = 150 * (1 - np.cos(2 * np.pi * 4 * time)) / (2 * np.pi * 4)
    low = 8000 * np.sin(2 * np.pi * (830 * time + swept))
    high = 8000 * np.sin(2 * np.pi * (1400 * time + 2 * swept))
    assert heard(pcm(low + high)) == ""


@pytest.mark.parametrize("pitch_hz", range(90, 350, 7))
def test_harmonics_of_a_voice_are_no_digit(pitch_hz: int) -> None:
    audio = sum(
        (
            sine(harmonic * pitch_hz, 400, -12 - 0.5 * harmonic, 0.7 * harmonic**2)
            for harmonic in range(1, 3400 // pitch_hz)
        ),
        silence(400),
    )
    assert heard(pcm(audio)) == ""


def test_chords_of_music_are_no_digits() -> None:
    chance = np.random.default_rng(5)
    audio = silence(0)
    for _ in range(300):
        notes = 220 * 2 ** (chance.integers(0, 36, 3) / 12)
        chord = silence(150)
        for note in notes:
            for harmonic in range(1, 6):
                if harmonic * note < 3900:
                    chord = chord + sine(
                        float(harmonic * note), 150, -14 - 5 * harmonic, float(chance.uniform(0, 6))
                    )
        audio = np.concatenate([audio, chord * np.exp(-np.arange(ms(150)) / 1200)])
    assert heard(pcm(audio)) == ""


# The generator


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
@pytest.mark.parametrize("digit", DIGITS)
def test_tones_equal_their_definition(digit: str, rate: int) -> None:
    tone, rest = rate // 10, rate // 50
    out = np.frombuffer(dtmf.generate(digit, rate, tone, rest, 9000.0, 7000.0), "<i2").astype(float)
    time = np.arange(tone) / rate
    low, high = pair_of(digit)
    expected = 9000 * np.sin(2 * np.pi * low * time) + 7000 * np.sin(2 * np.pi * high * time)
    assert np.abs(out[:tone] - expected).max() <= 0.51
    assert not out[tone:].any()
    assert len(out) == tone + rest


def test_generated_digits_are_heard_at_the_shortest_timing() -> None:
    audio = dtmf_tones("0123456789*#ABCD9911", PCM16_8K, tone_ms=42, pause_ms=40)
    assert heard(audio) == "0123456789*#ABCD9911"
    assert len(audio) == 20 * 82 * 16


@pytest.mark.parametrize("media", [PCM16_8K, PCM16_16K, PCM16_24K])
def test_levels_are_those_asked_for(media: AudioFormat) -> None:
    out = np.frombuffer(dtmf_tones("5", media, tone_ms=500, pause_ms=0, level_dbm0=-12, twist_db=3), "<i2")
    time = np.arange(len(out)) / media.sample_rate
    for frequency, level_dbm0 in zip(pair_of("5"), (-12, -9), strict=True):
        found = 2 * abs(np.mean(out * np.exp(-2j * np.pi * frequency * time)))
        assert found == pytest.approx(peak(level_dbm0), rel=0.01)


def test_a_tone_rises_and_falls_within_itself() -> None:
    plain = np.frombuffer(dtmf.generate("1", 8000, 400, 0, 8000.0, 8000.0), "<i2")
    ramped = np.frombuffer(dtmf.generate("1", 8000, 400, 0, 8000.0, 8000.0, 8), "<i2")
    assert (np.abs(ramped[:8]) <= np.abs(plain[:8])).all()
    assert (ramped[8:-8] == plain[8:-8]).all()
    assert (np.abs(ramped[-8:]) <= np.abs(plain[-8:])).all()
    assert np.abs(ramped[-1]) <= np.abs(plain[-1]) / 8 + 1


def test_too_loud_tones_saturate() -> None:
    out = np.frombuffer(dtmf.generate("D", 8000, 8000, 0, 32768.0, 32768.0), "<i2")
    assert (out.min(), out.max()) == (-32768, 32767)


def test_no_digits_are_no_audio() -> None:
    assert dtmf_tones("", PCM16_8K) == b""
    assert frozenset(DIGITS) == DTMF_DIGITS
    assert peak(0) == DBM0_PEAK


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"digits": "1x"}, ValueError),
        ({"digits": "a"}, ValueError),
        ({"digits": "1\0"}, ValueError),
        ({"digits": "١"}, ValueError),
        ({"digits": b"1"}, TypeError),
        ({"sample_rate": 11025}, ValueError),
        ({"tone": 0}, ValueError),
        ({"tone": -1}, ValueError),
        ({"tone": 1 << 29}, ValueError),
        ({"pause": -1}, ValueError),
        ({"ramp": 41}, ValueError),
        ({"ramp": -1}, ValueError),
        ({"low_peak": -1.0}, ValueError),
        ({"low_peak": float("nan")}, ValueError),
        ({"high_peak": 32769.0}, ValueError),
        ({"digits": "1" * 100, "pause": 1 << 27}, ValueError),
    ],
)
def test_the_generator_refuses_what_it_cannot_play(
    arguments: dict[str, object], error: type[Exception]
) -> None:
    given: dict[str, object] = {
        "digits": "1", "sample_rate": 8000, "tone": 80, "pause": 0, "low_peak": 100.0, "high_peak": 100.0,
        "ramp": 0,
    }  # fmt: skip
    with pytest.raises(error, match=r"expected|at most"):
        dtmf.generate(**(given | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tone_ms": 0},
        {"pause_ms": -1},
        {"tone_ms": 60_001},
        {"level_dbm0": 4.0},
        {"level_dbm0": -61.0},
        {"twist_db": 13.0},
    ],
)
def test_the_python_face_refuses_numbers_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dtmf_tones("1", PCM16_8K, **wrong)  # type: ignore[arg-type]


def test_the_python_face_makes_pcm16_only() -> None:
    with pytest.raises(ValueError, match="PCM16"):
        dtmf_tones("1", MULAW_8K)


# Talk-off


@pytest.mark.parametrize("speaker", ["en-us+f3", "en-us+m3", "en+f4", "de+m1", "fr+f5", "es+m7"])
def test_speech_is_no_digit(speaker: str) -> None:
    engine = Espeak()
    for place, text in enumerate(SPOKEN):
        samples, rate = engine.render(text, speaker, 0.8 + 0.1 * place)
        spoken = soxr.resample(samples, rate, RATE)
        for gain in (0.3, 1.0):
            assert heard(pcm(gain * spoken)) == ""
