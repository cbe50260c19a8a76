"""The playout ledger: of every item the model says, how much came, how much left, how much was heard.

The native downlink counts samples; this ledger knows which item each stretch of them belongs to. Two
promises hang on it: a truncation is never longer than what was received or heard, and audio of an item that
was cut is never played again.
"""

from dataclasses import dataclass
from typing import Protocol

from fastagent.audio.formats import AudioFormat

__all__ = ["Cut", "DownlinkPositions", "PlayoutLedger"]

CUT_RESPONSES_KEPT = 32
"""Responses remembered as cut; their late audio comes within a round trip, so a few are plenty."""
STALE_FINISH_SLACK_MS = 500
"""After a cut, a carrier's "finished" that is this far ahead of the clock speaks of the aborted audio."""


class DownlinkPositions(Protocol):
    """What the ledger reads of the native downlink, in carrier samples, and the two things it has it do."""

    @property
    def sent(self) -> int:
        """Samples that left."""

    @property
    def enqueued(self) -> int:
        """Samples taken in: those that left and those that wait."""

    @property
    def received(self) -> int:
        """Samples received from the model, in the model's rate."""

    @property
    def is_queued(self) -> bool:
        """Audio waits to leave."""

    def played(self, now: float) -> int:
        """Samples heard by ``now``, by the playback clock."""

    def finish_item(self, now: float) -> None:
        """Let out what the resampler still holds of the current item."""

    def cut(self, now: float) -> None:
        """Drop the queue and the rest of the current item."""

    def settle(self, now: float) -> None:
        """Take everything sent as heard."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What the model must be told of an item: how many milliseconds of it were heard (0: none)."""

    item_id: str
    content_index: int
    audio_end_ms: int
    received_ms: int


@dataclass(slots=True)
class _Stretch:
    """One item's place in the stream of samples."""

    response_id: str
    item_id: str
    content_index: int
    start: int
    received_start: int
    end: int | None = None
    received_end: int | None = None
    is_done: bool = False


class PlayoutLedger:
    """Accounts for the audio of one call.

    Args:
        downlink: counts the samples.
        carrier, model: the formats on either side.
        link_delay_ms: what the way to the caller's ear takes; heard audio is estimated that much later.
    """

    def __init__(
        self, downlink: DownlinkPositions, carrier: AudioFormat, model: AudioFormat, *, link_delay_ms: int = 0
    ) -> None:
        self._downlink = downlink
        self._carrier = carrier
        self._model = model
        self._link_delay_s = link_delay_ms / 1000
        self._items: list[_Stretch] = []
        self._cut_responses: list[str] = []
        self._was_cut_since_finish = False

    def open_item(self, response_id: str, item_id: str, content_index: int, now: float) -> bool:
        """Audio of an item begins (or goes on, after another's). False: its response was cut, it is stale."""
        if response_id in self._cut_responses:
            return False
        self._prune(now)
        if self._items:
            self._end(self._items[-1])
        self._items.append(
            _Stretch(response_id, item_id, content_index, self._downlink.enqueued, self._downlink.received)
        )
        return True

    def finish_item(self, item_id: str, now: float) -> None:
        """No more audio of the item comes."""
        self._finish([item for item in self._items if item.item_id == item_id], now)

    def finish_response(self, response_id: str, now: float) -> None:
        """No more audio of any item of the response comes."""
        self._finish([item for item in self._items if item.response_id == response_id], now)

    def finish_all(self, now: float) -> None:
        """The model is gone: nothing more comes of anything."""
        self._finish(list(self._items), now)

    def _finish(self, items: list[_Stretch], now: float) -> None:
        for item in items:
            if not item.is_done and item is self._items[-1] and item.end is None:
                self._downlink.finish_item(now)
            self._end(item)
            item.is_done = True

    @property
    def is_complete(self) -> bool:
        """Nothing waits to leave and no item expects more."""
        return not self._downlink.is_queued and all(item.is_done for item in self._items)

    def is_audible(self, now: float) -> bool:
        """The caller hears the bot, or will without further ado."""
        return self._downlink.is_queued or self._heard(now) < self._downlink.sent

    def silent_at(self, now: float) -> float | None:
        """When everything sent will have been heard; None while audio still waits to leave."""
        if self._downlink.is_queued:
            return None
        left = self._downlink.sent - self._heard(now)
        return now + left / self._carrier.sample_rate

    def acknowledge(self, now: float) -> bool:
        """The carrier says that a playback was heard to its end. False when that speaks of audio already cut."""
        was_cut, self._was_cut_since_finish = self._was_cut_since_finish, False
        if self._downlink.is_queued:
            return False
        left_ms = self._carrier.ms(self._downlink.sent - self._heard(now))
        if was_cut and left_ms > STALE_FINISH_SLACK_MS:
            return False
        self._downlink.settle(now)
        self._prune(now)
        return True

    def cut(self, now: float, *, active_response_id: str | None = None) -> list[Cut]:
        """The caller takes the turn: drop what is queued; say what was heard of each item not heard whole.

        Items heard to their end are left alone. The response that is still being generated, and every
        response with an item cut here, counts as cut: its late audio is refused by `open_item`.
        """
        heard = self._heard(now)
        # An item whose audio came in several stretches (between another's) is one item to the model.
        counted: dict[tuple[str, int], tuple[int, int]] = {}
        unheard: set[tuple[str, int]] = set()
        for item in self._items:
            key = (item.item_id, item.content_index)
            end = self._downlink.enqueued if item.end is None else item.end
            received_end = self._downlink.received if item.received_end is None else item.received_end
            heard_so_far, received_so_far = counted.get(key, (0, 0))
            counted[key] = (
                heard_so_far + max(0, min(heard, end) - item.start),
                received_so_far + received_end - item.received_start,
            )
            if not (item.is_done and heard >= end):
                unheard.add(key)
                self._remember_cut(item.response_id)
        cuts: list[Cut] = []
        for key, (heard_samples, received_samples) in counted.items():
            if key in unheard:
                received_ms = self._model.ms(received_samples)
                cuts.append(Cut(*key, min(self._carrier.ms(heard_samples), received_ms), received_ms))
        if active_response_id is not None:
            self._remember_cut(active_response_id)
        self._was_cut_since_finish = self._downlink.sent > heard or self._was_cut_since_finish
        self._items.clear()
        self._downlink.cut(now)
        return cuts

    def _remember_cut(self, response_id: str) -> None:
        if response_id and response_id not in self._cut_responses:
            self._cut_responses = [*self._cut_responses[1 - CUT_RESPONSES_KEPT :], response_id]

    def _heard(self, now: float) -> int:
        return self._downlink.played(now - self._link_delay_s)

    def _end(self, item: _Stretch) -> None:
        if item.end is None:
            item.end = self._downlink.enqueued
            item.received_end = self._downlink.received

    def _prune(self, now: float) -> None:
        heard = self._heard(now)
        while self._items and self._items[0].is_done and (self._items[0].end or 0) <= heard:
            del self._items[0]
