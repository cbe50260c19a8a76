"""Asks an ASGI application without a socket."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

JSON = {"content-type": "application/json"}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_problem(self, status: int, kind: str) -> bool:
        """It is this problem, in the form of RFC 9457."""
        assert self.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= set(self.json)
        assert self.json["status"] == self.status
        assert (self.status, self.json["type"]) == (status, f"urn:fastagent:problem:{kind}")
        return True


async def ask(
    app: Any,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] = (b"",),
    headers: Mapping[str, str] | None = None,
    *,
    client: str = "127.0.0.1",
) -> Answer:
    """One request; ``body`` may come in parts, and without any the client has gone away."""
    body = [body] if isinstance(body, bytes) else list(body)
    parts = list(body)
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": (client, 50_000),
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not body:
            return {"type": "http.disconnect"}
        if not parts:
            await asyncio.Event().wait()  # the client stays for its answer
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await app(scope, receive, send)
    heads = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], heads, b"".join(part.get("body", b"") for part in sent[1:]))
