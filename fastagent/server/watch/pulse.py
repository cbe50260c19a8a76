"""The server's pulse: a timer that measures how late it is, and looks at running calls a few at a time."""

import asyncio
import time

from fastagent.server.watch.figures import ServerFigures

__all__ = ["Pulse"]

BEAT_S = 0.1
ROUND_BEATS = 20
"""Beats in which each running call is looked at once: 2 s."""


class Pulse:
    """Beats on the loop it is started on. A thousand calls are looked at in steps of fifty."""

    def __init__(self, figures: ServerFigures) -> None:
        self._figures = figures
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._beats = 0
        self._waiting: list[str] = []
        """Calls that are still to be looked at in this round."""
        self._step = 1

    def start(self) -> None:
        """Begin to beat."""
        self._schedule()

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        # Not the loop's own clock, which may stand still within a turn of the loop.
        self._due = time.monotonic() + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        self._figures.loop_lag_s.note(max(0.0, now - self._due))
        self._look(now)
        self._schedule()

    def _look(self, now: float) -> None:
        if self._beats % ROUND_BEATS == 0:
            self._waiting = self._figures.live_calls
            self._step = -(-len(self._waiting) // ROUND_BEATS)
        self._beats += 1
        if self._waiting:
            for call_id in self._waiting[-self._step :]:
                self._figures.read_call(call_id, now)
            del self._waiting[-self._step :]
