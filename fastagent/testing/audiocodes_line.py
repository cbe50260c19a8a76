"""The carrier's side of an AudioCodes call, sans-I/O: what VoiceAI Connect (VAIC) does with a caller.

A `PhoneLine` speaks the protocol, plays the bot's audio on a virtual playout clock, sends the caller's audio
by an open-loop schedule (a chunk is due when it is due, however late the last one was), and writes down every
rule the bot breaks. Time is an argument, so a test can run a call of an hour in a moment; `AudioCodesPhone`
puts the line on a socket.

::

    IDLE ── initiate | resume ──▶ WAITING ── session.accepted ──▶ ACTIVE ── session.end sent ──▶ ENDED
                                     └───────── session.error ──────┴────────────────────────▶ FAILED
    user stream:  CLOSED ── start ▶ STARTING ── started ▶ OPEN ── stop ▶ STOPPING ── stopped ▶ CLOSED

With ``bargeIn`` off, as it is by default, the line stops the user stream while the bot's audio is open or
draining. What ``playStream.stop`` does to audio not yet heard is disputed between sources, hence
`LineOptions.stop_semantics`; ``abortPrompts`` always cuts.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import orjson

from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.formats import Encoding
from fastagent.testing.audiocodes_playback import PlayedStream, PlayStreams
from fastagent.testing.audiocodes_records import (
    LineOptions,
    LinePhase,
    Rule,
    StreamPhase,
    Transcript,
    Violation,
)
from fastagent.testing.caller_voice import CallerVoice, comfort_noise
from fastagent.testing.recording import Track, stereo
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA
from fastagent.wire.audiocodes_activities import DTMF_SENT, DTMF_SENT_MAX, EVENTS_TO_BOT
from fastagent.wire.events import MediaOffer

__all__ = ["PhoneLine"]

KNOWN_ACTIVITIES = frozenset(
    {"hangup", "transfer", "handover", "config", "playUrl", "abortPrompts", "sendDtmf", "sendMetaData"}
    | {"expectAnotherBotMessage", "startRecognition", "stopRecognition"}
    | {f"{verb}CallRecording" for verb in ("start", "stop", "pause", "resume")}
    | {f"speakerVerification{verb}" for verb in ("CreateSpeaker", "GetSpeakerStatus", "DeleteSpeaker")}
    | {"speakerVerificationEnroll", "speakerVerificationVerify"}
)
"""Every activity of a bot that the vendor names."""

SETTINGS: Mapping[str, Callable[[Any], bool]] = {
    "bargeIn": lambda value: isinstance(value, bool),
    "bargeInMinWordCount": lambda value: isinstance(value, int) and 1 <= value <= 5,
    "sendDTMF": lambda value: isinstance(value, bool),
    "sendEventsToBot": lambda value: isinstance(value, list) and EVENTS_TO_BOT.issuperset(map(str, value)),
}
"""Settings that the line acts upon, and what they may be."""


class PhoneLine:
    """One caller on one line; see the module's text for what it does and watches."""

    def __init__(
        self,
        options: LineOptions | None = None,
        *,
        conversation_id: str | None = None,
        new_id: Callable[[], str] = lambda: str(uuid4()),
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.options = options or LineOptions()
        unknown = [name for name in self.options.formats if name not in AUDIOCODES_MEDIA]
        if unknown or self.options.chunk_ms < 1:
            raise ValueError(
                f"expected known formats and a positive chunk_ms, got {unknown or self.options.chunk_ms}"
            )
        self.conversation_id = conversation_id or new_id()
        self.phase = LinePhase.IDLE
        self.user_stream = StreamPhase.CLOSED
        self.settings: dict[str, Any] = dict(self.options.settings)
        self.media: MediaOffer | None = None
        """The accepted format of caller audio."""
        self.end_code = ""
        """The reason code of our ``session.end``."""
        self.error_reason = ""
        """The reason of the bot's ``session.error``."""
        self.is_validated = False
        """The bot answered ``connection.validate``."""
        self.violations: list[Violation] = []
        self.transfer: Mapping[str, Any] | None = None
        """What the bot last asked for, to have the caller handed on."""
        self.transcript: list[Transcript] = []
        self.activities: list[dict[str, Any]] = []
        """Activities of the bot, in order."""
        self.received: list[tuple[float, str]] = []
        """Arrival time and type of every message but chunks."""
        self.utterances: list[tuple[float, float]] = []
        """When the caller's speech left: first and last sample of each ``say``."""
        self.dtmf_heard = ""
        """Digits the bot sent to the far side."""
        self.unheard_at_hangup_s = 0.0
        """Bot audio that its own hangup or transfer cut off."""
        self.chunks_sent = 0
        self.late_messages = 0
        """Bot messages that crossed our ``session.end`` on the wire."""
        self._caller = Track()
        self._play = PlayStreams(self.options, self.report)
        self._new_id = new_id
        self._utc_now = utc_now
        self._outbox: list[bytes] = []
        self._voice: CallerVoice | None = None
        self._origin_s = 0.0
        self._stream_at_s = 0.0
        self._stream_chunks = 0
        self._next_chunk_s = 0.0
        self._is_resuming = False
        self._owes_header = False
        self._wants_stream = False
        self._waits_until_s: float | None = None

    # What a test asks

    @property
    def is_listening(self) -> bool:
        """Caller audio flows to the bot."""
        return self.user_stream is StreamPhase.OPEN

    @property
    def is_over(self) -> bool:
        """The session ended, by either side."""
        return self.phase in (LinePhase.ENDED, LinePhase.FAILED)

    @property
    def has_speech(self) -> bool:
        """Something the caller shall say is not yet said."""
        return self._voice is not None and self._voice.has_speech

    @property
    def bot_words(self) -> Mapping[float, str]:
        """What the bot said, as far as it told the carrier, by the time it was told."""
        return {entry.at_s: entry.text for entry in self.transcript if entry.speaker == "bot"}

    @property
    def refusal(self) -> str:
        """Why the bot did not take the call; empty when it did."""
        return (self.error_reason or "no reason") if self.phase is LinePhase.FAILED else ""

    @property
    def media_name(self) -> str:
        """The format of caller audio, under the carrier's name."""
        return self.media.name if self.media else "?"

    @property
    def streams(self) -> list[PlayedStream]:
        """Every play stream of the bot, in order."""
        return self._play.streams

    @property
    def open_stream(self) -> PlayedStream | None:
        """The play stream that the bot has open."""
        return self._play.open

    def is_playing(self, now: float) -> bool:
        """The bot is audible, or has a stream open."""
        return self._play.is_busy(now)

    def pending_s(self, now: float) -> float:
        """Bot audio received and not yet heard."""
        return self._play.clock.pending_s(now)

    def said(self, speaker: Literal["caller", "bot"]) -> list[str]:
        """Final texts of one side, in order."""
        return [line.text for line in self.transcript if line.speaker == speaker and line.is_final]

    def recording(self, sample_rate: int = 24_000) -> bytes:
        """The call so far as interleaved PCM16: left what the caller sent, right what the caller heard."""
        return stereo(self._caller, self._play.clock.track, self._origin_s, sample_rate)

    # What the caller does

    def validate(self) -> None:
        """Ask whether a bot is there; no session follows."""
        self._send("connection.validate")

    def initiate(self, now: float) -> None:
        """Offer the call."""
        if self.phase is not LinePhase.IDLE:
            raise ValueError("the call was already offered")
        self._origin_s = now
        self.phase = LinePhase.WAITING
        self._send(
            "session.initiate",
            botName=self.options.bot_name,
            caller=self.options.caller,
            expectAudioMessages=self.options.expects_audio,
            supportedMediaFormats=list(self.options.formats),
        )

    def lose_socket(self, now: float, code: int = 1006) -> None:
        """The socket is gone, however it closed: nothing more is heard or sent until `resume`."""
        self.advance(now)
        self._play.end(now)
        self._outbox.clear()
        self.user_stream = StreamPhase.CLOSED
        if not self.is_over and self.phase is not LinePhase.IDLE:
            self.phase = LinePhase.WAITING

    def resume(self, now: float) -> None:
        """Take the call up again on a new socket; a line that never had the call asks for a stranger's."""
        if self.is_over:
            raise ValueError("the call is over")
        if self.phase is LinePhase.ACTIVE:
            self.lose_socket(now)
        if self.phase is LinePhase.IDLE:
            self._origin_s = now
        self.phase = LinePhase.WAITING
        self._is_resuming = True
        self._send("session.resume")

    def open_user_stream(self, now: float) -> None:
        """Have caller audio flow, as soon as the settings and the bot allow."""
        self._wants_stream = True
        self._steer_user_stream(now)

    def say(self, pcm: bytes, sample_rate: int) -> None:
        """Queue PCM16 speech. It waits while no user stream is open.

        Raises:
            ValueError: the call is not accepted yet, so its format is unknown.
        """
        if self._voice is None:
            raise ValueError("the call is not accepted yet")
        self._voice.say(pcm, sample_rate)

    def dtmf(self, digits: str) -> bool:
        """Type digits; False when the bot did not ask for them (``sendDTMF``), so that none are sent."""
        if self.phase is not LinePhase.ACTIVE or not self.settings.get("sendDTMF"):
            return False
        for value in [digits] if self.options.collects_dtmf else digits:
            self._send_event(self.options.dtmf_name, value=value)
        return True

    def event(self, name: str, **fields: Any) -> bool:
        """Send an event; False without a session, or when ``sendEventsToBot`` must name it and does not."""
        is_wanted = name not in EVENTS_TO_BOT or name in self.settings.get("sendEventsToBot", ())
        if self.phase is not LinePhase.ACTIVE or not is_wanted:
            return False
        self._send_event(name, **fields)
        return True

    def hang_up(self, now: float) -> None:
        """The caller hangs up."""
        self._end(now, "client-disconnected", "Client Side")

    # Time

    def advance(self, now: float) -> None:
        """Do what is due: caller audio, the end of playbacks, the user stream's restart."""
        if self.phase is not LinePhase.ACTIVE:
            return
        for stream in self._play.take_finished(now):
            if not stream.was_cut or self.options.finishes_aborted:
                self.event("playFinished")
        if self._waits_until_s is not None and self._waits_until_s <= now:
            self._waits_until_s = None
        self._steer_user_stream(now)
        while self.is_listening and self._next_chunk_s <= now:
            self._send_chunk(self._next_chunk_s)
            self._stream_chunks += 1
            # From the stream's start, so that no rounding adds up over a long call.
            self._next_chunk_s = self._stream_at_s + self._stream_chunks * self.options.chunk_ms / 1000

    def next_deadline(self, now: float) -> float | None:
        """When `advance` has something to do next; None when only the bot can move the call."""
        if self.phase is not LinePhase.ACTIVE:
            return None
        due = [self._play.next_end_s(), self._waits_until_s]
        if self.is_listening:
            due.append(self._next_chunk_s)
        elif self._play.open is None and self._play.is_busy(now):
            due.append(self._play.clock.free_at_s)
        return min((at for at in due if at is not None), default=None)

    def messages_to_send(self) -> list[bytes]:
        """Everything written since the last call, in order."""
        outbox, self._outbox = self._outbox, []
        return outbox

    # Bot -> line

    def report(self, rule: Rule, now: float, detail: str = "") -> None:
        """Note a broken rule."""
        self.violations.append(Violation(now, rule, detail))

    def report_binary(self, now: float, size_bytes: int) -> None:
        """A message came in a binary frame."""
        self.report("binary_frame", now, f"{size_bytes} bytes")

    def receive(self, message: bytes, now: float) -> None:
        """Take one message of the bot. Broken rules are noted, never raised."""
        self.advance(now)
        parsed: Any = None
        try:
            parsed = orjson.loads(message)
        except orjson.JSONDecodeError:
            pass
        kind = parsed.get("type") if isinstance(parsed, dict) else None
        if not isinstance(kind, str):
            self.report("message_malformed", now, f"{len(message)} bytes")
            return
        if kind != "playStream.chunk":
            self.received.append((now, kind))
        if self.is_over:
            self.late_messages += 1
            return
        if kind == "connection.validated":
            self.is_validated = parsed.get("success") is True
        elif kind == "session.accepted":
            self._accepted(parsed, now)
        elif kind == "session.error":
            self._failed(parsed, now)
        elif self.phase is not LinePhase.ACTIVE:
            self.report("message_before_accepted", now, kind)
        else:
            handler = self._HANDLERS.get(kind)
            if handler is None:
                self.report("message_unknown", now, kind)
                return
            handler(self, parsed, now)
        self.advance(now)

    def _accepted(self, message: dict[str, Any], now: float) -> None:
        if self.phase is not LinePhase.WAITING:
            self.report("accepted_twice" if self.media else "unasked_acknowledgement", now)
            return
        name = message.get("mediaFormat")
        if name is None and self._is_resuming:
            name = self.media.name if self.media else None
        if name not in self.options.formats:
            self.report("accepted_format_not_offered", now, str(name))
            return
        self.media = AUDIOCODES_MEDIA[name]
        rate = self.media.format.sample_rate
        if self._voice is None or self._voice.sample_rate != rate:
            self._voice = CallerVoice(
                rate,
                self._comfort_noise(rate),
                track=self._caller,
                utterances=self.utterances,
                echo_db=self.options.echo_db,
                echo_delay_s=self.options.echo_delay_ms / 1000,
            )
        self.phase = LinePhase.ACTIVE
        self._wants_stream = self._wants_stream or self.options.opens_stream
        if self.options.announces_stream_first:
            self._steer_user_stream(now)
        if not self._is_resuming:
            parameters = {
                "locale": "en-US",
                "caller": self.options.caller,
                "callee": self.options.callee,
                "vaigConversationId": self.conversation_id,
            }
            self._send_event(
                "start", language="en-US", parameters=parameters | dict(self.options.start_parameters)
            )
        self._is_resuming = False

    def _failed(self, message: dict[str, Any], now: float) -> None:
        self.phase = LinePhase.FAILED
        self.error_reason = str(message.get("reason", ""))
        self._fall_silent(now)

    def _stream_started(self, message: dict[str, Any], now: float) -> None:
        if (
            self.user_stream is not StreamPhase.STARTING
            or message.get("participant") != self.options.participant
        ):
            self.report("unasked_acknowledgement", now, "userStream.started")
            return
        self.user_stream = StreamPhase.OPEN
        self._stream_at_s = self._next_chunk_s = now
        self._stream_chunks = 0
        self._owes_header = True

    def _stream_stopped(self, message: dict[str, Any], now: float) -> None:
        if (
            self.user_stream is not StreamPhase.STOPPING
            or message.get("participant") != self.options.participant
        ):
            self.report("unasked_acknowledgement", now, "userStream.stopped")
            return
        self.user_stream = StreamPhase.CLOSED

    def _speech_phase(self, message: dict[str, Any], now: float) -> None:
        if message["type"] == "userStream.speech.started":
            self._caller_is_heard(now)
        elif message["type"] == "userStream.speech.committed":
            self._await_bot(now)

    def _speech_text(self, message: dict[str, Any], now: float) -> None:
        alternatives = message.get("alternatives")
        first = alternatives[0] if isinstance(alternatives, list) and alternatives else None
        text = first.get("text") if isinstance(first, dict) else None
        if not isinstance(text, str):
            self.report("message_malformed", now, "alternatives")
            return
        is_final = message["type"] == "userStream.speech.recognition"
        self.transcript.append(Transcript(now, "caller", text, is_final))
        if is_final:
            self._await_bot(now)
        elif len(text.split()) >= self.settings.get("bargeInMinWordCount", 1):
            self._caller_is_heard(now)

    def _caller_is_heard(self, now: float) -> None:
        if self.options.cuts_on_speech and self.settings.get("bargeIn"):
            self._play.cut(now)

    def _await_bot(self, now: float) -> None:
        if not self.settings.get("bargeIn"):
            self._waits_until_s = now + self.options.resume_recognition_timeout_s

    def _play_start(self, message: dict[str, Any], now: float) -> None:
        self._waits_until_s = None
        self._play.start(message, now)
        text = message.get("altText")
        if isinstance(text, str) and text:
            self.transcript.append(Transcript(now, "bot", text))

    def _activities(self, message: dict[str, Any], now: float) -> None:
        activities = message.get("activities")
        if not isinstance(activities, list):
            self.report("message_malformed", now, "activities")
            return
        for activity in activities:
            if not isinstance(activity, dict) or activity.get("type") not in ("event", "message"):
                self.report("activity_malformed", now)
                continue
            self.activities.append(activity)
            if activity["type"] == "message":
                self.transcript.append(Transcript(now, "bot", str(activity.get("text", ""))))
            else:
                self._activity(activity, now)

    def _activity(self, activity: dict[str, Any], now: float) -> None:
        name = activity.get("name")
        params = activity.get("activityParams")
        params = params if isinstance(params, dict) else {}
        if not isinstance(name, str) or name not in KNOWN_ACTIVITIES:
            self.report("activity_malformed", now, str(name))
        elif name == "abortPrompts":
            self._play.cut(now)
        elif name == "config":
            self._configure(activity.get("sessionParams"), now)
        elif name == "hangup":
            self._end(now, "bot-disconnected", str(params.get("hangupReason", "")))
        elif name in ("transfer", "handover"):
            self._transfer(params, now)
        elif name == "sendDtmf":
            digits = params.get("dtmfDigits")
            if isinstance(digits, str) and 0 < len(digits) <= DTMF_SENT_MAX and DTMF_SENT.issuperset(digits):
                self.dtmf_heard += digits
            else:
                self.report("dtmf_not_sendable", now)
        elif name == "sendMetaData" and not isinstance(activity.get("value"), dict):
            self.report("activity_malformed", now, name)
        elif name == "playUrl":
            self._play_url(params, now)

    def _configure(self, settings: object, now: float) -> None:
        if not isinstance(settings, dict):
            self.report("config_without_session_params", now)
            return
        for key, value in settings.items():
            if key in SETTINGS and not SETTINGS[key](value):
                self.report("setting_malformed", now, key)
            else:
                self.settings[key] = value
        if self.settings.get("bargeIn"):
            self._waits_until_s = None

    def _transfer(self, params: dict[str, Any], now: float) -> None:
        if not str(params.get("transferTarget", "")).startswith(("tel:", "sip:", "sips:")):
            self.report("activity_malformed", now, "transferTarget")
            return
        self.transfer = params
        failure = self.options.transfer_failure
        if params.get("transferNotifications"):
            status = {"status": "failed", "reasonCode": failure} if failure else {"status": "answered"}
            self._send_event("transferStatus", value=status)
        if failure is None:
            self._end(now, "transferred", "")

    def _play_url(self, params: dict[str, Any], now: float) -> None:
        text, url = params.get("playUrlAltText"), str(params.get("playUrlUrl", ""))
        if isinstance(text, str):
            self.transcript.append(Transcript(now, "bot", text))
        scheme, _, content = url.partition("base64,")
        if scheme != "data:audio/wav;":
            # The line reaches no network, so a remote file cannot be played.
            if self.settings.get("playUrlFailureHandling") == "notify-bot":
                self._send_event("playUrlFailed", value={"reason": "not reachable", "playUrlUrl": url})
            return
        try:
            data = base64.b64decode(content, validate=True)
            found = wav.parse_header(data)
        except ValueError:
            found = None
        if found is None or found.channels != 1 or found.format.encoding is Encoding.ALAW:
            self.report("activity_malformed", now, "playUrlUrl")
            return
        data = data[found.data_offset :]
        pcm = (
            g711.ulaw_decode(data) if found.format.encoding is Encoding.MULAW else data[: len(data) // 2 * 2]
        )
        self._play.clock.play(pcm, found.format.sample_rate, now)

    _HANDLERS: Mapping[str, Callable[["PhoneLine", dict[str, Any], float], None]] = {
        "userStream.started": _stream_started,
        "userStream.stopped": _stream_stopped,
        "userStream.speech.started": _speech_phase,
        "userStream.speech.stopped": _speech_phase,
        "userStream.speech.committed": _speech_phase,
        "userStream.speech.hypothesis": _speech_text,
        "userStream.speech.recognition": _speech_text,
        "playStream.start": _play_start,
        "playStream.chunk": lambda line, message, now: line._play.chunk(message, now),
        "playStream.stop": lambda line, message, now: line._play.stop(message, now),
        "activities": _activities,
    }

    # Line -> bot

    def _send(self, kind: str, **fields: Any) -> None:
        self._outbox.append(orjson.dumps({"type": kind, "conversationId": self.conversation_id, **fields}))

    def _send_event(self, name: str, **fields: Any) -> None:
        timestamp = self._utc_now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        activity = {"type": "event", "name": name, "id": self._new_id(), "timestamp": timestamp, **fields}
        self._send("activities", activities=[activity])

    def _send_stream(self, kind: str, **fields: Any) -> None:
        if self.options.participant is not None:
            fields["participant"] = self.options.participant
        self._send(kind, **fields)

    def _steer_user_stream(self, now: float) -> None:
        if self.phase is not LinePhase.ACTIVE:
            return
        is_wanted = self._wants_stream and (
            bool(self.settings.get("bargeIn"))
            or not (self.is_playing(now) or self._waits_until_s is not None)
        )
        if is_wanted and self.user_stream is StreamPhase.CLOSED:
            self.user_stream = StreamPhase.STARTING
            self._send_stream("userStream.start")
        elif not is_wanted and self.is_listening:
            self.user_stream = StreamPhase.STOPPING
            self._send_stream("userStream.stop")

    def _send_chunk(self, due_s: float) -> None:
        assert self.media is not None
        assert self._voice is not None
        format = self.media.format
        pcm = self._voice.piece(format.samples_in_ms(self.options.chunk_ms), due_s, self._play.clock.track)
        data = g711.ulaw_encode(pcm) if format.encoding is Encoding.MULAW else pcm
        if self.media.has_wav_header and (self._owes_header or self.options.repeats_wav_header):
            data = wav.header(format) + data
            self._owes_header = False
        self.chunks_sent += 1
        self._send_stream("userStream.chunk", audioChunk=base64.b64encode(data).decode())

    def _comfort_noise(self, sample_rate: int) -> bytes:
        return comfort_noise(sample_rate, self.options.comfort_noise_peak)

    def _end(self, now: float, code: str, reason: str) -> None:
        if self.is_over or self.phase is LinePhase.IDLE:
            return
        self.advance(now)
        self.phase = LinePhase.ENDED
        self.end_code = code
        if code != "client-disconnected":
            self.unheard_at_hangup_s = self._play.clock.pending_s(now)
        self._fall_silent(now)
        self._send("session.end", reasonCode=code, reason=reason)

    def _fall_silent(self, now: float) -> None:
        self._play.end(now)
        self.user_stream = StreamPhase.CLOSED
        if self._voice is not None:
            self._voice.fall_silent()
        self._waits_until_s = None
