"""``fastagent local``: the embedded Realtime engine alone."""

import argparse
import asyncio
import contextlib
import os
import signal
import threading

from fastagent.errors import ConfigurationError

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent local --port 9100
  FASTAGENT_REALTIME_URL=ws://127.0.0.1:9100/v1/realtime fastagent serve fastagent.examples.appointment:agent

Needs the extra: pip install 'fastagent[local]'.
"""

PORT_MAX = 65_535
STDIN = 0
READ_BYTES = 4096


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "local",
        help="run the embedded Realtime engine alone",
        description="An OpenAI Realtime server on loopback, with real ears and a real voice.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=int, default=9100, help="port to listen on (default 9100; 0 picks one)"
    )
    parser.add_argument("--api-key", help="refuse clients that do not present this key")
    # For a parent process: stop when standard input ends, however the parent ended.
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    if not 0 <= options.port <= PORT_MAX:
        raise ConfigurationError(f"--port: expected 0 to {PORT_MAX}, got {options.port}")
    from fastagent.local.server import serve  # an optional extra

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if options.with_parent:
        # A terminal's Ctrl-C reaches the whole group; the parent decides when this ends.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        threading.Thread(target=_wait_for_parent, args=(loop, stopped), daemon=True).start()
    try:
        engine = await serve(port=options.port, api_key=options.api_key)
    except OSError as error:
        # asyncio words the reason in its own way, with the address in it.
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise ConfigurationError(f"cannot listen on port {options.port}: {reason}") from None
    except ConfigurationError as error:
        if not options.with_parent:
            raise
        # The parent expects one line, and has one of its own to print.
        print(error, flush=True)
        return 1
    try:
        print(f"Realtime engine at {engine.url}", flush=True)
        await stopped.wait()
    finally:
        await engine.close()
    return 0


def _wait_for_parent(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    # Not the buffered reader: its lock, held by a daemon thread, aborts the interpreter's shutdown.
    with contextlib.suppress(OSError):
        while os.read(STDIN, READ_BYTES):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(stopped.set)
