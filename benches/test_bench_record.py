"""Bench: one 20 ms frame of both parties into a stereo file, beside the stdlib's wave and soundfile.

Every engine gets the same frames as int16 and writes a file as it goes, which must read back whole. The peers
are given frames that are interleaved already and have no clock, so they do less. `extra_info` holds
microseconds of processor time per frame, all threads, and for us what of it the call's thread spends
(`caller_us`). A file that is fed faster than real time is written in fewer pieces than a call's;
`test_block` is one piece.
"""

import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pytest_benchmark.fixture import BenchmarkFixture

from benches.workloads import PTIME_MS, voice
from fastagent._native.g711 import ulaw_encode
from fastagent._native.record import BLOCK_SAMPLES, Recorder
from fastagent.audio.formats import MULAW_8K, PCM16_8K, AudioFormat, Encoding
from fastagent.audio.wav import read_wav
from fastagent.recording import RecordingLimits, RecordingWriter
from fastagent.recording.wav_file import GrowingWav

SECONDS = 40
FRAME_BYTES = 16 * PTIME_MS
ROUNDS = 8

LEFT = voice(8000, SECONDS * 1000, seed=1)
RIGHT = voice(8000, SECONDS * 1000, seed=2)
STEREO = np.stack([np.frombuffer(LEFT, "<i2"), np.frombuffer(RIGHT, "<i2")], axis=1)
FRAMES = len(LEFT) // FRAME_BYTES
LEFTS = [LEFT[i : i + FRAME_BYTES] for i in range(0, len(LEFT), FRAME_BYTES)]
RIGHTS = [RIGHT[i : i + FRAME_BYTES] for i in range(0, len(RIGHT), FRAME_BYTES)]
PAIRS = [STEREO[i : i + 8 * PTIME_MS].tobytes() for i in range(0, len(STEREO), 8 * PTIME_MS)]

Write = Callable[[Path], Path]
"""Records all frames into a directory and gives the file."""


def ours(format: AudioFormat, spent: list[float]) -> Write:
    def write(directory: Path) -> Path:
        writer = RecordingWriter(directory, limits=RecordingLimits(free_bytes=0))
        recording = writer.open("bench", format)
        recorder = Recorder("pcm16" if format.encoding is Encoding.PCM16 else "mulaw", 0.0)
        start = time.thread_time()
        for i, (left, right) in enumerate(zip(LEFTS, RIGHTS, strict=True)):
            if due := recorder.caller(left, (i + 1) * PTIME_MS / 1000):
                recording.append(due)
            recorder.bot(right, i * 8 * PTIME_MS)
        recording.append(recorder.flush(SECONDS))
        recording.close()
        spent.append((time.thread_time() - start) / FRAMES * 1e6)
        assert writer.close(60)
        assert recording.path is not None
        return recording.path

    return write


def stdlib(directory: Path) -> Path:
    path = directory / "bench.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", "not compressed"))
        for pair in PAIRS:
            file.writeframes(pair)
    return path


def by_soundfile(directory: Path) -> Path:
    path = directory / "bench.wav"
    with soundfile.SoundFile(path, "w", 8000, 2, subtype="PCM_16") as file:
        for pair in PAIRS:
            file.buffer_write(pair, dtype="int16")
    return path


@pytest.mark.parametrize("engine", ["fastagent-pcm16", "fastagent-mulaw", "wave", "soundfile"])
def test_file(benchmark: BenchmarkFixture, tmp_path: Path, engine: str) -> None:
    benchmark.group = f"record {SECONDS} s of 20 ms frames"
    benchmark.extra_info.update(
        subject="record file",
        implementation="fastagent" if engine == "fastagent-pcm16" else engine,
        unit="20 ms frame",
        units_per_call=FRAMES,
    )
    spent: list[float] = []
    formats = {"fastagent-pcm16": PCM16_8K, "fastagent-mulaw": MULAW_8K}
    if engine in formats:
        write = ours(formats[engine], spent)
    else:
        write = stdlib if engine == "wave" else by_soundfile
    path = write(tmp_path)
    expected = STEREO.tobytes()
    assert read_wav(path)[2] == (ulaw_encode(expected) if engine == "fastagent-mulaw" else expected)

    processor = []

    def timed(directory: Path) -> None:
        start = time.process_time()
        write(directory).unlink()
        processor.append((time.process_time() - start) / FRAMES * 1e6)

    benchmark.pedantic(timed, args=(tmp_path,), iterations=1, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    benchmark.extra_info["frame_us"] = round(min(processor), 2)
    if spent:
        benchmark.extra_info["caller_us"] = round(min(spent), 2)


@pytest.mark.parametrize("format", [PCM16_8K, MULAW_8K], ids=["pcm16", "mulaw"])
def test_block(benchmark: BenchmarkFixture, tmp_path: Path, format: AudioFormat) -> None:
    """What the writer's thread does for a block of one recording, in real time every 400 ms."""
    benchmark.group = "record one block"
    benchmark.extra_info.update(subject=f"record block {format.encoding.value}", unit="block of 400 ms")
    file = GrowingWav(tmp_path, "bench", format)
    block = bytes(BLOCK_SAMPLES * 2 * format.encoding.bytes_per_sample)
    benchmark.pedantic(file.append, args=([block],), iterations=20, rounds=40)  # type: ignore[no-untyped-call]
    path = file.publish()
    assert path is not None
    assert set(read_wav(path)[2]) == {0}
    if benchmark.stats is not None:
        frames = BLOCK_SAMPLES / (8 * PTIME_MS)
        benchmark.extra_info["frame_us"] = round(benchmark.stats.stats.min / frames * 1e6, 3)


@pytest.mark.parametrize("encoding", ["pcm16", "mulaw"])
def test_timeline(benchmark: BenchmarkFixture, encoding: Any) -> None:
    """The native timeline alone: a frame of both, blocks included."""
    benchmark.group = f"record timeline, {SECONDS} s of 20 ms frames"
    benchmark.extra_info.update(
        subject=f"record timeline {encoding}", unit="20 ms frame", units_per_call=FRAMES, goal_ns=1500
    )

    def run() -> int:
        recorder = Recorder(encoding, 0.0)
        size = 0
        for i, (left, right) in enumerate(zip(LEFTS, RIGHTS, strict=True)):
            size += len(recorder.caller(left, (i + 1) * PTIME_MS / 1000))
            recorder.bot(right, i * 8 * PTIME_MS)
        return size + len(recorder.flush(SECONDS))

    size = benchmark.pedantic(run, iterations=1, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    assert size == len(STEREO) * (4 if encoding == "pcm16" else 2)
    if benchmark.stats is not None:
        benchmark.extra_info["frame_us"] = round(benchmark.stats.stats.min / FRAMES * 1e6, 3)
