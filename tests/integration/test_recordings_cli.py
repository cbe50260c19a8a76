"""``fastagent recordings`` as its users run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.audio.wav import header
from fastagent.recording.marks import PAUSED, Mark
from fastagent.recording.wav_file import GrowingWav

ROOT = Path(__file__).parents[2]
LIMIT_S = 120


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fastagent", "recordings", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture
def calls(tmp_path):
    for name, format in (("first", PCM16_8K), ("second", MULAW_8K)):
        file = GrowingWav(tmp_path, name, format)
        file.append([bytes(32_000)])
        file.publish([Mark(800, 1600, PAUSED)] if name == "first" else [])
    (tmp_path / "crashed.wav.part").write_bytes(header(PCM16_8K, 2, 0) + bytes(4000))
    return tmp_path


def test_list_shows_what_is_there(calls):
    result = run("list", calls)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "crashed.wav.part  0.0 s  4044 bytes  pcm16  unfinished",
        "first.wav  1.0 s  32140 bytes  pcm16  paused 0.1-0.2 s",
        "second.wav  2.0 s  32058 bytes  mulaw",
    ]


def test_repair_publishes_leftovers(calls):
    result = run("repair", calls)
    assert (result.returncode, result.stdout, result.stderr) == (0, "crashed.wav  published\n", "")
    assert run("repair", calls).stdout == ""
    (calls / "odd.wav").write_bytes(header(PCM16_8K, 2, 0) + bytes(40))
    assert run("repair", "--finished", calls).stdout == "odd.wav  corrected\n"
    (calls / "text.wav.part").write_bytes(b"no audio")
    result = run("repair", calls)
    assert (result.returncode, result.stdout) == (1, "text.wav.part  unreadable\n")


def test_export_encodes_what_is_finished_and_not_yet_exported(calls, tmp_path):
    result = run("export", calls)
    assert (result.returncode, result.stdout, result.stderr) == (0, "first.flac\nsecond.flac\n", "")
    assert len(soundfile.read(calls / "second.flac")[0]) == 16_000
    assert run("export", calls).stdout == ""
    result = run("export", calls, "first.wav", "none.wav", "--format", "opus")
    assert (result.returncode, result.stdout) == (1, "first.opus\n")
    assert "none.wav" in result.stderr


def test_expire_deletes_by_age(calls):
    os.utime(calls / "first.wav", (0, 0))
    result = run("expire", calls, "--days", "90")
    assert (result.returncode, result.stdout, result.stderr) == (0, "first.wav\n", "")
    assert sorted(path.name for path in calls.iterdir()) == ["crashed.wav.part", "second.wav"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list", "/nonexistent/calls"], 1, "no such directory"),
        (["expire", "."], 2, "--days"),
        (["expire", ".", "--days", "0"], 2, "--days"),
        (["expire", ".", "--days", "nan"], 2, "--days"),
        (["export", ".", "--format", "mp3"], 2, "mp3"),
        ([], 2, "ACTION"),
    ],
)
def test_wrong_command_lines_are_told_in_a_line(arguments, code, words):
    result = run(*arguments)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
