"""The writer: what is in the file and when, and that no trouble with the disk reaches the call."""

import errno
import logging
import os
import stat
import subprocess
import sys
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

import fastagent.recording
from fastagent._native.g711 import ulaw_decode
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_8K, PCM16_16K
from fastagent.audio.wav import header
from fastagent.recording import RecordingLimits, RecordingWriter, StopReason, wav_file
from fastagent.recording.writer import DRAIN_PERIOD_S, LOSS_BOUND_S
from tests.unit.recording.readers import MULAW_READERS, READERS

WAIT_S = 30.0
"""Guards against a thread that hangs."""
ROOM = RecordingLimits(free_bytes=0)


def stereo(blocks, seed=1):
    return np.random.default_rng(seed).integers(-32768, 32767, (blocks, 2), dtype="<i2")


@pytest.fixture
def writer(tmp_path):
    writer = RecordingWriter(tmp_path / "calls", limits=ROOM)
    yield writer
    assert writer.close(WAIT_S)


class Gate:
    """Stands in for a system call: holds it up, or lets it fail after so many bytes."""

    def __init__(self, real):
        self.real = real
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.opened.set()
        self.error = None
        self.room = None

    def __call__(self, fd, data, at):
        self.entered.set()
        assert self.opened.wait(WAIT_S)
        if self.error is not None and at:
            if self.room:
                taken, self.room = min(self.room, len(data)), max(0, self.room - len(data))
                return self.real(fd, data[:taken], at)
            raise OSError(self.error, os.strerror(self.error))
        return self.real(fd, data, at)


@pytest.fixture
def disk(monkeypatch):
    gate = Gate(os.pwrite)
    monkeypatch.setattr(os, "pwrite", gate)
    yield gate
    gate.opened.set()


@pytest.mark.parametrize("reader", READERS)
def test_a_recording_reads_back_in_every_reader(writer, reader):
    samples = stereo(20_000)
    recording = writer.open("call-1")
    for start in range(0, 20_000, 3200):
        assert recording.append(samples[start : start + 3200].tobytes())
    recording.close()
    assert recording.wait(WAIT_S)
    assert recording.path == writer.directory / "call-1.wav"
    rate, read = READERS[reader](recording.path)
    assert rate == 8000
    assert np.array_equal(read, samples)


@pytest.mark.parametrize("reader", MULAW_READERS)
def test_mulaw_reads_back_in_every_reader_but_wave(writer, reader):
    codes = bytes(range(256)) * 40
    recording = writer.open("call-1", MULAW_8K)
    recording.append(codes)
    recording.close()
    assert recording.wait(WAIT_S)
    _, read = MULAW_READERS[reader](recording.path)
    assert read.astype("<i2").tobytes() == ulaw_decode(codes)
    with pytest.raises(wave.Error, match="7"):
        wave.open(str(recording.path))  # noqa: SIM115 - it does not open


@pytest.mark.parametrize("reader", READERS)
def test_it_reads_at_any_moment_of_its_life(writer, reader):
    samples = stereo(16_000)
    recording = writer.open("call-1")
    assert writer.flush(WAIT_S)
    part = writer.directory / "call-1.wav.part"
    for start in range(0, 16_000, 4000):
        recording.append(samples[start : start + 4000].tobytes())
        assert writer.flush(WAIT_S)
        assert recording.written_bytes == 4 * (start + 4000)
        _, read = READERS[reader](part)
        assert np.array_equal(read, samples[: start + 4000])


def test_files_and_directory_are_the_owners_alone(writer):
    old = os.umask(0)
    try:
        recording = writer.open("call-1")
        recording.append(bytes(4))
        assert writer.flush(WAIT_S)
        assert stat.S_IMODE((writer.directory / "call-1.wav.part").stat().st_mode) == 0o600
        assert stat.S_IMODE(writer.directory.stat().st_mode) == 0o700
    finally:
        os.umask(old)


def test_a_kill_loses_less_than_a_second():
    assert LOSS_BOUND_S < 1.0
    assert DRAIN_PERIOD_S <= 0.1


def test_the_name_appears_only_when_the_file_is_complete(writer):
    recording = writer.open("call-1")
    recording.append(bytes(4000))
    assert writer.flush(WAIT_S)
    assert [path.name for path in writer.directory.iterdir()] == ["call-1.wav.part"]
    assert recording.path is None
    recording.close()
    recording.close()
    assert recording.wait(WAIT_S)
    assert [path.name for path in writer.directory.iterdir()] == ["call-1.wav"]
    assert not recording.append(bytes(4))


def test_recordings_of_one_conversation_do_not_overwrite_one_another(writer):
    for level in (1, 2, 3):
        recording = writer.open("call-1")
        recording.append(bytes([level]) * 4)
        recording.close()
        assert recording.wait(WAIT_S)
    together = [writer.open("call-1") for _ in range(2)]
    for recording in together:
        recording.append(b"\7" * 4)
    assert writer.flush(WAIT_S)
    for recording in together:
        recording.close()
        assert recording.wait(WAIT_S)
    names = sorted(path.name for path in writer.directory.iterdir())
    assert names == ["call-1.2.wav", "call-1.3.wav", "call-1.4.wav", "call-1.5.wav", "call-1.wav"]
    assert (writer.directory / "call-1.2.wav").read_bytes()[-4:] == b"\2\2\2\2"


def test_a_recording_without_audio_leaves_no_file(writer):
    recording = writer.open("call-1")
    recording.close()
    assert recording.wait(WAIT_S)
    assert recording.path is None
    assert list(writer.directory.iterdir()) == []
    assert writer.counters["empty"] == 1


def test_many_recordings_at_once(writer):
    recordings = [writer.open(f"call-{i}") for i in range(60)]
    for _ in range(5):
        for i, recording in enumerate(recordings):
            recording.append(bytes([i]) * 400)
    for recording in recordings:
        recording.close()
    for i, recording in enumerate(recordings):
        assert recording.wait(WAIT_S)
        assert recording.path.read_bytes()[44:] == bytes([i]) * 2000
    assert writer.counters["opened"] == writer.counters["published"] == 60
    assert writer.counters["bytes_written"] == 60 * 2000
    assert writer.backlog_bytes == 0


def test_closing_the_writer_publishes_what_runs(tmp_path):
    writer = RecordingWriter(tmp_path, limits=ROOM)
    recording = writer.open("call-1")
    recording.append(bytes(8000))
    assert writer.close(WAIT_S)
    assert recording.path == tmp_path / "call-1.wav"
    assert len(recording.path.read_bytes()) == 8044
    assert recording.stop_reason is StopReason.SHUT_DOWN
    after = writer.open("call-2")
    assert not after.append(bytes(4))
    assert after.wait(0)
    assert after.stop_reason is StopReason.SHUT_DOWN
    assert writer.close(WAIT_S)


def test_a_writer_that_never_recorded_closes_at_once(tmp_path):
    writer = RecordingWriter(tmp_path / "none")
    assert writer.flush(0)
    assert writer.close(0)
    assert not (tmp_path / "none").exists()


# Trouble with the disk


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ENOSPC, StopReason.DISK_FULL),
        (errno.EDQUOT, StopReason.DISK_FULL),
        (errno.EFBIG, StopReason.DISK_FULL),
        (errno.EIO, StopReason.WRITE_FAILED),
        (errno.EROFS, StopReason.WRITE_FAILED),
    ],
)
@pytest.mark.parametrize("room", [0, 1, 1001, 4000])
def test_a_refusing_disk_stops_the_recording_and_keeps_what_it_took(
    writer, disk, caplog, error, reason, room
):
    samples = stereo(4000).tobytes()
    recording = writer.open("call-1")
    other = writer.open("call-2")
    other.append(samples)
    recording.append(samples)
    assert writer.flush(WAIT_S)
    disk.error, disk.room = error, room
    with caplog.at_level(logging.WARNING):
        assert recording.append(samples)
        assert recording.wait(WAIT_S)
    disk.error = None
    assert recording.stop_reason is reason
    assert not recording.append(samples)
    assert recording.path == writer.directory / "call-1.wav"
    with wave.open(str(recording.path)) as file:
        assert file.getnframes() == 4000 + room // 4
    assert recording.path.stat().st_size == 44 + 4 * (4000 + room // 4)
    assert writer.counters[f"stopped_{reason.value}"] == 1
    assert any(reason.value in record.getMessage() for record in caplog.records)
    assert other.append(samples)
    other.close()
    assert other.wait(WAIT_S)
    assert other.stop_reason is None
    assert other.written_bytes == 2 * len(samples)


def test_a_file_size_limit_of_the_system_stops_the_recording(tmp_path):
    """The kernel itself refuses: RLIMIT_FSIZE, as a quota would."""
    script = """
import resource, sys
from fastagent.recording import RecordingLimits, RecordingWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
writer = RecordingWriter(sys.argv[1], limits=RecordingLimits(free_bytes=0))
recording = writer.open("call-1")
recording.append(bytes(8000))
assert writer.flush(30)
recording.append(bytes(8000))
assert recording.wait(30)
print(recording.stop_reason.value, recording.written_bytes, recording.path.stat().st_size)
"""
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=root,
    )
    assert run.stdout.split() == ["disk_full", "9956", "10000"]
    with wave.open(str(tmp_path / "call-1.wav")) as file:
        assert file.getnframes() == 9956 // 4


def test_an_unwritable_directory_stops_the_recording(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    writer = RecordingWriter(tmp_path / "file" / "calls", limits=ROOM)
    recording = writer.open("call-1")
    assert recording.append(bytes(4)) or recording.stop_reason is not None
    assert recording.wait(WAIT_S)
    assert recording.stop_reason is StopReason.UNWRITABLE
    assert recording.path is None
    assert writer.counters["stopped_unwritable"] == 1
    assert writer.close(WAIT_S)
    assert "unwritable" in caplog.text


def test_too_little_free_space_stops_the_recording(tmp_path):
    writer = RecordingWriter(tmp_path, limits=RecordingLimits(free_bytes=1 << 62))
    recording = writer.open("call-1")
    recording.append(bytes(4))
    assert recording.wait(WAIT_S)
    assert recording.stop_reason is StopReason.SPACE_FLOOR
    assert writer.close(WAIT_S)
    assert list(tmp_path.iterdir()) == []


def test_the_free_space_is_looked_at_again_while_writing(writer, monkeypatch):
    recording = writer.open("call-1")
    recording.append(bytes(1 << 19))
    assert writer.flush(WAIT_S)
    monkeypatch.setattr(wav_file.GrowingWav, "free_bytes", property(lambda self: -1))
    recording.append(bytes(1 << 19))
    recording.append(bytes(1 << 20))
    assert recording.wait(WAIT_S)
    assert recording.stop_reason is StopReason.SPACE_FLOOR
    assert recording.path is not None


def test_a_recording_that_grows_too_large_is_published(tmp_path):
    writer = RecordingWriter(tmp_path, limits=RecordingLimits(recording_bytes=10_000, free_bytes=0))
    recording = writer.open("call-1")
    assert recording.append(bytes(8000))
    assert not recording.append(bytes(4000))
    assert not recording.is_running
    assert recording.wait(WAIT_S)
    assert recording.stop_reason is StopReason.SIZE_LIMIT
    assert recording.path.stat().st_size == 8044
    assert writer.counters["stopped_size_limit"] == 1
    assert writer.close(WAIT_S)


@pytest.mark.parametrize(
    "limits",
    [
        RecordingLimits(recording_backlog_bytes=10_000, free_bytes=0),
        RecordingLimits(backlog_bytes=10_000, free_bytes=0),
    ],
)
def test_a_slow_disk_never_blocks_and_stops_the_recording_when_too_much_waits(tmp_path, disk, limits):
    writer = RecordingWriter(tmp_path, limits=limits)
    recording = writer.open("call-1")
    disk.opened.clear()
    recording.append(bytes(4000))
    assert disk.entered.wait(WAIT_S)  # the thread now hangs in the system call
    appended = 4000
    while recording.append(bytes(400)):
        appended += 400
        assert writer.backlog_bytes <= 10_000
    assert recording.stop_reason is StopReason.BACKLOG
    assert not writer.flush(0)
    assert not writer.close(0)
    disk.opened.set()
    assert recording.wait(WAIT_S)
    assert recording.written_bytes == appended
    assert writer.close(WAIT_S)
    assert writer.counters["stopped_backlog"] == 1
    assert writer.backlog_bytes == 0


def test_a_file_that_cannot_be_synced_keeps_its_part_name(writer, monkeypatch, caplog):
    def refuse(fd):
        raise OSError(errno.EIO, "no")

    recording = writer.open("call-1")
    recording.append(bytes(4000))
    assert writer.flush(WAIT_S)
    monkeypatch.setattr(os, "fsync", refuse)
    recording.close()
    assert recording.wait(WAIT_S)
    assert recording.path is None
    assert writer.counters["kept_as_part"] == 1
    assert "keeps its .part name" in caplog.text
    assert (writer.directory / "call-1.wav.part").exists()


def test_a_bug_in_one_recording_does_not_end_the_thread(writer, monkeypatch, caplog):
    bad, good = writer.open("call-1"), writer.open("call-2")
    assert writer.flush(WAIT_S)
    monkeypatch.setattr(bad._file, "append", None)
    bad.append(bytes(4))
    good.append(bytes(4))
    assert bad.wait(WAIT_S)
    assert bad.stop_reason is StopReason.WRITE_FAILED
    good.close()
    assert good.wait(WAIT_S)
    assert good.path is not None
    assert "TypeError" in caplog.text


def test_leftovers_are_published_before_anything_is_recorded(tmp_path):
    (tmp_path / "old.wav.part").write_bytes(_leftover())
    (tmp_path / "bad.wav.part").write_bytes(b"nothing of the kind")
    writer = RecordingWriter(tmp_path, limits=ROOM)
    writer.start()
    writer.start()
    assert writer.flush(WAIT_S)
    assert (tmp_path / "old.wav").exists()
    assert writer.counters["repaired"] == writer.counters["repair_failed"] == 1
    assert writer.close(WAIT_S)


def _leftover():
    return header(PCM16_8K, 2, 0) + bytes(400)


def test_aged_recordings_go_when_a_retention_is_set(tmp_path):
    for name, age_s in [("old.wav", 5000), ("new.wav", 10), ("old.flac", 5000), ("old.txt", 5000)]:
        path = tmp_path / name
        path.write_bytes(b"x")
        changed = path.stat().st_mtime - age_s
        os.utime(path, (changed, changed))
    writer = RecordingWriter(tmp_path, limits=RecordingLimits(free_bytes=0, retention_s=3000))
    recording = writer.open("call-1")
    recording.close()
    assert recording.wait(WAIT_S)
    assert writer.close(WAIT_S)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.wav", "old.txt"]
    assert writer.counters["expired"] == 2


# A programmer's mistakes


def test_half_a_block_is_refused(writer):
    recording = writer.open("call-1")
    with pytest.raises(ValueError, match="expected whole blocks of 4 bytes, got 6"):
        recording.append(bytes(6))
    with pytest.raises(ValueError, match="expected whole blocks of 2 bytes, got 3"):
        writer.open("call-2", MULAW_8K).append(bytes(3))


@pytest.mark.parametrize("format", [ALAW_8K, PCM16_16K])
def test_other_formats_are_refused(writer, format):
    with pytest.raises(ValueError, match="expected PCM16 or mu-law at 8000 Hz"):
        writer.open("call-1", format)


@pytest.mark.parametrize(
    "wrong",
    [
        {"recording_bytes": 0}, {"recording_bytes": 1 << 32}, {"recording_backlog_bytes": 0},
        {"backlog_bytes": -1}, {"free_bytes": -1}, {"retention_s": 0.0}, {"retention_s": float("nan")},
    ],
)  # fmt: skip
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(ValueError, match=r"more than 0|expected 1 to"):
        RecordingLimits(**wrong)


def test_public_names_are_these():
    assert set(fastagent.recording.__all__) == {
        "CallTrack", "Recording", "RecordingLimits", "RecordingWriter", "StopReason",
    }  # fmt: skip
