"""The switchboard: running calls by conversation id, and which of them a carrier's socket belongs to."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastagent.agent import FastAgent
from fastagent.call import Call, CallServices
from fastagent.errors import SessionError, UnsupportedMediaError
from fastagent.legs.carrier import CarrierSocket
from fastagent.server.doors.admission import Admission, Refusal
from fastagent.server.kept.continuity import Continuity, TakenSession
from fastagent.server.life.forward import Forward, Visitor, resume_digest
from fastagent.server.life.siblings import Siblings
from fastagent.wire import events as carrier

__all__ = ["Switchboard"]

logger = logging.getLogger("fastagent.calls")

GOODBYE = (
    "The service has to stop now. Tell the caller in one short sentence, in the language of the talk, that "
    "we have to end this call now and that they may call again in a moment. Then say goodbye. Begin nothing "
    "else."
)
"""What the model is told of a call that runs when the process must end."""


class Switchboard:
    """Opens, resumes and ends calls. Its tasks are the calls.

    Args:
        choose_agent: who answers an offer.
        admission: whether another call is taken.
        continuity: finds calls that another process had; None: there is no other.
    """

    def __init__(
        self,
        services: CallServices,
        choose_agent: Callable[[carrier.SessionOffered], FastAgent],
        admission: Admission,
        continuity: Continuity | None = None,
    ) -> None:
        self._services = services
        self._choose_agent = choose_agent
        self._calls: dict[tuple[str, str], Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[CarrierSocket] = set()
        self._admission = admission
        self._continuity = continuity
        self._late_until = 0.0
        self._forwards: set[Forward] = set()
        self.siblings: Siblings | None = None
        """Other processes of this port, where a call may run that is resumed here."""

    @property
    def active_calls(self) -> int:
        """Calls that are not over."""
        return len(self._calls)

    @property
    def is_draining(self) -> bool:
        """No more calls are taken: the process is about to end."""
        return self._admission.is_draining

    @property
    def calls(self) -> list[Call]:
        """The calls that are not over, in no order."""
        return [call for call in self._calls.values() if not call.is_over]

    @property
    def has_room(self) -> bool:
        """Another call would be taken."""
        return self._admission.foresee(time.monotonic(), calls=len(self._calls)) is None

    def refuses_socket(self) -> Refusal | None:
        """Why a fresh socket is refused before it opens; None when it may.

        While calls wait for their carrier, as many sockets are let in as may be theirs, however full the
        house is: nobody knows yet what a socket will say.
        """
        parked = sum(call.is_parked for call in self._calls.values())
        if len(self._waiting) < parked:
            return None
        now = time.monotonic()
        calls = len(self._calls) + len(self._waiting)
        return self._admission.verdict(now, calls=calls, is_late=now < self._late_until)

    def has_call(self, owner: str, digest: str) -> bool:
        """A call of this owner runs here whose id has this digest: a sibling asks."""
        return any(
            known == owner and resume_digest(conversation_id) == digest
            for known, conversation_id in self._calls
        )

    def find(self, conversation_id: str) -> Call | None:
        """The call of this id that is not over, whichever carrier brought it."""
        for (_, known_id), call in self._calls.items():
            if known_id == conversation_id and not call.is_over:
                return call
        return None

    def lose(self, session_id: str) -> None:
        """This session goes on elsewhere: its call ends here, and nothing is said to the carrier."""
        for call in self._calls.values():
            # One that is over, but not closed yet, must not give up what is another's by then.
            if call.session_id == session_id:
                call.lose()

    def hold(
        self,
        socket: CarrierSocket,
        owner: str,
        carrier_settings: Mapping[str, Any],
        visitor: Visitor | None = None,
        *,
        admits: Callable[[carrier.SessionOffered], bool] = lambda offer: True,
    ) -> None:
        """Wait on a fresh socket for the offer or resume that says whose it is.

        Args:
            owner: the carrier and the principal of its token; only the owner of a call resumes it.
            visitor: what a sibling process would have to know, if the call is there.
            admits: whether the offer is believed; one that is not is refused.
        """
        deadline = asyncio.get_running_loop().call_later(
            self._services.settings.first_message_timeout_s, self._give_up, socket
        )
        self._waiting.add(socket)

        def stop_waiting() -> None:
            deadline.cancel()
            self._waiting.discard(socket)

        def take(event: carrier.CarrierEvent) -> None:
            if isinstance(event, carrier.SessionOffered):
                stop_waiting()
                if not admits(event):
                    self._refuse(socket, "not admitted", event.conversation_id)
                elif event.is_return:
                    back = carrier.SessionResumed(event.conversation_id)
                    self._resume(socket, owner, back, carrier_settings, visitor)
                else:
                    self._open(socket, owner, event, carrier_settings)
            elif isinstance(event, carrier.SessionResumed):
                stop_waiting()
                self._resume(socket, owner, event, carrier_settings, visitor)
            elif isinstance(event, carrier.IgnoredMessage):
                self._services.counters.note(f"carrier_ignored_{event.cause}")

        socket.on_event = take
        socket.on_lost = lambda code, reason: stop_waiting()

    def _give_up(self, socket: CarrierSocket) -> None:
        self._services.counters.note("sockets_without_session")
        socket.close(1000, "no session")

    def _refuse(self, socket: CarrierSocket, reason: str, conversation_id: str) -> None:
        self._services.counters.note("calls_refused")
        logger.warning("call %s refused: %s", conversation_id, reason)
        socket.send(carrier.RefuseSession(reason, conversation_id))
        socket.close(1000, "refused")

    def _open(
        self,
        socket: CarrierSocket,
        owner: str,
        offer: carrier.SessionOffered,
        settings: Mapping[str, Any],
        taken: TakenSession | None = None,
    ) -> bool:
        """Begin a call on this socket, or refuse it; tells whether it began."""
        key = (owner, offer.conversation_id)
        now = time.monotonic()
        if key in self._calls:
            self._refuse(socket, "conversation is already running", offer.conversation_id)
        elif refusal := self._admission.verdict(
            now, calls=len(self._calls), caller=offer.caller, is_late=True
        ):
            self._refuse(socket, f"no capacity ({refusal.cause})", offer.conversation_id)
        elif not offer.wants_audio:
            self._refuse(socket, "this bot speaks: expectAudioMessages must be on", offer.conversation_id)
        else:
            try:
                call = Call(
                    offer,
                    self._agent_for(offer, taken),
                    self._services,
                    codec=socket.codec,
                    carrier_settings=settings,
                    owner=owner,
                    carrier_name=owner.partition(":")[0],
                    carried=() if taken is None else taken.carried,
                )
            except UnsupportedMediaError:
                self._refuse(socket, "no common media format", offer.conversation_id)
                return False
            self._calls[key] = call
            self._services.counters.note("calls")
            call.take(socket)
            task = asyncio.create_task(self._live(call, taken))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, key, self._admission.begin(now, offer.caller)))
            return True
        return False

    def _agent_for(self, offer: carrier.SessionOffered, taken: TakenSession | None) -> FastAgent:
        """Who answers: of a call that had been handed over, the agent it was handed over to."""
        agent = self._choose_agent(offer)
        if taken is None or taken.record.agent_id == agent.agent_id:
            return agent
        wanted = (one for one in agent.house if one.agent_id == taken.record.agent_id)
        colleague = next(wanted, None)
        return agent if colleague is None else colleague.beside(agent)

    def _resume(
        self,
        socket: CarrierSocket,
        owner: str,
        event: carrier.SessionResumed,
        settings: Mapping[str, Any],
        visitor: Visitor | None,
    ) -> None:
        call = self._calls.get((owner, event.conversation_id))
        if call is not None and not call.is_over:
            if not (socket.codec.can_resume or call.awaits_return):
                self._refuse(socket, "conversation is already running", event.conversation_id)
                return
            call.take(socket)
        elif visitor is not None and visitor.resumes:
            self._refuse(socket, "conversation not found", event.conversation_id)
        else:
            # Another process has it, or had it; what comes meanwhile is held.
            one = Forward(socket, self._services.settings.max_model_message_bytes)
            work = self._look_elsewhere(socket, owner, event.conversation_id, settings, visitor, one)
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look_elsewhere(
        self,
        socket: CarrierSocket,
        owner: str,
        conversation_id: str,
        settings: Mapping[str, Any],
        visitor: Visitor | None,
        one: Forward,
    ) -> None:
        siblings = self.siblings.others() if self.siblings is not None and visitor is not None else []
        if visitor is not None and await one.open(visitor, conversation_id, siblings):
            await self._forward(one, conversation_id)
            return
        one.give_up()
        if self._continuity is None:
            self._refuse(socket, "conversation not found", conversation_id)
        elif await self._take_over(socket, owner, conversation_id, settings, self._continuity):
            socket.divert_no_more(one.held)

    async def _forward(self, one: Forward, conversation_id: str) -> None:
        logger.info("call %s goes on in a sibling process", conversation_id)
        self._services.counters.note("resumes_handed_on")
        self._forwards.add(one)
        try:
            await one.over
        finally:
            self._forwards.discard(one)

    async def _take_over(
        self,
        socket: CarrierSocket,
        owner: str,
        conversation_id: str,
        settings: Mapping[str, Any],
        continuity: Continuity,
    ) -> bool:
        try:
            taken = await continuity.take_resumed(conversation_id, owner)
        except SessionError:
            self._services.counters.note("resumes_not_found")
            self._refuse(socket, "conversation not found", conversation_id)
            return False
        is_begun = False
        try:
            offer = taken.offer(conversation_id, socket.codec)
            is_open = socket.leg is not None and socket.leg.is_open
            if offer is None or (owner, conversation_id) in self._calls or not is_open:
                self._refuse(socket, "conversation not found", conversation_id)
            else:
                is_begun = self._open(socket, owner, offer, settings, taken)
        except Exception as error:
            logger.error("call %s cannot go on here: %s", conversation_id, type(error).__name__)
            self._refuse(socket, "conversation not found", conversation_id)
        finally:
            if not is_begun:
                # Nobody here would: it may go on elsewhere, or in another call.
                continuity.keeper.release(taken.record.session_id)
        if is_begun:
            self._services.counters.note("calls_taken_over")
        return is_begun

    async def _continue(self, call: Call, taken: TakenSession) -> None:
        try:
            await call.go_on(taken.record.session_id, taken.snapshot, taken.said)
        except Exception as error:
            # The agent is not what it was; the caller is on the line all the same.
            self._services.counters.note("snapshots_not_taken_up")
            logger.error("call %s: begins anew: %s", call.call_id, type(error).__name__)
        # Not before: what is stored must not be overwritten by a call that stands nowhere yet.
        if call.stored is not None:
            call.stored.adopt(taken)

    async def _live(self, call: Call, taken: TakenSession | None) -> None:
        logger.info("call %s begins, %s", call.call_id, call.media_name)
        try:
            if taken is not None:
                await self._continue(call, taken)
            summary = await call.run()
        except Exception:
            self._services.counters.note("calls_failed")
            logger.exception("call %s failed", call.call_id)
            call.break_off()
        else:
            self._services.counters.note(f"calls_ended_{summary.outcome}")
            logger.info(
                "call %s ends: %s after %.1f s",
                call.call_id,
                summary.outcome,
                summary.duration_s,
                extra={"counters": dict(sorted(summary.counters.items()))},
            )

    def _ended(self, key: tuple[str, str], number: bytes, task: asyncio.Task[None]) -> None:
        self._admission.end(number)
        self._tasks.discard(task)
        self._calls.pop(key, None)

    # The end of the process

    def stop_taking(self, *, late_s: float = 0.0) -> None:
        """Take no more calls, but those whose socket is open already.

        Args:
            late_s: how long fresh sockets are still let in: their connection was accepted before.
        """
        self._admission.is_draining = True
        self._late_until = time.monotonic() + late_s

    def say_goodbye(self) -> None:
        """Have every caller told that the call ends now; each is hung up once that was heard."""
        for call in list(self._calls.values()):
            call.say_goodbye(GOODBYE, "service stops")

    def end_calls(self, outcome: str) -> None:
        """Hang up every call, now; a socket that might have become one is closed."""
        for call in list(self._calls.values()):
            call.end(outcome)
        for socket in list(self._waiting):
            socket.close(1001, "server stops")
        self._waiting.clear()
        for one in list(self._forwards):
            one.end()

    async def wait_for_calls(self, timeout_s: float) -> bool:
        """Wait until no call is left, nor a socket that may become one; False when time was up before."""
        if not self._tasks:
            if not self._waiting:
                return True
            await asyncio.sleep(timeout_s)
            return not (self._tasks or self._waiting)
        await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return not (self._tasks or self._waiting)
