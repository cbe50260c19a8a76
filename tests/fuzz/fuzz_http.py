"""The HTTP protocol: any bytes in any pieces are answered or cut, never raised."""

import asyncio
import logging
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from fastagent.server.http import HEAD_BYTES_MAX, HttpProtocol


class Socket(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5060), "sockname": ("127.0.0.1", 8000)})
        self.written = bytearray()
        self.is_closed = False
        self.protocol: Any = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Upgraded(asyncio.Protocol):
    """Takes over as a WebSocket protocol would."""

    def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body and says a word."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
CONFIG = Config(answer, http=HttpProtocol, ws=Upgraded, lifespan="off", log_config=None)
CONFIG.load()
LOOP = asyncio.new_event_loop()


async def receive_all(data: bytes, piece: int) -> Socket:
    socket = Socket()
    state = ServerState()
    protocol = HttpProtocol(CONFIG, state, {"handshake_timeout_s": 60.0}, _loop=asyncio.get_running_loop())
    socket.set_protocol(protocol)
    protocol.connection_made(socket)
    for at in range(0, len(data), piece):
        if socket.is_closed:
            break
        socket.protocol.data_received(data[at : at + piece])
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    for task in list(state.tasks):
        await task
    return socket


def check(data: bytes) -> None:
    """The first byte says how long the pieces are."""
    if not data:
        return
    errors: list[dict[str, Any]] = []
    LOOP.set_exception_handler(lambda loop, context: errors.append(context))
    socket = LOOP.run_until_complete(receive_all(data[1:], 1 + data[0] * 16))
    assert not errors, errors
    assert not socket.written or socket.written.startswith(b"HTTP/1.1 ")
    assert len(data) <= HEAD_BYTES_MAX or socket.written
