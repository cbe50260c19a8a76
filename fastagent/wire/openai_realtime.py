"""OpenAI Realtime over WebSocket <-> the neutral words of `realtime_events`; one codec per socket, sans I/O.

Everything is one JSON object per text frame. Audio deltas are taken by the native path, which `audio_media`
tells what they look like; one that ends up here is only named. Nothing a server says is fatal: unknown events
are named, thin ones give what they hold, and only a message that is no event at all raises.
Source: the published ``RealtimeServerEvent*`` and ``RealtimeClientEvent*`` schemas; where servers differ,
the comment says how.
"""

import base64
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import orjson

from fastagent.errors import MalformedMessageError
from fastagent.wire.envelope import AudioTemplate, MediaEnvelope
from fastagent.wire.realtime_calls import FunctionCallCollector
from fastagent.wire.realtime_dialects import GA_NAMES, Dialect, item_object, response_object
from fastagent.wire.realtime_endpoint import dialect_for, upgrade_request
from fastagent.wire.realtime_errors import is_retryable_close, is_retryable_status, safe_message
from fastagent.wire.realtime_events import (
    AppendAudio,
    AudioDone,
    BotTranscript,
    CallerTranscript,
    CancelResponse,
    ClearInput,
    CommitInput,
    CreateItem,
    CreateResponse,
    DeleteItem,
    InputCleared,
    InputCommitted,
    InputTimeout,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemTruncated,
    ModelCommand,
    ModelError,
    ModelEvent,
    ModelNotice,
    RateLimits,
    ResponseCreated,
    ResponseDone,
    ResponseStatus,
    SessionCreated,
    SessionUpdated,
    Severity,
    SpeechStarted,
    SpeechStopped,
    TruncateItem,
    UpdateSession,
)
from fastagent.wire.realtime_fields import (
    Event,
    count_in,
    id_in,
    metadata_of,
    number_in,
    object_in,
    role_of,
    safe_name,
    severity_of,
    status_of,
    text_of,
    usage_of,
)
from fastagent.wire.realtime_update import SessionUpdates

__all__ = [
    "APPEND_TEMPLATE",
    "AUDIO_MEDIA",
    "CREATE_RESPONSE_ID",
    "UPDATE_SESSION_ID",
    "Dialect",
    "RealtimeCodec",
    "dialect_for",
    "is_retryable_close",
    "is_retryable_status",
    "request_named",
    "upgrade_request",
]

AUDIO_MEDIA = MediaEnvelope(
    discriminator=("type",),
    values=("response.output_audio.delta", "response.audio.delta"),
    audio=("delta",),
    fields=(("response_id",), ("item_id",), ("content_index",)),
)
"""How the native scanner recognises the model's audio, GA or beta."""

APPEND_TEMPLATE = AudioTemplate(b'{"type":"input_audio_buffer.append","audio":"', b'"}')
"""What the native path writes around the caller's audio; the server answers nothing to it."""

CREATE_RESPONSE_ID = "create-response-"
"""Begins the event id of each in-band ``response.create``, so that an error can be told to be its answer."""

UPDATE_SESSION_ID = "update-session-"
"""Begins the event id of each ``session.update``: a refusal of one leaves the session as it was before."""
_REQUEST_IDS = (
    CREATE_RESPONSE_ID,
    UPDATE_SESSION_ID,
    "create-item-",
    "create-aside-",
    "cancel-response-",
    "truncate-item-",
    "delete-item-",
    "commit-input-",
    "clear-input-",
)

APPEND_MAX_BYTES = 15 * 1024 * 1024
"""Base64 text in one append event; the server's limit."""

_ITEMS_REMEMBERED = 1024
_RESPONSES_REMEMBERED = 64


def request_named(event_id: str | None) -> str:
    """What an event of ours asked for, by its id (``truncate-item``); empty if no event of ours has it.

    The rest of the id is not told: an id that only begins like ours may be anybody's words.
    """
    for prefix in _REQUEST_IDS:
        if event_id is not None and event_id.startswith(prefix):
            return prefix[:-1]
    return ""


class RealtimeCodec:
    """The Realtime protocol of one socket.

    Args:
        dialect: what to send; both dialects are understood always.
        new_id: gives the unique end of each event id; by default a counter.
    """

    audio_media = AUDIO_MEDIA
    append_template = APPEND_TEMPLATE

    def __init__(self, dialect: Dialect = Dialect.GA, *, new_id: Callable[[], str] | None = None) -> None:
        self.dialect = dialect
        if new_id is None:
            numbers = map(str, itertools.count(1))
            new_id = numbers.__next__
        self._new_id = new_id
        self._calls = FunctionCallCollector()
        self._items_added: OrderedDict[str, None] = OrderedDict()
        self._items_done: OrderedDict[str, None] = OrderedDict()
        self._out_of_band: OrderedDict[str, None] = OrderedDict()
        self._out_of_band_asked: deque[dict[str, str]] = deque(maxlen=16)
        self._updates = SessionUpdates(dialect)
        self._has_spoken = False

    # Incoming

    def receive(self, message: bytes) -> list[ModelEvent]:
        """Translate one message; a repetition of what was told before gives nothing.

        Raises:
            MalformedMessageError: not a JSON object with a ``type``; the session goes on.
        """
        try:
            event = orjson.loads(message)
        except orjson.JSONDecodeError:
            raise MalformedMessageError("model", f"got {len(message)} bytes that are no JSON") from None
        if not isinstance(event, dict):
            raise MalformedMessageError("model", f"expected a JSON object, got {type(event).__name__}")
        name = event.get("type")
        if not isinstance(name, str):
            found = type(name).__name__
            raise MalformedMessageError("model", f"expected a string, got {found}", field="type")
        name = GA_NAMES.get(name, name)
        handler = _HANDLERS.get(name)
        events = handler(self, event) if handler else None
        return [ModelNotice(safe_name(name))] if events is None else events

    # A handler gives None when the event says too little to be more than a notice.

    def _session_created(self, event: Event) -> list[ModelEvent]:
        session = object_in(event, "session")
        return [SessionCreated(id_in(session, "id"), number_in(session, "expires_at"))]

    def _session_updated(self, event: Event) -> list[ModelEvent]:
        self._updates.accepted()
        return [SessionUpdated(number_in(object_in(event, "session"), "expires_at"))]

    def _speech_started(self, event: Event) -> list[ModelEvent]:
        return [SpeechStarted(id_in(event, "item_id"), count_in(event, "audio_start_ms"))]

    def _speech_stopped(self, event: Event) -> list[ModelEvent]:
        return [SpeechStopped(id_in(event, "item_id"), count_in(event, "audio_end_ms"))]

    def _input_committed(self, event: Event) -> list[ModelEvent]:
        return [InputCommitted(id_in(event, "item_id"))]

    def _input_cleared(self, event: Event) -> list[ModelEvent]:
        return [InputCleared()]

    def _input_timeout(self, event: Event) -> list[ModelEvent]:
        return [InputTimeout(id_in(event, "item_id"))]

    def _caller_transcript_delta(self, event: Event) -> list[ModelEvent] | None:
        text = event.get("delta")
        if not isinstance(text, str):
            return None
        return [CallerTranscript(id_in(event, "item_id"), text, is_final=False)]

    def _caller_transcript(self, event: Event) -> list[ModelEvent] | None:
        text = event.get("transcript")
        if not isinstance(text, str):
            return None
        return [CallerTranscript(id_in(event, "item_id"), text)]

    def _item_added(self, event: Event) -> list[ModelEvent] | None:
        item = object_in(event, "item")
        item_id = id_in(item, "id")
        if not item_id:
            return None
        if not _first_time(self._items_added, item_id, _ITEMS_REMEMBERED):
            return []
        return [ItemAdded(item_id, safe_name(item.get("type")), role_of(item))]

    def _item_done(self, event: Event) -> list[ModelEvent] | None:
        # Never a FunctionCall: the items of a replayed history come back here and must not run again.
        item = object_in(event, "item")
        item_id = id_in(item, "id")
        if not item_id:
            return None
        if not _first_time(self._items_done, item_id, _ITEMS_REMEMBERED):
            return []
        return [ItemDone(item_id, safe_name(item.get("type")), role_of(item), text_of(item))]

    def _item_truncated(self, event: Event) -> list[ModelEvent] | None:
        item_id = id_in(event, "item_id")
        return [ItemTruncated(item_id, count_in(event, "audio_end_ms"))] if item_id else None

    def _item_deleted(self, event: Event) -> list[ModelEvent] | None:
        item_id = id_in(event, "item_id")
        return [ItemDeleted(item_id)] if item_id else None

    def _response_created(self, event: Event) -> list[ModelEvent]:
        response = object_in(event, "response")
        response_id, metadata = id_in(response, "id"), metadata_of(response)
        is_out_of_band = self._takes_out_of_band(response, metadata)
        if is_out_of_band and response_id:
            _first_time(self._out_of_band, response_id, _RESPONSES_REMEMBERED)
        return [ResponseCreated(response_id, is_out_of_band, metadata)]

    def _takes_out_of_band(self, response: Event, metadata: dict[str, str]) -> bool:
        # Only we can have asked for one. Without that a null conversation_id is a server that fills in no
        # conversation, and taking its response for out-of-band would leave the caller in silence.
        asked = self._out_of_band_asked
        for one in asked:
            if one and one == metadata:
                asked.remove(one)
                return True
        if asked and "conversation_id" in response and response["conversation_id"] is None:
            asked.popleft()
            return True
        return False

    def _output_item_added(self, event: Event) -> list[ModelEvent] | None:
        response_id, item = id_in(event, "response_id"), object_in(event, "item")
        if item.get("type") == "function_call":
            self._calls.item_added(item, response_id)
        # conversation.item.added follows, if the server has it, and is then the repetition.
        return [] if response_id in self._out_of_band else self._item_added(event)

    def _output_item_done(self, event: Event) -> list[ModelEvent] | None:
        response_id, item = id_in(event, "response_id"), object_in(event, "item")
        events = [] if response_id in self._out_of_band else self._item_done(event)
        if item.get("type") == "function_call":
            call = self._calls.item_done(item, response_id)
            if call is not None:
                return [*(events or []), call]
        return events

    def _arguments_done(self, event: Event) -> list[ModelEvent]:
        call = self._calls.arguments_done(event)
        return [] if call is None else [call]

    def _audio_done(self, event: Event) -> list[ModelEvent]:
        self._has_spoken = True
        return [AudioDone(id_in(event, "response_id"), id_in(event, "item_id"))]

    def _audio_delta(self, event: Event) -> list[ModelEvent] | None:
        self._has_spoken = True
        return None

    def _transcript_delta(self, event: Event) -> list[ModelEvent] | None:
        self._has_spoken = True  # the audio itself goes past us, its transcript does not
        return self._bot_text(event, "delta", is_final=False)

    def _transcript_done(self, event: Event) -> list[ModelEvent] | None:
        return self._bot_text(event, "transcript", is_final=True)

    def _text_delta(self, event: Event) -> list[ModelEvent] | None:
        return self._bot_text(event, "delta", is_final=False)

    def _text_done(self, event: Event) -> list[ModelEvent] | None:
        return self._bot_text(event, "text", is_final=True)

    def _bot_text(self, event: Event, key: str, *, is_final: bool) -> list[ModelEvent] | None:
        text = event.get(key)
        if not isinstance(text, str):
            return None
        return [BotTranscript(id_in(event, "response_id"), id_in(event, "item_id"), text, is_final)]

    def _response_done(self, event: Event) -> list[ModelEvent]:
        response = object_in(event, "response")
        response_id, details = id_in(response, "id"), object_in(response, "status_details")
        status = status_of(response)
        error = object_in(details, "error")
        severity, code = None, ""
        if status is ResponseStatus.FAILED:
            # A failure without a word of blame is the server's own.
            severity, code = severity_of(error) if error else (Severity.RETRYABLE, "")
        output = response.get("output")
        late, calls = self._calls.response_done(
            response_id,
            output if isinstance(output, list) else [],
            is_completed=status is ResponseStatus.COMPLETED,
        )
        reason = details.get("reason")
        done = ResponseDone(
            response_id,
            status,
            reason=safe_name(reason) if reason else "",
            error_code=code,
            function_calls=calls,
            usage=usage_of(response.get("usage")),
            severity=severity,
        )
        return [*late, done]

    def _rate_limits(self, event: Event) -> list[ModelEvent]:
        remaining = {}
        limits = event.get("rate_limits")
        for limit in limits if isinstance(limits, list) else ():
            if isinstance(limit, dict) and isinstance(limit.get("name"), str):
                left = number_in(limit, "remaining")
                if left is not None:
                    remaining[safe_name(limit["name"])] = left
        return [RateLimits(remaining)]

    def _error(self, event: Event) -> list[ModelEvent]:
        error = event.get("error")
        if isinstance(error, str):
            error = {"message": error}
        elif not isinstance(error, dict):
            # Flat, as some servers have it; the id at the top is then the server's own, not ours.
            error = {key: value for key, value in event.items() if key not in ("type", "event_id")}
        self._updates.refused(id_in(error, "event_id"))
        severity, code = severity_of(error)
        message = error.get("message")
        return [
            ModelError(
                severity,
                code,
                safe_message(message) if isinstance(message, str) else "",
                id_in(error, "event_id") or None,
            )
        ]

    # Outgoing

    def send(self, command: ModelCommand) -> bytes:
        """One command as one message. What can fail carries an event id, which an error answers with.

        Raises:
            UnsupportedMediaError: a session with an audio format the protocol does not have.
            ValueError: more audio than one append may hold.
        """
        match command:
            case AppendAudio():
                audio = base64.b64encode(command.data)
                if len(audio) > APPEND_MAX_BYTES:
                    raise ValueError(f"expected at most {APPEND_MAX_BYTES} bytes of base64, got {len(audio)}")
                return APPEND_TEMPLATE.message(audio)
            case UpdateSession():
                event_id = UPDATE_SESSION_ID + self._new_id()
                session = self._updates.write(command.settings, event_id, is_voice_locked=self._has_spoken)
                return _message("session.update", event_id, {"session": session})
            case CreateItem():
                item = item_object(command.item, self.dialect)
                return self._message("conversation.item.create", "create-item-", {"item": item})
            case CreateResponse():
                prefix = CREATE_RESPONSE_ID
                if command.is_out_of_band:
                    prefix = "create-aside-"
                    self._out_of_band_asked.append(dict(command.metadata))
                response = response_object(command, self.dialect)
                return self._message("response.create", prefix, {"response": response} if response else {})
            case CancelResponse():
                which = {"response_id": command.response_id} if command.response_id else {}
                return self._message("response.cancel", "cancel-response-", which)
            case TruncateItem():
                fields = {
                    "item_id": command.item_id,
                    "content_index": command.content_index,
                    "audio_end_ms": command.audio_end_ms,
                }
                return self._message("conversation.item.truncate", "truncate-item-", fields)
            case DeleteItem():
                return self._message("conversation.item.delete", "delete-item-", {"item_id": command.item_id})
            case CommitInput():
                return self._message("input_audio_buffer.commit", "commit-input-", {})
            case ClearInput():
                return self._message("input_audio_buffer.clear", "clear-input-", {})
            case _:
                assert_never(command)

    def _message(self, name: str, id_prefix: str, fields: dict[str, Any]) -> bytes:
        return _message(name, id_prefix + self._new_id(), fields)


_HANDLERS: Mapping[str, Callable[[RealtimeCodec, Event], list[ModelEvent] | None]] = {
    "session.created": RealtimeCodec._session_created,
    "session.updated": RealtimeCodec._session_updated,
    "input_audio_buffer.speech_started": RealtimeCodec._speech_started,
    "input_audio_buffer.speech_stopped": RealtimeCodec._speech_stopped,
    "input_audio_buffer.committed": RealtimeCodec._input_committed,
    "input_audio_buffer.cleared": RealtimeCodec._input_cleared,
    "input_audio_buffer.timeout_triggered": RealtimeCodec._input_timeout,
    "conversation.item.input_audio_transcription.delta": RealtimeCodec._caller_transcript_delta,
    "conversation.item.input_audio_transcription.completed": RealtimeCodec._caller_transcript,
    "conversation.item.added": RealtimeCodec._item_added,
    "conversation.item.done": RealtimeCodec._item_done,
    "conversation.item.truncated": RealtimeCodec._item_truncated,
    "conversation.item.deleted": RealtimeCodec._item_deleted,
    "response.created": RealtimeCodec._response_created,
    "response.output_item.added": RealtimeCodec._output_item_added,
    "response.output_item.done": RealtimeCodec._output_item_done,
    "response.function_call_arguments.done": RealtimeCodec._arguments_done,
    "response.output_audio.delta": RealtimeCodec._audio_delta,
    "response.output_audio.done": RealtimeCodec._audio_done,
    "response.output_audio_transcript.delta": RealtimeCodec._transcript_delta,
    "response.output_audio_transcript.done": RealtimeCodec._transcript_done,
    "response.output_text.delta": RealtimeCodec._text_delta,
    "response.output_text.done": RealtimeCodec._text_done,
    "response.done": RealtimeCodec._response_done,
    "rate_limits.updated": RealtimeCodec._rate_limits,
    "error": RealtimeCodec._error,
}


def _first_time(seen: OrderedDict[str, None], key: str, limit: int) -> bool:
    if key in seen:
        return False
    seen[key] = None
    if len(seen) > limit:
        seen.popitem(last=False)
    return True


def _message(name: str, event_id: str, fields: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": name, "event_id": event_id, **fields}, default=_plain)


def _plain(value: object) -> object:
    """What orjson cannot write by itself: a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"expected plain data, got {type(value).__name__}")
