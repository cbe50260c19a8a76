"""McpServer and McpPool: tools of other programs, by the Model Context Protocol (modelcontextprotocol.io).

    agent = FastAgent("desk", mcp_servers=[
        McpServer("orders", command=("orders-mcp", "--readonly"), allowed_tools={"find_order"}),
        McpServer("maps", url="https://maps.example.com/mcp", headers={"Authorization": "Bearer ..."}),
    ])

All agents of a process share one connection to each server. The connections live in a thread with a loop of
its own, because a peer decides how large its messages are and when its program must be started again, and
neither may hold up the loop that carries the audio. Needs: pip install 'fastagent[mcp]'.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType, TracebackType
from typing import Any, Self

from fastagent.errors import ConfigurationError
from fastagent.tools import offered
from fastagent.tools.mcp_schema import PinnedTool
from fastagent.tools.mcp_settings import McpServer, McpServerStatus
from fastagent.tools.offered import ToolCall, ToolResult
from fastagent.tools.task import function_tool

__all__ = ["McpPool", "McpServer", "McpServerStatus", "RemoteTool"]

CALL_GRACE_S = 0.5
"""Between a call's deadline and giving the connections' thread up for it."""
CLOSE_TIMEOUT_S = 10.0
"""For all servers to end: each has 2 s to go by itself, 1 s after SIGTERM, and is killed then."""
MAX_NAME_CHARS = 64

_log = logging.getLogger(__name__)


class RemoteTool:
    """A tool of an MCP server, as one telephone call sees it."""

    def __init__(self, pool: "McpPool", server: McpServer, pinned: PinnedTool, name: str) -> None:
        self.name = name
        self.qualified_name = f"{server.name}:{pinned.name}"
        self._pool = pool
        self._server = server
        self._pinned = pinned

    def __repr__(self) -> str:
        return f"<RemoteTool {self.qualified_name!r}>"

    @property
    def tool(self) -> dict[str, Any]:
        """The function tool, flat, as the Realtime API takes it."""
        return function_tool(self.name, self._pinned.description, self._pinned.input_schema)

    async def run(self, arguments_json: str, call: ToolCall) -> ToolResult:
        """Call it, once; see `fastagent.tools.offered.OfferedTool.run`."""
        return await self._pool.call(self._server, self._pinned, arguments_json, call)


class McpPool:
    """One connection to each of several servers, while the context is open.

    Entering waits until every server was tried once. One that cannot be reached is logged and tried again in
    the background; meanwhile its tools are not offered.

    Args:
        servers: equal ones are taken as one.

    Raises:
        ConfigurationError: two different servers have one name; the SDK is not installed (when entered).
    """

    def __init__(self, servers: Iterable[McpServer]) -> None:
        by_name: dict[str, McpServer] = {}
        for server in servers:
            if by_name.setdefault(server.name, server) != server:
                raise ConfigurationError(f"two different MCP servers are named {server.name!r}")
        self.servers: Mapping[str, McpServer] = MappingProxyType(by_name)
        self._connections: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        if not self.servers:
            return self
        try:
            # The SDK takes about a second to load, so those who need none do not wait for it.
            connection = await asyncio.to_thread(import_module, "fastagent.tools.mcp_connection")
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"MCP servers need the package {error.name}: pip install 'fastagent[mcp]'"
            ) from None
        self._connections = {name: connection.McpConnection(server) for name, server in self.servers.items()}
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(
            target=self._run, args=(asyncio.get_running_loop(), ready), name="fastagent-mcp", daemon=True
        )
        self._thread.start()
        try:
            await ready
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                pass  # it has ended by itself
        await asyncio.to_thread(thread.join, CLOSE_TIMEOUT_S)
        if thread.is_alive():
            _log.error("MCP servers did not end within %g s", CLOSE_TIMEOUT_S)
        for connection in self._connections.values():
            connection.kill()

    def _run(self, caller: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]") -> None:
        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for connection in self._connections.values():
                    group.create_task(connection.keep(stop))
                for connection in self._connections.values():
                    await connection.tried.wait()
                caller.call_soon_threadsafe(tell)

        try:
            # The plain loop, whatever the audio runs on: it can watch processes from any thread.
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(main())
        except Exception:
            _log.exception("the thread of the MCP connections ended")
        finally:
            try:
                caller.call_soon_threadsafe(tell)
            except RuntimeError:
                pass  # nobody waits any more

    def status(self) -> tuple[McpServerStatus, ...]:
        """How it stands with each server."""
        return tuple(connection.status() for connection in self._connections.values())

    def accept(self, server_name: str, tool_name: str, digest: str) -> bool:
        """Take what a tool has become for what it must be from now on; False when its digest is another."""
        connection = self._connections.get(server_name)
        return connection is not None and bool(connection.accept(tool_name, digest))

    def tools(self, servers: Iterable[McpServer], taken: Collection[str] = ()) -> tuple[RemoteTool, ...]:
        """The tools that some of the servers have now.

        A name two servers use, or one of ``taken``, is prefixed with its server's (``orders_find``).
        """
        found = [
            (server, pinned)
            for server in servers
            if (connection := self._connections.get(server.name)) is not None
            for pinned in connection.tools()
        ]
        # Names follow from what the servers were ever seen to have, not from which of them is up.
        known: dict[str, int] = {}
        for server in servers:
            if (connection := self._connections.get(server.name)) is not None:
                for name in connection.known_names():
                    known[_plain(name)] = known.get(_plain(name), 0) + 1
        tools: list[RemoteTool] = []
        used = set(taken)
        for server, pinned in found:
            name = _plain(pinned.name)
            if known.get(name, 0) > 1 or name in taken or len(name) > MAX_NAME_CHARS:
                name = _plain(f"{server.name}_{pinned.name}")
            if len(name) > MAX_NAME_CHARS or name in used:
                name = f"{name[: MAX_NAME_CHARS - 9]}_{pinned.digest[:8]}"
            if name in used:
                _log.error("MCP tool %s:%s is left out: its name is taken", server.name, name)
                continue
            used.add(name)
            tools.append(RemoteTool(self, server, pinned, name))
        return tuple(tools)

    async def call(
        self, server: McpServer, pinned: PinnedTool, arguments_json: str, call: ToolCall
    ) -> ToolResult:
        """Call a tool once. Raises nothing but the cancellation of the caller's task."""
        connection = self._connections.get(server.name)
        loop = self._loop
        if connection is None or loop is None or self._thread is None:
            return offered.refused("closed", "the server of this function is not connected")
        work = connection.call(pinned, arguments_json, call.idempotency_key)
        try:
            running = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
        except RuntimeError:
            work.close()
            return offered.refused("closed", "the server of this function is not connected")
        try:
            done, _ = await asyncio.wait({running}, timeout=server.deadline_s + CALL_GRACE_S)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if done and not running.cancelled() and running.exception() is None:
            result: ToolResult = running.result()
            return result
        running.cancel()
        return offered.unknown("lost", "the connection was closed before an answer came")


def _plain(name: str) -> str:
    """A name as the model's side takes it."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)
