"""What a caller says to a server besides audio, one class a carrier, sans I/O.

A line writes messages (templates of the engine: numbers and audio are filled in as they are sent) and reads
what comes back as a few neutral words. It is as short as a load test allows: `fastagent.testing` holds the
phones that watch over every rule of a protocol.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

import orjson

from fastagent._native.load import AT_AUDIO, AT_CHUNK, AT_SEQUENCE, AT_TIME_MS
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_24K, AudioFormat
from fastagent.wire.agentws_words import CLIENT_MEDIA, ServerMessage
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA
from fastagent.wire.envelope import MediaEnvelope

__all__ = [
    "LINES",
    "MEDIA",
    "AgentLine",
    "AudioCodesLine",
    "Cut",
    "Ended",
    "Heard",
    "Identity",
    "Line",
    "Owed",
    "Ready",
    "RealtimeLine",
    "Refused",
    "Send",
    "TwilioLine",
]


REALTIME_MEDIA = {"audio/pcm": PCM16_24K, "audio/pcmu": MULAW_8K, "audio/pcma": ALAW_8K}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and whom."""

    number: int
    caller: str = field(repr=False)
    callee: str = field(repr=False)
    bot: str = ""
    media: str = ""
    """The format wanted, under the carrier's name; empty for the carrier's usual one."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The call is answered: caller audio may flow, and bot audio will come, in this format."""

    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Send:
    """To be sent at once."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Owed:
    """To be sent once the audio received so far was played."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """The bot stops: audio not yet played is dropped when ``drops``."""

    drops: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The server ends the call; what the carrier answers to that."""

    messages: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not take the call."""

    reason: str


Heard = Ready | Send | Owed | Cut | Ended | Refused


class Line(Protocol):
    """What a call asks of its carrier's line."""

    envelope: MediaEnvelope
    """Of bot audio."""
    hangs_up_by_closing: bool
    """The carrier closes the socket when the caller hangs up; else the server does."""

    def begin(self, parameters: Mapping[str, str]) -> list[bytes]:
        """The first messages; ``parameters`` are those that the webhook gave."""

    def ready(self) -> Ready | None:
        """What holds without an answer of the server; None when there must be one."""

    def media(self) -> bytes:
        """The template of caller audio."""

    def receive(self, message: bytes) -> list[Heard]:
        """Read a message; what means nothing here gives nothing.

        Raises:
            ValueError: not a message of this protocol.
        """

    def keys(self, digits: str) -> list[bytes]:
        """Keys pressed."""

    def hang_up(self) -> list[bytes]:
        """The caller hangs up."""


def _object(message: bytes) -> dict[str, Any]:
    parsed = orjson.loads(message)
    if not isinstance(parsed, dict):
        raise ValueError("expected an object")
    return parsed


class AudioCodesLine:
    """AudioCodes VoiceAI Connect, Bot API in WebSocket mode. Barge-in is expected to be switched on."""

    envelope = MediaEnvelope(("type",), ("playStream.chunk",), ("audioChunk",))
    hangs_up_by_closing = False

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._id = str(uuid4())
        self._format: AudioFormat | None = None
        self._events: set[str] = set()

    def begin(self, parameters: Mapping[str, str]) -> list[bytes]:
        """Offer the call."""
        one = self._identity
        formats = [one.media] if one.media else ["raw/lpcm16_24", "raw/mulaw", "raw/lpcm16", "raw/lpcm16_8"]
        offer = {"botName": one.bot, "caller": one.caller, "expectAudioMessages": True}
        return [self._message("session.initiate", **offer, supportedMediaFormats=formats)]

    def ready(self) -> Ready | None:
        """The server must accept."""
        return None

    def media(self) -> bytes:
        """``userStream.chunk``."""
        return self._message("userStream.chunk", audioChunk="@").replace(b'"@"', b'"' + AT_AUDIO + b'"')

    def receive(self, message: bytes) -> list[Heard]:
        """Read a message of the bot."""
        parsed = _object(message)
        match parsed.get("type"):
            case "session.accepted":
                offer = AUDIOCODES_MEDIA.get(parsed.get("mediaFormat", ""))
                if offer is None:
                    return [Refused("a format that was not offered")]
                self._format = offer.format
                one = self._identity
                parameters = {"locale": "en-US", "caller": one.caller, "callee": one.callee}
                start = self._event("start", language="en-US", parameters=parameters)
                return [Send(start), Send(self._message("userStream.start"))]
            case "session.error":
                return [Refused("session.error")]
            case "userStream.started" if self._format is not None:
                return [Ready(self._format)]
            case "playStream.stop":
                heard: list[Heard] = [Cut(drops=False)]
                if "playFinished" in self._events:
                    heard.append(Owed(self._event("playFinished")))
                return heard
            case "activities":
                return self._activities(parsed)
            case _:
                return []

    def _activities(self, parsed: dict[str, Any]) -> list[Heard]:
        heard: list[Heard] = []
        for activity in parsed.get("activities") or ():
            match activity.get("name"):
                case "abortPrompts":
                    heard.append(Cut(drops=True))
                case "config":
                    self._events |= set((activity.get("sessionParams") or {}).get("sendEventsToBot") or ())
                case "hangup" | "transfer" | "handover":
                    heard.append(Ended((self._end("bot-disconnected"),)))
        return heard

    def keys(self, digits: str) -> list[bytes]:
        """A ``DTMF`` event for each key."""
        return [self._event("DTMF", value=digit) for digit in digits]

    def hang_up(self) -> list[bytes]:
        """Stop the user's stream and end the session."""
        return [self._message("userStream.stop"), self._end("client-disconnected")]

    def _end(self, code: str) -> bytes:
        return self._message("session.end", reasonCode=code, reason="")

    def _event(self, name: str, **fields: Any) -> bytes:
        activity = {"type": "event", "name": name, "id": str(uuid4()), "timestamp": _utc_now(), **fields}
        return self._message("activities", activities=[activity])

    def _message(self, kind: str, **fields: Any) -> bytes:
        return orjson.dumps({"type": kind, "conversationId": self._id, **fields})


class TwilioLine:
    """Twilio Media Streams, bidirectional."""

    envelope = MediaEnvelope(("event",), ("media",), ("media", "payload"))
    hangs_up_by_closing = True

    def __init__(self, identity: Identity) -> None:
        self.stream_sid = "MZ" + uuid4().hex
        self.call_sid = "CA" + uuid4().hex
        self.account_sid = "AC" + "0" * 31 + "1"
        self._identity = identity

    def begin(self, parameters: Mapping[str, str]) -> list[bytes]:
        """``connected`` and ``start``."""
        start = {
            "streamSid": self.stream_sid,
            "accountSid": self.account_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "customParameters": dict(parameters),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        return [orjson.dumps(connected), self._message("start", start=start)]

    def ready(self) -> Ready | None:
        """Nothing acknowledges a stream."""
        return Ready(MULAW_8K)

    def media(self) -> bytes:
        """``media`` of the inbound track."""
        return (
            b'{"event":"media","sequenceNumber":"' + AT_SEQUENCE + b'","media":{"track":"inbound","chunk":"'
            + AT_CHUNK + b'","timestamp":"' + AT_TIME_MS + b'","payload":"' + AT_AUDIO + b'"},"streamSid":"'
            + self.stream_sid.encode() + b'"}'
        )  # fmt: skip

    def receive(self, message: bytes) -> list[Heard]:
        """Read a message of the bot."""
        parsed = _object(message)
        match parsed.get("event"):
            case "mark":
                return [Owed(self._message("mark", mark={"name": parsed["mark"]["name"]}))]
            case "clear":
                return [Cut(drops=True)]
            case _:
                return []

    def keys(self, digits: str) -> list[bytes]:
        """A ``dtmf`` message for each key."""
        one = {"track": "inbound_track"}
        return [self._message("dtmf", dtmf={**one, "digit": digit}) for digit in digits]

    def hang_up(self) -> list[bytes]:
        """``stop``."""
        return [self._message("stop", stop={"accountSid": self.account_sid, "callSid": self.call_sid})]

    def _message(self, kind: str, **fields: Any) -> bytes:
        message = orjson.dumps({"event": kind, "sequenceNumber": "@", "streamSid": self.stream_sid, **fields})
        return message.replace(b'"sequenceNumber":"@"', b'"sequenceNumber":"' + AT_SEQUENCE + b'"')


class AgentLine:
    """FastAgent's own protocol for applications, ``/agent/ws``."""

    envelope = MediaEnvelope(("type",), (ServerMessage.AUDIO_RESPONSE.value,), ("payload", "data"))
    hangs_up_by_closing = False

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._media = identity.media or "audio/pcm;rate=24000"
        self._session: str | None = None

    def begin(self, parameters: Mapping[str, str]) -> list[bytes]:
        """``start_session``."""
        one = self._identity
        about = {"agent_id": one.bot, "metadata": {"caller_id": one.caller}, "media": self._media}
        return [self._message("start_session", about)]

    def ready(self) -> Ready | None:
        """The server must say so."""
        return None

    def media(self) -> bytes:
        """``audio_data``."""
        payload = {"format": self._media, "encoding": "base64", "chunk_id": "#", "data": "@"}
        message = self._message("audio_data", payload)
        return message.replace(b'"#"', AT_CHUNK).replace(b'"@"', b'"' + AT_AUDIO + b'"')

    def receive(self, message: bytes) -> list[Heard]:
        """Read a message of the server."""
        parsed = _object(message)
        payload = parsed.get("payload") or {}
        match parsed.get("type"):
            case ServerMessage.SESSION_STARTED.value:
                self._session = payload.get("session_id")
                return [Ready(CLIENT_MEDIA[self._media].offer.format)]
            case ServerMessage.INTERRUPTION.value:
                return [Cut(drops=True)]
            case ServerMessage.AUDIO_RESPONSE.value if payload.get("final"):
                done = {"playback_id": payload.get("playback_id", "")}
                return [Owed(self._message("playback_finished", done))]
            case ServerMessage.SESSION_ENDED.value:
                return [Ended()]
            case ServerMessage.ERROR.value if self._session is None:
                return [Refused(str(payload.get("code", "error")))]
            case _:
                return []

    def keys(self, digits: str) -> list[bytes]:
        """One ``dtmf`` message."""
        return [self._message("dtmf", {"digits": digits})]

    def hang_up(self) -> list[bytes]:
        """``end_session``."""
        return [self._message("end_session", {"reason": "hang up"})]

    def _message(self, kind: str, payload: Mapping[str, Any]) -> bytes:
        return orjson.dumps(
            {"type": kind, "session_id": self._session, "timestamp": _utc_now(), "payload": payload}
        )


class RealtimeLine:
    """A client of the OpenAI Realtime protocol: no carrier, but a way to measure such a server.

    Called at the model's side of the load test itself, it shows what of every figure is the generator's own.
    """

    envelope = MediaEnvelope(("type",), ("response.output_audio.delta",), ("delta",))
    hangs_up_by_closing = True

    def __init__(self, identity: Identity) -> None:
        self._media = identity.media or "audio/pcmu"
        self._is_ready = False

    def begin(self, parameters: Mapping[str, str]) -> list[bytes]:
        """The server speaks first."""
        return []

    def ready(self) -> Ready | None:
        """The server must have taken the format."""
        return None

    def media(self) -> bytes:
        """``input_audio_buffer.append``."""
        return b'{"type":"input_audio_buffer.append","audio":"' + AT_AUDIO + b'"}'

    def receive(self, message: bytes) -> list[Heard]:
        """Read a server event."""
        match _object(message).get("type"):
            case "session.created":
                rate = {"rate": 24_000} if self._media == "audio/pcm" else {}
                wire = {"format": {"type": self._media, **rate}}
                session = {"type": "realtime", "audio": {"input": wire, "output": wire}}
                return [Send(orjson.dumps({"type": "session.update", "session": session}))]
            case "session.updated" if not self._is_ready:
                self._is_ready = True
                return [Ready(REALTIME_MEDIA[self._media])]
            case "input_audio_buffer.speech_started":
                return [Cut(drops=True)]
            case "error" if not self._is_ready:
                return [Refused("error")]
            case _:
                return []

    def keys(self, digits: str) -> list[bytes]:
        """There are none."""
        return []

    def hang_up(self) -> list[bytes]:
        """Closing is enough."""
        return []


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


LINES: Mapping[str, Callable[[Identity], Line]] = {
    "audiocodes": AudioCodesLine,
    "twilio": TwilioLine,
    "agent": AgentLine,
    "realtime": RealtimeLine,
}
"""By the names of the command line."""

MEDIA: Mapping[str, frozenset[str]] = {
    "audiocodes": frozenset(name for name, offer in AUDIOCODES_MEDIA.items() if not offer.has_wav_header),
    "twilio": frozenset(),
    "agent": frozenset(name for name, media in CLIENT_MEDIA.items() if not media.offer.has_wav_header),
    "realtime": frozenset(REALTIME_MEDIA),
}
"""Formats that may be asked for, by carrier."""
