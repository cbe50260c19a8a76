"""The ``fastagent`` command: a file a verb."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from fastagent import __version__
from fastagent.cli import call, demo, local, play, recordings, serve
from fastagent.errors import FastAgentError

__all__ = ["main"]

VERBS = (serve, demo, call, play, local, recordings)

EPILOG = """\
examples:
  fastagent demo                                        a whole spoken call, no key, no network
  fastagent serve fastagent.examples.appointment:agent  answer calls on this machine
  fastagent call --say "book an appointment"            ring a running server
  fastagent play greeting.wav --session ID              play a file into a running call
  fastagent local --port 9100                           the embedded Realtime engine alone
  fastagent recordings list DIR                         what was recorded

Every verb has its own --help with examples.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0; 1 for what went wrong, 2 for a wrong command line, 130 for Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="fastagent",
        description="Phone calls answered by a voice model, with finite state agents that do the work.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastagent {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    options = parser.parse_args(arguments)
    try:
        return _run(options.run(options))
    except FastAgentError as error:
        print(f"fastagent {options.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(verb: Coroutine[Any, Any, int]) -> int:
    import uvloop  # not needed to print a help text

    logging.captureWarnings(True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(verb)
