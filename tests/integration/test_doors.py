"""The doors of a running server: who is let in, how many, and what running calls notice of the others."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fastagent.errors import LegConnectError
from fastagent.server.doors.admission import RefusalCause
from fastagent.server.doors.load import TICK_S, LoadGauge
from fastagent.testing.audiocodes_line import LinePhase
from tests.integration.raw_peer import Peer, ServerThread, server_thread
from tests.integration.scene import Scene, chirp, heard, run

MEDIA = "/audiocodes/webhook"
OLD, NEW, FOREIGN = "first-token-of-the-hub", "second-token-of-the-hub", "token-of-another-hub"
METRICS = "token-that-reads-figures"
RUNNING_CALLS = 20
REFUSED_CALLS = 20
REFUSAL_LIMIT_S = 1.0
"""What a carrier waits for a refusal; on a machine that does nothing else it takes some milliseconds."""


def write_tokens(path: Path, *tokens: tuple[str, str, str]) -> str:
    """Tokens with their names and scopes, as digests."""
    path.write_text(
        "\n".join(
            f'[[token]]\nname = "{name}"\nscopes = ["{scope}"]\n'
            f'token = "sha256:{hashlib.sha256(token.encode()).hexdigest()}"'
            for token, name, scope in tokens
        )
    )
    return str(path)


def bearer(token: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {token}"}


@contextlib.contextmanager
def held(server: ServerThread, number: int, data: bytes = b"") -> Iterator[list[Peer]]:
    """Connections that say ``data`` and no more."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer.connect(server.port)) for _ in range(number)]
        for peer in peers:
            if data:
                peer.write(data)
        server.until(lambda: server.service.connections.held >= number, "connections")
        yield peers


# Before the 101


def test_each_refusal_comes_before_the_101_and_is_counted(tmp_path):
    file = write_tokens(tmp_path / "tokens.toml", (OLD, "hub", "audiocodes"), (METRICS, "eye", "metrics"))
    with server_thread(tokens_file=file, auth_failures_max=3, max_sessions=1) as server:
        expected = [
            ({}, 401, "www-authenticate"),
            (bearer(METRICS), 403, None),
            (bearer("wrong"), 401, "www-authenticate"),
            (bearer("wrong"), 401, "www-authenticate"),
            (bearer(OLD), 101, None),
            (bearer(OLD), 503, "retry-after"),
            (bearer("wrong"), 401, "www-authenticate"),
            (bearer("wrong"), 429, "retry-after"),
            (bearer(FOREIGN), 429, "retry-after"),
            (bearer(OLD), 503, "retry-after"),  # came in from here before
        ]
        with contextlib.ExitStack() as stack:
            for headers, status, header in expected:
                peer = stack.enter_context(Peer.connect(server.port))
                answer = peer.upgrade(MEDIA, **headers)
                assert answer.status == status
                if header is not None:
                    assert answer.headers[header]
                if status != 101:
                    assert peer.is_at_end()
        counters = server.service.counters
        assert counters["auth_refused_missing"] == 1
        assert counters["auth_refused_scope"] == 1
        assert counters["auth_refused_unknown"] == 3
        assert counters["auth_refused_blocked"] == 2
        assert counters["admission_refused_full"] == 2
        server.until_idle()
        assert server.service.connections.held == 0


def test_socket_that_waits_for_its_offer_takes_room_until_it_leaves():
    with (
        server_thread(max_sessions=2) as server,
        Peer.connect(server.port) as first,
        Peer.connect(server.port) as second,
    ):
        assert (first.upgrade(MEDIA).status, second.upgrade(MEDIA).status) == (101, 101)
        with Peer.connect(server.port) as third:
            assert third.upgrade(MEDIA).status == 503
        first.leave()
        with Peer.connect(server.port) as fourth:
            assert fourth.upgrade(MEDIA).status == 101


async def _client(request: Request) -> Response:
    assert request.client is not None
    return PlainTextResponse(f"{request.client.host} {request.url.scheme}")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "believed"),
    [
        ((), "198.51.100.7", "127.0.0.1 http"),
        (("10.0.0.0/8",), "198.51.100.7", "127.0.0.1 http"),
        (("127.0.0.0/8",), "198.51.100.7", "198.51.100.7 https"),
        (("127.0.0.1",), "203.0.113.9, 198.51.100.7", "198.51.100.7 https"),
        (("127.0.0.1", "198.51.100.7"), "203.0.113.9, 198.51.100.7", "203.0.113.9 https"),
    ],
)
def test_only_a_trusted_proxy_says_who_the_client_is(proxies, forwarded, believed, monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own variable opens nothing
    with server_thread(routes=[Route("/client", _client)], trusted_proxies=proxies) as server:
        with Peer.connect(server.port) as peer:
            answer = peer.request(
                "GET", "/client", x_forwarded_for=forwarded, x_forwarded_proto="https", connection="close"
            )
        assert answer.body.decode() == believed


def test_guesses_are_counted_by_the_address_a_proxy_tells():
    with server_thread(
        audiocodes_tokens=(OLD,), auth_failures_max=2, trusted_proxies=("127.0.0.1",)
    ) as server:

        def status(client: str, token: str) -> int:
            with Peer.connect(server.port) as peer:
                return peer.upgrade(MEDIA, x_forwarded_for=client, **bearer(token)).status

        assert [status("198.51.100.7", "wrong") for _ in range(3)] == [401, 401, 429]
        assert status("198.51.100.7", OLD) == 429
        assert status("198.51.100.8", OLD) == 101


# Connections


def test_silent_connections_of_one_address_are_capped_and_cut():
    with (
        server_thread(connections_per_address=5, handshake_timeout_s=0.5) as server,
        held(server, 3),
        held(server, 2, b"GET / HT"),
    ):
        for _ in range(20):
            with Peer.connect(server.port) as refused:
                answer = refused.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert refused.is_at_end()
        assert server.service.connections.held == 5
        assert server.service.counters["connections_refused_address"] == 20
        server.until(lambda: server.service.connections.held == 0, "the end of what is silent")
        with Peer.connect(server.port) as peer:
            assert peer.request("GET", "/health").status == 200


def test_open_calls_do_not_count_as_connections():
    with (
        server_thread(connections_per_address=3) as server,
        contextlib.ExitStack() as stack,
    ):
        peers = [stack.enter_context(Peer.connect(server.port)) for _ in range(1)]
        for _ in range(12):
            peer = stack.enter_context(Peer.connect(server.port))
            assert peer.upgrade(MEDIA).status == 101
            peers.append(peer)
        server.until(lambda: server.service.connections.held == 1, "only the silent one")


def test_total_of_connections_is_capped_whoever_they_are_from():
    with (
        server_thread(max_connections=4, trusted_proxies=("127.0.0.1",), connections_per_address=1) as server,
        held(server, 4),
        Peer.connect(server.port) as refused,
    ):
        assert refused.answer().status == 503
        assert server.service.counters["connections_refused_total"] == 1


def test_refused_connection_is_not_served_what_it_still_asks():
    served: list[str] = []

    async def serve(request: Request) -> Response:
        served.append("once")
        return PlainTextResponse("")

    with (
        server_thread(routes=[Route("/serve", serve)], connections_per_address=1) as server,
        held(server, 1),
        Peer.connect(server.port) as refused,
    ):
        with contextlib.suppress(ConnectionError):
            refused.write(b"GET /serve HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
        refused.until_end()
        assert served == []


# Rotation


def test_tokens_change_under_a_running_call(tmp_path):
    path = tmp_path / "tokens.toml"
    both = (FOREIGN, "other", "audiocodes")
    file = write_tokens(path, (OLD, "hub", "audiocodes"), both)

    async def scenario(scene: Scene) -> None:
        doors = scene.server.service.doors
        phone = await scene.dial(scene.phone(), OLD)
        session = await scene.model.session(0)
        write_tokens(path, (NEW, "hub", "audiocodes"), both)
        assert await asyncio.to_thread(doors.reload)
        with pytest.raises(LegConnectError) as refused:
            await scene.phone().connect(scene.server.audiocodes_url, OLD)
        assert refused.value.status == 401
        session.speak(session.tone(200))
        await phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the words")
        # Another owner cannot take the call over by its id, the same owner can with the new token.
        thief = scene.phone(conversation_id=phone.line.conversation_id)
        await phone.drop()
        await thief.connect(scene.server.audiocodes_url, FOREIGN)
        thief.line.resume(asyncio.get_running_loop().time())
        await thief.wait_until(lambda line: line.phase is LinePhase.FAILED, "the refusal")
        scene.phones.remove(thief)
        await thief.close()
        phone._headers["Authorization"] = f"Bearer {NEW}"
        await phone.resume()
        path.write_text("[[token")
        assert not await asyncio.to_thread(doors.reload)
        streams = len(phone.line.streams)
        session.speech_started()
        session.speech_stopped("still there?")
        await phone.wait_until(
            lambda line: len(line.streams) > streams and line.streams[-1].is_done, "more words"
        )
        other = await scene.dial(scene.phone(), NEW)
        assert other.line.phase is LinePhase.ACTIVE

    run(scenario, tokens_file=file)


# Load and numbers


def feed(gauge: LoadGauge, late_s: float, duration_s: float) -> None:
    """Tell a gauge what a loop that is late by so much would."""
    now = time.monotonic() - duration_s
    for _ in range(round(duration_s / TICK_S)):
        now += TICK_S
        gauge.sample(now, late_s, 0.0)


def test_lag_refuses_new_calls_at_once_and_running_calls_notice_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        service = scene.server.service
        service.load_sampler.close()  # the test says how late the loop is
        calls = [await scene.call(media) for media in ("raw/lpcm16_24", "raw/mulaw") * (RUNNING_CALLS // 2)]
        fresh = scene.phone()
        await fresh.connect(scene.server.audiocodes_url)  # let in before, offered after
        word = chirp(400, 24_000)
        for phone, session, _ in calls:
            session.speak(session.tone(1500))
            phone.start_saying(word, 24_000)
        for phone, _, _ in calls:
            await phone.wait_until(heard(100), "the beginning of the words")

        feed(service.admission.load, 0.05, 3.0)
        took_s = []
        for _ in range(REFUSED_CALLS):
            begun = time.monotonic()
            with pytest.raises(LegConnectError) as refused:
                await scene.phone().connect(scene.server.audiocodes_url)
            took_s.append(time.monotonic() - begun)
            assert refused.value.status == 503
        await fresh.initiate()
        assert fresh.line.phase is LinePhase.FAILED
        refusals = service.counters[f"admission_refused_{RefusalCause.LOOP_LAG}"]
        assert refusals == REFUSED_CALLS + 1
        # Callers and model share this loop, so the middle one tells; see the figures of the server alone.
        assert sorted(took_s)[REFUSED_CALLS // 2] < REFUSAL_LIMIT_S

        for number, (phone, session, tap) in enumerate(calls):
            await phone.wait_until(lambda line: line.streams[-1].is_done, "the end of the words")
            assert len(tap.all_audio) == 1500 * (8 if number % 2 else 48)
            assert len(tap.audio) == 1
            assert session.is_open
        feed(service.admission.load, 0.0, 8.0)
        assert service.admission.load.overload is None
        again = await scene.dial(scene.phone())
        assert again.line.phase is LinePhase.ACTIVE

    run(scenario, admission_lag_ms=20.0, barge_in="off")


def test_number_with_enough_calls_is_refused_in_the_carriers_words() -> None:
    async def scenario(scene: Scene) -> None:
        first = await scene.dial(scene.phone(caller="+15550100001"))
        second = await scene.dial(scene.phone(caller="+1 555 010 0001"))
        assert second.line.phase is LinePhase.FAILED
        others = [
            await scene.dial(scene.phone(caller=name)) for name in ("+15550100002", "anonymous", "anonymous")
        ]
        assert [phone.line.phase for phone in others] == [LinePhase.ACTIVE] * 3
        await first.hang_up()
        await scene.summary()
        third = await scene.dial(scene.phone(caller="+15550100001"))
        assert third.line.phase is LinePhase.ACTIVE
        await third.hang_up()
        await scene.summary(1)
        fourth = await scene.dial(scene.phone(caller="+15550100001"))
        assert fourth.line.phase is LinePhase.FAILED
        counters = scene.server.service.counters
        assert counters["admission_refused_number_concurrent"] == 1
        assert counters["admission_refused_number_hourly"] == 1

    run(scenario, calls_per_number=1, calls_per_number_hour=2)
