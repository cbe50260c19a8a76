"""The one timer of a call: has the brain's next deadline kept."""

import asyncio
import time
from collections.abc import Callable

__all__ = ["DeadlineTimer"]


class DeadlineTimer:
    """Runs ``advance`` by the next deadline, whenever that is by then.

    A timer that is early stays: it looks again. So a deadline that moves with every frame costs nothing.

    Args:
        next_deadline: in monotonic seconds; None for none.
        advance: does what is due.
    """

    def __init__(self, next_deadline: Callable[[], float | None], advance: Callable[[], None]) -> None:
        self._next_deadline = next_deadline
        self._advance = advance
        self._handle: asyncio.TimerHandle | None = None
        self._at = 0.0

    def schedule(self) -> None:
        """The deadline may have changed."""
        deadline = self._next_deadline()
        if deadline is not None and self._handle is not None and self._at <= deadline:
            return
        self.stop()
        if deadline is not None:
            self._at = deadline
            delay_s = max(0.0, deadline - time.monotonic())
            self._handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def stop(self) -> None:
        """Keep no deadline any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._advance()
