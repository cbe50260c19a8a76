"""Records and lines: limits, what is never shown, and formats of other releases."""

from dataclasses import replace

import orjson
import pytest

from fastagent.errors import SessionError
from fastagent.sessions import SessionRecord, TranscriptLine
from fastagent.sessions import record as records
from fastagent.sessions.lease import Fence, Lease, new_holder
from fastagent.sessions.record import decode_line, decode_record, encode_line, encode_record

PLAIN = SessionRecord(session_id="call", agent_id="a", started_at_unix_s=1.5, updated_at_unix_s=2.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": ""},
        {"session_id": "a{b}"},
        {"session_id": "../a"},
        {"session_id": "a\n"},
        {"session_id": "a" * 129},
        {"agent_id": ""},
        {"agent_id": "a" * 257},
        {"owner": "\ud800"},
        {"status": "dead"},
        {"snapshot": bytes(records.SNAPSHOT_MAX_BYTES + 1)},
        {"graph_hashes": {str(n): "" for n in range(records.GRAPHS_MAX + 1)}},
    ],
)
def test_fields_beyond_their_limits_are_refused(changes):
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        replace(PLAIN, **changes)


def test_what_is_private_is_not_shown():
    shown = repr(replace(PLAIN, caller_key="digest-of-a-number", snapshot=b"state of mind"))
    assert "digest" not in shown
    assert "state of mind" not in shown
    assert "secret" not in repr(TranscriptLine(1, 1.0, "caller", "secret"))


def test_a_record_cannot_be_changed_behind_a_write_that_waits():
    hashes = {"book": "1"}
    record = replace(PLAIN, graph_hashes=hashes)
    hashes["book"] = "2"
    assert record.graph_hashes == {"book": "1"}
    with pytest.raises(TypeError):
        record.graph_hashes["book"] = "3"  # type: ignore[index]


def test_long_text_is_cut_at_a_whole_character():
    line = TranscriptLine(1, 1.0, "agent", "ß" * records.TEXT_MAX_BYTES)
    assert line.text == "ß" * (records.TEXT_MAX_BYTES // 2)
    assert TranscriptLine(1, 1.0, "agent", "a" + "ß" * records.TEXT_MAX_BYTES).text.endswith("ß")
    assert decode_line(encode_line(line)) == line


@pytest.mark.parametrize(("number", "speaker"), [(0, "caller"), (100_001, "caller"), (1, "bot")])
def test_lines_of_no_transcript_are_refused(number, speaker):
    with pytest.raises(ValueError):  # noqa: PT011
        TranscriptLine(number, 1.0, speaker, "")


def test_older_formats_are_read_step_by_step(monkeypatch):
    old = encode_record(PLAIN)
    monkeypatch.setattr(records, "RECORD_FORMAT", 3)
    monkeypatch.setitem(records.MIGRATIONS, 1, lambda fields: {**fields, "outcome": "step"})
    monkeypatch.setitem(records.MIGRATIONS, 2, lambda fields: {**fields, "outcome": fields["outcome"] + "s"})
    assert decode_record(old) == replace(PLAIN, outcome="steps")
    newest = encode_record(PLAIN)
    assert decode_record(newest) == PLAIN
    monkeypatch.setattr(records, "RECORD_FORMAT", 2)
    with pytest.raises(SessionError, match="newer release"):
        decode_record(newest)


def test_fields_that_a_later_release_adds_are_passed_over():
    fields = {**orjson.loads(encode_record(PLAIN)), "mood": "fine"}
    assert decode_record(orjson.dumps(fields)) == PLAIN


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"format":1}', b'{"format":"1"}', b'{"format":0}', b"\xff"]
)
def test_what_cannot_be_read_is_a_session_error_without_its_words(body):
    with pytest.raises(SessionError, match="cannot be read"):
        decode_record(body)
    with pytest.raises(SessionError, match="cannot be read"):
        decode_line(body)


def test_fence_knows_the_newest_lease():
    known = Fence("here", 3, 100.0)
    assert known.allows(Lease("call", "here", 3))
    assert known.allows(Lease("call", "there", 4))
    assert not known.allows(Lease("call", "there", 3))
    assert not known.allows(Lease("call", "here", 2))
    assert known.is_held_by_another("there", 99.0)
    assert not known.is_held_by_another("there", 100.0)
    assert not known.is_held_by_another("here", 99.0)
    assert not Fence("", 3, 100.0).is_held_by_another("there", 99.0)


def test_holders_are_never_the_same():
    assert len({new_holder() for _ in range(100)}) == 100
