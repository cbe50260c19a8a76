"""The stall watchdog: a thread that sees the event loop stand still, and says which line holds it.

All calls of a process share one loop, so what holds it silences them all. The thread has the loop answer it
some twenty times a second. An answer that is overdue is a stall: it is logged once, with the innermost frame
that is not a library's, and with the call and the state at work if it is a state machine's. Its length is
counted when the loop goes on. `fastagent.afsm.run.watchdog` keeps the book of runs that this one asks, and
watches loops that no server runs on.

Code that keeps the GIL within one C call is named only once it lets go of it.
"""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable

from fastagent.afsm.place import place_of_frame
from fastagent.afsm.run.watchdog import Watchdog, authors_frame, process_watchdog

__all__ = ["DEAD_AFTER_S", "StallWatchdog"]

DEAD_AFTER_S = 5.0
"""A loop that stands still for longer is taken for dead: ``/health/live`` fails."""
LOOKS_PER_LIMIT = 5
STOP_TIMEOUT_S = 2.0

logger = logging.getLogger("fastagent.loop")


class StallWatchdog:
    """Watches one loop, from `start` to `close`.

    Args:
        limit_s: how long the loop may be held before it is told.
        dead_after_s: how long until `is_dead`.
        on_stall: told the length of each stall, on the loop, once it is over.
        while_dead: called again and again by the thread while the loop `is_dead`; must take only a moment.
        runs: the book of state machines' runs.
    """

    def __init__(
        self,
        *,
        limit_s: float = 0.25,
        dead_after_s: float = DEAD_AFTER_S,
        on_stall: Callable[[float], None] | None = None,
        while_dead: Callable[[], None] | None = None,
        runs: Watchdog = process_watchdog,
    ) -> None:
        self._limit_s = limit_s
        self._dead_after_s = dead_after_s
        self._on_stall = on_stall
        self._while_dead = while_dead
        self._runs = runs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread_id = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._asked_at: float | None = None
        """When the loop was asked for a sign of life that it has not given."""
        self._is_reported = False

    def start(self) -> None:
        """Watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread_id = threading.get_ident()
        self._runs.leave(self._loop)
        self._thread = threading.Thread(target=self._watch, name="fastagent-stalls", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            self._thread = None
        if self._loop is not None:
            self._runs.take_back(self._loop)

    @property
    def stalled_s(self) -> float:
        """How long the loop has stood still; 0 while it goes. From any thread."""
        asked_at = self._asked_at
        held_s = 0.0 if asked_at is None else time.monotonic() - asked_at
        return held_s if held_s >= self._limit_s else 0.0

    @property
    def is_dead(self) -> bool:
        """The loop has stood still for too long."""
        return self.stalled_s > self._dead_after_s

    def _watch(self) -> None:
        while not self._stop.wait(self._limit_s / LOOKS_PER_LIMIT):
            try:
                self._look()
            except RuntimeError:  # the loop is closed
                return

    def _look(self) -> None:
        assert self._loop is not None
        asked_at = self._asked_at
        if asked_at is None:
            self._asked_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._answer)
            return
        if time.monotonic() - asked_at < self._limit_s:
            return
        if not self._is_reported:
            self._report(asked_at)
        if self._while_dead is not None and self.is_dead:
            self._while_dead()

    def _report(self, asked_at: float) -> None:
        assert self._loop is not None
        frame = sys._current_frames().get(self._loop_thread_id)
        if frame is None or self._asked_at != asked_at:
            return  # it has just gone on
        self._is_reported = True
        place = place_of_frame(authors_frame(frame))
        limit_ms = round(1000 * self._limit_s)
        run = self._runs.holder(self._loop)
        if run is None:
            logger.error("the event loop is held for more than %d ms, at %s", limit_ms, place)
        else:
            logger.error(
                "call %s: state %r holds the event loop for more than %d ms, at %s",
                run.call_id,
                run.state(),
                limit_ms,
                place,
            )

    def _answer(self) -> None:
        """Called by the loop."""
        asked_at, self._asked_at = self._asked_at, None
        self._is_reported = False
        stalled_s = 0.0 if asked_at is None else time.monotonic() - asked_at
        if stalled_s >= self._limit_s:
            logger.warning("the event loop goes on after %.3f s", stalled_s)
            if self._on_stall is not None:
                self._on_stall(stalled_s)
