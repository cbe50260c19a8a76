"""The shared watch over all legs: pings, and the end of peers that are gone or do not read."""

import asyncio
import time
from collections.abc import Callable

from fastagent._native.listener import Leg
from fastagent.stats import Counters

__all__ = ["LegWatch"]

WATCH_S = 1.0
"""How often legs are looked at; deadlines are met to within this."""
LATE_S = 0.5
"""A look that comes this much too late tells of our own stall, not of the peers'."""
BLOCKED_LIMIT_S = 10.0
"""How long a peer may leave our data unread."""
CLOSE_LIMIT_S = 5.0
"""From our close frame to the end of the connection."""


class _Watched:
    """What the watch knows of a leg."""

    __slots__ = ("closing_since", "is_stuck")

    def __init__(self, is_stuck: Callable[[float], bool] | None) -> None:
        self.closing_since: float | None = None
        self.is_stuck = is_stuck


class LegWatch:
    """One timer for all legs.

    Args:
        ping_interval_s: silence after which a leg is pinged.
        ping_timeout_s: from ping to pong; then the leg is aborted, as a half-open connection is.
        look_every_s: how often legs are looked at; None for `WATCH_S`.
    """

    def __init__(
        self,
        *,
        ping_interval_s: float,
        ping_timeout_s: float,
        counters: Counters,
        look_every_s: float | None = None,
    ) -> None:
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._look_every_s = look_every_s
        self._counters = counters
        self._legs: dict[Leg, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def add(self, leg: Leg, *, is_stuck: Callable[[float], bool] | None = None) -> None:
        """Watch a leg until it is closed.

        Args:
            is_stuck: asked at every look, with the monotonic time: whether the peer owes something for too
                long although it answers pings. The leg is aborted then.
        """
        self._legs.setdefault(leg, _Watched(is_stuck))
        if self._timer is None:
            self._look_again(time.monotonic())

    def _look_again(self, now: float) -> None:
        pause_s = WATCH_S if self._look_every_s is None else self._look_every_s
        self._due = now + pause_s
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._run)

    def _run(self) -> None:
        self._timer = None
        now = time.monotonic()
        for leg in [leg for leg in self._legs if not leg.is_open]:
            del self._legs[leg]
        if now - self._due > LATE_S:
            # The loop stood still: what the peers have sent meanwhile is read before anybody is judged.
            self._counters.note("watch_late")
        else:
            for leg, watched in list(self._legs.items()):
                if leg.is_open:  # the end of one before it may have ended it
                    self._judge(leg, watched, now)
        if self._legs:
            self._look_again(now)

    def _judge(self, leg: Leg, watched: _Watched, now: float) -> None:
        if leg.is_closing:
            if watched.closing_since is None:
                watched.closing_since = now
            elif now - watched.closing_since > CLOSE_LIMIT_S:
                self._counters.note("legs_without_close")
                leg.abort(1006, "no answer to a close")
        elif leg.ping_sent_at and now - max(leg.ping_sent_at, leg.last_received) > self._ping_timeout_s:
            self._counters.note("legs_without_pong")
            leg.abort(1006, "no answer to a ping")
        elif leg.is_blocked and now - leg.blocked_since > BLOCKED_LIMIT_S:
            self._counters.note("legs_not_reading")
            leg.abort(1008, "peer does not read")
        elif watched.is_stuck is not None and watched.is_stuck(now):
            self._counters.note("legs_without_events")
            leg.abort(1006, "nothing comes that is due")
        elif now - leg.last_received > self._ping_interval_s:
            leg.ping()

    def close(self) -> None:
        """Stop the timer; the legs are left to their owners."""
        self._legs.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
