"""Bench: what watching a server costs: a scrape with a thousand running calls, one look at a call, one event.

The calls are real `CallMedia` with real pumps, without sockets. The peer of the scrape is the client
library's own metrics, as many samples, as one would write them without a collector.
"""

import logging
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from pytest_benchmark.fixture import BenchmarkFixture

from fastagent.call import CallGauge, Stage
from fastagent.call.media import CallMedia
from fastagent.media.ears import NO_EARS
from fastagent.server.watch.costs import BUILT_IN_PRICES
from fastagent.server.watch.figures import (
    CARRIERS,
    FAULTS,
    FUNCTION_STATUSES,
    OUTCOMES,
    STAGE_BUCKETS_S,
    ServerFigures,
)
from fastagent.server.watch.logs import LogHandler
from fastagent.server.watch.metrics import ServerMetrics
from fastagent.settings import Settings
from fastagent.stats import Counters, TimeClasses
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA, AudioCodesCodec
from fastagent.wire.realtime_events import ResponseDone, ResponseStatus, Usage

CALLS = 1_000
SCRAPE_GOAL_NS = 5_000_000
CALL_ID = "4a1f9d2c-1234-4abc-9def-491701234567"
DONE = ResponseDone("resp_1", ResponseStatus.COMPLETED, usage=Usage(313, 476, 640, 9, 23, 384))


def busy_server() -> ServerFigures:
    """Every label that there can be, and a thousand running calls."""
    figures = ServerFigures("gpt-realtime", BUILT_IN_PRICES["gpt-realtime"])
    offer = AUDIOCODES_MEDIA["raw/lpcm16_24"]
    for n in range(CALLS):
        media = CallMedia((offer,), AudioCodesCodec(), Settings(), NO_EARS, 0.0)
        gauge = CallGauge(
            media,
            carrier="audiocodes",
            agent_id="shop",
            legs=lambda: (None, None),
            carrier_times=TimeClasses(range(32)),
            model_times=TimeClasses(range(32)),
        )
        figures.began(f"call-{n}", gauge)
        figures.timed(f"call-{n}", Stage.FIRST_AUDIO, n / 1000)
        figures.response_done(f"call-{n}", DONE)
    for carrier in CARRIERS:
        for outcome in OUTCOMES:
            for fault in FAULTS:
                figures.calls[carrier, outcome, fault] += 1
    for status in FUNCTION_STATUSES:
        figures.function_done("call-1", "book", status, 0.1)
    return figures


@pytest.mark.parametrize("engine", ["fastagent", "prometheus_client"])
def test_scrape(benchmark: BenchmarkFixture, engine: str) -> None:
    if engine == "fastagent":
        switchboard = SimpleNamespace(active_calls=CALLS, is_draining=False)
        metrics = ServerMetrics(
            busy_server(),
            switchboard,  # type: ignore[arg-type]
            Counters(),
            uptime=time.monotonic,
            stalled=lambda: 0.0,
        )
        text = benchmark(lambda: metrics.render()[0])
        assert text.count(b"\n") > 300
    else:
        registry = CollectorRegistry()
        histogram = Histogram("stage_seconds", "s", ["stage"], buckets=STAGE_BUCKETS_S, registry=registry)
        for n in range(35):  # as many samples
            histogram.labels(f"stage-{n}").observe(0.1)
        text = benchmark(generate_latest, registry)
        assert text.count(b"\n") > 300
    benchmark.extra_info.update(
        subject="metrics scrape",
        implementation=engine,
        unit="scrape with 1,000 calls",
        goal_ns=SCRAPE_GOAL_NS,
    )


def test_look_at_a_call(benchmark: BenchmarkFixture) -> None:
    figures = busy_server()
    benchmark(figures.read_call, "call-1", 1.0)
    benchmark.extra_info.update(subject="metrics look at a call", unit="look", goal_ns=30_000)


def test_stage_event(benchmark: BenchmarkFixture) -> None:
    figures = busy_server()
    benchmark(figures.timed, "call-1", Stage.FIRST_AUDIO, 0.1)
    assert figures.response_s.total > 0
    benchmark.extra_info.update(subject="metrics stage event", unit="event", goal_ns=5_000)


def test_response_event(benchmark: BenchmarkFixture) -> None:
    figures = busy_server()
    benchmark(figures.response_done, "call-1", DONE)
    assert figures.dollars > 0
    benchmark.extra_info.update(subject="metrics response event", unit="event", goal_ns=10_000)


@pytest.mark.parametrize("engine", ["fastagent", "logging"])
def test_log_line(benchmark: BenchmarkFixture, engine: str) -> None:
    stream = StringIO()
    logger = logging.Logger("fastagent.call")
    if engine == "fastagent":
        logger.addHandler(LogHandler(stream, is_json=True))
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        logger.addHandler(handler)
    benchmark(
        logger.info, "call %s: bot interrupted after %d ms", "4a1f9d2c-1234-4abc-9def-491701234567", 840
    )
    assert "840" in stream.getvalue()
    benchmark.extra_info.update(subject="log line", implementation=engine, unit="line", goal_ns=100_000)
