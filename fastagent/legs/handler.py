"""What a native leg reports to."""

from typing import Protocol

__all__ = ["LegHandler"]


class LegHandler(Protocol):
    """Hears of one WebSocket. Methods run on the loop, inside the frame callback, and return at once."""

    def on_open(self) -> None:
        """Messages may be sent."""

    def on_message(self, data: bytes, is_text: bool) -> None:
        """A whole message that no pump took."""

    def on_closed(self, code: int, reason: str) -> None:
        """The connection is over (once). 1005: closed without a code; 1006: lost."""

    def on_writable(self) -> None:
        """The peer reads again after it had not."""

    def on_queued(self) -> None:
        """The pump holds audio back until it is due."""
