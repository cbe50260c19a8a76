"""A scripted caller behind AudioCodes VoiceAI Connect, on a real WebSocket.

::

    phone = AudioCodesPhone(LineOptions(formats=("raw/lpcm16_24",)))
    await phone.connect("ws://127.0.0.1:8000/audiocodes/webhook", token)
    await phone.initiate()                        # waits until caller audio flows
    await phone.say(pcm, 16_000)                  # in real time, noise between words
    await phone.wait_until(lambda line: line.said("bot"), "the bot's answer")
    await phone.hang_up()
    stereo = phone.recording(24_000)              # left caller, right bot
    assert not phone.line.violations

The protocol and its rules are in `PhoneLine`; this file adds the socket and the clock. There is no task: the
line is moved by messages that arrive and by one timer for its next deadline.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import picows

from fastagent.errors import LegClosedError, LegConnectError, LegTimeoutError
from fastagent.testing.audiocodes_line import PhoneLine
from fastagent.testing.audiocodes_playback import PlayedStream
from fastagent.testing.audiocodes_records import (
    LineOptions,
    LinePhase,
    Rule,
    StreamPhase,
    Transcript,
    Violation,
)

__all__ = [
    "AudioCodesPhone",
    "LineOptions",
    "LinePhase",
    "PhoneLine",
    "PlayedStream",
    "Rule",
    "StreamPhase",
    "Transcript",
    "Violation",
]

LEG = "carrier"
FRAME_BYTES_MAX = 1 << 20
"""The largest message taken from a bot."""
TIMEOUT_S = 10.0


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits for a claim about the line to come true."""

    claim: Callable[[PhoneLine], object]
    done: asyncio.Future[None]


class Listener(picows.WSListener):
    """Puts frames together and hands them to the phone."""

    def __init__(self, phone: "AudioCodesPhone") -> None:
        self._phone = phone
        self._parts = bytearray()
        self.close_code = 1006

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Take one frame; pings are answered by the transport."""
        if frame.msg_type is picows.WSMsgType.CLOSE:
            # 1005 stands for a close frame without a code (RFC 6455, 7.1.5).
            self.close_code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big") or 1005
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type in (
            picows.WSMsgType.TEXT,
            picows.WSMsgType.BINARY,
            picows.WSMsgType.CONTINUATION,
        ):
            self._parts += frame.get_payload_as_bytes()
            if len(self._parts) > FRAME_BYTES_MAX:
                transport.send_close(picows.WSCloseCode.MESSAGE_TOO_BIG)
                transport.disconnect()
            elif frame.fin:
                message = bytes(self._parts)
                self._parts.clear()
                self._phone._take(self, message, frame.msg_type is picows.WSMsgType.BINARY)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """The socket is gone, whoever closed it."""
        self._phone._disconnected(self)


class AudioCodesPhone:
    """One call of a scripted caller; `line` holds everything that was seen. Use one object per call."""

    def __init__(self, options: LineOptions | None = None, *, conversation_id: str | None = None) -> None:
        self.line = PhoneLine(options, conversation_id=conversation_id)
        self.close_code: int | None = None
        """How the last socket was closed; 1006 without a close frame, None while it is open."""
        self._transport: picows.WSTransport | None = None
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[Waiter] = []
        self._url = ""
        self._headers: dict[str, str] = {}

    # The socket

    @property
    def is_connected(self) -> bool:
        """The socket is open."""
        return self._transport is not None

    async def connect(
        self,
        url: str,
        token: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Open the socket, with a bearer token when there is one. Nothing is sent yet.

        Raises:
            LegConnectError: refused (``status`` holds the HTTP answer) or not reachable.
        """
        self._url = url
        self._headers = dict(headers or {})
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        await self._open(timeout_s)

    async def _open(self, timeout_s: float) -> None:
        if self._transport is not None:
            raise ValueError("the phone is already connected")
        listener = Listener(self)
        try:
            self._transport, _ = await picows.ws_connect(
                lambda: listener,
                self._url,
                websocket_handshake_timeout=timeout_s,
                max_frame_size=FRAME_BYTES_MAX,
                extra_headers=self._headers,
                max_redirects=0,
            )
        except picows.WSHandshakeError as error:
            status = int(error.response.status) if error.response is not None else None
            raise LegConnectError(
                LEG, f"the bot refused (HTTP {status})", retryable=False, status=status
            ) from None
        except (OSError, picows.WSError) as error:
            raise LegConnectError(LEG, type(error).__name__, retryable=True) from None
        if self._transport.is_disconnected:
            self._transport = None
            raise LegConnectError(LEG, "closed at once", retryable=True)
        self._listener = listener
        self.close_code = None

    async def drop(self) -> None:
        """Lose the socket abruptly, without a close frame; `resume` takes the call up again."""
        transport = self._transport
        if transport is not None:
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()

    async def resume(self, *, url: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Open a new socket and resume the call on it; returns when the bot has answered.

        Args:
            url: of another server than before, as behind a load balancer.

        Raises:
            LegConnectError, LegClosedError, LegTimeoutError: as they say.
        """
        self._url = self._url if url is None else url
        await self._open(timeout_s)
        self.line.resume(self._now())
        await self._answered(timeout_s)

    async def close(self) -> None:
        """Close the socket if it is open. That alone does not end a call."""
        transport = self._transport
        if transport is not None:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
            await transport.wait_disconnected()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # The call

    async def validate(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Run the connectivity check: ask, wait for the answer, close."""
        self.line.validate()
        await self.wait_until(lambda line: line.is_validated, "connection.validated", timeout_s=timeout_s)
        await self.close()

    async def initiate(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Offer the call; returns when the bot has accepted and caller audio flows, or when it refused.

        Raises:
            LegClosedError, LegTimeoutError: the bot went away, or never answered.
        """
        self.line.initiate(self._now())
        await self._answered(timeout_s)

    async def _answered(self, timeout_s: float) -> None:
        await self.wait_until(
            lambda line: line.is_over or line.phase is LinePhase.ACTIVE, "an answer", timeout_s=timeout_s
        )
        # With bargeIn off a bot that speaks at once keeps the stream closed, so audio need not flow yet.
        await self.wait_until(
            lambda line: line.user_stream is not StreamPhase.STARTING or line.is_over,
            "userStream.started",
            timeout_s=timeout_s,
        )

    async def say(self, pcm: bytes, sample_rate: int, *, timeout_s: float = 60.0) -> None:
        """Speak PCM16 in real time; returns when the last of it was sent."""
        self.line.say(pcm, sample_rate)
        await self.wait_until(
            lambda line: not line.has_speech, "a user stream to speak on", timeout_s=timeout_s
        )

    def start_saying(self, pcm: bytes, sample_rate: int) -> None:
        """Speak, without waiting."""
        self.line.say(pcm, sample_rate)
        self._turn()

    def dtmf(self, digits: str) -> bool:
        """Type digits; False when the bot did not ask for DTMF."""
        is_sent = self.line.dtmf(digits)
        self._turn()
        return is_sent

    def event(self, name: str, **fields: object) -> bool:
        """Send an event; False when the bot did not ask for it."""
        is_sent = self.line.event(name, **fields)
        self._turn()
        return is_sent

    def send_raw(self, message: bytes, *, is_binary: bool = False) -> None:
        """Send anything at all, for tests of what a bot survives."""
        if self._transport is not None:
            kind = picows.WSMsgType.BINARY if is_binary else picows.WSMsgType.TEXT
            self._transport.send(kind, message)

    async def hang_up(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """The caller hangs up; returns when the bot has closed the socket.

        Raises:
            LegTimeoutError: the bot left it open (it is closed then).
        """
        self.line.hang_up(self._now())
        await self.wait_ended(timeout_s=timeout_s)

    async def wait_ended(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the session is over and the bot has closed the socket.

        Raises:
            LegTimeoutError: the call went on, or the bot left the socket open.
        """
        await self.wait_until(lambda line: line.is_over, "the end of the session", timeout_s=timeout_s)
        try:
            await self.wait_until(lambda _: not self.is_connected, "the bot to close", timeout_s=timeout_s)
        finally:
            await self.close()

    async def wait_until(
        self, claim: Callable[[PhoneLine], object], what: str = "the line", *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Wait until a claim about the line is true; it is looked at whenever something happened.

        Raises:
            LegClosedError: the socket is gone, so that it cannot come true any more.
            LegTimeoutError: it did not come true in time.
        """
        self._turn()
        if claim(self.line):
            return
        if self._transport is None:
            raise self._closed_error(what)
        waiter = Waiter(claim, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            raise LegTimeoutError(LEG, f"waited {timeout_s:g} s for {what}", retryable=False) from None
        finally:
            self._waiters.remove(waiter)

    def recording(self, sample_rate: int = 24_000) -> bytes:
        """The call as interleaved PCM16: left what the caller sent, right what the caller heard."""
        return self.line.recording(sample_rate)

    # What moves the line

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _take(self, listener: Listener, message: bytes, is_binary: bool) -> None:
        if listener is not self._listener:
            return
        now = self._now()
        if is_binary:
            self.line.report("binary_frame", now, f"{len(message)} bytes")
        self.line.receive(message, now)
        self._turn()

    def _turn(self) -> None:
        now = self._now()
        self.line.advance(now)
        messages = self.line.messages_to_send() if self._transport is not None else []
        for message in messages:
            if self._transport is not None:
                self._transport.send(picows.WSMsgType.TEXT, message)
        for waiter in self._waiters:
            if not waiter.done.done() and waiter.claim(self.line):
                waiter.done.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.line.next_deadline(now) if self._transport is not None else None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._turn)

    def _disconnected(self, listener: Listener) -> None:
        if listener is not self._listener:
            return
        self._transport = self._listener = None
        self.close_code = listener.close_code
        self.line.lose_socket(self._now())
        self._turn()
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(self._closed_error("the line"))

    def _closed_error(self, what: str) -> LegClosedError:
        code = self.close_code if self.close_code is not None else 1006
        return LegClosedError(LEG, f"closed with {code} while waiting for {what}", retryable=True, code=code)
