"""Is somebody speaking? Band powers, a probability per 20 ms frame of 8 kHz audio, and utterances.

All of it is causal: a frame's answer needs nothing after the frame. The same build gives the same numbers
from run to run; compilers that fuse multiplications and additions may change their last digits. One object
serves one stream; calls from several threads are serialised by the GIL.
"""

from typing import Literal, Self, final

from typing_extensions import Buffer

FRAME_BYTES: int
"""Bytes of a frame: 160 samples, int16 little-endian, mono, 8 kHz."""

@final
class BandAnalyser:
    """Power of a stream's frames in ten bands from 188 to 3797 Hz, even in mel.

    A window reaches over 256 samples, the frame and the 96 before it, with its centre 16 ms before the
    frame's end. Over a stream the powers add up to that of the signal.
    """

    def __new__(cls) -> Self: ...
    def process(self, frame: Buffer, /) -> tuple[float, ...]:
        """Analyse the next frame: the mean square in each band, in squares of int16 units.

        Raises:
            ValueError: ``frame`` is not `FRAME_BYTES` long; nothing has been fed.
        """

    def reset(self) -> None:
        """Forget all input, as if newly made."""

@final
class VoiceDetector:
    """Probability of speech, frame by frame.

    A small recurrent net over the frame's band levels, spectrum, periodicity and change. It hears no speech
    in keypad and network tones and next to none in instrumental music; singing may count as speech. See
    ``python -m benches.hearing.vad_report`` for how well it does.
    """

    def __new__(cls, *, preset: Literal["sensitive", "balanced", "strict"] = "balanced") -> Self:
        """Start on an unknown background.

        Raises:
            ValueError: no such preset.
        """

    @property
    def preset(self) -> str: ...
    @property
    def threshold(self) -> float:
        """The probability from which the preset calls a frame speech; `process` does not depend on it."""

    def process(self, frame: Buffer, /) -> float:
        """Judge the next frame: 0 is surely not speech, 1 surely is.

        Raises:
            ValueError: ``frame`` is not `FRAME_BYTES` long; nothing has been fed.
        """

    def measure(self, frame: Buffer, /) -> tuple[float, ...]:
        """Take the next frame's measures, which the net would see, instead of judging it.

        Raises:
            ValueError: ``frame`` is not `FRAME_BYTES` long; nothing has been fed.
        """

    def reset(self) -> None:
        """Forget all input, as if newly made."""

@final
class SpeechSegmenter:
    """Beginnings and ends of utterances, from one probability per frame."""

    def __new__(
        cls,
        *,
        preset: Literal["sensitive", "balanced", "strict"] = "balanced",
        start_probability: float | None = None,
        stop_probability: float | None = None,
        min_speech_ms: int | None = None,
        hangover_ms: int | None = None,
        prefix_ms: int | None = None,
    ) -> Self:
        """Start in silence; what is not given is as in the preset.

        Args:
            preset: ``sensitive``, ``balanced``, or ``strict`` for noisy lines.
            start_probability: a frame at or above it begins speech.
            stop_probability: frames below it end speech; not above ``start_probability``.
            min_speech_ms: speech this long is a beginning.
            hangover_ms: silence this long is an end.
            prefix_ms: a beginning is dated this much before its first frame, but not before the last end.

        Raises:
            ValueError: no such preset, or a number out of range.
        """

    def process(self, probability: float, /) -> tuple[Literal["started", "stopped"], int] | None:
        """Take the next frame's probability; gives what happened and its position in samples, or None.

        Speech starts at its first frame, less the prefix, and stops after its last frame. A value that is
        not a number counts as silence before speech and as speech within it: it changes nothing.
        """

    @property
    def is_speaking(self) -> bool: ...
    @property
    def position(self) -> int:
        """Samples seen so far."""

    def reset(self) -> None:
        """Forget all input, keep the options."""
