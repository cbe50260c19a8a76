"""A call that is killed: ``python -m tests.integration.killed_call`` forks one life per command line.

A command is a JSON object: ``directory``, ``kill_at`` (which of the points below is the last, 0 for none),
``is_power_cut`` (what was not synced is lost, but for ``tail`` of it). A life takes up the journal, walks on
from the last transition, and tells on the pipe what was acknowledged; after it comes ``end`` with its status.
Points lie before, within and behind each write and sync of the journal and each act on the world outside.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from fastagent.afsm.effects.effects import Effects
from fastagent.afsm.effects.rules import effect
from fastagent.journal import JournalWriter

STEPS = 9
KEY = bytes(32)
SESSION = "call"

_write, _fsync, _fdatasync = os.write, os.fsync, os.fdatasync


def tell(*words: object) -> None:
    _write(1, (" ".join(map(str, words)) + "\n").encode())


class Fate:
    """Counts points, and kills the process at one of them."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.kill_at = command["kill_at"]
        self.is_power_cut = command["is_power_cut"]
        self.tail = command["tail"]
        self.journal = Path(command["directory"]) / "journals" / f"{SESSION}.journal"
        self.points = 0
        self.synced: dict[int, int] = {}
        os.write = self.write
        os.fsync = self.sync
        os.fdatasync = self.sync

    def point(self) -> None:
        self.points += 1
        if self.points == self.kill_at:
            if self.is_power_cut and self.synced:
                synced = max(self.synced.values())
                os.truncate(self.journal, synced + int(self.tail * (os.stat(self.journal).st_size - synced)))
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, fd: int, data: Any) -> int:
        data = bytes(data)
        self.point()
        half = len(data) // 2
        _write(fd, data[:half])
        self.point()
        _write(fd, data[half:])
        self.point()
        return len(data)

    def sync(self, fd: int) -> None:
        self.point()
        size = os.fstat(fd).st_size
        _fdatasync(fd)
        if os.readlink(f"/proc/self/fd/{fd}") == str(self.journal):
            self.synced[fd] = size
        self.point()


class World:
    """What effects are done to; it outlives every process."""

    def __init__(self, path: Path, fate: Fate) -> None:
        self.path = path
        self.fate = fate

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def act(self, *words: object) -> None:
        self.fate.point()
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        _write(fd, (" ".join(map(str, words)) + "\n").encode())
        os.close(fd)
        self.fate.point()

    @effect()
    async def transfer(self, n: int) -> str:
        self.act("transfer", n)
        return f"receipt {n}"

    @effect(is_idempotent=True)
    async def deposit(self, n: int, idempotency_key: str) -> str:
        if ["deposit", str(n), idempotency_key] not in self.lines():
            self.act("deposit", n, idempotency_key)
        return f"receipt {n}"

    @effect(check="find")
    def order(self, n: int) -> str:
        self.act("order", n)
        return f"receipt {n}"

    def find(self, n: int) -> str | None:
        return f"receipt {n}" if ["order", str(n)] in self.lines() else None


async def live(command: dict[str, Any]) -> None:
    fate = Fate(command)
    directory = Path(command["directory"])
    world = World(directory / "world", fate)
    writer = JournalWriter(directory / "journals", key=KEY)
    journal = await writer.open(SESSION)
    functions = [world.transfer, world.deposit, world.order]
    effects = Effects(journal, SESSION, functions=functions)
    walked = sum(entry.kind == "transition" for entry in journal.entries())
    for n in range(walked, STEPS):
        function = functions[n % len(functions)]
        # A second call, as a model makes when it was interrupted.
        first, second = await asyncio.gather(
            effects.run("", function, {"n": n}, call_id=f"call{n}"),
            effects.run("", function, {"n": n}, call_id=f"call{n}"),
        )
        assert first.status == second.status
        tell("effect", n, first.status, first.key)
        entry = journal.append("transition", {"n": n})
        await journal.commit()
        tell("transition", n, entry.seq, entry.hash)
    assert await journal.close()
    tell("points", fate.points)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                asyncio.run(live(json.loads(line)))
                status = 0
            finally:
                os._exit(status)
        tell("end", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
