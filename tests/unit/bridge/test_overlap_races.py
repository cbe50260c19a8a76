"""Speech over the bot, in all orders in which our ears, the model's and its words can tell of it."""

import pytest

from fastagent.bridge.clips import Clip
from fastagent.media.bargein import BargeIn, BargeInPolicy
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from fastagent.wire.realtime_errors import ACTIVE_RESPONSE_CODE
from tests.unit.bridge.stage import STARTED, Stage, done, said
from tests.unit.bridge.test_overlap import ABORT, KEYWORD, PROTECTED, talking

CANCELLED = model.ResponseStatus.CANCELLED


def answers(commands: list) -> list[model.CreateResponse]:
    return [one for one in commands if isinstance(one, model.CreateResponse)]


def words(text: str, item_id: str = "u1") -> model.CallerTranscript:
    return model.CallerTranscript(item_id, text, is_final=True)


def backchannel(stage: Stage) -> None:
    """Our ears hear a short sound over the bot, and it goes on."""
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken, stage.speech.quiet = 300, 200
    stage.wait(0.1)


# What is said into the bot's last words


def test_an_answer_over_the_tail_is_played_behind_it() -> None:
    stage = talking(ms=1200)
    stage.interrupt()
    backchannel(stage)
    stage.turn()
    assert model.CancelResponse("r2") not in stage.begins("r2")
    stage.audio("i2", 100, of="r2")
    stage.wait(3.0)
    assert stage.downlink.sent == 1300 * 8


def test_yes_shortly_before_the_end_is_answered_though_the_answer_was_declined() -> None:
    stage = talking(ms=2600)
    stage.interrupt()
    backchannel(stage)
    stage.turn()
    assert model.CancelResponse("r2") in stage.begins("r2")
    stage.model(done("r2", CANCELLED), words("Yes."))
    assert stage.wait(0.5) == []
    stage.interrupt()
    backchannel(stage)
    stage.wait(0.4)
    stage.turn()
    assert answers(stage.wait(4.0)) == [model.CreateResponse()]


def test_a_sign_to_go_on_in_mid_speech_is_not_answered() -> None:
    stage = talking(ms=6000)
    stage.interrupt()
    backchannel(stage)
    stage.turn()
    stage.begins("r2")
    stage.model(done("r2", CANCELLED), words("Uh-huh."))
    assert answers(stage.wait(10.0)) == []


def test_words_that_come_after_the_bots_end_are_answered() -> None:
    stage = talking(ms=3000)
    stage.interrupt()
    backchannel(stage)
    stage.turn()
    stage.begins("r2")
    stage.model(done("r2", CANCELLED))
    stage.speech.spoken, stage.speech.quiet = 0, 60_000
    stage.wait(0.2)
    assert answers(stage.model(words("No, tomorrow"))) == [model.CreateResponse()]


def test_what_a_protected_bot_was_told_is_answered_without_words() -> None:
    stage = talking(PROTECTED, ms=6000)
    stage.interrupt()
    stage.wait(0.3)
    stage.turn()
    stage.begins("r2")
    stage.model(done("r2", CANCELLED))
    assert answers(stage.wait(10.0)) == [model.CreateResponse()]


def test_an_answer_declined_while_held_is_asked_for_once_the_caller_has_the_floor() -> None:
    stage = talking(ms=4000)
    stage.brain.caller_overlaps(stage.now)
    stage.interrupt()
    stage.turn()
    assert model.CancelResponse("r2") in stage.begins("r2")
    stage.model(done("r2", CANCELLED))
    stage.speech.spoken = 700
    assert answers(stage.wait(0.1)) == [model.CreateResponse()]


def test_a_turn_the_model_could_not_answer_is_answered_once_and_the_greeting_not_twice() -> None:
    stage = Stage(policy=BargeInPolicy(), greeting="Hello.", is_open=False)
    stage.brain.model_opened(stage.now)
    stage.begins()
    stage.audio("i1", 3000)
    stage.wait(0.5)
    stage.interrupt()
    stage.wait(0.2)
    stage.turn()
    busy = model.ModelError(model.Severity.BENIGN, ACTIVE_RESPONSE_CODE, "busy")
    assert answers(stage.model(busy, model.AudioDone("r1", "i1"), done())) == []


# Turns that our ears and the model's hear differently


def test_a_caller_who_speaks_when_the_bot_begins_holds_it() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.interrupt()
    stage.turn()
    stage.begins()
    stage.speech.spoken = 300
    assert stage.brain.caller_overlaps(stage.now) == [], "nothing is heard of the bot yet"
    assert stage.audio("i1", 4000) == [STARTED]
    assert stage.downlink.is_held
    stage.speech.spoken = 900
    assert model.CancelResponse("r1") in stage.wait(0.1)


def test_noise_that_cut_the_bot_does_not_silence_it_for_good() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.begins()
    stage.audio("i1", 5000)
    stage.wait(0.5)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 700
    stage.wait(0.1)
    stage.model(done("r1", CANCELLED))
    stage.speech.quiet = 5000
    assert answers(stage.wait(5.0)) == [model.CreateResponse()]
    assert stage.brain.counters["turns_missing"] == 1


def test_a_caller_whom_the_model_heard_too_is_not_asked_for_again() -> None:
    stage = talking(ms=5000)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 700
    stage.wait(0.1)
    stage.interrupt()
    stage.speech.quiet = 5000
    assert answers(stage.wait(5.0)) == []


def test_a_bot_cut_in_its_goodbye_waits_for_the_callers_turn() -> None:
    stage = talking(ms=3000)
    stage.brain.hang_up("bye", stage.now)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 700
    assert not any(isinstance(one, carrier.HangUp) for one in stage.wait(0.5))


def test_echo_that_the_model_took_for_the_caller_is_not_answered() -> None:
    stage = talking(ms=2000, transcribes=True)
    stage.model(said("i1", "Appointments begin on the hour."))
    stage.interrupt()
    stage.wait(2.2)
    stage.turn()
    assert model.CancelResponse("r2") in stage.begins("r2")
    stage.model(done("r2", CANCELLED))
    assert answers(stage.model(words("begin on the hour"))) == []
    assert answers(stage.wait(3.0)) == []


def test_a_caller_whom_only_the_model_heard_is_answered_for_their_words() -> None:
    stage = talking(ms=2000, transcribes=True)
    stage.model(said("i1", "Appointments begin on the hour."))
    stage.interrupt()
    stage.wait(2.2)
    stage.turn()
    stage.begins("r2")
    stage.model(done("r2", CANCELLED))
    assert answers(stage.model(words("I want to cancel"))) == [model.CreateResponse()]


def test_speech_that_begins_while_the_cut_answer_still_ends_interrupts_nothing_more() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.begins()
    stage.audio("i1", 3000)
    stage.wait(0.5)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 700
    stage.wait(0.1)
    assert ABORT not in stage.interrupt()
    assert stage.brain.counters["barge_ins"] == 1


def test_a_word_that_comes_while_held_cuts() -> None:
    stage = talking(ms=4000)
    stage.interrupt()
    stage.brain.caller_overlaps(stage.now)
    commands = stage.model(words("stop"))
    assert any(isinstance(one, model.TruncateItem) for one in commands)
    assert ABORT not in commands, "the carrier is silent already"


def test_late_words_of_a_turn_that_was_taken_ask_for_nothing() -> None:
    stage = talking(ms=4000)
    stage.interrupt()
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 700
    stage.wait(0.1)
    stage.turn()
    stage.begins("r2")
    stage.audio("i2", 2000, of="r2")
    assert ABORT not in stage.model(words("No, Tuesday"))


def test_a_hold_in_a_transfer_that_goes_out_changes_nothing_more() -> None:
    stage = talking(ms=30_000)
    stage.brain.transfer(carrier.TransferCall("sip:x", wants_status=True), stage.now)
    stage.wait(19.2)
    stage.brain.caller_overlaps(stage.now)
    stage.speech.spoken = 100
    commands = stage.wait(3.0)
    gone = commands.index(carrier.TransferCall("sip:x", wants_status=True))
    assert not any(isinstance(one, carrier.OpenPlayback) for one in commands[gone:])


@pytest.mark.parametrize("mode", ["protected", "keyword"])
def test_the_models_ears_do_not_stop_what_is_protected(mode: str) -> None:
    stage = talking()
    stage.brain.barge_in = None
    stage = Stage(policy=PROTECTED if mode == "protected" else KEYWORD)
    assert stage.brain.barge_in is not None
    stage.brain.barge_in.is_models = True
    stage.says(ms=2000)
    stage.wait(0.5)
    assert stage.interrupt() == []
    assert stage.downlink.is_queued


def test_the_models_ears_stop_what_is_not_protected() -> None:
    stage = Stage(policy=BargeInPolicy())
    assert stage.brain.barge_in is not None
    stage.brain.barge_in.is_models = True
    stage.says(ms=2000)
    stage.wait(0.5)
    assert stage.brain.caller_overlaps(stage.now) == []
    assert ABORT in stage.interrupt()


# Turns by our own ears, and a session or a stream that is lost meanwhile


def test_a_session_lost_within_a_turn_answers_when_the_turn_ends() -> None:
    stage = Stage(policy=BargeInPolicy(), detects_turns=False)
    stage.brain.caller_started(stage.now)
    stage.wait(1.0)
    stage.brain.model_lost(stage.now)
    assert answers(stage.brain.model_opened(stage.now)) == [], "not into the caller's words"
    stage.wait(1.0)
    stage.brain.caller_stopped(stage.now)
    commands = stage.wait(1.0)
    assert model.CommitInput() in commands
    assert answers(commands) == [model.CreateResponse()]


def test_a_turn_wholly_between_two_sessions_is_committed_in_the_next() -> None:
    stage = Stage(policy=BargeInPolicy(), detects_turns=False)
    stage.brain.model_lost(stage.now)
    stage.brain.caller_started(stage.now)
    stage.wait(1.0)
    stage.brain.caller_stopped(stage.now)
    stage.wait(1.0)
    assert model.CommitInput() not in stage.brain.model_opened(stage.now), "its audio comes first"
    commands = stage.wait(1.0)
    assert model.CommitInput() in commands
    assert answers(commands) == [model.CreateResponse()]


def test_a_stream_that_begins_anew_ends_the_turn_unless_they_go_on() -> None:
    stage = Stage(policy=BargeInPolicy(), detects_turns=False)
    stage.brain.caller_started(stage.now)
    stage.carrier(carrier.CallerStreamStarted())
    assert model.CommitInput() in stage.wait(1.0)


@pytest.mark.parametrize(("policy", "is_cut"), [(KEYWORD, True), (BargeInPolicy(), True), (PROTECTED, False)])
def test_words_over_the_bot_are_weighed_without_the_models_ears(policy: BargeInPolicy, is_cut: bool) -> None:
    stage = talking(policy, ms=5000, detects_turns=False)
    stage.brain.caller_started(stage.now)
    backchannel(stage)
    stage.brain.caller_stopped(stage.now)
    assert model.CommitInput() in stage.wait(0.7)
    stage.model(model.InputCommitted("u9"))
    commands = stage.model(words("stop", "u9"))
    assert (ABORT in commands) is is_cut
    assert answers(commands + stage.wait(8.0)) == [model.CreateResponse()]


# Clips


def test_the_bot_speaks_after_a_clip_not_between_its_pieces() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.brain.play(Clip("clip-1", b"\x33" * 8 * 3000, piece_bytes=8000), stage.now, waits=False)
    stage.wait(0.5)
    stage.says("i1", 500)
    assert stage.downlink.enqueued == 3500 * 8
    stage.wait(5.0)
    assert stage.downlink.enqueued == 3500 * 8


def test_hold_music_ends_for_a_farewell() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.brain.play(Clip("clip-1", b"\x33" * 8 * 2000, is_looped=True), stage.now, waits=False)
    stage.wait(3.0)
    commands = stage.brain.transfer(carrier.TransferCall("sip:x", wants_status=True), stage.now)
    assert ABORT in commands
    assert carrier.TransferCall("sip:x", wants_status=True) in commands + stage.wait(2.0)


def test_hold_music_ends_for_a_clip_that_waits() -> None:
    stage = Stage(policy=BargeInPolicy())
    stage.brain.play(Clip("clip-1", b"\x33" * 8 * 2000, is_looped=True), stage.now, waits=False)
    stage.wait(1.0)
    stage.brain.play(Clip("clip-2", b"\x33" * 8 * 500), stage.now, waits=True)
    stage.wait(2.0)
    assert stage.brain.counters["clips_played"] == 2
    assert not stage.downlink.is_queued


def test_barge_in_of_a_call_is_its_own() -> None:
    speech = Stage(policy=BargeInPolicy()).speech
    assert BargeIn(speech).policy == BargeInPolicy()
