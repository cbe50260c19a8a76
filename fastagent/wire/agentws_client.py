"""Our own client protocol, the client's side, sans I/O: messages to write and typed events to read."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from fastagent.errors import MalformedMessageError
from fastagent.wire.agentws_words import ClientMessage, ServerMessage
from fastagent.wire.json_message import Json, dump_json, parse_object

__all__ = [
    "AudioResponse",
    "CallerSpeech",
    "ClientEvent",
    "ErrorNotice",
    "Interruption",
    "Metadata",
    "SessionEnded",
    "SessionStarted",
    "StateTransition",
    "Transcript",
    "UnknownMessage",
    "read_server_message",
    "write_client_message",
]

PEER = "server"


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The session runs; ``is_resumed`` when another socket had begun it."""

    session_id: str
    initial_state: str
    media: str
    is_resumed: bool = False


@dataclass(frozen=True, slots=True)
class AudioResponse:
    """Audio of the bot, to be played behind what came before; the last of a playback holds none."""

    data: bytes = field(repr=False)
    format: str
    playback_id: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class StateTransition:
    """A finite state agent moved; ``from_state`` is None when its task begins."""

    task: str
    from_state: str | None
    to_state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """Words; those that are not final are the utterance so far."""

    role: Literal["caller", "agent"]
    text: str = field(repr=False)
    is_final: bool


@dataclass(frozen=True, slots=True)
class CallerSpeech:
    """Where the caller's utterance stands."""

    phase: Literal["started", "stopped", "committed"]


@dataclass(frozen=True, slots=True)
class Interruption:
    """Drop all bot audio that was not played."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Data of the agent for the application."""

    value: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over; the server closes the socket."""

    reason: str
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class ErrorNotice:
    """Something went wrong; the session goes on unless `SessionEnded` or the end of the socket follows."""

    code: str
    message: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A message of a newer server."""

    kind: str


ClientEvent = (
    SessionStarted
    | AudioResponse
    | StateTransition
    | Transcript
    | CallerSpeech
    | Interruption
    | Metadata
    | SessionEnded
    | ErrorNotice
    | UnknownMessage
)


def write_client_message(
    kind: ClientMessage, payload: Mapping[str, Any], session_id: str | None = None, *, now: datetime
) -> bytes:
    """One message, its members in the usual order."""
    timestamp = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return dump_json(
        {"type": kind.value, "session_id": session_id, "timestamp": timestamp, "payload": dict(payload)}
    )


def read_server_message(message: bytes) -> ClientEvent:
    """The event that a message is.

    Raises:
        MalformedMessageError: not one JSON object, or a field that is missing or of the wrong type.
    """
    parsed = parse_object(PEER, message)
    kind = _field(parsed, "type", str)
    payload = _field(parsed, "payload", dict)
    match kind:
        case ServerMessage.AUDIO_RESPONSE:
            return AudioResponse(
                _audio(payload),
                _field(payload, "format", str),
                _field(payload, "playback_id", str),
                _field(payload, "final", bool),
            )
        case ServerMessage.SESSION_STARTED:
            return SessionStarted(
                _field(payload, "session_id", str),
                _field(payload, "initial_state", str),
                _field(payload, "media", str),
                _field(payload, "resumed", bool),
            )
        case ServerMessage.STATE_TRANSITION:
            from_state = payload.get("from_state")
            return StateTransition(
                _field(payload, "task", str),
                None if from_state is None else _field(payload, "from_state", str),
                _field(payload, "to_state", str),
                _field(payload, "reason", str),
            )
        case ServerMessage.TRANSCRIPT:
            role = _one_of(payload, "role", ("caller", "agent"))
            return Transcript(role, _field(payload, "text", str), _field(payload, "final", bool))
        case ServerMessage.CALLER_SPEECH:
            return CallerSpeech(_one_of(payload, "phase", ("started", "stopped", "committed")))
        case ServerMessage.INTERRUPTION:
            return Interruption()
        case ServerMessage.METADATA:
            return Metadata(_field(payload, "value", dict))
        case ServerMessage.SESSION_ENDED:
            duration_s = payload.get("duration_seconds")
            if isinstance(duration_s, bool) or not isinstance(duration_s, int | float):
                raise MalformedMessageError(PEER, "expected a number", field="duration_seconds")
            return SessionEnded(_field(payload, "reason", str), float(duration_s))
        case ServerMessage.ERROR:
            return ErrorNotice(
                _field(payload, "code", str),
                _field(payload, "message", str),
                _field(payload, "details", dict),
            )
        case _:
            return UnknownMessage(kind)


def _field(message: Json, key: str, kind: type[Any]) -> Any:
    value = message.get(key)
    if not isinstance(value, kind):
        raise MalformedMessageError(PEER, f"expected {kind.__name__}", field=key)
    return value


def _one_of(message: Json, key: str, allowed: tuple[str, ...]) -> Any:
    value = message.get(key)
    if value not in allowed:
        raise MalformedMessageError(PEER, f"expected one of {', '.join(allowed)}", field=key)
    return value


def _audio(payload: Json) -> bytes:
    try:
        return base64.b64decode(_field(payload, "data", str), validate=True)
    except ValueError:
        raise MalformedMessageError(PEER, "expected base64", field="data") from None
