"""What a crash leaves is published, what is aged goes, and nothing else is touched."""

import fcntl
import os
import struct
import wave

import pytest

from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.audio.wav import header, read_wav
from fastagent.recording.marks import PAUSED, Mark, mark_chunks, parse_marks
from fastagent.recording.repair import Outcome, expire, recordings, repair
from fastagent.recording.wav_file import GrowingWav
from tests.unit.recording.readers import READERS

DATA = bytes(range(256)) * 4


def outcomes(results):
    return {result.path.name: result.outcome for result in results}


@pytest.mark.parametrize("format", [PCM16_8K, MULAW_8K])
@pytest.mark.parametrize("promised", [0, 512, 1024, None, 1 << 20])
def test_all_samples_of_a_leftover_are_kept_whatever_its_header_says(tmp_path, format, promised):
    (tmp_path / "call.wav.part").write_bytes(header(format, 2, promised) + DATA)
    assert outcomes(repair(tmp_path)) == {"call.wav": Outcome.PUBLISHED}
    assert [path.name for path in tmp_path.iterdir()] == ["call.wav"]
    assert (tmp_path / "call.wav").read_bytes() == header(format, 2, 1024) + DATA


def test_a_torn_last_sample_is_cut_off(tmp_path):
    (tmp_path / "call.wav.part").write_bytes(header(PCM16_8K, 2, 0) + DATA + b"\1\2\3")
    repair(tmp_path)
    assert (tmp_path / "call.wav").read_bytes() == header(PCM16_8K, 2, 1024) + DATA


@pytest.mark.parametrize("content", [b"", header(PCM16_8K, 2, 0), header(MULAW_8K, 2, 0) + b"\1"])
def test_a_leftover_without_samples_is_removed(tmp_path, content):
    (tmp_path / "call.wav.part").write_bytes(content)
    assert outcomes(repair(tmp_path)) == {"call.wav.part": Outcome.EMPTY}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [bytes(5000), b"RIFF", b"RIFF....WAVEfmt ", b"some text", header(PCM16_8K, 2)[:40]]
)
def test_what_has_no_header_is_left_alone(tmp_path, content):
    (tmp_path / "call.wav.part").write_bytes(content)
    assert outcomes(repair(tmp_path)) == {"call.wav.part": Outcome.UNREADABLE}
    assert (tmp_path / "call.wav.part").read_bytes() == content


def test_a_file_whose_writer_lives_is_left_alone(tmp_path):
    file = GrowingWav(tmp_path, "call", PCM16_8K)
    file.append([DATA])
    assert outcomes(repair(tmp_path)) == {"call.wav.part": Outcome.IN_USE}
    assert file.publish() == tmp_path / "call.wav"
    assert repair(tmp_path) == []


def test_marks_that_were_written_before_the_crash_are_kept(tmp_path):
    marks = [Mark(10, 100, PAUSED)]
    (tmp_path / "call.wav.part").write_bytes(header(PCM16_8K, 2, 1024) + DATA + mark_chunks(marks))
    repair(tmp_path)
    (found,) = recordings(tmp_path)
    assert found.marks == tuple(marks)
    assert found.duration_s == 256 / 8000
    content = found.path.read_bytes()
    assert struct.unpack_from("<I", content, 4) == (len(content) - 8,)


def test_a_taken_name_is_not_overwritten(tmp_path):
    (tmp_path / "call.wav").write_bytes(b"precious")
    (tmp_path / "call.wav.part").write_bytes(header(PCM16_8K, 2, 0) + DATA)
    assert outcomes(repair(tmp_path)) == {"call.2.wav": Outcome.PUBLISHED}
    assert (tmp_path / "call.wav").read_bytes() == b"precious"
    assert read_wav(tmp_path / "call.2.wav")[2] == DATA


def test_links_and_directories_are_not_followed(tmp_path):
    calls, outside = tmp_path / "calls", tmp_path / "outside.wav.part"
    (calls / "d.wav.part").mkdir(parents=True)
    outside.write_bytes(header(PCM16_8K, 2, 0) + DATA)
    (calls / "call.wav.part").symlink_to(outside)
    (calls / "call.wav").symlink_to(outside)
    os.mkfifo(calls / "pipe.wav.part")
    assert repair(calls, check_finished=True) == []
    assert recordings(calls) == []
    assert expire(calls, 1e12) == []
    assert outside.read_bytes() == header(PCM16_8K, 2, 0) + DATA


def test_a_missing_directory_holds_nothing(tmp_path):
    assert repair(tmp_path / "none") == recordings(tmp_path / "none") == expire(tmp_path / "none", 0) == []


@pytest.mark.parametrize(
    ("head", "outcome"),
    [
        (header(PCM16_8K, 2, 1024), None),
        (header(PCM16_8K, 2, 512), None),  # what stands behind the samples is somebody's
        (struct.pack("<4sI", b"RIFF", 0) + header(PCM16_8K, 2, 0)[8:], Outcome.CORRECTED),
        (header(PCM16_8K, 2, 0), Outcome.CORRECTED),
        (header(PCM16_8K, 2, None), Outcome.CORRECTED),
        (header(PCM16_8K, 2, 4096), Outcome.CORRECTED),
        (bytes(44), Outcome.UNREADABLE),
    ],
)
def test_sizes_of_finished_files_are_corrected_on_request(tmp_path, head, outcome):
    path = tmp_path / "call.wav"
    path.write_bytes(head + DATA)
    assert repair(tmp_path) == []
    assert outcomes(repair(tmp_path, check_finished=True)) == (
        {} if outcome is None else {"call.wav": outcome}
    )
    if outcome is Outcome.CORRECTED:
        assert path.read_bytes() == header(PCM16_8K, 2, 1024) + DATA
        assert repair(tmp_path, check_finished=True) == []
    else:
        assert path.read_bytes() == head + DATA


def test_an_empty_finished_file_is_right(tmp_path):
    (tmp_path / "call.wav").write_bytes(header(PCM16_8K, 2, 0))
    assert repair(tmp_path, check_finished=True) == []


def test_the_list_tells_seconds_encoding_marks_and_what_is_unfinished(tmp_path):
    file = GrowingWav(tmp_path, "a", MULAW_8K)
    file.append([bytes(16_000)])
    file.publish([Mark(800, 1600, PAUSED)])
    running = GrowingWav(tmp_path, "b", PCM16_8K)
    running.append([bytes(32_000)])
    (tmp_path / "c.wav").write_bytes(b"text")
    a, b, c = recordings(tmp_path)
    assert (a.duration_s, a.encoding, a.marks, a.is_part) == (1.0, "mulaw", (Mark(800, 1600, PAUSED),), False)
    assert (b.duration_s, b.encoding, b.marks, b.is_part) == (1.0, "pcm16", (), True)
    assert (c.duration_s, c.encoding, c.size_bytes) == (None, "", 4)
    running.publish()


def test_age_is_counted_from_the_last_change(tmp_path):
    for name, changed in [
        ("a.wav", 100),
        ("b.wav", 200),
        ("a.opus", 100),
        ("c.wav.part", 100),
        ("notes", 100),
    ]:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (changed, changed))
    assert [path.name for path in expire(tmp_path, 150)] == ["a.opus", "a.wav"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.wav", "c.wav.part", "notes"]


# Files and marks


@pytest.mark.parametrize("reader", READERS)
def test_marks_disturb_no_reader(tmp_path, reader):
    file = GrowingWav(tmp_path, "call", PCM16_8K)
    file.append([DATA])
    path = file.publish([Mark(1, 50, PAUSED), Mark(60, 61, "x")])
    _, samples = READERS[reader](path)
    assert samples.astype("<i2").tobytes() == DATA


@pytest.mark.parametrize("marks", [[], [Mark(0, 0, "")], [Mark(3, 9, PAUSED), Mark(20, 1 << 31, "even")]])
def test_marks_come_back(marks):
    assert parse_marks(mark_chunks(marks)) == (marks or None)


def test_broken_marks_are_none():
    whole = mark_chunks([Mark(3, 9, PAUSED)])
    for size in range(len(whole)):
        if size != 36:  # a whole cue chunk without its list
            assert parse_marks(whole[:size]) is None
    assert parse_marks(whole[:36]) == [Mark(3, 3, "")]
    for wrong in (
        b"LIST\4\0\0\0adtl",
        b"cue \0\0\0\0",
        b"cue \4\0\0\0\xff\xff\xff\xff",
        b"cue \4\0\0\0\1\0\0\0",
    ):
        assert parse_marks(wrong) is None


def test_a_name_that_repair_holds_is_passed_over(tmp_path, monkeypatch):
    real = fcntl.flock
    refused = []

    def flock(fd, operation):
        if not refused:
            refused.append(fd)
            raise BlockingIOError
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    file = GrowingWav(tmp_path, "call", PCM16_8K)
    assert file.part.name == "call.2.wav.part"
    file.publish()


def test_an_interrupted_write_goes_on(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:100], at))
    file = GrowingWav(tmp_path, "call", PCM16_8K)
    file.append([DATA[:300], DATA[300:]])
    path = file.publish([Mark(0, 5, PAUSED)])
    with wave.open(str(path)) as read:
        assert read.readframes(1 << 20) == DATA
    assert recordings(tmp_path)[0].marks == (Mark(0, 5, PAUSED),)
