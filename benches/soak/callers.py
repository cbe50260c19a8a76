"""Callers of a soak: one for each line, all with the same few verbs."""

import asyncio
import contextlib
import time
from typing import Any, Protocol

import numpy as np

from benches.soak.house import TOKEN, TWILIO_TOKEN
from fastagent.client import AgentClient, AudioResponse, SessionEnded
from fastagent.errors import FastAgentError, LegClosedError
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.phone import Phone
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone

__all__ = ["QUESTION_S", "AgentCaller", "AudioCodesCaller", "Caller", "TwilioCaller"]

VOICE_RATE = 24_000
QUESTION_S = 0.6
ASK_LIMIT_S = 20.0
"""For a question to be said, on a machine with other work."""
CHUNK_S = 0.02
PUBLIC_URL = "https://soak.example.com"
FORMATS = ("raw/lpcm16_24", "raw/lpcm16", "raw/lpcm16_8", "raw/mulaw")
"""Taken in turn, so that all conversions are at work."""


def voice(seconds: float, sample_rate: int = VOICE_RATE) -> bytes:
    """PCM16 that is as loud and as restless as speech."""
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)
    edge = np.minimum(1.0, np.minimum(t, seconds - t) / 0.02)
    pcm = 6000 * buzz * syllables * edge
    return np.clip(pcm, -32768, 32767).astype("<i2").tobytes()


QUESTION = voice(QUESTION_S)


class Caller(Protocol):
    """One call."""

    heard_at_s: float
    """When audio of the bot last came, in monotonic seconds."""

    @property
    def line(self) -> str:
        """The carrier."""

    @property
    def can_resume(self) -> bool:
        """The carrier comes back on another socket."""

    @property
    def is_connected(self) -> bool:
        """The socket is open."""

    @property
    def was_ended_by_bot(self) -> bool:
        """The bot ended the call, in its carrier's words."""

    @property
    def violations(self) -> list[str]:
        """Rules of the protocol that the bot broke."""

    async def connect(self) -> None:
        """Open the socket."""

    async def dial(self) -> None:
        """Open the socket and begin the call."""

    async def ask(self) -> None:
        """Say something; returns when it was said."""

    async def hang_up(self) -> None:
        """End the call."""

    async def drop(self) -> None:
        """Lose the socket."""

    async def resume(self) -> None:
        """Come back."""

    async def leave(self) -> None:
        """Let everything go."""


class _PhoneCaller:
    """What both carriers' phones have in common."""

    MEDIA_MARK = b""
    """In each message of the bot's audio."""

    def __init__(self, phone: Phone[Any], url: str, token: str) -> None:
        self.phone = phone
        self.heard_at_s = 0.0
        self._url = url
        self._token = token
        self._receive = phone.line.receive
        phone.line.receive = self._listen

    def _listen(self, message: bytes, now: float) -> None:
        if self.MEDIA_MARK in message[:200]:
            self.heard_at_s = time.monotonic()
        self._receive(message, now)

    @property
    def is_connected(self) -> bool:
        return self.phone.is_connected

    @property
    def violations(self) -> list[str]:
        return [one.rule for one in self.phone.line.violations]

    async def connect(self) -> None:
        await self.phone.connect(self._url, self._token)

    async def dial(self) -> None:
        await self.connect()
        await self.phone.initiate()
        if self.phone.line.is_over:
            raise LegClosedError("carrier", f"refused: {self.phone.line.refusal}", retryable=False, code=1000)

    async def ask(self) -> None:
        await self.phone.say(QUESTION, VOICE_RATE)

    async def hang_up(self) -> None:
        await self.phone.hang_up()

    async def drop(self) -> None:
        await self.phone.drop()

    async def leave(self) -> None:
        with contextlib.suppress(FastAgentError, OSError):
            await self.phone.close()


class AudioCodesCaller(_PhoneCaller):
    """Behind AudioCodes."""

    MEDIA_MARK = b'"playStream.chunk"'
    line = "audiocodes"
    can_resume = True

    def __init__(self, url: str, number: int, token: str = TOKEN, **options: Any) -> None:
        self._phone = AudioCodesPhone(LineOptions(formats=(FORMATS[number % len(FORMATS)],), **options))
        super().__init__(self._phone, url, token)

    @property
    def was_ended_by_bot(self) -> bool:
        return self._phone.line.is_over

    async def resume(self) -> None:
        await self._phone.resume()


class TwilioCaller(_PhoneCaller):
    """Behind Twilio, which knows no way back."""

    MEDIA_MARK = b'"media"'
    line = "twilio"
    can_resume = False

    def __init__(self, url: str, token: str = TWILIO_TOKEN) -> None:
        super().__init__(TwilioPhone(TwilioOptions(), public_url=PUBLIC_URL), url, token)

    @property
    def was_ended_by_bot(self) -> bool:
        return self.phone.close_code == 1000

    async def resume(self) -> None:
        raise LegClosedError("carrier", "Twilio does not come back", retryable=False, code=1006)


class AgentCaller:
    """An application on ``/agent/ws``; its client comes back by itself."""

    line = "agent_ws"
    can_resume = True
    MEDIA = "audio/pcm;rate=24000"

    def __init__(self, url: str, token: str = TOKEN) -> None:
        self.heard_at_s = 0.0
        self.violations: list[str] = []
        self.was_ended_by_bot = False
        self._client = AgentClient(url, token=token, media=self.MEDIA)
        self._tasks: list[asyncio.Task[None]] = []
        self._speech = bytearray()
        self._is_said = asyncio.Event()
        self._has_hung_up = False

    @property
    def is_connected(self) -> bool:
        leg = self._client._leg
        return leg is not None and leg.is_open and not any(task.done() for task in self._tasks)

    async def connect(self) -> None:
        await self._client.__aenter__()

    async def dial(self) -> None:
        await self.connect()
        await self._client.start("soak")
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak())]

    async def _listen(self) -> None:
        try:
            async for event in self._client:
                if isinstance(event, AudioResponse) and event.data:
                    self.heard_at_s = time.monotonic()
                elif isinstance(event, SessionEnded):
                    self.was_ended_by_bot = not self._has_hung_up
        except FastAgentError:
            pass  # seen by its task being done

    async def _speak(self) -> None:
        size = int(VOICE_RATE * CHUNK_S) * 2
        due_s = time.monotonic()
        try:
            while True:
                chunk = bytes(self._speech[:size]).ljust(size, b"\0")
                del self._speech[:size]
                if not self._speech:
                    self._is_said.set()
                with contextlib.suppress(LegClosedError):  # lost, and soon back
                    await self._client.send_audio(chunk)
                due_s += CHUNK_S
                await asyncio.sleep(due_s - time.monotonic())
        except FastAgentError:
            pass

    async def ask(self) -> None:
        self._is_said.clear()
        self._speech += QUESTION
        async with asyncio.timeout(ASK_LIMIT_S):
            await self._is_said.wait()

    async def hang_up(self) -> None:
        self._has_hung_up = True
        await self._client.end("done")
        async with asyncio.timeout(10):
            await self._tasks[0]

    async def drop(self) -> None:
        leg = self._client._leg
        if leg is not None and leg.is_open:
            leg.abort()

    async def resume(self) -> None:
        async with asyncio.timeout(15):
            while not self.is_connected:
                if self._tasks[0].done():
                    raise LegClosedError("agent", "the session was lost", retryable=False, code=1006)
                await asyncio.sleep(0.05)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(FastAgentError, OSError):
            await self._client.close()
