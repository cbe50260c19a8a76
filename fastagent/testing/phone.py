"""A scripted phone on a real WebSocket: the socket, the clock, and the wish to wait for something.

What a carrier says and watches over is its line's, sans-I/O; here messages that arrive and one timer for the
line's next deadline move it. There is no task.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import picows

from fastagent.errors import LegClosedError, LegConnectError, LegTimeoutError

__all__ = ["LEG", "TIMEOUT_S", "Line", "Phone"]

LEG = "carrier"
FRAME_BYTES_MAX = 1 << 20
"""The largest message taken from a bot."""
TIMEOUT_S = 10.0


class Line(Protocol):
    """What a phone asks of its line."""

    @property
    def is_over(self) -> bool:
        """The call ended, by either side."""

    @property
    def has_speech(self) -> bool:
        """Something the caller shall say is not yet said."""

    @property
    def bot_words(self) -> Mapping[float, str]:
        """What the bot said, as far as it told the carrier, by the time it was told."""

    @property
    def refusal(self) -> str:
        """Why the bot did not take the call; empty when it did."""

    @property
    def media_name(self) -> str:
        """The format of caller audio, under the carrier's name."""

    def report_binary(self, now: float, size_bytes: int) -> None:
        """A message came in a binary frame."""

    def receive(self, message: bytes, now: float) -> None:
        """Take one message of the bot."""

    def advance(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self, now: float) -> float | None:
        """When `advance` has something to do next."""

    def messages_to_send(self) -> list[bytes]:
        """Everything written since the last call, in order."""

    def lose_socket(self, now: float, code: int = 1006) -> None:
        """The socket is gone; 1006 stands for no close frame."""

    def say(self, pcm: bytes, sample_rate: int) -> None:
        """Queue PCM16 speech."""

    def dtmf(self, digits: str) -> bool:
        """Type digits; False when none are sent."""

    def recording(self, sample_rate: int = 24_000) -> bytes:
        """The call so far as interleaved PCM16: left the caller, right the bot."""


L = TypeVar("L", bound=Line)


@dataclass(slots=True, eq=False)
class Waiter(Generic[L]):
    """Somebody who waits for a claim about the line to come true."""

    claim: Callable[[L], object]
    done: asyncio.Future[None]


class Listener(picows.WSListener):
    """Puts frames together and hands them to the phone."""

    def __init__(self, phone: "Phone[Any]") -> None:
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


class Phone(Generic[L]):
    """One call of a scripted caller; `line` holds everything that was seen. Use one object per call."""

    def __init__(self, line: L) -> None:
        self.line: L = line
        self.close_code: int | None = None
        """How the last socket was closed; 1006 without a close frame, None while it is open."""
        self._transport: picows.WSTransport | None = None
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[Waiter[L]] = []

    # The socket

    @property
    def is_connected(self) -> bool:
        """The socket is open."""
        return self._transport is not None

    async def _open(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        if self._transport is not None:
            raise ValueError("the phone is already connected")
        listener = Listener(self)
        try:
            self._transport, _ = await picows.ws_connect(
                lambda: listener,
                url,
                websocket_handshake_timeout=timeout_s,
                max_frame_size=FRAME_BYTES_MAX,
                extra_headers=dict(headers),
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
        """Lose the socket abruptly, without a close frame."""
        transport = self._transport
        if transport is not None:
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()

    async def close(self) -> None:
        """Close the socket if it is open."""
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

    async def connect(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Reach the bot as this carrier does, with the secret it has for that. The call is not begun yet.

        Raises:
            LegConnectError: refused (``status`` holds the HTTP answer) or not reachable.
        """
        raise NotImplementedError

    async def initiate(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Begin the call.

        Raises:
            LegClosedError, LegTimeoutError: the bot went away, or never answered.
        """
        raise NotImplementedError

    async def hang_up(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """The caller hangs up; returns when the socket is closed.

        Raises:
            LegTimeoutError: the bot left it open (it is closed then).
        """
        raise NotImplementedError

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
        """Type digits; False when none are sent."""
        is_sent = self.line.dtmf(digits)
        self._turn()
        return is_sent

    def send_raw(self, message: bytes, *, is_binary: bool = False) -> None:
        """Send anything at all, for tests of what a bot survives."""
        if self._transport is not None:
            kind = picows.WSMsgType.BINARY if is_binary else picows.WSMsgType.TEXT
            self._transport.send(kind, message)

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
        self, claim: Callable[[L], object], what: str = "the line", *, timeout_s: float = TIMEOUT_S
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
            self.line.report_binary(now, len(message))
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
        self.line.lose_socket(self._now(), listener.close_code)
        self._turn()
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(self._closed_error("the line"))

    def _closed_error(self, what: str) -> LegClosedError:
        code = self.close_code if self.close_code is not None else 1006
        return LegClosedError(LEG, f"closed with {code} while waiting for {what}", retryable=True, code=code)
