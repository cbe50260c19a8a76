"""TextChats: callers who were cut off and go on by text message.

::

    interrupted ──any words──▶ "reply with the code" ──the code──▶ proved: the open question is sent
                                                                     │ ▲
                             every message is the question's answer ─┘ └─ the next question; at the end: ended
                             a step for calls only ─▶ "reply CALL"        nothing for a while: the code again

Between two messages the session is as interrupted as before: stored, nobody's, and offered to its caller's
next call, which goes on where the texts came to. While a message is worked on its session is owned by this
process, as it is during a call; so calls and other processes wait. Messages of one number are taken one by
one.

What proves what: a number can be forged, so a message from it proves nothing; the code was sent to that
telephone, so whoever writes it has read it there. From then on, for `Settings.text_idle_s` after each
message, the number is taken for its owner's. Somebody who forges it in that time writes blindly, as the
replies go to the owner. What must not be answered so is for calls (`VoicePolicy.is_call_only`).
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from fastagent.agent import FastAgent
from fastagent.call.keeping import REDACTED
from fastagent.errors import (
    ConfigurationError,
    SessionConflictError,
    SessionError,
    SessionNotFoundError,
)
from fastagent.server.chats.stand import ChatStand
from fastagent.server.chats.turn import Came, TextTurn, TurnOutcome
from fastagent.server.kept.continuity import CODE_DIGITS, CODE_TRIES_MAX, Continuity, TakenSession
from fastagent.server.kept.journals import Journals
from fastagent.sessions import TranscriptLine
from fastagent.sessions.record import Speaker
from fastagent.settings import Settings
from fastagent.stats import Counters

__all__ = ["NO_REPLY", "TextChats", "TextReply", "code_in"]

logger = logging.getLogger("fastagent.calls")

CODES_ASKED_MAX = 2
"""Times that one who writes other words is asked for the code: a machine would write for ever."""
AT_ONCE_MAX = 64
"""Messages of all numbers that are worked on or wait; more get no answer."""
WAITING_MAX = 4
"""Of one number."""
TEXT_CHARS_READ = 1000
TOLD_S = 86_400.0
"""How long it is known that a reply was handed over."""
STORE_TIMEOUT_S = 2.0
"""For what came of a message to be stored, before it is told."""
FINISHED = "finished_by_text"
"""Outcome of a session whose tasks came to their end by text."""

SAY_CODE = "To go on by text, reply with the code from our message. Or reply CALL to go on by telephone."
SAY_WRONG_CODE = "That code is not right. Reply with the code from our message, or CALL."
SAY_NO_MORE_TRIES = "That code is not right. Please reply CALL, or call us."
SAY_GO_ON = "Good, let us go on."
SAY_BY_CALL = "The next step is for the telephone. Reply CALL and we ring you, or call us."
SAY_NO_LINE = "We cannot put you through by text. Reply CALL and we ring you, or call us."
SAY_NOT_BY_TEXT = "That does not work by text. Reply CALL and we ring you, or call us."
SAY_NOT_STORED = "Something went wrong here. Please write again in a minute, or call us."
SAY_ENOUGH = "Let us go on by telephone. Reply CALL and we ring you, or call us."

_CODE = re.compile(
    rf"\W*(?:[^\W\d]+\W+){{0,3}}([0-9](?:[ -]?[0-9]){{{CODE_DIGITS - 1}}})(?![ -]?[0-9])(?!\w)"
)


@dataclass(frozen=True, slots=True)
class TextReply:
    """What a message is answered."""

    text: str = field(default="", repr=False)
    """Empty: nothing."""
    is_proved: bool = False
    """It goes to somebody who sent the code; when it was handed over is to be noted."""


NO_REPLY = TextReply()


class _Line:
    """The messages of one number, one after another."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.messages = 0


class TextChats:
    """Answers the text messages of callers who were cut off. Used from one loop.

    Args:
        find_agent: gives the agent of an id, or None.
        counters: chats_proved, chats_finished, chat_answers, chat_refused_<cause>, chat_failed.
    """

    def __init__(
        self,
        continuity: Continuity,
        journals: Journals,
        find_agent: Callable[[str], FastAgent | None],
        settings: Settings,
        counters: Counters,
    ) -> None:
        self._continuity = continuity
        self._journals = journals
        self._find_agent = find_agent
        self._settings = settings
        self._counters = counters
        self._lines: dict[str, _Line] = {}

    async def answer(self, number: str, message_id: str, text: str, *, arrived_at_unix_s: float) -> TextReply:
        """What a message is answered, once what came of it is stored; each is to be given once.

        Tell `note_told` once the reply was handed over: what is written to a question that nobody was sent is
        no answer to it.

        Args:
            message_id: the carrier's name for the message.

        Raises:
            SessionError: the store cannot say whose the number is.
        """
        text = text[:TEXT_CHARS_READ].strip()
        key = self._continuity.caller_key(number)
        if not key or not text:
            return NO_REPLY
        line = self._lines.get(key)
        at_once = sum(one.messages for one in self._lines.values())
        if at_once >= AT_ONCE_MAX or (line is not None and line.messages >= WAITING_MAX):
            self._counters.note("chat_refused_busy")
            return NO_REPLY
        if line is None:
            line = self._lines[key] = _Line()
        line.messages += 1
        try:
            async with line.turn:
                return await self._with_session(number, message_id, text, arrived_at_unix_s)
        finally:
            line.messages -= 1
            if not line.messages:
                del self._lines[key]

    async def note_told(self, message_id: str) -> None:
        """The reply to this message was handed over. Does not raise."""
        try:
            await self._continuity.is_first(_told(message_id), TOLD_S)
        except SessionError:
            self._counters.note("chat_replies_not_noted")  # then it is sent once more

    async def _with_session(
        self, number: str, message_id: str, text: str, arrived_at_unix_s: float
    ) -> TextReply:
        continuity = self._continuity
        found = await continuity.find_interrupted(number)
        if found is None:
            return NO_REPLY
        try:
            taken = await continuity.take_for_text(found.session_id)
        except SessionNotFoundError:
            return NO_REPLY  # it is over by now, or its caller in a call
        except SessionConflictError:
            self._counters.note("chat_refused_busy")
            return NO_REPLY
        message = _Message(self, taken, message_id, text, arrived_at_unix_s)
        try:
            reply = await message.work()
        finally:
            continuity.leave(found.session_id)
        if message.is_finished and not continuity.keeps_ended:
            await continuity.keeper.store.delete(found.session_id)
        return reply


class _Message:
    """One message about one session that is this process's."""

    def __init__(
        self, chats: TextChats, taken: TakenSession, message_id: str, text: str, arrived_at_unix_s: float
    ) -> None:
        self.is_finished = False
        """The session is over."""
        self._continuity = chats._continuity
        self._settings = chats._settings
        self._note = chats._counters.note
        self._journals = chats._journals
        self._find_agent = chats._find_agent
        self._taken = taken
        self._record = taken.record
        self._snapshot = dict(taken.snapshot)
        self._stand = ChatStand.of(taken.snapshot)
        self._message_id = message_id
        self._text = text
        self._arrived_at_unix_s = arrived_at_unix_s
        self._lines = taken.lines[-1].number if taken.lines else 0
        self._now = time.time()

    async def work(self) -> TextReply:
        """Work on it, and store what came of it."""
        stand = self._stand
        if stand.replies >= self._settings.text_answers:
            self._note("chat_refused_limit")
            return NO_REPLY
        digits = code_in(self._text)
        is_proved = self._is_proved
        if stand.replies == self._settings.text_answers - 1:
            say = SAY_ENOUGH
        elif not is_proved:
            say = await self._prove(digits)
        else:
            say = await self._go_on(self._text if await self._is_answer(digits) else "")
        if not say:
            return NO_REPLY
        self._stand = stand = replace(self._stand, replies=self._stand.replies + 1)
        if stand.is_proved:
            self._stand = replace(stand, replied_at_unix_s=time.time(), replied_to=self._message_id)
        if not await self._store():
            self._note("chat_refused_store")
            return TextReply(SAY_NOT_STORED)  # the question behind it is not told by that
        return TextReply(say, self._stand.is_proved)

    @property
    def _is_proved(self) -> bool:
        if self._settings.resume_proof == "number":
            return True
        return self._stand.is_proved and self._now < self._stand.last_at_unix_s + self._settings.text_idle_s

    async def _is_answer(self, digits: str) -> bool:
        """The message answers the open question: its writer can have read that, and did not send the code.

        An answer that happens to be these four digits takes a call.
        """
        stand = self._stand
        if digits == self._continuity.code(self._record.session_id):
            return False
        if not stand.replied_to:
            return True  # the question that was asked in the call
        if self._arrived_at_unix_s < stand.replied_at_unix_s:
            return False
        return not await self._continuity.is_first(_told(stand.replied_to), TOLD_S)

    async def _prove(self, digits: str) -> str:
        continuity, stand, session_id = self._continuity, self._stand, self._record.session_id
        if not digits:
            if stand.codes_asked >= CODES_ASKED_MAX:
                return ""
            self._stand = replace(stand, is_proved=False, codes_asked=stand.codes_asked + 1)
            return SAY_CODE
        if stand.wrong_codes >= CODE_TRIES_MAX or not continuity.may_try(session_id):
            self._note("chat_refused_tries")
            return ""
        if not continuity.is_code(session_id, digits):
            self._note("chat_refused_code")
            self._stand = stand = replace(stand, is_proved=False, wrong_codes=stand.wrong_codes + 1)
            return SAY_NO_MORE_TRIES if stand.wrong_codes >= CODE_TRIES_MAX else SAY_WRONG_CODE
        self._note("chats_proved")
        self._stand = replace(stand, is_proved=True, codes_asked=0)
        return await self._go_on("")

    async def _go_on(self, answer: str) -> str:
        """Give the task its answer, or ask its open question again; what the caller is told."""
        self._stand = replace(self._stand, is_proved=True, last_at_unix_s=self._now)
        agent = self._find_agent(self._record.agent_id)
        if agent is None:
            self._note("chat_failed")
            return SAY_NOT_BY_TEXT
        try:
            turn = TextTurn(
                self._taken, agent, self._journals, state_timeout_s=self._settings.default_timeout_s
            )
        except (ConfigurationError, KeyError, TypeError, ValueError) as error:
            self._note("chat_failed")
            logger.error("session %s: not by text: %s", self._record.session_id, type(error).__name__)
            return SAY_NOT_BY_TEXT
        try:
            outcome = await turn.open()
            if outcome.came is not Came.QUESTION:
                return self._told(outcome)
            if not answer:
                return f"{SAY_GO_ON} {outcome.say}"
            self._say("caller", REDACTED if turn.is_redacting else answer)
            outcome = await turn.answer(answer, f"text-{self._message_id}")
            say = self._told(outcome)
            turn.told(say)
            self._say("agent", REDACTED if turn.is_redacting else say)
            self._note("chat_answers")
            self._snapshot = turn.snapshot()
            state = turn.current_state if turn.has_moved else self._record.current_state
            self._record = replace(self._record, current_state=state, turn_count=self._record.turn_count + 1)
            if outcome.came is Came.END:
                self._end()
            return say
        finally:
            await turn.close()

    def _told(self, outcome: TurnOutcome) -> str:
        if outcome.came is Came.CALL:
            self._note("chat_refused_call_only")
            return f"{outcome.say} {SAY_BY_CALL}".strip()
        if outcome.came is Came.LINE:
            self._note("chat_refused_line")
            return f"{outcome.say} {SAY_NO_LINE}".strip()
        if outcome.came is Came.NOTHING:
            self._note("chat_failed")
            return SAY_NOT_BY_TEXT
        return outcome.say

    def _end(self) -> None:
        self.is_finished = True
        self._note("chats_finished")
        self._record = replace(self._record, status="ended", outcome=FINISHED, ended_at_unix_s=self._now)

    def _say(self, by: Speaker, text: str) -> None:
        self._lines += 1
        try:
            line = TranscriptLine(self._lines, time.time(), by, text)
        except ValueError:  # beyond the limit of a transcript
            return
        self._continuity.keeper.say(self._record.session_id, line)

    async def _store(self) -> bool:
        keeper, session_id = self._continuity.keeper, self._record.session_id
        snapshot: dict[str, Any] = self._stand.kept_in(self._snapshot)
        record = self._record
        if self._stand.is_proved:
            # Whoever is no more than a number keeps nothing fresh.
            record = replace(record, updated_at_unix_s=time.time())
        keeper.put(record, snapshot=lambda: orjson.dumps(snapshot))
        return await keeper.flush(session_id, STORE_TIMEOUT_S)


def _told(message_id: str) -> str:
    return f"told:{message_id}"


def code_in(text: str) -> str:
    """The code that a message begins with, or holds behind a few words; empty for other words.

    ``4711``, ``BOOK 4711``, ``the code is 47 11``, ``4711, yes``; not ``at 10:30``, which is an answer.
    """
    found = _CODE.match(text)
    return re.sub(r"[ -]", "", found[1]) if found else ""
