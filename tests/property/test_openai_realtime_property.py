"""Whatever a server sends, the Realtime codec raises one documented error and keeps its promises."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastagent.errors import MalformedMessageError
from fastagent.wire.openai_realtime import _HANDLERS, RealtimeCodec
from fastagent.wire.realtime_dialects import GA_NAMES
from fastagent.wire.realtime_events import FunctionCall, ItemAdded, ModelEvent, ModelNotice, ResponseDone

KINDS = [*_HANDLERS, *GA_NAMES, "response.content_part.added", "never.heard.of"]
KEYS = [
    "item", "response", "session", "error", "item_id", "response_id", "call_id", "name", "arguments", "delta",
    "transcript", "text", "audio_start_ms", "audio_end_ms", "rate_limits", "id", "type", "status", "output",
    "status_details", "usage", "metadata", "conversation_id", "content", "role", "code", "message",
    "input_token_details", "expires_at", "reason", "event_id",
]  # fmt: skip
WORDS = st.sampled_from(
    ["i1", "i2", "r1", "c1", "c2", "function_call", "completed", "cancelled", "failed", "{}", '{"a":']
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
EVENTS = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
)


def wire(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()  # NaN and lone surrogates included: what JSON forbids must not hurt


def receive_all(messages: list[bytes]) -> list[ModelEvent]:
    codec = RealtimeCodec()
    events: list[ModelEvent] = []
    for message in messages:
        try:
            events += codec.receive(message)
        except MalformedMessageError:
            pass
    return events


@given(st.lists(EVENTS, max_size=12))
def test_any_event_is_survived_and_calls_and_items_are_told_once(sequence: list[dict[str, Any]]) -> None:
    events = receive_all([wire(event) for event in sequence])
    calls = [event for event in events if isinstance(event, FunctionCall)]
    assert len({call.call_id for call in calls}) == len(calls)
    assert all(call.call_id for call in calls)
    added = [event.item_id for event in events if isinstance(event, ItemAdded)]
    assert len(set(added)) == len(added)
    for event in events:
        if isinstance(event, ModelNotice):
            assert 0 < len(event.name) <= 64
            assert event.name.isascii()
        if isinstance(event, ResponseDone):
            assert set(event.function_calls) <= set(calls)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(message: bytes) -> None:
    receive_all([message])


@given(EVENTS, st.data())
def test_a_damaged_event_is_survived(event: dict[str, Any], data: st.DataObject) -> None:
    message = bytearray(wire(event))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    receive_all([bytes(message), bytes(message[:cut])])


ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3).map(
    json.dumps
)


@given(ARGUMENTS, st.data())
def test_a_call_cut_anywhere_is_never_given_unless_its_response_completed(
    arguments: str, data: st.DataObject
) -> None:
    cut = arguments[: data.draw(st.integers(0, len(arguments) - 1))]
    item = {"id": "i1", "type": "function_call", "call_id": "c1", "name": "book", "arguments": cut}
    status = data.draw(st.sampled_from(["cancelled", "incomplete", "failed"]))
    messages = [
        wire({"type": "response.function_call_arguments.done", "response_id": "r1", **item} | {
            "type": "response.function_call_arguments.done", "item_id": "i1"
        }),
        wire({"type": "response.output_item.done", "response_id": "r1", "item": item}),
        wire({"type": "response.done", "response": {"id": "r1", "status": status, "output": [item]}}),
    ]  # fmt: skip
    assert not any(isinstance(event, FunctionCall) for event in receive_all(messages))


@given(ARGUMENTS, st.permutations(range(3)))
def test_a_whole_call_is_given_once_whatever_order_it_is_told_in(arguments: str, order: list[int]) -> None:
    item = {"id": "i1", "type": "function_call", "call_id": "c1", "name": "book", "arguments": arguments}
    done = {"item_id": "i1", "response_id": "r1", "call_id": "c1", "name": "book", "arguments": arguments}
    messages = [
        wire({**done, "type": "response.function_call_arguments.done"}),
        wire({"type": "response.output_item.done", "response_id": "r1", "item": item}),
        wire({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [item]}}),
    ]
    events = receive_all([messages[place] for place in order])
    assert [event for event in events if isinstance(event, FunctionCall)] == [
        FunctionCall("c1", "book", arguments, "r1", "i1")
    ]
