"""uvicorn's WebSocket protocol class over picows: one port, HTTP answers before the 101.

uvicorn parses the request head and hands us the TCP transport. We run the ASGI application for routing and
authentication; while it has not accepted, any refusal is a plain HTTP answer. At ``websocket.accept`` the
transport goes to a picows protocol whose listener is the native `Leg`:

::

    HEAD ──scope──▶ ROUTING ──websocket.accept──▶ OPEN (Leg) ──close handshake──▶ CLOSED
                       ├──websocket.close / http.response──▶ REFUSED (403 or the app's answer)
                       ├──handshake_timeout_s──▶ REFUSED (503)
                       └──the client leaves──▶ LOST (whoever took the leg hears 1006)

A route that carries media takes the leg over with `accept_leg`; every other route keeps using ASGI
``receive`` and ``send``, which `AsgiHandler` serves on the same leg.
"""

import asyncio
import base64
import http
import logging
from typing import Any, cast
from urllib.parse import unquote

from picows import WSAutoPingStrategy, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from starlette.types import Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.config import Config
from uvicorn.server import ServerState

from fastagent._native.listener import Leg
from fastagent.legs.handler import LegHandler
from fastagent.legs.watch import LegWatch
from fastagent.server.doors.connections import ConnectionLimit

__all__ = ["WebSocketProtocol", "accept_leg", "leg_of"]

logger = logging.getLogger("fastagent.server")
# picows tells of every connection; a call server tells of calls.
_picows_logger = logging.getLogger("picows.fastagent")
_picows_logger.setLevel(logging.WARNING)

LEG_EXTENSION = "fastagent.leg"
EARLY_BYTES_MAX = 65_536
"""What a client may send before its upgrade is answered."""
RECEIVE_QUEUE_MAX = 256
"""Messages that wait for an ASGI application; further ones close with 1008."""
DENIAL_BYTES_MAX = 65_536
"""The body of an application's own refusal; what is beyond is left out."""
CLOSE_TIMEOUT_S = 3.0
"""From our close frame to the peer's when the server stops; then the connection is cut."""
READ_BUFFER_BYTES = 4096
UPGRADE_HEAD = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
"""An upgrade request as picows wants it."""


class AsgiHandler:
    """Serves ASGI ``receive`` and ``send`` on a leg."""

    def __init__(self, protocol: "WebSocketProtocol") -> None:
        self._protocol = protocol
        self._messages: list[Message] = []
        self._reader: asyncio.Future[None] | None = None

    def put(self, message: Message) -> None:
        """Have the application receive a message."""
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def receive(self) -> Message:
        """ASGI ``receive``: the next message, waiting for it."""
        while not self._messages:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._messages.pop(0)

    def on_open(self) -> None:
        """Nothing to do: the application already knows."""

    def on_message(self, data: bytes, is_text: bool) -> None:
        """Queue a message for the application."""
        if len(self._messages) >= RECEIVE_QUEUE_MAX:
            self._protocol.leg.close(1008, "messages are not read")
        elif is_text:
            self.put({"type": "websocket.receive", "text": data.decode()})
        else:
            self.put({"type": "websocket.receive", "bytes": data})

    def on_closed(self, code: int, reason: str) -> None:
        """Tell the application, whoever waits."""
        self.put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def on_writable(self) -> None:
        """The leg itself cuts a peer that does not read."""

    def on_queued(self) -> None:
        """No pump, no queue."""


class WebSocketProtocol(asyncio.Protocol):
    """One upgrade request, from its head to the end of its connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._app_state = app_state
        self._server_state = server_state
        self._loop = _loop or asyncio.get_event_loop()
        self._transport: asyncio.Transport | None = None
        self._has_head = False
        self._early = bytearray()
        self._handler = AsgiHandler(self)
        self.leg = Leg(
            self._handler,
            max_message_bytes=config.ws_max_size,
            send_cap_bytes=app_state.get("send_cap_bytes", 262_144),
        )
        self._is_lost = False
        self.is_taken = False
        """A media route took the leg over: the connection outlives the application's coroutine."""
        self._key = b""
        self._is_answered = False
        """An answer was written, or there is nobody left to read one."""
        self._is_accepted = False
        self._response: Message | None = None
        self._response_body = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        self._closer: asyncio.TimerHandle | None = None

    # The transport's callbacks, until the leg takes it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """uvicorn's HTTP protocol hands its connection over."""
        self._transport = cast(asyncio.Transport, transport)
        self._server_state.connections.add(cast(Any, self))
        self._deadline = self._loop.call_later(
            self._app_state.get("handshake_timeout_s", 5.0), self._refuse_late_application
        )

    def data_received(self, data: bytes) -> None:
        """First the whole request head, at once; then whatever an impatient client already sends."""
        if not self._has_head:
            self._has_head = True
            scope = self._scope(data)
            if scope is None:
                self._answer_http(400, b"malformed upgrade request")
                return
            offered = dict(scope["headers"])
            if offered.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in offered:
                self._answer_http(400, b"an upgrade request has no body")
                return
            if offered.get(b"sec-websocket-version") != b"13":
                self._write_answer(
                    426, [(b"sec-websocket-version", b"13")], b"WebSocket version 13 is needed"
                )
                return
            self._key = offered.get(b"sec-websocket-key", b"")
            if not _is_websocket_key(self._key):
                self._answer_http(400, b"malformed Sec-WebSocket-Key")
                return
            self._handler.put({"type": "websocket.connect"})
            task = self._loop.create_task(self._run(scope))
            self._server_state.tasks.add(task)
            task.add_done_callback(self._server_state.tasks.discard)
        elif len(self._early) + len(data) > EARLY_BYTES_MAX:
            self._answer_http(400, b"data before the upgrade")
        else:
            self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away before it was answered, or after a refusal."""
        self._is_answered = True
        self._lose()

    def eof_received(self) -> bool:
        """Let the transport close itself."""
        return False

    def pause_writing(self) -> None:
        """An HTTP answer is one small write."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def shutdown(self) -> None:
        """The server stops: uvicorn's call, after the drain."""
        if self.leg.is_open:
            self._begin_close(1001, "server stops")
        elif not self._is_answered:
            self._answer_http(503, b"server stops")

    def _finish(self) -> None:
        self._server_state.connections.discard(cast(Any, self))
        self._release_connection()
        for timer in (self._deadline, self._closer):
            if timer is not None:
                timer.cancel()

    def _release_connection(self) -> None:
        limit: ConnectionLimit | None = self._app_state.get("connection_limit")
        if limit is not None:
            limit.release(self._transport)

    def _lose(self) -> None:
        """The connection ends without ever having opened; tell the application, or who took the leg."""
        self._finish()
        if not self._is_lost:
            self._is_lost = True
            self._handler.on_closed(1006, "")
        if self.is_taken and self.leg.handler is not None:
            taken, self.leg.handler = self.leg.handler, None
            taken.on_closed(1006, "")

    def _refuse_late_application(self) -> None:
        if not self._is_answered:
            logger.warning("upgrade not answered in time; refused with 503")
            self._answer_http(503, b"not answered in time")

    # ASGI

    def _scope(self, head: bytes) -> Scope | None:
        assert self._transport is not None
        lines = head.split(b"\r\n")
        try:
            method, target, version = lines[0].split(b" ")
            if method != b"GET" or version != b"HTTP/1.1":
                return None
            headers = []
            for line in lines[1:]:
                if line:
                    name, separator, value = line.partition(b":")
                    if not separator:
                        return None
                    headers.append((name.strip().lower(), value.strip()))
            raw_path, _, query = target.partition(b"?")
            path = unquote(raw_path.decode("ascii"))
        except (ValueError, UnicodeDecodeError):
            return None
        subprotocols = [
            part.strip().decode("latin-1")
            for name, value in headers
            if name == b"sec-websocket-protocol"
            for part in value.split(b",")
        ]
        server = self._transport.get_extra_info("sockname")
        client = self._transport.get_extra_info("peername")
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self._transport.get_extra_info("sslcontext") else "ws",
            "server": tuple(server[:2]) if isinstance(server, tuple) else None,
            "client": tuple(client[:2]) if isinstance(client, tuple) else None,
            "root_path": self._config.root_path,
            "path": self._config.root_path + path,
            "raw_path": self._config.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": subprotocols,
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, LEG_EXTENSION: {"protocol": self}},
        }

    async def _run(self, scope: Scope) -> None:
        try:
            await self._config.loaded_app(scope, self._handler.receive, self._send)
        except (WebSocketDisconnect, ConnectionResetError):
            # What the application got from `receive` or `send` when the client left.
            self._end(1000, "")
        except Exception:
            logger.exception("WebSocket application failed")
            self._end(1011, "internal error")
        else:
            if not self._is_answered:
                logger.error("WebSocket application returned without an answer")
            if not (self._is_accepted and self.is_taken):
                self._end(1000, "")

    def _end(self, code: int, reason: str) -> None:
        if not self._is_answered:
            self._answer_http(500, b"internal error")
        elif self.leg.is_open:
            self._begin_close(code, reason)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._is_accepted:
            if kind == "websocket.send":
                await self._send_message(message)
            elif kind == "websocket.close":
                self._begin_close(message.get("code") or 1000, message.get("reason") or "")
            else:
                raise RuntimeError(f"unexpected ASGI message {kind!r}")
        elif self._is_answered:
            # Answered for the application, which was late, or lost: what it still says goes nowhere.
            if kind == "websocket.accept":
                self._lose()
        elif kind == "websocket.http.response.body" and self._response is not None:
            self._response_body += message.get("body", b"")[: DENIAL_BYTES_MAX - len(self._response_body)]
            if not message.get("more_body", False):
                self._answer_application()
        elif self._response is not None:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._answer_http(403, b"forbidden")
        elif kind == "websocket.http.response.start":
            self._response = message
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    async def _send_message(self, message: Message) -> None:
        if not self.leg.is_open or self.leg.is_closing:
            # An OSError, as ASGI asks for: an application that only sends would never learn it otherwise.
            raise ConnectionResetError("the WebSocket is closed")
        text = message.get("text")
        if text is not None:
            self.leg.send(text.encode())
        else:
            self.leg.send(message["bytes"], False)
        if self.leg.is_blocked:
            # Nothing else here waits: an application that sends in a loop would keep the loop to itself.
            await asyncio.sleep(0)

    # The three answers

    def _accept(self, message: Message) -> None:
        assert self._transport is not None
        self._is_answered = True
        if self._transport.is_closing():
            self._lose()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers") or ()
        ]
        if message.get("subprotocol"):
            headers.append(("Sec-WebSocket-Protocol", message["subprotocol"]))
        self._is_accepted = True
        if self.is_taken:
            self._release_connection()  # a call has limits of its own
        answer = WSUpgradeResponse.create_101_response(headers or None)
        protocol = WSProtocol(
            None,
            None,
            False,
            lambda request: WSUpgradeResponseWithListener(answer, self.leg),
            _picows_logger,
            True,
            None,
            False,
            20,
            20,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,
            self._config.ws_max_size,
            None,
            READ_BUFFER_BYTES,
        )
        watched = _Watched(self, self._handler)
        if self.leg.handler is self._handler:
            self.leg.handler = watched
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        # The request was checked here; picows, which is stricter than RFC 6455, sees only what it needs.
        _feed(protocol, UPGRADE_HEAD % self._key)
        watch: LegWatch | None = self._app_state.get("leg_watch")
        if watch is not None:
            watch.add(self.leg)
        early, self._early = bytes(self._early), bytearray()
        _feed(protocol, early)

    def _answer_http(self, status: int, body: bytes) -> None:
        self._write_answer(status, [(b"content-type", b"text/plain; charset=utf-8")], body)

    def _answer_application(self) -> None:
        assert self._response is not None
        headers = [
            (name, value)
            for name, value in self._response.get("headers") or ()
            if name.lower() != b"content-length"
        ]
        self._write_answer(self._response["status"], headers, bytes(self._response_body))

    def _write_answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        assert self._transport is not None
        self._is_answered = True
        if self._transport.is_closing():
            return
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {status} {phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        lines += [b"content-length: %d" % len(body), b"connection: close"]
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._transport.close()

    def _begin_close(self, code: int, reason: str) -> None:
        """Send our close frame; cut the connection when the peer does not answer it."""
        self.leg.close(code, reason)
        if self._closer is None:
            self._closer = self._loop.call_later(CLOSE_TIMEOUT_S, self.leg.abort, code, reason)

    def leg_closed(self) -> None:
        """The connection is over."""
        self._finish()


class _Watched:
    """A handler, and the protocol's own interest in the connection's end."""

    def __init__(self, protocol: WebSocketProtocol, handler: LegHandler) -> None:
        self._protocol = protocol
        self._handler = handler
        self.on_open = handler.on_open
        self.on_message = handler.on_message
        self.on_writable = handler.on_writable
        self.on_queued = handler.on_queued

    def on_closed(self, code: int, reason: str) -> None:
        """Both hear it."""
        self._protocol.leg_closed()
        self._handler.on_closed(code, reason)


def _is_websocket_key(key: bytes) -> bool:
    """RFC 6455, 4.1: base64 of sixteen bytes."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def _feed(protocol: Any, data: bytes) -> None:
    """Give bytes to a buffered protocol as if they had just arrived."""
    while data:
        buffer = protocol.get_buffer(-1)
        n = min(len(buffer), len(data))
        buffer[:n] = data[:n]
        protocol.buffer_updated(n)
        data = data[n:]


def leg_of(websocket: WebSocket) -> Leg:
    """The native leg that will carry this WebSocket once it is accepted.

    Raises:
        RuntimeError: the server does not run on `WebSocketProtocol`.
    """
    return _protocol_of(websocket).leg


async def accept_leg(websocket: WebSocket, handler: LegHandler, *, subprotocol: str | None = None) -> None:
    """Accept a WebSocket and take its leg over: ``handler`` hears everything from the first frame on.

    The route's coroutine should return then; the connection lives on with its handler.

    Args:
        subprotocol: the one agreed on, of those that the client offered.

    Raises:
        RuntimeError: the server does not run on `WebSocketProtocol`.
    """
    protocol = _protocol_of(websocket)
    protocol.is_taken = True
    protocol.leg.handler = _Watched(protocol, handler)
    await websocket.accept(subprotocol)


def _protocol_of(websocket: WebSocket) -> WebSocketProtocol:
    extension = websocket.scope.get("extensions", {}).get(LEG_EXTENSION)
    if extension is None:
        raise RuntimeError("media routes need the server's own WebSocket protocol class")
    protocol: WebSocketProtocol = extension["protocol"]
    return protocol
