"""``fastagent replay``: check a journal, and run its tasks again without network."""

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from fastagent.afsm.replay import Replay, replay, runs_of
from fastagent.agent import FastAgent
from fastagent.cli.serve import load_agent
from fastagent.errors import ConfigurationError, FastAgentError
from fastagent.journal import Entry, Reading, read_journal

__all__ = ["add_parser"]

INCOMPLETE = 3

EPILOG = """\
examples:
  fastagent replay journals/call.journal                          check the chain, count what is there
  fastagent replay call.journal --agent myagents.clinic:agent     run its tasks again
  fastagent replay call.journal --agent myagents.clinic:agent --json

exit codes: 0 all runs went the same way; 1 one went another way, or the journal is damaged; 3 one could not
be followed to its end (redacted input, or a state that waits for what is not in the journal)
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "replay",
        help="run a call's tasks again from its journal",
        description="Check a journal's chain of hashes; with an agent, run its tasks again to the same "
        "states and effects, or tell where they part. Nothing is sent, changed or asked.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--agent", metavar="MODULE:AGENT", help="the agent that took the call")
    parser.add_argument("--task", metavar="NAME", help="of runs that do not name theirs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Check the file, then replay run after run."""
    agent = load_agent(options.agent) if options.agent else None
    try:
        reading = await asyncio.to_thread(read_journal, options.file)
    except OSError as error:
        raise FastAgentError(f"{options.file}: {error.strerror}") from error
    entries = reading.entries()
    replays = []
    for name in runs_of(entries) if agent is not None else []:
        assert agent is not None
        task = _task_of(name, entries, agent, options.task)
        replays.append(await replay(entries, agent.tasks[task].graph, run=name))
    if options.json:
        print(json.dumps(_as_json(reading, entries, replays), ensure_ascii=False))
    else:
        _print(reading, entries, replays)
    statuses = {found.status for found in replays}
    return 1 if "diverged" in statuses else INCOMPLETE if "incomplete" in statuses else 0


def _task_of(run_name: str, entries: list[Entry], agent: FastAgent, given: str | None) -> str:
    """The task that a run belongs to: as recorded, as given, or the only one there is."""
    named = next(
        (e.data.get("task") for e in entries if e.kind == "opened" and e.data.get("run", "") == run_name),
        None,
    )
    name = named or given or (next(iter(agent.tasks)) if len(agent.tasks) == 1 else None)
    if name is None:
        raise ConfigurationError(f"which task? --task takes one of {', '.join(agent.tasks)}")
    if name not in agent.tasks:
        raise ConfigurationError(f"the agent has no task {name!r}; it has {', '.join(agent.tasks)}")
    return str(name)


def _print(reading: Reading, entries: list[Entry], replays: list[Replay]) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(e.kind for e in entries).items()))
    torn = f"; {reading.torn_bytes} bytes of an unfinished entry" if reading.torn_bytes else ""
    print(f"{len(entries)} entries, chain whole{torn}" + (f": {kinds}" if kinds else ""))
    for found in replays:
        name = f"run {found.run}" if found.run else "run"
        version = {"same": "", "other": ", another version of the graph", "unknown": ""}[found.version]
        print(f"{name}: {found.status}, {found.compared} entries agree{version}")
        if found.states:
            print(f"  {' → '.join(found.states)}")
        if found.divergence is not None:
            print(f"  entry {found.divergence.seq}")
            print(f"    expected  {found.divergence.expected or 'nothing more'}")
            print(f"    got       {found.divergence.got or 'nothing'}")
        if found.reason:
            print(f"  {found.reason}")


def _as_json(reading: Reading, entries: list[Entry], replays: list[Replay]) -> dict[str, Any]:
    return {
        "entries": len(entries),
        "last_hash": reading.last_hash,
        "torn_bytes": reading.torn_bytes,
        "runs": [
            {
                "run": found.run,
                "status": found.status,
                "version": found.version,
                "compared": found.compared,
                "states": found.states,
                "reason": found.reason,
                "divergence": None
                if (parted := found.divergence) is None
                else {"entry": parted.seq, "expected": parted.expected, "got": parted.got},
            }
            for found in replays
        ],
    }
