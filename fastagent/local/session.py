"""One Realtime session, sans-I/O: client events in, server events and jobs out.

Recognition and synthesis take milliseconds, so the session never does them itself: it hands out `Hear` and
`Speak` jobs, which the owner runs in a thread and answers with `receive_heard` and `receive_speech`.
"""

import binascii
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from fastagent.local.configuration import Configuration, format_of
from fastagent.local.conversation import Conversation, Item, entry_of
from fastagent.local.input import InputBuffer
from fastagent.local.jobs import Hear, Job, Speak
from fastagent.local.mind import Entry, Mind, Situation
from fastagent.local.response import Pace, Response, text_tokens
from fastagent.local.schema import Refusal, check_event
from fastagent.local.transcode import from_pcm16, to_pcm16
from fastagent.local.turns import SpeechStart

__all__ = ["LocalSession", "SessionOptions"]

COMMIT_MIN_MS = 100
"""A commit of less audio than this is refused as empty."""
APPEND_LIMIT_BYTES = 15 << 20
USER_TOKEN_MS = 100
"""One input audio token lasts 100 ms."""
OUT_OF_BAND_LIMIT = 8
"""Responses running beside the conversation's own at a time."""
HEARING_LIMIT = 16
"""Utterances waiting for the ears; a client that commits faster is not understood."""
SESSION_LIFE_S = 3600.0


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session behaves; the defaults are those of the real service where it has any."""

    pace: Pace = field(default_factory=Pace)
    expires_after_s: float = SESSION_LIFE_S
    fail_responses: int = 0
    """So many responses fail at first, with `fail_code`: for tests of retries."""
    fail_code: str = "inference_rate_limit_exceeded"


class LocalSession:
    """The server's side of one Realtime connection.

    Args:
        model: the name the client connected with; echoed.
        now: monotonic seconds.
        unix_s: the wall clock at ``now``, for ``expires_at``.
        mind: decides what to say and what to call.
        options: pace, expiry and faults.
        new_id: makes ids from a prefix.
    """

    def __init__(
        self,
        *,
        model: str,
        now: float,
        unix_s: float,
        mind: Mind | None = None,
        options: SessionOptions | None = None,
        new_id: Callable[[str], str] | None = None,
    ) -> None:
        self.new_id = new_id or (lambda prefix: f"{prefix}_{uuid4().hex[:24]}")
        self.close_code: int | None = None
        self._mind = mind or Mind()
        self._options = options = options or SessionOptions()
        self._outbox: list[bytes] = []
        self._jobs: deque[Job] = deque()
        self._expires_at = now + options.expires_after_s
        self._fail_responses = options.fail_responses
        self._conversation = Conversation()
        self._conversation_id = self.new_id("conv")
        self._configuration = Configuration(
            session_id=self.new_id("sess"),
            model=model,
            expires_at_unix_s=int(unix_s + options.expires_after_s),
        )
        self._input = InputBuffer(
            format_of(self._configuration.input["format"]), self._configuration.turn_detection
        )
        self._input_item_id = self.new_id("item")
        self._hearing: set[str] = set()
        self._transcribed: set[str] = set()
        self._active: Response | None = None
        self._active_entries: list[Entry] | None = None
        self._beside: dict[str, tuple[Response, list[Entry]]] = {}
        self._dictations: dict[str, str | None] = {}
        self._idle_due: float | None = None
        self._last_said = ""
        self._handlers: dict[str, Callable[[dict[str, Any], float], None]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit_by_client,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.delete": self._delete_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }
        self.emit("session.created", {"session": self._configuration.wire()})

    # In and out

    def receive(self, message: bytes | str, now: float) -> None:
        """Take one client event; whatever is wrong with it becomes an ``error`` event."""
        if self.close_code is not None:
            return
        event_id = None
        try:
            try:
                event = orjson.loads(message)
            except orjson.JSONDecodeError:
                raise Refusal("invalid_event", "The event is not valid JSON.") from None
            if isinstance(event, dict) and isinstance(event.get("event_id"), str):
                event_id = event["event_id"][:512]
            checked = check_event(event)
            self._handlers[checked["type"]](checked, now)
        except Refusal as refusal:
            self._error(refusal, event_id)

    def receive_heard(self, item_id: str, text: str, now: float) -> None:
        """The ears' answer to a `Hear` job; empty when nothing was understood."""
        self._hearing.discard(item_id)
        item = self._conversation.find(item_id)
        if item is not None:
            item.heard = text
        if item_id in self._transcribed:
            self._transcribed.discard(item_id)
            if item is not None:
                item.wire["content"][0]["transcript"] = text
                self._emit_transcript(item, text)
        self._plan_responses(now)

    def receive_speech(self, response_id: str, audio: bytes, now: float) -> None:
        """The voice's answer to a `Speak` job, in that job's format."""
        response = self._running(response_id)
        if response is not None:
            response.receive_speech(audio, now)
            self._settle(now)

    def receive_failure(self, job: Job, now: float) -> None:
        """A job raised: nothing was heard, or the response fails."""
        if isinstance(job, Hear):
            self.receive_heard(job.item_id, "", now)
        else:
            response = self._running(job.response_id)
            if response is not None:
                response.fail("server_error")
                self._settle(now)

    def advance(self, now: float) -> None:
        """Do what time brings: audio that is due, the idle timeout, the end of the session."""
        if self.close_code is not None:
            return
        if now >= self._expires_at:
            minutes = round(self._options.expires_after_s / 60)
            self._error(
                Refusal("session_expired", f"Your session hit the maximum duration of {minutes} minutes."),
                None,
            )
            self.close_code = 1001
            return
        for response in self._responses():
            response.advance(now)
        self._settle(now)
        if self._idle_due is not None and now >= self._idle_due:
            self._idle_due = None
            self._time_out(now)

    def next_deadline(self) -> float | None:
        """When `advance` must be called next."""
        if self.close_code is not None:
            return None
        dues = [response.next_deadline() for response in self._responses()]
        return min(due for due in (*dues, self._idle_due, self._expires_at) if due is not None)

    def messages_to_send(self) -> list[bytes]:
        """Events to send, oldest first; each is given once."""
        messages, self._outbox = self._outbox, []
        return messages

    def jobs_to_run(self) -> list[Job]:
        """Jobs to run, oldest first; each is given once."""
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    # What responses need

    def emit(self, event_type: str, fields: dict[str, Any]) -> None:
        """Send an event."""
        self._outbox.append(orjson.dumps({"type": event_type, "event_id": self.new_id("event"), **fields}))

    def add_output(self, item: Item) -> None:
        """Put a response's item into the conversation."""
        self._add(item, None)

    def finish_output(self, item: Item) -> None:
        """Announce that a response's item is complete."""
        if item.said:
            self._last_said = item.said
        if self._conversation.find(item.id) is item:
            self.emit("conversation.item.done", {"item": item.wire, "previous_item_id": self._before(item)})

    def extend_output(self, item: Item, audio: bytes) -> None:
        """Keep audio that was sent for an item."""
        self._configuration.is_voice_locked = True
        if self._conversation.find(item.id) is item:
            self._conversation.extend_audio(item, audio)

    # Client events

    def _update(self, event: dict[str, Any], now: float) -> None:
        before = self._configuration.input["format"]
        self._configuration.update(event["session"], is_responding=self._active is not None)
        if self._configuration.input["format"] != before:
            self._input = self._input.reformatted(format_of(self._configuration.input["format"]))
        self._input.configure(self._configuration.turn_detection)
        self._arm_idle(now if self._active is None else None, 0)
        self.emit("session.updated", {"session": self._configuration.wire()})

    def _append(self, event: dict[str, Any], now: float) -> None:
        try:
            audio = b64decode(event["audio"], validate=True)
        except (binascii.Error, ValueError):
            raise Refusal("invalid_value", "'audio' is not valid base64.", "audio") from None
        if len(audio) > APPEND_LIMIT_BYTES:
            raise Refusal("invalid_value", f"'audio' holds more than {APPEND_LIMIT_BYTES} bytes.", "audio")
        if len(audio) % self._input.format.encoding.bytes_per_sample:
            raise Refusal("invalid_value", "'audio' ends inside a sample.", "audio")
        for verdict in self._input.append(to_pcm16(audio, self._input.format.encoding)):
            if isinstance(verdict, SpeechStart):
                self._speech_started(now)
            else:
                self._speech_stopped(now)

    def _commit_by_client(self, event: dict[str, Any], now: float) -> None:
        if self._input.buffered_ms < COMMIT_MIN_MS:
            raise Refusal(
                "input_audio_buffer_commit_empty",
                f"Error committing input audio buffer: buffer too small. Expected at least"
                f" {COMMIT_MIN_MS}ms of audio, but buffer only has {self._input.buffered_ms}ms of audio.",
            )
        self._commit(now)

    def _clear(self, event: dict[str, Any], now: float) -> None:
        self._input.clear()
        self._input_item_id = self.new_id("item")
        self.emit("input_audio_buffer.cleared", {})

    def _create_item(self, event: dict[str, Any], now: float) -> None:
        item = self._item_from(event["item"])
        self._check_call(item)
        self._add(item, event.get("previous_item_id"))
        self.emit("conversation.item.done", {"item": item.wire, "previous_item_id": self._before(item)})

    def _retrieve_item(self, event: dict[str, Any], now: float) -> None:
        item = self._conversation.get(event["item_id"], action="retrieve")
        wire = dict(item.wire)
        if item.audio_format is not None:
            audio = b64encode(item.audio).decode()
            wire["content"] = [
                {**part, "audio": audio} if part["type"].endswith("_audio") else part
                for part in wire["content"]
            ]
        self.emit("conversation.item.retrieved", {"item": wire})

    def _truncate_item(self, event: dict[str, Any], now: float) -> None:
        ids = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
        self._conversation.truncate(**ids)
        self.emit("conversation.item.truncated", ids)

    def _delete_item(self, event: dict[str, Any], now: float) -> None:
        self._conversation.delete(event["item_id"])
        self.emit("conversation.item.deleted", {"item_id": event["item_id"]})

    def _create_response(self, event: dict[str, Any], now: float) -> None:
        self._respond(event.get("response") or {}, now)

    def _cancel_response(self, event: dict[str, Any], now: float) -> None:
        response = self._running(event["response_id"]) if "response_id" in event else self._active
        if response is None:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        response.cancel("client_cancelled")
        self._settle(now)

    # Caller audio

    def _speech_started(self, now: float) -> None:
        self.emit(
            "input_audio_buffer.speech_started",
            {"audio_start_ms": self._input.turn_start_ms, "item_id": self._input_item_id},
        )
        if self._configuration.interrupts_response and self._active is not None:
            self._active.cancel("turn_detected")
            self._settle(now)
        self._idle_due = None

    def _speech_stopped(self, now: float) -> None:
        self.emit(
            "input_audio_buffer.speech_stopped",
            {"audio_end_ms": self._input.position_ms, "item_id": self._input_item_id},
        )
        self._commit(now)
        if self._configuration.creates_response:
            try:
                self._respond({}, now)
            except Refusal as refusal:
                self._error(refusal, None)

    def _commit(self, now: float) -> None:
        item_id, self._input_item_id = self._input_item_id, self.new_id("item")
        pcm = self._input.take_turn()
        audio_format = self._input.format
        audio = from_pcm16(pcm, audio_format.encoding)
        item = Item(
            {
                "id": item_id,
                "object": "realtime.item",
                "type": "message",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_audio", "transcript": None}],
            },
            audio=bytearray(audio),
            audio_bytes=len(audio),
            audio_format=audio_format,
        )
        self.emit(
            "input_audio_buffer.committed",
            {"item_id": item_id, "previous_item_id": self._conversation.last_id},
        )
        self._add(item, None)
        self.emit("conversation.item.done", {"item": item.wire, "previous_item_id": self._before(item)})
        self._hearing.add(item_id)
        if self._configuration.input["transcription"] is not None:
            self._transcribed.add(item_id)
        if len(self._hearing) > HEARING_LIMIT:
            self.receive_heard(item_id, "", now)
        else:
            self._jobs.append(Hear(item_id, pcm, audio_format.sample_rate, self._configuration.phrases))

    def _emit_transcript(self, item: Item, text: str) -> None:
        ids = {"item_id": item.id, "content_index": 0}
        prefix = "conversation.item.input_audio_transcription"
        if text:
            self.emit(f"{prefix}.delta", {**ids, "delta": text})
        usage = {"type": "duration", "seconds": item.audio_ms / 1000}
        self.emit(f"{prefix}.completed", {**ids, "transcript": text, "usage": usage})

    def _time_out(self, now: float) -> None:
        """The caller said nothing for the configured time: commit the silence and speak."""
        end_ms = self._input.position_ms
        self.emit(
            "input_audio_buffer.timeout_triggered",
            {
                "audio_start_ms": max(0, end_ms - self._input.buffered_ms),
                "audio_end_ms": end_ms,
                "item_id": self._input_item_id,
            },
        )
        self._commit(now)
        self._respond({}, now)

    # Responses

    def _respond(self, override: dict[str, Any], now: float) -> None:
        is_out_of_band = override.get("conversation") == "none"
        if not is_out_of_band and self._active is not None:
            raise Refusal(
                "conversation_already_has_active_response",
                "Conversation already has an active response in progress. Wait until the response is finished"
                " before creating a new one.",
            )
        if is_out_of_band and len(self._beside) >= OUT_OF_BAND_LIMIT:
            raise Refusal("rate_limit_exceeded", "Too many out-of-band responses are in progress.")
        settings = self._configuration.for_response(override)
        entries = self._entries_of(override["input"]) if "input" in override else None
        response = Response(
            self, self.new_id("resp"), self._conversation_id, settings, self._options.pace, self._input_tokens
        )
        if is_out_of_band:
            self._beside[response.id] = (response, self._entries() if entries is None else entries)
        else:
            self._active, self._active_entries = response, entries
        self._idle_due = None
        self._dictations[response.id] = override.get("instructions")
        response.begin()
        self._emit_rate_limits()
        if self._fail_responses > 0:
            self._fail_responses -= 1
            response.fail(self._options.fail_code)
            self._settle(now)
        else:
            self._plan_responses(now)

    def _plan_responses(self, now: float) -> None:
        """Decide for each response that waits, once everything the caller said is heard."""
        for response, entries in [*self._beside.values()]:
            if not response.is_planned:
                self._plan(response, entries, now)
        if self._active is not None and not self._active.is_planned:
            if self._active_entries is not None:
                self._plan(self._active, self._active_entries, now)
            elif not self._hearing:
                self._plan(self._active, self._entries(), now)
        self._settle(now)

    def _plan(self, response: Response, entries: Sequence[Entry], now: float) -> None:
        settings = response.settings
        situation = Situation(
            instructions=settings.instructions,
            response_instructions=self._dictations.get(response.id),
            tools=settings.tools,
            tool_choice=settings.tool_choice,
            entries=tuple(entries),
            last_said=self._last_said,
        )
        response.plan(self._mind.decide(situation), now)

    def _settle(self, now: float) -> None:
        """Hand out the speech that responses want; forget those that ended."""
        for response in self._responses():
            request = response.take_speech_request()
            if request is not None:
                self._jobs.append(
                    Speak(
                        request.response_id, request.text, request.voice, request.speed, request.output_format
                    )
                )
            if response.status != "in_progress":
                self._dictations.pop(response.id, None)
                self._beside.pop(response.id, None)
                if response is self._active:
                    self._active = None
                    self._arm_idle(now, response.sent_audio_ms)

    def _responses(self) -> list[Response]:
        beside = [response for response, _ in self._beside.values()]
        return [self._active, *beside] if self._active is not None else beside

    def _running(self, response_id: str) -> Response | None:
        return next((response for response in self._responses() if response.id == response_id), None)

    def _arm_idle(self, now: float | None, playing_ms: int) -> None:
        """The idle timeout counts from the end of a response's audio, played in real time."""
        timeout_ms = self._configuration.idle_timeout_ms
        self._idle_due = None
        if now is not None and timeout_ms is not None and self._last_said and not self._input.is_speaking:
            self._idle_due = now + (timeout_ms + playing_ms) / 1000

    def _emit_rate_limits(self) -> None:
        self.emit(
            "rate_limits.updated",
            {
                "rate_limits": [
                    {"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.06},
                    {"name": "tokens", "limit": 50000, "remaining": 49950, "reset_seconds": 0.06},
                ]
            },
        )

    # Items

    def _item_from(self, wire: dict[str, Any]) -> Item:
        item = Item({"id": self.new_id("item"), "object": "realtime.item", "status": "completed", **wire})
        item.wire["object"] = "realtime.item"
        if wire["type"] == "function_call":
            item.wire.setdefault("call_id", self.new_id("call"))
        if wire["type"] == "message":
            item.wire["content"] = [self._part_from(part, item) for part in wire["content"]]
        return item

    def _part_from(self, part: dict[str, Any], item: Item) -> dict[str, Any]:
        if part["type"] != "input_audio":
            return dict(part)
        try:
            audio = b64decode(part.get("audio", ""), validate=True)
        except (binascii.Error, ValueError):
            raise Refusal("invalid_value", "'audio' is not valid base64.", "item.content") from None
        item.audio_format = format_of(self._configuration.input["format"])
        item.audio += audio
        item.audio_bytes = len(item.audio)
        item.heard = part.get("transcript") or ""
        return {"type": "input_audio", "transcript": part.get("transcript")}

    def _check_call(self, item: Item) -> None:
        """An output belongs to a call of this conversation."""
        if item.wire["type"] != "function_call_output":
            return
        call_id = item.wire["call_id"]
        calls = (
            other.wire.get("call_id") for other in self._conversation if other.wire["type"] == "function_call"
        )
        if call_id not in calls:
            raise Refusal(
                "invalid_tool_call_id", f"Tool call ID '{call_id}' not found in conversation.", "item.call_id"
            )

    def _add(self, item: Item, previous_item_id: str | None) -> None:
        before = self._conversation.add(item, previous_item_id)
        self.emit("conversation.item.added", {"item": item.wire, "previous_item_id": before})

    def _before(self, item: Item) -> str | None:
        before = None
        for other in self._conversation:
            if other is item:
                return before
            before = other.id
        return None

    def _entries(self) -> list[Entry]:
        return [entry_of(item) for item in self._conversation]

    def _entries_of(self, wires: Sequence[dict[str, Any]]) -> list[Entry]:
        entries = []
        for wire in wires:
            if wire["type"] == "item_reference":
                entries.append(entry_of(self._conversation.get(wire["id"], action="retrieve")))
            else:
                entries.append(entry_of(self._item_from(wire)))
        return entries

    def _input_tokens(self) -> tuple[int, int]:
        """Text and audio tokens of the whole context."""
        texts = text_tokens(self._configuration.instructions)
        audio = 0
        for item in self._conversation:
            entry = entry_of(item)
            if (
                item.wire["type"] == "message"
                and item.wire["role"] == "user"
                and item.audio_format is not None
            ):
                audio += -(-item.audio_ms // USER_TOKEN_MS)
            else:
                texts += text_tokens(entry.text)
        return texts, audio

    def _error(self, refusal: Refusal, event_id: str | None) -> None:
        self.emit(
            "error",
            {
                "error": {
                    "type": "invalid_request_error",
                    "code": refusal.code,
                    "message": refusal.message,
                    "param": refusal.param,
                    "event_id": event_id,
                }
            },
        )
