"""What a call makes of a model that drops, stalls, refuses or speaks strangely, and of lost phones."""

import asyncio
import base64
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from fastagent import AFSMState, ConversationContext, FastAgent
from fastagent.afsm.state import StateResult
from fastagent.call import missing_media
from fastagent.errors import LegClosedError, LegConnectError
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LinePhase
from fastagent.testing.fault_proxy import FaultProxy, Shape
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from tests.integration.scene import Scene, chirp, run

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3."""

Break = Callable[[ModelSession], None]

BREAKS: dict[str, Break] = {
    "reset": lambda session: session.reset(),
    "1011": lambda session: session.drop(1011),
    "1012": lambda session: session.drop(1012),
    "1013": lambda session: session.drop(1013),
    "1000": lambda session: session.drop(1000),
    "expired": lambda session: session.expire(),
}
every_break = pytest.mark.parametrize("break_off", BREAKS.values(), ids=BREAKS)
one_break = BREAKS["reset"]


def texts(session: ModelSession) -> list[tuple[str, str]]:
    """What was put into the conversation by the client, in order."""
    found = []
    for event in session.sent("conversation.item.create"):
        item = event["item"]
        text = item.get("output") or item.get("arguments") or item["content"][0]["text"]
        found.append((item.get("role") or item["type"], text))
    return found


def say_tone(session: ModelSession) -> None:
    session.speak(session.tone(100))


async def talk(phone: AudioCodesPhone, session: ModelSession, words: str = "hello?") -> None:
    """One turn of the caller, answered and heard to its end."""
    streams = len(phone.line.streams)
    session.speech_started()
    session.speech_stopped(words)
    await phone.wait_until(
        lambda line: len(line.streams) > streams and line.streams[-1].is_done, "the answer"
    )


# The socket drops


@every_break
def test_drop_while_idle_is_followed_by_a_session_with_the_history(break_off: Break) -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        await talk(phone, first, "my name is in the book")
        break_off(first)
        second = await scene.model.session(1)
        assert second.updates == 1
        assert second.settings["instructions"] == first.settings["instructions"]
        assert texts(second) == [("user", "my name is in the book"), ("assistant", "Hello.")]
        await talk(phone, second)
        await phone.hang_up()
        assert (await scene.summary()).outcome == "caller"

    run(scenario)


@every_break
def test_drop_in_mid_utterance_plays_what_came_and_goes_on(break_off: Break) -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, tap = await scene.call()
        first.speak(first.tone(600), "Your booking is", is_last=False)
        await phone.wait_until(lambda line: line.streams, "the first audio")
        break_off(first)
        second = await scene.model.session(1)
        await second.wait_until(lambda one: one.sent("response.create"), "the wish to go on")
        await phone.wait_until(
            lambda line: line.streams[-1].is_done and len(tap.all_audio) >= 800 * 48, "the rest"
        )
        assert len(tap.all_audio) == (600 + 200) * 48
        assert texts(second) == [("assistant", "Your booking is")]
        await talk(phone, second)

    run(scenario)


def test_drop_during_a_function_call_runs_it_once_and_tells_the_next_session() -> None:
    gate = Gate()

    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        call_id = first.call_function("work", {"request": "please"})
        async with asyncio.timeout(10):
            await gate.entered.wait()
        one_break(first)
        second = await scene.model.session(1)
        assert texts(second) == []
        gate.released.set()
        await second.wait_until(lambda one: one.sent("response.create"), "the outcome")
        kinds = [event["item"]["type"] for event in second.sent("conversation.item.create")]
        assert kinds == ["function_call", "function_call_output"]
        assert {event["item"]["call_id"] for event in second.sent("conversation.item.create")} == {call_id}
        assert "All done." in texts(second)[1][1]
        await phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the words")
        one_break(second)
        third = await scene.model.session(2)
        # What was done is told again as done, and is not done again.
        kinds = [event["item"]["type"] for event in third.sent("conversation.item.create")]
        assert kinds[:2] == ["function_call", "function_call_output"]
        assert gate.entries == 1

    run(scenario, agent=gate.agent())


class Gate:
    """A task that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.released = asyncio.Event()
        self.entries = 0

    def agent(self) -> FastAgent:
        gate = self

        class Work(AFSMState):
            name = "work"
            description = "Works."

            async def process(self, input_text: str, context: ConversationContext) -> StateResult:
                gate.entries += 1
                gate.entered.set()
                await gate.released.wait()
                return {"response": "All done.", "next_state": "work", "confidence": 1.0}

        return FastAgent("bot", [Work()], "work", task_name="work", task_patience_s=30.0)


@pytest.mark.parametrize(
    ("media", "append_ms"), [("raw/lpcm16_24", 20), ("raw/lpcm16_8", 20), ("raw/lpcm16_24", 100)]
)
def test_caller_audio_of_the_gap_arrives_in_order(media: str, append_ms: int) -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call(media)
        rate = 24_000 if media.endswith("24") else 8_000
        scene.model.refuse(503)  # makes the gap a quarter of a second wide
        before = phone.line.chunks_sent
        one_break(first)
        word = chirp(200, rate)
        await phone.say(word, rate)
        second = await scene.model.session(1)
        await phone.hang_up()
        await second.wait_until(lambda one: not one.is_open, "the end")
        sent_ms = 20 * (phone.line.chunks_sent - before)
        assert second.events[0]["type"] == "session.update"
        # What was on its way to the session that was lost is lost; a busy machine sees the loss late.
        assert sent_ms - 100 <= len(second.audio) / 48 <= sent_ms + 20
        if media == "raw/lpcm16_24":
            assert word in bytes(second.audio)

    run(scenario, append_ms=append_ms)


def test_gathered_caller_audio_is_heard_whole_and_before_what_comes_next() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call("raw/mulaw")
        await phone.say(chirp(150, 8_000), 8_000)
        while phone.line.chunks_sent % 3 == 0:
            await phone.say(chirp(20, 8_000), 8_000)
        said_before = 160 * phone.line.chunks_sent
        assert phone.dtmf("7")
        await session.wait_until(lambda one: "7" in str(texts(one)), "the key")
        kinds = [one["type"] for one in session.events]
        before_the_key = session.events[: kinds.index("conversation.item.create")]
        assert sum(one.get("bytes", 0) for one in before_the_key) >= said_before
        await phone.hang_up()
        await session.wait_until(lambda one: not one.is_open, "the end")
        sizes = [one["bytes"] for one in session.sent("input_audio_buffer.append")]
        assert 480 in sizes
        assert sum(sizes) == 160 * phone.line.chunks_sent

    run(scenario, append_ms=60)


def test_a_gap_longer_than_the_limit_keeps_the_youngest_audio() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.refuse(503)
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        await phone.initiate()
        # Faster than speech, so that the test need not take as long as the gap.
        for k in range(1, 101):
            audio = base64.b64encode(k.to_bytes(2, "little") * 480).decode()
            phone.send_raw(b'{"type":"userStream.chunk","audioChunk":"' + audio.encode() + b'"}')
        session = await scene.model.session(0)
        last = (100).to_bytes(2, "little") * 480
        await session.wait_until(lambda one: last in bytes(one.audio), "the youngest audio")
        marks = [one for one in dict.fromkeys(bytes(session.audio)[0::2]) if one]
        assert marks == sorted(marks)
        assert len(marks) <= 50
        await phone.hang_up()
        assert (await scene.summary()).counters["uplink_backlog_dropped"] >= 50

    run(scenario, backlog_ms=1_000)


def test_calls_survive_many_drops_in_a_row() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        for number in range(1, 4):
            session.drop(1012)
            session = await scene.model.session(number)
            await talk(phone, session)
        await phone.hang_up()
        summary = await scene.summary()
        assert summary.counters["model_lost"] == 3
        assert summary.outcome == "caller"

    run(scenario)


# The session cannot be had


def is_there(scene: Scene, number: int) -> bool:
    return len(scene.model.sessions) > number and scene.model.sessions[number].is_open


@pytest.mark.parametrize("statuses", [(429,), (503,), (500, 502)])
def test_upgrade_that_is_refused_for_now_is_tried_again(statuses: tuple[int, ...]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.refuse(*statuses)
        phone, session, _ = await scene.call()
        assert len(scene.model.upgrades) == 1 + len(statuses)
        await talk(phone, session)

    run(scenario)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_upgrade_that_is_refused_for_good_ends_the_call_at_once(status: int) -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.refuse(*[status] * 5)
        phone = await scene.dial(scene.phone())
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert phone.line.error_reason
        assert len(scene.model.upgrades) == 1
        assert (await scene.summary()).outcome == "model_lost"

    run(scenario)


def test_wrong_key_ends_the_call_at_once_and_is_not_told() -> None:
    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone())
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert "sk-wrong" not in phone.line.error_reason
        assert len(scene.model.upgrades) == 1

    run(scenario, model=lambda: RealtimeModel(api_key="sk-right"), openai_api_key="sk-wrong")


@pytest.mark.parametrize(
    ("code", "upgrades"), [("invalid_api_key", 1), ("insufficient_quota", 1), ("server_error", 2)]
)
def test_error_instead_of_a_session_is_final_or_tried_again(code: str, upgrades: int) -> None:
    async def scenario(scene: Scene) -> None:
        def refuse(session: ModelSession) -> None:
            session.error(code)
            session.drop(1011)

        scene.model.stay_silent(2)
        phone = await scene.dial(scene.phone())
        for number in range(upgrades):
            await scene.model.wait_until(partial(is_there, scene, number))
            refuse(scene.model.sessions[number])
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert len(scene.model.upgrades) == upgrades

    run(scenario, model_connect_attempts=2)


def test_model_out_of_reach_ends_the_call_after_a_bounded_number_of_tries() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.refuse(*[503] * 10)
        phone = await scene.dial(scene.phone())
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert len(scene.model.upgrades) == 3

    run(scenario, model_connect_attempts=3)


def test_nobody_listening_at_the_models_address_ends_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone())
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert scene.model.upgrades == []

    run(scenario, model_connect_attempts=2, realtime_url="ws://127.0.0.1:9/v1/realtime")


def test_socket_without_a_session_is_given_up_and_tried_again() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.stay_silent()
        phone = await scene.dial(scene.phone())
        session = await scene.model.session(1)
        await talk(phone, session)
        await scene.model.wait_until(lambda: scene.model.open_sessions == 1, "the end of the silent one")

    run(scenario, model_connect_timeout_s=0.3)


def test_session_that_closes_as_it_begins_is_tried_again() -> None:
    async def scenario(scene: Scene) -> None:
        def close_first(session: ModelSession) -> None:
            if len(scene.model.sessions) == 1:
                session.drop(1012)

        scene.model.on_open = close_first
        phone = await scene.dial(scene.phone())
        session = await scene.model.session(1)
        await talk(phone, session)

    run(scenario)


def test_sessions_that_all_end_at_once_end_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        def close_configured(session: ModelSession) -> None:
            session.drop(1011)

        scene.model.on_response = close_configured
        phone = await scene.dial(scene.phone())
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert len(scene.model.sessions) <= 2

    run(scenario, agent=FastAgent("bot", greeting="Hello."), model_connect_attempts=2)


def test_caller_who_hangs_up_while_the_model_is_awaited_leaves_nothing_behind() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.stay_silent()
        phone = await scene.dial(scene.phone())
        await scene.model.wait_until(lambda: scene.model.open_sessions == 1, "the socket")
        await phone.hang_up()
        assert (await scene.summary()).outcome == "caller"
        await scene.model.wait_until(lambda: scene.model.open_sessions == 0, "its end")

    run(scenario, model_connect_timeout_s=30.0)


@contextmanager
def mute_listener() -> Iterator[tuple[socket.socket, str]]:
    """A port where TCP connections succeed and nobody ever answers, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/realtime"


def hung_up(listener: socket.socket) -> int:
    """The number of connections that were made, each of which the client has closed."""
    connections = 0
    listener.setblocking(False)
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return connections
        with connection:
            connections += 1
            connection.settimeout(5.0)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass


def test_upgrade_that_is_never_answered_is_given_up() -> None:
    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone())
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED

    with mute_listener() as (listener, url):
        run(scenario, model_connect_attempts=2, model_connect_timeout_s=0.2, realtime_url=url)
        assert hung_up(listener) == 2


def test_caller_who_hangs_up_during_the_upgrade_leaves_nothing_behind() -> None:
    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone())
        await asyncio.sleep(0.05)
        await phone.hang_up()
        assert (await scene.summary()).outcome == "caller"
        assert await asyncio.to_thread(hung_up, listener) == 1

    with mute_listener() as (listener, url):
        run(scenario, model_connect_timeout_s=1.0, realtime_url=url)


def answer_late(listener: socket.socket) -> bytes:
    """Answer the first upgrade after all; returns what the client says on the connection until its end."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5.0)
        request = connection.recv(4096)
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        connection.sendall(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        said = b""
        try:
            while piece := connection.recv(4096):
                said += piece
        except ConnectionResetError:
            pass
        return said


def test_upgrade_that_succeeds_after_the_call_is_over_opens_no_session() -> None:
    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone())
        await asyncio.sleep(0.05)
        await phone.hang_up()
        await scene.summary()
        assert await asyncio.to_thread(answer_late, listener) == b""

    with mute_listener() as (listener, url):
        run(scenario, model_connect_timeout_s=30.0, realtime_url=url)


def test_stalled_model_is_noticed_by_its_silence() -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call(opens_stream=False)
        first.stall()
        second = await scene.model.session(1)
        await talk(phone, second)

    run(scenario, model_ping_interval_s=0.2, model_ping_timeout_s=0.2)


# The session comes to its limit


def test_session_near_its_limit_is_replaced_at_a_pause() -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        await talk(phone, first, "remember me")
        second = await scene.model.session(1)
        assert texts(second) == [("user", "remember me"), ("assistant", "Hello.")]
        await first.wait_until(lambda one: not one.is_open, "the end of the first")
        assert first.close_code == 1000
        await phone.hang_up()
        assert (await scene.summary()).counters["model_sessions_replaced"] >= 1
        await second.wait_until(lambda one: not one.is_open, "the end")
        # Every chunk went to one of the sessions, none to both.
        heard = sum(len(session.audio) for session in scene.model.sessions)
        assert heard == phone.line.chunks_sent * 20 * 48

    run(scenario, model_session_limit_s=0.8)


def test_session_is_not_replaced_while_somebody_speaks() -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, tap = await scene.call()
        scene.model.stay_silent()
        first.speak(first.tone(900))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the words")
        assert len(tap.all_audio) == 900 * 48
        # The successor is late, and the caller has begun to speak by the time it is there.
        await scene.model.wait_until(lambda: len(scene.model.sessions) == 2, "a successor")
        first.speech_started()
        await scene.model.wait_until(lambda: len(scene.model.sessions) == 3, "another successor")
        await asyncio.sleep(0.3)
        assert first.is_open
        assert not scene.model.sessions[2].is_configured
        first.speech_stopped("that was long")
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the answer")
        third = await scene.model.session(2)
        assert ("user", "that was long") in texts(third)

    run(scenario, model_session_limit_s=0.3, model_connect_timeout_s=0.3)


def test_session_lost_while_its_successor_is_opened_is_replaced_once() -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        scene.model.session_lifetime_s = 3_600
        scene.model.stay_silent()
        await scene.model.wait_until(lambda: len(scene.model.sessions) == 2, "a successor")
        first.reset()
        third = await scene.model.session(2)
        await talk(phone, third)
        await talk(phone, third)
        assert third.is_open
        assert len(scene.model.sessions) == 3

    # Told in whole seconds, so that it is over between one and one and a half seconds after it began.
    run(scenario, model=lambda: RealtimeModel(session_lifetime_s=3), model_connect_timeout_s=0.3)


def test_sessions_replaced_again_and_again_do_not_end_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        phone, _, _ = await scene.call()
        await scene.model.session(7)
        await talk(phone, await scene.model.session(len(scene.model.sessions) - 1))

    run(scenario, model_session_limit_s=0.1)


@pytest.mark.parametrize("lifetime_s", [-3_600.0, 0.0])
def test_clock_that_is_wrong_does_not_replace_sessions(lifetime_s: float) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        await talk(phone, session)
        await talk(phone, session)
        assert len(scene.model.sessions) == 1

    run(scenario, model=lambda: RealtimeModel(session_lifetime_s=lifetime_s))


# Strange words


def test_beta_event_names_are_understood() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await talk(phone, session, "old words")
        assert tap.all_audio == session.tone(200)
        assert scene.witness.bot == ["Hello."]
        session.call_function("end_call", {})
        await phone.wait_ended()

    run(scenario, model=lambda: RealtimeModel(speaks_beta=True))


STRANGE: list[dict[str, Any]] = [
    {"type": "response.thoughts.delta", "delta": "hm"},
    {"type": "conversation.created", "conversation": {"id": "conv_1"}},
    {"type": "response.created"},
    {"type": "response.done"},
    {"type": "response.done", "response": None},
    {"type": "response.done", "response": {"id": "resp_unknown", "status": "weird", "output": [None, 5]}},
    {"type": "response.output_audio.delta"},
    {"type": "response.output_audio.delta", "delta": 5},
    {"type": "response.output_audio.delta", "delta": "!!!", "response_id": "r", "item_id": "i"},
    {"type": "response.output_audio.delta", "delta": "AAA", "response_id": "r", "item_id": "i"},
    {"type": "response.output_audio.delta", "delta": "", "response_id": "r", "item_id": "i"},
    {"type": "response.output_audio.done"},
    {"type": "response.output_item.added", "item": None},
    {"type": "response.output_item.done", "item": {"type": "function_call"}},
    {"type": "response.function_call_arguments.done", "call_id": "c", "name": "none", "arguments": "{"},
    {"type": "conversation.item.added"},
    {"type": "conversation.item.truncated"},
    {"type": "conversation.item.input_audio_transcription.completed"},
    {"type": "conversation.item.input_audio_transcription.failed", "item_id": "x", "error": {}},
    {"type": "input_audio_buffer.speech_stopped"},
    {"type": "input_audio_buffer.timeout_triggered"},
    {"type": "rate_limits.updated", "rate_limits": None},
    {"type": "session.updated"},
    {"type": "error"},
    {"type": "error", "error": "plain words"},
    {"type": "error", "error": {"message": "no code"}},
    {"type": "error", "message": "flat", "code": "odd"},
    {"type": "response.mcp_call.failed", "item_id": "m", "output_index": 0},
]


@pytest.mark.parametrize("event", STRANGE, ids=lambda event: event["type"])
def test_strange_event_changes_nothing(event: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        # The outcome of a call that is not in the conversation is refused: that is the server's own doing.
        scene.benign.add("invalid_tool_call_id")
        session.send(event)
        # An answer that the server begins by itself ends whatever the strange event pretended.
        await talk(phone, session)
        await phone.hang_up()
        assert len(scene.model.sessions) == 1

    run(scenario)


TOO_LONG = b'{"type":"response.done","response":[' + b"{}," * (100 << 10) + b"{}]}"
"""Would hold the loop up, were it parsed."""


@pytest.mark.parametrize(
    "message",
    [b"", b"not json", b"[]", b"{}", b'{"type":5}', b'{"type":"x"', b"null", TOO_LONG],
    ids=lambda message: message[:10].decode() + str(len(message)),
)
def test_message_that_is_no_event_is_counted_and_survived(message: bytes) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        session.send_raw(message)
        await talk(phone, session)
        assert scene.server.service.counters["model_malformed"] == 1

    run(scenario)


def test_long_response_in_one_message_is_taken() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        session.speak(session.tone(1_500), delta_ms=1_500)
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the words")
        assert tap.all_audio == session.tone(1_500)

    run(scenario)


@pytest.mark.parametrize(
    ("status", "error"),
    [("failed", {"type": "server_error", "code": "server_error", "message": "x"}), ("incomplete", None)],
)
def test_response_that_fails_is_asked_for_again_once(status: str, error: dict[str, Any] | None) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        scene.model.on_response = lambda one: one.finish(status, error=error)
        session.speech_started()
        session.speech_stopped("hello")
        scene.model.on_response = say_tone
        if status == "failed":
            await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the second try")
            assert len(session.sent("response.create")) == 1
        else:
            await talk(phone, session)
            assert session.sent("response.create") == []

    run(scenario)


def test_quota_used_up_in_mid_call_ends_it() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await talk(phone, session)
        error = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "x"}
        scene.model.on_response = lambda one: one.finish("failed", error=error)
        session.speech_started()
        session.speech_stopped("hello")
        await phone.wait_ended()
        assert tap.order[-1] == "hangup"
        assert (await scene.summary()).outcome == "model_lost"

    run(scenario)


# The carrier's socket


@pytest.mark.parametrize("media", ["raw/lpcm16_24", "raw/mulaw"])
def test_lost_phone_is_resumed_and_audio_flows_both_ways(media: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(media)
        session.speak(session.tone(3_000))
        await phone.wait_until(lambda line: line.streams, "the first audio")
        await phone.drop()
        await phone.resume()
        assert phone.line.phase is LinePhase.ACTIVE
        await session.wait_until(lambda one: one.sent("response.create"), "the wish to go on")
        assert any("interrupted" in text for _, text in texts(session))
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the words")
        before = len(session.audio)
        await phone.wait_until(lambda line: line.is_listening, "the user stream")
        await phone.say(chirp(100, phone.line.media.format.sample_rate), phone.line.media.format.sample_rate)  # type: ignore[union-attr]
        await session.wait_until(
            lambda one: len(one.audio) - before >= 100 * session.input_format.bytes_per_ms
        )
        await talk(phone, session)
        assert len(scene.model.sessions) == 1
        ids = [stream.stream_id for stream in phone.line.streams]
        assert len(ids) == len(set(ids))
        await phone.hang_up()
        summary = await scene.summary()
        assert summary.outcome == "caller"
        assert summary.counters["carrier_resumed"] == 1

    run(scenario)


def test_task_goes_on_while_the_phone_is_away() -> None:
    gate = Gate()

    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        session.call_function("work", {})
        async with asyncio.timeout(10):
            await gate.entered.wait()
        await phone.drop()
        gate.released.set()
        await session.wait_until(texts, "the outcome")
        assert phone.line.streams == []
        await phone.resume()
        await phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the words")
        assert gate.entries == 1

    run(scenario, agent=gate.agent())


def test_resume_of_an_unknown_call_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        phone.line.resume(0.0)
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert phone.line.error_reason == "conversation not found"

    run(scenario)


def test_newer_socket_of_a_live_call_wins() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(conversation_id="one")
        session.speak(session.tone(2_000))
        await phone.wait_until(lambda line: line.streams, "the first audio")
        newer = scene.phone(conversation_id="one")
        await newer.connect(scene.server.audiocodes_url)
        newer.line.media = phone.line.media
        newer.line.resume(asyncio.get_running_loop().time())
        await newer.wait_until(lambda line: line.phase is LinePhase.ACTIVE)
        with pytest.raises(LegClosedError):
            await phone.wait_until(lambda line: False)
        assert phone.close_code == 1000
        await newer.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the words")
        await talk(newer, session)
        assert scene.server.service.switchboard.active_calls == 1
        await newer.hang_up()
        assert (await scene.summary()).outcome == "caller"
        assert len(scene.witness.summaries) == 1

    run(scenario)


def test_phone_that_does_not_come_back_ends_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        await phone.drop()
        assert (await scene.summary()).outcome == "carrier_lost"
        await session.wait_until(lambda one: not one.is_open, "the end of the session")
        await phone.resume()
        assert phone.line.phase is LinePhase.FAILED

    run(scenario, resume_grace_s=0.2)


def test_full_house_still_takes_the_resume_of_its_own_call() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        await phone.drop()
        stranger = scene.phone()
        # Nobody knows before the upgrade what a socket wants, so this one is refused after it.
        await stranger.connect(scene.server.audiocodes_url)
        await stranger.initiate()
        assert stranger.line.phase is LinePhase.FAILED
        await phone.resume()
        await talk(phone, session)
        with pytest.raises(LegConnectError):
            await scene.phone().connect(scene.server.audiocodes_url)

    run(scenario, max_sessions=1)


def test_model_and_phone_lost_together_are_both_taken_up_again() -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        await talk(phone, first, "keep this")
        first.reset()
        await phone.drop()
        second = await scene.model.session(1)
        await phone.resume()
        assert ("user", "keep this") in texts(second)
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[-1].is_done, "the words")
        await talk(phone, second)

    run(scenario)


def test_reconnect_is_quick() -> None:
    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        begun = time.monotonic()
        one_break(first)
        await scene.model.session(1)
        # Generous: it takes some milliseconds and a pause of half a second.
        assert time.monotonic() - begun < 10.0
        await phone.hang_up()

    run(scenario)


def test_line_that_brings_no_sound_is_asked_about_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_media, "LOOK_S", 0.05)
    nothing = Shape(drop=1.0, matches=lambda text: b'"userStream.chunk"' in text)

    async def scenario(scene: Scene) -> None:
        async with FaultProxy(scene.server.audiocodes_url, to_server=nothing) as proxy:
            phone = scene.phone()
            await phone.connect(proxy.url)
            await phone.initiate()
            session = await scene.model.session(0)
            await session.wait_until(lambda one: one.sent("response.create"), "the question")
            assert [role for role, _ in texts(session)] == ["system"]
            await phone.wait_ended()
            summary = await scene.summary()
            await phone.close()
        assert summary.outcome == "bot"
        assert (summary.counters["media_missing"], summary.counters["media_gone"]) == (1, 1)

    run(scenario, no_media_prompt_s=0.3, no_media_limit_s=0.8)


def test_function_that_is_called_again_and_again_is_done_once() -> None:
    gate = Gate()

    async def scenario(scene: Scene) -> None:
        phone, first, _ = await scene.call()
        gate.released.set()
        for _ in range(3):
            first.call_function("work", {"request": "please"}, call_id="call_same")
            await first.wait_until(lambda one: one.active_response_id is None, "the end of its response")
        one_break(first)
        second = await scene.model.session(1)
        second.call_function("work", {"request": "please"}, call_id="call_same")
        await talk(phone, second)
        assert gate.entries == 1

    run(scenario, agent=gate.agent())
