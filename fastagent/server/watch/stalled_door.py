"""Who answers while the event loop cannot: connections to the server's own port get a 503.

A probe of ``/health/live`` must learn that the loop stands still, and the loop is what would tell it. So
the watchdog's thread takes over the listening socket for as long: it accepts what waits there, answers and
closes. A call that a carrier offers meanwhile is refused at once instead of hanging, and may be offered to
another. Connections that were accepted before wait for the loop, like everything else.
"""

import contextlib
import socket
import time

__all__ = ["StalledDoor"]

ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'retry-after: 1\r\ncontent-length: 41\r\n\r\n{"status":"dead","reason":"loop stalled"}'
)
ANSWERS_PER_TURN = 16
READ_TIMEOUT_S = 0.05
"""For the rest of a request: unread bytes would have the answer reset on its way."""
READ_BYTES = 16_384


class StalledDoor:
    """Answers on a listening socket from another thread.

    Args:
        listener: the server's; only a second handle on it is kept.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener.dup()
        self._listener.setblocking(False)
        self.answered = 0
        """Connections that got a 503."""

    def answer(self) -> None:
        """Answer those that wait, a few at most."""
        for _ in range(ANSWERS_PER_TURN):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody waits, the loop was faster, or the server is gone
                return
            with connection, contextlib.suppress(OSError):
                self._refuse(connection)

    def _refuse(self, connection: socket.socket) -> None:
        deadline = time.monotonic() + READ_TIMEOUT_S
        connection.settimeout(READ_TIMEOUT_S)
        head = b""
        with contextlib.suppress(TimeoutError):
            while b"\r\n\r\n" not in head and len(head) < READ_BYTES and time.monotonic() < deadline:
                data = connection.recv(READ_BYTES)
                if not data:
                    return
                head += data
        self.answered += 1
        connection.sendall(ANSWER)
        connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the handle back."""
        self._listener.close()
