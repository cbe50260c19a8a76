"""The Twilio codec: whatever a carrier says, line by line, gives events or the documented error."""

import json

from fastagent.errors import WireError
from fastagent.wire.events import (
    AbortPlayback,
    AcceptSession,
    ClosePlayback,
    DtmfReceived,
    OpenPlayback,
    PlaybackFinished,
    RefuseSession,
    SessionEnded,
    SessionOffered,
)
from fastagent.wire.twilio import TWILIO_MEDIA, TwilioCodec


def check(data: bytes) -> None:
    """A line is a message; a call that is offered is taken, and plays something now and then."""
    codec = TwilioCodec()
    is_taken = has_ended = False
    playing = finished = 0
    for at, line in enumerate(data.split(b"\n")):
        try:
            events = codec.receive(line)
        except WireError:
            events = []
        had_ended = has_ended
        for event in events:
            assert not had_ended or type(event).__name__ == "IgnoredMessage"
            repr(event)
            match event:
                case SessionOffered(offers=offers) if offers:
                    assert codec.send(AcceptSession(offers[0])) == []
                    is_taken = True
                case SessionOffered():
                    assert codec.send(RefuseSession("no format")) == []
                    has_ended = True
                case DtmfReceived(digits=digit):
                    assert len(digit) == 1
                    assert digit in "0123456789*#ABCD"
                case PlaybackFinished(playback_id):
                    assert playback_id is not None
                    number = int(playback_id.removeprefix("p"))
                    assert finished < number <= playing or number < finished
                    finished = number
                case SessionEnded():
                    has_ended = True
        assert codec.may_close is has_ended
        if is_taken and not has_ended:
            playing += 1
            assert codec.send(OpenPlayback(f"p{playing}", TWILIO_MEDIA)) == []
            sent = codec.send(ClosePlayback(f"p{playing}"))
            sent += codec.send(AbortPlayback()) if at % 3 == 0 else []
            for message in sent:
                assert json.loads(message)["event"] in ("mark", "clear")
