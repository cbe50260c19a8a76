"""One response: from ``response.created`` to ``response.done``, in the order of the protocol.

::

    LISTENING --plan--> SPEAKING (one action after another) --> finished
        └───────────────────┴── cancel, fail ──────────────────────┘

Sans-I/O: it writes events through a callback, asks for speech as a job, and says when it is next due.
"""

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fastagent.audio.formats import AudioFormat
from fastagent.local.conversation import Item
from fastagent.local.mind import Action, Call, Say

__all__ = ["Pace", "Response", "ResponseSettings", "SpeechRequest", "Status"]

Status = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]

ASSISTANT_TOKEN_MS = 50
"""One output audio token lasts 50 ms."""
CHARACTERS_PER_TOKEN = 4
ARGUMENT_DELTA_CHARACTERS = 24


def text_tokens(text: str) -> int:
    """A fair guess of a text's tokens."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast audio leaves: pieces of ``piece_ms``, ``speed_up`` times faster than they play."""

    piece_ms: int = 100
    speed_up: float = 6.0

    @property
    def interval_s(self) -> float:
        """Time between two pieces."""
        return self.piece_ms / 1000 / self.speed_up


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """What is in force for one response: the session's settings with its own on top."""

    instructions: str
    modality: Literal["audio", "text"]
    voice: str
    voice_wire: Any
    speed: float
    output_format: AudioFormat
    format_wire: dict[str, Any]
    tools: tuple[dict[str, Any], ...]
    tool_choice: Any
    max_output_tokens: int | None
    metadata: dict[str, str] | None
    is_out_of_band: bool


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """Speech wanted from the voice, to be answered by `Response.receive_speech`."""

    response_id: str
    text: str = field(repr=False)
    voice: str
    speed: float
    output_format: AudioFormat


class Surroundings(Protocol):
    """What a response needs of its session."""

    def emit(self, event_type: str, fields: dict[str, Any]) -> None:
        """Send an event."""

    def new_id(self, prefix: str) -> str:
        """A fresh id."""

    def add_output(self, item: Item) -> None:
        """Put an output item into the conversation and announce it."""

    def finish_output(self, item: Item) -> None:
        """Announce that an output item is complete."""

    def extend_output(self, item: Item, audio: bytes) -> None:
        """Keep audio sent for an output item."""


class Response:
    """A running or finished response."""

    def __init__(
        self,
        surroundings: Surroundings,
        response_id: str,
        conversation_id: str,
        settings: ResponseSettings,
        pace: Pace,
        input_tokens: Callable[[], tuple[int, int]],
    ) -> None:
        self.id = response_id
        self.settings = settings
        self.status: Status = "in_progress"
        self.speech_wanted: SpeechRequest | None = None
        self.is_planned = False
        self.sent_audio_ms = 0
        self._session = surroundings
        self._conversation_id = None if settings.is_out_of_band else conversation_id
        self._pace = pace
        self._input_tokens = input_tokens
        self._actions: deque[Action] = deque()
        self._output: list[dict[str, Any]] = []
        self._due: float | None = None
        self._item: Item | None = None
        self._say: Say | None = None
        self._audio = b""
        self._audio_sent = 0
        self._words: deque[str] = deque()
        self._word_count = 0
        self._words_told = False
        self._spoken = ""
        self._text_tokens = 0
        self._audio_tokens = 0
        self._is_cut_short = False

    # Life

    def begin(self) -> None:
        """Announce the response; what it says is planned later."""
        self._session.emit("response.created", {"response": self.wire()})

    def plan(self, actions: tuple[Action, ...], now: float) -> None:
        """Carry out these actions, in order."""
        self.is_planned = True
        self._actions.extend(actions)
        self._next_action(now)

    def receive_speech(self, audio: bytes, now: float) -> None:
        """The speech asked for, in the output format. Late speech of an ended response is ignored."""
        if self.status != "in_progress" or self._item is None:
            return
        limit = self.settings.max_output_tokens
        if limit is not None:
            budget_ms = max(0, limit - self._text_tokens - self._audio_tokens) * ASSISTANT_TOKEN_MS
            budget_bytes = budget_ms * self.settings.output_format.bytes_per_ms
            self._is_cut_short = len(audio) > budget_bytes
            audio = audio[:budget_bytes]
        self._audio = audio
        self._audio_sent = 0
        self._due = now
        self.advance(now)

    def advance(self, now: float) -> None:
        """Send what is due."""
        while self.status == "in_progress" and self._due is not None and self._due <= now:
            if self._audio:
                self._send_piece()
            self._due += self._pace.interval_s
            if self._audio_sent >= len(self._audio):
                self._close_item("incomplete" if self._is_cut_short else "completed")
                if self._is_cut_short:
                    self._finish("incomplete", "max_output_tokens")
                else:
                    self._next_action(now)

    def next_deadline(self) -> float | None:
        """When `advance` has something to do."""
        return self._due if self.status == "in_progress" else None

    def cancel(self, reason: Literal["turn_detected", "client_cancelled"]) -> None:
        """Stop now; everything open is closed, as incomplete."""
        if self.status != "in_progress":
            return
        if self._item is not None:
            self._close_item("incomplete")
        self._finish("cancelled", reason)

    def fail(self, code: str) -> None:
        """End with a server error."""
        if self.status != "in_progress":
            return
        if self._item is not None:
            self._close_item("incomplete")
        self._finish("failed", None, {"type": "server_error", "code": code})

    def wire(
        self, usage: dict[str, Any] | None = None, details: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The response object."""
        settings = self.settings
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": details,
            "output": list(self._output),
            "conversation_id": self._conversation_id,
            "output_modalities": [settings.modality],
            "max_output_tokens": "inf" if settings.max_output_tokens is None else settings.max_output_tokens,
            "audio": {"output": {"format": settings.format_wire, "voice": settings.voice_wire}},
            "usage": usage,
            "metadata": settings.metadata,
        }

    # Actions

    def _next_action(self, now: float) -> None:
        self._due = None
        while self._actions and self.status == "in_progress":
            action = self._actions.popleft()
            if isinstance(action, Call):
                self._send_call(action)
            elif self.settings.modality == "text":
                self._send_text(action)
            else:
                self._open_speech(action)
                return
        if self.status == "in_progress":
            self._finish("completed", None)

    def _open_item(self, wire: dict[str, Any]) -> Item:
        item = Item(
            {"id": self._session.new_id("item"), "object": "realtime.item", **wire, "status": "in_progress"}
        )
        self._emit("response.output_item.added", {"output_index": len(self._output), "item": dict(item.wire)})
        if not self.settings.is_out_of_band:
            self._session.add_output(item)
        return item

    def _close_output(self, item: Item, status: Status) -> None:
        item.wire["status"] = status
        wire = dict(item.wire)
        self._emit("response.output_item.done", {"output_index": len(self._output), "item": wire})
        self._output.append(wire)
        if not self.settings.is_out_of_band:
            self._session.finish_output(item)

    def _send_call(self, call: Call) -> None:
        call_id = self._session.new_id("call")
        item = self._open_item(
            {"type": "function_call", "name": call.name, "call_id": call_id, "arguments": ""}
        )
        ids = {"item_id": item.id, "output_index": len(self._output), "call_id": call_id}
        for start in range(0, len(call.arguments), ARGUMENT_DELTA_CHARACTERS):
            delta = call.arguments[start : start + ARGUMENT_DELTA_CHARACTERS]
            self._emit("response.function_call_arguments.delta", {**ids, "delta": delta})
        done = {**ids, "name": call.name, "arguments": call.arguments}
        self._emit("response.function_call_arguments.done", done)
        item.wire["arguments"] = call.arguments
        self._text_tokens += text_tokens(call.name + call.arguments)
        self._close_output(item, "completed")

    def _send_text(self, say: Say) -> None:
        self._open_message(say)
        assert self._item is not None
        words = _words(say.text)
        limit = self.settings.max_output_tokens
        for word in words:
            if limit is not None and self._text_tokens + text_tokens(self._spoken + word) > limit:
                self._is_cut_short = True
                break
            self._spoken += word
            self._emit("response.output_text.delta", {**self._part_ids(), "delta": word})
        self._close_item("incomplete" if self._is_cut_short else "completed")
        if self._is_cut_short:
            self._finish("incomplete", "max_output_tokens")

    def _open_message(self, say: Say) -> None:
        self._item = self._open_item({"type": "message", "role": "assistant", "content": []})
        self._say = say
        self._spoken = ""
        is_text = self.settings.modality == "text"
        part = {"type": "text", "text": ""} if is_text else {"type": "audio", "transcript": ""}
        self._emit("response.content_part.added", {**self._part_ids(), "part": part})

    def _open_speech(self, say: Say) -> None:
        self._open_message(say)
        assert self._item is not None
        self._item.audio_format = self.settings.output_format
        # The part exists from the first delta on: a barge-in truncates an item that is still being made.
        self._item.wire["content"] = [{"type": "output_audio", "transcript": ""}]
        self._words = deque(_words(say.text))
        self._word_count = len(self._words)
        self._words_told = False
        self._audio = b""
        self._audio_sent = 0
        settings = self.settings
        self.speech_wanted = SpeechRequest(
            self.id, say.text, settings.voice, settings.speed, settings.output_format
        )

    def take_speech_request(self) -> SpeechRequest | None:
        """The speech to render now, once."""
        request, self.speech_wanted = self.speech_wanted, None
        return request

    def _tell_words(self) -> None:
        """All words come before their sound, so that a client can log them; the protocol leaves it open."""
        text = "".join(self._words)
        self._emit("response.output_audio_transcript.delta", {**self._part_ids(), "delta": text})
        self._emit("response.output_audio_transcript.done", {**self._part_ids(), "transcript": text})
        self._words_told = True

    def _send_piece(self) -> None:
        assert self._item is not None
        if not self._words_told:
            self._tell_words()
        size = self._pace.piece_ms * self.settings.output_format.bytes_per_ms
        piece = self._audio[self._audio_sent : self._audio_sent + size]
        self._audio_sent += len(piece)
        # Words go a little ahead of their sound, and all of them by the last piece.
        share = self._audio_sent / len(self._audio)
        if not self._is_cut_short or share < 1:
            remaining = self._word_count - int(share * self._word_count)
            while len(self._words) > remaining:
                self._spoken += self._words.popleft()
        self._emit("response.output_audio.delta", {**self._part_ids(), "delta": b64encode(piece).decode()})
        self._session.extend_output(self._item, piece)
        self.sent_audio_ms += len(piece) // self.settings.output_format.bytes_per_ms
        self._item.said = self._spoken

    def _close_item(self, status: Status) -> None:
        item = self._item
        assert item is not None
        ids = self._part_ids()
        if self.settings.modality == "text":
            self._emit("response.output_text.done", {**ids, "text": self._spoken})
            part: dict[str, Any] = {"type": "text", "text": self._spoken}
            item.wire["content"] = [{"type": "output_text", "text": self._spoken}]
            item.said = self._spoken
        else:
            self._emit("response.output_audio.done", ids)
            if not self._words_told:
                self._emit("response.output_audio_transcript.done", {**ids, "transcript": self._spoken})
            part = {"type": "audio", "transcript": self._spoken}
            # A truncation that came before the end has removed the transcript for good.
            if "transcript" in item.wire["content"][0]:
                item.wire["content"] = [{"type": "output_audio", "transcript": self._spoken}]
            self._audio_tokens += -(
                -self._audio_sent // (self.settings.output_format.bytes_per_ms * ASSISTANT_TOKEN_MS)
            )
        self._text_tokens += text_tokens(self._spoken)
        self._emit("response.content_part.done", {**ids, "part": part})
        self._close_output(item, status)
        self._item = None
        self._due = None
        self.speech_wanted = None

    def _finish(self, status: Status, reason: str | None, error: dict[str, str] | None = None) -> None:
        self.status = status
        self._due = None
        self._actions.clear()
        details = None
        if status != "completed":
            details = {
                "type": status,
                **({"reason": reason} if reason else {}),
                **({"error": error} if error else {}),
            }
        self._session.emit("response.done", {"response": self.wire(self._usage(), details)})

    def _usage(self) -> dict[str, Any]:
        input_text, input_audio = self._input_tokens()
        return {
            "total_tokens": input_text + input_audio + self._text_tokens + self._audio_tokens,
            "input_tokens": input_text + input_audio,
            "output_tokens": self._text_tokens + self._audio_tokens,
            "input_token_details": {
                "text_tokens": input_text,
                "audio_tokens": input_audio,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": self._text_tokens, "audio_tokens": self._audio_tokens},
        }

    def _part_ids(self) -> dict[str, Any]:
        assert self._item is not None
        return {"item_id": self._item.id, "output_index": len(self._output), "content_index": 0}

    def _emit(self, event_type: str, fields: dict[str, Any]) -> None:
        self._session.emit(event_type, {"response_id": self.id, **fields})


def _words(text: str) -> list[str]:
    """The text cut after each space, so that the pieces join to the text."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:] if text else []
