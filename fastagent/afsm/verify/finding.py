"""Finding: one thing that is wrong with a graph, where it stands, and how to mend it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """A caller will meet it."""
    WARNING = "warning"
    """A caller may meet it, or it cannot be what was meant."""
    HINT = "hint"
    """Worth a thought."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where."""

    level: Level
    kind: str
    """One word of `fastagent.afsm.verify.KINDS`."""
    message: str
    mend: str
    """What to do about it."""
    task: str = ""
    state: str = ""
    """Empty when it is not about one state."""
    place: str = ""
    """``file:line`` of a class, the path of a JSON definition (``states[2].guards.confirm``)."""

    def __str__(self) -> str:
        where = "/".join(filter(None, (self.task, self.state)))
        place = f"{self.place}: " if self.place else ""
        return f"{place}{self.level}: {f'{where}: ' if where else ''}{self.message} [{self.kind}]"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "level": self.level.value}
