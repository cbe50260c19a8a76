"""Clips in a call: announcements and hold music, between what the model says."""

from dataclasses import dataclass, field

from fastagent.media.playout import PlayoutLedger

__all__ = ["PENDING_MAX", "Clip", "ClipPlayer"]

PENDING_MAX = 8
"""Clips that may wait for a pause in the talk."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Audio in the carrier's format, played once or, like hold music, until something else is to be heard."""

    playback_id: str
    audio: bytes = field(repr=False)
    is_looped: bool = False
    is_interruptible: bool = True
    piece_bytes: int = 160_000
    """What is queued at a time, in whole samples."""


class ClipPlayer:
    """What of our own is playing, and what waits to."""

    def __init__(self, ledger: PlayoutLedger) -> None:
        self._ledger = ledger
        self._pending: list[Clip] = []
        self._current: Clip | None = None
        self._at = 0
        """Bytes of the current clip that were queued; of a looped one, in this round."""
        self._end = 0
        """Where what was queued of it ends, in carrier samples."""

    @property
    def is_pending(self) -> bool:
        """A clip waits for a pause in the talk."""
        return bool(self._pending)

    @property
    def is_looping(self) -> bool:
        """Hold music plays."""
        return self._current is not None and self._current.is_looped

    def is_playing(self, now: float) -> bool:
        """A clip is heard, or about to be."""
        return self._current is not None and (
            self._is_more_to_come or not self._ledger.was_heard(self._end, now)
        )

    def is_protected(self, now: float) -> bool:
        """What is heard may not be interrupted."""
        return self._current is not None and not self._current.is_interruptible and self.is_playing(now)

    def wait(self, clip: Clip) -> bool:
        """Have a clip wait for a pause; False when too many do."""
        if len(self._pending) == PENDING_MAX:
            return False
        self._pending.append(clip)
        return True

    def next_pending(self) -> Clip | None:
        """Take the first that waits."""
        return self._pending.pop(0) if self._pending else None

    def begin(self, clip: Clip, now: float) -> None:
        """Play a clip behind what is queued."""
        self._current = clip
        self._at = 0
        self._ledger.open_item(clip.playback_id, clip.playback_id, 0, now)
        self.go_on(now)

    def go_on(self, now: float) -> None:
        """Queue the next piece: the queue ran empty, and the end of the one before is still under way."""
        clip = self._current
        if clip is None or not self._is_more_to_come:
            return
        if self._at >= len(clip.audio):
            self._at = 0
        self._queue(clip, clip.audio[self._at : self._at + clip.piece_bytes], now)

    def make_way(self, now: float) -> None:
        """Somebody else's audio is to be queued: behind all of the clip."""
        if self._current is not None and not self._current.is_looped and self._is_more_to_come:
            self._queue(self._current, self._current.audio[self._at :], now)

    def _queue(self, clip: Clip, piece: bytes, now: float) -> None:
        self._at += len(piece)
        self._ledger.insert(piece, now)
        self._end = self._ledger.enqueued
        if not self._is_more_to_come:
            self._ledger.finish_response(clip.playback_id, now)

    @property
    def _is_more_to_come(self) -> bool:
        return self._current is not None and (self._current.is_looped or self._at < len(self._current.audio))

    def forget(self) -> None:
        """What was queued is gone."""
        self._current = None

    def clear(self) -> None:
        """Nothing waits any more, either."""
        self._current = None
        self._pending.clear()
