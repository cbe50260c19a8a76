"""The playout ledger: of every item the model says, how much came, how much left, how much was heard.

The native downlink counts samples; this ledger knows which item each stretch of them belongs to. Two
promises hang on it: a truncation is never longer than what was received or heard, and audio of an item that
was cut is never played again.

What was heard is the playback clock's estimate, raised by the carrier's word that a playback was heard to its
end. Carriers that name no playback mean the oldest one that is closed and was not heard of yet. Whether they
speak of an aborted one, too, is undocumented, so a nameless word counts only where the clock agrees.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from fastagent.audio.formats import AudioFormat

__all__ = ["Admission", "Cut", "DownlinkPositions", "PlayoutLedger"]

IDS_KEPT = 32
"""Responses and items remembered as over; their late audio comes within a round trip, so a few are plenty."""
STALE_FINISH_SLACK_S = 0.1
"""A nameless "finished" that is further ahead of the clock speaks of audio that was aborted."""
LOST_FINISH_S = 2.0
"""A "finished" that is so late will not come; the next one speaks of the next playback."""


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

    def forget_item(self) -> None:
        """Ask again whether to play the current item, should more of it come."""

    def cut(self, now: float) -> None:
        """Drop the queue and the rest of the current item."""

    def settle(self, now: float) -> None:
        """Take everything sent as heard."""

    def hold(self, now: float) -> int:
        """Send nothing more, and take back what was sent and not heard."""

    def release(self) -> None:
        """Go on where `hold` stopped."""

    def insert(self, audio: bytes, now: float) -> bool:
        """Queue audio of our own; False when there is no room for it."""


class Admission(Enum):
    """What becomes of the audio of an item that begins."""

    PLAYED = "played"
    UNHEARD = "unheard"
    """Its response was cut before anything of it came: refused, and the caller hears nothing of it."""
    LATE = "late"
    """It was cut or finished before: refused, and what was heard of it stands."""


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
    """Its audio was said to be complete, though its response may add some still."""
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class _Playback:
    """One that takes no more audio, and of which the carrier did not say yet that it was heard."""

    playback_id: str
    position: int
    """Samples sent since the call began, this playback's last included."""
    expected_at: float
    """When it will have been heard, by the clock."""


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
        self._finished_responses: list[str] = []
        self._cut_items: list[str] = []
        self._unfinished: list[_Playback] = []
        self._acknowledged = 0
        """Samples heard by the carrier's word."""

    def admits(self, response_id: str, item_id: str) -> bool:
        """Whether `open_item` would have the item played."""
        is_over = item_id in self._cut_items or response_id in self._cut_responses
        return not is_over and response_id not in self._finished_responses

    def open_item(self, response_id: str, item_id: str, content_index: int, now: float) -> Admission:
        """Audio of an item begins, or goes on after another's."""
        if item_id in self._cut_items:
            return Admission.LATE
        if response_id in self._cut_responses:
            _remember(self._cut_items, item_id)
            has_begun = any(item.item_id == item_id for item in self._items)
            return Admission.LATE if has_begun else Admission.UNHEARD
        if response_id in self._finished_responses:
            return Admission.LATE
        self._prune(now)
        if self._items:
            self._end(self._items[-1])
        self._items.append(
            _Stretch(response_id, item_id, content_index, self._downlink.enqueued, self._downlink.received)
        )
        return Admission.PLAYED

    def refuse_response(self, response_id: str) -> None:
        """Nobody would hear it: play no further item of the response."""
        _remember(self._cut_responses, response_id)

    def finish_item(self, item_id: str, now: float) -> None:
        """No more audio of the item comes."""
        self._finish([item for item in self._items if item.item_id == item_id], now, is_final=False)

    def finish_response(self, response_id: str, now: float) -> None:
        """No more audio of any item of the response comes."""
        self._finish([item for item in self._items if item.response_id == response_id], now, is_final=True)
        _remember(self._finished_responses, response_id)

    def finish_all(self, now: float) -> None:
        """The model's session is gone: nothing more comes of anything, and its ids mean nothing any more."""
        self._finish(list(self._items), now, is_final=True)
        for ids in (self._cut_responses, self._finished_responses, self._cut_items):
            ids.clear()

    def _finish(self, items: list[_Stretch], now: float, *, is_final: bool) -> None:
        for item in items:
            if not item.is_done and item is self._items[-1] and item.end is None:
                self._downlink.finish_item(now)
                self._downlink.forget_item()
            self._end(item)
            item.is_done = True
            item.is_final |= is_final

    @property
    def is_complete(self) -> bool:
        """Nothing waits to leave and no item expects more."""
        return not self._downlink.is_queued and all(item.is_done for item in self._items)

    def is_audible(self, now: float) -> bool:
        """The caller hears the bot, or will without further ado."""
        return self._downlink.is_queued or self._heard(now) < self._downlink.sent

    def silent_at(self, now: float) -> float | None:
        """When everything sent will have been heard, at the latest; None while audio still waits to leave."""
        if self._downlink.is_queued:
            return None
        if self._heard(now) >= self._downlink.sent:
            return now
        left = self._downlink.sent - self._downlink.played(now)
        return now + left / self._carrier.sample_rate + self._link_delay_s

    @property
    def awaits_finish(self) -> bool:
        """The carrier may still say of a playback that it was heard."""
        return bool(self._unfinished)

    def close_playback(self, playback_id: str, now: float) -> None:
        """All audio of a playback has left."""
        self._forget_lost(now)
        expected_at = self.silent_at(now)
        self._unfinished.append(
            _Playback(playback_id, self._downlink.sent, now if expected_at is None else expected_at)
        )

    def acknowledge(self, playback_id: str | None, now: float) -> bool:
        """The carrier says that a playback was heard to its end.

        Args:
            playback_id: which one; None from a carrier that does not tell.

        Returns:
            False when that speaks of audio already cut, or of nothing that we know.
        """
        if playback_id is None:
            finished = self._oldest_unfinished(now)
        else:
            finished = next((one for one in self._unfinished if one.playback_id == playback_id), None)
        if finished is None:
            return False
        while self._unfinished and self._unfinished[0].position <= finished.position:
            del self._unfinished[0]
        self._acknowledged = max(self._acknowledged, finished.position)
        if finished.position == self._downlink.sent:
            self._downlink.settle(now)
        self._prune(now)
        return True

    def _oldest_unfinished(self, now: float) -> _Playback | None:
        self._forget_lost(now)
        if not self._unfinished:
            return None
        oldest = self._unfinished[0]
        return oldest if now >= oldest.expected_at - STALE_FINISH_SLACK_S else None

    def forget_playbacks(self) -> None:
        """The carrier's socket is gone, and with it its word on what was played there."""
        self._unfinished.clear()

    def _forget_lost(self, now: float) -> None:
        while self._unfinished and now > self._unfinished[0].expected_at + LOST_FINISH_S:
            del self._unfinished[0]

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
                _remember(self._cut_responses, item.response_id)
                _remember(self._cut_items, item.item_id)
        cuts: list[Cut] = []
        for key, (heard_samples, received_samples) in counted.items():
            if key in unheard:
                received_ms = self._model.ms(received_samples)
                cuts.append(Cut(*key, min(self._carrier.ms(heard_samples), received_ms), received_ms))
        if active_response_id is not None:
            _remember(self._cut_responses, active_response_id)
        # The word on a playback that was heard before may still be on its way.
        self._unfinished = [one for one in self._unfinished if one.expected_at <= now]
        self._items.clear()
        self._downlink.cut(now)
        return cuts

    def hold(self, now: float) -> None:
        """The bot falls silent for a while; what the carrier had not played is to be played later."""
        self._downlink.hold(now)
        self._unfinished = [one for one in self._unfinished if one.expected_at <= now]

    def release(self) -> None:
        """The bot goes on at the sample where it was held."""
        self._downlink.release()

    @property
    def is_queued(self) -> bool:
        """Audio waits to leave."""
        return self._downlink.is_queued

    @property
    def enqueued(self) -> int:
        """Carrier samples taken in since the call began."""
        return self._downlink.enqueued

    def remaining_s(self, now: float) -> float:
        """How long the caller would still hear what there is."""
        return (self._downlink.enqueued - self._heard(now)) / self._carrier.sample_rate

    def insert(self, audio: bytes, now: float) -> bool:
        """Queue audio of our own, in the carrier's format, for the item opened last; False: no room."""
        return self._downlink.insert(audio, now)

    def was_heard(self, position: int, now: float) -> bool:
        """Whether everything up to a position, in carrier samples, was heard."""
        return self._heard(now) >= position

    def _heard(self, now: float) -> int:
        return max(self._downlink.played(now - self._link_delay_s), self._acknowledged)

    def _end(self, item: _Stretch) -> None:
        if item.end is None:
            item.end = self._downlink.enqueued
            item.received_end = self._downlink.received

    def _prune(self, now: float) -> None:
        heard = self._heard(now)
        while self._items and self._items[0].is_final and (self._items[0].end or 0) <= heard:
            item_id = self._items[0].item_id
            if any(later.item_id == item_id for later in self._items[1:]):
                break  # what was heard of it here counts with what is heard of it there
            del self._items[0]


def _remember(ids: list[str], one: str) -> None:
    if one and one not in ids:
        ids.append(one)
        del ids[:-IDS_KEPT]
