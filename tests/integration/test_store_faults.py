"""Redis that is frozen, killed, full, begun anew or fails over: live calls go on, and are stored after it."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from fastagent.errors import ConfigurationError, SessionNotFoundError, StoreUnavailableError
from fastagent.sessions import KeeperLimits, MemoryStore, SessionKeeper, SqliteStore, open_store
from fastagent.sessions.redis import RedisStore
from fastagent.sessions.redis_client import connect
from tests.integration.redis_server import LOOPBACK, RedisServer
from tests.integration.stores import HERE, LONG_S, THERE, lines, patient, record, until

TIMEOUT_S = 30.0
CALLS = 20
TURN_S = 0.02
PAUSE_LIMIT_S = 0.2
"""Less than one attempt at the store takes before it is given up."""


@pytest.fixture
def server():
    server = RedisServer()
    yield server
    server.close()


@dataclass
class Calls:
    """Calls that are written behind, and how long the loop was ever held up."""

    keeper: SessionKeeper
    turns: int = 0
    pauses_s: list[float] = field(default_factory=list)

    async def talk(self, until) -> None:
        """Have every call say and store something each 20 ms."""
        before = time.perf_counter()
        while not until():
            self.turns += 1
            for n in range(CALLS):
                self.keeper.say(f"call-{n}", lines(self.turns)[0])
                self.keeper.put(record(f"call-{n}", turn_count=self.turns))
            await asyncio.sleep(TURN_S)
            now = time.perf_counter()
            self.pauses_s.append(now - before - TURN_S)
            before = now

    async def talk_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        await self.talk(lambda: time.monotonic() > end)

    async def check_all_stored(self) -> None:
        for n in range(CALLS):
            assert await self.keeper.flush(f"call-{n}", TIMEOUT_S)
            stored = await self.keeper.store.load(f"call-{n}")
            assert stored.turn_count == self.turns
            said = await self.keeper.store.transcript(f"call-{n}", limit=500)
            assert [line.number for line in said] == list(range(1, self.turns + 1))
        assert self.keeper.counters["lines_dropped"] == 0
        assert self.keeper.counters["lost"] == 0
        assert not self.keeper.is_degraded
        # The store is never waited for; what is left is this machine's own business.
        self.pauses_s.sort()
        assert self.pauses_s[len(self.pauses_s) // 2] < PAUSE_LIMIT_S


@asynccontextmanager
async def calls_on(url, *, lease_ttl_s=LONG_S):
    store = RedisStore(url)
    await store.open()
    limits = KeeperLimits(lease_ttl_s=lease_ttl_s, last_retry_s=0.1)
    keeper = SessionKeeper(store, limits=limits)
    keeper.start()
    try:
        async with asyncio.timeout(120):
            yield Calls(keeper)
    finally:
        await keeper.close(5.0)
        await store.close()


def test_a_frozen_server_fails_at_once_and_calls_go_on(server, record_property):
    async def main():
        async with calls_on(server.url) as calls:
            await calls.talk_for(0.2)
            server.freeze()
            try:
                begun = time.monotonic()
                with pytest.raises(StoreUnavailableError, match="timeout"):
                    await calls.keeper.store.load("call-1")
                # One attempt of 0.25 s, not the client's ten of 7 s together.
                assert time.monotonic() - begun < 5.0
                assert not calls.keeper.store.health.is_available
                await calls.talk_for(1.0)
                assert calls.keeper.waiting >= CALLS
                assert not await calls.keeper.flush("call-1", 0.2)
            finally:
                server.thaw()
            await calls.check_all_stored()
            record_property(
                "loop_pause_p99_ms", round(calls.pauses_s[len(calls.pauses_s) * 99 // 100] * 1e3, 2)
            )
            assert calls.keeper.store.health.is_available

    asyncio.run(main())


def test_a_paused_server_holds_no_call_up(server):
    async def main():
        async with calls_on(server.url) as calls:
            await calls.talk_for(0.1)
            assert server.ask("CLIENT", "PAUSE", "800", "ALL") == "+OK"
            await calls.talk_for(1.0)
            assert calls.keeper.counters["retries"]
            await calls.check_all_stored()

    asyncio.run(main())


def test_a_server_that_lost_everything_gets_the_live_calls_again(server):
    async def main():
        async with calls_on(server.url, lease_ttl_s=1.0) as calls:
            await calls.talk_for(0.2)
            server.kill()
            await calls.talk_for(0.3)
            assert calls.keeper.store.health.trouble == "unreachable"
            server.start()
            for n in range(CALLS):
                assert await calls.keeper.flush(f"call-{n}", TIMEOUT_S)
            before = calls.keeper.counters["renewals"]
            await calls.talk(lambda: calls.keeper.counters["renewals"] >= before + CALLS)
            for n in range(CALLS):
                assert await calls.keeper.flush(f"call-{n}", TIMEOUT_S)
                assert (await calls.keeper.store.load(f"call-{n}")).turn_count == calls.turns
            assert calls.keeper.counters["lost"] == 0
            other = patient(server.url)
            for n in range(CALLS):
                assert (await other.list(status="live", limit=100)).total_count == CALLS
                with pytest.raises(Exception, match="owns it"):
                    await other.acquire(f"call-{n}", THERE, LONG_S)
            await other.close()

    asyncio.run(main())


def test_a_full_server_is_read_only_until_there_is_room(server):
    async def main():
        store = patient(server.url)
        await store.open()
        lease = await store.acquire("call", HERE, LONG_S)
        await store.save(record("call", turn_count=1), lease)
        assert server.ask("CONFIG", "SET", "maxmemory", "1") == "+OK"
        with pytest.raises(StoreUnavailableError, match="full"):
            await store.save(record("call", turn_count=2), lease)
        assert (await store.load("call")).turn_count == 1
        assert (store.health.is_available, store.health.is_writable) == (True, False)
        assert server.ask("CONFIG", "SET", "maxmemory", "0") == "+OK"
        await store.save(record("call", turn_count=3), lease)
        assert store.health.is_writable
        await store.close()

    asyncio.run(main())


def test_a_server_turned_replica_takes_no_writes(server):
    async def main():
        store = patient(server.url)
        await store.open()
        lease = await store.acquire("call", HERE, LONG_S)
        await store.save(record("call"), lease)
        server.ask("REPLICAOF", LOOPBACK, "1")
        with pytest.raises(StoreUnavailableError, match="read_only"):
            await store.save(record("call"), lease)
        server.ask("REPLICAOF", "NO", "ONE")
        await store.save(record("call"), lease)
        await store.close()

    asyncio.run(main())


def test_everything_has_a_time_to_live_and_the_index_follows(server):
    async def main():
        store = patient(server.url, retention_s=0.4)
        await store.open()
        for n in range(30):
            lease = await store.acquire(f"call-{n}", HERE, LONG_S)
            await store.save(record(f"call-{n}", caller_key=f"c{n}"), lease)
            await store.append_transcript(f"call-{n}", lines(1), lease)
        client = store._redis
        for key in await client.keys("*"):
            assert await client.pttl(key) not in (-1,), key
        await until(lambda: is_empty(store))
        with pytest.raises(SessionNotFoundError):
            await store.load("call-1")
        await until(lambda: has_only_leases(client))
        await store.close()

    asyncio.run(main())


def test_an_index_that_is_behind_is_put_right_when_it_is_met(server):
    async def main():
        store = patient(server.url)
        await store.open()
        client = store._redis
        for n in range(12):
            lease = await store.acquire(f"call-{n}", HERE, LONG_S)
            await store.save(record(f"call-{n}", caller_key="c", started_at_unix_s=float(n)), lease)
            await store.release(lease)
        # As if the process had died between a session and its place in the index.
        for n in (0, 5, 11):
            await client.delete(f"fastagent:{{call-{n}}}:record")
        index, store._index = store._index, forget_it
        for n in (1, 6):
            ended = record(f"call-{n}", caller_key="c", status="ended", started_at_unix_s=float(n))
            await store.save(ended, await store.acquire(f"call-{n}", HERE, LONG_S))
        store._index = index
        found, cursor = [], ""
        while True:
            page = await store.list(status="live", limit=2, cursor=cursor)
            found += [one.session_id for one in page.records]
            cursor = page.next_cursor
            if not cursor:
                break
        assert found == ["call-10", "call-9", "call-8", "call-7", "call-4", "call-3", "call-2"]
        assert (await store.list(status="live")).total_count == 7
        assert store.health.counters["index_dropped"] == 3
        assert store.health.counters["index_repaired"] == 2
        assert {one.session_id for one in (await store.list(status="ended")).records} == {"call-1", "call-6"}
        for n in (0, 5, 11):
            await client.delete(f"fastagent:{{call-{n}}}:lease")
        assert await store.reclaim() == 7
        assert (await store.list(status="interrupted")).total_count == 7
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    [
        "http://:pass-word@host/0",
        "redis://:pass-word@host:port/0",
        "redis://:pass-word@host/zero",
        "redis+sentinel://:pass-word@host:26379",
        "redis+sentinel://:pass-word@host:x/service",
        "redis+sentinel://:pass-word@host/service/-1",
    ],
)
def test_a_url_that_cannot_work_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError) as raised:
        asyncio.run(open_store(url))
    assert "pass-word" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_place_says_which_store(server, tmp_path):
    async def main():
        for place, kind in (
            ("", MemoryStore),
            (str(tmp_path / "a.db"), SqliteStore),
            (tmp_path / "b.db", SqliteStore),
            (server.url + "/3", RedisStore),
        ):
            store = await open_store(place)
            assert isinstance(store, kind)
            lease = await store.acquire("call", HERE, LONG_S)
            await store.save(record("call"), lease)
            await store.close()

    asyncio.run(main())


def test_a_server_that_is_not_there_yet_is_no_error(server):
    server.kill()

    async def main():
        store = await open_store(server.url)
        assert not store.health.is_available
        server.start()
        await store.acquire("call", HERE, LONG_S)
        assert store.health.is_available
        await store.close()

    asyncio.run(main())


def test_passwords_and_unix_sockets_are_understood():
    server = RedisServer("--requirepass", "pass/word")
    try:

        async def main():
            for url in (
                f"redis://:pass%2Fword@{LOOPBACK}:{server.port}/1",
                f"unix://{server.socket_path}?db=1&password=pass/word",
            ):
                store = await open_store(url)
                await store.acquire("call", HERE, LONG_S)
                await store.close()
            wrong = await open_store(f"redis://:wrong@{LOOPBACK}:{server.port}")
            assert wrong.health.trouble == "refused"
            await wrong.close()

        asyncio.run(main())
    finally:
        server.close()


def test_sentinels_are_asked_once_for_all_who_want_to_know(monkeypatch):
    asked = 0

    async def discover(self, service_name):
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.02)
        return LOOPBACK, asked

    monkeypatch.setattr("redis.asyncio.sentinel.Sentinel.discover_master", discover)

    async def main():
        client, closing = connect("redis+sentinel://host:1,host:2,host:3/calls")
        sentinels = client.connection_pool.sentinel_manager
        waiting = [asyncio.create_task(sentinels.discover_master("calls")) for _ in range(20)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert found[1:] == [(LOOPBACK, 1)] * 19
        assert await sentinels.discover_master("calls") == (LOOPBACK, 2)
        for close in closing:
            await close()

    asyncio.run(main())


def test_calls_outlive_a_failover(record_property):
    master = RedisServer()
    replica = RedisServer("--replicaof", LOOPBACK, str(master.port))
    servers = [master, replica]
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not is_replicating(replica):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        watch = (
            f"sentinel monitor calls {LOOPBACK} {master.port} 2\n"
            "sentinel down-after-milliseconds calls 1000\nsentinel failover-timeout calls 4000\n"
        )
        servers += [RedisServer(sentinel=watch) for _ in range(3)]
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in servers[2:])

        async def main():
            async with calls_on(f"redis+sentinel://{hosts}/calls") as calls:
                await calls.talk_for(0.3)
                while not all(knows_everybody(one) for one in servers[2:]):
                    await calls.talk_for(0.1)
                for n in range(CALLS):
                    assert await calls.keeper.flush(f"call-{n}", TIMEOUT_S)
                writes = calls.keeper.counters["writes"]
                master.kill()
                killed_at = time.monotonic()
                await calls.talk(lambda: calls.keeper.counters["writes"] > writes + CALLS)
                record_property("outage_s", round(time.monotonic() - killed_at, 2))
                assert time.monotonic() - killed_at < TIMEOUT_S
                for n in range(CALLS):
                    assert await calls.keeper.flush(f"call-{n}", TIMEOUT_S)
                    assert (await calls.keeper.store.load(f"call-{n}")).turn_count == calls.turns
                assert calls.keeper.counters["lost"] == calls.keeper.counters["lines_dropped"] == 0

        asyncio.run(main())
    finally:
        for one in servers:
            one.close()


def test_a_late_place_in_the_index_does_not_undo_a_newer_one(server):
    async def main():
        store = patient(server.url)
        lease = await store.acquire("call", HERE, LONG_S)
        await store.save(record("call", status="ended"), lease)
        await store._index(record("call", status="live"), 1)
        # Asked without the store, which would put it right.
        assert await store._redis.zcard("fastagent:{index}:status:live") == 0
        assert await store._redis.zcard("fastagent:{index}:status:ended") == 1
        await store.close()

    asyncio.run(main())


def test_a_save_keeps_the_transcript_as_long_as_the_session(server):
    async def main():
        store = patient(server.url)
        lease = await store.acquire("call", HERE, LONG_S)
        await store.append_transcript("call", lines(1), lease)
        await store._redis.pexpire("fastagent:{call}:lines", 5_000)
        await store.save(record("call"), lease)
        assert await store._redis.pttl("fastagent:{call}:lines") > 1_000_000
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["redis://host", "unix:///socket", "redis+sentinel://host/calls"])
def test_nothing_is_tried_twice_behind_our_back(url):
    pool = connect(url)[0].connection_pool
    options = [pool.connection_kwargs]
    if "sentinel" in url:
        options += [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    for given in options:
        assert given["retry"].get_retries() == 0
        assert given["socket_timeout"] == given["socket_connect_timeout"] == 0.25


async def is_empty(store) -> bool:
    return (await store.list(limit=100)).total_count == 0


async def has_only_leases(client) -> bool:
    return all(key.endswith(b":lease") for key in await client.keys("*"))


async def forget_it(record, version) -> None:
    pass


def is_replicating(replica: RedisServer) -> bool:
    return "master_link_status:up" in replica.ask_all("INFO", "replication")


def knows_everybody(sentinel: RedisServer) -> bool:
    words = sentinel.ask_all("INFO", "sentinel")
    return "slaves=1,sentinels=3" in words and "status=ok" in words
