"""uvicorn's HTTP protocol with what it lacks: a deadline on an unfinished request head.

Without it a client that sends half a header, or nothing, holds its connection for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HttpProtocol"]


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is not whole ``handshake_timeout_s`` after it began."""

    _head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The first head is expected from now on."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._head_is_whole()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Another head begins (on a kept connection, after a pause that uvicorn bounds)."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_is_whole()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_is_whole()
        timeout_s = self.app_state.get("handshake_timeout_s", 5.0)
        self._head_deadline = self.loop.call_later(timeout_s, self._cut)

    def _head_is_whole(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
