"""``fastagent top`` beside real servers with calls on two carriers."""

import argparse
import asyncio
import json
import re
from typing import Any

import pytest

from fastagent import FastAgent
from fastagent.cli import top
from fastagent.errors import ConfigurationError, LegConnectError
from tests.integration.scene import TWILIO, Scene, heard, run

ADMIN = "token-of-the-operators-1"
CARRIER = "token-of-the-carrier-one-1"
NUMBER = "+15550100001"


async def ask(url: str, *words: str) -> int:
    """What the command does."""
    parser = argparse.ArgumentParser()
    top.add_parser(parser.add_subparsers())
    options = parser.parse_args(["top", "--url", url, *words])
    return int(await options.run(options))


def url_of(scene: Scene) -> str:
    return f"http://{scene.server.host}:{scene.server.port}"


def test_once_shows_calls_of_two_carriers_and_nobodys_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone(), CARRIER)
        session = await scene.model.session(0)
        twilio, _ = await scene.twilio_call()
        session.speech_started()
        session.speech_stopped("my secret is 4711")
        await phone.wait_until(heard(50), "the answer")
        # The answer is 200 ms long and may be over by now; another one goes on for seconds.
        session.speak(session.tone(4000))
        await phone.wait_until(lambda line: len(line.streams) > 1 or heard(400)(line), "a long answer")

        assert await ask(url_of(scene), "--once", "--json", "--token", ADMIN) == 0
        found = json.loads(capsys.readouterr().out)
        calls: dict[str, dict[str, Any]] = {one["carrier"]: one for one in found["calls"]}
        assert set(calls) == {"audiocodes", "twilio"}
        talking = calls["audiocodes"]
        assert talking["session_id"] == phone.line.conversation_id
        assert talking["speaker"] == "bot"
        assert talking["latency_ms"] > 0
        assert talking["agent_id"] == "bot"
        assert calls["twilio"]["latency_ms"] is None
        assert calls["twilio"]["dollars"] == 0
        assert found["metrics"]["fastagent_tasks"] > 0
        assert found["calls_in_all"] == 2

        assert await ask(url_of(scene), "--once", "--token", ADMIN) == 0
        text = capsys.readouterr().out
        assert all(len(line) <= 80 for line in text.splitlines())
        rows = [line.split() for line in text.splitlines()]
        assert [row for row in rows if "audiocodes" in row and "bot" in row]
        assert [row for row in rows if "twilio" in row]
        assert "calls 2" in text
        assert NUMBER not in text
        assert "4711" not in text
        await twilio.hang_up()

    run(scenario, metrics="open", audiocodes_tokens=(CARRIER,), admin_tokens=(ADMIN,), **TWILIO)


def test_a_token_that_is_refused_and_a_server_that_is_not_there_are_said_plainly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(scene: Scene) -> None:
        with pytest.raises(ConfigurationError, match="refuses the token"):
            await ask(url_of(scene), "--once", "--token", "not-the-one-at-all-1")
        assert await ask(url_of(scene), "--once", "--token", ADMIN) == 0
        monkeypatch.setenv("FASTAGENT_TOKEN", ADMIN)
        assert await ask(url_of(scene), "--once") == 0
        assert "no calls" in capsys.readouterr().out
        with pytest.raises(LegConnectError):
            await ask("http://127.0.0.1:1", "--once")
        for wrong in ("ftp://x", "http://[", "http://x:0"):
            with pytest.raises(ConfigurationError, match="--url"):
                await ask(wrong, "--once")

    run(scenario, agent=FastAgent("bot"), admin_tokens=(ADMIN,))


def test_watching_goes_on_when_the_connection_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.call()
        gone = asyncio.Event()

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if gone.is_set():
                writer.close()
                return
            head = await reader.readuntil(b"\r\n\r\n")
            there, back = await asyncio.open_connection(scene.server.host, scene.server.port)
            back.write(head.replace(b"Accept-Encoding", b"Connection: close\r\nAccept-Encoding"))
            writer.write(await there.read(-1))
            back.close()
            writer.close()

        async def shown(words: str) -> None:
            text = ""
            while not re.search(words, text):
                await asyncio.sleep(0.02)
                text += capsys.readouterr().out

        between = await asyncio.start_server(forward, "127.0.0.1", 0)
        async with between, asyncio.timeout(20):
            url = f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}"
            watching = asyncio.create_task(ask(url, "--every", "0.2"))
            await shown("calls 1")
            gone.set()
            await shown("CONNECTION LOST")
            gone.clear()
            await shown(r"up \d+:\d+\x1b\[K")
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    run(scenario, metrics="open")
