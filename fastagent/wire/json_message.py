"""One JSON object per message: read within limits, written whatever it holds."""

import json
from typing import Any

import orjson

from fastagent.errors import MalformedMessageError

__all__ = ["Json", "dump_json", "parse_object"]

Json = dict[str, Any]

DEPTH_MAX = 32
"""Nested objects and arrays in one message; the native scanner refuses the same."""
OPENINGS_MAX = 4096
"""Opening brackets in one message; real ones have a dozen."""


def dump_json(value: object) -> bytes:
    """The value as compact JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Lone surrogates and huge integers, which data of agents may hold: legal when written as ASCII.
        return json.dumps(value, separators=(",", ":")).encode()


def parse_object(peer: str, message: bytes) -> Json:
    """The object that a message is.

    Raises:
        MalformedMessageError: not one JSON object, or deeper or more branched than a message may be.
    """
    # Counting brackets takes microseconds, and spares the loop the parsing of a message made to be slow.
    openings = message.count(b"{") + message.count(b"[")
    if openings > OPENINGS_MAX:
        raise MalformedMessageError(
            peer, f"expected at most {OPENINGS_MAX} objects and arrays, got {openings}"
        )
    parsed: Any = None
    try:
        parsed = orjson.loads(message)
    except orjson.JSONDecodeError:
        # Raised below, outside this block: the decoder's error holds the payload and must not travel along.
        pass
    if not isinstance(parsed, dict):
        raise MalformedMessageError(peer, f"expected one JSON object, got {len(message)} other bytes")
    if openings > DEPTH_MAX and _is_deeper_than(parsed, DEPTH_MAX):
        raise MalformedMessageError(peer, f"expected at most {DEPTH_MAX} nested objects and arrays")
    return parsed


def _is_deeper_than(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = [item for item in inner if isinstance(item, dict | list)]
    return bool(level)
