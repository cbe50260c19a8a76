"""SessionStore: what every place for sessions can do.

A session is written by the process that holds its lease. `SessionStore.acquire` gives a lease with a number
that grows (its *fence*); a write with an older number is refused, however late it arrives. A lease that ran
out still allows writing until somebody else acquires the session, so a store that was away ends no call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastagent.errors import SessionConflictError
from fastagent.sessions.lease import Lease
from fastagent.sessions.record import (
    MEMORY_MAX_BYTES,
    CallerMemory,
    SessionPage,
    SessionRecord,
    Status,
    TranscriptLine,
    check_name,
)

__all__ = ["PAGE_MAX", "RETENTION_S", "SessionStore", "StoreHealth"]

RETENTION_S = 30 * 86_400.0
"""How long a store that forgets by itself (Redis) keeps a session after its last write."""
PAGE_MAX = 500
"""Sessions, or lines, that are given at once."""
FENCE_KEPT_S = 86_400.0
"""How long it is remembered who owned a session that is gone: no write of it can be under way by then."""
HELD = "another process owns it"
STALE = "the lease is no longer the newest"


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How a store is."""

    kind: str
    """``memory``, ``sqlite`` or ``redis``."""
    is_available: bool
    """Did it answer when it was last asked?"""
    is_writable: bool
    trouble: str
    """What is wrong, in one word; empty when nothing is."""
    counters: Mapping[str, int]


class SessionStore(Protocol):
    """A place for sessions, used from one event loop; whatever waits has a deadline.

    Raises:
        StoreUnavailableError: (every async method) no answer in time, or it cannot write. A write may still
            have been done; doing it again is harmless.
    """

    @property
    def health(self) -> StoreHealth:
        """How it is, by what it saw last; asks nobody."""
        ...

    async def open(self) -> None:
        """Make it ready. A server that is not there yet is no error; `health` tells of it.

        Raises:
            ConfigurationError: it can never work.
        """
        ...

    async def close(self) -> None:
        """Give up what it holds. Closing again does nothing."""
        ...

    async def acquire(self, session_id: str, owner_process: str, ttl_s: float) -> Lease:
        """Own a session, stored already or not; its holder gets a new lease, and the older one is void.

        Raises:
            SessionConflictError: the lease of another process has not run out.
        """
        ...

    async def renew(self, lease: Lease, ttl_s: float) -> None:
        """Keep owning it for another while, also when the lease ran out and nobody took the session.

        Raises:
            SessionConflictError: somebody did.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Own it no longer; nothing happens when it was lost before."""
        ...

    async def save(self, record: SessionRecord, lease: Lease) -> None:
        """Store the whole record, or all but the snapshot when that is None.

        Raises:
            SessionConflictError: another process owns the session, or it was deleted. Nothing is written.
        """
        ...

    async def append_transcript(self, session_id: str, lines: Sequence[TranscriptLine], lease: Lease) -> None:
        """Store what was said; a line whose number is stored already stays as it is.

        Raises:
            SessionConflictError: as for `save`.
        """
        ...

    async def load(self, session_id: str) -> SessionRecord:
        """The record with its snapshot.

        Raises:
            SessionNotFoundError: there is none.
            SessionError: it was changed on the disk, or written by a newer release.
        """
        ...

    async def transcript(
        self, session_id: str, *, after: int = 0, limit: int = PAGE_MAX
    ) -> tuple[TranscriptLine, ...]:
        """Lines behind a number, in order; none for a session that is not there."""
        ...

    async def find_interrupted(
        self, caller_key: str, *, agent_id: str | None = None, since_unix_s: float = 0.0
    ) -> SessionRecord | None:
        """The caller's newest session that is interrupted, or live and left by its process; without snapshot.

        `acquire` it before it is loaded: another process may be about to.
        """
        ...

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
        """Sessions that fit, the one that started last first.

        Raises:
            ValueError: a cursor that no page gave, or a limit that is not 1 to `PAGE_MAX`.
        """
        ...

    async def delete(self, session_id: str) -> bool:
        """Forget a session with all that was said; writes still under way are refused. Was it there?"""
        ...

    async def reclaim(self) -> int:
        """Call those sessions interrupted that are live and whose lease ran out, and give their number."""
        ...

    async def load_memory(self, caller_key: str, agent_id: str) -> CallerMemory | None:
        """What an agent remembers of a caller."""
        ...

    async def save_memory(self, caller_key: str, agent_id: str, memory: CallerMemory, ttl_s: float) -> bool:
        """Remember it for ``ttl_s``, unless what is stored is newer: False then.

        Raises:
            ValueError: it is larger than `MEMORY_MAX_BYTES`, or nobody's.
        """
        ...

    async def delete_memory(self, caller_key: str, agent_id: str) -> bool:
        """Forget it. Was there any?"""
        ...

    async def purge(self, before_unix_s: float) -> int:
        """Delete sessions last updated before a time that no process owns, and give their number."""
        ...


def conflict(session_id: str, reason: str = STALE) -> SessionConflictError:
    """The error of a write by somebody who no longer owns the session."""
    return SessionConflictError(session_id, reason)


def check_lease(session_id: str, lease: Lease) -> None:
    """Raises: `ValueError` for the lease of another session."""
    if lease.session_id != session_id:
        raise ValueError("the lease is of another session")


def check_limit(limit: int) -> None:
    """Raises: `ValueError` for a page of no size, or of too great a one."""
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"limit: expected 1 to {PAGE_MAX}, got {limit}")


def check_memory(caller_key: str, agent_id: str, body: bytes = b"") -> None:
    """Raises: `ValueError` for a memory of nobody, or one that is too large."""
    if not caller_key or not agent_id:
        raise ValueError("a memory is of one caller and one agent")
    check_name("caller_key", caller_key)
    check_name("agent_id", agent_id)
    if len(body) > MEMORY_MAX_BYTES:
        raise ValueError(f"the memory has {len(body)} bytes, the most is {MEMORY_MAX_BYTES}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind which session a page begins: pages are ordered by start, then by id, downwards."""

    started_at_unix_s: float
    session_id: str

    def __str__(self) -> str:
        return f"{self.started_at_unix_s!r}/{self.session_id}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises: `ValueError` for text that no page gave."""
        started, slash, session_id = text.partition("/")
        try:
            if slash and session_id:
                return cls(float(started), session_id)
        except ValueError:
            pass
        raise ValueError("not a cursor of a page")

    @classmethod
    def behind(cls, record: SessionRecord) -> "Cursor":
        """Where the page goes on behind this record."""
        return cls(record.started_at_unix_s, record.session_id)
