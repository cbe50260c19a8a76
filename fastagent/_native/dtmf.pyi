"""DTMF: keypad digits found in telephone audio, and made. All audio is int16 little-endian, mono.

The detector holds the limits of ITU-T Q.24 ("AT&T" column): each of both frequencies taken up to 1.5 % beside
its nominal value and refused from 3.5 % on; tones taken from 40 ms on and refused up to 23 ms; two tones with
a pause of 40 ms are two digits, with a drop-out of 10 ms one; 0 to -25 dBm0 per tone; the low tone up to 8 dB
above the high one or up to 4 dB below it; 16 digits.
"""

from typing import final

from typing_extensions import Buffer

@final
class ToneEvent:
    """A tone began or ended. The digit stays out of its ``repr``. Only a detector makes one."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Refuse: events come from a detector.

        Raises:
            TypeError: always.
        """

    @property
    def digit(self) -> str:
        """One of ``0-9 * # A-D``."""

    @property
    def is_end(self) -> bool:
        """True at the tone's end, False at its start."""

    @property
    def position(self) -> int:
        """The tone's first sample, counted from the stream's beginning, right to about 2 ms."""

    @property
    def duration(self) -> int:
        """Samples: heard so far at the start, the whole tone at the end."""

@final
class Detector:
    """Finds keypad digits in a stream of samples at 8 kHz.

    One object of 2 KiB for one stream; calls from several threads are serialised by the GIL. A digit gives a
    start event 31 to 37 ms into its tone and an end event 30 to 35 ms after it. The events depend on the
    samples only, not on how they were cut.
    """

    def __new__(cls) -> Detector: ...
    def process(self, pcm: Buffer, /) -> list[ToneEvent]:
        """Feed a chunk of any length; gives the events it completes, oldest first.

        Raises:
            ValueError: ``pcm`` has an odd number of bytes; nothing has been fed.
        """

    def flush(self) -> list[ToneEvent]:
        """End the stream: gives the end of a digit that still sounds, and starts anew at position 0."""

    def reset(self) -> None:
        """Forget everything, as if newly made."""

    @property
    def digit(self) -> str | None:
        """The digit that sounds."""

def generate(
    digits: str,
    sample_rate: int,
    tone: int,
    pause: int,
    low_peak: float,
    high_peak: float,
    ramp: int = 0,
) -> bytes:
    """Make the tones of ``digits``, each followed by a pause; saturated, never wrapped.

    Args:
        digits: any number of ``0-9 * # A-D``.
        sample_rate: 8000, 16000 or 24000 Hz.
        tone: samples of a tone, at least 1.
        pause: samples of silence behind each tone.
        low_peak: of the low tone, 0 to 32768.
        high_peak: of the high tone, 0 to 32768.
        ramp: samples over which a tone rises and falls, part of the tone.

    Raises:
        TypeError: ``digits`` is not a string.
        ValueError: any other argument is not as said, or the answer would pass 2^28 samples.
    """
