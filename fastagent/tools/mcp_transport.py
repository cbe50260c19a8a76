"""The two ways to an MCP server with limits of ours: a program's stdin and stdout, and streamable HTTP.

Both are transports as the SDK's ``Client`` takes them. Runs on asyncio's own loop.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import mcp_types
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from fastagent.tools.mcp_settings import McpServer

__all__ = ["ServerProcess", "http_transport", "stdio_transport"]

EXIT_GRACE_S = 2.0
"""For a program to end once its stdin is closed (MCP, lifecycle, shutdown)."""
TERMINATE_GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""
MAX_BAD_LINES = 100
"""Lines on stdout that are no messages, after which the program is not taken for a server."""


class ServerProcess:
    """A server's program, leader of a process group of its own, so that what it started ends with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def end(self) -> None:
        """Close its stdin, wait a little, then terminate and kill."""
        # One that is stuck writing would not see that its stdin is closed.
        drain = asyncio.create_task(self._drain())
        if self._process.stdin is not None:
            self._process.stdin.close()
        if not await self._exits_within(EXIT_GRACE_S):
            self._signal(signal.SIGTERM)
            await self._exits_within(TERMINATE_GRACE_S)
        self.kill()
        await self._exits_within(TERMINATE_GRACE_S)
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)
        # Nothing public closes the pipes, which somebody who escaped the group may hold open.
        self._process._transport.close()  # type: ignore[attr-defined]

    def kill(self) -> None:
        """Kill what is left of the group; may be called from any thread."""
        self._signal(signal.SIGKILL)

    async def _drain(self) -> None:
        if self._process.stdout is not None:
            while await self._process.stdout.read(65_536):
                pass

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _exits_within(self, timeout_s: float) -> bool:
        # `Process.wait` also waits for the pipes, which a grandchild may hold open.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._process.returncode is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        return self._process.returncode is not None


@contextlib.asynccontextmanager
async def stdio_transport(
    server: McpServer, lost: Callable[[str], None], started: Callable[[ServerProcess], None]
) -> AsyncGenerator[Any, None]:
    """Start a server's program and talk over its pipes; leaving ends it.

    Args:
        lost: told once, in a word or two, when no more will come.
        started: given the process as soon as there is one.

    Raises:
        OSError: it cannot be started.

    Its stderr is not kept: what it writes there may quote a caller.
    """
    process = await asyncio.create_subprocess_exec(
        *server.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**get_default_environment(), **server.env},
        cwd=server.cwd,
        start_new_session=True,
        limit=server.max_message_bytes,
    )
    running = ServerProcess(process)
    started(running)
    to_session, inbound = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outbound, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    assert process.stdin is not None
    assert process.stdout is not None
    tasks = (
        asyncio.create_task(_read(process.stdout, to_session, lost)),
        asyncio.create_task(_write(process.stdin, from_session, lost)),
    )
    try:
        yield inbound, outbound
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in (to_session, inbound, outbound, from_session):
            stream.close()
        await running.end()


async def _read(
    stdout: asyncio.StreamReader,
    session: "anyio.abc.ObjectSendStream[SessionMessage | Exception]",
    lost: Callable[[str], None],
) -> None:
    why = "ended"
    bad_lines = 0
    try:
        while line := await stdout.readline():
            try:
                message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                bad_lines += 1
                if bad_lines > MAX_BAD_LINES:
                    why = "writes what is no message"
                    break
                continue
            await session.send(SessionMessage(message))
    except ValueError:
        why = "sent too long a message"
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass
    finally:
        lost(why)
        await session.aclose()


async def _write(
    stdin: asyncio.StreamWriter,
    session: "anyio.abc.ObjectReceiveStream[SessionMessage]",
    lost: Callable[[str], None],
) -> None:
    try:
        async for message in session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            stdin.write(text.encode() + b"\n")
            await stdin.drain()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        lost("reads no more")
    finally:
        await session.aclose()


@contextlib.asynccontextmanager
async def http_transport(server: McpServer) -> AsyncGenerator[Any, None]:
    """Talk to a server over streamable HTTP; no proxy and no netrc of the environment is used."""
    timeout = httpx2.Timeout(server.connect_timeout_s, read=server.deadline_s + server.connect_timeout_s)
    async with (
        httpx2.AsyncClient(
            headers=dict(server.headers),
            timeout=timeout,
            trust_env=False,
            transport=_CappedTransport(server.max_message_bytes),
        ) as client,
        streamable_http_client(
            server.url, http_client=client, max_sse_event_size=server.max_message_bytes
        ) as streams,
    ):
        yield streams


class _CappedTransport(httpx2.AsyncHTTPTransport):
    """Cuts off answers that are too long; the stream of events a GET opens has no end and no such limit."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(trust_env=False)
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if request.method != "GET" and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _CappedStream(response.stream, self._max_bytes)
        return response


class _CappedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise httpx2.StreamError("the answer is too long")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
