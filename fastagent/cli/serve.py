"""``fastagent serve``: answer calls with an agent."""

import argparse
import importlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import fastagent
from fastagent.agent import FastAgent
from fastagent.cli.settings_check import print_review
from fastagent.errors import ConfigurationError
from fastagent.server import process
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.life.listeners import find_listeners
from fastagent.server.life.notifier import Notifier
from fastagent.server.life.supervisor import Supervisor
from fastagent.server.watch.logs import start_logging
from fastagent.settings import LOCAL_REALTIME, Settings
from fastagent.settings.review import Finding, Level, review
from fastagent.settings.service_manager import ServiceManager
from fastagent.settings.sources import read_sources
from fastagent.stats import Counters
from fastagent.wire.openai_realtime import upgrade_request

__all__ = ["add_parser", "load_agent", "load_agents", "reload_agents"]

EPILOG = """\
examples:
  OPENAI_API_KEY=... fastagent serve fastagent.examples.appointment:agent
  FASTAGENT_REALTIME_URL=local fastagent serve my_agents:front_desk --port 8080
  FASTAGENT_REALTIME_URL=ws://127.0.0.1:9100/v1/realtime fastagent serve fastagent.examples.appointment:agent
  fastagent serve --config fastagent.toml --set max_sessions=200 my_agents:front_desk
  fastagent serve --check --config fastagent.toml     what holds, where it comes from, what is unsafe

AudioCodes' bot URL is ws://HOST:PORT/audiocodes/webhook. An option wins over a variable of the environment,
that over the file, that over the default; docs/configuration.md lists all settings. With --check nothing is
served; exit code 0 for fine, 1 for unsafe, 2 for what would not start.
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "serve",
        help="answer calls with an agent",
        description="Answer calls with an agent until told to stop (Ctrl-C or SIGTERM drains running calls, "
        "SIGHUP reads tokens and agents again; docs/operations.md says more).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "agents", nargs="*", metavar="MODULE:AGENT", help="what answers; the first is the default"
    )
    parser.add_argument("--host", help="address to listen on (HOST, default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (PORT, default 8000; 0 picks one)")
    parser.add_argument(
        "--workers", type=int, help="processes; 0 for one per core (FASTAGENT_WORKERS, default 1)"
    )
    parser.add_argument("--run-dir", help="where the processes of one port meet (FASTAGENT_RUN_DIR)")
    parser.add_argument(
        "--reuse-port",
        action=argparse.BooleanOptionalAction,
        help="bind with SO_REUSEPORT (FASTAGENT_REUSE_PORT)",
    )
    # What a supervisor tells its workers.
    parser.add_argument(
        "--listen-fd", dest="descriptors", type=int, action="append", default=[], help=argparse.SUPPRESS
    )
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="settings as TOML (FASTAGENT_CONFIG)")
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting that is no secret, by its name or its variable",
    )
    parser.add_argument("--check", action="store_true", help="print all settings and what is unsafe, and end")
    parser.add_argument("--json", action="store_true", help="with --check: print one JSON object")
    parser.set_defaults(run=run, usage_error=parser.error)


async def run(options: argparse.Namespace) -> int:
    """Serve, or check."""
    if options.check:
        return check_settings(options)
    if options.json:
        options.usage_error("--json goes with --check")
    if not options.agents:
        options.usage_error("the following arguments are required: MODULE:AGENT")
    settings = Settings.from_environment(
        config=options.config, assignments=options.assignments, **_overrides(options)
    )
    start_logging(settings)
    manager = ServiceManager.from_environment()
    if options.descriptors:
        manager = replace(manager, listen_descriptors=tuple(options.descriptors))
    elif settings.workers != 1:
        return await run_workers(options, settings, manager)
    agents = load_agents(options.agents)
    await process.serve(
        agents,
        settings,
        manager=manager,
        load_agents=partial(reload_agents, options.agents),
        with_parent=options.with_parent,
    )
    return 0


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "host": options.host,
        "port": options.port,
        "workers": options.workers,
        "run_dir": options.run_dir,
        "reuse_port": options.reuse_port,
    }


async def run_workers(options: argparse.Namespace, settings: Settings, manager: ServiceManager) -> int:
    """Have several processes serve the port; gives the exit code."""
    cores = sorted(os.sched_getaffinity(0))
    listeners = find_listeners(settings, manager.listen_descriptors)
    own_folder = None if settings.run_dir else tempfile.TemporaryDirectory(prefix="fastagent-")
    folder = Path(own_folder.name if own_folder is not None else settings.run_dir)
    host, port = listeners[0].getsockname()[:2]
    command = [sys.executable, "-m", "fastagent", "serve", *options.agents, "--with-parent"]
    command += ["--host", settings.host, "--port", str(port), "--run-dir", str(folder), "--no-reuse-port"]
    command += ["--config", options.config] if options.config else []
    for assignment in options.assignments:
        command += ["--set", assignment]
    supervisor = Supervisor(
        command,
        settings.workers or len(cores),
        listeners,
        folder,
        environment=os.environ,
        cores=cores if settings.pin_workers else (),
        notifier=Notifier(manager),
    )
    logging.getLogger("fastagent.supervisor").info("listening on http://%s:%d", host, port)
    try:
        return await supervisor.run()
    finally:
        for listener in listeners:
            listener.close()
        if own_folder is not None:
            own_folder.cleanup()


def check_settings(options: argparse.Namespace) -> int:
    """Print every setting and what is wrong with them; load the agents, too, if some are named."""
    reading = read_sources(
        fields(Settings),
        config=options.config,
        assignments=options.assignments,
        overrides=_overrides(options),
    )
    found = review(reading)
    wrong = []
    settings = Settings(**reading.values)
    if Level.WRONG not in {one.level for one in found.findings}:
        # What only the rooms that use them know of the settings.
        for name, attempt in (
            ("realtime_url", lambda: _model_request(settings)),
            ("tokens_file", lambda: Doorkeeper(settings, Counters())),
            ("agents", lambda: load_agents(options.agents)),
        ):
            try:
                attempt()
            except ConfigurationError as error:
                wrong.append(Finding(Level.WRONG, name, str(error)))
    return print_review(replace(found, findings=(*found.findings, *wrong)), as_json=options.json)


def _model_request(settings: Settings) -> None:
    if settings.realtime_url != LOCAL_REALTIME:
        upgrade_request(settings.realtime_url, settings.openai_api_key, settings.realtime_model)


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


def reload_agents(names: Sequence[str]) -> list[FastAgent]:
    """The agents as their files are now: their modules, and those that lie beside them, are imported anew.

    What was imported before lives on in calls that run. A module elsewhere is not looked at again.

    Raises:
        ConfigurationError: one cannot be loaded; what was imported before stays.
    """
    holders = {name.partition(":")[0] for name in names}
    folders = {
        Path(file).resolve().parent
        for name in holders
        if (file := getattr(sys.modules.get(name), "__file__", None))
    } - {Path(fastagent.__file__).parent, *Path(fastagent.__file__).parent.rglob("*")}
    former = {
        name: module
        for name, module in list(sys.modules.items())
        if name in holders
        or ((file := getattr(module, "__file__", None)) and Path(file).resolve().parent in folders)
    }
    for name in former:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        return load_agents(names)
    except ConfigurationError:
        sys.modules.update(former)
        raise


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
