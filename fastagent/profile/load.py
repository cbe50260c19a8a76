"""A load of one's own: a model that talks on loopback, and telephones that ring and send sound.

It runs in the process of whoever asks, beside the server's, in plain Python: good for some fifty calls on a
core. A heavier load is any generator that calls the same server; `fastagent profile --url` measures it then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import picows

from fastagent.errors import ConfigurationError, FastAgentError
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_session import ModelSession

__all__ = ["Load", "LoadLimits", "loaded", "talking_model"]

APPENDED = b"input_audio_buffer.append"
ENVELOPE_BYTES = 64
"""Where an append is told by its type; what it holds is nobody's concern here."""
FRAME_BYTES_MAX = 1 << 20
SESSION_LIFETIME_S = 3600.0
TURN_S = 5.0
SPEECH_MS = 4000
"""Of each turn: a bot that talks most of the time."""
HANG_UP_TIMEOUT_S = 5.0
RING_TOGETHER = 10
"""Calls that are set up at a time."""


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How much there is of it."""

    calls: int
    media: str = "raw/lpcm16_24"
    """The format that the carrier offers."""
    token: str | None = None


class Load(Protocol):
    """What a generator of calls tells."""

    @property
    def talking(self) -> int:
        """Calls that were answered and go on."""


class _Model:
    """What the sessions ask of the server they belong to; each says something every `TURN_S`."""

    speaks_beta = False
    session_lifetime_s = SESSION_LIFETIME_S

    def __init__(self) -> None:
        self.on_open: Callable[[ModelSession], None] = lambda session: None
        self.on_response: Callable[[ModelSession], None] = self._say
        self._talking: dict[ModelSession, asyncio.TimerHandle | None] = {}

    def admit(self, request: picows.WSUpgradeRequest) -> ModelSession:
        session = _Session(self)
        self._talking[session] = None
        return session

    def look(self) -> None:
        """Begin to talk on sessions that are configured."""
        for session, timer in self._talking.items():
            if timer is None and session.is_configured:
                self._schedule(session, 0.1)

    async def wait_until(self, claim: Callable[[], object], what: str, *, timeout_s: float) -> None:
        """Nobody waits here."""

    def close(self) -> None:
        for timer in self._talking.values():
            if timer is not None:
                timer.cancel()
        for session in self._talking:
            session.reset()
        self._talking.clear()

    def _schedule(self, session: ModelSession, seconds: float) -> None:
        self._talking[session] = asyncio.get_running_loop().call_later(seconds, self._turn, session)

    def _turn(self, session: ModelSession) -> None:
        if not session.is_open:
            self._talking.pop(session, None)
            return
        if session.active_response_id is None:
            session.speech_started()
            session.speech_stopped("go on")
        self._schedule(session, TURN_S)

    def _say(self, session: ModelSession) -> None:
        session.speak(session.tone(SPEECH_MS))


class _Session(ModelSession):
    """Keeps no audio, so that the load stays light."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            head = frame.get_payload_as_memoryview()[:ENVELOPE_BYTES]
            if APPENDED in bytes(head):
                return
        super().on_ws_frame(transport, frame)


@contextlib.asynccontextmanager
async def talking_model() -> AsyncIterator[str]:
    """A model on loopback that talks in turns without being asked; gives its URL."""
    model = _Model()
    server = await picows.ws_create_server(
        model.admit, "127.0.0.1", 0, max_frame_size=FRAME_BYTES_MAX, logger_name="fastagent.profile"
    )
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"
    finally:
        server.close()
        model.close()
        await server.wait_closed()


class _Phones:
    def __init__(self, phones: list[AudioCodesPhone]) -> None:
        self._phones = phones

    @property
    def talking(self) -> int:
        return sum(phone.is_connected and not phone.line.is_over for phone in self._phones)


@contextlib.asynccontextmanager
async def loaded(url: str, limits: LoadLimits) -> AsyncIterator[Load]:
    """Calls that talk while the context is open, all answered when it is entered.

    Args:
        url: where AudioCodes would bring its calls.

    Raises:
        ConfigurationError: none of the calls was answered.
    """
    options = LineOptions(formats=(limits.media,))
    phones = [AudioCodesPhone(options) for _ in range(limits.calls)]
    refusals: list[str] = []

    async def ring(phone: AudioCodesPhone) -> None:
        try:
            await phone.connect(url, limits.token)
            await phone.initiate()
        except FastAgentError as error:
            refusals.append(str(error))

    try:
        for first in range(0, len(phones), RING_TOGETHER):
            await asyncio.gather(*(ring(phone) for phone in phones[first : first + RING_TOGETHER]))
        load = _Phones(phones)
        if not load.talking:
            raise ConfigurationError(f"no call was answered: {refusals[0] if refusals else 'all ended'}")
        yield load
    finally:
        await asyncio.gather(*(_end(phone) for phone in phones))


async def _end(phone: AudioCodesPhone) -> None:
    try:
        if phone.is_connected:
            await phone.hang_up(timeout_s=HANG_UP_TIMEOUT_S)
    except FastAgentError:  # a server that is ending itself, or is stuck, is left
        await phone.drop()
