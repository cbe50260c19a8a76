"""StoredCall: one call's session, stored behind its back, and the comeback of a caller who was cut off."""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

import orjson

from fastagent.call.stored import SessionView
from fastagent.errors import ConfigurationError, SessionError
from fastagent.server.kept.continuity import PARKED, Continuity, TakenSession, session_id_of
from fastagent.sessions import CallerMemory, SessionRecord, TranscriptLine
from fastagent.sessions.record import Speaker
from fastagent.tools.comeback import RESUME_TALK, Comeback
from fastagent.tools.reports import Report, error_report, task_report

__all__ = ["CallSessions", "StoredCall"]

logger = logging.getLogger("fastagent.calls")

LOOK_UP_TIMEOUT_S = 0.3
"""For the store to say whether the caller was cut off; nobody is heard meanwhile."""
STORE_TIMEOUT_S = 1.5
GO_ON_WAIT_S = 3.0
"""For another process to be done with a text message of the session that a call goes on with."""
FLUSH_TIMEOUT_S = 0.2
"""For the state of a lost call to be stored."""
CHANGE_DELAY_S = 0.05
"""Changes that follow one another so soon are stored as one."""
PARKED_LOOK_S = 1.0
"""How often a call that waits for its line looks whether it is back at another process."""
DAY_S = 86_400.0

SAY_FINISHED = "I am sorry, that is finished. What can I do for you?"
SAY_GONE = "I am sorry, I cannot find it any more. What can I do for you?"
SAY_GO_ON = "Good, I have it before me. What shall I do?"
SAY_OVER = "I am sorry, let us start over. What can I do for you?"
SAY_WRONG_CODE = "I am sorry, that code is not right."


class CallSessions:
    """The `StoredSessions` of a process."""

    def __init__(self, continuity: Continuity) -> None:
        self._continuity = continuity

    def open(self, view: SessionView) -> "StoredCall":
        """Begin to store a call's session."""
        return StoredCall(self._continuity, view)


class StoredCall:
    """The `StoredSession` of one call."""

    def __init__(self, continuity: Continuity, view: SessionView) -> None:
        self._of = continuity
        self._view = view
        self._id = session_id_of(view.call_id)
        self._caller_key = continuity.caller_key(view.caller)
        self._started_at = time.time()
        self._lines = 0
        self._pending: asyncio.TimerHandle | None = None
        self._remembered: CallerMemory | None = None
        self._is_recalled = False
        self._is_lost = False
        self._goes_on = False
        self._is_parked = False
        self._is_over = False
        self._goes_on_with = ""

    @property
    def session_id(self) -> str:
        """Whose session the call is: its own, or an earlier one's that it goes on with."""
        return self._id

    # What the call tells

    def begin(self) -> None:
        """The call is taken."""
        self._of.keeper.begin(self._id)
        self._put("live")

    def said(self, by: str, text: str) -> None:
        """Store finished words."""
        if self._is_lost or self._is_over:
            return
        self._lines += 1
        speaker: Speaker = "caller" if by == "caller" else "agent"
        try:
            line = TranscriptLine(self._lines, time.time(), speaker, text)
        except ValueError:  # beyond the limit of a transcript
            return
        self._of.keeper.say(self._id, line)
        self.changed()

    def changed(self) -> None:
        """Something is worth storing, soon."""
        if self._pending is None and not self._is_over:
            loop = asyncio.get_running_loop()
            self._pending = loop.call_later(CHANGE_DELAY_S, self._put, "live")

    def lost(self) -> None:
        """The session is another call's now: nothing more is stored of it here."""
        self._is_lost = True
        self._is_parked = False
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def parked(self) -> None:
        """The line is lost: store what there is, and let whoever meets the caller again have it."""
        self._is_parked = True
        self._put("live")
        self._of.start(self._leave())

    def resumed(self) -> None:
        """The line is back."""
        self._is_parked = False
        self._put("live")

    async def _leave(self) -> None:
        await self._flush()
        while self._is_parked:
            await asyncio.sleep(PARKED_LOOK_S)
            if self._is_parked and await self._of.is_elsewhere(self._id):
                self._of.on_lost(self._id)

    async def _flush(self) -> None:
        if not await self._of.keeper.flush(self._id, FLUSH_TIMEOUT_S):
            self._of.counters.note("sessions_not_flushed")

    def _put(self, status: Any, outcome: str = "") -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if self._is_lost:
            return
        view = self._view
        now = time.time()
        snapshot = view.snapshot()
        try:
            record = SessionRecord(
                session_id=self._id,
                agent_id=view.agent_id,
                owner=view.owner,
                caller_key=self._caller_key,
                carrier=view.carrier_name,
                status=status,
                started_at_unix_s=self._started_at,
                updated_at_unix_s=now,
                ended_at_unix_s=None if status == "live" else now,
                outcome=PARKED if self._is_parked and status == "live" else outcome,
                current_state=view.current_state,
                turn_count=view.turn_count,
                graph_hashes=view.graph_hashes,
            )
        except ValueError as error:
            self._of.counters.note("sessions_not_storable")
            logger.error("session %s: not stored: %s", self._id, error)
            return
        self._of.keeper.put(record, snapshot=lambda: orjson.dumps(snapshot))
        if self._is_parked:
            self._of.keeper.release(self._id)

    # A caller who was cut off

    async def look_up(self) -> Comeback | None:
        """Find out whether the caller was cut off in an earlier call."""
        if not self._caller_key:
            return None
        store, view = self._of.keeper.store, self._view
        since = time.time() - self._of.settings.interrupted_fresh_s
        try:
            async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
                if view.memory_days:
                    self._remembered = await store.load_memory(self._caller_key, view.agent_id)
                if not self._of.offers_comebacks:
                    return None
                found = await store.find_interrupted(
                    self._caller_key, agent_id=view.agent_id, since_unix_s=since
                )
                if found is None or found.session_id == self._id:
                    return None
                about = orjson.loads((await store.load(found.session_id)).snapshot or b"{}").get("about", "")
        except (SessionError, TimeoutError, ValueError) as error:
            self._of.counters.note("look_ups_failed")
            logger.warning("session %s: no look-up: %s", self._id, type(error).__name__)
            return None
        self._of.counters.note("comebacks_offered")
        earlier = found.session_id
        return Comeback(
            str(about),
            self._needs_code,
            lambda code: self._go_on(earlier, code),
            lambda code: self._start_over(earlier, code),
        )

    @property
    def _needs_code(self) -> bool:
        return self._of.needs_code(self._view.owner, self._view.call_id)

    async def _go_on(self, earlier: str, code: str) -> Report:
        if self._goes_on_with:
            # A model may ask twice at once, and the second would take the session from the first.
            return error_report("the talk goes on already", RESUME_TALK)
        self._goes_on_with = earlier
        try:
            return await self._try_to_go_on(earlier, code)
        finally:
            if self._id != earlier:
                self._goes_on_with = ""

    async def _try_to_go_on(self, earlier: str, code: str) -> Report:
        of = self._of
        if self._needs_code:
            if not of.may_try(earlier):
                of.counters.note("comebacks_refused_tries")
                return task_report("failed", RESUME_TALK, SAY_OVER)
            if not of.is_code(earlier, code):
                of.counters.note("comebacks_refused_code")
                return error_report("the code is wrong", RESUME_TALK, SAY_WRONG_CODE)
        try:
            taken = await of.take(earlier, wait_s=GO_ON_WAIT_S)
        except (SessionError, TimeoutError) as error:
            of.counters.note("comebacks_refused_store")
            logger.warning("session %s: not taken up: %s", earlier, type(error).__name__)
            return task_report("failed", RESUME_TALK, SAY_GONE)
        if self._is_over:
            of.keeper.release(earlier)
            return task_report("failed", RESUME_TALK, SAY_GONE)
        if taken.record.status == "ended":
            of.keeper.release(earlier)
            return task_report("failed", RESUME_TALK, SAY_FINISHED)
        try:
            questions = await self._be(taken)
        except asyncio.CancelledError:
            # The call is over before it was the other: that waits for the next one.
            of.keeper.release(earlier)
            raise
        except (ConfigurationError, KeyError, TypeError, ValueError) as error:
            of.counters.note("comebacks_refused_snapshot")
            logger.error("session %s: cannot go on: %s", earlier, type(error).__name__)
            of.keeper.release(earlier)
            return task_report("failed", RESUME_TALK, SAY_OVER)
        of.counters.note("comebacks_taken")
        if not questions:
            return task_report("done", RESUME_TALK, SAY_GO_ON)
        question = questions[-1]
        return {**question, "say": f"Good, let us go on. {question['say']}"}

    async def _be(self, taken: TakenSession) -> list[Report]:
        earlier = taken.record.session_id
        questions = await self._view.go_on(earlier, taken.snapshot, taken.said)
        if self._is_over:
            self._of.keeper.release(earlier)
            return questions
        self._put("ended", "continued")
        self._of.keeper.release(self._id)
        self._id = earlier
        self.adopt(taken)
        return questions

    def adopt(self, taken: TakenSession) -> None:
        """Be this session from now on, whose id the call has."""
        self._started_at = taken.record.started_at_unix_s
        self._lines = taken.lines[-1].number if taken.lines else 0
        self._put("live")

    def _start_over(self, earlier: str, code: str) -> None:
        """Only who could go on with a talk may end it; for anybody else it waits on."""
        of = self._of
        if not self._needs_code or (of.may_try(earlier) and of.is_code(earlier, code)):
            of.start(self._forget(earlier))

    async def _forget(self, earlier: str) -> None:
        try:
            taken = await self._of.take(earlier)
        except (SessionError, TimeoutError):
            return
        now = time.time()
        self._of.keeper.put(
            replace(
                taken.record,
                status="ended",
                outcome="started_over",
                updated_at_unix_s=now,
                ended_at_unix_s=now,
            )
        )
        self._of.keeper.release(earlier)

    async def _is_still_ours(self) -> bool:
        await self._flush()
        return not self._is_lost

    # What is remembered

    def recall(self) -> bytes | None:
        """What is remembered of the caller, whose identity is certain now."""
        if not self._view.memory_days or not self._caller_key:
            return None
        self._is_recalled = True
        return b"" if self._remembered is None else self._remembered.body

    async def _remember(self) -> None:
        memory = CallerMemory(self._view.memory(), time.time())
        ttl_s = self._view.memory_days * DAY_S
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await self._of.keeper.store.save_memory(self._caller_key, self._view.agent_id, memory, ttl_s)
        except (SessionError, TimeoutError, ValueError) as error:
            self._of.counters.note("memories_not_stored")
            logger.error("session %s: nothing remembered: %s", self._id, type(error).__name__)

    # The end

    def ending(self, outcome: str, *, is_unfinished: bool) -> bool:
        """The call is over: store how it stands. Tells whether it goes on in another call."""
        self._is_parked = False
        self._goes_on = is_unfinished and self._of.may_go_on(outcome, self._view.caller)
        self._put("interrupted" if self._goes_on else "ended", outcome)
        self._is_over = True
        return self._goes_on or self._is_lost

    async def close(self) -> None:
        """Give the session up, and send word to a caller who was cut off."""
        if self._is_lost or not await self._is_still_ours():
            if not self._of.keeper.owns(self._id):
                self._of.keeper.release(self._id)
            return
        self._of.keeper.release(self._id)
        if not self._goes_on and not self._of.keeps_ended:
            await self._of.keeper.store.delete(self._id)
        if self._goes_on:
            self._of.counters.note("calls_interrupted")
            self._of.tell_caller(self._id, self._view.caller)
        if self._is_recalled:
            await self._remember()
