"""TextControl: a conversation by text message as an agent's states see it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from fastagent.afsm.orders import DigitsEnd, DigitsOutcome, Order, TransferEnd, TransferOutcome
from fastagent.afsm.voice import VoicePolicy
from fastagent.tools.reports import Report

__all__ = ["TextControl"]


class TextControl:
    """The `CallControl` of one text message's work: there is no line, so what needs one is only noted.

    Args:
        call_id: of the call that goes on.
        caller: the number.
    """

    def __init__(self, call_id: str, caller: str) -> None:
        self.call_id = call_id
        self.caller = caller
        self.wants_line = False
        """A state asked for what only a call can do: to hand the caller on."""
        self._reports: asyncio.Queue[Report] = asyncio.Queue()

    async def next_report(self) -> Report:
        """Wait for what a task tells that no function call waited for."""
        return await self._reports.get()

    def hang_up(self, reason: str) -> None:
        """Nothing is to be ended: the task's last words are its end."""

    def transfer(
        self, target: str, reason: str, *, is_warm: bool = False, summary: str = ""
    ) -> Order[TransferOutcome]:
        """Note that this takes a call."""
        self.wants_line = True
        return Order.settled(TransferOutcome(TransferEnd.NOT_SUPPORTED))

    def hand_over(self, to: str, reason: str) -> bool:
        """Note that this takes a call."""
        self.wants_line = True
        return False

    def recall(self) -> bool:
        """Nothing is remembered of who writes: that is for callers who proved who they are."""
        return False

    def send_digits(self, digits: str) -> Order[DigitsOutcome]:
        """There is no far side."""
        return Order.settled(DigitsOutcome(DigitsEnd.NOT_SUPPORTED))

    def hold(self, clip: str = "") -> None:
        """Nobody waits on a line."""

    def resume(self) -> None:
        """Nobody was put on hold."""

    def send_metadata(self, value: Mapping[str, Any]) -> None:
        """There is no network's side."""

    def announce(self, text: str) -> None:
        """Take a task's report; other words are for a talking model, and none is here."""
        try:
            report = orjson.loads(text)
        except ValueError:
            return
        if isinstance(report, dict) and "status" in report:
            self._reports.put_nowait(report)

    def set_voice_policy(self, policy: VoicePolicy | None) -> None:
        """Nobody is heard."""

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None:
        """Nobody hears it."""

    def stop_clips(self) -> None:
        """None plays."""
