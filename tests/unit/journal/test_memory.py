"""Entries in memory: copied, numbered, chained, capped."""

import asyncio
import logging

import pytest

from fastagent.errors import JournalError
from fastagent.journal import Journal, JournalLimits, MemoryJournal


def test_entries_are_numbered_chained_and_timed():
    times = iter([1.0, 2.0, 3.0])
    journal: Journal = MemoryJournal(clock=lambda: next(times))
    appended = [journal.append("input", {"n": n}) for n in range(3)]
    assert list(journal.entries()) == appended
    assert list(journal.entries(2)) == appended[2:]
    assert list(journal.entries(3)) == []
    assert [entry.at_unix_s for entry in appended] == [1.0, 2.0, 3.0]
    assert [entry.prev_hash for entry in appended[1:]] == [entry.hash for entry in appended[:-1]]
    assert journal.head == (3, appended[-1].hash)
    journal.verify_chain()


def test_data_is_copied():
    journal = MemoryJournal()
    data = {"list": [1]}
    entry = journal.append("input", data)
    data["list"].append(2)
    assert entry.data == {"list": [1]}
    assert next(journal.entries()).data == {"list": [1]}


def test_entries_can_be_appended_while_they_are_read():
    journal = MemoryJournal()
    journal.record("input", {})
    seen = []
    for entry in journal.entries():
        seen.append(entry.seq)
        if len(seen) < 3:
            journal.record("input", {})
    assert seen == [0, 1, 2]


def test_data_that_cannot_be_written_add_nothing():
    journal = MemoryJournal()
    with pytest.raises(TypeError):
        journal.append("input", {"x": object()})
    with pytest.raises(TypeError, match="mapping"):
        journal.append("input", ["x"])  # type: ignore[arg-type]
    assert journal.head[0] == 0


def test_an_empty_journal_is_not_taken_for_none():
    assert len(MemoryJournal()) == 0
    assert MemoryJournal()


def test_recording_never_fails():
    journal = MemoryJournal()
    journal.record("slot", {"value": object()})
    assert [(entry.kind, entry.data) for entry in journal.entries()] == [("slot", {"is_cut": True})]


def test_an_oversize_entry_tells_its_kind_and_size():
    journal = MemoryJournal(limits=JournalLimits(entry_bytes=1024))
    entry = journal.append("effect_outcome", {"result": "x" * 2000})
    assert entry.kind == "oversize"
    assert entry.data["kind"] == "effect_outcome"
    assert entry.data["size_bytes"] > 2000
    journal.append("input", {})
    journal.verify_chain()


def test_a_full_journal_drops_says_so_once_and_refuses_commits(caplog):
    journal = MemoryJournal(limits=JournalLimits(journal_bytes=1000))
    asyncio.run(journal.commit())
    with caplog.at_level(logging.WARNING, "fastagent.journal"):
        for n in range(20):
            journal.append("input", {"text": f"secret {n}"})
    assert 0 < len(journal) < 20
    assert journal.kept_bytes <= 1000
    assert journal.dropped == 20 - len(journal)
    assert not journal.is_durable
    journal.verify_chain()
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text
    with pytest.raises(JournalError, match="full"):
        asyncio.run(journal.commit())


@pytest.mark.parametrize(
    "limits", [{"entry_bytes": 10}, {"journal_bytes": 0}, {"backlog_bytes": -1}, {"commit_timeout_s": 0}]
)
def test_limits_must_make_sense(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        JournalLimits(**limits)


def test_repr_shows_no_data():
    journal = MemoryJournal()
    entry = journal.append("input", {"text": "secret"})
    assert "secret" not in repr(entry) + repr(journal)
