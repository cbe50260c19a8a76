"""A client of a FastAgent server: text, audio and digits go in, typed events come out.

::

    async with AgentClient("ws://127.0.0.1:8000/agent/ws", token=token) as client:
        await client.start("appointment", metadata={"caller_id": "+15550100"})
        await client.send_text("I would like to book an appointment.")
        async for event in client:
            match event:
                case Transcript(role="agent", text=text):
                    print(text)
                case Interruption():
                    speaker.clear()

A socket that is lost is opened again, and the session resumed on it, for as long as the server keeps it; the
iteration goes on with a `SessionStarted` that says so. The socket is a picows one, which the server needs
anyway, behind the same frame guard as a call's.
"""

import asyncio
import base64
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from picows import WSError, WSInvalidStatusError, ws_connect

from fastagent._native.listener import Leg
from fastagent.errors import (
    LegClosedError,
    LegConnectError,
    LegTimeoutError,
    SessionRefusedError,
    WireError,
)
from fastagent.wire.agentws_client import (
    AudioResponse,
    CallerSpeech,
    ClientEvent,
    ErrorNotice,
    Interruption,
    Metadata,
    SessionEnded,
    SessionStarted,
    StateTransition,
    Transcript,
    UnknownMessage,
    read_server_message,
    write_client_message,
)
from fastagent.wire.agentws_words import ClientMessage, ErrorCode

__all__ = [
    "AgentClient",
    "AudioResponse",
    "CallerSpeech",
    "ClientEvent",
    "ErrorNotice",
    "Interruption",
    "Metadata",
    "SessionEnded",
    "SessionStarted",
    "StateTransition",
    "Transcript",
    "UnknownMessage",
]

EVENTS_MAX = 4_096
"""Events that wait to be read; the socket of an application that reads none is closed with 1008."""
MESSAGE_BYTES_MAX = 1 << 20
SEND_CAP_BYTES = 1 << 20
FIRST_BACKOFF_S = 0.1
BACKOFF_LIMIT_S = 2.0
REFUSALS = {
    401: ErrorCode.AUTHENTICATION_FAILED,
    403: ErrorCode.ORIGIN_FORBIDDEN,
    503: ErrorCode.CAPACITY_EXCEEDED,
}
"""What a status before the WebSocket opens means; the body says it, too, but may come later."""
CLOSE_TIMEOUT_S = 3.0
PING_INTERVAL_S = 20.0
"""Silence of the server after which it is asked whether it is there."""
PING_TIMEOUT_S = 10.0
PEER = "agent"


class AgentClient:
    """One session with an agent; an async context manager, and an async iterator of what the server says.

    Args:
        url: ``ws://`` or ``wss://``, ending in ``/agent/ws``.
        token: bearer token; None for a server on this machine that asks for none.
        media: how audio goes both ways, a name of `fastagent.wire.agentws_words.CLIENT_MEDIA`. Chunks may say
            another format of their own.
        session_id: resume this session instead of beginning one.
        timeout_s: for a connection, and for each answer that is waited for.
        resume_timeout_s: how long a lost connection is tried anew; 0 never tries.
        ssl_context: for ``wss://``; None takes the system's certificates.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        media: str = "audio/pcm;rate=24000",
        session_id: str | None = None,
        timeout_s: float = 10.0,
        resume_timeout_s: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.session_id = session_id
        """The session's id, once there is one."""
        self.media = media
        self.audio_dropped = 0
        """Chunks that were to be sent while there was no connection."""
        self.unreadable = 0
        """Messages of the server that could not be read."""
        self._url = url
        self._token = token
        self._timeout_s = timeout_s
        self._resume_timeout_s = resume_timeout_s
        self._ssl = ssl_context
        self._leg: Leg | None = None
        self._events: deque[ClientEvent] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._chunk_id = 0
        self._has_begun = False
        self._is_over = False
        self._failure: Exception | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started: asyncio.Future[SessionStarted] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            LegConnectError: refused, with the HTTP status, or nobody there.
            LegTimeoutError: no answer in time.
        """
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # The session

    async def start(self, agent_id: str = "", *, metadata: Mapping[str, Any] | None = None) -> SessionStarted:
        """Begin the session, or resume the one whose id was given.

        Args:
            agent_id: who is asked for; empty for the server's first agent.
            metadata: what the agent may know, ``caller_id`` for one.

        Raises:
            SessionRefusedError: the server says why.
            LegClosedError: the connection was lost meanwhile.
            LegTimeoutError: no answer in time.
        """
        if self._has_begun:
            raise RuntimeError("the session has begun already")
        self._raise_if_over()
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            payload = {"agent_id": agent_id, "metadata": dict(metadata or {}), "media": self.media}
            self._send(ClientMessage.START_SESSION, payload)
        # Else the request has named a session, and the server answers to that.
        started = await self._answer()
        self._has_begun = True
        return started

    async def _answer(self) -> SessionStarted:
        assert self._started is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._started
        except TimeoutError:
            reason = f"the session did not start within {self._timeout_s:g} s"
            raise LegTimeoutError(PEER, reason, retryable=True) from None
        finally:
            self._started = None
            self.tell_waiters()

    async def send_audio(self, data: bytes, *, format: str | None = None) -> None:
        """Send a chunk of audio, 20 to 100 ms of it for the least delay.

        While the connection is down the chunk is dropped and counted: what was said then would come too late.

        Args:
            format: of this chunk, where it is not the session's.
        """
        self._raise_if_over()
        if self._leg is None or not self._leg.is_open:
            self.audio_dropped += 1
            return
        payload = {
            "format": format or self.media,
            "encoding": "base64",
            "chunk_id": self._chunk_id,
            "data": base64.b64encode(data).decode(),
        }
        self._chunk_id += 1
        self._send(ClientMessage.AUDIO_DATA, payload)
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._leg.is_blocked and self._leg.is_open:
                    await self._change()
        except TimeoutError:
            self._leg.abort(1008, "peer does not read")

    async def send_text(self, text: str) -> None:
        """Say something in writing.

        Raises:
            LegClosedError: the session is over.
            LegTimeoutError: the connection did not come back in time.
        """
        await self._send_surely(ClientMessage.TEXT_INPUT, {"text": text})

    async def send_dtmf(self, digits: str) -> None:
        """Press keys: ``0-9 * # A-D``. Raises as `send_text` does."""
        await self._send_surely(ClientMessage.DTMF, {"digits": digits})

    async def playback_finished(self, playback_id: str) -> None:
        """Tell that a playback was heard to its end, so that nobody guesses. Raises as `send_text` does."""
        await self._send_surely(ClientMessage.PLAYBACK_FINISHED, {"playback_id": playback_id})

    async def end(self, reason: str = "") -> None:
        """End the session; the iteration ends with `SessionEnded`. Raises as `send_text` does."""
        if self._is_over and self._failure is None:
            return
        await self._send_surely(ClientMessage.END_SESSION, {"reason": reason})

    async def __aiter__(self) -> AsyncIterator[ClientEvent]:
        """What the server says, until the session is over.

        Raises:
            LegClosedError: the connection was lost, and the session could not be resumed.
        """
        while True:
            while self._events:
                yield self._events.popleft()
            if self._is_over:
                if self._failure is not None:
                    raise self._failure
                return
            await self._change()

    async def close(self) -> None:
        """Close the connection without ending the session: the server keeps it for a while."""
        self._finish(None)
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        leg = self._leg
        if leg is None or not leg.is_open:
            return
        leg.close(1000)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                while leg.is_open:
                    await self._change()
        except TimeoutError:
            leg.abort()

    # The socket

    async def _connect(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if self.session_id is not None:
            headers["X-Session-ID"] = self.session_id
            self._started = asyncio.get_running_loop().create_future()
        leg = Leg(None, max_message_bytes=MESSAGE_BYTES_MAX, send_cap_bytes=SEND_CAP_BYTES)
        handler = leg.handler = _Handler(self, leg)
        try:
            async with asyncio.timeout(self._timeout_s):
                await ws_connect(
                    lambda: leg,
                    self._url,
                    ssl_context=self._ssl,
                    websocket_handshake_timeout=self._timeout_s,
                    logger_name="fastagent.client",
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=PING_INTERVAL_S,
                    auto_ping_reply_timeout=PING_TIMEOUT_S,
                    enable_auto_pong=False,
                    max_frame_size=MESSAGE_BYTES_MAX,
                    extra_headers=headers,
                    max_redirects=0,
                )
        except WSInvalidStatusError as error:
            raise _refusal(error) from None
        except WSError as error:
            raise LegConnectError(PEER, f"upgrade failed: {type(error).__name__}", retryable=True) from None
        except asyncio.CancelledError:
            handler.give_up()
            raise
        except TimeoutError:
            handler.give_up()
            reason = f"no connection within {self._timeout_s:g} s"
            raise LegTimeoutError(PEER, reason, retryable=True) from None
        except OSError as error:
            reason = f"connection failed: {type(error).__name__}"
            raise LegConnectError(PEER, reason, retryable=True) from None
        self._leg = leg

    def take(self, message: bytes) -> None:
        """A message came."""
        try:
            event = read_server_message(message)
        except WireError:
            self.unreadable += 1
            return
        if isinstance(event, SessionStarted):
            self.session_id = event.session_id
            if self._started is not None and not self._started.done():
                self._started.set_result(event)
                if not self._has_begun:
                    return  # `start` gives it
        elif isinstance(event, ErrorNotice) and self._started is not None and not self._started.done():
            self._fail_start(SessionRefusedError(event.code, event.message, dict(event.details)))
            return
        elif isinstance(event, SessionEnded):
            self._finish(None)
        if len(self._events) >= EVENTS_MAX:
            assert self._leg is not None
            self._leg.close(1008, "events are not read")
            self._finish(LegClosedError(PEER, "events were not read", retryable=False, code=1008))
            return
        self._events.append(event)
        self.tell_waiters()

    def lost(self, leg: Leg, code: int) -> None:
        """A connection is gone."""
        self.tell_waiters()
        if leg is not self._leg or self._is_over:
            return
        failure = LegClosedError(PEER, "the connection was lost", retryable=True, code=code)
        self._fail_start(failure)
        if self._has_begun and self._resume_timeout_s > 0 and self._keeper is None:
            self._keeper = asyncio.create_task(self._resume(failure))
        elif self._keeper is None:
            self._finish(failure)

    def _fail_start(self, failure: Exception) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(failure)
            # Whoever waits sees it; if nobody does, that is no fault.
            self._started.exception()

    async def _resume(self, failure: LegClosedError) -> None:
        """Connect anew until the session goes on, is gone, or the time is up."""
        backoff_s = FIRST_BACKOFF_S
        try:
            async with asyncio.timeout(self._resume_timeout_s):
                while not self._is_over:
                    try:
                        await self._connect()
                        await self._answer()
                        self._keeper = None
                        return
                    except SessionRefusedError as error:
                        self._finish(error)
                    except (LegConnectError, LegClosedError, LegTimeoutError) as error:
                        if not error.retryable:
                            self._finish(error)
                            return
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)
        except TimeoutError:
            self._finish(failure)
        finally:
            self._started = None

    def _finish(self, failure: Exception | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._failure = failure
        self.tell_waiters()

    # Sending

    def _send(self, kind: ClientMessage, payload: Mapping[str, Any]) -> None:
        message = write_client_message(kind, payload, self.session_id, now=datetime.now(UTC))
        if self._leg is None or not self._leg.is_open:
            raise LegClosedError(PEER, "the connection is lost", retryable=True, code=1006)
        self._leg.send(message)

    async def _send_surely(self, kind: ClientMessage, payload: Mapping[str, Any]) -> None:
        self._raise_if_over()
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._leg is None or not self._leg.is_open or self._started is not None:
                    await self._change()
                    self._raise_if_over()
        except TimeoutError:
            reason = f"no connection within {self._timeout_s:g} s"
            raise LegTimeoutError(PEER, reason, retryable=True) from None
        self._send(kind, payload)

    def _raise_if_over(self) -> None:
        if self._is_over:
            raise self._failure or LegClosedError(PEER, "the session is over", retryable=False, code=1000)

    async def _change(self) -> None:
        """Wait until something happened."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def tell_waiters(self) -> None:
        """Something happened: whoever waits looks again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Handler:
    """Hears of one socket of a client."""

    def __init__(self, client: AgentClient, leg: Leg) -> None:
        self._client = client
        self._leg = leg
        self._is_given_up = False

    def give_up(self) -> None:
        """Nobody waits for this connection any more; a handshake goes on by itself and may yet succeed."""
        self._is_given_up = True
        if self._leg.is_open:
            self._leg.abort()

    def on_open(self) -> None:
        """`AgentClient._connect` knows, if it still waits."""
        if self._is_given_up:
            self._leg.abort()

    def on_message(self, data: bytes, is_text: bool) -> None:
        """A message of the server."""
        self._client.take(data)

    def on_closed(self, code: int, reason: str) -> None:
        """The connection is over."""
        self._client.lost(self._leg, code)

    def on_writable(self) -> None:
        """The server reads again."""
        self._client.tell_waiters()

    def on_queued(self) -> None:
        """No pump, no queue."""


def _refusal(error: WSInvalidStatusError) -> LegConnectError:
    status = int(error.response.status) if error.response is not None else 0
    reason = REFUSALS.get(status)
    said = f"upgrade answered {status}" + (f" ({reason.value})" if reason is not None else "")
    return LegConnectError(PEER, said, retryable=status in (429, 500, 502, 503, 504), status=status or None)
