"""The model's side of a load test: a Realtime server in this process that listens and answers with speech.

It speaks the OpenAI Realtime protocol as it is generally available, and the beta's names to those who ask for
the beta. It hears turns by loudness: what calls send is speech on quiet, so that is exact here. There is no
understanding and there are no functions; a client that asks for something else than audio gets audio.
"""

import asyncio
import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson

from fastagent._native.load import AT_AUDIO, AT_CHUNK
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_24K, AudioFormat
from fastagent.errors import LegError
from fastagent.load.exchange import Exchange
from fastagent.load.speech import Speech
from fastagent.load.upgrade import accept
from fastagent.wire.envelope import MediaEnvelope

__all__ = ["ModelOptions", "ModelSide"]

DELTA_MS = 100
ACCEPT_TIMEOUT_S = 10.0
FORMATS = {
    "audio/pcm": PCM16_24K,
    "audio/pcmu": MULAW_8K,
    "audio/pcma": ALAW_8K,
    "pcm16": PCM16_24K,
    "g711_ulaw": MULAW_8K,
    "g711_alaw": ALAW_8K,
}
APPEND = MediaEnvelope(("type",), ("input_audio_buffer.append",), ("audio",))
BETA_NAMES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "conversation.item.added": "conversation.item.created",
}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How the model behaves."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    silence_ms: int = 500
    """Quiet after which a caller's turn is over, as ``server_vad`` has it; a session may ask for another."""
    delay_ms: int = 0
    """From the end of the turn, or the request, to the first audio."""
    greets: bool = False
    """Speak as soon as the session is configured."""

    @property
    def url(self) -> str:
        """Where sessions are opened; with port 0, `ModelSide` knows the one it took."""
        return f"ws://{self.host}:{self.port}/v1/realtime"


class ModelSide:
    """The server; an async context manager.

    Args:
        answers: what it says, one after the other.
    """

    def __init__(self, exchange: Exchange, answers: Sequence[Speech], options: ModelOptions) -> None:
        self.options = options
        self.answers = answers
        self.exchange = exchange
        self.sessions = 0
        """Upgraded since the start."""
        self.errors = 0
        """Requests that were answered with an error."""
        self._server: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What the server under test shall take for the Realtime API."""
        assert self._server is not None
        host, port = self._server.getsockname()[:2]
        return replace(self.options, host=host, port=port).url

    async def __aenter__(self) -> Self:
        server = socket.create_server((self.options.host, self.options.port), backlog=1024)
        server.setblocking(False)
        self._server = server
        self._keep(self._accept_all(server))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept_all(self, server: socket.socket) -> None:
        while True:
            raw, _ = await asyncio.get_running_loop().sock_accept(server)
            self._keep(self._begin(raw))

    async def _begin(self, raw: socket.socket) -> None:
        try:
            descriptor, rest, headers = await accept(raw, timeout_s=ACCEPT_TIMEOUT_S)
        except LegError:
            return
        self.sessions += 1
        offered = headers.get("sec-websocket-protocol", "") + headers.get("openai-beta", "")
        _Session(self, descriptor, rest, is_beta="realtime=v1" in offered or "beta" in offered)


class _Session:
    """One session of the model."""

    def __init__(self, side: ModelSide, descriptor: int, rest: bytes, *, is_beta: bool) -> None:
        self._side = side
        self._engine = side.exchange.engine
        self._is_beta = is_beta
        self._input = self._output = PCM16_24K
        self._detects_turns = self._answers_turns = self._is_interruptible = True
        self._is_begun = False
        self._items = 0
        self._events = itertools.count(1)
        self._response: str | None = None
        self._answer = side.sessions
        self._timer: asyncio.TimerHandle | None = None
        self._speaking_item = ""
        self.connection = self._engine.add(
            descriptor,
            is_client=False,
            is_up=False,
            spec=side.exchange.spec(APPEND),
            media=b"",
            end_quiet_ms=side.options.silence_ms,
            first=rest,
        )
        self._engine.set_format(self.connection, self._input.encoding.value, self._input.sample_rate)
        side.exchange.desk.add_session(self.connection)
        self._id = f"sess_load_{self.connection}"
        self._send("session.created", session=self._session())
        side.exchange.own(self.connection, self)

    # What the client sends

    def take(self, message: bytes, at_ns: int, played_ns: int) -> None:
        """Answer one event."""
        try:
            event = orjson.loads(message)
            kind = event["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._refuse("invalid_json", None)
            return
        match kind:
            case "session.update":
                self._update(event.get("session") or {})
            case "response.create":
                if self._response is not None:
                    self._refuse("conversation_already_has_active_response", event.get("event_id"))
                else:
                    self._respond()
            case "response.cancel":
                if self._response is None:
                    self._refuse("response_cancel_not_active", event.get("event_id"))
                else:
                    self._finish("cancelled")
            case "input_audio_buffer.commit":
                self._commit()
            case "input_audio_buffer.clear":
                self._send("input_audio_buffer.cleared")
            case "conversation.item.create":
                item = dict(event.get("item") or {})
                item.setdefault("id", self._new_item())
                item.update(object="realtime.item", status="completed")
                self._send("conversation.item.added", item=item, previous_item_id=None)
                if not self._is_beta:
                    self._send("conversation.item.done", item=item, previous_item_id=None)
            case "conversation.item.truncate":
                fields = ("item_id", "content_index", "audio_end_ms")
                self._send("conversation.item.truncated", **{name: event.get(name) for name in fields})
            case "conversation.item.delete":
                self._send("conversation.item.deleted", item_id=event.get("item_id"))
            case "input_audio_buffer.append":
                pass  # empty
            case _:
                self._refuse("unknown_event", event.get("event_id"))

    def _update(self, session: dict[str, Any]) -> None:
        audio = session.get("audio") or {}
        given_input, given_output = audio.get("input") or {}, audio.get("output") or {}
        taken = _format(given_input.get("format", session.get("input_audio_format")), self._input)
        if taken != self._input:
            self._input = taken
            self._engine.set_format(self.connection, taken.encoding.value, taken.sample_rate)
        self._output = _format(given_output.get("format", session.get("output_audio_format")), self._output)
        if "turn_detection" in given_input or "turn_detection" in session:
            detection = given_input.get("turn_detection", session.get("turn_detection"))
            self._detects_turns = detection is not None
            self._answers_turns = bool((detection or {}).get("create_response", True))
            self._is_interruptible = bool((detection or {}).get("interrupt_response", True))
        self._send("session.updated", session=self._session())
        if self._side.options.greets and not self._is_begun:
            self._respond()
        self._is_begun = True

    def _commit(self) -> None:
        item = self._new_item()
        self._send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        self._add_caller_item(item)

    # What is heard

    def onset(self, at_ns: int) -> None:
        """The caller speaks."""
        if not self._detects_turns:
            return
        self._speaking_item = self._new_item()
        self._send("input_audio_buffer.speech_started", audio_start_ms=0, item_id=self._speaking_item)
        if self._response is not None and self._is_interruptible:
            self._finish("cancelled")

    def quiet(self, at_ns: int) -> None:
        """The caller's turn is over."""
        if not self._detects_turns or not self._speaking_item:
            return
        item, self._speaking_item = self._speaking_item, ""
        self._send("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id=item)
        self._send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        self._add_caller_item(item)
        if self._answers_turns and self._response is None:
            self._respond()

    def said(self, at_ns: int, spoken_ns: int) -> None:
        """The answer is out."""
        self._finish("completed")

    def closed(self, at_ns: int, code: int) -> None:
        """The client went away."""
        self._side.exchange.desk.remove_session(self.connection)
        if self._timer is not None:
            self._timer.cancel()

    # What is said

    def _respond(self) -> None:
        item = self._new_item()
        self._response = f"resp_{item}"
        self._send("response.created", response=self._describe("in_progress", item))
        if self._side.options.delay_ms:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._side.options.delay_ms / 1000, self._speak, item)
        else:
            self._speak(item)

    def _speak(self, item: str) -> None:
        self._timer = None
        assert self._response is not None
        ids = self._ids(item)
        shown = {"id": item, "object": "realtime.item", "type": "message", "role": "assistant"}
        shown |= {"status": "in_progress", "content": []}  # type: ignore[dict-item]
        self._send("response.output_item.added", response_id=self._response, output_index=0, item=shown)
        self._send("conversation.item.added", item=shown, previous_item_id=None)
        self._send("response.content_part.added", part={"type": "audio", "transcript": ""}, **ids)
        kind = self._name("response.output_audio.delta")
        head = orjson.dumps({"type": kind, "event_id": "@", **ids})[:-1]
        media = head.replace(b'"@"', b'"event_d' + AT_CHUNK + b'"') + b',"delta":"' + AT_AUDIO + b'"}'
        self._engine.set_media(self.connection, media)
        answers = self._side.answers
        speech = answers[self._answer % len(answers)]
        self._answer += 1
        self._engine.say(self.connection, self._side.exchange.speech(speech, self._output, DELTA_MS))

    def _finish(self, status: str) -> None:
        """End the response, said to its end or not."""
        if self._response is None:
            return
        response, self._response = self._response, None
        item = response.removeprefix("resp_")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if status != "completed":
            self._engine.hush(self.connection)
        else:
            ids = self._ids(item, response)
            self._send("response.output_audio.done", **ids)
            self._send("response.content_part.done", part={"type": "audio", "transcript": "babble"}, **ids)
        shown = self._describe(status, item, response)
        output = shown["output"][0]
        self._send("response.output_item.done", response_id=response, output_index=0, item=output)
        self._send("response.done", response=shown)

    def _add_caller_item(self, item: str) -> None:
        shown = {"id": item, "object": "realtime.item", "type": "message", "role": "user"}
        shown |= {"status": "completed", "content": [{"type": "input_audio", "transcript": None}]}  # type: ignore[dict-item]
        self._send("conversation.item.added", item=shown, previous_item_id=None)
        if not self._is_beta:
            self._send("conversation.item.done", item=shown, previous_item_id=None)

    # Words

    def _name(self, kind: str) -> str:
        return BETA_NAMES.get(kind, kind) if self._is_beta else kind

    def _new_item(self) -> str:
        self._items += 1
        return f"item_{self.connection}_{self._items}"

    def _ids(self, item: str, response: str | None = None) -> dict[str, Any]:
        return {
            "response_id": response or self._response,
            "item_id": item,
            "output_index": 0,
            "content_index": 0,
        }

    def _describe(self, status: str, item: str, response: str | None = None) -> dict[str, Any]:
        shown = {"id": item, "object": "realtime.item", "type": "message", "role": "assistant"}
        done = "completed" if status == "completed" else "incomplete"
        part = {"type": "audio" if self._is_beta else "output_audio", "transcript": "babble"}
        whole = {**shown, "status": done, "content": [part]}
        return {
            "object": "realtime.response",
            "id": response or self._response,
            "status": status,
            "status_details": None if status == "in_progress" else {"type": status},
            "output": [] if status == "in_progress" else [whole],
            "conversation_id": f"conv_{self.connection}",
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "usage": None,
            "metadata": None,
        }

    def _session(self) -> dict[str, Any]:
        if self._is_beta:
            names = {v: k for k, v in FORMATS.items() if not k.startswith("audio/")}
            return {
                "id": self._id,
                "object": "realtime.session",
                "model": "load",
                "input_audio_format": names[self._input],
                "output_audio_format": names[self._output],
            }
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": self._id,
            "model": "load",
            "expires_at": 4_102_444_800,
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "audio": {
                "input": {"format": _format_wire(self._input), "turn_detection": None},
                "output": {"format": _format_wire(self._output), "voice": "marin", "speed": 1.0},
            },
        }

    def _refuse(self, code: str, event_id: object) -> None:
        self._side.errors += 1
        error = {"type": "invalid_request_error", "code": code, "message": code, "param": None}
        self._send("error", error={**error, "event_id": event_id})

    def _send(self, kind: str, **fields: Any) -> None:
        event_id = f"event_{next(self._events)}"
        self._engine.send(
            self.connection, orjson.dumps({"type": self._name(kind), "event_id": event_id, **fields})
        )


def _format(given: object, before: AudioFormat) -> AudioFormat:
    name = given.get("type") if isinstance(given, dict) else given
    return FORMATS.get(name, before) if isinstance(name, str) else before


def _format_wire(audio_format: AudioFormat) -> dict[str, Any]:
    if audio_format == PCM16_24K:
        return {"type": "audio/pcm", "rate": 24_000}
    return {"type": "audio/pcmu" if audio_format == MULAW_8K else "audio/pcma"}
