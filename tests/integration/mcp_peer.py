"""An MCP server written with the SDK, as its users write one: a program of its own, for the client's tests.

    python mcp_peer.py [--http PORT] [--state FOLDER]

The folder holds what it did: ``calls`` (a line per call of ``charge`` and ``die``), ``pids`` (one a start).
And what it is to do: the description of ``find_order`` stands in ``words``, if there is such a file.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel, Field


class Order(BaseModel):
    number: int
    state: str


def build(state: Path) -> MCPServer:
    server = MCPServer("peer")
    words = state / "words"

    @server.tool(description=words.read_text() if words.exists() else "Find an order.")
    def find_order(number: Annotated[int, Field(ge=1)]) -> Order:
        return Order(number=number, state="shipped")

    @server.tool()
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}."

    @server.tool()
    async def charge(amount: int, wait_s: float = 0) -> str:
        """Charge a card, after a while."""
        with (state / "calls").open("a") as calls:
            calls.write(f"{amount}\n")
        await asyncio.sleep(wait_s)
        return f"charged {amount}"

    @server.tool()
    def key(context: Context) -> str:
        """Tell the idempotency key of this call."""
        return str((context.request_context.meta or {}).get("fastagent/idempotency_key"))

    @server.tool()
    def secret() -> str:
        """Tell a secret."""
        return "the secret"

    @server.tool()
    def blob(size: int) -> str:
        """Give a long text."""
        return "x" * size

    @server.tool()
    def fail() -> str:
        """Fail."""
        raise ValueError("no order of that number")

    @server.tool()
    def die() -> str:
        """End this program at once."""
        with (state / "calls").open("a") as calls:
            calls.write("die\n")
        os._exit(7)

    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    with (options.state / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    server = build(options.state)
    if options.http is None:
        print("a line on stdout that is no message", flush=True)
        print("a line on stderr", file=sys.stderr, flush=True)
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=options.http)


if __name__ == "__main__":
    main()
