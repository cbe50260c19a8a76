"""Verdict: what a state decided on one input or event."""

from dataclasses import dataclass, field

from fastagent.afsm.spec import Event

__all__ = ["Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a state decided on one input or event."""

    say: str = field(default="", repr=False)
    next_state: str = ""
    on: Event = Event.INPUT
    """What led to it."""
    is_push: bool = False
    """Enters a digression that no state named."""
    by: str = ""
    """The watch that led to it."""
    corrects: tuple[str, ...] = ()
    """Goes back to the state these slots belong to, as the caller said no to them."""
    is_end: bool = False
    """The run, or a digression, is over with these words."""
    is_judged: bool = False
    """Its guard was asked already."""
    event: Event | None = None
    """Instead of a decision: what happened."""
