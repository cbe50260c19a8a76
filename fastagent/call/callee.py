"""Who took a call that we made, and what a machine is told."""

import time
from collections.abc import Sequence

from fastagent.afsm.spec import Event
from fastagent.agent import AgentSession
from fastagent.bridge.brain import Bridge
from fastagent.bridge.commands import Command
from fastagent.wire.events import Callee

__all__ = ["meet_callee"]

ANSWERED_BY_FACT = "answered_by"
"""Fact of the context: who took the call."""
MACHINES = frozenset({Callee.MACHINE, Callee.FAX})
VOICEMAIL = 'An answering machine took the call. Say only this, and nothing after it: "{words}"'
MACHINE_TOOK_IT = (
    "An answering machine took the call, not a person. Leave a short message: who calls, and why, nothing "
    "private. Then call end_call."
)


def meet_callee(
    callee: Callee, session: AgentSession, bridge: Bridge, voicemail: str | None
) -> Sequence[Command]:
    """Tell whoever sees to it: a task's states and watches, else the agent's words for machines.

    Args:
        voicemail: those words; empty: machines are hung up on; None: the model finds words of its own.
    """
    session.context.add_salient_fact(ANSWERED_BY_FACT, callee.value)
    if session.signal(Event.ANSWERED_BY, callee.value) or callee not in MACHINES:
        return ()
    now = time.monotonic()
    if voicemail is None:
        return bridge.announce(MACHINE_TOOK_IT, now)
    said = bridge.announce(VOICEMAIL.format(words=voicemail), now) if voicemail else []
    return [*said, *bridge.hang_up("answering machine", now)]
