"""What outlives a process: sessions, their transcripts, and what agents remember of callers.

`record` says what is stored, `store` what every place for it can do, `lease` who may write. `memory`,
`sqlite` and `redis` are such places; `keeper` writes behind live calls.
"""

from pathlib import Path

from fastagent.errors import ConfigurationError
from fastagent.sessions.keeper import KeeperLimits, SessionKeeper
from fastagent.sessions.lease import Lease
from fastagent.sessions.memory import MemoryStore
from fastagent.sessions.record import CallerMemory, SessionPage, SessionRecord, TranscriptLine
from fastagent.sessions.sqlite import SqliteStore
from fastagent.sessions.store import RETENTION_S, SessionStore, StoreHealth

__all__ = [
    "CallerMemory",
    "KeeperLimits",
    "Lease",
    "MemoryStore",
    "SessionKeeper",
    "SessionPage",
    "SessionRecord",
    "SessionStore",
    "SqliteStore",
    "StoreHealth",
    "TranscriptLine",
    "make_store",
    "open_store",
]


async def open_store(place: str | Path, *, retention_s: float = RETENTION_S) -> SessionStore:
    """Open the store of a place.

    Args:
        place: empty for this process's memory, the path of an SQLite file, or a Redis URL
            (`fastagent.sessions.redis_client.connect`).
        retention_s: how long Redis keeps a session after its last write; the others keep it until `purge`.

    Raises:
        ConfigurationError: a URL of another kind, a file of another program or a newer release, or the extra
            ``redis`` is not installed.
        StoreUnavailableError: the file cannot be opened.
    """
    store = make_store(place, retention_s=retention_s)
    await store.open()
    return store


def make_store(place: str | Path, *, retention_s: float = RETENTION_S) -> SessionStore:
    """The store of a place, to be opened; see `open_store`."""
    if not place:
        return MemoryStore()
    if isinstance(place, Path) or "://" not in place:
        return SqliteStore(place)
    try:
        # The URL itself is looked at there.
        from fastagent.sessions.redis import RedisStore
    except ImportError:
        raise ConfigurationError("sessions in Redis need redis-py: pip install 'fastagent[redis]'") from None
    return RedisStore(place, retention_s=retention_s)
