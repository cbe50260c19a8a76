"""VoicePolicy: how the bot behaves on the line while a state is current."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["VoicePolicy"]


@dataclass(frozen=True, slots=True)
class VoicePolicy:
    """What a caller may interrupt, and whether what they say is recorded."""

    barge_in: Literal["interruptible", "protected", "keyword"] = "interruptible"
    """``protected``: the bot finishes what it says, and answers then; ``keyword``: only ``barge_in_keywords``
    stop it, once they are transcribed."""
    barge_in_keywords: Sequence[str] = ()
    is_recorded: bool = True
    """While it is False a recording holds silence, on both sides: for card numbers and the like."""

    def __post_init__(self) -> None:
        if self.barge_in not in ("interruptible", "protected", "keyword"):
            raise ValueError(f"expected interruptible, protected or keyword, got {self.barge_in!r}")
        if isinstance(self.barge_in_keywords, str):
            raise ValueError("barge_in_keywords must be a tuple of words, got one string")
        if self.barge_in == "keyword" and not any(word.strip() for word in self.barge_in_keywords):
            raise ValueError("barge-in by keyword needs keywords")
