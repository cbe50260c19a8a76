"""Twilio's doors: webhooks that answer with TwiML, callbacks, and the media stream that the TwiML asks for.

::

    a call arrives ──▶ POST /twilio/webhook ──▶ <Connect><Stream url="wss://…/twilio/stream"> with a ticket
                       GET  /twilio/stream (upgrade) ──▶ start, with the ticket ──▶ the call
    its socket closes ─▶ POST /twilio/next ──▶ <Hangup>, or <Dial> when the caller is handed on
    somebody answers ──▶ POST /twilio/whisper ──▶ <Say>, the summary of a warm transfer, to them alone
                       POST /twilio/leg ──▶ the call learns that the caller was taken over, or gave up
    nobody takes over ─▶ POST /twilio/dialled ──▶ <Connect><Stream> anew: the same call goes on
    it has listened ───▶ POST /twilio/machine ──▶ the call learns who took it, a person or a machine
                       POST /twilio/status ──▶ what became of calls and streams, to be counted
                       POST /twilio/fallback ──▶ a word of regret, when the webhook failed
    a text message ───▶ POST /twilio/sms ──▶ see `twilio_texts`

Every request must bear Twilio's signature over the configured public address; whatever a proxy or a forger
writes into the request about where it came to is not looked at. Refusals are 403, and counted by cause. A
signed request may be sent again by whoever has seen it: the webhook answers the same until the call has begun
and refuses from then on, and a stream needs a ticket that is taken once.

Each request may come to another process. A ticket is good in all of them, and what was taken or has begun is
marked in the folder where they meet; what only the process of a call can answer, its siblings ask it.
Machines that share a store learn from it that a ticket was taken, while the call begins.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from fastagent.call import CallServices
from fastagent.errors import SessionError
from fastagent.legs.carrier import CarrierSocket
from fastagent.server.chats.chats import TextChats
from fastagent.server.kept.continuity import Continuity
from fastagent.server.life.forward import Visitor
from fastagent.server.life.inquiry import ask_siblings, is_from_sibling
from fastagent.server.life.marks import Marks
from fastagent.server.lines.twilio_texts import (
    RING_BACK,
    RING_BACK_PARAMETER,
    RING_BACK_TTL_S,
    TextRefusal,
    TwilioTexts,
)
from fastagent.server.switchboard import Switchboard
from fastagent.server.websocket import accept_leg, leg_of
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.telephony import twiml
from fastagent.telephony.quotas import DailyQuota
from fastagent.telephony.tickets import TICKET_TTL_S, Tickets
from fastagent.telephony.twilio_outbound import TwilioOutbound
from fastagent.telephony.twilio_rest import CARRIER
from fastagent.telephony.twilio_signature import RequestVerifier, SignedRequest, form_fields
from fastagent.wire.events import CalleeDetected, CarrierEvent, SessionOffered, TransferCall, TransferStatus
from fastagent.wire.twilio import (
    ANSWERED_BY_PARAMETER,
    ANSWERERS,
    BOT_PARAMETER,
    CALLER_PARAMETER,
    RETURNED_PARAMETER,
    TICKET_PARAMETER,
    TwilioCodec,
)

__all__ = ["MACHINE_PATH", "SMS_PATH", "STATUS_PATH", "STREAM_PATH", "WEBHOOK_PATH", "twilio_routes"]

logger = logging.getLogger("fastagent.server")

WEBHOOK_PATH = "/twilio/webhook"
STREAM_PATH = "/twilio/stream"
NEXT_PATH = "/twilio/next"
DIALLED_PATH = "/twilio/dialled"
LEG_PATH = "/twilio/leg"
MACHINE_PATH = "/twilio/machine"
WHISPER_PATH = "/twilio/whisper"
STATUS_PATH = "/twilio/status"
FALLBACK_PATH = "/twilio/fallback"
SMS_PATH = "/twilio/sms"

BODY_BYTES_MAX = 65_536
STORE_TIMEOUT_S = 2.0
"""For the store to say whether another machine took a ticket."""
BEGUN_KEPT_S = 86_400.0
"""How long a call's webhook is known to have been answered, in whichever process."""
CALLS_KEPT = 10_000
"""Calls of which it is known what was answered, and whether they have begun; the oldest are forgotten."""
CALLER_CHARS_MAX = 128
PROOF_PARAMETER = "proof"
"""Of a stream: why nobody needs to say a code in its call; sealed in its ticket."""
ANY_ACCOUNT = "twilio"
"""Whose calls are those that any account brings which signs with one of the keys."""
REGRET = "Sorry, we cannot take your call right now. Please call again later."

TRANSFER_RING_S = 20
"""How long whoever a caller is handed on to is rung; a state that awaits the outcome has 30 s by default."""
WHISPER_CHARS_MAX = 600
"""Of the summary of a warm transfer, about 40 s of speech: the caller hears it ring for so long."""
CALL_PARAMETER = "call"
"""Of what is asked about the leg that a transfer dials: the SID of the caller's call."""
TAKEN_OVER = frozenset({"answered", "completed"})
"""What Twilio says of a dialled leg that somebody answered."""
ENDED_STATUSES = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})

CALL_STATUSES = frozenset(
    {"initiated", "queued", "ringing", "in-progress", "completed", "busy", "failed", "no-answer", "canceled"}
)
STREAM_EVENTS = frozenset({"stream-started", "stream-stopped", "stream-error"})

_SID = re.compile(r"[A-Z]{2}[0-9a-zA-Z]{1,62}")
_ERROR_CODE = re.compile(r"\d{1,6}")

Fields = Mapping[str, str]
Answer = Callable[[Fields], Response | Awaitable[Response]]


def twilio_routes(
    services: CallServices,
    switchboard: Switchboard,
    continuity: Continuity,
    outbound: TwilioOutbound | None = None,
    chats: TextChats | None = None,
) -> list[BaseRoute]:
    """Twilio's routes; none without a key to check its signatures with.

    Args:
        outbound: what goes out by Twilio; None: nothing does.
        chats: who goes on by text; None: nobody does.
    """
    settings = services.settings
    if not settings.has_twilio:
        return []
    door = _Door(settings, switchboard, services, continuity, outbound, chats)
    return [
        door.route(WEBHOOK_PATH, door.answer_call),
        door.route(NEXT_PATH, door.answer_next, is_of_call=True),
        door.route(DIALLED_PATH, door.answer_dialled, is_of_call=True),
        door.route(LEG_PATH, door.note_leg, is_of_call=True),
        door.route(WHISPER_PATH, door.answer_whisper, is_of_call=True),
        door.route(MACHINE_PATH, door.note_callee, is_of_call=True),
        door.route(STATUS_PATH, door.note_status),
        door.route(FALLBACK_PATH, door.answer_fallback),
        door.route(SMS_PATH, door.answer_text),
        WebSocketRoute(STREAM_PATH, door.open_stream),
    ]


@dataclass(slots=True)
class _KnownCall:
    """What was answered to a call's webhook."""

    document: bytes
    until: float
    """When its ticket expires, in wall-clock seconds."""
    has_begun: bool = False
    bot: str = ""
    """Who answers, as the stream was told."""
    transfer: TransferCall | None = None
    """What the caller is handed on by, until they are back."""
    is_dialled: bool = False
    """Twilio was told of the transfer."""


class _Door:
    """Answers Twilio, and knows the calls it was asked about."""

    def __init__(
        self,
        settings: Settings,
        switchboard: Switchboard,
        services: CallServices,
        continuity: Continuity,
        outbound: TwilioOutbound | None,
        chats: TextChats | None,
    ) -> None:
        shared = (key.partition("=") for key in settings.twilio_shared_keys)
        shared_keys = {key_id: secret for key_id, _, secret in shared}
        self._verifier = RequestVerifier(
            settings.twilio_auth_tokens, settings.public_url, shared_keys=shared_keys
        )
        key = (*settings.twilio_auth_tokens, *shared_keys.values())[0]
        run_dir = Path(settings.run_dir) if settings.run_dir else None
        taken = Marks(run_dir, "tickets", TICKET_TTL_S)
        self._tickets = Tickets(key.encode(), note_taken=taken.make)
        self._begun = Marks(run_dir, "calls", BEGUN_KEPT_S)
        self._public_url = settings.public_url.rstrip("/")
        self._account_sid = settings.twilio_account_sid
        self._owner = f"twilio:{self._account_sid or ANY_ACCOUNT}"
        self._switchboard = switchboard
        self._services = services
        self._counters: Counters = services.counters
        self._calls: OrderedDict[str, _KnownCall] = OrderedDict()
        self._continuity = continuity
        self._ring_backs = Tickets(key.encode(), ttl_s=RING_BACK_TTL_S)
        sms = None if outbound is None else outbound.sms
        self._texts = TwilioTexts(
            self._public_url,
            WEBHOOK_PATH,
            switchboard,
            continuity,
            self._ring_backs,
            outbound=outbound,
            chats=chats,
            replies=(
                DailyQuota(CARRIER, settings.sms_per_number_day, settings.sms_per_day)
                if sms is None
                else sms.quota
            ),
            chat_replies=DailyQuota(CARRIER, settings.text_per_number_day, settings.sms_per_day),
            counters=self._counters,
        )

    def route(self, path: str, answer: Answer, *, is_of_call: bool = False) -> Route:
        """A webhook: checked here, then answered; one ``is_of_call`` by the process that has the call."""
        serve = partial(self._serve, answer=answer, is_of_call=is_of_call)
        return Route(path, serve, methods=["GET", "POST"])

    async def _serve(self, request: Request, answer: Answer, is_of_call: bool) -> Response:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return self._refused("too_large", 413)
        signed = _signed_request(request, body)
        cause = self._verifier.refusal_of(signed)
        if cause is not None:
            return self._refused(cause)
        # The first of several values counts, and the form's before the query's.
        found = (*(form_fields(body) or ()), *(form_fields(request.scope["query_string"]) or ()))
        fields = dict(reversed(found))
        if self._account_sid and fields.get("AccountSid") != self._account_sid:
            return self._refused("other_account")
        if is_of_call and not self._is_here(fields.get(CALL_PARAMETER, "") or fields.get("CallSid", "")):
            if is_from_sibling(request):
                return PlainTextResponse("no such call", 404)
            siblings = self._switchboard.siblings
            elsewhere = await ask_siblings(request, body, siblings.others() if siblings is not None else [])
            if elsewhere is not None:
                self._counters.note("twilio_asked_elsewhere")
                return elsewhere
        answered = answer(fields)
        return await answered if isinstance(answered, Awaitable) else answered

    def _refused(self, cause: str, status: int = 403) -> Response:
        self._counters.note(f"twilio_refused_{cause}")
        return PlainTextResponse("not accepted", status)

    def _is_here(self, call_sid: str) -> bool:
        """The call is this process's, or was."""
        known = self._calls.get(call_sid)
        return known is not None and known.has_begun

    # Webhooks

    def answer_call(self, fields: Fields) -> Response:
        """A call arrives: have its audio streamed to us. It asks again when our answer was lost."""
        call_sid = fields.get("CallSid", "")
        if not _SID.fullmatch(call_sid):
            return self._refused("no_call_sid", 400)
        now = time.time()
        known = self._calls.get(call_sid)
        if self._is_here(call_sid) or self._begun.holds(call_sid):
            return self._refused("replayed")
        if known is not None and now < known.until:
            return _xml(known.document)
        if not self._switchboard.has_room:
            self._counters.note("twilio_rejected_busy")
            return _xml(twiml.document(twiml.Reject("busy")))
        known = _KnownCall(self._connect(call_sid, fields, now), now + TICKET_TTL_S)
        self._keep(call_sid, known)
        self._counters.note("twilio_webhooks")
        return _xml(known.document)

    def _keep(self, call_sid: str, known: _KnownCall) -> None:
        self._calls[call_sid] = known
        while len(self._calls) > CALLS_KEPT:
            self._calls.popitem(last=False)

    def _connect(self, call_sid: str, fields: Fields, now: float) -> bytes:
        # In a call that we made, the one who was called is our caller.
        is_ours = fields.get("Direction", "").startswith("outbound")
        caller = _printable(fields.get("To" if is_ours else "From", ""))
        bot = _printable(fields.get(BOT_PARAMETER, "") or fields.get("From" if is_ours else "To", ""))
        proof = self._proof(fields, caller, bot, now) if is_ours else ""
        parameters: dict[str, str] = {}
        if proof:
            parameters[PROOF_PARAMETER] = proof
        answerer = fields.get("AnsweredBy", "")
        if is_ours and answerer in ANSWERERS:
            # The stream tells it on: to the call it is an event like others about the carrier's side.
            parameters[ANSWERED_BY_PARAMETER] = answerer
            self._counters.note(f"twilio_answered_by_{answerer}")
        return self._stream(call_sid, caller, bot, parameters, now)

    def _stream(
        self, call_sid: str, caller: str, bot: str, parameters: Mapping[str, str], now: float
    ) -> bytes:
        """Have the call's audio streamed to us, with a ticket for that."""
        parameters = {
            TICKET_PARAMETER: self._tickets.give(call_sid, _claims(caller, bot, parameters), now=now),
            CALLER_PARAMETER: caller,
            BOT_PARAMETER: bot,
            **parameters,
        }
        scheme, _, place = self._public_url.partition("://")
        stream = twiml.Stream(
            f"{'wss' if scheme == 'https' else 'ws'}://{place}{STREAM_PATH}",
            parameters,
            status_callback=self._public_url + STATUS_PATH,
        )
        return twiml.document(twiml.Connect(stream), twiml.Redirect(self._public_url + NEXT_PATH))

    def _proof(self, fields: Fields, caller: str, bot: str, now: float) -> str:
        """What makes this call a proof of who is called; empty: nothing, they have to say their code."""
        ticket = fields.get(RING_BACK_PARAMETER, "")
        if not ticket:
            return ""
        cause = self._ring_backs.take(ticket, RING_BACK, (caller, bot), now=now)
        self._counters.note("twilio_ring_backs_answered" if cause is None else f"twilio_ring_back_{cause}")
        return RING_BACK if cause is None else ""

    async def answer_text(self, fields: Fields) -> Response:
        """A text message came."""
        try:
            document, handed = await self._texts.answer(dict(fields))
        except TextRefusal as refusal:
            return self._refused(refusal.cause, refusal.status)
        answered = _xml(document)
        if handed is not None:
            answered.background = BackgroundTask(handed)
        return answered

    def answer_next(self, fields: Fields) -> Response:
        """The stream is over and the caller still there: hand them on if that was asked for."""
        call_sid = fields.get("CallSid", "")
        known = self._calls.get(call_sid)
        transfer = None if known is None else known.transfer
        if known is None or transfer is None:
            return _xml(twiml.document(twiml.Hangup()))
        if not known.is_dialled:  # it asks again when our answer was lost
            known.is_dialled = True
            self._counters.note("twilio_transfers")
        query = urlencode({CALL_PARAMETER: call_sid})
        is_warm = transfer.is_warm and bool(transfer.summary)
        dial = twiml.Dial(
            transfer.target,
            TRANSFER_RING_S,
            action=f"{self._public_url}{DIALLED_PATH}?{urlencode({BOT_PARAMETER: known.bot})}",
            whisper_url=f"{self._public_url}{WHISPER_PATH}?{query}" if is_warm else "",
            status_callback=f"{self._public_url}{LEG_PATH}?{query}",
        )
        return _xml(twiml.document(dial))

    def answer_whisper(self, fields: Fields) -> Response:
        """Somebody answers a warm transfer: tell them what it is about; then they hear the caller."""
        known = self._calls.get(fields.get(CALL_PARAMETER, ""))
        transfer = None if known is None else known.transfer
        if transfer is None or not transfer.is_warm:
            return _xml(twiml.document())
        self._counters.note("twilio_whispers")
        return _xml(twiml.document(twiml.Say(transfer.summary[:WHISPER_CHARS_MAX])))

    def note_leg(self, fields: Fields) -> Response:
        """The leg that a transfer dials was answered, or is over."""
        status = fields.get("CallStatus", "")
        call_sid = fields.get(CALL_PARAMETER, "")
        if status == "in-progress" or status in TAKEN_OVER:
            self._tell(call_sid, TransferStatus(answered=True, code=status))
        elif status == "canceled":
            # The caller gave up as it rang. What else may become of the leg is told by the ``action``.
            self._tell(call_sid, TransferStatus(answered=False, code=status))
        return Response(status_code=204)

    def answer_dialled(self, fields: Fields) -> Response:
        """The leg that a transfer dialled is over: if nobody took the caller over, the talk goes on."""
        call_sid, status = fields.get("CallSid", ""), fields.get("DialCallStatus", "")
        if not _SID.fullmatch(call_sid):
            return self._refused("no_call_sid", 400)
        if status in TAKEN_OVER:
            self._tell(call_sid, TransferStatus(answered=True, code=status))
            return _xml(twiml.document(twiml.Hangup()))
        call = self._switchboard.find(call_sid)
        if call is not None and not call.awaits_return:
            return _xml(twiml.document(twiml.Hangup()))
        self._counters.note("twilio_returns")
        is_ours = fields.get("Direction", "").startswith("outbound")
        caller = _printable(fields.get("To" if is_ours else "From", ""))
        why = {RETURNED_PARAMETER: status if status in CALL_STATUSES else "failed"}
        bot = _printable(fields.get(BOT_PARAMETER, ""))
        return _xml(self._stream(call_sid, caller, bot, why, time.time()))

    def note_callee(self, fields: Fields) -> Response:
        """Twilio has listened to who took a call of ours, while the agent talked already."""
        answered_by = fields.get("AnsweredBy", "")
        call = self._switchboard.find(fields.get("CallSid", ""))
        if answered_by not in ANSWERERS:
            self._counters.note("twilio_answered_by_other")
        else:
            self._counters.note(f"twilio_answered_by_{answered_by}")
            if call is not None:
                call.told_by_carrier(CalleeDetected(ANSWERERS[answered_by], answered_by))
        return Response(status_code=204)

    def _tell(self, call_sid: str, event: CarrierEvent) -> None:
        """Tell the call whose caller was handed on."""
        call = self._switchboard.find(call_sid)
        if call is not None and call.awaits_return:
            call.told_by_carrier(event)

    def note_status(self, fields: Fields) -> Response:
        """Something became of a call or a stream."""
        for name, known in (("CallStatus", CALL_STATUSES), ("StreamEvent", STREAM_EVENTS)):
            what = fields.get(name, "")
            if what:
                what = what.replace("-", "_") if what in known else "other"
                self._counters.note(f"twilio_{what if name == 'StreamEvent' else 'call_' + what}")
        if fields.get("CallStatus", "") in ENDED_STATUSES:
            self._tell(fields.get("CallSid", ""), TransferStatus(answered=False, code="canceled"))
        if fields.get("StreamEvent") == "stream-error":
            logger.warning("Twilio tells of stream error %s", _code_in(fields.get("StreamError", "")))
        return Response(status_code=204)

    def answer_fallback(self, fields: Fields) -> Response:
        """The webhook failed, or what it answered: say so to the caller."""
        self._counters.note("twilio_fallbacks")
        logger.warning("Twilio asks for the fallback after error %s", _code_in(fields.get("ErrorCode", "")))
        return _xml(twiml.document(twiml.Say(REGRET), twiml.Hangup()))

    # The stream

    async def open_stream(self, websocket: WebSocket) -> None:
        """A stream that our TwiML asked for, as far as its signature tells; its ticket comes later."""
        cause = self._verifier.refusal_of(_signed_request(websocket), is_upgrade=True)
        if cause is not None:
            self._counters.note(f"twilio_refused_stream_{cause}")
            await websocket.send_denial_response(PlainTextResponse("not accepted", 403))
            return
        visitor = Visitor.of(websocket)
        if visitor.resumes:
            if not self._switchboard.has_call(self._owner, visitor.resumes):
                await websocket.send_denial_response(PlainTextResponse("no such call", 404))
                return
        elif (refusal := self._switchboard.refuses_socket()) is not None:
            await websocket.send_denial_response(PlainTextResponse("no capacity", 503, refusal.headers))
            return
        socket = CarrierSocket(
            TwilioCodec(),
            bad_message_limit=self._services.settings.bad_message_limit,
            counters=self._counters,
        )
        socket.leg = leg_of(websocket)
        # A sibling that passes a stream on has taken its ticket.
        admits = partial(self._admits, socket, is_taken=bool(visitor.resumes))
        self._switchboard.hold(socket, self._owner, {}, visitor, admits=admits)
        await accept_leg(websocket, socket)

    def _admits(self, socket: CarrierSocket, offer: SessionOffered, *, is_taken: bool) -> bool:
        told = offer.parameters
        proof = told.get(PROOF_PARAMETER, "")
        claims = _claims(offer.caller, offer.bot_name, told)
        cause: str | None = "other_account"
        if not self._account_sid or told.get("accountSid") == self._account_sid:
            ticket = told.get(TICKET_PARAMETER, "")
            take = self._tickets.check if is_taken else self._tickets.take
            cause = take(ticket, offer.conversation_id, claims, now=time.time())
        if cause is not None:
            self._counters.note(f"twilio_refused_stream_{cause}")
            return False
        if proof:
            self._continuity.prove(self._owner, offer.conversation_id)
        if not is_taken and self._continuity.keeps_ended:
            ticket = told.get(TICKET_PARAMETER, "")
            self._continuity.start(self._end_replayed(offer.conversation_id, ticket))
        self._begun.make(offer.conversation_id)
        # Another process may have answered the webhook.
        known = self._calls.get(offer.conversation_id, _KnownCall(b"", 0.0))
        known.has_begun = True
        known.bot = offer.bot_name
        known.transfer, known.is_dialled = None, False
        socket.hand_over = partial(self._hand_over, offer.conversation_id, known)
        if not offer.is_return or self._switchboard.find(offer.conversation_id) is not None:
            # Else the call is elsewhere, and asked there, unless it comes to be this process's.
            self._keep(offer.conversation_id, known)
        return True

    async def _end_replayed(self, call_sid: str, ticket: str) -> None:
        """End a call whose ticket another machine of the store has taken; a store that is away ends none."""
        name = f"ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                if await self._continuity.is_first(name, TICKET_TTL_S):
                    return
        except (SessionError, TimeoutError):
            self._counters.note("twilio_tickets_unchecked")
            return
        self._counters.note("twilio_refused_stream_ticket_replayed")
        if (call := self._switchboard.find(call_sid)) is not None:
            call.end("error")

    def _hand_over(self, call_sid: str, known: _KnownCall, transfer: TransferCall) -> None:
        if not transfer.target.startswith(("tel:", "sip:", "sips:")):
            raise ValueError("expected a tel: or sip: address")
        known.transfer = transfer
        self._keep(call_sid, known)


def _claims(caller: str, bot: str, parameters: Mapping[str, str]) -> tuple[str, ...]:
    """What a stream's ticket is sealed for beside its call."""
    returned = parameters.get(RETURNED_PARAMETER, "")
    return (caller, bot, parameters.get(PROOF_PARAMETER, ""), *((returned,) if returned else ()))


async def _body(request: Request) -> bytes | None:
    """The request's body; None when it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


def _signed_request(connection: HTTPConnection, body: bytes = b"") -> SignedRequest:
    target = connection.scope["raw_path"].decode("latin-1")
    query = connection.scope["query_string"].decode("latin-1")
    return SignedRequest(
        {name.lower(): value for name, value in connection.headers.items()},
        f"{target}?{query}" if query else target,
        body,
    )


def _printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable())[:CALLER_CHARS_MAX]


def _code_in(text: str) -> str:
    found = _ERROR_CODE.search(text)
    return found[0] if found else "without a code"


def _xml(document: bytes) -> Response:
    return Response(document, media_type=twiml.MEDIA_TYPE)
