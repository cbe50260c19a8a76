"""Standing: where a run stands."""

from dataclasses import dataclass, field

__all__ = ["SaidBack", "Standing"]


@dataclass(frozen=True, slots=True)
class SaidBack:
    """Values with implicit confirmation that the last words of a state said back, on the way to the next."""

    state: str
    slots: tuple[str, ...]


@dataclass(slots=True)
class Standing:
    """Where a run stands. Its machine moves it; the machine's parts look at it."""

    state: str
    question: str | None = field(default=None, repr=False)
    """What the caller was asked and has not answered."""
    open_question: str = field(default="", repr=False)
    """The current state's last question, for when it has to be asked again."""
    is_hung_up: bool = False
    said_back: SaidBack | None = None
    """What a "no" to the open question is about."""
