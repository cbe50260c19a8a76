"""Streaming resampler between 8, 16 and 24 kHz: a causal polyphase FIR on int16 samples.

After N samples in exactly ceil(N * out_rate / in_rate) samples have come out, whatever the chunking, and
the same bits for every chunking: 20 ms in gives 20 ms out. Loud peaks saturate, they never wrap. The only
delay is the filter's own (1.875 ms for 8<->16 and 8<->24, 1.125 ms for 16<->24 kHz).
"""

from typing import Literal, Self, final

from typing_extensions import Buffer

@final
class Resampler:
    """Converts a stream of int16 samples, little-endian, mono, from one rate to another.

    Flat within 0.05 dB to 3.4 kHz (7 kHz between 16 and 24 kHz); images and aliases at least 75 dB down
    from the mirror of that edge on. One object for one stream; calls from several threads are serialised by
    the GIL.
    """

    def __new__(cls, in_rate: int, out_rate: int) -> Self:
        """Prepare for a pair of rates in Hz.

        Raises:
            ValueError: the pair is not one of 8000<->16000, 8000<->24000, 16000<->24000.
        """

    @property
    def in_rate(self) -> int:
        """Hz."""

    @property
    def out_rate(self) -> int:
        """Hz."""

    @property
    def delay_samples(self) -> int:
        """The filter's delay in output samples; exact, not rounded, for every pair."""

    def process(self, pcm: Buffer, /) -> bytes:
        """Feed a chunk of any length; gives the samples that are due, at once.

        Raises:
            ValueError: ``pcm`` has an odd number of bytes; nothing has been fed.
        """

    def flush(self) -> bytes:
        """Give the last ``delay_samples`` samples and start anew.

        Without the first ``delay_samples`` of its output, a flushed stream is aligned with its source.
        """

    def reset(self) -> None:
        """Forget all input, as if newly made."""

def variant() -> Literal["avx2", "scalar"]:
    """The body in use on this processor; ``FASTAGENT_SIMD=scalar`` before the import forces the second."""
