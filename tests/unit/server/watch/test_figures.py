"""Figures and metrics: what calls tell is counted under names of closed sets, whatever they say."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastagent.agent import Transition
from fastagent.call import CallSummary, Stage
from fastagent.call.gauge import DROP_CAUSES, Reading
from fastagent.server.watch import figures as module
from fastagent.server.watch.costs import BUILT_IN_PRICES, TokenCount
from fastagent.server.watch.figures import (
    CARRIERS,
    FAULTS,
    OUTCOMES,
    STAGE_BUCKETS_S,
    ServerFigures,
    fault_of,
)
from fastagent.server.watch.metrics import FAMILIES, ServerMetrics
from fastagent.server.watch.pulse import ROUND_BEATS, Pulse
from fastagent.stats import Counters, TimeClasses
from fastagent.wire.realtime_events import ResponseDone, ResponseStatus, Usage

HOSTILE = 'x"} 1\nfastagent_calls_total{carrier="+491701234567'
USAGE = Usage(313, 476, 640, 9, 23, cached_audio=384)


class Gauge:
    """A call's gauge whose readings are made up."""

    def __init__(self, carrier="audiocodes", **fields):
        self.carrier, self.agent_id = carrier, "shop"
        self.looks = 0
        zeros = {"drops": [0] * len(DROP_CAUSES), "ingress": [0] * 32, "egress": [0] * 32}
        self.reading = Reading(**{**zeros, "caller_age_s": None, "bot_age_s": None, **fields})

    def read(self, now):
        self.looks += 1
        return self.reading


def summary(call_id="call-1", outcome="caller", carrier="audiocodes", **counters):
    level = SimpleNamespace()
    return CallSummary(
        call_id, outcome, 45.0, "raw/mulaw", True, (), (), counters, TimeClasses(), level, level, carrier
    )


@pytest.fixture
def figures():
    return ServerFigures("gpt-realtime", BUILT_IN_PRICES["gpt-realtime"])


def metrics_of(figures, counters=None, **board):
    switchboard = SimpleNamespace(**{"active_calls": 0, "is_draining": False, **board})
    return ServerMetrics(
        figures, switchboard, counters or Counters(), uptime=lambda: 1.5, stalled=lambda: 0.0
    )


def samples(metrics):
    text, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("outcome", "counters", "fault"),
    [
        ("caller", {}, "none"),
        ("bot", {}, "none"),
        ("limit", {}, "none"),
        ("drained", {}, "none"),
        ("caller", {"functions_failed": 1}, "tool"),
        ("carrier_lost", {"functions_failed": 1}, "carrier"),
        ("error", {}, "carrier"),
        ("model_lost", {}, "model"),
        ("machine", {}, "caller"),
        ("not_answered", {}, "caller"),
    ],
)
def test_every_outcome_has_a_fault(outcome, counters, fault):
    assert fault_of(outcome, counters) == fault
    assert fault in FAULTS
    assert outcome in OUTCOMES


def test_call_is_counted_by_carrier_outcome_and_fault(figures):
    figures.began("call-1", Gauge())
    figures.ended(summary(outcome="model_lost"))
    assert figures.calls == {("audiocodes", "model_lost", "model"): 1}
    assert figures.session_s.total == 1
    assert figures.live_calls == []


def test_call_that_we_broke_is_our_fault(figures):
    figures.began("call-1", Gauge("twilio"))
    figures.broke("call-1")
    figures.broke("never begun")
    assert figures.calls == {("twilio", "error", "ours"): 1, ("other", "error", "ours"): 1}
    assert figures.live_calls == []


def test_tokens_and_money_are_of_the_server_and_of_the_call(figures):
    figures.began("call-1", Gauge())
    for _ in range(2):
        figures.response_done("call-1", ResponseDone("r", ResponseStatus.COMPLETED, usage=USAGE))
    figures.response_done("call-1", ResponseDone("r", ResponseStatus.CANCELLED))
    dollars = 2 * BUILT_IN_PRICES["gpt-realtime"].dollars(TokenCount.of(USAGE))
    assert figures.money_of("call-1")[1] == pytest.approx(dollars)
    figures.ended(summary())
    assert figures.dollars == pytest.approx(dollars)
    assert figures.tokens == TokenCount(114, 512, 18, 184, 768, 46)
    sums = {group: histogram.sum for group, histogram in figures.call_tokens.items()}
    assert sums == {"audio": 230, "text": 132, "cached": 1280}
    assert figures.call_dollars.sum == pytest.approx(dollars)
    assert figures.responses == {"completed": 2, "cancelled": 1}


def test_model_without_a_price_costs_tokens_and_no_money():
    figures = ServerFigures()
    figures.began("call-1", Gauge())
    figures.response_done("call-1", ResponseDone("r", ResponseStatus.COMPLETED, usage=USAGE))
    figures.ended(summary())
    assert sum(figures.tokens) == 821
    assert (figures.dollars, figures.call_dollars.total) == (0.0, 0)


def test_first_audio_is_in_all_its_families(figures):
    figures.timed("call-1", Stage.FIRST_AUDIO, 0.18)
    figures.timed("call-1", Stage.CUT_THROUGH, 0.002)
    assert figures.response_s.sum == pytest.approx(0.18)
    assert figures.latency_ms.sum == pytest.approx(180)
    assert figures.recent.figures_ms()["max"] == 180
    assert figures.stages["first_audio"].total == figures.stages["cut_through"].total == 1


@pytest.mark.parametrize("k", range(32))
def test_native_classes_end_where_the_histograms_do(figures, k):
    classes = [0] * 32
    classes[k] = 3
    figures.began("call-1", Gauge(ingress=classes))
    figures.read_call("call-1", 0.0)
    histogram = figures.stages["ingress"]
    place = next(n for n, count in enumerate(histogram.counts) if count)
    assert histogram.counts[place] == 3
    upper, lower = 2.0 ** (k + 1) / 1e9, 2.0**k / 1e9
    if place < len(STAGE_BUCKETS_S):
        assert upper <= STAGE_BUCKETS_S[place]
    if place > 0:
        assert lower >= STAGE_BUCKETS_S[place - 1]
    assert 3 * lower <= histogram.sum <= 3 * upper


def test_last_look_is_at_the_end_of_the_call(figures):
    drops = [0] * len(DROP_CAUSES)
    drops[DROP_CAUSES.index("bot_queue_full")] = 4
    gauge = Gauge(drops=drops, caller_age_s=0.03, bot_age_s=2.0)
    figures.began("call-1", gauge)
    figures.ended(summary())
    assert gauge.looks == 1
    found = samples(metrics_of(figures))
    assert found["fastagent_drops_total", (("cause", "bot_queue_full"),)] == 4
    assert found["fastagent_audio_age_seconds_sum", (("side", "bot"),)] == 2.0
    figures.read_call("call-1", 0.0)
    assert gauge.looks == 1


def test_families_are_those_declared_with_their_labels(figures):
    figures.ended(summary())
    figures.function_done("call-1", "book", "done", 0.1)
    text, content_type = metrics_of(figures, active_calls=3, is_draining=True).render()
    assert content_type.startswith("text/plain")
    found = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert set(found) == set(FAMILIES)
    for name, family in found.items():
        assert family.type == FAMILIES[name].kind
        assert family.documentation == FAMILIES[name].help
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(FAMILIES[name].labels)
    by_name = samples(metrics_of(figures, active_calls=3, is_draining=True))
    assert by_name["fastagent_active_sessions", ()] == 3
    assert by_name["fastagent_draining", ()] == 1


def test_openmetrics_is_rendered_where_it_is_asked_for(figures):
    text, content_type = metrics_of(figures).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_buckets_of_the_public_families_are_these(figures):
    found = samples(metrics_of(figures))

    def bounds(name):
        return [dict(labels)["le"] for found_name, labels in found if found_name == f"{name}_bucket"]

    assert bounds("fastagent_session_duration_seconds") == ["10.0", "30.0", "60.0", "120.0", "300.0", "+Inf"]
    assert bounds("fastagent_latency_milliseconds") == ["50.0", "100.0", "200.0", "500.0", "+Inf"]
    steps = bounds("fastagent_response_latency_seconds")
    assert (steps[0], steps[-2:]) == ("0.05", ["5.0", "+Inf"])


def test_hostile_words_make_no_label(figures):
    hostile = ServerFigures(module.OTHER_MODEL)
    hostile.began(HOSTILE, Gauge(HOSTILE))
    hostile.ended(summary(HOSTILE, HOSTILE, HOSTILE, **{HOSTILE: 3}))
    hostile.function_done(HOSTILE, HOSTILE, HOSTILE, 1.0)
    hostile.moved(HOSTILE, Transition(HOSTILE, HOSTILE, HOSTILE, HOSTILE))
    hostile.caller_said(HOSTILE, HOSTILE)
    hostile.bot_said(HOSTILE, HOSTILE)
    hostile.response_done(
        HOSTILE, ResponseDone(HOSTILE, ResponseStatus.FAILED, reason=HOSTILE, error_code=HOSTILE)
    )
    counters = Counters({HOSTILE: 5})
    text, _ = metrics_of(hostile, counters).render()
    assert b"1701234567" not in text
    assert hostile.calls == {("other", "other", "none"): 1}
    assert hostile.functions == {"other": 1}


def test_series_are_bounded_whatever_happens(figures):
    for carrier in (*CARRIERS, HOSTILE):
        for outcome in (*OUTCOMES, HOSTILE):
            for counters in ({}, {"functions_failed": 1}):
                figures.ended(summary(outcome=outcome, carrier=carrier, **counters))
    most = len(CARRIERS) * len(OUTCOMES) * 2
    assert len(figures.calls) <= most


# The pulse


def test_each_call_is_looked_at_once_a_round(figures):
    gauges = [Gauge() for _ in range(130)]
    for n, gauge in enumerate(gauges):
        figures.began(f"call-{n}", gauge)
    pulse = Pulse(figures)
    looks = []
    for _ in range(2 * ROUND_BEATS):
        before = sum(gauge.looks for gauge in gauges)
        pulse._look(0.0)
        looks.append(sum(gauge.looks for gauge in gauges) - before)
    assert {gauge.looks for gauge in gauges} == {2}
    assert max(looks) <= 7


def test_call_that_ends_within_a_round_is_no_trouble(figures):
    for n in range(3):
        figures.began(f"call-{n}", Gauge())
    pulse = Pulse(figures)
    pulse._look(0.0)
    for n in range(3):
        figures.ended(summary(f"call-{n}"))
    for _ in range(ROUND_BEATS):
        pulse._look(0.0)
    assert figures.live_calls == []


def test_lag_is_measured_against_the_clock(figures):
    async def main():
        pulse = Pulse(figures)
        pulse.start()
        held_until = time.monotonic() + 0.15
        while time.monotonic() < held_until:
            pass
        async with asyncio.timeout(30):
            while not figures.loop_lag_s.total:  # noqa: ASYNC110 - a beat comes with time: no event tells of it
                await asyncio.sleep(0.01)
        pulse.close()
        return figures.loop_lag_s

    assert asyncio.run(main()).sum >= 0.04
