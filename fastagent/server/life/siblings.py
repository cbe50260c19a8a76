"""Siblings: the processes that serve the same port, and what they lend one another.

They meet in a private folder. Each has two sockets there, named by port and process::

    8000-4711.accepting    takes the descriptor of a connection, on which a sibling hands a resumed call on;
    8000-4711.draining     once the process drains its name says so
    8000-4711.lend         whoever connects is given the descriptors of the listening sockets

A name whose process is gone refuses connections, and whoever notices deletes it. So a killed process leaves
nothing that could mislead the others.
"""

import array
import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from fastagent.errors import ConfigurationError

__all__ = ["Siblings", "borrow_listeners", "visit"]

logger = logging.getLogger("fastagent.server")

ACCEPTING, DRAINING, LEND = "accepting", "draining", "lend"
PATH_BYTES_MAX = 107
"""sun_path of Linux, without its end."""
DESCRIPTORS_MAX = 16
VISIT_TIMEOUT_S = 1.0
"""From a sibling's connection to the descriptor that it brings."""
BORROW_TIMEOUT_S = 2.0
"""For a sibling to lend; one that does not is as good as dead."""
BACKLOG = 128
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group."""


class Siblings:
    """This process among those that serve ``port``.

    Args:
        folder: made if it is not there; only our own user may look into it.

    Raises:
        ConfigurationError: the folder cannot be used, or is not private.
    """

    def __init__(self, folder: Path, port: int, *, pid: int | None = None) -> None:
        prepare_folder(folder)
        self._folder = folder
        self._port = port
        self._pid = os.getpid() if pid is None else pid
        self._lent: list[socket.socket] = []
        self._sockets: list[socket.socket] = []
        self._on_visit: Callable[[socket.socket], None] | None = None
        self._visits: set[asyncio.Task[None]] = set()

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self._port}-{self._pid}.{kind}"

    def enter(self, listeners: Sequence[socket.socket], on_visit: Callable[[socket.socket], None]) -> None:
        """Be found by the others from now on.

        Args:
            listeners: lent to whoever comes, until we `leave`.
            on_visit: takes a connection over that a sibling made to us.

        Raises:
            ConfigurationError: the folder cannot be written to.
        """
        self._lent = list(listeners)
        self._on_visit = on_visit
        self._path(DRAINING).unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        for kind, serve in ((LEND, self._lend), (ACCEPTING, self._receive)):
            listener = _listening(self._path(kind))
            self._sockets.append(listener)
            loop.add_reader(listener.fileno(), self._accept, listener, serve)

    def stand_down(self) -> None:
        """Have the others know that we take no more calls; they still reach us, and borrow."""
        try:
            self._path(ACCEPTING).rename(self._path(DRAINING))
        except OSError as error:
            logger.error("siblings do not learn that this process drains: %s", error.strerror)

    def leave(self) -> None:
        """Be found no more."""
        for listener in self._sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
        self._sockets.clear()
        for task in self._visits:
            task.cancel()
        for kind in (ACCEPTING, DRAINING, LEND):
            self._path(kind).unlink(missing_ok=True)

    def is_anybody_accepting(self) -> bool:
        """Another process takes the calls."""
        return bool(self.others(ACCEPTING))

    def others(self, *kinds: str) -> list[Path]:
        """Sockets of living siblings, those that accept first.

        Args:
            kinds: none for all that serve.
        """
        found = _names(self._folder, self._port, kinds or (ACCEPTING, DRAINING))
        own = f"{self._port}-{self._pid}"
        return [path for path in found if path.stem != own and _is_alive(path)]

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket, int], None]) -> None:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        line.setblocking(False)
        peer = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, user, _ = _CREDENTIALS.unpack(peer)
        if user in (os.getuid(), 0):
            serve(line, pid)
        else:
            logger.error("process %d of another user came to us as a sibling", pid)
            line.close()

    def _lend(self, line: socket.socket, pid: int) -> None:
        with line:
            try:
                socket.send_fds(line, [b"L"], [one.fileno() for one in self._lent])
            except OSError:
                return
        logger.info("process %d was lent our listening sockets", pid)

    def _receive(self, line: socket.socket, pid: int) -> None:
        task = asyncio.get_running_loop().create_task(self._receive_connection(line))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)

    async def _receive_connection(self, line: socket.socket) -> None:
        loop, is_readable = asyncio.get_running_loop(), asyncio.Event()
        with line:
            loop.add_reader(line.fileno(), is_readable.set)
            try:
                async with asyncio.timeout(VISIT_TIMEOUT_S):
                    await is_readable.wait()
                descriptors = _receive_descriptors(line)
            except (OSError, TimeoutError):
                return
            finally:
                loop.remove_reader(line.fileno())
        for descriptor in descriptors:  # none when somebody only looked whether we live
            if self._on_visit is not None:
                self._on_visit(socket.socket(fileno=descriptor))


def visit(path: Path) -> socket.socket:
    """A connection to a sibling, over which it is spoken to as any client would: TCP, which the WebSocket
    library insists on.

    Raises:
        OSError: it is gone.
    """
    near, far = _connected_pair()
    with far, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.setblocking(False)
        try:
            line.connect(str(path))
            socket.send_fds(line, [b"V"], [far.fileno()])
        except OSError:
            near.close()
            raise
    return near


def _connected_pair() -> tuple[socket.socket, socket.socket]:
    near = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        try:
            near.connect(listener.getsockname())
            far, peer = listener.accept()
        except OSError:
            near.close()
            raise
    near.setblocking(False)
    if peer != near.getsockname():  # somebody else was faster, who has no business here
        near.close()
        far.close()
        raise ConnectionAbortedError("a stranger connected")
    return near, far


def prepare_folder(folder: Path) -> None:
    """Make the folder, or see that nobody else may put a socket there.

    Raises:
        ConfigurationError: it cannot be made or is not private.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}") from None
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"{folder}: expected a folder of our own, closed to others (chmod 700)")


def borrow_listeners(folder: Path, port: int) -> list[socket.socket]:
    """The listening sockets of a process that serves ``port``; empty when there is none.

    Raises:
        ConfigurationError: the folder cannot be used.
    """
    prepare_folder(folder)
    for path in _names(folder, port, (LEND,)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(BORROW_TIMEOUT_S)
            try:
                line.connect(str(path))
                descriptors = _receive_descriptors(line)
            except OSError:
                continue
        if descriptors:
            return [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return []


def _receive_descriptors(line: socket.socket) -> list[int]:
    descriptors = array.array("i")
    size = descriptors.itemsize * DESCRIPTORS_MAX
    _, ancillary, _, _ = line.recvmsg(1, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return descriptors.tolist()


def _names(folder: Path, port: int, kinds: Sequence[str]) -> list[Path]:
    try:
        return [path for kind in kinds for path in sorted(folder.glob(f"{port}-*.{kind}"))]
    except OSError:
        return []


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.setblocking(False)
        try:
            line.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return False
        except BlockingIOError:
            return True  # alive, and busy
        except OSError:
            return False  # renamed or gone meanwhile
    return True


def _listening(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ConfigurationError(f"{path.parent}: the path is too long for a socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    return listener
