"""The barge-in gate's promises: deaf to the bot's echo, quick to the caller, and what it tells of both.

Speech is played by modulated noise: words of random length and spectrum with pauses between. The voice
detector's word is given, so that these tests are about the gate alone; one test uses real voices and both.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fastagent._native import bargein, g711
from fastagent._native.bargein import BargeInGate
from fastagent._native.vad import BandAnalyser
from fastagent.local.voice import Voice
from tests.reference import bargein_reference

RATE, FRAME = 8000, 160
FULL_SCALE = 32768
BOT_DBFS = -20.0
LOUD = (10.0, 20.0, 30.0, 40.0)
SILENCE = bytes(bargein.FRAME_BYTES)

Samples = NDArray[np.float64]


def levelled(samples: Samples, dbfs: float) -> Samples:
    loud = samples[np.abs(samples) > 0.1 * np.abs(samples).max()]
    return np.asarray(samples * FULL_SCALE * 10 ** (dbfs / 20) / np.sqrt(np.mean(loud**2)))


@cache
def talk(seconds: float, seed: int, dbfs: float = BOT_DBFS) -> Samples:
    """Noise in syllables, each with a spectrum and a loudness of its own, in words with pauses between."""
    chance = np.random.default_rng(seed)
    out = np.zeros(round(seconds * RATE))
    at = 0
    while at < len(out):
        for _ in range(int(chance.integers(2, 6))):
            count = int(chance.uniform(0.08, 0.22) * RATE)
            spectrum = np.fft.rfft(chance.standard_normal(count))
            hz = np.fft.rfftfreq(count, 1 / RATE)
            shape = sum(
                10 ** chance.uniform(-1.2, 0) * np.exp(-(((hz - centre) / chance.uniform(80, 300)) ** 2))
                for centre in chance.uniform((250, 800, 1800), (800, 1800, 3400))
            )
            syllable = np.fft.irfft(spectrum * shape, count) * np.hanning(count) ** 0.5
            syllable = syllable[: len(out) - at]
            out[at : at + len(syllable)] = syllable * 10 ** chance.uniform(-0.5, 0)
            at = min(at + count, len(out))
        at += int(chance.uniform(0.08, 0.4) * RATE)
    return levelled(out, dbfs)


def echo_of(played: Samples, down_db: float, lag_ms: float, tail_ms: float = 40, seed: int = 5) -> Samples:
    chance = np.random.default_rng(seed)
    taps = round(tail_ms * RATE / 1000)
    tail = chance.standard_normal(taps) * 10 ** (-1.5 * np.arange(taps) / taps)
    spread = np.convolve(played, tail)[: len(played)]
    spread *= np.sqrt(np.mean(played**2) / np.mean(spread**2)) * 10 ** (-down_db / 20)
    return np.concatenate([np.zeros(round(lag_ms * RATE / 1000)), spread])[: len(played)]


def line_noise(count: int, dbfs: float, seed: int = 6) -> Samples:
    return np.random.default_rng(seed).standard_normal(count) * FULL_SCALE * 10 ** (dbfs / 20)


def frames(samples: Samples) -> list[bytes]:
    """20 ms each, as they come through mu-law."""
    pcm = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
    coded = g711.ulaw_decode(g711.ulaw_encode(pcm))
    return [coded[i : i + 2 * FRAME] for i in range(0, len(coded) - 2 * FRAME + 1, 2 * FRAME)]


@dataclass(frozen=True)
class Heard:
    gate: BargeInGate
    verdicts: list[str]

    @property
    def stops(self) -> list[float]:
        """Seconds at which the bot was told to stop."""
        before = ["quiet", *self.verdicts]
        return [
            (i + 1) / 50
            for i, verdict in enumerate(self.verdicts)
            if verdict == "confirmed" and before[i] != "confirmed"
        ]


def listen(caller: Samples, bot: Samples, gate: BargeInGate | None = None, voiced: float = 0.9) -> Heard:
    """Lets the gate hear it all; a level detector stands for the voice detector, echo is speech to it."""
    gate = gate or BargeInGate()
    heard = frames(caller)
    power = np.array([np.mean(np.frombuffer(frame, "<i2").astype(float) ** 2) for frame in heard])
    is_loud = power > 4 * np.percentile(power, 5)
    verdicts: list[str] = [
        gate.process(frame, played, speech_probability=voiced if loud else 0.1)
        for frame, played, loud in zip(heard, frames(bot), is_loud, strict=True)
    ]
    return Heard(gate, verdicts)


def over(base: Samples, insert: Samples, at_s: float) -> Samples:
    out = base.copy()
    out[round(at_s * RATE) : round(at_s * RATE) + len(insert)] += insert
    return out


# The bot's echo alone


@pytest.mark.parametrize("down_db", LOUD)
@pytest.mark.parametrize("lag_ms", [0, 40, 95, 180, 333, 400, 580])
def test_echo_never_stops_the_bot_from_the_first_word_on(down_db: float, lag_ms: float) -> None:
    bot = talk(15, seed=1)
    heard = listen(echo_of(bot, down_db, lag_ms) + line_noise(len(bot), -60), bot)
    assert heard.stops == []
    assert "echo" in heard.verdicts


@pytest.mark.parametrize("noise_dbfs", [-75, -50, -40])
@pytest.mark.parametrize("tail_ms", [5, 20, 60, 100])
def test_tails_and_line_noise_do_not_matter(noise_dbfs: float, tail_ms: float) -> None:
    bot = talk(15, seed=2)
    heard = listen(echo_of(bot, 15, 120, tail_ms) + line_noise(len(bot), noise_dbfs), bot)
    assert heard.stops == []


@pytest.mark.parametrize(
    ("change", "down_db", "lag_ms"),
    [("lag", 20, 300), ("lag", 20, 60), ("louder", 10, 180), ("louder", 5, 180), ("fainter", 40, 180)],
)
def test_a_changed_echo_path_does_not_stop_the_bot_and_is_learnt(
    change: str, down_db: float, lag_ms: float
) -> None:
    bot = talk(24, seed=3)
    half = len(bot) // 2
    caller = echo_of(bot, 20, 180)
    caller[half:] = echo_of(bot, down_db, lag_ms)[half:]
    heard = listen(caller + line_noise(len(bot), -60), bot)
    assert heard.stops == [], change
    assert heard.gate.lag_ms is not None
    assert abs(heard.gate.lag_ms - lag_ms - 20) <= 30


def test_a_bot_that_pauses_and_goes_on_is_not_stopped() -> None:
    bot = talk(20, seed=4)
    for begin_s, end_s in ((4.0, 5.5), (8.0, 11.0), (14.0, 14.7)):
        bot[round(begin_s * RATE) : round(end_s * RATE)] = 0
    assert listen(echo_of(bot, 12, 250) + line_noise(len(bot), -60), bot).stops == []


# What is learnt


@pytest.mark.parametrize("lag_ms", [40, 180, 400, 560])
@pytest.mark.parametrize("down_db", [10.0, 20.0])
def test_lag_and_leak_are_learnt(down_db: float, lag_ms: int) -> None:
    bot = talk(12, seed=7)
    gate = listen(echo_of(bot, down_db, lag_ms) + line_noise(len(bot), -60), bot).gate
    assert gate.lag_ms is not None
    assert abs(gate.lag_ms - lag_ms - 20) <= 30  # the tail comes after the lag
    assert -down_db - 8 <= np.mean(gate.leak_db) <= -down_db + 10


def test_without_echo_the_leak_sinks_to_the_noise() -> None:
    bot = talk(12, seed=8)
    gate = listen(line_noise(len(bot), -65), bot).gate
    assert gate.lag_ms is None
    assert np.mean(gate.leak_db) < -30


def test_the_leak_is_not_learnt_from_the_caller() -> None:
    bot = talk(30, seed=9)
    alone = echo_of(bot, 25, 180) + line_noise(len(bot), -60)
    both = alone.copy()
    for at_s in (8.0, 13.0, 18.0, 23.0):
        both = over(both, talk(2.5, seed=round(at_s), dbfs=-20.0), at_s)
    quiet, talking = listen(alone, bot).gate, listen(both, bot).gate
    assert talking.lag_ms == quiet.lag_ms
    assert np.mean(talking.leak_db) <= np.mean(quiet.leak_db) + 6


# The caller


@pytest.mark.parametrize("down_db", [15.0, 20.0, 30.0, 40.0, None])
@pytest.mark.parametrize("dbfs", [-15.0, -20.0, -25.0])
def test_the_caller_is_heard_over_the_bot_within_a_fifth_of_a_second(
    down_db: float | None, dbfs: float
) -> None:
    bot = talk(33, seed=10)
    caller = line_noise(len(bot), -60)
    if down_db is not None:
        caller += echo_of(bot, down_db, 180)
    onsets = [6.0 + 4.51 * i for i in range(6)]
    for i, at_s in enumerate(onsets):
        caller = over(caller, talk(1.5, seed=100 + i, dbfs=dbfs), at_s)
    stops = listen(caller, bot).stops
    late_ms = [1000 * (min((s for s in stops if s > at), default=99.0) - at) for at in onsets]
    assert np.median(late_ms) <= 120
    assert sorted(late_ms)[-2] <= 300
    assert all(any(at < s <= at + 1.8 for at in onsets) for s in stops)


def test_a_loud_caller_gets_through_before_anything_is_learnt() -> None:
    bot = talk(6, seed=11)
    caller = echo_of(bot, 25, 180) + line_noise(len(bot), -60)
    caller = over(caller, talk(2, seed=12, dbfs=-10.0), 1.0)
    stops = listen(caller, bot).stops
    assert stops
    assert 1.0 < stops[0] <= 1.6


def test_who_speaks_when_the_bot_begins_stays_confirmed() -> None:
    bot = talk(6, seed=13)
    bot[: 2 * RATE] = 0
    speech = talk(4, seed=14, dbfs=-18.0)
    caller = np.concatenate([np.zeros(RATE), speech, np.zeros(len(bot) - RATE - len(speech))])
    gate = BargeInGate()
    verdicts = [
        gate.process(heard, played, speech_probability=float(np.abs(np.frombuffer(heard, "<i2")).max() > 300))
        for heard, played in zip(frames(caller + line_noise(len(bot), -65)), frames(bot), strict=True)
    ]
    assert verdicts[99] == "confirmed"
    assert verdicts[100] == "confirmed"


@pytest.mark.parametrize(("confirm_ms", "needed"), [(20, 1), (60, 3), (70, 4), (80, 4), (1000, 50)])
def test_without_a_bot_it_is_the_voice_detector_with_a_confirmation_time(
    confirm_ms: int, needed: int
) -> None:
    gate = BargeInGate(confirm_ms=confirm_ms)
    assert [gate.process(SILENCE, speech_probability=0.1) for _ in range(30)] == ["quiet"] * 30
    said = [gate.process(SILENCE, speech_probability=0.9) for _ in range(needed + 2)]
    assert said == ["speech"] * (needed - 1) + ["confirmed"] * 3


def test_a_detector_in_doubt_never_confirms() -> None:
    bot = talk(8, seed=15)
    caller = over(line_noise(len(bot), -60), talk(2, seed=16, dbfs=-15.0), 4.0)
    assert listen(caller, bot, voiced=0.45).stops == []
    assert "speech" in listen(caller, bot, voiced=0.45).verdicts
    assert "speech" not in listen(caller, bot, voiced=0.15).verdicts
    assert listen(caller, bot, voiced=0.9).stops


# The utterance


def utterance(pattern: str) -> list[tuple[str, int, int, int]]:
    """'1' is a frame of speech, '0' none; no bot. (verdict, onset_ms, speech_ms, pause_ms) after each."""
    gate = BargeInGate()
    return [
        (
            gate.process(SILENCE, speech_probability=float(frame)),
            gate.onset_ms,
            gate.speech_ms,
            gate.pause_ms,
        )
        for frame in pattern
    ]


def test_pauses_up_to_200_ms_are_bridged_and_longer_ones_end_the_utterance() -> None:
    bridged = utterance("1" * 10 + "0" * 10 + "1")
    assert bridged[9] == ("confirmed", 200, 200, 0)
    assert bridged[19] == ("confirmed", 400, 200, 200)
    assert bridged[20] == ("confirmed", 420, 420, 0)
    ended = utterance("1" * 10 + "0" * 11 + "1")
    assert ended[20] == ("quiet", 0, 0, 0)
    assert ended[21] == ("speech", 20, 20, 0)


def test_single_frames_far_apart_do_not_add_up() -> None:
    assert {verdict for verdict, *_ in utterance("1000" * 50)} == {"speech", "quiet"}


def test_rearm_forgets_the_utterance_and_keeps_what_was_learnt() -> None:
    bot = talk(10, seed=17)
    gate = listen(echo_of(bot, 15, 180) + line_noise(len(bot), -60), bot).gate
    for _ in range(30):
        gate.process(SILENCE)
    for _ in range(5):
        verdict = gate.process(SILENCE, speech_probability=1.0)
    assert verdict == "confirmed"
    learnt = gate.lag_ms, gate.leak_db
    gate.rearm()
    assert (gate.onset_ms, gate.speech_ms, gate.pause_ms) == (0, 0, 0)
    assert gate.process(SILENCE, speech_probability=1.0) == "speech"
    assert (gate.lag_ms, gate.leak_db) == learnt


def test_bot_audible_covers_the_echo_under_way() -> None:
    gate = BargeInGate()
    audible = []
    for frame in [SILENCE, *frames(talk(1, seed=18)), *[None] * 60]:
        gate.process(SILENCE, frame)
        audible.append(gate.bot_audible)
    assert not audible[0]
    assert all(audible[5:51])
    assert 620 <= 20 * sum(audible[51:]) <= 960  # nothing learnt yet: the longest lag counts


# Edges


@pytest.mark.parametrize(
    "sample",
    [
        lambda i: 0,
        lambda i: 32767,
        lambda i: -32768,
        lambda i: (32767, -32768)[i % 2],
        lambda i: 1 if i % 160 == 0 else 0,
        lambda i: random.Random(i).randint(-32768, 32767),
    ],
    ids=["silence", "top", "bottom", "square", "impulses", "noise"],
)
def test_extremes_give_numbers(sample: Callable[[int], int]) -> None:
    pcm = np.array([sample(i) for i in range(FRAME * 100)], dtype="<i2").tobytes()
    pieces = [pcm[i : i + 2 * FRAME] for i in range(0, len(pcm), 2 * FRAME)]
    for bot in (pieces, [SILENCE] * 100, [None] * 100):
        for caller in (pieces, [SILENCE] * 100):
            gate = BargeInGate()
            for heard, played in zip(caller, bot, strict=True):
                gate.process(heard, played)
            assert all(-60 <= leak <= 6 for leak in gate.leak_db)
            assert 0 <= gate.speech_probability <= 1


def test_no_bot_and_a_silent_bot_are_the_same() -> None:
    caller = frames(talk(3, seed=19))
    one, other = BargeInGate(), BargeInGate()
    assert [one.process(frame) for frame in caller] == [other.process(frame, SILENCE) for frame in caller]


def test_the_same_input_gives_the_same_answers_also_after_reset() -> None:
    bot = talk(6, seed=20)
    caller = over(echo_of(bot, 20, 100) + line_noise(len(bot), -60), talk(1, seed=21), 4.0)
    gate = BargeInGate(confirm_ms=80)
    first = listen(caller, bot, gate)
    told = gate.lag_ms, gate.leak_db
    gate.reset()
    assert (gate.lag_ms, gate.confirm_ms, gate.bot_audible) == (None, 80, False)
    assert listen(caller, bot, gate).verdicts == first.verdicts
    assert (gate.lag_ms, gate.leak_db) == told
    assert listen(caller, bot, BargeInGate(confirm_ms=80)).verdicts == first.verdicts


def test_any_buffer_and_alignment_is_taken() -> None:
    bot, caller = frames(talk(3, seed=22)), frames(talk(3, seed=23))
    expected = [BargeInGate().process(c, b) for c, b in zip(caller, bot, strict=True)]
    for shift in (0, 1, 3):
        got = [
            BargeInGate().process(memoryview(bytes(shift) + c)[shift:], bytearray(b))
            for c, b in zip(caller, bot, strict=True)
        ]
        assert got == expected


@pytest.mark.parametrize("size", [0, 1, 160, 318, 319, 321, 322, 640])
def test_frames_of_another_size_are_refused_and_nothing_is_taken(size: int) -> None:
    gate, untouched = BargeInGate(), BargeInGate()
    with pytest.raises(ValueError, match=f"320 bytes expected, got {size}"):
        gate.process(bytes(size))
    with pytest.raises(ValueError, match=f"320 bytes expected, got {size}"):
        gate.process(b"\x11\x22" * 160, bytes(size))
    for frame in frames(talk(1, seed=24)):
        assert gate.process(frame) == untouched.process(frame)
        assert gate.speech_probability == untouched.speech_probability


@pytest.mark.parametrize("confirm_ms", [0, 19, 1001, -60, 1 << 40])
def test_confirmation_times_out_of_range_are_refused(confirm_ms: int) -> None:
    with pytest.raises(ValueError, match=f"confirm_ms from 20 to 1000 expected, got {confirm_ms}"):
        BargeInGate(confirm_ms=confirm_ms)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan"), float("inf")])
def test_probabilities_out_of_range_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="speech_probability from 0 to 1 expected"):
        BargeInGate().process(SILENCE, speech_probability=probability)


def test_the_state_is_small() -> None:
    assert bargein.STATE_BYTES <= 4096


# Beside the oracle, and with real voices


@pytest.mark.parametrize(("down_db", "lag_ms"), [(10.0, 180.0), (20.0, 40.0), (30.0, 400.0), (None, 0.0)])
def test_the_oracle_agrees(down_db: float | None, lag_ms: float) -> None:
    bot = talk(14, seed=25)
    caller = line_noise(len(bot), -60)
    if down_db is not None:
        caller += echo_of(bot, down_db, lag_ms)
    for i, at_s in enumerate((5.0, 9.0)):
        caller = over(caller, talk(1.5, seed=26 + i, dbfs=-20.0), at_s)
    bot[11 * RATE : 12 * RATE] = 0
    gate, oracle = BargeInGate(), bargein_reference.Gate()
    caller_bands, bot_bands = BandAnalyser(), BandAnalyser()
    agreed = 0
    pairs = list(zip(frames(caller), frames(bot), strict=True))
    for i, (heard, played) in enumerate(pairs):
        probability = (0.9, 0.7, 0.4, 0.6, 0.2)[i // 3 % 5]
        verdict = gate.process(heard, played, speech_probability=probability)
        expected = oracle.process(
            np.array(caller_bands.process(heard)), np.array(bot_bands.process(played)), probability
        )
        agreed += verdict == expected
    assert agreed >= 0.99 * len(pairs)  # float32 against float64 may differ at a threshold
    assert gate.lag_ms == (None if oracle.lag is None else 20 * oracle.lag)
    assert np.allclose(gate.leak_db, oracle.leak, atol=0.5)


def test_real_voices() -> None:
    """espeak-ng speaks for both; the gate uses its own voice detector."""
    speaker = Voice("espeak")

    def say(text: str, voice: str, dbfs: float) -> Samples:
        pcm = speaker.speak(text, voice=voice, sample_rate=RATE)
        return levelled(np.frombuffer(pcm, dtype="<i2").astype(np.float64), dbfs)

    sentence = (
        "Your appointment is on Tuesday the fourteenth at half past nine. Please bring your insurance card, "
        "and arrive ten minutes early. Is there anything else that I can help you with today? "
    )
    bot = say(sentence * 2, "en-us", BOT_DBFS)
    bot = bot[: len(bot) // FRAME * FRAME]
    base = echo_of(bot, 20, 180) + line_noise(len(bot), -60)
    gate = BargeInGate()
    assert [v for v in map(gate.process, frames(base), frames(bot)) if v == "confirmed"] == []
    words = say("wait, I need to change the address first", "en-us+m3", -20.0)
    begin_s = 8.0
    gate.reset()
    verdicts = list(map(gate.process, frames(over(base, words, begin_s)), frames(bot)))
    first = verdicts.index("confirmed") / 50
    assert begin_s < first <= begin_s + 0.4
