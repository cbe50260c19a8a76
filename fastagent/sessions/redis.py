"""RedisStore: sessions that several machines share, behind any load balancer.

A session is three keys of one slot (record, lease, lines), each with a time to live. What is listed and
found lies in an index of its own, written right after; an entry whose session is gone, or has moved on, is
put right when it is met. See `redis_scripts` for what happens in one step.
"""

import asyncio
import builtins
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from redis.exceptions import AuthenticationError, NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fastagent.errors import SessionError, SessionNotFoundError, StoreUnavailableError
from fastagent.sessions import redis_scripts as scripts
from fastagent.sessions.lease import Lease
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
from fastagent.sessions.redis_client import CONNECTIONS_MAX, SOCKET_TIMEOUT_S, connect
from fastagent.sessions.redis_scripts import Script
from fastagent.sessions.store import (
    FENCE_KEPT_S,
    HELD,
    PAGE_MAX,
    RETENTION_S,
    Cursor,
    StoreHealth,
    check_lease,
    check_limit,
    check_memory,
    conflict,
)

__all__ = ["RedisStore"]

logger = logging.getLogger("fastagent.sessions")

STEP_TIMEOUTS = 4
"""A step (finding the master, connecting, waiting its turn, the answer) may take as many times as long."""
CLOSE_TIMEOUT_S = 2.0
LINES_AT_ONCE = 100
"""A script holds up the server, so a long transcript is written in pieces."""
SWEEP_AT_ONCE = 200
WALK_MAX = 10_000
"""Sessions looked at by one `reclaim` or `purge`; the rest waits for the next."""
AT_ONCE = 16
"""Sessions of such a walk under way."""
CANDIDATES_MAX = 100
"""Sessions of one caller looked at for one that may be resumed."""
PREFIX = "fastagent:"
INDEX = PREFIX + "{index}:"

T = TypeVar("T")


class _Keys(NamedTuple):
    lease: str
    record: str
    lines: str


class _View(NamedTuple):
    """What is stored, and whether a process owns it."""

    record: SessionRecord
    version: int
    is_held: bool


class RedisStore:
    """The `SessionStore` of several machines.

    Args:
        url: see `connect`.
        retention_s: how long a session is kept after its last write.
        timeout_s: for a connection, and for each answer.
    """

    def __init__(
        self, url: str, *, retention_s: float = RETENTION_S, timeout_s: float = SOCKET_TIMEOUT_S
    ) -> None:
        self._redis, self._closing = connect(url, timeout_s)
        self._step_timeout_s = STEP_TIMEOUTS * timeout_s
        self._kept_ms = max(1, int(retention_s * 1000))
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._counters: Counter[str] = Counter()
        self._trouble = ""
        self._is_closed = False

    @property
    def health(self) -> StoreHealth:
        """See `SessionStore`, as for all that follows."""
        is_there = not self._is_closed and self._trouble in ("", "full", "read_only")
        counters = MappingProxyType(dict(self._counters))
        return StoreHealth("redis", is_there, is_there and not self._trouble, self._trouble, counters)

    async def open(self) -> None:
        try:
            await self._ask(self._redis.ping)
        except StoreUnavailableError:
            pass  # said in the log; calls go on and the server may come back

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_TIMEOUT_S)
        for asking in self._under_way:
            asking.cancel()
        for close in self._closing:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await close()
            except (TimeoutError, RedisError, OSError):
                pass  # the sockets go with the process

    # Asking

    async def _ask(self, ask: Callable[[], Awaitable[T]], *, is_write: bool = False) -> T:
        if self._is_closed:
            raise StoreUnavailableError("redis", "it is closed", retryable=False)
        asking = asyncio.create_task(self._in_turn(ask))
        self._under_way.add(asking)
        asking.add_done_callback(self._ended)
        # Not cancelled when it takes too long: redis-py may lose a connection that is cancelled on its way
        # back to the pool. It ends by the client's own deadlines.
        if not (await asyncio.wait({asking}, timeout=self._step_timeout_s))[0]:
            raise self._told(TimeoutError())
        try:
            answer = asking.result()
        except (RedisError, OSError, asyncio.IncompleteReadError) as error:
            raise self._told(error) from None
        if self._trouble and (is_write or self._trouble not in ("full", "read_only")):
            logger.warning("sessions: redis answers again")
            self._trouble = ""
        return answer

    async def _in_turn(self, ask: Callable[[], Awaitable[T]]) -> T:
        async with self._free:
            return await ask()

    def _ended(self, asking: asyncio.Task[Any]) -> None:
        self._under_way.discard(asking)
        if not asking.cancelled():
            asking.exception()  # somebody may have stopped waiting for it

    def _told(self, error: Exception) -> StoreUnavailableError:
        trouble = _trouble(error)
        if trouble != self._trouble:
            # The error's text may quote what was to be written, or where it was to go.
            logger.error("sessions: redis: %s (%s)", trouble, type(error).__name__)
            self._trouble = trouble
        self._counters[f"trouble_{trouble}"] += 1
        return StoreUnavailableError("redis", trouble)

    async def _run(self, script: Script, keys: Sequence[str], *arguments: Any, is_write: bool = True) -> Any:
        async def ask() -> Any:
            client: Any = self._redis
            try:
                return await client.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await client.eval(script.text, len(keys), *keys, *arguments)

        return await self._ask(ask, is_write=is_write)

    async def _command(self, *words: Any) -> Any:
        return await self._ask(lambda: self._redis.execute_command(*words))

    # Leases

    async def acquire(self, session_id: str, owner_process: str, ttl_s: float) -> Lease:
        fence = await self._run(
            scripts.ACQUIRE, [_keys(session_id).lease], owner_process, int(ttl_s * 1000), self._fence_ms
        )
        if not fence:
            raise conflict(session_id, HELD)
        return Lease(session_id, owner_process, fence)

    @property
    def _fence_ms(self) -> int:
        # A fence outlives its session, also where sessions are kept for a moment only.
        return max(self._kept_ms, _ms(FENCE_KEPT_S))

    async def renew(self, lease: Lease, ttl_s: float) -> None:
        if not await self._run_leased(scripts.RENEW, [], lease, int(ttl_s * 1000)):
            raise conflict(lease.session_id)

    async def release(self, lease: Lease) -> None:
        await self._run_leased(scripts.RELEASE, [], lease)

    async def _run_leased(self, script: Script, keys: Sequence[str], lease: Lease, *arguments: Any) -> int:
        key = _keys(lease.session_id).lease
        answer: int = await self._run(
            script, [key, *keys], lease.holder, lease.fence, self._fence_ms, *arguments
        )
        return answer

    # Sessions

    async def save(self, record: SessionRecord, lease: Lease) -> None:
        check_lease(record.session_id, lease)
        _, key, lines = _keys(record.session_id)
        snapshot = () if record.snapshot is None else (record.snapshot,)
        version = await self._run_leased(
            scripts.SAVE, [key, lines], lease, self._kept_ms, encode_record(record), record.status, *snapshot
        )
        if not version:
            raise conflict(record.session_id)
        self._counters["saves"] += 1
        await self._index(record, version)

    async def append_transcript(self, session_id: str, lines: Sequence[TranscriptLine], lease: Lease) -> None:
        check_lease(session_id, lease)
        for begin in range(0, len(lines) or 1, LINES_AT_ONCE):
            words: builtins.list[Any] = []
            for line in lines[begin : begin + LINES_AT_ONCE]:
                words += (line.number, encode_line(line))
            key = _keys(session_id).lines
            if not await self._run_leased(scripts.APPEND, [key], lease, self._kept_ms, *words):
                raise conflict(session_id)
        self._counters["lines"] += len(lines)

    async def load(self, session_id: str) -> SessionRecord:
        body, snapshot, status = await self._command(
            "HMGET", _keys(session_id).record, "body", "snapshot", "status"
        )
        if body is None:
            raise SessionNotFoundError(session_id)
        return decode_record(body, snapshot, status=status.decode())

    async def transcript(
        self, session_id: str, *, after: int = 0, limit: int = PAGE_MAX
    ) -> tuple[TranscriptLine, ...]:
        check_limit(limit)
        bodies = await self._command(
            "ZRANGEBYSCORE", _keys(session_id).lines, f"({after}", "+inf", "LIMIT", 0, limit
        )
        return tuple(decode_line(body) for body in bodies)

    async def delete(self, session_id: str) -> bool:
        deleted = await self._run(scripts.DELETE, _keys(session_id), self._fence_ms)
        await self._drop(session_id)
        return bool(deleted)

    # The index

    async def _index(self, record: SessionRecord, version: int) -> None:
        words = [INDEX, record.session_id, version, self._kept_ms, *_places(record)]
        await self._run(scripts.INDEX_PUT, [INDEX + "entries"], *words)

    async def _drop(self, session_id: str, version: str = "") -> None:
        await self._run(scripts.INDEX_DROP, [INDEX + "entries"], INDEX, session_id, version)

    async def _view(self, session_id: str) -> _View | None:
        """What an entry of the index stands for; an entry that stands for nothing is dropped."""
        entry = await self._command("HGET", INDEX + "entries", session_id)
        keys = _keys(session_id)
        body, status, version, is_held = await self._run(
            scripts.VIEW, [keys.lease, keys.record], is_write=False
        )
        if body is None:
            # Unless a save has come between.
            if entry is not None:
                await self._drop(session_id, entry.split()[0].decode())
            self._counters["index_dropped"] += 1
            return None
        try:
            record = decode_record(body, status=status.decode())
        except SessionError:
            # One that cannot be read must not hide the others.
            self._counters["unreadable"] += 1
            return None
        if entry is not None and entry.split()[1:] != [place.encode() for place in _places(record)[::2]]:
            self._counters["index_repaired"] += 1
            await self._index(record, version)
        return _View(record, version, bool(is_held))

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
        await self._run(scripts.INDEX_SWEEP, [INDEX + "entries"], INDEX, SWEEP_AT_ONCE)
        key = INDEX + _place(status, agent_id)
        lowest = "-inf" if started_from_unix_s is None else repr(started_from_unix_s)
        highest = "+inf" if started_before_unix_s is None else f"({started_before_unix_s!r}"
        begin = highest
        if behind is not None and (
            started_before_unix_s is None or behind.started_at_unix_s < started_before_unix_s
        ):
            begin = repr(behind.started_at_unix_s)
        found: builtins.list[SessionRecord] = []
        seen: set[str] = set()
        offset = 0
        while len(found) <= limit and len(seen) < WALK_MAX:
            names = await self._command("ZREVRANGEBYSCORE", key, begin, lowest, "LIMIT", offset, limit + 1)
            if not names:
                break
            ids = [name.decode() for name in names if name.decode() not in seen]
            if not ids:
                offset += len(names)
                continue
            seen.update(ids)
            for view in await _each(self._view, ids):
                if view is None or not _fits(view.record, status, agent_id):
                    continue  # looking at it took it out of the set that is walked
                offset += 1
                if behind is None or _order(view.record) < (behind.started_at_unix_s, behind.session_id):
                    found.append(view.record)
        total = await self._command("ZCOUNT", key, lowest, highest)
        page = tuple(found[:limit])
        return SessionPage(page, total, str(Cursor.behind(page[-1])) if len(found) > limit else "")

    async def find_interrupted(
        self, caller_key: str, *, agent_id: str | None = None, since_unix_s: float = 0.0
    ) -> SessionRecord | None:
        if not caller_key:
            return None
        key = f"{INDEX}caller:{quote(caller_key, safe='')}"
        ids = await self._command(
            "ZREVRANGEBYSCORE", key, "+inf", repr(since_unix_s), "LIMIT", 0, CANDIDATES_MAX
        )
        for name in ids:
            view = await self._view(name.decode())
            if (
                view is not None
                and view.record.caller_key == caller_key
                and agent_id in (None, view.record.agent_id)
                and view.record.updated_at_unix_s >= since_unix_s
                and (
                    view.record.status == "interrupted" or (view.record.status == "live" and not view.is_held)
                )
            ):
                return replace(view.record, status="interrupted")
        return None

    async def reclaim(self) -> int:
        ids = await self._command("ZRANGE", INDEX + _place("live", None), 0, WALK_MAX - 1)

        async def reclaim(session_id: str) -> bool:
            keys = _keys(session_id)
            if not await self._run(scripts.RECLAIM, [keys.lease, keys.record]):
                # It is owned, or gone; an entry that is behind is put right.
                await self._view(session_id)
                return False
            await self._view(session_id)
            return True

        return sum(await _each(reclaim, [name.decode() for name in ids]))

    async def purge(self, before_unix_s: float) -> int:
        await self._run(scripts.INDEX_SWEEP, [INDEX + "entries"], INDEX, SWEEP_AT_ONCE)
        ids = await self._command(
            "ZRANGEBYSCORE", INDEX + "updated", "-inf", f"({before_unix_s!r}", "LIMIT", 0, WALK_MAX
        )

        async def purge(session_id: str) -> bool:
            view = await self._view(session_id)
            if view is None or view.record.updated_at_unix_s >= before_unix_s:
                return False
            if not await self._run(scripts.PURGE, _keys(session_id), view.version):
                return False
            await self._drop(session_id)
            return True

        return sum(await _each(purge, [name.decode() for name in ids]))

    # Callers

    async def load_memory(self, caller_key: str, agent_id: str) -> CallerMemory | None:
        check_memory(caller_key, agent_id)
        body, at = await self._command("HMGET", _memory_key(caller_key, agent_id), "body", "at")
        return None if body is None else CallerMemory(body, float(at))

    async def save_memory(self, caller_key: str, agent_id: str, memory: CallerMemory, ttl_s: float) -> bool:
        check_memory(caller_key, agent_id, memory.body)
        key = _memory_key(caller_key, agent_id)
        return bool(await self._run(scripts.REMEMBER, [key], repr(memory.at_unix_s), memory.body, _ms(ttl_s)))

    async def delete_memory(self, caller_key: str, agent_id: str) -> bool:
        check_memory(caller_key, agent_id)
        return bool(await self._command("DEL", _memory_key(caller_key, agent_id)))


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _keys(session_id: str) -> _Keys:
    tag = f"{PREFIX}{{{session_id}}}:"
    return _Keys(tag + "lease", tag + "record", tag + "lines")


def _memory_key(caller_key: str, agent_id: str) -> str:
    return f"{PREFIX}{{{quote(caller_key, safe='')}}}:memory:{quote(agent_id, safe='')}"


def _place(status: Status | None, agent_id: str | None) -> str:
    """Which sorted set answers this question; quoted, so that no name reaches into another set."""
    agent = "" if agent_id is None else quote(agent_id, safe="")
    if status is None:
        return "all" if agent_id is None else f"agent:{agent}"
    return f"status:{status}" if agent_id is None else f"both:{status}:{agent}"


def _places(record: SessionRecord) -> builtins.list[str]:
    """Each set that the session stands in, and its score there."""
    started, updated = repr(record.started_at_unix_s), repr(record.updated_at_unix_s)
    places = []
    for status in (None, record.status):
        for agent_id in (None, record.agent_id):
            places += [_place(status, agent_id), started]
    places += ["updated", updated]
    if record.caller_key and record.status != "ended":
        places += [f"caller:{quote(record.caller_key, safe='')}", updated]
    return places


def _fits(record: SessionRecord, status: Status | None, agent_id: str | None) -> bool:
    return status in (None, record.status) and agent_id in (None, record.agent_id)


def _order(record: SessionRecord) -> tuple[float, str]:
    return record.started_at_unix_s, record.session_id


async def _each(act: Callable[[str], Awaitable[T]], ids: Sequence[str]) -> builtins.list[T]:
    """Act on each, some at once, and give the results in order."""
    results: builtins.list[T] = []
    for begin in range(0, len(ids), AT_ONCE):
        results += await asyncio.gather(*map(act, ids[begin : begin + AT_ONCE]))
    return results


def _trouble(error: Exception) -> str:
    match error:
        case RedisTimeoutError() | TimeoutError():
            return "timeout"
        case AuthenticationError():
            return "refused"
        case OutOfMemoryError():
            return "full"
        case ReadOnlyError():
            return "read_only"
        case RedisError() if str(error).startswith("MISCONF"):
            # It cannot write its own file, so it takes no writes.
            return "full"
        case _:
            return "unreachable"
