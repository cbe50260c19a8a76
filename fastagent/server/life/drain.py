"""The end of a process, in steps that cut no call early.

::

    SERVING ──begin()──▶ DRAINING ──goodbye_s before the deadline──▶ SAYING_GOODBYE
                            ├──no call left──▶ ENDING ◀──deadline, or no call left──┤
                            └──hurry()───────▶ ENDING ◀──hurry()────────────────────┘
                                                 └──────▶ OVER

DRAINING takes no more calls, and running ones go on, resume included. At SAYING_GOODBYE every caller who is
left is told that the call ends. ENDING hangs up. Whoever else serves the port takes the new calls meanwhile;
while there is nobody, connections are still accepted, to be resumed or refused with 503.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from enum import Enum

from fastagent.server.life.acceptor import Acceptor
from fastagent.server.life.siblings import Siblings
from fastagent.server.switchboard import Switchboard

__all__ = ["Drain", "DrainPhase"]

logger = logging.getLogger("fastagent.server")

LOOK_S = 0.1
"""How often is looked for siblings, for the deadline and for haste."""
ENDING_TIMEOUT_S = 5.0
"""For calls that were hung up to write down what they must."""
QUIET_S = 0.2
"""A port shared by SO_REUSEPORT is left once no connection came for so long: what waits in our queue would be
refused with it."""
QUIET_TIMEOUT_S = 2.0
"""New calls may come so fast that it is never quiet."""


class DrainPhase(Enum):
    """How far the end has come; the moves are drawn above."""

    SERVING = "serving"
    DRAINING = "draining"
    SAYING_GOODBYE = "saying_goodbye"
    ENDING = "ending"
    OVER = "over"


class Drain:
    """Ends the calls of one process. `begin` may come from a signal; `run` does the waiting.

    Args:
        goodbye_s: how long before the deadline callers are told.
        late_s: how long a connection that was accepted before may take to become a call.
        connections: how many there are that carry no call.
        is_port_shared: others may have a queue of their own for this port (SO_REUSEPORT).
        leave_port: gives up whatever else holds the listening sockets: a queue ends with its last holder,
            and until then the kernel goes on filling it.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        acceptor: Acceptor,
        siblings: Siblings | None,
        *,
        goodbye_s: float,
        late_s: float,
        connections: Callable[[], int],
        is_port_shared: bool = False,
        leave_port: Callable[[], None] = lambda: None,
    ) -> None:
        self._switchboard = switchboard
        self._acceptor = acceptor
        self._siblings = siblings
        self._goodbye_s = goodbye_s
        self._late_s = late_s
        self._connections = connections
        self._is_port_shared = is_port_shared
        self._leave_port = leave_port
        self._deadline = 0.0
        self._late_until = 0.0
        self.phase = DrainPhase.SERVING

    def begin(self, timeout_s: float) -> None:
        """Be not ready, at once. Begun again, it may only end sooner.

        Args:
            timeout_s: for running calls to end.
        """
        deadline = time.monotonic() + timeout_s
        if self.phase is not DrainPhase.SERVING:
            self._deadline = min(self._deadline, deadline)
            return
        self.phase = DrainPhase.DRAINING
        self._deadline = deadline
        is_left_to_others = self._siblings is not None and self._siblings.is_anybody_accepting()
        if is_left_to_others:
            self._acceptor.pause()
        if self._siblings is not None:
            self._siblings.stand_down()
        late_s = self._late_s if is_left_to_others or self._is_port_shared else 0.0
        self._late_until = time.monotonic() + late_s
        self._switchboard.stop_taking(late_s=late_s)
        logger.info(
            "draining: %d calls run, at most %.0f s more%s",
            self._switchboard.active_calls,
            timeout_s,
            "; another process takes new calls" if is_left_to_others else "",
        )

    def hurry(self) -> None:
        """End now."""
        if self.phase is not DrainPhase.OVER:
            self.phase = DrainPhase.ENDING

    async def run(self) -> None:
        """Return once no call is left, or the deadline has passed and those left were ended."""
        if self._is_port_shared:
            await self._leave_shared_port()
        while self._is_time_left():
            self._look_for_others()
            left_s = self._deadline - time.monotonic()
            if self.phase is DrainPhase.DRAINING and left_s <= self._goodbye_s:
                self.phase = DrainPhase.SAYING_GOODBYE
                self._switchboard.say_goodbye()
            is_idle = await self._switchboard.wait_for_calls(min(LOOK_S, max(0.0, left_s)))
            if is_idle and not self._is_call_on_its_way:
                break
            if is_idle:
                await asyncio.sleep(LOOK_S)
        self.phase = DrainPhase.ENDING
        self._switchboard.end_calls("drained")
        if not await self._switchboard.wait_for_calls(ENDING_TIMEOUT_S):
            logger.error("%d calls did not end", self._switchboard.active_calls)
        self._acceptor.pause()
        self.phase = DrainPhase.OVER

    @property
    def _is_call_on_its_way(self) -> bool:
        """A connection that was accepted for a call may still become one."""
        is_any = self._acceptor.is_opening or self._connections() > 0
        return is_any and time.monotonic() < self._late_until

    def _is_time_left(self) -> bool:
        return self.phase is not DrainPhase.ENDING and time.monotonic() < self._deadline

    def _look_for_others(self) -> None:
        if self._siblings is None:
            return
        if not self._siblings.is_anybody_accepting():
            # Whoever comes is better refused than kept waiting, and may have a call to resume.
            self._acceptor.resume()
        elif not self._acceptor.is_paused:
            self._acceptor.pause()

    async def _leave_shared_port(self) -> None:
        """Serve what is in our queue, and whoever still comes, until it is quiet; then leave the port."""
        give_up_at = time.monotonic() + QUIET_TIMEOUT_S
        accepted, quiet_since = self._acceptor.accepted, time.monotonic()
        while self._is_time_left() and (now := time.monotonic()) < give_up_at:
            if self._acceptor.accepted != accepted:
                accepted, quiet_since = self._acceptor.accepted, now
            elif now - quiet_since >= QUIET_S:
                break
            await asyncio.sleep(QUIET_S / 10)
        self._leave_port()
        self._acceptor.empty()
        await self._acceptor.close()
