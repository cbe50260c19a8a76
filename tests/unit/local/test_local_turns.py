"""Turn detection on synthetic signals."""

from typing import Any

import numpy as np
import pytest

from fastagent.local.turns import SpeechEnd, SpeechStart, TurnDetector

RATE = 8_000
Samples = np.ndarray[Any, np.dtype[np.int16]]


def tone(duration_ms: int, amplitude: float = 6_000.0, rate: int = RATE) -> Samples:
    time = np.arange(rate * duration_ms // 1000) / rate
    return (amplitude * np.sin(2 * np.pi * 300 * time)).astype(np.int16)


def noise(duration_ms: int, sigma: float, rate: int = RATE) -> Samples:
    return np.random.default_rng(3).normal(0, sigma, rate * duration_ms // 1000).astype(np.int16)


def silence(duration_ms: int, rate: int = RATE) -> Samples:
    return np.zeros(rate * duration_ms // 1000, np.int16)


def test_a_turn_begins_with_sound_and_ends_after_the_silence_asked_for() -> None:
    detector = TurnDetector(RATE, silence_duration_ms=500)
    start, end = detector.process(np.concatenate([silence(400), tone(600), silence(700)]))
    assert isinstance(start, SpeechStart)
    assert isinstance(end, SpeechEnd)
    assert abs(start.position - 400 * 8) <= 10 * 8
    assert abs(end.decided_position - 1500 * 8) <= 20 * 8
    assert start.position <= start.decided_position <= start.position + 100 * 8


@pytest.mark.parametrize("chunk", [1, 79, 80, 160, 3_333])
def test_verdicts_do_not_depend_on_the_chunking(chunk: int) -> None:
    signal = np.concatenate([noise(300, 20), tone(500), noise(600, 20), tone(400), noise(700, 20)])
    whole = TurnDetector(RATE, silence_duration_ms=400).process(signal)
    detector = TurnDetector(RATE, silence_duration_ms=400)
    pieces = [
        verdict
        for begin in range(0, len(signal), chunk)
        for verdict in detector.process(signal[begin : begin + chunk])
    ]
    assert pieces == whole
    assert len(whole) == 4


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
def test_any_rate_finds_the_same_turn(rate: int) -> None:
    detector = TurnDetector(rate, silence_duration_ms=300)
    signal = np.concatenate([silence(200, rate), tone(500, rate=rate), silence(400, rate)])
    start, end = detector.process(signal)
    assert isinstance(start, SpeechStart)
    assert abs(start.position * 1000 // rate - 200) <= 10
    assert abs(end.decided_position * 1000 // rate - 1000) <= 20


@pytest.mark.parametrize(
    "signal",
    [
        silence(3_000),
        noise(3_000, 40),
        noise(3_000, 250),
        silence(3_000) + np.int16(900),
        np.concatenate([silence(500), tone(30), silence(500)]),
    ],
    ids=["silence", "hiss", "street", "dc-offset", "click"],
)
def test_what_is_not_speech_begins_no_turn(signal: Samples) -> None:
    assert TurnDetector(RATE).process(signal) == []


def test_a_pause_shorter_than_the_silence_stays_in_the_turn() -> None:
    signal = np.concatenate([silence(200), tone(400), silence(350), tone(400), silence(600)])
    assert len(TurnDetector(RATE, silence_duration_ms=400).process(signal)) == 2
    assert len(TurnDetector(RATE, silence_duration_ms=300).process(signal)) == 4


def test_a_higher_threshold_needs_louder_speech() -> None:
    signal = np.concatenate([noise(1_000, 60), tone(500, 400), noise(600, 60)])
    assert TurnDetector(RATE, threshold=0.2).process(signal)
    assert not TurnDetector(RATE, threshold=1.0).process(signal)


def test_speech_over_a_loud_background_is_found() -> None:
    signal = np.concatenate([noise(1_500, 250), tone(600, 9_000), noise(900, 250)])
    assert [type(verdict) for verdict in TurnDetector(RATE).process(signal)] == [SpeechStart, SpeechEnd]


def test_a_reset_forgets_the_turn() -> None:
    detector = TurnDetector(RATE)
    detector.process(np.concatenate([silence(200), tone(300)]))
    before = detector.is_speaking
    detector.reset()
    assert (before, detector.is_speaking) == (True, False)
    assert detector.process(silence(1_000)) == []


def test_positions_go_on_from_where_the_stream_stands() -> None:
    detector = TurnDetector(RATE, position=80_000)
    (start,) = detector.process(np.concatenate([silence(200), tone(300)]))
    assert isinstance(start, SpeechStart)
    assert abs(start.position - 81_600) <= 80
