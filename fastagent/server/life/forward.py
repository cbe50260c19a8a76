"""A resumed call that runs in a sibling process: messages are handed to and fro.

A carrier that resumes a call opens another socket, and nobody can know which of the processes behind a port
accepts it. The one that does not know the call asks its siblings, by the visitor's own address and token, and
hands messages on for as long as both sockets live. That costs the resumed call one more hop on this machine::

    carrier ══ socket ══▶ this process ──── WebSocket ────▶ sibling with the call
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import picows
from starlette.websockets import WebSocket

from fastagent.legs.carrier import CarrierSocket
from fastagent.server.life.siblings import visit

__all__ = ["CREDENTIALS", "RESUME_HEADER", "SIBLING_STATE", "Forward", "Visitor", "resume_digest"]

RESUME_HEADER = "fastagent-resume"
"""Of an upgrade by a sibling: the digest of the conversation's id. Answered 404 when it is not there."""
CREDENTIALS = ("authorization", "x-twilio-signature", "x-twilio-webhooks-signature-settings")
"""Headers by which a request is let in, here and at a sibling."""
SIBLING_STATE = "is_sibling"
"""In the ASGI state of a connection that a sibling made."""
CONNECT_TIMEOUT_S = 2.0
WAITING_BYTES_MAX = 65_536
"""What the carrier may send while its call is looked for: a second of audio."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """What a sibling has to know of the one who resumes."""

    target: str
    """Path and query of the request."""
    credentials: Mapping[str, str] = field(repr=False)
    """The headers by which it was let in."""
    resumes: str = ""
    """It is a sibling: the digest of the conversation's id."""

    @classmethod
    def of(cls, websocket: WebSocket) -> "Visitor":
        """Read the upgrade request."""
        query = websocket.url.query
        is_sibling = websocket.scope.get("state", {}).get(SIBLING_STATE, False)
        return cls(
            websocket.url.path + (f"?{query}" if query else ""),
            {name: websocket.headers[name] for name in CREDENTIALS if name in websocket.headers},
            websocket.headers.get(RESUME_HEADER, "") if is_sibling else "",
        )


def resume_digest(conversation_id: str) -> str:
    """A conversation's id, fit for a header."""
    return hashlib.sha256(conversation_id.encode("utf-8", "surrogatepass")).hexdigest()


class _Sibling(picows.WSListener):
    """The socket to the process that has the call."""

    def __init__(self, on_message: Callable[[bytes], None], on_closed: Callable[[int], None]) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._parts = bytearray()
        self._code = 1006

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Messages go on whole; a close is told with its code."""
        if frame.msg_type is picows.WSMsgType.CLOSE:
            self._code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big") or 1000
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.CONTINUATION):
            self._parts += frame.get_payload_as_bytes()
            if frame.fin:
                message = bytes(self._parts)
                self._parts.clear()
                self._on_message(message)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """It is gone, whoever closed it."""
        self._on_closed(self._code)


class Forward:
    """One socket whose messages go to a sibling and back."""

    def __init__(self, carrier: CarrierSocket, max_message_bytes: int) -> None:
        self._carrier = carrier
        self._max_message_bytes = max_message_bytes
        self._sibling: picows.WSTransport | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_given_up = False
        self._is_carrier_lost = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when either socket is."""
        self.take(carrier.divert(self.take))
        carrier.on_lost = self._lost

    async def open(self, visitor: Visitor, conversation_id: str, paths: list[Path]) -> bool:
        """Find the sibling that has the call; False when none does."""
        headers = {RESUME_HEADER: resume_digest(conversation_id), **visitor.credentials}
        for path in paths:
            try:
                self._sibling, _ = await picows.ws_connect(
                    lambda: _Sibling(self._back, self._closed),
                    f"ws://sibling{visitor.target}",
                    websocket_handshake_timeout=CONNECT_TIMEOUT_S,
                    max_frame_size=self._max_message_bytes,
                    extra_headers=headers,
                    max_redirects=0,
                    socket_factory=partial(_visit, path),
                )
            except (OSError, picows.WSError):
                continue
            for message in self._waiting:
                self._sibling.send(picows.WSMsgType.TEXT, message)
            self._waiting.clear()
            if self._is_carrier_lost:
                self._sibling.disconnect(graceful=False)
            return True
        return False

    def give_up(self) -> None:
        """No sibling has the call; what is more than can be held is dropped from now on."""
        self._is_given_up = True

    @property
    def held(self) -> list[bytes]:
        """What the carrier has sent since it resumed, and nobody has taken."""
        return self._waiting[1:]

    def take(self, message: bytes) -> None:
        """A message of the carrier."""
        if self._sibling is not None:
            self._sibling.send(picows.WSMsgType.TEXT, message)
        else:
            self._waiting_bytes += len(message)
            if self._waiting_bytes <= WAITING_BYTES_MAX:
                self._waiting.append(message)
            elif not self._is_given_up:
                self._carrier.close(1008, "too much before the answer")

    def end(self) -> None:
        """Cut both sockets: this process ends, and the call may be resumed once more."""
        if self._carrier.leg is not None:
            self._carrier.leg.abort(1006, "")
        self._lost(1006, "")

    def _back(self, message: bytes) -> None:
        if self._carrier.leg is not None:
            self._carrier.leg.send(message)

    def _closed(self, code: int) -> None:
        # 1006 is never sent: the sibling died, and the carrier had better resume once more.
        if code != 1006:
            self._carrier.close(code)
        elif self._carrier.leg is not None:
            self._carrier.leg.abort(1006, "")
        self._finish()

    def _lost(self, code: int, reason: str) -> None:
        self._is_carrier_lost = True
        if self._sibling is not None:
            self._sibling.disconnect(graceful=False)
        self._finish()

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


def _visit(path: Path, url: object) -> socket.socket:
    return visit(path)
