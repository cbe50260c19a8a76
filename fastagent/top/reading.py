"""What a running server tells of itself: its calls, and the process they run in.

Read over HTTP like anybody else's: ``GET /sessions``, ``/metrics`` and ``/health``. No number and no word of
a caller is asked for: calls are told apart by their ids.
"""

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastagent.errors import ConfigurationError, LegConnectError
from fastagent.server_address import ServerAddress

__all__ = ["CallRow", "Reading", "ServerReader"]

ANSWER_BYTES_MAX = 8 << 20
TIMEOUT_S = 5.0
PAGE = 100
"""Calls of one page of ``GET /sessions``."""
PAGES_MAX = 10
PEER = "server"


@dataclass(frozen=True, slots=True)
class CallRow:
    """A running call."""

    session_id: str
    agent_id: str
    carrier: str
    state: str
    """Of the task that asked last; empty without one."""
    speaker: str
    """``caller``, ``bot``, ``both``; empty for nobody."""
    duration_s: float
    turns: int
    latency_ms: float | None
    drops: int
    dollars: float | None
    is_parked: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a server. None is what it did not tell, as without the scope for it."""

    at_s: float
    """Monotonic seconds."""
    version: str
    status: str
    uptime_s: float
    calls: tuple[CallRow, ...]
    calls_in_all: int
    """More than are in `calls` where there are very many."""
    latency_ms: Mapping[str, float]
    """Of the last answers: ``avg``, ``p95`` and so on."""
    metrics: Mapping[str, float] | None
    """Sums over labels, by the sample's name."""


class ServerReader:
    """Reads one server.

    Args:
        server: its token wants the scopes ``admin`` and ``metrics``.
    """

    def __init__(self, server: ServerAddress) -> None:
        self._server = server

    def read(self) -> Reading:
        """Look once. Blocks for a few requests, in each for `TIMEOUT_S` at most until something comes.

        Raises:
            ConfigurationError: the token is refused, or what answers is no such server.
            LegConnectError: nobody answers, or not now.
        """
        health = self._object(*self._get("/health"))
        sessions, in_all = self._sessions()
        status, content = self._get("/metrics")
        metrics = _sums(content.decode("utf-8", "replace")) if status == http.client.OK else None
        latency = health.get("latency_metrics")
        return Reading(
            at_s=time.monotonic(),
            version=str(health.get("version", "")),
            status=str(health.get("status", "")),
            uptime_s=_number(health.get("uptime_seconds")),
            calls=tuple(_row(one) for one in sessions),
            calls_in_all=in_all,
            latency_ms={
                name: number
                for name, value in (latency if isinstance(latency, dict) else {}).items()
                if (number := _maybe(value)) is not None
            },
            metrics=metrics,
        )

    def _sessions(self) -> tuple[list[Mapping[str, Any]], int]:
        found: list[Mapping[str, Any]] = []
        cursor, in_all = "", 0
        for _ in range(PAGES_MAX):
            target = f"/sessions?limit={PAGE}" + (f"&cursor={cursor}" if cursor else "")
            page = self._object(*self._get(target))
            live = page.get("active_sessions")
            found += [one for one in (live if isinstance(live, list) else ()) if isinstance(one, dict)]
            in_all = int(_number(page.get("total_count")))
            cursor = str(page.get("next_cursor") or "")
            if not cursor:
                break
        return found, in_all

    def _object(self, status: int, content: bytes) -> Mapping[str, Any]:
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise ConfigurationError(
                f"the server refuses the token ({status}): GET /sessions wants one with the scope admin"
            )
        if status == http.client.TOO_MANY_REQUESTS or status >= http.client.INTERNAL_SERVER_ERROR:
            raise LegConnectError(PEER, f"answered {status}", retryable=True, status=status)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if status != http.client.OK or not isinstance(found, dict):
            raise ConfigurationError(f"this is no FastAgent server: it answered {status}")
        return found

    def _get(self, target: str) -> tuple[int, bytes]:
        try:
            with contextlib.closing(self._server.connection(TIMEOUT_S)) as connection:
                connection.request("GET", self._server.target(target), headers=self._server.headers)
                response = connection.getresponse()
                return response.status, response.read(ANSWER_BYTES_MAX)
        except (UnicodeError, http.client.InvalidURL):  # names that cannot be a host's or a path
            raise ConfigurationError("--url: expected a host and a path that can be asked for") from None
        except (OSError, http.client.HTTPException) as error:
            raise LegConnectError(PEER, type(error).__name__, retryable=True) from None


def _number(value: object) -> float:
    return _maybe(value) or 0.0


def _maybe(value: object) -> float | None:
    """A number that can be shown; None for anything else."""
    return float(value) if isinstance(value, (int, float)) and abs(value) <= sys.float_info.max else None


def _row(one: Mapping[str, Any]) -> CallRow:
    return CallRow(
        session_id=str(one.get("session_id", "")),
        agent_id=str(one.get("agent_id", "")),
        carrier=str(one.get("carrier", "")),
        state=str(one.get("current_state", "")),
        speaker=str(one.get("speaker", "")),
        duration_s=_number(one.get("duration_seconds")),
        turns=int(_number(one.get("turn_count"))),
        latency_ms=_maybe(one.get("latency_ms")),
        drops=int(_number(one.get("drops"))),
        dollars=_maybe(one.get("cost_dollars")),
        is_parked=bool(one.get("is_parked")),
    )


def _sums(text: str) -> Mapping[str, float]:
    """The samples of Prometheus' text format, added up over their labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _, value = line.rpartition(" ")
        with contextlib.suppress(ValueError):
            short = name.partition("{")[0]
            found[short] = found.get(short, 0.0) + float(value)
    return found
