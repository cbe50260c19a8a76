"""A WebSocket that we open: the upgrade, its deadline, and what its refusal means."""

import asyncio
import email.utils
import ssl
import time
from functools import cache

from picows import WSError, WSInvalidStatusError, ws_connect

from fastagent._native.listener import Leg
from fastagent.errors import LegConnectError, LegTimeoutError
from fastagent.wire.openai_realtime import is_retryable_status
from fastagent.wire.realtime_endpoint import UpgradeRequest

__all__ = ["RetryLaterError", "open_leg", "prepare_tls", "retry_after_s"]

READ_BUFFER_BYTES = 8192
"""One 100 ms delta of PCM16 at 24 kHz and its envelope; longer messages grow the buffer."""


class RetryLaterError(LegConnectError):
    """The upgrade was refused for now, and the server said for how long."""

    def __init__(self, leg: str, reason: str, *, status: int, after_s: float) -> None:
        self.after_s = after_s
        super().__init__(leg, reason, retryable=True, status=status)


@cache
def _tls() -> ssl.SSLContext:
    """One context for all calls: reading the trusted certificates takes tens of milliseconds."""
    return ssl.create_default_context()


def prepare_tls(url: str) -> None:
    """Read the trusted certificates if ``url`` needs them, before the loop has calls to serve."""
    if url.startswith("wss:"):
        _tls()


def retry_after_s(value: str | None, *, now_unix_s: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3); None for none, or for nonsense."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        wanted = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, wanted.timestamp() - now_unix_s)


async def open_leg(leg: Leg, request: UpgradeRequest, *, timeout_s: float, max_message_bytes: int) -> None:
    """Connect and upgrade; ``leg`` is open then, and its handler was told.

    The handshake may outlive a timeout or a cancellation: a handler that does not want it any more has to
    abort the leg as it opens.

    Raises:
        LegConnectError: refused, or out of reach.
        LegTimeoutError: not answered in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await ws_connect(
                lambda: leg,
                request.url,
                ssl_context=_tls() if request.url.startswith("wss:") else None,
                websocket_handshake_timeout=timeout_s,
                logger_name="fastagent.model",
                enable_auto_pong=False,
                max_frame_size=max_message_bytes,
                extra_headers=request.headers,
                max_redirects=0,
                read_buffer_init_size=READ_BUFFER_BYTES,
            )
    except WSInvalidStatusError as error:
        if error.response is None:
            raise LegConnectError("model", "upgrade not understood", retryable=True) from None
        status, headers = int(error.response.status), error.response.headers
        reason, is_retryable = f"upgrade answered {status}", is_retryable_status(status)
        after_s = retry_after_s(headers.get("Retry-After"), now_unix_s=time.time())
        if is_retryable and after_s is not None:
            raise RetryLaterError("model", reason, status=status, after_s=after_s) from None
        raise LegConnectError("model", reason, retryable=is_retryable, status=status) from None
    except WSError as error:
        reason = f"upgrade failed: {type(error).__name__}"
        raise LegConnectError("model", reason, retryable=True) from None
    except TimeoutError:
        raise LegTimeoutError("model", f"no connection within {timeout_s:g} s", retryable=True) from None
    except OSError as error:
        reason = f"connection failed: {type(error).__name__}"
        raise LegConnectError("model", reason, retryable=True) from None
    if not leg.last_received:
        # picows calls a connection that ends during its handshake a success.
        raise LegConnectError("model", "connection lost during the upgrade", retryable=True)
