"""The Realtime codec: each server event, thin and whole; each command, held against the SDK's types."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from openai.types.realtime import RealtimeClientEventParam, RealtimeServerEvent
from pydantic import TypeAdapter

from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_16K, PCM16_24K, AudioFormat
from fastagent.errors import MalformedMessageError, UnsupportedMediaError
from fastagent.wire.openai_realtime import (
    APPEND_TEMPLATE,
    AUDIO_MEDIA,
    CREATE_RESPONSE_ID,
    Dialect,
    RealtimeCodec,
    request_named,
)
from fastagent.wire.realtime_events import (
    AppendAudio,
    AudioDone,
    BotTranscript,
    CallerTranscript,
    CancelResponse,
    ClearInput,
    CommitInput,
    CreateItem,
    CreateResponse,
    DeleteItem,
    FunctionCall,
    InputCleared,
    InputCommitted,
    InputTimeout,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemTruncated,
    ModelCommand,
    ModelError,
    ModelEvent,
    ModelNotice,
    RateLimits,
    ResponseCreated,
    ResponseDone,
    ResponseStatus,
    SessionCreated,
    SessionSettings,
    SessionUpdated,
    Severity,
    SpeechStarted,
    SpeechStopped,
    TruncateItem,
    TurnDetection,
    UpdateSession,
    Usage,
)

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
CLIENT_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEventParam)
IDS = {"response_id": "r1", "item_id": "i1", "output_index": 0, "content_index": 0}
SETTINGS = SessionSettings(input_format=MULAW_8K, output_format=MULAW_8K)


def receive(codec: RealtimeCodec, kind: str, /, **fields: Any) -> list[ModelEvent]:
    return codec.receive(json.dumps({"type": kind, "event_id": "event_1", **fields}).encode())


def sent(codec: RealtimeCodec, command: ModelCommand) -> dict[str, Any]:
    event = json.loads(codec.send(command))
    assert isinstance(event, dict)
    return event


def as_validated(value: Any) -> Any:
    """What the SDK's types make of an event: unknown fields are gone, lazy iterables are lists."""
    if isinstance(value, Mapping):
        return {key: as_validated(one) for key, one in value.items()}
    if isinstance(value, str | int | float | None):
        return value
    return [as_validated(one) for one in value]


def assert_ga(event: dict[str, Any]) -> None:
    assert as_validated(CLIENT_EVENT.validate_python(event)) == event


def message_item(item_id: str, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "role": role, "status": "completed", "content": content}


def call_item(arguments: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": "i9", "type": "function_call", "call_id": "c1", "name": "book", "arguments": arguments, **fields
    }  # fmt: skip


def arguments_done(codec: RealtimeCodec, item: dict[str, Any]) -> list[ModelEvent]:
    fields = {name: item[name] for name in ("call_id", "name", "arguments")}
    return receive(codec, "response.function_call_arguments.done", **{**IDS, "item_id": item["id"], **fields})


USER_ITEM = message_item("i1", "user", [{"type": "input_audio", "transcript": None}])
BOT_ITEM = message_item("i2", "assistant", [{"type": "output_audio", "transcript": "Good morning"}])

WHOLE_EVENTS: list[tuple[str, dict[str, Any], list[ModelEvent]]] = [
    (
        "session.created",
        {"session": {"type": "realtime", "id": "sess_1", "expires_at": 1767610800}},
        [SessionCreated("sess_1", 1767610800.0)],
    ),
    ("session.updated", {"session": {"type": "realtime", "expires_at": 5}}, [SessionUpdated(5.0)]),
    ("conversation.created", {"conversation": {"id": "conv_1"}}, [ModelNotice("conversation.created")]),
    ("conversation.item.added", {"item": USER_ITEM}, [ItemAdded("i1", "message", "user")]),
    ("conversation.item.created", {"item": USER_ITEM}, [ItemAdded("i1", "message", "user")]),
    ("conversation.item.done", {"item": BOT_ITEM}, [ItemDone("i2", "message", "assistant", "Good morning")]),
    ("conversation.item.retrieved", {"item": USER_ITEM}, [ModelNotice("conversation.item.retrieved")]),
    (
        "conversation.item.truncated",
        {"item_id": "i2", "content_index": 0, "audio_end_ms": 1480},
        [ItemTruncated("i2", 1480)],
    ),
    ("conversation.item.deleted", {"item_id": "i2"}, [ItemDeleted("i2")]),
    (
        "conversation.item.input_audio_transcription.delta",
        {"item_id": "i1", "content_index": 0, "delta": "half past"},
        [CallerTranscript("i1", "half past", is_final=False)],
    ),
    (
        "conversation.item.input_audio_transcription.completed",
        {
            "item_id": "i1",
            "content_index": 0,
            "transcript": "half past nine",
            "usage": {"type": "duration", "seconds": 2},
        },
        [CallerTranscript("i1", "half past nine")],
    ),
    (
        "conversation.item.input_audio_transcription.failed",
        {"item_id": "i1", "content_index": 0, "error": {"code": "audio_unintelligible"}},
        [ModelNotice("conversation.item.input_audio_transcription.failed")],
    ),
    ("input_audio_buffer.committed", {"item_id": "i1"}, [InputCommitted("i1")]),
    ("input_audio_buffer.cleared", {}, [InputCleared()]),
    (
        "input_audio_buffer.speech_started",
        {"audio_start_ms": 1240, "item_id": "i1"},
        [SpeechStarted("i1", 1240)],
    ),
    (
        "input_audio_buffer.speech_stopped",
        {"audio_end_ms": 2900, "item_id": "i1"},
        [SpeechStopped("i1", 2900)],
    ),
    (
        "input_audio_buffer.timeout_triggered",
        {"audio_start_ms": 0, "audio_end_ms": 6000, "item_id": "i1"},
        [InputTimeout("i1")],
    ),
    (
        "response.created",
        {"response": {"id": "r1", "conversation_id": "conv_1", "metadata": {"why": "greeting"}}},
        [ResponseCreated("r1", metadata={"why": "greeting"})],
    ),
    (
        "response.output_item.added",
        {**IDS, "item": {**BOT_ITEM, "content": []}},
        [ItemAdded("i2", "message", "assistant")],
    ),
    (
        "response.output_item.done",
        {**IDS, "item": BOT_ITEM},
        [ItemDone("i2", "message", "assistant", "Good morning")],
    ),
    (
        "response.content_part.added",
        {**IDS, "part": {"type": "audio"}},
        [ModelNotice("response.content_part.added")],
    ),
    (
        "response.content_part.done",
        {**IDS, "part": {"type": "audio"}},
        [ModelNotice("response.content_part.done")],
    ),
    ("response.output_text.delta", {**IDS, "delta": "Good"}, [BotTranscript("r1", "i1", "Good")]),
    ("response.output_text.done", {**IDS, "text": "Good day"}, [BotTranscript("r1", "i1", "Good day", True)]),
    ("response.output_audio.delta", {**IDS, "delta": "AAAA"}, [ModelNotice("response.output_audio.delta")]),
    ("response.output_audio.done", IDS, [AudioDone("r1", "i1")]),
    ("response.output_audio_transcript.delta", {**IDS, "delta": "Good"}, [BotTranscript("r1", "i1", "Good")]),
    (
        "response.output_audio_transcript.done",
        {**IDS, "transcript": "Good day"},
        [BotTranscript("r1", "i1", "Good day", True)],
    ),
    (
        "response.function_call_arguments.delta",
        {**IDS, "call_id": "c1", "delta": "{"},
        [ModelNotice("response.function_call_arguments.delta")],
    ),
    (
        "response.function_call_arguments.done",
        {**IDS, "call_id": "c1", "name": "book", "arguments": '{"day":1}'},
        [FunctionCall("c1", "book", '{"day":1}', "r1", "i1")],
    ),
    (
        "mcp_list_tools.completed",
        {"item_id": "i1"},
        [ModelNotice("mcp_list_tools.completed")],
    ),
    (
        "rate_limits.updated",
        {"rate_limits": [{"name": "requests", "limit": 10, "remaining": 9, "reset_seconds": 1.5}]},
        [RateLimits({"requests": 9.0})],
    ),
    (
        "error",
        {"error": {"type": "server_error", "message": "Oh."}},
        [ModelError(Severity.RETRYABLE, "", "Oh.")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "expected"), WHOLE_EVENTS, ids=[case[0] for case in WHOLE_EVENTS])
def test_each_event_gives_its_neutral_word(
    kind: str, fields: dict[str, Any], expected: list[ModelEvent]
) -> None:
    SERVER_EVENT.validate_python({"type": kind, "event_id": "event_1", **fields})
    assert receive(RealtimeCodec(), kind, **fields) == expected


@pytest.mark.parametrize(
    ("beta", "ga"),
    [
        ("response.audio.delta", "response.output_audio.delta"),
        ("response.audio.done", "response.output_audio.done"),
        ("response.audio_transcript.delta", "response.output_audio_transcript.delta"),
        ("response.audio_transcript.done", "response.output_audio_transcript.done"),
        ("response.text.delta", "response.output_text.delta"),
        ("response.text.done", "response.output_text.done"),
        ("conversation.item.created", "conversation.item.added"),
    ],
)
def test_beta_events_mean_what_their_ga_names_mean(beta: str, ga: str) -> None:
    fields = {**IDS, "delta": "d", "text": "t", "transcript": "s", "item": USER_ITEM}
    assert receive(RealtimeCodec(), beta, **fields) == receive(RealtimeCodec(), ga, **fields)


@pytest.mark.parametrize("kind", [case[0] for case in WHOLE_EVENTS])
def test_an_event_without_any_field_never_raises(kind: str) -> None:
    events = RealtimeCodec().receive(json.dumps({"type": kind}).encode())
    assert all(not isinstance(event, FunctionCall) for event in events)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("session.created", [SessionCreated("")]),
        ("session.updated", [SessionUpdated()]),
        ("input_audio_buffer.speech_started", [SpeechStarted("")]),
        ("input_audio_buffer.speech_stopped", [SpeechStopped("")]),
        ("input_audio_buffer.committed", [InputCommitted("")]),
        ("response.created", [ResponseCreated("")]),
        ("response.done", [ResponseDone("", ResponseStatus.COMPLETED)]),
        ("rate_limits.updated", [RateLimits({})]),
        ("error", [ModelError(Severity.FAULT, "", "")]),
        ("conversation.item.added", [ModelNotice("conversation.item.added")]),
        ("conversation.item.created", [ModelNotice("conversation.item.added")]),
        ("response.output_item.done", [ModelNotice("response.output_item.done")]),
        ("response.text.delta", [ModelNotice("response.output_text.delta")]),
    ],
)
def test_a_thin_event_still_says_what_it_can(kind: str, expected: list[ModelEvent]) -> None:
    assert receive(RealtimeCodec(), kind) == expected


WRONG_VALUES = [None, 7, 1e300, -3, True, "text", "x" * 5000, "line\nbreak", [], [1], {}, {"id": 3}]


@pytest.mark.parametrize("wrong", WRONG_VALUES, ids=repr)
@pytest.mark.parametrize(("kind", "fields", "_"), WHOLE_EVENTS, ids=[case[0] for case in WHOLE_EVENTS])
def test_a_field_of_the_wrong_type_never_raises(
    kind: str, fields: dict[str, Any], _: list[ModelEvent], wrong: Any
) -> None:
    codec = RealtimeCodec()
    for name in fields:
        receive(codec, kind, **{**fields, name: wrong})
        if isinstance(fields[name], dict):
            for inner in fields[name]:
                receive(codec, kind, **{**fields, name: {**fields[name], inner: wrong}})


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b"[]", None),
        (b"null", None),
        (b'"error"', None),
        (b"{}", "type"),
        (b'{"type":7}', "type"),
        (b'{"type":null}', "type"),
        (b"[" * 100_000, None),
    ],
)
def test_a_message_that_is_no_event_is_malformed(message: bytes, field: str | None) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        RealtimeCodec().receive(message)
    assert caught.value.field == field


def test_a_malformed_message_is_not_quoted() -> None:
    with pytest.raises(MalformedMessageError) as caught:
        RealtimeCodec().receive(b'{"transcript": "my secret"')
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("something.new", "something.new"),
        ("", "unknown"),
        ("a b", "unknown"),
        ("line\nbreak", "unknown"),
        ("é", "unknown"),
        ("x" * 200, "x" * 64),
    ],
)
def test_an_unknown_event_is_named_safely(kind: str, name: str) -> None:
    assert receive(RealtimeCodec(), kind) == [ModelNotice(name)]


def test_one_item_gives_one_added_and_one_done_however_often_it_is_told() -> None:
    codec = RealtimeCodec()
    events: list[ModelEvent] = []
    for kind in ("response.output_item.added", "conversation.item.added", "conversation.item.created"):
        events += receive(codec, kind, **IDS, item=BOT_ITEM)
    for kind in ("response.output_item.done", "conversation.item.done"):
        events += receive(codec, kind, **IDS, item=BOT_ITEM)
    assert events == [
        ItemAdded("i2", "message", "assistant"),
        ItemDone("i2", "message", "assistant", "Good morning"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "output_audio", "transcript": "one two"}],
        [{"type": "audio", "transcript": "one two"}],
        [{"type": "output_text", "text": "one two"}],
        [{"type": "text", "text": "one two"}],
        [{"type": "output_text", "text": "one "}, None, {"type": "text", "text": "two"}],
    ],
)
def test_the_text_of_an_item_is_found_under_either_dialects_content_type(content: list[Any]) -> None:
    item = message_item("i2", "assistant", content)
    assert receive(RealtimeCodec(), "conversation.item.done", item=item) == [
        ItemDone("i2", "message", "assistant", "one two")
    ]


# Function calls


def test_a_call_told_three_times_is_given_once() -> None:
    codec = RealtimeCodec()
    item = call_item('{"day":1}')
    call = FunctionCall("c1", "book", '{"day":1}', "r1", "i9")
    ids = {"response_id": "r1", "item_id": "i9", "output_index": 1, "call_id": "c1"}
    receive(codec, "response.output_item.added", **ids, item={**item, "arguments": ""})
    told = receive(codec, "response.function_call_arguments.done", **ids, arguments='{"day":1}')
    assert told == [call]  # the name came with the item
    assert receive(codec, "response.output_item.done", **ids, item=item) == [ItemDone("i9", "function_call")]
    response = {"id": "r1", "status": "completed", "output": [item]}
    assert receive(codec, "response.done", response=response) == [
        ResponseDone("r1", ResponseStatus.COMPLETED, function_calls=(call,))
    ]
    # A server that repeats itself later does not have it run again either.
    again = receive(codec, "response.function_call_arguments.done", **ids, name="book", arguments="{}")
    assert again == []


def test_a_call_told_only_at_the_end_is_given_before_the_end() -> None:
    response = {"id": "r1", "status": "completed", "output": [BOT_ITEM, call_item("{}"), None, "x"]}
    events = receive(RealtimeCodec(), "response.done", response=response)
    call = FunctionCall("c1", "book", "{}", "r1", "i9")
    assert events == [call, ResponseDone("r1", ResponseStatus.COMPLETED, function_calls=(call,))]


def test_several_calls_of_one_response_are_all_listed() -> None:
    codec = RealtimeCodec()
    first, second = call_item("{}"), call_item("{}", id="i10", call_id="c2", name="look_up")
    receive(codec, "response.output_item.done", response_id="r1", item=first)
    response = {"id": "r1", "status": "completed", "output": [first, second]}
    *given, done = receive(codec, "response.done", response=response)
    assert [call.call_id for call in given if isinstance(call, FunctionCall)] == ["c2"]
    assert isinstance(done, ResponseDone)
    assert [call.call_id for call in done.function_calls] == ["c1", "c2"]


@pytest.mark.parametrize("status", ["cancelled", "incomplete", "failed", "something_new"])
@pytest.mark.parametrize("arguments", ['{"day":', "", "[1]", "7", '"text"', None])
def test_a_cut_call_of_an_unfinished_response_is_never_given(status: str, arguments: str | None) -> None:
    codec = RealtimeCodec()
    item = call_item("") | {"arguments": arguments}
    assert arguments_done(codec, item) == []
    receive(codec, "response.output_item.done", **IDS, item=item)
    response = {"id": "r1", "status": status, "output": [item]}
    (done,) = receive(codec, "response.done", response=response)
    assert isinstance(done, ResponseDone)
    assert done.function_calls == ()


def test_a_whole_call_of_a_cancelled_response_is_given() -> None:
    response = {"id": "r1", "status": "cancelled", "output": [call_item('{"day":1}')]}
    call, done = receive(RealtimeCodec(), "response.done", response=response)
    assert isinstance(call, FunctionCall)
    assert isinstance(done, ResponseDone)
    assert done.function_calls == (call,)


@pytest.mark.parametrize(("written", "given"), [("", "{}"), ("  ", "{}"), ('{"a":', '{"a":'), ("[1]", "[1]")])
def test_a_completed_response_gives_even_a_bad_call_for_its_tool_to_refuse(written: str, given: str) -> None:
    codec = RealtimeCodec()
    assert arguments_done(codec, call_item(written)) == []
    response = {"id": "r1", "status": "completed", "output": []}
    call, done = receive(codec, "response.done", response=response)
    assert isinstance(call, FunctionCall)
    assert call.arguments == given
    assert isinstance(done, ResponseDone)
    assert done.function_calls == (call,)


def test_arguments_given_as_an_object_become_text() -> None:
    item = call_item("") | {"arguments": {"day": 1}}
    (done, call) = receive(RealtimeCodec(), "response.output_item.done", response_id="r1", item=item)
    assert isinstance(done, ItemDone)
    assert isinstance(call, FunctionCall)
    assert json.loads(call.arguments) == {"day": 1}


def test_a_call_without_an_id_is_not_given() -> None:
    codec = RealtimeCodec()
    item = call_item("{}", call_id=None)
    receive(codec, "response.output_item.done", response_id="r1", item=item)
    events = receive(codec, "response.done", response={"id": "r1", "output": [item]})
    assert events == [ResponseDone("r1", ResponseStatus.COMPLETED)]


def test_a_replayed_call_that_the_server_echoes_does_not_run_again() -> None:
    codec = RealtimeCodec()
    codec.send(CreateItem(Item("function_call", "{}", call_id="c1", name="book", item_id="i9")))
    events = receive(codec, "conversation.item.added", item=call_item("{}"))
    events += receive(codec, "conversation.item.done", item=call_item("{}"))
    assert events == [ItemAdded("i9", "function_call"), ItemDone("i9", "function_call")]


def test_calls_under_way_are_bounded() -> None:
    codec = RealtimeCodec()
    for number in range(500):
        item = call_item("", id=f"i{number}", call_id=f"c{number}")
        receive(codec, "response.output_item.added", response_id=f"r{number}", item=item)
        receive(
            codec, "response.output_item.done", response_id=f"r{number}", item={**item, "arguments": "{}"}
        )
    assert len(codec._calls._drafts) <= 64
    assert len(codec._calls._by_response) <= 64


# Responses


@pytest.mark.parametrize("status", list(ResponseStatus))
def test_the_end_of_a_response_tells_its_status(status: ResponseStatus) -> None:
    (done,) = receive(RealtimeCodec(), "response.done", response={"id": "r1", "status": status.value})
    assert isinstance(done, ResponseDone)
    assert done.status is status


def test_the_end_of_a_response_tells_reason_and_usage() -> None:
    response = {
        "id": "r1",
        "status": "cancelled",
        "status_details": {"type": "cancelled", "reason": "turn_detected"},
        "usage": {
            "total_tokens": 70,
            "input_tokens": 50,
            "output_tokens": 20,
            "input_token_details": {"text_tokens": 33, "audio_tokens": 17, "cached_tokens": 11},
            "output_token_details": {"text_tokens": 6, "audio_tokens": 14},
        },
    }
    SERVER_EVENT.validate_python({"type": "response.done", "event_id": "e", "response": response})
    assert receive(RealtimeCodec(), "response.done", response=response) == [
        ResponseDone(
            "r1",
            ResponseStatus.CANCELLED,
            reason="turn_detected",
            usage=Usage(input_text=33, input_audio=17, input_cached=11, output_text=6, output_audio=14),
        )
    ]


def test_usage_without_details_counts_as_text() -> None:
    response = {"id": "r1", "usage": {"input_tokens": 50, "output_tokens": 20}}
    (done,) = receive(RealtimeCodec(), "response.done", response=response)
    assert isinstance(done, ResponseDone)
    assert done.usage == Usage(input_text=50, output_text=20)


@pytest.mark.parametrize(
    ("error", "code", "severity"),
    [
        ({"type": "x", "code": "rate_limit_exceeded"}, "rate_limit_exceeded", Severity.RETRYABLE),
        ({"code": "inference_rate_limit_exceeded"}, "inference_rate_limit_exceeded", Severity.RETRYABLE),
        ({"code": "insufficient_quota"}, "insufficient_quota", Severity.FATAL),
        ({"type": "server_error"}, "", Severity.RETRYABLE),
        ({"type": "invalid_request_error", "code": "invalid_value"}, "invalid_value", Severity.FAULT),
        (None, "", Severity.RETRYABLE),
    ],
)
def test_a_failed_response_tells_what_the_failure_means(error: Any, code: str, severity: Severity) -> None:
    response = {"id": "r1", "status": "failed", "status_details": {"type": "failed", "error": error}}
    (done,) = receive(RealtimeCodec(), "response.done", response=response)
    assert isinstance(done, ResponseDone)
    assert (done.error_code, done.severity) == (code, severity)


def test_a_response_we_asked_for_out_of_band_is_told_by_its_null_conversation() -> None:
    codec = RealtimeCodec()
    codec.send(CreateResponse(is_out_of_band=True))
    own = receive(codec, "response.created", response={"id": "r1", "conversation_id": "conv_1"})
    aside = receive(codec, "response.created", response={"id": "r2", "conversation_id": None})
    assert own == [ResponseCreated("r1")]
    assert aside == [ResponseCreated("r2", is_out_of_band=True)]


def test_a_response_we_asked_for_out_of_band_is_told_by_its_metadata() -> None:
    codec = RealtimeCodec()
    codec.send(CreateResponse(is_out_of_band=True, metadata={"topic": "summary"}))
    other = receive(codec, "response.created", response={"id": "r1"})
    aside = receive(codec, "response.created", response={"id": "r2", "metadata": {"topic": "summary"}})
    assert other == [ResponseCreated("r1")]
    assert aside == [ResponseCreated("r2", is_out_of_band=True, metadata={"topic": "summary"})]


def test_a_null_conversation_nobody_asked_for_is_a_thin_server() -> None:
    response = {"id": "r1", "conversation_id": None}
    assert receive(RealtimeCodec(), "response.created", response=response) == [ResponseCreated("r1")]


def test_items_of_an_out_of_band_response_join_no_conversation() -> None:
    codec = RealtimeCodec()
    codec.send(CreateResponse(is_out_of_band=True))
    receive(codec, "response.created", response={"id": "r1", "conversation_id": None})
    events = receive(codec, "response.output_item.added", **IDS, item=BOT_ITEM)
    events += receive(codec, "response.output_item.done", **IDS, item=BOT_ITEM)
    assert events == []


# Errors


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            {"code": "invalid_value", "message": "No.", "event_id": "truncate-item-1"},
            ModelError(Severity.FAULT, "invalid_value", "No.", "truncate-item-1"),
        ),
        ({"code": 503, "message": 7}, ModelError(Severity.RETRYABLE, "503", "")),
        ("went wrong", ModelError(Severity.FAULT, "", "went wrong")),
        ({"code": "a b"}, ModelError(Severity.FAULT, "unknown", "")),
    ],
)
def test_an_error_in_any_shape_is_classified(error: Any, expected: ModelError) -> None:
    assert receive(RealtimeCodec(), "error", error=error) == [expected]


def test_a_flat_error_does_not_take_the_servers_event_id_for_ours() -> None:
    events = receive(RealtimeCodec(), "error", code="session_expired", message="Over.")
    assert events == [ModelError(Severity.EXPIRED, "session_expired", "Over.")]


def test_an_error_message_is_cut_and_shows_no_key() -> None:
    message = "Incorrect API key provided: sk-proj-abcdef123456. " + "x" * 5000
    (error,) = receive(RealtimeCodec(), "error", error={"message": message})
    assert isinstance(error, ModelError)
    assert error.severity is Severity.FATAL
    assert "abcdef" not in error.message
    assert len(error.message) <= 300


# Media


def test_the_native_path_is_told_both_delta_names() -> None:
    assert AUDIO_MEDIA.values == ("response.output_audio.delta", "response.audio.delta")
    assert AUDIO_MEDIA.fields == (("response_id",), ("item_id",), ("content_index",))
    assert RealtimeCodec().audio_media is AUDIO_MEDIA
    assert RealtimeCodec().append_template is APPEND_TEMPLATE


def test_audio_from_the_template_and_from_the_command_read_alike() -> None:
    data = bytes(range(160))
    message = RealtimeCodec().send(AppendAudio(data))
    assert message == APPEND_TEMPLATE.message(base64.b64encode(data))
    assert_ga(json.loads(message))


def test_more_audio_than_an_append_may_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        RealtimeCodec().send(AppendAudio(bytes(12 * 1024 * 1024)))


# Commands

COMMANDS: list[tuple[ModelCommand, dict[str, Any]]] = [
    (CommitInput(), {"type": "input_audio_buffer.commit"}),
    (ClearInput(), {"type": "input_audio_buffer.clear"}),
    (CancelResponse(), {"type": "response.cancel"}),
    (CancelResponse("r1"), {"type": "response.cancel", "response_id": "r1"}),
    (DeleteItem("i1"), {"type": "conversation.item.delete", "item_id": "i1"}),
    (
        TruncateItem("i1", 1480),
        {"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 1480},
    ),
    (CreateResponse(), {"type": "response.create"}),
    (
        CreateResponse(
            instructions="Greet.", tool_choice="book", metadata={"why": "greeting"}, modalities=("text",)
        ),
        {
            "type": "response.create",
            "response": {
                "instructions": "Greet.",
                "tool_choice": {"type": "function", "name": "book"},
                "metadata": {"why": "greeting"},
                "output_modalities": ["text"],
            },
        },
    ),
    (
        CreateResponse(is_out_of_band=True, input_items=[Item("message", "Sum up.", role="user")]),
        {
            "type": "response.create",
            "response": {
                "conversation": "none",
                "input": [
                    {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "Sum up."}],
                    }
                ],
            },
        },
    ),
    (
        CreateResponse(input_items=[]),
        {"type": "response.create", "response": {"input": []}},
    ),
    (
        CreateItem(Item("message", "The caller pressed a key.", role="system", item_id="i1")),
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "id": "i1",
                "role": "system",
                "content": [{"type": "input_text", "text": "The caller pressed a key."}],
            },
        },
    ),
    (
        CreateItem(Item("message", "Good day.", role="assistant")),
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Good day."}],
            },
        },
    ),
    (
        CreateItem(Item("function_call", '{"day":1}', call_id="c1", name="book")),
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call", "call_id": "c1", "name": "book", "arguments": '{"day":1}'},
        },
    ),
    (
        CreateItem(Item("function_call_output", "done", call_id="c1")),
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "c1", "output": "done"},
        },
    ),
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=[repr(case[0])[:40] for case in COMMANDS])
def test_each_command_is_written_as_the_published_types_have_it(
    command: ModelCommand, expected: dict[str, Any]
) -> None:
    event = sent(RealtimeCodec(), command)
    assert_ga(event)
    assert event.pop("event_id")
    assert event == expected


def test_the_schema_check_sees_unknown_and_missing_fields() -> None:
    with pytest.raises(AssertionError):
        assert_ga({"type": "response.cancel", "temperature": 1})
    with pytest.raises(ValueError, match="validation error"):
        assert_ga({"type": "conversation.item.delete"})


def test_event_ids_are_unique_short_and_name_what_failed() -> None:
    codec = RealtimeCodec()
    commands = [case[0] for case in COMMANDS] + [UpdateSession(SETTINGS)]
    ids = [sent(codec, command)["event_id"] for command in commands]
    assert len(set(ids)) == len(ids)
    assert all(len(one) <= 512 for one in ids)
    plain, aside = sent(codec, CreateResponse()), sent(codec, CreateResponse(is_out_of_band=True))
    assert plain["event_id"].startswith(CREATE_RESPONSE_ID)
    assert not aside["event_id"].startswith(CREATE_RESPONSE_ID)


def test_event_ids_end_as_asked() -> None:
    assert sent(RealtimeCodec(new_id=lambda: "xyz"), ClearInput())["event_id"] == "clear-input-xyz"


def test_text_that_has_no_utf8_form_is_mended() -> None:
    item = Item("function_call_output", "bad \ud800 text", call_id="c1")
    assert sent(RealtimeCodec(), CreateItem(item))["item"]["output"] == "bad ? text"


TOOL = {
    "type": "function",
    "name": "book",
    "description": "Book it.",
    "parameters": {"type": "object", "properties": {}},
}
FULL = SessionSettings(
    input_format=MULAW_8K,
    output_format=PCM16_24K,
    instructions="You answer the phone.",
    tools=(MappingProxyType({**TOOL, "strict": True}),),
    tool_choice="required",
    voice="marin",
    speed=1.1,
    transcription_model="gpt-4o-mini-transcribe",
    transcription_language="en",
    transcription_prompt="Names of days.",
    noise_reduction="near_field",
    turn_detection=TurnDetection(idle_timeout_ms=6000),
    max_output_tokens=1024,
)


def test_a_full_session_in_ga() -> None:
    event = sent(RealtimeCodec(), UpdateSession(FULL))
    assert_ga(event)
    assert event["session"] == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "You answer the phone.",
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "noise_reduction": {"type": "near_field"},
                "transcription": {
                    "model": "gpt-4o-mini-transcribe",
                    "language": "en",
                    "prompt": "Names of days.",
                },
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 500,
                    "create_response": True,
                    "interrupt_response": True,
                    "idle_timeout_ms": 6000,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.1},
        },
        "tools": [TOOL],
        "tool_choice": "required",
        "max_output_tokens": 1024,
    }


def test_a_full_session_in_beta() -> None:
    event = sent(RealtimeCodec(Dialect.BETA), UpdateSession(FULL))
    assert event["session"] == {
        "modalities": ["audio", "text"],
        "instructions": "You answer the phone.",
        "input_audio_format": "g711_ulaw",
        "output_audio_format": "pcm16",
        "input_audio_transcription": {
            "model": "gpt-4o-mini-transcribe",
            "language": "en",
            "prompt": "Names of days.",
        },
        "input_audio_noise_reduction": {"type": "near_field"},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "create_response": True,
            "interrupt_response": True,
        },
        "tools": [TOOL],
        "tool_choice": "required",
        "voice": "marin",
        "speed": 1.1,
        "max_response_output_tokens": 1024,
    }


def test_a_bare_session_switches_off_what_it_does_not_ask_for() -> None:
    event = sent(RealtimeCodec(), UpdateSession(replace(SETTINGS, turn_detection=TurnDetection("none"))))
    assert_ga(event)
    assert event["session"]["audio"] == {
        "input": {
            "format": {"type": "audio/pcmu"},
            "turn_detection": None,
        },
        "output": {"format": {"type": "audio/pcmu"}},
    }
    assert (event["session"]["instructions"], event["session"]["tools"]) == ("", [])


@pytest.mark.parametrize("dialect", list(Dialect))
def test_what_a_former_update_switched_on_is_switched_off_with_null(dialect: Dialect) -> None:
    codec = RealtimeCodec(dialect)
    sent(codec, UpdateSession(FULL))
    session = sent(codec, UpdateSession(SETTINGS))["session"]
    if dialect is Dialect.GA:
        assert session["audio"]["input"]["noise_reduction"] is None
        assert session["audio"]["input"]["transcription"] is None
    else:
        assert session["input_audio_noise_reduction"] is None
        assert session["input_audio_transcription"] is None
    receive(codec, "session.updated", session={})
    receive(codec, "session.updated", session={})
    once_more = sent(codec, UpdateSession(replace(SETTINGS, instructions="Else.")))
    assert "transcription" not in json.dumps(once_more)


def test_semantic_turn_detection_carries_eagerness_only() -> None:
    detection = TurnDetection("semantic_vad", eagerness="high", interrupt_response=False)
    event = sent(RealtimeCodec(), UpdateSession(replace(SETTINGS, turn_detection=detection)))
    assert_ga(event)
    assert event["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "high",
        "create_response": True,
        "interrupt_response": False,
    }


@pytest.mark.parametrize(
    ("wanted", "ga", "beta"),
    [(("audio",), ["audio"], ["audio", "text"]), (("text", "audio"), ["audio"], ["audio", "text"]),
     (("text",), ["text"], ["text"])],
)  # fmt: skip
def test_modalities_are_one_value_in_ga_and_two_in_beta(
    wanted: tuple[str, ...], ga: list[str], beta: list[str]
) -> None:
    update = UpdateSession(replace(SETTINGS, modalities=wanted))
    assert sent(RealtimeCodec(), update)["session"]["output_modalities"] == ga
    assert sent(RealtimeCodec(Dialect.BETA), update)["session"]["modalities"] == beta


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_tool_choice_by_mode_is_a_word(choice: str, dialect: Dialect) -> None:
    event = sent(RealtimeCodec(dialect), CreateResponse(tool_choice=choice))
    assert event["response"]["tool_choice"] == choice


def test_a_tool_choice_by_name_is_nested_in_beta() -> None:
    event = sent(RealtimeCodec(Dialect.BETA), CreateResponse(tool_choice="book", modalities=("audio",)))
    assert event["response"] == {
        "tool_choice": {"type": "function", "function": {"name": "book"}},
        "modalities": ["audio", "text"],
    }


def test_assistant_text_has_its_beta_content_type_in_beta() -> None:
    event = sent(RealtimeCodec(Dialect.BETA), CreateItem(Item("message", "Hi.", role="assistant")))
    assert event["item"]["content"] == [{"type": "text", "text": "Hi."}]


@pytest.mark.parametrize(
    ("audio_format", "ga"),
    [
        (MULAW_8K, {"type": "audio/pcmu"}),
        (ALAW_8K, {"type": "audio/pcma"}),
        (PCM16_24K, {"type": "audio/pcm", "rate": 24000}),
    ],
)
def test_each_format_of_the_protocol_is_written(audio_format: AudioFormat, ga: dict[str, Any]) -> None:
    settings = SessionSettings(input_format=audio_format, output_format=audio_format)
    event = sent(RealtimeCodec(), UpdateSession(settings))
    assert_ga(event)
    assert event["session"]["audio"]["input"]["format"] == ga
    assert event["session"]["audio"]["output"]["format"] == ga


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_format_the_protocol_lacks_is_refused(dialect: Dialect) -> None:
    settings = SessionSettings(input_format=PCM16_16K, output_format=MULAW_8K)
    with pytest.raises(UnsupportedMediaError, match="pcm16@16000"):
        RealtimeCodec(dialect).send(UpdateSession(settings))


@pytest.mark.parametrize("dialect", list(Dialect))
def test_an_update_names_only_what_changes(dialect: Dialect) -> None:
    codec = RealtimeCodec(dialect)
    sent(codec, UpdateSession(FULL))
    receive(codec, "session.updated", session={})
    kind = {"type": "realtime"} if dialect is Dialect.GA else {}
    event = sent(codec, UpdateSession(replace(FULL, instructions="Ask for the date.")))
    assert event["session"] == {**kind, "instructions": "Ask for the date."}
    receive(codec, "session.updated", session={})
    event = sent(codec, UpdateSession(replace(FULL, instructions="Ask for the date.", tools=())))
    assert event["session"] == {**kind, "tools": []}


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_change_of_turn_detection_names_both_formats_and_no_more(dialect: Dialect) -> None:
    codec = RealtimeCodec(dialect)
    sent(codec, UpdateSession(FULL))
    receive(codec, "session.updated", session={})
    patient = TurnDetection(silence_duration_ms=1000)
    session = sent(codec, UpdateSession(replace(FULL, turn_detection=patient)))["session"]
    if dialect is Dialect.GA:
        assert_ga({"type": "session.update", "session": session})
        assert set(session) == {"type", "audio"}
        assert set(session["audio"]["input"]) == {"format", "turn_detection"}
        assert set(session["audio"]["output"]) == {"format"}
    else:
        assert set(session) == {"turn_detection"}


def test_an_update_without_an_answer_is_not_counted_upon() -> None:
    codec = RealtimeCodec()
    first = sent(codec, UpdateSession(FULL))
    waiting = sent(codec, UpdateSession(replace(FULL, instructions="Else.")))
    assert set(waiting["session"]) == set(first["session"])
    receive(codec, "session.updated", session={})
    back = sent(codec, UpdateSession(FULL))
    assert back["session"]["instructions"] == FULL.instructions  # "Else." may come into force yet


def test_a_refused_update_is_written_again() -> None:
    codec = RealtimeCodec()
    sent(codec, UpdateSession(SETTINGS))
    receive(codec, "session.updated", session={})
    refused = sent(codec, UpdateSession(replace(SETTINGS, instructions="Else.", max_output_tokens=3)))
    receive(codec, "error", error={"type": "invalid_request_error", "event_id": refused["event_id"]})
    again = sent(codec, UpdateSession(replace(SETTINGS, instructions="Else.")))
    assert again["session"] == {"type": "realtime", "instructions": "Else."}


def test_a_bound_on_the_answer_is_taken_back() -> None:
    codec = RealtimeCodec()
    sent(codec, UpdateSession(replace(SETTINGS, max_output_tokens=300, speed=1.2)))
    receive(codec, "session.updated", session={})
    session = sent(codec, UpdateSession(SETTINGS))["session"]
    assert session["max_output_tokens"] == "inf"
    assert session["audio"]["output"]["speed"] == 1.0


def voice_in(codec: RealtimeCodec, voice: str | None) -> str | None:
    session = sent(codec, UpdateSession(replace(SETTINGS, voice=voice)))["session"]
    named = session.get("audio", {"output": {}})["output"].get("voice")
    return str(named) if named is not None else None


def test_the_voice_is_named_until_it_is_in_force() -> None:
    codec = RealtimeCodec()
    assert voice_in(codec, "marin") == "marin"
    assert voice_in(codec, "marin") == "marin"  # not confirmed: the first update may have been refused
    receive(codec, "session.updated", session={})
    assert voice_in(codec, "marin") is None
    assert voice_in(codec, "cedar") == "cedar"


@pytest.mark.parametrize("kind", ["response.output_audio_transcript.delta", "response.audio.delta"])
def test_the_voice_is_not_named_once_the_model_has_spoken(kind: str) -> None:
    codec = RealtimeCodec()
    receive(codec, kind, **IDS, delta="AAAA")
    assert voice_in(codec, "cedar") is None


@pytest.mark.parametrize(
    ("event_id", "request_name"),
    [
        ("truncate-item-17", "truncate-item"),
        ("create-response-my-name-is-ada", "create-response"),
        ("my-name-is-ada", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_request_is_named_without_the_rest_of_its_id(event_id: str | None, request_name: str) -> None:
    assert request_named(event_id) == request_name


def test_every_command_has_an_id_that_names_it() -> None:
    codec = RealtimeCodec(Dialect.GA)
    commands = (
        CreateItem(Item("message", "hi", "user")), CreateResponse(), CreateResponse(is_out_of_band=True),
        CancelResponse(), TruncateItem("a", 1), DeleteItem("a"), CommitInput(), ClearInput(),
        UpdateSession(SessionSettings(PCM16_24K, PCM16_24K)),
    )  # fmt: skip
    for command in commands:
        assert request_named(json.loads(codec.send(command))["event_id"]), command
