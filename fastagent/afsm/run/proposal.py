"""What a language model may propose to a machine, and the seam behind which it sits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Proposal", "ProposalError", "ProposalRequest", "Reasoner"]


class ProposalError(Exception):
    """No usable proposal came; the message tells why and quotes nobody."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model would do. It decides nothing."""

    next_state: str = ""
    """Empty proposes to stay."""
    slots: Mapping[str, Any] = field(default_factory=dict, repr=False)
    say: str = field(default="", repr=False)
    confidence: float = 1.0
    scratchpad: str = field(default="", repr=False)
    """The model's own notes; never spoken."""


@dataclass(frozen=True, slots=True)
class ProposalRequest:
    """What a model is told."""

    state: str
    description: str
    prompt: str = field(repr=False)
    """The state's prompt template, filled in."""
    moves: Mapping[str, str]
    """Names of the states that may be proposed, with what each is for."""
    slots: Mapping[str, Mapping[str, Any]]
    """JSON Schema of each slot that may be proposed."""
    values: Mapping[str, Any] = field(repr=False)
    """Slots that are filled, without those that stay out of records."""
    input_text: str = field(repr=False)
    history: Sequence[tuple[str, str]] = field(default=(), repr=False)
    """(speaker, text), oldest first."""
    scratchpad: Sequence[str] = field(default=(), repr=False)
    refusals: Sequence[str] = ()
    """Why earlier proposals of this run were not taken."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The state's own ``llm_config``."""


class Reasoner(Protocol):
    """Proposes; behind it is a language model."""

    async def propose(self, request: ProposalRequest) -> Proposal:
        """Give one proposal. Raises: `ProposalError`."""
