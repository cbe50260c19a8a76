"""How many connections are open that carry no call: in all, and from one address."""

import resource
from collections import Counter
from typing import Any

from fastagent.server.doors.addresses import Networks, address_key
from fastagent.settings import Settings
from fastagent.stats import Counters

__all__ = ["ConnectionLimit", "descriptor_share", "raise_descriptor_limit"]

DESCRIPTOR_SHARE = 10
"""Connections without a call get a tenth of the file descriptors: the rest belongs to calls."""
DESCRIPTORS_WANTED = 65_536
"""A call takes two, and a file for each thing that is written down of it."""
CONNECTIONS_MIN = 16
"""However few descriptors there are."""
REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
)


def descriptor_share() -> int:
    """How many connections without a call the process can afford."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(CONNECTIONS_MIN, soft // DESCRIPTOR_SHARE)


def raise_descriptor_limit() -> None:
    """Have as many file descriptors as we may: many systems begin with 1024, too few for 500 calls."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ConnectionLimit:
    """Counts connections from their first moment until they end or a call takes them over.

    A silent connection, half a request and an idle HTTP client count; a call does not, it has limits of its
    own. A trusted proxy is many clients, so only the total holds for it.
    """

    def __init__(self, total_max: int, per_address_max: int, proxies: Networks, counters: Counters) -> None:
        self._total_max = total_max
        self._per_address_max = per_address_max
        self._proxies = proxies
        self._counters = counters
        self._held: dict[Any, str] = {}
        self._by_address: Counter[str] = Counter()

    @classmethod
    def from_settings(cls, settings: Settings, counters: Counters) -> "ConnectionLimit":
        """The limits of one server."""
        return cls(
            min(settings.max_connections, descriptor_share()),
            settings.connections_per_address,
            Networks(settings.trusted_proxies),
            counters,
        )

    @property
    def held(self) -> int:
        """Connections that count now."""
        return len(self._held)

    def admit(self, transport: Any) -> bool:
        """Take a fresh connection into the count; False when it has to be refused."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        key = "" if address in self._proxies else address_key(address)
        if len(self._held) >= self._total_max:
            self._counters.note("connections_refused_total")
            return False
        if key and self._by_address[key] >= self._per_address_max:
            self._counters.note("connections_refused_address")
            return False
        self._held[transport] = key
        if key:
            self._by_address[key] += 1
        return True

    def release(self, transport: Any) -> None:
        """A connection counts no more; once more does no harm."""
        key = self._held.pop(transport, "")
        if not key:
            return
        if self._by_address[key] <= 1:
            del self._by_address[key]
        else:
            self._by_address[key] -= 1
