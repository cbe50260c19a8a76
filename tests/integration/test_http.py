"""What happens before the 101, and what becomes of connections: answers, deadlines, bounds, and nothing left.

Each test ends with no connection, no task and no call left in the server.
"""

import asyncio
import contextlib
import gc
import json
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

import fastagent.legs.watch
from fastagent._native.listener import Leg
from fastagent.legs.carrier import CarrierSocket
from fastagent.server.http import BODY_STEP_BYTES
from fastagent.server.websocket import WebSocketProtocol
from tests.integration.raw_peer import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    TIMEOUT_S,
    Peer,
    ServerThread,
    close_payload,
    frame,
    server_thread,
)

MEDIA = "/audiocodes/webhook"
TOKEN = "correct-token-0123"


class Applications:
    """ASGI routes that do one thing each, and what they came to know."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str | None]] = []
        self.failures: list[str] = []
        self.release = asyncio.Event()
        self.begun = 0

    def routes(self) -> list[BaseRoute]:
        sockets: dict[str, Callable[[WebSocket], Awaitable[None]]] = {
            "/echo": self.echo,
            "/slow": self.slow,
            "/deny": self.deny,
            "/deny-in-parts": self.deny_in_parts,
            "/deny-half": self.deny_half,
            "/return": self.answer_nothing,
            "/fail-before": self.fail_before,
            "/fail-after": self.fail_after,
            "/options": self.options,
            "/flood": self.flood,
            "/close": self.close,
            "/bad-close": self.bad_close,
            "/leave": self.leave,
            "/out-of-turn": self.out_of_turn,
            "/deaf": self.deaf,
        }
        routes: list[BaseRoute] = [WebSocketRoute(path, route) for path, route in sockets.items()]
        return [*routes, Route("/body", self.body, methods=["GET", "POST"])]

    async def body(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                message = await websocket.receive()
                websocket._raise_on_disconnect(message)
                if message.get("text") is not None:
                    await websocket.send_text(message["text"])
                else:
                    await websocket.send_bytes(message["bytes"])
        except WebSocketDisconnect as end:
            self.ends.append((end.code, end.reason))

    async def slow(self, websocket: WebSocket) -> None:
        self.begun += 1
        await self.release.wait()
        await self.echo(websocket)

    async def deny(self, websocket: WebSocket) -> None:
        await websocket.close()

    async def deny_in_parts(self, websocket: WebSocket) -> None:
        await websocket.receive()
        start = {"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-tea", b"yes")]}
        await websocket.send(start)
        await websocket.send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
        await websocket.send({"type": "websocket.http.response.body", "body": b"coffee"})

    async def deny_half(self, websocket: WebSocket) -> None:
        await websocket.receive()
        await websocket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})

    async def answer_nothing(self, websocket: WebSocket) -> None:
        return

    async def fail_before(self, websocket: WebSocket) -> None:
        raise RuntimeError("on purpose")

    async def fail_after(self, websocket: WebSocket) -> None:
        await websocket.accept()
        raise RuntimeError("on purpose")

    async def options(self, websocket: WebSocket) -> None:
        headers = [(b"x-one", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][-1], headers=headers)
        scope = websocket.scope
        await websocket.send_json(
            {
                "path": scope["path"],
                "raw_path": scope["raw_path"].decode(),
                "query": scope["query_string"].decode(),
                "subprotocols": scope["subprotocols"],
                "scheme": scope["scheme"],
                "client": scope["client"][0],
                "agent": websocket.headers.get("user-agent"),
            }
        )

    async def flood(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_bytes(bytes(16_384))
        except WebSocketDisconnect as end:
            self.ends.append((end.code, "flood"))
            raise

    async def close(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4001, "ä" * 100)

    async def bad_close(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(1006)

    async def leave(self, websocket: WebSocket) -> None:
        await websocket.accept()

    async def out_of_turn(self, websocket: WebSocket) -> None:
        await websocket.receive()
        for message in ({"type": "websocket.send", "text": "early"}, {"type": "nonsense"}):
            try:
                await websocket._send(message)
            except RuntimeError as fault:
                self.failures.append(str(fault))
        await websocket.accept()
        try:
            await websocket._send({"type": "websocket.accept"})
        except RuntimeError as fault:
            self.failures.append(str(fault))

    async def deaf(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await self.release.wait()


class Scene:
    """A server, its applications, and peers."""

    def __init__(self, server: ServerThread, applications: Applications) -> None:
        self.server = server
        self.applications = applications

    def peer(self, **options: Any) -> Peer:
        return Peer.connect(self.server.port, **options)

    def release(self) -> None:
        self.server.loop.call_soon_threadsafe(self.applications.release.set)

    def until_idle(self) -> None:
        self.server.until_idle()


@contextlib.contextmanager
def scene_of(loop: str = "uvloop", **changes: Any) -> Iterator[Scene]:
    applications = Applications()
    with server_thread(routes=applications.routes(), loop=loop, **changes) as server:
        scene = Scene(server, applications)
        yield scene
        scene.release()
        scene.until_idle()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def shared(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene_of(request.param) as scene:
        yield scene


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    shared.applications.ends.clear()
    shared.applications.failures.clear()
    yield shared
    shared.until_idle()


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# Who is let in


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff\xe9\x80", "\xff"],
    ids=["missing", "empty", "no-token", "wrong", "scheme", "longer", "not-ascii", "not-ascii-scheme"],
)
def test_token_that_is_not_right_is_401_for_upgrade_and_check(loop, authorization):
    with scene_of(loop, audiocodes_tokens=(TOKEN,)) as scene:
        headers = {} if authorization is None else {"authorization": authorization}
        with scene.peer() as peer:
            answer = peer.upgrade(MEDIA, **headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.headers["connection"] == "close"
            assert peer.is_at_end()
        for method in ("GET", "POST"):
            with scene.peer() as peer:
                assert peer.request(method, MEDIA, **headers).status == 401


def test_right_token_opens_upgrade_and_check(loop):
    with scene_of(loop, audiocodes_tokens=("other-token-45678", TOKEN)) as scene:
        with scene.peer() as peer:
            assert peer.upgrade(MEDIA, authorization=f"Bearer {TOKEN}").status == 101
            assert peer.leave() == 1000
        with scene.peer() as peer:
            assert peer.request("GET", MEDIA, authorization=f"bearer {TOKEN}").status == 200


def test_page_of_another_site_cannot_use_an_open_door(scene):
    for origin, status in (("https://example.org", 403), ("http://localhost:8000", 101)):
        with scene.peer() as peer:
            assert peer.upgrade(MEDIA, origin=origin).status == status
    with scene.peer() as peer:
        assert peer.request("POST", MEDIA, origin="https://example.org").status == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_connectivity_check_answers_on_the_path_of_the_socket(scene, method):
    with scene.peer() as peer:
        for _ in range(2):  # the connection is kept
            answer = peer.request(method, MEDIA)
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/json"
            assert json.loads(answer.body) == {"type": "ac-bot-api", "success": True}


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", MEDIA + "/", MEDIA + "/x", "/health", "//", "/%61udiocodes"]
)
def test_upgrade_of_an_unknown_route_is_404(scene, path):
    with scene.peer() as peer:
        assert peer.upgrade(path).status == 404
        assert peer.is_at_end()


def test_unknown_route_is_404_over_http_too(scene):
    with scene.peer() as peer:
        assert peer.request("GET", "/nowhere").status == 404


def test_refusal_without_an_answer_of_its_own_is_403(scene):
    with scene.peer() as peer:
        assert peer.upgrade("/deny").status == 403
        assert peer.is_at_end()


def test_refusal_in_several_parts_comes_whole(scene):
    with scene.peer() as peer:
        answer = peer.upgrade("/deny-in-parts")
        assert (answer.status, answer.body, answer.headers["x-tea"]) == (418, b"no coffee", "yes")
        assert peer.is_at_end()


@pytest.mark.parametrize(("path", "status"), [("/return", 500), ("/fail-before", 500), ("/deny-half", 500)])
def test_application_that_gives_no_whole_answer_is_500(scene, path, status):
    with scene.peer() as peer:
        assert peer.upgrade(path).status == status
        assert peer.is_at_end()


def test_full_server_is_503_until_a_call_ends(loop):
    with scene_of(loop, max_sessions=1) as scene:
        with scene.peer() as first:
            assert first.upgrade(MEDIA).status == 101
            first.send_json(
                {
                    "type": "session.initiate",
                    "conversationId": "one",
                    "expectAudioMessages": True,
                    "botName": "stub",
                    "caller": "",
                    "supportedMediaFormats": ["raw/mulaw"],
                }
            )
            assert json.loads(first.receive().payload)["type"] == "session.accepted"
            with scene.peer() as second:
                answer = second.upgrade(MEDIA)
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert second.is_at_end()
            with scene.peer() as third:
                health = json.loads(third.request("GET", "/health").body)
                assert (health["status"], health["active_connections"]) == ("full", 1)
            first.send_json(
                {"type": "session.end", "conversationId": "one", "reasonCode": "client-disconnected"}
            )
            assert first.answer_close().close_code == 1000
        scene.until_idle()
        with scene.peer() as fourth:
            assert fourth.upgrade(MEDIA).status == 101
            fourth.leave()


# The request


@pytest.mark.parametrize("version", [None, "", "8", "7", "12", "14", "13, 8"])
def test_other_websocket_version_is_426(scene, version):
    with scene.peer() as peer:
        answer = peer.upgrade("/echo", sec_websocket_version=version)
        assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")
        assert peer.is_at_end()


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "short",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAA",
        "!!!!!!!!!!!!!!!!!!!!!!==",
        "\xff" * 24,
    ],
    ids=["missing", "empty", "short", "unpadded", "18-bytes", "symbols", "not-ascii"],
)
def test_malformed_key_is_400(scene, key):
    with scene.peer() as peer:
        assert peer.upgrade("/echo", sec_websocket_key=key).status == 400
        assert peer.is_at_end()


@pytest.mark.parametrize(
    "head",
    [
        {"method": b"POST"},
        {"method": b"PUT"},
        {"extra": b"content-length: 3\r\n", "behind": b"abc"},
        {"extra": b"transfer-encoding: chunked\r\n", "behind": b"0\r\n\r\n"},
    ],
    ids=["post", "put", "length", "chunked"],
)
def test_upgrade_with_a_method_or_body_of_its_own_is_400(scene, head):
    with scene.peer() as peer:
        data = peer.upgrade_head("/echo")
        data = data.replace(b"GET", head.get("method", b"GET"), 1)
        data = data[:-2] + head.get("extra", b"") + b"\r\n" + head.get("behind", b"")
        peer.write(data)
        assert peer.answer().status == 400
        peer.until_end()


@pytest.mark.parametrize(
    "headers",
    [
        {"connection": "keep-alive, Upgrade"},
        {"connection": "upgrade"},
        {"upgrade": "WebSocket"},
        {"user-agent": "\xe9\xff"},
        {"content_length": "0"},
        {"sec_websocket_extensions": "permessage-deflate; client_max_window_bits"},
        {f"x-{i}": "y" for i in range(200)},
    ],
    ids=["keep-alive", "lower", "case", "latin-1", "no-body", "extensions", "many"],
)
def test_lawful_variants_of_the_request_are_accepted(scene, headers):
    with scene.peer() as peer:
        answer = peer.upgrade("/echo", **headers)
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers
        peer.send(TEXT, b"x")
        assert peer.receive().payload == b"x"
        assert peer.leave() == 1000


def test_application_sees_the_request_and_names_subprotocol_and_headers(scene):
    with scene.peer() as peer:
        head = peer.upgrade_head(
            "/options?a=1&b=%20", sec_websocket_protocol="chat, superchat", user_agent="test/1"
        )
        peer.write(head)
        while b"\r\n\r\n" not in peer.received:
            assert peer._more()
        assert peer.received.lower().count(b"set-cookie") == 2
        answer = peer.upgraded()
        assert answer.status == 101
        assert answer.headers["sec-websocket-protocol"] == "superchat"
        assert answer.headers["x-one"] == "1"
        assert json.loads(peer.receive().payload) == {
            "path": "/options",
            "raw_path": "/options",
            "query": "a=1&b=%20",
            "subprotocols": ["chat", "superchat"],
            "scheme": "ws",
            "client": "127.0.0.1",
            "agent": "test/1",
        }
        assert peer.answer_close().close_code == 1000


@pytest.mark.parametrize("is_one_write", [True, False], ids=["one-write", "later"])
@pytest.mark.parametrize("path", ["/slow", MEDIA])
def test_frames_before_the_answer_are_kept_in_order(loop, path, is_one_write):
    with scene_of(loop) as scene, scene.peer() as peer:
        early = frame(PING, b"first") + frame(PING, b"second")
        head = peer.upgrade_head(path)
        if is_one_write:
            peer.write(head + early)
        else:
            peer.write(head)
            if path == "/slow":
                scene.server.until(lambda: scene.applications.begun == 1, "the application began")
            peer.write(early)
        scene.release()
        assert peer.upgraded().status == 101
        for payload in (b"first", b"second"):
            got = peer.receive()
            assert (got.opcode, got.payload) == (PONG, payload)
        assert peer.leave() == 1000


def test_head_that_ends_inside_a_later_write_is_followed_by_its_frames(scene):
    with scene.peer() as peer:
        head = peer.upgrade_head("/echo")
        peer.write(head[:-3])
        peer.write(head[-3:] + frame(TEXT, b"right behind"))
        assert peer.upgraded().status == 101
        assert peer.receive().payload == b"right behind"
        assert peer.leave() == 1000


def test_too_much_before_the_answer_is_refused(loop):
    with scene_of(loop) as scene, scene.peer() as peer:
        peer.write(peer.upgrade_head("/slow"))
        scene.server.until(lambda: scene.applications.begun == 1, "the application began")
        with contextlib.suppress(OSError):
            for _ in range(40):
                peer.write(frame(BINARY, bytes(4096)))
        with contextlib.suppress(AssertionError):  # the answer may be lost to the reset
            assert peer.answer().status == 400
        peer.until_end()
        scene.release()


# Deadlines


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n",
        b"POST /body HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc",
        b"POST /audiocodes/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc",
    ],
    ids=["silent", "method", "head", "body", "body-nobody-reads"],
)
def test_request_that_is_never_whole_is_cut(loop, begin):
    with scene_of(loop, handshake_timeout_s=0.2) as scene, scene.peer() as peer:
        peer.write(begin)
        peer.until_end()
        scene.until_idle()


def test_request_that_drips_is_cut_all_the_same(loop):
    with scene_of(loop, handshake_timeout_s=0.3) as scene, scene.peer() as peer:
        peer.socket.settimeout(0.02)
        peer.write(b"POST /audiocodes/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n")
        # A byte every 20 ms would keep any deadline alive that counts from the last byte.
        with contextlib.suppress(ConnectionError):
            for _ in range(int(TIMEOUT_S / 0.02)):
                peer.write(b"x")
                with contextlib.suppress(TimeoutError):
                    if not peer._more():
                        break
            else:
                pytest.fail("the connection was never cut")


def test_long_body_that_comes_steadily_is_not_cut(loop):
    pieces = 6
    with scene_of(loop, handshake_timeout_s=0.4) as scene, scene.peer() as peer:
        peer.write(
            b"POST /body HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
            % (pieces * BODY_STEP_BYTES)
        )
        for _ in range(pieces):
            time.sleep(0.15)  # the whole takes more than twice the time a request has
            peer.write(b"x" * BODY_STEP_BYTES)
        assert peer.answer().status == 200


def test_request_that_is_whole_in_time_is_not_cut(loop):
    with scene_of(loop, handshake_timeout_s=0.2) as scene, scene.peer() as peer:
        assert peer.upgrade("/deaf").status == 101
        # The deadline passes: another connection that began later has been cut.
        with scene.peer() as other:
            other.until_end()
        peer.send(PING, b"still here")
        assert peer.receive().payload == b"still here"
        scene.release()
        assert peer.answer_close().close_code == 1000


def test_endless_head_is_refused(scene):
    with scene.peer() as peer:
        with contextlib.suppress(OSError):
            peer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
            for i in range(400):
                peer.write(b"x-%d: %s\r\n" % (i, b"y" * 1000))
        with contextlib.suppress(AssertionError):  # the answer may be lost to the reset
            assert peer.answer().status == 431
        peer.until_end()


def test_application_that_never_answers_is_503(loop):
    with scene_of(loop, handshake_timeout_s=0.2) as scene:
        with scene.peer() as peer:
            assert peer.upgrade("/slow").status == 503
            assert peer.is_at_end()
        scene.release()  # its late accept goes nowhere
        scene.until_idle()
        assert [code for code, _ in scene.applications.ends] == [1006]


# Clients that leave


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "end"])
def test_client_that_leaves_before_the_answer_is_told_as_a_disconnect(loop, is_reset):
    with scene_of(loop) as scene:
        with scene.peer() as peer:
            peer.write(peer.upgrade_head("/slow"))
            scene.server.until(lambda: scene.applications.begun == 1, "the application began")
            if is_reset:
                peer.reset()
        scene.server.until(lambda: not scene.server.state.connections, "the connection was forgotten")
        scene.release()
        scene.until_idle()
        assert [code for code, _ in scene.applications.ends] == [1006]


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "end"])
@pytest.mark.parametrize("path", [MEDIA, "/echo"])
def test_client_that_leaves_with_its_request_leaves_nothing(loop, path, is_reset):
    with scene_of(loop) as scene:
        for _ in range(30):
            with scene.peer() as peer:
                peer.write(peer.upgrade_head(path))
                if is_reset:
                    peer.reset()
        scene.until_idle()
        assert len(scene.server.service.switchboard._calls) == 0


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "bytes"])
def test_text_and_bytes_go_both_ways(scene, opcode):
    with scene.peer() as peer:
        assert peer.upgrade("/echo").status == 101
        peer.send(opcode, b"\xc3\xa9")
        got = peer.receive()
        assert (got.opcode, got.payload) == (opcode, b"\xc3\xa9")
        peer.send(CLOSE, close_payload(3001, b"enough"))
        assert peer.receive().close_code == 3001
        assert peer.is_at_end()
    scene.until_idle()
    assert scene.applications.ends == [(3001, "enough")]


# Applications that end


def test_application_that_fails_after_accept_closes_with_1011(scene):
    with scene.peer() as peer:
        assert peer.upgrade("/fail-after").status == 101
        assert peer.answer_close().close_code == 1011


def test_application_that_returns_closes_with_1000(scene):
    with scene.peer() as peer:
        assert peer.upgrade("/leave").status == 101
        assert peer.answer_close().close_code == 1000


def test_reason_of_an_application_is_cut_between_characters(scene):
    with scene.peer() as peer:
        assert peer.upgrade("/close").status == 101
        got = peer.answer_close()
        assert got.close_code == 4001
        assert got.payload[2:].decode() == "ä" * 61


def test_code_nobody_may_send_fails_the_application(scene):
    with scene.peer() as peer:
        assert peer.upgrade("/bad-close").status == 101
        assert peer.answer_close().close_code == 1011


def test_asgi_messages_out_of_turn_are_refused(scene):
    with scene.peer() as peer:
        assert peer.upgrade("/out-of-turn").status == 101
        assert peer.answer_close().close_code == 1000
    assert [fault.split()[-1] for fault in scene.applications.failures] == [
        "'websocket.send'",
        "'nonsense'",
        "'websocket.accept'",
    ]


def test_messages_an_application_does_not_read_close_with_1008(loop):
    with scene_of(loop) as scene, scene.peer() as peer:
        assert peer.upgrade("/deaf").status == 101
        peer.write(frame(TEXT, b"x") * 300)
        assert peer.answer_close().close_code == 1008
        scene.release()


# Peers that do not read, or are not there


def test_peer_that_does_not_read_is_cut_at_the_send_cap(loop):
    with scene_of(loop, send_cap_bytes=65_536) as scene:
        with scene.peer(receive_buffer_bytes=4096) as peer:
            assert peer.upgrade("/flood").status == 101
            scene.until_idle()
        assert [what for _, what in scene.applications.ends] == ["flood"]


def test_peer_that_pings_and_does_not_read_costs_no_memory(loop, monkeypatch):
    monkeypatch.setattr(fastagent.legs.watch, "WATCH_S", 0.02)
    monkeypatch.setattr(fastagent.legs.watch, "BLOCKED_LIMIT_S", 0.2)
    with scene_of(loop, send_cap_bytes=65_536) as scene:
        with scene.peer(receive_buffer_bytes=4096) as peer:
            assert peer.upgrade(MEDIA).status == 101
            peer.socket.settimeout(1.0)
            data = frame(PING, bytes(125)) * 500
            with contextlib.suppress(OSError):  # cut: reset, broken pipe or no more room
                for _ in range(2000):
                    peer.write(data)
            scene.server.until(lambda: not scene.server.state.connections, "the peer was cut")
        assert scene.server.service.counters["legs_not_reading"] == 1


@pytest.mark.parametrize("path", [MEDIA, "/deaf"])
def test_half_open_peer_is_noticed_by_its_missing_pong(loop, path, monkeypatch):
    monkeypatch.setattr(fastagent.legs.watch, "WATCH_S", 0.02)
    with scene_of(loop, ping_interval_s=0.05, ping_timeout_s=0.1) as scene:
        with scene.peer() as peer:
            assert peer.upgrade(path).status == 101
            assert peer.receive().opcode == PING
            # Nothing is answered, as by a machine that lost its power.
            scene.server.until(lambda: not scene.server.state.connections, "the peer was cut")
        assert scene.server.service.counters["legs_without_pong"] == 1


def test_peer_that_answers_pings_is_kept(loop, monkeypatch):
    monkeypatch.setattr(fastagent.legs.watch, "WATCH_S", 0.02)
    with scene_of(loop, ping_interval_s=0.05, ping_timeout_s=5.0) as scene, scene.peer() as peer:
        assert peer.upgrade(MEDIA).status == 101
        for _ in range(4):
            got = peer.receive()
            assert got.opcode == PING
            peer.send(PONG, got.payload)
        assert peer.leave() == 1000


def test_peer_that_never_answers_a_close_is_cut(loop, monkeypatch):
    monkeypatch.setattr(fastagent.legs.watch, "WATCH_S", 0.02)
    monkeypatch.setattr(fastagent.legs.watch, "CLOSE_LIMIT_S", 0.1)
    with scene_of(loop, first_message_timeout_s=0.1) as scene:
        with scene.peer() as peer:
            assert peer.upgrade(MEDIA).status == 101
            got = peer.receive()
            assert (got.opcode, got.close_code) == (CLOSE, 1000)
            scene.server.until(lambda: not scene.server.state.connections, "the peer was cut")
        assert scene.server.service.counters["legs_without_close"] == 1


def test_carrier_that_only_sends_nonsense_is_closed_with_1008(loop):
    with scene_of(loop, bad_message_limit=5) as scene:
        with scene.peer() as peer:
            assert peer.upgrade(MEDIA).status == 101
            for _ in range(5):
                peer.send(TEXT, b"{nonsense")
            assert peer.answer_close().close_code == 1008
        assert scene.server.service.counters["carrier_malformed"] == 5


# The end of the server


@pytest.mark.parametrize("path", ["/echo", MEDIA])
def test_server_that_stops_closes_with_1001(loop, path):
    with scene_of(loop) as scene:
        peer = scene.peer()
        assert peer.upgrade(path).status == 101
        scene.server.running.stop()
        got = peer.answer_close()
        assert got.close_code == 1001
        peer.socket.close()


def test_server_that_stops_answers_pending_upgrades_with_503(loop):
    with scene_of(loop) as scene, scene.peer() as peer:
        peer.write(peer.upgrade_head("/slow"))
        scene.server.until(lambda: scene.applications.begun == 1, "the application began")
        scene.server.running.stop()
        assert peer.upgraded().status == 503
        scene.release()


@pytest.mark.parametrize("path", [MEDIA, "/echo"])
def test_finished_connections_are_given_back(loop, path, monkeypatch):
    monkeypatch.setattr(fastagent.legs.watch, "WATCH_S", 0.02)

    def left_over() -> int:
        gc.collect()
        kinds = (WebSocketProtocol, CarrierSocket, Leg)
        return sum(isinstance(thing, kinds) for thing in gc.get_objects())

    with scene_of(loop) as scene:
        before = left_over()
        for _ in range(20):
            with scene.peer() as peer:
                assert peer.upgrade(path).status == 101
                assert peer.leave() == 1000
        scene.server.until(lambda: left_over() <= before, "nothing is left of the connections")


def test_bare_asgi_application_gets_the_connect_message_first(loop):
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["type"])
        await send({"type": "websocket.accept"})
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        with pytest.raises(OSError):  # noqa: PT011 - ASGI asks for no more
            await send({"type": "websocket.send", "text": "late"})
        seen.append("over")

    class Bare:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await application(scope, receive, send)

    with server_thread(routes=[WebSocketRoute("/bare", Bare())], loop=loop) as server:
        with Peer.connect(server.port) as peer:
            assert peer.upgrade("/bare").status == 101
            peer.send(TEXT, b"x")
            assert peer.leave() == 1000
        server.until(lambda: "over" in seen, "the application ended")
    assert seen == ["websocket.connect", "websocket.receive", "websocket.disconnect", "over"]


def test_frame_that_declares_a_terabyte_is_cut_while_it_comes(scene):
    with scene.peer() as peer:
        assert peer.upgrade(MEDIA).status == 101
        with contextlib.suppress(OSError):
            peer.write(struct.pack(">BBQ", 0x82, 0xFF, 1 << 40) + bytes(4))
            for _ in range(64):
                peer.write(bytes(65_536))
        peer.until_end()
