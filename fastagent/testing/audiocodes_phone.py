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

The protocol and its rules are in `PhoneLine`, the socket and the clock in `Phone`.
"""

from collections.abc import Mapping

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
from fastagent.testing.phone import TIMEOUT_S, Phone

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


class AudioCodesPhone(Phone[PhoneLine]):
    """One call of a scripted caller; `line` holds everything that was seen. Use one object per call.

    Closing the socket, or losing it, does not end a call here.
    """

    def __init__(self, options: LineOptions | None = None, *, conversation_id: str | None = None) -> None:
        super().__init__(PhoneLine(options, conversation_id=conversation_id))
        self._url = ""
        self._headers: dict[str, str] = {}

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
        await self._open(self._url, self._headers, timeout_s)

    async def resume(self, *, url: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Open a new socket and resume the call on it; returns when the bot has answered.

        Args:
            url: of another server than before, as behind a load balancer.

        Raises:
            LegConnectError, LegClosedError, LegTimeoutError: as they say.
        """
        self._url = self._url if url is None else url
        await self._open(self._url, self._headers, timeout_s)
        self.line.resume(self._now())
        await self._answered(timeout_s)

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

    def event(self, name: str, **fields: object) -> bool:
        """Send an event; False when the bot did not ask for it."""
        is_sent = self.line.event(name, **fields)
        self._turn()
        return is_sent

    async def hang_up(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """The caller hangs up; returns when the bot has closed the socket.

        Raises:
            LegTimeoutError: the bot left it open (it is closed then).
        """
        self.line.hang_up(self._now())
        await self.wait_ended(timeout_s=timeout_s)
