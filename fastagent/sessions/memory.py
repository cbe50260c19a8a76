"""MemoryStore: sessions in this process alone, and what the other stores are compared with."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from fastagent.errors import SessionNotFoundError
from fastagent.sessions.lease import Fence, Lease
from fastagent.sessions.record import CallerMemory, SessionPage, SessionRecord, Status, TranscriptLine
from fastagent.sessions.store import (
    FENCE_KEPT_S,
    HELD,
    PAGE_MAX,
    Cursor,
    StoreHealth,
    check_lease,
    check_limit,
    check_memory,
    conflict,
)

__all__ = ["MemoryStore"]


@dataclass(frozen=True, slots=True)
class _Remembered:
    memory: CallerMemory
    until_s: float


class MemoryStore:
    """The `SessionStore` of a process that needs none: gone when it ends.

    Args:
        clock: monotonic seconds, for leases and for how long callers are remembered.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counters: Counter[str] = Counter()
        self._records: dict[str, SessionRecord] = {}
        self._lines: dict[str, dict[int, TranscriptLine]] = {}
        self._fences: dict[str, Fence] = {}
        self._memories: dict[tuple[str, str], _Remembered] = {}

    @property
    def health(self) -> StoreHealth:
        """See `SessionStore`, as for all that follows."""
        return StoreHealth("memory", True, True, "", MappingProxyType(dict(self._counters)))

    async def open(self) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """Nothing is given up, so that a test may open it again."""

    async def acquire(self, session_id: str, owner_process: str, ttl_s: float) -> Lease:
        known = self._fences.get(session_id)
        now_s = self._clock()
        if known is not None and known.is_held_by_another(owner_process, now_s):
            raise conflict(session_id, HELD)
        fence = known.fence + 1 if known is not None else 1
        self._fences[session_id] = Fence(owner_process, fence, now_s + ttl_s)
        return Lease(session_id, owner_process, fence)

    async def renew(self, lease: Lease, ttl_s: float) -> None:
        self._check(lease)
        self._fences[lease.session_id].until_s = self._clock() + ttl_s

    async def release(self, lease: Lease) -> None:
        known = self._fences.get(lease.session_id)
        if known is not None and known.allows(lease):
            self._fences[lease.session_id] = Fence("", lease.fence, self._clock())

    def _check(self, lease: Lease) -> None:
        known = self._fences.get(lease.session_id)
        if known is None or (known.allows(lease) and known.fence != lease.fence):
            self._fences[lease.session_id] = Fence(lease.holder, lease.fence, self._clock())
        elif not known.allows(lease):
            raise conflict(lease.session_id)

    async def save(self, record: SessionRecord, lease: Lease) -> None:
        check_lease(record.session_id, lease)
        self._check(lease)
        if record.snapshot is None and (before := self._records.get(record.session_id)) is not None:
            record = replace(record, snapshot=before.snapshot)
        self._records[record.session_id] = record
        self._counters["saves"] += 1

    async def append_transcript(self, session_id: str, lines: Sequence[TranscriptLine], lease: Lease) -> None:
        check_lease(session_id, lease)
        self._check(lease)
        kept = self._lines.setdefault(session_id, {})
        for line in lines:
            kept.setdefault(line.number, line)
        self._counters["lines"] += len(lines)

    async def load(self, session_id: str) -> SessionRecord:
        try:
            return self._records[session_id]
        except KeyError:
            raise SessionNotFoundError(session_id) from None

    async def transcript(
        self, session_id: str, *, after: int = 0, limit: int = PAGE_MAX
    ) -> tuple[TranscriptLine, ...]:
        check_limit(limit)
        kept = self._lines.get(session_id, {})
        return tuple(kept[number] for number in sorted(number for number in kept if number > after)[:limit])

    async def find_interrupted(
        self, caller_key: str, *, agent_id: str | None = None, since_unix_s: float = 0.0
    ) -> SessionRecord | None:
        if not caller_key:
            return None
        found = [
            record
            for record in self._records.values()
            if record.caller_key == caller_key
            and agent_id in (None, record.agent_id)
            and record.updated_at_unix_s >= since_unix_s
            and (record.status == "interrupted" or self._is_left(record))
        ]
        if not found:
            return None
        newest = max(found, key=lambda record: (record.updated_at_unix_s, record.session_id))
        return replace(newest, status="interrupted", snapshot=None)

    def _is_left(self, record: SessionRecord) -> bool:
        return record.status == "live" and not self._is_held(record.session_id)

    def _is_held(self, session_id: str) -> bool:
        known = self._fences.get(session_id)
        return known is not None and known.is_held_by_another("", self._clock())

    async def list(
        self,
        *,
        status: Status | None = None,
        agent_id: str | None = None,
        started_from_unix_s: float | None = None,
        started_before_unix_s: float | None = None,
        cursor: str = "",
        limit: int = 50,
    ) -> SessionPage:
        check_limit(limit)
        behind = Cursor.parse(cursor) if cursor else None
        found = sorted(
            (
                record
                for record in self._records.values()
                if status in (None, record.status)
                and agent_id in (None, record.agent_id)
                and (started_from_unix_s is None or record.started_at_unix_s >= started_from_unix_s)
                and (started_before_unix_s is None or record.started_at_unix_s < started_before_unix_s)
            ),
            key=_place,
            reverse=True,
        )
        left = [
            record
            for record in found
            if behind is None or _place(record) < (behind.started_at_unix_s, behind.session_id)
        ]
        page = tuple(replace(record, snapshot=None) for record in left[:limit])
        return SessionPage(page, len(found), str(Cursor.behind(page[-1])) if len(left) > limit else "")

    async def delete(self, session_id: str) -> bool:
        known = self._fences.get(session_id)
        if known is not None:
            self._fences[session_id] = Fence("", known.fence + 1, self._clock())
        had_lines = bool(self._lines.pop(session_id, None))
        return self._records.pop(session_id, None) is not None or had_lines

    async def reclaim(self) -> int:
        left = [record for record in self._records.values() if self._is_left(record)]
        for record in left:
            self._records[record.session_id] = replace(record, status="interrupted")
        return len(left)

    async def load_memory(self, caller_key: str, agent_id: str) -> CallerMemory | None:
        check_memory(caller_key, agent_id)
        kept = self._memories.get((caller_key, agent_id))
        return kept.memory if kept is not None and kept.until_s > self._clock() else None

    async def save_memory(self, caller_key: str, agent_id: str, memory: CallerMemory, ttl_s: float) -> bool:
        check_memory(caller_key, agent_id, memory.body)
        before = await self.load_memory(caller_key, agent_id)
        if before is not None and before.at_unix_s > memory.at_unix_s:
            return False
        self._memories[caller_key, agent_id] = _Remembered(memory, self._clock() + ttl_s)
        return True

    async def delete_memory(self, caller_key: str, agent_id: str) -> bool:
        check_memory(caller_key, agent_id)
        kept = self._memories.pop((caller_key, agent_id), None)
        return kept is not None and kept.until_s > self._clock()

    async def purge(self, before_unix_s: float) -> int:
        now_s = self._clock()
        self._memories = {key: kept for key, kept in self._memories.items() if kept.until_s > now_s}
        old = list(self._old(before_unix_s))
        for session_id in old:
            del self._records[session_id]
            self._lines.pop(session_id, None)
        for session_id, known in list(self._fences.items()):
            # What is left of a deleted session is kept until no write of it can be under way.
            if session_id not in self._records and known.until_s + FENCE_KEPT_S <= now_s:
                del self._fences[session_id]
                self._lines.pop(session_id, None)
        return len(old)

    def _old(self, before_unix_s: float) -> Iterator[str]:
        for record in self._records.values():
            if record.updated_at_unix_s < before_unix_s and not self._is_held(record.session_id):
                yield record.session_id


def _place(record: SessionRecord) -> tuple[float, str]:
    return record.started_at_unix_s, record.session_id
