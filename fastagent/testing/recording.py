"""Both directions of a call on one clock: what was said when, as a stereo recording."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr

from fastagent.audio import wav

__all__ = ["PlayoutClock", "Track", "resample_clip", "stereo"]

JOIN_S = 1e-6
"""Audio that begins this close to the end of what went before continues it."""


def resample_clip(pcm: bytes, sample_rate: int, wanted_rate: int) -> bytes:
    """A whole PCM16 clip at another rate: not for streams, whose end a resampler holds back."""
    if sample_rate == wanted_rate or not pcm:
        return pcm
    clip = np.frombuffer(pcm, dtype="<i2")
    return bytes(soxr.resample(clip, sample_rate, wanted_rate, quality="HQ").astype("<i2").tobytes())


@dataclass(slots=True)
class Segment:
    """Unbroken PCM16 audio that began at ``start_s``."""

    start_s: float
    sample_rate: int
    pcm: bytearray = field(default_factory=bytearray)

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.pcm) / 2 / self.sample_rate


class Track:
    """One direction: PCM16 audio placed on the clock, at whatever rates it came in."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    @property
    def end_s(self) -> float:
        """When the last audio ends; minus infinity while there is none."""
        return self._segments[-1].end_s if self._segments else float("-inf")

    def append(self, start_s: float, sample_rate: int, pcm: bytes) -> None:
        """Place audio at ``start_s``, not before the end of the track."""
        last = self._segments[-1] if self._segments else None
        if last is None or last.sample_rate != sample_rate or abs(start_s - last.end_s) > JOIN_S:
            last = Segment(start_s, sample_rate)
            self._segments.append(last)
        last.pcm += pcm

    def cut(self, at_s: float) -> None:
        """Forget all audio from ``at_s`` on."""
        while self._segments and self._segments[-1].start_s >= at_s:
            self._segments.pop()
        if self._segments:
            last = self._segments[-1]
            del last.pcm[2 * int((at_s - last.start_s) * last.sample_rate) :]

    def render(self, origin_s: float, sample_rate: int) -> bytes:
        """PCM16 from ``origin_s`` to the end of the track, with silence where nothing was placed."""
        size = max(0, round((self.end_s - origin_s) * sample_rate)) if self._segments else 0
        samples = np.zeros(size, dtype="<i2")
        for position, clip in self._clips(origin_s, sample_rate):
            # Rounding may let a clip stick out by a sample, at either end.
            skipped = max(0, -position)
            clip = clip[skipped : skipped + max(0, size - position - skipped)]
            samples[position + skipped : position + skipped + len(clip)] = clip
        return samples.tobytes()

    def read(self, start_s: float, count: int, sample_rate: int) -> npt.NDArray[np.int16]:
        """``count`` samples from ``start_s`` on, of what was placed at this very rate; silence elsewhere."""
        samples = np.zeros(count, dtype="<i2")
        for segment in reversed(self._segments):
            if segment.end_s <= start_s:
                break
            if segment.sample_rate != sample_rate:
                continue
            offset = round((segment.start_s - start_s) * sample_rate)
            first, skipped = max(0, offset), max(0, -offset)
            clip = np.frombuffer(bytes(segment.pcm[2 * skipped : 2 * (skipped + count)]), dtype="<i2")
            clip = clip[: max(0, count - first)]
            samples[first : first + len(clip)] = clip
        return samples

    def _clips(self, origin_s: float, sample_rate: int) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        for segment in self._segments:
            pcm = resample_clip(bytes(segment.pcm), segment.sample_rate, sample_rate)
            yield round((segment.start_s - origin_s) * sample_rate), np.frombuffer(pcm, dtype="<i2")


class PlayoutClock:
    """A loudspeaker that plays what it is given, in order, at the speed of time."""

    def __init__(self) -> None:
        self.track = Track()

    @property
    def free_at_s(self) -> float:
        """When everything given so far has been heard."""
        return self.track.end_s

    def pending_s(self, now: float) -> float:
        """Audio given and not yet heard."""
        return max(0.0, self.free_at_s - now)

    def play(self, pcm: bytes, sample_rate: int, now: float) -> float:
        """Queue audio; returns when its last sample will have been heard."""
        self.track.append(max(now, self.free_at_s), sample_rate, pcm)
        return self.free_at_s

    def cut(self, now: float) -> None:
        """Fall silent at once."""
        self.track.cut(now)


def stereo(left: Track, right: Track, origin_s: float, sample_rate: int) -> bytes:
    """Both tracks from ``origin_s`` on as interleaved PCM16, the shorter filled up with silence."""
    return wav.interleave(left.render(origin_s, sample_rate), right.render(origin_s, sample_rate))
