"""A request about a call that runs in a sibling process: passed on as it came, and answered as they answer.

A carrier's webhooks come to whichever process accepts them; the one that does not have the call asks its
siblings in turn. A request that a sibling made is answered 404 by a process that does not have it either.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from fastagent.server.life.forward import CREDENTIALS, SIBLING_STATE
from fastagent.server.life.siblings import visit

__all__ = ["ask_siblings", "is_from_sibling"]

ASK_TIMEOUT_S = 2.0
"""For one sibling to answer; a carrier waits some 15 s."""
ANSWER_BYTES_MAX = 65_536
PASSED_ON = ("content-type", *CREDENTIALS)
"""Headers by which a sibling reads and believes a request."""


def is_from_sibling(connection: HTTPConnection) -> bool:
    """Another process of this port passed it on."""
    return bool(connection.scope.get("state", {}).get(SIBLING_STATE, False))


async def ask_siblings(request: Request, body: bytes, paths: Sequence[Path]) -> Response | None:
    """The answer of the sibling that has the call; None when none has, or says so in time."""
    for path in paths:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answer = await _ask(request, body, path)
        except (OSError, TimeoutError, ValueError):
            continue
        if answer.status_code != 404:
            return answer
    return None


async def _ask(request: Request, body: bytes, path: Path) -> Response:
    target = request.scope["raw_path"] + (b"?" + query if (query := request.scope["query_string"]) else b"")
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    headers |= {"host": "sibling", "content-length": str(len(body)), "connection": "close"}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = request.method.encode() + b" " + target + b" HTTP/1.1\r\n"
    reader, writer = await asyncio.open_connection(sock=visit(path))
    try:
        writer.write(head + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        await writer.drain()
        return _answer_in(await _read_all(reader))
    finally:
        writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while piece := await reader.read(ANSWER_BYTES_MAX):
        data += piece
        if len(data) > ANSWER_BYTES_MAX:
            raise ValueError("too large")
    return bytes(data)


def _answer_in(data: bytes) -> Response:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError("no answer")
    first, *lines = head.split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    headers: Mapping[str, str] = Headers(raw=[(name.lower(), value.strip()) for name, _, value in pairs])
    return Response(body, int(first.split(b" ")[1]), media_type=headers.get("content-type"))
