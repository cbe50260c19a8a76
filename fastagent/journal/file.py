"""FileJournal: a journal in a file of its own, and the one thread that writes all of them.

::

    open ──▶ durable ◀──written again── failing      commit raises; entries wait in memory
                │   └───disk full──────────▲  │
                │                             └─ too much waits ─┐
                ├─ fsync failed, unwritable, full ───────────────┴──▶ lost, with a reason (commit raises)
                └─ close ──▶ closed

The call's side never waits but in `commit` and `open`. The thread writes what was appended within
`COALESCE_S`, and at once when somebody waits in `commit`; all who wait for one file share one ``fdatasync``.
An entry survives a SIGKILL once it is written, and a power cut once a commit behind it has returned.
"""

import asyncio
import errno
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from enum import Enum
from pathlib import Path

from fastagent.errors import JournalError
from fastagent.journal.append_file import AppendFile, Reading, journal_name, redaction_key
from fastagent.journal.memory import JournalLimits, MemoryJournal
from fastagent.journal.redaction import KEY_BYTES, Redaction

__all__ = ["COALESCE_S", "FileJournal", "JournalWriter", "Trouble"]

logger = logging.getLogger("fastagent.journal")

COALESCE_S = 0.02
"""How long entries nobody waits for may gather before they are written."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Trouble(Enum):
    """Why a journal is not durable."""

    DISK_FULL = "disk_full"
    """May pass: what waits is written once there is room."""
    WRITE_FAILED = "write_failed"
    """As `DISK_FULL`, or for good when the file's end is unknown."""
    SYNC_FAILED = "sync_failed"
    UNWRITABLE = "unwritable"
    """The directory or the file could not be opened."""
    BACKLOG = "backlog"
    """The disk is too slow, or was full for too long."""
    CLOSED = "closed"
    """Appended after `close`."""


class FileJournal(MemoryJournal):
    """One conversation's file. Made by `JournalWriter.open`; used from the loop it was opened in."""

    def __init__(
        self,
        writer: "JournalWriter",
        path: Path,
        file: AppendFile | None,
        reading: Reading | None,
        redaction: Redaction,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(redaction=redaction, limits=writer.limits, clock=clock)
        self.path = path
        self.trouble: Trouble | None = None
        """Why it is not durable now."""
        self.is_lost = False
        """`trouble` is for good."""
        if reading is not None:
            self._lines = reading.lines
            self._last_hash = reading.last_hash
            self.kept_bytes = reading.whole_bytes
        self.resumed_entries = len(self._lines)
        """Found in the file when it was opened; 0 for a new conversation."""
        self._writer = writer
        self._file = file
        self._pending: deque[bytes] = deque()
        self._unwritten: list[bytes] = []  # the thread's own: taken from `_pending`, refused by the disk
        self._appended_bytes = 0  # the loop's side alone counts these,
        self._written_bytes = 0  # and the thread these
        self._written = self._durable = self.resumed_entries
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._is_closed = False

    @property
    def is_durable(self) -> bool:
        """Nothing was dropped, and the disk has refused nothing."""
        return self.trouble is None and not self.is_lost and not self.dropped

    @property
    def backlog_bytes(self) -> int:
        """Appended and not yet written."""
        return self._appended_bytes - self._written_bytes

    def _appended(self, line: bytes) -> None:
        if self._is_closed and not self.is_lost:
            self._lose(Trouble.CLOSED)
        if self.is_lost:
            return
        if self.backlog_bytes + len(line) >= self.limits.backlog_bytes:
            self._lose(Trouble.BACKLOG)
            return
        self._appended_bytes += len(line) + 1
        self._pending.append(line)
        self._writer._notice(self)

    async def commit(self) -> None:
        """Wait until all that was appended before is on the disk.

        Raises:
            JournalError: the disk is full, refuses, or takes longer than `JournalLimits.commit_timeout_s`.
        """
        self._raise_if_dropped()
        if self.is_lost:
            raise self._error()
        if self._durable != len(self._lines):
            await self._until_seen()

    async def _until_seen(self) -> None:
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        self._waiters.append((loop, written))
        self._writer._notice(self, is_urgent=True)
        try:
            async with asyncio.timeout(self.limits.commit_timeout_s) as timeout:
                await written
        except TimeoutError:
            if not timeout.expired():
                raise
            raise JournalError(f"the disk took longer than {self.limits.commit_timeout_s:g} s") from None

    async def close(self) -> bool:
        """Commit, close the file and give up its lock; False when not all is on the disk.

        Closing again does nothing.
        """
        if not self._is_closed:
            self._is_closed = True
            try:
                await self._until_seen()
            except JournalError:
                pass
        return self.is_durable and self._durable == len(self._lines)

    def _lose(self, trouble: Trouble) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._say(trouble)

    def _say(self, trouble: Trouble) -> None:
        if self.trouble is not trouble:
            self.trouble = trouble
            self._writer.counters[f"trouble_{trouble.value}"] += 1
            logger.warning("journal %s is not durable: %s", self.path.name, trouble.value)

    def _error(self) -> JournalError:
        return JournalError(f"not durable: {self.trouble.value if self.trouble else 'closed'}")

    # From here on the thread's side.

    def _write(self) -> None:
        taken = [self._pending.popleft() for _ in range(len(self._pending))]
        lines = self._unwritten = [] if self.is_lost else [*self._unwritten, *taken]
        if not lines or self._file is None:
            return
        data = b"\n".join([*lines, b""])
        try:
            self._file.append(data)
        except OSError as error:
            trouble = Trouble.DISK_FULL if error.errno in FULL else Trouble.WRITE_FAILED
            if self._file.is_sound:
                self._say(trouble)
            else:
                self._lose(trouble)
            return
        self._unwritten = []
        self._written += len(lines)
        self._written_bytes += len(data)
        self._writer.counters["entries_written"] += len(lines)
        self._writer.counters["bytes_written"] += len(data)
        if self.trouble is not None and not self.is_lost:
            self.trouble = None
            logger.warning("journal %s is durable again", self.path.name)

    def _sync(self) -> None:
        if self._file is None or self.is_lost or self._durable == self._written:
            return
        try:
            self._file.sync()
        except OSError:
            self._lose(Trouble.SYNC_FAILED)
            return
        self._durable = self._written
        self._writer.counters["syncs"] += 1

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class JournalWriter:
    """Opens journals in one directory, which is made with mode 0700 when it is missing, and writes them.

    Args:
        directory: where files go, one for a conversation.
        limits: of each journal.
        key: for digests of redacted values (`KEY_BYTES` or more); by default one that lies in the directory.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        limits: JournalLimits | None = None,
        key: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = Path(directory)
        self.limits = limits or JournalLimits()
        self.counters: Counter[str] = Counter()
        """opened, resumed, repaired, entries_written, bytes_written, syncs, failed, trouble_<reason>."""
        self._key = None if key is None else Redaction(key)._key
        self._clock = clock
        self._dirty: deque[FileJournal] = deque()
        self._live: set[FileJournal] = set()
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None

    async def open(self, session_id: str, *, redacted: Collection[str] = ()) -> FileJournal:
        """Open a conversation's journal: a new one, or the one that an earlier process left.

        A directory that cannot be written gives a journal in memory that says so (`FileJournal.trouble`), for
        the call goes on without its record.

        Args:
            session_id: of the conversation; any text.
            redacted: names of slots and arguments whose values are not written.

        Raises:
            JournalCorruptError: there is one, and it was changed. The file is left as it is.
            JournalError: another writer has it, it is no journal, or this writer is closed.
        """
        if self._closed.is_set():
            raise JournalError("the writer is closed")
        opening = asyncio.create_task(asyncio.to_thread(self._open, session_id, redacted))
        try:
            journal = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on, and what it opens would stay locked.
            opening.add_done_callback(_close_unwanted)
            raise
        if self._closed.is_set():
            journal._close_file()
            raise JournalError("the writer is closed")
        if self._thread is None:
            # A daemon, since a dead disk must not keep the process from ending; `close` is the clean way.
            self._thread = threading.Thread(target=self._run, name="fastagent-journals", daemon=True)
            self._thread.start()
        self._live.add(journal)
        self.counters["resumed" if journal.resumed_entries else "opened"] += 1
        return journal

    def _open(self, session_id: str, redacted: Collection[str]) -> FileJournal:
        path = self.directory / journal_name(session_id)
        file = reading = None
        key = self._key
        try:
            if key is None:
                key = redaction_key(self.directory)
            file, reading = AppendFile.open(path)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "error")
            logger.warning("journal %s cannot be opened: %s", path.name, name)
        redaction = Redaction(key or secrets.token_bytes(KEY_BYTES), redacted)
        journal = FileJournal(self, path, file, reading, redaction, self._clock)
        if file is None:
            journal._lose(Trouble.UNWRITABLE)
        elif reading is not None and reading.torn_bytes:
            self.counters["repaired"] += 1
            logger.warning("journal %s: %d torn bytes were cut off", path.name, reading.torn_bytes)
        return journal

    def close(self, timeout_s: float) -> bool:
        """Write, sync and close all journals; False when the disk takes longer (the thread then goes on)."""
        self._closed.set()
        self._wake.set()
        self._urgent.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _notice(self, journal: FileJournal, *, is_urgent: bool = False) -> None:
        self._dirty.append(journal)
        self._wake.set()
        if is_urgent:
            self._urgent.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._urgent.wait(COALESCE_S)
            self._wake.clear()
            self._urgent.clear()
            # Read before the queues: what was appended before is seen.
            is_closed = self._closed.is_set()
            journals = dict.fromkeys(self._dirty.popleft() for _ in range(len(self._dirty)))
            if is_closed:
                journals = dict.fromkeys([*journals, *self._live])
            # Those who wait are read before what they wait for.
            waiting = {journal: self._waiters_of(journal) for journal in journals}
            for journal in journals:
                self._guarded(journal, journal._write)
            for journal, waiters in waiting.items():
                is_over = is_closed or journal._is_closed
                if waiters or is_over:
                    self._guarded(journal, journal._sync)
                if is_over and not journal._pending:
                    self._guarded(journal, journal._close_file)
                    journal._is_closed = True
                    self._live.discard(journal)
                self._settle(journal, waiters)
            if is_closed and not self._dirty:
                return

    def _guarded(self, journal: FileJournal, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            # One journal's trouble must not take the others' thread; the text may quote the lines.
            self.counters["failed"] += 1
            logger.error("journal %s: %s", journal.path.name, type(error).__name__)
            journal._lose(Trouble.WRITE_FAILED)

    @staticmethod
    def _waiters_of(
        journal: FileJournal,
    ) -> list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]:
        return [journal._waiters.popleft() for _ in range(len(journal._waiters))]

    @staticmethod
    def _settle(
        journal: FileJournal, waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]
    ) -> None:
        error = journal._error() if journal.trouble is not None else None
        for loop, future in waiters:
            try:
                loop.call_soon_threadsafe(_resolve, future, error)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more


def _close_unwanted(opening: asyncio.Task[FileJournal]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()._close_file()


def _resolve(future: asyncio.Future[None], error: JournalError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
