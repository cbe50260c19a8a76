"""ChatStand: what an interrupted session keeps of the text messages about it, within its snapshot."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

__all__ = ["ChatStand"]

KEY = "chat"
"""Of the snapshot. A call that goes on with the session leaves it out: its next interruption begins anew."""


@dataclass(frozen=True, slots=True)
class ChatStand:
    """Where a conversation by text stands."""

    is_proved: bool = False
    """The code was right."""
    replies: int = 0
    """Messages of ours."""
    codes_asked: int = 0
    wrong_codes: int = 0
    last_at_unix_s: float = 0.0
    """When the caller last wrote something that counted."""
    replied_at_unix_s: float = 0.0
    """When our last reply to somebody who sent the code was ready."""
    replied_to: str = ""
    """The message that it answers; whether it was handed over is known by that name."""

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> Self:
        """The stand that a snapshot holds; the beginning where it holds none."""
        kept = snapshot.get(KEY)
        if not isinstance(kept, dict):
            return cls()
        return cls(**{one.name: kept[one.name] for one in fields(cls) if one.name in kept})

    def kept_in(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """The snapshot with this stand in it."""
        return {**snapshot, KEY: asdict(self)}
