"""What this process holds."""

import asyncio
import os
import threading

import pytest

from fastagent.server.watch import process_figures
from fastagent.server.watch.process_figures import read_process


def test_a_task_a_thread_and_a_descriptor_more_are_seen():
    async def main() -> None:
        before = read_process()
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        task = asyncio.create_task(asyncio.sleep(60))
        descriptor = os.open(os.devnull, os.O_RDONLY)
        kept = [object() for _ in range(10_000)]
        try:
            after = read_process()
        finally:
            over.set()
            thread.join()
            task.cancel()
            os.close(descriptor)
        assert (after.tasks, after.threads, after.descriptors) == (
            before.tasks + 1,
            before.threads + 1,
            before.descriptors + 1,
        )
        assert after.blocks - before.blocks > len(kept) / 2
        assert after.memory_bytes > 1 << 20
        assert after.cpu_s >= before.cpu_s > 0

    asyncio.run(main())


def test_descriptors_are_counted_without_being_listed_one_by_one(monkeypatch):
    if not process_figures.DESCRIPTORS.stat().st_size:
        pytest.skip("this kernel does not tell their number")
    number = read_process().descriptors
    monkeypatch.setattr(process_figures.os, "listdir", lambda path: pytest.fail("listed"))
    assert read_process().descriptors == number


def test_where_the_size_tells_nothing_they_are_listed(monkeypatch, tmp_path):
    class Sizeless(type(tmp_path)):
        def stat(self, **ignored):
            return os.stat_result((0,) * 10)

    folder = Sizeless(tmp_path)
    for name in "abc":
        (tmp_path / name).touch()
    monkeypatch.setattr(process_figures, "DESCRIPTORS", folder)
    assert read_process().descriptors == 2  # one of the three is taken for the listing's own


def test_without_a_loop_there_are_no_tasks():
    assert read_process().tasks == 0
