"""Leaving, transfer, a lost carrier: the phases of a call, and how it ends."""

import pytest

from fastagent.bridge.brain import Phase
from fastagent.bridge.clips import Clip
from fastagent.bridge.commands import (
    CallerPressed,
    Command,
    EndCall,
    HearCaller,
    NoteInterruption,
    RunFunction,
    TransferEnded,
)
from fastagent.bridge.hold import BACK
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    COMMITTED,
    MEDIA,
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
    assert stage.carrier(carrier.TransferStatus(answered=True)) == [TransferEnded(True)]
    assert stage.carrier(carrier.TransferStatus(answered=True)) == []
    assert stage.carrier(carrier.SessionEnded(carrier.EndReason.TRANSFERRED)) == [EndCall("transferred")]


def test_a_refused_transfer_is_told_to_the_caller_once() -> None:
    stage = Stage()
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.carrier(carrier.TransferStatus(answered=False, code="busy")) == [
        TransferEnded(False, "busy")
    ]
    assert stage.brain.phase is Phase.TALKING
    commands = stage.brain.transfer_untold("busy", stage.now)
    told = "The transfer failed: the line was busy. Tell the caller and ask how else to help."
    assert (texts(commands), without_items(commands)) == ([("system", told)], [PLAIN])
    assert stage.carrier(carrier.TransferStatus(answered=False)) == []


def test_a_transfer_that_nobody_speaks_of_fails_in_the_end() -> None:
    stage = Stage(transfer_timeout_s=10.0)
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.wait(9.9) == []
    assert stage.wait(0.1875) == [TransferEnded(False)]
    assert stage.brain.phase is Phase.TALKING
    commands = stage.brain.transfer_untold("", stage.now)
    assert (texts(commands), without_items(commands)) == ([("system", SYSTEM_FAILED)], [PLAIN])


def test_a_caller_who_was_handed_on_with_their_line_is_back_and_told() -> None:
    stage = Stage(transfer_timeout_s=10.0)
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.carrier(carrier.HandedOver()) == []
    assert stage.brain.awaits_return
    stage.brain.line_returned(stage.now)
    assert not stage.brain.awaits_return
    assert stage.carrier(carrier.TransferStatus(answered=False, code="no-answer")) == [
        TransferEnded(False, "no-answer")
    ]
    assert stage.brain.phase is Phase.TALKING
    assert stage.wait(10.1) == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            carrier.TransferStatus(True, "in-progress"),
            [TransferEnded(True, "in-progress"), EndCall("transferred")],
        ),
        (carrier.TransferStatus(False, "canceled"), [TransferEnded(False, "canceled"), EndCall("caller")]),
        (None, [EndCall("transferred")]),
    ],
)
def test_a_caller_who_does_not_come_back_ends_the_call(
    status: carrier.TransferStatus | None, expected: list[Command]
) -> None:
    stage = Stage(transfer_timeout_s=10.0)
    stage.brain.transfer(TRANSFER, stage.now)
    stage.carrier(carrier.HandedOver())
    assert stage.wait(9.9) == []
    assert (stage.wait(0.1875) if status is None else stage.carrier(status)) == expected
    assert stage.brain.phase is Phase.ENDED


def test_a_socket_that_ends_for_a_transfer_nobody_asked_for_is_a_lost_one() -> None:
    stage = Stage()
    stage.carrier(carrier.HandedOver())
    assert stage.brain.phase is Phase.PARKED


def test_a_task_that_waits_for_its_transfer_does_not_hold_it_up() -> None:
    stage = Stage()
    stage.model(function("f1"), done())
    assert stage.brain.transfer(TRANSFER, stage.now) == []
    assert stage.brain.agent_works(True, stage.now) == []
    assert stage.wait(1.0) == []
    assert stage.brain.await_farewell(stage.now) == [TRANSFER]


# On hold


def music() -> Clip:
    return Clip("clip-1", b"\xd5" * 800, is_looped=True, is_interruptible=False)


def test_a_hold_begins_when_everything_was_heard_and_plays_music_until_it_ends() -> None:
    stage = Stage()
    stage.says("i1", 250)
    assert stage.brain.hold(music(), stage.now) == []
    commands = stage.wait(0.5) + stage.carrier(carrier.PlaybackFinished())
    assert HearCaller(False) in commands
    assert model.ClearInput() in commands
    assert stage.brain.phase is Phase.HELD
    sent = stage.downlink.sent
    stage.wait(5.0)
    assert stage.downlink.sent - sent >= 5 * 8000
    commands = stage.brain.end_hold(stage.now)
    assert commands[0] == HearCaller(True)
    assert carrier.AbortPlayback() in commands
    assert texts(commands) == [("system", BACK)]
    assert stage.brain.end_hold(stage.now) == []


def test_what_is_announced_on_hold_is_said_once_after_it() -> None:
    stage = Stage()
    stage.brain.hold(None, stage.now)
    assert stage.brain.phase is Phase.HELD
    commands = stage.brain.announce("Ready.", stage.now)
    assert (texts(commands), without_items(commands)) == ([("system", "Ready.")], [])
    assert stage.brain.end_hold(stage.now) == [HearCaller(True), PLAIN]


def test_neither_keys_nor_late_speech_end_a_hold() -> None:
    stage = Stage()
    stage.brain.hold(music(), stage.now)
    assert stage.model(model.SpeechStarted("i2")) == []
    assert stage.brain.caller_overlaps(stage.now) == []
    assert stage.carrier(carrier.DtmfReceived("5")) == [CallerPressed("5")]
    assert stage.brain.phase is Phase.HELD


def test_a_hold_has_a_limit() -> None:
    stage = Stage(hold_limit_s=5.0)
    stage.brain.hold(None, stage.now)
    stage.wait(4.9)
    assert stage.brain.phase is Phase.HELD
    assert HearCaller(True) in stage.wait(0.1875)
    assert stage.brain.phase is Phase.TALKING
    assert stage.brain.counters["holds_overdue"] == 1


@pytest.mark.parametrize("leave", ["hang_up", "transfer", "lost"])
def test_leaving_ends_a_hold(leave: str) -> None:
    stage = Stage()
    stage.brain.hold(None, stage.now)
    if leave == "hang_up":
        commands = stage.brain.hang_up("bye", stage.now)
        assert commands[-1] == carrier.HangUp("bye")
    elif leave == "transfer":
        commands = stage.brain.transfer(TRANSFER, stage.now)
        assert commands[-1] == TRANSFER
    else:
        commands = stage.brain.carrier_lost(stage.now)
        assert stage.brain.phase is Phase.PARKED
        stage.brain.carrier_resumed(stage.now)
        assert stage.brain.phase is Phase.TALKING
    assert commands[0] == HearCaller(True)


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
    assert stage.wait(20.1) == [TransferEnded(False)]


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


def test_a_task_that_hands_the_caller_on_says_its_last_words_first() -> None:
    stage = Stage()
    stage.brain.agent_works(True, stage.now)
    assert stage.brain.transfer(TRANSFER, stage.now) == []
    assert stage.brain.advance(stage.now + 1.0) == []
    assert TRANSFER in stage.brain.agent_works(False, stage.now + 1.0)
