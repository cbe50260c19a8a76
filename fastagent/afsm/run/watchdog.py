"""Watchdog: names the state that holds the event loop.

All calls of a process share one loop, and the machines run on it. A state that computes, sleeps or loops
without an ``await`` stops them all: audio too. Nothing can interrupt such code from outside; work that takes
longer than a few milliseconds belongs into ``await asyncio.to_thread(...)`` or a `tool`. What can be done is
to say who it was: while runs are under way, one thread per process has each loop answer it a few times a
second, and when an answer is overdue it logs which state is at work, and where its code stands.

It costs the states nothing: a run is noted when it begins and ends, not step by step. Code that holds the
GIL within one C call is named only once it lets go of it; code of a task that a state started is not known
to be that state's, and is not named.
"""

import asyncio
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from fastagent.afsm.place import place_of_frame

__all__ = ["DEFAULT_HOLD_LIMIT_S", "Watchdog", "WatchedRun", "authors_frame", "process_watchdog"]

DEFAULT_HOLD_LIMIT_S = 0.25
LOOKS_PER_LIMIT = 5
LIBRARIES = (sysconfig.get_path("stdlib"), "<frozen")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class WatchedRun:
    """A run under way."""

    task: "asyncio.Task[Any]"
    loop: asyncio.AbstractEventLoop
    call_id: str
    state: Callable[[], str]
    """Names its current state; asked from the watchdog's thread."""


@dataclass(slots=True, eq=False)
class _Loop:
    """A loop with runs on it."""

    loop: asyncio.AbstractEventLoop
    thread_id: int
    runs: "dict[asyncio.Task[Any], WatchedRun]" = field(default_factory=dict)
    asked_at: float | None = None
    """When the loop was asked for a sign of life that it has not given."""
    is_reported: bool = False

    def answer(self) -> None:
        """Called by the loop."""
        self.asked_at, self.is_reported = None, False


class Watchdog:
    """Watches the loops that machines run on.

    Args:
        hold_limit_s: how long a loop may be held before it is logged and counted.
    """

    def __init__(self, hold_limit_s: float = DEFAULT_HOLD_LIMIT_S) -> None:
        self.holds = 0
        """How often a state held its loop for longer than the limit."""
        self._hold_limit_s = hold_limit_s
        self._lock = threading.Lock()
        self._has_runs = threading.Event()
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._left: set[asyncio.AbstractEventLoop] = set()
        """Loops that another watches, who asks here for the run at work."""
        self._thread: threading.Thread | None = None

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Another watches this loop: note its runs and look at it no more."""
        with self._lock:
            self._left.add(loop)

    def take_back(self, loop: asyncio.AbstractEventLoop) -> None:
        """The other watches it no longer."""
        with self._lock:
            self._left.discard(loop)

    def holder(self, loop: asyncio.AbstractEventLoop) -> WatchedRun | None:
        """The run at work on a loop, if one is; for whoever found the loop held, from any thread."""
        task = asyncio.current_task(loop)
        with self._lock:
            watched = self._loops.get(loop)
            run = None if task is None or watched is None else watched.runs.get(task)
            self.holds += run is not None
        return run

    def begin(self, call_id: str, state: Callable[[], str]) -> WatchedRun | None:
        """Watch a run, in whose task this is called; None outside of a task."""
        task = asyncio.current_task()
        if task is None:
            return None
        loop = asyncio.get_running_loop()
        run = WatchedRun(task, loop, call_id, state)
        with self._lock:
            watched = self._loops.get(loop)
            if watched is None:
                watched = self._loops[loop] = _Loop(loop, threading.get_ident())
            watched.runs[task] = run
            self._has_runs.set()
            # A child process has the object but not the thread.
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._watch, name="afsm-watchdog", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError:  # no more threads to be had; the next run tries again
                    _log.warning("the event loop is not watched: no thread could be started")
        return run

    def end(self, run: WatchedRun | None) -> None:
        """The run is over."""
        if run is None:
            return
        with self._lock:
            watched = self._loops.get(run.loop)
            if watched is not None and watched.runs.get(run.task) is run:
                del watched.runs[run.task]
                if not watched.runs:
                    del self._loops[run.loop]
            if not self._loops:
                self._has_runs.clear()

    def _watch(self) -> None:
        while True:
            self._has_runs.wait()
            time.sleep(self._hold_limit_s / LOOKS_PER_LIMIT)
            with self._lock:
                loops = [one for one in self._loops.values() if one.loop not in self._left]
            for watched in loops:
                self._look(watched)

    def _look(self, watched: _Loop) -> None:
        asked_at, now = watched.asked_at, time.monotonic()
        if asked_at is None:
            watched.asked_at = now
            try:
                watched.loop.call_soon_threadsafe(watched.answer)
            except RuntimeError:  # closed; the runs in it will never end themselves
                with self._lock:
                    self._loops.pop(watched.loop, None)
                    if not self._loops:
                        self._has_runs.clear()
            return
        if watched.is_reported or now - asked_at < self._hold_limit_s:
            return
        task = asyncio.current_task(watched.loop)
        run = None if task is None else watched.runs.get(task)
        frame = sys._current_frames().get(watched.thread_id)
        if run is None or frame is None or watched.asked_at != asked_at:
            return  # it is not a state, or it has just gone on
        watched.is_reported = True
        self.holds += 1
        _log.warning(
            "call %s: state %r holds the event loop for more than %d ms, at %s",
            run.call_id,
            run.state(),
            round(1000 * self._hold_limit_s),
            place_of_frame(authors_frame(frame)),
        )


def authors_frame(frame: FrameType) -> FrameType:
    """The innermost frame outside of libraries: ``time.sleep`` is not to blame."""
    found: FrameType | None = frame
    while found is not None and found.f_code.co_filename.startswith(LIBRARIES):
        found = found.f_back
    return found or frame


process_watchdog = Watchdog()
"""The one that machines are watched by."""
