"""uvicorn's HTTP protocol with what it lacks: a deadline on an unfinished request and limits.

Without them a client that sends half a request, or nothing, holds its connection for ever, a head that never
ends fills the memory, and one client may take all the connections there are.
"""

import asyncio
import sys
from typing import Any

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fastagent.server.doors.connections import REFUSED, ConnectionLimit

__all__ = ["HttpProtocol"]

HEAD_BYTES_MAX = 16_384
"""A longer head is answered 431 (RFC 6585); one read of the socket may be finished first."""
BODY_STEP_BYTES = 65_536
"""A body that brings this much gets another deadline: a long upload is not a stuck one."""
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request is not whole ``handshake_timeout_s`` after it began.

    Each `BODY_STEP_BYTES` of its body count as another beginning.
    """

    _body_bytes = 0
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = True
    _data = b""

    def connection_made(self, transport: Any) -> None:
        """The first request is expected from now on, unless there are too many connections already."""
        super().connection_made(transport)
        limit = self._connection_limit
        if limit is not None and not limit.admit(transport):
            # Not answered but told: whoever has a fault in its pool of connections shall see which.
            transport.write(REFUSED)
            transport.close()
            return
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._expect_nothing()
        if self._connection_limit is not None:
            self._connection_limit.release(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head are counted."""
        if self.transport.is_closing():
            return  # refused or cut: nothing that still arrives is an order
        self._head_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""
        if self._is_in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.transport.write(TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Another request begins (on a kept connection, after a pause that uvicorn bounds)."""
        super().on_message_begin()
        self._is_in_head = True
        self._expect_request()

    def on_headers_complete(self) -> None:
        """The head is whole; what may follow is a body."""
        self._is_in_head = False
        self._head_bytes = self._body_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of a body: enough of them earn more time."""
        self._body_bytes += len(body)
        if self._body_bytes >= BODY_STEP_BYTES:
            self._body_bytes = 0
            self._expect_request()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._expect_nothing()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with what came in the same read behind the head."""
        self._expect_nothing()
        upgrade = sys.exc_info()[1]
        super().handle_websocket_upgrade()
        # uvicorn calls this while it handles the parser's exception, which says where the head ended.
        if isinstance(upgrade, HttpParserUpgrade) and not self.transport.is_closing():
            rest = self._data[upgrade.args[0] :]
            if rest:
                self.transport.get_protocol().data_received(rest)  # type: ignore[attr-defined]

    @property
    def _connection_limit(self) -> ConnectionLimit | None:
        return self.app_state.get("connection_limit")

    def _expect_request(self) -> None:
        self._expect_nothing()
        timeout_s = self.app_state.get("handshake_timeout_s", 5.0)
        self._deadline = self.loop.call_later(timeout_s, self._cut)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
