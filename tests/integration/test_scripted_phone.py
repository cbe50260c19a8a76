"""The scripted AudioCodes phone on a real socket, against a bot that is nothing but the codec and an echo."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import orjson
import picows
import pytest

from fastagent.errors import LegClosedError, LegConnectError, LegTimeoutError
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions, LinePhase
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA, RECOMMENDED_SETTINGS, AudioCodesCodec
from fastagent.wire.events import (
    AcceptSession,
    CallerStreamStarted,
    CarrierCommand,
    CarrierEvent,
    ClosePlayback,
    ConfigureCall,
    DtmfReceived,
    HangUp,
    OpenPlayback,
    PlayAudio,
    PlaybackFinished,
    RefuseSession,
    SessionEnded,
    SessionOffered,
    SessionResumed,
)

RAW = AUDIOCODES_MEDIA["raw/lpcm16_24"]
OPTIONS = LineOptions(formats=("raw/lpcm16_24",))
TOKEN = "correct-token"


def tone(duration_ms: int) -> bytes:
    t = np.arange(24 * duration_ms) / 24_000
    return (8000 * np.sin(2 * np.pi * 400 * t)).astype("<i2").tobytes()


class EchoBot(picows.WSListener):
    """Says a tone when the stream opens, hangs up on the digit 9 once the tone was heard."""

    def __init__(self, known: set[str], *, is_silent: bool) -> None:
        self.codec = AudioCodesCodec()
        self.known = known
        self.is_silent = is_silent
        self.heard_bytes = 0
        self.has_played = False
        self.commands: list[CarrierCommand] = []

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
            return
        raw = frame.get_payload_as_bytes()
        if self.is_silent:
            return
        message = orjson.loads(raw)
        if message["type"] == "userStream.chunk":
            self.heard_bytes += len(message["audioChunk"]) * 3 // 4
            return
        for event in self.codec.receive(raw):
            for ack in self.codec.messages_to_send():
                transport.send(picows.WSMsgType.TEXT, ack)
            for command in self.answer(event):
                for out in self.codec.send(command):
                    transport.send(picows.WSMsgType.TEXT, out)
            if isinstance(event, SessionEnded):
                transport.send_close(picows.WSCloseCode.OK)
                transport.disconnect()

    def answer(self, event: CarrierEvent) -> list[CarrierCommand]:
        match event:
            case SessionOffered():
                self.known.add(event.conversation_id)
                return [AcceptSession(event.offers[0]), ConfigureCall(RECOMMENDED_SETTINGS)]
            case SessionResumed(conversation_id):
                if conversation_id not in self.known:
                    return [RefuseSession("conversation not found", conversation_id)]
                return [AcceptSession(RAW)]
            case CallerStreamStarted():
                return [OpenPlayback("p", RAW, text="Hello."), PlayAudio("p", tone(100)), ClosePlayback("p")]
            case PlaybackFinished():
                self.has_played = True
            case DtmfReceived("9"):
                return [HangUp("done")]
        return []


@asynccontextmanager
async def bot(*, is_silent: bool = False) -> AsyncIterator[str]:
    known: set[str] = set()

    def admit(request: picows.WSUpgradeRequest) -> picows.WSListener | picows.WSUpgradeResponseWithListener:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            refusal = picows.WSUpgradeResponse.create_error_response(401, b"no")
            return picows.WSUpgradeResponseWithListener(refusal, None)
        return EchoBot(known, is_silent=is_silent)

    server = await picows.ws_create_server(admit, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/audiocodes/webhook"
    finally:
        server.close()
        await server.wait_closed()


def run(scenario: Callable[[str], Awaitable[None]], *, is_silent: bool = False) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            async with bot(is_silent=is_silent) as url:
                await scenario(url)

    asyncio.run(main())


def test_call_is_spoken_recorded_and_ended_by_the_bot() -> None:
    async def scenario(url: str) -> None:
        async with AudioCodesPhone(OPTIONS) as phone:
            await phone.connect(url, TOKEN)
            await phone.initiate()
            await phone.say(tone(100), 24_000)
            await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the tone")
            assert phone.dtmf("9")
            await phone.wait_ended()
            assert phone.line.end_code == "bot-disconnected"
            assert phone.line.unheard_at_hangup_s == 0
            assert phone.line.violations == []
            assert phone.line.said("bot") == ["Hello."]
            assert phone.close_code == 1000
            stereo = np.abs(np.frombuffer(phone.recording(8000), "<i2").reshape(-1, 2))
            assert [round(float((side > 500).sum()) / 8) for side in stereo.T] == [
                pytest.approx(100, abs=20),
                pytest.approx(100, abs=20),
            ]

    run(scenario)


def test_caller_hangs_up_and_the_bot_closes() -> None:
    async def scenario(url: str) -> None:
        phone = AudioCodesPhone(OPTIONS)
        await phone.connect(url, TOKEN)
        await phone.initiate()
        await phone.hang_up()
        assert not phone.is_connected
        assert phone.line.end_code == "client-disconnected"

    run(scenario)


def test_lost_socket_is_resumed_on_a_new_one() -> None:
    async def scenario(url: str) -> None:
        async with AudioCodesPhone(OPTIONS) as phone:
            await phone.connect(url, TOKEN)
            await phone.initiate()
            await phone.drop()
            assert not phone.is_connected
            assert phone.close_code == 1006
            with pytest.raises(LegClosedError):
                await phone.wait_until(lambda line: line.is_over)
            await phone.resume()
            assert phone.line.is_listening
            await phone.hang_up()

        async with AudioCodesPhone(OPTIONS, conversation_id="stranger") as other:
            await other.connect(url, TOKEN)
            await other.close()
            await other.resume()
            assert other.line.phase is LinePhase.FAILED
            assert other.line.error_reason == "conversation not found"

    run(scenario)


def test_connectivity_check_and_refusal() -> None:
    async def scenario(url: str) -> None:
        phone = AudioCodesPhone()
        await phone.connect(url, TOKEN)
        await phone.validate()
        assert phone.line.is_validated
        assert not phone.is_connected
        with pytest.raises(LegConnectError) as caught:
            await AudioCodesPhone().connect(url, "wrong")
        assert caught.value.status == 401
        with pytest.raises(LegConnectError):
            await AudioCodesPhone().connect("ws://127.0.0.1:1/", TOKEN)

    run(scenario)


def test_bot_that_never_answers_times_out() -> None:
    async def scenario(url: str) -> None:
        async with AudioCodesPhone(OPTIONS) as phone:
            await phone.connect(url, TOKEN)
            with pytest.raises(LegTimeoutError, match="an answer"):
                await phone.initiate(timeout_s=0.05)
            assert phone.is_connected

    run(scenario, is_silent=True)
