"""Continuity: calls that outlive their line and their process.

::

    call ─changes─▶ stored behind its back ─line lost─▶ stored at once; waits for its carrier
      │                                                     │ back here, or at another process: goes on
      │                                                     ▼ not back
      └─────ends with a task under way──────────────▶ interrupted ─▶ a text message with a code
                                                            │
             the caller's next call: "Welcome back …" ◀─────┘ within ``interrupted_fresh_s``
                 ├─ the code, and "go on" ─▶ the same session, where its question was open
                 └─ "start over" ──────────▶ ended

A number can be forged, so by itself it gives nothing away: who wants to go on says the code that was sent to
it. A number is stored in its session's own snapshot alone, a code nowhere.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from fastagent.call.stored import CarriedEntry
from fastagent.errors import (
    FastAgentError,
    SessionConflictError,
    SessionError,
    SessionNotFoundError,
)
from fastagent.server.doors.limits import number_digits
from fastagent.server.kept.opt_outs import OptOuts
from fastagent.sessions import SessionKeeper, SessionRecord, TranscriptLine
from fastagent.sessions.lease import new_holder
from fastagent.sessions.record import SESSION_ID
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.telephony.sms import LogSms, SmsChannel
from fastagent.wire.events import CarrierCodec, SessionOffered

__all__ = ["LEASE_TTL_S", "PARKED", "SMS_TIMEOUT_S", "Continuity", "TakenSession", "session_id_of"]

logger = logging.getLogger("fastagent.calls")

GONE_OUTCOMES = frozenset({"caller", "carrier_lost", "model_lost", "drained", "error", "limit", "other"})
"""Ends of a call that its task did not ask for. A telephone that lost its network looks like one hung up."""
CODE_DIGITS = 4
CODE_TRIES_MAX = 3
"""Wrong codes for one session before none is believed any more."""
SESSIONS_TRIED_MAX = 10_000
"""Sessions whose wrong codes are remembered."""
TAKE_TIMEOUT_S = 1.5
LOOKED_AT_S = 0.5
"""For a process whose call waits for its line, and that looks whether it is the owner still."""
TAKE_OVER_TIMEOUT_S = 8.0
"""For the lease of a process that died to run out, while a carrier waits."""
TAKE_OVER_PAUSE_S = 0.25
TEXT_WAIT_S = 8.0
"""For a text message that is worked on: in this process for a call that wants its session, and the other way
round."""
RECLAIM_INTERVAL_S = 15.0
RECLAIM_PAGE = 100
PURGE_INTERVAL_S = 600.0
LEASE_TTL_S = 6.0
"""How long a process that died still owns its calls; a store that is away for longer ends no call."""
SMS_TIMEOUT_S = 10.0
PROOFS_KEPT = 10_000
"""Calls that are proofs themselves, remembered until they are looked up; the oldest are forgotten."""
PARKED = "parked"
"""Outcome of a session whose call waits for its line: it has no lease, and yet its process lives."""
PARKED_MARGIN_S = 30.0
"""Beyond the time that a call waits for its line, until its process is taken for dead."""
TRANSCRIPT_LINES = 40
"""Of the earlier talk, taken into the context of the one that goes on."""


class Continuity:
    """What a process knows of calls that were cut off.

    Args:
        keeper: writes behind calls; started and closed by somebody else.
        secret: makes digests of numbers and codes; the same in all processes of a store.
        sms: how messages go out; None sends none.
        start: begins a task of the process.
        counters: comebacks_offered, comebacks_taken, comebacks_refused_<cause>, sms_sent,
            sms_failed, sms_stopped.
    """

    def __init__(
        self,
        keeper: SessionKeeper,
        settings: Settings,
        secret: bytes,
        *,
        sms: SmsChannel | None,
        start: Callable[[Any], None],
        counters: Counters,
    ) -> None:
        self.on_lost: Callable[[str], None] = lambda session_id: None
        """Told of a session that is another call's now: its own call here is to end silently."""
        self.keeper = keeper
        self.settings = settings
        self.counters = counters
        self._secret = secret
        self._sms = sms
        self._wrong_codes: dict[str, int] = {}
        self._proved: dict[tuple[str, str], None] = {}
        self._texting: dict[str, asyncio.Event] = {}
        """Sessions for which a text message is worked on here, and who waits for its end."""
        self._taking: set[str] = set()
        self.opt_outs = OptOuts(keeper.store, self.caller_key)
        """Numbers that get no messages."""
        self.start = start

    @property
    def keeps_ended(self) -> bool:
        """Sessions that are over are kept for those who ask; memory alone would only grow by them."""
        return bool(self.settings.redis_url or self.settings.store_path)

    @property
    def _reaches_callers(self) -> bool:
        return self._sms is not None and not isinstance(self._sms, LogSms)

    @property
    def offers_comebacks(self) -> bool:
        """Callers who call again can prove that they are who was cut off."""
        proof = self.settings.resume_proof
        return proof == "number" or (proof == "code" and self._reaches_callers)

    def may_go_on(self, outcome: str, caller: str) -> bool:
        """A call that ends so, with a task under way, waits for its caller to call again."""
        return self.offers_comebacks and outcome in GONE_OUTCOMES and bool(self.caller_key(caller))

    def caller_key(self, number: str) -> str:
        """What stands for a number in the store; empty for a number that nobody can be recognised by."""
        digits = number_digits(number)
        return self._digest("caller", digits)[:32] if digits else ""

    def code(self, session_id: str) -> str:
        """The code that proves that somebody received the message about this session."""
        return f"{int(self._digest('code', session_id), 16) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"

    def prove(self, owner: str, call_id: str) -> None:
        """This call was made by us to the number it is known by: whoever speaks there has that telephone."""
        self._proved[owner, call_id] = None
        if len(self._proved) > PROOFS_KEPT:
            del self._proved[next(iter(self._proved))]

    def needs_code(self, owner: str, call_id: str) -> bool:
        """Who goes on in this call has to say a code first."""
        return self.settings.resume_proof == "code" and (owner, call_id) not in self._proved

    async def find_interrupted(self, number: str) -> SessionRecord | None:
        """The newest call of this number that was cut off of late, without its snapshot; None: there is none.

        Raises:
            SessionError: the store cannot say.
        """
        key = self.caller_key(number)
        if not key or not self.offers_comebacks:
            return None
        since = time.time() - self.settings.interrupted_fresh_s
        return await self.keeper.store.find_interrupted(key, since_unix_s=since)

    async def is_first(self, name: str, ttl_s: float) -> bool:
        """Nobody has asked for this name before, in any process of the store.

        Raises:
            SessionError: the store cannot say.
        """
        try:
            # Not as this process: a holder may acquire what it holds.
            await self.keeper.store.acquire(name, new_holder(), ttl_s)
        except SessionConflictError:
            return False
        return True

    def may_try(self, session_id: str) -> bool:
        """A code may be tried for this session: not too many wrong ones were, in whichever call."""
        return self._wrong_codes.get(session_id, 0) < CODE_TRIES_MAX

    def is_code(self, session_id: str, said: str) -> bool:
        """What was said is the session's code; a wrong one is counted."""
        given = re.sub(r"\D", "", said)
        if hmac.compare_digest(given.encode(), self.code(session_id).encode()):
            return True
        if given:
            self._wrong_codes[session_id] = self._wrong_codes.pop(session_id, 0) + 1
            if len(self._wrong_codes) > SESSIONS_TRIED_MAX:
                del self._wrong_codes[next(iter(self._wrong_codes))]
        return False

    def _digest(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()

    def tell_caller(self, session_id: str, number: str) -> None:
        """Send the caller word of an interrupted call, behind everybody's back."""
        if self._sms is not None:
            self.start(self._send(self._sms, session_id, number))

    async def _send(self, sms: SmsChannel, session_id: str, number: str) -> None:
        text = self.settings.interruption_text.replace("{code}", self.code(session_id))
        try:
            async with asyncio.timeout(SMS_TIMEOUT_S):
                if await self.opt_outs.holds(number):
                    self.counters.note("sms_stopped")
                    return
                await sms.send(number, text)
        except (FastAgentError, OSError, TimeoutError) as error:
            self.counters.note("sms_failed")
            logger.error("session %s: no text message: %s", session_id, type(error).__name__)
        else:
            self.counters.note("sms_sent")

    async def take_for_text(self, session_id: str) -> "TakenSession":
        """Own a session while a text message is worked on, until `leave`; a call that wants it here waits.

        Raises:
            SessionError: it is not to be had, or no text message can be for it: it is over, or in a call.
        """
        if session_id in self._texting:
            raise SessionConflictError(session_id, "another text message has it")
        self._texting[session_id] = asyncio.Event()
        try:
            return await self._take_for_text(session_id)
        except BaseException:
            self._texting.pop(session_id).set()
            raise

    async def _take_for_text(self, session_id: str) -> "TakenSession":
        deadline = time.monotonic() + TEXT_WAIT_S
        while True:
            try:
                # Looked at before it is touched: a call that waits for its line is not to lose its session.
                async with asyncio.timeout(TAKE_TIMEOUT_S):
                    stored = await self.keeper.store.load(session_id)
                if stored.status != "interrupted":
                    raise SessionNotFoundError(session_id)
                taken = await self._take(session_id, LOOKED_AT_S)
                break
            except SessionConflictError:
                if time.monotonic() + TAKE_OVER_PAUSE_S >= deadline:
                    raise
                await asyncio.sleep(TAKE_OVER_PAUSE_S)
            except TimeoutError:
                raise SessionError("the store does not answer") from None
        if taken.record.status != "interrupted":
            self.keeper.release(session_id)
            raise SessionNotFoundError(session_id)
        return taken

    def leave(self, session_id: str) -> None:
        """Give up a session that was taken for a text message, once all that was told of it is stored."""
        self.keeper.release(session_id)
        if (worked_on := self._texting.pop(session_id, None)) is not None:
            worked_on.set()

    async def take(self, session_id: str, *, wait_s: float = LOOKED_AT_S) -> "TakenSession":
        """Own a session of an earlier call.

        Args:
            wait_s: for another process to be done with it, or to be found dead.

        Raises:
            SessionError: it is not to be had; it is then nobody's but whose it was.
        """
        if (worked_on := self._texting.get(session_id)) is not None:
            async with asyncio.timeout(TEXT_WAIT_S):
                await worked_on.wait()
        return await self._take(session_id, wait_s)

    async def _take(self, session_id: str, wait_s: float) -> "TakenSession":
        if self.keeper.owns(session_id) or session_id in self._taking:
            # The lease of a call whose line is up would be given to us: it is this process's.
            raise SessionConflictError(session_id, "a call here has it")
        self._taking.add(session_id)
        try:
            return await self._own(session_id, wait_s)
        finally:
            self._taking.discard(session_id)

    async def _own(self, session_id: str, wait_s: float) -> "TakenSession":
        async with asyncio.timeout(TAKE_TIMEOUT_S + wait_s):
            record = await self.keeper.take(session_id, wait_s=wait_s)
            # A call here may wait for its line, while its caller came in by another one.
            self.on_lost(session_id)
            try:
                lines = await self._last_lines(session_id)
                snapshot = orjson.loads(record.snapshot or b"")
            except BaseException as error:
                self.keeper.release(session_id)
                if isinstance(error, ValueError):
                    raise SessionError("a stored snapshot cannot be read") from None
                raise
        return TakenSession(record, snapshot, lines)

    async def _last_lines(self, session_id: str) -> list[TranscriptLine]:
        last: list[TranscriptLine] = []
        while page := await self.keeper.store.transcript(session_id, after=last[-1].number if last else 0):
            last = [*last, *page][-TRANSCRIPT_LINES:]
        return last

    async def take_resumed(self, call_id: str, owner: str) -> "TakenSession":
        """Own the session of a carrier that is back on another line; waits for a dead process's lease.

        Raises:
            SessionError: there is none of this owner's that could go on.
        """
        session_id = session_id_of(call_id)
        deadline = time.monotonic() + TAKE_OVER_TIMEOUT_S
        while True:
            try:
                # Looked at before it is touched: to a stranger the session is as if it were not there.
                async with asyncio.timeout(TAKE_TIMEOUT_S):
                    stored = await self.keeper.store.load(session_id)
                if stored.owner != owner or stored.status == "ended":
                    raise SessionNotFoundError(session_id)
                return await self.take(session_id)
            except SessionConflictError:
                if time.monotonic() + TAKE_OVER_PAUSE_S >= deadline:
                    raise
                await asyncio.sleep(TAKE_OVER_PAUSE_S)
            except TimeoutError:
                raise SessionError("the store does not answer") from None

    async def is_elsewhere(self, session_id: str) -> bool:
        """Another process owns a session that was given up here."""
        if self.keeper.keeps(session_id):
            return False  # what still waits to be written has its own lease, which another would make void
        store = self.keeper.store
        try:
            async with asyncio.timeout(TAKE_TIMEOUT_S):
                lease = await store.acquire(session_id, self.keeper.holder, TAKE_TIMEOUT_S)
                await store.release(lease)
        except SessionConflictError:
            return True
        except (SessionError, TimeoutError):
            return False
        return False

    async def watch(self) -> None:
        """Look for calls whose process died, and delete sessions that are too old, as long as this lives."""
        purge_at_s = 0.0
        while True:
            try:
                await self.reclaim()
                if time.monotonic() >= purge_at_s:
                    await self.keeper.store.purge(time.time() - self.settings.session_ttl_s)
                    purge_at_s = time.monotonic() + PURGE_INTERVAL_S
            except (SessionError, TimeoutError) as error:
                logger.warning("sessions: not looked through: %s", type(error).__name__)
            except Exception as error:
                # One session of another shape must not end the look for all. The text may quote it.
                logger.error("sessions: not looked through: %s", type(error).__name__)
            await asyncio.sleep(RECLAIM_INTERVAL_S)

    async def reclaim(self) -> int:
        """Take note of calls whose process died, and send their callers word; gives their number."""
        store = self.keeper.store
        changed = await store.reclaim()
        # Who found one earlier may have died before it was seen to.
        since = (
            None if changed else time.time() - self.settings.interrupted_fresh_s - self.settings.max_call_s
        )
        number = 0
        cursor = ""
        while True:
            page = await store.list(
                status="interrupted", started_from_unix_s=since, cursor=cursor, limit=RECLAIM_PAGE
            )
            for record in page.records:
                if self._is_left_over(record):
                    number += await self._settle_dead(record.session_id)
            cursor = page.next_cursor
            if not cursor:
                break
        if number:
            logger.warning("%d calls of a process that died are interrupted", number)
            self.counters.note("sessions_reclaimed", number)
        return number

    def _is_left_over(self, record: SessionRecord) -> bool:
        """It is interrupted, and nobody has seen to it yet who still could."""
        if record.status == "ended":
            return False
        if record.outcome == PARKED:
            return time.time() > record.updated_at_unix_s + self.settings.resume_grace_s + PARKED_MARGIN_S
        return not record.outcome

    async def _settle_dead(self, session_id: str) -> bool:
        try:
            taken = await self.take(session_id)
        except (SessionError, TimeoutError):
            return False  # another process was quicker, or the carrier is back already
        if not self._is_left_over(taken.record):
            self.keeper.release(session_id)
            return False
        caller = str(taken.snapshot.get("caller", ""))
        session = taken.snapshot.get("session")
        is_unfinished = isinstance(session, dict) and bool(session.get("runs"))
        # After a long downtime nobody could go on with it any more, whatever a message said.
        is_fresh = time.time() < taken.record.updated_at_unix_s + self.settings.interrupted_fresh_s
        goes_on = is_unfinished and is_fresh and self.may_go_on("error", caller)
        record = replace(
            taken.record,
            status="interrupted" if goes_on else "ended",
            outcome="process_lost",
            ended_at_unix_s=time.time(),
        )
        self.keeper.put(record)
        self.keeper.release(session_id)
        if goes_on:
            self.tell_caller(session_id, caller)
        return True


@dataclass(frozen=True, slots=True)
class TakenSession:
    """A session of an earlier call that is this process's now."""

    record: SessionRecord
    snapshot: Mapping[str, Any] = field(repr=False)
    lines: Sequence[TranscriptLine] = field(repr=False)
    """What was said last."""

    @property
    def said(self) -> list[tuple[str, str]]:
        """The same as (speaker, text)."""
        return [(line.speaker, line.text) for line in self.lines]

    @property
    def carried(self) -> list[CarriedEntry]:
        """Its effects, as far as its process told of them."""
        return [(str(kind), data) for kind, data in self.snapshot.get("effects", ())]

    def offer(self, call_id: str, codec: CarrierCodec) -> SessionOffered | None:
        """The offer that its call was begun with, as far as it matters; None where it cannot go on."""
        media = codec.media_named(str(self.snapshot.get("media", "")))
        if media is None:
            return None
        return SessionOffered(
            call_id,
            (media,),
            wants_audio=True,
            caller=str(self.snapshot.get("caller", "")),
            bot_name=str(self.snapshot.get("bot_name", "")),
        )


def session_id_of(call_id: str) -> str:
    """The id of a session that is fit for stores; a carrier's name for a call may hold anything."""
    if SESSION_ID.fullmatch(call_id):
        return call_id
    return "c-" + hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:40]
