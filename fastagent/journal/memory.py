"""MemoryJournal: a journal that ends with the process; and the chain that every journal keeps."""

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import orjson

from fastagent.errors import JournalError
from fastagent.journal.entry import GENESIS_HASH, Entry, canonical_json, decode_entry, encode_entry
from fastagent.journal.redaction import KEY_BYTES, Redaction

__all__ = ["JournalLimits", "MemoryJournal"]

logger = logging.getLogger("fastagent.journal")


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """What one conversation's journal may take."""

    entry_bytes: int = 64 * 1024
    """Of one line; data beyond it are left out and their size is told."""
    journal_bytes: int = 16 * 1024 * 1024
    """Of all lines; then entries are no longer kept."""
    backlog_bytes: int = 4 * 1024 * 1024
    """Waiting for the disk; then the journal is given up as not durable."""
    commit_timeout_s: float = 10.0
    """How long `commit` waits for the disk."""

    def __post_init__(self) -> None:
        if self.entry_bytes < 1024:
            raise ValueError(f"entry_bytes: expected 1024 or more, got {self.entry_bytes}")
        for name in ("journal_bytes", "backlog_bytes", "commit_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")


class MemoryJournal:
    """Entries as the lines a file would hold; `commit` has nothing to wait for.

    Args:
        redaction: what is replaced, and by which key; a key of this journal's own and no names by default.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        redaction: Redaction | None = None,
        limits: JournalLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or JournalLimits()
        self.redaction = redaction or Redaction(secrets.token_bytes(KEY_BYTES))
        self.dropped = 0
        """Entries that were not kept because the journal is full."""
        self.kept_bytes = 0
        """Of all lines, line feeds included."""
        self._clock = clock
        self._lines: list[bytes] = []
        self._last_hash = GENESIS_HASH

    def __repr__(self) -> str:
        return f"<{type(self).__name__} entries={len(self._lines)}>"

    def __len__(self) -> int:
        return len(self._lines)

    def __bool__(self) -> bool:
        # An empty journal is not no journal: ``journal or other`` must not lose one.
        return True

    @property
    def is_durable(self) -> bool:
        """Nothing was dropped."""
        return not self.dropped

    @property
    def head(self) -> tuple[int, str]:
        """Number of entries, and the hash of the last."""
        return len(self._lines), self._last_hash

    @property
    def redaction_key_id(self) -> str:
        """Names the key of the digests."""
        return self.redaction.key_id

    def append(self, kind: str, data: Mapping[str, object], *, redacted: Collection[str] = ()) -> Entry:
        """Add an entry; see `Journal.append`."""
        at_unix_s = self._clock()
        data = self.redact(data, redacted)
        seq = len(self._lines)
        line, digest = encode_entry(seq, at_unix_s, kind, data, self._last_hash)
        if len(line) >= self.limits.entry_bytes:
            data = {"kind": kind[:100], "size_bytes": len(line)}
            kind = "oversize"
            line, digest = encode_entry(seq, at_unix_s, kind, data, self._last_hash)
        entry = Entry(seq, at_unix_s, kind, data, self._last_hash, digest)
        if self.kept_bytes + len(line) >= self.limits.journal_bytes:
            if not self.dropped:
                logger.warning("journal is full after %d entries", seq)
            self.dropped += 1
            return entry
        self._lines.append(line)
        self.kept_bytes += len(line) + 1
        self._last_hash = digest
        self._appended(line)
        return entry

    def _appended(self, line: bytes) -> None:
        """Take a line that was just added."""

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        """`append` for those who do not need the entry and must not fail.

        What JSON cannot hold is left out, and the entry says so.
        """
        try:
            self.append(kind, data)
        except TypeError:
            self.append(kind, {"is_cut": True})

    async def commit(self) -> None:
        """Tell whether all was kept.

        Raises:
            JournalError: entries were dropped.
        """
        self._raise_if_dropped()

    def _raise_if_dropped(self) -> None:
        if self.dropped:
            raise JournalError(f"full: {self.dropped} entries were not kept")

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Read entries; see `Journal.entries`. What is appended meanwhile is read too."""
        prev_hash = decode_hash(self._lines[start - 1]) if 0 < start <= len(self._lines) else GENESIS_HASH
        at = start
        while at < len(self._lines):
            entry = decode_entry(self._lines[at], at, prev_hash)
            prev_hash = entry.hash
            yield entry
            at += 1

    def verify_chain(self) -> None:
        """Check every hash; see `Journal.verify_chain`."""
        for _ in self.entries():
            pass

    def redact(self, data: Mapping[str, object], names: Collection[str] = ()) -> Mapping[str, object]:
        """Give ``data`` as `append` would keep it: plain JSON values, marked ones replaced."""
        encoded = canonical_json(data)
        plain: dict[str, object] = orjson.loads(encoded)
        if not isinstance(plain, dict):
            raise TypeError("an entry's data must be a mapping")
        if names or self.redaction.names or b'"is_redacted"' in encoded:
            return self.redaction.redacted(plain, names)
        return plain


def decode_hash(line: bytes) -> str:
    """The hash at the end of a line."""
    return line[-66:-2].decode("ascii")
