"""Text messages that come in by Twilio: STOP, HELP, CALL, and answers of somebody who was cut off.

::

    POST /twilio/sms ── CALL ──▶ an interrupted call of this number? ──▶ ring it back, or say "please call us"
                     ── STOP ──▶ no message to this number ever again
                     ── HELP ──▶ a line about the other two
                     ── else ──▶ an interrupted call of this number? ──▶ `TextChats`, where that is on

A number in a message can be forged as one in a call can. So CALL gives nothing away and opens nothing: it
makes the telephone of that number ring, and whoever takes that call is its owner. Each message is acted on
once. Who was not cut off gets no answer to whatever else they say: whoever answers everything talks to
machines that do, too. An answer goes back with Twilio's request, or, where it takes longer than Twilio waits,
by the REST API.
"""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlencode

from fastagent.errors import SessionError, TelephonyError, TelephonyLimitError
from fastagent.server.chats.chats import NO_REPLY, TextChats, TextReply
from fastagent.server.kept.continuity import Continuity
from fastagent.server.switchboard import Switchboard
from fastagent.stats import Counters
from fastagent.telephony import twiml
from fastagent.telephony.quotas import DailyQuota
from fastagent.telephony.segments import fitted
from fastagent.telephony.tickets import Tickets
from fastagent.telephony.twilio_dialer import TwilioDialer
from fastagent.telephony.twilio_outbound import TwilioOutbound
from fastagent.wire.twilio import BOT_PARAMETER

__all__ = ["RING_BACK", "RING_BACK_PARAMETER", "RING_BACK_TTL_S", "TextRefusal", "TwilioTexts"]

logger = logging.getLogger("fastagent.server")

STOP_WORDS = frozenset(
    {"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
)
HELP_WORDS = frozenset({"HELP", "INFO"})
CALL_WORDS = frozenset({"CALL", "CALL ME"})
SAY_HELP = "We write to you when a call was cut off. Reply CALL to go on with it, STOP for no more messages."
SAY_HELP_TEXT = (
    "We write to you when a call was cut off. Reply CALL to go on by telephone, the code of our message to "
    "go on by text, STOP for no more messages."
)
SAY_CALL_US = "We cannot call you back right now. Please call us again, and we go on where we stopped."
SAY_NOTHING_OPEN = "There is no interrupted call to go on with. Please call us again."
SAY_CALLING = "We are calling you now."

RING_BACK = "ring back"
"""What a ticket for a call back is for, where others name a call."""
RING_BACK_PARAMETER = "ringback"
"""Of the webhook's address, for the ticket."""
RING_BACK_TTL_S = 120.0
"""Queueing and ringing."""
AGE_MAX_S = 300.0
"""Messages older than this, or dated as far ahead, are refused, where they are dated."""
SIDS_KEPT = 10_000
ONCE_S = 7 * 86_400.0
"""How long a message that was acted on is known to all processes of a store."""
REPLY_TIMEOUT_S = 12.0
"""For the store and Twilio's API together; Twilio waits 15 s for our answer."""
DIAL_TIMEOUT_S = 9.0
CHAT_TIMEOUT_S = 8.0
"""For a task to say what is next; what comes later is sent by the REST API."""
LATE_TIMEOUT_S = 10.0
BODY_CHARS_READ = 64

Handed = Callable[[], Awaitable[None]]

_SID = re.compile(r"[A-Z]{2}[0-9a-zA-Z]{1,62}")
_NUMBER = re.compile(r"\+[1-9]\d{4,14}")


class TextRefusal(Exception):
    """A message that is not acted on; the cause is one word."""

    def __init__(self, cause: str, status: int = 403) -> None:
        self.cause = cause
        self.status = status
        super().__init__(cause)


class TwilioTexts:
    """Answers text messages.

    Args:
        tickets: sealed with a key that all processes know; good for `RING_BACK_TTL_S`.
        outbound: None: nobody is called, and nothing is sent that comes late.
        chats: None: nobody goes on by text.
        replies: counts what is answered to those who sent no code,
        chat_replies: and to those who did.
    """

    def __init__(
        self,
        public_url: str,
        webhook_path: str,
        switchboard: Switchboard,
        continuity: Continuity,
        tickets: Tickets,
        *,
        outbound: TwilioOutbound | None,
        chats: TextChats | None,
        replies: DailyQuota,
        chat_replies: DailyQuota,
        counters: Counters,
    ) -> None:
        self._public_url = public_url
        self._webhook_path = webhook_path
        self._switchboard = switchboard
        self._continuity = continuity
        self._tickets = tickets
        self._outbound = outbound
        self._chats = chats
        self._replies = replies
        self._chat_replies = chat_replies
        self._counters = counters
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def answer(self, fields: dict[str, str]) -> tuple[bytes, Handed | None]:
        """What TwiML answers a message that Twilio signed, and what is to be done once Twilio has it.

        Raises:
            TextRefusal: it is no message, old, or was here before.
        """
        now = time.time()
        sid = fields.get("MessageSid", "")
        if not _SID.fullmatch(sid):
            raise TextRefusal("no_message_sid", 400)
        if _is_old(fields.get("Timestamp", "") or fields.get("DateSent", ""), now):
            raise TextRefusal("message_old")
        if sid in self._seen:
            raise TextRefusal("message_replayed")
        self._seen[sid] = None
        if len(self._seen) > SIDS_KEPT:
            self._seen.popitem(last=False)
        self._counters.note("twilio_messages")
        number = fields.get("From", "")
        if not _NUMBER.fullmatch(number):
            return twiml.document(), None
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await self._reply(sid, number, fields, now)
                if reply.text and self._chats is not None and await self._continuity.opt_outs.holds(number):
                    reply = NO_REPLY  # STOP came meanwhile
        except (SessionError, TimeoutError) as error:
            self._counters.note("twilio_messages_failed")
            logger.error("a text message is not answered: %s", type(error).__name__)
            return twiml.document(), None
        if not reply.text or not self._may_send(number, reply):
            return twiml.document(), None
        document = twiml.document(twiml.Message(fitted(reply.text)))
        if not reply.is_proved or self._chats is None:
            return document, None
        return document, partial(self._chats.note_told, sid)

    def _may_send(self, number: str, reply: TextReply) -> bool:
        try:
            (self._chat_replies if reply.is_proved else self._replies).take(number)
        except TelephonyLimitError:
            self._counters.note("twilio_replies_limited")
            return False
        return True

    async def _reply(self, sid: str, number: str, fields: dict[str, str], now: float) -> TextReply:
        said = _normalised(fields.get("Body", ""))
        if self._chats is None or said in STOP_WORDS | HELP_WORDS | CALL_WORDS or _says_stop(fields):
            return TextReply(await self._say(said, sid, number, fields, now))
        if await self._continuity.opt_outs.holds(number):
            return NO_REPLY
        if await self._continuity.find_interrupted(number) is None:
            return NO_REPLY  # nothing is stored of strangers' messages
        if not await self._continuity.is_first(f"sms:{sid}", ONCE_S):
            raise TextRefusal("message_replayed")
        # Begun as work of the process: it goes on where Twilio waits no longer.
        work = _Late(self, self._chats, number, fields.get("To", ""))
        self._continuity.start(work.run(sid, fields.get("Body", ""), now))
        return await work.reply(CHAT_TIMEOUT_S)

    async def send_late(self, number: str, sender: str, reply: TextReply) -> bool:
        """Send what a message is answered that Twilio waits for no longer; tells whether it was sent."""
        if self._outbound is None or not _NUMBER.fullmatch(sender):
            return False
        try:
            async with asyncio.timeout(LATE_TIMEOUT_S):
                if await self._continuity.opt_outs.holds(number) or not self._may_send(number, reply):
                    return False
                await self._outbound.client.send_message(number, fitted(reply.text), sender=sender)
        except (SessionError, TelephonyError, TimeoutError) as error:
            self._counters.note("twilio_messages_failed")
            logger.error("a late text message is not sent: %s", type(error).__name__)
            return False
        self._counters.note("twilio_replies_late")
        return True

    async def _say(self, said: str, sid: str, number: str, fields: dict[str, str], now: float) -> str:
        opt_outs = self._continuity.opt_outs
        if said in STOP_WORDS or _says_stop(fields):
            self._counters.note("twilio_stops")
            await opt_outs.add(number)
            return ""  # Twilio confirms it in its own words
        if said not in HELP_WORDS | CALL_WORDS or await opt_outs.holds(number):
            return ""
        if said in HELP_WORDS:
            return SAY_HELP if self._chats is None else SAY_HELP_TEXT
        if not await self._continuity.is_first(f"sms:{sid}", ONCE_S):
            raise TextRefusal("message_replayed")
        found = await self._continuity.find_interrupted(number)
        if found is None:
            return SAY_NOTHING_OPEN
        sender = fields.get("To", "")
        dialer = None if self._outbound is None else self._outbound.dialer
        if dialer is None or not dialer.may_dial(number) or not _NUMBER.fullmatch(sender):
            return SAY_CALL_US
        if not self._switchboard.has_room:
            return SAY_CALL_US
        is_rung = await self._ring_back(dialer, number, sender, found.agent_id, now)
        return SAY_CALLING if is_rung else SAY_CALL_US

    async def _ring_back(
        self, dialer: TwilioDialer, number: str, sender: str, agent_id: str, now: float
    ) -> bool:
        query = {
            BOT_PARAMETER: agent_id,
            RING_BACK_PARAMETER: self._tickets.give(RING_BACK, (number, agent_id), now=now),
        }
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await dialer.dial(
                    number, sender=sender, url=f"{self._public_url}{self._webhook_path}?{urlencode(query)}"
                )
        except (TelephonyError, TimeoutError) as error:
            self._counters.note("twilio_ring_backs_failed")
            logger.error("no call back: %s", type(error).__name__)
            return False
        self._counters.note("twilio_ring_backs")
        return True


class _Late:
    """One message's way through the chats, and its reply, which may come when nobody waits for it."""

    def __init__(self, texts: TwilioTexts, chats: TextChats, number: str, sender: str) -> None:
        self._texts = texts
        self._chats = chats
        self._number = number
        self._sender = sender
        self._came: asyncio.Future[TextReply] = asyncio.get_running_loop().create_future()

    async def run(self, sid: str, body: str, now: float) -> None:
        """Have the message answered."""
        reply = NO_REPLY
        try:
            reply = await self._chats.answer(self._number, sid, body, arrived_at_unix_s=now)
        except Exception as error:
            if not self._came.done():
                self._came.set_exception(error)
                return
            logger.error("a text message is not answered: %s", type(error).__name__)
        if not self._came.done():
            self._came.set_result(reply)
        elif reply.text and await self._texts.send_late(self._number, self._sender, reply):
            await self._chats.note_told(sid)

    async def reply(self, timeout_s: float) -> TextReply:
        """Wait for the reply; nothing when it comes later."""
        try:
            await asyncio.wait({self._came}, timeout=timeout_s)
        finally:
            # Done already, or nobody waits for it any more.
            self._came.cancel()
        return NO_REPLY if self._came.cancelled() else self._came.result()


def _says_stop(fields: dict[str, str]) -> bool:
    return fields.get("OptOutType", "") == "STOP"


def _normalised(body: str) -> str:
    words = re.findall(r"\w+", body[:BODY_CHARS_READ].upper())
    return " ".join(words)


def _is_old(stamp: str, now: float) -> bool:
    """Dated too long ago or ahead, or in a way that cannot be read; what is not dated is not."""
    if not stamp:
        return False
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        try:
            at = parsedate_to_datetime(stamp)
        except ValueError:
            return True
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return abs(now - at.timestamp()) > AGE_MAX_S
