"""SqliteStore: sessions in one file on this machine; several processes may share it.

A write that returned survives SIGKILL and a power cut (write-ahead log, ``synchronous=FULL``). Leases run by
the machine's clock since boot, which nobody sets, and those from before a boot are void. Each stored value
ends with its checksum, since SQLite itself does not see a flipped bit inside of one.
"""

import builtins
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from fastagent.errors import SessionError, SessionNotFoundError
from fastagent.sessions.lease import Fence, Lease
from fastagent.sessions.record import (
    CallerMemory,
    SessionPage,
    SessionRecord,
    Status,
    TranscriptLine,
    decode_line,
    decode_record,
    encode_line,
    encode_record,
)
from fastagent.sessions.sqlite_thread import OPEN_TIMEOUT_S, SqliteThread
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

__all__ = ["BootClock", "SqliteStore"]

MIGRATIONS = (
    """
    create table sessions (
        session_id text primary key,
        agent_id text not null,
        caller_key text not null,
        status text not null,
        started_at_unix_s real not null,
        updated_at_unix_s real not null,
        body blob not null,
        snapshot blob
    ) without rowid;
    create index sessions_by_start on sessions (started_at_unix_s, session_id);
    create index sessions_by_status on sessions (status, started_at_unix_s, session_id);
    create index sessions_by_agent on sessions (agent_id, started_at_unix_s, session_id);
    create index sessions_by_update on sessions (updated_at_unix_s);
    create index sessions_by_caller on sessions (caller_key, updated_at_unix_s)
        where caller_key <> '' and status <> 'ended';
    create table fences (
        session_id text primary key,
        holder text not null,
        fence integer not null,
        boot text not null,
        until_boot_s real not null,
        changed_at_unix_s real not null
    ) without rowid;
    create table lines (
        session_id text not null,
        number integer not null,
        body blob not null,
        primary key (session_id, number)
    ) without rowid;
    """,
    """
    create table memories (
        caller_key text not null,
        agent_id text not null,
        at_unix_s real not null,
        until_unix_s real not null,
        body blob not null,
        primary key (caller_key, agent_id)
    ) without rowid;
    create index memories_by_end on memories (until_unix_s);
    """,
)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CHECKSUM_BYTES = 4

_HELD = (
    "exists (select 1 from fences where fences.session_id = sessions.session_id"
    " and holder <> '' and boot = ? and until_boot_s > ?)"
)


@dataclass(frozen=True, slots=True)
class BootClock:
    """Seconds since this machine booted, the same for all its processes."""

    boot: str
    """Which boot that was."""
    now_s: Callable[[], float]

    @classmethod
    def of_this_machine(cls) -> "BootClock":
        """The kernel's own."""
        try:
            boot = BOOT_ID.read_text().strip()
        except OSError:
            boot = ""
        return cls(boot, _boot_time)


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SqliteStore:
    """The `SessionStore` of one machine.

    Args:
        path: of the file; see `SqliteThread`.
        clock: seconds since boot, for leases.
        wall_clock: seconds since 1970, for how long callers are remembered.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: BootClock | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._thread = SqliteThread(Path(path), MIGRATIONS)
        self._clock = clock or BootClock.of_this_machine()
        self._wall_clock = wall_clock

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._thread.path

    @property
    def health(self) -> StoreHealth:
        """See `SessionStore`, as for all that follows."""
        trouble = self._thread.trouble
        is_gone = not self._thread.is_running or trouble in ("unopenable", "io_error")
        return StoreHealth(
            "sqlite", not is_gone, not trouble, trouble, MappingProxyType(dict(self._thread.counters))
        )

    async def open(self) -> None:
        self._thread.start()
        try:
            await self._thread.read(_nothing, timeout_s=OPEN_TIMEOUT_S)
        except BaseException:
            await self._thread.close()
            raise

    async def close(self) -> None:
        await self._thread.close()

    # Leases

    async def acquire(self, session_id: str, owner_process: str, ttl_s: float) -> Lease:
        def work(connection: sqlite3.Connection) -> Lease:
            known = self._fence(connection, session_id)
            now_s = self._clock.now_s()
            if known is not None and known.is_held_by_another(owner_process, now_s):
                raise conflict(session_id, HELD)
            lease = Lease(session_id, owner_process, known.fence + 1 if known is not None else 1)
            self._keep(connection, session_id, Fence(owner_process, lease.fence, now_s + ttl_s))
            return lease

        return await self._thread.write(work)

    async def renew(self, lease: Lease, ttl_s: float) -> None:
        def work(connection: sqlite3.Connection) -> None:
            self._check(connection, lease)
            until_s = self._clock.now_s() + ttl_s
            self._keep(connection, lease.session_id, Fence(lease.holder, lease.fence, until_s))

        await self._thread.write(work)

    async def release(self, lease: Lease) -> None:
        def work(connection: sqlite3.Connection) -> None:
            known = self._fence(connection, lease.session_id)
            if known is not None and known.allows(lease):
                self._keep(connection, lease.session_id, Fence("", lease.fence, 0.0))

        await self._thread.write(work)

    def _fence(self, connection: sqlite3.Connection, session_id: str) -> Fence | None:
        row = connection.execute(
            "select holder, fence, boot, until_boot_s from fences where session_id = ?", (session_id,)
        ).fetchone()
        if row is None:
            return None
        holder, fence, boot, until_s = row
        return Fence(holder, fence, until_s if boot == self._clock.boot else 0.0)

    def _keep(self, connection: sqlite3.Connection, session_id: str, fence: Fence) -> None:
        connection.execute(
            "replace into fences values (?, ?, ?, ?, ?, ?)",
            (session_id, fence.holder, fence.fence, self._clock.boot, fence.until_s, self._wall_clock()),
        )

    def _check(self, connection: sqlite3.Connection, lease: Lease) -> None:
        known = self._fence(connection, lease.session_id)
        if known is None or (known.allows(lease) and known.fence != lease.fence):
            self._keep(connection, lease.session_id, Fence(lease.holder, lease.fence, 0.0))
        elif not known.allows(lease):
            raise conflict(lease.session_id)

    # Sessions

    async def save(self, record: SessionRecord, lease: Lease) -> None:
        check_lease(record.session_id, lease)
        body = _seal(encode_record(record))
        snapshot = None if record.snapshot is None else _seal(record.snapshot)

        def work(connection: sqlite3.Connection) -> None:
            self._check(connection, lease)
            connection.execute(
                "insert into sessions values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (session_id) do update set"
                " agent_id = excluded.agent_id, caller_key = excluded.caller_key, status = excluded.status,"
                " started_at_unix_s = excluded.started_at_unix_s,"
                " updated_at_unix_s = excluded.updated_at_unix_s, body = excluded.body,"
                " snapshot = coalesce(excluded.snapshot, snapshot)",
                (
                    record.session_id,
                    record.agent_id,
                    record.caller_key,
                    record.status,
                    record.started_at_unix_s,
                    record.updated_at_unix_s,
                    body,
                    snapshot,
                ),
            )

        await self._thread.write(work)

    async def append_transcript(self, session_id: str, lines: Sequence[TranscriptLine], lease: Lease) -> None:
        check_lease(session_id, lease)
        rows = [(session_id, line.number, _seal(encode_line(line))) for line in lines]

        def work(connection: sqlite3.Connection) -> None:
            self._check(connection, lease)
            connection.executemany("insert or ignore into lines values (?, ?, ?)", rows)

        await self._thread.write(work)

    async def load(self, session_id: str) -> SessionRecord:
        def work(connection: sqlite3.Connection) -> tuple[str, bytes, bytes | None] | None:
            row: tuple[str, bytes, bytes | None] | None = connection.execute(
                "select status, body, snapshot from sessions where session_id = ?", (session_id,)
            ).fetchone()
            return row

        row = await self._thread.read(work)
        if row is None:
            raise SessionNotFoundError(session_id)
        return _record(*row)

    async def transcript(
        self, session_id: str, *, after: int = 0, limit: int = PAGE_MAX
    ) -> tuple[TranscriptLine, ...]:
        check_limit(limit)

        def work(connection: sqlite3.Connection) -> builtins.list[tuple[bytes]]:
            return connection.execute(
                "select body from lines where session_id = ? and number > ? order by number limit ?",
                (session_id, after, limit),
            ).fetchall()

        return tuple(decode_line(_unseal(body)) for (body,) in await self._thread.read(work))

    async def find_interrupted(
        self, caller_key: str, *, agent_id: str | None = None, since_unix_s: float = 0.0
    ) -> SessionRecord | None:
        if not caller_key:
            return None

        def work(connection: sqlite3.Connection) -> tuple[bytes] | None:
            row: tuple[bytes] | None = connection.execute(
                "select body from sessions where caller_key = ? and caller_key <> '' and status <> 'ended'"
                " and updated_at_unix_s >= ? and (? is null or agent_id = ?)"
                f" and (status = 'interrupted' or not {_HELD})"
                " order by updated_at_unix_s desc, session_id desc limit 1",
                (caller_key, since_unix_s, agent_id, agent_id, *self._now()),
            ).fetchone()
            return row

        row = await self._thread.read(work)
        return None if row is None else replace(_record("interrupted", row[0]), snapshot=None)

    def _now(self) -> tuple[str, float]:
        return self._clock.boot, self._clock.now_s()

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
        asked = {
            "status = ?": status,
            "agent_id = ?": agent_id,
            "started_at_unix_s >= ?": started_from_unix_s,
            "started_at_unix_s < ?": started_before_unix_s,
        }
        terms = [term for term, value in asked.items() if value is not None]
        values = [value for value in asked.values() if value is not None]
        where = " and ".join(terms) or "true"
        further = "true" if behind is None else "(started_at_unix_s, session_id) < (?, ?)"
        place = () if behind is None else (behind.started_at_unix_s, behind.session_id)

        def work(connection: sqlite3.Connection) -> tuple[int, builtins.list[tuple[float, str, str, bytes]]]:
            total = connection.execute(f"select count(*) from sessions where {where}", values).fetchone()[0]
            rows = connection.execute(
                "select started_at_unix_s, session_id, status, body from sessions"
                f" where {where} and {further}"
                " order by started_at_unix_s desc, session_id desc limit ?",
                (*values, *place, limit + 1),
            ).fetchall()
            return total, rows

        total, rows = await self._thread.read(work)
        records = []
        for _, _, status_now, body in rows[:limit]:
            try:
                records.append(_record(status_now, body))
            except SessionError:
                # One that cannot be read must not hide the others.
                self._thread.counters["unreadable"] += 1
        next_cursor = str(Cursor(*rows[limit - 1][:2])) if len(rows) > limit else ""
        return SessionPage(tuple(records), total, next_cursor)

    async def delete(self, session_id: str) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            known = self._fence(connection, session_id)
            if known is not None:
                self._keep(connection, session_id, Fence("", known.fence + 1, 0.0))
            return _forget(connection, [(session_id,)]) > 0

        return await self._thread.write(work)

    async def reclaim(self) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                f"update sessions set status = 'interrupted' where status = 'live' and not {_HELD}",
                self._now(),
            ).rowcount

        return await self._thread.write(work)

    async def purge(self, before_unix_s: float) -> int:
        def work(connection: sqlite3.Connection) -> int:
            now_s = self._wall_clock()
            connection.execute("delete from memories where until_unix_s <= ?", (now_s,))
            old = connection.execute(
                f"select session_id from sessions where updated_at_unix_s < ? and not {_HELD}",
                (before_unix_s, *self._now()),
            ).fetchall()
            _forget(connection, old)
            gone = connection.execute(
                "select session_id from fences where changed_at_unix_s < ? and not exists"
                " (select 1 from sessions where sessions.session_id = fences.session_id)",
                (now_s - FENCE_KEPT_S,),
            ).fetchall()
            connection.executemany("delete from fences where session_id = ?", gone)
            _forget(connection, gone)
            return len(old)

        return await self._thread.write(work)

    # Callers

    async def load_memory(self, caller_key: str, agent_id: str) -> CallerMemory | None:
        check_memory(caller_key, agent_id)

        def work(connection: sqlite3.Connection) -> tuple[bytes, float] | None:
            row: tuple[bytes, float] | None = connection.execute(
                "select body, at_unix_s from memories"
                " where caller_key = ? and agent_id = ? and until_unix_s > ?",
                (caller_key, agent_id, self._wall_clock()),
            ).fetchone()
            return row

        row = await self._thread.read(work)
        return None if row is None else CallerMemory(_unseal(row[0]), row[1])

    async def save_memory(self, caller_key: str, agent_id: str, memory: CallerMemory, ttl_s: float) -> bool:
        check_memory(caller_key, agent_id, memory.body)
        body = _seal(memory.body)

        def work(connection: sqlite3.Connection) -> bool:
            now_s = self._wall_clock()
            return (
                connection.execute(
                    "insert into memories values (?, ?, ?, ?, ?) on conflict (caller_key, agent_id) do update"
                    " set at_unix_s = excluded.at_unix_s, until_unix_s = excluded.until_unix_s,"
                    " body = excluded.body"
                    " where at_unix_s <= excluded.at_unix_s or until_unix_s <= ?",
                    (caller_key, agent_id, memory.at_unix_s, now_s + ttl_s, body, now_s),
                ).rowcount
                > 0
            )

        return await self._thread.write(work)

    async def delete_memory(self, caller_key: str, agent_id: str) -> bool:
        check_memory(caller_key, agent_id)

        def work(connection: sqlite3.Connection) -> bool:
            (was_there,) = connection.execute(
                "select count(*) from memories where caller_key = ? and agent_id = ? and until_unix_s > ?",
                (caller_key, agent_id, self._wall_clock()),
            ).fetchone()
            connection.execute(
                "delete from memories where caller_key = ? and agent_id = ?", (caller_key, agent_id)
            )
            return bool(was_there)

        return await self._thread.write(work)


def _nothing(connection: sqlite3.Connection) -> None:
    connection.execute("select 1 from sessions limit 1").fetchone()


def _forget(connection: sqlite3.Connection, sessions: Sequence[tuple[str]]) -> int:
    rows = 0
    for table in ("sessions", "lines"):
        rows += connection.executemany(f"delete from {table} where session_id = ?", sessions).rowcount
    return max(0, rows)


def _record(status: str, body: bytes, snapshot: bytes | None = None) -> SessionRecord:
    return decode_record(_unseal(body), None if snapshot is None else _unseal(snapshot), status=status)


def _seal(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big")


def _unseal(sealed: bytes) -> bytes:
    body = sealed[:-CHECKSUM_BYTES]
    if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big") != sealed[-CHECKSUM_BYTES:]:
        raise SessionError("a stored value was changed on the disk")
    return body
