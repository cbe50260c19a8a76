"""Who speaks, caller or bot: barge-in, and answers that come at the wrong moment."""

import pytest

from fastagent.bridge.commands import (
    BotSaid,
    Command,
    NoteInterruption,
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
    said,
    texts,
)

PLAIN = model.CreateResponse()


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


# Races


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
