"""Traces: a span per call, and in it one per turn, tool and state, by OpenTelemetry (the extra ``otel``).

::

    call ─┬─ turn      from the end of the caller's turn to that of the answer; an event marks its first audio
          ├─ tool      a function that the model called, with what became of it
          └─ state     from a machine's entering a state to its leaving it

Attributes are names that agents gave, closed sets and numbers. No words of callers, nor of the model, are in
them, and the conversation's id is redacted like a log's. Spans are exported by a thread of the SDK's.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastagent import __version__
from fastagent.agent import Transition
from fastagent.call import CallGauge, CallMeter, CallSummary, Stage
from fastagent.errors import ConfigurationError
from fastagent.server.watch.figures import fault_of
from fastagent.server.watch.redaction import Redactor
from fastagent.wire.realtime_events import ResponseDone

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

__all__ = ["CallTraces", "open_traces"]

NEEDS_EXTRA = "FASTAGENT_TRACES_URL needs the extra otel: pip install 'fastagent[otel]'"
EXPORT_TIMEOUT_S = 5.0
SPANS_PER_CALL_MAX = 1000
"""Further ones are left out and counted in the call's span."""


class _Call:
    """The open spans of one call."""

    __slots__ = ("left_out", "span", "spans", "states", "turn")

    def __init__(self, span: "Span") -> None:
        self.span = span
        self.turn: Span | None = None
        self.states: dict[str, Span] = {}
        """By task."""
        self.spans = 0
        self.left_out = 0


class CallTraces(CallMeter):
    """Makes spans of what calls tell.

    Args:
        provider: of the SDK; its owner closes it.
    """

    def __init__(self, provider: "TracerProvider", redactor: Redactor | None = None) -> None:
        api = import_module("opentelemetry.trace")
        self._provider = provider
        self._redactor = redactor or Redactor()
        self._tracer: Tracer = provider.get_tracer("fastagent", __version__)
        self._within: Callable[[Span], Any] = api.set_span_in_context
        self._failed = api.Status(api.StatusCode.ERROR)
        self._calls: dict[str, _Call] = {}

    def close(self) -> None:
        """Export what is left; waits for the collector, so not on the loop."""
        self._provider.force_flush(round(1000 * EXPORT_TIMEOUT_S))
        self._provider.shutdown()

    def caller_said(self, conversation_id: str, text: str) -> None:
        """Words are not traced."""

    def bot_said(self, conversation_id: str, text: str) -> None:
        """Words are not traced."""

    def began(self, conversation_id: str, gauge: CallGauge) -> None:
        """Open the call's span."""
        attributes = {
            "fastagent.call_id": self._redactor.call_id(conversation_id),
            "fastagent.agent": gauge.agent_id,
            "fastagent.carrier": gauge.carrier,
        }
        # A call is a trace of its own, whatever runs around it.
        span = self._tracer.start_span("call", context={}, attributes=attributes)  # type: ignore[arg-type]
        self._calls[conversation_id] = _Call(span)

    def timed(self, conversation_id: str, stage: Stage, seconds: float) -> None:
        """A turn's span begins where the caller stopped; other stages are events of the call."""
        call = self._calls.get(conversation_id)
        if call is None:
            return
        if stage is Stage.FIRST_AUDIO:
            self._end_turn(call)
            call.turn = self._open(call, "turn", seconds, {"fastagent.first_audio_s": seconds})
            if call.turn is not None:
                call.turn.add_event("first audio")
        elif call.spans < SPANS_PER_CALL_MAX:
            call.spans += 1
            call.span.add_event(stage.value, {"fastagent.seconds": seconds})

    def response_done(self, conversation_id: str, event: ResponseDone) -> None:
        """A turn ends with the model's answer."""
        call = self._calls.get(conversation_id)
        if call is None or call.turn is None:
            return
        call.turn.set_attribute("fastagent.response_status", event.status.value)
        if event.usage is not None:
            call.turn.set_attribute("fastagent.tokens_in", event.usage.input_text + event.usage.input_audio)
            call.turn.set_attribute("fastagent.tokens_cached", event.usage.input_cached)
            call.turn.set_attribute(
                "fastagent.tokens_out", event.usage.output_text + event.usage.output_audio
            )
        self._end_turn(call)

    def function_done(self, conversation_id: str, name: str, status: str, seconds: float) -> None:
        """A tool's span, made when it is over."""
        call = self._calls.get(conversation_id)
        if call is None:
            return
        attributes = {"fastagent.tool": name or "not offered", "fastagent.status": status}
        span = self._open(call, "tool", seconds, attributes)
        if span is not None:
            if status in ("failed", "error", "unknown"):
                span.set_status(self._failed)
            span.end()

    def moved(self, conversation_id: str, transition: Transition) -> None:
        """A state's span ends, another's begins."""
        call = self._calls.get(conversation_id)
        if call is None:
            return
        left = call.states.pop(transition.task, None)
        if left is not None:
            left.set_attribute("fastagent.next_state", transition.to_state)
            left.end()
        attributes = {"fastagent.task": transition.task, "fastagent.state": transition.to_state}
        entered = self._open(call, "state", 0.0, attributes)
        if entered is not None:
            call.states[transition.task] = entered

    def ended(self, summary: CallSummary) -> None:
        """Close the call's span and all in it."""
        call = self._calls.pop(summary.conversation_id, None)
        if call is not None:
            fault = fault_of(summary.outcome, summary.counters)
            self._close(call, summary.outcome, fault)

    def broke(self, conversation_id: str) -> None:
        """Close them as failed."""
        call = self._calls.pop(conversation_id, None)
        if call is not None:
            self._close(call, "error", "ours")

    def _open(self, call: _Call, name: str, seconds: float, attributes: dict[str, Any]) -> "Span | None":
        """A span within the call's that began so long ago."""
        if call.spans >= SPANS_PER_CALL_MAX:
            call.left_out += 1
            return None
        call.spans += 1
        return self._tracer.start_span(
            name,
            context=self._within(call.span),
            attributes=attributes,
            start_time=time.time_ns() - round(1e9 * seconds),
        )

    def _end_turn(self, call: _Call) -> None:
        turn, call.turn = call.turn, None
        if turn is not None:
            turn.end()

    def _close(self, call: _Call, outcome: str, fault: str) -> None:
        self._end_turn(call)
        for span in call.states.values():
            span.end()
        call.span.set_attribute("fastagent.outcome", outcome)
        call.span.set_attribute("fastagent.fault", fault)
        if call.left_out:
            call.span.set_attribute("fastagent.spans_left_out", call.left_out)
        if fault in ("ours", "model", "carrier", "tool"):
            call.span.set_status(self._failed)
        call.span.end()


def open_traces(url: str, redactor: Redactor | None = None) -> CallTraces:
    """Traces that are sent to a collector by OTLP over HTTP.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    try:
        resources = import_module("opentelemetry.sdk.resources")
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        raise ConfigurationError(NEEDS_EXTRA) from None
    resource = resources.Resource.create({"service.name": "fastagent", "service.version": __version__})
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = otlp.OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return CallTraces(provider, redactor)
