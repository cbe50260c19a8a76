"""Who may connect to ``/agent/ws``: which credential it is, and whether a page may use it."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Self
from urllib.parse import urlsplit

from fastagent.server.auth import BearerTokens
from fastagent.settings import Settings
from fastagent.wire.agentws_words import BEARER_SUBPROTOCOL

__all__ = ["AgentDoor"]


class AgentDoor:
    """The credentials and sites that may connect.

    Args:
        tokens: each stands for an owner of its own; it sees no session of another's.
        origins: sites whose pages may connect beside our own.
        is_open: without tokens, anybody on this machine may connect; else nobody.
    """

    def __init__(self, tokens: Iterable[str], origins: Iterable[str] = (), *, is_open: bool = False) -> None:
        # The name says nothing of the token, and is the same after a restart.
        self._owners = [
            ("client-" + hashlib.sha256(b"owner" + token.encode()).hexdigest()[:16], BearerTokens((token,)))
            for token in tokens
        ]
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._is_open = is_open and not self._owners

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The door that the settings ask for."""
        # A token anywhere says that others than this machine's users may come, by a proxy for example.
        is_open = settings.is_loopback and not settings.audiocodes_tokens
        return cls(settings.agent_tokens, settings.agent_origins, is_open=is_open)

    def owner_of(self, headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
        """Whose sessions these are; None for who may not connect.

        A browser can set no header, so the token may also stand among the subprotocols.
        """
        if self._is_open:
            return "client-of-this-machine"
        presented = [headers.get("authorization")]
        presented += [
            f"Bearer {name.removeprefix(BEARER_SUBPROTOCOL)}"
            for name in subprotocols
            if name.startswith(BEARER_SUBPROTOCOL)
        ]
        owners = [
            name
            for name, tokens in self._owners
            if any([tokens.admits(one) for one in presented])  # noqa: C419
        ]
        return owners[0] if owners else None

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
            return not self._is_open or _is_loopback(parts.hostname or "")
        except ValueError:
            return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
