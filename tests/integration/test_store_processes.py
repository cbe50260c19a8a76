"""Several processes on one store, some killed: nothing acknowledged is lost, and one owns a call."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastagent.errors import SessionConflictError
from tests.integration.redis_server import RedisServer
from tests.integration.stored_calls import SESSIONS
from tests.integration.stores import LONG_S, opened, record, until

ROOT = Path(__file__).parents[2]
KILLS = 20
TIMEOUT_S = 60


def process(*words: str, into: Path | None = None) -> subprocess.Popen[str]:
    with open(into or os.devnull, "w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.integration.stored_calls", *words],
            stdout=file if into else subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )


def test_killed_writers_lose_no_acknowledged_write(tmp_path):
    path = tmp_path / "sessions.db"
    rng = random.Random(4)
    acknowledged = dict.fromkeys(range(SESSIONS), 0)
    first = 0
    for kill in range(KILLS):
        writer = process("write", "sqlite", str(path), f"life-{kill}", str(first))
        assert writer.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, writer.kill)
        watchdog.start()
        # Killed behind a number of acknowledged writes: at some point of the next ones.
        for _ in range(rng.randrange(1, 60)):
            n, turn = map(int, writer.stdout.readline().split())
            acknowledged[n] = turn
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().splitlines(keepends=True):
            if line.endswith("\n") and len(line.split()) == 2:
                n, turn = map(int, line.split())
                acknowledged[n] = turn
        assert writer.wait(TIMEOUT_S) == -signal.SIGKILL
        watchdog.cancel()
        writer.stdout.close()

        async def check():
            async with opened("sqlite", path) as store:
                assert "quarantined" not in store.health.counters
                newest = 0
                for n, turn in acknowledged.items():
                    if not turn:
                        continue
                    stored = await store.load(f"call-{n}")
                    assert stored.turn_count >= turn
                    assert stored.snapshot == b"state %d " % stored.turn_count * 500
                    said = await store.transcript(f"call-{n}", after=turn - 1)
                    assert said
                    assert said[0].number == turn
                    newest = max(newest, stored.turn_count, said[-1].number)
                # No row of a dead process stays live.
                await store.reclaim()
                assert (await store.list(status="live")).total_count == 0
                return newest

        first = max(first, asyncio.run(check()))
    assert all(acknowledged.values())


@pytest.fixture(scope="module")
def redis_server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "redis"])
def shared(request, tmp_path):
    if request.param == "sqlite":
        return "sqlite", str(tmp_path / "sessions.db")
    server = request.getfixturevalue("redis_server")
    server.ask("FLUSHALL")
    return "redis", server.url


def test_two_processes_never_write_one_session_at_once(shared, tmp_path):
    kind, place = shared
    stop = tmp_path / "stop"
    said = {name: tmp_path / name for name in ("left", "right", "third")}
    rivals = [process("own", kind, place, name, str(stop), into=path) for name, path in said.items()]
    # Until each was the owner a few times, and one of them was overtaken.
    deadline = time.monotonic() + TIMEOUT_S
    texts = [""]
    while not (all(text.count("wrote") > 20 for text in texts) and any("lost" in text for text in texts)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        texts = [path.read_text() for path in said.values()]
    stop.touch()
    assert [rival.wait(TIMEOUT_S) for rival in rivals] == [0, 0, 0]
    told = {name: path.read_text().splitlines() for name, path in said.items()}
    wrote = {
        name: {int(line.split()[1]) for line in lines if line.startswith("wrote")}
        for name, lines in told.items()
    }
    everything = [fence for fences in wrote.values() for fence in fences]
    # Each fence belonged to one process.
    assert len(everything) == len(set(everything))

    async def check():
        async with opened(kind, place) as store:
            owner = {fence: name for name, fences in wrote.items() for fence in fences}
            newest = max(owner)
            stored = await store.load("contested")
            assert (stored.started_at_unix_s, stored.outcome) == (newest, owner[newest])
            after = 0
            while page := await store.transcript("contested", after=after):
                for line in page:
                    assert line.text.split()[0] == owner.get(line.number // 10, line.text.split()[0])
                after = page[-1].number

    asyncio.run(check())


def test_another_machine_goes_on_with_the_call_of_one_that_died(shared):
    kind, place = shared

    async def main():
        async with opened(kind, place) as one, opened(kind, place) as other:
            lease = await one.acquire("call", "one", 0.05)
            await one.save(record("call", caller_key="c", turn_count=5, snapshot=b"state"), lease)
            found = await until(lambda: other.find_interrupted("c"))
            assert found is not None
            taken = await other.acquire(found.session_id, "other", LONG_S)
            loaded = await other.load("call")
            assert (loaded.turn_count, loaded.snapshot) == (5, b"state")
            # The first was only frozen, and comes back.
            with pytest.raises(SessionConflictError):
                await one.save(record("call", turn_count=6), lease)
            with pytest.raises(SessionConflictError):
                await one.renew(lease, LONG_S)
            assert await one.find_interrupted("c") is None
            await other.save(record("call", caller_key="c", status="ended", turn_count=7), taken)
            assert (await one.load("call")).turn_count == 7

    asyncio.run(main())
