"""SIGKILL at a hundred random points: nothing acknowledged is lost, nothing is done twice."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fastagent.afsm.effects.record import records_of
from fastagent.journal import read_journal
from tests.integration.killed_call import STEPS

ROOT = Path(__file__).parents[2]
KILLS = 100
KILLS_PER_CALL_MAX = 5


class Lives:
    """The process that forks one life after another."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.killed_call"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(
        self, directory: Path, kill_at: int, *, is_power_cut: bool, tail: float
    ) -> tuple[int, list[list[str]]]:
        """Give a life's status, and what it acknowledged."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        command = {
            "directory": str(directory),
            "kill_at": kill_at,
            "is_power_cut": is_power_cut,
            "tail": tail,
        }
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        told = []
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "end":
                return int(words[1]), told
            told.append(words)
        raise AssertionError("the forking process ended")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()


@pytest.fixture
def lives():
    lives = Lives()
    yield lives
    lives.close()


@pytest.mark.parametrize("is_power_cut", [False, True], ids=["kill", "power cut"])
def test_killed_calls_lose_nothing_acknowledged_and_repeat_nothing(lives, tmp_path, is_power_cut):
    rng = random.Random(20 + is_power_cut)
    whole = tmp_path / "whole"
    status, told = lives.run(whole, 0, is_power_cut=False, tail=0)
    assert status == 0
    points = int(told[-1][1])
    assert points > 10 * STEPS
    check(whole, told)

    kills = resumed = unknown = 0
    call = 0
    while kills < KILLS:
        call += 1
        assert call < KILLS
        directory = tmp_path / f"call{call}"
        acknowledged: list[list[str]] = []
        for _ in range(min(KILLS_PER_CALL_MAX, KILLS - kills)):
            kill_at = rng.randint(1, points // 3)
            status, told = lives.run(directory, kill_at, is_power_cut=is_power_cut, tail=rng.random())
            acknowledged += told
            if status == 0:
                break
            assert status == -signal.SIGKILL
            kills += 1
        if status != 0:
            status, told = lives.run(directory, 0, is_power_cut=False, tail=0)
            assert status == 0
            acknowledged += told
            resumed += len(told) < 2 * STEPS
        unknown += check(directory, acknowledged)
    assert kills == KILLS
    # The points were such that calls were taken up in the middle, and some effects' outcomes lost.
    assert resumed
    assert unknown


def check(directory: Path, acknowledged: list[list[str]]) -> int:
    """Compare what was acknowledged with the journal and the world; gives effects that stay unknown."""
    reading = read_journal(directory / "journals" / "call.journal")
    assert reading.torn_bytes == 0
    entries = reading.entries()
    assert [entry.data["n"] for entry in entries if entry.kind == "transition"] == list(range(STEPS))
    records = records_of(entries)
    for kind, *words in acknowledged:
        if kind == "transition":
            assert entries[int(words[1])].hash == words[2]
        elif kind == "effect":
            assert records[words[2]].status == words[1]

    done = Counter(
        (line.split()[0], int(line.split()[1])) for line in (directory / "world").read_text().splitlines()
    )
    assert max(done.values()) == 1
    assert len(records) == STEPS
    unknown = 0
    for record in records.values():
        times = done[record.name, record.arguments["n"]]
        if record.status == "unknown":
            assert record.name == "transfer"  # neither idempotent nor checkable
            unknown += 1
        else:
            assert (record.status, times) == ("done", 1)
            assert record.result == f"receipt {record.arguments['n']}"
    return unknown
