"""Who may connect to ``/agent/ws``: which credential it is, and whether a page may use it."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from fastagent.server.doors.auth import Credential, Denial, Doorkeeper, Scope
from fastagent.wire.agentws_words import BEARER_SUBPROTOCOL

__all__ = ["AgentDoor"]


class AgentDoor:
    """The credentials and sites that may connect.

    Args:
        doors: knows the tokens; each stands for an owner of its own, who sees no session of another's.
        origins: sites whose pages may connect beside our own.
    """

    def __init__(self, doors: Doorkeeper, origins: Iterable[str] = ()) -> None:
        self._doors = doors
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def check(self, connection: HTTPConnection, subprotocols: Sequence[str] = ()) -> Credential | Denial:
        """Whose sessions these are, or why nobody's; refusals are counted.

        A browser can set no header, so the token may also stand among the subprotocols.
        """
        offered = [name for name in subprotocols if name.startswith(BEARER_SUBPROTOCOL)]
        presented = connection.headers.get("authorization")
        if presented is None and offered:
            presented = f"Bearer {offered[0].removeprefix(BEARER_SUBPROTOCOL)}"
        address = connection.client.host if connection.client is not None else ""
        # Which pages may connect is `admits_page`'s to say.
        return self._doors.counted(self._doors.admit(presented, address, Scope.CALL))

    def admits_page(self, headers: Mapping[str, str]) -> bool:
        """Whether the page that asks, if it is one, is ours or one that was allowed.

        Browsers let any page open a WebSocket to anywhere; only the ``Origin`` tells it.
        """
        origin = headers.get("origin")
        if origin is None:
            return True
        origin = origin.lower()
        if origin in self._origins:
            return True
        host = headers.get("host", "").lower()
        try:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not host or parts.netloc != host:
                return False
            # A foreign name that was made to lead to this machine is not this machine (DNS rebinding).
            return not self._doors.is_open or _is_loopback(parts.hostname or "")
        except ValueError:
            return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
