"""``fastagent local``: the embedded Realtime engine alone."""

import argparse
import asyncio
import signal
import sys
import threading

from fastagent.errors import ConfigurationError

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent local --port 9100
  FASTAGENT_REALTIME_URL=ws://127.0.0.1:9100/v1/realtime fastagent serve fastagent.examples.appointment:agent

Needs the extra: pip install 'fastagent[local]'.
"""


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
        raise ConfigurationError(f"cannot listen on port {options.port}: {error.strerror}") from None
    try:
        print(f"Realtime engine at {engine.url}", flush=True)
        await stopped.wait()
    finally:
        await engine.close()
    return 0


def _wait_for_parent(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    sys.stdin.buffer.read()
    loop.call_soon_threadsafe(stopped.set)
