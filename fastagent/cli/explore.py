"""``fastagent explore``: made-up calls of a task, until one breaks a promise."""

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from fastagent.afsm.explore import Exploration, Invariant, explore
from fastagent.afsm.graph import Graph
from fastagent.cli.graph import find_graph
from fastagent.cli.serve import load_agent
from fastagent.cli.verify import is_file
from fastagent.errors import ConfigurationError

__all__ = ["add_parser"]

NOT_LOADED = 2

EPILOG = """\
examples:
  fastagent explore fastagent.examples.appointment:agent               does any state fail?
  fastagent explore myagents.bank:agent --invariants myagents.bank:promises
  fastagent explore myagents.bank:agent --calls 2000 --seed 7 --json

An invariant: never("pays unidentified", lambda now: "pay" in now.effects and "pin" not in now.states);
there are always, never and eventually, in fastagent.afsm.explore. Without --invariants the list `invariants`
beside the agent is taken, if there is one. Needs: pip install hypothesis.

exit codes: 0 no promise was broken; 1 one was, and the shortest such call is printed; 2 it cannot be loaded.
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "explore",
        help="make up calls until one breaks a promise about an agent",
        description="Make up calls from a task's graph: answers, keys, silence, hang-ups and more. The "
        "effects of states are not run; what code does by itself it does.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("agent", metavar="MODULE:AGENT", help="or the file of a graph, ending in .json")
    parser.add_argument("--task", metavar="NAME", help="which task, of an agent with several")
    parser.add_argument("--invariants", metavar="MODULE:LIST", help="promises that must hold")
    parser.add_argument("--calls", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--steps", type=int, default=30, help="things a caller does in a call (default 30)")
    parser.add_argument("--seed", type=int, help="make up other calls than the usual ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Load, make up calls, tell what was found."""
    try:
        if options.calls < 1 or options.steps < 1:
            raise ConfigurationError("--calls and --steps must be at least 1")
        _, graph = find_graph(options.agent, options.task)
        phrases = () if is_file(options.agent) else load_agent(options.agent).transcription_phrases
        invariants = _invariants(options.invariants, options.agent)
        # In a thread, as it runs loops of its own.
        found = await asyncio.to_thread(
            explore,
            graph,
            invariants,
            phrases=phrases,
            calls=options.calls,
            steps=options.steps,
            seed=options.seed,
        )
    except ConfigurationError as error:
        print(f"fastagent explore: {error}", file=sys.stderr)
        return NOT_LOADED
    if options.json:
        print(json.dumps(_as_json(found, graph), ensure_ascii=False))
    else:
        print(found.counterexample or "no promise was broken")
        print(found.coverage.summary(graph))
    return 0 if found.counterexample is None else 1


def _as_json(found: Exploration, graph: Graph) -> dict[str, Any]:
    states, ways = found.coverage.missed(graph)
    broken = found.counterexample
    return {
        "runs": found.coverage.runs,
        "missed_states": states,
        "missed_ways": [str(way) for way in ways],
        "counterexample": None
        if broken is None
        else {"invariant": broken.invariant, "reason": broken.reason, "lines": list(broken.lines)},
    }


def _invariants(name: str | None, agent: str) -> Sequence[Invariant]:
    """The list that is named, or the one beside the agent."""
    if name is None and is_file(agent):
        return ()
    module_name, _, attribute = (name or agent).partition(":")
    attribute = attribute if name else "invariants"
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"cannot import {module_name}: {error}") from None
    found = getattr(module, attribute, () if name is None else None)
    if not isinstance(found, list | tuple) or not all(isinstance(one, Invariant) for one in found):
        raise ConfigurationError(f"{module_name}:{attribute} is no list of invariants")
    return found
