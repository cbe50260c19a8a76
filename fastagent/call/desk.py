"""The desk of a call: which agent answers, and the hand-over from one to another in the midst of the talk.

::

    answering ──hand_over()──▶ leaving ──no function runs──▶ the other agent answering
                                  └ what the first agent says to that is still its own
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastagent.afsm.run.machine import Limits
from fastagent.agent import AgentSession, FastAgent, Transition
from fastagent.audio.formats import AudioFormat
from fastagent.call.control import AgentControl
from fastagent.call.model_settings import session_settings
from fastagent.call.record import CallRecord
from fastagent.call.transfer_targets import TransferTargets
from fastagent.settings import Settings
from fastagent.tools.handover import Summary
from fastagent.tools.reports import FunctionOutcome
from fastagent.wire.realtime_events import SessionSettings

__all__ = ["MAX_HAND_OVERS", "AgentDesk"]

logger = logging.getLogger("fastagent.call")

MAX_HAND_OVERS = 8
"""Of one call: agents that pass a caller to and fro have lost their way."""
CLOSE_TIMEOUT_S = 2.0


class AgentDesk:
    """The agent of one call, and those it hands the caller to.

    Args:
        control: the call, as agents see it.
        model_format: what the model hears and speaks.
        on_transition: told of each move of a task.
        on_change: told that what the model is to go by may have changed.
        announce: has the model act on a note.
        start: begins a task that is held by the call.
    """

    def __init__(
        self,
        agent: FastAgent,
        control: AgentControl,
        settings: Settings,
        model_format: AudioFormat,
        *,
        on_transition: Callable[[Transition], None],
        on_change: Callable[[], None],
        announce: Callable[[str], None],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.agent = agent
        self._control = control
        self._settings = settings
        self._targets = TransferTargets(settings.transfer_allow)
        self._model_format = model_format
        self._limits = Limits(state_timeout_s=settings.default_timeout_s)
        self._on_transition = on_transition
        self._on_change = on_change
        self._announce = announce
        self._start = start
        self._record: CallRecord | None = None
        self._functions_running = 0
        self._next: tuple[FastAgent, str] | None = None
        self._hand_overs = 0
        self.session = self._open(agent)
        control.on_hand_over = self._hand_over
        control.summarise = self._summarise
        control.may_transfer = self._may_transfer

    def _open(self, agent: FastAgent, before: AgentSession | None = None) -> AgentSession:
        return agent.open(
            self._control,
            limits=self._limits,
            on_transition=self._on_transition,
            talk=None if before is None else before.talk,
        )

    def _summarise(self, reason: str) -> Summary:
        return self.session.summary(reason)

    def _may_transfer(self, target: str) -> bool:
        return self._targets.allows(target, self.agent.declared_targets)

    def begin(self, record: CallRecord | None) -> None:
        """The call stands: changes are told from now on, and runs are kept in ``record``."""
        self.keep_in(record)
        self._take_over()

    def keep_in(self, record: CallRecord | None) -> None:
        """Have what begins now kept in ``record``, whoever of the agents it is."""
        self._record = self._control.record = record
        if record is not None:
            self.session.keep_in(record)

    def _take_over(self) -> None:
        if self._record is not None:
            self.session.keep_in(self._record)
        self.session.on_focus = self._on_change

    @property
    def model_settings(self) -> SessionSettings:
        """What the model is to go by."""
        return session_settings(self.agent, self.session.focus, self._model_format, self._settings)

    async def call_function(self, call_id: str, name: str, arguments_json: str) -> FunctionOutcome:
        """Have the agent do what the model asks for."""
        self._functions_running += 1
        try:
            return await self.session.call_function(call_id, name, arguments_json)
        finally:
            self._functions_running -= 1

    def function_told(self) -> None:
        """The model has a function's outcome: an agent that is to leave may leave now."""
        if self._next is not None and not self._functions_running:
            self._change_agents()

    def _hand_over(self, to: str, reason: str) -> bool:
        agent = self.agent.colleague(to)
        if agent is None or self._next is not None or self._hand_overs >= MAX_HAND_OVERS:
            return False
        self._next = agent, reason
        self._hand_overs += 1
        if not self._functions_running:
            # The order comes from within a state's step, which is to end first.
            asyncio.get_running_loop().call_soon(self.function_told)
        return True

    def _change_agents(self) -> None:
        assert self._next is not None
        (agent, reason), self._next = self._next, None
        before, former = self.session, self.agent
        summary = before.summary(reason)
        before.on_focus = None
        # The caller is still there: a state that answers to a hang-up would end the call.
        self._start(before.close("handed over", timeout_s=CLOSE_TIMEOUT_S, is_hang_up=False))
        self.agent = agent.beside(former)
        logger.info("call %s: %s hands over to %s", self._control.call_id, former.agent_id, agent.agent_id)
        if self._record is not None:
            self._record.record("handover", {"from": former.agent_id, "to": agent.agent_id})
        self.session = self._open(self.agent, before)
        self._control.default_policy = agent.voice_policy
        self._control.set_voice_policy(None)
        self._take_over()
        self._on_change()
        self._announce(
            f"From now on you are the agent {agent.agent_id!r}, and your instructions have changed. You take "
            f"the caller over from {former.agent_id!r}. {summary.text} Do not ask again for what is known. "
            "Say in one sentence what you are here for, and go on."
        )

    async def close(self, timeout_s: float, *, is_hang_up: bool) -> None:
        """The call is over; ``is_hang_up``: for good."""
        await self.session.close("call over", timeout_s=timeout_s, is_hang_up=is_hang_up)
