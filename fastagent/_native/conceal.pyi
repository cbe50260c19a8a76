"""Packet loss concealment: what to play in place of samples that did not arrive, without added delay.

The newest pitch cycles of the prediction residual are played on through the predictor of the voice, under a
fade that ends in silence after 300 ms. A fill is never louder than the 20 ms before it, and does not depend
on how a loss is cut into calls.
"""

from typing import Self, final

from typing_extensions import Buffer

@final
class Concealer:
    """Fills in lost stretches of a stream of int16 samples, little-endian, mono.

    One object for one stream, told of every frame in turn: ``good`` or ``lost``.
    """

    def __new__(cls, sample_rate: int = 8000) -> Self:
        """Prepare for a rate in Hz.

        Raises:
            ValueError: the rate is not 8000, 16000 or 24000.
        """

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def state_bytes(self) -> int:
        """Memory of the stream: 1.6 KiB at 8 kHz, 4.4 KiB at 24 kHz."""

    def good(self, pcm: Buffer, /) -> bytes:
        """Take samples that arrived; gives them back as they are, but for the first 5 ms after a loss.

        Those are cross-faded from the fill.

        Raises:
            ValueError: ``pcm`` has an odd number of bytes; nothing has been taken.
        """

    def good_into(self, pcm: Buffer, /) -> None:
        """Do as ``good`` does, in place.

        Raises:
            BufferError: ``pcm`` is not writable.
            ValueError: ``pcm`` has an odd number of bytes; nothing has been taken.
        """

    def lost(self, samples: int, /) -> bytes:
        """Give samples in place of those that did not arrive; before any arrived, silence.

        Raises:
            ValueError: fewer than none, or more than 240,000.
        """

    def reset(self) -> None:
        """Forget all samples, as if newly made."""
