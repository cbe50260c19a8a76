"""One call of a load test: reach the server, play a scenario, measure turns, hang up.

::

    due ─ dial ─▶ OPENING ── answered ──▶ LIVE ── hang up | drop | end of time ──▶ over
                     └── refused, no answer ──▶ failed ◀── socket lost, bot silent ──┘

A caller is one coroutine that waits for its steps; audio is the engine's and never passes here.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree

from fastagent.audio.formats import AudioFormat
from fastagent.errors import LegConnectError, LegError, LegTimeoutError
from fastagent.load.exchange import Exchange
from fastagent.load.lines import (
    LINES,
    Cut,
    Ended,
    Heard,
    Identity,
    Line,
    Owed,
    Ready,
    Refused,
    Send,
    TwilioLine,
)
from fastagent.load.pairing import Pairing
from fastagent.load.scenario import DropStep, LoadStep, Scenario
from fastagent.load.speech import FRAME_MS, Speech
from fastagent.load.tally import Tally
from fastagent.load.upgrade import TLS_FAILED, TlsPipes, connect
from fastagent.testing.caller_script import HangUpStep, KeysStep, PauseStep, SayStep
from fastagent.testing.twilio_requests import post_form, sign

__all__ = ["Caller", "Target"]

NS_PER_S = 1_000_000_000
SETUP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0
"""From the caller's last sound to the bot's first."""
SPEAK_TIMEOUT_S = 60.0
END_TIMEOUT_S = 3.0
"""For the server to close after the caller hung up."""
SETTLE_S = 0.3
"""Silence of the bot that means it has finished."""
BARGE_IN_LIMIT_S = 2.0
"""A bot that speaks on for longer has not noticed."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test, and how it is spoken to."""

    carrier: str
    """A name of `LINES`."""
    url: str
    """``ws://`` or ``wss://``; for Twilio the webhook's ``http(s)://``, or the stream's address at once."""
    token: str | None = None
    public_url: str = ""
    """For Twilio: what the server is called from outside, if that is another address."""
    bot: str = ""
    media: str = ""
    number: str = "+1555{n:07d}"
    """Of callers; ``{n}`` is the call's number."""
    callee: str = "+15550100002"
    through: tuple[str, int] | None = None
    """Where sockets really go, if a proxy is to be between."""


class CallLostError(Exception):
    """The call cannot go on; the text is the reason that is counted."""


class Caller:
    """One call. `run` ends when it is over, and never raises for what a server does.

    Args:
        number: of the call, from 0; seeds what it does.
        due_s: when it was to begin, by the monotonic clock: setup is measured from there.
        until: tells when the caller shall hang up, by the same clock.
        awaits_model: its audio is looked for at a model in this process, so speak only once that is there.
    """

    def __init__(
        self,
        exchange: Exchange,
        tally: Tally,
        target: Target,
        scenario: Scenario,
        voices: Mapping[str, Speech],
        *,
        number: int,
        due_s: float,
        until: Callable[[], float],
        pipes: TlsPipes,
        awaits_model: bool,
        seed: int = 0,
    ) -> None:
        one = Identity(number, target.number.format(n=number), target.callee, target.bot, target.media)
        self.line: Line = LINES[target.carrier](one)
        self._exchange = exchange
        self._engine = exchange.engine
        self._tally = tally
        self._target = target
        self._scenario = scenario
        self._voices = voices
        self._due_s = due_s
        self._until = until
        self._pipes = pipes
        self._awaits_model = awaits_model
        self._chance = random.Random(seed * 1_000_003 + number)
        self._parameters: dict[str, str] = {}
        self._connection = -1
        self._pairing: Pairing | None = None
        self._format: AudioFormat | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._owed: list[tuple[asyncio.TimerHandle, bytes]] = []
        self._onset_ns = self._spoken_ns = self._cut_ns = 0
        self._said = self._is_closed = self._is_hanging_up = False
        self._failure = ""

    async def run(self) -> None:
        """Make the call."""
        tally = self._tally
        tally.note("begun")
        tally.opening += 1
        try:
            await self._open()
        except (CallLostError, LegError) as error:
            tally.opening -= 1
            tally.fail(_reason(error))
            self._leave()
            return
        except BaseException:
            tally.opening -= 1
            self._leave()
            raise
        tally.opening -= 1
        tally.answer()
        tally.duration("setup", max(1, time.monotonic_ns() - int(self._due_s * NS_PER_S)))
        try:
            await self._play()
            tally.note("completed")
        except CallLostError as error:
            tally.fail(_reason(error))
        finally:
            tally.live -= 1
            self._leave()

    # Opening

    async def _open(self) -> None:
        headers: dict[str, str] = {}
        target, url = self._target, self._target.url
        if target.carrier == "twilio":
            if urlsplit(url).scheme in ("http", "https"):
                url, headers["X-Twilio-Signature"] = await self._ask_webhook()
            elif target.token:
                headers["X-Twilio-Signature"] = sign(target.token, target.public_url or url)
        elif target.token:
            headers["Authorization"] = f"Bearer {target.token}"
        descriptor, rest = await connect(
            url, headers, self._pipes, through=target.through, timeout_s=SETUP_TIMEOUT_S
        )
        line, exchange = self.line, self._exchange
        self._connection = self._engine.add(
            descriptor,
            is_client=True,
            is_up=True,
            spec=exchange.spec(line.envelope),
            media=b"",
            end_quiet_ms=0,
            first=rest,
        )
        exchange.own(self._connection, self)
        for message in line.begin(self._parameters):
            self._send(message)
        ready = line.ready()
        if ready is not None:
            self._answered(ready)
        await self._wait(lambda: self._format is not None, SETUP_TIMEOUT_S, "not answered in time")

    async def _ask_webhook(self) -> tuple[str, str]:
        """Ask what to do with the call, as Twilio does; gives the stream's address and its signature."""
        target, line = self._target, self.line
        assert isinstance(line, TwilioLine)
        parts = urlsplit(target.url)
        reached = f"{parts.scheme}://{parts.netloc}"
        public = (target.public_url or reached).rstrip("/")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        caller = target.number.format(n=self._chance.randrange(10**6))
        form = {
            "AccountSid": line.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": line.call_sid,
            "CallStatus": "ringing",
            "Called": target.callee,
            "Caller": caller,
            "Direction": "inbound",
            "From": caller,
            "To": target.callee,
        }
        if target.bot:
            form["bot"] = target.bot
        headers = {"Host": urlsplit(public).netloc, "User-Agent": "TwilioProxy/1.1"}
        headers["X-Twilio-Signature"] = sign(target.token or "", public + path, form.items())
        answer = await post_form(reached + path, form.items(), headers, timeout_s=SETUP_TIMEOUT_S)
        if answer.status != 200:
            raise LegConnectError("carrier", "the webhook", retryable=False, status=answer.status)
        try:
            stream = ElementTree.fromstring(answer.body).find("Connect/Stream")
        except ElementTree.ParseError:
            raise CallLostError("the webhook's answer is no TwiML") from None
        if stream is None:
            raise CallLostError("the TwiML asks for no stream")
        self._parameters = {one.get("name", ""): one.get("value", "") for one in stream.findall("Parameter")}
        url = stream.get("url", "")
        signature = sign(target.token or "", url)
        stream_path = url.partition("://")[2].removeprefix(public.partition("://")[2])
        if stream_path.startswith("/"):
            return reached.replace("http", "ws", 1) + stream_path, signature
        return url, signature

    def _answered(self, ready: Ready) -> None:
        self._engine.set_format(self._connection, ready.format.encoding.value, ready.format.sample_rate)
        self._engine.set_media(self._connection, self.line.media())
        idle = self._exchange.silence(ready.format, FRAME_MS)
        if self._awaits_model:
            self._pairing = self._exchange.desk.add_caller(self._connection)
            if self._pairing.sign >= 0:
                idle = self._exchange.sign(self._pairing.sign, ready.format, FRAME_MS)
        self._engine.idle(self._connection, idle)
        self._format = ready.format

    # The scenario

    async def _play(self) -> None:
        await self._be_recognised()
        for step in self._scenario.steps(self._chance):
            if time.monotonic() >= self._until():
                break
            if await self._step(step):
                return
        await self._hang_up()

    async def _be_recognised(self) -> None:
        """Make the sign until it is known which session of the model belongs to this call."""
        if self._pairing is None or self._format is None:
            return
        deadline_s = time.monotonic() + SETUP_TIMEOUT_S
        while not self._exchange.desk.look(self._pairing):
            if time.monotonic() > deadline_s:
                raise CallLostError("no session of the model")
            await self._sleep(0.05)
        self._engine.idle(self._connection, self._exchange.silence(self._format, FRAME_MS))

    async def _step(self, step: LoadStep) -> bool:
        """Do one thing; True when the call is over with it."""
        match step:
            case PauseStep():
                await self._sleep(step.duration_s)
            case KeysStep():
                for message in self.line.keys(step.digits):
                    self._send(message)
                self._tally.note("keys", len(step.digits))
            case DropStep():
                self._is_hanging_up = True
                self._tally.note("dropped")
                self._engine.close(self._connection, is_abrupt=True)
                return True
            case HangUpStep():
                await self._hang_up()
                return True
            case SayStep():
                if not await self._say(step):
                    await self._hang_up()
                    return True
        return False

    async def _say(self, step: SayStep) -> bool:
        """Speak and wait for the answer; False when time was over before."""
        if step.interrupt_after_s is None:
            if not await self._bot_finished():
                return False
        else:
            await self._sleep(step.interrupt_after_s)
        assert self._format is not None
        is_interrupting = self._is_bot_heard()
        clip = self._exchange.speech(self._voices[step.text], self._format, FRAME_MS)
        self._said, self._onset_ns, self._cut_ns = False, 0, 0
        self._engine.say(self._connection, clip)
        self._tally.note("turns")
        if step.interrupt_after_s is not None and is_interrupting:
            await self._measure_barge_in()
        await self._wait(lambda: self._said, SPEAK_TIMEOUT_S, "could not speak")
        self._engine.expect(self._connection)
        try:
            await self._wait(lambda: self._onset_ns > 0, ANSWER_TIMEOUT_S, "the bot does not answer")
        except CallLostError:
            if not self._is_closed and time.monotonic() >= self._until():
                return False
            raise
        self._tally.duration("turn", max(1, self._onset_ns - self._spoken_ns))
        self._tally.note("answers")
        return True

    async def _measure_barge_in(self) -> None:
        """From the first loud frame of the caller to the last sound of the bot that came."""
        self._tally.note("barge_ins")
        deadline_s = time.monotonic() + BARGE_IN_LIMIT_S
        while time.monotonic() < deadline_s:
            await self._sleep(0.05)
            last_audio_ns, spoke_ns, _ = self._engine.times(self._connection)
            stopped_ns = self._cut_ns
            if not stopped_ns and spoke_ns and time.monotonic_ns() - last_audio_ns > SETTLE_S * NS_PER_S:
                stopped_ns = last_audio_ns
            if stopped_ns and spoke_ns:
                self._tally.duration("barge_in", max(1, stopped_ns - spoke_ns))
                return
        self._tally.note("barge_ins_ignored")

    def _is_bot_heard(self) -> bool:
        return self._engine.times(self._connection)[2] > time.monotonic_ns()

    async def _bot_finished(self) -> bool:
        """Wait until the bot has been silent for a while; False when the call's time is over before."""
        while True:
            last_audio_ns, _, played_ns = self._engine.times(self._connection)
            silent_at_ns = max(last_audio_ns, played_ns) + int(SETTLE_S * NS_PER_S)
            left_ns = silent_at_ns - time.monotonic_ns()
            if left_ns <= 0:
                return True
            if time.monotonic() >= self._until():
                return False
            await self._sleep(min(max(left_ns / NS_PER_S, 0.02), 1.0))

    async def _hang_up(self) -> None:
        self._is_hanging_up = True
        self._engine.mute(self._connection)
        for message in self.line.hang_up():
            self._send(message)
        if self.line.hangs_up_by_closing:
            self._engine.close(self._connection, 1000)
        try:
            await self._wait(lambda: self._is_closed, END_TIMEOUT_S, "")
        except CallLostError:
            self._tally.note("left_open")

    # What the engine tells

    def take(self, message: bytes, at_ns: int, played_ns: int) -> None:
        """A message that is not media."""
        try:
            heard = self.line.receive(message)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._tally.note("unreadable")
            return
        for one in heard:
            self._hear(one, at_ns, played_ns)
        if heard:
            self._look()

    def _hear(self, one: Heard, at_ns: int, played_ns: int) -> None:
        match one:
            case Ready():
                self._answered(one)
            case Send(message):
                self._send(message)
            case Owed(message):
                self._owe(message, played_ns)
            case Cut(drops):
                self._cut_ns = self._cut_ns or at_ns
                if drops:
                    self._engine.cut(self._connection)
                    owed, self._owed = self._owed, []
                    for timer, message in owed:
                        timer.cancel()
                        self._send(message)
            case Refused(reason):
                self._failure = f"refused: {reason}"
            case Ended(messages):
                if not self._is_hanging_up:
                    self._failure = "the bot hung up"
                for message in messages:
                    self._send(message)

    def _owe(self, message: bytes, played_ns: int) -> None:
        left_ns = played_ns - time.monotonic_ns()
        if left_ns <= 0:
            self._send(message)
            return
        timer = asyncio.get_running_loop().call_later(left_ns / NS_PER_S, self._pay)
        self._owed.append((timer, message))

    def _pay(self) -> None:
        _, message = self._owed.pop(0)
        self._send(message)

    def onset(self, at_ns: int) -> None:
        """The bot begins to speak."""
        self._onset_ns = self._onset_ns or at_ns
        self._look()

    def quiet(self, at_ns: int) -> None:
        """Not asked for."""

    def said(self, at_ns: int, spoken_ns: int) -> None:
        """The caller has spoken."""
        self._said, self._spoken_ns = True, spoken_ns
        self._onset_ns = 0
        self._look()

    def closed(self, at_ns: int, code: int) -> None:
        """The socket is gone."""
        self._is_closed = True
        if not self._is_hanging_up and not self._failure:
            self._failure = f"closed with {code}"
        self._look()

    # Waiting

    def _look(self) -> None:
        if self._waiter is not None:
            _settle(self._waiter, True)

    async def _changed(self, timeout_s: float) -> bool:
        """Wait for anything to happen; False after ``timeout_s``."""
        # A timer of its own: a thousand callers wait all the time, and `asyncio.timeout` costs an exception.
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        timer = loop.call_later(timeout_s, _settle, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def _wait(self, claim: Callable[[], bool], timeout_s: float, reason: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not claim():
            self._check()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not await self._changed(left_s):
                if claim():
                    return
                raise CallLostError(reason)

    async def _sleep(self, duration_s: float) -> None:
        """Let time pass, unless the call fails meanwhile."""
        deadline_s = time.monotonic() + duration_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._check()
            await self._changed(left_s)

    def _check(self) -> None:
        if self._failure and not self._is_hanging_up:
            raise CallLostError(self._failure)

    def _send(self, message: bytes) -> None:
        self._engine.send(self._connection, message)

    def _leave(self) -> None:
        """Whatever happened, nothing of the call stays."""
        for timer, _ in self._owed:
            timer.cancel()
        if self._pairing is not None:
            self._exchange.desk.remove_caller(self._pairing)
        if self._connection >= 0 and not self._is_closed:
            self._is_hanging_up = True
            self._engine.close(self._connection, is_abrupt=True)


def _settle(waiter: asyncio.Future[bool], is_changed: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_changed)


def _reason(error: CallLostError | LegError) -> str:
    if isinstance(error, LegConnectError) and error.status is not None:
        return f"HTTP {error.status}"
    if isinstance(error, LegTimeoutError):
        return "no upgrade in time"
    if isinstance(error, LegConnectError):
        return TLS_FAILED if error.reason == TLS_FAILED else "not reachable"
    return str(error)
