"""Asks a server to measure itself: one request, two lines."""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from fastagent.errors import ConfigurationError
from fastagent.profile.reading import Begun, ProfileReading

__all__ = ["ServerAddress", "measure_server"]

CONNECT_TIMEOUT_S = 10.0
GRACE_S = 15.0
"""For the answer of a busy server, beyond the time it measures."""
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is, and what opens its door.

    Raises:
        ConfigurationError: no server can be there.
    """

    url: str
    token: str = ""

    def __post_init__(self) -> None:
        # What http.client says about a value it cannot send would quote it.
        if not self.token.isascii() or not self.token.isprintable():
            raise ConfigurationError("the token: expected printable ASCII")
        try:
            parts = self.parts
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets or a port that cannot be
            is_usable = False
        if not is_usable:
            raise ConfigurationError("--url: expected http://HOST:PORT or https://…")

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    @property
    def origin(self) -> str:
        """As it may be shown."""
        return f"{self.parts.scheme}://{self.parts.netloc.rpartition('@')[2]}"


async def measure_server(
    server: ServerAddress,
    seconds: float,
    every: int,
    on_begun: Callable[[Begun], None] = lambda begun: None,
) -> ProfileReading:
    """Have a server measure itself.

    Args:
        every: one frame in so many is timed; 0 for none.
        on_begun: told on the loop when it begins.

    Raises:
        ConfigurationError: it cannot be reached, says no, or is no such server; the message says why.
    """
    parts = server.parts
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(str(parts.hostname), parts.port, timeout=CONNECT_TIMEOUT_S)
    path = f"{parts.path.rstrip('/')}/profile?duration_ms={round(seconds * 1000)}&every={every}"
    loop = asyncio.get_running_loop()

    def exchange() -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        with contextlib.closing(connection):
            connection.request("POST", path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                return response.status, response.read(LINE_BYTES_MAX)
            begun = Begun.model_validate_json(response.readline(LINE_BYTES_MAX))
            loop.call_soon_threadsafe(on_begun, begun)
            if connection.sock is not None:
                connection.sock.settimeout(seconds + GRACE_S)
            return 200, response.readline(LINE_BYTES_MAX)

    try:
        status, content = await asyncio.to_thread(exchange)
        if status != 200:
            raise ConfigurationError(_refusal(server.origin, status, content))
        return ProfileReading.model_validate_json(content)
    except TimeoutError:
        raise ConfigurationError(f"{server.origin} did not answer in time") from None
    except ValidationError:
        raise ConfigurationError(
            f"{server.origin} gave no reading: it ended, is measured by somebody else, or has another version"
        ) from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(
            f"cannot reach {server.origin}: {why} (is `fastagent serve` running?)"
        ) from None
    finally:
        # After Ctrl-C the thread still waits for an answer, and the process for the thread.
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)


def _refusal(origin: str, status: int, content: bytes) -> str:
    if status == 401:
        return f"{origin} wants a bearer token of an admin"
    try:
        detail = json.loads(content).get("detail")
    except (ValueError, AttributeError, RecursionError):
        detail = None
    if isinstance(detail, str):
        return f"{origin} refused with {status}: {detail}"
    return f"{origin} answered {status}, but not as a FastAgent server does"
