"""One session of the scripted Realtime server: the conversation, what the client sent, and what is said.

`RealtimeModel` opens the sockets; this is what runs on each of them.
"""

import base64
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import orjson
import picows

from fastagent._native import g711
from fastagent.audio.formats import MULAW_8K, PCM16_24K, AudioFormat
from fastagent.testing.realtime_rules import Refusal, audio_format, check_event, decode_audio, merged
from fastagent.wire.realtime_dialects import GA_NAMES

__all__ = ["ModelItem", "ModelScript", "ModelSession", "tone"]

TIMEOUT_S = 10.0
DELTA_MS = 100
COMMIT_MS_MIN = 100
BETA_NAMES = {ga: beta for beta, ga in GA_NAMES.items()}

Event = dict[str, Any]


def tone(duration_ms: int, format: AudioFormat = PCM16_24K, *, hz: float = 440.0, peak: int = 8000) -> bytes:
    """A sine in any format a model speaks."""
    t = np.arange(format.samples_in_ms(duration_ms)) / format.sample_rate
    pcm = (peak * np.sin(2 * np.pi * hz * t)).astype("<i2").tobytes()
    if format.encoding is PCM16_24K.encoding:
        return pcm
    return g711.ulaw_encode(pcm) if format == MULAW_8K else g711.alaw_encode(pcm)


@dataclass(slots=True)
class ModelItem:
    """An item of the conversation, as the server keeps it."""

    item_id: str
    kind: str
    role: str = ""
    call_id: str = ""
    text: str = field(default="", repr=False)
    audio_bytes: int = 0
    audio_ms: int = 0
    """How long it is now: truncation shortens it."""
    truncated_ms: int | None = None
    is_done: bool = True


@dataclass(slots=True)
class _Response:
    response_id: str
    open_item: ModelItem | None = None
    output: list[Event] = field(default_factory=list)


class ModelScript(Protocol):
    """What a session asks of the server it belongs to."""

    speaks_beta: bool
    session_lifetime_s: float
    on_open: "Callable[[ModelSession], None]"
    on_response: "Callable[[ModelSession], None]"

    def look(self) -> None:
        """Something happened."""

    async def wait_until(self, claim: Callable[[], object], what: str, *, timeout_s: float) -> None:
        """Wait until a claim is true."""


class ModelSession(picows.WSListener):
    """One session: what the client sent on it, and what the script has the server say."""

    def __init__(self, model: ModelScript, *, is_silent: bool = False) -> None:
        self.session_id = f"sess_{uuid4().hex[:12]}"
        self.events: list[Event] = []
        """Client events in order; of appended audio only the number of bytes."""
        self.audio = bytearray()
        """Everything appended."""
        self.refusals: list[str] = []
        """Errors the client was answered, as ``code: message``."""
        self.items: dict[str, ModelItem] = {}
        """The conversation, in order."""
        self.settings: Event = _default_settings()
        self.updates = 0
        """Accepted ``session.update`` events."""
        self.is_open = False
        self.close_code: int | None = None
        """The client's close code; 1006 when it just went away, None while the socket is open."""
        self._model = model
        self._is_silent = is_silent
        self._transport: picows.WSTransport | None = None
        self._parts = bytearray()
        self._response: _Response | None = None
        self._turn_item_id = ""
        self._has_spoken = False

    # What a test asks

    @property
    def is_configured(self) -> bool:
        """The client has sent its settings, and they were accepted."""
        return self.updates > 0

    @property
    def input_format(self) -> AudioFormat:
        """What the client appends."""
        return audio_format(self.settings["audio"]["input"]["format"], "input")

    @property
    def output_format(self) -> AudioFormat:
        """What the server says."""
        return audio_format(self.settings["audio"]["output"]["format"], "output")

    @property
    def active_response_id(self) -> str | None:
        """The response that runs."""
        return self._response.response_id if self._response else None

    def sent(self, kind: str) -> list[Event]:
        """The client's events of one type, in order."""
        return [event for event in self.events if event.get("type") == kind]

    def tone(self, duration_ms: int, *, hz: float = 440.0) -> bytes:
        """A sine in the session's output format."""
        return tone(duration_ms, self.output_format, hz=hz)

    async def wait_until(
        self,
        claim: Callable[["ModelSession"], object],
        what: str = "the client",
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Wait until a claim about this session is true.

        Raises:
            LegTimeoutError: it did not come true in time.
        """
        await self._model.wait_until(lambda: claim(self), what, timeout_s=timeout_s)

    # What the server says

    def send(self, event: Mapping[str, Any]) -> None:
        """Send any event; an id is added, and beta names are used when the server speaks beta."""
        kind = str(event.get("type"))
        if self._model.speaks_beta:
            kind = BETA_NAMES.get(kind, kind)
        self.send_raw(orjson.dumps({"event_id": f"event_{uuid4().hex[:12]}", **event, "type": kind}))

    def send_raw(self, message: bytes) -> None:
        """Send anything at all."""
        if self._transport is not None and self.is_open:
            self._transport.send(picows.WSMsgType.TEXT, message)

    def begin_response(self, *, metadata: Mapping[str, str] | None = None, is_aside: bool = False) -> str:
        """Announce a response; returns its id.

        Raises:
            ValueError: one runs already.
        """
        if self._response is not None:
            raise ValueError("a response runs already")
        self._response = _Response(f"resp_{uuid4().hex[:12]}")
        self.send({"type": "response.created", "response": self._describe("in_progress", metadata, is_aside)})
        self.send({"type": "rate_limits.updated", "rate_limits": []})
        return self._response.response_id

    def speak(
        self, audio: bytes, text: str = "Hello.", *, delta_ms: int = DELTA_MS, is_last: bool = True
    ) -> str:
        """Say audio (in the output format) as fast as the socket takes it; returns the item's id.

        A response begins if none runs. With ``is_last`` off the item stays open: the next `speak` goes on
        with it, `finish` ends it.
        """
        if self._response is None:
            self.begin_response()
        response = self._response
        assert response is not None
        item = response.open_item
        if item is None:
            item = self._open_item(response, ModelItem(f"item_{uuid4().hex[:12]}", "message", "assistant"))
            part = {"type": "audio", "transcript": ""}
            self.send({"type": "response.content_part.added", "part": part, **self._ids(item)})
        self._has_spoken = True
        item.text += text
        delta: Event = {"type": "response.output_audio_transcript.delta", "delta": text}
        self.send(delta | self._ids(item))
        step = self.output_format.bytes_per_ms * delta_ms
        for at in range(0, len(audio), step):
            piece = base64.b64encode(audio[at : at + step]).decode()
            self.send({"type": "response.output_audio.delta", "delta": piece, **self._ids(item)})
        item.audio_bytes += len(audio)
        item.audio_ms = item.audio_bytes // self.output_format.bytes_per_ms
        if is_last:
            self.finish()
        return item.item_id

    def call_function(
        self, name: str, arguments: Mapping[str, Any] | str = "{}", *, call_id: str = "", is_last: bool = True
    ) -> str:
        """Call a function; returns the call's id."""
        if self._response is None:
            self.begin_response()
        response = self._response
        assert response is not None
        self._close_item(response)
        call_id = call_id or f"call_{uuid4().hex[:12]}"
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        item = ModelItem(f"item_{uuid4().hex[:12]}", "function_call", call_id=call_id, text=text)
        self._open_item(response, item, name=name, call_id=call_id, arguments="")
        ids = {
            "response_id": response.response_id,
            "item_id": item.item_id,
            "output_index": 0,
            "call_id": call_id,
        }
        self.send({"type": "response.function_call_arguments.delta", "delta": text, **ids})
        self.send({"type": "response.function_call_arguments.done", "name": name, "arguments": text, **ids})
        self._close_item(response, name=name, call_id=call_id, arguments=text)
        if is_last:
            self.finish()
        return call_id

    def finish(
        self,
        status: str = "completed",
        *,
        reason: str = "",
        error: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> None:
        """End the response that runs, if any, with every ``done`` event the protocol has.

        Args:
            usage: the tokens it took, as the protocol has them.
        """
        response = self._response
        if response is None:
            return
        self._close_item(response, status="completed" if status == "completed" else "incomplete")
        details: Event | None = None
        if status != "completed":
            details = {"type": status, "reason": reason} if reason else {"type": status}
            details |= {"error": dict(error)} if error else {}
        done = self._describe(status, None, False) | {"status_details": details, "output": response.output}
        done["usage"] = dict(usage) if usage else None
        self._response = None
        self.send({"type": "response.done", "response": done})

    def error(
        self, code: str, message: str = "", *, kind: str = "invalid_request_error", event_id: str = ""
    ) -> None:
        """Send an ``error`` event."""
        error: Event = {"type": kind, "code": code, "message": message or code, "param": None}
        self.send({"type": "error", "error": error | {"event_id": event_id or None}})

    def speech_started(self) -> str:
        """The server hears the caller and stops what it generates; returns the id of the item to come."""
        self._turn_item_id = f"item_{uuid4().hex[:12]}"
        at = {"audio_start_ms": self._appended_ms(), "item_id": self._turn_item_id}
        self.send({"type": "input_audio_buffer.speech_started", **at})
        if self._detection().get("interrupt_response", True):
            self.finish("cancelled", reason="turn_detected")
        return self._turn_item_id

    def speech_stopped(self, transcript: str | None = None) -> None:
        """The caller's turn is over; it is answered at once, with ``create_response`` on."""
        item = ModelItem(
            self._turn_item_id or f"item_{uuid4().hex[:12]}", "message", "user", text=transcript or ""
        )
        self._turn_item_id = ""
        ids: Event = {"item_id": item.item_id, "audio_end_ms": self._appended_ms()}
        self.send({"type": "input_audio_buffer.speech_stopped", **ids})
        self.send({"type": "input_audio_buffer.committed", "item_id": item.item_id, "previous_item_id": None})
        self._add_item(item, {"role": "user", "content": [{"type": "input_audio", "transcript": None}]})
        if transcript is not None:
            kind = "conversation.item.input_audio_transcription"
            ids = {"item_id": item.item_id, "content_index": 0}
            self.send({"type": f"{kind}.delta", "delta": transcript, **ids})
            usage = {"type": "duration", "seconds": 1}
            self.send({"type": f"{kind}.completed", "transcript": transcript, "usage": usage, **ids})
        if self._detection().get("create_response", True) and self._response is None:
            self.begin_response()
            self._model.on_response(self)

    # Faults

    def drop(self, code: int) -> None:
        """Close with a code."""
        if self._transport is not None and self.is_open:
            self._transport.send_close(picows.WSCloseCode(code))
            self._transport.disconnect()

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        if self._transport is not None and self.is_open:
            raw = self._transport.underlying_transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.disconnect(graceful=False)

    def expire(self) -> None:
        """End the session as the server does at its limit."""
        self.error("session_expired", "Your session hit the maximum duration of 60 minutes.")
        self.drop(1001)

    def stall(self) -> None:
        """Read nothing any more, pings included."""
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    # The socket

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Announce the session, as the first event."""
        self._transport = transport
        self.is_open = True
        if not self._is_silent:
            self.send({"type": "session.created", "session": self._session()})
            self._model.on_open(self)
        self._model.look()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """The socket is gone, whoever closed it."""
        self.is_open = False
        self.close_code = 1006 if self.close_code is None else self.close_code
        self._model.look()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Take one frame of the client."""
        if frame.msg_type is picows.WSMsgType.CLOSE:
            # 1005 stands for a close frame without a code (RFC 6455, 7.1.5).
            self.close_code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big") or 1005
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
            return
        if frame.msg_type not in (picows.WSMsgType.TEXT, picows.WSMsgType.CONTINUATION):
            if frame.msg_type is picows.WSMsgType.BINARY:
                self.refusals.append("binary_frame: the protocol has none")
            return
        self._parts += frame.get_payload_as_bytes()
        if frame.fin:
            message = bytes(self._parts)
            self._parts.clear()
            self._take(message)
            self._model.look()

    def _take(self, message: bytes) -> None:
        event: Any = None
        try:
            event = orjson.loads(message)
            if not isinstance(event, dict):
                raise Refusal("invalid_event", "The event is not a JSON object.")
            check_event(event)
            record = event
            if event["type"] == "input_audio_buffer.append":
                data = decode_audio(event["audio"], self.input_format)
                self.audio += data
                record = {"type": event["type"], "bytes": len(data)}
            self.events.append(record)
            handler = self._HANDLERS.get(event["type"])
            if handler is not None:
                handler(self, event)
        except orjson.JSONDecodeError:
            self._refuse(Refusal("invalid_json", "The event is not JSON."), "")
        except Refusal as refusal:
            self._refuse(refusal, str(event.get("event_id") or "") if isinstance(event, dict) else "")

    def _refuse(self, refusal: Refusal, event_id: str) -> None:
        self.refusals.append(str(refusal))
        self.error(refusal.code, refusal.message, event_id=event_id)

    # Client events

    def _update_session(self, event: Event) -> None:
        session = event["session"]
        voice = session.get("audio", {}).get("output", {}).get("voice")
        if self._has_spoken and voice not in (None, self.settings["audio"]["output"].get("voice")):
            raise Refusal(
                "cannot_update_voice", "Cannot update a conversation's voice.", "session.audio.output.voice"
            )
        self.settings = merged(self.settings, session)
        self.updates += 1
        self.send({"type": "session.updated", "session": self._session()})

    def _commit(self, event: Event) -> None:
        if self._appended_ms() < COMMIT_MS_MIN:
            raise Refusal(
                "input_audio_buffer_commit_empty", "Error committing input audio buffer: buffer too small."
            )
        item = ModelItem(f"item_{uuid4().hex[:12]}", "message", "user")
        self.send({"type": "input_audio_buffer.committed", "item_id": item.item_id, "previous_item_id": None})
        self._add_item(item, {"role": "user", "content": [{"type": "input_audio", "transcript": None}]})

    def _clear(self, event: Event) -> None:
        self.send({"type": "input_audio_buffer.cleared"})

    def _create_item(self, event: Event) -> None:
        wire = event["item"]
        item = ModelItem(
            wire.get("id") or f"item_{uuid4().hex[:12]}",
            wire["type"],
            wire.get("role", ""),
            wire.get("call_id", ""),
            wire.get("output")
            or wire.get("arguments")
            or "".join(part.get("text", "") for part in wire.get("content", ())),
        )
        if item.item_id in self.items:
            raise Refusal("item_create_duplicate_item_id", "Item with this id already exists.", "item.id")
        calls = {known.call_id for known in self.items.values() if known.kind == "function_call"}
        if item.kind == "function_call_output" and item.call_id not in calls:
            raise Refusal("invalid_tool_call_id", "Tool call ID not found in conversation.", "item.call_id")
        self._add_item(item, {name: value for name, value in wire.items() if name not in ("id", "type")})

    def _known_item(self, event: Event, action: str) -> ModelItem:
        item = self.items.get(event["item_id"])
        if item is None:
            raise Refusal(
                f"item_{action}_invalid_item_id", f"Error on {action}: the item does not exist.", "item_id"
            )
        return item

    def _truncate(self, event: Event) -> None:
        item = self._known_item(event, "truncate")
        if item.role != "assistant" or not item.audio_bytes:
            raise Refusal("invalid_value", "Only model output audio messages can be truncated.", "item_id")
        if event["audio_end_ms"] > item.audio_ms:
            message = f"Audio content of {item.audio_ms}ms is already shorter than {event['audio_end_ms']}ms"
            raise Refusal("invalid_value", message, "audio_end_ms")
        item.audio_ms = item.truncated_ms = event["audio_end_ms"]
        ids = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
        self.send({"type": "conversation.item.truncated", **ids})

    def _delete(self, event: Event) -> None:
        del self.items[self._known_item(event, "delete").item_id]
        self.send({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    def _retrieve(self, event: Event) -> None:
        item = self._known_item(event, "retrieve")
        self.send({"type": "conversation.item.retrieved", "item": {"id": item.item_id, "type": item.kind}})

    def _create_response(self, event: Event) -> None:
        if self._response is not None:
            message = (
                f"Conversation already has an active response in progress: {self._response.response_id}."
            )
            raise Refusal("conversation_already_has_active_response", message)
        asked = event.get("response") or {}
        self.begin_response(metadata=asked.get("metadata"), is_aside=asked.get("conversation") == "none")
        self._model.on_response(self)

    def _cancel_response(self, event: Event) -> None:
        if self._response is None or event.get("response_id") not in (None, self._response.response_id):
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        self.finish("cancelled", reason="client_cancelled")

    _HANDLERS: Mapping[str, Callable[["ModelSession", Event], None]] = {
        "session.update": _update_session,
        "input_audio_buffer.commit": _commit,
        "input_audio_buffer.clear": _clear,
        "conversation.item.create": _create_item,
        "conversation.item.truncate": _truncate,
        "conversation.item.delete": _delete,
        "conversation.item.retrieve": _retrieve,
        "response.create": _create_response,
        "response.cancel": _cancel_response,
    }

    # Pieces of events

    def _appended_ms(self) -> int:
        return len(self.audio) // self.input_format.bytes_per_ms

    def _detection(self) -> Event:
        detection: Event = self.settings["audio"]["input"].get("turn_detection") or {}
        return detection

    def _session(self) -> Event:
        expires_at = int(time.time() + self._model.session_lifetime_s)
        return {
            "object": "realtime.session",
            "id": self.session_id,
            "expires_at": expires_at,
            **self.settings,
        }

    def _describe(self, status: str, metadata: Mapping[str, str] | None, is_aside: bool) -> Event:
        assert self._response is not None
        return {
            "object": "realtime.response",
            "id": self._response.response_id,
            "status": status,
            "status_details": None,
            "output": [],
            "conversation_id": None if is_aside else "conv_1",
            "metadata": metadata,
            "usage": None,
        }

    def _ids(self, item: ModelItem) -> Event:
        response_id = self.active_response_id
        return {"response_id": response_id, "item_id": item.item_id, "output_index": 0, "content_index": 0}

    def _wire_item(self, item: ModelItem, status: str, **fields: Any) -> Event:
        return {"id": item.item_id, "object": "realtime.item", "type": item.kind, "status": status, **fields}

    def _add_item(self, item: ModelItem, fields: Mapping[str, Any]) -> None:
        self.items[item.item_id] = item
        wire = self._wire_item(item, "completed", **fields)
        for kind in ("conversation.item.added", "conversation.item.done"):
            self.send({"type": kind, "previous_item_id": None, "item": wire})

    def _open_item(self, response: _Response, item: ModelItem, **fields: Any) -> ModelItem:
        item.is_done = False
        response.open_item = self.items[item.item_id] = item
        if item.kind == "message":
            fields = {"role": "assistant", "content": []}
        wire = self._wire_item(item, "in_progress", **fields)
        at = {"response_id": response.response_id, "output_index": len(response.output)}
        self.send({"type": "response.output_item.added", "item": wire, **at})
        self.send({"type": "conversation.item.added", "previous_item_id": None, "item": wire})
        return item

    def _close_item(self, response: _Response, *, status: str = "completed", **fields: Any) -> None:
        item = response.open_item
        if item is None:
            return
        if item.kind == "message":
            ids = self._ids(item)
            self.send({"type": "response.output_audio.done", **ids})
            self.send({"type": "response.output_audio_transcript.done", "transcript": item.text, **ids})
            part = {"type": "audio", "transcript": item.text}
            self.send({"type": "response.content_part.done", "part": part, **ids})
            content = [{"type": "output_audio", "transcript": item.text}]
            fields = {"role": "assistant", "content": content}
        wire = self._wire_item(item, status, **fields)
        at = {"response_id": response.response_id, "output_index": len(response.output)}
        self.send({"type": "response.output_item.done", "item": wire, **at})
        self.send({"type": "conversation.item.done", "previous_item_id": None, "item": wire})
        response.output.append(wire)
        response.open_item = None
        item.is_done = True


def _default_settings() -> Event:
    detection = {"type": "server_vad", "create_response": True, "interrupt_response": True}
    pcm = {"type": "audio/pcm", "rate": 24_000}
    return {
        "type": "realtime",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "audio": {
            "input": {"format": dict(pcm), "transcription": None, "turn_detection": detection},
            "output": {"format": dict(pcm), "voice": "marin", "speed": 1.0},
        },
    }
