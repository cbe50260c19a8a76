"""The shared watch over all legs: pings, and the end of peers that are gone or do not read."""

import asyncio
import time

from fastagent._native.listener import Leg
from fastagent.stats import Counters

__all__ = ["LegWatch"]

WATCH_S = 1.0
"""How often legs are looked at; deadlines are met to within this."""
BLOCKED_LIMIT_S = 10.0
"""How long a peer may leave our data unread."""
CLOSE_LIMIT_S = 5.0
"""From our close frame to the end of the connection."""


class LegWatch:
    """One timer for all legs.

    Args:
        ping_interval_s: silence after which a leg is pinged.
        ping_timeout_s: from ping to pong; then the leg is aborted, as a half-open connection is.
    """

    def __init__(self, *, ping_interval_s: float, ping_timeout_s: float, counters: Counters) -> None:
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._counters = counters
        self._legs: dict[Leg, float | None] = {}
        """Since when a leg is closing, if it is."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, leg: Leg) -> None:
        """Watch a leg until it is closed."""
        self._legs.setdefault(leg, None)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_S, self._run)

    def _run(self) -> None:
        self._timer = None
        now = time.monotonic()
        for leg, closing_since in list(self._legs.items()):
            if not leg.is_open:
                del self._legs[leg]
            elif leg.is_closing:
                if closing_since is None:
                    self._legs[leg] = now
                elif now - closing_since > CLOSE_LIMIT_S:
                    self._counters.note("legs_without_close")
                    leg.abort(1006, "no answer to a close")
            elif leg.ping_sent_at and now - max(leg.ping_sent_at, leg.last_received) > self._ping_timeout_s:
                self._counters.note("legs_without_pong")
                leg.abort(1006, "no answer to a ping")
            elif leg.is_blocked and now - leg.blocked_since > BLOCKED_LIMIT_S:
                self._counters.note("legs_not_reading")
                leg.abort(1008, "peer does not read")
            elif now - leg.last_received > self._ping_interval_s:
                leg.ping()
        if self._legs:
            self._timer = asyncio.get_running_loop().call_later(WATCH_S, self._run)

    def close(self) -> None:
        """Stop the timer; the legs are left to their owners."""
        self._legs.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
