"""Where the listening sockets come from: inherited, lent by a process that serves the port, or bound anew."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

from fastagent.errors import ConfigurationError
from fastagent.server.life.siblings import borrow_listeners
from fastagent.settings import Settings

__all__ = ["bind", "find_listeners", "inherited"]

BACKLOG = 2048


def find_listeners(settings: Settings, descriptors: Sequence[int] = ()) -> list[socket.socket]:
    """Listening sockets for a server.

    Args:
        descriptors: inherited ones, which win.

    Raises:
        ConfigurationError: what was inherited is no listening socket, or the port is taken; or others reach a
            socket that we did not bind, and no token is set.
    """
    if descriptors:
        listeners = [inherited(descriptor) for descriptor in descriptors]
    elif settings.run_dir:
        listeners = borrow_listeners(Path(settings.run_dir), settings.port)
    else:
        listeners = []
    if not settings.has_tokens and not all(map(_is_loopback, listeners)):
        for listener in listeners:
            listener.close()
        text = "the listening socket is reachable from other machines, so a token must be set"
        raise ConfigurationError(text)
    for listener in listeners:
        listener.setblocking(False)
    return listeners or [bind(settings.host, settings.port, is_shared=settings.reuse_port)]


def _is_loopback(listener: socket.socket) -> bool:
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


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
    # asyncio turns off delays of small writes only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
