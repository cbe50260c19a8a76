"""Journal: what keeps a conversation's entries, as its users see it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from fastagent.journal.entry import Entry

__all__ = ["KINDS", "Journal"]

KINDS = frozenset(
    {
        "opened", "input", "heard", "proposal", "refused", "transition", "slot", "asked", "said", "timer",
        "effect_intent", "effect_outcome", "undo_intent", "undo_outcome", "claim", "handover", "resumed",
        "closed", "oversize",
    }
)  # fmt: skip
"""Kinds that the package itself writes; others are kept as well."""


class Journal(Protocol):
    """The append-only record of one conversation. One thread appends; nothing here waits but `commit`."""

    @property
    def is_durable(self) -> bool:
        """All that was appended is where `commit` promises it, or still may get there."""

    @property
    def head(self) -> tuple[int, str]:
        """Number of entries, and the hash of the last: kept elsewhere, it shows whether any were cut off."""

    def append(self, kind: str, data: Mapping[str, object], *, redacted: Collection[str] = ()) -> Entry:
        """Add an entry and give it as it is kept, marked values replaced (see `Redaction`).

        An entry larger than allowed is kept as an ``oversize`` one that tells its kind and size.

        Args:
            kind: one of `KINDS`, or another word.
            data: JSON values; copied.
            redacted: names whose values are replaced in this entry, besides the journal's own.

        Raises:
            TypeError: JSON cannot hold ``data``; nothing is added.
        """

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        """`append` for those who must not fail: what JSON cannot hold is left out, and the entry says so."""

    async def commit(self) -> None:
        """Wait until all that was appended before is safe from the end of the process.

        Raises:
            JournalError: it is not, and the reason. The entries stay readable by this process.
        """

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Read entries from number ``start`` on, oldest first.

        Raises:
            JournalCorruptError: the chain is broken.
        """

    def verify_chain(self) -> None:
        """Check every hash.

        Raises:
            JournalCorruptError: the first entry that does not fit.
        """

    def redact(self, data: Mapping[str, object], names: Collection[str] = ()) -> Mapping[str, object]:
        """Give ``data`` as `append` would keep it."""

    @property
    def redaction_key_id(self) -> str:
        """Names the key of the digests; digests of another key cannot be compared."""
