"""Twilio Media Streams, bidirectional (``<Connect><Stream>``), as a sans-I/O codec: one object per socket.

Twilio dials the WebSocket that our TwiML names, once per call; every message is one JSON object with an
``event``, audio is base64 of raw µ-law at 8 kHz. Messages and their order:
https://www.twilio.com/docs/voice/media-streams/websocket-messages. The phases of one socket::

    NEW ── connected ▶ NEW ── start ──▶ OFFERED ──AcceptSession──▶ ACTIVE
                                           └── stop, refused ────────┴── stop, hung up ──▶ ENDED

What is played is one continuous buffer at Twilio's: nothing opens or closes a playback there. A playback's
end is a ``mark``, which comes back once everything before it was played. ``clear`` empties the buffer
reliably, and makes Twilio send back the marks that were in it, just as if they had been reached. So a mark's
name holds the generation of the buffer, which every ``clear`` ends: a mark of an older one proves nothing.

There is no message to end a call: closing the socket does, as far as our TwiML lets nothing follow the
stream. Nor is there a way back for a lost socket; only a caller whom nobody took over comes back, on a stream
of their own that our TwiML asks for.
"""

import re
from binascii import b2a_base64
from collections import deque
from enum import Enum
from typing import Literal

from fastagent.audio.formats import MULAW_8K
from fastagent.errors import MalformedMessageError
from fastagent.wire.envelope import AudioTemplate, MediaEnvelope
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    Callee,
    CalleeDetected,
    CallMetadata,
    CarrierCommand,
    CarrierEvent,
    ClosePlayback,
    DtmfReceived,
    EndReason,
    FailSession,
    IgnoredMessage,
    MediaOffer,
    OpenPlayback,
    PlayAudio,
    PlaybackFinished,
    RefuseSession,
    SendDtmf,
    SessionEnded,
    SessionOffered,
    TellError,
    TellTranscript,
    TellTransition,
    TransferCall,
    TransferStatus,
)
from fastagent.wire.json_message import Json, dump_json, parse_object

__all__ = [
    "ANSWERED_BY_PARAMETER",
    "ANSWERERS",
    "BOT_PARAMETER",
    "CALLER_MEDIA",
    "CALLER_PARAMETER",
    "RETURNED_PARAMETER",
    "TICKET_PARAMETER",
    "TWILIO_MEDIA",
    "IgnoredCause",
    "TwilioCodec",
]

PEER = "twilio"

TWILIO_MEDIA = MediaOffer("audio/x-mulaw", MULAW_8K)
"""The only format there is, both ways."""

CALLER_MEDIA = MediaEnvelope(("event",), ("media",), ("media", "payload"), sequence=("media", "chunk"))
"""How the native scanner recognises caller audio. ``chunk`` counts media messages, ``sequenceNumber`` all."""

ANSWERED_BY_PARAMETER = "answeredBy"
"""The ``<Parameter>`` of our TwiML that says what Twilio found out about who took a call that we made."""
ANSWERERS = {
    "human": Callee.HUMAN,
    "machine_start": Callee.MACHINE,
    "machine_end_beep": Callee.MACHINE,
    "machine_end_silence": Callee.MACHINE,
    "machine_end_other": Callee.MACHINE,
    "fax": Callee.FAX,
    "unknown": Callee.UNKNOWN,
}
"""Twilio's ``AnsweredBy``, https://www.twilio.com/docs/voice/answering-machine-detection."""
BOT_PARAMETER = "bot"
"""The ``<Parameter>`` of our TwiML that names who answers."""
CALLER_PARAMETER = "caller"
"""The one that says who calls: ``start`` does not."""
RETURNED_PARAMETER = "returned"
"""The one that says why a transfer failed, of a call whose caller is back: the ``DialCallStatus``."""
TICKET_PARAMETER = "ticket"
"""The one that shows that the stream was asked for by us."""

ID_CHARS_MAX = 64
"""A SID has 34 characters."""
PARAMETERS_MAX = 64
"""Custom parameters of one stream."""
PARAMETER_CHARS_MAX = 500
"""Name and value of one together, by the vendor's documentation."""
NUMBER_DIGITS_MAX = 15
SEQUENCE_KEPT = 64
"""Sequence numbers by which a message that comes twice is known."""
MARKS_PENDING_MAX = 256
"""Marks sent that have not come back; beyond that the oldest is given up."""
DIGITS = frozenset("0123456789*#ABCD")

_MARK = re.compile(r"g(\d{1,9})-(.{1,200})", re.DOTALL)

IgnoredCause = Literal[
    "after_end",
    "before_start",
    "chunk_before_accepted",
    "chunk_unusable",
    "cleared_mark",
    "foreign_mark",
    "other_stream",
    "repeated_message",
    "second_start",
    "unknown_event",
]


class Phase(Enum):
    """Where a socket stands; the moves are drawn above."""

    NEW = "new"
    OFFERED = "offered"
    ACTIVE = "active"
    ENDED = "ended"


class TwilioCodec:
    """Translates one stream's messages to neutral events, and commands to messages.

    Caller audio normally never comes here: the native path takes it as `caller_media` says.
    """

    caller_media: MediaEnvelope = CALLER_MEDIA
    # `clear` does, but how much Twilio buffers is published nowhere: keep little ahead.
    cuts_reliably: bool = False
    # A mark silences nothing.
    close_may_cut: bool = False
    can_resume: bool = False
    sends_digits: bool = False
    closing_hangs_up: bool = True

    __slots__ = (
        "_generation",
        "_open_playback",
        "_pending_marks",
        "_phase",
        "_sequence",
        "_stream_sid",
        "_used_playbacks",
    )

    def __init__(self) -> None:
        self._phase = Phase.NEW
        self._stream_sid = ""
        self._sequence: deque[str] = deque(maxlen=SEQUENCE_KEPT)
        self._generation = 0
        self._pending_marks: deque[str] = deque(maxlen=MARKS_PENDING_MAX)
        self._open_playback: str | None = None
        self._used_playbacks: set[str] = set()

    @property
    def may_close(self) -> bool:
        """The session has ended here: nothing more is said."""
        return self._phase is Phase.ENDED

    def media_named(self, name: str) -> MediaOffer | None:
        """The format of this name."""
        return TWILIO_MEDIA if name == TWILIO_MEDIA.name else None

    # Twilio -> us

    def receive(self, message: bytes) -> list[CarrierEvent]:
        """Translate one message.

        Raises:
            MalformedMessageError: not one JSON object, too deep, or a field of wrong type; the call goes on.
        """
        parsed = parse_object(PEER, message)
        kind = _id(parsed, "event")
        if self._phase is Phase.ENDED:
            return _ignored("after_end")
        if kind == "connected":
            return []
        if kind == "start":
            return self._start(parsed)
        if self._phase is Phase.NEW:
            return _ignored("before_start")
        if kind == "media":
            return _ignored("chunk_before_accepted" if self._phase is Phase.OFFERED else "chunk_unusable")
        if kind not in ("dtmf", "mark", "stop"):
            return _ignored("unknown_event")
        if _id(parsed, "streamSid") != self._stream_sid:
            return _ignored("other_stream")
        if self._is_repeated(parsed):
            return _ignored("repeated_message")
        match kind:
            case "dtmf":
                return [_dtmf(parsed)]
            case "mark":
                return self._mark(parsed)
            case _:
                return self._stop()

    def messages_to_send(self) -> list[bytes]:
        """Nothing: this protocol acknowledges nothing."""
        return []

    def _start(self, message: Json) -> list[CarrierEvent]:
        if self._phase is not Phase.NEW:
            return _ignored("second_start")
        start = _object(message, "start")
        stream_sid = _id(start, "streamSid")
        if message.get("streamSid", stream_sid) != stream_sid:
            raise MalformedMessageError(PEER, "expected one stream", field="streamSid")
        call_sid, account_sid = _id(start, "callSid"), _id(start, "accountSid")
        parameters = _parameters(start)
        offers = (TWILIO_MEDIA,) if _is_mulaw(_object(start, "mediaFormat")) else ()
        self._is_repeated(message)
        self._stream_sid = stream_sid
        self._phase = Phase.OFFERED
        told = {**parameters, "accountSid": account_sid, "streamSid": stream_sid}
        ticket = {TICKET_PARAMETER: told.pop(TICKET_PARAMETER, "")}
        offer = SessionOffered(
            call_sid,
            offers,
            wants_audio=True,
            caller=parameters.get(CALLER_PARAMETER, ""),
            bot_name=parameters.get(BOT_PARAMETER, ""),
            parameters=told | ticket,
            is_return=bool(returned := parameters.get(RETURNED_PARAMETER, "")),
        )
        back: list[CarrierEvent] = [TransferStatus(answered=False, code=returned)] if returned else []
        answered_by = parameters.get(ANSWERED_BY_PARAMETER, "")
        if answered_by in ANSWERERS:
            back.append(CalleeDetected(ANSWERERS[answered_by], answered_by))
        return [offer, CallMetadata(told), *back]

    def _is_repeated(self, message: Json) -> bool:
        """Whether a message of this number came before; one without a usable number is taken as new."""
        number = str(message.get("sequenceNumber"))
        if not (number.isascii() and number.isdigit() and len(number) <= NUMBER_DIGITS_MAX):
            return False
        if number in self._sequence:
            return True
        self._sequence.append(number)
        return False

    def _mark(self, message: Json) -> list[CarrierEvent]:
        name = _object(message, "mark").get("name")
        if not isinstance(name, str):
            raise MalformedMessageError(PEER, "expected a string", field="mark.name")
        found = _MARK.fullmatch(name)
        if found is None:
            return _ignored("foreign_mark")
        if int(found[1]) < self._generation:
            # `clear` makes Twilio send back what was never played: that proves nothing.
            return _ignored("cleared_mark")
        if name not in self._pending_marks:
            return _ignored("foreign_mark")
        self._pending_marks.remove(name)
        return [PlaybackFinished(found[2])]

    def _stop(self) -> list[CarrierEvent]:
        # No reason is given; we end a call by closing the socket, so this was most likely the caller.
        self._phase = Phase.ENDED
        return [SessionEnded(EndReason.CALLER, "stop")]

    # Us -> Twilio

    def send(self, command: CarrierCommand) -> list[bytes]:
        """Translate one command to messages, in order; most have no word here and give none.

        Raises:
            ValueError: a command out of phase, a playback id that is reused or not open, a format that was
                not offered, or what a stream cannot do: hand the caller on, send digits.
            FormatMismatchError: audio that ends inside a sample (also a ValueError).
        """
        if self._phase is Phase.ENDED:
            return []
        match command:
            case TellTransition() | TellTranscript() | TellError():
                return []
            case AcceptSession(media):
                if self._phase is not Phase.OFFERED:
                    raise ValueError("no session is waiting for an answer")
                _require_offered(media)
                self._phase = Phase.ACTIVE
                return []
            case RefuseSession() if self._phase is Phase.ACTIVE:
                raise ValueError("the session is already accepted: fail it instead of refusing it")
            case RefuseSession() | FailSession():
                self._phase = Phase.ENDED
                return []
            case _ if self._phase is not Phase.ACTIVE:
                raise ValueError(f"{type(command).__name__} before the session was accepted")
            case OpenPlayback():
                return self._open(command)
            case PlayAudio(playback_id, data):
                return self._play(playback_id, data)
            case ClosePlayback(playback_id):
                return self._close(playback_id)
            case AbortPlayback():
                self._generation += 1
                self._pending_marks.clear()
                return [dump_json({"event": "clear", "streamSid": self._stream_sid})]
            case TransferCall() | SendDtmf():
                raise ValueError(f"a media stream cannot carry {type(command).__name__}")
            case _:
                return []

    def playback_template(self, playback_id: str) -> AudioTemplate:
        """What the native path writes around audio: the same for every playback of the stream."""
        prefix = b'{"event":"media","streamSid":' + dump_json(self._stream_sid) + b',"media":{"payload":"'
        return AudioTemplate(prefix, b'"}}')

    def _open(self, command: OpenPlayback) -> list[bytes]:
        if self._open_playback is not None:
            raise ValueError("one playback is open: close it first")
        if not command.playback_id or command.playback_id in self._used_playbacks:
            raise ValueError("a playback needs an id that was never used in this conversation")
        _require_offered(command.media)
        self._used_playbacks.add(command.playback_id)
        self._open_playback = command.playback_id
        return []

    def _play(self, playback_id: str, data: bytes) -> list[bytes]:
        if playback_id != self._open_playback:
            raise ValueError("audio needs an open playback of the same id")
        MULAW_8K.samples(len(data))
        return [self.playback_template(playback_id).message(b2a_base64(data, newline=False))] if data else []

    def _close(self, playback_id: str) -> list[bytes]:
        if playback_id != self._open_playback:
            if playback_id not in self._used_playbacks:
                raise ValueError("this playback was never opened")
            return []
        self._open_playback = None
        name = f"g{self._generation}-{playback_id}"
        self._pending_marks.append(name)
        return [dump_json({"event": "mark", "streamSid": self._stream_sid, "mark": {"name": name}})]


def _ignored(cause: IgnoredCause) -> list[CarrierEvent]:
    return [IgnoredMessage(cause)]


def _require_offered(media: MediaOffer) -> None:
    if media != TWILIO_MEDIA:
        raise ValueError(f"the carrier did not offer {media.name!r}")


def _object(message: Json, key: str) -> Json:
    value = message.get(key)
    if not isinstance(value, dict):
        raise MalformedMessageError(PEER, "expected an object", field=key)
    return value


def _id(message: Json, key: str) -> str:
    """A name that may stand in a log line, which a line break in it could forge."""
    value = message.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX or not value.isprintable():
        raise MalformedMessageError(PEER, f"expected 1 to {ID_CHARS_MAX} printable characters", field=key)
    return value


def _parameters(start: Json) -> dict[str, str]:
    parameters = start.get("customParameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict) or len(parameters) > PARAMETERS_MAX:
        raise MalformedMessageError(
            PEER, f"expected an object of at most {PARAMETERS_MAX} texts", field="customParameters"
        )
    for name, value in parameters.items():
        if not isinstance(value, str) or len(name) + len(value) > PARAMETER_CHARS_MAX:
            raise MalformedMessageError(
                PEER, f"expected texts of at most {PARAMETER_CHARS_MAX} characters", field="customParameters"
            )
    return parameters


def _is_mulaw(media_format: Json) -> bool:
    rate, channels = media_format.get("sampleRate"), media_format.get("channels", 1)
    # Numbers come as strings elsewhere in this protocol.
    is_telephone = str(rate) == "8000" and str(channels) == "1"
    return media_format.get("encoding") == TWILIO_MEDIA.name and is_telephone


def _dtmf(message: Json) -> CarrierEvent:
    digit = _object(message, "dtmf").get("digit")
    if not isinstance(digit, str) or len(digit) != 1 or digit.upper() not in DIGITS:
        raise MalformedMessageError(PEER, "expected one of 0-9 * # A-D", field="dtmf.digit")
    return DtmfReceived(digit.upper())
