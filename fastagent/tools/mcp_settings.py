"""McpServer: an MCP server and what may be asked of it; McpServerStatus: how it stands with one."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fastagent.errors import ConfigurationError
from fastagent.tools.offered import DEFAULT_DEADLINE_S, DEFAULT_MAX_OUTPUT_BYTES

__all__ = ["McpServer", "McpServerStatus"]

DEFAULT_CONNECT_TIMEOUT_S = 10.0
DEFAULT_MAX_CONCURRENCY = 16
DEFAULT_MAX_MESSAGE_BYTES = 1024 * 1024
"""Of one answer; what is longer ends the connection, or the request over HTTP."""

_SERVER_NAME = re.compile(r"[a-zA-Z0-9-]{1,32}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server and what may be asked of it: ``command`` starts it (stdio), ``url`` is where it listens.

    Raises:
        ConfigurationError: a value that cannot work; credentials that would travel unencrypted.
    """

    name: str
    """Unique in the process, 1 to 32 of ``a-z A-Z 0-9 -``; prefixes its tools where names clash."""
    command: Sequence[str] = ()
    """The program and its arguments; no shell reads them."""
    url: str = ""
    """Of streamable HTTP."""
    allowed_tools: Collection[str] | None = None
    """Its tools that are offered; None: all it lists."""
    pins: Mapping[str, str] | None = None
    """Digest by tool, as `McpServerStatus.pins` gives them: what differs is not offered. None: what the
    server lists first in the life of the process is what it must keep to."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the program, beside the few harmless variables it inherits."""
    cwd: str | Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    deadline_s: float = DEFAULT_DEADLINE_S
    """For one call of a tool."""
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES
    """Of a result told to the model; longer texts are cut."""
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    """Calls at once, over all telephone calls; one more is told to try again."""

    def __post_init__(self) -> None:
        if not _SERVER_NAME.fullmatch(self.name):
            raise ConfigurationError(f"MCP server name {self.name!r} must be 1 to 32 of a-z A-Z 0-9 -")
        if isinstance(self.command, str) or isinstance(self.allowed_tools, str):
            raise ConfigurationError(
                f"MCP server {self.name!r}: command and allowed_tools are lists of texts"
            )
        if bool(self.command) == bool(self.url):
            raise ConfigurationError(f"MCP server {self.name!r} needs either a command or a url")
        limits = (
            self.deadline_s,
            self.connect_timeout_s,
            self.max_output_bytes,
            self.max_message_bytes,
            self.max_concurrency,
        )
        if min(limits) <= 0:
            raise ConfigurationError(f"MCP server {self.name!r}: limits must be above 0")
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigurationError(f"MCP server {self.name!r}: url must begin with https:// or http://")
            if parts.scheme == "http" and self.headers and parts.hostname not in _LOOPBACK:
                raise ConfigurationError(f"MCP server {self.name!r}: headers need https beyond this machine")


@dataclass(frozen=True, slots=True)
class McpServerStatus:
    """How it stands with one server."""

    name: str
    is_connected: bool
    connections: int
    """Opened so far; more than one tells of losses."""
    problem: str = ""
    """Why the last attempt failed or the last connection ended, in a word or two."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """The digest each of its tools is held to."""
    changed: Mapping[str, str] = field(default_factory=dict)
    """Tools that are not what they must be, with the digest of what they are: refused until accepted."""
