"""``fastagent graph``: an agent's state machines as pictures, with what recorded calls walked of them."""

import argparse
import asyncio
import sys
from pathlib import Path

from fastagent.afsm.coverage import Coverage
from fastagent.afsm.drawing import to_mermaid, to_svg
from fastagent.afsm.graph import Graph
from fastagent.cli.serve import load_agent
from fastagent.cli.verify import is_file, read_graph
from fastagent.errors import ConfigurationError, FastAgentError
from fastagent.journal import Reading, read_journal

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent graph fastagent.examples.appointment:agent                        Mermaid text
  fastagent graph myagents.bank:agent --format svg --output bank.svg
  fastagent graph myagents.bank:agent --coverage journals/*.journal           what calls walked
  fastagent graph transfer.json --format svg > transfer.svg                   a graph that is written as JSON
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "graph",
        help="draw an agent's state machines",
        description="Draw a task's states and ways, as Mermaid text or SVG. With journals of calls, tell "
        "what of it was walked, and how often.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("agent", metavar="MODULE:AGENT", help="or the file of a graph, ending in .json")
    parser.add_argument("--task", metavar="NAME", help="which task, of an agent with several")
    parser.add_argument("--format", choices=("mermaid", "svg"), default="mermaid", help="default mermaid")
    parser.add_argument("--coverage", metavar="FILE", nargs="+", type=Path, help="journals of calls")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write there instead of to the output")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Load, count, draw."""
    name, graph = find_graph(options.agent, options.task)
    coverage = None
    if options.coverage:
        coverage = Coverage()
        for path in options.coverage:
            coverage.read((await asyncio.to_thread(_read, path)).entries(), graph, name)
        _report(coverage, graph)
    drawn = to_svg(graph, coverage, name) if options.format == "svg" else to_mermaid(graph, coverage)
    if options.output is None:
        print(drawn, end="")
        return 0
    try:
        await asyncio.to_thread(options.output.write_text, drawn, encoding="utf-8")
    except OSError as error:
        raise FastAgentError(f"{options.output}: {error.strerror}") from error
    return 0


def find_graph(name: str, task: str | None) -> tuple[str, Graph]:
    """The task's name and graph that a command line names.

    Raises:
        ConfigurationError: there is none, or several.
    """
    if is_file(name):
        return "", read_graph(Path(name))
    agent = load_agent(name)
    if task is None and len(agent.tasks) == 1:
        task = next(iter(agent.tasks))
    if not agent.tasks:
        raise ConfigurationError("the agent has no task")
    if task is None:
        raise ConfigurationError(f"which task? --task takes one of {', '.join(agent.tasks)}")
    if task not in agent.tasks:
        raise ConfigurationError(f"the agent has no task {task!r}; it has {', '.join(agent.tasks)}")
    return task, agent.tasks[task].graph


def _read(path: Path) -> Reading:
    try:
        return read_journal(path)
    except OSError as error:
        raise FastAgentError(f"{path}: {error.strerror}") from error


def _report(coverage: Coverage, graph: Graph) -> None:
    """On standard error, so that the picture can go into a file."""
    states, ways = coverage.missed(graph)
    print(coverage.summary(graph), file=sys.stderr)
    for name in states:
        print(f"  never entered: {name}", file=sys.stderr)
    for way in ways:
        print(f"  never walked:  {way}", file=sys.stderr)
