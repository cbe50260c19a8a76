"""Who hears what happens in a call, and what is left of one."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fastagent._native.level import LevelFigures
from fastagent.agent import Transition
from fastagent.stats import Counters, TimeClasses

__all__ = ["CallObserver", "CallSummary", "Observers"]

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


class Observers:
    """All who hear one call; one that fails disturbs neither the call nor the others.

    Args:
        counters: where failures are counted.
    """

    def __init__(self, observers: Sequence[CallObserver], call_id: str, counters: Counters) -> None:
        self._observers = observers
        self._call_id = call_id
        self._counters = counters

    def tell(self, what: Literal["caller_said", "bot_said", "moved", "ended"], *details: Any) -> None:
        """Call the method of this name on each."""
        for observer in self._observers:
            try:
                getattr(observer, what)(*details)
            except Exception:
                self._counters.note("observers_failed")
                logger.exception("call %s: an observer failed", self._call_id)
