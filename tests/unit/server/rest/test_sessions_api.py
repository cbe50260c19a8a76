"""``/sessions``: every status of every operation, over calls, folders and a store that are made up."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from fastagent.audio import wav
from fastagent.audio.formats import PCM16_8K
from fastagent.errors import SessionError, SessionNotFoundError, StoreUnavailableError
from fastagent.journal import JournalWriter
from fastagent.journal.append_file import journal_name
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.kept.call_journal import CallJournal
from fastagent.server.rest import sessions_api
from fastagent.server.rest.operations import operation_routes
from fastagent.server.rest.problems import ProblemAnswers, answer_failure
from fastagent.server.rest.sessions_api import SessionsApi
from fastagent.server.watch.figures import CallFigures
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.tools.task_runs import TaskStand
from tests.asgi import Answer, ask

WAV = wav.header(PCM16_8K, 2, 4_000) + bytes(range(200)) * 20
DAY = 1_795_219_200.0
"""2026-11-21T00:00:00Z"""


def no_journal() -> CallJournal:
    """A call's journal in memory, with a word of each side and a move."""

    async def make() -> CallJournal:
        journal = CallJournal(
            "call", about={"agent": "bot", "graphs": {"pizza": "abc"}}, functions=(), redacted=frozenset(),
            open_file=None, on_claim=lambda note: None,
        )  # fmt: skip
        journal.said("agent", "Hello.", is_redacted=False)
        journal.said("caller", "four seven one one", is_redacted=True)
        journal.record("opened", {"task": "pizza", "run": "r1"})
        journal.record("transition", {"from": "", "to": "ask", "reason": "start", "run": "r1"})
        return journal

    return asyncio.run(make())


@dataclass
class FakeCall:
    """A running call."""

    call_id: str
    started_at_unix_s: float = DAY
    agent_id: str = "bot"
    current_state: str = ""
    turn_count: int = 0
    duration_s: float = 12.3456
    is_parked: bool = False
    speaker: str = "bot"
    stands: Sequence[TaskStand] = ()
    graph_hashes: Mapping[str, str] = field(default_factory=dict)
    record: CallJournal | None = None
    dismissals: int = 0

    @property
    def session_id(self) -> str:
        return self.call_id

    def dismiss(self) -> None:
        self.dismissals += 1


@dataclass
class Record:
    """A stored session."""

    session_id: str
    agent_id: str = "bot"
    status: str = "ended"
    started_at_unix_s: float = DAY
    updated_at_unix_s: float = DAY + 30
    ended_at_unix_s: float | None = None
    outcome: str = "finished"
    current_state: str = "order"
    turn_count: int = 2
    graph_hashes: Mapping[str, str] = field(default_factory=lambda: {"pizza": "abc"})


@dataclass
class Line:
    at_unix_s: float
    speaker: str
    text: str


@dataclass
class Page:
    records: Sequence[Record]
    total_count: int
    next_cursor: str = ""


class Store:
    """A store of few sessions; what is asked of it is written down."""

    def __init__(self, *records: Record, lines: int = 2) -> None:
        self.records = {one.session_id: one for one in records}
        self.lines = lines
        self.asked: dict[str, Any] = {}
        self.trouble: Exception | None = None

    async def list(self, **asked: Any) -> Page:
        self._answer()
        self.asked = asked
        if asked["cursor"] == "bad":
            raise ValueError("no cursor of ours")
        return Page(tuple(self.records.values()), 7, "next")

    async def load(self, session_id: str) -> Record:
        self._answer()
        if session_id not in self.records:
            raise SessionNotFoundError(session_id)
        return self.records[session_id]

    async def transcript(self, session_id: str, *, after: int = 0, limit: int = 500) -> Sequence[Line]:
        speakers = ("agent", "caller")
        numbers = range(after, min(after + limit, self.lines))
        return [Line(DAY + n, speakers[n % 2], f"words {n}") for n in numbers]

    def _answer(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class House:
    """The operations, asked without a socket."""

    def __init__(self, *calls: FakeCall, **options: Any) -> None:
        self.calls = list(calls)
        figures = CallFigures("twilio", 412.34, 3, 0.0123)
        api = SessionsApi(lambda: self.calls, figures=lambda call_id: figures, **options)  # type: ignore[arg-type,return-value]
        doors = Doorkeeper(Settings(), Counters())
        self.app = Starlette(
            routes=operation_routes(doors, api.handlers),
            middleware=[Middleware(ProblemAnswers)],
            exception_handlers={404: answer_failure, 405: answer_failure},
        )

    def get(self, target: str, **headers: str) -> Answer:
        return asyncio.run(ask(self.app, "GET", target, b"", headers))

    def delete(self, target: str) -> Answer:
        return asyncio.run(ask(self.app, "DELETE", target))


# Lists


def test_running_calls_are_listed_newest_first():
    house = House(
        FakeCall("one", DAY, current_state="ask", turn_count=3),
        FakeCall("two", DAY + 1.5, is_parked=True),
    )
    listed = house.get("/sessions").json
    assert [one["session_id"] for one in listed["active_sessions"]] == ["two", "one"]
    assert listed["active_sessions"][1] == {
        "session_id": "one",
        "agent_id": "bot",
        "start_time": "2026-11-21T00:00:00.000Z",
        "current_state": "ask",
        "duration_seconds": 12.346,
        "turn_count": 3,
        "is_parked": False,
        "carrier": "twilio",
        "speaker": "bot",
        "latency_ms": 412.3,
        "drops": 3,
        "cost_dollars": 0.0123,
    }
    assert (listed["total_count"], listed["next_cursor"], listed["stored_sessions"]) == (2, "", [])


def test_pages_follow_one_another_though_calls_come_and_go():
    house = House(*(FakeCall(f"call-{n:02}", DAY + n // 2) for n in range(9)))
    seen: list[str] = []
    cursor = ""
    while True:
        page = house.get(f"/sessions?limit=2{cursor}").json
        seen += [one["session_id"] for one in page["active_sessions"]]
        if not page["next_cursor"]:
            break
        assert page["total_count"] == 9 + (1 if len(seen) > 2 else 0)
        if len(seen) == 2:
            house.calls.append(FakeCall("newer", DAY + 100))
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [f"call-{n:02}" for n in reversed(range(9))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("agent_id=bot", ["three", "one"]),
        ("agent_id=nobody", []),
        ("state=ask", ["two", "one"]),
        ("agent_id=bot&state=ask", ["one"]),
        ("started_from=2026-11-21T00:00:01Z", ["three", "two"]),
        ("started_before=2026-11-21T00:00:01Z", ["one"]),
        ("status=live&limit=500", ["three", "two", "one"]),
    ],
)
def test_filters(query, found):
    house = House(
        FakeCall("one", DAY, current_state="ask"),
        FakeCall("two", DAY + 1, agent_id="other", current_state="ask"),
        FakeCall("three", DAY + 2),
    )
    listed = house.get(f"/sessions?{query}").json
    assert [one["session_id"] for one in listed["active_sessions"]] == found
    assert listed["total_count"] == len(found)


@pytest.mark.parametrize(
    "query",
    [
        "status=dead",
        "limit=0",
        "limit=501",
        "limit=1&limit=2",
        "cursor=x",
        "cursor=WzFd",
        "cursor=",
        "agent_id=",
        "started_from=yesterday",
        "status=ended&state=ask",
        "offset=1",
    ],
)
def test_queries_that_do_not_fit_are_refused(query):
    assert House().get(f"/sessions?{query}").is_problem(422, "invalid-query")


def test_stored_sessions_are_listed_where_a_store_is():
    assert House().get("/sessions?status=ended").json["total_count"] == 0
    store = Store(Record("old"))
    house = House(FakeCall("live"), store=store)
    listed = house.get("/sessions?status=ended&agent_id=bot&limit=3&started_from=2026-11-21T00:00:00Z").json
    assert listed["active_sessions"] == []
    assert listed["stored_sessions"] == [
        {
            "session_id": "old",
            "agent_id": "bot",
            "status": "ended",
            "start_time": "2026-11-21T00:00:00.000Z",
            "update_time": "2026-11-21T00:00:30.000Z",
            "current_state": "order",
            "duration_seconds": 30.0,
            "turn_count": 2,
            "outcome": "finished",
        }
    ]
    assert (listed["total_count"], listed["next_cursor"]) == (7, "next")
    assert store.asked == {
        "status": "ended",
        "agent_id": "bot",
        "started_from_unix_s": DAY,
        "started_before_unix_s": None,
        "cursor": "",
        "limit": 3,
    }
    assert house.get("/sessions?status=interrupted&cursor=bad").is_problem(422, "invalid-query")


@pytest.mark.parametrize("target", ["/sessions?status=ended", "/sessions/old"])
@pytest.mark.parametrize(
    ("trouble", "status", "kind"),
    [
        (StoreUnavailableError("redis", "away"), 503, "store-unavailable"),
        (TimeoutError(), 503, "store-unavailable"),
        (SessionError("of a newer release"), 500, "session-unreadable"),
    ],
)
def test_trouble_with_the_store_is_told(target, trouble, status, kind):
    store = Store(Record("old"))
    store.trouble = trouble
    assert House(store=store).get(target).is_problem(status, kind)


# One session


def test_a_running_call_is_read_with_what_was_said_and_where_it_stands():
    stands = (TaskStand("pizza", "ask", {"ask": ["asked for the size"]}),)
    call = FakeCall(
        "live", current_state="ask", stands=stands, graph_hashes={"pizza": "abc"}, record=no_journal()
    )
    read = House(call).get("/sessions/live").json
    assert (read["status"], read["current_state"], read["graph_hashes"]) == ("live", "ask", {"pizza": "abc"})
    assert read["tasks"] == [
        {"task": "pizza", "state": "ask", "scratchpads": {"ask": ["asked for the size"]}}
    ]
    assert [(one["speaker"], one["text"], one["is_redacted"]) for one in read["transcript"]] == [
        ("agent", "Hello.", False),
        ("caller", "", True),
    ]
    assert read["transcript_count"] == 2
    [move] = read["moves"]
    assert (move["task"], move["from_state"], move["to_state"], move["reason"]) == (
        "pizza",
        "",
        "ask",
        "start",
    )


def test_a_stored_session_is_read_with_its_whole_transcript():
    house = House(store=Store(Record("old"), lines=1_203))
    read = house.get("/sessions/old").json
    assert (read["status"], read["outcome"], read["transcript_count"]) == ("ended", "finished", 1_203)
    assert [one["text"] for one in read["transcript"]] == [f"words {n}" for n in range(703, 1_203)]
    assert house.get("/sessions/other").is_problem(404, "unknown-session")


def write_journal(folder: Path, session_id: str, *, is_closed: bool = True) -> None:
    async def write() -> None:
        writer = JournalWriter(folder)
        journal = await writer.open(session_id)
        journal.record("opened", {"agent": "bot", "graphs": {"pizza": "abc"}})
        journal.record("said", {"by": "agent", "text": "Hello.", "is_redacted": False})
        journal.record("transition", {"from": "ask", "to": "order", "reason": "answer", "run": "r1"})
        if is_closed:
            journal.record("closed", {"outcome": "finished"})
        assert await journal.close()
        writer.close(5)

    asyncio.run(write())


@pytest.mark.parametrize(("is_closed", "status"), [(True, "ended"), (False, "interrupted")])
def test_a_session_of_which_only_the_journal_is_left_is_read_from_it(tmp_path, is_closed, status):
    write_journal(tmp_path, "old:1", is_closed=is_closed)
    house = House(journals_dir=tmp_path)
    read = house.get("/sessions/old:1").json
    assert (read["status"], read["agent_id"], read["current_state"]) == (status, "bot", "order")
    assert (read["transcript_count"], read["graph_hashes"]) == (1, {"pizza": "abc"})
    lines = house.get("/sessions/old:1/journal")
    assert lines.headers["content-type"] == "application/x-ndjson"
    kinds = [json.loads(line)["kind"] for line in lines.body.splitlines()]
    assert kinds == ["opened", "said", "transition", "closed"][: len(kinds)]
    assert lines.body == (tmp_path / journal_name("old:1")).read_bytes()


def test_the_journal_of_a_running_call_is_read_as_it_will_be_kept():
    journal = no_journal()
    lines = House(FakeCall("live", record=journal)).get("/sessions/live/journal").body.splitlines()
    assert [json.loads(line)["hash"] for line in lines] == [one.hash for one in journal.entries()]
    assert b"four seven" not in b"".join(lines)


def test_a_changed_journal_is_told_and_not_answered(tmp_path):
    write_journal(tmp_path, "old")
    path = tmp_path / "old.journal"
    path.write_bytes(path.read_bytes().replace(b"Hello", b"Hallo"))
    house = House(journals_dir=tmp_path)
    for target in ("/sessions/old", "/sessions/old/journal"):
        answer = house.get(target)
        assert answer.is_problem(500, "journal-corrupt")
        assert b"Hallo" not in answer.body


def test_unknown_ids_and_ids_that_cannot_be(tmp_path):
    (tmp_path / "secret.journal").write_bytes(b"")
    house = House(journals_dir=tmp_path / "journals", recordings_dir=tmp_path / "recordings")
    for part, kind in (
        ("", "unknown-session"),
        ("/recording", "unknown-recording"),
        ("/journal", "unknown-journal"),
    ):
        assert house.get(f"/sessions/nobody{part}").is_problem(404, kind)
        for bad in ("a%20b", "%C3%BC", "x" * 129, "..%5Csecret", "%00"):
            assert house.get(f"/sessions/{bad}{part}").is_problem(422, "invalid-path")
        assert house.get(f"/sessions/..%2Fsecret{part}").status == 404
    assert House().get("/sessions/nobody/journal").is_problem(404, "unknown-journal")
    assert House().get("/sessions/nobody/recording").is_problem(404, "unknown-recording")


def test_a_running_call_is_found_by_whatever_its_carrier_calls_it():
    call = FakeCall("an odd id, ü")
    house = House(call)
    assert house.get("/sessions/an%20odd%20id,%20%C3%BC").json["session_id"] == "an odd id, ü"
    assert house.delete("/sessions/an%20odd%20id,%20%C3%BC").status == 202
    assert call.dismissals == 1


# The end of a call


def test_a_call_is_ended_as_often_as_it_is_asked_for_and_an_unknown_one_never():
    call = FakeCall("live")
    house = House(call)
    for _ in range(2):
        answer = house.delete("/sessions/live")
        assert (answer.status, answer.body) == (202, b"")
    assert call.dismissals == 2
    assert house.delete("/sessions/other").is_problem(404, "unknown-session")
    assert house.delete("/sessions/a%20b").is_problem(422, "invalid-path")


# Recordings


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "old.wav").write_bytes(WAV)
    return folder


def test_a_recording_is_read_whole_and_in_parts(recordings):
    house = House(recordings_dir=recordings)
    whole = house.get("/sessions/old/recording")
    assert (whole.status, whole.body) == (200, WAV)
    assert whole.headers["content-type"] == "audio/wav"
    assert whole.headers["accept-ranges"] == "bytes"
    part = house.get("/sessions/old/recording", range="bytes=44-143")
    assert (part.status, part.body) == (206, WAV[44:144])
    assert part.headers["content-range"] == f"bytes 44-143/{len(WAV)}"
    assert house.get("/sessions/old/recording", range="bytes=-4").body == WAV[-4:]


def test_ranges_that_are_not_there_are_problems(recordings):
    house = House(recordings_dir=recordings)
    beyond = house.get("/sessions/old/recording", range="bytes=99999-")
    assert beyond.is_problem(416, "range-not-satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(WAV)}"
    assert house.get("/sessions/old/recording", range="bytes=b-a").status in (400, 416)
    assert house.get("/sessions/old/recording", range="seconds=1-2").status in (200, 400)


def test_the_newest_recording_of_a_session_is_the_one(recordings):
    (recordings / "old.2.wav").write_bytes(b"second")
    (recordings / "old.10.wav").write_bytes(b"tenth")
    (recordings / "old.11.wav.part").write_bytes(b"unfinished")
    (recordings / "old.12.wav").symlink_to(recordings / "old.wav")
    (recordings / "older.13.wav").write_bytes(b"of another")
    assert House(recordings_dir=recordings).get("/sessions/old/recording").body == b"tenth"


def test_the_recording_of_a_running_call_is_not_finished(recordings):
    house = House(FakeCall("live"), recordings_dir=recordings)
    assert house.get("/sessions/live/recording").is_problem(409, "recording-unfinished")


def test_no_link_leads_out_of_the_folder(recordings, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (recordings / "link.wav").symlink_to(tmp_path / "secret")
    (recordings / "link.journal").symlink_to(tmp_path / "secret")
    house = House(recordings_dir=recordings, journals_dir=recordings)
    assert house.get("/sessions/link/recording").is_problem(404, "unknown-recording")
    assert house.get("/sessions/link/journal").is_problem(404, "unknown-journal")


@pytest.mark.parametrize(
    "target", ["/sessions", "/sessions/a", "/sessions/a/recording", "/sessions/a/journal"]
)
def test_other_methods_are_not_allowed(target):
    answer = asyncio.run(ask(House().app, "PATCH", target))
    assert answer.is_problem(405, "method-not-allowed")


def test_a_store_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sessions_api, "STORE_TIMEOUT_S", 0.01)

    class Frozen(Store):
        async def load(self, session_id: str) -> Record:
            await asyncio.Event().wait()
            raise AssertionError

    assert House(store=Frozen()).get("/sessions/old").is_problem(503, "store-unavailable")
