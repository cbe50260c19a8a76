"""A caller's stream that is open and brings nothing: the caller is asked, and then let go.

A carrier sends audio without a pause while a stream is open, silence included. When none comes, the line is
dead although the socket lives, and nobody would ever end the call.
"""

import asyncio
import time
from collections.abc import Callable

__all__ = ["MissingMedia"]

LOOK_S = 1.0
"""How often the stream is looked at; deadlines are met to within this."""


class MissingMedia:
    """Watches one call's caller stream, while it is open.

    Args:
        count: media messages of the caller so far.
        prompt_s: without media for so long: ``on_missing`` is called, once until media comes again.
        give_up_s: without media for so long: ``on_gone`` is called, once.
    """

    def __init__(
        self,
        count: Callable[[], int],
        *,
        prompt_s: float,
        give_up_s: float,
        on_missing: Callable[[], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._count = count
        self._prompt_s = prompt_s
        self._give_up_s = give_up_s
        self._on_missing = on_missing
        self._on_gone = on_gone
        self._seen = 0
        self._since = 0.0
        self._has_asked = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The stream is open: media is expected from now on."""
        self.end()
        self._seen, self._since, self._has_asked = self._count(), time.monotonic(), False
        self._look_again(self._since)

    def end(self) -> None:
        """The stream is closed, or its socket gone: nothing is expected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, now: float) -> None:
        self._due = now + LOOK_S
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        now, count = time.monotonic(), self._count()
        # What our own loop was late is not held against the line.
        self._since += max(0.0, now - self._due)
        self._look_again(now)
        if count != self._seen:
            self._seen, self._since, self._has_asked = count, now, False
        elif now - self._since >= self._give_up_s:
            self.end()
            self._on_gone()
        elif now - self._since >= self._prompt_s and not self._has_asked:
            self._has_asked = True
            self._on_missing()
