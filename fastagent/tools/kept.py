"""How runs of tasks are kept: what the router asks of whoever writes a call's record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastagent.afsm.state import EffectRunner
from fastagent.tools.offered import Recorder

__all__ = ["KeptRun", "RunKeeper", "Undone"]


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of a cancelled task's effects, by their names."""

    undone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """They stand, or nobody can tell."""


class KeptRun(Protocol):
    """One run of a task, as it is kept."""

    @property
    def effects(self) -> EffectRunner:
        """Runs the effects of the run's states, each distinct one once."""

    def begin(
        self,
        task: str,
        graph_hash: str,
        *,
        slots: Mapping[str, object],
        facts: Mapping[str, object],
        profile: Mapping[str, object],
    ) -> None:
        """Note what the run begins with."""

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an entry; returns at once and does not raise."""

    def end(self, status: str, state: str) -> None:
        """Note how the run ended, and where."""

    async def undo(self, reason: str) -> Undone:
        """Take back what the run did."""


class RunKeeper(Recorder, Protocol):
    """Keeps the record of a call, and of the runs in it."""

    def keep(self, run_id: str) -> KeptRun:
        """Begin to keep a run; ``run_id`` is the function call that it answers."""

    async def commit(self) -> None:
        """Wait, not for long, until what was kept is safe from the end of the process. Does not raise."""
