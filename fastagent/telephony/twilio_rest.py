"""A client of Twilio's REST API: text messages, calls, phone numbers of one account.

::

    async with TwilioRestClient(account_sid, auth_token) as twilio:
        await twilio.send_message("+15550100001", "Your table is booked.", sender="+15550100002")

Sources: https://www.twilio.com/docs/voice/api/call-resource,
https://www.twilio.com/docs/messaging/api/message-resource and
https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource. What creates something is tried
again only when Twilio cannot have done it: no connection came about, or it answered 429. Everything else is
tried again on 5xx and lost connections, too. Errors and logs hold neither numbers nor texts nor keys, and for
that reason no number is put into an address either.
"""

import asyncio
import base64
import random
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import orjson

from fastagent.errors import ConfigurationError, TelephonyError, TelephonyRefusedError

if TYPE_CHECKING:
    import httpx

__all__ = ["API_URL", "CARRIER", "PhoneNumber", "TwilioRestClient", "check_number"]

CARRIER = "twilio"
API_URL = "https://api.twilio.com"
VERSION = "2010-04-01"

CONNECT_TIMEOUT_S = 5.0
ATTEMPT_TIMEOUT_S = 10.0
"""For one try, from the connection to the end of the answer."""
TOTAL_TIMEOUT_S = 25.0
"""For all tries together."""
ATTEMPTS_MAX = 3
BACKOFF_S = 0.25
BACKOFF_MAX_S = 5.0
ANSWER_BYTES_MAX = 1 << 20
CONNECTIONS_MAX = 20
BODY_CHARS_MAX = 1600
TWIML_CHARS_MAX = 4000
PAGE_SIZE = 1000
PAGES_MAX = 20
"""Of phone numbers looked through: 20 000."""
RING_S = 30
"""How long a telephone rings that we call."""

CALL_IS_OVER = frozenset({20404, 21220})
"""What Twilio answers when a call is to be changed that has ended."""
STATUS_NOT_FOUND = 404
STATUS_TOO_MANY = 429
STATUS_SERVER_ERROR = 500
STATUS_ERROR = 400

_NUMBER = re.compile(r"\+[1-9]\d{4,14}")
_SID = re.compile(r"[A-Z]{2}[0-9a-zA-Z]{1,62}")

Json = dict[str, Any]


def check_number(number: str) -> str:
    """The number, if it is one in E.164.

    Raises:
        TelephonyError: it is not.
    """
    if not _NUMBER.fullmatch(number):
        raise TelephonyError(CARRIER, "expected a number in E.164: + and 5 to 15 digits")
    return number


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """A phone number of the account, and where its calls and messages go."""

    sid: str
    number: str = field(repr=False)
    settings: Mapping[str, str] = field(repr=False)
    """By Twilio's names of parameters (``VoiceUrl``); empty for what is not set."""


_NUMBER_SETTINGS = {
    "VoiceUrl": "voice_url",
    "VoiceMethod": "voice_method",
    "VoiceFallbackUrl": "voice_fallback_url",
    "StatusCallback": "status_callback",
    "VoiceApplicationSid": "voice_application_sid",
    "TrunkSid": "trunk_sid",
    "SmsUrl": "sms_url",
    "SmsMethod": "sms_method",
    "SmsApplicationSid": "sms_application_sid",
}


class TwilioRestClient:
    """Speaks for one account. Used from one loop; close it, or open it as a context.

    Args:
        auth_token: the account's, or with ``api_key_sid`` that key's secret.
        base_url: another address for Twilio's regions.

    Raises:
        ConfigurationError: the extra ``twilio`` is not installed, or there are no credentials.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        *,
        api_key_sid: str = "",
        base_url: str = API_URL,
        attempts_max: int = ATTEMPTS_MAX,
        attempt_timeout_s: float = ATTEMPT_TIMEOUT_S,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
        backoff_s: float = BACKOFF_S,
    ) -> None:
        if not _SID.fullmatch(account_sid) or not auth_token:
            raise ConfigurationError("Twilio: expected an account SID (AC…) and its auth token")
        try:
            import httpx
        except ImportError:
            raise ConfigurationError(
                "Twilio's REST API needs the extra twilio: pip install 'fastagent[twilio]'"
            ) from None
        self._httpx = httpx
        self._base_url = base_url.rstrip("/")
        self._root = f"/{VERSION}/Accounts/{account_sid}"
        credentials = base64.b64encode(f"{api_key_sid or account_sid}:{auth_token}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {credentials}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self._attempts_max = attempts_max
        self._attempt_timeout_s = attempt_timeout_s
        self._total_timeout_s = total_timeout_s
        self._backoff_s = backoff_s
        # The transport, not httpx's client: that one logs each address and follows the environment's proxies.
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=CONNECTIONS_MAX))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections up."""
        await self._transport.aclose()

    # What one can ask for

    async def send_message(self, to: str, text: str, *, sender: str) -> str:
        """Send a text message, and give its SID.

        Args:
            sender: one of our numbers, or the SID of a messaging service.

        Raises:
            TelephonyError: it was not handed over; with ``may_be_done`` nobody knows.
        """
        if not 0 < len(text) <= BODY_CHARS_MAX:
            raise TelephonyError(CARRIER, f"expected a text of 1 to {BODY_CHARS_MAX} characters")
        source = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}
        made = await self._ask("POST", "/Messages.json", {"To": check_number(to), **source, "Body": text})
        return _text(made, "sid")

    async def create_call(
        self,
        to: str,
        *,
        sender: str,
        url: str,
        status_callback: str = "",
        ring_s: int = RING_S,
        detects_machines: bool = False,
        waits_for_beep: bool = False,
        machine_callback: str = "",
    ) -> str:
        """Call a number, and give the call's SID; nobody has answered by then.

        Args:
            sender: one of our numbers.
            url: asked for TwiML once somebody answers; with ``detects_machines`` and no callback only when
                it is known who, which it is told (``AnsweredBy``).
            waits_for_beep: a machine is told of when its greeting is over.
            machine_callback: told who answered, while the call goes on.

        Raises:
            TelephonyError: no call was made; with ``may_be_done`` nobody knows.
        """
        fields = {"To": check_number(to), "From": check_number(sender), "Url": url, "Timeout": str(ring_s)}
        if status_callback:
            fields["StatusCallback"] = status_callback
        if detects_machines:
            fields["MachineDetection"] = "DetectMessageEnd" if waits_for_beep else "Enable"
            if machine_callback:
                fields |= {"AsyncAmd": "true", "AsyncAmdStatusCallback": machine_callback}
        return _text(await self._ask("POST", "/Calls.json", fields), "sid")

    async def redirect_call(self, call_sid: str, twiml: bytes) -> None:
        """Have a running call do what a document says, from now on.

        Raises:
            TelephonyRefusedError: above all when the call has ended (codes of `CALL_IS_OVER`).
            TelephonyError: Twilio cannot be asked.
        """
        document = twiml.decode()
        if len(document) > TWIML_CHARS_MAX:
            raise TelephonyError(CARRIER, f"expected a document of at most {TWIML_CHARS_MAX} characters")
        await self._ask("POST", _resource("Calls", call_sid), {"Twiml": document})

    async def end_call(self, call_sid: str) -> None:
        """Hang up; a call that has ended already is none the less ended.

        Raises:
            TelephonyError: it may go on.
        """
        try:
            await self._ask("POST", _resource("Calls", call_sid), {"Status": "completed"}, is_safe=True)
        except TelephonyRefusedError as error:
            if error.code not in CALL_IS_OVER and error.status != STATUS_NOT_FOUND:
                raise

    async def phone_numbers(self) -> AsyncIterator[PhoneNumber]:
        """The account's phone numbers.

        Raises:
            TelephonyError: they cannot be listed.
        """
        path = f"{self._root}/IncomingPhoneNumbers.json?PageSize={PAGE_SIZE}"
        for _ in range(PAGES_MAX):
            page = await self._ask("GET", path, is_whole_path=True)
            found = page.get("incoming_phone_numbers")
            for one in found if isinstance(found, list) else ():
                yield _phone_number(one)
            path = _text(page, "next_page_uri")
            if not path.startswith(f"{self._root}/"):
                return

    async def find_number(self, number: str) -> PhoneNumber | None:
        """The account's phone number in E.164; None when it has no such one.

        Raises:
            TelephonyError: Twilio cannot be asked.
        """
        check_number(number)
        async for one in self.phone_numbers():
            if one.number == number:
                return one
        return None

    async def update_number(self, sid: str, settings: Mapping[str, str]) -> PhoneNumber:
        """Change where a phone number's calls and messages go, and give it as it is now.

        Args:
            settings: by Twilio's names of parameters; an empty value takes a setting away.

        Raises:
            TelephonyError: it may be as it was.
        """
        made = await self._ask("POST", _resource("IncomingPhoneNumbers", sid), settings, is_safe=True)
        return _phone_number(made)

    # HTTP

    async def _ask(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str] | None = None,
        *,
        is_safe: bool = False,
        is_whole_path: bool = False,
    ) -> Json:
        """Ask, again where that does no harm.

        Args:
            is_safe: doing it twice is the same as doing it once.
        """
        url = self._base_url + (path if is_whole_path else self._root + path)
        is_safe = is_safe or method == "GET"
        try:
            async with asyncio.timeout(self._total_timeout_s):
                for attempt in range(1, self._attempts_max + 1):
                    try:
                        return await self._try(method, url, fields)
                    except TelephonyError as error:
                        is_settled = not error.retryable or (error.may_be_done and not is_safe)
                        if is_settled or attempt == self._attempts_max:
                            raise
                    # Half of it by chance, so that many do not come back at once.
                    wait_s = min(BACKOFF_MAX_S, self._backoff_s * 2 ** (attempt - 1))
                    await asyncio.sleep(wait_s * (0.5 + random.random() / 2))
        except TimeoutError:
            raise TelephonyError(CARRIER, "no answer in time", retryable=True, may_be_done=True) from None
        raise AssertionError("an attempt returns or raises")

    async def _try(self, method: str, url: str, fields: Mapping[str, str] | None) -> Json:
        httpx = self._httpx
        headers = dict(self._headers)
        content = b""
        if fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(fields).encode()
        wait_s = self._attempt_timeout_s
        timeouts = {"connect": CONNECT_TIMEOUT_S, "read": wait_s, "write": wait_s, "pool": wait_s}
        request = httpx.Request(
            method, url, headers=headers, content=content, extensions={"timeout": timeouts}
        )
        try:
            async with asyncio.timeout(wait_s):
                response = await self._transport.handle_async_request(request)
                try:
                    body = await _body(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TelephonyError(CARRIER, f"not reached: {type(error).__name__}", retryable=True) from None
        except (httpx.HTTPError, TimeoutError) as error:
            reason = f"no answer: {type(error).__name__}"
            raise TelephonyError(CARRIER, reason, retryable=True, may_be_done=True) from None
        return _answer(response.status_code, body)


async def _body(response: "httpx.Response") -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise TelephonyError(
                CARRIER, f"an answer of more than {ANSWER_BYTES_MAX} bytes", may_be_done=True
            )
    return bytes(body)


def _answer(status: int, body: bytes) -> Json:
    try:
        parsed = orjson.loads(body)
    except ValueError:
        parsed = None
    if status >= STATUS_ERROR:
        code = parsed.get("code") if isinstance(parsed, dict) else 0
        error = TelephonyRefusedError(
            CARRIER,
            status,
            code if isinstance(code, int) else 0,
            retryable=status == STATUS_TOO_MANY or status >= STATUS_SERVER_ERROR,
        )
        error.may_be_done = status >= STATUS_SERVER_ERROR
        raise error
    if not isinstance(parsed, dict):
        raise TelephonyError(CARRIER, "an answer that is no JSON object", may_be_done=True)
    return parsed


def _resource(kind: str, sid: str) -> str:
    if not _SID.fullmatch(sid):
        raise TelephonyError(CARRIER, "expected a SID: two letters and what follows")
    return f"/{kind}/{sid}.json"


def _text(found: Json, name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _phone_number(found: Any) -> PhoneNumber:
    if not isinstance(found, dict):
        raise TelephonyError(CARRIER, "a phone number that is no JSON object")
    settings = {name: _text(found, key) for name, key in _NUMBER_SETTINGS.items()}
    return PhoneNumber(_text(found, "sid"), _text(found, "phone_number"), settings)
