"""SessionRecord: what is stored of a call, its transcript and what an agent remembers, and their bytes."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

import orjson

from fastagent.errors import SessionError

__all__ = [
    "LINE_NUMBER_MAX",
    "MEMORY_MAX_BYTES",
    "RECORD_FORMAT",
    "SNAPSHOT_MAX_BYTES",
    "TEXT_MAX_BYTES",
    "CallerMemory",
    "SessionPage",
    "SessionRecord",
    "Speaker",
    "Status",
    "TranscriptLine",
    "decode_line",
    "decode_record",
    "encode_line",
    "encode_record",
]

RECORD_FORMAT = 1
"""Of `encode_record`; raise it with a step in `MIGRATIONS` whenever an older reader would be misled."""
SNAPSHOT_MAX_BYTES = 1 << 20
MEMORY_MAX_BYTES = 256 * 1024
"""What an agent remembers of one caller."""
TEXT_MAX_BYTES = 8 * 1024
"""Of one line of a transcript: some eight minutes of speech; the rest is cut off."""
LINE_NUMBER_MAX = 100_000
"""Lines of one transcript."""
NAME_MAX_CHARS = 256
"""Of an agent's name, an owner, an outcome and the like."""
GRAPHS_MAX = 1_000
SESSION_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""Braces would name another slot of a Redis cluster; the rest keeps ids fit for logs and paths."""

Status: TypeAlias = Literal["live", "interrupted", "ended"]
Speaker: TypeAlias = Literal["caller", "agent"]
STATUSES: tuple[Status, ...] = ("live", "interrupted", "ended")
SPEAKERS: tuple[Speaker, ...] = ("caller", "agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is stored of a call.

    Raises:
        ValueError: a field is beyond its limit, or of a kind that is not there.
    """

    session_id: str
    agent_id: str
    owner: str = ""
    """The principal whose credential opened the call: nobody else may see or resume it."""
    caller_key: str = field(default="", repr=False)
    """A keyed digest of the caller's number, made by somebody else: never the number."""
    carrier: str = ""
    status: Status = "live"
    """``live``: a process owns it; ``interrupted``: may be resumed; ``ended``: over."""
    started_at_unix_s: float
    updated_at_unix_s: float
    ended_at_unix_s: float | None = None
    outcome: str = ""
    current_state: str = ""
    turn_count: int = 0
    journal_entries: int = 0
    journal_hash: str = ""
    """The journal's head: how many entries it had, and the hash of the last."""
    graph_hashes: Mapping[str, str] = field(default_factory=dict)
    """Task -> content hash of the graph that it ran: a snapshot of another graph is not taken up."""
    snapshot: bytes | None = field(default=None, repr=False)
    """The agent's state as its own JSON. None: not loaded; saving then leaves the stored one as it is."""

    def __post_init__(self) -> None:
        if not SESSION_ID.fullmatch(self.session_id):
            raise ValueError("a session's id is 1 to 128 of A-Z a-z 0-9 _ . : -")
        if self.status not in STATUSES:
            raise ValueError(f"status: expected one of {', '.join(STATUSES)}, got {self.status!r}")
        for name in _TEXTS:
            check_name(name, getattr(self, name))
        if not self.agent_id:
            raise ValueError("agent_id is empty")
        if self.snapshot is not None and len(self.snapshot) > SNAPSHOT_MAX_BYTES:
            raise ValueError(f"the snapshot has {len(self.snapshot)} bytes, the most is {SNAPSHOT_MAX_BYTES}")
        if len(self.graph_hashes) > GRAPHS_MAX:
            raise ValueError(f"{len(self.graph_hashes)} graphs, the most is {GRAPHS_MAX}")
        # A copy that nobody can change behind a write that still waits.
        object.__setattr__(self, "graph_hashes", MappingProxyType(dict(self.graph_hashes)))


_TEXTS = ("agent_id", "owner", "caller_key", "carrier", "outcome", "current_state", "journal_hash")


def check_name(what: str, text: str) -> None:
    """Raises: `ValueError` for text that is too long, or no text that can be stored."""
    if len(text) > NAME_MAX_CHARS:
        raise ValueError(f"{what} has {len(text)} characters, the most is {NAME_MAX_CHARS}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds half a character") from None


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """One thing that was said. Text beyond `TEXT_MAX_BYTES` is cut off.

    Raises:
        ValueError: the number is not one of a transcript, or nobody of a call speaks.
    """

    number: int
    """From 1; the same number is the same line, so that writing it twice is writing it once."""
    at_unix_s: float
    speaker: Speaker
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.number <= LINE_NUMBER_MAX:
            raise ValueError(f"a line's number is 1 to {LINE_NUMBER_MAX}, got {self.number}")
        if self.speaker not in SPEAKERS:
            raise ValueError(f"speaker: expected one of {', '.join(SPEAKERS)}, got {self.speaker!r}")
        # Half a character (a lone surrogate) may come from a peer's JSON and fits no store.
        encoded = self.text.encode("utf-8", "replace")[:TEXT_MAX_BYTES]
        object.__setattr__(self, "text", encoded.decode("utf-8", "ignore"))


@dataclass(frozen=True, slots=True)
class CallerMemory:
    """What an agent remembers of a caller across calls."""

    body: bytes = field(repr=False)
    at_unix_s: float
    """When it was learned: of two, the newer wins."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some of the sessions that were asked for, newest first, without their snapshots."""

    records: tuple[SessionRecord, ...]
    total_count: int
    """All that fit the question, on this page or not."""
    next_cursor: str = ""
    """Where the next page begins; empty at the end."""


_Fields: TypeAlias = dict[str, Any]
MIGRATIONS: dict[int, Callable[[_Fields], _Fields]] = {}
"""Format -> what makes the fields of it those of the next."""

_NAMES = tuple(name for name in SessionRecord.__dataclass_fields__ if name != "snapshot")


def encode_record(record: SessionRecord) -> bytes:
    """The record as JSON, without its snapshot, which stores keep beside it."""
    fields: _Fields = {name: getattr(record, name) for name in _NAMES}
    fields["graph_hashes"] = dict(record.graph_hashes)
    return orjson.dumps({"format": RECORD_FORMAT, **fields})


def decode_record(body: bytes, snapshot: bytes | None = None, *, status: str | None = None) -> SessionRecord:
    """The record of `encode_record`, of this format or an older one.

    Args:
        body: what `encode_record` gave.
        snapshot: what the store keeps beside it.
        status: the store's own word, where it may have changed the status since.

    Raises:
        SessionError: it was written by a newer release, or cannot be read.
    """
    try:
        fields = orjson.loads(body)
        written_format = fields.pop("format")
        if written_format > RECORD_FORMAT:
            raise SessionError(
                f"written in format {written_format} by a newer release; this one reads up to {RECORD_FORMAT}"
            )
        for step in range(written_format, RECORD_FORMAT):
            fields = MIGRATIONS[step](fields)
        known = {name: value for name, value in fields.items() if name in _NAMES}
        if status is not None:
            known["status"] = status
        return SessionRecord(**known, snapshot=snapshot)
    except (ValueError, TypeError, KeyError, AttributeError):
        # The reason may quote what was stored.
        raise SessionError("a stored record cannot be read") from None


def encode_line(line: TranscriptLine) -> bytes:
    """A line as JSON."""
    return orjson.dumps([line.number, line.at_unix_s, line.speaker, line.text])


def decode_line(body: bytes) -> TranscriptLine:
    """The line of `encode_line`.

    Raises:
        SessionError: it cannot be read.
    """
    try:
        number, at_unix_s, speaker, text = orjson.loads(body)
        return TranscriptLine(number, at_unix_s, cast(Speaker, sys.intern(speaker)), text)
    except (ValueError, TypeError):
        raise SessionError("a stored line cannot be read") from None
