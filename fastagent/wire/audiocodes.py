"""AudioCodes VoiceAI Connect, Bot API in streaming mode, as a sans-I/O codec: one object per socket.

VoiceAI Connect (VAIC) dials the bot's WebSocket once per call; every message is one JSON object with a
``type``, audio is base64 inside it. Messages and their order:
https://techdocs.audiocodes.com/voice-ai-connect/Content/Bot-API/ac-bot-api-streaming.htm and the vendor's SDK
(GitHub ``audiocodes/ac-bot-api``, ``src/websocket``). Live Hub, which speaks the same protocol:
https://techdocs.audiocodes.com/livehub/Content/LiveHub/AudiocodesAPI-framework.htm. Activities stand in
`fastagent.wire.audiocodes_activities`.

The phases of one socket::

    NEW ── session.initiate | session.resume ──▶ OFFERED ── session.accepted ▶ ACTIVE
     │ connection.validate: answered, stays NEW     │ session.error               │ session.end, session.error
     └──────────────────────────────────────────────┴─────────────────────────────┴──▶ ENDED

A lost socket does not end the call: VAIC opens a new one whose first message is ``session.resume``. Only the
``hangup`` activity ends a call from our side; ``session.end`` then confirms it.
"""

from binascii import b2a_base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Literal
from uuid import uuid4

from fastagent.audio import wav
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K
from fastagent.errors import MalformedMessageError
from fastagent.wire.audiocodes_activities import (
    PEER,
    RECOMMENDED_SETTINGS,
    ActivityCommand,
    read_activity,
    text_field,
    write_activity,
)
from fastagent.wire.envelope import AudioTemplate, MediaEnvelope
from fastagent.wire.events import (
    AcceptSession,
    CallerStreamStarted,
    CallerStreamStopped,
    CarrierCommand,
    CarrierEvent,
    ClosePlayback,
    ConfigureCall,
    EndReason,
    FailSession,
    IgnoredMessage,
    MediaOffer,
    OpenPlayback,
    PlayAudio,
    RefuseSession,
    ReportSpeech,
    ReportTranscript,
    SessionEnded,
    SessionOffered,
    SessionResumed,
    TellError,
    TellTranscript,
    TellTransition,
)
from fastagent.wire.json_message import Json, dump_json, parse_object

__all__ = [
    "AUDIOCODES_MEDIA",
    "CALLER_MEDIA",
    "CONNECTIVITY_REPLY",
    "RECOMMENDED_SETTINGS",
    "AudioCodesCodec",
    "IgnoredCause",
]

AUDIOCODES_MEDIA: Mapping[str, MediaOffer] = {
    offer.name: offer
    for offer in (
        MediaOffer("raw/lpcm16_24", PCM16_24K),
        MediaOffer("raw/lpcm16", PCM16_16K),
        MediaOffer("raw/lpcm16_8", PCM16_8K),
        MediaOffer("raw/mulaw", MULAW_8K),
        MediaOffer("wav/lpcm16_24", PCM16_24K, has_wav_header=True),
        MediaOffer("wav/lpcm16", PCM16_16K, has_wav_header=True),
        MediaOffer("wav/lpcm16_8", PCM16_8K, has_wav_header=True),
        MediaOffer("wav/mulaw", MULAW_8K, has_wav_header=True),
    )
}
"""All eight media formats of the protocol, by their names. ``lpcm16`` without a suffix is 16 kHz."""

CALLER_MEDIA = MediaEnvelope(("type",), ("userStream.chunk",), ("audioChunk",), fields=(("participant",),))
"""How the native scanner recognises caller audio."""

CONNECTIVITY_REPLY = b'{"type":"ac-bot-api","success":true}'
"""The body of a 200 answer to the plain HTTP check (GET or POST on the bot's URL)."""

END_REASONS: Mapping[str, EndReason] = {
    "client-disconnected": EndReason.CALLER,
    "bot-disconnected": EndReason.BOT,
    "transferred": EndReason.TRANSFERRED,
    "machine-detected": EndReason.MACHINE,
    "no-answer": EndReason.NOT_ANSWERED,
    "busy": EndReason.NOT_ANSWERED,
    "declined": EndReason.NOT_ANSWERED,
    "error": EndReason.ERROR,
}

ACTIVITIES_MAX = 64
"""Activities in one message."""
PROMPT_CHUNK_MS = 100
"""Audio per message of a prompt; the protocol advises 20 to 100 ms."""

IgnoredCause = Literal[
    "after_end",
    "before_initiate",
    "chunk_before_accepted",
    "chunk_unusable",
    "connectivity_check",
    "malformed_activity",
    "no_activities",
    "second_initiate",
    "unexpected_resume",
    "unknown_type",
]


class Phase(Enum):
    """Where a socket stands; the moves are drawn above."""

    NEW = "new"
    OFFERED = "offered"
    ACTIVE = "active"
    ENDED = "ended"


class AudioCodesCodec:
    """Translates one VAIC socket's messages to neutral events, and commands to messages.

    Caller audio normally never comes here: the native path takes it as `caller_media` says. A chunk that does
    was refused there (or came too early) and is reported as ignored.
    """

    caller_media: MediaEnvelope = CALLER_MEDIA
    # playStream.stop may let sent audio play on, and abortPrompts has no answer: keep little ahead.
    cuts_reliably: bool = False
    # It is "end of input" to the vendor's own samples and "be silent" to others' experience.
    close_may_cut: bool = True
    can_resume: bool = True
    sends_digits: bool = True
    closing_hangs_up: bool = False
    # The end is the carrier's word, and the socket theirs to close.
    may_close: bool = False

    __slots__ = (
        "_acks",
        "_held_acks",
        "_new_id",
        "_offered",
        "_open_playback",
        "_phase",
        "_used_playbacks",
        "_utc_now",
    )

    def __init__(
        self,
        *,
        new_id: Callable[[], str] = lambda: str(uuid4()),
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._new_id = new_id
        self._utc_now = utc_now
        self._phase = Phase.NEW
        self._offered: frozenset[str] = frozenset(AUDIOCODES_MEDIA)
        self._open_playback: OpenPlayback | None = None
        self._used_playbacks: set[str] = set()
        self._acks: list[bytes] = []
        self._held_acks: list[bytes] = []

    # VAIC -> bot

    def media_named(self, name: str) -> MediaOffer | None:
        """The format of this name."""
        return AUDIOCODES_MEDIA.get(name)

    def receive(self, message: bytes) -> list[CarrierEvent]:
        """Translate one message, text or UTF-8 in a binary frame.

        Raises:
            MalformedMessageError: not one JSON object, too deep, or a field of wrong type; the call goes on.
        """
        parsed = parse_object(PEER, message)
        kind = text_field(parsed, "type", is_id=True)
        if self._phase is Phase.ENDED:
            return _ignored("after_end")
        if kind == "connection.validate":
            self._acks.append(dump_json({"type": "connection.validated", "success": True}))
            return _ignored("connectivity_check")
        if kind == "session.initiate":
            return self._initiate(parsed)
        if kind == "session.resume":
            return self._resume(parsed)
        if self._phase is Phase.NEW:
            return _ignored("before_initiate")
        match kind:
            case "userStream.start":
                participant = self._acknowledge("userStream.started", parsed)
                return [CallerStreamStarted(participant)]
            case "userStream.stop":
                participant = self._acknowledge("userStream.stopped", parsed)
                return [CallerStreamStopped(participant)]
            case "userStream.chunk":
                return _ignored("chunk_before_accepted" if self._phase is Phase.OFFERED else "chunk_unusable")
            case "activities":
                return _read_activities(parsed)
            case "session.end":
                return self._end(parsed)
            case _:
                return _ignored("unknown_type")

    def messages_to_send(self) -> list[bytes]:
        """Acknowledgements the protocol itself asks for, since the last call; send them first."""
        acks, self._acks = self._acks, []
        return acks

    def _initiate(self, message: Json) -> list[CarrierEvent]:
        if self._phase is not Phase.NEW:
            return _ignored("second_initiate")
        conversation_id = text_field(message, "conversationId", is_id=True)
        names = message.get("supportedMediaFormats")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise MalformedMessageError(PEER, "expected an array of strings", field="supportedMediaFormats")
        wants_audio = message.get("expectAudioMessages", True)
        if not isinstance(wants_audio, bool):
            raise MalformedMessageError(PEER, "expected true or false", field="expectAudioMessages")
        offers = tuple(AUDIOCODES_MEDIA[name] for name in dict.fromkeys(names) if name in AUDIOCODES_MEDIA)
        event = SessionOffered(
            conversation_id,
            offers,
            wants_audio,
            # A number, a SIP user or nothing at all: anonymous callers exist.
            caller=text_field(message, "caller", ""),
            bot_name=text_field(message, "botName", ""),
        )
        self._offered = frozenset(offer.name for offer in offers)
        self._phase = Phase.OFFERED
        return [event]

    def _resume(self, message: Json) -> list[CarrierEvent]:
        if self._phase is not Phase.NEW:
            return _ignored("unexpected_resume")
        conversation_id = text_field(message, "conversationId", is_id=True)
        self._phase = Phase.OFFERED
        return [SessionResumed(conversation_id)]

    def _acknowledge(self, kind: str, message: Json) -> str | None:
        participant = message.get("participant")
        ack = {"type": kind}
        if participant is not None:
            participant = ack["participant"] = text_field(message, "participant", is_id=True)
        # A stream announced too early must still be acknowledged, but not before session.accepted.
        (self._held_acks if self._phase is Phase.OFFERED else self._acks).append(dump_json(ack))
        return participant

    def _end(self, message: Json) -> list[CarrierEvent]:
        # The end is the end, whatever is wrong with its reason.
        code = message.get("reasonCode")
        if not isinstance(code, str):
            code = ""
        self._phase = Phase.ENDED
        return [SessionEnded(END_REASONS.get(code, EndReason.OTHER), code)]

    # Bot -> VAIC

    def send(self, command: CarrierCommand) -> list[bytes]:
        """Translate one command to messages, in order. After the session's end there is nothing left to say.

        Raises:
            ValueError: a command out of phase, a playback id that is reused or not open, a format that was
                not offered, or parameters the vendor would refuse.
            FormatMismatchError: audio that ends inside a sample (also a ValueError).
        """
        if self._phase is Phase.ENDED:
            return []
        match command:
            case TellTransition() | TellTranscript() | TellError():
                return []
            case AcceptSession(media):
                return self._accept(media)
            case RefuseSession(reason, conversation_id):
                if self._phase is Phase.ACTIVE:
                    raise ValueError("the session is already accepted: fail it instead of refusing it")
                return self._fail(reason, conversation_id)
            case FailSession(reason):
                return self._fail(reason, None)
            case _ if self._phase is not Phase.ACTIVE:
                raise ValueError(f"{type(command).__name__} before the session was accepted")
            case OpenPlayback():
                return self._open(command)
            case PlayAudio(playback_id, data):
                return self._play(playback_id, data)
            case ClosePlayback(playback_id):
                return self._close(playback_id)
            case ReportSpeech(phase):
                # A two-party call names no participant: sources disagree on the key.
                return [dump_json({"type": f"userStream.speech.{phase.value}"})]
            case ReportTranscript():
                return _transcript(command)
            case ConfigureCall(settings) if not settings:
                return []
            case _:
                return [self._activity(command)]

    def playback_template(self, playback_id: str) -> AudioTemplate:
        """What the native path writes around audio of this playback, opened or about to be."""
        prefix = b'{"type":"playStream.chunk","streamId":' + dump_json(playback_id) + b',"audioChunk":"'
        return AudioTemplate(prefix, b'"}')

    def _accept(self, media: MediaOffer) -> list[bytes]:
        if self._phase is not Phase.OFFERED:
            raise ValueError("no session is waiting for an answer")
        self._require_offered(media)
        self._phase = Phase.ACTIVE
        acks, self._held_acks = self._held_acks, []
        return [dump_json({"type": "session.accepted", "mediaFormat": media.name}), *acks]

    def _fail(self, reason: str, conversation_id: str | None) -> list[bytes]:
        self._phase = Phase.ENDED
        message = {"type": "session.error", "reason": reason}
        if conversation_id is not None:
            message["conversationId"] = conversation_id
        return [dump_json(message)]

    def _require_offered(self, media: MediaOffer) -> None:
        if media.name not in self._offered or AUDIOCODES_MEDIA[media.name] != media:
            raise ValueError(f"the carrier did not offer {media.name!r}")

    def _open(self, command: OpenPlayback) -> list[bytes]:
        if self._open_playback is not None:
            raise ValueError("one playback is open: close it first")
        if not command.playback_id or command.playback_id in self._used_playbacks:
            raise ValueError("a playback needs an id that was never used in this conversation")
        self._require_offered(command.media)
        self._used_playbacks.add(command.playback_id)
        self._open_playback = command
        start = {
            "type": "playStream.start",
            "streamId": command.playback_id,
            "mediaFormat": command.media.name,
        }
        if command.text is not None:
            start["altText"] = command.text
        messages = [dump_json(start)]
        if command.media.has_wav_header:
            # The header's place is undocumented: alone in the first chunk, so that all that follows is raw.
            messages.append(self._chunk(command.playback_id, wav.header(command.media.format)))
        return messages

    def _play(self, playback_id: str, data: bytes) -> list[bytes]:
        playback = self._open_playback
        if playback is None or playback.playback_id != playback_id:
            raise ValueError("audio needs an open playback of the same id")
        playback.media.format.samples(len(data))
        step = playback.media.format.bytes_per_ms * PROMPT_CHUNK_MS
        return [self._chunk(playback_id, data[at : at + step]) for at in range(0, len(data), step)]

    def _chunk(self, playback_id: str, data: bytes) -> bytes:
        return self.playback_template(playback_id).message(b2a_base64(data, newline=False))

    def _close(self, playback_id: str) -> list[bytes]:
        if self._open_playback is None or self._open_playback.playback_id != playback_id:
            if playback_id not in self._used_playbacks:
                raise ValueError("this playback was never opened")
            return []
        self._open_playback = None
        return [dump_json({"type": "playStream.stop", "streamId": playback_id})]

    def _activity(self, command: ActivityCommand) -> bytes:
        name, fields = write_activity(command)
        now = self._utc_now().astimezone(UTC)
        activity = {
            "type": "event",
            "name": name,
            "id": self._new_id(),
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **fields,
        }
        return dump_json({"type": "activities", "activities": [activity]})


def _ignored(cause: IgnoredCause) -> list[CarrierEvent]:
    return [IgnoredMessage(cause)]


def _read_activities(message: Json) -> list[CarrierEvent]:
    activities = message.get("activities")
    if not isinstance(activities, list):
        raise MalformedMessageError(PEER, "expected an array", field="activities")
    if len(activities) > ACTIVITIES_MAX:
        raise MalformedMessageError(PEER, f"expected at most {ACTIVITIES_MAX} activities", field="activities")
    if not activities:
        return _ignored("no_activities")
    events: list[CarrierEvent] = []
    for activity in activities:
        try:
            events.append(read_activity(activity))
        except MalformedMessageError:
            if len(activities) == 1:
                raise
            # Its neighbours are good: a digit before it must not be lost.
            events.append(IgnoredMessage("malformed_activity"))
    return events


def _transcript(command: ReportTranscript) -> list[bytes]:
    confidence = command.confidence
    if confidence is not None and not 0.0 <= confidence <= 1.0:
        raise ValueError("expected a confidence between 0 and 1")
    # An utterance without words says nothing, and a final one would make VAIC stop listening.
    text = command.text.strip().lower()
    if not text:
        return []
    alternative: Json = {"text": text}
    if command.is_final and confidence is not None:
        alternative["confidence"] = confidence
    kind = "recognition" if command.is_final else "hypothesis"
    return [dump_json({"type": f"userStream.speech.{kind}", "alternatives": [alternative]})]
