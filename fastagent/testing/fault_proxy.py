"""A WebSocket proxy that breaks connections on purpose, between any two of carrier, server and model.

::

    async with RealtimeModel() as model, FaultProxy(model.url, seed=7) as proxy:
        settings = settings.with_changes(realtime_url=proxy.url)     # the server dials the proxy
        proxy.refuse(503, retry_after="2")                           # the next upgrade is answered so
        proxy.schedule(lambda one: one.close(1011), after_messages=40, way=Way.TO_CLIENT)
        ...                                                          # a call begins
        proxy.connections[-1].reset()                                # RST on both sides, now
        proxy.connections[-1].to_client.change(drop=0.05)            # every twentieth message is lost
        proxy.connections[-1].half_open()                            # nothing moves, nothing is closed

In front of the server (``FaultProxy(server.audiocodes_url)``) it breaks carriers' sockets in the same way.

Faults come by hand, or by plan: so long after the upgrade, after so many messages of one way, or at a random
moment within a time. Randomness is seeded, so that a run that found something can be repeated. A `Shape` for
each way says what may become of single messages: delay, loss, copies, order, bits, throughput. Otherwise they
are passed on byte for byte: masks, fragments and control frames are the peers' own.

``ws://`` only.
"""

import asyncio
import http
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from fastagent.testing.fault_flow import Flow, Shape, Way
from fastagent.testing.websocket_frames import CLOSE, build_frame

__all__ = ["Fault", "FaultProxy", "ProxiedConnection", "Shape", "Way"]

HEAD_BYTES_MAX = 65_536
CLOSE_LIMIT_S = 1.0
"""From a close frame of ours to the end of the connection, if the peers do not end it themselves."""
CONNECT_LIMIT_S = 5.0
LINGER_NONE = struct.pack("ii", 1, 0)
"""``SO_LINGER``: closing sends RST instead of FIN, and nothing of what still waits."""


class ProxiedConnection:
    """One WebSocket through the proxy. Faults take effect at once."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        shapes: dict[Way, Shape],
        chance: random.Random,
    ) -> None:
        self.is_open = True
        self._client, self._server = client[1], server[1]
        self._plans: list[_Plan] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._run: asyncio.Task[None] | None = None
        self.to_server = Flow(
            client[0], server[1], shapes[Way.TO_SERVER], chance, lambda: self._count(Way.TO_SERVER)
        )
        self.to_client = Flow(
            server[0], client[1], shapes[Way.TO_CLIENT], chance, lambda: self._count(Way.TO_CLIENT)
        )

    def flow(self, way: Way) -> Flow:
        """One way of it."""
        return self.to_server if way is Way.TO_SERVER else self.to_client

    # Faults

    def reset(self, *, ends: tuple[Way, ...] = (Way.TO_SERVER, Way.TO_CLIENT)) -> None:
        """Vanish with a TCP reset, on the side of the server, of the client, or of both."""
        for way, writer in ((Way.TO_SERVER, self._server), (Way.TO_CLIENT, self._client)):
            if way in ends:
                _reset(writer)
        if len(ends) == 2:
            self._end()

    def close(self, code: int, reason: str = "") -> None:
        """Send both peers a close frame with ``code``, and nothing behind it."""
        payload = code.to_bytes(2, "big") + reason.encode()
        self.half_open()
        for writer, is_masked in ((self._client, False), (self._server, True)):
            if not writer.is_closing():
                writer.write(build_frame(CLOSE, payload, is_masked=is_masked))
        self._later(CLOSE_LIMIT_S, self._end)

    def cut(self) -> None:
        """End both TCP connections without a close frame, in an orderly way (FIN)."""
        self._end()

    def freeze(self, *ways: Way, for_s: float | None = None) -> None:
        """Let nothing move on these ways, or on both; thaw after ``for_s``, if it is given."""
        chosen = ways or (Way.TO_SERVER, Way.TO_CLIENT)
        for way in chosen:
            self.flow(way).freeze()
        if for_s is not None:
            self._later(for_s, lambda: self.thaw(*chosen))

    def thaw(self, *ways: Way) -> None:
        """Let everything move again on these ways, or on both."""
        for way in ways or (Way.TO_SERVER, Way.TO_CLIENT):
            self.flow(way).thaw()

    def half_open(self) -> None:
        """Stop forwarding for good and close nothing: either peer is as good as gone for the other."""
        self.freeze()

    # What the proxy does

    def follow(self, plan: "_Plan") -> None:
        """Carry a plan out when its moment comes."""
        if plan.after_s is not None:
            self._later(plan.after_s, lambda: plan.fault(self))
        else:
            self._plans.append(plan)

    async def run(self) -> None:
        """Carry frames both ways until either side ends."""
        self._run = asyncio.current_task()
        flows = [asyncio.create_task(one.run()) for one in (self.to_server, self.to_client)]
        try:
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
            for one in flows:
                if one.done() and not one.cancelled() and one.exception() is not None:
                    self.reset()
        finally:
            for one in flows:
                one.cancel()
            await asyncio.gather(*flows, return_exceptions=True)
            self._end()

    def _count(self, way: Way) -> None:
        for plan in list(self._plans):
            if plan.way is way and self.flow(way).messages >= plan.after_messages:
                self._plans.remove(plan)
                plan.fault(self)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, work))

    def _stop(self) -> None:
        if self._run is not None and self._run is not asyncio.current_task():
            self._run.cancel()

    def _end(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        for timer in self._timers:
            timer.cancel()
        for writer in (self._client, self._server):
            if not writer.is_closing():
                writer.close()
        self._stop()


Fault = Callable[[ProxiedConnection], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A fault and its moment: a time after the upgrade, or a number of messages of one way."""

    fault: Fault
    after_s: float | None
    after_messages: int
    way: Way


@dataclass(frozen=True, slots=True)
class _Opening:
    """How an upgrade is answered."""

    status: int | None = None
    retry_after: str | None = None
    delay_s: float = 0.0
    is_reset: bool = False


class FaultProxy:
    """The proxy; an async context manager that listens on loopback.

    Args:
        target: the ``ws://`` URL of the real server. `url` has its path and query.
        seed: of everything that happens by chance.
        to_server, to_client: what becomes of messages on every connection from now on.
    """

    def __init__(
        self,
        target: str,
        *,
        seed: int = 0,
        to_server: Shape | None = None,
        to_client: Shape | None = None,
    ) -> None:
        parts = urlsplit(target)
        if parts.scheme != "ws" or not parts.hostname:
            raise ValueError("expected a ws:// URL")
        self.shapes = {Way.TO_SERVER: to_server or Shape(), Way.TO_CLIENT: to_client or Shape()}
        """For connections to come."""
        self.connections: list[ProxiedConnection] = []
        """All that were upgraded, in order."""
        self.upgrades = 0
        """Upgrade requests, refused ones included."""
        self._host, self._port = parts.hostname, parts.port or 80
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._chance = random.Random(seed)
        self._openings: deque[_Opening] = deque()
        self._plans: deque[_Plan] = deque()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"

    @property
    def open_connections(self) -> list[ProxiedConnection]:
        """Those that are not over, oldest first."""
        return [one for one in self.connections if one.is_open]

    # What the next upgrades meet

    def refuse(self, status: int, *, retry_after: str | None = None, times: int = 1) -> None:
        """Answer the next upgrades with an HTTP status, and a ``Retry-After`` if it is given."""
        self._openings.extend([_Opening(status=status, retry_after=retry_after)] * times)

    def accept_late(self, delay_s: float, *, times: int = 1) -> None:
        """Have the next upgrades wait for their answer."""
        self._openings.extend([_Opening(delay_s=delay_s)] * times)

    def reset_upgrades(self, *, times: int = 1) -> None:
        """Answer the next upgrades with a TCP reset."""
        self._openings.extend([_Opening(is_reset=True)] * times)

    def accept(self, *, times: int = 1) -> None:
        """Pass the next upgrades on as they are; for the gaps between others."""
        self._openings.extend([_Opening()] * times)

    def schedule(
        self,
        fault: Fault,
        *,
        after_s: float | None = None,
        within_s: float | None = None,
        after_messages: int | None = None,
        way: Way = Way.TO_CLIENT,
        times: int = 1,
    ) -> None:
        """Have a fault happen on each of the next connections, one plan for each.

        Args:
            after_s: this long after the upgrade.
            within_s: at a random moment of this time after the upgrade.
            after_messages: with this many messages of ``way``; the last one of them may not come through.
        """
        if sum(one is not None for one in (after_s, within_s, after_messages)) != 1:
            raise ValueError("expected one of after_s, within_s and after_messages")
        for _ in range(times):
            moment_s = after_s if within_s is None else self._chance.uniform(0.0, within_s)
            self._plans.append(_Plan(fault, moment_s, after_messages or 0, way))

    # Running

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            head = await _read_head(reader)
            self.upgrades += 1
            opening = self._openings.popleft() if self._openings else _Opening()
            if opening.delay_s and await _leaves_within(reader, opening.delay_s):
                return
            if opening.is_reset:
                _reset(writer)
                return
            if opening.status is not None:
                writer.write(_refusal(opening.status, opening.retry_after))
                await writer.drain()
                return
            async with asyncio.timeout(CONNECT_LIMIT_S):
                server_reader, upstream = await asyncio.open_connection(self._host, self._port)
            upstream.write(head)
            answer = await _read_head(server_reader)
            writer.write(answer)
            if answer.split(b" ", 2)[1] == b"101":
                await self._carry((reader, writer), (server_reader, upstream))
            else:
                writer.write(await server_reader.read(HEAD_BYTES_MAX))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _reset(writer)
        finally:
            for one in (writer, upstream):
                if one is not None and not one.is_closing():
                    one.close()

    async def _carry(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        chance = random.Random(self._chance.random())
        connection = ProxiedConnection(client, server, self.shapes, chance)
        self.connections.append(connection)
        if self._plans:
            connection.follow(self._plans.popleft())
        await connection.run()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def _leaves_within(reader: asyncio.StreamReader, delay_s: float) -> bool:
    """Wait; tell whether the client went away meanwhile. It has nothing to say before the answer."""
    try:
        async with asyncio.timeout(delay_s):
            await reader.read()
    except TimeoutError:
        return False
    return True


def _refusal(status: int, retry_after: str | None) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    later = f"Retry-After: {retry_after}\r\n" if retry_after is not None else ""
    return f"HTTP/1.1 {status} {phrase}\r\n{later}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    writer.transport.abort()
