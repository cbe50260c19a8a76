"""The servers under test, each a child process on one core: HAProxy, the C relay, FastAgent.

Anything else that bridges calls to a Realtime server, say a FastAPI application on plain asyncio
and ``websockets``, is measured by ``--bridge-command``: a command line in which ``{port}`` is where it shall
listen on loopback and ``{model_url}`` the Realtime URL. Where the callers are Twilio's it must answer
``/twilio/webhook`` with TwiML that connects a stream.
"""

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benches.relay.toolchain import relay_program
from benches.relay.webhook import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL

__all__ = [
    "BRIDGE_PATH",
    "DEFAULT_BRIDGE",
    "PASSTHROUGH_COMMAND",
    "RELAY_PATH",
    "Server",
    "ServerError",
    "bridge",
    "haproxy_path",
    "relay",
    "spawn",
]

ROOT = Path(__file__).resolve().parents[2]
BRIDGE_PATH = "/audiocodes/webhook"
RELAY_PATH = "/relay"
READY_LIMIT_S = 20.0
PR_SET_PDEATHSIG = 1
DEFAULT_BRIDGE = (
    f"{shlex.quote(sys.executable)} -m fastagent serve fastagent.examples.appointment:agent "
    "--host 127.0.0.1 --port {port}"
)
PASSTHROUGH_COMMAND = (
    f"{shlex.quote(sys.executable)} -m benches.peers.fastapi_server --port {{port}} --model {{model_url}}"
)
"""FastAPI and ``websockets``, for Twilio's callers."""


class ServerError(Exception):
    """A server did not start, or died."""


class Server:
    """A running server: its process id, the port it listens on, and what it wrote."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", port: int, log: Path) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-15:])


def haproxy_path() -> str | None:
    """Where HAProxy is, if it is installed; /usr/sbin need not be on the path of an ordinary user."""
    for place in (*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin"):
        candidate = Path(place) / "haproxy"
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def spawn(
    command: Sequence[str],
    core: int | None,
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int | None = None,
) -> "subprocess.Popen[str]":
    """Start a child that dies with us, on the given core (``None``: anywhere)."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})  # inherited, so that no thread of the child ever runs elsewhere
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=None if environment is None else dict(environment),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this program has no threads
        )
    finally:
        os.sched_setaffinity(0, before)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def relay(peer: str, model_port: int, core: int | None, calls: int, limit_s: int) -> Iterator[Server]:
    """A byte relay to the model's port: ``haproxy`` or ``c``.

    Raises:
        ServerError: it is not installed or does not start.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        if peer == "haproxy":
            program = haproxy_path()
            if program is None:
                raise ServerError("HAProxy is not installed; use --peer c")
            config = Path(folder) / "haproxy.cfg"
            config.write_text(_haproxy_config(port, model_port, calls))
            command = [program, "-db", "-q", "-f", str(config)]
        else:
            command = [str(relay_program()), str(port), str(model_port), str(limit_s)]
        with _running(peer, command, port, core, None, Path(folder)) as server:
            yield server


@contextlib.contextmanager
def bridge(
    template: str | None,
    model_port: int,
    core: int | None,
    calls: int,
    *,
    carrier: str = "audiocodes",
    name: str = "bridge",
) -> Iterator[Server]:
    """FastAgent, or the server started by a command template (module docstring).

    Args:
        carrier: ``twilio`` gives it the token that the callers' webhooks and upgrades are signed with.

    Raises:
        ServerError: it does not start.
    """
    port = _free_port()
    model_url = f"ws://127.0.0.1:{model_port}/v1/realtime"
    command = [
        part.replace("{port}", str(port)).replace("{model_url}", model_url)
        for part in shlex.split(template or DEFAULT_BRIDGE)
    ]
    environment = {
        variable: value
        for variable, value in os.environ.items()
        if variable != "AUDIOCODES_TOKEN" and not variable.startswith("TWILIO_")
    }
    if carrier == "twilio":
        environment |= {
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
            "FASTAGENT_PUBLIC_URL": PUBLIC_URL,
        }
    environment |= {
        "FASTAGENT_REALTIME_URL": model_url,
        "OPENAI_API_KEY": "x",
        "MAX_SESSIONS": str(calls + 16),
        # It is driven to its limits on purpose, by callers of one number.
        "FASTAGENT_CALLS_PER_SECOND": "1000",
        "FASTAGENT_CALL_BURST": str(calls + 16),
        "FASTAGENT_CALLS_PER_NUMBER": "0",
        "FASTAGENT_CALLS_PER_NUMBER_HOUR": "0",
        "FASTAGENT_ADMISSION_LAG_MS": "0",
        "FASTAGENT_ADMISSION_CPU_PERCENT": "0",
        "LOG_LEVEL": "warning",
    }
    with (
        tempfile.TemporaryDirectory(prefix="relay-bench-") as folder,
        _running(name, command, port, core, environment, Path(folder)) as server,
    ):
        yield server


@contextlib.contextmanager
def _running(
    name: str,
    command: Sequence[str],
    port: int,
    core: int | None,
    environment: Mapping[str, str] | None,
    folder: Path,
) -> Iterator[Server]:
    log = folder / "log"
    with log.open("w") as sink:
        try:
            process = spawn(
                command, core, environment=environment, stdout=sink.fileno(), stderr=sink.fileno()
            )
        except OSError as error:
            raise ServerError(f"cannot start {name}: {error.strerror}") from error
    server = Server(name, process, port, log)
    try:
        _wait_until_it_listens(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(server: Server) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerError(f"{server.name} ended with {server.process.returncode}:\n{server.last_words()}")
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise ServerError(f"{server.name} did not listen within {READY_LIMIT_S:.0f} s:\n{server.last_words()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _haproxy_config(port: int, model_port: int, calls: int) -> str:
    return f"""\
global
    nbthread 1
    maxconn {calls + 64}
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend callers
    bind 127.0.0.1:{port}
    default_backend model
backend model
    server model 127.0.0.1:{model_port}
"""
