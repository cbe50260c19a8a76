"""The carrier's side of a call: messages of one socket become events for whoever holds it."""

import logging
from collections.abc import Callable, Iterable

from fastagent._native.listener import Leg
from fastagent.errors import MalformedMessageError, WireError
from fastagent.stats import Counters
from fastagent.wire.events import (
    CarrierCodec,
    CarrierCommand,
    CarrierEvent,
    EndReason,
    HandedOver,
    HangUp,
    SessionEnded,
    TransferCall,
)

__all__ = ["CarrierSocket"]

logger = logging.getLogger("fastagent.carrier")


READ_BYTES_MAX = 65_536
"""The longest message that is parsed. Audio is not: it may be as long as the socket takes."""


class CarrierSocket:
    """One WebSocket of a carrier, with its codec.

    ``on_event`` and ``on_lost`` may be changed while the socket lives: first the switchboard holds it, then
    the call. A message that cannot be read is counted; after ``bad_message_limit`` of them the socket closes.
    """

    def __init__(self, codec: CarrierCodec, *, bad_message_limit: int, counters: Counters) -> None:
        self.codec = codec
        self.leg: Leg | None = None
        self.on_event: Callable[[CarrierEvent], None] = _ignore_event
        self.on_lost: Callable[[int, str], None] = _ignore_end
        self.hand_over: Callable[[TransferCall], None] | None = None
        """How the caller is handed on where the socket has no word for it: it closes after this."""
        self._ends_as: HandedOver | SessionEnded | None = None
        """What the close means that we have begun, where it is more than a loss."""
        self._bad_message_limit = bad_message_limit
        self._bad_messages = 0
        self._counters = counters
        self._message = b""
        self._divert: Callable[[bytes], None] | None = None

    def send(self, command: CarrierCommand) -> None:
        """Put a command on the wire."""
        if self.leg is None:
            return
        if self.hand_over is not None and isinstance(command, TransferCall):
            self.hand_over(command)
            self._ends_as = HandedOver()
            self.close(1000, "handed over")
            return
        for message in self.codec.send(command):
            self.leg.send(message)
        if self.codec.closing_hangs_up and isinstance(command, HangUp):
            self._ends_as = SessionEnded(EndReason.BOT)
            self.close(1000, "hang up")
        elif self.codec.may_close:
            self.close(1000, "session over")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake."""
        if self.leg is not None:
            self.leg.close(code, reason)

    def divert(self, to: Callable[[bytes], None]) -> bytes:
        """Have all further messages go to ``to`` as they come; gives the one that is being told of."""
        self._divert = to
        return self._message

    def divert_no_more(self, held: Iterable[bytes] = ()) -> None:
        """Take messages here again, those first that were ``held`` meanwhile."""
        self._divert = None
        for message in held:
            self.on_message(message, True)

    # What the native leg reports

    def on_open(self) -> None:
        """The first message is the carrier's."""

    def on_message(self, data: bytes, is_text: bool) -> None:
        """Decode, acknowledge, pass on."""
        if self._ends_as is not None:
            return
        if self._divert is not None:
            self._divert(data)
            return
        try:
            if len(data) > READ_BYTES_MAX:
                raise MalformedMessageError("carrier", f"longer than {READ_BYTES_MAX} bytes")
            events = self.codec.receive(data)
        except WireError as error:
            self._bad_messages += 1
            self._counters.note("carrier_malformed")
            if self._bad_messages <= 3:
                logger.warning("message refused: %s", str(error))
            self._reply()
            if self._bad_messages >= self._bad_message_limit:
                self.close(1008, "too many malformed messages")
            return
        self._reply()
        self._message = data
        for event in events:
            self.on_event(event)
        self._message = b""

    def _reply(self) -> None:
        for message in self.codec.messages_to_send():
            if self.leg is not None:
                self.leg.send(message)

    def on_closed(self, code: int, reason: str) -> None:
        """Tell the holder once."""
        on_event, on_lost = self.on_event, self.on_lost
        self.on_lost, self.on_event = _ignore_end, _ignore_event
        if self._ends_as is not None:
            on_event(self._ends_as)
        else:
            on_lost(code, reason)

    def on_writable(self) -> None:
        """The playout tick goes on by itself."""

    def on_queued(self) -> None:
        """Caller audio is never queued here: it is kept by the uplink."""


def _ignore_event(event: CarrierEvent) -> None:
    """Nobody holds the socket."""


def _ignore_end(code: int, reason: str) -> None:
    """Nobody holds the socket."""
