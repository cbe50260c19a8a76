"""Accepts connections, one a turn of the loop, and steps back from its sockets without closing them."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence

__all__ = ["Acceptor"]

logger = logging.getLogger("fastagent.server")

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_PAUSE_S = 0.1
"""The queue of a socket that we cannot accept from stays readable: without a pause the loop would spin."""


class Acceptor:
    """Accepts from listening sockets that other processes may hold, too.

    A queue belongs to the kernel's socket, not to a process. Whoever pauses, or closes its descriptor while
    another process keeps one, leaves every waiting connection to that other process. One connection is taken
    a turn, so that a burst is shared among those who wait for it, and audio is not kept waiting.

    Args:
        new_protocol: what serves a connection.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], new_protocol: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self._listeners = list(listeners)
        self._new_protocol = new_protocol
        self._loop = asyncio.get_running_loop()
        self._openings: set[asyncio.Task[None]] = set()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self.is_paused = True
        """Connections are left to others."""
        self.accepted = 0
        """Connections so far."""

    @property
    def is_opening(self) -> bool:
        """A connection was accepted and is not served yet."""
        return bool(self._openings)

    def resume(self) -> None:
        """Accept from now on."""
        if self.is_paused:
            self.is_paused = False
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def pause(self) -> None:
        """Accept no more; what waits in a queue stays there."""
        if not self.is_paused:
            self.is_paused = True
            for timer in self._pauses.values():
                timer.cancel()
            self._pauses.clear()
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def empty(self) -> None:
        """Take all that waits, for a queue that ends with our descriptor."""
        if not self.is_paused:
            for listener in self._listeners:
                while self._accept(listener):
                    pass

    async def close(self) -> None:
        """Give the sockets up; a connection that is being taken over is served."""
        self.pause()
        for listener in self._listeners:
            listener.close()
        if self._openings:
            await asyncio.gather(*self._openings, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> bool:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another process was first, or the client has left
        except OSError as error:
            if error.errno in EXHAUSTED:
                logger.error("cannot accept connections: %s", error.strerror)
                self._loop.remove_reader(listener.fileno())
                self._pauses[listener] = self._loop.call_later(EXHAUSTED_PAUSE_S, self._again, listener)
            return False
        self.accepted += 1
        self.serve(connection, self._new_protocol)
        return True

    def serve(self, connection: socket.socket, new_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Serve a connection, however it came to us."""
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._open(connection, new_protocol))
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    def _again(self, listener: socket.socket) -> None:
        del self._pauses[listener]
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    async def _open(
        self, connection: socket.socket, new_protocol: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(new_protocol, connection)
        except OSError:
            connection.close()  # it has ended already
