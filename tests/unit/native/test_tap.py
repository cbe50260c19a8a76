"""What hears a call beside the path: levels, the caller over the bot, digits, the recording."""

import numpy as np
import pytest

from fastagent._native.g711 import alaw_encode, ulaw_encode
from fastagent._native.resample import Resampler
from fastagent._native.tap import Heard, News, Tap
from fastagent.local.prerendered import Prompts
from fastagent.media.bargein import BargeIn, Decision

RATE = 8000
FRAME = 160
CALLER_TEXT = "Appointments begin on the hour or at half past. Are you still there?"
BOT_TEXT = "Appointments begin on the hour or at half past. All right, I have not booked it."


def speech(text: str) -> np.ndarray:
    samples, rate = Prompts().render(text, "", 1.0)
    assert rate == RATE
    return samples.astype(np.int16)


def scaled(samples: np.ndarray, db: float) -> np.ndarray:
    return np.clip(samples * 10 ** (db / 20), -32768, 32767).astype(np.int16)


def encoded(samples: np.ndarray, encoding: str, rate: int) -> bytes:
    pcm = samples.astype("<i2").tobytes()
    if rate != RATE:
        up = Resampler(RATE, rate)
        pcm = up.process(pcm)
    if encoding == "mulaw":
        return ulaw_encode(pcm)
    return alaw_encode(pcm) if encoding == "alaw" else pcm


def frames(audio: bytes, size: int) -> list[bytes]:
    return [audio[at : at + size] for at in range(0, len(audio) - size + 1, size)]


def frame_bytes(encoding: str, rate: int) -> int:
    return rate // 50 * (2 if encoding == "pcm16" else 1)


def listen(
    caller: np.ndarray, bot: np.ndarray, *, encoding: str = "mulaw", rate: int = RATE, **ears: object
) -> list[tuple[float, News]]:
    """A call in which both stretches are as long as the caller's; gives what was found and when."""
    tap = Tap(encoding, rate)
    tap.open_ears(0.0, **ears)  # type: ignore[arg-type]
    size = frame_bytes(encoding, rate)
    silence = np.zeros(max(0, len(caller) - len(bot)), np.int16)
    said = frames(encoded(np.concatenate([bot, silence]), encoding, rate), size)
    has_bot = [bool(np.any(bot[at * FRAME : (at + 1) * FRAME])) for at in range(len(said))]
    found = []
    for number, frame in enumerate(frames(encoded(caller, encoding, rate), size)):
        now = number * 0.02
        if number < len(said) and has_bot[number]:
            tap.bot(said[number], now)
        tap.caller(frame, now + 0.02)
        found += [(now + 0.02, news) for news in tap.take_news()]
    return found


def noise(count: int, db: float = -60.0, seed: int = 5) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * 32768 * 10 ** (db / 20)).astype(np.int16)


def overlaps(found: list[tuple[float, News]]) -> list[float]:
    return [at for at, news in found if news.kind is Heard.OVERLAP_CONFIRMED]


def long_speech(text: str, seconds: float) -> np.ndarray:
    once = speech(text)
    return np.tile(once, int(seconds * RATE / len(once)) + 1)[: int(seconds * RATE)]


@pytest.mark.parametrize(
    ("encoding", "rate"), [("mulaw", 8000), ("alaw", 8000), ("pcm16", 16000), ("pcm16", 24000)]
)
def test_the_caller_is_heard_over_the_bot(encoding: str, rate: int) -> None:
    bot = long_speech(BOT_TEXT, 8)
    caller = noise(len(bot))
    begins = 6 * RATE
    words = speech(CALLER_TEXT)[: len(bot) - begins]
    caller[begins : begins + len(words)] += words
    found = overlaps(listen(caller, bot, encoding=encoding, rate=rate, overlap=True))
    assert len(found) >= 1
    first_sound = begins + int(np.argmax(np.abs(words) > 300))
    assert first_sound / RATE < found[0] < first_sound / RATE + 0.3


@pytest.mark.parametrize("echo_db", [-10.0, -20.0, -30.0, -40.0])
@pytest.mark.parametrize("lag_ms", [0, 180, 400])
def test_the_bots_echo_is_not_the_caller(echo_db: float, lag_ms: int) -> None:
    bot = long_speech(BOT_TEXT, 12)
    lag = lag_ms * RATE // 1000
    echo = np.concatenate([np.zeros(lag, np.int16), scaled(bot, echo_db)])[: len(bot)]
    assert overlaps(listen(echo + noise(len(bot)), bot, overlap=True)) == []


def test_echo_that_comes_in_a_burst_after_a_stall_is_still_echo() -> None:
    """A second of the caller's audio waits in the network and comes at once."""
    bot = long_speech(BOT_TEXT, 10)
    echo = np.concatenate([np.zeros(1440, np.int16), scaled(bot, -20)])[: len(bot)] + noise(len(bot))
    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, overlap=True)
    said, heard = (frames(ulaw_encode(one.astype("<i2").tobytes()), FRAME) for one in (bot, echo))
    held: list[bytes] = []
    for number, (mouth, ear) in enumerate(zip(said, heard, strict=True)):
        now = number * 0.02
        tap.bot(mouth, now)
        held.append(ear)
        if not 6.0 <= now < 7.0:
            for one in held:
                tap.caller(one, now + 0.02)
            held.clear()
    assert [one for one in tap.take_news() if one.kind is Heard.OVERLAP_CONFIRMED] == []


@pytest.mark.parametrize("gap_s", [1.0, 3.0])
@pytest.mark.parametrize("echo_db", [-10.0, -20.0])
def test_echo_after_a_stretch_of_lost_audio_is_still_echo(gap_s: float, echo_db: float) -> None:
    bot = long_speech(BOT_TEXT, 14)
    echo = np.concatenate([np.zeros(1120, np.int16), scaled(bot, echo_db)])[: len(bot)] + noise(len(bot))
    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, overlap=True)
    said, heard = (frames(ulaw_encode(one.astype("<i2").tobytes()), FRAME) for one in (bot, echo))
    for number, (mouth, ear) in enumerate(zip(said, heard, strict=True)):
        now = number * 0.02
        tap.bot(mouth, now)
        if not 6.0 <= now < 6.0 + gap_s:
            tap.caller(ear, now + 0.02)
    assert [one for one in tap.take_news() if one.kind is Heard.OVERLAP_CONFIRMED] == []


def hold_verdict(chunk_frames: int, ms: int) -> Decision:
    """What a bot held by ``ms`` of the caller's voice does, the audio coming in chunks of so many frames."""
    words = long_speech("Are you still there?", 4)
    begins = int(np.argmax(np.abs(words) > 2000))
    line = noise(4 * RATE)
    line[RATE : RATE + ms * 8] += words[begins : begins + ms * 8]
    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, overlap=True)
    barge_in = BargeIn(tap)
    size = chunk_frames * FRAME
    for number, chunk in enumerate(frames(ulaw_encode(line.astype("<i2").tobytes()), size)):
        now = (number + 1) * chunk_frames * 0.02
        tap.caller(chunk, now)
        if any(one.kind is Heard.OVERLAP_CONFIRMED for one in tap.take_news()):
            barge_in.overlapped(now)
        for step in range(chunk_frames):  # the timer goes on between two chunks
            decision = barge_in.advance(now + step * 0.02 + 0.001)
            if decision is not Decision.NONE:
                return decision
    return Decision.NONE


@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 5, 10])
def test_a_short_sound_lets_the_bot_go_on_whatever_the_chunks(chunk_frames: int) -> None:
    assert hold_verdict(chunk_frames, 260) is Decision.RESUME


@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 5, 10, 25])
def test_a_sentence_takes_the_turn_whatever_the_chunks(chunk_frames: int) -> None:
    assert hold_verdict(chunk_frames, 1000) is Decision.CUT


def test_utterances_begin_anew_with_the_stream() -> None:
    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, speech=True, detector=lambda frame: 1.0)
    for number in range(50):
        tap.caller(b"\x10" * FRAME, number * 0.02)
    tap.reset_caller()
    for number in range(50):
        tap.caller(b"\x10" * FRAME, 5 + number * 0.02)
    assert [one.kind for one in tap.take_news()] == [Heard.SPEECH_STARTED, Heard.SPEECH_STARTED]


def test_echo_begins_no_utterance() -> None:
    bot = long_speech(BOT_TEXT, 8)
    echo = np.concatenate([np.zeros(1120, np.int16), scaled(bot, -15)])[: len(bot)] + noise(len(bot))
    assert listen(echo, bot, speech=True) == []


def test_utterances_begin_and_end() -> None:
    words = speech(CALLER_TEXT)
    line = noise(len(words) + 3 * RATE)
    line[RATE : RATE + len(words)] += words
    kinds = [news.kind for _, news in listen(line, np.zeros(0, np.int16), speech=True)]
    assert kinds[0] is Heard.SPEECH_STARTED
    assert kinds[-1] is Heard.SPEECH_STOPPED


def test_spoken_and_quiet_tell_of_the_utterance_over_the_bot() -> None:
    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, overlap=True)
    assert (tap.spoken_ms(), tap.quiet_ms()) == (0, 60_000)
    words = speech("Are you still there?")
    line = np.concatenate([noise(RATE), words, noise(RATE // 2)])
    most = 0
    for number, frame in enumerate(frames(ulaw_encode(line.astype("<i2").tobytes()), FRAME)):
        tap.caller(frame, number * 0.02)
        most = max(most, tap.spoken_ms())
    assert 400 <= most <= len(words) // 8 + 200
    assert tap.quiet_ms() == pytest.approx(500, abs=150), "it counts on after the utterance"
    assert tap.spoken_ms() == most, "and so does what was said"
    tap.rearm()
    assert (tap.spoken_ms(), tap.quiet_ms()) == (0, 60_000)


def test_digits_are_found_in_the_audio() -> None:
    def tone(low: float, high: float) -> np.ndarray:
        t = np.arange(RATE // 10) / RATE
        both = np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t)
        return np.concatenate([(both * 6000).astype(np.int16), np.zeros(RATE // 10, np.int16)])

    line = np.concatenate([noise(RATE), tone(770, 1336), tone(697, 1209), noise(RATE)])
    found = listen(line, np.zeros(0, np.int16), digits=True)
    assert [news.digit for _, news in found] == ["5", "1"]
    assert all(news.age_ms < 60 for _, news in found)


def test_digits_are_not_speech_over_the_bot() -> None:
    bot = long_speech(BOT_TEXT, 6)
    t = np.arange(RATE // 2) / RATE
    line = noise(len(bot))
    line[4 * RATE : 4 * RATE + len(t)] += (
        6000 * (np.sin(2 * np.pi * 770 * t) + np.sin(2 * np.pi * 1336 * t))
    ).astype(np.int16)
    found = listen(line, bot, overlap=True, digits=True)
    assert [news.kind for _, news in found] == [Heard.DIGIT]


def test_levels_are_measured_without_ears() -> None:
    tap = Tap("pcm16", 24000)
    t = np.arange(24000) / 24000
    sine = (np.sin(2 * np.pi * 440 * t) * 16384).astype("<i2")
    tap.caller(sine.tobytes(), 1.0)
    tap.bot(sine[:12000].tobytes(), 1.0)
    caller, bot = tap.caller_level(1.5), tap.bot_level(1.5)
    assert caller.samples == 24000
    assert caller.rms_dbfs == pytest.approx(-9.03, abs=0.1)
    assert caller.age_s == pytest.approx(0.5)
    assert bot.samples == 12000
    assert tap.take_news() == []


def test_an_odd_byte_belongs_to_the_next_message() -> None:
    tap = Tap("pcm16", 8000)
    audio = speech(CALLER_TEXT).astype("<i2").tobytes()
    for at in range(0, len(audio), 333):
        tap.caller(audio[at : at + 333], 0.0)
    whole = Tap("pcm16", 8000)
    whole.caller(audio, 0.0)
    assert tap.caller_level(1.0) == whole.caller_level(1.0)


def test_another_detector_is_asked_frame_by_frame() -> None:
    asked: list[int] = []

    def detector(frame: bytes) -> float:
        asked.append(len(frame))
        return 1.0

    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, speech=True, detector=detector)
    for number in range(50):
        tap.caller(b"\x10" * FRAME, number * 0.02)
    assert set(asked) == {320}
    assert [news.kind for news in tap.take_news()] == [Heard.SPEECH_STARTED]


@pytest.mark.parametrize("answer", [float("nan"), None, "loud"])
def test_a_detector_that_fails_hears_nothing(answer: object) -> None:
    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, speech=True, detector=lambda frame: answer)  # type: ignore[arg-type,return-value]
    for number in range(50):
        tap.caller(b"\x10" * FRAME, number * 0.02)
    assert tap.take_news() == []
    assert tap.detector_faults == (0 if isinstance(answer, float) else 50)


def test_news_that_nobody_takes_are_bounded() -> None:
    on_off = iter([1.0] * 20 + [0.0] * 60)
    pattern = list(on_off)
    frames_heard = 0

    def detector(frame: bytes) -> float:
        nonlocal frames_heard
        frames_heard += 1
        return pattern[frames_heard % len(pattern)]

    tap = Tap("mulaw", RATE)
    tap.open_ears(0.0, speech=True, detector=detector)
    for number in range(len(pattern) * 12):
        tap.caller(b"\x10" * FRAME, number * 0.02)
    assert len(tap.take_news()) == 16
    assert tap.news_dropped > 0


# Recording


def recorded(tap: Tap, seconds: float, caller: np.ndarray, bot: np.ndarray, bot_at: float) -> np.ndarray:
    """Both parties as a file would hold them."""
    parts: list[bytes] = []
    tap.record(parts.append, "pcm16", 0.0)
    begun = False
    for number in range(int(seconds * 50)):
        now = number * 0.02
        if now >= bot_at and not begun:
            begun = True
            tap.bot(ulaw_encode(bot.astype("<i2").tobytes()), now)
        tap.caller(
            ulaw_encode(caller[number * FRAME : (number + 1) * FRAME].astype("<i2").tobytes()), now + 0.02
        )
    tap.end_recording(seconds)
    return np.frombuffer(b"".join(parts), "<i2").reshape(-1, 2)


def test_a_recording_holds_both_parties_on_one_clock() -> None:
    caller, bot = long_speech(CALLER_TEXT, 4), speech(BOT_TEXT)[: 2 * RATE]
    stereo = recorded(Tap("mulaw", RATE), 4.0, caller, bot, 1.0)
    assert len(stereo) == pytest.approx(4 * RATE, abs=FRAME)
    loud = np.flatnonzero(np.abs(stereo[:, 1]) > 200)
    first = RATE + int(np.argmax(np.abs(bot) > 200))
    assert loud[0] == pytest.approx(first, abs=FRAME)
    # The caller stands where they spoke, to within the first frame's way.
    best = max(
        range(-FRAME, FRAME + 1, 8),
        key=lambda lag: float(
            np.dot(np.roll(caller[: 3 * RATE].astype(float), lag), stereo[: 3 * RATE, 0].astype(float))
        ),
    )
    assert abs(best) <= FRAME


def test_bot_audio_that_was_cut_is_not_recorded() -> None:
    tap = Tap("mulaw", RATE)
    parts: list[bytes] = []
    tap.record(parts.append, "pcm16", 0.0)
    tap.bot(b"\x10" * 2 * RATE, 0.0)
    for number in range(100):
        now = number * 0.02
        if number == 50:
            tap.cut(now)
        tap.caller(b"\xff" * FRAME, now + 0.02)
    tap.end_recording(2.0)
    stereo = np.frombuffer(b"".join(parts), "<i2").reshape(-1, 2)
    loud = np.flatnonzero(stereo[:, 1])
    assert loud[-1] == pytest.approx(RATE, abs=FRAME)


def test_a_pause_is_silence_on_both_sides() -> None:
    tap = Tap("mulaw", RATE)
    parts: list[bytes] = []
    tap.record(parts.append, "pcm16", 0.0)
    for number in range(200):
        now = number * 0.02
        if number == 50:
            tap.pause_recording(now)
        if number == 100:
            tap.resume_recording(now)
        tap.bot(b"\x10" * FRAME, now)
        tap.caller(b"\x10" * FRAME, now + 0.02)
    tap.end_recording(4.0)
    stereo = np.frombuffer(b"".join(parts), "<i2").reshape(-1, 2)
    assert np.any(stereo[: RATE - FRAME, :])
    assert not np.any(stereo[RATE + 2 * FRAME : 2 * RATE - 2 * FRAME, :])
    assert np.any(stereo[3 * RATE :, 0])


def test_a_caller_who_sends_nothing_does_not_stop_the_recording() -> None:
    tap = Tap("mulaw", RATE)
    parts: list[bytes] = []
    tap.record(parts.append, "pcm16", 0.0)
    for number in range(300):
        tap.bot(b"\x10" * FRAME, number * 0.02)
        if number % 5 == 0:
            tap.settle_recording(number * 0.02)
    tap.end_recording(6.0)
    stereo = np.frombuffer(b"".join(parts), "<i2").reshape(-1, 2)
    assert len(stereo) == pytest.approx(6 * RATE, abs=2 * FRAME)
    assert np.count_nonzero(stereo[:, 1]) == pytest.approx(6 * RATE, rel=0.05)


def test_a_sink_that_fails_harms_nothing() -> None:
    def sink(data: bytes) -> None:
        raise OSError("full")

    tap = Tap("mulaw", RATE)
    tap.record(sink, "pcm16", 0.0)
    for number in range(100):
        tap.caller(b"\x10" * FRAME, number * 0.02)
    tap.end_recording(2.0)
    assert tap.sink_faults > 0
    assert not tap.is_recording


# Refusals


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="one of"):
        Tap("opus", 8000)
    with pytest.raises(ValueError, match="rate"):
        Tap("pcm16", 11025 * 10)
    tap = Tap("mulaw", 8000)
    with pytest.raises(ValueError, match="sensitive"):
        tap.open_ears(0.0, speech=True, preset="deaf")
    with pytest.raises(ValueError, match="confirmation"):
        tap.open_ears(0.0, overlap=True, confirm_ms=5)
    with pytest.raises(RuntimeError):
        tap.__init__("mulaw", 8000)  # type: ignore[misc]
    with pytest.raises(ValueError, match="one of"):
        tap.record(print, "mp3", 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("fill", [0x00, 0x7F, 0x80, 0xFF])
def test_extreme_audio_is_heard_without_harm(fill: int) -> None:
    for encoding, rate in (("pcm16", 24000), ("mulaw", 8000)):
        tap = Tap(encoding, rate)
        tap.open_ears(0.0, speech=True, overlap=True, digits=True)
        for number in range(100):
            tap.bot(bytes([fill]) * 960, number * 0.02)
            tap.caller(bytes([fill]) * 960, number * 0.02)
        assert overlaps([(0.0, news) for news in tap.take_news()]) == []
