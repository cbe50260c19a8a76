"""Keypad digits of several sources as one stream: each key press once, whoever tells of it first.

A press may be told three times: by the carrier's own event, by an RTP telephone event (RFC 4733) and by its
tone in the audio. They come up to a second or two apart, in any order, and each source may miss a press.

The rule counts presses; it does not suppress by time. What was passed on is kept for a while, with the
sources that told of it. A source that tells of a digit

* settles the oldest kept press of that digit of which it has not told yet, and nothing is passed on;
* or, when it has told of all of them, tells of a new press, which is passed on.

So "11" pressed twice is twice "1" although each source tells of it: the second telling by one source never
settles what its first one did. The answer has, per digit, at least as many presses as the source that missed
fewest told of, and no more than were made, as long as no two sources tell of a press further apart than the
window. What cannot be told from one press counts as one: the same digit pressed twice within the window, of
which one source missed the first and the other the second. Digits come in the order in which they were first
told of.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

__all__ = ["DigitMerger", "DigitSource"]

WINDOW_S = 2.5
"""By how much one source may be later than another; carriers' events are seen up to 2 s after the tone."""
BATCH_MAX = 32
"""Digits told at once that widen the window; more are told at once by no one who types."""
PRESSES_KEPT = 512
"""Bounds the memory of a call under a flood; a thumb makes ten a second."""


class DigitSource(Enum):
    """Who tells of a key press."""

    CARRIER = "carrier"
    """An event of the carrier's protocol."""
    TELEPHONE_EVENT = "telephone_event"
    """RTP, RFC 4733."""
    IN_BAND = "in_band"
    """The tone, found in the audio."""


@dataclass(slots=True, repr=False)
class _Press:
    digit: str
    at: float
    told_by: set[DigitSource]


class DigitMerger:
    """Makes one stream of the digits of all sources of a call. ``now`` is monotonic seconds."""

    __slots__ = ("_presses", "_window_s", "settled_count")

    def __init__(self, *, window_s: float = WINDOW_S) -> None:
        """Prepare for a call.

        Args:
            window_s: by how much one source may be later than another, more than 0.

        Raises:
            ValueError: ``window_s`` is not positive.
        """
        if not window_s > 0:
            raise ValueError(f"a window of more than 0 s expected, got {window_s}")
        self._window_s = window_s
        self._presses: deque[_Press] = deque(maxlen=PRESSES_KEPT)
        self.settled_count = 0
        """Digits not passed on, as another source had told of their press."""

    def signalled(self, digits: str, now: float) -> str:
        """Take digits of a carrier's event; gives those to pass on."""
        return self.receive(DigitSource.CARRIER, digits, now)

    def heard(self, digits: str, now: float) -> str:
        """Take digits found in the audio; gives those to pass on."""
        return self.receive(DigitSource.IN_BAND, digits, now)

    def receive(self, source: DigitSource, digits: str, now: float) -> str:
        """Take digits that a source tells of now, in the order of their presses.

        A source that collects digits and tells them together is later with the first than with the last:
        each of n digits may be n windows late.

        Returns:
            Those that are new, in the same order.
        """
        self._forget(now)
        oldest = now - self._window_s * min(len(digits), BATCH_MAX)
        return "".join(digit for digit in digits if self._is_new(source, digit, now, oldest))

    def _is_new(self, source: DigitSource, digit: str, now: float, oldest: float) -> bool:
        for press in self._presses:
            if press.digit == digit and press.at >= oldest and source not in press.told_by:
                press.told_by.add(source)
                self.settled_count += 1
                return False
        self._presses.append(_Press(digit, now, {source}))
        return True

    def _forget(self, now: float) -> None:
        horizon = now - self._window_s * BATCH_MAX
        while self._presses and self._presses[0].at < horizon:
            self._presses.popleft()
