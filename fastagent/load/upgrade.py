"""The two handshakes of a WebSocket (RFC 6455, section 4) on sockets that the engine then takes over."""

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastagent.errors import LegConnectError, LegTimeoutError

__all__ = ["TLS_FAILED", "TlsPipes", "accept", "connect"]

LEG = "carrier"
HEAD_BYTES_MAX = 16_384
PIPE_BYTES = 65_536
TLS_FAILED = "no TLS, or a certificate that is not trusted"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class TlsPipes:
    """Ciphers for sockets of the engine, which speaks plain TCP only: a pair of pumps for each.

    This costs far more than the engine itself: for many calls put a TLS terminator beside the load test.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> socket.socket:
        """A plain socket whose other end is ciphered."""
        context = self._context or ssl.create_default_context()
        far_reader, far_writer = await asyncio.open_connection(host, port, ssl=context)
        ours, theirs = socket.socketpair()
        near_reader, near_writer = await asyncio.open_connection(sock=theirs)
        for reader, writer in ((far_reader, near_writer), (near_reader, far_writer)):
            task = asyncio.create_task(_pump(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        ours.setblocking(False)
        return ours

    async def close(self) -> None:
        """End all pumps."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(PIPE_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def connect(
    url: str,
    headers: Mapping[str, str],
    pipes: TlsPipes,
    *,
    timeout_s: float,
    through: tuple[str, int] | None = None,
) -> tuple[int, bytes]:
    """Open a WebSocket.

    Args:
        through: host and port of a proxy that the socket goes to instead.

    Returns:
        The socket's descriptor, which the caller owns, and what was read behind the answer.

    Raises:
        LegConnectError: refused (``status`` holds the HTTP answer) or not reachable.
        LegTimeoutError: no answer in time.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    host, port = through or (host, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    key = base64.b64encode(os.urandom(16))
    lines = {
        "Host": parts.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    request = f"GET {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    raw: socket.socket | None = None
    try:
        async with asyncio.timeout(timeout_s):
            raw = await (pipes.open(host, port) if parts.scheme == "wss" else _tcp(host, port))
            await asyncio.get_running_loop().sock_sendall(raw, request.encode("latin-1") + b"\r\n")
            head, rest = await _read_head(raw)
    except TimeoutError:
        _close(raw)
        raise LegTimeoutError(LEG, f"no upgrade within {timeout_s:g} s", retryable=True) from None
    except ssl.SSLError:
        raise LegConnectError(LEG, TLS_FAILED, retryable=False) from None
    except (OSError, ValueError) as error:
        _close(raw)
        raise LegConnectError(LEG, type(error).__name__, retryable=True) from None
    except asyncio.CancelledError:
        _close(raw)
        raise
    status = int(head[9:12]) if head.startswith(b"HTTP/1.") and head[9:12].isdigit() else 0
    if status != 101 or _accept_key(key) not in head:
        _close(raw)
        raise LegConnectError(LEG, f"the server answered {status}", retryable=False, status=status)
    return raw.detach(), rest


async def accept(raw: socket.socket, *, timeout_s: float) -> tuple[int, bytes, dict[str, str]]:
    """Answer an upgrade request; takes the first subprotocol that is offered.

    Returns:
        The descriptor, which the caller owns, what was read behind the request, and its headers by lower-case
        names; the path stands under ``:path``.

    Raises:
        LegConnectError: what came was no upgrade.
        LegTimeoutError: nothing whole came in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            head, rest = await _read_head(raw)
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            headers[":path"] = first.split(" ")[1] if first.startswith("GET ") else ""
            key = headers.get("sec-websocket-key")
            if key is None or not headers[":path"]:
                raise ValueError("no upgrade")
            answer = (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + _accept_key(key.encode()) + b"\r\n"
            )
            offered = headers.get("sec-websocket-protocol", "").split(",")[0].strip()
            if offered:
                answer += f"Sec-WebSocket-Protocol: {offered}\r\n".encode("latin-1")
            await asyncio.get_running_loop().sock_sendall(raw, answer + b"\r\n")
    except TimeoutError:
        _close(raw)
        raise LegTimeoutError("model", "no upgrade in time", retryable=False) from None
    except (OSError, ValueError) as error:
        _close(raw)
        raise LegConnectError("model", type(error).__name__, retryable=False) from None
    return raw.detach(), rest, headers


async def _tcp(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = infos[0]
    raw = socket.socket(family, kind, protocol)
    raw.setblocking(False)
    try:
        await loop.sock_connect(raw, address)
    except BaseException:
        raw.close()
        raise
    return raw


async def _read_head(raw: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await asyncio.get_running_loop().sock_recv(raw, HEAD_BYTES_MAX)
        if not more or len(data) > HEAD_BYTES_MAX:
            raise ValueError("no head")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def _close(raw: socket.socket | None) -> None:
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.close()
