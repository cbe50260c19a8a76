"""Lease: which process owns a session, and the number that makes a late write of a former owner void."""

import secrets
import socket
from dataclasses import dataclass

__all__ = ["Fence", "Lease", "new_holder"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a session, until another process gets it."""

    session_id: str
    holder: str
    fence: int
    """Grows with each time that the session is acquired."""


@dataclass(slots=True)
class Fence:
    """What a store knows of a session's leases; it outlives the session, to refuse late writes."""

    holder: str
    """Empty: nobody; the session was released or deleted."""
    fence: int
    until_s: float
    """By the store's own clock. Behind it another may acquire; until one does the holder may write."""

    def allows(self, lease: Lease) -> bool:
        """Is this lease the newest that is known of?

        A higher number than the known one is from before the store lost something (a failover, a file moved
        aside) and wins: the store forgot, not the holder.
        """
        return lease.fence > self.fence or (lease.fence == self.fence and lease.holder == self.holder)

    def is_held_by_another(self, holder: str, now_s: float) -> bool:
        """Does somebody else own the session now?"""
        return self.holder not in ("", holder) and self.until_s > now_s


def new_holder() -> str:
    """A name for this process that no other has and none had before."""
    return f"{socket.gethostname()[:64]}-{secrets.token_hex(8)}"
