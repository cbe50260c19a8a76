"""Our own protocol over real sockets: formats, text, keys, words, interruption, resuming, bad input."""

import asyncio
import base64
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import websockets

from fastagent import FastAgent
from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.formats import PCM16_24K, AudioFormat, Encoding
from fastagent.legs.carrier import CarrierSocket
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from fastagent.wire.agentws_words import CLIENT_MEDIA
from tests.integration.scene import Scene, chirp, likeness, open_scene, resampled, run
from tests.integration.test_barge_in import CALLER_TEXT, bot_speech, speech
from tests.reference.asyncapi_schemas import DOCUMENT, problems
from tests.unit.test_readme import example

TOKEN = "a-token-of-the-first-client"
OTHER_TOKEN = "a-token-of-another-client"
WAIT_S = 15.0


class Client:
    """A client that says what a test wants, and holds every message of the server against its schema."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.session_id: str | None = None
        self._untold: list[dict[str, Any]] = []

    async def send(self, kind: str, payload: Any = None, **envelope: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, "payload": payload} | envelope))

    async def audio(self, data: bytes, format: str, **more: Any) -> None:
        payload = {"format": format, "encoding": "base64", "data": base64.b64encode(data).decode()}
        await self.send("audio_data", payload | more)

    async def start(self, **payload: Any) -> dict[str, Any]:
        await self.send("start_session", payload)
        started = await self.expect("session_started")
        self.session_id = started["session_id"]
        return started

    async def expect(self, kind: str, claim: Callable[[dict[str, Any]], object] = lambda _: True) -> Any:
        """The payload of the first message of a type that fits a claim and was not asked for before."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for message in self._untold:
                    if message["type"] == kind and claim(message["payload"]):
                        self._untold.remove(message)
                        return message["payload"]
                self._take(await self.socket.recv())

    def _take(self, text: str | bytes) -> None:
        message = json.loads(text)
        assert problems(message["type"], message) == []
        self.messages.append(message)
        self._untold.append(message)

    async def until_closed(self) -> int | None:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    self._take(await self.socket.recv())
                except websockets.ConnectionClosed:
                    return self.socket.close_code

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [message["payload"] for message in self.messages if message["type"] == kind]

    @property
    def heard(self) -> bytes:
        """All audio of the bot, WAV headers removed."""
        audio = b""
        for payload in self.said("audio_response"):
            data = base64.b64decode(payload["data"])
            if data.startswith(b"RIFF"):
                header = wav.parse_header(data)
                assert header is not None
                data = data[header.data_offset :]
            audio += data
        return audio


@contextlib.asynccontextmanager
async def client(
    scene: Scene, *, token: str | None = None, session_id: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    headers = dict(options.pop("headers", {}))
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if session_id:
        headers["X-Session-ID"] = session_id
    async with websockets.connect(
        scene.server.agent_url, additional_headers=headers, max_size=None, **options
    ) as socket:
        yield Client(socket)


async def refused(scene: Scene, **options: Any) -> tuple[int, str]:
    """The status and the code of a refusal before the socket opens."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with client(scene, **options):
            pass
    answer = json.loads(caught.value.response.body)
    assert problems("error", answer) == []
    return caught.value.response.status_code, answer["payload"]["code"]


def as_pcm(data: bytes, encoding: Encoding) -> bytes:
    if encoding is Encoding.PCM16:
        return data
    return g711.ulaw_decode(data) if encoding is Encoding.MULAW else g711.alaw_decode(data)


def as_coded(pcm: bytes, encoding: Encoding) -> bytes:
    if encoding is Encoding.PCM16:
        return pcm
    return g711.ulaw_encode(pcm) if encoding is Encoding.MULAW else g711.alaw_encode(pcm)


def say_nothing(session: ModelSession) -> None:
    session.finish()


# A whole session


@pytest.mark.parametrize("media", CLIENT_MEDIA)
def test_audio_goes_both_ways_whole_in_every_format(media: str) -> None:
    offer = CLIENT_MEDIA[media].offer
    format: AudioFormat = offer.format
    pcm = chirp(400, format.sample_rate)
    coded = as_coded(pcm, format.encoding)
    step = format.bytes_per_ms * 20

    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            assert (await one.start(media=media))["media"] == media
            session = await scene.model.session(0)
            for n, at in enumerate(range(0, len(coded), step)):
                is_headed = offer.has_wav_header and (n == 0 or n % 3 == 0)
                head = wav.header(format) if is_headed else b""
                said = "audio/x-wav" if offer.has_wav_header else media
                await one.audio(head + coded[at : at + step], said, chunk_id=n)
            whole = session.input_format.bytes_per_ms * 400
            await session.wait_until(lambda found: len(found.audio) >= whole, "the audio")
            assert len(session.audio) == whole
            if media == session.settings["audio"]["input"]["format"]["type"]:
                assert bytes(session.audio) == coded
            reference = resampled(
                as_pcm(coded, format.encoding), format.sample_rate, session.input_format.sample_rate
            )
            heard = as_pcm(bytes(session.audio), session.input_format.encoding)
            assert likeness(heard, reference, session.input_format.sample_rate) > 0.998

            said_pcm = chirp(500, session.output_format.sample_rate, low=500)
            session.speak(as_coded(said_pcm, session.output_format.encoding), "A chirp.")
            await one.expect("audio_response", lambda payload: payload["final"])
            wanted = resampled(said_pcm, session.output_format.sample_rate, format.sample_rate)
            assert likeness(as_pcm(one.heard, format.encoding), wanted, format.sample_rate) > 0.99
            await one.expect("transcript", lambda payload: payload["text"] == "A chirp.")
            await one.send("end_session", {"reason": "done"})
            ended = await one.expect("session_ended")
            assert ended["duration_seconds"] > 0
            assert await one.until_closed() == 1000
        summary = await scene.summary()
        assert (summary.outcome, summary.media) == ("caller", media)
        assert not {"uplink_gaps", "uplink_repeats", "carrier_malformed"} & set(summary.counters)

    run(scenario)


@pytest.mark.parametrize(
    "source", ["audio/pcm;rate=8000", "audio/pcm;rate=16000", "audio/pcmu", "audio/pcma"]
)
def test_chunks_of_another_format_than_the_sessions_are_converted(source: str) -> None:
    format = CLIENT_MEDIA[source].offer.format
    pcm = chirp(400, format.sample_rate)
    coded = as_coded(pcm, format.encoding)
    step = format.bytes_per_ms * 20

    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            for at in range(0, len(coded), step):
                await one.audio(coded[at : at + step], source)
            session = await scene.model.session(0)
            await session.wait_until(lambda found: len(found.audio) >= 400 * 48, "the audio")
            assert len(session.audio) == 400 * 48
            assert likeness(session.audio, resampled(pcm, format.sample_rate, 24_000), 24_000) > 0.99

    run(scenario)


def test_native_path_takes_audio_data_whatever_the_order_and_counts_its_numbers() -> None:
    data = base64.b64encode(b"\1\2" * 480).decode()

    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            name = "audio/pcm;rate=24000"
            for text in (
                f'{{"type":"audio_data","payload":{{"format":"{name}","data":"{data}","chunk_id":0}}}}',
                f'{{"payload":{{"chunk_id":1,"data":"{data}","format":"{name}"}},"type":"audio_data"}}',
                f'{{"timestamp":1,"payload":{{"data":"{data}","format":"audio\\/pcm;rate=24000",'
                f'"chunk_id":4,"x":[{{}}]}},"session_id":"☎","type":"audio_data"}}',
                f'{{"type":"audio_data","payload":{{"chunk_id":4,"format":"{name}","data":"{data}"}}}}',
            ):
                await one.socket.send(text)
            session = await scene.model.session(0)
            await session.wait_until(lambda found: len(found.audio) >= 4 * 960, "the audio")
            await one.send("end_session")
            await one.expect("session_ended")
        counters = (await scene.summary()).counters
        assert counters["uplink_messages"] == 4
        assert (counters["uplink_gaps"], counters["uplink_repeats"]) == (1, 1)

    run(scenario)


def test_chat_by_text_alone() -> None:
    def answer(session: ModelSession) -> None:
        session.speak(session.tone(40), "Sure, which day?")

    async def scenario(scene: Scene) -> None:
        scene.model.on_response = answer
        async with client(scene) as one:
            await one.start(media="audio/pcmu", metadata={"caller_id": "user-7"})
            await one.send("text_input", {"text": "Ich möchte einen Termin ☎"})
            assert await one.expect("transcript") == {
                "role": "agent",
                "text": "Sure, which day?",
                "final": True,
            }
            session = await scene.model.session(0)
            [item] = session.sent("conversation.item.create")
            assert item["item"]["content"][0]["text"] == "Ich möchte einen Termin ☎"
            assert scene.witness.caller == ["Ich möchte einen Termin ☎"]

    run(scenario)


def test_words_and_turns_of_the_caller_are_told() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.on_response = say_nothing
        async with client(scene) as one:
            await one.start()
            session = await scene.model.session(0)
            session.speech_started()
            assert await one.expect("caller_speech") == {"phase": "started"}
            session.speech_stopped("On Monday.")
            assert await one.expect("caller_speech") == {"phase": "stopped"}
            for is_final in (False, True):
                said = await one.expect("transcript", lambda payload: payload["role"] == "caller")
                assert said == {"role": "caller", "text": "On Monday.", "final": is_final}

    run(scenario)


def test_barge_in_is_told_at_once_and_late_audio_never_comes() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            session = await scene.model.session(0)
            session.speak(session.tone(10_000), "A long story.", is_last=False)
            await one.expect("audio_response")
            session.speech_started()
            await one.expect("interruption")
            session.speech_stopped("wait")
            await one.expect("transcript", lambda payload: payload["text"] == "wait")
            await one.expect(
                "audio_response", lambda payload: payload["final"] and payload["playback_id"] == "play-2"
            )
            [at] = [at for at, message in enumerate(one.messages) if message["type"] == "interruption"]
            later = [
                message["payload"] for message in one.messages[at:] if message["type"] == "audio_response"
            ]
            assert {payload["playback_id"] for payload in later} == {"play-2"}
            [cut] = session.sent("conversation.item.truncate") or session.sent("conversation.item.delete")
            assert cut["item_id"]

    run(scenario)


@pytest.mark.parametrize(
    "media", ["audio/pcm;rate=8000", "audio/pcm;rate=24000"], ids=["native", "converted"]
)
def test_our_own_ears_hear_the_caller_over_the_bot(media: str) -> None:
    said = speech(CALLER_TEXT, 8_000)

    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start(media=media)
            session = await scene.model.session(0)
            session.speak(bot_speech(session, 8.0), is_last=False)
            await one.expect("audio_response")
            # The caller's clock: 20 ms of speech every 20 ms, behind silence, so that there is a level.
            loop = asyncio.get_running_loop()
            begun = loop.time()
            audio = bytes(8_000 * 2) + said
            for n, at in enumerate(range(0, len(audio), 320)):
                await asyncio.sleep(max(0.0, begun + n * 0.02 - loop.time()))
                await one.audio(audio[at : at + 320], "audio/pcm;rate=8000", chunk_id=n)
            await one.expect("interruption")
            await one.expect("caller_speech", lambda payload: payload["phase"] == "started")
            await session.wait_until(lambda found: found.sent("conversation.item.truncate"), "the truncation")

    run(scenario, barge_in="local")


def test_states_of_an_agent_are_told() -> None:
    agent = example()["agent"]

    async def scenario(scene: Scene) -> None:
        scene.model.on_response = say_nothing
        async with client(scene) as one:
            assert (await one.start(agent_id="pizza"))["initial_state"] == "ask_size"
            session = await scene.model.session(0)
            session.begin_response()
            session.call_function("order_pizza")
            begun = await one.expect("state_transition")
            assert begun == {
                "task": "order_pizza",
                "from_state": None,
                "to_state": "ask_size",
                "reason": "start",
            }
            await session.wait_until(lambda found: found.sent("conversation.item.create"), "the question")
            await one.send("text_input", {"text": "a large one"})
            session.begin_response()
            session.call_function("task_reply", {"task": "order_pizza", "answer": "large"})
            moved = await one.expect("state_transition")
            assert (moved["from_state"], moved["to_state"]) == ("ask_size", "confirm")

    run(scenario, agent=agent)


def test_keys_reach_the_model_as_pressed() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            session = await scene.model.session(0)
            await one.send("dtmf", {"digits": "4#"})
            await session.wait_until(lambda found: found.sent("conversation.item.create"), "the keys")
            [item] = session.sent("conversation.item.create")
            assert "4#" in item["item"]["content"][0]["text"]

    run(scenario)


def test_two_sessions_at_once_do_not_meet() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as first, client(scene) as second:
            await first.start(media="audio/pcmu")
            await second.start(media="audio/pcm;rate=16000")
            assert first.session_id != second.session_id
            await first.audio(b"\x10" * 160, "audio/pcmu")
            await second.audio(b"\1\0" * 320, "audio/pcm;rate=16000")
            sessions = [await scene.model.session(0), await scene.model.session(1)]
            mulaw = next(one for one in sessions if one.input_format.encoding is Encoding.MULAW)
            pcm = next(one for one in sessions if one.input_format == PCM16_24K)
            await mulaw.wait_until(lambda found: len(found.audio) == 160, "the first's audio")
            await pcm.wait_until(lambda found: len(found.audio) == 960, "the second's audio")
            await first.send("end_session")
            await first.expect("session_ended")
            await second.send("text_input", {"text": "still here"})
            await second.expect("audio_response")

    run(scenario)


def test_agent_that_hangs_up_ends_the_session_from_our_side() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.on_response = lambda session: (
            session.call_function("end_call", {"reason": "all done"}) and None
        )
        async with client(scene) as one:
            await one.start()
            await one.send("text_input", {"text": "bye"})
            ended = await one.expect("session_ended")
            assert ended["reason"]
            assert await one.until_closed() == 1000
        assert (await scene.summary()).outcome == "bot"

    run(scenario)


def test_service_that_stops_says_so() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            scene.server.stop()
            assert (await one.expect("session_ended"))["reason"] == "service stops"

    run(scenario, drain_timeout_s=0.1)


def test_model_that_is_not_there_is_an_error_and_the_end() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.refuse(401)
        async with client(scene) as one:
            await one.start()
            assert (await one.expect("error"))["code"] == "llm_error"
            await one.expect("session_ended")
            assert await one.until_closed() == 1000

    run(scenario)


def test_error_of_the_model_is_told_and_the_session_goes_on() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            session = await scene.model.session(0)
            session.error("server_error", "a secret thing was said", kind="server_error")
            error = await one.expect("error")
            assert (error["code"], error["details"]) == ("llm_error", {"model_code": "server_error"})
            assert "secret" not in json.dumps(error)
            await one.send("text_input", {"text": "go on"})
            await one.expect("audio_response")

    run(scenario)


def test_fault_of_ours_is_told_before_the_socket_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CarrierSocket, data: bytes, is_text: bool) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with open_scene(None, RealtimeModel(), {"resume_grace_s": 0.1}) as scene, client(scene) as one:
            await one.start()
            monkeypatch.setattr(CarrierSocket, "on_message", fail)
            await one.send("dtmf", {"digits": "1"})
            assert await one.until_closed() == 1011
            assert one.said("error")[-1]["code"] == "internal_error"
            assert one.messages[-1]["type"] == "error"

    asyncio.run(main())


# Resuming


def test_lost_session_goes_on_on_another_socket() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            started = await one.start(media="audio/pcm;rate=16000")
            session = await scene.model.session(0)
            one.socket.transport.abort()
        async with client(scene, session_id=started["session_id"]) as again:
            resumed = await again.expect("session_started")
            assert resumed == started | {"resumed": True}
            await again.send("start_session", {"media": "audio/pcmu"})  # says nothing more
            await again.audio(b"\1\2" * 320, "audio/pcm;rate=16000", chunk_id=0)
            await session.wait_until(lambda found: len(found.audio) >= 960, "audio of the second socket")
            await again.send("text_input", {"text": "hello again"})
            await again.expect("transcript")
            await again.send("end_session")
            assert (await again.expect("session_ended"))["duration_seconds"] > 0
        summary = await scene.summary()
        assert summary.counters["carrier_resumed"] == 1
        assert len(scene.model.sessions) == 1

    run(scenario)


def test_first_message_may_resume_and_take_the_session_over() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one, client(scene) as other:
            started = await one.start()
            await other.send("start_session", session_id=started["session_id"])
            assert (await other.expect("session_started"))["resumed"]
            # The socket that had it is closed.
            assert await one.until_closed() == 1000
            await other.send("text_input", {"text": "here now"})
            await other.expect("audio_response")

    run(scenario)


def test_session_of_another_credential_is_as_unknown_as_none() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene, token=TOKEN) as one:
            started = await one.start()
            answers = []
            for token, session_id in ((OTHER_TOKEN, started["session_id"]), (TOKEN, "no-such-session")):
                async with client(scene, token=token, session_id=session_id) as thief:
                    answers.append(await thief.expect("error"))
                    assert await thief.until_closed() == 1000
                async with client(scene, token=token) as thief:
                    await thief.send("start_session", session_id=session_id)
                    answers.append(await thief.expect("error"))
            assert {answer["code"] for answer in answers} == {"session_not_found"}
            assert all(answer == answers[0] for answer in answers)
            await one.send("text_input", {"text": "still mine"})
            await one.expect("audio_response")
        async with client(scene, token=TOKEN, session_id=started["session_id"]) as again:
            assert (await again.expect("session_started"))["resumed"]

    run(scenario, agent_tokens=(TOKEN, OTHER_TOKEN))


# The door


def test_door_asks_for_a_token_before_the_socket_opens() -> None:
    async def scenario(scene: Scene) -> None:
        for token in (None, "wrong", TOKEN + "x", ""):
            assert await refused(scene, token=token) == (401, "authentication_failed")
        offered = ["fastagent.v1", "fastagent.bearer.wrong"]
        assert await refused(scene, subprotocols=offered) == (401, "authentication_failed")
        async with client(scene, token=TOKEN) as one:
            assert one.socket.subprotocol is None
            await one.start()
        async with client(scene, subprotocols=["fastagent.v1", f"fastagent.bearer.{TOKEN}"]) as one:
            assert one.socket.subprotocol == "fastagent.v1"
            await one.start()

    run(scenario, agent_tokens=(TOKEN,))


def test_door_is_closed_where_only_another_one_has_tokens() -> None:
    async def scenario(scene: Scene) -> None:
        assert await refused(scene) == (401, "authentication_failed")

    run(scenario, audiocodes_tokens=("a-token-of-audiocodes",))


def test_pages_of_other_sites_are_refused() -> None:
    async def scenario(scene: Scene) -> None:
        port = scene.server.port
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{port + 1}", "http://[", "file://"):
            assert await refused(scene, headers={"Origin": origin}) == (403, "origin_forbidden")
        for origin in (f"http://127.0.0.1:{port}", "https://app.example", "HTTPS://APP.example"):
            async with client(scene, headers={"Origin": origin}) as one:
                await one.start()

    run(scenario, agent_origins=("https://app.example/",))


def test_full_house_is_refused_before_the_socket_opens() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            # It may yet ask for the place that there is.
            assert await refused(scene) == (503, "capacity_exceeded")
            await one.start()
            assert await refused(scene) == (503, "capacity_exceeded")

    run(scenario, max_sessions=1)


def test_nothing_is_served_at_the_demo_path_unless_asked_for_and_the_description_is() -> None:
    async def scenario(scene: Scene) -> None:
        base = f"http://{scene.server.host}:{scene.server.port}"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await asyncio.to_thread(urllib.request.urlopen, base + "/agent/demo", timeout=10)
        answer = await asyncio.to_thread(urllib.request.urlopen, base + "/asyncapi.yaml", timeout=10)
        assert answer.headers["content-type"] == "application/yaml"
        assert answer.read() == DOCUMENT.read_bytes()

    run(scenario)


# Bad input


def test_bad_input_is_answered_counted_and_survived() -> None:
    wrong = [
        (b"hello", "invalid_request"),
        (b'{"type":"audio_data","payload":{"format":"audio/pcm;rate=24000","data":5}}', "invalid_request"),
        (
            b'{"type":"audio_data","payload":{"format":"audio/pcm;rate=24000","data":"!"}}',
            "audio_processing_failed",
        ),
        (b'{"type":"audio_data","payload":{"format":"audio/opus","data":"AAAA"}}', "invalid_audio_format"),
        (
            b'{"type":"audio_data","payload":{"format":"audio/pcmu","data":"AAAA","data":"BBBB","x":',
            "invalid_request",
        ),
        (b'{"type":"start_session"}', "invalid_state"),
        (b'{"type":"nonsense","payload":{}}', "invalid_request"),
    ]

    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            for text, code in wrong:
                await one.socket.send(text, text=True)
                assert (await one.expect("error"))["code"] == code
            await one.send("text_input", {"text": "go on"})
            await one.expect("audio_response")
            await one.send("end_session")
            await one.expect("session_ended")
        assert scene.server.service.counters["carrier_malformed"] == len(wrong)

    run(scenario)


def test_too_much_bad_input_closes() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            for _ in range(5):
                await one.socket.send("{")
            assert await one.until_closed() == 1008
            assert len(one.said("error")) == 5

    run(scenario, bad_message_limit=5)


def test_message_that_is_too_long_closes() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            await one.send("text_input", {"text": "x" * 40_000})
            assert await one.until_closed() == 1009

    run(scenario, max_carrier_message_bytes=32_768, resume_grace_s=0.1)


def test_client_that_never_starts_is_closed() -> None:
    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            assert await one.until_closed() == 1000
        assert scene.server.service.switchboard.active_calls == 0

    run(scenario, first_message_timeout_s=0.1)


def test_transfer_that_no_client_can_follow_goes_back_to_the_talk() -> None:
    agent = FastAgent("bot", transfer_target="tel:+15550100099")

    async def scenario(scene: Scene) -> None:
        async with client(scene) as one:
            await one.start()
            session = await scene.model.session(0)
            session.begin_response()
            session.call_function("transfer_call", {"reason": "person wanted"})
            await session.wait_until(lambda found: "transfer failed" in str(found.events), "the failure")

    run(scenario, agent=agent)
