"""Problem details (RFC 9457): the one shape of every error answer."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastagent.server.doors.auth import Denial

__all__ = ["MEDIA_TYPE", "Problem", "ProblemAnswers", "answer_failure", "bad_request", "denied", "invalid"]

logger = logging.getLogger("fastagent.server")

MEDIA_TYPE = "application/problem+json"
PHRASES = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
"""RFC 9110's; Python's own differ from release to release."""
ERRORS_MAX = 50
"""Mistakes that are told at once."""
DETAIL_BYTES_MAX = 500
"""Of a plain text that becomes a detail."""


class Problem(Exception):
    """An answer in problem details.

    Args:
        kind: tells problems of one status apart, in the type's last part.
        members: further members of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.members = members or {}

    @property
    def response(self) -> Response:
        """``application/problem+json``."""
        body = {
            "type": f"urn:fastagent:problem:{self.kind}",
            "title": self.kind.replace("-", " ").capitalize(),
            "status": int(self.status),
            "detail": self.detail,
            **self.members,
        }
        return JSONResponse(body, int(self.status), self.headers, media_type=MEDIA_TYPE)


def bad_request(detail: str, kind: str = "bad-request") -> Problem:
    """What cannot be read."""
    return Problem(HTTPStatus.BAD_REQUEST, kind, detail)


def invalid(kind: str, detail: str, errors: Sequence[tuple[str, str]] = ()) -> Problem:
    """What can be read and does not fit.

    Args:
        errors: the path of each mistake (``states[2].name``), and what is wrong there.
    """
    listed = [{"path": path, "message": message} for path, message in errors[:ERRORS_MAX]]
    return Problem(422, kind, detail, members={"errors": listed})


def denied(denial: Denial) -> Problem:
    """Why somebody is not let in."""
    return of_status(denial.status, denial.detail, denial.headers)


def of_status(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Problem:
    """A problem that its status says enough of."""
    phrase = phrase_of(status)
    return Problem(status, phrase.lower().replace(" ", "-"), detail or phrase, headers)


def phrase_of(status: int) -> str:
    """What a status is called."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


async def answer_failure(request: Request, error: Exception) -> Response:
    """An exception handler: what the routes refuse, what no route answers, and what went wrong in one."""
    if isinstance(error, Problem):
        return error.response
    if isinstance(error, HTTPException):
        return of_status(error.status_code, error.detail, error.headers).response
    return Problem(500, "internal-server-error", "this request failed; the server's log says why").response


class ProblemAnswers:
    """ASGI around an application: an error that is answered otherwise becomes problem details.

    Doors that refuse a WebSocket before it opens answer plain text, and so do files and routes of others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            send = _Shaped(send, "http.response").send
        elif scope["type"] == "websocket":
            send = _Shaped(send, "websocket.http.response").send
        await self._app(scope, receive, send)


class _Shaped:
    """One answer on its way out."""

    def __init__(self, send: Send, kind: str) -> None:
        self._send = send
        self._start, self._body = f"{kind}.start", f"{kind}.body"
        self._held: Message | None = None
        self._text = b""

    async def send(self, message: Message) -> None:
        if message["type"] == self._start and message["status"] >= 400 and not _speaks_json(message):
            self._held = message
        elif self._held is not None and message["type"] == self._body:
            self._text += message.get("body", b"")[:DETAIL_BYTES_MAX]
            if not message.get("more_body"):
                await self._send_problem(self._held)
                self._held = None
        else:
            await self._send(message)

    async def _send_problem(self, start: Message) -> None:
        headers = {name.lower().decode("latin-1"): value for name, value in start["headers"]}
        is_text = headers.get("content-type", b"").startswith(b"text/plain")
        detail = self._text[:DETAIL_BYTES_MAX].decode("utf-8", "replace") if is_text else ""
        kept = [pair for pair in start["headers"] if not pair[0].lower().startswith(b"content-")]
        if "content-range" in headers:
            kept.append((b"content-range", headers["content-range"]))
        response = of_status(start["status"], detail).response
        await self._send({**start, "headers": [*response.raw_headers, *kept]})
        await self._send({"type": self._body, "body": response.body})


def _speaks_json(start: Message) -> bool:
    """It is a problem already, or an error in the words of another protocol."""
    return any(
        name.lower() == b"content-type" and value.startswith((MEDIA_TYPE.encode(), b"application/json"))
        for name, value in start["headers"]
    )
