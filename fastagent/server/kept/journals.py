"""Journals: the records of all calls of a process, in one directory or in memory alone."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from fastagent.afsm.effects.declared import effects_of
from fastagent.afsm.effects.rules import BoundEffect
from fastagent.agent import FastAgent
from fastagent.call.stored import CarriedEntry
from fastagent.journal import JournalWriter
from fastagent.server.kept.call_journal import CallJournal

__all__ = ["Journals"]

logger = logging.getLogger("fastagent.server")

SWEEP_INTERVAL_S = 3600.0
CLOSE_TIMEOUT_S = 5.0
"""For the disk to take what was kept."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an agent's calls have in common."""

    about: dict[str, object]
    functions: tuple[BoundEffect, ...]
    redacted: frozenset[str]


class Journals:
    """The `CallRecords` of a process; `start` it within its loop, and `close` it at the end.

    Args:
        directory: one file for each conversation; empty keeps them in memory, until the call ends.
        retention_days: age at which files are deleted; 0 keeps them.
    """

    def __init__(self, directory: str = "", *, retention_days: float = 0.0) -> None:
        self.writer = JournalWriter(directory) if directory else None
        self._retention_s = retention_days * DAY_S
        self._kept: WeakKeyDictionary[FastAgent, _Kept] = WeakKeyDictionary()
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to delete what is too old."""
        if self.writer is not None and self._retention_s:
            self._sweeping = asyncio.create_task(self._sweep(self.writer.directory))

    def prepare(self, agent: FastAgent) -> None:
        """Look at an agent before its first call.

        Raises:
            ConfigurationError: an effect names a function that is not there.
        """
        self._kept_of(agent)

    def _kept_of(self, agent: FastAgent) -> _Kept:
        kept = self._kept.get(agent)
        if kept is None:
            kept = self._kept[agent] = _kept(agent)
        return kept

    def open(
        self,
        call_id: str,
        agent: FastAgent,
        *,
        on_claim: Callable[[str], Any],
        carried: Sequence[CarriedEntry] = (),
    ) -> CallJournal:
        """Begin a call's record; a file is opened behind the call's back."""
        kept = self._kept_of(agent)
        writer = self.writer
        return CallJournal(
            call_id,
            about=kept.about,
            functions=kept.functions,
            redacted=kept.redacted,
            open_file=None if writer is None else partial(writer.open, call_id, redacted=kept.redacted),
            on_claim=on_claim,
            carried=carried,
        )

    async def close(self) -> None:
        """Have the disk keep what is left."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        if self.writer is not None and not await asyncio.to_thread(self.writer.close, CLOSE_TIMEOUT_S):
            logger.error("journals: the disk took longer than %g s", CLOSE_TIMEOUT_S)

    async def _sweep(self, directory: Path) -> None:
        while True:
            await asyncio.to_thread(delete_old, directory, time.time() - self._retention_s)
            await asyncio.sleep(SWEEP_INTERVAL_S)


def _kept(agent: FastAgent) -> _Kept:
    graphs = [task.graph for one in agent.house for task in one.tasks.values()]
    return _Kept(
        {
            "agent": agent.agent_id,
            "graphs": {name: task.graph.content_hash for name, task in agent.tasks.items()},
        },
        tuple(effect for graph in graphs for effect in effects_of(graph)),
        frozenset().union(*(graph.redacted for graph in graphs)),
    )


def delete_old(directory: Path, before_unix_s: float) -> int:
    """Delete the journals last written before a time, and give their number. The key stays."""
    deleted = 0
    try:
        paths = list(directory.glob("*.journal"))
    except OSError:
        return 0
    for path in paths:
        try:
            if path.lstat().st_mtime < before_unix_s:
                path.unlink()
                deleted += 1
        except OSError as error:
            logger.warning("journal %s cannot be deleted: %s", path.name, type(error).__name__)
    return deleted
