"""What the tests of stores share: records, lines, and each kind of store with what it needs."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastagent.sessions import MemoryStore, SessionRecord, SessionStore, SqliteStore, TranscriptLine
from fastagent.sessions.redis import RedisStore

HERE, THERE = "process-here", "process-there"
LONG_S = 60.0
PATIENT_S = 10.0
T = TypeVar("T")
numbers = itertools.count()


def new_id() -> str:
    return f"call-{next(numbers)}"


def record(session_id: str, **fields: Any) -> SessionRecord:
    given: dict[str, Any] = {
        "agent_id": "bookings",
        "started_at_unix_s": 1_000.0,
        "updated_at_unix_s": 1_000.0,
        **fields,
    }
    return SessionRecord(session_id=session_id, **given)


def lines(*said: int, text: str = "words") -> list[TranscriptLine]:
    return [TranscriptLine(n, 1_000.0 + n, "caller" if n % 2 else "agent", f"{text} {n}") for n in said]


async def until(claim: Callable[[], Awaitable[T]], timeout_s: float = 20.0) -> T:
    """Ask a store again until it gives something true."""
    async with asyncio.timeout(timeout_s):
        while not (found := await claim()):  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.005)
    return found


def patient(url: str, **options: float) -> RedisStore:
    """A store for tests that are not about time: a busy machine may take long to answer."""
    return RedisStore(url, timeout_s=PATIENT_S, **options)


@asynccontextmanager
async def opened(kind: str, place: str | Path) -> AsyncIterator[SessionStore]:
    store: SessionStore
    if kind == "memory":
        store = MemoryStore()
    elif kind == "sqlite":
        store = SqliteStore(place)
    else:
        store = patient(str(place))
    await store.open()
    try:
        yield store
    finally:
        await store.close()
