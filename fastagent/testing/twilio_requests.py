"""Requests as Twilio makes them: forms, signed, over a plain HTTP/1.1 connection of their own."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from fastagent.errors import LegConnectError

__all__ = ["Answer", "post_form", "sign"]

LEG = "carrier"
ANSWER_BYTES_MAX = 1 << 20
TIMEOUT_S = 15.0
"""Twilio's own for a webhook."""

Pairs = Iterable[tuple[str, str]]


def sign(auth_token: str, url: str, fields: Pairs = ()) -> str:
    """The value of ``X-Twilio-Signature``, as the vendor's documents describe it."""
    text = url
    for name, value in sorted(set(fields)):
        text += name + value
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """By lower-case names."""
    body: bytes


async def post_form(
    url: str, fields: Pairs, headers: Mapping[str, str], *, timeout_s: float = TIMEOUT_S
) -> Answer:
    """Post a form.

    Raises:
        LegConnectError: nobody answers, or what answers is no HTTP.
    """
    body = urlencode(list(fields)).encode()
    given = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    return await _request("POST", url, body, given, timeout_s)


async def _request(
    method: str, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float
) -> Answer:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given = {"Host": parts.netloc, "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    is_tls = parts.scheme == "https"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if is_tls else 80), ssl=is_tls or None
            )
            try:
                writer.write(head + body)
                await writer.drain()
                return _answer_in(await _read_to_end(reader))
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, ValueError) as error:
        raise LegConnectError(LEG, type(error).__name__, retryable=True) from None


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed, up to the limit: head and body may come apart."""
    data = bytearray()
    while len(data) < ANSWER_BYTES_MAX and (piece := await reader.read(ANSWER_BYTES_MAX - len(data))):
        data += piece
    return bytes(data)


def _answer_in(data: bytes) -> Answer:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError("no HTTP answer")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, body)
