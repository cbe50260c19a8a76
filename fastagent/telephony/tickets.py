"""One-time tickets: that a stream was asked for by us, for this very call, and is opened once.

A signature proves who sent a request, not that it is the first of its kind: whoever has seen a signed
upgrade could send it again. A ticket is bound to its call and to what was claimed of it, dies with its time,
and is taken once. It is made from a key alone, so any process that has the key can take it; that it was
taken, only the process knows that took it, unless it is told where to note that (``note_taken``).
"""

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

__all__ = ["TICKETS_MAX", "TICKET_TTL_S", "TicketRefusal", "Tickets"]

TICKET_TTL_S = 60.0
"""From the webhook's answer to the stream's start; Twilio dials at once."""
TICKETS_MAX = 10_000
"""Taken tickets remembered until they would have expired; beyond that none is taken."""
NONCE_BYTES = 12
TICKET_CHARACTERS_MAX = 200

TicketRefusal = Literal[
    "ticket_expired", "ticket_forged", "ticket_missing", "ticket_replayed", "tickets_full"
]
"""Why a ticket is not taken."""


class Tickets:
    """Gives tickets and takes them.

    Args:
        key: secret; tickets of one key are good wherever it is known.
        new_nonce: unguessable text.
        note_taken: notes a ticket that is taken, for other processes too; False when one was before.
    """

    def __init__(
        self,
        key: bytes,
        *,
        ttl_s: float = TICKET_TTL_S,
        limit: int = TICKETS_MAX,
        new_nonce: Callable[[], str] = lambda: secrets.token_urlsafe(NONCE_BYTES),
        note_taken: Callable[[str], bool] = lambda ticket: True,
    ) -> None:
        self._key = hmac.new(key, b"fastagent stream ticket", hashlib.sha256).digest()
        self._ttl_s = ttl_s
        self._limit = limit
        self._new_nonce = new_nonce
        self._note_taken = note_taken
        self._taken: OrderedDict[str, float] = OrderedDict()
        """Until when it would have been good, by ticket, the oldest first."""

    def give(self, call_id: str, claims: tuple[str, ...] = (), *, now: float) -> str:
        """A ticket for a call.

        Args:
            claims: what is said of the call beside; it must be said again when the ticket is taken.
            now: wall-clock seconds, which processes share.
        """
        head = f"{int(now + self._ttl_s)}.{self._new_nonce()}"
        return f"{head}.{self._seal(head, call_id, claims)}"

    def take(
        self, ticket: str, call_id: str, claims: tuple[str, ...] = (), *, now: float
    ) -> TicketRefusal | None:
        """Take a ticket; gives why not, or None when it is good and now used up."""
        if (refusal := self.check(ticket, call_id, claims, now=now)) is not None:
            return refusal
        self._forget_expired(now)
        if ticket in self._taken:
            return "ticket_replayed"
        if len(self._taken) >= self._limit:
            # Forgetting one that is still good would let it be taken again.
            return "tickets_full"
        self._taken[ticket] = int(ticket.partition(".")[0])
        return None if self._note_taken(ticket) else "ticket_replayed"

    def check(
        self, ticket: str, call_id: str, claims: tuple[str, ...] = (), *, now: float
    ) -> TicketRefusal | None:
        """Why a ticket is no good, whether or not it was taken; None when it is good. Takes nothing."""
        if not ticket:
            return "ticket_missing"
        head, _, seal = ticket.rpartition(".")
        until, _, _ = head.partition(".")
        if len(ticket) > TICKET_CHARACTERS_MAX or not (until.isascii() and until.isdigit()):
            return "ticket_forged"
        expected = self._seal(head, call_id, claims)
        if not hmac.compare_digest(expected.encode(), seal.encode("utf-8", "surrogatepass")):
            return "ticket_forged"
        return "ticket_expired" if now >= int(until) else None

    def _forget_expired(self, now: float) -> None:
        while self._taken and next(iter(self._taken.values())) <= now:
            self._taken.popitem(last=False)

    def _seal(self, head: str, call_id: str, claims: tuple[str, ...]) -> str:
        # Lengths keep what is signed apart: "a" and "bc" are not "ab" and "c".
        parts = [part.encode("utf-8", "surrogatepass") for part in (head, call_id, *claims)]
        signed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        digest = hmac.new(self._key, signed, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
