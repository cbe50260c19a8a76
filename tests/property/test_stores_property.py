"""Any sequence of what may be asked of a store, some of it at once: SQLite and Redis answer as memory does.

Leases last for ever or have run out already, so that no answer depends on how long a step takes.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from fastagent.errors import SessionConflictError, SessionError
from fastagent.sessions import (
    CallerMemory,
    Lease,
    MemoryStore,
    SessionRecord,
    SessionStore,
    SqliteStore,
    TranscriptLine,
)
from tests.integration.redis_server import RedisServer
from tests.integration.stores import patient

FOR_EVER_S = 10_000.0
TTLS = st.sampled_from([0.0, FOR_EVER_S])
SESSIONS = st.sampled_from(["one", "two", "three", "index", "a:b"])
HOLDERS = st.sampled_from(["here", "there"])
AGENTS = st.sampled_from(["a", "*"])
CALLERS = st.sampled_from(["", "c", "c d"])
STATUSES = st.sampled_from(["live", "interrupted", "ended"])
TIMES = st.integers(0, 4).map(float)
RECORDS = st.builds(
    lambda session_id, **fields: SessionRecord(session_id=session_id, **fields),
    SESSIONS,
    agent_id=AGENTS,
    caller_key=CALLERS,
    status=STATUSES,
    started_at_unix_s=TIMES,
    updated_at_unix_s=TIMES,
    turn_count=st.integers(0, 9),
    snapshot=st.none() | st.binary(max_size=8),
)
LINES = st.lists(
    st.builds(TranscriptLine, st.integers(1, 6), TIMES, st.just("caller"), st.text(max_size=4)), max_size=4
)

Ask = Callable[[SessionStore], Awaitable[Any]]


async def answer(ask: Ask, store: SessionStore) -> Any:
    try:
        return await ask(store)
    except SessionError as error:
        return type(error)


def session_of(write: tuple[Lease, SessionRecord, list[TranscriptLine]]) -> str:
    return write[0].session_id


class Comparison(RuleBasedStateMachine):
    leases = Bundle("leases")

    def __init__(self, make: Callable[[], SessionStore]) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = MemoryStore()
        self.store = make()
        self.run(self.store.open())

    def run(self, work: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(bounded())

    def both(self, ask: Ask) -> Any:
        expected = self.run(answer(ask, self.model))
        assert self.run(answer(ask, self.store)) == expected
        return expected

    def teardown(self) -> None:
        self.run(self.store.close())
        self.loop.close()

    @rule(target=leases, session_id=SESSIONS, holder=HOLDERS, ttl_s=TTLS)
    def acquire(self, session_id, holder, ttl_s):
        lease = self.both(lambda store: store.acquire(session_id, holder, ttl_s))
        return lease if isinstance(lease, Lease) else multiple()

    @rule(
        target=leases,
        session_id=SESSIONS,
        holders=st.lists(st.sampled_from("abcde"), unique=True, min_size=2),
    )
    def race(self, session_id, holders):
        """Some want it at once; who gets it is the store's choice, that only one does is not."""

        def by(who: str) -> Ask:
            return lambda store: store.acquire(session_id, who, FOR_EVER_S)

        async def everybody() -> list[Any]:
            return list(await asyncio.gather(*(answer(by(who), self.store) for who in holders)))

        found = self.run(everybody())
        won = [lease for lease in found if isinstance(lease, Lease)]
        assert len(won) <= 1
        order = sorted(holders, key=lambda who: [lease.holder for lease in won] != [who])
        expected = [self.run(answer(by(who), self.model)) for who in order]
        assert [one for one in expected if isinstance(one, Lease)] == won
        return multiple(*won)

    @rule(lease=leases, ttl_s=TTLS)
    def renew(self, lease, ttl_s):
        self.both(lambda store: store.renew(lease, ttl_s))

    @rule(lease=leases)
    def release(self, lease):
        self.both(lambda store: store.release(lease))

    @rule(lease=leases, record=RECORDS, ahead=st.sampled_from([0, 0, 0, 1]))
    def save(self, lease, record, ahead):
        record = replace(record, session_id=lease.session_id)
        lease = replace(lease, fence=lease.fence + ahead)
        self.both(lambda store: store.save(record, lease))

    @rule(lease=leases, lines=LINES)
    def say(self, lease, lines):
        self.both(lambda store: store.append_transcript(lease.session_id, lines, lease))

    @rule(writes=st.lists(st.tuples(leases, RECORDS, LINES), max_size=6, unique_by=session_of))
    def write_at_once(self, writes):
        """Different sessions do not disturb each other."""

        def asks() -> Iterator[Ask]:
            for lease, record, lines in writes:
                mine = replace(record, session_id=lease.session_id)
                yield lambda store, lease=lease, mine=mine: store.save(mine, lease)
                yield lambda store, lease=lease, lines=lines: store.append_transcript(
                    lease.session_id, lines, lease
                )

        async def at_once() -> list[Any]:
            return list(await asyncio.gather(*(answer(ask, self.store) for ask in asks())))

        found = self.run(at_once())
        assert found == [self.run(answer(ask, self.model)) for ask in asks()]
        assert all(one in (None, SessionConflictError) for one in found)

    @rule(session_id=SESSIONS)
    def delete(self, session_id):
        self.both(lambda store: store.delete(session_id))

    @rule(before=TIMES)
    def purge(self, before):
        self.both(lambda store: store.purge(before))

    @rule()
    def reclaim(self):
        self.both(lambda store: store.reclaim())

    @rule(caller=CALLERS.filter(bool), agent=AGENTS, body=st.binary(max_size=8), at=TIMES)
    def remember(self, caller, agent, body, at):
        self.both(lambda store: store.save_memory(caller, agent, CallerMemory(body, at), FOR_EVER_S))

    @rule(caller=CALLERS.filter(bool), agent=AGENTS)
    def forget(self, caller, agent):
        self.both(lambda store: store.delete_memory(caller, agent))

    @rule(caller=CALLERS.filter(bool), agent=AGENTS)
    def recall(self, caller, agent):
        self.both(lambda store: store.load_memory(caller, agent))

    @rule(caller=CALLERS, agent=st.none() | AGENTS, since=TIMES)
    def find(self, caller, agent, since):
        self.both(lambda store: store.find_interrupted(caller, agent_id=agent, since_unix_s=since))

    @rule(
        status=st.none() | STATUSES,
        agent=st.none() | AGENTS,
        begin=st.none() | TIMES,
        before=st.none() | TIMES,
        limit=st.integers(1, 3),
    )
    def walk(self, status, agent, begin, before, limit):
        cursor = ""
        while True:
            page = self.both(
                lambda store, cursor=cursor: store.list(
                    status=status,
                    agent_id=agent,
                    started_from_unix_s=begin,
                    started_before_unix_s=before,
                    cursor=cursor,
                    limit=limit,
                )
            )
            cursor = page.next_cursor
            if not cursor:
                return

    @rule(session_id=SESSIONS, after=st.integers(0, 6), limit=st.integers(1, 7))
    def read(self, session_id, after, limit):
        self.both(lambda store: store.transcript(session_id, after=after, limit=limit))

    @invariant()
    def sessions_are_the_same(self):
        for session_id in ("one", "a:b", "index"):
            self.both(lambda store, session_id=session_id: store.load(session_id))


def check(make: Callable[[], SessionStore]) -> None:
    run_state_machine_as_test(
        lambda: Comparison(make),
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_sqlite_answers_as_memory_does(tmp_path):
    check(lambda: SqliteStore(Path(tempfile.mkdtemp(dir=tmp_path)) / "sessions.db"))


@pytest.fixture
def server():
    server = RedisServer()
    yield server
    server.close()


def test_redis_answers_as_memory_does(server):
    def make() -> SessionStore:
        server.ask("FLUSHALL")
        return patient(server.url)

    check(make)
