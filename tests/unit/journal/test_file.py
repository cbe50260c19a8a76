"""The writer's thread: what commit promises, group commit, and a disk that fails."""

import asyncio
import errno
import gc
import logging
import os
import threading

import pytest

from fastagent.errors import JournalCorruptError, JournalError
from fastagent.journal import FileJournal, JournalLimits, JournalWriter, Trouble, read_journal
from tests.written import is_written

TIMEOUT_S = 30


@pytest.fixture
def writer(tmp_path):
    writer = JournalWriter(tmp_path / "journals")
    yield writer
    assert writer.close(TIMEOUT_S)


def on_disk(journal: FileJournal) -> list[object]:
    return [entry.data.get("n") for entry in read_journal(journal.path).entries()]


class Disk:
    """Stands between the writer and the disk; a fault is raised for as long as it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write_error = self.sync_error = 0
        self.gate: threading.Event | None = None
        self.at_gate = threading.Event()
        self.syncs = 0
        self._write, self._sync = os.write, os.fdatasync
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def write(self, fd: int, data: bytes) -> int:
        if self.write_error:
            raise OSError(self.write_error, "fault")
        return self._write(fd, data)

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.gate is not None:
            self.at_gate.set()
            assert self.gate.wait(TIMEOUT_S)
        if self.sync_error:
            raise OSError(self.sync_error, "fault")
        self._sync(fd)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_what_was_committed_is_in_the_file(writer):
    async def main() -> None:
        journal = await writer.open("call")
        for n in range(5):
            journal.append("input", {"n": n})
        await journal.commit()
        assert on_disk(journal) == [0, 1, 2, 3, 4]
        assert journal.is_durable
        assert journal.backlog_bytes == 0
        journal.append("input", {"n": 5})
        assert await journal.close()
        assert on_disk(journal) == [0, 1, 2, 3, 4, 5]

    asyncio.run(main())


def test_a_commit_with_nothing_new_asks_the_disk_for_nothing(writer, disk):
    async def main() -> None:
        journal = await writer.open("call")
        await journal.commit()
        journal.append("input", {})
        await journal.commit()
        await journal.commit()
        assert disk.syncs == 1

    asyncio.run(main())


def test_all_who_wait_meanwhile_share_one_sync(writer, disk):
    async def main() -> None:
        journal = await writer.open("call")
        disk.gate = threading.Event()
        journal.append("input", {"n": 0})
        first = asyncio.create_task(journal.commit())
        assert await asyncio.to_thread(disk.at_gate.wait, TIMEOUT_S)
        others = []
        for n in range(1, 51):
            journal.append("input", {"n": n})
            others.append(asyncio.create_task(journal.commit()))
        await asyncio.sleep(0)
        disk.gate.set()
        await asyncio.gather(first, *others)
        assert disk.syncs == 2
        assert on_disk(journal) == list(range(51))

    asyncio.run(main())


def test_a_slow_disk_does_not_hold_up_the_loop(writer, disk):
    async def main() -> None:
        journal = await writer.open("call")
        disk.gate = threading.Event()
        journal.append("input", {"n": 0})
        committed = asyncio.create_task(journal.commit())
        assert await asyncio.to_thread(disk.at_gate.wait, TIMEOUT_S)
        for n in range(1, 1000):
            journal.append("input", {"n": n})
        assert not committed.done()
        assert len(list(journal.entries())) == 1000
        disk.gate.set()
        await committed

    asyncio.run(main())


def test_a_commit_that_is_cancelled_harms_no_other(writer, disk):
    async def main() -> None:
        journal = await writer.open("call")
        disk.gate = threading.Event()
        journal.append("input", {"n": 0})
        cancelled, kept = asyncio.create_task(journal.commit()), asyncio.create_task(journal.commit())
        assert await asyncio.to_thread(disk.at_gate.wait, TIMEOUT_S)
        cancelled.cancel()
        disk.gate.set()
        await kept
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(main())


def test_a_disk_that_hangs_ends_the_wait_but_not_the_writing(tmp_path, disk):
    writer = JournalWriter(tmp_path, limits=JournalLimits(commit_timeout_s=0.01))

    async def main() -> None:
        journal = await writer.open("call")
        disk.gate = threading.Event()
        journal.append("input", {"n": 0})
        with pytest.raises(JournalError, match=r"longer than 0.01 s"):
            await journal.commit()
        disk.gate.set()

    asyncio.run(main())
    assert writer.close(TIMEOUT_S)
    assert len(read_journal(tmp_path / "call.journal").lines) == 1


def test_an_earlier_journal_is_taken_up(writer):
    async def main() -> None:
        journal = await writer.open("call")
        journal.append("input", {"n": 0})
        assert await journal.close()
        journal.path.write_bytes(journal.path.read_bytes() + b'{"at_unix_s":1.5,"da')
        resumed = await writer.open("call")
        assert resumed.resumed_entries == 1
        assert [entry.data["n"] for entry in resumed.entries()] == [0]
        resumed.append("resumed", {"n": 1})
        await resumed.commit()
        assert on_disk(resumed) == [0, 1]

    asyncio.run(main())
    assert writer.counters["repaired"] == writer.counters["resumed"] == 1


def test_a_journal_is_opened_once_at_a_time(writer):
    async def main() -> None:
        await writer.open("call")
        with pytest.raises(JournalError, match="in use"):
            await writer.open("call")

    asyncio.run(main())


def test_a_changed_journal_is_refused(writer):
    async def main() -> None:
        writer.directory.mkdir(parents=True)
        (writer.directory / "call.journal").write_bytes(b"not an entry\n")
        with pytest.raises(JournalCorruptError):
            await writer.open("call")

    asyncio.run(main())


def test_an_opening_that_is_cancelled_leaves_no_lock(writer, monkeypatch):
    started, go = threading.Event(), threading.Event()
    real_open = writer._open

    def slow(*args: object) -> FileJournal:
        started.set()
        assert go.wait(TIMEOUT_S)
        return real_open(*args)

    async def main() -> None:
        monkeypatch.setattr(writer, "_open", slow)
        opening = asyncio.create_task(writer.open("call"))
        await asyncio.to_thread(started.wait, TIMEOUT_S)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        unwanted = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        go.set()
        await asyncio.wait(unwanted)
        await asyncio.sleep(0)
        monkeypatch.setattr(writer, "_open", real_open)
        await writer.open("call")

    asyncio.run(main())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_fails_commits_until_there_is_room(writer, disk, number, caplog):
    async def main() -> None:
        journal = await writer.open("call")
        journal.append("input", {"n": 0, "text": "secret"})
        disk.write_error = number
        for n in range(1, 4):
            journal.append("input", {"n": n})
            with pytest.raises(JournalError, match="not durable"):
                await journal.commit()
        assert not journal.is_durable
        assert not journal.is_lost
        assert len(list(journal.entries())) == 4
        disk.write_error = 0
        await journal.commit()
        assert journal.is_durable
        assert on_disk(journal) == [0, 1, 2, 3]

    with caplog.at_level(logging.WARNING, "fastagent.journal"):
        asyncio.run(main())
    assert [record.message.rpartition(": ")[2] for record in caplog.records[:1]] == [
        "write_failed" if number == errno.EIO else "disk_full"
    ]
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text
    assert sum(n for name, n in writer.counters.items() if name.startswith("trouble_")) == 1


def test_a_failed_sync_is_for_good(writer, disk):
    async def main() -> None:
        journal = await writer.open("call")
        journal.append("input", {"n": 0})
        disk.sync_error = errno.EIO
        with pytest.raises(JournalError, match="sync_failed"):
            await journal.commit()
        disk.sync_error = 0
        journal.append("input", {"n": 1})
        with pytest.raises(JournalError, match="sync_failed"):
            await journal.commit()
        assert journal.is_lost
        assert len(list(journal.entries())) == 2
        assert not await journal.close()

    asyncio.run(main())


def test_one_journals_trouble_is_not_anothers(writer, disk, monkeypatch):
    async def main() -> None:
        bad, good = await writer.open("bad"), await writer.open("good")
        monkeypatch.setattr(bad._file, "append", lambda data: 1 / 0)
        bad.append("input", {"n": 0})
        good.append("input", {"n": 0})
        with pytest.raises(JournalError, match="write_failed"):
            await bad.commit()
        await good.commit()
        assert on_disk(good) == [0]

    asyncio.run(main())
    assert writer.counters["failed"] == 1


def test_too_much_waiting_gives_the_journal_up(tmp_path, disk):
    writer = JournalWriter(tmp_path, limits=JournalLimits(backlog_bytes=2000))

    async def main() -> None:
        journal = await writer.open("call")
        disk.gate = threading.Event()
        journal.append("input", {"n": 0})
        first = asyncio.create_task(journal.commit())
        assert await asyncio.to_thread(disk.at_gate.wait, TIMEOUT_S)
        for n in range(1, 50):
            journal.append("input", {"n": n})
        assert journal.trouble is Trouble.BACKLOG
        assert journal.backlog_bytes < 2000
        disk.gate.set()
        with pytest.raises(JournalError, match="backlog"):
            await first
        with pytest.raises(JournalError, match="backlog"):
            await journal.commit()
        assert len(list(journal.entries())) == 50
        await journal.close()

    asyncio.run(main())
    assert writer.close(TIMEOUT_S)
    kept = read_journal(tmp_path / "call.journal").lines
    assert 0 < len(kept) < 50


def test_a_directory_that_cannot_be_made_gives_a_journal_in_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    writer = JournalWriter(tmp_path / "file" / "journals")

    async def main() -> None:
        journal = await writer.open("call")
        assert journal.trouble is Trouble.UNWRITABLE
        journal.append("input", {"n": 0})
        with pytest.raises(JournalError, match="unwritable"):
            await journal.commit()
        assert [entry.data["n"] for entry in journal.entries()] == [0]
        assert not await journal.close()

    asyncio.run(main())
    assert writer.close(TIMEOUT_S)
    assert writer.counters["trouble_unwritable"] == 1


def test_closing_the_writer_saves_what_nobody_waited_for(tmp_path):
    writer = JournalWriter(tmp_path)

    async def main() -> FileJournal:
        journal = await writer.open("call")
        for n in range(100):
            journal.append("input", {"n": n})
        return journal

    journal = asyncio.run(main())
    assert writer.close(TIMEOUT_S)
    assert on_disk(journal) == list(range(100))
    with pytest.raises(JournalError, match="writer is closed"):
        asyncio.run(writer.open("other"))


def test_what_comes_after_the_end_is_told_as_not_durable(writer):
    async def main() -> None:
        journal = await writer.open("call")
        assert await journal.close()
        assert await journal.close()
        journal.append("input", {"n": 0})
        assert journal.trouble is Trouble.CLOSED
        with pytest.raises(JournalError, match="closed"):
            await journal.commit()

    asyncio.run(main())


def test_a_loop_that_ended_before_its_commit_leaves_the_thread_alive(writer, disk):
    async def first() -> None:
        journal = await writer.open("call")
        disk.gate = threading.Event()
        journal.append("input", {"n": 0})
        waiting = asyncio.create_task(journal.commit())
        assert await asyncio.to_thread(disk.at_gate.wait, TIMEOUT_S)
        waiting.cancel()

    asyncio.run(first())
    assert disk.gate is not None
    disk.gate.set()

    async def second() -> None:
        journal = await writer.open("other")
        journal.append("input", {"n": 0})
        await journal.commit()

    asyncio.run(second())


def test_secrets_are_in_no_file_and_digests_agree_over_restarts(tmp_path):
    async def main() -> object:
        writer = JournalWriter(tmp_path)
        journal = await writer.open("call", redacted=["card"])
        entry = journal.append("slot", {"name": "card", "value": "4111"})
        assert await journal.close()
        assert await asyncio.to_thread(writer.close, TIMEOUT_S)
        return entry.data["value"]

    assert asyncio.run(main()) == asyncio.run(main())
    assert not any(is_written("4111", path.read_bytes()) for path in tmp_path.iterdir())


def test_no_descriptor_is_left_open(tmp_path):
    gc.collect()

    async def main() -> None:
        writer = JournalWriter(tmp_path)
        for n in range(20):
            journal = await writer.open(f"call{n}")
            journal.append("input", {})
            if n % 2:
                await journal.close()
        assert await asyncio.to_thread(writer.close, TIMEOUT_S)

    def opened() -> int:
        paths = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                paths.append(os.readlink(f"/proc/self/fd/{fd}"))
            except FileNotFoundError:
                pass
        return sum(str(tmp_path) in path for path in paths)

    asyncio.run(main())
    assert opened() == 0
