"""TextTurn: the agent of an interrupted session, for as long as one text message takes.

::

    stored ─resume─▶ its open question ──answer──▶ the next question, or the end ─▶ stored
                           │                └ needs a line, fails, takes too long ─▶ stored as it was before
                           └ is for calls only ─▶ nothing is answered

The same machine walks the same graph, with the session's own journal, so an effect that ran in the call is
not run again here, and the other way round. No model takes part: what the states say is what is sent. A turn
that comes to nothing leaves the task at the question it had; effects that were done are kept all the same.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from fastagent.afsm.run.machine import Limits
from fastagent.agent import FastAgent
from fastagent.errors import ConfigurationError
from fastagent.server.chats.control import TextControl
from fastagent.server.kept.continuity import TakenSession
from fastagent.server.kept.journals import Journals
from fastagent.tools.reports import Report
from fastagent.tools.task import TASK_REPLY

__all__ = ["Came", "TextTurn", "TurnOutcome"]

logger = logging.getLogger("fastagent.calls")

CLOSE_TIMEOUT_S = 2.0
MARGIN_S = 5.0
"""Beyond the time that a state may take, for a turn of several."""


class Came(Enum):
    """What came of a message."""

    QUESTION = "question"
    """The task asks something."""
    END = "end"
    """Nothing is under way any more."""
    CALL = "call"
    """What is asked next is for a call."""
    LINE = "line"
    """A state would hand the caller on, which takes a call; the task stands where it stood."""
    NOTHING = "nothing"
    """The message could not be worked on; the task stands where it stood."""


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """What came of a message, and the words for it."""

    came: Came
    say: str = field(default="", repr=False)


class TextTurn:
    """One message's work. `open` it, give it one `answer`, and `close` it.

    Args:
        taken: the session; it is this process's.
        agent: whose session it is.
        state_timeout_s: how long a state may work on it.

    Raises:
        ConfigurationError: the session is another agent's.
    """

    def __init__(
        self, taken: TakenSession, agent: FastAgent, journals: Journals, *, state_timeout_s: float
    ) -> None:
        if taken.snapshot.get("agent") != agent.agent_id:
            raise ConfigurationError("the session is another agent's")
        session_id = taken.record.session_id
        self._session_id = session_id
        self._before = taken.snapshot
        self._timeout_s = state_timeout_s + MARGIN_S
        self._control = TextControl(session_id, str(taken.snapshot.get("caller", "")))
        self._session = agent.open(self._control, limits=Limits(state_timeout_s=state_timeout_s))
        self._said = taken.said
        self._record = journals.open(session_id, agent, on_claim=lambda note: None, carried=taken.carried)
        self._record.resumed("text")
        self._session.keep_in(self._record)
        self.has_moved = False
        """The message led on; else the session is to be stored as it was."""
        self._question: Report | None = None

    @property
    def is_redacting(self) -> bool:
        """What is said now must not be written down."""
        return self._session.is_redacting

    @property
    def current_state(self) -> str:
        """Where the task stands that asked last; empty without one."""
        return self._session.current_state

    async def open(self) -> TurnOutcome:
        """Stand where the session stood, and give its open question."""
        context = self._session.context
        for speaker, text in self._said:
            if speaker == "caller":
                context.update_context(user_utterance=text)
            else:
                context.update_context(agent_response=text)
        try:
            questions, lost = await self._session.resume(self._before["session"])
        except (ConfigurationError, KeyError, TypeError, ValueError) as error:
            logger.error("session %s: not by text: %s", self._session_id, type(error).__name__)
            return TurnOutcome(Came.NOTHING)
        if lost or not questions:
            return TurnOutcome(Came.NOTHING)
        return self._asked(questions[-1])

    async def answer(self, text: str, message_id: str) -> TurnOutcome:
        """Give the open question its answer.

        Args:
            message_id: names the function call that this is in the talk.
        """
        assert self._question is not None
        self._session.context.update_context(user_utterance=text)
        self._record.said("caller", text, is_redacted=self.is_redacting)
        arguments = orjson.dumps({"task": self._question["task"], "answer": text}).decode()
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome = await self._session.call_function(message_id, TASK_REPLY, arguments)
                report: Report = orjson.loads(outcome.output)
                while report["status"] == "working":
                    report = await self._control.next_report()
        except TimeoutError:
            return TurnOutcome(Came.NOTHING)
        if self._control.wants_line:
            # Its words may be the ones that matter most, as an emergency's are.
            return TurnOutcome(Came.LINE, report["say"])
        if report["status"] == "needs_input":
            self.has_moved = True
            return self._asked(report)
        if report["status"] != "done":
            return TurnOutcome(Came.NOTHING)
        self.has_moved = True
        if not self._session.is_unfinished:
            return TurnOutcome(Came.END, report["say"])
        # Another task waits, with the question that was put aside for this one.
        left = self._session.open_question
        return TurnOutcome(Came.CALL, report["say"]) if left is None else self._asked(left, report["say"])

    def _asked(self, report: Report, lead: str = "") -> TurnOutcome:
        self._question = report
        if self._session.needs_call:
            return TurnOutcome(Came.CALL, lead)
        return TurnOutcome(Came.QUESTION, f"{lead} {report['say']}".strip())

    def told(self, text: str) -> None:
        """Note what the caller is sent."""
        self._record.said("agent", text, is_redacted=self.is_redacting)

    def snapshot(self) -> dict[str, Any]:
        """What another process, or a call, needs to go on from here, as JSON values."""
        effects = [[kind, dict(data)] for kind, data in self._record.carried()]
        if not self.has_moved:
            return {**self._before, "effects": effects}
        session: Mapping[str, Any] = self._session.snapshot()
        return {**self._before, "about": self._session.standing, "session": session, "effects": effects}

    async def close(self) -> None:
        """End the work; what is under way is ended, and the journal closed. Take the snapshot first."""
        await self._session.close("message answered", timeout_s=CLOSE_TIMEOUT_S, is_hang_up=False)
        await self._record.close("texted")
