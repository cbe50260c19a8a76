"""``fastagent serve``: answer calls with an agent."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastagent
from fastagent.agent import FastAgent
from fastagent.errors import ConfigurationError
from fastagent.server import process
from fastagent.server.logs import start_logging
from fastagent.settings import Settings

__all__ = ["add_parser", "load_agent", "load_agents"]

EPILOG = """\
examples:
  OPENAI_API_KEY=... fastagent serve fastagent.examples.appointment:agent
  FASTAGENT_REALTIME_URL=local fastagent serve my_agents:front_desk --port 8080
  FASTAGENT_REALTIME_URL=ws://127.0.0.1:9100/v1/realtime fastagent serve fastagent.examples.appointment:agent

AudioCodes' bot URL is ws://HOST:PORT/audiocodes/webhook. The environment holds the settings; see the README.
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "serve",
        help="answer calls with an agent",
        description="Answer calls with an agent until told to stop (Ctrl-C or SIGTERM drains running calls).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "agents", nargs="+", metavar="MODULE:AGENT", help="what answers; the first is the default"
    )
    parser.add_argument("--host", help="address to listen on (HOST, default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (PORT, default 8000; 0 picks one)")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Serve."""
    settings = Settings.from_environment(host=options.host, port=options.port)
    start_logging(settings)
    agents = load_agents(options.agents)
    await process.serve(agents, settings)
    return 0


def load_agents(names: Iterable[str]) -> list[FastAgent]:
    """The agents that several ``MODULE:ATTRIBUTE`` name, in order.

    Raises:
        ConfigurationError: one cannot be loaded, or two answer to one id.
    """
    by_id: dict[str, tuple[str, FastAgent]] = {}
    for name in names:
        agent = load_agent(name)
        if agent.agent_id in by_id:
            other = by_id[agent.agent_id][0]
            raise ConfigurationError(f"{other} and {name} have the same agent_id {agent.agent_id!r}")
        by_id[agent.agent_id] = name, agent
    return [agent for _, agent in by_id.values()]


def load_agent(name: str) -> FastAgent:
    """The agent that ``MODULE:ATTRIBUTE`` names; the current folder is searched first.

    Raises:
        ConfigurationError: there is no such module or agent, or the module raised an exception of its own;
            the message says which and where.
    """
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigurationError(f"expected MODULE:AGENT, got {name!r}")
    if (folder := os.getcwd()) not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module does while it is imported
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"cannot import {module_name}: no module named {error.name!r}") from None
        raise ConfigurationError(f"cannot import {module_name}: {_complaint(error)}") from None
    found: Any = getattr(module, attribute, None)
    if not isinstance(found, FastAgent):
        candidates = sorted(key for key, value in vars(module).items() if isinstance(value, FastAgent))
        hint = f"; it has {', '.join(candidates)}" if candidates else "; it holds no FastAgent"
        raise ConfigurationError(f"{module_name} has no agent {attribute!r}{hint}")
    return found


def _complaint(error: Exception) -> str:
    """Where in the user's own code an exception came from, its type and the first line of its text."""
    if isinstance(error, SyntaxError):
        place, text = (error.filename or "", error.lineno), error.msg
    else:
        ours = str(Path(fastagent.__file__).parent)
        frames = [
            (frame.filename, frame.lineno)
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and frame.filename != importlib.__file__
            if not frame.filename.startswith("<")
        ]
        theirs = [frame for frame in frames if not frame[0].startswith(ours)]
        # What stands in the current folder is likeliest the user's, then what is not this package.
        here = [
            frame for frame in theirs if frame[0].startswith(os.getcwd()) and "site-packages" not in frame[0]
        ]
        place = (here or theirs or frames or [("", None)])[-1]
        text = str(error)
    where = f"{place[0]}:{place[1]}: " if place[0] else ""
    return f"{where}{type(error).__name__}: {(text.splitlines() or [''])[0]}".rstrip(": ")
