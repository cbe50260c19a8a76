"""McpConnection: one server's connection, kept up for the life of a process, and the calls that go over it.

::

    keep:  connect ─▶ list tools ─▶ connected ──lost, or a listing fails──▶ wait (0.5 s … 30 s) ─▶ connect
                          ▲             │
                          └─ every minute, and when the server says that they changed

A call is sent once. When its answer does not come, its outcome is unknown and is told as that; only the next
call finds the new connection. Everything here runs in the pool's thread, except where a method says so.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import Any, cast

import mcp_types
import orjson
from mcp import Client, MCPError

from fastagent import __version__
from fastagent.tools import offered
from fastagent.tools.arguments import ArgumentsError, read_arguments
from fastagent.tools.mcp_schema import PinnedTool, SchemaError
from fastagent.tools.mcp_settings import McpServer, McpServerStatus
from fastagent.tools.mcp_transport import ServerProcess, http_transport, stdio_transport
from fastagent.tools.offered import ToolResult

__all__ = ["McpConnection"]

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
STEADY_S = 10.0
"""A connection that lived so long was a good one: the next attempt comes soon."""
EXIT_TIMEOUT_S = 5.0
"""For a session to end in order: longer than a program has to exit."""
REFRESH_S = 60.0
"""Between two listings: the only way to hear of a dead or changed HTTP server while nobody calls it."""
IDEMPOTENCY_META = "fastagent/idempotency_key"
"""In a call's ``_meta``: the same for every delivery of one function call of the model."""
MAX_TOOLS = 128
MAX_PAGES = 20
MAX_ERROR_CHARS = 500
"""Of a server's own words on what went wrong."""

_NOT_BEGUN = (mcp_types.METHOD_NOT_FOUND, mcp_types.INVALID_PARAMS, mcp_types.HEADER_MISMATCH)

_log = logging.getLogger(__name__)
# The SDK's records quote messages, so what callers say; ours say what of it matters.
logging.getLogger("mcp").setLevel(logging.CRITICAL)
logging.getLogger("httpx2").setLevel(logging.WARNING)


class McpConnection:
    """One server; see the module."""

    def __init__(self, server: McpServer) -> None:
        self.tried = asyncio.Event()
        """The first attempt is over, for better or worse."""
        self._server = server
        self._client: Client | None = None
        self._process: ServerProcess | None = None
        self._pins: dict[str, PinnedTool] = {}
        """What each tool must be, by its name; it outlives connections."""
        self._listed: Mapping[str, PinnedTool] = {}
        """What the server has now; replaced as a whole, so that other threads may read it."""
        self._wake = asyncio.Event()
        """Something is to be looked at: the connection is lost, or the tools changed."""
        self._lost = ""
        self._connections = 0
        self._problem = ""
        self._running = 0

    async def keep(self, stop: asyncio.Event) -> None:
        """Stay connected until told to stop."""
        delay_s = FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            begun = loop.time()
            await self._connect_once(stop)
            self.tried.set()
            if stop.is_set():
                break
            _log.warning("MCP server %s: %s", self._server.name, self._problem or "ended")
            delay_s = FIRST_DELAY_S if loop.time() - begun > STEADY_S else min(2 * delay_s, MAX_DELAY_S)
            with contextlib.suppress(TimeoutError):
                # Half of it by chance, so that a thousand processes do not come back at once.
                await asyncio.wait_for(stop.wait(), delay_s * random.uniform(0.5, 1.0))

    async def _connect_once(self, stop: asyncio.Event) -> None:
        """One connection, from its opening to its end; a task of its own, as the SDK's scopes need it."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost, self._problem = "", ""
        self._wake.clear()
        session = asyncio.create_task(self._session(opened))
        stopped = asyncio.create_task(stop.wait())
        try:
            opening: set[asyncio.Future[Any]] = {session, opened, stopped}
            await asyncio.wait(
                opening,
                timeout=self._server.connect_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if opened.done():
                self.tried.set()
                await asyncio.wait({session, stopped}, return_when=asyncio.FIRST_COMPLETED)
            elif not session.done() and not stop.is_set():
                self._problem = f"no connection within {self._server.connect_timeout_s:g} s"
            self._lose("closed")  # the session leaves by itself ...
            if not opened.done():
                session.cancel()  # ... unless it still waits for its peer
            await asyncio.wait({session}, timeout=EXIT_TIMEOUT_S)
        finally:
            stopped.cancel()
            session.cancel()
            await asyncio.gather(session, stopped, return_exceptions=True)
            self._client = None
            self.kill()

    async def _session(self, opened: "asyncio.Future[None]") -> None:
        server = self._server
        try:
            client = Client(
                stdio_transport(server, self._lose, self._started)
                if server.command
                else http_transport(server),
                read_timeout_seconds=server.connect_timeout_s,
                message_handler=self._notified,
                client_info=mcp_types.Implementation(name="fastagent", version=__version__),
                cache=None,
            )
            async with client:
                await self._list(client)
                self._client = client
                self._connections += 1
                _log.info("MCP server %s: connected, %d tools", server.name, len(self._listed))
                opened.set_result(None)
                while not self._lost:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), REFRESH_S)
                    self._wake.clear()
                    if not self._lost:
                        await self._list(client)
                self._client = None
        except Exception as error:
            self._problem = self._problem or _kind(error)
        finally:
            self._client = None
            self._problem = self._problem or self._lost

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._client = None
        self._wake.set()

    def _started(self, process: ServerProcess) -> None:
        self._process = process

    async def _notified(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._wake.set()

    async def _list(self, client: Client) -> None:
        listed: dict[str, PinnedTool] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.session.list_tools(params=mcp_types.PaginatedRequestParams(cursor=cursor))
            for tool in page.tools:
                if self._server.allowed_tools is not None and tool.name not in self._server.allowed_tools:
                    continue
                if len(listed) >= MAX_TOOLS:
                    _log.warning("MCP server %s lists more than %d tools", self._server.name, MAX_TOOLS)
                    cursor = None
                    break
                try:
                    listed[tool.name] = PinnedTool.of(tool.name, tool.description or "", tool.input_schema)
                except SchemaError as error:
                    _log.warning("MCP server %s: a tool is left out: %s", self._server.name, error)
            cursor = page.next_cursor if len(listed) < MAX_TOOLS else None
            if cursor is None:
                break
        for name, pinned in listed.items():
            must_be = self._must_be(name, pinned)
            if must_be != pinned.digest and self._listed.get(name) != pinned:
                _log.error("MCP server %s: tool %r is not what was pinned, refused", self._server.name, name)
        self._listed = listed

    def _must_be(self, name: str, pinned: PinnedTool) -> str:
        """The digest a tool is held to; the first one seen where none was given."""
        if name not in self._pins:
            given = self._server.pins
            if given is not None and given.get(name) != pinned.digest:
                return given.get(name, "")
            self._pins[name] = pinned
        return self._pins[name].digest

    # From any thread

    def tools(self) -> list[PinnedTool]:
        """What may be called now. From any thread."""
        if self._client is None:
            return []
        pins = dict(self._pins)
        return [one for name, one in self._listed.items() if name in pins and pins[name].digest == one.digest]

    def known_names(self) -> list[str]:
        """The tools that were ever offered. From any thread."""
        return list(dict(self._pins))

    def status(self) -> McpServerStatus:
        """How it stands. From any thread."""
        pins = {name: one.digest for name, one in dict(self._pins).items()}
        return McpServerStatus(
            self._server.name,
            is_connected=self._client is not None,
            connections=self._connections,
            problem=self._problem,
            pins=pins,
            changed={name: one.digest for name, one in self._listed.items() if pins.get(name) != one.digest},
        )

    def accept(self, tool_name: str, digest: str) -> bool:
        """Pin what a tool is now. From any thread."""
        now = self._listed.get(tool_name)
        if now is None or now.digest != digest:
            return False
        self._pins[tool_name] = now
        return True

    def kill(self) -> None:
        """Kill the server's program if it still runs. From any thread."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    # Calls

    async def call(self, pinned: PinnedTool, arguments_json: str, idempotency_key: str) -> ToolResult:
        """Call a tool once."""
        try:
            arguments = read_arguments(arguments_json, {})
            pinned.check(arguments)
        except ArgumentsError as error:
            return offered.refused("arguments", str(error))
        client = self._client
        if client is None:
            return offered.refused("closed", "the server of this function is not connected")
        now = self._listed.get(pinned.name)
        if now is None:
            return offered.refused("withdrawn", "the server no longer has this function")
        held = self._pins.get(pinned.name)
        if now.digest != pinned.digest or held is None or held.digest != now.digest:
            return offered.refused("changed", "this function has changed and was not accepted yet")
        if self._running >= self._server.max_concurrency:
            return offered.busy("too many calls of this server at once")
        self._running += 1
        try:
            result = await client.session.call_tool(
                pinned.name,
                arguments,
                read_timeout_seconds=self._server.deadline_s,
                meta=cast(mcp_types.RequestParamsMeta, {IDEMPOTENCY_META: idempotency_key}),
            )
        except MCPError as error:
            return self._refusal(error)
        except Exception as error:
            _log.warning("MCP server %s: %s in answer to a call", self._server.name, _kind(error))
            return offered.unknown("answer", "the server's answer makes no sense")
        finally:
            self._running -= 1
        return self._shape(result)

    def _refusal(self, error: MCPError) -> ToolResult:
        _log.warning("MCP server %s: error %d in answer to a call", self._server.name, error.code)
        if error.code == mcp_types.REQUEST_TIMEOUT:
            return offered.unknown("deadline", f"no answer within {self._server.deadline_s:g} s")
        if error.code in _NOT_BEGUN:
            self._wake.set()  # its listing is not what we know
            return offered.refused("arguments", "the server does not take this call")
        if error.code in (mcp_types.CONNECTION_CLOSED, mcp_types.INVALID_REQUEST):
            self._lose("lost during a call")
            return offered.unknown("lost", "the connection was lost before an answer came")
        return offered.unknown("error", "the server failed")

    def _shape(self, result: mcp_types.CallToolResult) -> ToolResult:
        limit = self._server.max_output_bytes
        texts = [part.text for part in result.content if isinstance(part, mcp_types.TextContent)]
        if result.is_error:
            words = " ".join(texts)[:MAX_ERROR_CHARS]
            return offered.failed("tool", words or "the function failed")
        if result.structured_content == {"result": "".join(texts)}:
            # How servers wrap a text where a schema wants an object.
            return offered.text_result("".join(texts), limit)
        if result.structured_content is not None:
            plain = orjson.dumps(result.structured_content)
            if len(plain) <= limit:
                return ToolResult("done", {"status": "done", "result": result.structured_content})
        left_out = len(result.content) - len(texts)
        if not texts and (left_out or result.structured_content is not None):
            report = {"status": "done", "reason": "the result is no text, or too long, and was left out"}
            return ToolResult("done", report, "output")
        return offered.text_result("\n".join(texts), limit)


def _kind(error: BaseException) -> str:
    """The kind of an exception, of the first one in a group: its text may quote a message."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return type(error).__name__
