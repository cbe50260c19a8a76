"""The shared ticks: a timer lets queued audio of all calls out when it is due, another what was gathered."""

import asyncio
import logging
import time
from collections.abc import Callable

from fastagent._native.listener import Leg
from fastagent._native.pump import Downlink, Uplink

__all__ = ["GatherTick", "PlayoutTick"]

logger = logging.getLogger("fastagent.legs")

TICK_S = 0.02
"""One frame: the finest step in which audio leaves a queue."""


class PlayoutTick:
    """Serves every downlink that holds audio back; sleeps while there is none."""

    def __init__(self) -> None:
        self._waiting: dict[Downlink, tuple[Leg, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, downlink: Downlink, leg: Leg, on_drained: Callable[[], None]) -> None:
        """Send what is due of ``downlink`` on ``leg`` until nothing is left, then call ``on_drained``."""
        self._waiting[downlink] = (leg, on_drained)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._run)

    def forget(self, downlink: Downlink) -> None:
        """Stop serving ``downlink``."""
        self._waiting.pop(downlink, None)

    def _run(self) -> None:
        self._timer = None
        now = time.monotonic()
        for downlink, (leg, on_drained) in list(self._waiting.items()):
            try:
                if not leg.send_due(downlink, now) and self._waiting.pop(downlink, None) is not None:
                    on_drained()
            except Exception:
                # One call's fault must not silence the others.
                self._waiting.pop(downlink, None)
                logger.exception("playout of one call failed")
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._run)

    def close(self) -> None:
        """Stop the timer."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class GatherTick:
    """Lets out what was gathered of callers from whom nothing more comes, by one timer for all.

    Where frames go on coming, the next one lets it out, and nothing is found here.

    Args:
        append_ms: what is gathered; after as long again it leaves, however little it is.
    """

    def __init__(self, append_ms: int) -> None:
        self._append_s = append_ms / 1000
        self._uplinks: dict[Uplink, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, uplink: Uplink, flush: Callable[[], None]) -> None:
        """Call ``flush`` whenever ``uplink`` has gathered for too long, until it is forgotten."""
        self._uplinks[uplink] = flush
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._append_s, self._run)

    def forget(self, uplink: Uplink) -> None:
        """Look at ``uplink`` no more."""
        self._uplinks.pop(uplink, None)

    def _run(self) -> None:
        self._timer = None
        limit = time.monotonic() - self._append_s
        for uplink, flush in list(self._uplinks.items()):
            if not uplink.is_gathering or uplink.gathering_since > limit:
                continue
            try:
                flush()
            except Exception:
                # One call's fault must not silence the others.
                self._uplinks.pop(uplink, None)
                logger.exception("gathering of one call failed")
        if self._uplinks and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._append_s, self._run)

    def close(self) -> None:
        """Stop the timer."""
        self._uplinks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
