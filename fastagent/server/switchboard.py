"""The switchboard: running calls by conversation id, and which of them a carrier's socket belongs to."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastagent.agent import FastAgent
from fastagent.call import Call, CallServices
from fastagent.errors import UnsupportedMediaError
from fastagent.legs.carrier import CarrierSocket
from fastagent.wire import events as carrier

__all__ = ["Switchboard"]

logger = logging.getLogger("fastagent.calls")


class Switchboard:
    """Opens, resumes and ends calls. Its tasks are the calls.

    Args:
        choose_agent: who answers an offer.
    """

    def __init__(
        self, services: CallServices, choose_agent: Callable[[carrier.SessionOffered], FastAgent]
    ) -> None:
        self._services = services
        self._choose_agent = choose_agent
        self._calls: dict[tuple[str, str], Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False

    @property
    def active_calls(self) -> int:
        """Calls that are not over."""
        return len(self._calls)

    @property
    def has_room(self) -> bool:
        """Another call would be taken."""
        return not self._is_draining and len(self._calls) < self._services.settings.max_sessions

    @property
    def awaits_resume(self) -> bool:
        """A call waits for its carrier: a fresh socket may be that, however full the house is."""
        return any(call.is_parked for call in self._calls.values())

    def find(self, conversation_id: str) -> Call | None:
        """The call of this id that is not over, whichever carrier brought it."""
        for (_, known_id), call in self._calls.items():
            if known_id == conversation_id and not call.is_over:
                return call
        return None

    def hold(
        self,
        socket: CarrierSocket,
        owner: str,
        carrier_settings: Mapping[str, Any],
        *,
        admits: Callable[[carrier.SessionOffered], bool] = lambda offer: True,
    ) -> None:
        """Wait on a fresh socket for the offer or resume that says whose it is.

        Args:
            admits: whether the offer is believed; one that is not is refused.
        """
        deadline = asyncio.get_running_loop().call_later(
            self._services.settings.first_message_timeout_s, self._give_up, socket
        )

        def take(event: carrier.CarrierEvent) -> None:
            if isinstance(event, carrier.SessionOffered):
                deadline.cancel()
                if admits(event):
                    self._open(socket, owner, event, carrier_settings)
                else:
                    self._refuse(socket, "not admitted", event.conversation_id)
            elif isinstance(event, carrier.SessionResumed):
                deadline.cancel()
                self._resume(socket, owner, event)
            elif isinstance(event, carrier.IgnoredMessage):
                self._services.counters.note(f"carrier_ignored_{event.cause}")

        socket.on_event = take
        socket.on_lost = lambda code, reason: deadline.cancel()

    def _give_up(self, socket: CarrierSocket) -> None:
        self._services.counters.note("sockets_without_session")
        socket.close(1000, "no session")

    def _refuse(self, socket: CarrierSocket, reason: str, conversation_id: str) -> None:
        self._services.counters.note("calls_refused")
        logger.warning("call %s refused: %s", conversation_id, reason)
        socket.send(carrier.RefuseSession(reason, conversation_id))
        socket.close(1000, "refused")

    def _open(
        self, socket: CarrierSocket, owner: str, offer: carrier.SessionOffered, settings: Mapping[str, Any]
    ) -> None:
        key = (owner, offer.conversation_id)
        if key in self._calls:
            self._refuse(socket, "conversation is already running", offer.conversation_id)
        elif not self.has_room:
            self._refuse(socket, "no capacity", offer.conversation_id)
        elif not offer.wants_audio:
            self._refuse(socket, "this bot speaks: expectAudioMessages must be on", offer.conversation_id)
        else:
            try:
                call = Call(
                    offer,
                    self._choose_agent(offer),
                    self._services,
                    codec=socket.codec,
                    carrier_settings=settings,
                )
            except UnsupportedMediaError:
                self._refuse(socket, "no common media format", offer.conversation_id)
                return
            self._calls[key] = call
            self._services.counters.note("calls")
            call.take(socket)
            task = asyncio.create_task(self._live(call))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, key))

    def _resume(self, socket: CarrierSocket, owner: str, event: carrier.SessionResumed) -> None:
        call = self._calls.get((owner, event.conversation_id))
        if call is None or call.is_over:
            self._refuse(socket, "conversation not found", event.conversation_id)
        else:
            call.take(socket)

    async def _live(self, call: Call) -> None:
        logger.info("call %s begins, %s", call.call_id, call.media_name)
        try:
            summary = await call.run()
        except Exception:
            self._services.counters.note("calls_failed")
            logger.exception("call %s failed", call.call_id)
        else:
            self._services.counters.note(f"calls_ended_{summary.outcome}")
            counts = " ".join(f"{name}={count}" for name, count in sorted(summary.counters.items()))
            logger.info(
                "call %s ends: %s after %.1f s, %s", call.call_id, summary.outcome, summary.duration_s, counts
            )

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._calls.pop(key, None)

    async def drain(self, timeout_s: float, *, is_urgent: Callable[[], bool] = lambda: False) -> None:
        """Take no more calls; wait for the running ones, and end those that are left at the deadline.

        Args:
            is_urgent: looked at while waiting: no more of it.
        """
        self._is_draining = True
        deadline = time.monotonic() + timeout_s
        while self._tasks and not is_urgent() and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.wait(set(self._tasks), timeout=min(left_s, 0.1))
        for call in list(self._calls.values()):
            call.end("drained")
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5.0)
