"""``fastagent profile``: where the time of the audio path goes, in a running server or one under a load."""

import argparse
import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastagent.errors import ConfigurationError, SystemToolError
from fastagent.load import LoadRun, LoadTest, ModelOptions, Plan, Stage, Target
from fastagent.profile.asking import measure_server
from fastagent.profile.reading import DEFAULT_EVERY, DURATION_MAX_S, EVERY_MAX
from fastagent.profile.report import ProfileReport
from fastagent.profile.stacks import Sampler, sample_stacks
from fastagent.profile.syscalls import count_system_calls
from fastagent.server_address import DEFAULT_URL, ServerAddress
from fastagent.settings import Settings

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent profile --url http://127.0.0.1:8000 --seconds 10
  fastagent profile fastagent.examples.appointment:agent --calls 50
  fastagent profile my_agents:front_desk --calls 20 --media raw/lpcm16_8 --set barge_in=model
  fastagent profile --url http://127.0.0.1:8000 --stacks perf --svg flame.svg --html profile.html --json -

Three passes, one after another, so that no tool disturbs what another sees: the server's own counters,
sampled stacks, system calls. The last two need the server on this machine, the same user (or root), and
py-spy (pip install 'fastagent[profile]') or perf; strace counts system calls, too. What is not there is said
and left out. A server with tokens wants an admin's. docs/profiling.md shows how to read it all.
"""

TOKEN_VARIABLE = "FASTAGENT_TOKEN"
DEFAULT_SECONDS = 10.0
SECONDS_MIN = 0.1
SYSTEM_CALLS_SECONDS = 3.0
CALLS_MAX = 2000
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
DEFAULT_CALLS = 20
DEFAULT_MEDIA = "raw/lpcm16_24"
LOAD_MAX_S = 3600.0
"""Calls go on for longer than all passes together; they end when those are done."""
UNLIMITED = {
    "admission_lag_ms": "0", "admission_cpu_percent": "0", "calls_per_number": "0",
    "calls_per_number_hour": "0", "call_burst": "100000", "calls_per_second": "10000",
}  # fmt: skip
"""A server of our own is to be seen at its limits, not turned away from them."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "profile",
        help="where the time of the audio path goes",
        description="Measure a running server, or one that is started under a load of its own.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "agent", nargs="?", metavar="MODULE:AGENT", help="start a server with this agent, and call it"
    )
    parser.add_argument("--url", help=f"the running server (default {DEFAULT_URL})")
    parser.add_argument("--token", help=f"bearer token of an admin ({TOKEN_VARIABLE})")
    parser.add_argument(
        "--seconds", type=_seconds, default=DEFAULT_SECONDS, help="of each pass (default 10, at most 120)"
    )
    parser.add_argument(
        "--every",
        type=_count(1, EVERY_MAX),
        default=DEFAULT_EVERY,
        help="time one frame in so many (default 16)",
    )
    parser.add_argument("--calls", type=_count(1, CALLS_MAX), help="with MODULE:AGENT: how many (default 20)")
    parser.add_argument("--media", help="with MODULE:AGENT: the carrier's format (default raw/lpcm16_24)")
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        metavar="NAME=VALUE",
        help="with MODULE:AGENT: a setting of the server",
    )
    parser.add_argument(
        "--stacks",
        choices=("auto", *(one.value for one in Sampler), "none"),
        default="auto",
        help="who samples: py-spy sees Python and C, perf C and the kernel (default: the first that can)",
    )
    parser.add_argument("--no-syscalls", action="store_true", help="count no system calls")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything as JSON (- for standard output alone)"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the flame graph")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with all of it")
    parser.add_argument("--folded", type=Path, metavar="FILE", help="write the stacks, for other tools")
    parser.set_defaults(run=run, usage_error=parser.error)


def _seconds(text: str) -> float:
    value = float(text)
    if not SECONDS_MIN <= value <= DURATION_MAX_S:
        raise argparse.ArgumentTypeError(f"expected {SECONDS_MIN:g} to {DURATION_MAX_S}")
    return value


def _count(least: int, most: int) -> Any:
    def count(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}")
        return value

    return count


def run(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Check the command line, then measure."""
    if options.agent is not None and options.url is not None:
        options.usage_error("MODULE:AGENT starts a server of its own: leave out --url")
    if options.agent is None and (options.calls or options.media or options.assignments):
        options.usage_error("--calls, --media and --set go with MODULE:AGENT")
    if options.stacks == "none" and (options.svg or options.folded):
        options.usage_error("--svg and --folded need stacks")
    written = [options.svg, options.html, options.folded, Path(options.json) if options.json else None]
    for path in written:
        if path is not None and not path.parent.is_dir():
            options.usage_error(f"{path}: there is no such folder")  # rather now than when all is measured
    return _run(options)


async def _run(options: argparse.Namespace) -> int:
    token = options.token or os.environ.get(TOKEN_VARIABLE, "").strip()
    if options.agent is None:
        report = await _profile(options, ServerAddress(options.url or DEFAULT_URL, token), "")
    else:
        async with _server_under_load(options) as (server, subject):
            report = await _profile(options, server, subject)
    _write(options, report)
    return 0


async def _profile(options: argparse.Namespace, server: ServerAddress, subject: str) -> ProfileReport:
    """The three passes."""
    _say(f"measuring {server.origin} for {options.seconds:g} s")
    reading = await measure_server(server, options.seconds, options.every)
    report = ProfileReport(subject or server.origin, reading)
    if not reading.stages.audio_frames:
        report.unmeasured.append("stages: no audio came by (call the server meanwhile, or name MODULE:AGENT)")
    if options.stacks == "none" and options.no_syscalls:
        return report
    if (elsewhere := _elsewhere(server, reading.pid)) is not None:
        report.unmeasured.append(f"stacks and system calls: {elsewhere}")
        return report
    if options.stacks != "none":
        _say(f"sampling stacks for {options.seconds:g} s")
        wanted = None if options.stacks == "auto" else Sampler(options.stacks)
        try:
            report.stacks = await sample_stacks(reading.pid, options.seconds, wanted)
        except SystemToolError as error:
            report.unmeasured.append(f"stacks: {error}")
    if not options.no_syscalls:
        await _count_calls(server, report, min(options.seconds, SYSTEM_CALLS_SECONDS))
    return report


async def _count_calls(server: ServerAddress, report: ProfileReport, seconds: float) -> None:
    """Count system calls, and the frames of the same time."""
    _say(f"counting system calls for {seconds:g} s")
    frames = asyncio.create_task(measure_server(server, seconds, 0))
    try:
        report.system_calls = await count_system_calls(report.reading.pid, seconds)
        counted = await frames
        if counted.pid == report.reading.pid:
            report.system_calls_frames = counted.stages.audio_frames
        else:
            report.unmeasured.append("system calls a frame: several processes share the port")
    except SystemToolError as error:
        report.unmeasured.append(f"system calls: {error}")
    except ConfigurationError as error:
        report.unmeasured.append(f"system calls a frame: {error}")
    finally:
        frames.cancel()
        await asyncio.gather(frames, return_exceptions=True)


def _elsewhere(server: ServerAddress, pid: int) -> str | None:
    """Why the tools of this machine cannot look into that process; None when they may try."""
    if sys.platform != "linux":
        return "they need Linux"
    if server.parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return "the server is reached by its network address; run this on its machine, with --url on loopback"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return f"process {pid} is not to be seen here (a container?)"
    return None if b"python" in command or b"fastagent" in command else f"process {pid} is another one here"


@contextlib.asynccontextmanager
async def _server_under_load(options: argparse.Namespace) -> AsyncIterator[tuple[ServerAddress, str]]:
    """A server of our own, and calls that talk to it; gives its address and what is measured."""
    calls, media = options.calls or DEFAULT_CALLS, options.media or DEFAULT_MEDIA
    model = ModelOptions(port=_free_port())
    async with _server(options, model.url) as url:
        _say(f"{calls} calls begin")
        target = Target("audiocodes", f"{url.replace('http', 'ws', 1)}/audiocodes/webhook", media=media)
        test = LoadTest(target, Plan((Stage(LOAD_MAX_S, calls),)), model=model)
        async with _talking(LoadRun(test)) as talking:
            if talking < calls:
                _say(f"only {talking} of {calls} calls were answered")
            yield ServerAddress(url), f"{options.agent} with {talking} calls, {media}"


@contextlib.asynccontextmanager
async def _talking(load: LoadRun) -> AsyncIterator[int]:
    """Calls that talk while the context is open; gives how many were answered.

    Raises:
        ConfigurationError: none was.
    """
    running, measuring = asyncio.create_task(load.run()), asyncio.create_task(load.measuring())
    try:
        await asyncio.wait({running, measuring}, return_when=asyncio.FIRST_COMPLETED)
        if not load.live:
            load.stop()
            reasons = (await running).total.failures.most_common(1) or [("no reason came", 0)]
            raise ConfigurationError(f"no call was answered: {reasons[0][0]}")
        yield load.live
    finally:
        measuring.cancel()
        load.stop()
        await running


def _free_port() -> int:
    """A port of loopback for the model, whose address the server needs before any call brings it there."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextlib.asynccontextmanager
async def _server(options: argparse.Namespace, model_url: str) -> AsyncIterator[str]:
    """``fastagent serve`` on a free port of loopback; gives its URL."""
    words = ["serve", options.agent, "--host", "127.0.0.1", "--port", "0"]
    settings = {**UNLIMITED, "max_sessions": str(CALLS_MAX), "realtime_url": model_url}
    for assignment in [
        *(f"{name}={value}" for name, value in settings.items()),
        *(options.assignments or ()),
    ]:
        words += ["--set", assignment]
    # It shares neither tokens nor stores with a server that was set up here: what it needs is given by --set.
    ours = {str(one.metadata["variable"]) for one in fields(Settings)}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith("FASTAGENT_")
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fastagent", *words,
        env=kept,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    last = ""
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while line := await process.stderr.readline():
                last = line.decode("utf-8", "replace").strip() or last
                if match := re.search(r"health at (http://\S+)/health", last):
                    break
            else:
                raise ConfigurationError(f"the server did not start: {last}")
        reading = asyncio.create_task(_drop(process.stderr))
        yield match[1]
    except TimeoutError:
        raise ConfigurationError(f"the server did not start within {START_TIMEOUT_S:g} s") from None
    finally:
        await _end(process)
        if reading is not None:
            await reading


async def _drop(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


async def _end(process: asyncio.subprocess.Process) -> None:
    # Its calls are gone: the second signal says that nobody waits for a goodbye.
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _write(options: argparse.Namespace, report: ProfileReport) -> None:
    """Print, and write the files that were asked for."""
    if options.json == "-":
        print(report.json(), end="")
    else:
        print(report.text(), end="")
    files: list[tuple[Path | None, str | None]] = [
        (Path(options.json) if options.json and options.json != "-" else None, report.json()),
        (options.html, report.html()),
        (options.svg, report.svg()),
        (options.folded, None if report.stacks is None else report.stacks.text),
    ]
    for path, text in files:
        if path is None:
            continue
        if text is None:
            _say(f"{path} is not written: there are no stacks")
            continue
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None
        _say(f"wrote {path}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
