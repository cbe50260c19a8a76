"""RTP telephone events: digits, a counted oddity, or the documented error; never two digits for one event."""

import struct

from fastagent.errors import MalformedMessageError
from fastagent.wire.events import DtmfReceived, IgnoredMessage
from fastagent.wire.telephone_event import EVENTS_MAX, TelephoneEventReceiver

HEAD = struct.Struct(">BBHI")


def check(data: bytes) -> None:
    """Packets one after the other: size of the payload, marker, sequence number, timestamp, payload."""
    receiver = TelephoneEventReceiver()
    while len(data) >= HEAD.size:
        size, marker, sequence_number, timestamp = HEAD.unpack_from(data)
        payload, data = data[HEAD.size : HEAD.size + size % 80], data[HEAD.size + size % 80 :]
        packet = (payload, timestamp, bool(marker & 1), sequence_number)
        try:
            events = receiver.receive(*packet)
        except MalformedMessageError:
            continue
        assert len(events) <= EVENTS_MAX
        assert all(isinstance(event, DtmfReceived | IgnoredMessage) for event in events)
        # The same packet again is about the same events.
        assert not any(isinstance(event, DtmfReceived) for event in receiver.receive(*packet))
