"""Text messages that come in by Twilio: STOP, HELP, and CALL from somebody who was cut off.

::

    POST /twilio/sms ── CALL ──▶ an interrupted call of this number? ──▶ ring it back, or say "please call us"
                     ── STOP ──▶ no message to this number ever again
                     ── HELP ──▶ a line about the other two

A number in a message can be forged as one in a call can. So CALL gives nothing away and opens nothing: it
makes the telephone of that number ring, and whoever takes that call is its owner. Each message is acted on
once. Whatever else is said is not answered: whoever answers everything talks to machines that do, too.
"""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode

from fastagent.errors import SessionError, TelephonyError, TelephonyLimitError
from fastagent.server.kept.continuity import Continuity
from fastagent.server.switchboard import Switchboard
from fastagent.stats import Counters
from fastagent.telephony import twiml
from fastagent.telephony.quotas import DailyQuota
from fastagent.telephony.tickets import Tickets
from fastagent.telephony.twilio_dialer import TwilioDialer
from fastagent.wire.twilio import BOT_PARAMETER

__all__ = ["RING_BACK", "RING_BACK_PARAMETER", "RING_BACK_TTL_S", "TextRefusal", "TwilioTexts"]

logger = logging.getLogger("fastagent.server")

STOP_WORDS = frozenset(
    {"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
)
HELP_WORDS = frozenset({"HELP", "INFO"})
CALL_WORDS = frozenset({"CALL", "CALL ME"})
SAY_HELP = "We write to you when a call was cut off. Reply CALL to go on with it, STOP for no more messages."
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
BODY_CHARS_READ = 64

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
        dialer: None: nobody is called.
        replies: counts what is answered.
    """

    def __init__(
        self,
        public_url: str,
        webhook_path: str,
        switchboard: Switchboard,
        continuity: Continuity,
        tickets: Tickets,
        *,
        dialer: TwilioDialer | None,
        replies: DailyQuota,
        counters: Counters,
    ) -> None:
        self._public_url = public_url
        self._webhook_path = webhook_path
        self._switchboard = switchboard
        self._continuity = continuity
        self._tickets = tickets
        self._dialer = dialer
        self._replies = replies
        self._counters = counters
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def answer(self, fields: dict[str, str]) -> bytes:
        """What TwiML answers a message that Twilio signed.

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
            return twiml.document()
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await self._reply(sid, number, fields, now)
        except (SessionError, TimeoutError) as error:
            self._counters.note("twilio_messages_failed")
            logger.error("a text message is not answered: %s", type(error).__name__)
            return twiml.document()
        if not reply:
            return twiml.document()
        try:
            self._replies.take(number)
        except TelephonyLimitError:
            self._counters.note("twilio_replies_limited")
            return twiml.document()
        return twiml.document(twiml.Message(reply))

    async def _reply(self, sid: str, number: str, fields: dict[str, str], now: float) -> str:
        said = _normalised(fields.get("Body", ""))
        opt_outs = self._continuity.opt_outs
        if said in STOP_WORDS or fields.get("OptOutType", "") == "STOP":
            self._counters.note("twilio_stops")
            await opt_outs.add(number)
            return ""  # Twilio confirms it in its own words
        if said not in HELP_WORDS | CALL_WORDS or await opt_outs.holds(number):
            return ""
        if said in HELP_WORDS:
            return SAY_HELP
        if not await self._continuity.is_first(f"sms:{sid}", ONCE_S):
            raise TextRefusal("message_replayed")
        agent_id = await self._continuity.interrupted_agent(number)
        if not agent_id:
            return SAY_NOTHING_OPEN
        sender = fields.get("To", "")
        if self._dialer is None or not self._dialer.may_dial(number) or not _NUMBER.fullmatch(sender):
            return SAY_CALL_US
        if not self._switchboard.has_room:
            return SAY_CALL_US
        is_rung = await self._ring_back(self._dialer, number, sender, agent_id, now)
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
