"""OptOuts: numbers whose owner said STOP, and that get no text message ever after."""

import time
from collections.abc import Callable

from fastagent.sessions import CallerMemory, SessionStore

__all__ = ["OptOuts"]

KEPT_FOR_S = 100 * 365.25 * 86_400.0
STOPPED = "sms:stopped"
"""Stands in the store where the memories of a caller have their agent."""


class OptOuts:
    """Kept in the store of sessions, as digests; what this process was told, it knows without the store, too.

    Args:
        caller_key: what stands for a number; empty for none.
    """

    def __init__(self, store: SessionStore, caller_key: Callable[[str], str]) -> None:
        self._store = store
        self._caller_key = caller_key
        self._known: set[str] = set()

    async def add(self, number: str) -> None:
        """This number gets nothing any more.

        Raises:
            SessionError: the store did not take it: other processes, and this one's next, do not know.
        """
        if key := self._caller_key(number):
            self._known.add(key)
            await self._store.save_memory(key, STOPPED, CallerMemory(b"", time.time()), KEPT_FOR_S)

    async def holds(self, number: str) -> bool:
        """Whether this number gets nothing.

        Raises:
            SessionError: nobody knows, so send nothing.
        """
        key = self._caller_key(number)
        if not key or key in self._known:
            return True
        return await self._store.load_memory(key, STOPPED) is not None
