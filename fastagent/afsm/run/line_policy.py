"""LinePolicy: has the bot behave on the line as the current state says, and the caller's refusals allow."""

from dataclasses import replace

from fastagent.afsm.state import CallControl
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext

__all__ = ["RECORDING_REFUSED", "LinePolicy"]

RECORDING_REFUSED = "is_recording_refused"
"""The fact that the caller does not want to be recorded; it holds for the rest of the call."""


class LinePolicy:
    """The voice policies of one run.

    Args:
        default: the agent's own, where no state has one.
    """

    def __init__(
        self, control: CallControl, context: ConversationContext, default: VoicePolicy | None = None
    ) -> None:
        self._control = control
        self._context = context
        self._default = default

    def apply(self, policy: VoicePolicy | None) -> None:
        """Have the bot behave so; None: as the agent does by default."""
        if self._context.facts.get(RECORDING_REFUSED):
            # None would bring the default back, recording included.
            policy = replace(policy or self._default or VoicePolicy(), is_recorded=False)
        self._control.set_voice_policy(policy)

    def refuse_recording(self, policy: VoicePolicy | None) -> None:
        """Record no more in this call; ``policy`` says the rest."""
        self._context.add_salient_fact(RECORDING_REFUSED, True)
        self.apply(policy)
