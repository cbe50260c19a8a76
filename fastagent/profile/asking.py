"""Asks a server to measure itself: one request, two lines."""

import asyncio
import contextlib
import http.client
import json
import socket

from pydantic import ValidationError

from fastagent.errors import ConfigurationError
from fastagent.profile.reading import Begun, ProfileReading
from fastagent.server_address import ServerAddress

__all__ = ["measure_server"]

CONNECT_TIMEOUT_S = 10.0
GRACE_S = 15.0
"""For the answer of a busy server, beyond the time it measures."""
LINE_BYTES_MAX = 1 << 20


async def measure_server(server: ServerAddress, seconds: float, every: int) -> ProfileReading:
    """Have a server measure itself.

    Args:
        every: one frame in so many is timed; 0 for none.

    Raises:
        ConfigurationError: it cannot be reached, says no, or is no such server; the message says why.
    """
    connection = server.connection(CONNECT_TIMEOUT_S)
    target = server.target(f"/profile?duration_ms={round(seconds * 1000)}&every={every}")
    held: list[socket.socket] = []

    def exchange() -> tuple[int, bytes]:
        with contextlib.closing(connection):
            connection.connect()
            # A connection that ends with its answer forgets its socket before that is read.
            held.append(connection.sock)
            connection.request("POST", target, headers=server.headers)
            with connection.getresponse() as response:
                if response.status != 200:
                    return response.status, response.read(LINE_BYTES_MAX)
                Begun.model_validate_json(response.readline(LINE_BYTES_MAX))
                held[0].settimeout(seconds + GRACE_S)
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
        raise server.unreachable(error) from None
    finally:
        # After Ctrl-C the thread still waits for an answer, and the process for the thread.
        for one in held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


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
