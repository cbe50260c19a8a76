"""The model's side of a call: connect with retries, wait for the session, then events for the call."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from fastagent._native.listener import Leg
from fastagent.errors import (
    LegClosedError,
    LegConnectError,
    LegError,
    LegTimeoutError,
    MalformedMessageError,
    RealtimeError,
)
from fastagent.legs.upgrade import RetryLaterError, open_leg, prepare_tls
from fastagent.stats import Counters
from fastagent.wire.openai_realtime import RealtimeCodec, dialect_for, is_retryable_close
from fastagent.wire.realtime_endpoint import UpgradeRequest
from fastagent.wire.realtime_events import (
    CreateResponse,
    ModelCommand,
    ModelError,
    ModelEvent,
    ResponseCreated,
    ResponseDone,
    SessionCreated,
    Severity,
    SpeechStarted,
    SpeechStopped,
    UpdateSession,
)

__all__ = ["ModelConnector", "ModelSocket"]

logger = logging.getLogger("fastagent.model")
logging.getLogger("picows.fastagent.model").setLevel(logging.ERROR)

FIRST_BACKOFF_S = 0.25
BACKOFF_LIMIT_S = 8.0
SECOND_TRY_S = 2.0
"""A try that takes this long gets another beside it; the first session of the two is taken."""
EARLY_EVENTS_MAX = 256
READ_BYTES_MAX = 262_144
"""The longest event that is parsed. Audio is not: it may be as long as the socket takes."""
PROGRESS_LIMIT_S = 10.0
"""The longest silence within a response, or longer where a response may take longer to begin."""


class ModelSocket:
    """One session with the model, with its codec.

    Until `attach` is called, events are kept in order.

    Args:
        answer_limit_s: from a response that is due to its first event; a session that says nothing at all
            meanwhile is stuck.
    """

    def __init__(
        self, codec: RealtimeCodec, leg: Leg, counters: Counters, *, answer_limit_s: float = 4.0
    ) -> None:
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
        self._answers_turns = False
        self._answer_limit_s = answer_limit_s
        self._due_since: float | None = None
        """When a response became due that has not begun."""
        self._running_since: float | None = None
        """When the response began that has not ended."""
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
        if isinstance(command, CreateResponse) and not command.is_out_of_band:
            self._due_since = time.monotonic()
        elif isinstance(command, UpdateSession):
            self._answers_turns = command.settings.turn_detection.create_response
        self.leg.send(self.codec.send(command))

    def is_stuck(self, now: float) -> bool:
        """The session owes a response, or the rest of one, and says nothing; pongs are no sign of life."""
        if self._running_since is not None:
            limit_s = max(PROGRESS_LIMIT_S, self._answer_limit_s)
            return now - max(self._running_since, self.leg.last_message) > limit_s
        if self._due_since is not None:
            return now - max(self._due_since, self.leg.last_message) > self._answer_limit_s
        return False

    def _follow(self, event: ModelEvent) -> None:
        """Keep account of what the session owes."""
        match event:
            case ResponseCreated():
                self._due_since, self._running_since = None, time.monotonic()
            case ResponseDone():
                self._due_since = self._running_since = None
            case SpeechStopped() if self._answers_turns and self._running_since is None:
                self._due_since = time.monotonic()
            case SpeechStarted() | ModelError():
                self._due_since = None
            case _:
                pass

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
            if len(data) > READ_BYTES_MAX:
                raise MalformedMessageError("model", f"longer than {READ_BYTES_MAX} bytes")
            events = self.codec.receive(data)
        except MalformedMessageError as error:
            self._counters.note("model_malformed")
            logger.warning("message refused: %s", str(error))
            return
        for event in events:
            self._follow(event)
            if self.session is None:
                self._open(event)
            elif self._on_event is not None:
                self._on_event(event)
            elif len(self._early) < EARLY_EVENTS_MAX:
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
        answer_limit_s: how long a session may owe a response and say nothing.
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
        answer_limit_s: float = 4.0,
    ) -> None:
        prepare_tls(request.url)
        self._request = request
        self._answer_limit_s = answer_limit_s
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
        """Try until a session is there; a slow try gets another beside it."""
        deadline = time.monotonic() + self._total_timeout_s
        tries: set[asyncio.Task[ModelSocket]] = set()
        begun = 0
        backoff_s = FIRST_BACKOFF_S
        try:
            while True:
                begun += 1
                tries.add(asyncio.create_task(self._connect_once()))
                pause_s = backoff_s * random.uniform(0.75, 1.0)
                while tries:
                    may_double = len(tries) == 1 and begun < self._attempts
                    ended, _ = await asyncio.wait(
                        tries,
                        timeout=SECOND_TRY_S if may_double else None,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    for one in ended:
                        tries.remove(one)
                        try:
                            return one.result()
                        except (LegError, RealtimeError) as error:
                            pause_s = max(pause_s, self._pause_after(error, begun))
                            is_late = time.monotonic() + pause_s >= deadline
                            if not error.retryable or (not tries and (is_late or begun == self._attempts)):
                                status = error.status if isinstance(error, LegConnectError) else None
                                raise LegConnectError(
                                    "model", _reason(error), retryable=error.retryable, status=status
                                ) from error
                    if not ended:
                        self._counters.note("model_second_tries")
                        break
                else:
                    await asyncio.sleep(pause_s)
                    backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)
        finally:
            await _leave(tries)

    def _pause_after(self, error: LegError | RealtimeError, attempt: int) -> float:
        """Write a failed try down; gives how long the server wants to be left alone."""
        self._counters.note("model_connects_failed")
        logger.warning("attempt %d of %d: %s", attempt, self._attempts, _reason(error))
        if not isinstance(error, RetryLaterError):
            return 0.0
        # All calls are told the same moment: they are not to come back in one.
        return error.after_s * random.uniform(1.0, 1.25)

    async def _connect_once(self) -> ModelSocket:
        codec = RealtimeCodec(dialect_for(self._request.url))
        leg = Leg(None, max_message_bytes=self._max_message_bytes, send_cap_bytes=self._send_cap_bytes)
        socket = ModelSocket(codec, leg, self._counters, answer_limit_s=self._answer_limit_s)
        leg.handler = socket
        try:
            await open_leg(
                leg, self._request, timeout_s=self._timeout_s, max_message_bytes=self._max_message_bytes
            )
        except (LegTimeoutError, asyncio.CancelledError):
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


async def _leave(tries: set[asyncio.Task[ModelSocket]]) -> None:
    """End tries that nobody waits for any more, with what they have opened."""
    for one in tries:
        one.cancel()
    for outcome in await asyncio.gather(*tries, return_exceptions=True):
        if isinstance(outcome, ModelSocket):
            outcome.abandon()


def _reason(error: Exception) -> str:
    """What a log may say of an error; what a model says of one may quote the caller."""
    return f"error {error.code}" if isinstance(error, RealtimeError) else str(error)
