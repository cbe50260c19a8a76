"""Coalescing: a busy loop wakes for several messages at once, as a network card interrupts once for several.

A loop that wakes for each message spends a fifth of its time on falling asleep and waking up, and whoever
sends to it spends more on waking it. With `BUSY_CALLS` and more it takes turns instead: one begins a while
after the last one began, and takes what came meanwhile. A turn that lasts longer than that is followed by the
next at once, so that a loop at its limit loses nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable

__all__ = ["BUSY_CALLS", "Coalescer"]

logger = logging.getLogger("fastagent.server")

BUSY_CALLS = 50
"""From here on messages come faster than the loop falls asleep."""
LOOK_S = 1.0
"""How often the calls are counted."""
NAP_MIN_S = 50e-6
"""The kernel's own slack of a timer: a shorter nap would last as long."""


class Coalescer:
    """Lets the loop of the thread nap between turns, while there are calls enough.

    Only for a process that does nothing else: the thread sleeps, and its loop with it.

    Args:
        pause_us: from the beginning of a turn to that of the next; 0: the loop wakes for each message.
        count_calls: how many there are now.
    """

    def __init__(self, pause_us: int, count_calls: Callable[[], int]) -> None:
        self._pause_s = pause_us * 1e-6
        self._count_calls = count_calls
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0.0
        """When the turn began."""
        self.is_busy = False
        """Turns are taken."""
        if pause_us:
            self._look()

    def close(self) -> None:
        """Let the loop wake for each message from now on."""
        self.is_busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        calls = self._count_calls()
        was_busy, self.is_busy = self.is_busy, calls >= BUSY_CALLS
        if self.is_busy and not was_busy:
            logger.debug("%d calls: the loop wakes at most each %.0f us", calls, self._pause_s * 1e6)
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        # While a callback is always due, the loop looks for messages without falling asleep.
        if self.is_busy:
            rest_s = self._pause_s - (time.monotonic() - self._begun)
            if rest_s > NAP_MIN_S:
                time.sleep(rest_s)
            self._begun = time.monotonic()
            self._loop.call_soon(self._turn)
