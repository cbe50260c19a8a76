"""The supervisor of ``--workers N``: holds the listening sockets, and keeps processes at work on them.

::

    STARTING ──ready──▶ AT WORK ──SIGUSR2: another is ready──▶ LEAVING ──its calls are over──▶ gone
        │                  └──ends unasked──▶ started again after a pause
        └──not ready in time──▶ killed

The sockets are never closed while the supervisor lives, so no connection is refused, whatever becomes of a
worker.
Workers are fresh interpreters: SIGUSR2 replaces them one by one by what is installed now. SIGTERM and SIGINT
are passed on and end the house, SIGHUP is passed on. A worker without a sign of life is killed; one that ends
unasked more than `RESTARTS_MAX` times within `RESTART_WINDOW_S` ends the house: another start would not help.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastagent.errors import ConfigurationError
from fastagent.server.life.notifier import Notifier

__all__ = ["Supervisor"]

logger = logging.getLogger("fastagent.supervisor")

READY_TIMEOUT_S = 60.0
"""For a worker to take calls: agents' MCP servers may be slow to start."""
RESTARTS_MAX = 3
RESTART_WINDOW_S = 60.0
BACK_OFF_S = (0.0, 0.5, 2.0)
"""Before the first, second and third restart within the window."""
WATCHDOG_S = 10.0
"""A worker whose event loop stands still for so long has lost its calls already."""
LOOK_S = 1.0
"""How often the signs of life are looked at."""
REPORT_BYTES_MAX = 256
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group."""


@dataclass(eq=False, slots=True)
class Worker:
    """One process."""

    slot: int
    process: asyncio.subprocess.Process
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    last_sign: float = field(default_factory=time.monotonic)
    is_leaving: bool = False
    """It was asked to end, or given up."""
    is_replacement: bool = False
    """Its slot is another's until it is ready."""
    was_ready: bool = False


class Supervisor:
    """Runs workers until it is told to stop.

    Args:
        command: what a worker is started with; its descriptors follow as ``--listen-fd N``.
        environment: of the workers.
        listeners: what they accept from.
        folder: private; reports come in there.
        cores: each worker is kept on one of them; empty: the kernel decides.
        notifier: is told when all are ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        listeners: Sequence[socket.socket],
        folder: Path,
        *,
        environment: Mapping[str, str],
        cores: Sequence[int] = (),
        notifier: Notifier,
    ) -> None:
        self._command = [*command]
        for listener in listeners:
            self._command += ["--listen-fd", str(listener.fileno())]
        self._slots: list[Worker | None] = [None] * workers
        self._workers: set[Worker] = set()
        self._descriptors = [listener.fileno() for listener in listeners]
        self._reports_path = folder / f"supervisor-{os.getpid()}.reports"
        self._environment = {
            **environment,
            "NOTIFY_SOCKET": str(self._reports_path),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        for name in ("WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"):
            self._environment.pop(name, None)
        self._cores = list(cores)
        self._notifier = notifier
        self._restarts: list[deque[float]] = [deque() for _ in range(workers)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._is_replacing = False
        self._has_failed = False
        self._was_interrupted = False
        self._over = asyncio.Event()
        self._is_up = False
        """A worker was ready once: what is configured can work."""

    async def run(self) -> int:
        """Live until told to stop; gives the exit code: 0, 1 when a worker could not be kept alive or ended
        badly, 130 after a Ctrl-C."""
        with self._reports(), self._signals():
            try:
                for slot in range(len(self._slots)):
                    self._slots[slot] = await self._start(slot)
                self._spawn(self._say_when_ready())
                while not (self._is_stopping and not self._workers):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await self._over.wait()
                    self._kill_lifeless(time.monotonic())
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                self._signal(signal.SIGKILL)
                self._notifier.close()
        if self._has_failed:
            return 1
        return 130 if self._was_interrupted else 0

    # Workers

    async def _start(self, slot: int, *, is_replacement: bool = False) -> Worker:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            # It ends with us: its standard input does.
            stdin=asyncio.subprocess.PIPE,
            env=self._environment,
            pass_fds=self._descriptors,
            # A terminal's Ctrl-C is ours to pass on.
            start_new_session=True,
        )
        if self._cores:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(process.pid, {self._cores[slot % len(self._cores)]})
        worker = Worker(slot, process, is_replacement=is_replacement)
        self._workers.add(worker)
        logger.info("worker %d is process %d", slot, process.pid)
        self._spawn(self._watch(worker))
        return worker

    async def _watch(self, worker: Worker) -> None:
        code = await worker.process.wait()
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        self._workers.discard(worker)
        worker.ready.set()  # nobody waits for it any longer
        if worker.is_leaving or self._is_stopping:
            # A signal may come to one that has done all and only has to leave.
            if code not in (0, 130, -signal.SIGINT, -signal.SIGTERM):
                logger.error("worker %d (process %d) ended with %d", worker.slot, worker.process.pid, code)
                self._has_failed |= self._is_stopping
        elif not worker.is_replacement:
            logger.error(
                "worker %d (process %d) ended unasked with %d", worker.slot, worker.process.pid, code
            )
            await self._restart(worker)
        if self._is_stopping and not self._workers:
            self._over.set()

    async def _restart(self, former: Worker) -> None:
        now, slot = time.monotonic(), former.slot
        restarts = self._restarts[slot]
        while restarts and restarts[0] < now - RESTART_WINDOW_S:
            restarts.popleft()
        if len(restarts) >= RESTARTS_MAX or not self._is_up:
            logger.critical("worker %d cannot be kept alive: giving up", slot)
            self._has_failed = True
            self._stop(signal.SIGTERM)
            return
        restarts.append(now)
        await asyncio.sleep(BACK_OFF_S[len(restarts) - 1])
        if not self._is_stopping and self._slots[slot] in (former, None):
            self._slots[slot] = await self._start(slot)

    async def _replace_all(self) -> None:
        """Put a fresh process in each slot; the first that does not get ready ends the attempt."""
        self._is_replacing = True
        try:
            for slot in range(len(self._slots)):
                if not await self._replace(slot):
                    return
            logger.info("all workers were replaced")
        finally:
            self._is_replacing = False

    async def _replace(self, slot: int) -> bool:
        fresh = await self._start(slot, is_replacement=True)
        is_ready = await self._is_ready(fresh)
        if self._is_stopping:
            return False
        if not is_ready:
            logger.error("worker %d was not replaced: its successor did not get ready", slot)
            self._kill(fresh)
            return False
        former, self._slots[slot] = self._slots[slot], fresh
        fresh.is_replacement = False
        if former is not None and former in self._workers:
            former.is_leaving = True
            former.process.send_signal(signal.SIGTERM)
        return True

    async def _is_ready(self, worker: Worker) -> bool:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await worker.ready.wait()
        except TimeoutError:
            return False
        return worker in self._workers

    async def _say_when_ready(self) -> None:
        for worker in list(self._workers):
            if not await self._is_ready(worker):
                return  # it was said why
        self._notifier.ready()
        logger.info("%d workers take calls", len(self._slots))

    def _kill_lifeless(self, now: float) -> None:
        for worker in self._workers:
            limit_s = WATCHDOG_S if worker.ready.is_set() else READY_TIMEOUT_S
            if now - worker.last_sign > limit_s:
                logger.error("worker %d (process %d) gives no sign of life", worker.slot, worker.process.pid)
                worker.last_sign = now
                worker.process.send_signal(signal.SIGKILL)

    def _kill(self, worker: Worker) -> None:
        if worker in self._workers:
            worker.is_leaving = True
            worker.process.send_signal(signal.SIGKILL)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Signals and reports

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._signal,
            signal.SIGUSR2: self._begin_replacing,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler, number)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        """Pass it on: a second one, too, which ends calls now."""
        if not self._is_stopping:
            self._is_stopping = True
            self._notifier.stopping()
        self._was_interrupted |= number == signal.SIGINT
        self._signal(number)
        if not self._workers:
            self._over.set()

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    def _begin_replacing(self, number: signal.Signals) -> None:
        if not (self._is_replacing or self._is_stopping):
            self._spawn(self._replace_all())

    @contextlib.contextmanager
    def _reports(self) -> Iterator[None]:
        """Hear what workers report, by the kernel's word on who does."""
        self._reports_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            try:
                line.bind(str(self._reports_path))
            except OSError as error:
                raise ConfigurationError(f"{self._reports_path}: {error.strerror}") from None
            line.setblocking(False)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            loop = asyncio.get_running_loop()
            loop.add_reader(line.fileno(), self._take_report, line)
            try:
                yield
            finally:
                loop.remove_reader(line.fileno())
                self._reports_path.unlink(missing_ok=True)

    def _take_report(self, line: socket.socket) -> None:
        try:
            report, ancillary, _, _ = line.recvmsg(REPORT_BYTES_MAX, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError:
            return
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                pid = _CREDENTIALS.unpack(data)[0]
                for worker in self._workers:
                    if worker.process.pid == pid:
                        worker.last_sign = time.monotonic()
                        if b"READY=1" in report.split():
                            self._is_up = worker.was_ready = True
                            worker.ready.set()
