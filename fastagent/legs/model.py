"""The model's side of a call: connect with retries, wait for the session, then events for the call."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from functools import cache

from picows import WSError, WSInvalidStatusError, ws_connect

from fastagent._native.listener import Leg
from fastagent.errors import (
    LegClosedError,
    LegConnectError,
    LegTimeoutError,
    MalformedMessageError,
    RealtimeError,
)
from fastagent.stats import Counters
from fastagent.wire.openai_realtime import RealtimeCodec, dialect_for, is_retryable_close, is_retryable_status
from fastagent.wire.realtime_endpoint import UpgradeRequest
from fastagent.wire.realtime_events import ModelCommand, ModelError, ModelEvent, SessionCreated, Severity

__all__ = ["ModelConnector", "ModelSocket"]

logger = logging.getLogger("fastagent.model")
logging.getLogger("picows.fastagent.model").setLevel(logging.ERROR)

FIRST_BACKOFF_S = 0.25
BACKOFF_LIMIT_S = 8.0
READ_BUFFER_BYTES = 8192
"""One 100 ms delta of PCM16 at 24 kHz and its envelope; longer messages grow the buffer."""


@cache
def _tls() -> ssl.SSLContext:
    """One context for all calls, so that TLS sessions can be resumed."""
    return ssl.create_default_context()


class ModelSocket:
    """One session with the model, with its codec.

    Until `attach` is called, events are kept in order.
    """

    def __init__(self, codec: RealtimeCodec, leg: Leg, counters: Counters) -> None:
        self.codec = codec
        self.leg = leg
        self.session: SessionCreated | None = None
        self._counters = counters
        self._on_event: Callable[[ModelEvent], None] | None = None
        self._on_lost: Callable[[int, str], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._on_queued: Callable[[], None] | None = None
        self._early: list[ModelEvent] = []
        self._is_abandoned = False
        self._ready: asyncio.Future[SessionCreated] = asyncio.get_running_loop().create_future()

    async def wait_ready(self) -> SessionCreated:
        """The session, once the server announced it.

        Raises:
            RealtimeError: the server refused with an error event.
            LegClosedError: it closed instead.
        """
        return await asyncio.shield(self._ready)

    def attach(
        self,
        *,
        on_event: Callable[[ModelEvent], None],
        on_lost: Callable[[int, str], None],
        on_writable: Callable[[], None],
        on_queued: Callable[[], None],
    ) -> None:
        """Deliver events from now on, those kept so far first."""
        self._on_event, self._on_lost = on_event, on_lost
        self._on_writable, self._on_queued = on_writable, on_queued
        early, self._early = self._early, []
        for event in early:
            on_event(event)

    def detach(self) -> None:
        """Deliver nothing any more."""
        self._on_event = self._on_lost = self._on_writable = self._on_queued = None
        self.leg.disconnect_pump()

    def send(self, command: ModelCommand) -> None:
        """Put a command on the wire."""
        self.leg.send(self.codec.send(command))

    def close(self) -> None:
        """Leave politely; cut the connection if the server does not answer."""
        self.detach()
        if self.leg.is_open:
            self.leg.close(1000, "")
            asyncio.get_running_loop().call_later(1.0, self.leg.abort)

    def abandon(self) -> None:
        """Nobody wants this session any more: cut the connection, now or as soon as it stands."""
        self._is_abandoned = True
        self.leg.abort()

    # What the native leg reports

    def on_open(self) -> None:
        """The server speaks first."""
        if self._is_abandoned:
            self.leg.abort()

    def on_message(self, data: bytes, is_text: bool) -> None:
        """Decode and pass on; the first event opens the session."""
        try:
            events = self.codec.receive(data)
        except MalformedMessageError as error:
            self._counters.note("model_malformed")
            logger.warning("message refused: %s", str(error))
            return
        for event in events:
            if self.session is None:
                self._open(event)
            elif self._on_event is not None:
                self._on_event(event)
            elif len(self._early) < 256:
                self._early.append(event)

    def _open(self, event: ModelEvent) -> None:
        if isinstance(event, SessionCreated):
            self.session = event
            if not self._ready.done():
                self._ready.set_result(event)
        elif isinstance(event, ModelError) and not self._ready.done():
            retryable = event.severity in (Severity.RETRYABLE, Severity.EXPIRED)
            self._fail(RealtimeError(event.code, event.message, event_id=event.event_id, retryable=retryable))

    def _fail(self, error: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            # Whoever waits sees it; if nobody does, that is no fault.
            self._ready.exception()

    def on_closed(self, code: int, reason: str) -> None:
        """Tell the call once."""
        self._fail(
            LegClosedError(
                "model", "closed before the session began", retryable=is_retryable_close(code), code=code
            )
        )
        if self._on_lost is not None:
            on_lost, self._on_lost = self._on_lost, None
            on_lost(code, reason)

    def on_writable(self) -> None:
        """The model reads again."""
        if self._on_writable is not None:
            self._on_writable()

    def on_queued(self) -> None:
        """Bot audio waits for its time."""
        if self._on_queued is not None:
            self._on_queued()


class ModelConnector:
    """Opens sessions with one Realtime server.

    Args:
        request: URL and headers.
        attempts: tries before giving up; the first retry comes after a quarter of a second.
        timeout_s: for the open socket and for ``session.created``, each.
        total_timeout_s: for all tries together, pauses included: a caller hears nothing meanwhile.
    """

    def __init__(
        self,
        request: UpgradeRequest,
        *,
        attempts: int,
        timeout_s: float,
        total_timeout_s: float,
        max_message_bytes: int,
        send_cap_bytes: int,
        counters: Counters,
    ) -> None:
        self._request = request
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._total_timeout_s = total_timeout_s
        self._max_message_bytes = max_message_bytes
        self._send_cap_bytes = send_cap_bytes
        self._counters = counters

    async def connect(self) -> ModelSocket:
        """A session that is open and not configured yet.

        Raises:
            LegConnectError: refused for good, or no try succeeded.
        """
        try:
            async with asyncio.timeout(self._total_timeout_s):
                return await self._try_to_connect()
        except TimeoutError:
            reason = f"no session within {self._total_timeout_s:g} s in all"
            raise LegConnectError("model", reason, retryable=True) from None

    async def _try_to_connect(self) -> ModelSocket:
        backoff_s = FIRST_BACKOFF_S
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._connect_once()
            except (LegConnectError, LegClosedError, LegTimeoutError, RealtimeError) as error:
                self._counters.note("model_connects_failed")
                # What a model says of an error may quote the caller.
                reason = f"error {error.code}" if isinstance(error, RealtimeError) else str(error)
                logger.warning("attempt %d of %d: %s", attempt, self._attempts, reason)
                if not error.retryable or attempt == self._attempts:
                    status = error.status if isinstance(error, LegConnectError) else None
                    raise LegConnectError(
                        "model", reason, retryable=error.retryable, status=status
                    ) from error
            await asyncio.sleep(backoff_s * random.uniform(0.75, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)
        raise AssertionError("attempts is at least 1")

    async def _connect_once(self) -> ModelSocket:
        codec = RealtimeCodec(dialect_for(self._request.url))
        leg = Leg(None, max_message_bytes=self._max_message_bytes, send_cap_bytes=self._send_cap_bytes)
        socket = ModelSocket(codec, leg, self._counters)
        leg.handler = socket
        try:
            async with asyncio.timeout(self._timeout_s):
                await ws_connect(
                    lambda: leg,
                    self._request.url,
                    ssl_context=_tls() if self._request.url.startswith("wss:") else None,
                    websocket_handshake_timeout=self._timeout_s,
                    logger_name="fastagent.model",
                    enable_auto_pong=False,
                    max_frame_size=self._max_message_bytes,
                    extra_headers=self._request.headers,
                    max_redirects=0,
                    read_buffer_init_size=READ_BUFFER_BYTES,
                )
        except WSInvalidStatusError as error:
            status = int(error.response.status) if error.response is not None else None
            retryable = status is None or is_retryable_status(status)
            raise LegConnectError(
                "model", f"upgrade answered {status}", retryable=retryable, status=status
            ) from None
        except WSError as error:
            raise LegConnectError(
                "model", f"upgrade failed: {type(error).__name__}", retryable=True
            ) from None
        except TimeoutError:
            socket.abandon()
            raise LegTimeoutError(
                "model", f"no connection within {self._timeout_s:g} s", retryable=True
            ) from None
        except OSError as error:
            raise LegConnectError(
                "model", f"connection failed: {type(error).__name__}", retryable=True
            ) from None
        except asyncio.CancelledError:
            # The handshake goes on without us, for as long as its own timeout lets it.
            socket.abandon()
            raise
        try:
            async with asyncio.timeout(self._timeout_s):
                await socket.wait_ready()
        except TimeoutError:
            leg.abort()
            raise LegTimeoutError(
                "model", f"no session within {self._timeout_s:g} s", retryable=True
            ) from None
        except BaseException:
            leg.abort()
            raise
        if not leg.is_open:
            # It closed right behind the announcement, before anybody could hear of it.
            raise LegClosedError("model", "closed as the session began", retryable=True, code=1006)
        return socket
