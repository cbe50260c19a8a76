"""Entry: one line of a journal, and the chain of hashes that joins the lines.

::

    {"at_unix_s":1763740000.25,"data":{…},"kind":"input","prev_hash":"…","seq":7,"hash":"…"}\\n

A line is JSON with sorted names and no spaces, but for ``hash``, which stands last: it is the SHA-256 of the
line without it. The first line's ``prev_hash`` is `GENESIS_HASH`. Who changes, drops or swaps lines breaks
the chain from there on; who cuts lines off the end does not: to see that takes a copy of the last hash.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from fastagent.errors import JournalCorruptError

__all__ = ["GENESIS_HASH", "Entry", "canonical_json", "decode_entry", "encode_entry"]

GENESIS_HASH = "0" * 64
HASH_MARK = b',"hash":"'
HASH_TAIL_BYTES = len(HASH_MARK) + 64 + len(b'"}')
_NAMES = {"at_unix_s", "data", "kind", "prev_hash", "seq", "hash"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, when, and the hash that fixes its place."""

    seq: int
    """0 for the first."""
    at_unix_s: float
    kind: str
    data: Mapping[str, Any] = field(repr=False)
    """JSON values; a copy of what was appended."""
    prev_hash: str = field(repr=False)
    hash: str


def canonical_json(value: object) -> bytes:
    """Give the one way to write a value: sorted names, no spaces, UTF-8; NaN and infinities become null.

    Raises:
        TypeError: JSON cannot hold it. The message names types, never values.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def encode_entry(
    seq: int, at_unix_s: float, kind: str, data: Mapping[str, object], prev_hash: str
) -> tuple[bytes, str]:
    """Give an entry's line, without the line feed, and its hash.

    Raises:
        TypeError: JSON cannot hold ``data``.
    """
    body = orjson.dumps(
        {"at_unix_s": at_unix_s, "data": data, "kind": kind, "prev_hash": prev_hash, "seq": seq},
        option=orjson.OPT_SORT_KEYS,
    )
    digest = hashlib.sha256(body).hexdigest()
    return b'%b%b%b"}' % (body[:-1], HASH_MARK, digest.encode()), digest


def decode_entry(line: bytes, seq: int, prev_hash: str) -> Entry:
    """Read a line that should be number ``seq`` behind ``prev_hash``.

    Raises:
        JournalCorruptError: it is not; the reason says what is wrong, never what the line holds.
    """
    tail = line[-HASH_TAIL_BYTES:]
    if not tail.startswith(HASH_MARK) or not line.endswith(b'"}'):
        raise JournalCorruptError(seq, "not an entry")
    digest = tail[len(HASH_MARK) : -2].decode("ascii", "replace")
    if hashlib.sha256(line[:-HASH_TAIL_BYTES] + b"}").hexdigest() != digest:
        raise JournalCorruptError(seq, "its hash does not fit")
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise JournalCorruptError(seq, "not JSON") from None
    if not isinstance(members, dict) or members.keys() != _NAMES or not isinstance(members["data"], dict):
        raise JournalCorruptError(seq, "not an entry")
    entry = Entry(**members)
    if not isinstance(entry.at_unix_s, int | float) or not isinstance(entry.kind, str):
        raise JournalCorruptError(seq, "not an entry")
    if entry.seq != seq:
        raise JournalCorruptError(seq, f"expected number {seq}, got another")
    if entry.prev_hash != prev_hash:
        raise JournalCorruptError(seq, "it does not follow the one before")
    return entry
