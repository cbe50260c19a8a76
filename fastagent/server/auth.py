"""Who may connect: bearer tokens, compared in constant time."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["BearerTokens"]


class BearerTokens:
    """The tokens one door accepts; none at all means that it is open (loopback only, see `Settings`).

    Only digests are kept. All tokens of a door stand for one owner, so that they can be rotated under
    running calls.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = tuple(hashlib.sha256(token.encode()).digest() for token in tokens)

    @property
    def is_open(self) -> bool:
        """Anyone may connect."""
        return not self._digests

    def admits(self, authorization: str | None, origin: str | None = None) -> bool:
        """The ``Authorization`` header holds one of the tokens, or the door is open.

        An open door is not open to web pages of other sites: a browser on this machine would let any of them
        through, and says so in ``origin``.
        """
        if self.is_open:
            return origin is None or _is_local(origin)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        # Header values come as latin-1 text; digests of bytes compare whatever they hold.
        try:
            presented = hashlib.sha256(token.strip().encode("latin-1")).digest()
        except UnicodeEncodeError:
            return False
        # Every digest is compared, so that the time does not tell which one matched.
        return any([hmac.compare_digest(digest, presented) for digest in self._digests])  # noqa: C419


def _is_local(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
