"""A scripted Realtime server on a real socket: it says what a test has it say, and watches the client.

::

    async with RealtimeModel() as model:
        settings = settings.with_changes(realtime_url=model.url)
        ...                                              # a call begins
        session = await model.session(0)
        session.speech_started()
        session.speech_stopped("book a table")           # the server answers by itself: model.on_response
        await session.wait_until(lambda one: one.sent("conversation.item.create"), "the outcome")
        assert not session.refusals

The protocol is the generally available one, spoken strictly: an event with a field too many is refused as a
whole, a truncation longer than its item is refused, one response runs at a time, appended audio is counted
and kept. Faults are called for by name: refused upgrades, silence, resets, close codes, expiry, beta names.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import picows

from fastagent.errors import LegTimeoutError
from fastagent.testing.realtime_session import ModelItem, ModelSession, tone

__all__ = ["ModelItem", "ModelSession", "RealtimeModel", "tone"]

PATH = "/v1/realtime"
TIMEOUT_S = 10.0
FRAME_BYTES_MAX = 16 << 20
SESSION_LIFETIME_S = 3600
PHRASE_MS = 200


class RealtimeModel:
    """The server; an async context manager. What it does next is set on it, what was done is read from it.

    Args:
        api_key: connections must bring it as a bearer token; None takes any.
        speaks_beta: name server events as the beta did.
        session_lifetime_s: what ``expires_at`` promises.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        speaks_beta: bool = False,
        session_lifetime_s: float = SESSION_LIFETIME_S,
    ) -> None:
        self.speaks_beta = speaks_beta
        self.session_lifetime_s = session_lifetime_s
        self.sessions: list[ModelSession] = []
        """Every session that was opened, in order."""
        self.upgrades: list[tuple[str, dict[str, str]]] = []
        """Path and headers of every upgrade request, refused ones included."""
        self.on_open: Callable[[ModelSession], None] = lambda session: None
        """Called once a session was announced."""
        self.on_response: Callable[[ModelSession], None] = _say_tone
        """Called when a response began that the client asked for, or that the caller's turn led to.

        By default a tone is said; what is set here goes on with `speak`, `call_function` or `finish`.
        """
        self._api_key = api_key
        self._refusals: deque[int] = deque()
        self._silent_sessions = 0
        self._server: asyncio.Server | None = None
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{PATH}"

    @property
    def open_sessions(self) -> int:
        """Sessions whose socket is open."""
        return sum(session.is_open for session in self.sessions)

    def refuse(self, *statuses: int) -> None:
        """Answer the next upgrades with these HTTP statuses, one each."""
        self._refusals.extend(statuses)

    def stay_silent(self, sessions: int = 1) -> None:
        """Open the next sockets but announce no session on them."""
        self._silent_sessions += sessions

    async def session(self, number: int, *, timeout_s: float = TIMEOUT_S) -> "ModelSession":
        """The session opened as number ``number`` (from 0), once the client has configured it.

        Raises:
            LegTimeoutError: there is none.
        """
        await self.wait_until(
            lambda: len(self.sessions) > number and self.sessions[number].is_configured,
            f"session {number}",
            timeout_s=timeout_s,
        )
        return self.sessions[number]

    async def wait_until(
        self, claim: Callable[[], object], what: str = "the client", *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Wait until a claim is true; it is looked at whenever a client did something.

        Raises:
            LegTimeoutError: it did not come true in time.
        """
        if claim():
            return
        waiter = (claim, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1]
        except TimeoutError:
            raise LegTimeoutError("model", f"waited {timeout_s:g} s for {what}", retryable=False) from None
        finally:
            self._waiters.remove(waiter)

    async def __aenter__(self) -> Self:
        self._server = await picows.ws_create_server(
            self._admit, "127.0.0.1", 0, max_frame_size=FRAME_BYTES_MAX, logger_name="fastagent.testing"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for session in self.sessions:
            session.reset()
        await self._server.wait_closed()

    def _admit(
        self, request: picows.WSUpgradeRequest
    ) -> "ModelSession | picows.WSUpgradeResponseWithListener":
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.upgrades.append((request.path.decode(), headers))
        self.look()
        status = self._refusals.popleft() if self._refusals else None
        if self._api_key is not None and headers.get("authorization") != f"Bearer {self._api_key}":
            status = 401
        if status is not None:
            answer = picows.WSUpgradeResponse.create_error_response(status, b"refused")
            return picows.WSUpgradeResponseWithListener(answer, None)
        is_silent = self._silent_sessions > 0
        self._silent_sessions -= is_silent
        session = ModelSession(self, is_silent=is_silent)
        self.sessions.append(session)
        return session

    def look(self) -> None:
        """Something happened: see who waited for it."""
        for claim, done in self._waiters:
            if not done.done() and claim():
                done.set_result(None)


def _say_tone(session: ModelSession) -> None:
    session.speak(session.tone(PHRASE_MS))
