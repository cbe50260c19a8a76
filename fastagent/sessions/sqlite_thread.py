"""SqliteThread: one SQLite file, one connection, and the thread that alone uses both.

::

    open ──▶ sound ◀──a write succeeds── troubled    writes raise, reads go on; said once in the log
               ├─ full, locked, unwritable ──▲
               └─ corrupt: moved aside with its -wal and -shm, a new file is begun

Writes that wait together share one transaction and so one ``fsync``; each is a savepoint of its own, so one
that is refused takes nothing from the others.
"""

import asyncio
import fcntl
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastagent.errors import ConfigurationError, SessionError, StoreUnavailableError

__all__ = ["BUSY_TIMEOUT_MS", "SqliteThread"]

logger = logging.getLogger("fastagent.sessions")

BUSY_TIMEOUT_MS = 250
"""For another process that writes."""
WORK_TIMEOUT_S = 5.0
OPEN_TIMEOUT_S = 60.0
"""A file is checked from end to end when it is opened."""
CLOSE_TIMEOUT_S = 5.0
WAITING_MAX = 10_000
"""Pieces of work that wait for the thread."""
BATCH_MAX = 64
"""Writes in one transaction."""
WAL_KEPT_BYTES = 16 << 20
"""What the write-ahead log is cut back to after a peak."""
WHOLE_CHECK_MAX_BYTES = 256 << 20
"""Files beyond are checked without comparing each index with its table, which takes seconds then."""

_TROUBLES = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_CANTOPEN: "unopenable",
    sqlite3.SQLITE_PERM: "unopenable",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
}
_CONNECTION_STAYS = ("busy", "disk_full")
"""After any other trouble the file is opened anew."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class _Job:
    work: Work
    is_write: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    outcome: Any = None
    error: BaseException | None = None


class SqliteThread:
    """Runs work on the connection to a file, which is made with mode 0600 when it is missing.

    Args:
        path: of the file; ``-wal``, ``-shm`` and ``.lock`` lie beside it.
        migrations: SQL scripts; the file's ``user_version`` is the number of those it has seen.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        self.trouble = ""
        self.counters: Counter[str] = Counter()
        """commits, quarantined, migrated, reopened, trouble_<kind>."""
        self._migrations = migrations
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def start(self) -> None:
        """Start the thread, which opens nothing before it has work."""
        # A daemon, since a dead disk must not keep the process from ending; `close` is the clean way.
        self._thread = threading.Thread(target=self._run, name="fastagent-sessions", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Has it been started, and not closed?"""
        return self._thread is not None

    async def read(self, work: Callable[[sqlite3.Connection], T], *, timeout_s: float = WORK_TIMEOUT_S) -> T:
        """Run work that changes nothing, and give its result."""
        return await self._put(work, False, timeout_s)  # type: ignore[no-any-return]

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work, and give its result once it is on the disk.

        Raises:
            StoreUnavailableError: the disk is full, refuses, is too slow, or another process writes for long.
        """
        return await self._put(work, True, WORK_TIMEOUT_S)  # type: ignore[no-any-return]

    async def _put(self, work: Work, is_write: bool, timeout_s: float) -> Any:
        if self._thread is None:
            raise StoreUnavailableError("sqlite", "it is closed", retryable=False)
        if self._jobs.qsize() >= WAITING_MAX:
            raise StoreUnavailableError("sqlite", f"{WAITING_MAX} pieces of work wait")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._jobs.put(_Job(work, is_write, loop, future))
        try:
            async with asyncio.timeout(timeout_s) as timeout:
                return await future
        except TimeoutError:
            if not timeout.expired():
                raise
            self.counters["timeouts"] += 1
            raise StoreUnavailableError("sqlite", f"the disk took longer than {timeout_s:g} s") from None

    async def close(self) -> bool:
        """Finish what waits, close the file; False when the disk takes longer (the thread then goes on)."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._jobs.put(None)
        await asyncio.to_thread(thread.join, CLOSE_TIMEOUT_S)
        return not thread.is_alive()

    # From here on the thread's side.

    def _run(self) -> None:
        is_over = False
        while not is_over:
            waiting = [self._jobs.get()]
            while len(waiting) < BATCH_MAX and not self._jobs.empty():
                waiting.append(self._jobs.get())
            is_over = None in waiting
            jobs = [job for job in waiting if job is not None]
            try:
                if jobs:
                    self._serve(jobs)
            except Exception as error:
                for job in jobs:
                    job.error = job.error or self._told(error)
            for job in jobs:
                try:
                    job.loop.call_soon_threadsafe(_resolve, job)
                except RuntimeError:
                    pass  # the loop is closed: nobody waits any more
        self._disconnect()

    def _serve(self, jobs: list[_Job]) -> None:
        connection = self._connected()
        for job in jobs:
            if not job.is_write:
                self._read(connection, job)
                if self._connection is None:
                    connection = self._connected()
        writes = [job for job in jobs if job.is_write]
        if writes:
            self._write(connection, writes)

    def _read(self, connection: sqlite3.Connection, job: _Job) -> None:
        try:
            job.outcome = job.work(connection)
        except Exception as error:
            job.error = self._told(error)

    def _write(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        try:
            connection.execute("begin immediate")
            for job in jobs:
                connection.execute("savepoint job")
                try:
                    job.outcome = job.work(connection)
                except (SessionError, ValueError, TypeError) as error:
                    job.error = error
                    connection.execute("rollback to job")
                connection.execute("release job")
            connection.execute("commit")
        except Exception as error:
            told = self._told(error)
            for job in jobs:
                job.error = told
            self._roll_back()
            return
        self.counters["commits"] += 1
        if self.trouble:
            logger.warning("sessions %s: writable again", self.path.name)
            self.trouble = ""

    def _roll_back(self) -> None:
        if self._connection is None:
            return
        try:
            # A full disk may have ended the transaction already.
            if self._connection.in_transaction:
                self._connection.execute("rollback")
        except sqlite3.Error:
            self._disconnect()

    def _told(self, error: Exception) -> Exception:
        """What the caller is told of an error, after what has to be done about it."""
        if not isinstance(error, sqlite3.Error | OSError):
            return error
        code = getattr(error, "sqlite_errorcode", None)
        trouble = "io_error" if code is None else _TROUBLES.get(code & 0xFF, "error")
        if trouble != self.trouble:
            # The error's text may quote what was to be written.
            logger.error("sessions %s: not writable: %s", self.path.name, trouble)
            self.trouble = trouble
        self.counters[f"trouble_{trouble}"] += 1
        if trouble not in _CONNECTION_STAYS:
            self._disconnect()
        if trouble == "corrupt":
            try:
                with self._locked():
                    # Unless another process did so already.
                    if os.stat(self.path).st_ino == self._inode:
                        self._move_aside()
            except OSError:
                pass  # the next to open it tries again
        return StoreUnavailableError("sqlite", trouble)

    # Opening

    def _connected(self) -> sqlite3.Connection:
        """The connection, to the file that lies at the path now."""
        if self._connection is not None:
            try:
                if os.stat(self.path).st_ino == self._inode:
                    return self._connection
            except OSError:
                pass
            # Another process moved it aside, or somebody deleted it: what is written there is lost.
            self._disconnect()
            self.counters["reopened"] += 1
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            try:
                connection = self._open()
            except sqlite3.DatabaseError as error:
                if _TROUBLES.get((getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF) != "corrupt":
                    raise
                self._move_aside()
                connection = self._open()
            self._inode = os.stat(self.path).st_ino
        self._connection = connection
        return connection

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time opens the file, checks it, migrates it or moves it aside."""
        fd = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open(self) -> sqlite3.Connection:
        # SQLite makes files that all may read; these hold what callers said.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
        try:
            connection.text_factory = partial(str, encoding="utf-8", errors="replace")
            connection.execute("pragma journal_mode = wal").fetchone()
            connection.execute("pragma synchronous = full")
            connection.execute(f"pragma journal_size_limit = {WAL_KEPT_BYTES}")
            check = "integrity_check" if self.path.stat().st_size <= WHOLE_CHECK_MAX_BYTES else "quick_check"
            if connection.execute(f"pragma {check}(1)").fetchone()[0] != "ok":
                raise _corrupt()
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("pragma user_version").fetchone()[0]
        if version > len(self._migrations):
            raise ConfigurationError(
                f"{self.path.name}: of version {version}, by a newer release; "
                f"this one knows up to {len(self._migrations)}"
            )
        if version == 0 and connection.execute("select count(*) from sqlite_schema").fetchone()[0]:
            raise ConfigurationError(f"{self.path.name}: an SQLite file of another program")
        for number in range(version, len(self._migrations)):
            # DDL and the version change together or not at all.
            connection.executescript(
                f"begin immediate; {self._migrations[number]}; pragma user_version = {number + 1}; commit;"
            )
            self.counters["migrated"] += 1

    def _move_aside(self) -> None:
        """Move the file and what belongs to it out of the way; nothing of it is read again."""
        aside = f"{self.path}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        for number in range(1_000):
            if not os.path.exists(f"{aside}-{number}"):
                aside = f"{aside}-{number}"
                break
        for suffix in ("", "-wal", "-shm"):
            try:
                os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")
            except FileNotFoundError:
                pass
        self.counters["quarantined"] += 1
        logger.error(
            "sessions %s: corrupt; moved aside as %s, begun anew", self.path.name, os.path.basename(aside)
        )

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                pass


def _corrupt() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the check found damage")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _resolve(job: _Job) -> None:
    if job.future.done():
        return
    if job.error is None:
        job.future.set_result(job.outcome)
    else:
        job.future.set_exception(job.error)
