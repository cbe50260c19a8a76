"""``/sessions``: running calls and those that were, their records, and the end of a call."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field
from starlette.responses import FileResponse, Response, StreamingResponse

from fastagent.call import Call
from fastagent.errors import (
    JournalCorruptError,
    JournalError,
    SessionError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from fastagent.journal import Entry, Reading, read_journal
from fastagent.journal.append_file import journal_name
from fastagent.journal.entry import encode_entry
from fastagent.recording.names import WAV_SUFFIX, safe_stem
from fastagent.server.kept.call_journal import CallJournal
from fastagent.server.rest.models import SessionDetail, SessionList
from fastagent.server.rest.operations import Answer, Asked, Handler, Operation, Parameter, json_answer
from fastagent.server.rest.problems import Problem, invalid
from fastagent.server.rest.queries import WHOLE_NUMBER, Moment, Query
from fastagent.server.rest.session_views import (
    LiveCursor,
    Told,
    WatchedFigures,
    detail_of_call,
    detail_of_journal,
    detail_of_record,
    live_session,
    read_entries,
    stored_session,
)
from fastagent.sessions import SessionStore, TranscriptLine
from fastagent.sessions.record import Status
from fastagent.sessions.store import PAGE_MAX

__all__ = ["SESSION_ID_PATTERN", "SessionsApi"]

SESSION_ID_PATTERN = "^[A-Za-z0-9_.:-]{1,128}$"
"""What a store keeps. A running call is found by whatever its carrier calls it."""
JOURNAL_TIMEOUT_S = 2.0
"""For the file of a running call to open."""
STORE_TIMEOUT_S = 5.0
"""For one answer of the store."""
LINES_AT_ONCE = 500
"""Of a journal, in one piece of an answer."""
TRANSCRIPT_LINES_MAX = 20_000
RETRY_AFTER_S = 5


class SessionsQuery(Query):
    """Which sessions."""

    status: Status = Field("live", description="Running calls, or those of the store.")
    agent_id: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Only those that this agent answers."
    )
    state: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Only running calls in this state."
    )
    started_from: Moment | None = Field(None, description="Only those that began then or later.")
    started_before: Moment | None = Field(None, description="Only those that began earlier.")
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX), WHOLE_NUMBER] = Field(
        50, description="Sessions on one page."
    )
    cursor: Annotated[str, Field(min_length=1, max_length=1_000)] | None = Field(
        None, description="`next_cursor` of the page before."
    )


_SESSION_ID = Parameter("session_id", "The session's id: 1 to 128 of A-Z a-z 0-9 _ . : -", SESSION_ID_PATTERN)

LIST_SESSIONS = Operation(
    "GET",
    "/sessions",
    "list_sessions",
    "Running calls; or those that were interrupted or are over, where a store keeps them",
    {200: Answer("One page, newest first.", SessionList)},
    (405, 422, 503),
    tag="sessions",
    query=SessionsQuery,
)
READ_SESSION = Operation(
    "GET",
    "/sessions/{session_id}",
    "read_session",
    "A session with its transcript, its states, and the scratchpads of the tasks under way",
    {200: Answer("The session.", SessionDetail)},
    (404, 405, 422, 500, 503),
    tag="sessions",
    parameters=(_SESSION_ID,),
)
END_SESSION = Operation(
    "DELETE",
    "/sessions/{session_id}",
    "end_session",
    "Have the bot say goodbye and hang up",
    {202: Answer("The call ends once the goodbye was heard. Asking again changes nothing.")},
    (404, 405, 422),
    tag="sessions",
    parameters=(_SESSION_ID,),
)
READ_RECORDING = Operation(
    "GET",
    "/sessions/{session_id}/recording",
    "read_recording",
    "The finished recording: stereo WAV, left the caller, right the bot",
    {
        200: Answer("The file.", media_type="audio/wav", schema={"type": "string", "format": "binary"}),
        206: Answer(
            "The range that was asked for.",
            media_type="audio/wav",
            schema={"type": "string", "format": "binary"},
        ),
    },
    (400, 404, 405, 409, 416, 422),
    tag="sessions",
    parameters=(_SESSION_ID,),
)
READ_JOURNAL = Operation(
    "GET",
    "/sessions/{session_id}/journal",
    "read_journal",
    "The journal, a JSON object a line, as it is kept: hash-chained, redacted values as digests",
    {200: Answer("The entries.", media_type="application/x-ndjson", schema={"type": "string"})},
    (404, 405, 422, 500),
    tag="sessions",
    parameters=(_SESSION_ID,),
)


class SessionsApi:
    """Answers for the operations of this file.

    Args:
        running: the calls that are not over.
        recordings_dir: where recordings are; None: there are none.
        journals_dir: where journals are kept; None: only those of running calls are there.
        store: keeps sessions beyond their calls; None: nothing does.
        figures: gives what is counted of a running call.
    """

    def __init__(
        self,
        running: Callable[[], Sequence[Call]],
        *,
        recordings_dir: Path | None = None,
        journals_dir: Path | None = None,
        store: SessionStore | None = None,
        figures: Callable[[str], WatchedFigures],
    ) -> None:
        self._running = running
        self._recordings_dir = recordings_dir
        self._journals_dir = journals_dir
        self._store = store
        self._figures = figures

    @property
    def handlers(self) -> list[tuple[Operation, Handler]]:
        """Each operation with what answers it."""
        return [
            (LIST_SESSIONS, self.list),
            (READ_SESSION, self.read),
            (END_SESSION, self.end),
            (READ_RECORDING, self.recording),
            (READ_JOURNAL, self.journal),
        ]

    # Lists

    async def list(self, asked: Asked) -> Response:
        """One page of sessions."""
        query: SessionsQuery = asked.query
        page = self._live_page(query) if query.status == "live" else await self._stored_page(query)
        return json_answer(page)

    def _live_page(self, query: SessionsQuery) -> SessionList:
        try:
            cursor = None if query.cursor is None else LiveCursor.parse(query.cursor)
        except ValueError:
            raise _bad_cursor() from None
        found = [
            (LiveCursor(call.started_at_unix_s, call.call_id), call)
            for call in self._running()
            if query.agent_id in (None, call.agent_id)
            and query.state in (None, call.current_state)
            and (query.started_from is None or call.started_at_unix_s >= query.started_from)
            and (query.started_before is None or call.started_at_unix_s < query.started_before)
        ]
        found.sort(key=lambda one: one[0], reverse=True)
        left = [one for one in found if cursor is None or one[0] < cursor]
        page = left[: query.limit]
        return SessionList(
            active_sessions=[live_session(call, self._figures(call.call_id)) for _, call in page],
            stored_sessions=[],
            total_count=len(found),
            next_cursor=str(page[-1][0]) if len(left) > len(page) else "",
        )

    async def _stored_page(self, query: SessionsQuery) -> SessionList:
        if query.state is not None:
            raise invalid("invalid-query", "parameters do not fit", [("state", "goes with status=live")])
        if self._store is None:
            return SessionList(active_sessions=[], stored_sessions=[], total_count=0, next_cursor="")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                page = await self._store.list(
                    status=query.status,
                    agent_id=query.agent_id,
                    started_from_unix_s=query.started_from,
                    started_before_unix_s=query.started_before,
                    cursor=query.cursor or "",
                    limit=query.limit,
                )
        except ValueError:
            raise _bad_cursor() from None
        except (SessionError, TimeoutError) as error:
            raise _store_problem(error) from None
        return SessionList(
            active_sessions=[],
            stored_sessions=[stored_session(record) for record in page.records],
            total_count=page.total_count,
            next_cursor=page.next_cursor,
        )

    # One session

    def _call(self, session_id: str) -> Call | None:
        """The running call of this id, whichever carrier brought it."""
        return next((call for call in self._running() if call.call_id == session_id), None)

    def _session_id(self, asked: Asked) -> str:
        session_id = asked.path("session_id")
        if self._call(session_id) is None and not re.fullmatch(SESSION_ID_PATTERN, session_id):
            raise invalid("invalid-path", "the path does not fit", [("session_id", _SESSION_ID.description)])
        return session_id

    async def read(self, asked: Asked) -> Response:
        """A session."""
        session_id = self._session_id(asked)
        if (call := self._call(session_id)) is not None:
            told = await asyncio.to_thread(_told_by, await _journal_of(call))
            return json_answer(detail_of_call(call, told))
        if (detail := await self._stored_detail(session_id)) is not None:
            return json_answer(detail)
        reading = await asyncio.to_thread(self._kept_journal, session_id)
        if reading is None:
            raise _unknown_session()
        return json_answer(detail_of_journal(session_id, await asyncio.to_thread(_told_of, reading)))

    async def _stored_detail(self, session_id: str) -> SessionDetail | None:
        if self._store is None:
            return None
        lines: list[TranscriptLine] = []
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                record = await self._store.load(session_id)
                while len(lines) < TRANSCRIPT_LINES_MAX:
                    more = await self._store.transcript(session_id, after=len(lines), limit=PAGE_MAX)
                    lines += more
                    if len(more) < PAGE_MAX:
                        break
        except SessionNotFoundError:
            return None
        except (SessionError, TimeoutError) as error:
            raise _store_problem(error) from None
        reading = await asyncio.to_thread(self._kept_journal, session_id)
        told = None if reading is None else await asyncio.to_thread(_told_of, reading)
        return detail_of_record(record, lines, told)

    async def end(self, asked: Asked) -> Response:
        """Say goodbye and hang up."""
        call = self._call(self._session_id(asked))
        if call is None:
            raise _unknown_session()
        call.dismiss()
        return Response(status_code=202)

    async def recording(self, asked: Asked) -> Response:
        """The newest finished recording of a session."""
        session_id = self._session_id(asked)
        path = await asyncio.to_thread(_find_recording, self._recordings_dir, session_id)
        if path is None and self._call(session_id) is not None:
            raise Problem(409, "recording-unfinished", "the call is running, and its recording with it")
        if path is None:
            raise Problem(404, "unknown-recording", "this session has no recording")
        return FileResponse(path, media_type="audio/wav", headers={"Cache-Control": "no-store"})

    async def journal(self, asked: Asked) -> Response:
        """The journal's lines."""
        session_id = self._session_id(asked)
        call = self._call(session_id)
        kept = None if call is None else await _journal_of(call)
        if kept is not None:
            lines = await asyncio.to_thread(_lines_of, kept)
        else:
            reading = await asyncio.to_thread(self._kept_journal, session_id)
            if reading is None:
                raise Problem(404, "unknown-journal", "no journal is kept of such a session")
            lines = reading.lines
        return StreamingResponse(
            _in_pieces(lines), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
        )

    def _kept_journal(self, session_id: str) -> Reading | None:
        """Read the journal that the disk has; blocks."""
        if self._journals_dir is None or not re.fullmatch(SESSION_ID_PATTERN, session_id):
            return None
        path = _in_folder(self._journals_dir, journal_name(session_id))
        if path is None:
            return None
        try:
            return read_journal(path)
        except JournalCorruptError as error:
            raise Problem(500, "journal-corrupt", f"entry {error.seq} of the journal was changed") from None
        except (JournalError, OSError):
            raise Problem(500, "journal-unreadable", "the journal cannot be read") from None


async def _journal_of(call: Call) -> CallJournal | None:
    """The journal of a running call; its file opens behind the call's back, and is waited for a little."""
    journal = call.record
    if not isinstance(journal, CallJournal):
        return None
    try:
        async with asyncio.timeout(JOURNAL_TIMEOUT_S):
            await journal.effects()
    except TimeoutError:
        pass  # a slow disk; what there is is told
    return journal


def _told_by(journal: CallJournal | None) -> Told:
    try:
        return read_entries([] if journal is None else journal.entries())
    except JournalCorruptError as error:
        raise Problem(500, "journal-corrupt", f"entry {error.seq} of the journal was changed") from None


def _told_of(reading: Reading) -> Told:
    return read_entries(reading.entries())


def _lines_of(journal: CallJournal) -> list[bytes]:
    return [_line(entry) for entry in journal.entries()]


def _line(entry: Entry) -> bytes:
    return encode_entry(entry.seq, entry.at_unix_s, entry.kind, entry.data, entry.prev_hash)[0]


async def _in_pieces(lines: Sequence[bytes]) -> AsyncIterator[bytes]:
    for at in range(0, len(lines), LINES_AT_ONCE):
        yield b"\n".join([*lines[at : at + LINES_AT_ONCE], b""])


def _in_folder(folder: Path, name: str) -> Path | None:
    """The regular file of this name that the folder lists; nothing that a link leads to."""
    path = folder / name
    if path.parent != folder or not path.is_file() or path.is_symlink():
        return None
    return path


def _find_recording(folder: Path | None, session_id: str) -> Path | None:
    """The newest finished recording of an id, among the files that are there; blocks."""
    if folder is None:
        return None
    names = re.compile(rf"{re.escape(safe_stem(session_id))}(?:\.([0-9]{{1,5}}))?{re.escape(WAV_SUFFIX)}")
    found: list[tuple[int, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                match = names.fullmatch(entry.name)
                if match is not None and entry.is_file(follow_symlinks=False):
                    found.append((int(match[1] or 1), entry.name))
    except OSError:
        return None
    return folder / max(found)[1] if found else None


def _unknown_session() -> Problem:
    return Problem(404, "unknown-session", "no running call has this session id, and nothing is kept of one")


def _bad_cursor() -> Problem:
    return invalid("invalid-query", "parameters do not fit", [("cursor", "no page gave this")])


def _store_problem(error: Exception) -> Problem:
    if isinstance(error, StoreUnavailableError | TimeoutError):
        return Problem(
            503, "store-unavailable", "the store does not answer", {"Retry-After": str(RETRY_AFTER_S)}
        )
    return Problem(500, "session-unreadable", "the stored session cannot be read")
