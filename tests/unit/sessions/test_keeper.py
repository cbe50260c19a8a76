"""The keeper: calls never wait, what `flush` acknowledged is stored, and a lost session is told of once."""

import asyncio
import threading

import pytest

from fastagent.errors import SessionConflictError, SessionNotFoundError, StoreUnavailableError
from fastagent.sessions import KeeperLimits, MemoryStore, SessionKeeper, SessionRecord, TranscriptLine
from fastagent.sessions.record import SNAPSHOT_MAX_BYTES

QUICK = KeeperLimits(first_retry_s=0.001, last_retry_s=0.005)
TIMEOUT_S = 20.0


class AwayStore(MemoryStore):
    """Refuses while it is away, and can be held up; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.gate: asyncio.Event | None = None
        self.saves: list[SessionRecord] = []
        self.asked = 0

    async def _reach(self):
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailableError("test", "away")

    async def acquire(self, session_id, owner_process, ttl_s):
        await self._reach()
        return await super().acquire(session_id, owner_process, ttl_s)

    async def renew(self, lease, ttl_s):
        await self._reach()
        await super().renew(lease, ttl_s)

    async def release(self, lease):
        await self._reach()
        await super().release(lease)

    async def append_transcript(self, session_id, lines, lease):
        await self._reach()
        await super().append_transcript(session_id, lines, lease)

    async def save(self, record, lease):
        await self._reach()
        await super().save(record, lease)
        self.saves.append(record)


def record(n: int = 0, session_id: str = "call", **fields) -> SessionRecord:
    return SessionRecord(
        session_id=session_id,
        agent_id="a",
        started_at_unix_s=1.0,
        updated_at_unix_s=1.0 + n,
        turn_count=n,
        **fields,
    )


def line(number: int, text: str = "words") -> TranscriptLine:
    return TranscriptLine(number, 1.0, "caller", text)


def run(test, *, limits=QUICK, **options):
    async def main():
        store = AwayStore()
        lost: list[str] = []
        keeper = SessionKeeper(store, limits=limits, on_lost=lost.append, **options)
        keeper.start()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await test(keeper, store, lost)
        finally:
            await keeper.close(0.1)

    asyncio.run(main())


async def until(claim):
    while not claim():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.001)


def test_only_the_newest_record_is_written_with_every_line():
    async def test(keeper, store, lost):
        store.gate = asyncio.Event()
        for n in range(1, 50):
            keeper.put(record(n))
            keeper.say("call", line(n))
        assert not await keeper.flush("call", 0.01)
        store.gate.set()
        assert await keeper.flush("call", TIMEOUT_S)
        assert len(store.saves) <= 2
        assert (await store.load("call")).turn_count == 49
        assert len(await store.transcript("call")) == 49
        assert (keeper.waiting, keeper.is_degraded) == (0, False)

    run(test)


def test_a_store_that_is_away_loses_nothing_and_holds_nobody_up():
    async def test(keeper, store, lost):
        store.is_away = True
        for n in range(1, 200):
            keeper.put(record(n), snapshot=lambda n=n: b"state %d" % n)
            keeper.say("call", line(n))
            keeper.put(record(n, f"call-{n}"))
        await until(lambda: keeper.counters["retries"] > 20)
        assert keeper.waiting == 199 + 200
        assert not await keeper.flush("call", 0.005)
        store.is_away = False
        assert all([await keeper.flush(f"call-{n}", TIMEOUT_S) for n in range(1, 200)])
        assert await keeper.flush("call", TIMEOUT_S)
        loaded = await store.load("call")
        assert (loaded.turn_count, loaded.snapshot) == (199, b"state 199")
        assert [one.number for one in await store.transcript("call")] == list(range(1, 200))
        assert lost == []

    run(test)


def test_pauses_between_tries_grow_and_a_flush_does_not_wait_for_them():
    async def test(keeper, store, lost):
        store.is_away = True
        keeper.put(record(1))
        await until(lambda: keeper.counters["retries"] == 1)
        store.is_away = False
        await asyncio.sleep(0.01)
        assert store.saves == []
        begun = asyncio.get_running_loop().time()
        assert await keeper.flush("call", TIMEOUT_S)
        assert asyncio.get_running_loop().time() - begun < 5.0

    run(test, limits=KeeperLimits(first_retry_s=60.0, last_retry_s=60.0))


def test_the_oldest_lines_go_when_too_many_wait():
    async def test(keeper, store, lost):
        store.is_away = True
        for n in range(1, 31):
            keeper.say("call", line(n))
            assert keeper.is_degraded == (n > 19)
        keeper.put(record(7))
        assert keeper.counters["lines_dropped"] == 11
        store.is_away = False
        assert await keeper.flush("call", TIMEOUT_S)
        assert [one.number for one in await store.transcript("call")] == list(range(12, 31))
        assert (await store.load("call")).turn_count == 7
        assert not keeper.is_degraded

    run(test, limits=KeeperLimits(waiting_max=20, first_retry_s=0.001, last_retry_s=0.005))


def test_the_oldest_lines_go_when_they_are_too_long_together():
    async def test(keeper, store, lost):
        store.is_away = True
        for n in range(1, 11):
            keeper.say(f"call-{n % 2}", line(n, "w" * 1000))
        assert keeper.counters["lines_dropped"] == 6
        store.is_away = False
        assert await keeper.flush("call-0", TIMEOUT_S)
        assert await keeper.flush("call-1", TIMEOUT_S)
        kept = [one.number for n in (0, 1) for one in await store.transcript(f"call-{n}")]
        assert kept == [8, 10, 7, 9]

    run(test, limits=KeeperLimits(waiting_bytes_max=4_500, first_retry_s=0.001, last_retry_s=0.005))


def test_waiting_for_long_is_degraded_until_it_is_written():
    now = [0.0]

    async def test(keeper, store, lost):
        store.is_away = True
        keeper.put(record(1))
        await until(lambda: store.asked)
        assert not keeper.is_degraded
        now[0] = 30.5
        assert keeper.is_degraded
        store.is_away = False
        assert await keeper.flush("call", TIMEOUT_S)
        assert not keeper.is_degraded

    run(test, clock=lambda: now[0])


def test_a_session_that_another_process_took_is_told_of_once_and_written_no_more():
    async def test(keeper, store, lost):
        keeper.put(record(1))
        assert await keeper.flush("call", TIMEOUT_S)
        await store.delete("call")
        theirs = await store.acquire("call", "there", 60)
        await store.save(record(100), theirs)
        keeper.put(record(2))
        keeper.say("call", line(1))
        assert not await keeper.flush("call", TIMEOUT_S)
        assert lost == ["call"]
        keeper.put(record(3))
        keeper.say("call", line(2))
        assert keeper.waiting == 0
        assert not await keeper.flush("call", TIMEOUT_S)
        keeper.release("call")
        assert (await store.load("call")).turn_count == 100
        assert await store.transcript("call") == ()
        await store.renew(theirs, 60)
        assert (lost, keeper.counters["lost"]) == (["call"], 1)

    run(test)


def test_a_new_call_whose_session_another_process_owns_is_lost():
    async def test(keeper, store, lost):
        await store.acquire("call", "there", 60)
        keeper.begin("call")
        await until(lambda: lost)
        assert lost == ["call"]

    run(test)


def test_a_failing_callback_stops_no_writing():
    async def test(keeper, store, lost):
        def fail(session_id):
            raise RuntimeError("not ours")

        keeper._on_lost = fail
        await store.acquire("call", "there", 60)
        keeper.begin("call")
        keeper.put(record(1, "other"))
        assert await keeper.flush("other", TIMEOUT_S)
        await until(lambda: keeper.counters["callbacks_failed"])

    run(test)


def test_leases_are_renewed_also_after_the_store_was_away():
    async def test(keeper, store, lost):
        keeper.begin("call")
        await until(lambda: keeper.counters["renewals"] > 2)
        with pytest.raises(SessionConflictError):
            await store.acquire("call", "there", 60)
        store.is_away = True
        await until(lambda: keeper.counters["renewals_failed"] > 2)
        store.is_away = False
        before = keeper.counters["renewals"]
        await until(lambda: keeper.counters["renewals"] > before)
        assert lost == []
        await store.delete("call")
        await until(lambda: lost)

    run(test, limits=KeeperLimits(lease_ttl_s=0.15, first_retry_s=0.001, last_retry_s=0.005))


def test_a_released_session_is_written_first_and_may_be_taken_by_anybody():
    async def test(keeper, store, lost):
        keeper.put(record(5, status="interrupted"), snapshot=lambda: b"state")
        keeper.say("call", line(1))
        keeper.release("call")
        await until(lambda: not keeper._kept)
        assert (await store.load("call")).snapshot == b"state"
        other = SessionKeeper(store)
        assert (await other.take("call")).turn_count == 5
        with pytest.raises(SessionConflictError):
            await keeper.take("call")
        await other.close(0.1)

    run(test)


def test_taking_what_is_not_there_owns_nothing():
    async def test(keeper, store, lost):
        with pytest.raises(SessionNotFoundError):
            await keeper.take("call")
        await store.acquire("call", "there", 60)
        store.is_away = True
        with pytest.raises(StoreUnavailableError):
            await keeper.take("other")

    run(test)


def test_taking_waits_for_the_lease_of_a_dead_process():
    async def test(keeper, store, lost):
        lease = await store.acquire("call", "dead", 0.25)
        await store.save(record(3), lease)
        with pytest.raises(SessionConflictError):
            await keeper.take("call")
        assert (await keeper.take("call", wait_s=TIMEOUT_S)).turn_count == 3
        with pytest.raises(SessionConflictError):
            await store.save(record(4), lease)

    run(test)


def test_a_session_taken_again_here_goes_on_with_the_new_lease():
    async def test(keeper, store, lost):
        keeper.put(record(1))
        assert await keeper.flush("call", TIMEOUT_S)
        store.gate = asyncio.Event()
        keeper.put(record(2))
        await until(lambda: not keeper._dirty)
        gate, store.gate = store.gate, None
        taken = await keeper.take("call")
        assert taken.turn_count == 1
        gate.set()  # the write under way has the older lease
        assert await keeper.flush("call", TIMEOUT_S)
        assert (await store.load("call")).turn_count == 2
        assert lost == []

    run(test)


def test_large_snapshots_are_encoded_off_the_loop_and_small_ones_at_once():
    threads: list[threading.Thread] = []

    def encode(size):
        threads.append(threading.current_thread())
        return bytes(size)

    async def test(keeper, store, lost):
        for n, size in enumerate((10, 10, 100_000, 10, 10)):
            keeper.put(record(n), snapshot=lambda size=size: encode(size))
            assert await keeper.flush("call", TIMEOUT_S)
        here = threading.current_thread()
        # The first may be of any size; a size is known by the one before.
        assert [thread is here for thread in threads] == [False, True, True, False, True]

    run(test)


@pytest.mark.parametrize("snapshot", [lambda: 1 // 0, lambda: bytes(SNAPSHOT_MAX_BYTES + 1)])
def test_a_snapshot_that_cannot_be_made_leaves_the_one_before(snapshot):
    async def test(keeper, store, lost):
        keeper.put(record(1), snapshot=lambda: b"good")
        assert await keeper.flush("call", TIMEOUT_S)
        keeper.put(record(2), snapshot=snapshot)
        assert await keeper.flush("call", TIMEOUT_S)
        loaded = await store.load("call")
        assert (loaded.turn_count, loaded.snapshot) == (2, b"good")
        assert keeper.counters["snapshots_failed"] == 1

    run(test)


def test_a_snapshot_that_waits_goes_with_the_record_that_comes_after():
    async def test(keeper, store, lost):
        store.is_away = True
        keeper.put(record(1), snapshot=lambda: b"state")
        await until(lambda: keeper.counters["retries"])
        keeper.put(record(2))
        store.is_away = False
        assert await keeper.flush("call", TIMEOUT_S)
        loaded = await store.load("call")
        assert (loaded.turn_count, loaded.snapshot) == (2, b"state")

    run(test)


def test_a_write_that_can_never_succeed_is_not_tried_for_ever():
    async def test(keeper, store, lost):
        async def wrong(record, lease):
            raise ValueError("somebody's mistake")

        save, store.save = store.save, wrong
        keeper.put(record(1))
        await until(lambda: keeper.counters["writes_failed"])
        store.save = save
        keeper.put(record(2))
        assert await keeper.flush("call", TIMEOUT_S)
        assert (await store.load("call")).turn_count == 2

    run(test)


def test_closing_writes_what_waits_and_gives_leases_up():
    async def main():
        store = AwayStore()
        keeper = SessionKeeper(store, limits=QUICK)
        keeper.start()
        for n in range(100):
            keeper.put(record(n, f"call-{n}"))
            keeper.say(f"call-{n}", line(1))
        assert await keeper.close(TIMEOUT_S)
        for n in range(100):
            assert (await store.load(f"call-{n}")).turn_count == n
            await store.acquire(f"call-{n}", "there", 60)

        away = SessionKeeper(store, limits=QUICK)
        away.start()
        store.is_away = True
        away.put(record(1))
        assert not await away.close(0.05)
        assert away.counters["sessions_not_stored"] == 1
        # Nothing runs on, also where nothing was ever started.
        assert len(asyncio.all_tasks()) == 1
        assert await SessionKeeper(store).close(0.1)

    asyncio.run(main())
