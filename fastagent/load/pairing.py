"""Whose audio a session of the model has: callers make a sign (`fa_sign.h`) until their session is known.

::

    caller  ── waits, makes its sign ──▶ paired ◀── sign heard ── session, waits
                     └── nothing heard for SIGN_TIMEOUT_S: by order of arrival ──┘
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fastagent._native.load import SIGN_NUMBERS

__all__ = ["Pairing", "PairingDesk"]

SIGN_TIMEOUT_S = 3.0
"""A server that lets no sign through in that time has its calls paired by order."""


@dataclass(slots=True, eq=False)
class Pairing:
    """A caller and the session of the model that belongs to it, by connection; -1 while unknown."""

    since_s: float = field(default_factory=time.monotonic)
    """When the caller began to make its sign."""
    caller: int = -1
    model: int = -1
    sign: int = -1
    """-1 when all were taken: such a caller is paired by order."""


class PairingDesk:
    """Callers and sessions that wait for one another.

    Args:
        join: has the engine compare both ends of a call, by connection; False when one is gone.
    """

    def __init__(self, join: Callable[[int, int], bool]) -> None:
        self.strays = 0
        """Sessions that went without a caller."""
        self.by_order = 0
        """Calls that were paired by order, since their audio told nothing."""
        self._join = join
        self._callers: dict[int, Pairing] = {}
        """By connection, oldest first."""
        self._signs: dict[int, Pairing] = {}
        self._sessions: dict[int, float] = {}
        """Since when each has waited, oldest first."""
        # One that is given back is the last to be used again: its audio may still be under way.
        self._free = deque(range(SIGN_NUMBERS))

    def add_caller(self, connection: int) -> Pairing:
        """A caller that begins to make its sign."""
        pairing = Pairing(caller=connection, sign=self._free.popleft() if self._free else -1)
        self._callers[connection] = pairing
        if pairing.sign >= 0:
            self._signs[pairing.sign] = pairing
        return pairing

    def remove_caller(self, pairing: Pairing) -> None:
        """It waits no more."""
        if self._callers.pop(pairing.caller, None) is not None and pairing.sign >= 0:
            del self._signs[pairing.sign]
            self._free.append(pairing.sign)

    def add_session(self, connection: int) -> None:
        """A session of the model that was opened."""
        self._sessions[connection] = time.monotonic()

    def remove_session(self, connection: int) -> None:
        """It is gone."""
        self.strays += self._sessions.pop(connection, None) is not None

    def heard(self, connection: int, sign: int) -> None:
        """A session heard a sign."""
        pairing = self._signs.get(sign)
        if pairing is not None and connection in self._sessions:
            self._settle(pairing, connection)

    def look(self, pairing: Pairing) -> bool:
        """Whether a caller is paired; one that waited for long takes the oldest session that did, too."""
        long_ago_s = time.monotonic() - SIGN_TIMEOUT_S
        if pairing.model < 0 and pairing.since_s < long_ago_s:
            oldest = next(iter(self._sessions.items()), None)
            if oldest is not None and oldest[1] < long_ago_s and self._settle(pairing, oldest[0]):
                self.by_order += 1
        return pairing.model >= 0

    def _settle(self, pairing: Pairing, connection: int) -> bool:
        if not self._join(pairing.caller, connection):
            return False
        self.remove_caller(pairing)
        del self._sessions[connection]
        pairing.model = connection
        return True
