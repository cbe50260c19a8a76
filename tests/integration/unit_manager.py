"""A service manager as small as the units of deploy/systemd need: sockets, readiness, watchdog, restarts.

It reads the unit files and does what they say; paths of the system are moved below a folder of the test.
Namespaces and filters of system calls are left out, and `systemd-analyze` judges them; no new privileges, no
memory that becomes code, limits and the umask hold here, too.
"""

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from tests.deployed import sections

SUPPORTED = {"daemon-reload", "enable", "disable", "start", "stop", "reload", "restart"}
STARTS_MAX = 5
START = """\
import ctypes, os, resource, sys
descriptor, mask, files, *command = sys.argv[1:]
os.dup2(int(descriptor), 3, inheritable=True)
os.umask(int(mask, 8))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(int(files), hard),) * 2)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
libc.prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, of Linux 6.3: no memory becomes code
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(command[0], command)
"""


class Roots:
    """Where paths of the system and the unit's port are in this test."""

    def __init__(self, folder: Path, port: int) -> None:
        self.units = folder / "units"
        self.units.mkdir()
        self.moved = {
            "/etc/systemd/system": str(self.units),
            "/opt/fastagent": str(folder / "opt"),
            "/etc/fastagent": str(folder / "etc"),
            "/var/lib/fastagent": str(folder / "state"),
            "/run/fastagent": str(folder / "run"),
            "127.0.0.1:8000": f"127.0.0.1:{port}",
        }

    def here(self, text: str) -> str:
        """The text with every such path moved."""
        pattern = "|".join(re.escape(path) + r"(?![\w-])" for path in self.moved)
        return re.sub(pattern, lambda found: self.moved[found[0]], text)


class Unit:
    """One instance of the service."""

    def __init__(self, name: str, service: dict[str, list[str]], house: "UnitManager") -> None:
        self.name = name
        self.service = service
        self.house = house
        self.address = house.folder / f"{name}.notify"
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.starts = 0
        self.watchdog_kills = 0
        self.exit_codes: list[int] = []
        self.is_wanted = False
        self.is_stopping = False
        self.last_sign = 0.0
        self.life: asyncio.Task[None] | None = None
        self.reports: list[str] = []

    def one(self, name: str, otherwise: str = "") -> str:
        return (self.service.get(name) or [otherwise])[-1]

    def seconds(self, name: str) -> float:
        value = self.house.overrides.get(name) or self.one(name, "0")
        return float(value[:-2]) / 1000 if value.endswith("ms") else float(value.removesuffix("s"))

    async def start(self) -> None:
        """Returns once it is ready, as ``Type=notify`` has it."""
        assert self.one("Type") == "notify"
        if self.life is None or self.life.done():
            self.is_wanted, self.is_stopping = True, False
            self.life = asyncio.create_task(self._live())
        waits = asyncio.create_task(self.ready.wait())
        await asyncio.wait(
            {waits, self.life}, timeout=self.seconds("TimeoutStartSec"), return_when=asyncio.FIRST_COMPLETED
        )
        waits.cancel()
        if not self.ready.is_set():
            raise RuntimeError(f"{self.name} did not start: {self.exit_codes}")

    async def stop(self) -> None:
        self.is_wanted, self.is_stopping = False, True
        if self.life is None or self.life.done():
            return
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()  # KillMode=mixed: nobody but the main process
        await asyncio.wait_for(asyncio.shield(self.life), self.seconds("TimeoutStopSec"))

    async def _live(self) -> None:
        while self.is_wanted:
            self.ready.clear()
            code = await self._run()
            self.exit_codes.append(code)
            self.ready.clear()
            if code == 0 or self.one("Restart") != "on-failure" or self.starts > STARTS_MAX:
                return
            await asyncio.sleep(self.seconds("RestartSec"))

    def _prepare(self) -> dict[str, str]:
        """Make the folders; gives the environment."""
        for kind, path in (("Runtime", "/run"), ("State", "/var/lib")):
            mode = int(self.one(f"{kind}DirectoryMode", "0755"), 8)
            for name in self.one(f"{kind}Directory").split():
                Path(self.house.roots.here(f"{path}/{name}")).mkdir(mode=mode, exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        for line in self.service.get("Environment", []):
            name, _, value = line.partition("=")
            environment[name] = value
        for path in self.service.get("EnvironmentFile", []):
            for line in Path(path).read_text(encoding="utf-8").splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.partition("=")
                    environment[name] = value.strip("'\"")
        return environment | {
            "NOTIFY_SOCKET": str(self.address),
            "WATCHDOG_USEC": str(int(self.seconds("WatchdogSec") * 1e6)),
            "LISTEN_FDS": "1",
        }

    def _report_line(self) -> socket.socket:
        self.address.unlink(missing_ok=True)
        line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        line.bind(str(self.address))
        line.setblocking(False)
        return line

    async def _run(self) -> int:
        house, loop = self.house, asyncio.get_running_loop()
        environment = self._prepare()
        self.starts += 1
        with self._report_line() as line, house.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", START, str(house.listener.fileno()), self.one("UMask"),
                self.one("LimitNOFILE"), *shlex.split(self.one("ExecStart")),
                cwd=self.one("WorkingDirectory"), env=environment, pass_fds=[house.listener.fileno()],
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            loop.add_reader(line.fileno(), self._hear, line)
            try:
                return await self._watch(self.process)
            finally:
                loop.remove_reader(line.fileno())
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)  # whatever is left of the group

    async def _watch(self, process: asyncio.subprocess.Process) -> int:
        ends = asyncio.create_task(process.wait())
        loop = asyncio.get_running_loop()
        self.last_sign = loop.time()
        while not ends.done():
            await asyncio.wait({ends}, timeout=0.05)
            is_silent = loop.time() - self.last_sign > self.seconds("WatchdogSec")
            if self.ready.is_set() and is_silent and not ends.done():
                self.watchdog_kills += 1
                process.send_signal(signal.SIGABRT)
                process.send_signal(signal.SIGKILL)  # one that is stopped hears nothing else
                await ends
        return ends.result()

    def _hear(self, line: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for report in line.recv(4096).decode().splitlines():
                self.last_sign = asyncio.get_running_loop().time()
                if report != "WATCHDOG=1":
                    self.reports.append(report)
                if report == "READY=1":
                    self.ready.set()


class UnitManager:
    """Answers ``systemctl``; a context manager that leaves nothing running.

    Args:
        overrides: other values of settings with a time, for tests that cannot wait.
    """

    def __init__(self, folder: Path, port: int, **overrides: str) -> None:
        self.folder = folder
        self.roots = Roots(folder, port)
        self.overrides = overrides
        self.units: dict[str, Unit] = {}
        self.enabled: set[str] = set()
        self.log = folder / "journal"
        self._listener: socket.socket | None = None
        self._waits: set[asyncio.Task[None]] = set()

    @property
    def listener(self) -> socket.socket:
        assert self._listener is not None, "the socket unit was not started"
        return self._listener

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Gives the address of the socket that the command ``systemctl`` comes to."""
        address = str(self.folder / "manager")
        server = await asyncio.start_unix_server(self._serve, address)
        try:
            yield address
        finally:
            server.close()
            for unit in self.units.values():
                unit.is_wanted = False
                if unit.process is not None and unit.process.returncode is None:
                    unit.process.kill()
                if unit.life is not None:
                    await unit.life
            if self._listener is not None:
                self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.systemctl(json.loads(await reader.readline()))
            writer.write(b"0\n")
        except Exception as error:
            writer.write(f"{error!r}\n".encode())
        writer.close()

    async def systemctl(self, words: Iterable[str]) -> None:
        """One command; units without an ending are services, as ever."""
        options = {word for word in words if word.startswith("--")}
        verb, *names = [word for word in words if not word.startswith("--")]
        if verb not in SUPPORTED or not options <= {"--now", "--no-block"}:
            raise ValueError(f"systemctl {verb} {options} is not known here")
        for name in names:
            if verb in ("enable", "disable"):
                (self.enabled.add if verb == "enable" else self.enabled.discard)(name)
                if "--now" not in options:
                    continue
            action = {"enable": "start", "disable": "stop"}.get(verb, verb)
            task = asyncio.create_task(self._do(action, name))
            if "--no-block" in options:
                self._waits.add(task)
                task.add_done_callback(self._waits.discard)
            else:
                await task

    async def _do(self, action: str, name: str) -> None:
        if name.endswith(".socket"):
            self._listen(name)
            return
        unit = self._unit(name.removesuffix(".service"))
        if action == "start":
            await unit.start()
        elif action == "stop":
            await unit.stop()
        elif action == "restart":
            await unit.stop()
            await unit.start()
        elif action == "reload":
            assert unit.one("ExecReload").endswith("kill -HUP $MAINPID")
            assert unit.process is not None
            unit.process.send_signal(signal.SIGHUP)

    def _listen(self, name: str) -> None:
        if self._listener is not None:
            return
        unit = dict(sections(self.roots.units / name)["Socket"])
        host, _, port = self.roots.here(unit["ListenStream"]).partition(":")
        self._listener = socket.create_server((host, int(port)), backlog=int(unit["Backlog"]))

    def _unit(self, name: str) -> Unit:
        if name not in self.units:
            template, _, slot = name.partition("@")
            service: dict[str, list[str]] = {}
            for key, value in sections(self.roots.units / f"{template}@.service")["Service"]:
                service.setdefault(key, []).append(self.roots.here(value.replace("%i", slot)))
            self._listen(service["Sockets"][0])
            self.units[name] = Unit(name, service, self)
        return self.units[name]
