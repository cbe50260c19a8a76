"""The ``fastagent`` command: a file a verb."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from fastagent import __version__
from fastagent.cli import (
    bench,
    call,
    demo,
    dial,
    explore,
    graph,
    load,
    local,
    mcp,
    new,
    play,
    profile,
    recordings,
    replay,
    serve,
    top,
    verify,
)
from fastagent.errors import FastAgentError

__all__ = ["main"]

VERBS = (
    serve, demo, call, load, dial, play, top, profile, local, recordings, replay,
    mcp, verify, graph, explore, new, bench,
)  # fmt: skip

EPILOG = """\
examples:
  fastagent demo                                        a whole spoken call, no key, no network
  fastagent demo banking                                another: banking, healthcare, retail, enterprise
  fastagent serve fastagent.examples.appointment:agent  answer calls on this machine
  fastagent call --say "book an appointment"            ring a running server
  fastagent load --calls 100 --duration 30              many calls at once, and a report
  fastagent dial +15550100001 --agent ID                have a running server call a number
  fastagent play greeting.wav --session ID              play a file into a running call
  fastagent top                                         watch the calls of a running server
  fastagent local --port 9100                           the embedded Realtime engine alone
  fastagent recordings list DIR                         what was recorded
  fastagent replay FILE --agent MODULE:AGENT            run a call's tasks again from its journal
  fastagent profile --url http://127.0.0.1:8000         where a running server's time goes
  fastagent mcp fastagent.examples.appointment:agent    its tasks for MCP clients
  fastagent verify MODULE:AGENT                         what is wrong with its state machines
  fastagent graph MODULE:AGENT --format svg             draw them
  fastagent explore MODULE:AGENT                        make up calls until one breaks a promise
  fastagent new front_desk                              an agent of one's own, with its test
  fastagent bench --quick                               measure a checkout beside its peers

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
