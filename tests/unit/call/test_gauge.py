"""Gauge: what a look at a call tells is what came since the last one."""

from types import SimpleNamespace

import pytest

from fastagent.call.gauge import DROP_CAUSES, FRAME_S, CallGauge
from fastagent.stats import TimeClasses

RATE = 8000


@pytest.fixture
def media():
    uplink = SimpleNamespace(backlog_dropped=0, malformed=0, bad_audio=0, samples_in=0, backlog_messages=0)
    downlink = SimpleNamespace(bad_audio=0, discarded=0, dropped=0, queued=0)
    offer = SimpleNamespace(format=SimpleNamespace(sample_rate=RATE))
    return SimpleNamespace(
        uplink=uplink,
        downlink=downlink,
        tap=SimpleNamespace(news_dropped=0),
        plan=SimpleNamespace(offer=offer),
    )


class Call:
    def __init__(self, media):
        self.carrier = self.model = None
        self.closed = TimeClasses(), TimeClasses()
        self.gauge = CallGauge(
            media,
            carrier="audiocodes",
            agent_id="shop",
            legs=lambda: (self.carrier, self.model),
            carrier_times=self.closed[0],
            model_times=self.closed[1],
        )

    def close_carrier(self):
        self.closed[0].add(self.carrier.frame_times)
        self.gauge.leg_closed(self.carrier)
        self.carrier = None


def leg(*times, audio_not_sent=0):
    return SimpleNamespace(frame_times=[*times, *[0] * (32 - len(times))], audio_not_sent=audio_not_sent)


@pytest.fixture
def call(media):
    return Call(media)


def drops(reading):
    return {cause: n for cause, n in zip(DROP_CAUSES, reading.drops, strict=True) if n}


def test_drops_are_told_once(call, media):
    media.uplink.backlog_dropped, media.downlink.discarded = 3, 2
    assert drops(call.gauge.read(1.0)) == {"model_absent": 3, "bot_stale": 2}
    media.uplink.backlog_dropped = 4
    assert drops(call.gauge.read(2.0)) == {"model_absent": 1}


def test_counter_that_began_anew_counts_from_nought(call, media):
    media.uplink.malformed = 5
    call.gauge.read(1.0)
    media.uplink.malformed = 2
    assert drops(call.gauge.read(2.0)) == {"caller_malformed": 2}


def test_frames_of_a_leg_count_once_across_its_end_and_the_next(call):
    call.carrier = leg(1, 2)
    assert sum(call.gauge.read(1.0).ingress) == 3
    call.carrier = leg(1, 5)
    call.close_carrier()
    call.carrier = leg(4)
    reading = call.gauge.read(2.0)
    assert (sum(reading.ingress), sum(reading.egress)) == (3 + 4, 0)


def test_frames_of_the_model_are_egress(call):
    call.model = leg(0, 7)
    reading = call.gauge.read(1.0)
    assert (sum(reading.ingress), list(reading.egress[:2])) == (0, [0, 7])


def test_audio_not_sent_counts_on_after_its_leg(call):
    call.carrier = leg(audio_not_sent=2)
    assert drops(call.gauge.read(1.0)) == {"peer_not_reading": 2}
    call.close_carrier()
    call.carrier = leg(audio_not_sent=1)
    assert drops(call.gauge.read(2.0)) == {"peer_not_reading": 1}


def test_age_is_the_lag_behind_the_callers_own_clock(call, media):
    ages = []
    for now, samples in ((10.0, 8000), (12.0, 24_000), (14.3, 40_000), (16.0, 56_000)):
        media.uplink.samples_in = samples
        ages.append(call.gauge.read(now).caller_age_s)
    assert ages == pytest.approx([0, 0, 0.3, 0])


def test_audio_that_waits_for_the_model_is_older(call, media):
    media.uplink.samples_in, media.uplink.backlog_messages = 8000, 50
    assert call.gauge.read(1.0).caller_age_s == pytest.approx(50 * FRAME_S)


def test_caller_who_sends_nothing_has_no_age(call, media):
    assert call.gauge.read(1.0).caller_age_s is None
    media.uplink.samples_in = 8000
    assert call.gauge.read(2.0).caller_age_s == 0
    assert call.gauge.read(9.0).caller_age_s is None
    media.uplink.samples_in = 8160
    assert call.gauge.read(10.0).caller_age_s == 0, "a pause is not age"


def test_stream_that_begins_anew_has_a_clock_of_its_own(call, media):
    media.uplink.samples_in = 8000
    call.gauge.read(1.0)
    call.gauge.caller_restarted()
    media.uplink.samples_in = 16_000
    assert call.gauge.read(30.0).caller_age_s == 0


def test_bot_audio_is_as_old_as_it_waits(call, media):
    assert call.gauge.read(1.0).bot_age_s is None
    media.downlink.queued = 4000
    assert call.gauge.read(2.0).bot_age_s == 0.5
