"""``fastagent mcp``: offer an agent's tasks to MCP clients, or show the tools of its MCP servers."""

import argparse
import json
import logging
import os
import sys
from datetime import UTC, datetime

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastagent.agent import FastAgent
from fastagent.cli.serve import load_agent
from fastagent.errors import ConfigurationError
from fastagent.server.doors.tokens import Credential, TokenBook, tokens_from_texts
from fastagent.server.doors.tokens import Scope as TokenScope
from fastagent.tools.mcp import McpPool

__all__ = ["add_parser"]

TOKEN_VARIABLE = "FASTAGENT_MCP_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PATH = "/mcp"

EPILOG = f"""\
examples:
  fastagent mcp fastagent.examples.appointment:agent                       over stdin and stdout
  fastagent mcp fastagent.examples.appointment:agent --http --port 8100    streamable HTTP, at {PATH}
  {TOKEN_VARIABLE}=... fastagent mcp my:agent --http --host 0.0.0.0 --public-host tasks.example.com
  fastagent mcp my:agent --tools                                           its servers' tools, with their pins

Beyond this machine a token is needed ({TOKEN_VARIABLE}; several, separated by commas), and TLS in front.
Needs: pip install 'fastagent[mcp]'.
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "mcp",
        help="offer an agent's tasks to MCP clients",
        description="Offer an agent's tasks over the Model Context Protocol, in text, by the same rules.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("agent", metavar="MODULE:AGENT", help="whose tasks")
    parser.add_argument("--http", action="store_true", help="streamable HTTP instead of stdin and stdout")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8100, help="port to listen on (default 8100)")
    parser.add_argument(
        "--public-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name clients reach it by",
    )
    parser.add_argument(
        "--tools", action="store_true", help="print the tools of the agent's MCP servers as JSON and end"
    )
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Serve, or show."""
    # Standard output belongs to the protocol.
    logging.basicConfig(
        level="WARNING", stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    agent = load_agent(options.agent)
    if options.tools:
        return await _show_tools(agent)
    tokens = _tokens(os.environ.get(TOKEN_VARIABLE, ""))
    if options.http and not tokens and options.host not in LOOPBACK:
        raise ConfigurationError(f"listening on {options.host} needs a token in {TOKEN_VARIABLE}")
    try:
        from fastagent.tools.mcp_server import TaskServer
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"this needs the package {error.name}: pip install 'fastagent[mcp]'"
        ) from None
    tasks = TaskServer(agent)
    async with McpPool(agent.mcp_servers) as pool:
        agent.use_mcp(pool)
        try:
            if not options.http:
                await tasks.serve_stdio()
                return 0
            names = {options.host, *options.public_host, *(LOOPBACK if options.host in LOOPBACK else ())}
            hosts = [form for name in sorted(names) for form in (name, f"{name}:*")]
            async with tasks.http_app(hosts) as endpoint:
                return await _listen(_Door(endpoint, tokens), options.host, options.port)
        finally:
            agent.use_mcp(None)


def _tokens(texts: str) -> TokenBook:
    """The tokens of a variable.

    Raises:
        ConfigurationError: one is too short, or no digest.
    """
    parts = filter(None, map(str.strip, texts.split(",")))
    try:
        return TokenBook(tokens_from_texts(parts, "mcp", TokenScope.CALL))
    except ConfigurationError as error:
        raise ConfigurationError(f"{TOKEN_VARIABLE}: {error}") from None


class _Door:
    """Lets those in who hold a token, or everybody when there is none."""

    def __init__(self, app: ASGIApp, tokens: TokenBook) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        presented = headers.get(b"authorization")
        authorization = presented.decode("latin-1") if presented else None
        if not self._tokens or isinstance(self._tokens.match(authorization, datetime.now(UTC)), Credential):
            await self._app(scope, receive, send)
        else:
            refusal = PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)


async def _listen(endpoint: _Door, host: str, port: int) -> int:
    app = Starlette(routes=[Route(PATH, endpoint=endpoint, methods=["GET", "POST", "DELETE"])])
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    print(f"listening on http://{host}:{port}{PATH}", file=sys.stderr, flush=True)
    await server.serve()
    return 0 if server.started else 1


async def _show_tools(agent: FastAgent) -> int:
    async with McpPool(agent.mcp_servers) as pool:
        tools = {tool.qualified_name: tool.tool for tool in pool.tools(agent.mcp_servers)}
        shown = [
            {
                "server": status.name,
                "is_connected": status.is_connected,
                "problem": status.problem,
                "pins": dict(status.pins),
                "changed": dict(status.changed),
            }
            for status in pool.status()
        ]
    print(json.dumps({"servers": shown, "tools": tools}, indent=2))
    return 0 if all(one["is_connected"] and not one["changed"] for one in shown) else 1
