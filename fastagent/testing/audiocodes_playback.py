"""The bot's audio on a scripted AudioCodes line: play streams, decoded onto a playout clock and watched."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.formats import Encoding
from fastagent.errors import FormatMismatchError
from fastagent.testing.audiocodes_records import LineOptions, Rule
from fastagent.testing.recording import PlayoutClock
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA
from fastagent.wire.events import MediaOffer

__all__ = ["PlayStreams", "PlayedStream"]


@dataclass(slots=True)
class PlayedStream:
    """One play stream of the bot, as the line saw it. Times are those of the line's clock."""

    stream_id: str
    media: MediaOffer | None
    """None when the format was not one we offered: nothing of it is heard."""
    opened_at_s: float
    ends_at_s: float
    """When its last audio was, or will be, heard."""
    starts_at_s: float | None = None
    """When its first audio was, or will be, heard."""
    first_chunk_at_s: float | None = None
    last_chunk_at_s: float | None = None
    closed_at_s: float | None = None
    received_bytes: int = 0
    """Audio, headers not counted."""
    was_cut: bool = False
    cut_ms: float = 0.0
    """Audio that was received and never heard."""
    is_done: bool = False
    """Closed, and heard to its end or cut."""
    undecoded: bytearray = field(default_factory=bytearray, repr=False)
    wav_header: wav.WavHeader | None = None

    @property
    def received_ms(self) -> float:
        """Audio received, in milliseconds."""
        return self.received_bytes / self.media.format.bytes_per_ms if self.media else 0.0

    def heard_ms(self, now: float) -> float:
        """Audio the caller has heard, in milliseconds."""
        return self.received_ms - self.cut_ms - self.unheard_s(now) * 1000

    def unheard_s(self, now: float) -> float:
        """Audio that waits to be heard."""
        if self.starts_at_s is None:
            return 0.0
        return max(0.0, self.ends_at_s - max(now, self.starts_at_s))


class PlayStreams:
    """Takes ``playStream`` messages; broken rules go to ``report(rule, now, detail)``."""

    def __init__(self, options: LineOptions, report: Callable[[Rule, float, str], None]) -> None:
        self.clock = PlayoutClock()
        self.streams: list[PlayedStream] = []
        self.open: PlayedStream | None = None
        self._options = options
        self._report = report
        self._by_id: dict[str, PlayedStream] = {}

    def is_busy(self, now: float) -> bool:
        """A stream is open, or audio is still being heard."""
        return self.open is not None or self.clock.pending_s(now) > 0

    def take_finished(self, now: float) -> list[PlayedStream]:
        """Streams that are over since the last call, in order."""
        finished = [stream for stream in self._closing() if stream.ends_at_s <= now]
        for stream in finished:
            stream.is_done = True
        return finished

    def next_end_s(self) -> float | None:
        """When the next closed stream will have been heard."""
        return min((stream.ends_at_s for stream in self._closing()), default=None)

    def cut(self, now: float) -> None:
        """Discard all audio that was not heard yet. An open stream stays open."""
        for stream in self.streams:
            if not stream.is_done and stream.ends_at_s > now:
                stream.was_cut = True
                stream.cut_ms += stream.unheard_s(now) * 1000
                stream.ends_at_s = now
        self.clock.cut(now)

    def end(self, now: float) -> None:
        """The socket or the call is gone: silence, and no stream is waited for."""
        self.cut(now)
        for stream in self.streams:
            if stream.closed_at_s is None:
                stream.closed_at_s = now
            stream.is_done = True
        self.open = None

    def start(self, message: dict[str, Any], now: float) -> None:
        """Take a ``playStream.start``."""
        stream_id = message.get("streamId")
        if not isinstance(stream_id, str):
            self._report("message_malformed", now, "streamId")
            return
        if stream_id in self._by_id:
            self._report("stream_id_reused", now, stream_id)
            return
        if self.open is not None:
            self._report("second_open_stream", now, stream_id)
            self._close(self.open, now)
        name = message.get("mediaFormat")
        media = AUDIOCODES_MEDIA[name] if name in self._options.formats else None
        if media is None:
            self._report("stream_format_not_offered", now, str(name))
        # Without audio of its own it is over as soon as what came before it has been heard.
        self.open = PlayedStream(stream_id, media, now, ends_at_s=max(now, self.clock.free_at_s))
        self._by_id[stream_id] = self.open
        self.streams.append(self.open)

    def chunk(self, message: dict[str, Any], now: float) -> None:
        """Take a ``playStream.chunk``."""
        stream = self._by_id.get(str(message.get("streamId")))
        if stream is None:
            self._report("chunk_before_start", now, "")
            return
        if stream is not self.open:
            self._report("chunk_after_stop", now, stream.stream_id)
            return
        try:
            data = base64.b64decode(message.get("audioChunk", 0), validate=True)
        except (TypeError, ValueError):
            self._report("chunk_not_base64", now, stream.stream_id)
            return
        if stream.media is None:
            return
        if stream.first_chunk_at_s is None:
            stream.first_chunk_at_s = now
        stream.last_chunk_at_s = now
        pcm = self._decode(stream, stream.media, data, now)
        if pcm:
            if stream.starts_at_s is None:
                stream.starts_at_s = max(now, self.clock.free_at_s)
            stream.ends_at_s = self.clock.play(pcm, stream.media.format.sample_rate, now)

    def stop(self, message: dict[str, Any], now: float) -> None:
        """Take a ``playStream.stop``."""
        if self.open is None or message.get("streamId") != self.open.stream_id:
            self._report("stop_without_start", now, str(message.get("streamId")))
            return
        self._close(self.open, now)

    def _closing(self) -> list[PlayedStream]:
        return [stream for stream in self.streams if not stream.is_done and stream.closed_at_s is not None]

    def _close(self, stream: PlayedStream, now: float) -> None:
        stream.closed_at_s = now
        self.open = None
        if self._options.stop_semantics == "cut":
            self.cut(now)

    def _decode(self, stream: PlayedStream, media: MediaOffer, data: bytes, now: float) -> bytes:
        width = media.format.encoding.bytes_per_sample
        if media.has_wav_header:
            data = self._without_header(stream, media, data, now)
            # A writer of WAV may split its file anywhere.
            stream.undecoded += data
            if stream.wav_header is None:
                return b""
            data = bytes(stream.undecoded[: len(stream.undecoded) // width * width])
            del stream.undecoded[: len(data)]
        elif len(data) % width:
            self._report("chunk_misaligned", now, f"{stream.stream_id}: {len(data)} bytes")
            data = data[:-1]
        stream.received_bytes += len(data)
        return g711.ulaw_decode(data) if media.format.encoding is Encoding.MULAW else data

    def _without_header(self, stream: PlayedStream, media: MediaOffer, data: bytes, now: float) -> bytes:
        # One header at the start, in as many pieces as the bot likes, or one on each chunk: both are in use.
        if stream.wav_header is not None and not data.startswith(b"RIFF"):
            return data
        data = bytes(stream.undecoded) + data if stream.wav_header is None else data
        stream.undecoded.clear()
        try:
            found = wav.parse_header(data)
        except FormatMismatchError:
            self._report("chunk_not_wav", now, stream.stream_id)
            return b""
        if found is None:
            return data
        if (found.format, found.channels) != (media.format, 1):
            self._report("chunk_not_wav", now, f"{stream.stream_id}: {found.format}")
        stream.wav_header = found
        return data[found.data_offset :]
