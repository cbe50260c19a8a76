"""A whole call in one process: scripted phone, server, scripted model, and what must hold afterwards."""

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import soxr
import uvloop

from fastagent import FastAgent
from fastagent.agent import Transition
from fastagent.audio import wav
from fastagent.call import CallSummary
from fastagent.server.process import RunningServer, run_server
from fastagent.settings import Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions, PhoneLine
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from fastagent.testing.twilio_phone import TwilioLine, TwilioOptions, TwilioPhone

PUBLIC_URL = "https://bridge.example.com"
TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"
TWILIO_ACCOUNT = "AC00000000000000000000000000000001"
TWILIO: dict[str, Any] = {
    "twilio_auth_tokens": (TWILIO_TOKEN,),
    "twilio_account_sid": TWILIO_ACCOUNT,
    "public_url": PUBLIC_URL,
}
"""Settings that open Twilio's doors."""
UNLIMITED: dict[str, Any] = {
    "admission_lag_ms": 0.0,
    "admission_cpu_percent": 0.0,
    "calls_per_number": 0,
    "calls_per_number_hour": 0,
    "call_burst": 100_000,
}
"""Phones, model and server share a loop, and a machine with other tests; all phones have one number."""
SCENE_LIMIT_S = 60.0
"""Guards against hangs; no scene takes a tenth of it."""


class Witness:
    """Hears what the server tells its observers."""

    def __init__(self) -> None:
        self.caller: list[str] = []
        self.bot: list[str] = []
        self.transitions: list[Transition] = []
        self.summaries: list[CallSummary] = []
        self.changed = asyncio.Event()

    def caller_said(self, conversation_id: str, text: str) -> None:
        self.caller.append(text)
        self.changed.set()

    def bot_said(self, conversation_id: str, text: str) -> None:
        self.bot.append(text)
        self.changed.set()

    def moved(self, conversation_id: str, transition: Transition) -> None:
        self.transitions.append(transition)
        self.changed.set()

    def ended(self, summary: CallSummary) -> None:
        self.summaries.append(summary)
        self.changed.set()

    async def wait_until(self, claim: Callable[["Witness"], object]) -> None:
        async with asyncio.timeout(20):
            while not claim(self):
                self.changed.clear()
                await self.changed.wait()


class Tap:
    """Writes down, in order, what the bot sends to one phone, and how far ahead of the caller's ear it is."""

    def __init__(self, line: PhoneLine) -> None:
        self.order: list[str] = []
        """Types of messages, names of activities."""
        self.messages: list[dict[str, Any]] = []
        """Everything but chunks."""
        self.audio: dict[str, bytearray] = {}
        """What came on each play stream, headers removed."""
        self.most_ahead_s = 0.0
        self._receive = line.receive
        self._line = line
        setattr(line, "receive", self.receive)  # noqa: B010 - a method is replaced on purpose

    @property
    def all_audio(self) -> bytes:
        return b"".join(self.audio.values())

    def receive(self, message: bytes, now: float) -> None:
        self._receive(message, now)
        try:
            parsed = orjson.loads(message)
        except orjson.JSONDecodeError:
            return
        kind = parsed.get("type", "")
        if kind == "activities":
            self.order += [activity.get("name", "") for activity in parsed["activities"]]
        elif not self.order or self.order[-1] != kind:
            self.order.append(kind)
        if kind != "playStream.chunk":
            self.messages.append(parsed)
            return
        data = base64.b64decode(parsed["audioChunk"])
        if data.startswith(b"RIFF"):
            header = wav.parse_header(data)
            assert header is not None
            data = data[header.data_offset :]
        self.audio.setdefault(parsed["streamId"], bytearray()).extend(data)
        self.most_ahead_s = max(self.most_ahead_s, self._line.pending_s(now))


class Scene:
    """One server, one model, as many phones as wanted."""

    def __init__(self, server: RunningServer, model: RealtimeModel, witness: Witness) -> None:
        self.server = server
        self.model = model
        self.witness = witness
        self.phones: list[AudioCodesPhone | TwilioPhone] = []
        self.taps: dict[AudioCodesPhone, Tap] = {}
        self.benign: set[str] = set()
        """Codes of refusals by the model that this scene provokes."""

    def phone(self, media: str = "raw/lpcm16_24", **options: Any) -> AudioCodesPhone:
        """A phone that is not connected yet; silence between its words is digital."""
        options.setdefault("formats", (media,))
        options.setdefault("comfort_noise_peak", 0)
        conversation_id = options.pop("conversation_id", None)
        phone = AudioCodesPhone(LineOptions(**options), conversation_id=conversation_id)
        self.phones.append(phone)
        self.taps[phone] = Tap(phone.line)
        return phone

    async def dial(self, phone: AudioCodesPhone, token: str | None = None) -> AudioCodesPhone:
        """Connect and offer the call."""
        await phone.connect(self.server.audiocodes_url, token)
        await phone.initiate()
        return phone

    async def call(
        self, media: str = "raw/lpcm16_24", **options: Any
    ) -> tuple[AudioCodesPhone, ModelSession, Tap]:
        """A running call with its phone, its model session, and what the phone is sent."""
        number = len(self.model.sessions)
        phone = await self.dial(self.phone(media, **options))
        session = await self.model.session(number)
        return phone, session, self.taps[phone]

    def twilio_phone(self, *, call_sid: str | None = None, **options: Any) -> TwilioPhone:
        """A phone behind Twilio that is not connected yet; silence between its words is digital."""
        options.setdefault("comfort_noise_peak", 0)
        phone = TwilioPhone(TwilioOptions(**options), call_sid=call_sid, public_url=PUBLIC_URL)
        self.phones.append(phone)
        return phone

    @property
    def twilio_url(self) -> str:
        """Of the webhook, where the server really is."""
        return f"http://{self.server.host}:{self.server.port}/twilio/webhook"

    async def twilio_call(self, **options: Any) -> tuple[TwilioPhone, ModelSession]:
        """A running call over Twilio, and its model session."""
        number = len(self.model.sessions)
        phone = self.twilio_phone(**options)
        await phone.connect(self.twilio_url, TWILIO_TOKEN)
        await phone.initiate()
        return phone, await self.model.session(number)

    async def summary(self, number: int = 0) -> CallSummary:
        """What is left of the call that ended as number ``number``."""
        await self.witness.wait_until(lambda witness: len(witness.summaries) > number)
        return self.witness.summaries[number]


Scenario = Callable[[Scene], Awaitable[None]]


def run(
    scenario: Scenario,
    *,
    agent: FastAgent | list[FastAgent] | None = None,
    model: Callable[[], RealtimeModel] = RealtimeModel,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    limit_s: float = SCENE_LIMIT_S,
    **settings: Any,
) -> None:
    """Play a scenario, then check that nothing is left, refused or broken that should not be.

    Args:
        limit_s: guards against hangs.
    """

    async def main() -> None:
        problems: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(repr(context)))
        with catch_logged_exceptions() as logged:
            async with asyncio.timeout(limit_s), open_scene(agent, model(), settings) as scene:
                await scenario(scene)
                for phone in scene.phones:
                    if phone.is_connected and not phone.line.is_over:
                        await phone.hang_up()
                    await phone.close()
        assert problems == []
        assert logged == []
        assert scene.server.service.switchboard.active_calls == 0
        for phone in scene.phones:
            assert phone.line.violations == []
        for session in scene.model.sessions:
            codes = {refusal.partition(":")[0] for refusal in session.refusals}
            assert codes <= scene.benign, session.refusals

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@contextlib.asynccontextmanager
async def open_scene(
    agent: FastAgent | list[FastAgent] | None, model: RealtimeModel, settings: dict[str, Any]
) -> AsyncIterator[Scene]:
    witness = Witness()
    async with model:
        values: dict[str, Any] = {"port": 0, "realtime_url": model.url, "drain_timeout_s": 1.0}
        # The scripted model's own ears decide, unless a test gives the bridge some.
        values.update({"model_connect_timeout_s": 2.0, "barge_in": "model"}, **(UNLIMITED | settings))
        async with run_server(agent or FastAgent("bot"), Settings(**values), observers=[witness]) as server:
            yield Scene(server, model, witness)


def heard(least_ms: float) -> Callable[[PhoneLine | TwilioLine], bool]:
    """A claim for ``wait_until``: the caller has heard that much of the newest playback."""

    def is_heard(line: PhoneLine | TwilioLine) -> bool:
        now = asyncio.get_running_loop().time()
        return bool(line.streams) and line.streams[-1].heard_ms(now) >= least_ms

    return is_heard


@contextlib.contextmanager
def catch_logged_exceptions() -> Iterator[list[str]]:
    """Everything logged with a traceback: an exception that was only written down is a fault, too."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                found.append(self.format(record))

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)


# Audio

Samples = npt.NDArray[np.int16]


def chirp(duration_ms: int, sample_rate: int, *, low: float = 300.0, high: float = 3000.0) -> bytes:
    """PCM16 that sounds different at every moment, within the telephone band; it begins and ends softly."""
    n = sample_rate * duration_ms // 1000
    t = np.arange(n) / sample_rate
    length = n / sample_rate
    phase = 2 * np.pi * (low * t + (high - low) * t * t / (2 * length))
    edge = np.minimum(1.0, np.minimum(t, length - t) / 0.01)
    return (9000 * edge * np.sin(phase)).astype("<i2").tobytes()


def resampled(pcm: bytes, source: int, wanted: int) -> Samples:
    """The reference: a whole clip through soxr."""
    clip = np.frombuffer(pcm, "<i2")
    if source == wanted:
        return clip
    return np.asarray(soxr.resample(clip, source, wanted, quality="VHQ")).astype("<i2")


def likeness(found: bytes | bytearray, reference: Samples, sample_rate: int) -> float:
    """The correlation of ``reference`` with where it fits best in ``found``; 1.0 is the same sound, whole."""
    heard = np.frombuffer(bytes(found), "<i2").astype(np.float64)
    # What is cut off at its very end still holds a few milliseconds in the resampler.
    heard = np.pad(heard, (0, sample_rate // 100))
    wanted = reference.astype(np.float64)
    size = 1 << (len(heard) + len(wanted)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size))
    at = int(np.argmax(np.fft.irfft(spectrum, size)[: max(1, len(heard))]))
    # Resamplers may differ by a fraction of a sample in where they put a sound.
    best = 0.0
    fine = np.linspace(-1.0, 1.0, 21)
    position = np.arange(len(wanted))
    for shift in fine:
        moved = np.interp(position, position + shift, wanted)
        piece = heard[at : at + len(moved)]
        if len(piece) == len(moved):
            best = max(best, float(np.corrcoef(piece, moved)[0, 1]))
    return best
