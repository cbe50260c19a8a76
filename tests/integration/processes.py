"""``fastagent serve`` as real processes, with real signals, beside a scripted model and scripted phones."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fastagent.errors import FastAgentError
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_model import RealtimeModel

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
"""Guards against hangs; nothing takes a tenth of it."""
AGENT = 'from fastagent import FastAgent\nagent = FastAgent("desk", instructions="{words}")\n'
TOKEN = "a-token-of-the-carrier-1"
UNLIMITED = (
    "admission_lag_ms=0", "admission_cpu_percent=0", "calls_per_number=0", "calls_per_number_hour=0",
    "call_burst=100000", "calls_per_second=10000",
)  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


class House:
    """Settings that several processes have in common, and what they wrote."""

    def __init__(self, folder: Path, model_url: str, port: int | None = None) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self.settings = [f"realtime_url={model_url}", "barge_in=model", *UNLIMITED]
        self.write_agent("Be brief.")

    def write_agent(self, words: str) -> None:
        (self.folder / "desk_of_test.py").write_text(AGENT.format(words=words))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/audiocodes/webhook"

    def process(self, *arguments: str, **variables: str) -> "Process":
        return Process(self, arguments, variables)


class Process:
    """One ``fastagent serve``; an async context manager that leaves nothing running."""

    def __init__(self, house: House, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
        self._house = house
        self._arguments = arguments
        self._variables = variables
        self._read: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        self.log = ""

    async def __aenter__(self) -> Self:
        settings = [word for one in self._house.settings for word in ("--set", one)]
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FASTAGENT_", "OPENAI_"))
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastagent", "serve", "desk_of_test:agent",
            "--port", str(self._house.port), *settings, *self._arguments,
            cwd=self._house.folder,
            env={**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **self._variables},
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._read = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # Before its end is waited for: a worker that outlives it keeps the log open.
            print(self.log)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        assert self._read is not None
        await self._read

    async def _follow(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log += line.decode()
            self._grown.set()
        self.log += "(end)\n"
        self._grown.set()

    async def logged(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Wait for a line of the log."""
        async with asyncio.timeout(LIMIT_S):
            while len(found := list(re.finditer(pattern, self.log))) < times:
                assert "(end)" not in self.log, f"no {pattern!r} in\n{self.log}"
                self._grown.clear()
                await self._grown.wait()
        return found[times - 1]

    async def listening(self, times: int = 1) -> Self:
        await self.logged("AudioCodes at", times=times)
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = LIMIT_S) -> int:
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


async def status(
    port: int, path: str = "/health", *, host: str = "127.0.0.1", token: str = ""
) -> tuple[int, str]:
    """One HTTP request over a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    proof = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n{proof}Connection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def new_phone() -> AudioCodesPhone:
    return AudioCodesPhone(LineOptions(formats=("raw/lpcm16_24",), comfort_noise_peak=0))


async def dial(url: str, token: str | None = None) -> AudioCodesPhone:
    phone = new_phone()
    await phone.connect(url, token)
    await phone.initiate()
    return phone


@contextlib.asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[House, RealtimeModel]]:
    """A scripted model, and processes to come."""
    async with asyncio.timeout(LIMIT_S * 2), RealtimeModel() as model:
        yield House(folder, model.url), model


class Load:
    """Short calls without end, each with an answer heard; counts what went wrong."""

    def __init__(self, url: str, *, at_once: int, token: str | None = None) -> None:
        self._url = url
        self._token = token
        self.refused: list[str] = []
        self.cut: list[str] = []
        self.served = 0
        self._is_over = False
        self._at_once = at_once
        self._task: asyncio.Task[None] | None = None
        self._more = asyncio.Event()

    async def until_served(self, calls: int) -> None:
        while self.served < calls:
            self._more.clear()
            await self._more.wait()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._calls())

    async def _calls(self) -> None:
        while not self._is_over:
            phone = new_phone()
            try:
                await phone.connect(self._url, self._token)
                await phone.initiate()
            except FastAgentError as error:
                self.refused.append(str(error))
                continue
            finally:
                if phone.line.is_over:
                    self.refused.append(f"in its own words: {phone.line.end_code}")
            try:
                await phone.say(bytes(4800), 24_000)
                await phone.hang_up()
                self.served += 1
                self._more.set()
                assert not phone.line.violations
            except FastAgentError as error:
                self.cut.append(str(error))
            finally:
                await phone.close()
