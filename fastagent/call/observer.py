"""Who hears what happens in a call, and what is left of one."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Protocol

from fastagent._native.level import LevelFigures
from fastagent.agent import Transition
from fastagent.call.gauge import CallGauge
from fastagent.stats import Counters, TimeClasses
from fastagent.wire.realtime_events import ResponseDone

__all__ = ["CallMeter", "CallObserver", "CallSummary", "Observers", "Stage"]

logger = logging.getLogger("fastagent.call")


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What is left of a call."""

    conversation_id: str
    outcome: str
    duration_s: float
    media: str
    is_passthrough: bool
    transitions: tuple[Transition, ...]
    results: tuple[Mapping[str, Any], ...] = field(repr=False)
    counters: Mapping[str, int] = field(repr=False)
    frame_times: TimeClasses = field(repr=False)
    """How long each frame of either leg took inside the bridge."""
    caller_level: LevelFigures = field(repr=False)
    bot_level: LevelFigures = field(repr=False)
    carrier: str = "other"
    """Who brought the call."""


class Stage(Enum):
    """A stretch of a call that is timed by event. What each frame takes is in the `CallGauge`."""

    MODEL_APPEND = "model_append"
    """From the caller's audio having nowhere to go (the call begins, a session is lost) to its first
    append."""
    FIRST_AUDIO = "first_audio"
    """From the end of the caller's turn, as we learn of it, to the first audio of the answer."""
    CUT_THROUGH = "cut_through"
    """From the event that has the caller take the floor to the carrier's being told, the last frame sent."""


class CallObserver(Protocol):
    """Hears what happens in a call; must return at once."""

    def caller_said(self, conversation_id: str, text: str) -> None:
        """A finished utterance of the caller."""

    def bot_said(self, conversation_id: str, text: str) -> None:
        """A finished utterance of the bot."""

    def moved(self, conversation_id: str, transition: Transition) -> None:
        """A state machine changed its state."""

    def ended(self, summary: CallSummary) -> None:
        """The call is over."""


class CallMeter(CallObserver, Protocol):
    """Hears what is to be counted, too; never a caller's or a model's words."""

    def began(self, conversation_id: str, gauge: CallGauge) -> None:
        """A call begins; ``gauge`` may be read until `ended` or `broke`, and in it."""

    def timed(self, conversation_id: str, stage: Stage, seconds: float) -> None:
        """A stage is over."""

    def response_done(self, conversation_id: str, event: ResponseDone) -> None:
        """The model ended a response."""

    def function_done(self, conversation_id: str, name: str, status: str, seconds: float) -> None:
        """A function has an outcome. Its ``name`` is that of an offered one or empty."""

    def broke(self, conversation_id: str) -> None:
        """The call is over by a fault of ours; `ended` will not come."""


_What = Literal[
    "caller_said", "bot_said", "moved", "ended", "began", "timed", "response_done", "function_done", "broke"
]


class Observers:
    """All who hear one call; one that fails disturbs neither the call nor the others.

    Args:
        counters: where failures are counted.
    """

    def __init__(self, observers: Sequence[CallObserver], call_id: str, counters: Counters) -> None:
        self._observers = observers
        self._call_id = call_id
        self._counters = counters

    def tell(self, what: _What, *details: Any) -> None:
        """Call the method of this name on each; a plain `CallObserver` has no ears for a meter's events."""
        for observer in self._observers:
            try:
                hear = getattr(observer, what, None)
                if hear is not None:
                    hear(*details)
            except Exception:
                self._counters.note("observers_failed")
                logger.exception("call %s: an observer failed", self._call_id)
