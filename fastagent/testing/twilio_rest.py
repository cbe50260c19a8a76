"""A stand-in for Twilio's REST API on loopback: calls, messages and phone numbers of one account.

::

    async with TwilioRest(account_sid, auth_token) as rest:
        rest.add_number("+15550100002")
        ...                                       # point a client at rest.url
        assert rest.messages[0]["body"] == "Your table is booked."

Paths, names and codes: https://www.twilio.com/docs/voice/api/call-resource,
https://www.twilio.com/docs/messaging/api/message-resource and
https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource. `fail` has things go wrong.
"""

import asyncio
import base64
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import orjson

__all__ = ["RestRequest", "TwilioRest"]

VERSION = "2010-04-01"
HEAD_BYTES_MAX = 16_384
BODY_BYTES_MAX = 65_536
REQUEST_TIMEOUT_S = 5.0
BODY_CHARS_MAX = 1600
TWIML_CHARS_MAX = 4000
LIVE_STATUSES = frozenset({"queued", "ringing", "in-progress"})
SENT_AT = "Mon, 05 Jan 2026 10:00:00 +0000"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One request, as it came."""

    method: str
    path: str
    """Without version and account: ``/Calls/CA….json``."""
    fields: tuple[tuple[str, str], ...] = field(repr=False)
    """Of the form, or of the query of a GET."""

    def get(self, name: str, default: str = "") -> str:
        """The last value under a name."""
        return dict(self.fields).get(name, default)

    def all(self, name: str) -> list[str]:
        """Every value under a name."""
        return [value for key, value in self.fields if key == name]


class RestError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class TwilioRest:
    """Serves one account.

    Args:
        on_call_update: told of a live call's change by its SID: hang it up, or run other TwiML.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        *,
        on_call_update: Callable[[str, RestRequest], None] = lambda call_sid, request: None,
    ) -> None:
        self.account_sid = account_sid
        self.requests: list[RestRequest] = []
        """Every request with good credentials, in order."""
        self.calls: dict[str, Json] = {}
        self.messages: list[Json] = []
        self.numbers: dict[str, Json] = {}
        self.refused = 0
        """Requests without good credentials."""
        self._credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._on_call_update = on_call_update
        self._faults: deque[tuple[int, int]] = deque()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens, in place of ``https://api.twilio.com``."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    # What a test puts in

    def fail(self, status: int, code: int = 0, *, times: int = 1) -> None:
        """Answer the next requests with an error; status 0 closes the connection without an answer."""
        self._faults += [(status, code)] * times

    def add_call(self, call_sid: str, status: str = "in-progress", **changes: str) -> Json:
        """A call that is there."""
        call = {
            "sid": call_sid,
            "account_sid": self.account_sid,
            "parent_call_sid": None,
            "from": "",
            "to": "",
            "status": status,
            "direction": "inbound",
            "duration": None,
            "answered_by": None,
            "api_version": VERSION,
            "date_created": SENT_AT,
            "date_updated": SENT_AT,
            "uri": f"/{VERSION}/Accounts/{self.account_sid}/Calls/{call_sid}.json",
            **changes,
        }
        self.calls[call_sid] = call
        return call

    def add_number(self, phone_number: str) -> Json:
        """A phone number of the account."""
        sid = f"PN{uuid4().hex}"
        names = ("voice_url", "voice_fallback_url", "sms_url", "sms_fallback_url", "status_callback")
        self.numbers[sid] = {
            "sid": sid,
            "account_sid": self.account_sid,
            "phone_number": phone_number,
            "friendly_name": phone_number,
            **dict.fromkeys(names, ""),
            "voice_method": "POST",
            "sms_method": "POST",
            "voice_application_sid": "",
            "sms_application_sid": "",
            "trunk_sid": None,
            "capabilities": {"voice": True, "sms": True, "mms": False, "fax": False},
        }
        return self.numbers[sid]

    # HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                answer = await self._answer(reader)
                if answer is not None:
                    status, body = answer
                    data = orjson.dumps(body)
                    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                    head += "Connection: close\r\n\r\n"
                    writer.write(head.encode() + data)
                    await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that breaks off is the client's story
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, Json] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        if size > BODY_BYTES_MAX:
            raise ValueError("too large")
        body = (await reader.readexactly(size)).decode()
        if headers.get("authorization") != f"Basic {self._credentials}":
            self.refused += 1
            return 401, _error(401, 20003, "Authenticate")
        parts = urlsplit(target)
        prefix = f"/{VERSION}/Accounts/{self.account_sid}"
        if not parts.path.startswith(prefix + "/"):
            return 404, _error(404, 20404, "The requested resource was not found")
        fields = tuple(parse_qsl(body if method == "POST" else parts.query, keep_blank_values=True))
        request = RestRequest(method, parts.path.removeprefix(prefix), fields)
        self.requests.append(request)
        if self._faults:
            status, code = self._faults.popleft()
            return None if status == 0 else (status, _error(status, code or status, "As asked for"))
        try:
            return self._handle(request)
        except RestError as error:
            return error.status, _error(error.status, error.code, str(error))

    def _handle(self, request: RestRequest) -> tuple[int, Json]:
        found = re.fullmatch(r"/(Calls|Messages|IncomingPhoneNumbers)(?:/(\w+))?\.json", request.path)
        match (request.method, *(found.groups() if found else ("", None))):
            case ("POST", "Calls", None):
                return 201, self._create_call(request)
            case ("GET", "Calls", str() as sid):
                return 200, self._call(sid)
            case ("POST", "Calls", str() as sid):
                return 200, self._update_call(sid, request)
            case ("POST", "Messages", None):
                return 201, self._create_message(request)
            case ("GET", "IncomingPhoneNumbers", None):
                return 200, self._list_numbers(request)
            case ("POST", "IncomingPhoneNumbers", str() as sid):
                return 200, self._update_number(sid, request)
            case _:
                raise RestError(404, 20404, "The requested resource was not found")

    # Calls

    def _call(self, sid: str) -> Json:
        if sid not in self.calls:
            raise RestError(404, 20404, f"The requested resource /Calls/{sid}.json was not found")
        return self.calls[sid]

    def _create_call(self, request: RestRequest) -> Json:
        _require(request, "To", 21201)
        _require(request, "From", 21213)
        if not (request.get("Url") or request.get("Twiml") or request.get("ApplicationSid")):
            raise RestError(400, 21205, "Url parameter is required.")
        changes = {"to": request.get("To"), "from": request.get("From"), "direction": "outbound-api"}
        return self.add_call(f"CA{uuid4().hex}", "queued", **changes)

    def _update_call(self, sid: str, request: RestRequest) -> Json:
        call = self._call(sid)
        status, twiml = request.get("Status"), request.get("Twiml")
        if request.get("Url") and twiml:
            raise RestError(400, 21218, "Url and Twiml exclude each other")
        if len(twiml) > TWIML_CHARS_MAX:
            raise RestError(400, 21218, "Twiml is too long")
        if call["status"] not in LIVE_STATUSES or (status == "canceled" and call["status"] == "in-progress"):
            raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        if status not in ("", "completed", "canceled"):
            raise RestError(400, 21218, "Status is not valid")
        if status:
            call["status"] = status
        self._on_call_update(sid, request)
        return call

    # Messages

    def _create_message(self, request: RestRequest) -> Json:
        _require(request, "To", 21604)
        service = request.get("MessagingServiceSid")
        if not service:
            _require(request, "From", 21603)
        body = request.get("Body")
        if not (body or request.all("MediaUrl") or request.get("ContentSid")):
            raise RestError(400, 21602, "Message body is required.")
        if len(body) > BODY_CHARS_MAX:
            raise RestError(400, 21617, "The concatenated message body exceeds the 1600 character limit")
        sid = f"SM{uuid4().hex}"
        message = {
            "sid": sid,
            "account_sid": self.account_sid,
            "messaging_service_sid": service or None,
            "from": request.get("From") or None,
            "to": request.get("To"),
            "body": body,
            "status": "accepted" if service else "queued",
            "direction": "outbound-api",
            "num_segments": str(max(1, -(-len(body) // 153)) if len(body) > 160 else 1),
            "num_media": str(len(request.all("MediaUrl"))),
            "price": None,
            "price_unit": "USD",
            "error_code": None,
            "error_message": None,
            "api_version": VERSION,
            "date_created": SENT_AT,
            "date_updated": SENT_AT,
            "date_sent": None,
            "uri": f"/{VERSION}/Accounts/{self.account_sid}/Messages/{sid}.json",
        }
        self.messages.append(message)
        return message

    # Phone numbers

    def _list_numbers(self, request: RestRequest) -> Json:
        wanted = request.get("PhoneNumber")
        numbers = [one for one in self.numbers.values() if wanted in ("", one["phone_number"])]
        return {
            "incoming_phone_numbers": numbers,
            "page": 0,
            "page_size": 50,
            "start": 0,
            "end": max(0, len(numbers) - 1),
            "uri": f"/{VERSION}/Accounts/{self.account_sid}/IncomingPhoneNumbers.json",
            "next_page_uri": None,
            "previous_page_uri": None,
        }

    def _update_number(self, sid: str, request: RestRequest) -> Json:
        if sid not in self.numbers:
            raise RestError(404, 20404, "The requested resource was not found")
        number = self.numbers[sid]
        for name, value in request.fields:
            key = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
            if key not in number or key in ("sid", "account_sid", "phone_number", "capabilities"):
                raise RestError(400, 20001, f"Unknown parameter {name}")
            number[key] = value
        return number


def _require(request: RestRequest, name: str, code: int) -> None:
    if not request.get(name):
        raise RestError(400, code, f"A '{name}' is required.")


def _error(status: int, code: int, message: str) -> Json:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return {"code": code, "message": message, "more_info": more, "status": status}
