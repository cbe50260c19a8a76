"""The line of an entry, and the chain."""

import hashlib
import json
import math

import pytest

from fastagent.errors import JournalCorruptError
from fastagent.journal import MemoryJournal
from fastagent.journal.entry import GENESIS_HASH, canonical_json, decode_entry, encode_entry


def test_a_line_is_json_and_its_hash_can_be_recomputed_with_the_stdlib():
    line, digest = encode_entry(3, 12.5, "input", {"text": "größer", "a": [1, None]}, "f" * 64)
    members = json.loads(line)
    assert members.pop("hash") == digest
    body = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hashlib.sha256(body).hexdigest() == digest


def test_a_line_reads_back():
    line, digest = encode_entry(0, 12.5, "slot", {"name": "day"}, GENESIS_HASH)
    entry = decode_entry(line, 0, GENESIS_HASH)
    assert (entry.seq, entry.at_unix_s, entry.kind, entry.data) == (0, 12.5, "slot", {"name": "day"})
    assert (entry.prev_hash, entry.hash) == (GENESIS_HASH, digest)


def test_order_of_names_does_not_matter():
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == canonical_json({"a": {"c": 3, "d": 2}, "b": 1})


def test_what_json_cannot_hold_is_a_type_error_that_quotes_nothing():
    class Secret:
        def __repr__(self) -> str:
            return "4111"

    for data in ({"card": Secret()}, {"n": 1 << 70}, {1: "x"}, {"x": "\ud800"}):
        with pytest.raises(TypeError) as caught:
            encode_entry(0, 0.0, "slot", data, GENESIS_HASH)  # type: ignore[arg-type]
        assert "4111" not in str(caught.value)
    assert canonical_json(math.nan) == b"null"


LINE, DIGEST = encode_entry(1, 1.0, "input", {"text": "hello"}, "a" * 64)


def resealed(line: bytes) -> bytes:
    """The line with a hash that fits."""
    body = line[: line.rindex(b',"hash":')] + b"}"
    return body[:-1] + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not an entry"),
        (b"{}", "not an entry"),
        (LINE[:-1], "not an entry"),
        (LINE + b" ", "not an entry"),
        (LINE.replace(b"hello", b"hullo"), "its hash does not fit"),
        (LINE.replace(b'"seq":1', b'"seq":2'), "its hash does not fit"),
        (LINE[:-3] + b'z"}', "its hash does not fit"),
        (resealed(LINE.replace(b'"seq":1', b'"seq":2')), "expected number 1"),
        (resealed(LINE.replace(b"a" * 64, b"b" * 64)), "does not follow"),
        (resealed(LINE.replace(b'"kind":"input"', b'"kind":5')), "not an entry"),
        (resealed(LINE.replace(b'{"text":"hello"}', b"[]")), "not an entry"),
        (resealed(LINE.replace(b'"kind":', b'"sort":')), "not an entry"),
        (resealed(LINE.replace(b'"text":', b'"text"')), "not JSON"),
    ],
)
def test_a_line_that_does_not_fit_is_named_by_its_number(line, reason):
    with pytest.raises(JournalCorruptError, match=reason) as caught:
        decode_entry(line, 1, "a" * 64)
    assert caught.value.seq == 1
    assert "hello" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("spoil", ["drop", "swap", "insert", "repeat"])
def test_dropped_swapped_inserted_and_repeated_lines_break_the_chain(spoil):
    journal = MemoryJournal(clock=lambda: 5.0)
    for n in range(6):
        journal.append("input", {"n": n})
    lines = journal._lines
    match spoil:
        case "drop":
            del lines[3]
        case "swap":
            lines[3], lines[4] = lines[4], lines[3]
        case "insert":
            lines.insert(3, encode_entry(3, 5.0, "input", {"n": 9}, json.loads(lines[2])["hash"])[0])
        case "repeat":
            lines.insert(3, lines[2])
    with pytest.raises(JournalCorruptError) as caught:
        journal.verify_chain()
    assert caught.value.seq == (4 if spoil == "insert" else 3)
