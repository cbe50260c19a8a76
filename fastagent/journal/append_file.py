"""AppendFile: a journal's file, which only grows; what a crash left half written is cut off at its opening.

Every function blocks on the disk.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastagent.errors import JournalBusyError, JournalCorruptError, JournalError
from fastagent.journal.entry import GENESIS_HASH, Entry, decode_entry
from fastagent.journal.redaction import KEY_BYTES

__all__ = ["JOURNAL_SUFFIX", "AppendFile", "Reading", "journal_name", "read_journal", "redaction_key"]

JOURNAL_SUFFIX = ".journal"
KEY_NAME = "redaction.key"
READ_BYTES_MAX = 256 * 1024 * 1024
"""A file beyond it is none of ours."""
STEM_CHARACTERS_MAX = 80
"""File systems allow 255 bytes."""
DIGEST_CHARACTERS = 16
"""64 bits of SHA-256: ids that were changed do not meet in one name."""

_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a journal's file holds."""

    lines: list[bytes]
    last_hash: str
    whole_bytes: int
    """As far as lines are whole."""
    torn_bytes: int
    """Behind them: a line that was not finished. None of it was ever acknowledged."""

    def entries(self) -> list[Entry]:
        """Decode the lines."""
        entries: list[Entry] = []
        prev_hash = GENESIS_HASH
        for seq, line in enumerate(self.lines):
            entries.append(decode_entry(line, seq, prev_hash))
            prev_hash = entries[-1].hash
        return entries


def journal_name(session_id: str) -> str:
    """The file name for an id: the id where it is harmless, else what is harmless of it and a digest."""
    kept = _UNSAFE.sub("_", session_id).strip("-")
    if kept == session_id and 0 < len(kept) <= STEM_CHARACTERS_MAX:
        return kept + JOURNAL_SUFFIX
    digest = hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
    # The dot keeps these apart from ids that are used as they are.
    return f"{kept[: STEM_CHARACTERS_MAX - DIGEST_CHARACTERS - 1] or 'call'}.{digest}{JOURNAL_SUFFIX}"


def parse_lines(content: bytes) -> Reading:
    """Check a file's content, line by line.

    Raises:
        JournalCorruptError: a line inside does not fit.
    """
    whole_bytes = content.rfind(b"\n") + 1
    lines = content[:whole_bytes].split(b"\n")[:-1]
    last_hash = GENESIS_HASH
    at = 0
    for seq, line in enumerate(lines):
        try:
            last_hash = decode_entry(line, seq, last_hash).hash
        except JournalCorruptError:
            # A power cut may leave a hole of zeros where a block did not reach the disk, with later blocks
            # behind it. No entry holds a zero byte, and nothing behind a hole was ever acknowledged.
            if b"\0" not in line:
                raise
            return Reading(lines[:seq], last_hash, at, len(content) - at)
        at += len(line) + 1
    return Reading(lines, last_hash, whole_bytes, len(content) - whole_bytes)


def read_journal(path: str | Path) -> Reading:
    """Read a journal's file as it stands, without changing it; its writer may be at work.

    Raises:
        JournalCorruptError: a line inside does not fit.
        JournalError: not a regular file, or too large.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | _OPEN)
    try:
        return parse_lines(_content(fd))
    finally:
        os.close(fd)


def _content(fd: int) -> bytes:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise JournalError("not a regular file")
    if found.st_size > READ_BYTES_MAX:
        raise JournalError(f"{found.st_size} bytes, more than {READ_BYTES_MAX}")
    chunks = []
    at = 0
    while chunk := os.pread(fd, 1 << 20, at):
        chunks.append(chunk)
        at += len(chunk)
    return b"".join(chunks)


class AppendFile:
    """An open journal file, locked against other writers. Make it with `open`."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self.is_sound = True
        """False once the file may end in a torn line, or not be what was written: nothing more goes in."""

    @classmethod
    def open(cls, path: Path) -> tuple[Self, Reading]:
        """Make the file with mode 0600, or take up what is there: check it and cut off a torn end.

        Raises:
            JournalCorruptError: a line inside does not fit; the file is left as it is.
            JournalBusyError: another writer has it.
            JournalError: it is not a journal.
            OSError: the disk refuses.
        """
        _make_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _OPEN, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalBusyError from None
            reading = parse_lines(_content(fd))
            if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
                os.fchmod(fd, 0o600)
            if reading.torn_bytes:
                os.ftruncate(fd, reading.whole_bytes)
            # What the process before wrote and did not sync must be safe before anything builds on it.
            os.fsync(fd)
            # The name as well, which a process that died may have made without.
            _sync_directory(path.parent)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, reading.whole_bytes), reading

    def append(self, data: bytes) -> None:
        """Write whole lines; on an error none of them is there, or `is_sound` is False.

        Raises:
            OSError: the disk refuses.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            if len(left) < len(data):
                try:
                    os.ftruncate(self._fd, self._size_bytes)
                except OSError:
                    self.is_sound = False
            raise
        self._size_bytes += len(data)

    def sync(self) -> None:
        """Have the disk keep all that was written.

        Raises:
            OSError: it did not. What is on the disk is then unknown, since Linux drops the pages that failed,
                and a second call would say that all is well: `is_sound` is False.
        """
        try:
            os.fdatasync(self._fd)
        except OSError:
            self.is_sound = False
            raise

    def close(self) -> None:
        """Close the file and give up the lock."""
        os.close(self._fd)


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def redaction_key(directory: Path) -> bytes:
    """The key for digests in this directory's journals, which lies beside them; made when it is missing.

    It protects journals that leave the directory. Pass a key of your own to keep it elsewhere.

    Raises:
        OSError: the disk refuses.
        JournalError: the file holds no key.
    """
    _make_directory(directory)
    path = directory / KEY_NAME
    if not path.exists():
        made = directory / f"{KEY_NAME}.{secrets.token_hex(8)}"
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        try:
            os.write(fd, secrets.token_bytes(KEY_BYTES))
            os.fsync(fd)
            # A link appears whole, and fails where another process was faster.
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
        finally:
            os.close(fd)
            os.unlink(made)
        _sync_directory(directory)
    fd = os.open(path, os.O_RDONLY | _OPEN)
    try:
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != KEY_BYTES:
        raise JournalError(f"{KEY_NAME}: expected {KEY_BYTES} bytes, got {len(key)} or more")
    return key
