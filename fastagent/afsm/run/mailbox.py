"""Mailbox: what came for a run and has not been read, bounded."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from fastagent.afsm.run.clock import Clock, Deadline
from fastagent.afsm.spec import Event

__all__ = ["Mail", "Mailbox"]


@dataclass(frozen=True, slots=True)
class Mail:
    """An answer or event on its way to a state."""

    event: Event
    text: str = field(default="", repr=False)
    is_fresh: bool = True
    """It just came, so digressions may take it; else a state handed it on."""
    target: str = ""
    """Where a timer or a watch leads."""
    by: str = ""
    """The watch that leads there."""
    keys: str = field(default="", repr=False)
    is_contradicted: bool | None = None
    """Of a "yes": the caller was heard not to say it; None when nobody has looked."""
    is_heard: bool = False
    """Of the first input: the caller was heard to say it before the run began."""


class Mailbox:
    """Answers and events in order, and beside them the move that a watch has decided.

    Args:
        size: what may wait; a hang-up finds room always.
    """

    def __init__(self, size: int) -> None:
        self.overrule: Mail | None = None
        """A watch's move; it comes before whatever waits, and a later one replaces it."""
        self.answers = 0
        """How many of what waits are answers."""
        self._size = size
        self._waiting: deque[Mail] = deque()
        self._arrival = asyncio.Event()
        self._is_awaited = False

    @property
    def is_full(self) -> bool:
        """No more but a hang-up is taken."""
        return len(self._waiting) >= self._size

    @property
    def is_idle(self) -> bool:
        """Somebody waits here, and nothing came."""
        return self._is_awaited and not self._arrival.is_set()

    def put(self, mail: Mail) -> None:
        """Add to the end; whether there is room is for the caller to ask."""
        self._waiting.append(mail)
        self.answers += mail.event is Event.INPUT

    def put_hang_up(self, mail: Mail) -> bool:
        """Put a hang-up before everything else, as nobody is there to hear the rest; one is enough."""
        if any(waiting.event is Event.HANG_UP for waiting in self._waiting):
            return False
        self._waiting.appendleft(mail)
        return True

    def take(self) -> Mail | None:
        """Give what came first."""
        if not self._waiting:
            return None
        mail = self._waiting.popleft()
        self.answers -= mail.event is Event.INPUT
        return mail

    def take_overrule(self, state: str) -> Mail | None:
        """Give the watch's move, unless it leads to where the run stands."""
        overrule, self.overrule = self.overrule, None
        return None if overrule is None or overrule.target == state else overrule

    def wake(self) -> None:
        """Have whoever waits look again."""
        self._arrival.set()

    async def wait(self, clock: Clock, seconds: float) -> None:
        """Wait until something comes, no longer than so many seconds."""
        self._arrival.clear()
        self._is_awaited = True
        try:
            async with Deadline(clock, seconds) as timer:
                await self._arrival.wait()
        except TimeoutError:
            if not timer.has_expired:
                raise
        finally:
            self._is_awaited = False
