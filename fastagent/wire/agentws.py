"""Our own client protocol on ``/agent/ws``, the server's side, as a sans-I/O codec: one object per socket.

For browsers, applications and chat clients. Messages are one JSON object each, ``{"type", "payload",
"session_id", "timestamp"}``; audio is base64 inside. `fastagent.wire.agentws_words` names them all,
``docs/asyncapi.yaml`` describes them.

The phases of one socket::

    NEW ── start_session | X-Session-ID ──▶ OFFERED ── session_started ▶ ACTIVE
     │ refused: error, stays NEW                │ error                    │ end_session, session_ended
     └──────────────────────────────────────────┴──────────────────────────┴──▶ ENDED

A lost socket does not end the session: another one resumes it, whose request or first message names it. After
``session_ended`` the server closes the socket.
"""

from base64 import b64encode
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from enum import Enum
from time import monotonic
from typing import Any, Literal
from uuid import uuid4

from fastagent.audio import wav
from fastagent.errors import (
    FormatMismatchError,
    MalformedMessageError,
    UnexpectedMessageError,
    WireError,
)
from fastagent.wire.agentws_audio import AudioReader
from fastagent.wire.agentws_words import (
    CLIENT_MEDIA,
    DEFAULT_MEDIA,
    ID_CHARS_MAX,
    PEER,
    ClientMessage,
    ErrorCode,
    Media,
    ServerMessage,
    read_format,
    text_field,
)
from fastagent.wire.envelope import AudioTemplate, MediaEnvelope
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    CallerAudio,
    CallerText,
    CallMetadata,
    CarrierCommand,
    CarrierEvent,
    ClosePlayback,
    ConfigureCall,
    ControlRecording,
    DtmfReceived,
    EndReason,
    ExpectMoreOutput,
    FailSession,
    HangUp,
    IgnoredMessage,
    MediaOffer,
    OpenPlayback,
    PlayAudio,
    PlaybackFinished,
    PlayUrl,
    RefuseSession,
    ReportSpeech,
    ReportTranscript,
    SendDtmf,
    SendMetadata,
    SessionEnded,
    SessionOffered,
    SessionResumed,
    TellError,
    TellTranscript,
    TellTransition,
    TransferCall,
)
from fastagent.wire.json_message import Json, dump_json, parse_object

__all__ = ["AgentCodec", "IgnoredCause", "error_message"]

TEXT_CHARS_MAX = 8_000
"""Of one ``text_input``."""
METADATA_KEYS_MAX = 64
DTMF_MAX = 128
"""Digits in one message."""
DTMF = frozenset("0123456789*#ABCD")
PROMPT_CHUNK_MS = 100
"""Audio per message of a prompt."""

CLIENT_MESSAGES = frozenset(ClientMessage)

IgnoredCause = Literal["after_end", "repeated_start"]


class Phase(Enum):
    """Where a socket stands; the moves are drawn above."""

    NEW = "new"
    OFFERED = "offered"
    ACTIVE = "active"
    ENDED = "ended"


class AgentCodec:
    """Translates one client's messages to neutral events, and commands to messages.

    A message that cannot be taken is answered with ``error``, and raises: whoever holds the socket counts it.

    Args:
        agents: ids of the agents that a client may ask for.
        resume_id: the session that the client's request names (``X-Session-ID``).
        new_id: makes the ids of new sessions.
        utc_now: for timestamps.
        clock: monotonic seconds, for durations.
    """

    # On `interruption` the client drops all it has not played.
    cuts_reliably: bool = True
    close_may_cut: bool = False
    can_resume: bool = True
    sends_digits: bool = False
    # ``session_ended`` does.
    closing_hangs_up: bool = False

    __slots__ = (
        "_agents",
        "_began_at",
        "_clock",
        "_is_resume",
        "_media",
        "_new_id",
        "_phase",
        "_playback",
        "_reader",
        "_replies",
        "_resume_id",
        "_session_id",
        "_started_id",
        "_used_playbacks",
        "_utc_now",
    )

    def __init__(
        self,
        *,
        agents: Collection[str] = (),
        resume_id: str | None = None,
        new_id: Callable[[], str] = lambda: str(uuid4()),
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._agents = agents
        self._resume_id = resume_id
        self._new_id = new_id
        self._utc_now = utc_now
        self._clock = clock
        self._phase = Phase.NEW
        self._session_id = ""
        self._started_id: str | None = None
        """The session's id from its start on: one that a client only claims is not told back."""
        self._is_resume = False
        self._media = DEFAULT_MEDIA
        self._reader: AudioReader | None = None
        self._playback: OpenPlayback | None = None
        self._used_playbacks: set[str] = set()
        self._replies: list[bytes] = []
        self._began_at = 0.0

    @property
    def caller_media(self) -> MediaEnvelope:
        """How the native scanner recognises audio of the session's own format."""
        return MediaEnvelope(
            ("type",),
            (ClientMessage.AUDIO_DATA.value,),
            ("payload", "data"),
            expected=(("payload", "format"), self._media.chunk_format),
            sequence=("payload", "chunk_id"),
        )

    @property
    def may_close(self) -> bool:
        """The session has ended here: nothing more is said."""
        return self._phase is Phase.ENDED

    def media_named(self, name: str) -> MediaOffer | None:
        """The format of this name."""
        media = CLIENT_MEDIA.get(name)
        return None if media is None else media.offer

    # Client -> server

    def open(self) -> list[CarrierEvent]:
        """The socket is open: a request that named a session resumes it, without a word more."""
        if self._phase is not Phase.NEW or self._resume_id is None:
            return []
        return self._resume(self._resume_id)

    def receive(self, message: bytes) -> list[CarrierEvent]:
        """Translate one message.

        Raises:
            MalformedMessageError: not one JSON object, too deep, of no known type, or with a field that does
                not fit.
            UnexpectedMessageError: not in this phase.
        """
        try:
            return self._receive(message)
        except _RefusedError as refused:
            code, error = refused.code, refused.error
        except MalformedMessageError as malformed:
            code, error = ErrorCode.INVALID_REQUEST, malformed
        details = {} if error.field is None else {"field": error.field}
        self._replies.append(self._error(code, error.reason, details))
        raise error

    def _receive(self, message: bytes) -> list[CarrierEvent]:
        parsed = parse_object(PEER, message)
        kind = text_field(parsed, "type", is_id=True)
        if self._phase is Phase.ENDED:
            return [IgnoredMessage("after_end")]
        payload = parsed.get("payload")
        if payload is None:
            payload = {}
        if not isinstance(payload, dict):
            raise MalformedMessageError(PEER, "expected an object", field="payload")
        session_id = text_field(parsed, "session_id", "", limit=len(message))
        if kind == ClientMessage.START_SESSION:
            return self._start(payload, session_id)
        if kind not in CLIENT_MESSAGES:
            known = ", ".join(ClientMessage)
            raise MalformedMessageError(PEER, f"expected one of {known}", field="type")
        if self._phase is not Phase.ACTIVE:
            raise _unexpected("the session has not started: send start_session first")
        if session_id and session_id != self._session_id:
            raise _refused(ErrorCode.SESSION_NOT_FOUND, "expected the id of this session", "session_id")
        match ClientMessage(kind):
            case ClientMessage.AUDIO_DATA:
                return self._audio(payload)
            case ClientMessage.TEXT_INPUT:
                text = text_field(payload, "text", limit=TEXT_CHARS_MAX)
                if not text.strip():
                    raise MalformedMessageError(PEER, "expected some text", field="text")
                return [CallerText(text)]
            case ClientMessage.DTMF:
                return [_digits(payload)]
            case ClientMessage.PLAYBACK_FINISHED:
                return [PlaybackFinished(text_field(payload, "playback_id", is_id=True))]
            case _:
                return self._end(payload)

    def messages_to_send(self) -> list[bytes]:
        """Errors, and the answer to an end, since the last call; send them first."""
        replies, self._replies = self._replies, []
        return replies

    def _start(self, payload: Json, session_id: str) -> list[CarrierEvent]:
        if self._resume_id is not None and self._phase is Phase.ACTIVE:
            # The request itself resumed the session: what every client sends first says nothing more.
            return [IgnoredMessage("repeated_start")]
        if self._phase is not Phase.NEW:
            raise _unexpected("this socket has a session already")
        if self._resume_id is not None or session_id:
            return self._resume(self._resume_id or session_id)
        media = self._read_media(payload)
        agent_id = text_field(payload, "agent_id", "")
        if agent_id and agent_id not in self._agents:
            raise _refused(ErrorCode.AGENT_NOT_FOUND, "no agent has this id", "agent_id")
        metadata = payload.get("metadata")
        if metadata is None:
            metadata = {}
        if not isinstance(metadata, dict) or len(metadata) > METADATA_KEYS_MAX:
            raise MalformedMessageError(
                PEER, f"expected an object of at most {METADATA_KEYS_MAX} keys", field="metadata"
            )
        caller = text_field(metadata, "caller_id", "")
        if not caller.isprintable():
            raise MalformedMessageError(PEER, "expected printable characters", field="caller_id")
        self._session_id = self._new_id()
        self._media = media
        self._phase = Phase.OFFERED
        offer = SessionOffered(
            self._session_id, (media.offer,), wants_audio=True, caller=caller, bot_name=agent_id
        )
        return [offer, CallMetadata(metadata)] if metadata else [offer]

    def _read_media(self, payload: Json) -> Media:
        name = text_field(payload, "media", "")
        if not name:
            return DEFAULT_MEDIA
        media = CLIENT_MEDIA.get("".join(name.split()).lower())
        if media is None:
            raise _refused(
                ErrorCode.INVALID_AUDIO_FORMAT, f"expected one of {', '.join(CLIENT_MEDIA)}", "media"
            )
        return media

    def _resume(self, session_id: str) -> list[CarrierEvent]:
        # What cannot be an id is not found either, and stands in no log line.
        is_id = len(session_id) <= ID_CHARS_MAX and session_id.isprintable()
        session_id = session_id if is_id else "unreadable"
        self._session_id = session_id
        self._is_resume = True
        self._phase = Phase.OFFERED
        return [SessionResumed(session_id)]

    def _audio(self, payload: Json) -> list[CarrierEvent]:
        name = text_field(payload, "format", "")
        encoding = text_field(payload, "encoding", "base64")
        if encoding != "base64":
            raise _refused(ErrorCode.INVALID_AUDIO_FORMAT, "expected base64", "encoding")
        described = read_format(name or self._media.name)
        if described is None:
            raise _refused(
                ErrorCode.INVALID_AUDIO_FORMAT, f"expected one of {', '.join(CLIENT_MEDIA)}", "format"
            )
        data = payload.get("data")
        if not isinstance(data, str):
            raise MalformedMessageError(PEER, "expected a string", field="data")
        if self._reader is None:
            self._reader = AudioReader(self._media)
        try:
            message = self._reader.read(*described, data)
        except FormatMismatchError as mismatch:
            raise _refused(ErrorCode.INVALID_AUDIO_FORMAT, str(mismatch), "data") from None
        except ValueError:
            raise _refused(ErrorCode.AUDIO_PROCESSING_FAILED, "expected canonical base64", "data") from None
        return [] if message is None else [CallerAudio(message)]

    def _end(self, payload: Json) -> list[CarrierEvent]:
        # The end is the end, whatever is wrong with its reason.
        reason = payload.get("reason")
        code = reason[:64] if isinstance(reason, str) and reason.isprintable() else ""
        self._replies.append(self._ended("client ended the session"))
        return [SessionEnded(EndReason.CALLER, code)]

    # Server -> client

    def send(self, command: CarrierCommand) -> list[bytes]:
        """Translate one command to messages, in order. After the session's end there is nothing left to say.

        Raises:
            ValueError: a command out of phase, one that no client can follow, a playback id that is reused or
                not open, or another format than the session's.
            FormatMismatchError: audio that ends inside a sample (also a ValueError).
        """
        if self._phase is Phase.ENDED:
            return []
        match command:
            case AcceptSession():
                return self._accept(command)
            case RefuseSession(reason):
                # A new one is refused only for want of room: all else was looked at before it was offered.
                code = ErrorCode.SESSION_NOT_FOUND if self._is_resume else ErrorCode.CAPACITY_EXCEEDED
                return [self._last_error(code, reason)]
            case FailSession(reason):
                failure = self._error(ErrorCode.LLM_ERROR, reason)
                return [failure, self._ended(reason)]
            case TellError(cause, reason, code_of_model):
                error_code = ErrorCode.LLM_ERROR if cause == "model" else ErrorCode.INTERNAL_ERROR
                details = {"model_code": code_of_model} if code_of_model else {}
                return [self._error(error_code, reason, details)]
            case _ if self._phase is not Phase.ACTIVE:
                raise ValueError(f"{type(command).__name__} before the session was accepted")
            case OpenPlayback():
                return self._open(command)
            case PlayAudio(playback_id, data):
                return self._play(playback_id, data)
            case ClosePlayback(playback_id):
                return self._close(playback_id)
            case AbortPlayback():
                return [self._message(ServerMessage.INTERRUPTION, {})]
            case HangUp(reason):
                return [self._ended(reason)]
            case ReportSpeech(phase):
                return [self._message(ServerMessage.CALLER_SPEECH, {"phase": phase.value})]
            case ReportTranscript(text, is_final, _):
                return [self._transcript("caller", text, is_final=is_final)] if text.strip() else []
            case TellTranscript(text):
                return [self._transcript("agent", text, is_final=True)]
            case TellTransition(task, from_state, to_state, reason):
                payload = {
                    "task": task,
                    "from_state": from_state or None,
                    "to_state": to_state,
                    "reason": reason,
                }
                return [self._message(ServerMessage.STATE_TRANSITION, payload)]
            case SendMetadata(value):
                return [self._message(ServerMessage.METADATA, {"value": dict(value)})]
            case TransferCall() | SendDtmf() | PlayUrl():
                raise ValueError(f"a client cannot follow {type(command).__name__}")
            case ConfigureCall() | ControlRecording() | ExpectMoreOutput():
                return []

    def playback_template(self, playback_id: str) -> AudioTemplate:
        """What the native path writes around audio of this playback; the time is that of the playback."""
        return AudioTemplate(self._audio_head(playback_id, is_final=False), b'"}}')

    def failure(self) -> bytes:
        """The last message of a session that a fault of ours ends."""
        return self._last_error(ErrorCode.INTERNAL_ERROR, "the session failed")

    def _accept(self, command: AcceptSession) -> list[bytes]:
        if self._phase is not Phase.OFFERED:
            raise ValueError("no session is waiting for an answer")
        media = CLIENT_MEDIA.get(command.media.name)
        if media is None or media.offer != command.media:
            raise ValueError(f"the client did not offer {command.media.name!r}")
        self._media = media
        self._began_at = self._clock() - command.age_s
        self._phase = Phase.ACTIVE
        self._started_id = self._session_id
        payload = {
            "session_id": self._session_id,
            "initial_state": command.state,
            "media": media.name,
            "resumed": self._is_resume,
        }
        return [self._message(ServerMessage.SESSION_STARTED, payload)]

    def _open(self, command: OpenPlayback) -> list[bytes]:
        if self._playback is not None:
            raise ValueError("one playback is open: close it first")
        if not command.playback_id or command.playback_id in self._used_playbacks:
            raise ValueError("a playback needs an id that was never used on this socket")
        if command.media != self._media.offer:
            raise ValueError(f"the session has {self._media.name!r}, not {command.media.name!r}")
        self._used_playbacks.add(command.playback_id)
        self._playback = command
        if not command.media.has_wav_header:
            return []
        # Alone in the first chunk, so that all that follows is raw.
        return [self._chunk(command.playback_id, wav.header(command.media.format))]

    def _play(self, playback_id: str, data: bytes) -> list[bytes]:
        playback = self._playback
        if playback is None or playback.playback_id != playback_id:
            raise ValueError("audio needs an open playback of the same id")
        playback.media.format.samples(len(data))
        step = playback.media.format.bytes_per_ms * PROMPT_CHUNK_MS
        return [self._chunk(playback_id, data[at : at + step]) for at in range(0, len(data), step)]

    def _close(self, playback_id: str) -> list[bytes]:
        if self._playback is None or self._playback.playback_id != playback_id:
            if playback_id not in self._used_playbacks:
                raise ValueError("this playback was never opened")
            return []
        self._playback = None
        return [self._audio_head(playback_id, is_final=True) + b'"}}']

    def _chunk(self, playback_id: str, data: bytes) -> bytes:
        return self.playback_template(playback_id).message(b64encode(data))

    def _audio_head(self, playback_id: str, *, is_final: bool) -> bytes:
        payload = {
            "format": self._media.response_format,
            "encoding": "base64",
            "playback_id": playback_id,
            "final": is_final,
            "data": "",
        }
        head = self._envelope(ServerMessage.AUDIO_RESPONSE) | {"payload": payload}
        return dump_json(head)[:-3]

    def _transcript(self, role: Literal["caller", "agent"], text: str, *, is_final: bool) -> bytes:
        return self._message(ServerMessage.TRANSCRIPT, {"role": role, "text": text, "final": is_final})

    def _ended(self, reason: str) -> bytes:
        duration_s = max(0.0, self._clock() - self._began_at) if self._phase is Phase.ACTIVE else 0.0
        self._phase = Phase.ENDED
        payload = {"reason": reason, "duration_seconds": round(duration_s, 3)}
        return self._message(ServerMessage.SESSION_ENDED, payload)

    def _last_error(self, code: ErrorCode, message: str) -> bytes:
        self._phase = Phase.ENDED
        return self._error(code, message)

    def _error(self, code: ErrorCode, message: str, details: Json | None = None) -> bytes:
        return self._message(ServerMessage.ERROR, _error_payload(code, message, details))

    def _message(self, kind: ServerMessage, payload: Json) -> bytes:
        return dump_json(self._envelope(kind) | {"payload": payload})

    def _envelope(self, kind: ServerMessage) -> Json:
        return {
            "type": kind.value,
            "session_id": self._started_id,
            "timestamp": _timestamp(self._utc_now()),
        }


def error_message(
    code: ErrorCode, message: str, *, utc_now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Json:
    """The ``error`` message that is the body of a refusal before the WebSocket opens."""
    return {
        "type": ServerMessage.ERROR.value,
        "session_id": None,
        "timestamp": _timestamp(utc_now()),
        "payload": _error_payload(code, message, None),
    }


class _RefusedError(Exception):
    """A message that is answered with a code of its own."""

    def __init__(self, code: ErrorCode, error: WireError) -> None:
        super().__init__(code.value)
        self.code = code
        self.error = error


def _refused(code: ErrorCode, reason: str, field: str) -> _RefusedError:
    return _RefusedError(code, MalformedMessageError(PEER, reason, field=field))


def _unexpected(reason: str) -> _RefusedError:
    return _RefusedError(ErrorCode.INVALID_STATE, UnexpectedMessageError(PEER, reason))


def _digits(payload: Json) -> DtmfReceived:
    digits = text_field(payload, "digits", limit=DTMF_MAX).upper()
    if not digits or not DTMF.issuperset(digits):
        raise MalformedMessageError(PEER, f"expected 1 to {DTMF_MAX} of 0-9 * # A-D", field="digits")
    return DtmfReceived(digits)


def _error_payload(code: ErrorCode, message: str, details: Json | None) -> dict[str, Any]:
    return {"code": code.value, "message": message, "details": details or {}}


def _timestamp(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
