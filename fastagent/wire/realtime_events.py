"""Neutral words of a speech-to-speech model: what it tells us (events) and what we ask of it (commands).

Named after the OpenAI Realtime protocol, which coined them; `openai_realtime` translates the wire.
Audio deltas are not among them: they never leave the native path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from fastagent.audio.formats import AudioFormat

__all__ = [
    "AppendAudio",
    "AudioDone",
    "BotTranscript",
    "CallerTranscript",
    "CancelResponse",
    "ClearInput",
    "CommitInput",
    "CreateItem",
    "CreateResponse",
    "DeleteItem",
    "FunctionCall",
    "InputCleared",
    "InputCommitted",
    "InputTimeout",
    "Item",
    "ItemAdded",
    "ItemDeleted",
    "ItemDone",
    "ItemTruncated",
    "ModelCommand",
    "ModelError",
    "ModelEvent",
    "ModelNotice",
    "RateLimits",
    "ResponseCreated",
    "ResponseDone",
    "ResponseStatus",
    "SessionCreated",
    "SessionSettings",
    "SessionUpdated",
    "Severity",
    "SpeechStarted",
    "SpeechStopped",
    "TruncateItem",
    "TurnDetection",
    "UpdateSession",
    "Usage",
]


class Severity(Enum):
    """What an error of the model means for the call."""

    BENIGN = "benign"
    """A race we lost or a cleanup nobody needed: count it, go on."""
    FAULT = "fault"
    """Something we sent was refused: count and log it, go on."""
    RETRYABLE = "retryable"
    """Try again, after a pause."""
    EXPIRED = "expired"
    """The session is over; a new socket is needed."""
    FATAL = "fatal"
    """No retry can help: key, quota, account."""


class ResponseStatus(Enum):
    """How a response ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


# Events: model -> us


@dataclass(frozen=True, slots=True)
class SessionCreated:
    """The session is open. Nothing may be sent before it."""

    session_id: str
    expires_at_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """Our settings are in force."""

    expires_at_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The model's VAD hears the caller. ``audio_start_ms`` counts audio appended in this session."""

    item_id: str
    audio_start_ms: int = 0


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller's utterance ended."""

    item_id: str
    audio_end_ms: int = 0


@dataclass(frozen=True, slots=True)
class InputCommitted:
    """The caller's audio became an item of the conversation."""

    item_id: str


@dataclass(frozen=True, slots=True)
class InputCleared:
    """The input buffer is empty."""


@dataclass(frozen=True, slots=True)
class InputTimeout:
    """The caller said nothing for the configured time."""

    item_id: str


@dataclass(frozen=True, slots=True)
class CallerTranscript:
    """What the caller said. ``text`` is a piece when not final, the whole utterance when final."""

    item_id: str
    text: str = field(repr=False)
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class ResponseCreated:
    """A response began. Out-of-band responses belong to no conversation and are not played."""

    response_id: str
    is_out_of_band: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemAdded:
    """An item joined the conversation (a model's message is still empty)."""

    item_id: str
    kind: str
    """``message``, ``function_call``, ``function_call_output`` and so on."""
    role: str | None = None


@dataclass(frozen=True, slots=True)
class ItemDone:
    """An item is complete. ``text`` is its transcript or text, if any."""

    item_id: str
    kind: str
    role: str | None = None
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AudioDone:
    """No more audio comes for this item."""

    response_id: str
    item_id: str


@dataclass(frozen=True, slots=True)
class BotTranscript:
    """What the model says. ``text`` is a piece when not final, the whole item when final."""

    response_id: str
    item_id: str
    text: str = field(repr=False)
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The model wants a function run. Emitted once per ``call_id``, however often the wire repeats it."""

    call_id: str
    name: str
    arguments: str = field(repr=False)
    """JSON text as the model wrote it; not yet validated."""
    response_id: str = ""
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one response; cached ones are included in the input figures."""

    input_text: int = 0
    input_audio: int = 0
    input_cached: int = 0
    output_text: int = 0
    output_audio: int = 0
    cached_audio: int = 0
    """Those of the cached ones that are audio, where the model tells."""


@dataclass(frozen=True, slots=True)
class ResponseDone:
    """A response ended. ``function_calls`` are those it holds, complete ones only."""

    response_id: str
    status: ResponseStatus
    reason: str = ""
    error_code: str = ""
    function_calls: tuple[FunctionCall, ...] = ()
    usage: Usage | None = None
    severity: Severity | None = None
    """For a failed response, what the failure means."""


@dataclass(frozen=True, slots=True)
class ItemTruncated:
    """The model shortened an item to what was heard."""

    item_id: str
    audio_end_ms: int


@dataclass(frozen=True, slots=True)
class ItemDeleted:
    """The model forgot an item."""

    item_id: str


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What is left of the account's budget, by the model's name for each limit."""

    remaining: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelError:
    """The model refused something or failed."""

    severity: Severity
    code: str
    message: str
    event_id: str | None = None
    """The id of our own event that caused it, when known."""


@dataclass(frozen=True, slots=True)
class ModelNotice:
    """Any other event, known or not, thin or whole: counted by name, never fatal."""

    name: str


ModelEvent = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | InputCommitted
    | InputCleared
    | InputTimeout
    | CallerTranscript
    | ResponseCreated
    | ItemAdded
    | ItemDone
    | AudioDone
    | BotTranscript
    | FunctionCall
    | ResponseDone
    | ItemTruncated
    | ItemDeleted
    | RateLimits
    | ModelError
    | ModelNotice
)


# Commands: us -> model


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """Who decides that the caller's turn is over."""

    kind: Literal["server_vad", "semantic_vad", "none"] = "server_vad"
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    idle_timeout_ms: int | None = None
    create_response: bool = True
    interrupt_response: bool = True


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """A whole session configuration; the codec writes it in the connection's dialect."""

    input_format: AudioFormat
    output_format: AudioFormat
    instructions: str = field(default="", repr=False)
    tools: tuple[Mapping[str, Any], ...] = ()
    """Function tools in the protocol's flat form: type, name, description, parameters."""
    tool_choice: str = "auto"
    voice: str | None = None
    speed: float | None = None
    modalities: tuple[str, ...] = ("audio",)
    transcription_model: str | None = None
    transcription_language: str | None = None
    transcription_prompt: str | None = None
    noise_reduction: Literal["near_field", "far_field"] | None = None
    turn_detection: TurnDetection = TurnDetection()
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class UpdateSession:
    """Put settings in force."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class Item:
    """Something put into the conversation by us.

    ``kind`` says what: ``message`` (role and text), ``function_call`` (call_id, name, arguments) or
    ``function_call_output`` (call_id and text).
    """

    kind: Literal["message", "function_call", "function_call_output"]
    text: str = field(default="", repr=False)
    role: Literal["system", "user", "assistant"] | None = None
    call_id: str = ""
    name: str = ""
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class CreateItem:
    """Add an item at the end of the conversation."""

    item: Item


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """Have the model speak. One at a time: the bridge queues, the wire does not."""

    instructions: str | None = field(default=None, repr=False)
    tool_choice: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_out_of_band: bool = False
    modalities: tuple[str, ...] | None = None
    input_items: Sequence[Item] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """Stop the running response."""

    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class TruncateItem:
    """Tell the model how much of an item was heard."""

    item_id: str
    audio_end_ms: int
    content_index: int = 0


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """Have the model forget an item."""

    item_id: str


@dataclass(frozen=True, slots=True)
class AppendAudio:
    """Caller audio outside the native path, in the session's input format."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CommitInput:
    """End the caller's turn by hand."""


@dataclass(frozen=True, slots=True)
class ClearInput:
    """Forget uncommitted caller audio."""


ModelCommand = (
    UpdateSession
    | CreateItem
    | CreateResponse
    | CancelResponse
    | TruncateItem
    | DeleteItem
    | AppendAudio
    | CommitInput
    | ClearInput
)
