"""The AudioCodes codec: whatever a carrier says, line by line, gives events or the documented error."""

import json

from fastagent.errors import WireError
from fastagent.wire.audiocodes import AudioCodesCodec
from fastagent.wire.events import (
    AcceptSession,
    DtmfReceived,
    RefuseSession,
    SessionEnded,
    SessionOffered,
    SessionResumed,
)


def check(data: bytes) -> None:
    """A line is a message; a call that is offered is taken with the first format that fits."""
    codec = AudioCodesCodec()
    media = None
    has_ended = False
    for line in data.split(b"\n"):
        try:
            events = codec.receive(line)
        except WireError:
            events = []
        for event in events:
            assert not has_ended or type(event).__name__ == "IgnoredMessage"
            repr(event)
            match event:
                case SessionOffered(offers=offers) if offers:
                    media = offers[0]
                    assert codec.send(AcceptSession(media))
                case SessionOffered():
                    assert codec.send(RefuseSession("no format"))
                case SessionResumed():
                    assert codec.send(RefuseSession("not here"))
                case DtmfReceived(digits=digits):
                    assert digits
                    assert set(digits) <= set("0123456789*#ABCD")
                case SessionEnded():
                    has_ended = True
        for message in codec.messages_to_send():
            assert isinstance(json.loads(message)["type"], str)
