"""The brain of a call: each event at its time, and exactly what the call is told to do."""

from collections.abc import Callable
from typing import Any

import pytest

from fastagent.bridge.brain import (
    FUNCTION_ROUNDS_MAX,
    HYPOTHESIS_CHARACTERS_MAX,
    SILENCE_PROMPTS_MAX,
    Phase,
)
from fastagent.bridge.commands import (
    BotSaid,
    CallerPressed,
    CallerSaid,
    Command,
    EndCall,
    NoteInterruption,
    ReplaceModel,
    RunFunction,
)
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    COMMITTED,
    MEDIA,
    STARTED,
    STOPPED,
    Stage,
    done,
    function,
    said,
    texts,
    without_items,
)

PLAIN = model.CreateResponse()
GREET = model.CreateResponse(instructions='Greet the caller with: "Hello."')
TRANSFER = carrier.TransferCall("tel:+15550100099", wants_status=True)
SYSTEM_FAILED = "The transfer failed. Tell the caller and ask how else to help."
SYSTEM_BACK = "The line was interrupted for a moment and is back. Go on where you stopped."


# The session begins


def test_the_first_session_is_configured_and_greets() -> None:
    stage = Stage(greeting="Hello.", is_open=False)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings), GREET]


def test_without_a_greeting_the_caller_speaks_first() -> None:
    stage = Stage(is_open=False)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]


def test_the_caller_is_greeted_once() -> None:
    stage = Stage(greeting="Hello.")
    stage.says()
    stage.wait(1.0)
    stage.brain.model_lost(stage.now)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]


def test_a_greeting_that_never_began_is_asked_for_again() -> None:
    stage = Stage(greeting="Hello.")
    stage.brain.model_lost(stage.now)
    commands = stage.brain.model_opened(stage.now)
    assert commands[:2] == [model.UpdateSession(stage.settings), GREET]
    assert PLAIN not in commands


def test_what_was_announced_before_the_session_follows_the_greeting() -> None:
    stage = Stage(greeting="Hello.", is_open=False)
    assert stage.brain.announce("Something.", stage.now) == []
    commands = stage.brain.model_opened(stage.now)
    assert texts(commands) == [("system", "Something.")]
    assert without_items(commands) == [model.UpdateSession(stage.settings), GREET]
    stage.begins()
    assert stage.model(done()) == [PLAIN]


# Barge-in


def test_barge_in_drops_the_queue_then_tells_the_carrier_then_the_model() -> None:
    stage = Stage()
    stage.begins()
    assert stage.audio("i1", 1000) == [carrier.OpenPlayback("play-1", MEDIA)]
    assert stage.downlink.queued > 0
    stage.wait(0.25)
    commands = stage.interrupt()
    assert stage.downlink.queued == 0
    assert commands == [
        STARTED,
        carrier.ClosePlayback("play-1"),
        carrier.AbortPlayback(),
        model.TruncateItem("i1", 250),
        NoteInterruption("i1", 250),
    ]
    assert stage.brain.counters["barge_ins"] == 1


def test_a_response_that_the_server_will_not_stop_is_cancelled_before_truncating() -> None:
    stage = Stage(interrupts=False)
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    assert stage.interrupt() == [
        STARTED,
        carrier.ClosePlayback("play-1"),
        carrier.AbortPlayback(),
        model.CancelResponse("r1"),
        model.TruncateItem("i1", 250),
        NoteInterruption("i1", 250),
    ]


def test_a_response_that_has_ended_is_not_cancelled() -> None:
    stage = Stage(interrupts=False)
    stage.says("i1", 1000)
    stage.wait(0.25)
    commands = stage.interrupt()
    assert not any(isinstance(command, model.CancelResponse) for command in commands)
    assert model.TruncateItem("i1", 250) in commands


def test_a_playback_that_was_closed_is_still_aborted_while_it_is_heard() -> None:
    stage = Stage()
    stage.says("i1", 250)
    stage.wait(0.125)
    assert stage.interrupt() == [
        STARTED,
        carrier.AbortPlayback(),
        model.TruncateItem("i1", 125),
        NoteInterruption("i1", 125),
    ]


@pytest.mark.parametrize(
    ("received_ms", "waited_s", "told"),
    [
        (1000, 0.25, [model.TruncateItem("i1", 250)]),
        # The model was slow: no more can be cut than it has said.
        (200, 3.0, [model.TruncateItem("i1", 200)]),
        (1000, 0.0, [model.DeleteItem("i1")]),
        # Less than the protocol's finest step was heard.
        (1000, 0.0005, [model.DeleteItem("i1")]),
    ],
)
def test_an_item_is_cut_to_what_was_heard_and_received(
    received_ms: int, waited_s: float, told: list[Command]
) -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", received_ms)
    stage.now += waited_s
    changes = (model.TruncateItem, model.DeleteItem)
    assert [one for one in stage.interrupt() if isinstance(one, changes)] == told


def test_an_item_heard_whole_is_left_alone() -> None:
    stage = Stage()
    stage.says("i1", 250)
    stage.wait(0.4)
    assert stage.interrupt() == [STARTED]


def test_items_queued_behind_the_one_heard_are_deleted() -> None:
    stage = Stage()
    stage.begins()
    for item_id in ("i1", "i2", "i3"):
        stage.audio(item_id, 1000)
        stage.model(model.AudioDone("r1", item_id))
    stage.wait(1.25)
    commands = stage.interrupt()
    assert commands[3:] == [
        model.TruncateItem("i2", 250),
        NoteInterruption("i2", 250),
        model.DeleteItem("i3"),
        NoteInterruption("i3", 0),
    ]


def test_late_audio_of_a_cut_item_is_not_played() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    stage.interrupt()
    sent = stage.downlink.sent
    assert stage.audio("i1", 1000) == []
    stage.wait(1.0)
    assert stage.downlink.sent == sent


def test_a_late_item_of_a_cut_response_is_refused_and_deleted_once() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    stage.interrupt()
    sent = stage.downlink.sent
    assert stage.audio("i2", 500) == [model.DeleteItem("i2")]
    assert stage.audio("i1", 500) == []
    assert stage.audio("i2", 500) == []
    assert stage.downlink.sent == sent
    assert stage.brain.counters["stale_items"] == 3


def test_the_response_after_a_cut_one_is_played() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    stage.interrupt()
    stage.model(done(status=model.ResponseStatus.CANCELLED))
    stage.turn()
    stage.begins("r2")
    assert stage.audio("i2", 200, of="r2") == [carrier.OpenPlayback("play-2", MEDIA)]
    assert stage.downlink.is_queued is False
    assert stage.downlink.enqueued == stage.downlink.sent


def test_speech_before_the_first_audio_of_a_response_keeps_it_silent() -> None:
    stage = Stage()
    stage.begins()
    assert stage.interrupt() == [STARTED, carrier.AbortPlayback()]
    assert stage.audio("i1", 500) == [model.DeleteItem("i1")]
    assert stage.downlink.sent == 0


def test_speech_before_the_first_audio_cancels_a_response_that_goes_on_otherwise() -> None:
    stage = Stage(interrupts=False)
    stage.begins()
    assert stage.interrupt() == [STARTED, carrier.AbortPlayback(), model.CancelResponse("r1")]


def test_speech_into_silence_is_only_reported() -> None:
    stage = Stage()
    assert stage.interrupt() == [STARTED]
    assert stage.turn() == [STOPPED, COMMITTED]
    assert stage.brain.counters["barge_ins"] == 0


def test_a_response_that_crosses_the_callers_first_words_is_put_off() -> None:
    stage = Stage()
    assert PLAIN in stage.brain.announce("News.", stage.now)
    assert stage.interrupt() == [STARTED]
    assert stage.begins() == [model.CancelResponse("r1")]
    assert stage.audio("i1", 200) == [model.DeleteItem("i1")]
    assert stage.model(done(status=model.ResponseStatus.CANCELLED)) == []


def test_speech_without_end_does_not_put_a_response_off_for_ever() -> None:
    stage = Stage()
    assert stage.interrupt() == [STARTED]
    assert PLAIN not in stage.brain.announce("News.", stage.now)
    assert stage.wait(31.0) == [PLAIN]
    assert stage.begins() == []
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-1", MEDIA)]


def test_a_cut_item_is_replayed_as_far_as_it_was_heard() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 400)
    stage.audio("i2", 400)
    stage.model(said("i1", "one two three four"), said("i2", "never heard"))
    stage.wait(0.1875)
    stage.interrupt()
    stage.brain.model_lost(stage.now)
    assert texts(stage.brain.model_opened(stage.now)) == [("assistant", "one two")]


def test_a_transcript_that_follows_the_cut_tells_only_what_was_heard() -> None:
    stage = Stage()
    stage.begins()
    for item_id in ("i1", "i2"):
        stage.model(model.ItemAdded(item_id, "message", "assistant"))
        stage.audio(item_id, 400)
    stage.wait(0.1875)
    stage.interrupt()
    assert stage.model(said("i1", "one two three four"), said("i2", "never heard")) == [BotSaid("one two")]


def test_an_item_of_a_lost_session_is_not_truncated_in_the_next() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.brain.model_lost(stage.now)
    stage.brain.model_opened(stage.now)
    stage.wait(0.25)
    assert stage.interrupt() == [
        STARTED,
        carrier.ClosePlayback("play-1"),
        carrier.AbortPlayback(),
        NoteInterruption("i1", 250),
    ]


# Playbacks


def test_a_playback_closes_when_its_audio_left_and_its_item_is_done() -> None:
    stage = Stage(lead_ms=200)
    stage.begins()
    stage.audio("i1", 400)
    assert stage.model(model.AudioDone("r1", "i1"), done()) == []
    assert stage.wait(0.15) == []
    assert stage.wait(0.125) == [carrier.ClosePlayback("play-1")]


def test_where_closing_may_cut_a_playback_stays_open_until_it_was_heard() -> None:
    stage = Stage(closes_when_heard=True, close_margin_s=0.0)
    stage.says("i1", 250)
    assert stage.wait(0.1875) == []
    assert stage.wait(0.125) == [carrier.ClosePlayback("play-1")]


def test_a_playback_held_open_is_given_a_margin() -> None:
    stage = Stage(closes_when_heard=True, close_margin_s=0.25)
    stage.says("i1", 250)
    assert stage.wait(0.4375) == []
    assert stage.wait(0.125) == [carrier.ClosePlayback("play-1")]


def test_a_playback_held_open_takes_the_next_item() -> None:
    stage = Stage(closes_when_heard=True, close_margin_s=0.0)
    stage.says("i1", 250, of="r1")
    stage.wait(0.125)
    stage.begins("r2")
    assert stage.audio("i2", 250, of="r2") == []
    stage.model(model.AudioDone("r2", "i2"), done("r2"))
    assert stage.wait(0.25) == []
    assert stage.wait(0.1875) == [carrier.ClosePlayback("play-1")]


def test_barge_in_closes_a_playback_held_open() -> None:
    stage = Stage(closes_when_heard=True, close_margin_s=0.0)
    stage.says("i1", 250)
    stage.wait(0.125)
    assert stage.interrupt()[:3] == [STARTED, carrier.ClosePlayback("play-1"), carrier.AbortPlayback()]
    assert stage.wait(1.0) == []


def test_hanging_up_follows_the_close_of_a_playback_held_open() -> None:
    stage = Stage(closes_when_heard=True, close_margin_s=0.0)
    stage.says("i1", 250)
    assert stage.brain.hang_up("bye", stage.now) == []
    assert stage.wait(0.3125) == [carrier.ClosePlayback("play-1")]
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("bye")]


def test_a_playback_stays_open_while_its_item_is_not_done() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 200)
    assert stage.wait(1.0) == []
    assert stage.audio("i1", 200) == []
    assert stage.model(model.AudioDone("r1", "i1")) == [carrier.ClosePlayback("play-1")]


def test_the_end_of_a_response_ends_its_items() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 200)
    assert stage.model(done()) == [carrier.ClosePlayback("play-1")]


def test_a_response_end_without_an_id_ends_the_active_one() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 200)
    assert stage.model(done("")) == [carrier.ClosePlayback("play-1")]


def test_a_response_whose_end_was_never_told_is_ended_by_the_next() -> None:
    stage = Stage()
    stage.begins("r1")
    stage.audio("i1", 200)
    assert stage.begins("r2") == [carrier.ClosePlayback("play-1")]
    assert stage.audio("i1", 200) == []


def test_audio_after_the_end_of_its_response_is_refused() -> None:
    stage = Stage()
    stage.says("i1", 200)
    sent = stage.downlink.sent
    assert stage.audio("i1", 200) == []
    assert stage.audio("i2", 200) == []
    assert stage.downlink.sent == sent


def test_audio_after_its_item_was_called_done_gets_a_playback_of_its_own() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 200)
    assert stage.model(model.AudioDone("r1", "i1")) == [carrier.ClosePlayback("play-1")]
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-2", MEDIA)]
    assert stage.model(done()) == [carrier.ClosePlayback("play-2")]


def test_items_that_follow_one_another_share_a_playback() -> None:
    stage = Stage(lead_ms=200)
    stage.begins()
    assert stage.audio("i1", 400) == [carrier.OpenPlayback("play-1", MEDIA)]
    stage.model(model.AudioDone("r1", "i1"))
    assert stage.audio("i2", 400) == []
    assert stage.model(model.AudioDone("r1", "i2"), done()) == []
    assert stage.wait(1.0) == [carrier.ClosePlayback("play-1")]


def test_words_told_before_they_are_spoken_go_into_the_playback() -> None:
    stage = Stage()
    stage.begins()
    assert stage.model(said("i1", "Good morning.")) == [BotSaid("Good morning.")]
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-1", MEDIA, "Good morning.")]


def test_a_finished_playback_was_heard_whole() -> None:
    stage = Stage()
    stage.says("i1", 250)
    stage.wait(0.1875)
    assert stage.carrier(carrier.PlaybackFinished()) == []
    assert stage.interrupt() == [STARTED]


def test_a_finish_speaks_of_its_own_playback_and_not_of_the_next() -> None:
    stage = Stage()
    stage.says("i1", 200, of="r1")
    stage.wait(0.125)
    stage.begins("r2")
    assert stage.audio("i2", 300, of="r2") == [carrier.OpenPlayback("play-2", MEDIA)]
    stage.wait(0.0625)
    stage.carrier(carrier.PlaybackFinished())
    assert stage.interrupt()[3:] == [model.DeleteItem("i2"), NoteInterruption("i2", 0)]


def test_a_finish_of_the_aborted_playback_says_nothing_of_the_next() -> None:
    stage = Stage()
    stage.begins("r1")
    stage.audio("i1", 400)
    stage.wait(0.125)
    stage.interrupt()
    stage.model(done(status=model.ResponseStatus.CANCELLED))
    stage.turn()
    stage.says("i2", 400, of="r2")
    stage.carrier(carrier.PlaybackFinished())
    assert stage.brain.counters["playback_finished_stale"] == 1
    stage.wait(0.125)
    assert model.TruncateItem("i2", 125) in stage.interrupt()


def test_a_finish_with_nothing_played_is_stale() -> None:
    stage = Stage()
    assert stage.carrier(carrier.PlaybackFinished()) == []
    assert stage.brain.counters["playback_finished_stale"] == 1


# Leaving


def test_hanging_up_in_silence_is_done_at_once() -> None:
    stage = Stage()
    assert stage.brain.hang_up("bye", stage.now) == [carrier.HangUp("bye")]
    assert stage.brain.phase is Phase.HANGING_UP
    assert stage.carrier(carrier.SessionEnded(carrier.EndReason.BOT)) == [EndCall("bot")]


def test_hanging_up_waits_for_the_queue_and_the_carriers_word() -> None:
    stage = Stage()
    stage.says("i1", 1000)
    assert stage.brain.hang_up("bye", stage.now) == []
    assert stage.wait(0.9) == [carrier.ClosePlayback("play-1")]
    assert stage.wait(0.1875) == []  # heard by the clock, but nobody said so
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("bye")]


def test_the_carriers_word_may_come_before_the_clock() -> None:
    stage = Stage()
    stage.says("i1", 250)
    stage.brain.hang_up("bye", stage.now)
    stage.wait(0.1875)
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("bye")]


def test_a_carrier_that_says_nothing_is_waited_for_one_grace() -> None:
    stage = Stage(hang_up_grace_s=1.0)
    stage.says("i1", 250)
    stage.brain.hang_up("bye", stage.now)
    assert stage.wait(1.1875) == []
    assert stage.wait(0.125) == [carrier.HangUp("bye")]


def test_hanging_up_waits_for_what_the_function_that_asked_for_it_has_spoken() -> None:
    stage = Stage()
    stage.begins()
    assert stage.model(function(), done()) == [RunFunction("c1", "look_up", "{}")]
    assert stage.brain.hang_up("bye", stage.now) == []
    commands = stage.brain.function_returned("c1", "out", stage.now)
    assert without_items(commands) == [PLAIN]
    assert stage.begins("r2") == []
    stage.audio("i1", 200, of="r2")
    commands = stage.model(model.AudioDone("r2", "i1"), done("r2"))
    assert commands == [carrier.ClosePlayback("play-1")]
    assert stage.wait(0.125) == []
    stage.now += 0.1
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("bye")]


def test_the_goodbye_has_a_limit() -> None:
    stage = Stage(leaving_limit_s=5.0)
    stage.begins()
    assert stage.brain.hang_up("bye", stage.now) == []
    assert stage.wait(4.9) == []
    assert stage.wait(0.1875) == [carrier.HangUp("bye")]


def test_the_caller_who_breaks_into_the_goodbye_is_answered_first() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.brain.hang_up("bye", stage.now)
    stage.wait(0.1875)
    assert carrier.AbortPlayback() in stage.interrupt()
    assert stage.model(done(status=model.ResponseStatus.CANCELLED)) == []
    assert stage.wait(2.0) == []
    assert stage.turn() == [STOPPED, COMMITTED]
    stage.wait(0.125)
    stage.says("i2", 200, of="r2")
    assert stage.wait(0.125) == []
    stage.now += 0.1
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("bye")]


def test_the_caller_cannot_hold_the_goodbye_up_for_ever() -> None:
    stage = Stage(leaving_limit_s=5.0)
    stage.brain.model_opened(stage.now)
    stage.interrupt()
    stage.brain.hang_up("bye", stage.now)
    assert stage.wait(4.9) == []
    assert stage.wait(0.1875) == [carrier.HangUp("bye")]


def test_a_hang_up_that_the_carrier_does_not_answer_ends_the_call() -> None:
    stage = Stage(hang_up_timeout_s=5.0)
    stage.brain.hang_up("bye", stage.now)
    assert stage.wait(4.9) == []
    assert stage.wait(0.1875) == [EndCall("bot")]
    assert stage.brain.counters["hang_up_unanswered"] == 1


def test_a_second_farewell_changes_nothing() -> None:
    stage = Stage()
    stage.begins()
    stage.brain.hang_up("bye", stage.now)
    assert stage.brain.transfer(TRANSFER, stage.now) == []
    assert stage.model(done()) == [carrier.HangUp("bye")]


def test_the_call_limit_says_goodbye_and_names_itself() -> None:
    stage = Stage(max_call_s=10.0)
    assert stage.wait(9.9) == []
    assert stage.wait(0.1875) == [carrier.HangUp("call limit")]
    assert stage.carrier(carrier.SessionEnded(carrier.EndReason.BOT)) == [EndCall("limit")]


@pytest.mark.parametrize("phase", ["leaving", "transferring", "parked"])
def test_the_call_limit_does_not_spin_in_other_phases(phase: str) -> None:
    stage = Stage(max_call_s=10.0, leaving_limit_s=60.0)
    stage.wait(9.0)
    if phase == "leaving":
        stage.begins()
        stage.brain.hang_up("bye", stage.now)
    elif phase == "transferring":
        stage.brain.transfer(TRANSFER, stage.now)
    else:
        stage.brain.carrier_lost(stage.now)
    assert stage.wait(5.0) == []  # Stage.wait holds that no deadline stays in the past


# Transfer


def test_a_transfer_waits_until_everything_was_heard() -> None:
    stage = Stage()
    stage.says("i1", 250)
    assert stage.brain.transfer(TRANSFER, stage.now) == []
    stage.wait(0.25)
    assert stage.carrier(carrier.PlaybackFinished()) == [TRANSFER]
    assert stage.carrier(carrier.TransferStatus(answered=True)) == []
    assert stage.carrier(carrier.SessionEnded(carrier.EndReason.TRANSFERRED)) == [EndCall("transferred")]


def test_a_refused_transfer_is_told_to_the_caller_once() -> None:
    stage = Stage()
    stage.brain.transfer(TRANSFER, stage.now)
    commands = stage.carrier(carrier.TransferStatus(answered=False, code="busy"))
    assert (texts(commands), without_items(commands)) == ([("system", SYSTEM_FAILED)], [PLAIN])
    assert stage.brain.phase is Phase.TALKING
    assert stage.carrier(carrier.TransferStatus(answered=False)) == []


def test_a_transfer_that_nobody_speaks_of_fails_in_the_end() -> None:
    stage = Stage(transfer_timeout_s=10.0)
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.wait(9.9) == []
    commands = stage.wait(0.1875)
    assert (texts(commands), without_items(commands)) == ([("system", SYSTEM_FAILED)], [PLAIN])
    assert stage.brain.phase is Phase.TALKING


def test_a_transfer_that_was_answered_did_not_fail() -> None:
    stage = Stage(transfer_timeout_s=10.0)
    stage.brain.transfer(TRANSFER, stage.now)
    stage.carrier(carrier.TransferStatus(answered=True))
    assert stage.wait(10.1) == [EndCall("transferred")]


def test_what_the_model_says_during_a_transfer_is_not_played_and_forgotten() -> None:
    stage = Stage()
    stage.brain.transfer(TRANSFER, stage.now)
    stage.begins()
    assert stage.audio("i1", 200) == [model.DeleteItem("i1")]
    assert stage.downlink.sent == 0


# Functions


def test_one_create_follows_when_all_outputs_of_a_response_are_in() -> None:
    stage = Stage()
    stage.begins()
    assert stage.model(function("c1"), function("c2")) == [
        RunFunction("c1", "look_up", "{}"),
        RunFunction("c2", "look_up", "{}"),
    ]
    stage.model(done())
    first = stage.brain.function_returned("c2", "two", stage.now)
    assert (texts(first), without_items(first)) == ([("function_call_output", "two")], [])
    second = stage.brain.function_returned("c1", "one", stage.now)
    assert (texts(second), without_items(second)) == ([("function_call_output", "one")], [PLAIN])


def test_the_create_waits_for_the_end_of_the_response_that_called() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function())
    assert without_items(stage.brain.function_returned("c1", "out", stage.now)) == []
    assert stage.model(done()) == [PLAIN]


@pytest.mark.parametrize(
    ("first", "second", "creates"),
    [(False, False, []), (True, False, [PLAIN]), (False, True, [PLAIN]), (True, True, [PLAIN])],
)
def test_outcomes_are_spoken_if_any_of_them_wants_to_be(
    first: bool, second: bool, creates: list[Command]
) -> None:
    stage = Stage()
    stage.begins()
    stage.model(function("c1"), function("c2"), done())
    commands = stage.brain.function_returned("c1", "one", stage.now, should_respond=first)
    commands += stage.brain.function_returned("c2", "two", stage.now, should_respond=second)
    assert without_items(commands) == creates


def test_an_outcome_is_posted_once() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    assert stage.brain.function_returned("c1", "out", stage.now)
    assert stage.brain.function_returned("c1", "out", stage.now) == []
    assert stage.brain.function_returned("unknown", "out", stage.now) == []


def test_a_session_that_never_made_the_call_is_told_of_it_with_the_outcome() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    stage.brain.model_lost(stage.now)
    assert texts(stage.brain.model_opened(stage.now)) == []
    commands = stage.brain.function_returned("c1", "out", stage.now)
    items = [command.item for command in commands if isinstance(command, model.CreateItem)]
    assert [(item.kind, item.call_id, item.name) for item in items] == [
        ("function_call", "c1", "look_up"),
        ("function_call_output", "c1", ""),
    ]
    assert without_items(commands) == [PLAIN]


def test_an_outcome_without_a_session_is_replayed_and_answered_in_the_next() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    stage.brain.model_lost(stage.now)
    assert stage.brain.function_returned("c1", "out", stage.now) == []
    commands = stage.brain.model_opened(stage.now)
    assert texts(commands) == [("function_call", "{}"), ("function_call_output", "out")]
    assert without_items(commands) == [model.UpdateSession(stage.settings), PLAIN]


def test_an_announcement_is_spoken_when_it_may_be() -> None:
    stage = Stage()
    stage.begins()
    commands = stage.brain.announce("Ready.", stage.now)
    assert (texts(commands), without_items(commands)) == ([("system", "Ready.")], [])
    assert stage.model(done()) == [PLAIN]


# The caller in other ways


def test_digits_go_to_the_agent_and_on_to_the_model_if_it_wants_none() -> None:
    stage = Stage()
    assert stage.carrier(carrier.DtmfReceived("42#")) == [CallerPressed("42#")]
    commands = stage.brain.caller_pressed("42#", stage.now)
    assert texts(commands) == [("user", "The caller pressed 42#.")]
    assert without_items(commands) == [PLAIN]


def test_text_of_the_caller_is_an_utterance() -> None:
    stage = Stage()
    commands = stage.carrier(carrier.CallerText("I am here"))
    assert texts(commands) == [("user", "I am here")]
    assert without_items(commands) == [CallerSaid("I am here"), PLAIN]
    assert stage.carrier(carrier.CallerText("I", is_final=False), carrier.CallerText("  ")) == []


def test_a_silent_caller_is_asked_and_in_the_end_left() -> None:
    stage = Stage()
    for count in range(1, SILENCE_PROMPTS_MAX + 1):
        commands = stage.carrier(carrier.NoUserInput(count))
        assert "still there" in texts(commands)[0][1]
        assert without_items(commands) == [PLAIN]
        stage.says(f"i{count}", 100, of=f"r{count}")
        stage.wait(0.1875)
        stage.carrier(carrier.PlaybackFinished())
    commands = stage.carrier(carrier.NoUserInput(SILENCE_PROMPTS_MAX + 1))
    assert "goodbye" in texts(commands)[0][1]
    assert stage.brain.phase is Phase.LEAVING
    stage.says("i9", 100, of="r9")
    stage.wait(0.1875)
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("caller silent")]


def _is_speaking(stage: Stage) -> None:
    stage.interrupt()


def _hears_the_bot(stage: Stage) -> None:
    stage.says("i1", 250)


def _waits_for_the_model(stage: Stage) -> None:
    stage.begins()


def _waits_for_a_function(stage: Stage) -> None:
    stage.begins()
    stage.model(function(), done())


@pytest.mark.parametrize(
    "prepare", [_is_speaking, _hears_the_bot, _waits_for_the_model, _waits_for_a_function]
)
@pytest.mark.parametrize("count", [1, SILENCE_PROMPTS_MAX + 1])
def test_a_caller_who_has_reason_to_be_silent_is_left_in_peace(
    prepare: Callable[[Stage], None], count: int
) -> None:
    stage = Stage()
    prepare(stage)
    assert stage.carrier(carrier.NoUserInput(count)) == []
    assert stage.brain.phase is Phase.TALKING


def test_pieces_of_a_transcript_are_put_together() -> None:
    stage = Stage()
    commands = stage.model(
        model.CallerTranscript("u1", "I want", is_final=False),
        model.CallerTranscript("u1", " to book", is_final=False),
        model.CallerTranscript("u1", "I want to book."),
        model.CallerTranscript("u2", "Hm", is_final=False),
    )
    assert commands == [
        carrier.ReportTranscript("I want", is_final=False),
        carrier.ReportTranscript("I want to book", is_final=False),
        carrier.ReportTranscript("I want to book.", is_final=True),
        CallerSaid("I want to book."),
        carrier.ReportTranscript("Hm", is_final=False),
    ]


def test_transcripts_without_an_item_do_not_run_into_one_another() -> None:
    stage = Stage()
    stage.model(model.CallerTranscript("", "One", is_final=False), model.CallerTranscript("", "One."))
    commands = stage.model(model.CallerTranscript("", "Two", is_final=False))
    assert commands == [carrier.ReportTranscript("Two", is_final=False)]


def test_an_utterance_without_words_is_not_reported() -> None:
    assert Stage().model(model.CallerTranscript("u1", "  ")) == []


# The model is lost


def test_a_lost_answer_is_asked_for_in_the_next_session_after_the_replay() -> None:
    stage = Stage()
    stage.model(model.CallerTranscript("u1", "Hello?"))
    stage.begins()
    stage.audio("i1", 200)
    stage.model(said("i1", "Hello caller."))
    assert stage.brain.model_lost(stage.now) == [carrier.ClosePlayback("play-1")]
    commands = stage.brain.model_opened(stage.now)
    assert commands[0] == model.UpdateSession(stage.settings)
    assert texts(commands) == [("user", "Hello?"), ("assistant", "Hello caller.")]
    assert commands[-1] == PLAIN
    assert len(commands) == 4


@pytest.mark.parametrize(
    ("events", "is_owed"),
    [
        ([], False),
        ([model.SpeechStarted("u1")], True),
        ([model.SpeechStarted("u1"), model.SpeechStopped("u1")], True),
        ([model.InputCommitted("u1")], True),
        ([model.InputCommitted("u1"), model.ResponseCreated("r1")], True),
        ([model.InputCommitted("u1"), model.ResponseCreated("r1"), done()], False),
    ],
)
def test_an_answer_is_owed_to_a_caller_who_spoke(events: list[model.ModelEvent], is_owed: bool) -> None:
    stage = Stage()
    stage.model(*events)
    stage.brain.model_lost(stage.now)
    assert (PLAIN in stage.brain.model_opened(stage.now)) is is_owed


def test_a_server_that_does_not_answer_by_itself_owes_nothing() -> None:
    stage = Stage(answers=False)
    stage.interrupt()
    stage.turn()
    stage.brain.model_lost(stage.now)
    assert PLAIN not in stage.brain.model_opened(stage.now)


def test_audio_of_the_lost_session_plays_to_its_end() -> None:
    stage = Stage(lead_ms=200)
    stage.begins()
    stage.audio("i1", 1000)
    assert stage.brain.model_lost(stage.now) == []
    assert stage.wait(0.9) == [carrier.ClosePlayback("play-1")]
    assert stage.downlink.sent == 8000


def test_ids_may_come_again_in_another_session() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 500)
    stage.interrupt()
    stage.brain.model_lost(stage.now)
    stage.downlink.forget_item()
    stage.brain.model_opened(stage.now)
    stage.begins()
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-2", MEDIA)]


def test_a_session_that_takes_over_midway_finishes_what_the_old_one_said() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 200)
    commands = stage.brain.model_opened(stage.now)
    assert commands == [carrier.ClosePlayback("play-1"), model.UpdateSession(stage.settings), PLAIN]


@pytest.mark.parametrize(
    ("has_spoken", "word"),
    [
        (False, carrier.FailSession("the voice service is not available")),
        (True, carrier.HangUp("the voice service is not available")),
    ],
)
@pytest.mark.parametrize("way", ["error", "response", "connection"])
def test_a_fatal_error_ends_the_call_so_that_the_caller_understands(
    has_spoken: bool, word: Command, way: str
) -> None:
    stage = Stage()
    stage.begins()
    if has_spoken:
        stage.audio("i1", 200)
    fatal = model.Severity.FATAL
    if way == "error":
        commands = stage.model(model.ModelError(fatal, "invalid_api_key", ""))
    elif way == "response":
        commands = stage.model(done(status=model.ResponseStatus.FAILED, severity=fatal))
    else:
        commands = stage.brain.model_failed(stage.now)
    assert commands == [word, EndCall("model_lost")]
    assert stage.brain.has_started_talking is has_spoken


def test_a_model_that_fails_does_not_undo_a_transfer() -> None:
    stage = Stage()
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.brain.model_failed(stage.now) == []
    assert stage.carrier(carrier.SessionEnded(carrier.EndReason.TRANSFERRED)) == [EndCall("transferred")]


def test_a_transfer_that_fails_without_a_model_ends_the_call() -> None:
    stage = Stage()
    stage.says("i1", 125)
    stage.wait(0.1875)
    stage.carrier(carrier.PlaybackFinished())
    stage.brain.transfer(TRANSFER, stage.now)
    stage.brain.model_failed(stage.now)
    commands = stage.carrier(carrier.TransferStatus(answered=False))
    assert commands == [carrier.HangUp("the voice service is not available"), EndCall("model_lost")]


def test_a_model_that_fails_while_leaving_lets_what_was_said_be_heard() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 250)
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.brain.model_failed(stage.now) == [carrier.ClosePlayback("play-1")]
    stage.wait(0.25)
    assert stage.carrier(carrier.PlaybackFinished()) == [TRANSFER]


def test_errors_that_are_not_fatal_are_counted() -> None:
    stage = Stage()
    assert stage.model(model.ModelError(model.Severity.FAULT, "invalid_value", "")) == []
    assert stage.model(model.ModelError(model.Severity.BENIGN, "item_not_found", "")) == []
    assert stage.brain.counters["model_errors_fault"] == 1
    assert stage.brain.counters["model_errors_benign"] == 1


# A session is replaced


def test_a_session_near_its_end_is_replaced_in_a_pause_once() -> None:
    stage = Stage(model_session_limit_s=30.0)
    assert stage.wait(29.9) == []
    assert stage.wait(0.1875) == [ReplaceModel()]
    assert stage.wait(100.0) == []
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]
    assert stage.wait(30.1) == [ReplaceModel()]


@pytest.mark.parametrize(
    ("lifetime_s", "replaced_after_s"),
    [(None, 3000.0), (1000.0, 940.0), (40.0, 20.0), (9000.0, 3000.0), (0.0, 3000.0), (-7200.0, 3000.0)],
)
def test_a_session_is_replaced_before_its_own_end(lifetime_s: float | None, replaced_after_s: float) -> None:
    stage = Stage(is_open=False, max_call_s=10_000.0)
    stage.brain.model_opened(stage.now, lifetime_s=lifetime_s)
    assert stage.brain.next_deadline() == stage.now + replaced_after_s


def _ends_speech(stage: Stage) -> None:
    stage.turn()
    stage.says("i1", 125)


def _ends_response(stage: Stage) -> None:
    stage.model(done())


def _returns_function(stage: Stage) -> None:
    stage.brain.function_returned("c1", "out", stage.now, should_respond=False)


def _speaks_without_end(stage: Stage) -> None:
    stage.begins()
    stage.audio("i1", 125)


@pytest.mark.parametrize(
    ("prepare", "end"),
    [
        (_is_speaking, _ends_speech),
        (_waits_for_the_model, _ends_response),
        (_waits_for_a_function, _returns_function),
        (_speaks_without_end, _ends_response),
    ],
)
def test_a_session_is_not_replaced_while_the_talk_goes_on(
    prepare: Callable[[Stage], None], end: Callable[[Stage], None]
) -> None:
    stage = Stage(model_session_limit_s=30.0)
    stage.wait(29.0)
    prepare(stage)
    assert ReplaceModel() not in stage.wait(5.0)
    end(stage)
    assert ReplaceModel() in stage.wait(2.0)


def test_a_session_is_not_replaced_for_the_goodbye() -> None:
    stage = Stage(model_session_limit_s=30.0, leaving_limit_s=60.0)
    stage.begins()
    stage.brain.hang_up("bye", stage.now)
    assert stage.wait(40.0) == []


# The carrier is lost


def test_a_lost_carrier_parks_the_call_and_cuts_what_was_not_heard() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    assert stage.brain.carrier_lost(stage.now) == [
        model.CancelResponse("r1"),
        model.TruncateItem("i1", 250),
        NoteInterruption("i1", 250),
    ]
    assert stage.brain.phase is Phase.PARKED
    assert stage.brain.carrier_lost(stage.now) == []


def test_a_resumed_call_goes_on_in_a_playback_of_its_own() -> None:
    stage = Stage(greeting="Hello.")
    stage.begins()
    stage.audio("i1", 1000)
    stage.leave()
    stage.model(done(status=model.ResponseStatus.CANCELLED))
    commands = stage.brain.carrier_resumed(stage.now)
    assert (texts(commands), without_items(commands)) == ([("system", SYSTEM_BACK)], [PLAIN])
    stage.begins("r2")
    assert stage.audio("i2", 200, of="r2") == [carrier.OpenPlayback("play-2", MEDIA)]


def test_a_carrier_that_does_not_come_back_ends_the_call() -> None:
    stage = Stage(resume_grace_s=30.0)
    stage.brain.carrier_lost(stage.now)
    assert stage.wait(29.9) == []
    assert stage.wait(0.1875) == [EndCall("carrier_lost")]


def test_a_socket_that_replaces_a_live_one_takes_its_playback_along() -> None:
    stage = Stage(greeting="Hello.")
    stage.begins()
    stage.audio("i1", 1000)
    stage.wait(0.25)
    commands = stage.brain.carrier_resumed(stage.now)
    assert without_items(commands) == [
        model.CancelResponse("r1"),
        model.TruncateItem("i1", 250),
        NoteInterruption("i1", 250),
    ]
    assert stage.model(done(status=model.ResponseStatus.CANCELLED)) == [PLAIN]
    stage.begins("r2")
    assert stage.audio("i2", 200, of="r2") == [carrier.OpenPlayback("play-2", MEDIA)]


def test_nothing_is_said_to_a_parked_call() -> None:
    stage = Stage(greeting="Hello.")
    stage.begins()
    stage.model(function(), done())
    stage.leave()
    commands = stage.brain.function_returned("c1", "out", stage.now)
    assert (texts(commands), without_items(commands)) == ([("function_call_output", "out")], [])
    stage.begins("r2")
    assert stage.audio("i1", 200, of="r2") == [model.DeleteItem("i1")]
    assert stage.model(said("i1", "Unheard.", of="r2"), done("r2")) == []
    assert PLAIN in stage.brain.carrier_resumed(stage.now)


def test_a_parked_call_keeps_its_answer_over_a_lost_model() -> None:
    stage = Stage(greeting="Hello.")
    stage.says("i0", 100, of="r0")
    stage.wait(0.25)
    stage.leave()
    stage.brain.model_lost(stage.now)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]
    assert PLAIN in stage.brain.carrier_resumed(stage.now)


def test_a_caller_lost_before_the_greeting_is_greeted_on_return() -> None:
    stage = Stage(greeting="Hello.", is_open=False)
    stage.brain.carrier_lost(stage.now)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]
    assert stage.brain.carrier_resumed(stage.now) == [GREET]


def test_a_hang_up_of_a_parked_call_ends_it() -> None:
    stage = Stage()
    stage.brain.carrier_lost(stage.now)
    assert stage.brain.hang_up("bye", stage.now) == [EndCall("bot")]


def test_a_transfer_asked_for_while_parked_happens_after_the_return() -> None:
    stage = Stage(greeting="Hello.")
    stage.says("i0", 100, of="r0")
    stage.wait(0.25)
    stage.leave()
    assert stage.brain.transfer(TRANSFER, stage.now) == []
    assert PLAIN in stage.brain.carrier_resumed(stage.now)
    stage.says("i1", 100, of="r2")
    stage.wait(0.1875)
    assert stage.carrier(carrier.PlaybackFinished()) == [TRANSFER]


def test_a_goodbye_that_was_interrupted_has_its_time_again() -> None:
    stage = Stage(greeting="Hello.", leaving_limit_s=10.0, resume_grace_s=60.0)
    stage.begins()
    stage.brain.hang_up("bye", stage.now)
    stage.wait(5.0)
    stage.leave()
    stage.model(done(status=model.ResponseStatus.CANCELLED))
    stage.now += 30.0
    assert without_items(stage.brain.carrier_resumed(stage.now)) == [PLAIN]
    assert stage.brain.phase is Phase.LEAVING
    stage.begins("r2")
    assert stage.wait(9.9) == []
    assert stage.wait(0.1875) == [carrier.HangUp("bye")]


def test_a_transfer_under_way_survives_a_lost_socket_and_still_times_out() -> None:
    stage = Stage(transfer_timeout_s=20.0)
    stage.brain.transfer(TRANSFER, stage.now)
    stage.leave()
    assert stage.brain.carrier_resumed(stage.now) == []
    assert stage.brain.phase is Phase.TRANSFERRING
    commands = stage.wait(20.1)
    assert texts(commands) == [("system", SYSTEM_FAILED)]


def test_a_carrier_lost_after_our_hang_up_ends_the_call() -> None:
    stage = Stage()
    stage.brain.hang_up("bye", stage.now)
    assert stage.brain.carrier_lost(stage.now) == [EndCall("bot")]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (carrier.EndReason.CALLER, "caller"),
        (carrier.EndReason.BOT, "bot"),
        (carrier.EndReason.TRANSFERRED, "transferred"),
        (carrier.EndReason.MACHINE, "machine"),
        (carrier.EndReason.NOT_ANSWERED, "not_answered"),
        (carrier.EndReason.ERROR, "error"),
        (carrier.EndReason.OTHER, "other"),
    ],
)
def test_the_carriers_reason_becomes_the_outcome(reason: carrier.EndReason, outcome: str) -> None:
    assert Stage().carrier(carrier.SessionEnded(reason)) == [EndCall(outcome)]


# Beside the conversation


def test_out_of_band_responses_are_neither_played_nor_recorded() -> None:
    stage = Stage()
    stage.begins("r1")
    stage.model(model.ResponseCreated("aside", is_out_of_band=True))
    assert stage.audio("i9", 200, of="aside") == []
    assert stage.model(said("i9", "A summary.", of="aside"), done("aside")) == []
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-1", MEDIA)]
    assert stage.downlink.sent == 1600
    stage.model(done("r1"))
    stage.brain.model_lost(stage.now)
    assert texts(stage.brain.model_opened(stage.now)) == []


def test_what_the_brain_has_no_use_for_gives_nothing() -> None:
    stage = Stage()
    assert (
        stage.model(
            model.ModelNotice("mcp_list_tools.completed"),
            model.SessionCreated("s1"),
            model.SessionUpdated(),
            model.InputCleared(),
            model.InputTimeout("u1"),
            model.ItemAdded("x", "message", "user"),
            model.ItemDone("x", "message", "user"),
            model.ItemTruncated("x", 10),
            model.ItemDeleted("x"),
            model.RateLimits({}),
        )
        == []
    )
    assert (
        stage.carrier(
            carrier.CallMetadata({}),
            carrier.CallerStreamStarted(),
            carrier.CallerStreamStopped(),
            carrier.CarrierNotice("voiceDetected"),
            carrier.PlaybackFailed("x"),
            carrier.IgnoredMessage("unknown_type"),
            carrier.SessionResumed("c"),
            carrier.SessionOffered("c", (MEDIA,), wants_audio=True),
        )
        == []
    )
    assert stage.brain.counters["model_notices"] == 1
    assert stage.brain.counters["playback_failed"] == 1
    assert stage.brain.counters["carrier_ignored_unknown_type"] == 1


# The end


def test_nothing_follows_the_end() -> None:
    stage = Stage(greeting="Hello.")
    stage.begins()
    stage.audio("i1", 1000)
    stage.model(function())
    stage.carrier(carrier.SessionEnded(carrier.EndReason.CALLER))
    brain, now = stage.brain, stage.now + 10_000.0
    after: list[Any] = [
        brain.receive_model(model.SpeechStarted("u1"), now),
        brain.receive_carrier(carrier.DtmfReceived("1"), now),
        brain.receive_carrier(carrier.SessionEnded(carrier.EndReason.BOT), now),
        brain.function_returned("c1", "out", now),
        brain.announce("x", now),
        brain.caller_pressed("1", now),
        brain.hang_up("x", now),
        brain.transfer(TRANSFER, now),
        brain.carrier_lost(now),
        brain.carrier_resumed(now),
        brain.playout_drained(now),
        brain.model_lost(now),
        brain.model_opened(now),
        brain.model_failed(now),
        brain.advance(now),
    ]
    assert after == [[]] * len(after)
    assert brain.meet_item("r2", "i2", 0, now) == (False, [])
    assert brain.next_deadline() is None
    assert brain.phase is Phase.ENDED


# Races and bounds


def test_an_answer_that_begins_while_the_caller_speaks_is_not_played() -> None:
    stage = Stage()
    assert stage.brain.announce("News.", stage.now)[-1] == PLAIN
    assert stage.interrupt() == [STARTED]
    assert stage.begins("r1") == [model.CancelResponse("r1")]
    assert stage.audio("i1", 200, of="r1") == [model.DeleteItem("i1")]
    assert not stage.downlink.is_queued
    assert stage.downlink.sent == 0
    assert stage.model(done("r1", model.ResponseStatus.CANCELLED)) == []
    stage.turn()
    # The server answers the turn; had it not, the answer wanted would have been asked for again.
    assert PLAIN in stage.wait(3.0)


def test_a_model_that_does_not_interrupt_may_begin_while_the_caller_speaks() -> None:
    stage = Stage(interrupts=False)
    stage.brain.announce("News.", stage.now)
    stage.interrupt()
    assert stage.begins("r1") == []
    assert stage.audio("i1", 200, of="r1") == [carrier.OpenPlayback("play-1", MEDIA)]


def test_a_stream_that_stops_within_an_utterance_ends_the_turn() -> None:
    stage = Stage()
    stage.interrupt()
    commands = stage.carrier(carrier.CallerStreamStopped())
    assert commands == [model.CommitInput(), STOPPED, PLAIN]
    assert stage.carrier(carrier.CallerStreamStopped()) == []


def test_a_stream_that_stops_in_silence_changes_nothing() -> None:
    stage = Stage()
    assert stage.carrier(carrier.CallerStreamStopped()) == []


def test_hypotheses_stop_growing() -> None:
    stage = Stage()
    told = []
    for _ in range(HYPOTHESIS_CHARACTERS_MAX):
        told += stage.model(model.CallerTranscript("u1", "ab", is_final=False))
    assert len(told) == HYPOTHESIS_CHARACTERS_MAX // 2
    final = stage.model(model.CallerTranscript("u1", "ab" * 500))
    assert final[0] == carrier.ReportTranscript("ab" * 500, is_final=True)
    [again] = stage.model(model.CallerTranscript("u2", "ab", is_final=False))
    assert again == carrier.ReportTranscript("ab", is_final=False)


def refusal(of: str) -> model.ModelError:
    return model.ModelError(model.Severity.FAULT, "invalid_value", "no such voice", event_id=of)


def test_a_refused_session_is_tried_bare_and_then_given_up() -> None:
    stage = Stage()
    [update] = stage.model(refusal("update-session-1"))
    assert isinstance(update, model.UpdateSession)
    assert update.settings.voice is update.settings.transcription_model is None
    assert update.settings.input_format == stage.settings.input_format
    assert update.settings.tools == stage.settings.tools
    assert stage.model(refusal("update-session-2")) == [
        carrier.FailSession("the voice service is not available"),
        EndCall("model_lost"),
    ]


def test_other_refusals_are_only_counted() -> None:
    stage = Stage()
    assert stage.model(refusal("truncate-item-4")) == []
    assert stage.brain.counters["model_errors_fault"] == 1


def test_functions_without_a_word_of_the_caller_are_answered_so_often_and_no_more() -> None:
    stage = Stage()
    answered = 0
    for number in range(FUNCTION_ROUNDS_MAX + 5):
        stage.begins(f"r{number}")
        stage.model(function(f"c{number}", f"r{number}"), done(f"r{number}"))
        commands = stage.brain.function_returned(f"c{number}", "{}", stage.now)
        answered += PLAIN in commands
    assert answered == FUNCTION_ROUNDS_MAX
    assert stage.brain.counters["function_rounds_hit"] == 5
    stage.interrupt()
    stage.turn()
    stage.begins("again")
    stage.model(function("again", "again"), done("again"))
    assert PLAIN in stage.brain.function_returned("again", "{}", stage.now)
