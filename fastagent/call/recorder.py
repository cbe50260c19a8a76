"""A call's recording, kept on the clock."""

import asyncio
import time

from fastagent._native.tap import Tap
from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.recording import CallTrack, RecordingWriter

__all__ = ["CallRecorder"]

SETTLE_S = 0.25
"""What is recorded goes to the disk at least this often."""


class CallRecorder:
    """Records from its making until `close`.

    Args:
        writer: has the files.
        call_id: names them.
        tap: hears both sides.
        encoding: ``mulaw``, or else linear samples.
        begun: when the call began, in monotonic seconds.
    """

    def __init__(
        self, writer: RecordingWriter, call_id: str, tap: Tap, *, encoding: str, begun: float
    ) -> None:
        recording = writer.open(call_id, MULAW_8K if encoding == "mulaw" else PCM16_8K)
        self._track = CallTrack(recording, tap, begun)
        self._timer: asyncio.TimerHandle | None = None
        self._settle()

    def set_recorded(self, is_recorded: bool) -> None:
        """Keep what is said from now on, or do not."""
        (self._track.resume if is_recorded else self._track.pause)(time.monotonic())

    def _settle(self) -> None:
        """The recording's clock goes on while the caller sends nothing."""
        self._track.advance(time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self._settle)

    def close(self) -> None:
        """End the recording."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._track.close(time.monotonic())
