"""Where the listening sockets come from: inherited, lent by a process that serves the port, or bound anew."""

import socket
from collections.abc import Sequence
from pathlib import Path

from fastagent.errors import ConfigurationError
from fastagent.server.siblings import borrow_listeners
from fastagent.settings import Settings

__all__ = ["bind", "find_listeners", "inherited"]

BACKLOG = 2048


def find_listeners(settings: Settings, descriptors: Sequence[int] = ()) -> list[socket.socket]:
    """Listening sockets for a server.

    Args:
        descriptors: inherited ones, which win.

    Raises:
        ConfigurationError: what was inherited is no listening socket, or the port is taken.
    """
    if descriptors:
        return [inherited(descriptor) for descriptor in descriptors]
    if settings.run_dir and (lent := borrow_listeners(Path(settings.run_dir), settings.port)):
        for listener in lent:
            listener.setblocking(False)
        return lent
    return [bind(settings.host, settings.port, is_shared=settings.reuse_port)]


def inherited(descriptor: int) -> socket.socket:
    """The socket of an inherited descriptor.

    Raises:
        ConfigurationError: it is not a stream socket that listens.
    """
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError:
        raise ConfigurationError(f"descriptor {descriptor} is not a socket") from None
    is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not is_listening:
        listener.detach()  # it is not ours to close
        raise ConfigurationError(f"descriptor {descriptor} is not a listening stream socket")
    listener.setblocking(False)
    listener.set_inheritable(False)
    return listener


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Listen on an address.

    Args:
        is_shared: other processes of our user may bind it, too, each with a queue of its own.

    Raises:
        ConfigurationError: that is not possible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener
