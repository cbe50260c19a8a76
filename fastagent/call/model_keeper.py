"""Keeping a session with the model while a call lasts: the first, one after a loss, one before the limit."""

import asyncio
import logging
import time
from functools import partial
from typing import Protocol

from fastagent.errors import LegError
from fastagent.legs.model import ModelConnector, ModelSocket
from fastagent.legs.watch import LegWatch
from fastagent.stats import TimeClasses
from fastagent.wire.realtime_events import ModelEvent

__all__ = ["KeptCall", "ModelKeeper"]

logger = logging.getLogger("fastagent.call")

SHORT_SESSION_S = 2.0
"""A model session that ends sooner counts as a failed connection."""
SHORT_SESSION_PAUSE_S = 0.5
"""Before the second try after a short session, and doubled for each further one. The first comes at once: a
session may end early by chance, and the caller waits."""
PAUSE_LIMIT_S = 30.0
"""How long a fresh model session waits for a pause in the talk before it takes over anyway."""
PAUSE_CHECK_S = 0.05


class KeptCall(Protocol):
    """The call that a session is kept for. Nothing here waits."""

    @property
    def call_id(self) -> str:
        """Names the call in the log."""

    def is_talk_going_on(self, now: float) -> bool:
        """Somebody speaks, or is about to."""

    def model_opened(self, lifetime_s: float | None) -> None:
        """`ModelKeeper.socket` is another session; ``lifetime_s`` is what it has to live, if it told."""

    def model_event(self, event: ModelEvent) -> None:
        """Something that the session tells."""

    def model_writable(self) -> None:
        """The session takes audio again."""

    def model_queued(self) -> None:
        """Audio of the session waits for its time."""

    def model_leaving(self) -> None:
        """The session is about to be closed: nothing more is to be sent on it."""

    def model_lost(self) -> None:
        """The session ended by itself; another is on its way."""

    def model_failed(self) -> None:
        """No session can be had any more."""


class ModelKeeper:
    """Has a session with the model for one call, from `start` to `stop`.

    Args:
        attempts: sessions in a row that may end at once.
        retry_s: how long to wait before another try to replace a session that still runs.
        frame_times: where the times of closed legs are added.
    """

    def __init__(
        self,
        call: KeptCall,
        connector: ModelConnector,
        watch: LegWatch,
        *,
        attempts: int,
        retry_s: float,
        frame_times: TimeClasses,
    ) -> None:
        self.socket: ModelSocket | None = None
        """The session that the call talks to."""
        self._call = call
        self._connector = connector
        self._watch = watch
        self._attempts = attempts
        self._retry_s = retry_s
        self._frame_times = frame_times
        self._needed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Open the first session."""
        self._task = asyncio.create_task(self._keep())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Open no more; the one there is stays until `leave`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def need(self) -> None:
        """Open another session, now."""
        if not self._needed.done():
            self._needed.set_result(None)

    def leave(self) -> None:
        """Close the session."""
        socket, self.socket = self.socket, None
        if socket is None:
            return
        self._frame_times.add(socket.leg.frame_times)
        self._call.model_leaving()
        socket.close()

    async def _keep(self) -> None:
        short_sessions = 0
        while True:
            try:
                socket = await self._connector.connect()
            except LegError as error:
                logger.error("call %s: %s", self._call.call_id, str(error))
                if self.socket is None:
                    self._call.model_failed()
                    return
                # The running session goes on until it ends by itself.
                await asyncio.wait({self._needed}, timeout=self._retry_s)
                continue
            try:
                await self._wait_for_pause(socket)
            except asyncio.CancelledError:
                socket.close()
                raise
            if not socket.leg.is_open:
                continue
            # From here on, only the end of this session asks for another.
            self._needed = asyncio.get_running_loop().create_future()
            self._switch(socket)
            begun = time.monotonic()
            await asyncio.shield(self._needed)
            self._needed = asyncio.get_running_loop().create_future()
            if self.socket is not None:
                continue  # it runs, and is to be replaced in time
            short_sessions = short_sessions + 1 if time.monotonic() - begun < SHORT_SESSION_S else 0
            if short_sessions >= self._attempts:
                logger.error(
                    "call %s: %d model sessions in a row ended at once", self._call.call_id, short_sessions
                )
                self._call.model_failed()
                return
            if short_sessions > 1:
                await asyncio.sleep(SHORT_SESSION_PAUSE_S * 2 ** (short_sessions - 2))

    async def _wait_for_pause(self, successor: ModelSocket) -> None:
        """Wait until the running session is gone or nobody speaks: what it has half heard would be lost."""
        deadline = time.monotonic() + PAUSE_LIMIT_S
        while (  # noqa: ASYNC110
            self.socket is not None
            and successor.leg.is_open
            and (now := time.monotonic()) < deadline
            and self._call.is_talk_going_on(now)
        ):
            await asyncio.sleep(PAUSE_CHECK_S)  # a pause comes with time: no event tells of it

    def _switch(self, socket: ModelSocket) -> None:
        """Put a new session in the old one's place, between two messages."""
        self.leave()
        self.socket = socket
        self._watch.add(socket.leg, is_stuck=socket.is_stuck)
        expires = socket.session.expires_at_unix_s if socket.session is not None else None
        self._call.model_opened(expires - time.time() if expires else None)
        socket.attach(
            on_event=self._call.model_event,
            on_lost=partial(self._lost, socket),
            on_writable=self._call.model_writable,
            on_queued=self._call.model_queued,
        )

    def _lost(self, socket: ModelSocket, code: int, reason: str) -> None:
        if socket is not self.socket:
            return
        logger.warning("call %s: model socket lost with %d", self._call.call_id, code)
        self.leave()
        self._call.model_lost()
        self.need()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("call %s: lost its way to the model", self._call.call_id, exc_info=error)
            self._call.model_failed()
