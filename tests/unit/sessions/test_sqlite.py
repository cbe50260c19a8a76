"""The SQLite file: migrations, damage, a full disk, other programs and other processes."""

import asyncio
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fastagent.errors import (
    ConfigurationError,
    SessionConflictError,
    SessionError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from fastagent.sessions import CallerMemory, SessionRecord, SqliteStore, TranscriptLine
from fastagent.sessions.record import encode_record
from fastagent.sessions.sqlite import MIGRATIONS, BootClock, _seal

LONG_S = 60.0
ROOT = Path(__file__).parents[3]


def record(session_id: str = "call", **fields) -> SessionRecord:
    return SessionRecord(
        session_id=session_id, agent_id="a", started_at_unix_s=1.0, updated_at_unix_s=1.0, **fields
    )


def run(path, test, **options):
    async def main():
        store = SqliteStore(path, **options)
        await store.open()
        try:
            async with asyncio.timeout(60):
                return await test(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def fill(store, count=1, snapshot=b"state" * 50):
    for n in range(count):
        lease = await store.acquire(f"call-{n}", "here", LONG_S)
        await store.save(record(f"call-{n}", snapshot=snapshot, turn_count=n), lease)
        await store.append_transcript(f"call-{n}", [TranscriptLine(1, 1.0, "caller", f"words {n}")], lease)
        await store.release(lease)


def overwrite(path):
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(bytes(path.stat().st_size - 100))


def test_file_is_for_its_owner_alone_synced_and_logged_ahead(tmp_path):
    path = tmp_path / "made" / "sessions.db"

    async def test(store):
        await fill(store)
        for name in ("sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db.lock"):
            assert stat.S_IMODE(os.stat(path.parent / name).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700

        def ask(connection):
            return [
                connection.execute(f"pragma {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "busy_timeout", "user_version")
            ]

        assert await store._thread.read(ask) == ["wal", 2, 250, len(MIGRATIONS)]

    run(path, test)


def test_older_file_is_brought_up_to_date_and_keeps_what_it_has(tmp_path):
    path = tmp_path / "sessions.db"
    kept = record("old", caller_key="c", status="interrupted", snapshot=b"state")
    with sqlite3.connect(path) as connection:
        connection.executescript(f"{MIGRATIONS[0]}; pragma user_version = 1;")
        connection.execute(
            "insert into sessions values (?, ?, ?, ?, ?, ?, ?, ?)",
            ("old", "a", "c", "interrupted", 1.0, 1.0, _seal(encode_record(kept)), _seal(b"state")),
        )
        connection.execute("insert into fences values ('old', 'long gone', 7, 'another boot', 1e9, 1.0)")
    connection.close()

    async def test(store):
        assert store.health.counters["migrated"] == len(MIGRATIONS) - 1
        assert await store.load("old") == kept
        assert await store.find_interrupted("c") == replace(kept, snapshot=None)
        lease = await store.acquire("old", "here", LONG_S)
        assert lease.fence == 8
        assert await store.save_memory("c", "a", CallerMemory(b"m", 1.0), LONG_S)

    run(path, test)

    async def again(store):
        assert "migrated" not in store.health.counters
        assert await store.load_memory("c", "a") == CallerMemory(b"m", 1.0)

    run(path, again)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"pragma user_version = {len(MIGRATIONS) + 1}", "newer release"),
        ("create table bookmarks (url text)", "another program"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path, script, reason):
    path = tmp_path / "sessions.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()

    async def never(store):
        raise AssertionError

    with pytest.raises(ConfigurationError, match=reason):
        run(path, never)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_corrupt_file_is_moved_aside_and_resuming_from_it_is_refused(tmp_path, caplog):
    path = tmp_path / "sessions.db"
    run(path, lambda store: fill(store, 50))
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 100))
    (tmp_path / "sessions.db-wal").write_bytes(b"rest of a log")

    async def test(store):
        assert store.health.counters["quarantined"] == 1
        with pytest.raises(SessionNotFoundError):
            await store.load("call-1")
        await fill(store, 2)
        assert (await store.list()).total_count == 2

    run(path, test)
    (aside,) = tmp_path.glob("*.corrupt-*")
    assert aside.read_bytes()[:100] == content[:100]
    assert "moved aside" in caplog.text
    run(path, lambda store: fill(store, 1))
    assert list(tmp_path.glob("*.corrupt-*")) == [aside]


def test_file_that_turns_corrupt_under_a_running_store_is_moved_aside(tmp_path):
    path = tmp_path / "sessions.db"

    async def test(store):
        await fill(store, 50)
        await store._thread.write(lambda connection: None)
        await store._thread.read(
            lambda connection: connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        )
        overwrite(path)
        # What SQLite has read is right still; it reads anew what another process may have changed.
        with pytest.raises(StoreUnavailableError):
            await store._thread.write(
                lambda connection: (
                    connection.execute("pragma shrink_memory")
                    and connection.execute("select count(*) from lines, sessions").fetchone()
                )
            )
        assert store.health.trouble == "corrupt"
        await fill(store, 1)
        assert store.health.trouble == ""
        assert store.health.counters["quarantined"] == 1

    run(path, test)


def test_flipped_bytes_never_give_wrong_sessions(tmp_path):
    whole = tmp_path / "whole.db"
    count = 40
    run(whole, lambda store: fill(store, count))
    rng = random.Random(7)
    seen = {"right": 0, "refused": 0, "aside": 0}
    for round_ in range(60):
        path = tmp_path / f"flipped-{round_}.db"
        shutil.copy(whole, path)
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 4))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

        async def test(store):
            for n in range(count):
                try:
                    loaded = await store.load(f"call-{n}")
                    said = await store.transcript(f"call-{n}")
                except (SessionError, StoreUnavailableError):
                    seen["refused"] += 1
                    continue
                assert loaded == record(f"call-{n}", snapshot=b"state" * 50, turn_count=n)
                assert said in ((), (TranscriptLine(1, 1.0, "caller", f"words {n}"),))
                seen["right"] += 1
            await store.list(limit=100)
            lease = await store.acquire("new", "here", LONG_S)
            await store.save(record("new"), lease)
            assert await store.load("new") == record("new")
            seen["aside"] += store.health.counters.get("quarantined", 0)

        try:
            run(path, test)
        except ConfigurationError:
            # The flip made it another program's file, or a newer one: refused, not touched.
            seen["refused"] += 1
    assert all(seen.values())


def test_writer_of_another_process_is_waited_for_briefly_while_reads_go_on(tmp_path):
    path = tmp_path / "sessions.db"

    async def test(store):
        await fill(store)
        lease = await store.acquire("call", "here", LONG_S)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(StoreUnavailableError, match="busy"):
            await store.save(record(), lease)
        assert 0.2 < loop.time() - begun < 3
        assert (await store.load("call-0")).turn_count == 0
        assert store.health.trouble == "busy"
        assert not store.health.is_writable
        other.execute("rollback")
        other.close()
        await store.save(record(), lease)
        assert store.health.is_writable

    run(path, test)


def test_full_disk_makes_it_read_only_until_there_is_room(tmp_path, caplog):
    path = tmp_path / "sessions.db"

    async def test(store):
        await fill(store, 5)
        lease = await store.acquire("big", "here", LONG_S)
        pages = await store._thread.read(
            lambda connection: connection.execute("pragma page_count").fetchone()[0]
        )
        await store._thread.read(
            lambda connection: connection.execute(f"pragma max_page_count = {pages + 3}").fetchone()
        )
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="disk_full") as raised:
                await store.save(record("big", snapshot=bytes(100_000)), lease)
            assert raised.value.retryable
        assert (store.health.is_available, store.health.is_writable) == (True, False)
        assert store.health.trouble == "disk_full"
        assert caplog.text.count("not writable: disk_full") == 1
        assert (await store.load("call-4")).turn_count == 4
        with pytest.raises(SessionNotFoundError):
            await store.load("big")
        await store._thread.read(
            lambda connection: connection.execute("pragma max_page_count = 100000").fetchone()
        )
        await store.save(record("big", snapshot=bytes(100_000)), lease)
        assert store.health.is_writable
        assert (
            await store._thread.read(
                lambda connection: connection.execute("pragma integrity_check").fetchone()[0]
            )
            == "ok"
        )

    run(path, test)


FILE_LIMIT = """
import asyncio, resource, sys
from fastagent.errors import StoreUnavailableError
from fastagent.sessions import SessionRecord, SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    lease = await store.acquire("call", "here", 60)
    refused = kept = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    for n in range(1, 60):
        try:
            await store.save(SessionRecord(session_id="call", agent_id="a", started_at_unix_s=1.0,
                updated_at_unix_s=1.0, turn_count=n, snapshot=bytes(20_000 * n % 700_000)), lease)
            kept = n
        except StoreUnavailableError:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (await store.load("call")).turn_count == kept
    print(kept, refused)
    await store.close()

asyncio.run(main())
"""


def test_disk_that_takes_no_more_loses_nothing_acknowledged(tmp_path):
    assert resource.RLIMIT_FSIZE is not None
    path = tmp_path / "sessions.db"
    printed = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(path)],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=60,
    ).stdout  # fmt: skip
    kept, refused = map(int, printed.split())
    assert refused > 3

    async def test(store):
        assert (await store.load("call")).turn_count == kept
        assert "quarantined" not in store.health.counters

    run(path, test)


def test_one_refused_write_takes_nothing_from_those_beside_it(tmp_path):
    async def test(store):
        leases = [await store.acquire(f"call-{n}", "here", LONG_S) for n in range(30)]
        stale = replace(await store.acquire("stale", "here", LONG_S), fence=0)
        before = store.health.counters["commits"]
        results = await asyncio.gather(
            *(store.save(record(f"call-{n}"), lease) for n, lease in enumerate(leases)),
            store.save(record("stale"), stale),
            return_exceptions=True,
        )
        assert [type(one) for one in results] == [type(None)] * 30 + [SessionConflictError]
        # They shared a sync, or a few.
        assert store.health.counters["commits"] - before < 10
        assert (await store.list()).total_count == 30

    run(tmp_path / "sessions.db", test)


def test_leases_of_an_earlier_boot_are_void_and_the_wall_clock_moves_none(tmp_path):
    path = tmp_path / "sessions.db"
    wall = [1_000_000.0]

    def of_boot(name, now_s):
        return {"clock": BootClock(name, lambda: now_s), "wall_clock": lambda: wall[0]}

    async def acquire(store):
        lease = await store.acquire("call", "here", LONG_S)
        await store.save(record(caller_key="c"), lease)

    async def refused(store):
        assert await store.find_interrupted("c") is None
        assert await store.reclaim() == 0
        with pytest.raises(SessionConflictError):
            await store.acquire("call", "there", LONG_S)

    async def taken(store):
        assert await store.find_interrupted("c") is not None
        assert await store.reclaim() == 1
        assert (await store.acquire("call", "there", LONG_S)).fence == 2

    run(path, acquire, **of_boot("one", 100.0))
    wall[0] += 3_600
    run(path, refused, **of_boot("one", 159.0))
    wall[0] -= 7_200
    run(path, refused, **of_boot("one", 159.0))
    run(path, taken, **of_boot("two", 5.0))


def test_file_taken_away_under_a_running_store_is_begun_anew(tmp_path):
    path = tmp_path / "sessions.db"

    async def test(store):
        await fill(store, 3)
        for name in tmp_path.glob("sessions.db*"):
            name.unlink()
        await fill(store, 1)
        assert (await store.list()).total_count == 1
        assert store.health.counters["reopened"] == 1

    run(path, test)


def test_directory_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")

    async def never(store):
        raise AssertionError

    with pytest.raises(StoreUnavailableError):
        run(tmp_path / "file" / "sessions.db", never)


def test_slow_disk_ends_the_wait_not_the_loop(tmp_path, monkeypatch):
    gate, at_gate = threading.Event(), threading.Event()

    def wait_at_gate(connection):
        at_gate.set()
        return gate.wait(30)

    async def test(store):
        lease = await store.acquire("call", "here", LONG_S)
        monkeypatch.setattr("fastagent.sessions.sqlite_thread.WORK_TIMEOUT_S", 0.05)
        stuck = asyncio.create_task(store._thread.read(wait_at_gate, timeout_s=30))
        assert await asyncio.to_thread(at_gate.wait, 30)
        with pytest.raises(StoreUnavailableError, match="longer"):
            await store.save(record(), lease)
        gate.set()
        assert await stuck
        # The write was only late, perhaps later than a read that came after it.
        async with asyncio.timeout(30):
            while not (await store.list()).records:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        assert await store.load("call") == record()

    run(tmp_path / "sessions.db", test)
