"""A call's tap fills the file, with its pauses marked."""

import numpy as np
import pytest

from fastagent._native.tap import Tap
from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.recording import CallTrack, RecordingLimits, RecordingWriter, StopReason
from fastagent.recording.marks import PAUSED
from fastagent.recording.repair import recordings

WAIT_S = 30.0
START = 500.0
FRAME = 160
LEFT, RIGHT = (np.full(FRAME, level, "<i2").tobytes() for level in (700, -700))


@pytest.fixture
def writer(tmp_path):
    writer = RecordingWriter(tmp_path, limits=RecordingLimits(free_bytes=0))
    yield writer
    assert writer.close(WAIT_S)


class Line:
    """A call of which both parties speak all the time."""

    def __init__(self, recording):
        self.tap = Tap("pcm16", 8000)
        self.track = CallTrack(recording, self.tap, START)
        self.now = START

    def talk(self, seconds):
        for _ in range(round(seconds * 50)):
            self.tap.bot(RIGHT, self.now)
            self.now += 0.02
            self.tap.caller(LEFT, self.now)


@pytest.mark.parametrize("format", [PCM16_8K, MULAW_8K])
def test_both_parties_are_in_the_file_and_pauses_are_marked(writer, format):
    line = Line(writer.open("call", format))
    line.talk(2)
    line.track.pause(line.now)
    assert line.track.is_paused
    line.talk(1)
    line.track.pause(line.now)
    line.track.resume(line.now)
    line.track.resume(line.now)
    assert not line.track.is_paused
    line.talk(1)
    line.track.pause(line.now)
    line.talk(1)
    line.track.close(line.now)
    line.track.close(line.now)
    assert line.track.recording.wait(WAIT_S)
    (found,) = recordings(writer.directory)
    assert found.duration_s == pytest.approx(5.0, abs=0.02)
    assert [mark.label for mark in found.marks] == [PAUSED, PAUSED]
    for mark, (start, end) in zip(found.marks, ((16_000, 24_000), (32_000, 40_000)), strict=True):
        assert (mark.start, mark.end) == (pytest.approx(start, abs=2), pytest.approx(end, abs=2))
    data = found.path.read_bytes()[44 if format is PCM16_8K else 58 :]
    block = 4 if format is PCM16_8K else 2
    quiet = b"\0" if format is PCM16_8K else b"\xff"
    assert set(data[16_002 * block : 23_998 * block]) == set(quiet)
    # Each frame of the bot is recorded a frame after it was sent at the latest.
    assert quiet not in {data[i : i + 1] for i in range(2 * FRAME * block, 15_000 * block, block)}


def test_a_silent_caller_is_padded_by_time(writer):
    line = Line(writer.open("call"))
    for _ in range(10):
        line.now += 0.5
        line.track.advance(line.now)
    line.track.close(line.now)
    assert line.track.recording.wait(WAIT_S)
    (found,) = recordings(writer.directory)
    # What is silent on both sides at the very end need not be written.
    assert 4.4 < found.duration_s <= 5.0


def test_a_recording_that_is_over_takes_no_more(tmp_path):
    writer = RecordingWriter(tmp_path, limits=RecordingLimits(recording_bytes=20_000, free_bytes=0))
    line = Line(writer.open("call"))
    line.talk(5)
    assert not line.track.recording.is_running
    line.track.pause(line.now)
    line.track.close(line.now)
    assert line.track.recording.wait(WAIT_S)
    assert line.track.recording.stop_reason is StopReason.SIZE_LIMIT
    assert writer.close(WAIT_S)
