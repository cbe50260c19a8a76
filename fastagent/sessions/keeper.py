"""SessionKeeper: writes sessions behind live calls, which never wait for a store or hear of its troubles.

::

    put, say, begin ──▶ waits ──a worker writes──▶ stored ──release──▶ forgotten, the lease given up
                          ▲  └─ store away ─┐
                          └── after a while ◀┘
    a write or a renewal is refused (another process owns the session) ──▶ lost: told once, nothing written

Of a session only the newest record waits, with all lines that were said. Beyond the limits the oldest lines
go and are counted; what is kept of the sessions themselves stays.
"""

import asyncio
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from fastagent.errors import SessionConflictError, SessionError
from fastagent.sessions.lease import Lease, new_holder
from fastagent.sessions.record import SNAPSHOT_MAX_BYTES, SessionRecord, TranscriptLine
from fastagent.sessions.store import SessionStore

__all__ = ["KeeperLimits", "SessionKeeper", "Snapshot"]

logger = logging.getLogger("fastagent.sessions")

Snapshot = Callable[[], bytes]
"""Encodes an agent's state, later and perhaps in another thread: it must hold a copy that nobody changes."""

SNAPSHOT_ON_LOOP_MAX_BYTES = 16 * 1024
"""A session whose last snapshot was larger has the next encoded in a thread: this much takes some 20 µs."""
WORKERS = 8
"""Sessions being written at once."""
RENEWALS_AT_ONCE = 16
TAKE_INTERVAL_S = 0.1
"""Between tries to own a session whose process may have died."""


@dataclass(frozen=True, slots=True)
class KeeperLimits:
    """How much waits, and how long."""

    waiting_max: int = 10_000
    """Records and lines of all sessions."""
    waiting_bytes_max: int = 32 << 20
    """Of the lines."""
    waiting_max_s: float = 30.0
    """A store that was away for longer is called degraded; what waits is kept up to the other limits."""
    lease_ttl_s: float = 10.0
    """Renewed three times as often: how soon another process may go on with the calls of one that died."""
    write_timeout_s: float = 10.0
    first_retry_s: float = 0.05
    last_retry_s: float = 2.0


@dataclass(slots=True)
class _Kept:
    """What waits of a session."""

    session_id: str
    lease: Lease | None = None
    record: SessionRecord | None = None
    snapshot: Snapshot | None = None
    lines: dict[int, TranscriptLine] = field(default_factory=dict)
    waiting_since_s: float | None = None
    told: int = 0
    """Things told of it,"""
    stored: int = 0
    """and how many of them are stored."""
    flushing: list[tuple[int, asyncio.Future[bool]]] = field(default_factory=list)
    last_snapshot_bytes: int | None = None
    is_being_written: bool = False
    is_leaving: bool = False
    is_lost: bool = False


class SessionKeeper:
    """Owns this process's sessions in a store. Used from one loop: `start` it there, `close` it at the end.

    Args:
        store: opened, and closed, by somebody else.
        on_lost: told the id of a session that another process took, so that its call can be ended here.
        holder: this process's name in leases.
        clock: monotonic seconds.
        jitter: 0 to 1, for the pauses between tries.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        on_lost: Callable[[str], object] = lambda session_id: None,
        holder: str = "",
        limits: KeeperLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.store = store
        self.holder = holder or new_holder()
        self.limits = limits or KeeperLimits()
        self.counters: Counter[str] = Counter()
        """writes, lines_written, writes_failed, retries, lines_dropped, snapshots_failed, lost, renewals."""
        self._on_lost = on_lost
        self._clock = clock
        self._jitter = jitter
        self._kept: dict[str, _Kept] = {}
        self._dirty: OrderedDict[str, _Kept] = OrderedDict()
        self._lines: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lines_bytes = 0
        self._has_overflowed = False
        self._failures = 0
        self._retry_at_s = 0.0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._all_gone = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<SessionKeeper sessions={len(self._kept)} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """Records and lines that are not stored yet."""
        return len(self._lines) + sum(kept.record is not None for kept in self._dirty.values())

    @property
    def is_degraded(self) -> bool:
        """Something was dropped for want of room and the rest still waits, or has waited for too long."""
        return self._has_overflowed or self._oldest_s() > self.limits.waiting_max_s

    def _oldest_s(self) -> float:
        since = [kept.waiting_since_s for kept in self._kept.values() if kept.waiting_since_s is not None]
        return self._clock() - min(since) if since else 0.0

    # What calls tell; nothing here waits or raises

    def begin(self, session_id: str) -> None:
        """A new call: own its session, as soon as the store allows it."""
        kept = self._of(session_id)
        if kept.lease is None:
            self._tell(kept)

    def put(self, record: SessionRecord, *, snapshot: Snapshot | None = None) -> None:
        """Store this record, and the snapshot if there is one; a record that still waits is never written."""
        kept = self._of(record.session_id)
        if record.snapshot is None and kept.record is not None:
            record = replace(record, snapshot=kept.record.snapshot)
        kept.record = record
        kept.snapshot = snapshot or kept.snapshot
        self._tell(kept)
        self._keep_to_limits()

    def say(self, session_id: str, line: TranscriptLine) -> None:
        """Store what was said."""
        kept = self._of(session_id)
        if not kept.is_lost and line.number not in kept.lines:
            kept.lines[line.number] = line
            self._lines[session_id, line.number] = size = len(line.text)
            self._lines_bytes += size
            self._tell(kept)
            self._keep_to_limits()

    def release(self, session_id: str) -> None:
        """Give the session up once all of it is stored: the call is over, or waits to be resumed anywhere."""
        kept = self._kept.get(session_id)
        if kept is None:
            return
        if kept.is_lost:
            self._forget(kept)
            return
        kept.is_leaving = True
        self._tell(kept)

    def _of(self, session_id: str) -> _Kept:
        kept = self._kept.get(session_id)
        if kept is None:
            kept = self._kept[session_id] = _Kept(session_id)
            self._all_gone.clear()
        kept.is_leaving = False
        return kept

    def _tell(self, kept: _Kept) -> None:
        if kept.is_lost:
            kept.record = kept.snapshot = None
            return
        kept.told += 1
        if kept.waiting_since_s is None:
            kept.waiting_since_s = self._clock()
        if not kept.is_being_written:
            self._dirty.setdefault(kept.session_id, kept)
            self._wake.set()

    def _keep_to_limits(self) -> None:
        while self._lines and (
            len(self._lines) + len(self._dirty) > self.limits.waiting_max
            or self._lines_bytes > self.limits.waiting_bytes_max
        ):
            (session_id, number), size = self._lines.popitem(last=False)
            self._lines_bytes -= size
            self._kept[session_id].lines.pop(number)
            self.counters["lines_dropped"] += 1
            if not self._has_overflowed:
                self._has_overflowed = True
                logger.error("sessions: too much waits for the store; the oldest lines are dropped")

    def _unsay(self, kept: _Kept, lines: Iterable[TranscriptLine]) -> None:
        for line in lines:
            if kept.lines.get(line.number) is line:
                del kept.lines[line.number]
                self._lines_bytes -= self._lines.pop((kept.session_id, line.number))
        if not self._lines:
            self._has_overflowed = False

    # What waits for the store

    def keeps(self, session_id: str) -> bool:
        """Something is known of the session here: it is owned, or not all that was told of it is stored."""
        return session_id in self._kept

    def owns(self, session_id: str) -> bool:
        """The session is this process's, and was not given up."""
        kept = self._kept.get(session_id)
        return kept is not None and not kept.is_leaving and not kept.is_lost

    async def take(self, session_id: str, *, wait_s: float = 0.0) -> SessionRecord:
        """Own a session that is stored, and give it: the first step of resuming it here.

        Args:
            session_id: of the call that goes on.
            wait_s: for the lease of a process that died to run out; `KeeperLimits.lease_ttl_s` is enough.

        Raises:
            SessionConflictError: another process owns it.
            SessionNotFoundError: it is not there.
            SessionError: it cannot be read.
            StoreUnavailableError: the store is away.
        """
        lease = await self._acquire(session_id, self._clock() + wait_s)
        try:
            record = await self.store.load(session_id)
        except BaseException:
            await self._give_back(lease)
            raise
        kept = self._of(session_id)
        kept.lease = lease
        kept.is_lost = False
        return record

    async def _acquire(self, session_id: str, until_s: float) -> Lease:
        while True:
            try:
                return await self.store.acquire(session_id, self.holder, self.limits.lease_ttl_s)
            except SessionConflictError:
                if self._clock() >= until_s:
                    raise
            await asyncio.sleep(TAKE_INTERVAL_S)

    async def flush(self, session_id: str, timeout_s: float) -> bool:
        """Have all that was told of a session stored now; False when that did not succeed in time."""
        kept = self._kept.get(session_id)
        if kept is None or kept.stored >= kept.told:
            return True
        if kept.is_lost:
            return False
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        kept.flushing.append((kept.told, stored))
        if session_id in self._dirty:
            self._dirty.move_to_end(session_id, last=False)
        # Whoever asks cannot wait until the pause after a failure is over.
        self._retry_at_s = 0.0
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s) as timeout:
                return await stored
        except TimeoutError:
            if not timeout.expired():
                raise
            return False

    def start(self) -> None:
        """Begin to write, and to renew leases."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        self._tasks.append(asyncio.create_task(self._renew_all()))

    async def close(self, timeout_s: float = 5.0) -> bool:
        """Store what waits, give all leases up, and stop; False when something is not stored."""
        for session_id in list(self._kept):
            self.release(session_id)
        self._retry_at_s = 0.0
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                while self._kept and self._tasks:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        except TimeoutError:
            pass
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        left = [kept for kept in self._kept.values() if kept.record is not None or kept.lines]
        if left:
            self.counters["sessions_not_stored"] += len(left)
            logger.error("sessions: %d were not stored at the end", len(left))
        return not left

    # The workers

    async def _work(self) -> None:
        while True:
            if not self._dirty:
                self._wake.clear()
                await self._wake.wait()
                continue
            pause_s = self._retry_at_s - self._clock()
            if pause_s > 0:
                await self._rest(pause_s)
                continue
            _, kept = self._dirty.popitem(last=False)
            kept.is_being_written = True
            try:
                await self._write(kept)
                await self._settle(kept)
            finally:
                kept.is_being_written = False
                self._requeue(kept)

    async def _rest(self, pause_s: float) -> None:
        self._hurry.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _write(self, kept: _Kept) -> None:
        record, snapshot, lines, told = kept.record, kept.snapshot, list(kept.lines.values()), kept.told
        kept.record = kept.snapshot = None
        lease = kept.lease
        try:
            async with asyncio.timeout(self.limits.write_timeout_s):
                if lease is None:
                    lease = await self.store.acquire(kept.session_id, self.holder, self.limits.lease_ttl_s)
                    kept.lease = lease
                if lines:
                    await self.store.append_transcript(kept.session_id, lines, lease)
                    self._unsay(kept, lines)
                    self.counters["lines_written"] += len(lines)
                if record is not None:
                    if snapshot is not None:
                        record = await self._with_snapshot(kept, record, snapshot)
                        snapshot = None
                    await self.store.save(record, lease)
                    self.counters["writes"] += 1
        except SessionConflictError:
            if kept.lease is lease:
                self._lose(kept)
            elif record is not None:
                # This process took the session anew meanwhile; the next try has that lease.
                self._put_back(kept, record, snapshot)
        except (SessionError, TimeoutError, asyncio.CancelledError) as error:
            if record is not None:
                self._put_back(kept, record, snapshot)
            if isinstance(error, asyncio.CancelledError):
                raise
            self._failed()
        except Exception as error:
            # Not the store's trouble, so another try would end as this one did. The text may quote words.
            self.counters["writes_failed"] += 1
            logger.error("session %s: not stored: %s", kept.session_id, type(error).__name__)
            self._unsay(kept, lines)
            kept.stored = told
        else:
            self._failures = 0
            kept.stored = told
            if kept.told > told:
                kept.waiting_since_s = self._clock()

    def _put_back(self, kept: _Kept, record: SessionRecord, snapshot: Snapshot | None) -> None:
        """Have what was not written wait again, behind what came since."""
        if kept.record is None:
            kept.record = record
        elif kept.record.snapshot is None:
            kept.record = replace(kept.record, snapshot=record.snapshot)
        kept.snapshot = kept.snapshot or snapshot

    async def _with_snapshot(self, kept: _Kept, record: SessionRecord, snapshot: Snapshot) -> SessionRecord:
        size = kept.last_snapshot_bytes
        try:
            is_small = size is not None and size <= SNAPSHOT_ON_LOOP_MAX_BYTES
            encoded = snapshot() if is_small else await asyncio.to_thread(snapshot)
            kept.last_snapshot_bytes = len(encoded)
            return replace(record, snapshot=encoded)
        except Exception as error:
            # The session is stored with the snapshot before.
            self.counters["snapshots_failed"] += 1
            logger.error(
                "session %s: no snapshot (at most %d bytes): %s",
                kept.session_id,
                SNAPSHOT_MAX_BYTES,
                type(error).__name__,
            )
            return record

    def _failed(self) -> None:
        self.counters["retries"] += 1
        doubled_s = self.limits.first_retry_s * 2.0 ** min(self._failures, 16)
        pause_s = min(doubled_s, self.limits.last_retry_s) * (0.5 + self._jitter() / 2)
        self._failures += 1
        self._retry_at_s = max(self._retry_at_s, self._clock() + pause_s)

    async def _settle(self, kept: _Kept) -> None:
        """After a try: tell who waits for it, and have the rest wait, or let the session go."""
        for target, stored in list(kept.flushing):
            if kept.is_lost or kept.stored >= target:
                kept.flushing.remove((target, stored))
                if not stored.done():
                    stored.set_result(not kept.is_lost)
        if kept.is_leaving and kept.stored >= kept.told and kept.lease is not None and not kept.is_lost:
            lease, kept.lease = kept.lease, None
            await self._give_back(lease)
        # Somebody may have told more of it meanwhile, or taken it again.
        if kept.stored >= kept.told:
            kept.waiting_since_s = None
            if kept.is_leaving and kept.lease is None:
                self._forget(kept)

    def _requeue(self, kept: _Kept) -> None:
        if not kept.is_lost and kept.stored < kept.told:
            self._dirty[kept.session_id] = kept
            if kept.flushing:
                self._dirty.move_to_end(kept.session_id, last=False)
            self._wake.set()

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self.store.release(lease)
        except SessionError:
            pass  # it runs out by itself

    def _forget(self, kept: _Kept) -> None:
        self._unsay(kept, list(kept.lines.values()))
        if self._kept.get(kept.session_id) is kept:
            del self._kept[kept.session_id]
        if not self._kept:
            self._all_gone.set()

    def _lose(self, kept: _Kept) -> None:
        """Another process owns it now."""
        if kept.is_lost:
            return
        kept.is_lost = True
        kept.lease = kept.record = kept.snapshot = kept.waiting_since_s = None
        self._unsay(kept, list(kept.lines.values()))
        self._dirty.pop(kept.session_id, None)
        self.counters["lost"] += 1
        logger.warning("session %s: another process owns it now", kept.session_id)
        if kept.is_leaving:
            self._forget(kept)
            return
        try:
            self._on_lost(kept.session_id)
        except Exception as error:
            self.counters["callbacks_failed"] += 1
            logger.error("session %s: its call was not told: %s", kept.session_id, type(error).__name__)

    # Leases

    async def _renew_all(self) -> None:
        interval_s = self.limits.lease_ttl_s / 3
        while True:
            await asyncio.sleep(interval_s)
            owned = [kept for kept in self._kept.values() if kept.lease is not None]
            for begin in range(0, len(owned), RENEWALS_AT_ONCE):
                chunk = owned[begin : begin + RENEWALS_AT_ONCE]
                if not all(await asyncio.gather(*map(self._renew, chunk))):
                    break  # the store is away; it would be for the others

    async def _renew(self, kept: _Kept) -> bool:
        lease = kept.lease
        if lease is None:
            return True
        try:
            await self.store.renew(lease, self.limits.lease_ttl_s)
        except SessionConflictError:
            # Not when it was given back, or taken anew, meanwhile.
            if kept.lease is lease:
                self._lose(kept)
        except SessionError:
            self.counters["renewals_failed"] += 1
            return False
        else:
            self.counters["renewals"] += 1
        return True
