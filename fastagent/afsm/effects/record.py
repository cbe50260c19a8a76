"""What is known of an effect: its record, read from the journal, and the outcomes that are told."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastagent.journal import Entry

__all__ = ["EffectOutcome", "Record", "Status", "UndoOutcome", "records_of"]

Status = Literal["running", "done", "failed", "unknown", "undone"]


@dataclass(frozen=True, slots=True)
class EffectOutcome:
    """What became of an effect."""

    name: str
    status: Status
    result: Any = field(default=None, repr=False)
    """What the function gave, as plain JSON values."""
    reason: str = ""
    """Why it failed or is unknown: deadline, interrupted, not_durable, limit, …, or an exception's name."""
    key: str = ""
    is_recorded: bool = False
    """An earlier run's outcome: nothing was done this time."""

    @property
    def is_done(self) -> bool:
        """It happened, and stands."""
        return self.status == "done"


@dataclass(frozen=True, slots=True)
class UndoOutcome:
    """What became of taking one effect back."""

    name: str
    key: str
    status: Literal["undone", "failed", "unknown", "not_undoable"]
    """``unknown``: nobody can tell whether there is anything to take back."""
    reason: str = ""


@dataclass(slots=True)
class Record:
    """One effect, as the journal has it."""

    key: str
    name: str
    call_id: str
    arguments: Mapping[str, Any] = field(repr=False)
    seq: int
    """Of the last intent."""
    status: Status = "unknown"
    result: Any = field(default=None, repr=False)
    reason: str = "interrupted"
    outcome_seq: int = -1
    attempt: int = 1
    task: "asyncio.Task[None] | None" = None
    late: "asyncio.Future[Any] | None" = None
    """A thread that went on behind its deadline."""

    def outcome(self, *, is_recorded: bool) -> EffectOutcome:
        """What to tell of it."""
        return EffectOutcome(self.name, self.status, self.result, self.reason, self.key, is_recorded)


def records_of(entries: Iterable[Entry]) -> dict[str, Record]:
    """Read from a journal what became of each effect; an intent without outcome leaves it unknown."""
    records: dict[str, Record] = {}
    for entry in entries:
        data = entry.data
        if entry.kind == "effect_intent":
            records[data["key"]] = Record(
                data["key"],
                data["name"],
                data["call_id"],
                data["arguments"],
                entry.seq,
                attempt=data["attempt"],
            )
        elif entry.kind == "effect_outcome" and data["key"] in records:
            record = records[data["key"]]
            record.status, record.reason = data["status"], data["reason"]
            record.result, record.outcome_seq = data["result"], entry.seq
        elif entry.kind == "undo_outcome" and data["status"] == "undone" and data["key"] in records:
            records[data["key"]].status, records[data["key"]].reason = "undone", ""
    return records
