"""``fastagent profile`` against a server with a call on it, and with a server and calls of its own."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastagent._native import stages
from fastagent.cli import main
from fastagent.errors import ConfigurationError
from fastagent.load import run as run_module
from fastagent.profile import asking
from fastagent.profile.reading import Begun
from fastagent.server_address import ServerAddress
from tests.integration.scene import Scene, chirp, run

ROOT = Path(__file__).parents[2]
TOKEN = "an-admin-token-of-tests"
SHORT = ("--seconds", "0.3", "--every", "1")
"""Some frames come by."""
SHORTEST = ("--seconds", "0.1", "--every", "1")


async def profiled(scene: Scene, *words: str, limits: tuple[str, ...] = SHORT) -> int:
    url = f"http://127.0.0.1:{scene.server.port}"
    return await asyncio.to_thread(main, ["profile", "--url", url, *limits, *words])


def talking(
    check: Callable[[Scene], Awaitable[None]],
) -> Callable[[Scene], Awaitable[None]]:
    """A scene in which the caller and the bot talk while something is checked."""

    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        phone.start_saying(chirp(3000, 24_000), 24_000)
        session.speech_started()
        session.speech_stopped("a table for two")
        session.speak(session.tone(3000))
        await check(scene)
        await phone.hang_up()

    return scenario


def test_a_running_server_tells_where_the_time_goes(tmp_path: Path, capsys: Any) -> None:
    page, file = tmp_path / "profile.html", tmp_path / "profile.json"

    async def check(scene: Scene) -> None:
        words = ("--stacks", "none", "--no-syscalls", "--json", str(file), "--html", str(page))
        assert await profiled(scene, *words) == 0

    run(talking(check))
    found = json.loads(file.read_text())
    ways = found["reading"]["stages"]["ways"]
    uplink = ways["uplink"]
    assert uplink["timed"] == uplink["frames"] > 5
    assert set(uplink["stages"]) == {"guard", "scan", "check", "ears", "copy", "send", "queue"}
    # Where nothing else listens, the levels are measured of one frame in four.
    assert 0 < uplink["stages"].pop("ears")["frames"] < uplink["timed"]
    assert all(one["frames"] == uplink["timed"] for one in uplink["stages"].values())
    assert uplink["allocations_per_frame"] < 1  # the ears may tell of speech
    assert {"queue", "base64", "send"} <= set(ways["tick"]["stages"])
    assert found["reading"]["calls_begin"] == 1
    assert found["allocations_per_frame"] > 0
    assert found["unmeasured"] == []
    printed = capsys.readouterr().out
    assert "uplink: caller audio to the model" in printed
    assert "a frame of audio" in printed
    assert "<h2>uplink" in page.read_text()


def test_what_cannot_be_measured_is_said(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no perf, no strace
    picture = tmp_path / "flame.svg"

    async def check(scene: Scene) -> None:
        words = ("--stacks", "perf", "--svg", str(picture))
        assert await profiled(scene, *words, limits=SHORTEST) == 0

    run(check)
    captured = capsys.readouterr()
    assert "not measured: stacks: perf is not installed" in captured.out
    assert "system calls by /proc/PID/io" in captured.out
    assert f"{picture} is not written" in captured.err
    assert not picture.exists()


def test_a_server_with_tokens_wants_an_admins(capsys: Any) -> None:
    async def scenario(scene: Scene) -> None:
        words = ("--stacks", "none", "--no-syscalls")
        assert await profiled(scene, *words, limits=SHORTEST) == 1
        assert "wants a bearer token of an admin" in capsys.readouterr().err
        assert await profiled(scene, *words, "--token", TOKEN, limits=SHORTEST) == 0
        assert "not measured: stages: no audio came by" in capsys.readouterr().out

    run(scenario, admin_tokens=(TOKEN,))


async def until(claim: Callable[[], bool]) -> None:
    """Look at the process's counters, which tell nobody when they change."""
    while not claim():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_a_measurement_ends_with_whoever_asked_for_it() -> None:
    async def scenario(scene: Scene) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
        writer.write(b"POST /profile?duration_ms=60000 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(10):
            while b'"begun"' not in await reader.readline():
                pass
            await until(lambda: stages.every() > 0)
            writer.close()
            await until(lambda: stages.every() == 0)

    run(scenario)


def test_a_measurement_ends_with_the_server_and_gives_what_it_has() -> None:
    async def scenario(scene: Scene) -> None:
        server = ServerAddress(f"http://127.0.0.1:{scene.server.port}")
        async with asyncio.timeout(30):
            measuring = asyncio.create_task(asking.measure_server(server, 60.0, 1))
            await until(lambda: stages.every() > 0)
            scene.server.stop()
            reading = await measuring
        assert reading.seconds < 30

    run(scenario)


def test_an_answer_that_ends_its_connection_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As through a proxy that keeps no connection open."""
    monkeypatch.setattr(asking, "CONNECT_TIMEOUT_S", 0.1)
    begun = Begun(pid=1, version="1", python="CPython 3", seconds=0.25)

    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
            writer.write(head + begun.model_dump_json().encode() + b"\n")
            await asyncio.sleep(begun.seconds)
            writer.write(b"{}\n")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as between:
            url = f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}"
            with pytest.raises(ConfigurationError, match="gave no reading"):
                await asking.measure_server(ServerAddress(url), begun.seconds, 0)

    asyncio.run(scenario())


def test_nobody_there_is_one_line(capsys: Any) -> None:
    assert main(["profile", "--url", "http://127.0.0.1:1", "--seconds", "0.1"]) == 1
    assert "cannot reach http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["m:a", "--url", "http://127.0.0.1:1"], "leave out --url"),
        (["--calls", "3"], "go with MODULE:AGENT"),
        (["--stacks", "none", "--svg", "x.svg"], "need stacks"),
        (["--json", "no-such-folder/x.json"], "there is no such folder"),
        (["--seconds", "0"], "expected 0.1 to 120"),
        (["--seconds", "nan"], "expected 0.1 to 120"),
        (["m:a", "--calls", "0"], "expected 1 to 2000"),
    ],
)
def test_a_wrong_command_line_is_refused(words: list[str], complaint: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", *words])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[", "http://127.0.0.1:0"])
def test_an_address_that_cannot_be_is_refused(url: str, capsys: Any) -> None:
    assert main(["profile", "--url", url]) == 1
    assert "--url: expected" in capsys.readouterr().err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an agent, where the command is run."""
    (tmp_path / "desk_of_test.py").write_text(
        'from fastagent import FastAgent\nagent = FastAgent("desk", instructions="Be brief.")\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Of a server that was set up here: with either, no call would be answered.
    monkeypatch.setenv("AUDIOCODES_TOKEN", "a-token-of-somebody-else")
    monkeypatch.setenv("MAX_SESSIONS", "1")
    return tmp_path


def test_a_server_of_its_own_is_called_measured_and_ended(place: Path, capsys: Any) -> None:
    words = ("--calls", "2", "--media", "raw/mulaw", "--stacks", "none", "--no-syscalls", "--json", "-")
    assert main(["profile", "desk_of_test:agent", *SHORT, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["subject"] == "desk_of_test:agent with 2 calls, raw/mulaw"
    assert found["reading"]["calls_end"] == 2
    assert found["reading"]["stages"]["ways"]["uplink"]["frames"] > 5
    assert not Path(f"/proc/{found['reading']['pid']}").exists()


def test_a_server_that_answers_no_call_is_said_to(
    place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LEVEL_TIMEOUT_S", 0.5)
    words = ("--calls", "1", "--media", "raw/nonsense", "--stacks", "none", "--no-syscalls")
    assert main(["profile", "desk_of_test:agent", *SHORT, *words]) == 1
    assert "no call was answered: refused" in capsys.readouterr().err


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'no module named desk' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert main(["profile", "desk:agent", *SHORT]) == 1
    assert "the server did not start: no module named desk" in capsys.readouterr().err
