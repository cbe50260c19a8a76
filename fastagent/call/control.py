"""The call as its agent sees it."""

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastagent.afsm.orders import DigitsEnd, DigitsOutcome, Order, TransferEnd, TransferOutcome
from fastagent.afsm.voice import VoicePolicy
from fastagent.bridge.brain import Bridge
from fastagent.bridge.commands import NOT_SUPPORTED, Command
from fastagent.call.clips import CallClips
from fastagent.call.record import CallRecord
from fastagent.call.recorder import CallRecorder
from fastagent.media.bargein import BargeInPolicy
from fastagent.tools.handover import Summary
from fastagent.wire import events as carrier

__all__ = ["AgentControl"]

DIGITS = frozenset("0123456789*#")
DIGITS_MAX = 20
"""Sent at a time, on every carrier: AudioCodes ignores more."""

_TRANSFER_ENDS = {
    "busy": TransferEnd.BUSY,
    "no-answer": TransferEnd.NO_ANSWER,
    "declined": TransferEnd.DECLINED,
    NOT_SUPPORTED: TransferEnd.NOT_SUPPORTED,
}
"""By the carrier's word, which is an open set."""


class AgentControl:
    """What an agent may ask of its call: the `CallControl` of `fastagent.afsm`, once `connect` was called.

    Args:
        offer: tells whose call it is.
        do: carries the brain's commands out.
        start: begins a task of the call.
        voice_policy: see `default_policy`.
        is_always_protected: nothing stops the bot, whatever the policy says.
        sends_digits: the carrier has a word for digits; else they are sent as tones.
    """

    def __init__(
        self,
        offer: carrier.SessionOffered,
        do: Callable[[Sequence[Command]], None],
        start: Callable[[Coroutine[Any, Any, None]], None],
        *,
        voice_policy: VoicePolicy,
        is_always_protected: bool,
        sends_digits: bool,
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
        self._sends_digits = sends_digits
        self._is_over = False
        self._transfer: Order[TransferOutcome] | None = None
        self._holds = 0
        """Orders of `hold` and `resume` so far: the latest counts, however long a clip takes to be read."""

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

    def transfer(
        self, target: str, reason: str, *, is_warm: bool = False, summary: str = ""
    ) -> Order[TransferOutcome]:
        """Hand the caller on once everything said was heard."""
        if self._is_over:
            return Order.settled(TransferOutcome(TransferEnd.CALL_OVER))
        if self._transfer is not None:
            return self._transfer
        order = self._transfer = Order(self._await_transfer)
        if not summary and self.summarise is not None:
            summary = self.summarise(reason).text
        if self.record is not None:
            self.record.record("handover", {"to": target, "summary": summary})
        command = carrier.TransferCall(target, reason, summary=summary, is_warm=is_warm, wants_status=True)
        self._do(self._bridge.transfer(command, time.monotonic()))
        return order

    def _await_transfer(self) -> None:
        self._do(self._bridge.await_farewell(time.monotonic()))

    def transfer_ended(self, *, is_answered: bool, code: str) -> tuple[TransferOutcome, bool]:
        """It is known what became of the transfer; tells it, and whether a state waited for that."""
        end = TransferEnd.ANSWERED if is_answered else _TRANSFER_ENDS.get(code, TransferEnd.FAILED)
        outcome = TransferOutcome(end, code)
        order, self._transfer = self._transfer, None
        was_awaited = order is not None and order.is_awaited
        if order is not None:
            order.settle(outcome)
        return outcome, was_awaited

    def call_ended(self) -> None:
        """Nobody is on the line any more."""
        self._is_over = True
        if self._transfer is not None:
            self._transfer.settle(TransferOutcome(TransferEnd.CALL_OVER))
            self._transfer = None

    def hand_over(self, to: str, reason: str) -> bool:
        """Have another agent take the caller over once what runs has reported."""
        return self.on_hand_over(to, reason)

    def recall(self) -> bool:
        """Take in what is remembered of the caller, who is known for certain now."""
        return self.on_recall()

    def send_digits(self, digits: str) -> Order[DigitsOutcome]:
        """Press keys for the far side."""
        return Order.settled(DigitsOutcome(self._press(digits)))

    def _press(self, digits: str) -> DigitsEnd:
        if self._is_over:
            return DigitsEnd.CALL_OVER
        if not 0 < len(digits) <= DIGITS_MAX or not DIGITS.issuperset(digits):
            return DigitsEnd.NOT_SUPPORTED
        if self._sends_digits:
            self._do([carrier.SendDtmf(digits)])
            return DigitsEnd.SENT
        return DigitsEnd.SENT if self._clips.play_digits(digits) else DigitsEnd.NOT_SUPPORTED

    def hold(self, clip: str = "") -> None:
        """Put the caller on hold once everything said was heard."""
        self._holds += 1
        if clip:
            self._start(self._hold_with(clip, self._holds))
        else:
            self._do(self._bridge.hold(None, time.monotonic()))

    async def _hold_with(self, clip: str, order: int) -> None:
        music = await self._clips.music(clip)
        if order == self._holds:
            self._do(self._bridge.hold(music, time.monotonic()))

    def resume(self) -> None:
        """Have the talk go on."""
        self._holds += 1
        self._do(self._bridge.end_hold(time.monotonic()))

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
