"""The Realtime codec: whatever a model's socket says, line by line, gives events or the documented error."""

from fastagent.errors import MalformedMessageError
from fastagent.wire.openai_realtime import RealtimeCodec
from fastagent.wire.realtime_dialects import Dialect
from fastagent.wire.realtime_events import FunctionCall, ItemAdded, ModelNotice


def check(data: bytes) -> None:
    """A line is a message; both dialects read it."""
    for dialect in Dialect:
        codec = RealtimeCodec(dialect)
        calls: list[str] = []
        items: list[str] = []
        for line in data.split(b"\n"):
            try:
                events = codec.receive(line)
            except MalformedMessageError:
                continue
            for event in events:
                repr(event)
                match event:
                    case FunctionCall(call_id=call_id):
                        assert call_id
                        calls.append(call_id)
                    case ItemAdded(item_id=item_id):
                        items.append(item_id)
                    case ModelNotice(name=name):
                        assert 0 < len(name) <= 64
                        assert name.isascii()
        assert len(set(calls)) == len(calls)
        assert len(set(items)) == len(items)
