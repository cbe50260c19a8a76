"""The embedded engine over real sockets: the official client, real ears, a real voice."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fastagent.audio.formats import Encoding
from fastagent.errors import ConfigurationError
from fastagent.local import LocalServer, Pace, SessionOptions, serve
from fastagent.local import server as server_module
from fastagent.local.ears import DeafEars, Ears
from fastagent.local.transcode import from_pcm16, to_pcm16
from fastagent.local.voice import Voice

TIMEOUT_S = 30
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3")
PROBE = (
    "i would like to book an appointment",
    "book an appointment for tomorrow",
    "tomorrow",
    "today",
    "on monday",
    "next friday",
    "at three pm",
    "ten am",
    "half past two",
    "what are your opening hours",
    "where are you located",
    "how much does it cost",
    "yes please",
    "yes",
    "no",
    "no thank you",
    "that is all",
    "cancel",
    "goodbye",
    "thank you goodbye",
    "can you help me",
    "i want to speak to a person",
)
TOOL = {
    "type": "function",
    "name": "book_appointment",
    "description": "Book an appointment for the caller.",
    "parameters": {"type": "object", "properties": {"date": {"type": "string"}, "time": {"type": "string"}}},
}
INSTRUCTIONS = (
    "Opening hours: We are open Monday to Friday, nine to five.\nGreeting: Hello, this is the clinic."
)
FORMATS = {
    "audio/pcm": (Encoding.PCM16, 24_000),
    "audio/pcmu": (Encoding.MULAW, 8_000),
    "audio/pcma": (Encoding.ALAW, 8_000),
}


@pytest.fixture(scope="module")
def ears() -> Ears:
    pytest.importorskip("pocketsphinx")
    return Ears()


@pytest.fixture(scope="module")
def voice() -> Voice:
    pytest.importorskip("espeakng_loader")
    return Voice("espeak")


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine with a deadline."""

    async def limited() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await main()

    asyncio.run(limited())


class Caller:
    """The official client's connection, with a mouth."""

    def __init__(self, connection: AsyncRealtimeConnection, voice: Voice, name: str) -> None:
        self.connection = connection
        self.events: list[Any] = []
        self._voice = voice
        self._encoding, self._sample_rate = FORMATS[name]
        self._format: Any = {"type": name, "rate": 24_000} if name == "audio/pcm" else {"type": name}

    async def configure(self) -> None:
        await self.connection.session.update(
            session={
                "type": "realtime",
                "instructions": INSTRUCTIONS,
                "tools": [TOOL],  # type: ignore[list-item]
                "audio": {
                    "input": {"format": self._format, "transcription": {"model": "whisper-1"}},
                    "output": {"format": self._format},
                },
            }
        )
        await self.until("session.updated")

    async def say(self, text: str) -> None:
        pcm = self._voice.speak(text, voice="en-gb", sample_rate=self._sample_rate)
        audio = from_pcm16(pcm + bytes(2 * self._sample_rate), self._encoding)
        step = len(self._encoding.silence) * self._sample_rate // 50
        for start in range(0, len(audio), step):
            await self.connection.input_audio_buffer.append(
                audio=b64encode(audio[start : start + step]).decode()
            )

    async def until(self, event_type: str) -> Any:
        """The next event of a type; what comes before is kept in ``events``."""
        while True:
            event = await self.connection.recv()
            self.events.append(event)
            if event.type == event_type:
                return event

    def take_audio(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        """The samples of all audio received so far, once."""
        pieces = [
            b64decode(event.delta) for event in self.events if event.type == "response.output_audio.delta"
        ]
        self.events = []
        return np.frombuffer(to_pcm16(b"".join(pieces), self._encoding), dtype="<i2")


def client(server: LocalServer, key: str = "key") -> AsyncOpenAI:
    address = f"127.0.0.1:{server.port}/v1"
    return AsyncOpenAI(api_key=key, base_url=f"http://{address}", websocket_base_url=f"ws://{address}")


@asynccontextmanager
async def call(ears: Ears, voice: Voice, name: str = "audio/pcmu", **options: Any) -> AsyncIterator[Caller]:
    async with (
        await serve(api_key="key", ears=ears, voice=voice, **options) as server,
        client(server) as openai,
        openai.realtime.connect(model="gpt-realtime") as connection,
    ):
        caller = Caller(connection, voice, name)
        await caller.until("session.created")
        await caller.configure()
        yield caller


class TestOfficialClient:
    @pytest.mark.parametrize("name", list(FORMATS))
    def test_holds_a_spoken_session(self, ears: Ears, voice: Voice, name: str) -> None:
        async def main() -> None:
            async with call(ears, voice, name) as caller:
                await caller.connection.response.create()
                done = await caller.until("response.done")
                assert done.response.status == "completed"
                assert done.response.output[0].content[0].transcript == "Hello, this is the clinic."
                assert np.abs(caller.take_audio()).max() > 3_000

                await caller.say("what are your opening hours")
                heard = await caller.until("conversation.item.input_audio_transcription.completed")
                assert heard.transcript == "what are your opening hours"
                done = await caller.until("response.done")
                transcript = done.response.output[0].content[0].transcript
                assert transcript == "We are open Monday to Friday, nine to five."
                assert np.abs(caller.take_audio()).max() > 3_000

        run(main)

    def test_goes_round_a_function_call(self, ears: Ears, voice: Voice) -> None:
        async def main() -> None:
            async with call(ears, voice) as caller:
                await caller.say("book an appointment for tomorrow")
                called = await caller.until("response.function_call_arguments.done")
                assert (called.name, json.loads(called.arguments)) == (
                    "book_appointment",
                    {"date": "tomorrow"},
                )
                await caller.until("response.done")
                output = {"status": "done", "task": "book_appointment", "say": "You are booked."}
                await caller.connection.conversation.item.create(
                    item={
                        "type": "function_call_output",
                        "call_id": called.call_id,
                        "output": json.dumps(output),
                    }
                )
                await caller.connection.response.create()
                done = await caller.until("response.done")
                assert done.response.output[0].content[0].transcript == "You are booked."

        run(main)

    def test_truncates_what_was_heard_and_no_more_than_there_is(self, ears: Ears, voice: Voice) -> None:
        async def main() -> None:
            async with call(ears, voice) as caller:
                await caller.connection.response.create()
                done = await caller.until("response.done")
                item_id = done.response.output[0].id
                length_ms = len(caller.take_audio()) // 8
                truncate = caller.connection.conversation.item.truncate
                await truncate(item_id=item_id, content_index=0, audio_end_ms=length_ms + 1)
                refused = await caller.until("error")
                assert refused.error.code == "invalid_value"
                assert f"{length_ms}ms is already shorter than {length_ms + 1}ms" in refused.error.message
                await truncate(item_id=item_id, content_index=0, audio_end_ms=length_ms // 2)
                truncated = await caller.until("conversation.item.truncated")
                assert truncated.audio_end_ms == length_ms // 2

        run(main)

    def test_cancels_a_response(self, ears: Ears, voice: Voice) -> None:
        async def main() -> None:
            slow = SessionOptions(pace=Pace(speed_up=1.0))
            async with call(ears, voice, options=slow) as caller:
                await caller.connection.response.create()
                await caller.until("response.output_audio.delta")
                await caller.connection.response.cancel()
                done = await caller.until("response.done")
                assert done.response.status == "cancelled"
                assert done.response.status_details.reason == "client_cancelled"
                await caller.connection.response.cancel()
                assert (await caller.until("error")).error.code == "response_cancel_not_active"

        run(main)

    def test_is_interrupted_by_the_caller(self, ears: Ears, voice: Voice) -> None:
        async def main() -> None:
            slow = SessionOptions(pace=Pace(speed_up=1.0))
            async with call(ears, voice, options=slow) as caller:
                await caller.connection.response.create()
                await caller.until("response.output_audio.delta")
                await caller.say("what are your opening hours")
                await caller.until("input_audio_buffer.speech_started")
                done = await caller.until("response.done")
                assert done.response.status_details.reason == "turn_detected"
                await caller.until("response.created")

        run(main)


class TestEars:
    def test_know_the_phrases_of_a_call_over_a_telephone_line(self, ears: Ears, voice: Voice) -> None:
        wrong = []
        for name in VOICES:
            for phrase in PROBE:
                pcm = voice.speak(phrase, voice=name, sample_rate=8_000)
                line = to_pcm16(from_pcm16(bytes(4_800) + pcm + bytes(8_000), Encoding.MULAW), Encoding.MULAW)
                if ears.hear(line, 8_000) != phrase:
                    wrong.append((name, phrase))
        assert len(PROBE) * len(VOICES) - len(wrong) >= 80, wrong

    def test_hear_wide_band_speech_as_well(self, ears: Ears, voice: Voice) -> None:
        pcm = voice.speak("what are your opening hours", voice="en-us", sample_rate=24_000)
        assert ears.hear(pcm, 24_000) == "what are your opening hours"

    def test_learn_the_phrases_of_a_session(self, ears: Ears, voice: Voice) -> None:
        pcm = voice.speak("the purple elephant sings", voice="en-us", sample_rate=16_000)
        phrases = ("The purple elephant sings.", "xyzzyq is no word")
        assert ears.hear(pcm, 16_000, phrases) == "the purple elephant sings"
        assert ears.hear(pcm, 16_000) != "the purple elephant sings"

    def test_keep_working_with_ever_new_phrase_lists(self, ears: Ears, voice: Voice) -> None:
        pcm = voice.speak("yes please", voice="en-us", sample_rate=8_000)
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight"):
            assert ears.hear(pcm, 8_000, (f"number {word} in the list",)) == "yes please"
        assert len(ears._grammars) <= 4

    @pytest.mark.parametrize("text", ["uh-huh", "aha"])
    def test_take_a_sound_of_listening_for_nothing(self, ears: Ears, voice: Voice, text: str) -> None:
        assert ears.hear(voice.speak(text, voice="en-us", sample_rate=8_000), 8_000) == ""

    @pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0])
    def test_hear_nothing_in_silence(self, ears: Ears, seconds: float) -> None:
        assert ears.hear(bytes(2 * int(8_000 * seconds)), 8_000) == ""
        hiss = np.random.default_rng(1).normal(0, 30, int(8_000 * seconds)).astype("<i2").tobytes()
        assert ears.hear(hiss, 8_000) == ""


class TestServer:
    def serve_deaf(self, **options: Any) -> Awaitable[LocalServer]:
        return serve(ears=DeafEars(), voice="prompts", **options)

    @pytest.mark.parametrize(
        ("path", "key", "status"),
        [
            ("/v1/realtime?model=x", "wrong", 401),
            ("/v1/realtime?model=x", "schlüssel", 401),
            ("/v1/realtime?model=x", None, 401),
            ("/v1/other", "key", 404),
            ("/", "key", 404),
        ],
    )
    def test_refuses_before_the_upgrade(self, path: str, key: str | None, status: int) -> None:
        async def main() -> None:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            async with await self.serve_deaf(api_key="key") as server:
                with pytest.raises(InvalidStatus) as refused:
                    async with connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers):
                        pass
                assert refused.value.response.status_code == status
                assert server.session_count == 0

        run(main)

    def test_needs_no_key_when_none_is_set_and_takes_any_model(self) -> None:
        async def main() -> None:
            async with await self.serve_deaf() as server, connect(f"{server.url}?model=any-name") as socket:
                assert json.loads(await socket.recv())["session"]["model"] == "any-name"

        run(main)

    def test_bounds_its_sessions_and_frees_them(self) -> None:
        async def main() -> None:
            async with await self.serve_deaf(max_sessions=1) as server:
                async with connect(server.url) as socket:
                    await socket.recv()
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(server.url)
                    assert refused.value.response.status_code == 429
                while server.session_count:  # noqa: ASYNC110 - the server has no such event
                    await asyncio.sleep(0)
                async with connect(server.url) as socket:
                    await socket.recv()
                assert server.sessions_served == 2

        run(main)

    def test_takes_messages_in_fragments(self) -> None:
        async def main() -> None:
            async with await self.serve_deaf() as server, connect(server.url) as socket:
                await socket.recv()
                await socket.send(['{"type":"session', '.update","session":{"type"', ':"realtime"}}'])
                assert json.loads(await socket.recv())["type"] == "session.updated"

        run(main)

    def test_takes_minutes_of_audio_at_once(self) -> None:
        async def main() -> None:
            async with await self.serve_deaf() as server, connect(server.url) as socket:
                await socket.recv()
                audio = b64encode(bytes(11 << 20)).decode()
                await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
                await socket.send('{"type":"input_audio_buffer.clear"}')
                assert json.loads(await socket.recv())["type"] == "input_audio_buffer.cleared"

        run(main)

    def test_refuses_binary_frames(self) -> None:
        async def main() -> None:
            async with await self.serve_deaf() as server, connect(server.url) as socket:
                await socket.recv()
                await socket.send(b"\0")
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1003

        run(main)

    def test_closes_an_expired_session_with_its_error(self) -> None:
        async def main() -> None:
            options = SessionOptions(expires_after_s=0.05)
            async with await self.serve_deaf(options=options) as server, connect(server.url) as socket:
                await socket.recv()
                assert json.loads(await socket.recv())["error"]["code"] == "session_expired"
                with pytest.raises(ConnectionClosed):
                    await socket.recv()

        run(main)

    def test_closing_ends_open_sessions(self) -> None:
        async def main() -> None:
            server = await self.serve_deaf()
            async with connect(server.url) as socket:
                await socket.recv()
                await server.close()
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1001
            await server.close()

        run(main)

    def test_speaks_from_prompts_and_hears_nothing_without_the_extra(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing() -> Ears:
            raise ConfigurationError("speech recognition needs pocketsphinx: pip install 'fastagent[local]'")

        monkeypatch.setattr(server_module, "Ears", missing)

        async def main() -> None:
            with pytest.raises(ConfigurationError, match=r"fastagent\[local\]"):
                await serve(voice="prompts")
            async with await serve(voice="prompts", allow_deaf=True) as server, connect(server.url) as socket:
                await socket.recv()
                await socket.send('{"type":"response.create"}')
                kinds = set()
                while "response.done" not in kinds:
                    kinds.add(json.loads(await socket.recv())["type"])
                assert "response.output_audio.delta" in kinds

        run(main)
