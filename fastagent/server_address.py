"""Where a running server is asked over HTTP, and what opens its door."""

import http.client
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from fastagent.errors import ConfigurationError

__all__ = ["DEFAULT_URL", "ServerAddress"]

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server and the bearer token for it.

    Args:
        url: ``http://`` or ``https://``, host, and port where it is not the usual one.
        token: empty for a server that asks for none.

    Raises:
        ConfigurationError: no server can be there, or no such token can be sent.
    """

    url: str = DEFAULT_URL
    token: str = ""

    def __post_init__(self) -> None:
        try:
            parts = self.parts
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets or a port that cannot be
            is_usable = False
        if not is_usable:
            raise ConfigurationError(
                "--url: expected http://HOST:PORT or https://…, the port from 1 to 65535"
            )
        # What http.client says about a value it cannot send would quote it.
        if not self.token.isascii() or not self.token.isprintable():
            raise ConfigurationError("--token: expected printable ASCII")

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    @property
    def origin(self) -> str:
        """As it may be shown."""
        return f"{self.parts.scheme}://{self.parts.netloc.rpartition('@')[2]}"

    @property
    def headers(self) -> dict[str, str]:
        """What each request needs to be let in."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def target(self, path: str) -> str:
        """What to ask for: a path of the server, behind that of its URL."""
        return self.parts.path.rstrip("/") + path

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection to it, not open yet; the time holds for connecting and for each read and write."""
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        return kind(str(self.parts.hostname), self.parts.port, timeout=timeout_s)

    def unreachable(self, error: Exception) -> ConfigurationError:
        """What to raise for an error of the connection."""
        why = getattr(error, "strerror", None) or type(error).__name__
        return ConfigurationError(f"cannot reach {self.origin}: {why} (is `fastagent serve` running?)")
