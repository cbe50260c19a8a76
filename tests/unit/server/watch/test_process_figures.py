"""What this process holds."""

import asyncio
import os
import threading

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


def test_without_a_loop_there_are_no_tasks():
    assert read_process().tasks == 0
