"""The ledger: what was heard of each item, by the clock and by the carrier's word."""

import base64
import json

import pytest

from fastagent._native.pump import Downlink
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, AudioFormat
from fastagent.media.playout import IDS_KEPT, LOST_FINISH_S, Admission, Cut, PlayoutLedger
from fastagent.media.pumps import MediaPlan, build_downlink
from fastagent.wire.events import MediaOffer
from fastagent.wire.openai_realtime import AUDIO_MEDIA

START_S = 100.0


class Line:
    """A ledger over the real downlink, which asks it about each item."""

    def __init__(
        self,
        carrier: AudioFormat = MULAW_8K,
        model: AudioFormat = MULAW_8K,
        *,
        lead_ms: int = 400,
        link_delay_ms: int = 0,
    ) -> None:
        plan = MediaPlan(MediaOffer("any", carrier), model)
        self.model_format = model
        self.downlink: Downlink = build_downlink(plan, AUDIO_MEDIA, lead_ms=lead_ms, queue_limit_ms=60_000)
        self.ledger = PlayoutLedger(self.downlink, carrier, model, link_delay_ms=link_delay_ms)
        self.downlink.on_item = self._meet_item
        self.admissions: list[Admission] = []
        self.now = START_S

    def _meet_item(self, response_id: str, item_id: str, content_index: int) -> bool:
        self.admissions.append(self.ledger.open_item(response_id, item_id, content_index, self.now))
        return self.admissions[-1] is Admission.PLAYED

    def hear(self, item_id: str, ms: int, *, of: str = "r1") -> None:
        """The model sends ``ms`` of an item."""
        silence = self.model_format.silence(ms)
        delta = {
            "type": "response.output_audio.delta",
            "response_id": of,
            "item_id": item_id,
            "content_index": 0,
            "delta": base64.b64encode(silence).decode(),
        }
        self.downlink.feed(json.dumps(delta).encode(), self.now)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 64)):
            self.now += 1 / 64
            while self.downlink.due(self.now) is not None:
                pass

    # Methods, so that no checker takes a second look for the first.

    def is_complete(self) -> bool:
        return self.ledger.is_complete

    def awaits_finish(self) -> bool:
        return self.ledger.awaits_finish

    def cut(self) -> list[tuple[str, int]]:
        return [(cut.item_id, cut.audio_end_ms) for cut in self.ledger.cut(self.now)]


def test_of_an_item_that_is_heard_counts_what_the_clock_says() -> None:
    line = Line()
    line.hear("i1", 1000)
    line.wait(0.25)
    assert line.ledger.cut(line.now) == [Cut("i1", 0, audio_end_ms=250, received_ms=1000)]


@pytest.mark.parametrize("carrier", [PCM16_8K, PCM16_16K])
def test_milliseconds_do_not_depend_on_the_rates(carrier: AudioFormat) -> None:
    line = Line(carrier, PCM16_24K)
    line.hear("i1", 1000)
    line.wait(0.25)
    assert line.ledger.cut(line.now) == [Cut("i1", 0, audio_end_ms=250, received_ms=1000)]


def test_no_more_is_heard_than_was_received() -> None:
    # What the resampler lets out at the end lasts longer than what came in.
    line = Line(PCM16_8K, PCM16_24K)
    line.hear("i1", 100)
    line.ledger.finish_item("i1", line.now)
    line.hear("i1", 100)
    line.wait(0.5)
    assert PCM16_8K.ms(line.downlink.sent) > 200
    assert line.cut() == [("i1", 200)]


def test_the_way_to_the_ear_takes_its_time() -> None:
    line = Line(link_delay_ms=125)
    line.hear("i1", 400)
    assert line.ledger.silent_at(line.now) == START_S + 0.525
    line.wait(0.25)
    assert line.ledger.silent_at(line.now) == START_S + 0.525
    line.wait(0.25)
    # The far end has it all: what is on its way is there a delay from now, if not before.
    assert line.ledger.silent_at(line.now) == START_S + 0.625
    assert line.ledger.is_audible(line.now)
    assert line.cut() == [("i1", 375)]


def test_what_is_on_its_way_to_the_ear_is_not_heard_for_new_audio_behind_it() -> None:
    line = Line(link_delay_ms=125)
    line.hear("i1", 250)
    line.wait(0.25)
    line.hear("i1", 250)
    assert line.cut() == [("i1", 125)]


def test_silence_is_now_when_all_was_heard_and_unknown_while_audio_waits() -> None:
    line = Line(lead_ms=200)
    assert line.ledger.silent_at(line.now) == START_S
    assert not line.ledger.is_audible(line.now)
    line.hear("i1", 1000)
    assert line.ledger.silent_at(line.now) is None
    assert line.ledger.is_audible(line.now)
    line.wait(2.0)
    assert line.ledger.silent_at(line.now) == line.now
    assert not line.ledger.is_audible(line.now)


def test_items_heard_whole_are_left_alone_and_those_behind_are_cut_at_nothing() -> None:
    line = Line()
    for item_id in ("i1", "i2", "i3"):
        line.hear(item_id, 500)
        line.ledger.finish_item(item_id, line.now)
    line.wait(0.75)
    assert line.cut() == [("i2", 250), ("i3", 0)]


def test_an_item_in_several_stretches_is_one_to_the_model() -> None:
    line = Line(lead_ms=2000)
    for item_id in ("i1", "i2", "i1"):
        line.hear(item_id, 500)
    line.ledger.finish_item("i2", line.now)
    line.wait(1.25)
    assert line.ledger.cut(line.now) == [Cut("i1", 0, audio_end_ms=750, received_ms=1000)]


def test_stretches_that_were_heard_count_until_their_item_was() -> None:
    line = Line(lead_ms=2000)
    line.hear("i1", 250)
    line.hear("i2", 125)
    line.hear("i1", 250)
    line.ledger.finish_response("r1", line.now)
    line.wait(0.5)
    line.hear("i3", 100, of="r2")
    assert line.cut() == [("i1", 375), ("i3", 0)]


def test_an_item_heard_so_far_is_cut_while_more_of_it_may_come() -> None:
    line = Line()
    line.hear("i1", 200)
    line.wait(0.5)
    assert line.cut() == [("i1", 200)]


def test_a_cut_drops_the_queue_and_leaves_nothing_to_hear() -> None:
    line = Line(lead_ms=200)
    line.hear("i1", 1000)
    line.cut()
    assert not line.downlink.is_queued
    assert not line.ledger.is_audible(line.now)
    assert line.is_complete()
    assert line.cut() == []


def test_a_dropped_item_is_cut_at_nothing() -> None:
    line = Line()
    line.hear("i1", 70_000)  # more than the queue may hold
    assert line.ledger.cut(line.now) == [Cut("i1", 0, 0, 0)]


@pytest.mark.parametrize(
    ("response_id", "item_id", "admission"),
    [
        ("r1", "i1", Admission.LATE),
        ("r1", "i2", Admission.UNHEARD),
        ("r2", "i3", Admission.PLAYED),
        # Ids that say nothing forbid nothing.
        ("", "", Admission.PLAYED),
    ],
)
def test_after_a_cut_only_other_responses_are_played(
    response_id: str, item_id: str, admission: Admission
) -> None:
    line = Line()
    line.hear("i1", 500)
    line.cut()
    assert line.ledger.open_item(response_id, item_id, 0, line.now) is admission


def test_the_active_response_is_cut_even_before_it_speaks() -> None:
    line = Line()
    assert line.ledger.cut(line.now, active_response_id="r7") == []
    assert line.ledger.open_item("r7", "i1", 0, line.now) is Admission.UNHEARD
    assert line.ledger.open_item("r7", "i1", 0, line.now) is Admission.LATE


def test_a_refused_response_is_not_played() -> None:
    line = Line()
    line.ledger.refuse_response("r1")
    line.hear("i1", 100)
    assert line.admissions == [Admission.UNHEARD]
    assert line.downlink.sent == 0


def test_an_item_that_was_begun_is_not_unheard_when_its_response_is_refused() -> None:
    line = Line()
    line.hear("i1", 100)
    line.ledger.refuse_response("r1")
    line.downlink.forget_item()
    line.hear("i1", 100)
    assert line.admissions == [Admission.PLAYED, Admission.LATE]


def test_a_finished_response_says_nothing_more() -> None:
    line = Line()
    line.hear("i1", 100)
    line.ledger.finish_response("r1", line.now)
    line.hear("i1", 100)
    line.hear("i2", 100)
    assert line.admissions == [Admission.PLAYED, Admission.LATE, Admission.LATE]
    assert line.downlink.sent == 800


def test_the_memory_of_what_is_over_is_bounded() -> None:
    line = Line()
    for number in range(IDS_KEPT + 1):
        line.ledger.refuse_response(f"r{number}")
    assert line.ledger.open_item("r1", "i1", 0, line.now) is Admission.UNHEARD
    assert line.ledger.open_item("r0", "i0", 0, line.now) is Admission.PLAYED


def test_the_end_of_a_session_ends_its_items_and_frees_their_ids() -> None:
    line = Line()
    line.hear("i1", 500)
    line.cut()
    line.hear("i2", 100, of="r2")
    assert not line.is_complete()
    line.ledger.finish_all(line.now)
    assert line.is_complete()
    assert line.ledger.open_item("r1", "i1", 0, line.now) is Admission.PLAYED


def test_the_ledger_is_complete_when_nothing_waits_and_every_item_is_done() -> None:
    line = Line(lead_ms=200)
    assert line.is_complete()
    line.hear("i1", 300)
    line.hear("i2", 100)
    line.ledger.finish_item("i2", line.now)
    line.wait(0.5)
    assert not line.is_complete()
    line.ledger.finish_item("i1", line.now)
    assert line.is_complete()


def test_the_end_of_an_item_lets_the_resamplers_tail_out_once() -> None:
    line = Line(PCM16_8K, PCM16_24K)
    line.hear("i1", 100)
    before = line.downlink.enqueued
    line.ledger.finish_item("i1", line.now)
    tail = line.downlink.enqueued - before
    assert tail > 0
    line.ledger.finish_item("i1", line.now)
    line.ledger.finish_response("r1", line.now)
    assert line.downlink.enqueued == before + tail


# The carrier's word


def playback(line: Line, number: int, ms: int = 400) -> None:
    line.hear(f"i{number}", ms, of=f"r{number}")
    line.ledger.finish_response(f"r{number}", line.now)
    line.ledger.close_playback(f"p{number}", line.now)


def test_the_carriers_word_makes_all_of_a_playback_heard() -> None:
    line = Line()
    playback(line, 1)
    line.wait(0.375)
    assert line.awaits_finish()
    assert line.ledger.is_audible(line.now)
    assert line.ledger.acknowledge(None, line.now)
    assert not line.awaits_finish()
    assert not line.ledger.is_audible(line.now)
    assert line.cut() == []


@pytest.mark.parametrize("playback_id", [None, "p1"])
def test_the_carriers_word_says_nothing_of_the_next_playback(playback_id: str | None) -> None:
    line = Line(lead_ms=2000)
    playback(line, 1)
    playback(line, 2)
    line.wait(0.375)
    assert line.ledger.acknowledge(playback_id, line.now)
    assert line.ledger.is_audible(line.now)
    assert line.awaits_finish()
    assert line.cut() == [("i2", 0)]


def test_a_named_playback_speaks_for_those_before_it() -> None:
    line = Line(lead_ms=2000)
    playback(line, 1)
    playback(line, 2)
    assert line.ledger.acknowledge("p2", line.now)
    assert not line.awaits_finish()
    assert not line.ledger.acknowledge("p1", line.now)
    assert line.cut() == []


@pytest.mark.parametrize("playback_id", [None, "p1", "p9"])
def test_a_word_about_nothing_is_stale(playback_id: str | None) -> None:
    line = Line()
    line.hear("i1", 200)  # still open: it cannot have been heard to its end
    assert not line.ledger.acknowledge(playback_id, line.now)
    assert line.cut() == [("i1", 0)]


@pytest.mark.parametrize("playback_id", [None, "p1"])
def test_a_word_about_aborted_audio_is_stale(playback_id: str | None) -> None:
    line = Line()
    playback(line, 1)
    line.cut()
    playback(line, 2)
    assert not line.ledger.acknowledge(playback_id, line.now)
    line.wait(0.25)
    assert line.cut() == [("i2", 250)]


def test_after_a_cut_a_word_at_the_right_time_counts() -> None:
    line = Line()
    playback(line, 1)
    line.cut()
    playback(line, 2)
    assert not line.ledger.acknowledge(None, line.now)
    line.wait(0.375)
    assert line.ledger.acknowledge(None, line.now)
    assert not line.ledger.is_audible(line.now)


def test_words_about_aborted_audio_do_not_add_up() -> None:
    # One comes just as a short playback ends and is taken for its own; then its own must not count for more.
    line = Line(lead_ms=2000)
    playback(line, 1)
    line.cut()
    playback(line, 2, ms=50)
    assert line.ledger.acknowledge(None, line.now)
    playback(line, 3, ms=1000)
    line.wait(0.0625)
    assert not line.ledger.acknowledge(None, line.now)
    line.wait(0.25)
    assert line.cut() == [("i3", 312)]


def test_a_cut_leaves_the_word_on_what_was_heard_before_it_its_own() -> None:
    line = Line()
    playback(line, 1)
    line.wait(0.5)
    line.cut()
    playback(line, 2, ms=50)
    assert line.ledger.acknowledge(None, line.now)
    assert line.ledger.is_audible(line.now)
    assert line.cut() == [("i2", 0)]


def test_another_socket_says_nothing_of_the_playbacks_of_the_first() -> None:
    line = Line()
    playback(line, 1)
    line.wait(0.5)
    line.ledger.forget_playbacks()
    assert not line.awaits_finish()
    assert not line.ledger.acknowledge(None, line.now)


def test_a_named_playback_counts_whenever_it_is_told() -> None:
    line = Line()
    playback(line, 1)
    assert line.ledger.acknowledge("p1", line.now)
    assert not line.ledger.is_audible(line.now)


def test_a_word_that_never_came_does_not_shift_the_next() -> None:
    line = Line()
    playback(line, 1)
    line.wait(0.4 + LOST_FINISH_S + 0.25)
    playback(line, 2)
    line.wait(0.375)
    assert line.ledger.acknowledge(None, line.now)
    assert not line.awaits_finish()
    assert line.cut() == []


def test_playbacks_that_nobody_speaks_of_are_forgotten() -> None:
    line = Line()
    for number in range(50):
        playback(line, number, ms=100)
        line.wait(LOST_FINISH_S)
    line.wait(LOST_FINISH_S)
    assert not line.ledger.acknowledge(None, line.now)
    assert not line.awaits_finish()
