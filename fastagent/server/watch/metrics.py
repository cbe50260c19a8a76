"""``/metrics``: the families, rendered for Prometheus from plain numbers when they are asked for.

Every label's values are a closed set: nothing that a caller, a carrier or a model says makes another series.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fastagent import __version__
from fastagent.call.gauge import DROP_CAUSES
from fastagent.server.switchboard import Switchboard
from fastagent.server.watch.figures import ServerFigures
from fastagent.server.watch.process_figures import read_process
from fastagent.stats import Counters, Histogram
from fastagent.wire.realtime_events import ResponseStatus

__all__ = ["FAMILIES", "Family", "ServerMetrics"]

REFUSALS = (
    "http_unauthorized",
    "upgrades_unauthorized",
    "upgrades_without_room",
    "calls_refused",
    "sockets_without_session",
)
"""Counters of the server that tell of a door that stayed closed."""
TROUBLES = (
    "calls_failed",
    "carrier_malformed",
    "legs_not_reading",
    "legs_without_close",
    "legs_without_pong",
    "model_connects_failed",
    "model_malformed",
)
"""Counters of the server that tell of something that went wrong beside calls' own."""
TEXTS = (
    "chat_answers",
    "chat_failed",
    "chat_refused_busy",
    "chat_refused_call_only",
    "chat_refused_code",
    "chat_refused_limit",
    "chat_refused_line",
    "chat_refused_store",
    "chat_refused_tries",
    "chats_finished",
    "chats_proved",
    "sms_failed",
    "sms_sent",
    "sms_stopped",
    "twilio_messages",
    "twilio_messages_failed",
    "twilio_replies_late",
    "twilio_replies_limited",
    "twilio_stops",
)
"""Counters of the server that tell of text messages."""


@dataclass(frozen=True, slots=True)
class Family:
    """What is told under one name."""

    name: str
    kind: str
    """``gauge``, ``counter`` or ``histogram``; a counter's samples end in ``_total``."""
    help: str
    labels: tuple[str, ...] = ()


_ALL = (
    Family("fastagent_active_sessions", "gauge", "Calls that are not over."),
    Family("fastagent_session_duration_seconds", "histogram", "How long calls lasted."),
    Family(
        "fastagent_latency_milliseconds",
        "histogram",
        "From the end of a caller's turn to the first audio of the answer, in milliseconds.",
    ),
    Family(
        "fastagent_response_latency_seconds",
        "histogram",
        "From the end of a caller's turn to the first audio of the answer, in finer steps.",
    ),
    Family("fastagent_stage_seconds", "histogram", "How long the stages of a call take.", ("stage",)),
    Family(
        "fastagent_audio_age_seconds",
        "histogram",
        "How old audio is as it goes on: the caller's behind its clock, the bot's before it is sent.",
        ("side",),
    ),
    Family(
        "fastagent_loop_lag_seconds",
        "histogram",
        "How late the loop's timers are, ten times a second.",
    ),
    Family("fastagent_loop_stalls_seconds", "histogram", "How long code held the loop, beyond the limit."),
    Family("fastagent_loop_stalled_seconds", "gauge", "How long the event loop has been held now."),
    Family("fastagent_drops", "counter", "Audio messages, audio items and findings dropped.", ("cause",)),
    Family("fastagent_calls", "counter", "Calls that are over.", ("carrier", "outcome", "fault")),
    Family("fastagent_refusals", "counter", "Requests, sockets and calls that were turned away.", ("cause",)),
    Family("fastagent_troubles", "counter", "What went wrong with peers.", ("cause",)),
    Family("fastagent_texts", "counter", "Text messages, by what became of them.", ("what",)),
    Family("fastagent_responses", "counter", "Responses of the model.", ("status",)),
    Family("fastagent_functions", "counter", "Functions that the model called.", ("status",)),
    Family("fastagent_function_seconds", "histogram", "How long functions took."),
    Family("fastagent_state_moves", "counter", "Moves of state machines."),
    Family("fastagent_tokens", "counter", "Tokens of responses, each counted once.", ("model", "kind")),
    Family("fastagent_cost_dollars", "counter", "What they cost, by the price table.", ("model",)),
    Family("fastagent_call_tokens", "histogram", "Tokens of a call.", ("kind",)),
    Family("fastagent_call_cost_dollars", "histogram", "What a call cost, where the model's price is known."),
    Family("fastagent_memory_bytes", "gauge", "Resident memory of the process."),
    Family("fastagent_descriptors", "gauge", "Open file descriptors of the process."),
    Family("fastagent_threads", "gauge", "Python threads of the process."),
    Family("fastagent_tasks", "gauge", "Tasks of the event loop."),
    Family("fastagent_python_blocks", "gauge", "Pieces of memory that Python's allocator has handed out."),
    Family("fastagent_cpu_seconds", "counter", "Processor time of the process."),
    Family("fastagent_uptime_seconds", "gauge", "Since the server was made."),
    Family("fastagent_draining", "gauge", "1 while no more calls are taken."),
    Family("fastagent_build", "gauge", "Always 1; the version that runs.", ("version",)),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
"""Every family, by name."""


class ServerMetrics(Collector):
    """The metrics of one server, in a registry of their own.

    Args:
        counters: the server's own.
        uptime: gives the seconds since the server was made.
        stalled: gives how long the loop has stood still.
    """

    def __init__(
        self,
        figures: ServerFigures,
        switchboard: Switchboard,
        counters: Counters,
        *,
        uptime: Callable[[], float],
        stalled: Callable[[], float],
    ) -> None:
        self._figures = figures
        self._switchboard = switchboard
        self._counters = counters
        self._uptime = uptime
        self._stalled = stalled
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text to answer with, and its content type, by the request's ``Accept`` header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Nothing: families are known when they are collected."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        figures = self._figures
        yield _gauge("fastagent_active_sessions", self._switchboard.active_calls)
        yield _histograms("fastagent_session_duration_seconds", {(): figures.session_s})
        yield _histograms("fastagent_latency_milliseconds", {(): figures.latency_ms})
        yield _histograms("fastagent_response_latency_seconds", {(): figures.response_s})
        yield _histograms("fastagent_stage_seconds", _by_label(figures.stages))
        yield _histograms(
            "fastagent_audio_age_seconds", {(name,): one for name, one in figures.audio_age_s.items()}
        )
        yield _histograms("fastagent_loop_lag_seconds", {(): figures.loop_lag_s})
        yield _histograms("fastagent_loop_stalls_seconds", {(): figures.stall_s})
        yield _gauge("fastagent_loop_stalled_seconds", self._stalled())
        yield _counts(
            "fastagent_drops", {(cause,): n for cause, n in zip(DROP_CAUSES, figures.drops, strict=True)}
        )
        yield _counts("fastagent_calls", figures.calls)
        yield _counts("fastagent_refusals", {(name,): self._counters[name] for name in REFUSALS})
        yield _counts("fastagent_troubles", {(name,): self._counters[name] for name in TROUBLES})
        yield _counts("fastagent_texts", {(name,): self._counters[name] for name in TEXTS})
        statuses = [status.value for status in ResponseStatus]
        yield _counts("fastagent_responses", {(status,): figures.responses[status] for status in statuses})
        yield _counts("fastagent_functions", {(status,): n for status, n in figures.functions.items()})
        yield _histograms("fastagent_function_seconds", {(): figures.function_s})
        yield _counts("fastagent_state_moves", {(): figures.state_moves})
        yield _counts(
            "fastagent_tokens",
            {(figures.model, kind): n for kind, n in figures.tokens._asdict().items()},
        )
        yield _counts("fastagent_cost_dollars", {(figures.model,): figures.dollars})
        yield _histograms(
            "fastagent_call_tokens", {(kind,): one for kind, one in figures.call_tokens.items()}
        )
        yield _histograms("fastagent_call_cost_dollars", {(): figures.call_dollars})
        process = read_process()
        yield _gauge("fastagent_memory_bytes", process.memory_bytes)
        yield _gauge("fastagent_descriptors", process.descriptors)
        yield _gauge("fastagent_threads", process.threads)
        yield _gauge("fastagent_tasks", process.tasks)
        yield _gauge("fastagent_python_blocks", process.blocks)
        yield _counts("fastagent_cpu_seconds", {(): process.cpu_s})
        yield _gauge("fastagent_uptime_seconds", self._uptime())
        yield _gauge("fastagent_draining", float(self._switchboard.is_draining))
        yield _gauge("fastagent_build", 1.0, (__version__,))


def _gauge(name: str, value: float, labels: Sequence[str] = ()) -> Metric:
    family = FAMILIES[name]
    metric = GaugeMetricFamily(name, family.help, labels=family.labels)
    metric.add_metric(labels, value)
    return metric


def _counts(name: str, counts: Mapping[Any, float]) -> Metric:
    family = FAMILIES[name]
    metric = CounterMetricFamily(name, family.help, labels=family.labels)
    for labels, count in counts.items():
        metric.add_metric(labels, count)
    return metric


def _by_label(histograms: Mapping[str, Histogram]) -> Mapping[tuple[str, ...], Histogram]:
    return {(label,): histogram for label, histogram in histograms.items()}


def _histograms(name: str, histograms: Mapping[tuple[str, ...], Histogram]) -> Metric:
    family = FAMILIES[name]
    metric = HistogramMetricFamily(name, family.help, labels=family.labels)
    for labels, histogram in histograms.items():
        so_far = 0
        buckets = []
        bounds = (*map(repr, histogram.bounds), "+Inf")
        for bound, count in zip(bounds, histogram.counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        metric.add_metric(labels, buckets, histogram.sum)
    return metric
