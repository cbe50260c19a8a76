"""The scripted Realtime server itself: what it accepts, what it refuses, what it says in which order."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import picows
import pytest

from fastagent.testing.realtime_model import ModelSession, RealtimeModel, tone


class Client(picows.WSListener):
    """A client that sends what it is told and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.happened = asyncio.Event()
        self.transport: picows.WSTransport | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            self.close_code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            transport.disconnect()
        else:
            self.heard.append(orjson.loads(frame.get_payload_as_bytes()))
            self.happened.set()

    def send(self, event: dict[str, Any]) -> None:
        assert self.transport is not None
        self.transport.send(picows.WSMsgType.TEXT, orjson.dumps(event))

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.heard]


async def connected(model: RealtimeModel) -> tuple[Client, ModelSession]:
    client = Client()
    await picows.ws_connect(lambda: client, model.url)
    await model.wait_until(lambda: model.sessions and model.sessions[-1].is_open)
    return client, model.sessions[-1]


async def heard(client: Client, claim: Callable[[Client], object]) -> None:
    async with asyncio.timeout(5):
        while not claim(client):
            client.happened.clear()
            await client.happened.wait()


Scenario = Callable[[RealtimeModel, Client, ModelSession], Awaitable[None]]


def run(scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), RealtimeModel(**options) as model:
            await scenario(model, *await connected(model))

    asyncio.run(main())


def message(text: str = "hello", **item: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": content, **item},
    }


def test_session_is_announced_first_and_updates_are_echoed_whole() -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        update = {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
        client.send({"type": "session.update", "session": update})
        await session.wait_until(lambda one: one.is_configured)
        await heard(client, lambda one: "session.updated" in one.kinds())
        assert client.kinds() == ["session.created", "session.updated"]
        echoed = client.heard[1]["session"]["audio"]
        assert echoed["input"]["format"] == {"type": "audio/pcmu"}
        assert echoed["output"]["format"] == {"type": "audio/pcm", "rate": 24_000}
        assert session.input_format.bytes_per_ms == 8

    run(scenario)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"type": "no.such.event"}, "invalid_value"),
    ({"type": "session.update"}, "missing_required_parameter"),
    ({"type": "session.update", "session": {}}, "missing_required_parameter"),
    ({"type": "session.update", "session": {"type": "realtime", "voice": "x"}}, "unknown_parameter"),
    (
        {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio", "text"]}},
        "invalid_value",
    ),
    (
        {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"format": "pcm16"}}}},
        "invalid_type",
    ),
    ({"type": "input_audio_buffer.append", "audio": "***"}, "invalid_value"),
    ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "invalid_value"),
    ({"type": "input_audio_buffer.append", "audio": "AAA=", "extra": 1}, "unknown_parameter"),
    ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
    (
        {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1},
        "item_truncate_invalid_item_id",
    ),
    (
        {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1.5},
        "invalid_type",
    ),
    ({"type": "conversation.item.delete", "item_id": "x"}, "item_delete_invalid_item_id"),
    (message(role="assistant"), "invalid_value"),
    (
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "c", "output": "{}"},
        },
        "invalid_tool_call_id",
    ),
    ({"type": "response.cancel"}, "response_cancel_not_active"),
    ({"type": "response.create", "response": {"modalities": ["audio"]}}, "unknown_parameter"),
]


@pytest.mark.parametrize(("event", "code"), REFUSED)
def test_wrong_event_is_refused_with_its_id_and_the_session_goes_on(event: dict[str, Any], code: str) -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        client.send(event | {"event_id": "mine"})
        client.send(message())
        await heard(client, lambda one: "conversation.item.done" in one.kinds())
        assert [refusal.partition(":")[0] for refusal in session.refusals] == [code]
        [error] = [one["error"] for one in client.heard if one["type"] == "error"]
        assert error["code"] == code
        assert error["event_id"] == "mine"

    run(scenario)


def test_response_comes_in_the_order_of_the_protocol() -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        client.send({"type": "response.create"})
        await heard(client, lambda one: "response.done" in one.kinds())
        assert client.kinds()[1:] == [
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        deltas = [one["delta"] for one in client.heard if one["type"] == "response.output_audio.delta"]
        assert b"".join(map(base64.b64decode, deltas)) == tone(200)

    run(scenario)


def test_one_response_at_a_time_and_a_turn_cancels_it() -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        session.speak(tone(500), is_last=False)
        client.send({"type": "response.create"})
        await session.wait_until(lambda one: one.refusals)
        assert "already_has_active_response" in session.refusals[0]
        session.speech_started()
        await heard(client, lambda one: "response.done" in one.kinds())
        done = client.heard[-1]["response"]
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        session.speech_stopped("hello")
        await heard(client, lambda one: one.kinds().count("response.done") == 2)
        assert "conversation.item.input_audio_transcription.completed" in client.kinds()

    run(scenario)


def test_truncation_may_not_be_longer_than_the_item() -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        item_id = session.speak(tone(300))
        truncate = {"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0}
        for end_ms in (200, 201, 200):
            client.send(truncate | {"audio_end_ms": end_ms})
        await session.wait_until(lambda one: len(one.sent("conversation.item.truncate")) == 3)
        assert len(session.refusals) == 1
        assert session.items[item_id].truncated_ms == 200

    run(scenario)


def test_function_call_is_told_three_times_and_takes_its_output() -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        call_id = session.call_function("look_up", {"day": "today"})
        await heard(client, lambda one: "response.done" in one.kinds())
        told = [one for one in client.heard if '"arguments":"{\\"day' in orjson.dumps(one).decode()]
        assert [one["type"] for one in told] == [
            "response.function_call_arguments.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        output = {"type": "function_call_output", "call_id": call_id, "output": "{}"}
        client.send({"type": "conversation.item.create", "item": output})
        await session.wait_until(lambda one: one.sent("conversation.item.create"))
        assert session.refusals == []

    run(scenario)


def test_beta_names_are_used_on_request() -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        session.speak(tone(100))
        await heard(client, lambda one: "response.done" in one.kinds())
        assert "response.audio.delta" in client.kinds()
        assert "response.output_audio.delta" not in client.kinds()

    run(scenario, speaks_beta=True)


FAULTS: list[tuple[Callable[[ModelSession], None], int | None]] = [
    (lambda session: session.drop(1012), 1012),
    (lambda session: session.expire(), 1001),
    (lambda session: session.reset(), None),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_socket_is_dropped_as_told(fault: Callable[[ModelSession], None], code: int | None) -> None:
    async def scenario(model: RealtimeModel, client: Client, session: ModelSession) -> None:
        fault(session)
        assert client.transport is not None
        await client.transport.wait_disconnected()
        await session.wait_until(lambda one: not one.is_open)
        assert client.close_code == code
        assert ("error" in client.kinds()) is (code == 1001)

    run(scenario)


def test_upgrades_are_refused_counted_and_need_the_key() -> None:
    async def main() -> None:
        async with RealtimeModel(api_key="right") as model:
            model.refuse(429)
            for key, status in (("right", 429), ("wrong", 401), ("right", None)):
                headers = {"Authorization": f"Bearer {key}"}
                if status is None:
                    await picows.ws_connect(Client, model.url, extra_headers=headers)
                    continue
                with pytest.raises(picows.WSInvalidStatusError) as error:
                    await picows.ws_connect(Client, model.url, extra_headers=headers)
                assert error.value.response is not None
                assert int(error.value.response.status) == status
            assert len(model.upgrades) == 3
            assert len(model.sessions) == 1

    asyncio.run(main())
