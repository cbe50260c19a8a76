"""Playbacks, as the carrier is told of them."""

from fastagent.bridge.commands import (
    BotSaid,
    NoteInterruption,
)
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    MEDIA,
    STARTED,
    Stage,
    done,
    said,
)


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
