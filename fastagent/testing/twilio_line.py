"""The carrier's side of a Twilio media stream, sans-I/O: what Twilio does with a caller.

A `TwilioLine` sends the caller's audio by an open-loop schedule, plays what it is given on a virtual clock,
sends marks back once what came before them was heard (and at ``clear`` all at once, heard or not), and writes
down every rule the bot breaks. Time is an argument; `TwilioPhone` puts the line on a socket.

::

    IDLE ── initiate: connected, start ──▶ ACTIVE ── stop sent, or the bot closed ──▶ ENDED
"""

import base64
from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

import orjson

from fastagent._native import g711
from fastagent.testing.caller_voice import CallerVoice, comfort_noise
from fastagent.testing.recording import PlayoutClock, Track, stereo
from fastagent.testing.twilio_records import (
    PlayedStretch,
    TwilioOptions,
    TwilioPhase,
    TwilioRule,
    TwilioViolation,
)

__all__ = ["TwilioLine"]

SAMPLE_RATE = 8_000
DIGITS = frozenset("0123456789*#ABCD")
MARK_CHARS_MAX = 256
ENVELOPES: Mapping[str, frozenset[str]] = {
    "media": frozenset({"event", "streamSid", "media"}),
    "mark": frozenset({"event", "streamSid", "mark"}),
    "clear": frozenset({"event", "streamSid"}),
}
"""The only messages of a bot, and all their fields: Twilio warns of any other."""
INNER = {"media": "payload", "mark": "name"}


class TwilioLine:
    """One caller on one stream; see the module's text for what it does and watches."""

    def __init__(self, options: TwilioOptions | None = None, *, call_sid: str | None = None) -> None:
        self.options = options or TwilioOptions()
        self.call_sid = call_sid or f"CA{uuid4().hex}"
        self.stream_sid = f"MZ{uuid4().hex}"
        self.phase = TwilioPhase.IDLE
        self.end_code = ""
        """``stopped`` when the caller left, ``closed`` when the bot did, ``lost`` without a close frame."""
        self.violations: list[TwilioViolation] = []
        self.received: list[tuple[float, str]] = []
        """Arrival time and event of every message."""
        self.streams: list[PlayedStretch] = []
        """Every stretch of the bot's audio, in order."""
        self.marks_reached: list[str] = []
        """Marks that came back because they were played."""
        self.marks_cleared: list[str] = []
        """Marks that came back because of a ``clear``."""
        self.utterances: list[tuple[float, float]] = []
        """When the caller's speech left: first and last sample of each ``say``."""
        self.unheard_at_hangup_s = 0.0
        """Bot audio that was cut off when the bot closed the stream."""
        self.chunks_sent = 0
        self.caller_audio = bytearray()
        """µ-law of every media message, as it was made."""
        self.clock = PlayoutClock()
        self.is_closing = False
        """Twilio has said ``stop`` and closes the socket."""
        self._caller = Track()
        self._voice = CallerVoice(
            SAMPLE_RATE,
            comfort_noise(SAMPLE_RATE, self.options.comfort_noise_peak),
            track=self._caller,
            utterances=self.utterances,
            echo_db=self.options.echo_db,
            echo_delay_s=self.options.echo_delay_ms / 1000,
        )
        self._outbox: list[bytes] = []
        self._marks: list[tuple[float, str]] = []
        """When each is reached, in order."""
        self._echoes: list[tuple[float, str]] = []
        """When each comes back, in order."""
        self._sequence = 0
        self._chunks = 0
        self._origin_s = 0.0
        self._held_back: bytes | None = None

    # What a test asks

    @property
    def is_over(self) -> bool:
        """The stream ended, by either side."""
        return self.phase is TwilioPhase.ENDED

    @property
    def has_speech(self) -> bool:
        """Something the caller shall say is not yet said."""
        return self._voice.has_speech

    @property
    def owes_marks(self) -> bool:
        """A mark has not come back yet."""
        return bool(self._marks or self._echoes)

    @property
    def bot_words(self) -> Mapping[float, str]:
        """Nothing: this carrier is told no words."""
        return {}

    @property
    def refusal(self) -> str:
        """Why the bot did not take the call; a stream is refused by closing it, without a word."""
        return "the stream was closed" if self.is_over and not self.received else ""

    @property
    def media_name(self) -> str:
        """The format of caller audio, under the carrier's name."""
        return "audio/x-mulaw"

    def is_playing(self, now: float) -> bool:
        """The bot is audible."""
        return self.clock.pending_s(now) > 0

    def pending_s(self, now: float) -> float:
        """Bot audio received and not yet heard."""
        return self.clock.pending_s(now)

    def said(self, speaker: Literal["caller", "bot"]) -> list[str]:
        """Nothing: this carrier is told no words."""
        return []

    def recording(self, sample_rate: int = 24_000) -> bytes:
        """The call so far as interleaved PCM16: left what the caller sent, right what the caller heard."""
        return stereo(self._caller, self.clock.track, self._origin_s, sample_rate)

    # What the caller does

    def initiate(self, now: float, parameters: Mapping[str, str]) -> None:
        """Begin the stream, with the parameters of its TwiML."""
        if self.phase is not TwilioPhase.IDLE:
            raise ValueError("the stream has begun already")
        self._origin_s = now
        self.phase = TwilioPhase.ACTIVE
        self._outbox.append(orjson.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        start = {
            "streamSid": self.stream_sid,
            "accountSid": self.options.account_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "customParameters": dict(parameters),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE, "channels": 1},
        }
        self._send("start", start=start)

    def say(self, pcm: bytes, sample_rate: int) -> None:
        """Queue PCM16 speech."""
        self._voice.say(pcm, sample_rate)

    def dtmf(self, digits: str) -> bool:
        """Type digits, one message each; False while there is no stream."""
        if self.phase is not TwilioPhase.ACTIVE:
            return False
        if not DIGITS.issuperset(digits):
            raise ValueError("expected keys 0-9, *, #, A-D")
        for digit in digits:
            self._send("dtmf", dtmf={"track": "inbound_track", "digit": digit})
        return True

    def hang_up(self, now: float) -> None:
        """The caller hangs up: ``stop``, and nothing after it."""
        if self.phase is not TwilioPhase.ACTIVE:
            return
        self.advance(now)
        self._send("stop", stop={"accountSid": self.options.account_sid, "callSid": self.call_sid})
        self._end(now, "stopped")
        self.is_closing = True

    def lose_socket(self, now: float, code: int = 1006) -> None:
        """The socket is gone: a stream does not come back."""
        if self.phase is TwilioPhase.ACTIVE:
            self.advance(now)
            self.unheard_at_hangup_s = self.clock.pending_s(now)
            self._end(now, "lost" if code == 1006 else "closed")
        self._outbox.clear()

    # Time

    def advance(self, now: float) -> None:
        """Do what is due: caller audio, marks, the end of stretches."""
        if self.phase is not TwilioPhase.ACTIVE:
            return
        while self._marks and self._marks[0][0] <= now:
            at_s, name = self._marks.pop(0)
            self.marks_reached.append(name)
            self._echoes.append((at_s + self.options.faults.mark_delay_ms / 1000, name))
        for stretch in self.streams:
            if stretch.is_closed and stretch.ends_at_s <= now:
                stretch.is_done = True
        while self._echoes and self._echoes[0][0] <= now:
            self._send("mark", mark={"name": self._echoes.pop(0)[1]})
        while self._next_chunk_s <= now:
            self._send_chunk(self._next_chunk_s)

    @property
    def _next_chunk_s(self) -> float:
        # From the stream's start, so that no rounding adds up over a long call; sent once it is recorded.
        return self._origin_s + (self._chunks + 1) * self.options.chunk_ms / 1000

    def next_deadline(self, now: float) -> float | None:
        """When `advance` has something to do next; None when the stream does not run."""
        if self.phase is not TwilioPhase.ACTIVE:
            return None
        due = [self._next_chunk_s, *(at_s for at_s, _ in (*self._marks[:1], *self._echoes[:1]))]
        due += [one.ends_at_s for one in self.streams if one.is_closed and not one.is_done]
        return min(due)

    def messages_to_send(self) -> list[bytes]:
        """Everything written since the last call, in order."""
        outbox, self._outbox = self._outbox, []
        return outbox

    # Bot -> line

    def report(self, rule: TwilioRule, now: float, detail: str = "") -> None:
        """Note a broken rule."""
        self.violations.append(TwilioViolation(now, rule, detail))

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
        kind = parsed.get("event") if isinstance(parsed, dict) else None
        if not isinstance(kind, str):
            self.report("message_malformed", now, f"{len(message)} bytes")
            return
        if self.phase is TwilioPhase.IDLE:
            self.report("message_before_start", now, kind)
        if self.phase is not TwilioPhase.ACTIVE:
            return
        self.received.append((now, kind))
        value = self._checked(kind, parsed, now)
        if value is None:
            return
        match kind:
            case "media":
                self._media(value, now)
            case "mark":
                self._mark(value, now)
            case _:
                self._clear(now)
        self.advance(now)

    def _checked(self, kind: str, message: dict[str, Any], now: float) -> str | None:
        """The message's only value; None when it breaks a rule."""
        fields = ENVELOPES.get(kind)
        if fields is None:
            self.report("event_unknown", now, kind)
            return None
        inner = message.get(kind) if kind in INNER else {}
        wanted = {INNER[kind]} if kind in INNER else set()
        if not isinstance(inner, dict) or fields - message.keys() or wanted - inner.keys():
            self.report("field_missing", now, kind)
            return None
        if message.keys() - fields or inner.keys() - wanted:
            self.report("field_extra", now, kind)
            return None
        if message["streamSid"] != self.stream_sid:
            self.report("wrong_stream", now, kind)
            return None
        value = inner[INNER[kind]] if kind in INNER else ""
        if not isinstance(value, str):
            self.report("message_malformed", now, kind)
            return None
        return value

    def _media(self, payload: str, now: float) -> None:
        try:
            data = base64.b64decode(payload, validate=True)
        except ValueError:
            self.report("payload_not_base64", now)
            return
        if not data:
            self.report("payload_empty", now)
            return
        if data.startswith(b"RIFF"):
            self.report("payload_with_header", now)
        last = self.streams[-1] if self.streams else None
        if last is None or last.is_closed or not self.is_playing(now):
            if last is not None and not last.is_closed:
                last.is_closed = last.is_done = True
            starts_at_s = max(now, self.clock.free_at_s)
            last = PlayedStretch(now, starts_at_s, starts_at_s, first_chunk_at_s=now)
            self.streams.append(last)
        last.last_chunk_at_s = now
        last.received_bytes += len(data)
        last.ends_at_s = self.clock.play(g711.ulaw_decode(data), SAMPLE_RATE, now)

    def _mark(self, name: str, now: float) -> None:
        if not 0 < len(name) <= MARK_CHARS_MAX:
            self.report("mark_name_malformed", now, f"{len(name)} characters")
            return
        self._marks.append((max(now, self.clock.free_at_s), name))
        if self.streams:
            self.streams[-1].is_closed = True

    def _clear(self, now: float) -> None:
        for stretch in self.streams:
            if stretch.ends_at_s > now:
                stretch.was_cut = True
                stretch.cut_ms += stretch.unheard_s(now) * 1000
                stretch.ends_at_s = now
            stretch.is_closed = stretch.is_done = True
        self.clock.cut(now)
        # Nothing tells them apart from marks that were reached.
        for _, name in self._marks:
            self.marks_cleared.append(name)
            self._echoes.append((now + self.options.faults.mark_delay_ms / 1000, name))
        self._marks.clear()

    # Line -> bot

    def _message(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return orjson.dumps(
            {"event": kind, "sequenceNumber": str(self._sequence), "streamSid": self.stream_sid, **fields}
        )

    def _send(self, kind: str, **fields: Any) -> None:
        self._outbox.append(self._message(kind, **fields))

    def _send_chunk(self, due_s: float) -> None:
        samples = SAMPLE_RATE * self.options.chunk_ms // 1000
        # The microphone recorded it until now.
        begun_s = due_s - self.options.chunk_ms / 1000
        data = g711.ulaw_encode(self._voice.piece(samples, begun_s, self.clock.track))
        self.caller_audio += data
        self._chunks += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunks),
            "timestamp": str(self._chunks * self.options.chunk_ms),
            "payload": base64.b64encode(data).decode(),
        }
        self._post(self._message("media", media=media))

    def _post(self, message: bytes) -> None:
        """Send a media message, or do to it what the faults ask for."""
        faults, number = self.options.faults, self._chunks
        if faults.loses_every and number % faults.loses_every == 0:
            return
        self.chunks_sent += 1
        held, self._held_back = self._held_back, None
        if faults.swaps_every and number % faults.swaps_every == 0:
            self._held_back = message
        else:
            self._outbox.append(message)
        if faults.repeats_every and number % faults.repeats_every == 0:
            self._outbox.append(message)
        if held is not None:
            self._outbox.append(held)

    def _end(self, now: float, code: str) -> None:
        self.phase = TwilioPhase.ENDED
        self.end_code = code
        self._clear(now)
        self._echoes.clear()
        self._voice.fall_silent()
