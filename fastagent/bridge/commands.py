"""What the brain asks of the call besides carrier and model commands."""

from dataclasses import dataclass, field

from fastagent.wire.events import Callee, CarrierCommand
from fastagent.wire.realtime_events import ModelCommand

__all__ = [
    "NOT_SUPPORTED",
    "BotSaid",
    "CalleeKnown",
    "CallerPressed",
    "CallerSaid",
    "Command",
    "EndCall",
    "HearCaller",
    "NoteInterruption",
    "ReplaceModel",
    "RunFunction",
    "TransferEnded",
]

NOT_SUPPORTED = "not-supported"
"""The word for a transfer that the carrier cannot do; as carriers' own words are written."""


@dataclass(frozen=True, slots=True)
class RunFunction:
    """Have the agent run a function; its answer comes back by `Bridge.function_returned`."""

    call_id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallerSaid:
    """A finished utterance of the caller, for the agent and the transcript."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BotSaid:
    """A finished utterance of the bot, cut to what was heard where that is known."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallerPressed:
    """Keypad digits, for the agent."""

    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CalleeKnown:
    """Who took a call that we made, for the agent."""

    callee: Callee


@dataclass(frozen=True, slots=True)
class NoteInterruption:
    """The caller cut the bot off; ``heard_ms`` of the item were heard."""

    item_id: str
    heard_ms: int


@dataclass(frozen=True, slots=True)
class HearCaller:
    """Whether the model hears the caller from now on; what it does not hear is not kept."""

    is_heard: bool


@dataclass(frozen=True, slots=True)
class ReplaceModel:
    """Open another model session and switch over: this one is near its limit."""


@dataclass(frozen=True, slots=True)
class EndCall:
    """The call is over; close what is open."""

    outcome: str
    """One of ``caller``, ``bot``, ``transferred``, ``carrier_lost``, ``model_lost``, ``limit``, ``error``,
    ``machine``, ``not_answered``, ``other``."""


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """It is known what became of a transfer. Unless the agent sees to one that failed, the model is to be
    told (`Bridge.transfer_untold`)."""

    is_answered: bool
    code: str = ""
    """The carrier's word for it."""


CallCommand = (
    RunFunction
    | CallerSaid
    | BotSaid
    | CallerPressed
    | CalleeKnown
    | NoteInterruption
    | HearCaller
    | ReplaceModel
    | TransferEnded
    | EndCall
)
Command = CarrierCommand | ModelCommand | CallCommand
