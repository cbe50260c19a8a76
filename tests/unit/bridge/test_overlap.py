"""The caller over the bot, by our own ears: held at once, judged soon, resumed where it was held. Clips."""

import base64
import json

import pytest

from fastagent.bridge.brain import Phase
from fastagent.bridge.clips import PENDING_MAX, Clip
from fastagent.bridge.commands import CallerPressed, CallerSaid, Command, NoteInterruption
from fastagent.media.bargein import BargeInPolicy
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import MEDIA, STARTED, STOPPED, Stage, done

ABORT = carrier.AbortPlayback()
KEYWORD = BargeInPolicy("keyword", ("stop", "hold on"))
PROTECTED = BargeInPolicy("protected")


def talking(policy: BargeInPolicy | None = None, *, ms: int = 2000, **options: bool) -> Stage:
    """A bot in the middle of an answer, half a second into it."""
    stage = Stage(policy=policy or BargeInPolicy(), **options)
    stage.says(ms=ms)
    stage.wait(0.5)
    return stage


def test_the_bot_is_held_at_once() -> None:
    stage = talking()
    commands = stage.brain.caller_overlaps(stage.now)
    assert commands == [STARTED, carrier.ClosePlayback("play-1"), ABORT]
    assert stage.downlink.is_held
    assert stage.brain.counters["holds"] == 1


def test_what_was_not_heard_returns_to_the_queue() -> None:
    stage = talking()
    heard = stage.downlink.played(stage.now)
    assert stage.downlink.sent > heard
    stage.brain.caller_overlaps(stage.now)
    assert stage.downlink.sent == heard
    assert stage.downlink.queued == 2000 * 8 - heard


def test_a_backchannel_lets_the_bot_go_on_at_the_held_sample() -> None:
    stage = talking()
    stage.brain.caller_overlaps(stage.now)
    held_at = stage.downlink.sent
    stage.speech.spoken, stage.speech.quiet = 300, 400
    commands = stage.wait(0.1)
    assert commands == [STOPPED, carrier.OpenPlayback("play-2", MEDIA, None)]
    assert stage.speech.rearmed == 1
    assert stage.downlink.sent > held_at
    stage.wait(3.0)
    assert stage.downlink.sent == 2000 * 8
    assert stage.brain.counters["backchannels"] == 1
    assert stage.brain.counters["barge_ins"] == 0


def test_speech_that_goes_on_takes_the_turn_at_the_held_sample() -> None:
    stage = talking()
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 1000
    commands = stage.wait(0.1)
    assert model.TruncateItem("i1", 500, 0) in commands
    assert NoteInterruption("i1", 500) in commands
    assert ABORT not in commands, "the carrier was silenced when the bot was held"
    assert not stage.downlink.is_queued
    assert not stage.downlink.is_held


def test_a_response_under_way_is_cancelled_when_the_turn_is_taken() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 1000
    assert model.CancelResponse("r1") in stage.wait(0.1)
    assert stage.audio("i1", 100) == []
    assert not stage.downlink.is_queued, "late audio of what was cut is not played"


def test_a_bot_held_while_the_callers_audio_stalls_goes_on() -> None:
    stage = talking()
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 100
    stage.wait(2.0)
    assert not stage.downlink.is_held
    assert stage.brain.counters["barge_ins"] == 0


def test_a_bot_that_becomes_protected_while_held_goes_on() -> None:
    stage = talking()
    stage.brain.caller_overlaps(stage.now)
    assert stage.brain.barge_in is not None
    stage.brain.barge_in.policy = PROTECTED
    stage.speech.spoken = 1000
    stage.wait(0.1)
    assert not stage.downlink.is_held
    assert stage.downlink.sent or stage.downlink.is_queued


def test_audio_that_comes_while_held_waits() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    stage.brain.caller_overlaps(stage.now)
    sent = stage.downlink.sent
    assert stage.audio("i2", 100) == [], "no playback is opened while the caller speaks"
    stage.wait(0.05)
    assert stage.downlink.sent == sent
    stage.speech.quiet = 400
    commands = stage.wait(3.0)
    assert [type(one) for one in commands].count(carrier.OpenPlayback) == 1
    assert stage.downlink.sent == 1100 * 8


def test_overlap_while_nothing_is_heard_changes_nothing() -> None:
    stage = Stage(policy=BargeInPolicy())
    assert stage.brain.caller_overlaps(stage.now) == []
    assert stage.brain.counters["holds"] == 0


def test_the_models_word_alone_does_not_stop_the_bot() -> None:
    stage = talking()
    assert stage.interrupt() == [], "a carrier that were told would stop the bot"
    assert stage.turn() == []
    assert stage.downlink.is_queued


def test_a_caller_who_speaks_after_the_bot_is_answered_as_ever() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.says(ms=200)
    stage.wait(1.0)
    stage.interrupt()
    stage.turn()
    assert stage.begins("r2") == []
    stage.audio("i2", 100, of="r2")
    assert stage.downlink.sent == 300 * 8


def test_an_answer_to_a_backchannel_is_declined() -> None:
    stage = talking(ms=3000)
    stage.brain.caller_overlaps(stage.now)
    stage.interrupt()
    stage.speech.quiet = 400
    stage.wait(0.1)
    stage.turn()
    assert stage.begins("r2") == [model.CancelResponse("r2")]
    stage.audio("i2", 100, of="r2")
    stage.wait(4.0)
    assert stage.downlink.sent == 3000 * 8, "nothing of the declined answer is played"
    assert stage.brain.counters["answers_declined"] == 1


def test_an_answer_after_the_bot_ended_is_played_even_if_the_caller_began_over_it() -> None:
    stage = talking(ms=700)
    stage.interrupt()
    stage.wait(1.0)
    stage.turn()
    assert stage.begins("r2") == []


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [("Uh-huh.", False), ("Yeah, okay.", False), ("mmm hmm", False), ("Stop!", True), ("no, wait", True)],
)
def test_words_over_the_bot_take_the_turn_when_they_say_something(text: str, is_cut: bool) -> None:
    stage = talking()
    stage.brain.caller_overlaps(stage.now)
    stage.interrupt()
    stage.speech.quiet = 400
    stage.wait(0.1)
    stage.turn()
    commands = stage.model(model.CallerTranscript("u1", text, is_final=True))
    assert CallerSaid(text) in commands
    assert (ABORT in commands) is is_cut
    assert (model.CreateResponse() in commands) is is_cut
    assert stage.downlink.is_queued is not is_cut


def test_words_of_the_turn_before_do_not_cut_its_answer() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.interrupt()
    stage.turn()
    stage.begins()
    stage.audio("i1", 1000)
    commands = stage.model(model.CallerTranscript("u1", "Book an appointment", is_final=True))
    assert ABORT not in commands
    assert stage.downlink.is_queued


def test_a_protected_bot_speaks_on_and_answers_then() -> None:
    stage = talking(PROTECTED)
    assert stage.brain.caller_overlaps(stage.now) == []
    stage.interrupt()
    stage.turn()
    commands = stage.model(model.CallerTranscript("u1", "But I want something else", is_final=True))
    assert model.CreateResponse() in commands
    assert ABORT not in commands
    assert stage.downlink.is_queued


@pytest.mark.parametrize(
    ("text", "is_cut"), [("hold on a second", True), ("I see", False), ("holding on", False)]
)
def test_by_keyword_only_a_keyword_stops_the_bot(text: str, is_cut: bool) -> None:
    stage = talking(KEYWORD)
    assert stage.brain.caller_overlaps(stage.now) == []
    stage.interrupt()
    stage.turn()
    commands = stage.model(model.CallerTranscript("u1", text, is_final=True))
    assert (ABORT in commands) is is_cut


def test_a_lost_carrier_ends_the_hold() -> None:
    stage = talking()
    stage.brain.caller_overlaps(stage.now)
    stage.brain.carrier_lost(stage.now)
    assert not stage.downlink.is_held
    assert stage.brain.phase is Phase.PARKED
    stage.speech.quiet = 400
    stage.brain.carrier_resumed(stage.now)
    stage.says("i9", 100, of="r9")
    assert stage.downlink.is_queued or stage.downlink.sent


def test_a_bot_held_in_its_goodbye_still_leaves() -> None:
    stage = talking()
    stage.brain.hang_up("done", stage.now)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.quiet = 400
    assert carrier.HangUp("done") in stage.wait(5.0)


# Turns by our own ears


def test_turns_end_after_a_silence_by_our_own_ears() -> None:
    stage = Stage(policy=BargeInPolicy(), detects_turns=False)
    assert stage.brain.caller_started(stage.now) == [STARTED]
    stage.wait(1.0)
    stage.brain.caller_stopped(stage.now)
    assert stage.wait(0.25) == []
    assert stage.wait(0.5) == [model.CommitInput(), STOPPED, model.CreateResponse()]


def test_speech_before_the_silence_is_over_goes_on_with_the_turn() -> None:
    stage = Stage(policy=BargeInPolicy(), detects_turns=False)
    stage.brain.caller_started(stage.now)
    stage.brain.caller_stopped(stage.now)
    stage.wait(0.25)
    assert stage.brain.caller_started(stage.now) == []
    assert stage.wait(2.0) == []


def test_our_ears_leave_turns_to_a_model_that_detects_them() -> None:
    stage = Stage(policy=BargeInPolicy())
    assert stage.brain.caller_started(stage.now) == []
    assert stage.brain.caller_stopped(stage.now) == []
    assert stage.wait(2.0) == []


def test_a_backchannel_by_our_own_ears_is_no_turn() -> None:
    stage = talking(detects_turns=False)
    stage.brain.caller_started(stage.now)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.quiet = 400
    stage.brain.caller_stopped(stage.now)
    commands = stage.wait(1.0)
    assert model.CommitInput() in commands
    assert model.CreateResponse() not in commands


# Keypad digits from two sources


def test_a_digit_signalled_and_heard_is_one() -> None:
    stage = Stage()
    assert stage.brain.digit_heard("5", stage.now) == [CallerPressed("5")]
    stage.now += 0.2
    assert stage.carrier(carrier.DtmfReceived("5")) == []


# Clips


def play(stage: Stage, clip: Clip, *, waits: bool = False) -> list[Command]:
    commands = stage.brain.play(clip, stage.now, waits=waits)
    assert commands is not None
    return commands


def clip(ms: int = 500, **options: bool) -> Clip:
    return Clip("clip-1", b"\x33" * 8 * ms, **options)


def test_a_clip_is_played_in_a_playback_of_its_own() -> None:
    stage = Stage()
    commands = play(stage, clip())
    assert [type(one) for one in commands] == [carrier.OpenPlayback]
    commands = stage.wait(1.0)
    assert stage.downlink.sent == 500 * 8
    assert carrier.ClosePlayback("play-1") in commands


def test_a_clip_that_waits_begins_in_a_pause() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 300)
    assert play(stage, clip(), waits=True) == []
    stage.model(model.AudioDone("r1", "i1"))
    stage.model(done("r1"))
    assert stage.downlink.enqueued == 300 * 8, "the answer is still being heard"
    stage.wait(0.5)
    stage.now += 0.1
    stage.brain.advance(stage.now)
    assert stage.downlink.enqueued == 800 * 8


def test_a_clip_for_now_cuts_the_bot_short() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    commands = play(stage, clip())
    assert model.TruncateItem("i1", 250, 0) in commands
    assert model.CancelResponse("r1") in commands
    assert stage.downlink.queued + stage.downlink.sent - stage.downlink.played(stage.now) >= 500 * 8


def test_music_goes_round_until_the_bot_speaks() -> None:
    stage = Stage()
    play(stage, clip(200, is_looped=True))
    for _ in range(5):
        while stage.downlink.due(stage.now) is not None:
            pass
        assert not stage.downlink.is_queued
        stage.brain.playout_drained(stage.now)
        assert stage.downlink.is_queued
        stage.now += 0.2
    met = stage.audio("i1", 100)
    assert met[:2] == [carrier.ClosePlayback("play-1"), ABORT]
    assert isinstance(met[2], carrier.OpenPlayback)
    assert stage.downlink.queued <= 100 * 8
    while stage.downlink.due(stage.now) is not None:
        pass
    stage.brain.playout_drained(stage.now)
    assert not stage.downlink.is_queued


def test_the_caller_may_cut_a_clip_short() -> None:
    stage = Stage(policy=BargeInPolicy())
    play(stage, clip(2000))
    stage.wait(0.5)
    assert ABORT in stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 1000
    commands = stage.wait(0.1)
    assert not stage.downlink.is_queued
    assert not any(isinstance(one, model.TruncateItem | model.DeleteItem) for one in commands)


def test_a_clip_may_be_protected_from_the_caller() -> None:
    stage = Stage(policy=BargeInPolicy())
    play(stage, clip(2000, is_interruptible=False))
    stage.wait(0.5)
    assert stage.brain.caller_overlaps(stage.now) == []
    assert stage.interrupt() == []
    assert stage.downlink.is_queued


def test_a_protected_clip_is_protected_where_the_model_decides() -> None:
    stage = Stage()
    play(stage, clip(2000, is_interruptible=False))
    stage.wait(0.5)
    assert stage.interrupt() == []
    assert stage.downlink.is_queued


def test_stopping_ends_the_clip_and_those_that_wait() -> None:
    stage = Stage()
    play(stage, clip(2000))
    play(stage, Clip("clip-2", b"\x33" * 800), waits=True)
    stage.wait(0.5)
    assert ABORT in stage.brain.stop_playing(stage.now)
    assert not stage.downlink.is_queued
    stage.wait(2.0)
    assert stage.brain.counters["clips_played"] == 1


def test_stopping_nothing_does_nothing() -> None:
    stage = Stage()
    stage.says()
    assert stage.brain.stop_playing(stage.now) == []
    assert stage.downlink.sent or stage.downlink.is_queued


def test_too_many_clips_that_wait_are_refused() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 300)
    for number in range(PENDING_MAX):
        assert stage.brain.play(Clip(f"c{number}", b"\x33" * 8), stage.now, waits=True) is not None
    assert stage.brain.play(clip(), stage.now, waits=True) is None


def test_nobody_hears_a_clip_while_the_call_is_parked() -> None:
    stage = Stage()
    stage.brain.carrier_lost(stage.now)
    assert stage.brain.play(clip(), stage.now, waits=False) is None


def test_a_model_item_after_a_clip_is_accounted_apart() -> None:
    stage = Stage(policy=BargeInPolicy())
    play(stage, clip(300))
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.5)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 1000
    assert model.TruncateItem("i1", 200, 0) in stage.wait(0.1)


def test_base64_of_the_clip_reaches_the_carrier() -> None:
    stage = Stage()
    stage.downlink.set_template(b'{"a":"', b'"}')
    play(stage, clip(40))
    message = stage.downlink.due(stage.now)
    assert message is not None
    assert base64.b64decode(json.loads(message)["a"]) == b"\x33" * 320
