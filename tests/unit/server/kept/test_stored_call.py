"""A call's session in its store: what parking, losing, going on and the end write, and in which order."""

import asyncio
import contextlib
import time

import orjson
import pytest

from fastagent.call.stored import TakenUp
from fastagent.errors import SessionConflictError, SessionNotFoundError
from fastagent.server.kept import continuity as continuity_room
from fastagent.server.kept.continuity import Continuity
from fastagent.server.kept.stored_call import CallSessions
from fastagent.sessions import SessionKeeper, SessionRecord, TranscriptLine
from fastagent.sessions.memory import MemoryStore
from fastagent.settings import Settings
from fastagent.stats import Counters

pytestmark = pytest.mark.anyio

CALLER = "+15550100001"
QUESTION = {"status": "needs_input", "task": "book", "say": "Which day?"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Messages:
    def __init__(self):
        self.sent = []

    async def send(self, number, text):
        self.sent.append((number, text))


class View:
    """A call, as its store sees it."""

    agent_id = "clinic"
    caller = CALLER
    owner = "audiocodes:one"
    carrier_name = "audiocodes"
    memory_days = 0.0
    current_state = "ask"
    turn_count = 1

    def __init__(self, call_id):
        self.call_id = call_id
        self.graph_hashes = {}
        self.runs = [{"task": "book"}]
        self.going_on = lambda: asyncio.sleep(0)

    def snapshot(self):
        return {"agent": self.agent_id, "about": "", "caller": self.caller, "session": {"runs": self.runs}}

    def memory(self):
        return b""

    async def go_on(self, session_id, snapshot, said):
        await self.going_on()
        self.runs = snapshot["session"]["runs"]
        return TakenUp([QUESTION])


class Process:
    """What one process knows of the sessions of a store."""

    def __init__(self, store, **settings):
        self.messages = Messages()
        self.lost = []
        self.tasks = set()
        self.counters = Counters()
        self.keeper = SessionKeeper(store, on_lost=self.lose)
        self.continuity = Continuity(
            self.keeper,
            Settings(**{"store_path": "sessions.db", **settings}),
            b"secret",
            sms=self.messages,
            start=self.start,
            counters=self.counters,
        )
        self.continuity.on_lost = self.lose
        self.sessions = CallSessions(self.continuity)

    def start(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def lose(self, session_id):
        self.lost.append(session_id)

    async def call(self, call_id):
        stored = self.sessions.open(View(call_id))
        stored.begin()
        assert await self.keeper.flush(call_id, 5.0)
        return stored

    async def cut_off(self, call_id):
        stored = await self.call(call_id)
        assert stored.ending("caller", is_unfinished=True)
        await stored.close()
        await self.settled()

    async def settled(self):
        """Nothing waits any more."""
        async with asyncio.timeout(5):
            while any(  # noqa: ASYNC110 - a keeper tells nobody
                kept.stored < kept.told or kept.is_being_written or kept.is_leaving
                for kept in self.keeper._kept.values()
                if not kept.is_lost
            ):
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def process(store, **settings):
    one = Process(store, **settings)
    one.keeper.start()
    try:
        yield one
    finally:
        for task in one.tasks:
            task.cancel()
        await one.keeper.close(1.0)


async def owns(store, session_id):
    """Somebody owns the session."""
    try:
        await store.release(await store.acquire(session_id, "somebody", 1.0))
    except SessionConflictError:
        return True
    return False


# A call that waits for its line


async def test_a_call_that_waits_for_its_line_is_not_taken_for_a_dead_one():
    store = MemoryStore()
    async with process(store) as one, process(store) as other:
        stored = await one.call("c1")
        stored.parked()
        await one.settled()
        await one.continuity.reclaim()
        await other.continuity.reclaim()
        assert (one.lost, other.lost, one.messages.sent, other.messages.sent) == ([], [], [], [])
        assert not await owns(store, "c1")
        stored.resumed()
        await one.settled()
        assert (await store.load("c1")).status == "live"
        assert (await store.load("c1")).outcome == ""


async def test_a_call_whose_process_died_while_it_waited_is_found_once_nobody_can_come_back_to_it():
    store = MemoryStore()
    async with process(store) as dead, process(store, resume_grace_s=0.0) as other:
        stored = await dead.call("c1")
        stored.parked()
        await dead.settled()
        for task in dead.tasks:
            task.cancel()
        await other.continuity.reclaim()
        assert other.messages.sent == []
        record = await store.load("c1")
        lease = await store.acquire("c1", "nobody", 1.0)
        gone_s = continuity_room.PARKED_MARGIN_S + 1
        await store.save(
            SessionRecord(
                session_id="c1",
                agent_id=record.agent_id,
                caller_key=record.caller_key,
                status=record.status,
                outcome=record.outcome,
                started_at_unix_s=record.started_at_unix_s,
                updated_at_unix_s=time.time() - gone_s,
            ),
            lease,
        )
        await store.release(lease)
        await other.continuity.reclaim()
        await other.settled()
        await asyncio.gather(*other.tasks)
        assert [number for number, _ in other.messages.sent] == [CALLER]
        assert (await store.load("c1")).outcome == "process_lost"


async def test_a_store_that_is_slow_when_the_line_is_lost_does_not_cost_the_call():
    store = MemoryStore()
    async with process(store) as one:
        stored = await one.call("c1")
        gate = asyncio.Event()
        save = store.save

        async def slow(record, lease):
            await gate.wait()
            await save(record, lease)

        store.save = slow
        stored.parked()
        await asyncio.sleep(0)
        assert not await one.continuity.is_elsewhere("c1")
        stored.resumed()
        gate.set()
        await one.settled()
        assert one.lost == []
        assert (await store.load("c1")).status == "live"


# Calls whose process died


async def died(store, session_id, *, ago_s=0.0, **fields):
    now = time.time() - ago_s
    lease = await store.acquire(session_id, "dead", 0.0)
    snapshot = {"caller": CALLER, "session": {"runs": [{"task": "book"}]}}
    await store.save(
        SessionRecord(
            session_id=session_id,
            agent_id="clinic",
            started_at_unix_s=now,
            updated_at_unix_s=now,
            snapshot=orjson.dumps(snapshot),
            **fields,
        ),
        lease,
    )


@pytest.mark.parametrize(("ago_s", "messages", "status"), [(3500, 1, "interrupted"), (3700, 0, "ended")])
async def test_after_a_long_downtime_nobody_is_sent_a_code_that_is_no_good(ago_s, messages, status):
    store = MemoryStore()
    async with process(store, interrupted_fresh_s=3600.0) as one:
        await died(store, "c1", ago_s=ago_s)
        await one.continuity.reclaim()
        await one.settled()
        await asyncio.gather(*one.tasks)
        assert len(one.messages.sent) == messages
        assert (await store.load("c1")).status == status


async def test_a_dead_call_is_told_of_once_though_two_processes_look():
    store = MemoryStore()
    async with process(store) as one, process(store) as other:
        await died(store, "c1")
        take, listed = other.continuity.take, asyncio.Event()

        async def late(session_id):
            await listed.wait()
            return await take(session_id)

        other.continuity.take = late
        await store.reclaim()
        looking = asyncio.create_task(other.continuity.reclaim())
        await asyncio.sleep(0)
        await one.continuity.reclaim()
        await one.settled()
        listed.set()
        await looking
        await other.settled()
        await asyncio.gather(*one.tasks, *other.tasks)
        assert len(one.messages.sent) + len(other.messages.sent) == 1


async def test_a_dead_call_is_told_of_though_who_found_it_died_too():
    store = MemoryStore()
    async with process(store) as one:
        await died(store, "c1")
        assert await store.reclaim() == 1
        await one.continuity.reclaim()
        await one.settled()
        await asyncio.gather(*one.tasks)
        assert len(one.messages.sent) == 1


# Going on


async def test_a_call_that_ends_while_it_goes_on_with_another_leaves_that_to_the_next():
    store = MemoryStore()
    async with process(store, resume_proof="number") as one:
        await one.cut_off("c1")
        second = await one.call("c2")
        comeback = await second.look_up()
        begun = asyncio.Event()

        async def forever():
            begun.set()
            await asyncio.Event().wait()

        second._view.going_on = forever
        going_on = asyncio.create_task(comeback.go_on(""))
        await begun.wait()
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
        await one.settled()
        assert not await owns(store, "c1")
        assert (await store.load("c1")).status == "interrupted"


async def test_a_session_that_is_had_only_when_the_call_is_over_stays_interrupted():
    store = MemoryStore()
    async with process(store, resume_proof="number") as one:
        await one.cut_off("c1")
        one.messages.sent.clear()
        second = await one.call("c2")
        comeback = await second.look_up()
        load, gate = store.load, asyncio.Event()

        async def slow(session_id):
            await gate.wait()
            return await load(session_id)

        store.load = slow
        going_on = asyncio.create_task(comeback.go_on(""))
        await asyncio.sleep(0)
        second.ending("caller", is_unfinished=False)
        gate.set()
        await going_on
        await second.close()
        await one.settled()
        assert not await owns(store, "c1")
        assert (await load("c1")).status == "interrupted"
        assert (await load("c2")).status == "ended"


async def test_nothing_makes_a_call_live_again_that_is_over():
    store = MemoryStore()
    async with process(store) as one:
        stored = await one.call("c1")
        assert not stored.ending("bot", is_unfinished=False)
        stored.changed()
        stored.said("agent", "Goodbye.")
        await stored.close()
        stored.changed()
        await asyncio.sleep(0.1)
        await one.settled()
        assert (await store.load("c1")).status == "ended"
        assert not await owns(store, "c1")


async def test_memory_alone_keeps_no_session_that_is_over():
    store = MemoryStore()
    async with process(store, store_path="", resume_proof="number") as one:
        stored = await one.call("c1")
        stored.ending("bot", is_unfinished=False)
        await stored.close()
        await one.cut_off("c2")
        with pytest.raises(SessionNotFoundError):
            await store.load("c1")
        assert (await store.load("c2")).status == "interrupted"


async def test_a_call_interrupted_twice_goes_on_behind_its_last_line():
    store = MemoryStore()
    async with process(store, resume_proof="number") as one:
        first = await one.call("c1")
        first.said("caller", "one")
        first.ending("caller", is_unfinished=True)
        await first.close()
        await one.settled()
        for call_id, words in (("c2", "two"), ("c3", "three")):
            stored = await one.call(call_id)
            comeback = await stored.look_up()
            assert (await comeback.go_on(""))["say"].endswith("Which day?")
            stored.said("caller", words)
            assert stored.ending("caller", is_unfinished=True)
            await stored.close()
            await one.settled()
        await asyncio.gather(*one.tasks)
        told = await store.transcript("c1")
        assert [(line.number, line.text) for line in told] == [(1, "one"), (2, "two"), (3, "three")]
        assert len(one.messages.sent) == 3
        assert not await owns(store, "c1")


async def test_a_model_that_goes_on_twice_at_once_does_so_once():
    store = MemoryStore()
    async with process(store, resume_proof="number") as one:
        await one.cut_off("c1")
        second = await one.call("c2")
        comeback = await second.look_up()
        reports = await asyncio.gather(comeback.go_on(""), comeback.go_on(""))
        assert sorted(report["status"] for report in reports) == ["error", "needs_input"]
        assert (await comeback.go_on(""))["status"] == "error"
        assert one.lost == ["c1"]


async def test_a_session_that_another_process_took_is_forgotten_here():
    store = MemoryStore()
    async with process(store) as one, process(store) as other:
        stored = await one.call("c1")
        # As after a store that was away for longer than a lease lasts.
        store._fences["c1"].until_s = 0.0
        await other.continuity.take("c1")
        stored.changed()
        async with asyncio.timeout(5):
            while not one.lost:  # noqa: ASYNC110 - a keeper tells the server
                await asyncio.sleep(0.005)
        stored.lost()
        stored.ending("taken_over", is_unfinished=True)
        await stored.close()
        assert not one.keeper.keeps("c1")
        assert other.keeper.owns("c1")
        assert one.messages.sent == []


async def test_what_cannot_be_read_does_not_end_the_look_for_others(monkeypatch):
    monkeypatch.setattr(continuity_room, "RECLAIM_INTERVAL_S", 0.0)
    store = MemoryStore()
    async with process(store) as one:
        looks = []

        async def reclaim():
            looks.append(1)
            raise AttributeError("a snapshot of another shape")

        one.continuity.reclaim = reclaim
        watching = asyncio.create_task(one.continuity.watch())
        async with asyncio.timeout(5):
            while len(looks) < 2 and not watching.done():  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert len(looks) >= 2


async def test_a_session_that_is_only_looked_at_can_be_had():
    store = MemoryStore()
    async with process(store, resume_proof="number") as one:
        await one.cut_off("c1")
        second = await one.call("c2")
        comeback = await second.look_up()
        # The process that the line was lost at holds it, for the moment of its look.
        lease = await store.acquire("c1", "looks", 1.5)
        going_on = asyncio.create_task(comeback.go_on(""))
        await asyncio.sleep(0.02)
        assert not going_on.done()
        await store.release(lease)
        assert (await going_on)["status"] == "needs_input"


async def test_a_call_that_has_its_line_is_not_taken_from_its_own_process():
    store = MemoryStore()
    async with process(store) as one:
        await one.call("c1")
        with pytest.raises(SessionConflictError):
            await one.continuity.take("c1")
        assert one.lost == []
        assert await owns(store, "c1")


async def test_lines_of_the_earlier_talk_are_the_last_ones(monkeypatch):
    monkeypatch.setattr(continuity_room, "TRANSCRIPT_LINES", 2)
    store = MemoryStore()
    async with process(store) as one:
        await died(store, "c1")
        lease = await store.acquire("c1", "dead", 0.0)
        lines = [TranscriptLine(number, time.time(), "caller", str(number)) for number in range(1, 6)]
        await store.append_transcript("c1", lines, lease)
        taken = await one.continuity.take("c1")
        assert [line.text for line in taken.lines] == ["4", "5"]
