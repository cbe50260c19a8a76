"""A session as it is answered: of a running call, of what is stored, or of its journal alone."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import orjson

from fastagent.journal import Entry
from fastagent.server.rest.models import (
    LiveSession,
    SessionDetail,
    StateMove,
    StoredSession,
    TranscriptEntry,
    WorkingTask,
)
from fastagent.server.rest.queries import rfc3339
from fastagent.sessions import SessionRecord, TranscriptLine
from fastagent.tools.task_runs import TaskStand

__all__ = [
    "LiveCursor",
    "Told",
    "WatchedCall",
    "WatchedFigures",
    "detail_of_call",
    "detail_of_journal",
    "detail_of_record",
    "live_session",
    "read_entries",
    "stored_session",
]

TRANSCRIPT_MAX = 500
"""Entries of a transcript that are answered, the last ones; the journal has all."""
MOVES_MAX = 500


class WatchedCall(Protocol):
    """What is asked of a running call."""

    started_at_unix_s: float

    @property
    def turn_count(self) -> int:
        """Finished utterances of either side."""

    @property
    def call_id(self) -> str:
        """The carrier's name for the conversation."""

    @property
    def agent_id(self) -> str:
        """Who answers now."""

    @property
    def current_state(self) -> str:
        """Of the task that asked last."""

    @property
    def stands(self) -> Sequence[TaskStand]:
        """Where each task under way stands."""

    @property
    def graph_hashes(self) -> Mapping[str, str]:
        """Content hashes of its graphs, by task."""

    @property
    def duration_s(self) -> float:
        """Since the call was offered."""

    @property
    def is_parked(self) -> bool:
        """It waits for another line."""

    @property
    def speaker(self) -> str:
        """Who is heard."""

    def dismiss(self) -> None:
        """Say goodbye and hang up."""


@dataclass(slots=True)
class Told:
    """What a journal tells of a session."""

    transcript: list[TranscriptEntry] = field(default_factory=list)
    moves: list[StateMove] = field(default_factory=list)
    graph_hashes: dict[str, str] = field(default_factory=dict)
    agent_id: str = ""
    outcome: str = ""
    is_closed: bool = False
    begun_at_unix_s: float | None = None
    last_at_unix_s: float = 0.0


def read_entries(entries: Sequence[Entry]) -> Told:
    """Read a journal; what it holds is taken as it is kept, redacted values and all."""
    told = Told()
    tasks: dict[str, str] = {}
    for entry in entries:
        told.last_at_unix_s = entry.at_unix_s
        if told.begun_at_unix_s is None:
            told.begun_at_unix_s = entry.at_unix_s
        data, run = entry.data, entry.data.get("run")
        match entry.kind:
            case "opened" if run is None:
                told.agent_id = str(data.get("agent", ""))
                told.graph_hashes = {
                    str(name): str(one) for name, one in dict(data.get("graphs", {})).items()
                }
                told.is_closed = False
            case "opened":
                tasks[str(run)] = str(data.get("task", ""))
            case "resumed":
                told.is_closed = False
            case "closed" if run is None:
                told.is_closed, told.outcome = True, str(data.get("outcome", ""))
            case "said" if run is None and data.get("by") in ("caller", "agent"):
                told.transcript.append(_words(entry.at_unix_s, data))
            case "transition":
                told.moves.append(
                    StateMove(
                        at=rfc3339(entry.at_unix_s),
                        task=tasks.get(str(run), ""),
                        from_state=str(data.get("from", "")),
                        to_state=str(data.get("to", "")),
                        reason=str(data.get("reason", "")),
                    )
                )
    return told


def _words(at_unix_s: float, data: Mapping[str, Any]) -> TranscriptEntry:
    text = data.get("text")
    is_kept = isinstance(text, str)
    return TranscriptEntry(
        at=rfc3339(at_unix_s),
        speaker=cast(Literal["caller", "agent"], data["by"]),
        text=str(text) if is_kept else "",
        is_redacted=not is_kept,
    )


class WatchedFigures(Protocol):
    """What is counted of a running call."""

    @property
    def carrier(self) -> str: ...
    @property
    def latency_ms(self) -> float | None: ...
    @property
    def drops(self) -> int: ...
    @property
    def dollars(self) -> float | None: ...


def live_session(call: WatchedCall, figures: WatchedFigures) -> LiveSession:
    """A running call, in a list."""
    return LiveSession(
        session_id=call.call_id,
        agent_id=call.agent_id,
        start_time=rfc3339(call.started_at_unix_s),
        current_state=call.current_state,
        duration_seconds=round(call.duration_s, 3),
        turn_count=call.turn_count,
        is_parked=call.is_parked,
        carrier=figures.carrier,
        speaker=cast(Literal["", "caller", "bot", "both"], call.speaker),
        latency_ms=None if figures.latency_ms is None else round(figures.latency_ms, 1),
        drops=figures.drops,
        cost_dollars=None if figures.dollars is None else round(figures.dollars, 6),
    )


def stored_session(record: SessionRecord) -> StoredSession:
    """A stored session, in a list."""
    return StoredSession(
        session_id=record.session_id,
        agent_id=record.agent_id,
        status=record.status,
        start_time=rfc3339(record.started_at_unix_s),
        update_time=rfc3339(record.updated_at_unix_s),
        current_state=record.current_state,
        duration_seconds=_duration_s(record),
        turn_count=record.turn_count,
        outcome=record.outcome,
    )


def _duration_s(record: SessionRecord) -> float:
    until = record.updated_at_unix_s if record.ended_at_unix_s is None else record.ended_at_unix_s
    return round(max(0.0, until - record.started_at_unix_s), 3)


def detail_of_call(call: WatchedCall, told: Told) -> SessionDetail:
    """A running call."""
    return SessionDetail(
        session_id=call.call_id,
        agent_id=call.agent_id,
        status="live",
        start_time=rfc3339(call.started_at_unix_s),
        current_state=call.current_state,
        duration_seconds=round(call.duration_s, 3),
        turn_count=call.turn_count,
        outcome="",
        graph_hashes=dict(call.graph_hashes),
        tasks=[
            WorkingTask(task=one.task, state=one.state, scratchpads=dict(one.scratchpads))
            for one in call.stands
        ],
        **_last(told.transcript, told.moves),
    )


def detail_of_record(
    record: SessionRecord, lines: Sequence[TranscriptLine], told: Told | None
) -> SessionDetail:
    """A stored session; where a journal is kept, its moves besides."""
    transcript = [
        TranscriptEntry(at=rfc3339(one.at_unix_s), speaker=one.speaker, text=one.text, is_redacted=False)
        for one in lines
    ]
    return SessionDetail(
        session_id=record.session_id,
        agent_id=record.agent_id,
        status=record.status,
        start_time=rfc3339(record.started_at_unix_s),
        current_state=record.current_state,
        duration_seconds=_duration_s(record),
        turn_count=record.turn_count,
        outcome=record.outcome,
        graph_hashes=dict(record.graph_hashes),
        tasks=[],
        **_last(transcript, told.moves if told is not None else []),
    )


def detail_of_journal(session_id: str, told: Told) -> SessionDetail:
    """A session of which only the journal is left."""
    begun = told.begun_at_unix_s or 0.0
    return SessionDetail(
        session_id=session_id,
        agent_id=told.agent_id,
        status="ended" if told.is_closed else "interrupted",
        start_time=rfc3339(begun),
        current_state=told.moves[-1].to_state if told.moves else "",
        duration_seconds=round(max(0.0, told.last_at_unix_s - begun), 3),
        turn_count=len(told.transcript),
        outcome=told.outcome,
        graph_hashes=told.graph_hashes,
        tasks=[],
        **_last(told.transcript, told.moves),
    )


def _last(transcript: list[TranscriptEntry], moves: list[StateMove]) -> dict[str, Any]:
    return {
        "transcript": transcript[-TRANSCRIPT_MAX:],
        "transcript_count": len(transcript),
        "moves": moves[-MOVES_MAX:],
    }


@dataclass(frozen=True, slots=True, order=True)
class LiveCursor:
    """Behind which running call a page begins: they are ordered by start, then by id, downwards."""

    started_at_unix_s: float
    session_id: str

    def __str__(self) -> str:
        content = orjson.dumps([self.started_at_unix_s, self.session_id])
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> "LiveCursor":
        """Raises: `ValueError` for text that no page gave."""
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        match orjson.loads(content):
            case [float(started), str(session_id)]:
                cursor = cls(started, session_id)
                if str(cursor) == text:
                    return cursor
        raise ValueError("no cursor of ours")
