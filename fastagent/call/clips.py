"""Playing clips into a call: samples from an operator, names from an agent."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from fastagent._native import g711
from fastagent.audio.dtmf import dtmf_tones
from fastagent.audio.formats import AudioFormat, Encoding
from fastagent.bridge.brain import Bridge
from fastagent.bridge.clips import Clip
from fastagent.bridge.commands import Command
from fastagent.errors import AudioError, PlaybackRefusedError
from fastagent.stats import Counters

__all__ = ["CallClips", "ClipSource", "EncodedAudio"]

logger = logging.getLogger("fastagent.call")

PIECE_MS = 10_000
"""Of a clip, what is queued for the caller at a time."""

_ENCODERS: Mapping[Encoding, Callable[[bytes], bytes]] = {
    Encoding.PCM16: bytes,
    Encoding.MULAW: g711.ulaw_encode,
    Encoding.ALAW: g711.alaw_encode,
}


class EncodedAudio(Protocol):
    """A clip in a call's format."""

    @property
    def data(self) -> bytes:
        """Its samples."""


class ClipSource(Protocol):
    """Gives clips by name, in a call's format. It may read and convert: not for the loop."""

    def named(self, name: str, format: AudioFormat) -> EncodedAudio:
        """Raises: `AudioError`: there is no such clip, or it cannot be played."""


class CallClips:
    """Has the brain of one call play clips.

    Args:
        call_id: names the call in the log.
        bridge: decides when a clip is played.
        do: carries the brain's commands out.
        format: what the carrier is played.
        source: has the clips that have names.
        queue_limit_ms: what may be queued for the caller.
        counters: where refusals are counted.
    """

    def __init__(
        self,
        call_id: str,
        bridge: Bridge,
        do: Callable[[Sequence[Command]], None],
        format: AudioFormat,
        source: ClipSource | None,
        *,
        queue_limit_ms: int,
        counters: Counters,
    ) -> None:
        self._call_id = call_id
        self._bridge = bridge
        self._do = do
        self._format = format
        self._source = source
        self._piece_bytes = format.bytes_per_ms * min(PIECE_MS, queue_limit_ms)
        self._counters = counters
        self._begun = 0

    def play(
        self, data: bytes, *, loop: bool, when: Literal["now", "when_quiet"], interruptible: bool
    ) -> str:
        """Play samples in the carrier's format; gives the playback's id. For the arguments see `Call.play`.

        Raises:
            PlaybackRefusedError: the call cannot play now.
        """
        if not data or len(data) % self._format.encoding.bytes_per_sample:
            raise PlaybackRefusedError("a clip needs whole samples, and one at least")
        self._begun += 1
        clip = Clip(f"clip-{self._begun}", data, loop, interruptible, self._piece_bytes)
        commands = self._bridge.play(clip, time.monotonic(), waits=when == "when_quiet")
        if commands is None:
            raise PlaybackRefusedError("the call cannot play now")
        logger.info("call %s: %s: clip of %d bytes", self._call_id, clip.playback_id, len(data))
        self._do(commands)
        return clip.playback_id

    async def play_named(self, name: str, *, loop: bool, interruptible: bool) -> None:
        """Read a clip, and play it at the next pause in the talk; refusals are logged and counted."""
        try:
            if self._source is None:
                raise PlaybackRefusedError("this process has no clips")
            clip = await asyncio.to_thread(self._source.named, name, self._format)
            self.play(clip.data, loop=loop, when="when_quiet", interruptible=interruptible)
        except AudioError as error:
            self._counters.note("clips_refused")
            logger.error("call %s: a clip cannot be played: %s", self._call_id, error)

    async def music(self, name: str) -> Clip | None:
        """Read a clip that goes on and on; None when it cannot be played, which is logged and counted."""
        try:
            if self._source is None:
                raise PlaybackRefusedError("this process has no clips")
            audio = await asyncio.to_thread(self._source.named, name, self._format)
        except AudioError as error:
            self._counters.note("clips_refused")
            logger.error("call %s: a clip cannot be played: %s", self._call_id, error)
            return None
        self._begun += 1
        return Clip(f"clip-{self._begun}", audio.data, True, False, self._piece_bytes)

    def play_digits(self, digits: str) -> bool:
        """Play the tones of keys at the next pause in the talk; False when the call cannot play now."""
        try:
            pcm = dtmf_tones(digits, AudioFormat(Encoding.PCM16, self._format.sample_rate))
            tones = _ENCODERS[self._format.encoding](pcm)
            self.play(tones, loop=False, when="when_quiet", interruptible=False)
        except (PlaybackRefusedError, ValueError):
            self._counters.note("digits_refused")
            return False
        return True

    def stop(self) -> None:
        """End the clip that plays, and forget those that wait."""
        self._do(self._bridge.stop_playing(time.monotonic()))
