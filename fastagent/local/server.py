"""A WebSocket server for `LocalSession`, on the caller's running loop.

Recognition and synthesis run in two worker threads shared by all sessions; the loop only moves events.
"""

import asyncio
import hmac
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from fastagent.errors import ConfigurationError
from fastagent.local.ears import DeafEars, Ears, Listener
from fastagent.local.jobs import Hear, Job
from fastagent.local.mind import Mind
from fastagent.local.session import LocalSession, SessionOptions
from fastagent.local.voice import Voice, VoiceKind

__all__ = ["LocalServer", "serve"]

PATH = "/v1/realtime"
MAX_SESSIONS = 64
FRAME_LIMIT_BYTES = 16 << 20
MESSAGE_LIMIT_BYTES = 24 << 20
"""A message in fragments: 15 MiB of audio in base64, and its envelope."""
SEND_LIMIT_BYTES = 32 << 20
"""Bytes waiting for a client that does not read; beyond it the session is closed."""
PING_IDLE_S = 20.0
PING_REPLY_S = 20.0
HANDSHAKE_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
DEFAULT_MODEL = "gpt-realtime"

_log = logging.getLogger(__name__)


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    api_key: str | None = None,
    options: SessionOptions | None = None,
    mind: Mind | None = None,
    ears: Listener | None = None,
    voice: Voice | VoiceKind = "auto",
    allow_deaf: bool = False,
    max_sessions: int = MAX_SESSIONS,
) -> "LocalServer":
    """Open a Realtime server and give it once it listens.

    Args:
        host: loopback by default; the engine is made for one machine.
        port: 0 lets the system choose.
        api_key: if given, connections must bring it as a bearer token.
        options: pace, session life and faults.
        mind: decides; the default one reads the wall calendar.
        ears: recognise; by default pocketsphinx.
        voice: speaks; ``auto`` takes espeak-ng when it is installed and pre-rendered prompts otherwise.
        allow_deaf: without pocketsphinx, serve all the same and understand nothing.
        max_sessions: connections beyond it are answered with 429.

    Raises:
        ConfigurationError: ears or voice were asked for that are not installed.
        OSError: the address cannot be bound.
    """
    if ears is None:
        try:
            ears = await asyncio.to_thread(Ears)
        except ConfigurationError:
            if not allow_deaf:
                raise
            ears = DeafEars()
    spoken = voice if isinstance(voice, Voice) else await asyncio.to_thread(Voice, voice)
    server = LocalServer(api_key, options or SessionOptions(), mind or Mind(), ears, spoken, max_sessions)
    await server.listen(host, port)
    return server


class LocalServer:
    """A listening server; made by `serve`, ended by `close`. Also an async context manager."""

    def __init__(
        self,
        api_key: str | None,
        options: SessionOptions,
        mind: Mind,
        ears: Listener,
        voice: Voice,
        max_sessions: int,
    ) -> None:
        self.host = ""
        self.port = 0
        self.sessions_served = 0
        self._api_key = api_key
        self._options = options
        self._mind = mind
        self._ears = ears
        self._voice = voice
        self._max_sessions = max_sessions
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._is_closing = False
        # One thread each: the decoder and espeak-ng serve one caller at a time anyway.
        self._ears_thread = ThreadPoolExecutor(1, "fastagent-ears")
        self._voice_thread = ThreadPoolExecutor(1, "fastagent-voice")

    @property
    def url(self) -> str:
        """Where clients connect; the official client takes it without the last path segment."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}{PATH}"

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return len(self._connections)

    async def __aenter__(self) -> "LocalServer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def listen(self, host: str, port: int) -> None:
        """Bind the address and accept connections."""
        self._server = await ws_create_server(
            self._accept,
            host,
            port,
            max_frame_size=FRAME_LIMIT_BYTES,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_S,
            auto_ping_reply_timeout=PING_REPLY_S,
            websocket_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            logger_name="fastagent-local",
        )
        address = self._server.sockets[0].getsockname()
        self.host, self.port = address[0], address[1]

    async def wait_closed(self) -> None:
        """Wait until `close` was called by someone."""
        if self._server is not None:
            await self._server.wait_closed()

    async def close(self) -> None:
        """Stop listening and end every session. Safe to call again."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._server is not None:
            self._server.close()
        open_now = list(self._connections)
        for connection in open_now:
            connection.close(WSCloseCode.GOING_AWAY)
        if open_now:
            await asyncio.wait(
                [asyncio.ensure_future(connection.wait_closed()) for connection in open_now],
                timeout=CLOSE_TIMEOUT_S,
            )
        for connection in list(self._connections):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()
        # A decode that runs takes some ten milliseconds; waiting for it must not hold the loop.
        await asyncio.to_thread(self._ears_thread.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._voice_thread.shutdown, cancel_futures=True)

    def run_job(self, job: Job) -> "asyncio.Future[Any]":
        """Run a job in its thread."""
        loop = asyncio.get_running_loop()
        if isinstance(job, Hear):
            return loop.run_in_executor(self._ears_thread, job.run, self._ears)
        return loop.run_in_executor(self._voice_thread, job.run, self._voice)

    def opened(self, connection: "Connection") -> LocalSession:
        """Take a connection in and make its session."""
        self._connections.add(connection)
        self.sessions_served += 1
        return LocalSession(
            model=connection.model,
            now=time.monotonic(),
            unix_s=time.time(),
            mind=self._mind,
            options=self._options,
        )

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def _accept(self, request: WSUpgradeRequest) -> "Connection | WSUpgradeResponseWithListener":
        target = urlsplit(request.path.decode("latin-1"))
        if target.path.rstrip("/") != PATH:
            return _refuse(HTTPStatus.NOT_FOUND, "not_found", "there is only /v1/realtime here")
        if not self._is_authorised(request.headers.get("Authorization", "")):
            return _refuse(HTTPStatus.UNAUTHORIZED, "invalid_api_key", "incorrect API key provided")
        if len(self._connections) >= self._max_sessions or self._is_closing:
            return _refuse(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", "too many sessions")
        model = parse_qs(target.query).get("model", [DEFAULT_MODEL])[0][:256]
        return Connection(self, model or DEFAULT_MODEL)

    def _is_authorised(self, header: str) -> bool:
        if self._api_key is None:
            return True
        scheme, _, token = header.partition(" ")
        # Bytes: compare_digest refuses text that is not ASCII.
        is_same = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._api_key.encode())
        return scheme.lower() == "bearer" and is_same


def _refuse(status: HTTPStatus, code: str, message: str) -> WSUpgradeResponseWithListener:
    body = f'{{"error":{{"type":"invalid_request_error","code":"{code}","message":"{message}"}}}}'.encode()
    headers = {"Content-Type": "application/json"}
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body, headers), None)


class Connection(WSListener):
    """One client's WebSocket around one session."""

    def __init__(self, server: LocalServer, model: str) -> None:
        self.model = model
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: WSTransport | None = None
        self._session: LocalSession | None = None
        self._fragments = bytearray()
        self._is_fragmented = False
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Future[Any]] = set()
        self._closed = asyncio.Event()

    # From the socket

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done: greet."""
        self._transport = transport
        self._session = self._server.opened(self)
        self._flush()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame; the payload is copied before the callback returns."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self.close(WSCloseCode.OK)
            return
        if kind in (WSMsgType.PING, WSMsgType.PONG):
            return
        is_continuation = kind == WSMsgType.CONTINUATION
        if frame.rsv1 or frame.rsv2 or frame.rsv3 or is_continuation != self._is_fragmented:
            self.close(WSCloseCode.PROTOCOL_ERROR)
        elif kind == WSMsgType.BINARY:
            self.close(WSCloseCode.UNSUPPORTED_DATA)
        elif frame.fin and not is_continuation:
            self._receive(frame.get_payload_as_bytes())
        elif len(self._fragments) + frame.payload_size > MESSAGE_LIMIT_BYTES:
            self.close(WSCloseCode.MESSAGE_TOO_BIG)
        else:
            self._fragments += frame.get_payload_as_memoryview()
            self._is_fragmented = not frame.fin
            if frame.fin:
                message, self._fragments = bytes(self._fragments), bytearray()
                self._receive(message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()
        for job in self._jobs:
            job.cancel()
        self._session = None
        self._server.closed(self)
        self._closed.set()

    # From the server

    def close(self, code: WSCloseCode) -> None:
        """Send a close frame and end the connection."""
        self._session = None
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(code)
            self._transport.disconnect()

    def abort(self) -> None:
        """End the connection without waiting for what is queued."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""
        await self._closed.wait()

    # To and from the session

    def _receive(self, message: bytes) -> None:
        if self._session is not None:
            self._session.receive(message, time.monotonic())
            self._flush()

    def _tick(self) -> None:
        self._timer = None
        if self._session is not None:
            self._session.advance(time.monotonic())
            self._flush()

    def _flush(self) -> None:
        session, transport = self._session, self._transport
        if session is None or transport is None:
            return
        for message in session.messages_to_send():
            transport.send(WSMsgType.TEXT, message)
        if transport.underlying_transport.get_write_buffer_size() > SEND_LIMIT_BYTES:
            _log.warning("a client does not read its events: closing its session")
            self._session = None
            self.abort()
            return
        for job in session.jobs_to_run():
            future = self._server.run_job(job)
            self._jobs.add(future)
            future.add_done_callback(partial(self._job_done, job))
        if session.close_code is not None:
            self.close(WSCloseCode(session.close_code))
            return
        self._arm(session.next_deadline())

    def _job_done(self, job: Job, future: "asyncio.Future[Any]") -> None:
        self._jobs.discard(future)
        session = self._session
        if future.cancelled() or session is None:
            return
        now = time.monotonic()
        error = future.exception()
        if error is not None:
            _log.error("a %s job failed: %s", type(job).__name__, type(error).__name__)
            session.receive_failure(job, now)
        elif isinstance(job, Hear):
            session.receive_heard(job.item_id, future.result(), now)
        else:
            session.receive_speech(job.response_id, future.result(), now)
        self._flush()

    def _arm(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            # The loop's clock need not be the monotonic one, so the wait is relative.
            wait_s = max(0.0, deadline - time.monotonic())
            self._timer = self._loop.call_later(wait_s, self._tick)
