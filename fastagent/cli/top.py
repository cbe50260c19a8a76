"""``fastagent top``: watch the calls of a running server."""

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

from fastagent.errors import ConfigurationError, LegConnectError
from fastagent.server_address import DEFAULT_URL, ServerAddress
from fastagent.top.frame import SORTS, draw
from fastagent.top.reading import Reading, ServerReader

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent top
  fastagent top --url https://voice.example.com --token "$FASTAGENT_TOKEN" --sort latency
  fastagent top --once --json | jq '.calls[] | select(.drops > 0)'

LINE is the carrier, SPEAKS who is heard, MS the time from the end of the caller's last turn to the first
audio of its answer, DROP audio messages dropped, $ the cost so far by the price table. Calls are named by
their ids; no number and no word of a caller is read. A lost connection is tried again; Ctrl-C ends.
"""
TOKEN_VARIABLE = "FASTAGENT_TOKEN"
EVERY_S = 1.0
EVERY_MIN_S = 0.2
WIDTH = 80
"""Where no terminal tells its own."""
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "top",
        help="watch the calls of a running server",
        description="Watch a running server in the terminal: its calls, what they cost, and its process.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server (default {DEFAULT_URL})")
    parser.add_argument("--token", help=f"bearer token with the scopes admin and metrics ({TOKEN_VARIABLE})")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds from look to look (default 1)")
    parser.add_argument(
        "--sort", choices=tuple(SORTS), default="age", help="order of the calls (default age)"
    )
    parser.add_argument("--once", action="store_true", help="print one look and end")
    parser.add_argument("--json", action="store_true", help="print each look as a line of JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Watch."""
    return _run(options)


async def _run(options: argparse.Namespace) -> int:
    try:
        return await _look(options)
    except BrokenPipeError:
        # Whoever read has enough, as `head` does; what is kept for them has to go somewhere at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def _look(options: argparse.Namespace) -> int:
    if not options.every >= EVERY_MIN_S:
        raise ConfigurationError(f"--every: expected at least {EVERY_MIN_S:g} s")
    token = options.token or os.environ.get(TOKEN_VARIABLE, "").strip()
    reader = ServerReader(ServerAddress(options.url, token))
    if options.once:
        reading = await asyncio.to_thread(reader.read)
        print(_json(reading) if options.json else "\n".join(_frame(reading, None, options, height=None)))
        return 0
    if options.json:
        return await _follow(reader, options)
    is_terminal = sys.stdout.isatty()
    sys.stdout.write(OTHER_SCREEN if is_terminal else "")
    try:
        return await _watch(reader, options)
    finally:
        sys.stdout.write(FIRST_SCREEN if is_terminal else "")
        sys.stdout.flush()


async def _follow(reader: ServerReader, options: argparse.Namespace) -> int:
    """A line of JSON for each look that was answered."""
    while True:
        try:
            print(_json(await asyncio.to_thread(reader.read)), flush=True)
        except LegConnectError as error:
            print(f"{error}; trying again", file=sys.stderr)
        await asyncio.sleep(options.every)


async def _watch(reader: ServerReader, options: argparse.Namespace) -> int:
    """Draw again and again."""
    reading: Reading | None = None
    former: Reading | None = None
    while True:
        notice = ""
        try:
            new = await asyncio.to_thread(reader.read)
            former, reading = reading, new
        except LegConnectError as error:
            notice = f"CONNECTION LOST ({error}), trying again"
        except ConfigurationError:
            if reading is None:
                raise
            # It was right a moment ago: a proxy may answer in the place of a server that starts anew.
            notice = "REFUSED, trying again"
        if reading is None:
            lines = [f"{options.url}: {notice}"]
        else:
            lines = _frame(reading, former, options, height=_size().lines, notice=notice)
        _show(lines)
        await asyncio.sleep(options.every)


def _size() -> os.terminal_size:
    return shutil.get_terminal_size((WIDTH, 24))


def _frame(
    reading: Reading,
    former: Reading | None,
    options: argparse.Namespace,
    *,
    height: int | None,
    notice: str = "",
) -> list[str]:
    return draw(reading, former, width=_size().columns, height=height, sort=options.sort, notice=notice)


def _show(lines: list[str]) -> None:
    """Write over what is there, so that nothing flickers."""
    width, height = _size()
    shown = [line[:width] for line in lines[:height]]
    sys.stdout.write(HOME + "\r\n".join(line + CLEAR_LINE for line in shown) + CLEAR_BELOW)
    sys.stdout.flush()


def _json(reading: Reading) -> str:
    found = asdict(reading)
    del found["at_s"]
    return json.dumps(found)
