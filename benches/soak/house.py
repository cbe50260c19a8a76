"""The processes of a soak: a real ``fastagent serve`` with all it keeps, and the model's side."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "TOKEN", "TWILIO_TOKEN", "House", "ModelProcess", "open_house", "open_model"]

ROOT = Path(__file__).parents[2]
TOKEN = "soak-token-of-carriers-and-applications"
TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"
PUBLIC_URL = "https://soak.example.com"
START_LIMIT_S = 60.0
END_LIMIT_S = 30.0
ANSWER_LIMIT_S = 10.0
ANSWER_BYTES_MAX = 4 << 20
RECORDING_KEPT_S = 30.0
"""How long a finished recording stays; half an hour of all of them would fill a disk."""
AGENT = '''\
import asyncio

from fastagent import AFSMState, FastAgent
from fastagent.agent import Task
from fastagent.tools import tool


@tool(deadline_s=1.0)
async def slow_lookup() -> str:
    """Look something up that is never found in time."""
    await asyncio.sleep(60)
    return "too late"


class Step(AFSMState):
    async def process(self, input_text, context):
        (other,) = self.allowed_transitions
        return {"response": f"at {other}", "next_state": other, "confidence": 1.0}


states = [Step("even", "Go on.", ["odd"]), Step("odd", "Go on.", ["even"])]
agent = FastAgent(
    "soak",
    instructions="Be brief.",
    tasks=[Task("walk", "Walk.", None, states, "even")],
    functions=[slow_lookup],
)
'''
SETTINGS = {
    "metrics": "open",
    "twilio_account_sid": "AC00000000000000000000000000000001",
    "public_url": PUBLIC_URL,
    "recording_encoding": "mulaw",
    # Sooner than in the field, so that calls that were left alone are over within a run.
    "resume_grace_s": 15,  # longer than the callers' own process is ever late
    "first_message_timeout_s": 3,
    "no_media_prompt_s": 3,
    "no_media_limit_s": 6,
    "drain_timeout_s": 2,
    # All callers have one number and one address, and the processors may be shared.
    "admission_lag_ms": 0,
    "admission_cpu_percent": 0,
    "calls_per_number": 0,
    "calls_per_number_hour": 0,
    "call_burst": 100000,
    "auth_failures_max": 1000000,
}
"""Of the server; all else is as it comes."""
SECRETS = {
    "AUDIOCODES_TOKEN": TOKEN,
    "FASTAGENT_AGENT_TOKEN": TOKEN,
    "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
    "OPENAI_API_KEY": "sk-of-nobody",
}
"""What settings take from the environment alone."""


@dataclass(slots=True)
class ModelProcess:
    """The model's side."""

    process: asyncio.subprocess.Process
    url: str

    async def figures(self) -> dict[str, Any]:
        """What it did so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        async with asyncio.timeout(ANSWER_LIMIT_S):
            found: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return found


class House:
    """The server's process, seen from outside."""

    def __init__(self, folder: Path, port: int, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.port = port
        self.process = process
        self.base = f"127.0.0.1:{port}"

    @property
    def audiocodes_url(self) -> str:
        """Where AudioCodes calls."""
        return f"ws://{self.base}/audiocodes/webhook"

    @property
    def agent_url(self) -> str:
        """Where applications call."""
        return f"ws://{self.base}/agent/ws"

    @property
    def twilio_url(self) -> str:
        """Where Twilio asks."""
        return f"http://{self.base}/twilio/webhook"

    @property
    def store_path(self) -> Path:
        """The file of stored sessions."""
        return self.folder / "sessions.db"

    @property
    def recordings(self) -> Path:
        """Where recordings go."""
        return self.folder / "recordings"

    @property
    def log(self) -> str:
        """All that the server said."""
        return (self.folder / "server.log").read_text(errors="replace")

    async def metrics(self) -> dict[str, float]:
        """The samples of ``/metrics``, by name and labels as they are written."""
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")
                answer = (await reader.read(ANSWER_BYTES_MAX)).decode()
                while piece := await reader.read(ANSWER_BYTES_MAX):
                    answer += piece.decode()
            finally:
                writer.close()
        found: dict[str, float] = {}
        for line in answer.partition("\r\n\r\n")[2].splitlines():
            name, _, value = line.rpartition(" ")
            if name and not line.startswith("#"):
                with contextlib.suppress(ValueError):  # the length of a chunk
                    found[name] = float(value)
        return found

    def stored_live(self) -> int:
        """Sessions that the store holds for live."""
        with contextlib.closing(sqlite3.connect(f"file:{self.store_path}?mode=ro", uri=True)) as store:
            (count,) = store.execute("select count(*) from sessions where status = 'live'").fetchone()
            return int(count)

    def parts(self) -> int:
        """Recordings that are not complete, and other files that are only for a while."""
        return sum(1 for pattern in ("*.part", "*.tmp") for _ in self.folder.rglob(pattern))

    def drop_recordings(self) -> None:
        """Delete recordings that were finished a while ago."""
        oldest = time.time() - RECORDING_KEPT_S
        for path in self.recordings.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < oldest:
                    path.unlink()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        self.process.send_signal(number)


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FASTAGENT_", "OPENAI_"))
    }
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH", ""))))
    return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.asynccontextmanager
async def open_model(*, drops: float, tools: float, seed: int) -> AsyncIterator[ModelProcess]:
    """The model's side, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benches.soak.model",
        "--drops", str(drops), "--tools", str(tools), "--seed", str(seed),
        cwd=ROOT, env=_environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            url = (await process.stdout.readline()).decode().strip()
        yield ModelProcess(process, url)
    finally:
        await _end(process)


@contextlib.asynccontextmanager
async def open_house(folder: Path, model_url: str, **changes: object) -> AsyncIterator[House]:
    """A server that keeps sessions, journals and recordings below ``folder``.

    Args:
        changes: of its settings.

    Raises:
        RuntimeError: it does not start; its log says why.
    """
    (folder / "agent_of_soak.py").write_text(AGENT)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = int(held.getsockname()[1])
    settings = {
        **SETTINGS,
        **changes,
        "realtime_url": model_url,
        "journals_dir": folder / "journals",
        "recordings_dir": folder / "recordings",
        "store_path": folder / "sessions.db",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = _environment()
    environment |= SECRETS
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastagent", "serve", "agent_of_soak:agent", "--port", str(port), *words,
            cwd=folder, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    house = House(folder, port, process)
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while "AudioCodes at" not in house.log:
            if process.returncode is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the server does not start:\n{house.log[-2000:]}")
            await asyncio.sleep(0.1)
        yield house
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
