"""Our own client protocol: whatever a client says, line by line, gives events or an answered error."""

import json

from fastagent.errors import WireError
from fastagent.wire.agentws import AgentCodec
from fastagent.wire.agentws_client import read_server_message
from fastagent.wire.events import (
    AcceptSession,
    CallerAudio,
    DtmfReceived,
    RefuseSession,
    SessionEnded,
    SessionOffered,
    SessionResumed,
)


def check(data: bytes) -> None:
    """A line is a message of a client; read as one of a server, it is an event or an error, too."""
    codec = AgentCodec(agents={"front"}, new_id=lambda: "s")
    has_ended = False
    for line in data.split(b"\n"):
        try:
            events = codec.receive(line)
        except WireError:
            events = []
            [answer] = codec.messages_to_send()
            assert json.loads(answer)["type"] == "error"
        for event in events:
            assert not has_ended or type(event).__name__ == "IgnoredMessage"
            repr(event)
            match event:
                case SessionOffered(offers=offers):
                    assert codec.send(AcceptSession(offers[0]))
                case SessionResumed():
                    assert codec.send(RefuseSession("not here"))
                    has_ended = True
                case CallerAudio(message=message):
                    assert json.loads(message)["type"] == "audio_data"
                case DtmfReceived(digits=digits):
                    assert digits
                    assert set(digits) <= set("0123456789*#ABCD")
                case SessionEnded():
                    has_ended = True
        for message in codec.messages_to_send():
            assert json.loads(message)["type"] == "session_ended"
        try:
            read_server_message(line)
        except WireError:
            pass
