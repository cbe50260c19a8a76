"""The fault proxy between a client and an echo server: what it passes on, and each thing it breaks."""

import asyncio
from collections.abc import Awaitable, Callable

import picows
import pytest
import uvloop

from fastagent.testing.fault_proxy import FaultProxy, Shape, Way
from fastagent.testing.websocket_frames import RawFrame, build_frame, head_size, payload_size

LIMIT_S = 10.0
PATH = "/some/where?model=x"


class Side(picows.WSListener):
    """One peer: keeps what comes, and may send it back."""

    def __init__(self, *, echoes: bool = False) -> None:
        self.echoes = echoes
        self.messages: list[bytes] = []
        self.close_code: int | None = None
        self.is_over = False
        self.transport: picows.WSTransport | None = None
        self.changed = asyncio.Event()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            self.close_code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            self.messages.append(frame.get_payload_as_bytes())
            if self.echoes:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())
        self.changed.set()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.is_over = True
        self.changed.set()

    def send(self, *messages: bytes) -> None:
        assert self.transport is not None
        for message in messages:
            self.transport.send(picows.WSMsgType.BINARY, message)

    async def until(self, claim: Callable[["Side"], object]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not claim(self):
                self.changed.clear()
                await self.changed.wait()


class Scene:
    def __init__(self, proxy: FaultProxy, servers: list[Side], paths: list[str]) -> None:
        self.proxy = proxy
        self.servers = servers
        self.paths = paths

    async def connect(self) -> tuple[Side, Side]:
        """A client and the server's side of it."""
        number = len(self.servers)
        client = Side()
        await picows.ws_connect(lambda: client, self.proxy.url)
        return client, self.servers[number]


def run(body: Callable[[Scene], Awaitable[None]], *, echoes: bool = False, **options: object) -> None:
    async def main() -> None:
        servers: list[Side] = []
        paths: list[str] = []

        def admit(request: picows.WSUpgradeRequest) -> Side:
            paths.append(request.path.decode())
            servers.append(Side(echoes=echoes))
            return servers[-1]

        server = await picows.ws_create_server(admit, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(LIMIT_S):
            async with FaultProxy(f"ws://127.0.0.1:{port}{PATH}", **options) as proxy:  # type: ignore[arg-type]
                await body(Scene(proxy, servers, paths))
        server.close()
        await server.wait_closed()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not {task for task in left if "testing" in repr(task.get_coro())}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


NUMBERED = [b"%d" % n for n in range(200)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
@pytest.mark.parametrize("is_masked", [True, False])
def test_frames_are_read_as_they_were_built(size, is_masked):
    payload = bytes(range(256)) * (size // 256 + 1)
    data = build_frame(2, payload[:size], is_masked=is_masked)
    n = head_size(data[:2])
    frame = RawFrame(data[:n], data[n:])
    assert payload_size(frame.head) == size
    assert frame.payload == payload[:size]
    assert frame.is_message
    if size:
        changed = frame.flipped(size - 1, 1).payload
        assert changed[:-1] == payload[: size - 1]
        assert changed[-1] == payload[size - 1] ^ 1


def test_everything_passes_both_ways_unchanged():
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        long = bytes(range(256)) * 1200
        client.send(*NUMBERED, long)
        await client.until(lambda side: len(side.messages) == 201)
        assert server.messages == client.messages == [*NUMBERED, long]
        assert scene.paths == [PATH]
        assert scene.proxy.connections[0].to_client.messages == 201

    run(body, echoes=True)


@pytest.mark.parametrize("later", [None, "7"])
def test_refusal_is_answered_once_with_its_status(later):
    async def body(scene: Scene) -> None:
        scene.proxy.refuse(503, retry_after=later)
        with pytest.raises(picows.WSInvalidStatusError) as refused:
            await scene.connect()
        assert refused.value.response is not None
        assert int(refused.value.response.status) == 503
        assert refused.value.response.headers.get("Retry-After") == later
        await scene.connect()
        assert (scene.proxy.upgrades, len(scene.servers)) == (2, 1)

    run(body)


def test_late_answer_comes_late():
    async def body(scene: Scene) -> None:
        scene.proxy.accept_late(0.2)
        begun = asyncio.get_running_loop().time()
        await scene.connect()
        assert asyncio.get_running_loop().time() - begun >= 0.2

    run(body)


@pytest.mark.parametrize("code", [1000, 1011, 1013, 4001])
def test_close_reaches_both_with_its_code(code):
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        scene.proxy.connections[0].close(code)
        for side in (client, server):
            await side.until(lambda one: one.is_over)
            assert side.close_code == code

    run(body)


@pytest.mark.parametrize("way", ["reset", "cut"])
def test_connection_ends_for_both_without_a_close(way):
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        getattr(scene.proxy.connections[0], way)()
        for side in (client, server):
            await side.until(lambda one: one.is_over)
            assert side.close_code is None
        assert scene.proxy.open_connections == []

    run(body)


@pytest.mark.parametrize("leaver", ["client", "server"])
def test_end_of_one_side_is_passed_on(leaver):
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        leaving, other = (client, server) if leaver == "client" else (server, client)
        assert leaving.transport is not None
        leaving.transport.disconnect(graceful=False)
        await other.until(lambda one: one.is_over)

    run(body)


def test_nothing_passes_while_frozen_and_everything_after():
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        connection = scene.proxy.connections[0]
        connection.freeze(Way.TO_SERVER)
        client.send(*NUMBERED)
        server.send(b"the other way")
        await client.until(lambda side: side.messages)
        assert server.messages == []
        assert connection.to_server.is_frozen
        connection.thaw()
        await server.until(lambda side: len(side.messages) == len(NUMBERED))
        assert server.messages == NUMBERED

    run(body)


def test_freeze_for_a_time_ends_by_itself():
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        scene.proxy.connections[0].freeze(for_s=0.1)
        client.send(b"late")
        await server.until(lambda side: side.messages)

    run(body)


def shaped(count: str, **values: float) -> None:
    """Everything meets the fault; the flow counts it."""

    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        flow = scene.proxy.connections[0].to_server
        flow.change(matches=lambda payload: payload != b"last", **values)
        client.send(*NUMBERED, b"last")
        await server.until(lambda side: side.messages and side.messages[-1] == b"last")
        assert getattr(flow, count) > 0
        received = server.messages[:-1]
        if count == "dropped":
            assert received == [one for one in NUMBERED if one in received]
            assert len(received) == len(NUMBERED) - flow.dropped
        elif count == "duplicated":
            assert list(dict.fromkeys(received)) == NUMBERED
            assert len(received) == len(NUMBERED) + flow.duplicated
        elif count == "corrupted":
            changed = [one != other for one, other in zip(received, NUMBERED, strict=True)]
            assert sum(changed) == flow.corrupted
            assert [len(one) for one in received] == [len(one) for one in NUMBERED]

    run(body)


@pytest.mark.parametrize("chance", [0.2, 1.0])
@pytest.mark.parametrize(
    ("count", "fault"), [("dropped", "drop"), ("duplicated", "duplicate"), ("corrupted", "corrupt")]
)
def test_messages_meet_their_fault(count, fault, chance):
    shaped(count, **{fault: chance})


def test_reordered_messages_change_places_and_none_is_lost():
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        flow = scene.proxy.connections[0].to_server
        flow.change(reorder=0.3)
        client.send(*NUMBERED)
        await server.until(lambda side: len(side.messages) == len(NUMBERED))
        assert sorted(server.messages) == sorted(NUMBERED)
        moved = [abs(int(one) - place) for place, one in enumerate(server.messages)]
        assert flow.reordered > 0
        assert max(moved) == 1

    run(body)


def test_delay_and_throughput_take_their_time():
    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        scene.proxy.connections[0].to_server.change(delay_s=0.1, jitter_s=0.05, bytes_per_s=100_000)
        begun = asyncio.get_running_loop().time()
        client.send(*[bytes(1000)] * 20)
        await server.until(lambda side: len(side.messages) == 20)
        assert asyncio.get_running_loop().time() - begun >= 0.1 + 19 * 0.01

    run(body)


def test_planned_fault_comes_with_its_message_and_once():
    async def body(scene: Scene) -> None:
        scene.proxy.schedule(lambda one: one.reset(), after_messages=5, way=Way.TO_SERVER)
        client, server = await scene.connect()
        client.send(*NUMBERED)
        await client.until(lambda one: one.is_over)
        assert server.messages == NUMBERED[: len(server.messages)]
        assert len(server.messages) <= 5
        client, server = await scene.connect()
        client.send(*NUMBERED)
        await server.until(lambda side: len(side.messages) == len(NUMBERED))

    run(body)


@pytest.mark.parametrize("moment", [{"after_s": 0.05}, {"within_s": 0.05}])
def test_planned_fault_comes_at_its_time(moment):
    async def body(scene: Scene) -> None:
        scene.proxy.schedule(lambda one: one.close(1012), **moment)
        client, _ = await scene.connect()
        await client.until(lambda one: one.is_over)
        assert client.close_code == 1012

    run(body)


def test_same_seed_breaks_the_same_messages():
    seen: list[list[bytes]] = []

    async def body(scene: Scene) -> None:
        client, server = await scene.connect()
        client.send(*NUMBERED, b"last")
        await server.until(lambda side: side.messages and side.messages[-1] == b"last")
        seen.append(server.messages)

    for seed in (1, 1, 2):
        run(body, seed=seed, to_server=Shape(drop=0.5, matches=lambda payload: payload != b"last"))
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_server_that_is_not_there_is_a_reset():
    async def main() -> None:
        async with FaultProxy("ws://127.0.0.1:9/path") as proxy:
            host, _, port = proxy.url.removeprefix("ws://").removesuffix("/path").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("values", [{"drop": 1.5}, {"corrupt": -0.1}, {"bytes_per_s": 0.0}])
def test_impossible_shape_is_refused(values):
    with pytest.raises(ValueError, match="expected"):
        Shape(**values)


def test_moment_must_be_one():
    proxy = FaultProxy("ws://127.0.0.1:9/")
    with pytest.raises(ValueError, match="one of"):
        proxy.schedule(lambda one: one.reset())
    with pytest.raises(ValueError, match="one of"):
        proxy.schedule(lambda one: one.reset(), after_s=1.0, after_messages=1)
