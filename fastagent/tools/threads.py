"""A bounded number of daemon threads, for functions that block.

A thread that outlives its deadline cannot be stopped. It is left to itself, keeps its place until it ends,
and does not hold up the end of the process, as a thread of `concurrent.futures` would.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["IDLE_S", "MAX_THREADS", "BoundedThreads"]

MAX_THREADS = 64
"""At work at once over all functions of a process: stuck ones must not eat its memory."""
IDLE_S = 30.0
"""How long a thread waits for more to do: beginning one costs the loop ten times what waking one does."""

_T = TypeVar("_T")
_Job = Callable[[], None]

_places = threading.BoundedSemaphore(MAX_THREADS)


class BoundedThreads:
    """At most ``limit`` threads at work at once, the abandoned ones counted.

    Args:
        name: begins the threads' names.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._places = threading.BoundedSemaphore(limit)
        self._name = name
        self._idle: list[SimpleQueue[_Job]] = []
        """Where threads wait that have nothing to do, the latest at the end; each use is one step."""

    def start(self, work: Callable[[], _T]) -> asyncio.Future[_T] | None:
        """Run ``work``, which must not raise, in a thread.

        Returns:
            what becomes its result on the running loop, or None when there is no room.
        """
        if not self._places.acquire(blocking=False):
            return None
        if not _places.acquire(blocking=False):
            self._places.release()
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: _T) -> None:
            if not future.done():
                future.set_result(result)

        def job() -> None:
            try:
                result = context.run(work)
            finally:
                self._release()
            try:
                loop.call_soon_threadsafe(settle, result)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

        try:
            self._idle.pop().put(job)
        except IndexError:
            try:
                threading.Thread(
                    target=self._serve, args=(job,), name=f"{self._name}-tool", daemon=True
                ).start()
            except RuntimeError:  # the system has no thread left
                self._release()
                return None
        return future

    def _release(self) -> None:
        _places.release()
        self._places.release()

    def _serve(self, job: _Job) -> None:
        inbox: SimpleQueue[_Job] = SimpleQueue()
        while True:
            job()
            del job  # an idle thread holds on to no arguments
            self._idle.append(inbox)
            try:
                job = inbox.get(timeout=IDLE_S)
            except Empty:
                try:
                    self._idle.remove(inbox)
                except ValueError:
                    job = inbox.get()  # it was chosen a moment ago: its job is on the way
                else:
                    return
