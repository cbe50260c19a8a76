"""The bot's playback as the carrier knows it: opened before its first sample, closed after its last."""

from fastagent.bridge.commands import Command
from fastagent.media.playout import PlayoutLedger
from fastagent.wire import events as carrier

__all__ = ["BotPlayback"]


class BotPlayback:
    """At most one playback is open.

    Args:
        ledger: knows what was heard.
        media: the format of bot audio on the carrier's side.
        closes_when_heard: keep a playback open until its audio was heard: for a carrier to which closing it
            may mean silence.
        close_margin_s: beyond the clock's "heard", before such a close.
    """

    def __init__(
        self,
        ledger: PlayoutLedger,
        media: carrier.MediaOffer,
        *,
        closes_when_heard: bool,
        close_margin_s: float,
    ) -> None:
        self._ledger = ledger
        self._media = media
        self._closes_when_heard = closes_when_heard
        self._close_margin_s = close_margin_s
        self._playback_id: str | None = None
        self._count = 0
        self._heard_at: float | None = None
        """When all of the open playback will have been heard."""
        self.close_deadline: float | None = None
        """When the open playback is to be closed."""

    @property
    def is_open(self) -> bool:
        """The carrier was told that audio comes."""
        return self._playback_id is not None

    @property
    def has_begun(self) -> bool:
        """One was opened at least once."""
        return self._count > 0

    def open(self, text: str | None = None) -> list[Command]:
        """Have one open; ``text`` are the words of the audio, where they are known by now."""
        self._heard_at = None
        if self._playback_id is not None:
            return []
        self._count += 1
        self._playback_id = f"play-{self._count}"
        return [carrier.OpenPlayback(self._playback_id, self._media, text)]

    def abort(self) -> list[Command]:
        """Have the carrier drop what it has not played."""
        commands: list[Command] = []
        if self._playback_id is not None:
            commands.append(carrier.ClosePlayback(self._playback_id))
        self._playback_id = None
        return [*commands, carrier.AbortPlayback()]

    def forget(self) -> None:
        """The carrier's socket is gone, and the playback with it."""
        self._playback_id = None

    def close_when_done(self, now: float) -> list[Command]:
        """Close the open playback if nothing more comes of it, and what came may be closed."""
        if self._playback_id is None or not self._ledger.is_complete:
            self._heard_at = self.close_deadline = None
            return []
        self.close_deadline = self._close_at(now)
        if self.close_deadline is not None:
            return []
        playback_id, self._playback_id = self._playback_id, None
        self._ledger.close_playback(playback_id, now)
        return [carrier.ClosePlayback(playback_id)]

    def _close_at(self, now: float) -> float | None:
        """When to close the playback, all of whose audio left; None for now."""
        if not self._closes_when_heard:
            return None
        if self._heard_at is None:
            self._heard_at = self._ledger.silent_at(now)
        if self._heard_at is None:
            return None
        close_at = self._heard_at + self._close_margin_s
        return close_at if now < close_at else None
