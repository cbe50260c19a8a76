"""The call as its agent sees it."""

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastagent.afsm.voice import VoicePolicy
from fastagent.bridge.brain import Bridge
from fastagent.bridge.commands import Command
from fastagent.call.clips import CallClips
from fastagent.call.record import CallRecord
from fastagent.call.recorder import CallRecorder
from fastagent.media.bargein import BargeInPolicy
from fastagent.tools.handover import Summary
from fastagent.wire import events as carrier

__all__ = ["AgentControl"]


class AgentControl:
    """What an agent may ask of its call: the `CallControl` of `fastagent.afsm`, once `connect` was called.

    Args:
        offer: tells whose call it is.
        do: carries the brain's commands out.
        start: begins a task of the call.
        voice_policy: see `default_policy`.
        is_always_protected: nothing stops the bot, whatever the policy says.
    """

    def __init__(
        self,
        offer: carrier.SessionOffered,
        do: Callable[[Sequence[Command]], None],
        start: Callable[[Coroutine[Any, Any, None]], None],
        *,
        voice_policy: VoicePolicy,
        is_always_protected: bool,
    ) -> None:
        self.recorder: CallRecorder | None = None
        """Records the call's audio, once it does."""
        self.record: CallRecord | None = None
        """Keeps what happens in the call, once it does."""
        self._offer = offer
        self._bridge: Bridge
        self._clips: CallClips
        self._do = do
        self._start = start
        self.default_policy = voice_policy
        """How the bot behaves while no state says otherwise."""
        self.on_hand_over: Callable[[str, str], bool] = lambda to, reason: False
        """Takes an order to hand the caller over to another agent; tells whether it can be done."""
        self.on_recall: Callable[[], bool] = lambda: False
        """Takes in what is remembered of the caller."""
        self.summarise: Callable[[str], Summary] | None = None
        """Tells where the call stands, for whoever takes the caller over."""
        self._is_always_protected = is_always_protected

    def connect(self, bridge: Bridge, clips: CallClips) -> None:
        """Have ``bridge`` decide: it is made after the agent, whose tools it has to know."""
        self._bridge = bridge
        self._clips = clips

    @property
    def call_id(self) -> str:
        """The carrier's name for the conversation."""
        return self._offer.conversation_id

    @property
    def caller(self) -> str:
        """The caller's number or address, empty when withheld."""
        return self._offer.caller

    def hang_up(self, reason: str) -> None:
        """End the call once everything said was heard."""
        self._do(self._bridge.hang_up(reason, time.monotonic()))

    def transfer(self, target: str, reason: str) -> None:
        """Hand the caller on once everything said was heard."""
        summary = "" if self.summarise is None else self.summarise(reason).text
        if self.record is not None:
            self.record.record("handover", {"to": target, "summary": summary})
        command = carrier.TransferCall(target, reason, summary=summary, wants_status=True)
        self._do(self._bridge.transfer(command, time.monotonic()))

    def hand_over(self, to: str, reason: str) -> bool:
        """Have another agent take the caller over once what runs has reported."""
        return self.on_hand_over(to, reason)

    def recall(self) -> bool:
        """Take in what is remembered of the caller, who is known for certain now."""
        return self.on_recall()

    def send_dtmf(self, digits: str) -> None:
        """Send digits to the far side."""
        self._do([carrier.SendDtmf(digits)])

    def send_metadata(self, value: Mapping[str, Any]) -> None:
        """Pass data to the telephone network's side."""
        self._do([carrier.SendMetadata(value)])

    def announce(self, text: str) -> None:
        """Have the model act on ``text`` as soon as it may speak."""
        self._do(self._bridge.announce(text, time.monotonic()))

    def set_voice_policy(self, policy: VoicePolicy | None) -> None:
        """Have the bot behave so; None: as the agent does by default."""
        policy = policy or self.default_policy
        if self._bridge.barge_in is not None:
            mode = "protected" if self._is_always_protected else policy.barge_in
            self._bridge.barge_in.policy = BargeInPolicy(mode, tuple(policy.barge_in_keywords))
        after_s = None if policy.filler_after_ms is None else policy.filler_after_ms / 1000
        self._do(self._bridge.set_filler(after_s, policy.filler, time.monotonic()))
        if self.recorder is not None:
            self.recorder.set_recorded(policy.is_recorded)

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None:
        """Play a clip by its name, at the next pause in the talk."""
        self._start(self._clips.play_named(name, loop=loop, interruptible=interruptible))

    def stop_clips(self) -> None:
        """End what `play_clip` began."""
        self._clips.stop()
