"""Bodies of requests, strictly read: bounded, of the type they claim, JSON that reads in one way only."""

import re
from typing import Any

import orjson
from starlette.requests import Request

from fastagent.server.rest.problems import Problem, bad_request

__all__ = ["DEPTH_MAX", "parse_json", "read_body", "read_json"]

DEPTH_MAX = 32
"""Objects and lists within one another."""

_JSON_TYPES = re.compile(r'application/json(\s*;\s*charset\s*=\s*"?utf-8"?)?\s*', re.IGNORECASE)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The request's body, refused as soon as it is known to be too large.

    Raises:
        Problem: 413.
    """
    too_large = Problem(413, "body-too-large", f"expected a body of at most {limit_bytes} bytes")
    if (claimed := request.headers.get("content-length", "")).isdecimal() and int(claimed) > limit_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise too_large
    return bytes(body)


async def read_json(request: Request, limit_bytes: int) -> bytes:
    """The bytes of a JSON body; `parse_json` reads them, in a thread where they may be many.

    Raises:
        Problem: 413, or 415 for another type.
    """
    if not _JSON_TYPES.fullmatch(request.headers.get("content-type", "")):
        raise Problem(415, "unsupported-media-type", "expected Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported-encoding", "expected a body without Content-Encoding")
    return await read_body(request, limit_bytes)


def parse_json(body: bytes) -> Any:
    """Read JSON that everybody reads in the same way.

    Raises:
        Problem: 400: not JSON (RFC 8259, UTF-8), a key twice in one object, or deeper than `DEPTH_MAX`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("the body is not JSON", "not-json") from None
    if _depth(value) > DEPTH_MAX:
        raise bad_request(f"the JSON is nested deeper than {DEPTH_MAX}", "json-too-deep")
    # A doubled key leaves fewer members than there are colons outside of strings.
    if _members(value) != _keys_written(body):
        raise bad_request("a key stands twice in one object", "json-doubled-key")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > DEPTH_MAX:
            break
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return depth


def _members(value: Any) -> int:
    count, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            count += len(one)
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
    return count


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _keys_written(body: bytes) -> int:
    return _STRING.sub(b"", body).count(b":")
