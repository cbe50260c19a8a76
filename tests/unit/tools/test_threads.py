"""BoundedThreads: places, reuse, and threads that are left behind."""

import asyncio
import threading

import pytest

from fastagent.tools import threads
from fastagent.tools.threads import BoundedThreads

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def started(pool, work):
    future = pool.start(work)
    assert future is not None
    return await future


async def test_thread_that_has_nothing_to_do_is_used_again():
    pool = BoundedThreads(4, "work")
    idents = set()
    for _ in range(20):
        idents.add(await started(pool, threading.get_ident))
        while not pool._idle:  # noqa: ASYNC110 - the thread comes back a moment after its result
            await asyncio.sleep(0)
    assert len(idents) == 1


async def test_no_more_than_the_limit_work_at_once():
    gate = threading.Event()
    pool = BoundedThreads(2, "work")
    running = [pool.start(gate.wait) for _ in range(2)]
    assert pool.start(gate.wait) is None
    gate.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await started(pool, lambda: 1) == 1


async def test_process_has_a_limit_over_all_functions(monkeypatch):
    monkeypatch.setattr(threads, "_places", threading.BoundedSemaphore(1))
    gate = threading.Event()
    one, other = BoundedThreads(9, "one"), BoundedThreads(9, "other")
    running = one.start(gate.wait)
    assert other.start(gate.wait) is None
    gate.set()
    assert await running
    assert await started(other, lambda: 1) == 1


async def test_idle_thread_ends_in_time_and_a_new_one_is_begun(monkeypatch):
    monkeypatch.setattr(threads, "IDLE_S", 0.001)
    pool = BoundedThreads(1, "idle-work")
    for _ in range(3):
        assert await started(pool, lambda: 1) == 1
        while any(thread.name == "idle-work-tool" for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert pool._idle == []


async def test_system_without_threads_is_no_room(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    pool = BoundedThreads(1, "work")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert pool.start(lambda: 1) is None
    assert await started(pool, lambda: 1) == 1


def test_thread_that_outlives_its_loop_harms_nobody():
    gate, done = threading.Event(), threading.Event()

    def work():
        gate.wait()
        done.set()

    pool = BoundedThreads(1, "work")

    async def begin():
        assert pool.start(work) is not None

    asyncio.run(begin())
    gate.set()
    assert done.wait(10)

    async def again():
        future = None
        while future is None:
            future = pool.start(lambda: 1)
            await asyncio.sleep(0)
        return await future

    assert asyncio.run(again()) == 1
