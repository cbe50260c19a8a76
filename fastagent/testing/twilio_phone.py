"""A scripted caller behind Twilio, on real sockets.

::

    phone = TwilioPhone(TwilioOptions(), public_url="https://bridge.example.com")
    await phone.connect("http://127.0.0.1:8000/twilio/webhook", auth_token)   # the webhook, then its stream
    await phone.initiate()                        # connected, start; caller audio flows
    await phone.say(pcm, 16_000)
    await phone.wait_until(lambda line: line.streams, "the bot")
    await phone.hang_up()
    assert not phone.line.violations

Everything is signed as Twilio signs it, for the public address, wherever the server really is: what a proxy
in front of it would do. After the bot has closed the stream `wait_ended` follows the rest of the TwiML. A
``<Dial>`` in it ends as `TwilioOptions.dial_status` says; if the TwiML then asks for a stream once more,
`come_back` opens it.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import uuid4
from xml.etree import ElementTree

from fastagent.errors import LegConnectError
from fastagent.testing.phone import LEG, TIMEOUT_S, Phone
from fastagent.testing.twilio_line import TwilioLine
from fastagent.testing.twilio_records import Faults, PlayedStretch, TwilioOptions, TwilioPhase
from fastagent.testing.twilio_requests import Answer, post_form, sign

__all__ = ["Faults", "PlayedStretch", "TwilioLine", "TwilioOptions", "TwilioPhase", "TwilioPhone"]

DOCUMENTS_MAX = 10
"""Twilio gives a call up whose TwiML redirects for ever."""
VERBS = frozenset({"Connect", "Dial", "Hangup", "Redirect", "Reject", "Say"})


class TwilioPhone(Phone[TwilioLine]):
    """One call of a scripted caller; `line` holds everything that was seen. Use one object per call.

    Args:
        public_url: what Twilio knows the server by; empty when that is where it is reached.
    """

    def __init__(
        self, options: TwilioOptions | None = None, *, call_sid: str | None = None, public_url: str = ""
    ) -> None:
        super().__init__(TwilioLine(options, call_sid=call_sid))
        self.verbs: list[ElementTree.Element] = []
        """What the TwiML had Twilio do, in order."""
        self.parameters: dict[str, str] = {}
        """Of the stream."""
        self.stream_url = ""
        self.whispers: list[str] = []
        """What those heard who answered a ``<Dial>``, before the caller."""
        self.former_lines: list[TwilioLine] = []
        """The streams before the one of `line`."""
        self._public_url = public_url.rstrip("/")
        self._base = ""
        self._auth_token = ""
        self._pending: list[ElementTree.Element] = []

    async def connect(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Ask the webhook what to do with the call, and open the stream that it wants.

        Args:
            url: of the webhook, where it is reached.
            token: the account's auth token, with which everything is signed.

        Raises:
            LegConnectError: refused (``status`` holds the HTTP answer), not reachable, or no stream wanted.
        """
        await self.ask(url, token, timeout_s=timeout_s)
        if not self.stream_url:
            done = ", ".join(verb.tag for verb in self.verbs)
            raise LegConnectError(LEG, f"the bot wants no stream: {done}", retryable=False, status=200)
        await self.open_stream(timeout_s=timeout_s)

    async def ask(self, url: str, token: str | None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Only ask the webhook, and follow its TwiML up to a stream."""
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._public_url = self._public_url or self._base
        self._auth_token = token or ""
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        await self._follow(self._public_url + target, timeout_s)

    async def open_stream(
        self, *, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Open the stream that the TwiML asked for."""
        given = {"X-Twilio-Signature": sign(self._auth_token, self.stream_url), **(headers or {})}
        url = self._reached(self.stream_url).replace("http", "ws", 1)
        await self._open(url, given, timeout_s)

    async def initiate(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Begin the stream. Nothing acknowledges it."""
        self.line.initiate(self._now(), self.parameters)
        self._turn()

    async def hang_up(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """The caller hangs up: ``stop``, and Twilio closes the socket."""
        self.line.hang_up(self._now())
        self._turn()
        await self.close()

    async def wait_ended(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the bot has closed the stream, then do what the rest of the TwiML says: up to the end,
        or to another stream.

        Raises:
            LegTimeoutError: the call went on.
        """
        await super().wait_ended(timeout_s=timeout_s)
        if self.line.end_code != "stopped":
            self.stream_url = ""
            await self._run(timeout_s)

    async def come_back(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Open the stream that the TwiML asks for after a failed transfer; `line` is a fresh one then.

        Raises:
            LegConnectError: refused, or the TwiML asks for none.
        """
        if not self.stream_url:
            raise LegConnectError(LEG, "the bot wants no stream", retryable=False, status=200)
        self.former_lines.append(self.line)
        self.line = TwilioLine(self.line.options, call_sid=self.line.call_sid)
        await self.open_stream(timeout_s=timeout_s)
        await self.initiate(timeout_s=timeout_s)

    async def callback(self, path: str, fields: Mapping[str, str]) -> Answer:
        """Call one of the server's other addresses, such as that for status callbacks."""
        return await self._post(self._public_url + path, {**self._form(), **fields}, TIMEOUT_S)

    # TwiML

    async def _follow(self, url: str, timeout_s: float) -> None:
        answer = await self._post(url, self._form(), timeout_s)
        if answer.status != 200:
            raise LegConnectError(
                LEG, f"the webhook answered {answer.status}", retryable=False, status=answer.status
            )
        self._pending = self._document(answer)
        await self._run(timeout_s)

    def _document(self, answer: Answer) -> list[ElementTree.Element]:
        root = None
        try:
            root = ElementTree.fromstring(answer.body)
        except ElementTree.ParseError:
            pass
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if root is None or root.tag != "Response" or kind not in ("text/xml", "application/xml"):
            self.line.report("twiml_malformed", self._now(), f"{len(answer.body)} bytes of {kind}")
            return []
        return list(root)

    async def _run(self, timeout_s: float) -> None:
        """Do what is to be done up to a stream, or to the end."""
        for _ in range(DOCUMENTS_MAX):
            redirect = ""
            asked: Mapping[str, str] = {}
            while self._pending and not redirect:
                verb = self._pending.pop(0)
                self.verbs.append(verb)
                if verb.tag not in VERBS:
                    self.line.report("twiml_malformed", self._now(), verb.tag)
                elif verb.tag == "Connect":
                    self._connect(verb)
                    return
                elif verb.tag == "Redirect":
                    redirect = (verb.text or "").strip()
                elif verb.tag == "Dial":
                    self._pending.clear()
                    status = await self._dial(verb, timeout_s)
                    if status != "canceled":
                        redirect, asked = verb.get("action", ""), {"DialCallStatus": status}
                elif verb.tag in ("Hangup", "Reject"):
                    self._pending.clear()
            if not redirect:
                return
            answer = await self._post(redirect, {**self._form(), **asked}, timeout_s)
            self._pending = self._document(answer) if answer.status == 200 else []

    async def _dial(self, verb: ElementTree.Element, timeout_s: float) -> str:
        """Ring whom the TwiML names, who does as the options say; gives the ``DialCallStatus``."""
        callee = next(iter(verb), None)
        status = self.line.options.dial_status
        if callee is None:
            return "failed"
        leg = {
            "CallSid": f"CA{uuid4().hex}",
            "ParentCallSid": self.line.call_sid,
            "Direction": "outbound-dial",
        }
        told = callee.get("statusCallback", "")
        wanted = callee.get("statusCallbackEvent", "completed").split()
        if status == "completed":
            if told and "answered" in wanted:
                await self._post(told, {**self._form(), **leg, "CallStatus": "in-progress"}, timeout_s)
            if url := callee.get("url", ""):
                answer = await self._post(url, {**self._form(), **leg}, timeout_s)
                self.whispers += [one.text or "" for one in self._document(answer) if one.tag == "Say"]
        if told and "completed" in wanted:
            await self._post(told, {**self._form(), **leg, "CallStatus": status}, timeout_s)
        return status

    def _connect(self, verb: ElementTree.Element) -> None:
        stream = verb.find("Stream")
        url = "" if stream is None else stream.get("url", "")
        parts = urlsplit(url)
        if stream is None or parts.scheme != "wss" or not parts.hostname or parts.query or parts.fragment:
            self.line.report("stream_url_malformed", self._now(), parts.scheme)
            return
        self.stream_url = url
        self.parameters.clear()
        for one in stream.findall("Parameter"):
            self.parameters[one.get("name", "")] = one.get("value", "")

    # Requests

    def _form(self) -> dict[str, str]:
        options = self.line.options
        return {
            "AccountSid": options.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.line.call_sid,
            "CallStatus": "in-progress" if self.verbs else "ringing",
            "Called": options.callee,
            "Caller": options.caller,
            "CallerName": "",
            "Direction": "inbound",
            "From": options.caller,
            "To": options.callee,
            **options.fields,
        }

    def _reached(self, url: str) -> str:
        """A public address where the server really is."""
        target = url.partition("://")[2].removeprefix(self._public_url.partition("://")[2])
        return self._base + target

    async def _post(self, url: str, fields: Mapping[str, str], timeout_s: float) -> Answer:
        headers = {
            "Host": urlsplit(url).netloc,
            "User-Agent": "TwilioProxy/1.1",
            "X-Twilio-Signature": sign(self._auth_token, url, fields.items()),
        }
        return await post_form(self._reached(url), fields.items(), headers, timeout_s=timeout_s)
