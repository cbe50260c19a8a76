"""The embedded Realtime engine as a child process, so that its ears and voice never hold up the audio."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from fastagent.errors import ConfigurationError

__all__ = ["embedded_engine"]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


@contextlib.asynccontextmanager
async def embedded_engine() -> AsyncIterator[str]:
    """The WebSocket URL of an engine that lives as long as the context, and no longer than this process.

    Raises:
        ConfigurationError: it did not start; the message holds the engine's own reason where it gave one.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fastagent", "local", "--port", "0", "--with-parent",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = (await child.stdout.readline()).decode()
        except TimeoutError:
            raise ConfigurationError("the embedded engine did not start in time") from None
        url = line.rpartition(" ")[2].strip()
        if not url.startswith("ws://"):
            reason = f": {line.strip()}" if line.strip() else ""
            raise ConfigurationError(f"the embedded engine did not start{reason}")
        yield url
    finally:
        # Its standard input ends with us, which tells it to stop.
        child.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
