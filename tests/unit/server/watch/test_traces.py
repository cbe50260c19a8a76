"""Traces: one trace a call, its turns, tools and states within; no words."""

import sys
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastagent.agent import Transition
from fastagent.call import CallSummary, Stage
from fastagent.errors import ConfigurationError
from fastagent.server.watch import traces as module
from fastagent.server.watch.observability import Observability
from fastagent.server.watch.traces import CallTraces, open_traces
from fastagent.settings import Settings
from fastagent.stats import TimeClasses
from fastagent.wire.realtime_events import ResponseDone, ResponseStatus, Usage

GAUGE = SimpleNamespace(carrier="audiocodes", agent_id="shop")


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return CallTraces(provider)


def end(traces, outcome="caller", call_id="call-1", **counters):
    level = SimpleNamespace()
    traces.ended(
        CallSummary(call_id, outcome, 4.0, "raw/mulaw", True, (), (), counters, TimeClasses(), level, level)
    )


def by_name(exporter):
    spans = {}
    for span in exporter.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    return spans


def test_call_holds_its_turns_tools_and_states(traces, exporter):
    traces.began("call-1", GAUGE)
    traces.timed("call-1", Stage.MODEL_APPEND, 0.2)
    traces.timed("call-1", Stage.FIRST_AUDIO, 0.5)
    traces.moved("call-1", Transition("book", "", "date", "start"))
    traces.function_done("call-1", "book", "done", 0.3)
    usage = Usage(10, 20, 5, 1, 2)
    traces.response_done("call-1", ResponseDone("r", ResponseStatus.COMPLETED, usage=usage))
    traces.moved("call-1", Transition("book", "date", "confirm", "answer"))
    end(traces)
    spans = by_name(exporter)
    assert {name: len(found) for name, found in spans.items()} == {
        "call": 1,
        "turn": 1,
        "tool": 1,
        "state": 2,
    }
    call = spans["call"][0]
    assert call.parent is None
    assert {span.context.trace_id for found in spans.values() for span in found} == {call.context.trace_id}
    assert all(
        span.parent.span_id == call.context.span_id
        for span in exporter.get_finished_spans()
        if span is not call
    )
    assert dict(call.attributes) == {
        "fastagent.call_id": "call-1",
        "fastagent.agent": "shop",
        "fastagent.carrier": "audiocodes",
        "fastagent.outcome": "caller",
        "fastagent.fault": "none",
    }
    assert [event.name for event in call.events] == ["model_append"]
    turn = spans["turn"][0]
    assert turn.attributes["fastagent.tokens_in"] == 30
    assert turn.attributes["fastagent.response_status"] == "completed"
    assert turn.events[0].timestamp - turn.start_time == pytest.approx(0.5e9, abs=0.2e9)
    tool = spans["tool"][0]
    assert (tool.end_time - tool.start_time) == pytest.approx(0.3e9, abs=0.2e9)
    states = [span.attributes["fastagent.state"] for span in spans["state"]]
    assert states == ["date", "confirm"]
    assert spans["state"][0].attributes["fastagent.next_state"] == "confirm"


@pytest.mark.parametrize(("outcome", "is_ok"), [("bot", True), ("machine", True), ("model_lost", False)])
def test_fault_marks_the_call(traces, exporter, outcome, is_ok):
    traces.began("call-1", GAUGE)
    end(traces, outcome)
    assert by_name(exporter)["call"][0].status.is_ok is is_ok


def test_call_that_broke_is_closed_with_all_in_it(traces, exporter):
    traces.began("call-1", GAUGE)
    traces.timed("call-1", Stage.FIRST_AUDIO, 0.5)
    traces.moved("call-1", Transition("book", "", "date", "start"))
    traces.broke("call-1")
    spans = by_name(exporter)
    assert set(spans) == {"call", "turn", "state"}
    assert spans["call"][0].attributes["fastagent.fault"] == "ours"


@pytest.mark.parametrize(
    ("status", "is_ok"), [("done", True), ("working", True), ("failed", False), ("unknown", False)]
)
def test_tool_tells_what_became_of_it(traces, exporter, status, is_ok):
    traces.began("call-1", GAUGE)
    traces.function_done("call-1", "", status, 0.0)
    end(traces)
    tool = by_name(exporter)["tool"][0]
    assert tool.status.is_ok is is_ok
    assert tool.attributes["fastagent.tool"] == "not offered"


def test_long_call_leaves_out_spans_and_says_so(traces, exporter, monkeypatch):
    monkeypatch.setattr(module, "SPANS_PER_CALL_MAX", 3)
    traces.began("call-1", GAUGE)
    for _ in range(10):
        traces.function_done("call-1", "book", "done", 0.0)
    end(traces)
    spans = by_name(exporter)
    assert len(spans["tool"]) == 3
    assert spans["call"][0].attributes["fastagent.spans_left_out"] == 7


def test_events_of_calls_that_are_not_known_are_no_trouble(traces, exporter):
    traces.timed("call-2", Stage.FIRST_AUDIO, 0.5)
    traces.moved("call-2", Transition("book", "", "date", "start"))
    traces.function_done("call-2", "book", "done", 0.0)
    traces.response_done("call-2", ResponseDone("r", ResponseStatus.COMPLETED))
    traces.broke("call-2")
    end(traces, call_id="call-2")
    assert exporter.get_finished_spans() == ()


def test_telephone_number_as_an_id_is_hidden(traces, exporter):
    traces.began("+491701234567", GAUGE)
    end(traces, call_id="+491701234567")
    assert "1701234567" not in exporter.get_finished_spans()[0].to_json()


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_missing_extra_is_told_when_traces_are_asked_for(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"fastagent\[otel\]"):
        open_traces("http://127.0.0.1:1/v1/traces")
    with pytest.raises(ConfigurationError, match=r"fastagent\[otel\]"):
        Observability(Settings(traces_url="http://127.0.0.1:1/v1/traces"))
    assert Observability(Settings()).traces is None
