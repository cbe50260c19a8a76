"""Orders to a call that take their time, and what became of them.

::

    self.call.transfer("tel:+15550123", "a bill")                    # an order, and no more
    outcome = await self.call.transfer("tel:+15550123", "a bill")    # or the state waits for its outcome
    if outcome.end is TransferEnd.BUSY: ...

Whatever the carrier is and whatever goes wrong, an outcome comes: a carrier that cannot do it settles the
order with ``NOT_SUPPORTED``, the end of the call with ``CALL_OVER``. Nothing here raises into a state.
"""

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

__all__ = ["DigitsEnd", "DigitsOutcome", "Order", "TransferEnd", "TransferOutcome"]


class TransferEnd(StrEnum):
    """What became of a transfer."""

    ANSWERED = "answered"
    """Somebody took the caller over. The call is over with it, unless the carrier keeps us on the line."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    DECLINED = "declined"
    FAILED = "failed"
    """The carrier tried, and gives no reason that has a name here."""
    NOT_SUPPORTED = "not_supported"
    """This carrier hands nobody on, or not to this target."""
    CALL_OVER = "call_over"
    """The call ended before anybody knew."""


class DigitsEnd(StrEnum):
    """What became of digits that were to be sent."""

    SENT = "sent"
    """The carrier was given them, or their tones wait for the next pause in the talk."""
    NOT_SUPPORTED = "not_supported"
    """No such digits can be sent on this line."""
    CALL_OVER = "call_over"
    """Nobody was on the line any more."""


@dataclass(frozen=True, slots=True)
class TransferOutcome:
    """How a transfer ended."""

    end: TransferEnd
    code: str = ""
    """The carrier's own word for it; empty when it said none."""

    @property
    def is_answered(self) -> bool:
        """Somebody took the caller over."""
        return self.end is TransferEnd.ANSWERED


@dataclass(frozen=True, slots=True)
class DigitsOutcome:
    """Whether digits were sent."""

    end: DigitsEnd

    @property
    def is_sent(self) -> bool:
        """They are on their way."""
        return self.end is DigitsEnd.SENT


Outcome = TypeVar("Outcome")


class Order(Generic[Outcome]):
    """What a call was told to do. Await it for the outcome, as often as you like, or leave it alone.

    Args:
        on_awaited: told, each time, that somebody waits from now on.
    """

    def __init__(self, on_awaited: Callable[[], None] = lambda: None) -> None:
        self.outcome: Outcome | None = None
        """None until it is known."""
        self._on_awaited = on_awaited
        self._waiters: list[asyncio.Future[Outcome]] = []

    @property
    def is_awaited(self) -> bool:
        """Somebody waits for the outcome now."""
        return any(not waiter.done() for waiter in self._waiters)

    @classmethod
    def settled(cls, outcome: Outcome) -> "Order[Outcome]":
        """An order whose outcome is known at once."""
        order = cls()
        order.settle(outcome)
        return order

    def settle(self, outcome: Outcome) -> None:
        """Give the outcome to whoever waits; the first one counts."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(outcome)
        self._waiters.clear()

    def __await__(self) -> Generator[Any, Any, Outcome]:
        if self.outcome is not None:
            return self.outcome
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._on_awaited()
        return (yield from waiter)
