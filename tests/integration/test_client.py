"""`AgentClient` against the real server: typed events, all ways to speak, lost connections, deadlines."""

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fastagent import FastAgent
from fastagent import client as client_module
from fastagent._native.listener import Leg
from fastagent.client import (
    AgentClient,
    AudioResponse,
    CallerSpeech,
    ClientEvent,
    ErrorNotice,
    Interruption,
    SessionEnded,
    SessionStarted,
    StateTransition,
    Transcript,
)
from fastagent.errors import LegClosedError, LegConnectError, LegTimeoutError, SessionRefusedError
from fastagent.testing.realtime_model import ModelSession
from tests.integration.scene import Scene, run
from tests.unit.test_readme import example

TOKEN = "a-token-of-some-client"
WAIT_S = 15.0


async def until(client: AgentClient, claim: Callable[[ClientEvent], object]) -> list[ClientEvent]:
    """Events up to the first that fits."""
    seen: list[ClientEvent] = []
    async with asyncio.timeout(WAIT_S):
        async for event in client:
            seen.append(event)
            if claim(event):
                return seen
    raise AssertionError(f"the session ended after {seen}")


def is_a(kind: type[Any], **fields: Any) -> Callable[[ClientEvent], bool]:
    return lambda event: (
        isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
    )


def lose(client: AgentClient) -> None:
    """The network takes the connection away."""
    leg: Leg = client._leg  # type: ignore[assignment]
    leg.abort()


def test_whole_talk_in_typed_events() -> None:
    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url, token=TOKEN) as client:
            started = await client.start("bot", metadata={"caller_id": "+15550100"})
            assert started == SessionStarted(client.session_id or "", "", "audio/pcm;rate=24000")
            session = await scene.model.session(0)
            for _ in range(5):
                await client.send_audio(b"\1\2" * 480)
            await client.send_audio(b"\1\2" * 160, format="audio/pcm;rate=8000")
            await session.wait_until(lambda one: len(one.audio) == 6 * 960, "the audio")
            session.speak(session.tone(300), "Hello there.")
            heard = await until(client, is_a(AudioResponse, is_final=True))
            assert b"".join(one.data for one in heard if isinstance(one, AudioResponse)) == session.tone(300)
            final = heard[-1]
            assert isinstance(final, AudioResponse)
            await client.playback_finished(final.playback_id)
            session.speak(session.tone(9_000), "A long story.", is_last=False)
            await until(client, is_a(AudioResponse, is_final=False))
            session.speech_started()
            await until(client, is_a(Interruption))
            session.speech_stopped("stop")
            await until(client, is_a(Transcript, role="caller", text="stop", is_final=True))
            await client.send_dtmf("1#")
            await client.send_text("that was all")
            await client.send_audio(b"", format="audio/opus")
            await until(client, is_a(ErrorNotice, code="invalid_audio_format"))
            await client.end("done")
            rest = [event async for event in client]
            assert isinstance(rest[-1], SessionEnded)
            assert rest[-1].duration_seconds > 0
            await client.end("again is no mistake")
            with pytest.raises(LegClosedError):
                await client.send_text("too late")
            with pytest.raises(LegClosedError):
                await client.send_audio(b"")
        summary = await scene.summary()
        assert summary.outcome == "caller"
        assert "playback_finished_stale" not in summary.counters
        assert "uplink_gaps" not in summary.counters

    run(scenario, agent_tokens=(TOKEN,))


def test_states_and_turns_are_events() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.on_response = lambda session: session.finish()
        async with AgentClient(scene.server.agent_url) as client:
            assert (await client.start()).initial_state == "ask_size"
            session = await scene.model.session(0)
            session.begin_response()
            session.call_function("order_pizza")
            seen = await until(client, is_a(StateTransition))
            assert seen[-1] == StateTransition("order_pizza", None, "ask_size", "start")
            session.speech_started()
            seen = await until(client, is_a(CallerSpeech))
            assert seen[-1] == CallerSpeech("started")

    run(scenario, agent=example()["agent"])


@pytest.mark.parametrize("times", [1, 3])
def test_lost_connection_is_resumed_behind_the_applications_back(times: int) -> None:
    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url, media="audio/pcmu") as client:
            started = await client.start()
            session = await scene.model.session(0)
            for _ in range(times):
                lose(client)
                await client.send_audio(b"\xff" * 160)  # nobody is there to hear it
                await client.send_text("hello again")  # waits for the connection
                seen = await until(client, is_a(SessionStarted))
                assert seen[-1] == SessionStarted(started.session_id, "", "audio/pcmu", is_resumed=True)
                await until(client, is_a(AudioResponse, is_final=True))
            assert client.audio_dropped == times
            assert session.is_open
            await client.end()
            assert isinstance([event async for event in client][-1], SessionEnded)
        assert (await scene.summary()).counters["carrier_resumed"] == times
        assert len(scene.model.sessions) == 1

    run(scenario)


def test_another_client_object_resumes_by_the_sessions_id() -> None:
    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url) as client:
            started = await client.start()
        async with AgentClient(scene.server.agent_url, session_id=started.session_id) as client:
            assert (await client.start()).is_resumed
            await client.send_text("hello")
            await until(client, is_a(AudioResponse, is_final=True))
        async with AgentClient(scene.server.agent_url, session_id="no-such-session") as client:
            with pytest.raises(SessionRefusedError, match="session_not_found"):
                await client.start()

    run(scenario)


def test_session_that_is_gone_ends_the_iteration_with_the_reason() -> None:
    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url) as client:
            await client.start()
            [call] = scene.server.service.switchboard._calls.values()
            call._finish("error")
            with pytest.raises((LegClosedError, SessionRefusedError)):
                await until(client, is_a(SessionEnded))

    run(scenario)


def test_connection_that_cannot_be_had_anew_is_an_error_in_time() -> None:
    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url, resume_timeout_s=0.3) as client:
            await client.start()
            with socket.socket() as nobody:
                nobody.bind(("127.0.0.1", 0))
                client._url = f"ws://127.0.0.1:{nobody.getsockname()[1]}/agent/ws"
                lose(client)
                with pytest.raises(LegClosedError):
                    await until(client, is_a(SessionEnded))
                with pytest.raises(LegClosedError):
                    await client.send_text("hello?")

    run(scenario, resume_grace_s=0.1)


@pytest.mark.parametrize("token", [None, "not-one-of-the-tokens"])
def test_refusal_is_an_error_with_its_status(token: str | None) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(LegConnectError, match="authentication_failed") as caught:
            async with AgentClient(scene.server.agent_url, token=token):
                pass
        assert (caught.value.status, caught.value.retryable) == (401, False)

    run(scenario, agent_tokens=(TOKEN,))


def test_agent_that_is_not_there_is_refused_and_another_may_be_asked_for() -> None:
    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url) as client:
            with pytest.raises(SessionRefusedError) as caught:
                await client.start("nobody")
            assert (caught.value.code, caught.value.details) == ("agent_not_found", {"field": "agent_id"})
            await client.start("bot")
            with pytest.raises(RuntimeError, match="already"):
                await client.start("bot")

    run(scenario)


def test_nobody_there_and_a_server_that_says_nothing_are_errors_in_time() -> None:
    async def main() -> None:
        # The kernel takes the connection, and nobody ever reads of it.
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            with pytest.raises(LegTimeoutError):
                async with AgentClient(f"ws://127.0.0.1:{port}/agent/ws", timeout_s=0.2):
                    pass
        with pytest.raises(LegConnectError) as caught:
            async with AgentClient(f"ws://127.0.0.1:{port}/agent/ws", timeout_s=2.0):
                pass
        assert caught.value.retryable

    asyncio.run(main())


def test_upgrade_that_comes_after_its_client_gave_up_leaves_no_open_socket() -> None:
    async def main() -> None:
        heads: asyncio.Queue[str] = asyncio.Queue()
        is_given_up, ended = asyncio.Event(), asyncio.Event()

        async def accept_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            heads.put_nowait(head)
            await is_given_up.wait()
            key = re.search(r"(?i)sec-websocket-key: (\S+)", head)
            assert key is not None
            digest = hashlib.sha1(f"{key[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
            )
            with contextlib.suppress(ConnectionError):
                await reader.read()
            ended.set()
            writer.close()

        server = await asyncio.start_server(accept_late, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            client = AgentClient(f"ws://127.0.0.1:{port}/agent/ws")
            connecting = asyncio.create_task(client.__aenter__())
            await heads.get()
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await client.close()
            is_given_up.set()
            async with asyncio.timeout(5):
                await ended.wait()

    asyncio.run(main())


def test_events_that_nobody_reads_end_the_session_not_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "EVENTS_MAX", 8)

    async def scenario(scene: Scene) -> None:
        async with AgentClient(scene.server.agent_url) as client:
            await client.start()
            session = await scene.model.session(0)
            session.speak(session.tone(2_000))
            while client._leg is not None and client._leg.is_open:
                await client._change()
            with pytest.raises(LegClosedError, match="not read"):
                await until(client, is_a(SessionEnded))

    run(scenario, agent=FastAgent("bot"), resume_grace_s=0.1)


def test_whole_talk_of_a_silent_model_keeps_its_session() -> None:
    def say(session: ModelSession) -> None:
        session.speak(session.tone(40), "One.")

    async def scenario(scene: Scene) -> None:
        scene.model.on_response = say
        async with AgentClient(scene.server.agent_url, resume_timeout_s=0) as client:
            await client.start()
            await client.send_text("hello")
            await until(client, is_a(Transcript, role="agent", text="One."))
            lose(client)
            with pytest.raises(LegClosedError):
                await until(client, is_a(SessionEnded))

    run(scenario, resume_grace_s=0.1)


def test_client_of_the_readme_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(session: ModelSession) -> None:
        session.call_function("order_pizza", {"request": "a large pizza"}, is_last=False)
        session.speak(session.tone(40), "One large pizza. Is that right?")

    async def scenario(scene: Scene) -> None:
        scene.model.on_response = answer
        async with asyncio.timeout(WAIT_S):
            await example(1)["order"](scene.server.agent_url)
        lines = capsys.readouterr().out.splitlines()
        assert "bot: One large pizza. Is that right?" in lines
        assert "state: ask_size" in lines
        assert lines[-1] == "over: client ended the session"

    run(scenario, agent=example()["agent"])
