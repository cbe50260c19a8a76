"""SIGKILL at any moment: less than a second is lost, every reader reads the rest, repair publishes it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastagent.recording.repair import Outcome, recordings, repair
from tests.unit.recording.readers import MULAW_READERS, READERS

ROOT = Path(__file__).parents[3]
FRAME = 160

CHILD = """
import struct, sys
from fastagent._native.record import Recorder
from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.recording import RecordingLimits, RecordingWriter

format = {"pcm16": PCM16_8K, "mulaw": MULAW_8K}[sys.argv[2]]
writer = RecordingWriter(sys.argv[1], limits=RecordingLimits(free_bytes=0))
recording = writer.open("call", format)
recorder = Recorder(sys.argv[2], 0.0)
assert writer.flush(30)  # the file is there before the parent may kill
block = 4 if format is PCM16_8K else 2
at = 0
while True:
    left = struct.pack("<160h", *[1 + (at + i) % 9973 for i in range(160)])
    right = struct.pack("<160h", *[-1 - (at + i) % 9973 for i in range(160)])
    recording.append(recorder.caller(left, (at + 160) / 8000))
    recorder.bot(right, at)
    at += 160
    print(at, flush=True)
    # In real time the thread looks at least every 200 ms; here it is made to.
    if at % 1600 == 0:
        assert writer.flush(30)
"""


@pytest.mark.parametrize("killed_after", [1600, 3680, 9999, 23_000, 40_000])
@pytest.mark.parametrize("encoding", ["pcm16", "mulaw"])
def test_a_killed_process_loses_less_than_a_second(tmp_path, encoding, killed_after):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path, encoding], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    fed = 0
    while fed < killed_after:
        fed = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().splitlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    fed = max([fed, *(int(line) for line in rest if line.endswith("0"))])

    readers = READERS if encoding == "pcm16" else MULAW_READERS
    part = tmp_path / "call.wav.part"
    for reader in readers.values():
        check(reader(part)[1], fed, encoding)
    has_head_alone = not recordings(tmp_path)[0].duration_s
    (result,) = repair(tmp_path)
    if has_head_alone and result.outcome is Outcome.EMPTY:
        return
    # Samples count that were written before the head could tell of them.
    assert result.outcome is Outcome.PUBLISHED
    assert not part.exists()
    for reader in readers.values():
        check(reader(tmp_path / "call.wav")[1], fed, encoding)


def check(samples, fed, encoding):
    assert fed - 8000 < len(samples) <= fed
    said = 1 + np.arange(len(samples)) % 9973
    # Mu-law's steps grow with the level: within 1/16 of it.
    slack = 0 if encoding == "pcm16" else 8 + said / 16
    assert np.all(np.abs(samples[:, 0] - said) <= slack)
    assert np.all(np.abs(samples[:, 1] + said) <= slack)
