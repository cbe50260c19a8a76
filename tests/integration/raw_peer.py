"""A server in a thread and a WebSocket peer that writes every byte by hand: blocking sockets, no library.

The peer can do what no library lets one do: wrong bits, wrong order, half a head, not reading, vanishing.
"""

import asyncio
import base64
import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop
from starlette.routing import BaseRoute

from fastagent import FastAgent
from fastagent.server.process import RunningServer, run_server
from fastagent.settings import Settings

TIMEOUT_S = 10.0
"""Guards against hangs; nothing is measured by it."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


@contextmanager
def absent_model() -> Iterator[str]:
    """A Realtime URL where nobody listens, and nobody else can meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{holder.getsockname()[1]}/"


class ServerThread:
    """A server with its own event loop in a thread of this process."""

    def __init__(self, server: RunningServer, loop: asyncio.AbstractEventLoop) -> None:
        self.running = server
        self.port: int = server.port
        self.service = server.service
        self.state = server._server.server_state
        self.loop = loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT_S)

    def until(self, claim: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + TIMEOUT_S
        while not claim():
            assert time.monotonic() < deadline, f"never came: {what}"
            time.sleep(0.002)

    def until_idle(self) -> None:
        """Wait until nothing is left of any connection."""
        self.until(lambda: not self.state.connections, "no connections")
        self.until(lambda: not self.state.tasks, "no tasks")
        self.until(lambda: not self.service.switchboard.active_calls, "no calls")


@contextmanager
def server_thread(
    *, routes: Sequence[BaseRoute] = (), loop: str = "uvloop", **changes: Any
) -> Iterator[ServerThread]:
    """Serve an agent whose model is always just about to be reached."""
    defaults: dict[str, Any] = {
        "port": 0,
        "max_carrier_message_bytes": 65_536,
        "model_connect_attempts": 10_000,
        "model_connect_total_timeout_s": 3600.0,
        "drain_timeout_s": 0.1,
        # The machine is shared with other tests.
        "admission_lag_ms": 0.0,
        "admission_cpu_percent": 0.0,
        "call_burst": 100_000,
    }
    ready: list[ServerThread] = []
    stoppers: list[Callable[[], object]] = []
    begun = threading.Event()
    faults: list[BaseException] = []

    async def serve(settings: Settings) -> None:
        running_loop, over = asyncio.get_running_loop(), asyncio.Event()
        agent = FastAgent("stub", instructions="nothing")
        async with run_server(agent, settings, extra_routes=routes) as server:
            ready.append(ServerThread(server, running_loop))
            stoppers.append(lambda: running_loop.call_soon_threadsafe(over.set))
            begun.set()
            await over.wait()

    def run(settings: Settings) -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(serve(settings))
        except BaseException as fault:
            faults.append(fault)
        finally:
            begun.set()

    with absent_model() as url:
        settings = Settings().with_changes(**({"realtime_url": url} | defaults | changes))
        thread = threading.Thread(target=run, args=(settings,), name="server")
        thread.start()
        try:
            assert begun.wait(TIMEOUT_S), "the server never began"
            if ready:
                yield ready[0]
        finally:
            for stop in stoppers:
                stop()
            thread.join(2 * TIMEOUT_S)
    assert not thread.is_alive(), "the server never stopped"
    if faults:
        raise faults[0]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Frame:
    """A frame as it came."""

    opcode: int
    payload: bytes
    is_final: bool = True

    @property
    def close_code(self) -> int:
        """1005 for none."""
        assert self.opcode == CLOSE
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else 1005


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """What a close frame carries."""
    return struct.pack(">H", code) + reason


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    first_bits: int = FIN,
    is_masked: bool = True,
    declared: int | None = None,
    length_form: int | None = None,
) -> bytes:
    """A client's frame; ``declared`` lies about the length, ``length_form`` (7, 16, 64) forces its form."""
    size = len(payload) if declared is None else declared
    form = length_form or (7 if size < 126 else 16 if size < 65_536 else 64)
    mask_bit = 0x80 if is_masked else 0
    head = bytes([first_bits | opcode])
    if form == 7:
        head += bytes([mask_bit | size])
    elif form == 16:
        head += struct.pack(">BH", mask_bit | 126, size)
    else:
        head += struct.pack(">BQ", mask_bit | 127, size)
    if not is_masked:
        return head + payload
    mask = os.urandom(4)
    repeated = mask * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return head + mask + number.to_bytes(len(payload), "big")


@dataclass
class Peer:
    """One TCP connection to the server."""

    socket: socket.socket
    key: bytes = field(default_factory=lambda: base64.b64encode(os.urandom(16)))
    received: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(cls, port: int, *, receive_buffer_bytes: int | None = None) -> "Peer":
        raw = socket.socket()
        if receive_buffer_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        raw.settimeout(TIMEOUT_S)
        raw.connect(("127.0.0.1", port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(raw)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self.received += data
        return bool(data)

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        while len(self.received) < size:
            assert self._more(), f"the connection ended after {len(self.received)} of {size} bytes"
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    def is_at_end(self) -> bool:
        """The server closed the connection, with nothing unread before that."""
        while not self.received:
            if not self._more():
                return True
        return False

    def until_end(self) -> None:
        """Read the connection to its end, whatever comes."""
        while self._more():
            pass

    def reset(self) -> None:
        """Vanish: RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # HTTP

    def upgrade_head(self, path: str, **headers: str | None) -> bytes:
        """An upgrade request; keyword ``sec_websocket_key`` is that header, None leaves it out."""
        values: dict[str, str | None] = {
            "host": "localhost",
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": self.key.decode(),
        }
        values.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = [f"{name}: {value}" for name, value in values.items() if value is not None]
        return ("\r\n".join([f"GET {path} HTTP/1.1", *lines]) + "\r\n\r\n").encode("latin-1")

    def request(self, method: str, path: str, **headers: str) -> Answer:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write(
            "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode("latin-1")
        )
        return self.answer()

    def answer(self) -> Answer:
        while b"\r\n\r\n" not in self.received:
            assert self._more(), "the connection ended before an answer"
        head = self.read(self.received.index(b"\r\n\r\n") + 4)
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = int(first.split(" ")[1])
        size = 0 if status == 101 else int(headers.get("content-length", "0"))
        return Answer(status, headers, self.read(size))

    def upgrade(self, path: str, **headers: str | None) -> Answer:
        """Ask for a WebSocket; a 101 must be a right one."""
        self.write(self.upgrade_head(path, **headers))
        return self.upgraded()

    def upgraded(self) -> Answer:
        answer = self.answer()
        if answer.status == 101:
            accept = base64.b64encode(hashlib.sha1(self.key + GUID).digest()).decode()
            assert answer.headers["sec-websocket-accept"] == accept
            assert answer.headers["upgrade"].lower() == "websocket"
            assert "upgrade" in answer.headers["connection"].lower()
        return answer

    # WebSocket

    def answer_close(self) -> Frame:
        """Read up to the server's close frame, echo it, and see the connection end."""
        while (got := self.receive()).opcode != CLOSE:
            pass
        self.send(CLOSE, got.payload)
        self.until_end()
        return got

    def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.write(frame(opcode, payload, **options))

    def send_json(self, message: dict[str, Any]) -> None:
        self.send(TEXT, json.dumps(message).encode())

    def receive(self) -> Frame:
        first, second = self.read(2)
        assert not second & 0x80, "a server's frame is never masked"
        assert not first & 0x70, "no extension was agreed on"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.read(8))
        return Frame(first & 0x0F, self.read(size), bool(first & 0x80))

    def leave(self, code: int = 1000) -> int:
        """Close politely; gives the code that is echoed, other frames before it are skipped."""
        self.send(CLOSE, close_payload(code))
        while (got := self.receive()).opcode != CLOSE:
            pass
        assert self.is_at_end()
        return got.close_code
