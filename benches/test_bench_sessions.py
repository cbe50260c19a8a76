"""Bench: what a store takes to own, save and load a session, and what a call pays for having it kept.

A session is that of a call in the middle: a record and a snapshot of 4 KiB. On the disk each save is synced;
Redis runs on this machine without persistence. The keeper's figure is all that a call ever waits for.
"""

import asyncio
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import payload
from fastagent.errors import StoreUnavailableError
from fastagent.sessions import (
    Lease,
    MemoryStore,
    SessionKeeper,
    SessionRecord,
    SessionStore,
    TranscriptLine,
    open_store,
)

SNAPSHOT_BYTES = 4096
CALLS = 50
LONG_S = 3600.0
START_TIMEOUT_S = 20.0
ROUNDS = 20


def record(session_id: str, turn: int) -> SessionRecord:
    return SessionRecord(
        session_id=session_id,
        agent_id="bookings",
        owner="principal:7",
        caller_key="k" * 64,
        carrier="audiocodes",
        started_at_unix_s=1_000.0,
        updated_at_unix_s=1_000.0 + turn,
        current_state="collect_date",
        turn_count=turn,
        journal_entries=4 * turn,
        journal_hash="f" * 64,
        graph_hashes={"book": "a" * 64},
        snapshot=payload(SNAPSHOT_BYTES),
    )


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    if request.param != "redis":
        yield "" if request.param == "memory" else tmp_path / "sessions.db"
        return
    directory = Path(tempfile.mkdtemp(prefix="fastagent-redis-"))
    socket_path = directory / "redis.sock"
    words = ["--port", "0", "--unixsocket", str(socket_path), "--dir", str(directory), "--save", ""]
    server = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not socket_path.exists():
        assert time.monotonic() < deadline
        assert server.poll() is None
        time.sleep(0.01)
    try:
        yield f"unix://{socket_path}"
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


def kind_of(place: str | Path) -> str:
    return "sqlite" if isinstance(place, Path) else "redis" if place else "memory"


def measure(
    benchmark: BenchmarkFixture,
    place: str | Path,
    subject: str,
    prepare: Callable[[SessionStore], Awaitable[None]],
    act: Callable[[SessionStore, int], Awaitable[int]],
) -> None:
    """Time ``act``, which gives how many steps it took: one after the other, unless it does some at once."""
    benchmark.group = f"sessions {subject} {kind_of(place)}"
    loop = asyncio.new_event_loop()
    numbers = itertools.count(1)
    try:
        store = loop.run_until_complete(open_store(place))
        loop.run_until_complete(prepare(store))
        steps = loop.run_until_complete(act(store, 0))
        benchmark.extra_info.update(subject=benchmark.group, unit="session", units_per_call=steps)
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: loop.run_until_complete(act(store, next(numbers))), iterations=1, rounds=ROUNDS
        )
        assert store.health.is_writable
        loop.run_until_complete(store.close())
    finally:
        loop.close()


async def own_all(store: SessionStore) -> None:
    for n in range(CALLS):
        lease = await store.acquire(f"call-{n}", "bench", LONG_S)
        await store.save(record(f"call-{n}", 1), lease)


def test_acquire(benchmark: BenchmarkFixture, place: str | Path) -> None:
    async def act(store: SessionStore, round_: int) -> int:
        for n in range(CALLS):
            lease = await store.acquire(f"call-{n}", "bench", LONG_S)
        assert lease.fence > round_
        return CALLS

    measure(benchmark, place, "acquire", own_all, act)


def test_save(benchmark: BenchmarkFixture, place: str | Path) -> None:
    async def act(store: SessionStore, round_: int) -> int:
        lease = await store.acquire("call-1", "bench", LONG_S)
        for turn in range(CALLS):
            await store.save(record("call-1", turn), lease)
        assert (await store.load("call-1")).turn_count == CALLS - 1
        return CALLS

    measure(benchmark, place, "save", own_all, act)


def test_save_of_all_calls_at_once(benchmark: BenchmarkFixture, place: str | Path) -> None:
    async def act(store: SessionStore, round_: int) -> int:
        async def save(n: int) -> None:
            lease = await store.acquire(f"call-{n}", "bench", LONG_S)
            await store.save(record(f"call-{n}", round_), lease)

        await asyncio.gather(*map(save, range(CALLS)))
        return CALLS

    measure(benchmark, place, "acquire and save at once", own_all, act)


def test_load(benchmark: BenchmarkFixture, place: str | Path) -> None:
    async def act(store: SessionStore, round_: int) -> int:
        for n in range(CALLS):
            loaded = await store.load(f"call-{n}")
        assert loaded.snapshot == payload(SNAPSHOT_BYTES)
        return CALLS

    measure(benchmark, place, "load", own_all, act)


def test_keeper(benchmark: BenchmarkFixture) -> None:
    """What a turn of a call pays: its record put and two lines said, while the store is away."""
    benchmark.group = "sessions keeper"
    benchmark.extra_info.update(subject="sessions keeper turn", unit="turn", units_per_call=1_000)

    class Away(MemoryStore):
        async def acquire(self, session_id: str, owner_process: str, ttl_s: float) -> Lease:
            raise StoreUnavailableError("bench", "away")

    loop = asyncio.new_event_loop()
    turns = itertools.count(1)
    keeper = SessionKeeper(Away())

    def thousand_turns() -> None:
        for _ in range(1_000):
            turn = next(turns)
            keeper.put(one)
            keeper.say("call-1", TranscriptLine(2 * turn - 1, 1.0, "caller", "on friday at half past nine"))
            keeper.say("call-1", TranscriptLine(2 * turn, 1.0, "agent", "on friday then, at half past nine"))

    one = record("call-1", 1)
    thousand_turns()
    assert keeper.waiting == 2_001
    benchmark.pedantic(thousand_turns, iterations=1, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    loop.close()
