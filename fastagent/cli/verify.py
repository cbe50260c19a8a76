"""``fastagent verify``: what is wrong with an agent's state machines, before anyone calls."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from fastagent.afsm.definition import read_graph_definition
from fastagent.afsm.graph import Graph
from fastagent.afsm.verify import Finding, Level, check
from fastagent.agent import FastAgent
from fastagent.cli.serve import load_agent
from fastagent.errors import ConfigurationError

__all__ = ["add_parser"]

WRONG, NOT_LOADED = 1, 2

EPILOG = """\
examples:
  fastagent verify fastagent.examples.appointment:agent    all tasks of an agent
  fastagent verify myagents.bank:agent --json              for a CI
  fastagent verify transfer.json                           a graph that is written as JSON

exit codes: 0 nothing that callers will meet; 1 errors, with --strict also warnings; 2 it cannot be loaded.
With FASTAGENT_VERIFY=1 in the environment each agent is verified, and its findings logged, as it is made.
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "verify",
        help="find what is wrong with an agent's state machines",
        description="Look for unreachable states, traps, moves that are not declared, words and guards that "
        "use what nobody filled, unsafe effects, events without an answer, and more. Nothing is run.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("agent", metavar="MODULE:AGENT", help="or the file of a graph, ending in .json")
    parser.add_argument("--strict", action="store_true", help="fail on warnings too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Load, check, print."""
    try:
        if is_file(options.agent):
            found = check(read_graph(Path(options.agent)))
        else:
            found = check_house(load_agent(options.agent))
    except ConfigurationError as error:
        if options.json:
            print(json.dumps({"agent": options.agent, "error": str(error), "findings": []}))
        else:
            print(f"fastagent verify: {error}", file=sys.stderr)
        return NOT_LOADED
    counts = Counter(one.level for one in found)
    if options.json:
        print(
            json.dumps(
                {
                    "agent": options.agent,
                    **{f"{level}s": counts[level] for level in Level},
                    "findings": [one.as_json() for one in found],
                },
                ensure_ascii=False,
            )
        )
    else:
        _print(found, counts)
    return WRONG if counts[Level.ERROR] or (options.strict and counts[Level.WARNING]) else 0


def check_house(agent: FastAgent) -> list[Finding]:
    """Give what is wrong with an agent and with all it may hand a caller over to."""
    found = check(agent)
    for colleague in agent.house[1:]:
        found += [replace(one, task=f"{colleague.agent_id}/{one.task}") for one in check(colleague)]
    return found


def _print(found: list[Finding], counts: Counter[Level]) -> None:
    for one in found:
        print(f"{one}\n    mend: {one.mend}")
    print(", ".join(f"{counts[level]} {level}s" for level in Level) if found else "nothing found")


def is_file(name: str) -> bool:
    """Tell whether an argument names the file of a graph."""
    return name.endswith(".json")


def read_graph(path: Path) -> Graph:
    """Read a graph from JSON; its effects are stood in for by functions that do nothing.

    Raises:
        ConfigurationError: it cannot be read, or is no graph.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{path}: not JSON") from None
    try:
        if not isinstance(document, dict):
            raise ConfigurationError("a graph is a JSON object")
        read = read_graph_definition(document)
        names = {
            name
            for state in read.states
            for effect in state.effects
            for name in (effect.name, effect.undo)
            if name
        }
        return Graph.from_states(
            read.states,
            read.initial_state,
            supervisor=read.supervisor,
            functions=dict.fromkeys(names, _stand_in),
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _stand_in(**values: object) -> None:
    """Takes any slots and does nothing."""
