"""The jitter buffer's promises: order, time, delay, and what it does when a network misbehaves."""

import random
import sys
from statistics import fmean

import pytest

from benches.hearing import emodel, jitter_report, jitter_traces
from benches.hearing.jitter_traces import SATELLITE, Scenario, Trace
from fastagent._native.jitter import Arrival, JitterBuffer, Turn
from tests.reference.jitter_reference import Watch, least_impaired_delay_ms

FRAME_S = 0.02
UNITS = 160


def at_once() -> JitterBuffer:
    """A buffer that waits for nothing at first."""
    return JitterBuffer(initial_ms=0)


def run_steady(watch: Watch, count: int, start: int = 0, delay_s: float = 0.0) -> None:
    """`count` packets, each followed by its get."""
    for n in range(start, start + count):
        now = n * FRAME_S + delay_s
        watch.put(n & 0xFFFF, n * UNITS & 0xFFFFFFFF, now)
        watch.get(now)


# Order


def test_a_steady_stream_is_played_as_it_came() -> None:
    watch = Watch(at_once())
    run_steady(watch, 200)
    assert watch.played == list(range(200))
    assert watch.buffer.counters()["played"] == 200
    assert watch.buffer.delay_ms == watch.buffer.target_ms == watch.buffer.jitter_ms == 0


def test_ten_of_forty_swapped_are_put_right_and_none_is_lost() -> None:
    """The figures that Asterisk's own test expects for every fourth packet swapped with the next."""
    watch = Watch(JitterBuffer(initial_ms=60))
    order = list(range(40))
    for first in range(0, 40, 4):
        order[first], order[first + 1] = order[first + 1], order[first]
    for tick in range(42):
        if tick < 40:
            watch.put(order[tick], order[tick] * UNITS, tick * FRAME_S)
        watch.get(tick * FRAME_S)
    assert watch.turns[2:] == [Turn.FRAME] * 40
    counted = watch.buffer.counters()
    assert watch.played == list(range(40))
    assert (counted["reordered"], counted["lost"], counted["late"], counted["discarded"]) == (10, 0, 0, 0)


@pytest.mark.parametrize("first_seq", [0, 1, 65_535, 65_500, 32_767, 32_768])
@pytest.mark.parametrize("first_timestamp", [0, 2**32 - 1, 2**32 - 160 * 40, 2**31 - 80])
def test_numbers_and_timestamps_wrap(first_seq: int, first_timestamp: int) -> None:
    watch = Watch(at_once())
    for n in range(100):
        watch.put((first_seq + n) & 0xFFFF, (first_timestamp + n * UNITS) & 0xFFFFFFFF, n * FRAME_S)
        assert watch.get(n * FRAME_S) is Turn.FRAME
    assert watch.played == [(first_seq + n) & 0xFFFF for n in range(100)]


def test_a_packet_is_played_once_however_often_it_comes() -> None:
    watch = Watch(at_once())
    for n in range(60):
        assert watch.put(n, n * UNITS, n * FRAME_S) is Arrival.ACCEPTED
        assert watch.put(n, n * UNITS, n * FRAME_S) is Arrival.DUPLICATE
        watch.get(n * FRAME_S)
        assert watch.put(n, n * UNITS, n * FRAME_S) is Arrival.DUPLICATE
    assert watch.played == list(range(60))
    assert watch.buffer.counters()["duplicates"] == 120


def test_a_packet_before_the_first_is_still_in_time_while_prefetching() -> None:
    watch = Watch(JitterBuffer(initial_ms=60))
    watch.put(11, 11 * UNITS, 0.0)
    assert watch.get(0.0) is Turn.PREFETCH
    watch.put(10, 10 * UNITS, 0.001)
    watch.put(12, 12 * UNITS, 0.02)
    for tick in range(3, 6):
        assert watch.get(tick * FRAME_S) is Turn.FRAME
    assert watch.played == [10, 11, 12]


# Gaps


def test_a_missing_packet_is_told_as_lost_when_later_ones_are_here() -> None:
    watch = Watch(JitterBuffer(initial_ms=40))
    for n in range(20):
        if n != 10:
            watch.put(n, n * UNITS, n * FRAME_S)
        watch.get(n * FRAME_S)
    assert watch.turns.count(Turn.LOST) == 1
    assert watch.turns.index(Turn.LOST) == 11
    assert watch.played == [n for n in range(19) if n != 10]


def test_a_missing_packet_is_told_as_empty_when_nothing_is_here() -> None:
    watch = Watch(at_once())
    for n in range(10):
        if n != 5:
            watch.put(n, n * UNITS, n * FRAME_S)
        assert watch.get(n * FRAME_S) is (Turn.EMPTY if n == 5 else Turn.FRAME)


def test_nothing_at_all_is_prefetching() -> None:
    buffer = JitterBuffer()
    assert [buffer.get(n * FRAME_S) for n in range(5)] == [(Turn.PREFETCH, b"")] * 5
    assert (buffer.waiting, buffer.duration, buffer.target_ms) == (0, UNITS, 0)


def test_a_pause_of_the_sender_is_silence_not_loss() -> None:
    """With silence suppression numbers run on without a gap while timestamps leap (RFC 3551, section 4.1)."""
    watch = Watch(JitterBuffer(initial_ms=40))
    run_steady(watch, 10)
    for n in range(10, 30):
        watch.get(n * FRAME_S)
    for n in range(30, 40):
        watch.put(n - 20, n * UNITS, n * FRAME_S)
        watch.get(n * FRAME_S)
    counted = watch.buffer.counters()
    assert counted["lost"] == counted["late"] == counted["discarded"] == 0
    assert watch.played == list(range(len(watch.played)))
    assert len(watch.played) >= 18
    assert Turn.SILENCE in watch.turns


def test_a_sender_whose_timestamps_stand_still_in_pauses_is_heard_again_within_a_second() -> None:
    watch = Watch(at_once())
    run_steady(watch, 100)
    for n in range(50):
        watch.get(2 + n * FRAME_S)
    for n in range(100, 200):
        watch.put(n, n * UNITS, n * FRAME_S + 1)
        watch.get(n * FRAME_S + 1)
    assert watch.turns[-50:] == [Turn.FRAME] * 50


def test_late_packets_are_refused_once_a_later_one_was_played() -> None:
    watch = Watch(at_once())
    run_steady(watch, 50)
    watch.get(50 * FRAME_S)
    run_steady(watch, 10, start=51)
    assert watch.put(50, 50 * UNITS, 61 * FRAME_S) is Arrival.LATE
    assert watch.buffer.counters()["late"] == 1


def test_a_stall_shorter_than_the_buffer_is_not_heard() -> None:
    watch = Watch(JitterBuffer(min_ms=100, initial_ms=100))
    run_steady(watch, 50)
    for n in range(50, 54):
        assert watch.get(n * FRAME_S) is Turn.FRAME
    for n in range(50, 55):
        watch.put(n, n * UNITS, 54 * FRAME_S)
    assert watch.get(54 * FRAME_S) is Turn.FRAME
    assert watch.buffer.counters()["late"] == 0


# Restarts


def test_a_new_numbering_is_taken_up_at_once_when_the_old_has_ended() -> None:
    watch = Watch(at_once())
    run_steady(watch, 120)
    assert watch.put(40_000, 7, 120 * FRAME_S) is Arrival.HELD
    assert watch.get(120 * FRAME_S) is Turn.FRAME
    assert watch.buffer.seq == 40_000
    assert watch.buffer.counters()["resets"] == 1


def test_a_stray_packet_does_not_disturb_a_running_stream() -> None:
    watch = Watch(JitterBuffer(initial_ms=60))
    run_steady(watch, 50)
    for n in range(50, 60):
        if n % 3 == 0:
            assert watch.put((n * 7919 + 20_000) & 0xFFFF, n, n * FRAME_S) is Arrival.HELD
        watch.put(n, n * UNITS, n * FRAME_S)
        assert watch.get(n * FRAME_S) is Turn.FRAME
    assert watch.buffer.counters()["resets"] == 0


@pytest.mark.parametrize(
    ("seq", "timestamp"),
    [(30_000, 8000), (50, 2**31), (50, 8000 + 4 * 8000), (50, 8000 - 4 * 8000), (65_436, 8000)],
    ids=["number", "timestamp", "four seconds on", "four seconds back", "number back by 150"],
)  # fmt: skip
def test_two_packets_of_another_numbering_or_clock_reset_the_buffer(seq: int, timestamp: int) -> None:
    watch = Watch(JitterBuffer(initial_ms=60))
    run_steady(watch, 50)
    assert watch.buffer.waiting > 0
    assert watch.put(seq, timestamp & 0xFFFFFFFF, 1.0) is Arrival.HELD
    assert watch.put(seq + 1, (timestamp + UNITS) & 0xFFFFFFFF, 1.02) is Arrival.RESET
    assert watch.buffer.waiting == 2
    for n in range(1, 6):
        watch.get(1 + n * FRAME_S)
    assert watch.played[-2:] == [seq, seq + 1]
    assert watch.buffer.counters()["resets"] == 1


def test_reset_forgets_packets_and_delays_but_not_counters() -> None:
    watch = Watch(JitterBuffer(initial_ms=100))
    run_steady(watch, 20)
    watch.reset()
    assert (watch.buffer.waiting, watch.buffer.delay_ms, watch.buffer.jitter_ms) == (0, 0, 0)
    assert watch.get(0.5) is Turn.PREFETCH
    assert watch.buffer.counters()["received"] == 20
    assert watch.put(5, 0, 0.5) is Arrival.ACCEPTED


def test_overflow_discards_the_oldest_and_goes_on_behind_them() -> None:
    watch = Watch(JitterBuffer(slots=16, initial_ms=0))
    arrivals = [watch.put(n, n * UNITS, 0.0) for n in range(40)]
    assert arrivals == [Arrival.ACCEPTED] * 16 + [Arrival.OVERFLOW] * 24
    assert watch.buffer.waiting == 16
    assert watch.get(0.0) is Turn.FRAME
    assert watch.buffer.seq == 24
    assert watch.buffer.counters()["lost"] == 0


# Time


@pytest.mark.parametrize("duration", [80, 160, 240, 320, 480])
def test_packets_of_10_to_60_ms_are_played_at_their_pace(duration: int) -> None:
    watch = Watch(JitterBuffer(frame=160, initial_ms=0))
    now = 0.0
    for n in range(60):
        watch.put(n, n * duration, now, duration)
        assert watch.get(now) is Turn.FRAME
        assert watch.buffer.duration == duration
        now += duration / 8000
    assert watch.buffer.counters()["expanded"] == 0


def test_the_frame_size_may_change_on_the_way() -> None:
    watch = Watch(at_once())
    now, timestamp = 0.0, 0
    for n, duration in enumerate([160] * 20 + [480] * 20 + [80] * 20):
        watch.put(n, timestamp, now, duration)
        assert watch.get(now) is Turn.FRAME
        timestamp += duration
        now += duration / 8000


def test_jitter_is_estimated_as_in_rfc_3550() -> None:
    buffer = at_once()
    expected = 0.0
    chance = random.Random(5)
    before = None
    for n in range(200):
        transit_ms = chance.uniform(0, 15)
        buffer.put(n, n * UNITS, b"", n * FRAME_S + transit_ms / 1000)
        if before is not None:
            expected += (abs(transit_ms - before) - expected) / 16
        before = transit_ms
        buffer.get(n * FRAME_S + 0.015)
    assert buffer.jitter_ms == pytest.approx(expected, abs=0.05)


def test_time_that_steps_back_counts_as_no_time() -> None:
    watch = Watch(JitterBuffer(initial_ms=60))
    run_steady(watch, 50)
    watch.put(50, 50 * UNITS, 0.3)
    assert watch.get(-5.0) is Turn.FRAME
    run_steady(watch, 20, start=51)
    assert watch.turns[2:] == [Turn.FRAME] * 69
    assert watch.buffer.counters()["resets"] == 0


def settle(jitter_ms: list[float], buffer: JitterBuffer, quiet: bool = False) -> None:
    """Feed packets with these relative delays, playing along on a clock half a frame off."""
    events = sorted(
        [
            (n * 20 + delay, 0, n)
            for n, delay in enumerate(jitter_ms)
            if n * 20 + delay < len(jitter_ms) * 20 - 10
        ]
        + [(n * 20 + 10.0, 1, n) for n in range(len(jitter_ms))]
    )
    for at_ms, is_get, n in events:
        if is_get:
            buffer.get(at_ms / 1000, quiet)
        else:
            buffer.put(n & 0xFFFF, n * UNITS, b"", at_ms / 1000)


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("none", lambda r, n: 0.0),
        ("uniform 30", lambda r, n: r.uniform(0, 30)),
        ("uniform 90", lambda r, n: r.uniform(0, 90)),
        ("gaussian 8", lambda r, n: max(0.0, 30 + r.gauss(0, 8))),
        ("3 % stragglers of 70", lambda r, n: 70.0 * (n % 33 == 0)),
        ("a straggler of 400 each 200", lambda r, n: 400.0 * (n % 200 == 0)),
    ],
)
def test_the_delay_settles_where_the_impairment_is_least(name: str, spread: object) -> None:
    assert callable(spread)
    chance = random.Random(name)
    delays = [float(spread(chance, n)) for n in range(1500)]
    buffer = JitterBuffer()
    settle(delays, buffer)
    best_ms = least_impaired_delay_ms(delays[-800:], path_ms=40)
    # A frame each way is the grid, half a frame the hysteresis of a move that must be worth a packet.
    assert best_ms - 10 <= buffer.target_ms <= best_ms + 32, (best_ms, buffer.target_ms)


def test_pauses_are_used_to_give_delay_back() -> None:
    calm = [120.0 * (n % 2) for n in range(300)] + [0.0] * 300
    loud, quiet = JitterBuffer(), JitterBuffer()
    settle(calm, loud)
    settle(calm, quiet, quiet=True)
    assert quiet.delay_ms <= loud.delay_ms
    assert quiet.counters()["accelerated"] >= loud.counters()["accelerated"] > 0


@pytest.mark.parametrize(("min_ms", "max_ms"), [(0, 60), (60, 200), (0, 500)])
def test_the_target_stays_between_its_limits(min_ms: int, max_ms: int) -> None:
    chance = random.Random(2)
    for spread in (0, 40, 400):
        buffer = JitterBuffer(min_ms=min_ms, max_ms=max_ms, initial_ms=min_ms)
        settle([chance.uniform(0, spread) for _ in range(600)], buffer)
        assert min_ms - 15 <= buffer.target_ms <= max_ms + 15


# Whole networks


@pytest.mark.parametrize("scenario", jitter_traces.scenarios(), ids=lambda scenario: scenario.name)
def test_published_scenarios_are_stood(scenario: Scenario) -> None:
    verdict = jitter_traces.attempt(scenario)
    assert not verdict.missed, verdict.figures


def test_there_are_fifteen_scenarios_and_seventeen_traces() -> None:
    assert len(jitter_traces.scenarios()) == 15
    assert [trace.name for trace in jitter_traces.recorded() if trace.name in SATELLITE] == list(SATELLITE)
    assert len(jitter_traces.recorded()) == 17


@pytest.mark.parametrize("phase_ms", [1.0, 8.0, 15.0])
def test_mean_rating_over_the_recorded_traces_is_at_least_87(phase_ms: float) -> None:
    traces = [trace for trace in jitter_traces.recorded() if trace.name not in SATELLITE]
    outcomes = [jitter_traces.play(trace, phase_ms) for trace in traces]
    assert fmean(outcome.rating for outcome in outcomes) >= 87.4
    assert fmean(outcome.rating_heard for outcome in outcomes) >= 87.2
    assert sum(outcome.order_errors for outcome in outcomes) == 0


@pytest.mark.parametrize("trace", list(jitter_traces.fresh(11)), ids=lambda trace: trace.name)
def test_unseen_networks_cost_at_most_one_and_a_half_more_than_the_best_fixed_delay(trace: Trace) -> None:
    outcome = jitter_traces.play(trace)
    assert outcome.order_errors == 0
    assert outcome.rating >= jitter_report.best_fixed(trace).rating - 1.5


@pytest.mark.parametrize(("wait_ms", "published"), [(60, 85.6), (100, 86.2), (200, 76.1)])
def test_the_yardstick_gives_the_published_figures_of_fixed_buffers(wait_ms: int, published: float) -> None:
    traces = [trace for trace in jitter_traces.recorded() if trace.name not in SATELLITE]
    rule = jitter_report.fixed
    mean = fmean(jitter_traces.follow(trace, rule(wait_ms), moves=False).rating for trace in traces)
    assert mean == pytest.approx(published, abs=0.1)


def test_the_e_model_agrees_with_its_definition() -> None:
    assert emodel.rating([0.0], [False] * 100) == 93.2
    assert emodel.rating([177.3], [False]) == pytest.approx(93.2 - 4.2552)
    assert emodel.rating([277.3], [False]) == pytest.approx(93.2 - 0.024 * 277.3 - 11)
    alone = [n % 50 == 0 for n in range(1000)]
    assert emodel.rating([0.0], alone) == pytest.approx(93.2 - 95 * 2 / (2 + 25.1))
    together = [n % 200 < 4 for n in range(1000)]
    assert emodel.burst_ratio(together) == 2.0
    assert emodel.rating([0.0], together) == pytest.approx(93.2 - 95 * 2 / (1 + 25.1))


# What is refused


@pytest.mark.parametrize(
    "settings",
    [
        {"clock_hz": 7999}, {"clock_hz": 192_001}, {"frame": 7}, {"frame": 961}, {"slots": 2}, {"slots": 63},
        {"slots": 2048}, {"slot_bytes": 0}, {"slot_bytes": 65_536}, {"initial_ms": 501}, {"min_ms": 41},
        {"max_ms": 39}, {"max_ms": 2001}, {"path_ms": 10_001},
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        JitterBuffer(**settings)


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_time_that_is_none_is_refused(now: float) -> None:
    buffer = at_once()
    with pytest.raises(ValueError, match="a time"):
        buffer.put(0, 0, b"x", now)
    with pytest.raises(ValueError, match="a time"):
        buffer.get(now)
    assert buffer.counters()["received"] == 0
    assert buffer.put(0, 0, b"x", 0.0) is Arrival.ACCEPTED
    assert buffer.get(0.0) == (Turn.FRAME, b"x")


def test_a_payload_longer_than_a_slot_is_refused_and_never_quoted() -> None:
    buffer = JitterBuffer(slot_bytes=4, initial_ms=0)
    with pytest.raises(ValueError, match="at most 4 bytes expected, got 5") as caught:
        buffer.put(0, 0, b"12345", 0.0)
    assert "12345" not in str(caught.value)
    assert buffer.put(0, 0, bytearray(b"1234"), 0.0) is Arrival.ACCEPTED
    assert buffer.get(0.0) == (Turn.FRAME, b"1234")


@pytest.mark.parametrize("duration", [1, 7, 961, 2**32 - 1])
def test_a_duration_that_no_packet_has_is_refused(duration: int) -> None:
    with pytest.raises(ValueError, match="duration"):
        at_once().put(0, 0, b"", 0.0, duration)


@pytest.mark.parametrize(("seq", "timestamp"), [(-1, 0), (65_536, 0), (0, -1), (0, 2**32)])
def test_numbers_that_do_not_fit_are_refused(seq: int, timestamp: int) -> None:
    with pytest.raises(OverflowError):
        at_once().put(seq, timestamp, b"", 0.0)


def test_objects_that_are_no_buffer_are_refused() -> None:
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            at_once().put(0, 0, wrong, 0.0)  # type: ignore[arg-type]


def test_empty_payloads_are_packets_too() -> None:
    buffer = at_once()
    assert buffer.put(0, 0, b"", 0.0) is Arrival.ACCEPTED
    assert buffer.get(0.0) == (Turn.FRAME, b"")


def test_memory_is_taken_once_and_is_known() -> None:
    buffer = JitterBuffer(slots=64, slot_bytes=160)
    assert 64 * 160 < sys.getsizeof(buffer) < 64 * 184 + 5000
