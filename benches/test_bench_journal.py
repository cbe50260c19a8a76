"""Bench: entries of a conversation's journal, in memory and on the disk, and what an effect costs with one.

Entries are those of a turn: some 150 bytes of data. In memory the peer is the same chain by the standard
library alone. On the disk the peers keep the same lines: a bare write and ``fdatasync``, and SQLite with a
write-ahead log that is synced at each commit; the bare one is what the disk takes.
"""

import asyncio
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastagent.afsm.effects.effects import Effects
from fastagent.journal import JournalWriter, MemoryJournal, read_journal
from fastagent.journal.append_file import parse_lines

ENTRIES = 2_000
COMMITS = 100
CALLS = 50
TIMEOUT_S = 60
DATA: list[dict[str, Any]] = [
    {
        "state": "collect_date",
        "text": f"on friday the {n % 28}th at half past nine please",
        "n": n,
        "at_s": n / 8,
    }
    for n in range(ENTRIES)
]


def ours() -> int:
    journal = MemoryJournal()
    for data in DATA:
        journal.append("input", data)
    return journal.head[0]


def stdlib() -> int:
    lines: list[str] = []
    prev_hash = "0" * 64
    for seq, data in enumerate(DATA):
        entry = {"at_unix_s": time.time(), "data": data, "kind": "input", "prev_hash": prev_hash, "seq": seq}
        body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        prev_hash = hashlib.sha256(body.encode()).hexdigest()
        lines.append(f'{body[:-1]},"hash":"{prev_hash}"}}')
    parse_lines("".join(line + "\n" for line in lines[:3]).encode())
    return len(lines)


@pytest.mark.parametrize("engine", ["fastagent", "json"])
def test_append(benchmark: BenchmarkFixture, engine: str) -> None:
    benchmark.group = "journal append"
    benchmark.extra_info.update(
        subject="journal append", implementation=engine, unit="entry", units_per_call=ENTRIES
    )
    if engine == "fastagent":
        benchmark.extra_info["goal_ns"] = 100_000
    append = ours if engine == "fastagent" else stdlib
    assert append() == ENTRIES
    benchmark.pedantic(append, iterations=1, rounds=20, warmup_rounds=1)  # type: ignore[no-untyped-call]


def test_verify(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "journal verify"
    benchmark.extra_info.update(subject="journal verify", unit="entry", units_per_call=ENTRIES)
    journal = MemoryJournal()
    for data in DATA:
        journal.append("input", data)
    content = b"".join(line + b"\n" for line in journal._lines)
    assert parse_lines(content).last_hash == journal.head[1]
    benchmark.pedantic(parse_lines, args=(content,), iterations=1, rounds=20)  # type: ignore[no-untyped-call]


def by_journal(directory: Path) -> int:
    async def main() -> None:
        journal = await writer.open("bench")
        for n in range(COMMITS):
            journal.append("transition", DATA[n])
            await journal.commit()
        assert await journal.close()

    writer = JournalWriter(directory)
    asyncio.run(main())
    assert writer.close(TIMEOUT_S)
    return len(read_journal(directory / "bench.journal").lines)


def by_bare_file(directory: Path) -> int:
    path = directory / "bare"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for n in range(COMMITS):
        os.write(fd, json.dumps(DATA[n]).encode() + b"\n")
        os.fdatasync(fd)
    os.close(fd)
    return path.read_bytes().count(b"\n")


def by_sqlite(directory: Path) -> int:
    with sqlite3.connect(directory / "bench.db") as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        connection.execute("create table entries (seq integer primary key, line text)")
        for n in range(COMMITS):
            connection.execute("insert into entries (line) values (?)", (json.dumps(DATA[n]),))
            connection.commit()
        count: int = connection.execute("select count(*) from entries").fetchone()[0]
    connection.close()
    return count


@pytest.mark.parametrize("engine", ["fastagent", "write+fdatasync", "sqlite"])
def test_commit(benchmark: BenchmarkFixture, tmp_path: Path, engine: str) -> None:
    benchmark.group = "journal commit"
    benchmark.extra_info.update(
        subject="journal commit", implementation=engine, unit="commit", units_per_call=COMMITS
    )
    commit: Callable[[Path], int] = {
        "fastagent": by_journal,
        "write+fdatasync": by_bare_file,
        "sqlite": by_sqlite,
    }[engine]
    rounds = iter(range(1000))

    def run() -> int:
        directory = tmp_path / str(next(rounds))
        directory.mkdir()
        return commit(directory)

    assert run() == COMMITS
    benchmark.pedantic(run, iterations=1, rounds=8)  # type: ignore[no-untyped-call]


def test_calls_commit_at_once(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """All of `CALLS` conversations commit at once, ten times; the loop's longest pause meanwhile is kept."""
    benchmark.group = "journal many calls"
    benchmark.extra_info.update(
        subject="journal commit of 50 calls", unit="commit", units_per_call=10 * CALLS
    )
    pauses: list[float] = []
    rounds = iter(range(1000))

    async def watch() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.0005)
            now = time.perf_counter()
            pauses.append(now - before - 0.0005)
            before = now

    async def main(writer: JournalWriter) -> int:
        journals = await asyncio.gather(*(writer.open(f"call{n}") for n in range(CALLS)))
        watching = asyncio.create_task(watch())
        for n in range(10):
            for journal in journals:
                journal.append("transition", DATA[n])
            await asyncio.gather(*(journal.commit() for journal in journals))
        watching.cancel()
        return sum(journal.is_durable and journal.head[0] for journal in journals)

    def run() -> int:
        writer = JournalWriter(tmp_path / str(next(rounds)))
        kept = asyncio.run(main(writer))
        assert writer.close(TIMEOUT_S)
        return kept

    assert run() == 10 * CALLS
    pauses.clear()
    benchmark.pedantic(run, iterations=1, rounds=5)  # type: ignore[no-untyped-call]
    pauses.sort()
    benchmark.extra_info["loop_pause_p99_ms"] = round(pauses[len(pauses) * 99 // 100] * 1000, 2)
    benchmark.extra_info["loop_pause_max_ms"] = round(pauses[-1] * 1000, 2)


def test_effect(benchmark: BenchmarkFixture) -> None:
    """An effect with its key, intent and outcome, in memory: what the engine adds to the function."""
    benchmark.group = "journal effect"
    benchmark.extra_info.update(subject="journal effect", unit="effect", units_per_call=ENTRIES)

    async def book(state: str, text: str, n: int, at_s: float) -> int:
        return n

    async def main() -> int:
        effects = Effects(MemoryJournal(), "bench")
        done = 0
        for n, data in enumerate(DATA):
            done += (await effects.run("book", book, data, call_id=str(n))).is_done
        return done

    def run() -> int:
        return asyncio.run(main())

    assert run() == ENTRIES
    benchmark.pedantic(run, iterations=1, rounds=5)  # type: ignore[no-untyped-call]
