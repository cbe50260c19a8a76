"""What every store promises, over memory, SQLite, a Redis server and a Redis cluster."""

import asyncio
from dataclasses import replace

import pytest

from fastagent.errors import SessionConflictError, SessionNotFoundError, StoreUnavailableError
from fastagent.sessions import CallerMemory, SessionStore, TranscriptLine
from fastagent.sessions.record import MEMORY_MAX_BYTES, SNAPSHOT_MAX_BYTES
from tests.integration.redis_server import RedisCluster, RedisServer
from tests.integration.stores import HERE, LONG_S, THERE, lines, new_id, opened, record, until

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def redis_server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def redis_cluster():
    cluster = RedisCluster()
    yield cluster
    cluster.close()


@pytest.fixture(params=["memory", "sqlite", "redis", "redis-cluster"])
def store(request, tmp_path):
    """Runs a test's coroutine on a store of each kind that is empty."""
    place = tmp_path / "sessions.db"
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        place = server.url
    elif request.param == "redis-cluster":
        cluster = request.getfixturevalue("redis_cluster")
        for node in cluster.nodes:
            node.ask("FLUSHALL")
        place = cluster.url

    def run(test):
        async def main():
            async with asyncio.timeout(60), opened(request.param, place) as store:
                return await test(store)

        return asyncio.run(main())

    return run


async def saved(store: SessionStore, session_id: str = "", **fields):
    session_id = session_id or new_id()
    lease = await store.acquire(session_id, HERE, LONG_S)
    await store.save(record(session_id, **fields), lease)
    return session_id, lease


async def run_out(store: SessionStore, session_id: str, holder: str = THERE):
    """Acquire a session as soon as its short lease has run out."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await store.acquire(session_id, holder, LONG_S)
            except SessionConflictError:
                await asyncio.sleep(0.005)


async def has_faded(store: SessionStore) -> bool:
    return await store.load_memory("c", "a") is None


def test_what_was_saved_is_loaded(store):
    async def test(store):
        whole = record(
            new_id(),
            owner="principal:7",
            caller_key="k" * 64,
            carrier="audiocodes",
            status="ended",
            ended_at_unix_s=1_060.25,
            outcome="hung up",
            current_state="größe ✓",
            turn_count=12,
            journal_entries=40,
            journal_hash="f" * 64,
            graph_hashes={"book": "a" * 64},
            snapshot=bytes(range(256)),
        )
        lease = await store.acquire(whole.session_id, HERE, LONG_S)
        await store.save(whole, lease)
        assert await store.load(whole.session_id) == whole
        await store.save(replace(whole, turn_count=13, snapshot=None), lease)
        assert await store.load(whole.session_id) == replace(whole, turn_count=13)
        largest = replace(whole, snapshot=bytes(SNAPSHOT_MAX_BYTES))
        await store.save(largest, lease)
        assert await store.load(whole.session_id) == largest

    store(test)


def test_a_session_that_is_not_there_is_not_found(store):
    async def test(store):
        with pytest.raises(SessionNotFoundError):
            await store.load("nobody")
        assert await store.transcript("nobody") == ()
        assert not await store.delete("nobody")
        assert await store.find_interrupted("") is None
        assert await store.find_interrupted("nobody") is None
        # Owning comes before saving, and alone makes no session.
        await store.acquire("nobody", HERE, LONG_S)
        with pytest.raises(SessionNotFoundError):
            await store.load("nobody")
        assert (await store.list()).total_count == 0

    store(test)


def test_only_one_process_owns_a_session(store):
    async def test(store):
        session_id = new_id()
        first = await store.acquire(session_id, HERE, LONG_S)
        with pytest.raises(SessionConflictError):
            await store.acquire(session_id, THERE, LONG_S)
        await store.renew(first, LONG_S)
        again = await store.acquire(session_id, HERE, LONG_S)
        assert again.fence > first.fence
        with pytest.raises(SessionConflictError):
            await store.renew(first, LONG_S)
        await store.release(first)  # void, so it does nothing
        with pytest.raises(SessionConflictError):
            await store.acquire(session_id, THERE, LONG_S)
        await store.release(again)
        other = await store.acquire(session_id, THERE, LONG_S)
        assert other.fence > again.fence
        with pytest.raises(SessionConflictError):
            await store.save(record(session_id), again)

    store(test)


def test_a_lease_that_ran_out_writes_until_another_process_owns_the_session(store):
    async def test(store):
        session_id = new_id()
        mine = await store.acquire(session_id, HERE, 0.01)
        await store.save(record(session_id, turn_count=1), mine)
        theirs = await run_out(store, session_id)
        for late in (
            store.save(record(session_id, turn_count=2), mine),
            store.append_transcript(session_id, lines(1), mine),
            store.renew(mine, LONG_S),
        ):
            with pytest.raises(SessionConflictError):
                await late
        assert (await store.load(session_id)).turn_count == 1
        assert await store.transcript(session_id) == ()
        await store.save(record(session_id, turn_count=3), theirs)

        alone = new_id()
        lease = await store.acquire(alone, HERE, 0.001)
        await asyncio.sleep(0.01)
        await store.save(record(alone), lease)
        await store.renew(lease, LONG_S)
        with pytest.raises(SessionConflictError):
            await store.acquire(alone, THERE, LONG_S)

    store(test)


def test_of_many_who_want_a_session_one_gets_it(store):
    async def test(store):
        session_id = new_id()
        tries = await asyncio.gather(
            *(store.acquire(session_id, f"process-{n}", LONG_S) for n in range(20)), return_exceptions=True
        )
        assert sum(isinstance(one, SessionConflictError) for one in tries) == 19
        assert sum(not isinstance(one, BaseException) for one in tries) == 1

    store(test)


def test_a_store_that_forgot_believes_the_newest_lease(store):
    async def test(store):
        session_id = new_id()
        lease = await store.acquire(session_id, HERE, LONG_S)
        # As after a failover to a copy that was behind, or with a file begun anew.
        newer = replace(lease, fence=lease.fence + 5)
        await store.save(record(session_id), newer)
        with pytest.raises(SessionConflictError):
            await store.save(record(session_id), lease)
        unknown = replace(lease, session_id=new_id(), fence=3)
        await store.save(record(unknown.session_id), unknown)
        await store.renew(unknown, LONG_S)
        with pytest.raises(SessionConflictError):
            await store.acquire(unknown.session_id, THERE, LONG_S)

    store(test)


def test_lines_are_kept_once_and_in_order(store):
    async def test(store):
        session_id, lease = await saved(store)
        await store.append_transcript(session_id, lines(2, 1), lease)
        await store.append_transcript(session_id, lines(2, 3, text="other"), lease)
        await store.append_transcript(session_id, [], lease)
        kept = await store.transcript(session_id)
        assert [(line.number, line.text) for line in kept] == [(1, "words 1"), (2, "words 2"), (3, "other 3")]
        await store.append_transcript(session_id, lines(*range(4, 260)), lease)
        assert len(await store.transcript(session_id)) == 259
        page = await store.transcript(session_id, after=100, limit=5)
        assert [line.number for line in page] == [101, 102, 103, 104, 105]
        assert await store.transcript(session_id, after=259) == ()
        odd = TranscriptLine(300, 0.5, "agent", 'ß\x00"\n\ud800 ✓')
        await store.append_transcript(session_id, [odd], lease)
        assert await store.transcript(session_id, after=299) == (odd,)
        with pytest.raises(ValueError, match="limit"):
            await store.transcript(session_id, limit=0)
        with pytest.raises(ValueError, match="another session"):
            await store.append_transcript(new_id(), lines(1), lease)

    store(test)


def test_pages_hold_each_session_once_newest_first(store):
    async def test(store):
        expected = []
        for n in range(23):
            # Four started at the same moment each time.
            session_id, _ = await saved(
                store,
                f"page-{n:02}",
                started_at_unix_s=float(n // 4),
                status="ended" if n % 3 else "live",
                agent_id="a" if n % 2 else "b:*",
                snapshot=b"state",
            )
            expected.append((float(n // 4), session_id))
        expected.sort(reverse=True)

        async def walk(limit, **asked):
            found, cursor, counts = [], "", set()
            while True:
                page = await store.list(limit=limit, cursor=cursor, **asked)
                found += page.records
                counts.add(page.total_count)
                cursor = page.next_cursor
                if not cursor:
                    return found, counts

        for limit in (1, 3, 5, 23, 100):
            found, counts = await walk(limit)
            assert [(one.started_at_unix_s, one.session_id) for one in found] == expected
            assert counts == {23}
            assert all(one.snapshot is None for one in found)
        found, counts = await walk(2, status="live", agent_id="b:*")
        assert [one.session_id for one in found] == ["page-18", "page-12", "page-06", "page-00"]
        assert counts == {4}
        found, counts = await walk(2, agent_id="a", started_from_unix_s=1.0, started_before_unix_s=3.0)
        assert [one.session_id for one in found] == ["page-11", "page-09", "page-07", "page-05"]
        assert counts == {4}
        assert await walk(5, status="interrupted") == ([], {0})
        assert await walk(5, agent_id="*") == ([], {0})
        for wrong in ("x", "1.0/", "/a", "one/a"):
            with pytest.raises(ValueError, match="cursor"):
                await store.list(cursor=wrong)

    store(test)


def test_a_session_that_changes_is_found_where_it_is(store):
    async def test(store):
        session_id, lease = await saved(store, caller_key="c1")
        for status in ("live", "interrupted", "ended", "live"):
            await store.save(record(session_id, status=status, caller_key="c1"), lease)
            for asked in ("live", "interrupted", "ended"):
                page = await store.list(status=asked)
                assert (page.total_count, len(page.records)) == ((1, 1) if asked == status else (0, 0))
            found = await store.find_interrupted("c1")
            assert (found is not None) == (status == "interrupted")
        await store.save(record(session_id, caller_key="c2", status="interrupted", agent_id="other"), lease)
        assert await store.find_interrupted("c1") is None
        assert await store.find_interrupted("c2") is not None
        assert (await store.list(agent_id="bookings")).total_count == 0
        assert (await store.list()).total_count == 1

    store(test)


def test_the_callers_newest_session_to_resume_is_found(store):
    async def test(store):
        for n, (status, agent) in enumerate(
            [("interrupted", "a"), ("interrupted", "b"), ("ended", "a"), ("interrupted", "a"), ("live", "a")]
        ):
            await saved(
                store,
                f"resume-{n}",
                caller_key="digest/1",
                agent_id=agent,
                status=status,
                updated_at_unix_s=100.0 + n,
                snapshot=b"state",
            )
        found = await store.find_interrupted("digest/1")
        assert found is not None
        # The newest is live in a process, the one before ended.
        assert (found.session_id, found.status, found.snapshot) == ("resume-3", "interrupted", None)
        other = await store.find_interrupted("digest/1", agent_id="b")
        assert other is not None
        assert other.session_id == "resume-1"
        assert await store.find_interrupted("digest/1", since_unix_s=103.5) is None
        assert await store.find_interrupted("digest/2") is None

    store(test)


def test_a_session_left_by_a_dead_process_may_be_resumed(store):
    async def test(store):
        session_id = new_id()
        dead = await store.acquire(session_id, HERE, 0.02)
        await store.save(record(session_id, caller_key="c"), dead)
        kept, _ = await saved(store, caller_key="c", updated_at_unix_s=1.0)
        found = await until(lambda: store.find_interrupted("c"))
        assert found is not None
        assert (found.session_id, found.status) == (session_id, "interrupted")
        assert (await store.load(session_id)).status == "live"
        assert await store.reclaim() == 1
        assert (await store.load(session_id)).status == "interrupted"
        assert [one.session_id for one in (await store.list(status="live")).records] == [kept]
        assert [one.session_id for one in (await store.list(status="interrupted")).records] == [session_id]
        assert await store.reclaim() == 0
        # Its process was only frozen: nobody took the session, so it goes on.
        await store.save(record(session_id), dead)
        assert (await store.load(session_id)).status == "live"

    store(test)


def test_a_delete_outruns_the_writes_behind_it(store):
    async def test(store):
        session_id, lease = await saved(store, caller_key="c", status="interrupted", snapshot=b"state")
        await store.append_transcript(session_id, lines(1, 2), lease)
        assert await store.delete(session_id)
        assert not await store.delete(session_id)
        for late in (
            store.save(record(session_id), lease),
            store.append_transcript(session_id, lines(3), lease),
        ):
            with pytest.raises(SessionConflictError):
                await late
        with pytest.raises(SessionNotFoundError):
            await store.load(session_id)
        assert await store.transcript(session_id) == ()
        assert (await store.list()).total_count == 0
        assert await store.find_interrupted("c") is None
        # The id may be used again, by who owns it then.
        again = await store.acquire(session_id, HERE, LONG_S)
        assert again.fence > lease.fence
        await store.save(record(session_id), again)
        assert (await store.load(session_id)).snapshot is None

    store(test)


def test_purge_takes_what_is_old_and_owned_by_nobody(store):
    async def test(store):
        old, lease = await saved(store, updated_at_unix_s=10.0)
        await store.append_transcript(old, lines(1), lease)
        await store.release(lease)
        owned, _ = await saved(store, updated_at_unix_s=10.0)
        young, lease = await saved(store, updated_at_unix_s=20.0)
        await store.release(lease)
        assert await store.purge(20.0) == 1
        assert await store.purge(20.0) == 0
        assert {one.session_id for one in (await store.list()).records} == {owned, young}
        assert await store.transcript(old) == ()

    store(test)


def test_of_two_memories_of_a_caller_the_newer_wins(store):
    async def test(store):
        assert await store.load_memory("c", "a") is None
        first = CallerMemory(b"\x00first", 100.25)
        assert await store.save_memory("c", "a", first, LONG_S)
        assert not await store.save_memory("c", "a", CallerMemory(b"older", 100.0), LONG_S)
        assert await store.load_memory("c", "a") == first
        same = CallerMemory(b"same moment", 100.25)
        assert await store.save_memory("c", "a", same, LONG_S)
        assert await store.load_memory("c", "a") == same
        # Names that would meet if they were only put one behind the other.
        for caller, agent in (("c:a", "b"), ("c", "a:b"), ("c", "{a}"), ("{c}", "a")):
            memory = CallerMemory(f"{caller}|{agent}".encode(), 1.0)
            assert await store.save_memory(caller, agent, memory, LONG_S)
        for caller, agent in (("c:a", "b"), ("c", "a:b"), ("c", "{a}"), ("{c}", "a")):
            kept = await store.load_memory(caller, agent)
            assert kept is not None
            assert kept.body == f"{caller}|{agent}".encode()
        assert await store.delete_memory("c", "a")
        assert not await store.delete_memory("c", "a")
        assert await store.load_memory("c", "a") is None
        largest = CallerMemory(bytes(MEMORY_MAX_BYTES), 1.0)
        assert await store.save_memory("c", "a", largest, LONG_S)
        with pytest.raises(ValueError, match="the most is"):
            await store.save_memory("c", "a", CallerMemory(bytes(MEMORY_MAX_BYTES + 1), 1.0), LONG_S)
        with pytest.raises(ValueError, match="one caller"):
            await store.save_memory("", "a", first, LONG_S)

    store(test)


def test_a_memory_fades_at_its_time(store):
    async def test(store):
        await store.save_memory("c", "a", CallerMemory(b"short", 100.0), 0.02)
        await store.save_memory("c", "b", CallerMemory(b"long", 100.0), LONG_S)
        await until(lambda: has_faded(store))
        # What has faded is no longer newer than anything.
        assert await store.save_memory("c", "a", CallerMemory(b"older", 1.0), LONG_S)
        assert await store.load_memory("c", "b") is not None

    store(test)


def test_health_tells_of_a_store_that_was_closed(store, request):
    async def test(store):
        health = store.health
        assert (health.is_available, health.is_writable, health.trouble) == (True, True, "")
        await store.close()
        await store.close()
        if health.kind == "memory":
            return
        assert not store.health.is_available
        with pytest.raises(StoreUnavailableError) as raised:
            await store.load("x")
        assert not raised.value.retryable

    store(test)


def test_wrong_uses_are_value_errors(store):
    async def test(store):
        _, lease = await saved(store)
        with pytest.raises(ValueError, match="another session"):
            await store.save(record(new_id()), lease)
        for limit in (0, 501):
            with pytest.raises(ValueError, match="limit"):
                await store.list(limit=limit)

    store(test)
