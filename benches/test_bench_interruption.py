"""Bench: an interruption of a whole call, from the model's decision to the carrier's order to be silent.

Phone, server and scripted model are joined by real sockets on loopback and share one loop. A round begins
when the model sends ``input_audio_buffer.speech_started`` over a bot that is being heard, and ends when the
phone has received ``clear`` (Twilio) or ``playStream.stop`` (AudioCodes): two ways over loopback are in it.
Between the rounds the caller's turn ends and the bot begins anew.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from fastagent import FastAgent
from fastagent.server.process import run_server
from fastagent.settings import Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from fastagent.testing.twilio_phone import TwilioPhone

PUBLIC_URL = "https://bridge.example.com"
KEY = "0123456789abcdef0123456789abcdef"
ROUNDS = 30
GOAL_NS = 20_000_000
HEARD_MS = 60.0
"""Of the bot, before it is interrupted."""
SPEECH_MS = 2_000


@dataclass(slots=True)
class TalkingCall:
    """A call whose bot is interrupted again and again."""

    phone: AudioCodesPhone | TwilioPhone
    session: ModelSession
    interruptions: int = 0

    def silenced(self) -> int:
        """How often the bot was cut short."""
        return sum(stretch.was_cut for stretch in self.phone.line.streams)

    async def begin(self) -> None:
        """The caller of the last round is done; the bot speaks and is heard."""
        loop = asyncio.get_running_loop()
        line = self.phone.line
        if self.interruptions:
            before = len(line.streams)
            self.session.speech_stopped("wait")
            await self.phone.wait_until(
                lambda line: len(line.streams) > before and line.streams[-1].is_done, "the answer"
            )
        before = len(line.streams)
        self.session.speak(self.session.tone(SPEECH_MS), is_last=False)
        await self.phone.wait_until(
            lambda line: len(line.streams) > before and line.streams[-1].heard_ms(loop.time()) >= HEARD_MS,
            "the bot",
        )

    async def interrupt(self) -> None:
        """The round itself."""
        silenced = self.silenced()
        self.session.speech_started()
        await self.phone.wait_until(lambda line: self.silenced() > silenced, "silence")
        self.interruptions += 1


@contextlib.asynccontextmanager
async def talking_call(carrier: str) -> AsyncIterator[TalkingCall]:
    async with RealtimeModel() as model:
        settings = Settings(
            port=0,
            realtime_url=model.url,
            barge_in="model",
            drain_timeout_s=1.0,
        )
        if carrier == "twilio":
            settings = settings.with_changes(twilio_auth_tokens=(KEY,), public_url=PUBLIC_URL)
        async with run_server(FastAgent("bot"), settings) as server:
            phone: AudioCodesPhone | TwilioPhone
            if carrier == "twilio":
                phone = TwilioPhone(public_url=PUBLIC_URL)
                await phone.connect(server.twilio_url, KEY)
            else:
                phone = AudioCodesPhone(LineOptions(formats=("raw/mulaw",)))
                await phone.connect(server.audiocodes_url)
            await phone.initiate()
            yield TalkingCall(phone, await model.session(0))
            await phone.hang_up()
            await phone.close()


@pytest.fixture(params=["audiocodes", "twilio"])
def call(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, TalkingCall, str]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = contextlib.AsyncExitStack()
        talking = runner.run(stack.enter_async_context(talking_call(request.param)))
        yield runner, talking, request.param
        runner.run(stack.aclose())


def test_interruption(benchmark: BenchmarkFixture, call: tuple[asyncio.Runner, TalkingCall, str]) -> None:
    runner, talking, carrier = call
    benchmark.extra_info.update(
        subject=f"interruption over {carrier}",
        implementation="fastagent",
        unit="interruption",
        goal_ns=GOAL_NS,
    )
    benchmark.pedantic(
        lambda: runner.run(talking.interrupt()),
        setup=lambda: runner.run(talking.begin()),
        rounds=ROUNDS,
    )
    assert talking.silenced() == talking.interruptions
    assert len(talking.session.sent("conversation.item.truncate")) >= talking.interruptions
