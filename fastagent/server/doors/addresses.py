"""Network addresses as limits see them."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["IPV6_PREFIX_BITS", "Networks", "address_key", "with_mapped_forms"]

IPV6_PREFIX_BITS = 64
"""What one IPv6 subscriber is given: all its addresses count as one (RFC 6177)."""
ADDRESS_CHARACTERS_MAX = 64
"""Of a text that is no address: some proxies forward names."""


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """What stands for an address in a limit's table: itself, or the /64 of an IPv6 one."""
    if len(address) > ADDRESS_CHARACTERS_MAX:
        return address[:ADDRESS_CHARACTERS_MAX]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    network = ipaddress.ip_network((int(parsed), IPV6_PREFIX_BITS), strict=False)
    return str(network)


class Networks:
    """A set of addresses, written as addresses or networks."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(text) for text in texts)

    def __contains__(self, address: str) -> bool:
        try:
            parsed: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)


def with_mapped_forms(texts: Iterable[str]) -> list[str]:
    """The same networks, and how their IPv4 ones look to a socket that listens on IPv6, too."""
    both = []
    for text in texts:
        both.append(text)
        network = ipaddress.ip_network(text)
        if isinstance(network, ipaddress.IPv4Network):
            both.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return both
