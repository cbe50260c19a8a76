"""The file on the disk: its name, its mode, its lock, and what is done about a torn end."""

import os
import stat
from pathlib import Path

import pytest

from fastagent.errors import JournalCorruptError, JournalError
from fastagent.journal import MemoryJournal, append_file
from fastagent.journal.append_file import AppendFile, journal_name, read_journal, redaction_key


def lines_of(n: int) -> list[bytes]:
    journal = MemoryJournal(clock=lambda: 1.0)
    for number in range(n):
        journal.append("input", {"number": number, "text": "x" * 50})
    return journal._lines


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("session_id", "name"),
    [("call_42-a", "call_42-a.journal"), ("A" * 80, "A" * 80 + ".journal")],
)
def test_harmless_ids_are_names_as_they_are(session_id, name):
    assert journal_name(session_id) == name


@pytest.mark.parametrize(
    "session_id", ["", "../../etc/passwd", "a/b", "-rf", "a.b", "A" * 81, "größe", "\ud800", "a\0b", " a"]
)
def test_other_ids_are_made_harmless_and_stay_apart(session_id):
    name = journal_name(session_id)
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(("-", "."))
    assert len(name.encode()) < 120
    assert name != journal_name(session_id + "x")
    assert journal_name(name.removesuffix(".journal")) != name


def test_a_new_file_is_private_and_so_is_its_directory(tmp_path):
    path = tmp_path / "deep" / "a.journal"
    file, reading = AppendFile.open(path)
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert reading.lines == []


def test_a_file_that_others_could_read_becomes_private(tmp_path):
    path = written(tmp_path / "a.journal", b"")
    path.chmod(0o644)
    AppendFile.open(path)[0].close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_whatever_part_of_the_last_line_is_there_is_cut_off(tmp_path):
    lines = lines_of(3)
    whole = b"".join(line + b"\n" for line in lines[:2])
    for kept in range(len(lines[2]) + 1):
        path = written(tmp_path / "a.journal", whole + lines[2][:kept])
        file, reading = AppendFile.open(path)
        assert reading.lines == lines[:2]
        assert reading.torn_bytes == kept
        assert path.read_bytes() == whole
        file.append(lines[2] + b"\n")
        file.close()
        assert read_journal(path).lines == lines


def test_a_hole_of_zeros_and_all_behind_it_is_cut_off(tmp_path):
    lines = lines_of(5)
    content = b"".join(line + b"\n" for line in lines)
    at = sum(len(line) + 1 for line in lines[:2]) + 10
    path = written(tmp_path / "a.journal", content[:at] + bytes(100) + content[at + 100 :])
    file, reading = AppendFile.open(path)
    file.close()
    assert reading.lines == lines[:2]
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines[:2])


def test_a_changed_line_is_refused_and_the_file_left_alone(tmp_path):
    lines = lines_of(5)
    content = b"".join(line + b"\n" for line in lines).replace(b'"number":3', b'"number":7')
    path = written(tmp_path / "a.journal", content)
    with pytest.raises(JournalCorruptError, match="entry 3"):
        AppendFile.open(path)
    with pytest.raises(JournalCorruptError, match="entry 3"):
        read_journal(path)
    assert path.read_bytes() == content
    AppendFile.open(written(tmp_path / "a.journal", b""))[0].close()  # no lock was left


def test_reading_changes_nothing_and_needs_no_lock(tmp_path):
    lines = lines_of(2)
    content = lines[0] + b"\n" + lines[1]
    path = tmp_path / "a.journal"
    file, _ = AppendFile.open(path)
    file.append(content)
    reading = read_journal(path)
    assert reading.torn_bytes == len(lines[1])
    assert [entry.data["number"] for entry in reading.entries()] == [0]
    assert path.read_bytes() == content
    file.close()


def test_a_second_writer_is_refused(tmp_path):
    file, _ = AppendFile.open(tmp_path / "a.journal")
    with pytest.raises(JournalError, match="in use"):
        AppendFile.open(tmp_path / "a.journal")
    file.close()
    AppendFile.open(tmp_path / "a.journal")[0].close()


def test_links_and_pipes_are_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "link.journal").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match=r"link\.journal"):
        AppendFile.open(tmp_path / "link.journal")
    os.mkfifo(tmp_path / "pipe.journal")
    with pytest.raises(JournalError, match="regular"):
        AppendFile.open(tmp_path / "pipe.journal")


def test_a_file_too_large_to_be_ours_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(append_file, "READ_BYTES_MAX", 10)
    with pytest.raises(JournalError, match="11 bytes"):
        AppendFile.open(written(tmp_path / "a.journal", b"x" * 11))


def test_a_write_that_fails_halfway_leaves_whole_lines(tmp_path, monkeypatch):
    lines = lines_of(2)
    path = tmp_path / "a.journal"
    file, _ = AppendFile.open(path)
    file.append(lines[0] + b"\n")
    real_write = os.write
    left = [30]

    def write(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "no space")
        size = real_write(fd, bytes(data)[: left[0]])
        left[0] -= size
        return size

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="no space"):
        file.append(lines[1] + b"\n")
    assert file.is_sound
    assert path.read_bytes() == lines[0] + b"\n"
    left[0] = 1 << 20
    file.append(lines[1] + b"\n")
    file.close()
    assert read_journal(path).lines == lines


def test_a_half_line_that_cannot_be_taken_back_makes_the_file_unsound(tmp_path, monkeypatch):
    file, _ = AppendFile.open(tmp_path / "a.journal")
    sizes = iter([3])

    def write(fd: int, data: bytes) -> int:
        for size in sizes:
            return size
        raise OSError(5, "I/O error")

    def truncate(fd: int, size: int) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", truncate)
    with pytest.raises(OSError, match="I/O"):
        file.append(b"abcdef\n")
    assert not file.is_sound
    file.close()


def test_the_redaction_key_is_made_once_and_private(tmp_path):
    directory = tmp_path / "journals"
    key = redaction_key(directory)
    assert len(key) == 32
    assert redaction_key(directory) == key
    assert [path.name for path in directory.iterdir()] == ["redaction.key"]
    assert stat.S_IMODE((directory / "redaction.key").stat().st_mode) == 0o600
    assert redaction_key(tmp_path / "others") != key


def test_a_spoilt_redaction_key_is_refused(tmp_path):
    (tmp_path / "redaction.key").write_bytes(b"short")
    with pytest.raises(JournalError, match="expected 32 bytes"):
        redaction_key(tmp_path)
