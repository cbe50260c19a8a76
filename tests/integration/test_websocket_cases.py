"""Every case of the Autobahn suite, as a table, against both roles of our WebSocket.

The server's role is played by a route on the very class that guards the calls' endpoints, the client's by a
leg opened as the model's is; both echo. Limits are those of the settings' defaults, so a message longer than
a carrier may send must be refused with 1009.

The cases that do not pass stand in `EXCEPTIONS`, with the reason.
"""

import asyncio
import base64
import hashlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvloop
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fastagent._native.listener import Leg
from fastagent.legs.upgrade import open_leg
from fastagent.server.websocket import accept_leg, leg_of
from fastagent.settings import Settings
from fastagent.wire.realtime_endpoint import UpgradeRequest
from tests.integration.raw_peer import GUID, TIMEOUT_S, Frame, Peer, ServerThread, frame, server_thread
from tests.integration.websocket_cases import CASES, CLOSE, CONTINUATION, Case, Out, Pause, close_payload

ECHO = "/echo"
PAUSE_S = 0.03
SEND_CAP_BYTES = 64 << 20
"""The echo may not be cut for what a slow machine has not read yet: that has tests of its own."""
SERVER_LIMIT_BYTES = Settings().max_carrier_message_bytes
CLIENT_LIMIT_BYTES = Settings().max_model_message_bytes

EXCEPTIONS = {
    "7.1.2": "of two close frames in one read the parser refuses the first for the second: 1002, not 1000",
}
"""At most three."""


class Echo:
    """Sends back what comes."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def on_open(self) -> None:
        """The other side speaks first."""

    def on_message(self, data: bytes, is_text: bool) -> None:
        self._leg.send(data, is_text)

    def on_closed(self, code: int, reason: str) -> None:
        """Nothing is left to do."""

    def on_writable(self) -> None:
        """Nothing waits."""

    def on_queued(self) -> None:
        """No pump, no queue."""


async def echo(websocket: WebSocket) -> None:
    await accept_leg(websocket, Echo(leg_of(websocket)))


# Sending and judging


@dataclass
class Reader:
    """Takes the endpoint's frames out of the stream of its bytes."""

    is_masked: bool
    data: bytearray = field(default_factory=bytearray)
    parts: bytearray = field(default_factory=bytearray)
    opcode: int = CONTINUATION

    def frames(self) -> Iterator[Frame]:
        while len(self.data) >= 2:
            first, second = self.data[0], self.data[1]
            assert not first & 0x70, "no extension was agreed on"
            assert bool(second & 0x80) == self.is_masked, "a client masks, a server does not"
            size, at = second & 0x7F, 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if len(self.data) < at + width:
                    return
                size = int.from_bytes(self.data[at : at + width], "big")
                at += width
            mask = b""
            if self.is_masked:
                mask, at = bytes(self.data[at : at + 4]), at + 4
            if len(self.data) < at + size:
                return
            payload = bytes(self.data[at : at + size])
            del self.data[: at + size]
            if any(mask):
                repeated = mask * (size // 4 + 1)
                number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")
                payload = number.to_bytes(size, "big")
            yield Frame(first & 0x0F, payload, bool(first & 0x80))


class Line:
    """One connection to the endpoint: bytes go out while frames come in."""

    def __init__(self, connection: socket.socket, *, is_client: bool, received: bytes = b"") -> None:
        self._socket = connection
        self._is_client = is_client
        self._reader = Reader(is_masked=not is_client, data=bytearray(received))
        self.got: list[tuple[int, bytes]] = []
        """Everything but the close."""
        self.close: Frame | None = None
        self.is_over = False
        connection.setblocking(False)

    def wire(self, out: Out) -> tuple[bytes, int]:
        """A frame as bytes, and the size of its header."""
        first_bits = (0x80 if out.is_final else 0) | out.reserved << 4
        data = frame(out.opcode, out.payload, first_bits=first_bits, is_masked=self._is_client)
        return data, len(data) - len(out.payload)

    def write(self, data: bytes) -> None:
        """Write it all, reading meanwhile; what is left when the endpoint closes is not sent."""
        view = memoryview(data)
        deadline = time.monotonic() + TIMEOUT_S
        while view and self.close is None and not self.is_over:
            assert time.monotonic() < deadline, "the endpoint does not read"
            readable, writable, _ = select.select([self._socket], [self._socket], [], TIMEOUT_S)
            if readable:
                self._read()
            if writable and not self.is_over:
                try:
                    view = view[self._socket.send(view[:262_144]) :]
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError:
                    self.is_over = True

    def read_for(self, seconds: float) -> None:
        """Read until the endpoint was silent for so long, or is gone."""
        while not self.is_over and select.select([self._socket], [], [], seconds)[0]:
            self._read()
            if self.close is not None:
                return

    def read_until(self, count: int) -> None:
        """Read until so many frames came, or a close."""
        deadline = time.monotonic() + TIMEOUT_S
        while len(self.got) < count and self.close is None and not self.is_over:
            assert time.monotonic() < deadline, f"{len(self.got)} of {count} frames came"
            if select.select([self._socket], [], [], TIMEOUT_S)[0]:
                self._read()

    def read_to_end(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self.is_over:
            assert time.monotonic() < deadline, "the endpoint did not end the connection"
            if select.select([self._socket], [], [], TIMEOUT_S)[0]:
                self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 20)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.is_over = True
        self._reader.data += data
        for one in self._reader.frames():
            assert one.is_final, "nothing is fragmented by us"
            assert self.close is None, "frames behind a close"
            if one.opcode == CLOSE:
                self.close = one
            else:
                self.got.append((one.opcode, one.payload))


def send(line: Line, case: Case) -> None:
    """Put the case on the wire."""
    waiting = bytearray()
    held: bytes | None = None  # a frame with pauses inside

    def flush() -> None:
        data = bytes(waiting)
        waiting.clear()
        step = case.chop or max(1, len(data))
        for at in range(0, len(data), step):
            line.write(data[at : at + step])

    written = header = 0
    for i, item in enumerate(case.sent):
        if isinstance(item, Out):
            if held is not None:
                waiting += held[written:]
            data, header = line.wire(item)
            following = case.sent[i + 1] if i + 1 < len(case.sent) else None
            held, written = (data, 0) if isinstance(following, Pause) else (None, 0)
            if held is None:
                waiting += data
            if case.chop is not None:
                flush()
        else:
            assert isinstance(item, Pause)
            assert held is not None
            end = len(held) if item.after_bytes < 0 else header + item.after_bytes
            waiting += held[written:end]
            written = end
            flush()
            line.read_for(PAUSE_S)
    if held is not None:
        waiting += held[written:]
    flush()


def judge(line: Line, case: Case) -> None:
    """Send a case and hold the endpoint to what it must do."""
    send(line, case)
    line.read_until(len(case.expected) + (1 if case.close else 0))
    has_sent_close = any(isinstance(one, Out) and one.opcode == CLOSE for one in case.sent)
    if not case.close:
        assert line.close is None, f"closed with {line.close and line.close.close_code}"
        assert line.got == list(case.expected)
        line.write(line.wire(Out(CLOSE, close_payload(1000)))[0])
        has_sent_close = True
        line.read_until(len(case.expected) + 1)
    got = line.got
    wanted = list(case.expected)
    assert got == wanted or (case.may_skip and got == wanted[: len(got)])
    assert line.close is not None, "the connection ended without a close"
    assert line.close.close_code in (case.close or (1000,))
    assert line.close.payload[2:].decode().isprintable()
    if not has_sent_close:
        line.close, answer = None, line.close
        line.write(line.wire(Out(CLOSE, answer.payload[:2]))[0])
    if case.number.startswith("7."):
        line.read_to_end()


def within(case: Case, limit_bytes: int) -> Case:
    """The case for an endpoint with a limit: a message that is longer is refused."""
    if case.message_bytes <= limit_bytes:
        return case
    return replace(case, expected=(), close=(1009,))


def cases() -> list[object]:
    """All of them; the exceptions must fail."""
    return [
        pytest.param(
            case,
            id=case.number,
            marks=[pytest.mark.xfail(strict=True, raises=AssertionError, reason=EXCEPTIONS[case.number])]
            if case.number in EXCEPTIONS
            else [],
        )
        for case in CASES
    ]


def test_the_table_is_whole_and_its_exceptions_few():
    numbers = [case.number for case in CASES]
    assert len(set(numbers)) == len(numbers) == 301
    assert set(EXCEPTIONS) < set(numbers)
    assert len(EXCEPTIONS) <= 3


# Our server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with server_thread(
        routes=[WebSocketRoute(ECHO, echo)],
        max_carrier_message_bytes=SERVER_LIMIT_BYTES,
        send_cap_bytes=SEND_CAP_BYTES,
    ) as running:
        yield running
        running.until_idle()


@pytest.mark.parametrize("case", cases())
def test_server_keeps_to_the_protocol(server, case):
    with Peer.connect(server.port) as peer:
        assert peer.upgrade(ECHO).status == 101
        line = Line(peer.socket, is_client=True, received=bytes(peer.received))
        judge(line, within(case, SERVER_LIMIT_BYTES))


# Our client


class ClientThread:
    """Opens echoing legs, as the model's are opened, in a loop of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="client")
        self._thread.start()

    @contextmanager
    def line(self) -> Iterator[Line]:
        """A leg that is open, from the server's side."""
        opened = asyncio.run_coroutine_threadsafe(self._open(), self._loop)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            key = head.lower().partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
            at = head.lower().index(key)
            accept = base64.b64encode(hashlib.sha1(head[at : at + len(key)] + GUID).digest())
            answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            connection.sendall(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            leg = opened.result(TIMEOUT_S)
            try:
                yield Line(connection, is_client=False)
            finally:
                self._loop.call_soon_threadsafe(leg.abort)

    async def _open(self) -> Leg:
        leg = Leg(None, max_message_bytes=CLIENT_LIMIT_BYTES, send_cap_bytes=SEND_CAP_BYTES)
        leg.handler = Echo(leg)
        url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"
        request = UpgradeRequest(url, {})
        await open_leg(leg, request, timeout_s=TIMEOUT_S, max_message_bytes=CLIENT_LIMIT_BYTES)
        return leg

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()
        self._listener.close()


@pytest.fixture(scope="module")
def client() -> Iterator[ClientThread]:
    running = ClientThread()
    yield running
    running.close()


@pytest.mark.parametrize("case", cases())
def test_client_keeps_to_the_protocol(client, case):
    with client.line() as line:
        judge(line, within(case, CLIENT_LIMIT_BYTES))
