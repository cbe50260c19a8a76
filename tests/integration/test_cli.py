"""The command as its users run it: subprocesses, exit codes, what stands on which stream."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from fastagent import __version__
from fastagent.audio import wav
from fastagent.audio.formats import PCM16_24K
from fastagent.client import AgentClient, Transcript

ROOT = Path(__file__).parents[2]
AGENT = "fastagent.examples.appointment:agent"
LIMIT_S = 120
"""Guards against a command that hangs; none takes a fraction of it."""
NOBODY = "ws://127.0.0.1:1/"
SERVER = {
    "FASTAGENT_REALTIME_URL": "local",
    "FASTAGENT_DRAIN_TIMEOUT_SECONDS": "2",
    # The machine is full of tests.
    "FASTAGENT_ADMISSION_CPU_PERCENT": "0",
    "FASTAGENT_ADMISSION_LAG_MS": "0",
}
SPOKEN_PEAK = 1000
"""Comfort noise and conversion stay far below it, speech far above (of 32767)."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without any setting of ours, and with the checkout importable."""
    ours = ("HOST", "PORT", "LOG_LEVEL", "AUDIOCODES_TOKEN", "FASTAGENT_AGENT_TOKEN")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(("FASTAGENT_", "OPENAI_"))
    }
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **variables}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastagent", *arguments]


def run(
    *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**(variables or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@contextlib.contextmanager
def started(*arguments: str, cwd: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs on; its stderr follows its stdout on one pipe."""
    # A suite that runs in the background would have its children ignore Ctrl-C.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    signal.signal(signal.SIGINT, ours)
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
        read.append(line)
    raise AssertionError(f"no {pattern!r} in:\n{''.join(read)}")


@contextlib.contextmanager
def serving(cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``fastagent serve`` on the embedded engine, and its bot URL."""
    with started("serve", AGENT, "--port", "0", cwd=cwd, **SERVER) as server:
        yield server, read_until(server, r"AudioCodes at (ws://\S+)")[1]


def calls_at(url: str) -> int:
    address = url.replace("ws://", "http://").replace("/audiocodes/webhook", "/health")
    with urllib.request.urlopen(address, timeout=10) as answer:
        return int(json.load(answer)["active_connections"])


def peaks(path: Path) -> tuple[int, int]:
    """The loudest sample of the caller and of the bot."""
    audio_format, channels, data = wav.read_wav(path)
    assert (audio_format, channels) == (PCM16_24K, 2)
    samples = np.frombuffer(data, "<i2").reshape(-1, 2)
    caller, bot = np.abs(samples.astype(np.int32)).max(axis=0)
    return int(caller), int(bot)


def stop(server: subprocess.Popen[str], number: int) -> str:
    server.send_signal(number)
    assert server.stdout is not None
    rest = server.stdout.read()
    server.wait(LIMIT_S)
    return rest


@pytest.mark.parametrize("verb", [None, "serve", "demo", "call", "play", "local", "recordings"])
def test_help_shows_usage_and_examples(verb, tmp_path):
    done = run(*filter(None, (verb, "--help")), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: fastagent {verb or '[-h]'}")
    assert "examples:\n  " in done.stdout


def test_version(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"fastagent {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [(), ("answer",), ("call",), ("call", "--say", "a", "--wav", "b"), ("local", "--port", "x")]
)
def test_wrong_command_line_exits_2_with_the_usage(arguments, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: fastagent")
    assert "Traceback" not in done.stderr


MODULES = {
    "broken.py": "import json\n\njson.loads('{')\n",
    "twins.py": "from fastagent import FastAgent\n"
    "one = FastAgent('desk', instructions='Hello.')\ntwo = FastAgent('desk', instructions='Hello.')\n",
    "script.txt": "hello\npause long\n",
    "sound.wav": "not a recording",
}


@pytest.mark.parametrize(
    ("arguments", "variables", "complaint"),
    [
        (("serve", "desk"), {}, "expected MODULE:AGENT"),
        (("serve", "no_such:agent"), {}, "no module named 'no_such'"),
        (("serve", "twins:three"), {}, "it has one, two"),
        (("serve", "broken:agent"), {}, r"broken\.py:3: JSONDecodeError"),
        (("serve", "twins:one", "twins:two"), {}, "same agent_id 'desk'"),
        (("serve", AGENT, "--port", "99999"), {}, "expected 0 to 65535, got 99999"),
        (("serve", AGENT), {"PORT": "many"}, "PORT: expected int"),
        (("serve", AGENT), {}, "api.openai.com needs an API key"),
        (("serve", AGENT), {"HOST": "0.0.0.0"}, "AUDIOCODES_TOKEN must be set"),
        (("serve", AGENT), {"FASTAGENT_REALTIME_URL": "http://example.com"}, "expected ws://"),
        (("demo", "--media", "foo/bar"), {}, "unknown format 'foo/bar'; known are raw/lpcm16"),
        (("call", "--say", "hi", "--media", "foo/bar"), {}, "unknown format 'foo/bar'; known are raw/lpcm16"),
        (("call", "--say", "hi", "--url", "ws://127.0.0.1:99999/"), {}, "--url: expected ws://"),
        (("call", "--say", "hi", "--url", "http://127.0.0.1/"), {}, "--url: expected ws://"),
        (("call", "--say", "hi", "--url", NOBODY), {}, "cannot reach ws://127.0.0.1:1/"),
        (("call", "--carrier", "twilio", "--say", "hi", "--url", NOBODY), {}, "--url: expected http://"),
        (
            ("call", "--carrier", "twilio", "--say", "hi", "--url", NOBODY.replace("ws", "http")),
            {},
            "cannot reach http://127.0.0.1:1/",
        ),
        (("call", "--carrier", "twilio", "--say", "hi", "--media", "raw/mulaw"), {}, "one format only"),
        (("call", "--say", "dtmf"), {}, "script line 1"),
        (("call", "--script", "script.txt"), {}, "script line 2"),
        (("call", "--script", "missing.txt"), {}, "cannot read missing.txt"),
        (("call", "--wav", "missing.wav"), {}, "cannot read missing.wav"),
        (("call", "--wav", "sound.wav"), {}, "sound.wav: "),
        (("local", "--port", "99999"), {}, "expected 0 to 65535, got 99999"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments, variables, complaint, tmp_path):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    done = run(*arguments, cwd=tmp_path, variables=variables)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fastagent {arguments[0]}: ")
    assert re.search(complaint, line)


@pytest.mark.parametrize("arguments", [("serve", AGENT), ("local",)])
def test_port_in_use_is_one_clear_line(arguments, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = {"FASTAGENT_REALTIME_URL": NOBODY}
        done = run(*arguments, "--port", str(port), cwd=tmp_path, variables=variables)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(rf"cannot listen on .*port {port}: Address already in use", line)


@pytest.mark.parametrize("arguments", [("demo",), ("serve", AGENT, "--port", "0"), ("local",)])
def test_engine_without_its_extra_says_what_to_install(arguments, tmp_path):
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "pocketsphinx.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join((str(absent), str(ROOT)))
    variables = {"PYTHONPATH": path, "FASTAGENT_REALTIME_URL": "local"}
    done = run(*arguments, cwd=tmp_path, variables=variables)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fastagent {arguments[0]}: ")
    assert "pip install 'fastagent[local]'" in line


def test_engine_ends_with_its_parent(tmp_path):
    with started("local", "--port", "0", "--with-parent", cwd=tmp_path) as engine:
        read_until(engine, r"Realtime engine at ws://127\.0\.0\.1:\d+/")
        engine.send_signal(signal.SIGINT)  # a terminal's Ctrl-C is the parent's to act on
        assert engine.stdin is not None
        assert engine.poll() is None
        engine.stdin.close()
        assert engine.wait(LIMIT_S) == 0


def test_demo_books_an_appointment_and_records_both_sides(tmp_path):
    done = run("demo", "--media", "raw/mulaw", "--out", "made/demo.wav", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "states: collect_date -> collect_time -> confirm -> anything_else -> goodbye\n" in done.stdout
    booked = re.search(r"^appointment: (\{.*\})$", done.stdout, re.MULTILINE)
    assert booked is not None
    appointment = json.loads(booked[1])
    assert (appointment["time"], appointment["id"][0]) == ("15:00", "A")
    assert re.search(
        r"^added latency, passthrough of raw/mulaw, .* p50 below \d+ µs, p99 below \d+ µs, \d+ frames$",
        done.stdout,
        re.MULTILINE,
    )
    assert "(waits for the bot to end the call)" in done.stdout
    assert "recording: made/demo.wav" in done.stdout
    assert min(peaks(tmp_path / "made" / "demo.wav")) > SPOKEN_PEAK


def test_demo_serves_a_page_for_the_caller_and_answers_a_client(tmp_path):
    async def talk(url: str) -> None:
        async with asyncio.timeout(20), AgentClient(url) as client:
            await client.start()
            async for event in client:
                if isinstance(event, Transcript) and event.role == "agent":
                    await client.end()

    with started("demo", "retail", "--browser", "--port", "0", cwd=tmp_path) as demo:
        found = read_until(demo, r"open http://localhost:(\d+)(/\S+) and press Call")
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}{found[2]}", timeout=LIMIT_S) as page:
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert b"AudioWorkletProcessor" in page.read()
        asyncio.run(talk(f"ws://127.0.0.1:{found[1]}/agent/ws"))
        assert "Traceback" not in stop(demo, signal.SIGINT)


def test_call_to_a_served_agent_is_told_and_recorded_and_sigterm_ends_the_server_in_good_order(tmp_path):
    with serving(tmp_path) as (server, url):
        (tmp_path / "talk.txt").write_text("what are your opening hours\nhang up\n")
        done = run("call", "--script", "talk.txt", "--url", url, "--out", "talk.wav", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"caller  what are your opening hours\n(.*\n)*.*caller  \(hangs up\)\n", done.stdout)
        assert "by the caller (client-disconnected)" in done.stdout
        assert "reply after the caller's last sound: median" in done.stdout
        assert min(peaks(tmp_path / "talk.wav")) > SPOKEN_PEAK
        rest = stop(server, signal.SIGTERM)
        assert server.returncode == 0
        assert "Traceback" not in rest
        assert "opening hours" not in rest


def test_ctrl_c_hangs_up_so_that_the_server_keeps_no_call(tmp_path):
    with serving(tmp_path) as (server, url):
        (tmp_path / "wait.txt").write_text("pause 600\n")
        with started("call", "--script", "wait.txt", "--url", url, cwd=tmp_path) as call:
            read_until(call, r" s  bot ")
            assert calls_at(url) == 1
            rest = stop(call, signal.SIGINT)
        assert call.returncode == 130
        assert "Traceback" not in rest
        assert "recording: call.wav" in rest
        # Far less than a lost call is kept for.
        give_up_at = time.monotonic() + 20
        while calls_at(url) and time.monotonic() < give_up_at:
            time.sleep(0.05)
        assert calls_at(url) == 0
        assert "Traceback" not in stop(server, signal.SIGINT)
        assert server.returncode == 130
