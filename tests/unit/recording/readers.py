"""Programs that read WAV files, each giving the rate and both channels as int16."""

import shutil
import subprocess
import wave

import numpy as np
import soundfile


def by_wave(path):
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 2
        assert file.getsampwidth() == 2
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def by_soundfile(path):
    with path.open("rb") as file:  # by name it goes by the suffix, and .part is none
        samples, rate = soundfile.read(file, dtype="int16", always_2d=True)
    return rate, samples


def by_ffmpeg(path):
    command = [
        "ffmpeg",
        "-nostdin",
        "-loglevel",
        "error",
        "-f",
        "wav",
        "-i",
        path,
        "-f",
        "s16le",
        "-ac",
        "2",
        "-",
    ]
    result = subprocess.run(command, capture_output=True, check=True)
    return 8000, np.frombuffer(result.stdout, "<i2").reshape(-1, 2)


def by_sox(path):
    command = ["sox", "-t", "wav", path, "-D", "-t", "raw", "-e", "signed", "-b", "16", "-L", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    assert b"WARN" not in result.stderr
    return 8000, np.frombuffer(result.stdout, "<i2").reshape(-1, 2)


READERS = {"wave": by_wave, "soundfile": by_soundfile}
"""Those that are always there; ffmpeg and sox where they are installed."""
if shutil.which("ffmpeg"):
    READERS["ffmpeg"] = by_ffmpeg
if shutil.which("sox"):
    READERS["sox"] = by_sox
MULAW_READERS = {name: reader for name, reader in READERS.items() if name != "wave"}
