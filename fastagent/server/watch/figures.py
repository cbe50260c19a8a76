"""What the server counts: plain numbers, written as calls go by and read by whoever shows them.

Nothing here grows with what callers, carriers or models say: every key is from a closed set.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import add
from typing import NamedTuple

from fastagent.agent import Transition
from fastagent.call import CallGauge, CallMeter, CallSummary, Stage
from fastagent.call.gauge import DROP_CAUSES
from fastagent.call.stages import FUNCTION_STATUSES
from fastagent.server.watch.costs import OTHER_MODEL, Prices, TokenCount
from fastagent.stats import Histogram, RecentTimes
from fastagent.wire.realtime_events import ResponseDone

__all__ = ["CARRIERS", "FAULTS", "OUTCOMES", "CallFigures", "ServerFigures", "fault_of"]

logger = logging.getLogger("fastagent.costs")

CARRIERS = ("audiocodes", "twilio", "agent_ws", "other")
OUTCOMES = (
    "caller",
    "bot",
    "transferred",
    "taken_over",
    "machine",
    "not_answered",
    "limit",
    "drained",
    "carrier_lost",
    "model_lost",
    "error",
    "other",
)
FAULTS = ("ours", "model", "carrier", "caller", "tool", "none")
_FAULT_OF_OUTCOME = {
    "carrier_lost": "carrier",
    "error": "carrier",  # the carrier says that the call failed; what breaks here never comes to an outcome
    "machine": "caller",
    "not_answered": "caller",
    "model_lost": "model",
}

SESSION_BUCKETS_S = (10.0, 30.0, 60.0, 120.0, 300.0)
LATENCY_BUCKETS_MS = (50.0, 100.0, 200.0, 500.0)
RESPONSE_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
STAGE_CLASSES = tuple(range(12, 34, 2))
STAGE_BUCKETS_S = tuple(2.0**k / 1e9 for k in STAGE_CLASSES)
"""4 µs to 4.3 s: every second of the classes that the native listener counts in."""
AGE_BUCKETS_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
STALL_BUCKETS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TOKEN_BUCKETS = (100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
DOLLAR_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FUNCTION_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

NATIVE_STAGES = ("ingress", "egress")
TOKEN_GROUPS = ("audio", "text", "cached")
"""How tokens of one call are told apart; cached ones are in neither of the others."""


def fault_of(outcome: str, counters: Mapping[str, int]) -> str:
    """Whose fault it is that a call ended so, or that it did not do its work; one of `FAULTS`."""
    fault = _FAULT_OF_OUTCOME.get(outcome)
    if fault is not None:
        return fault
    return "tool" if counters.get("functions_failed") else "none"


class CallFigures(NamedTuple):
    """A running call as it is watched."""

    carrier: str
    """One of `CARRIERS`."""
    latency_ms: float | None
    """From the end of the caller's last turn to the first audio of its answer."""
    drops: int
    """Audio messages, items and findings dropped, as of the last look."""
    dollars: float | None
    """What it cost so far; None for a model without a price."""


class _Live:
    """What is added up for one running call."""

    __slots__ = ("dollars", "drops", "gauge", "latency_ms", "tokens")

    def __init__(self, gauge: CallGauge) -> None:
        self.gauge = gauge
        self.tokens = TokenCount()
        self.dollars = 0.0
        self.drops = 0
        self.latency_ms: float | None = None


class ServerFigures(CallMeter):
    """Counts what happens in all calls of a process.

    Args:
        model: the label of the model that the calls talk to.
        prices: its prices; None counts tokens and no money.
    """

    def __init__(self, model: str = OTHER_MODEL, prices: Prices | None = None) -> None:
        self.model = model
        self.prices = prices
        self.calls: Counter[tuple[str, str, str]] = Counter()
        """By carrier, outcome and fault."""
        self.session_s = Histogram(SESSION_BUCKETS_S)
        self.latency_ms = Histogram(LATENCY_BUCKETS_MS)
        self.response_s = Histogram(RESPONSE_BUCKETS_S)
        self.recent = RecentTimes()
        self.stages = {
            name: Histogram(STAGE_BUCKETS_S) for name in (*NATIVE_STAGES, *(stage.value for stage in Stage))
        }
        self.audio_age_s = {side: Histogram(AGE_BUCKETS_S) for side in ("caller", "bot")}
        self.drops = [0] * len(DROP_CAUSES)
        self.tokens = TokenCount()
        self.dollars = 0.0
        self.call_tokens = {group: Histogram(TOKEN_BUCKETS) for group in TOKEN_GROUPS}
        self.call_dollars = Histogram(DOLLAR_BUCKETS)
        self.responses: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        self.function_s = Histogram(FUNCTION_BUCKETS_S)
        self.state_moves = 0
        self.loop_lag_s = Histogram(LAG_BUCKETS_S)
        self.stall_s = Histogram(STALL_BUCKETS_S)
        self._live: dict[str, _Live] = {}

    # What calls tell

    def caller_said(self, conversation_id: str, text: str) -> None:
        """Words are not counted."""

    def bot_said(self, conversation_id: str, text: str) -> None:
        """Words are not counted."""

    def moved(self, conversation_id: str, transition: Transition) -> None:
        """States are the agents' own names: only how many moves there were is told."""
        self.state_moves += 1

    def began(self, conversation_id: str, gauge: CallGauge) -> None:
        """Look at the call from now on."""
        self._live[conversation_id] = _Live(gauge)

    def timed(self, conversation_id: str, stage: Stage, seconds: float) -> None:
        """Count a stage."""
        self.stages[stage.value].note(seconds)
        if stage is Stage.FIRST_AUDIO:
            self.response_s.note(seconds)
            self.latency_ms.note(1000 * seconds)
            self.recent.note(seconds)
            live = self._live.get(conversation_id)
            if live is not None:
                live.latency_ms = 1000 * seconds

    def response_done(self, conversation_id: str, event: ResponseDone) -> None:
        """Count a response and what it cost."""
        self.responses[event.status.value] += 1
        if event.usage is None:
            return
        tokens = TokenCount.of(event.usage)
        dollars = 0.0 if self.prices is None else self.prices.dollars(tokens)
        self.tokens = TokenCount(*map(add, self.tokens, tokens))
        self.dollars += dollars
        live = self._live.get(conversation_id)
        if live is not None:
            live.tokens = TokenCount(*map(add, live.tokens, tokens))
            live.dollars += dollars

    def function_done(self, conversation_id: str, name: str, status: str, seconds: float) -> None:
        """Count a function by what became of it; names are the agents' own."""
        self.functions[status if status in FUNCTION_STATUSES else "other"] += 1
        self.function_s.note(seconds)

    def ended(self, summary: CallSummary) -> None:
        """Count a call by how it ended."""
        outcome = summary.outcome if summary.outcome in OUTCOMES else "other"
        self._leave(summary.conversation_id)
        self.session_s.note(summary.duration_s)
        self._count_call(summary.carrier, outcome, fault_of(outcome, summary.counters))

    def broke(self, conversation_id: str) -> None:
        """Count a call that we broke."""
        live = self._leave(conversation_id)
        self._count_call(live.gauge.carrier if live else "other", "error", "ours")

    def _count_call(self, carrier: str, outcome: str, fault: str) -> None:
        self.calls[carrier if carrier in CARRIERS else "other", outcome, fault] += 1

    def _leave(self, conversation_id: str) -> _Live | None:
        live = self._live.pop(conversation_id, None)
        if live is None:
            return None
        self._read(live, time.monotonic())
        tokens = live.tokens
        if sum(tokens):
            logger.info(
                "call %s: tokens used",
                conversation_id,
                extra={"tokens": tokens._asdict(), "cost_dollars": round(live.dollars, 6)},
            )
            self.call_tokens["audio"].note(tokens.audio_in + tokens.audio_out)
            self.call_tokens["text"].note(tokens.text_in + tokens.text_out)
            self.call_tokens["cached"].note(tokens.audio_cached + tokens.text_cached)
            if self.prices is not None:
                self.call_dollars.note(live.dollars)
        return live

    # What is looked at

    @property
    def live_calls(self) -> list[str]:
        """The ids of the calls that can be read."""
        return list(self._live)

    def money_of(self, conversation_id: str) -> tuple[TokenCount, float]:
        """A running call's tokens and dollars so far."""
        live = self._live.get(conversation_id)
        return (TokenCount(), 0.0) if live is None else (live.tokens, live.dollars)

    def read_call(self, conversation_id: str, now: float) -> None:
        """Take over what a running call's kernels counted since the last look."""
        live = self._live.get(conversation_id)
        if live is not None:
            self._read(live, now)

    def call(self, conversation_id: str) -> CallFigures:
        """A running call's figures; those of nothing where it is not known."""
        live = self._live.get(conversation_id)
        if live is None:
            return CallFigures("other", None, 0, None)
        carrier = live.gauge.carrier if live.gauge.carrier in CARRIERS else "other"
        dollars = None if self.prices is None else live.dollars
        return CallFigures(carrier, live.latency_ms, live.drops, dollars)

    def _read(self, live: _Live, now: float) -> None:
        reading = live.gauge.read(now)
        live.drops += sum(reading.drops)
        self.drops = list(map(add, self.drops, reading.drops))
        _add_classes(self.stages["ingress"], reading.ingress)
        _add_classes(self.stages["egress"], reading.egress)
        if reading.caller_age_s is not None:
            self.audio_age_s["caller"].note(reading.caller_age_s)
        if reading.bot_age_s is not None:
            self.audio_age_s["bot"].note(reading.bot_age_s)


def _add_classes(histogram: Histogram, classes: Sequence[int]) -> None:
    """Add counts by powers of two, which end where the histogram's classes end; middles stand for the sum."""
    for k, count in enumerate(classes):
        if count:
            # Class k is [2^k, 2^(k+1)) ns: its upper bound decides.
            place = min(max(0, -(-(k + 1 - STAGE_CLASSES[0]) // 2)), len(histogram.counts) - 1)
            histogram.counts[place] += count
            histogram.sum += count * 1.5 * 2.0**k / 1e9
