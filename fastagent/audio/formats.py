"""Audio formats and the arithmetic between bytes, samples and milliseconds."""

from dataclasses import dataclass
from enum import Enum

from fastagent.errors import FormatMismatchError

__all__ = ["ALAW_8K", "MULAW_8K", "PCM16_8K", "PCM16_16K", "PCM16_24K", "AudioFormat", "Encoding"]


class Encoding(Enum):
    """How one sample is stored."""

    PCM16 = "pcm16"
    """Linear, int16 little-endian, two bytes."""
    MULAW = "mulaw"
    """G.711 µ-law, one byte."""
    ALAW = "alaw"
    """G.711 A-law, one byte."""

    @property
    def bytes_per_sample(self) -> int:
        """2 for PCM16, 1 for G.711."""
        return 2 if self is Encoding.PCM16 else 1

    @property
    def silence(self) -> bytes:
        """One sample of digital silence (ITU-T G.711: 0xFF in µ-law, 0xD5 in A-law)."""
        return {Encoding.PCM16: b"\0\0", Encoding.MULAW: b"\xff", Encoding.ALAW: b"\xd5"}[self]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono audio: an encoding at a sample rate in Hz."""

    encoding: Encoding
    sample_rate: int

    @property
    def bytes_per_ms(self) -> int:
        """Bytes that last one millisecond: 8 (G.711) to 48 (PCM16 at 24 kHz)."""
        return self.sample_rate * self.encoding.bytes_per_sample // 1000

    def samples(self, size_bytes: int) -> int:
        """Whole samples in ``size_bytes``.

        Raises:
            FormatMismatchError: the bytes end inside a sample.
        """
        samples, rest = divmod(size_bytes, self.encoding.bytes_per_sample)
        if rest:
            raise FormatMismatchError(f"expected whole {self.encoding.value} samples, got {size_bytes} bytes")
        return samples

    def samples_in_ms(self, duration_ms: int) -> int:
        """Samples that last ``duration_ms``."""
        return self.sample_rate * duration_ms // 1000

    def ms(self, samples: int) -> int:
        """Whole milliseconds that ``samples`` last, rounded down."""
        return samples * 1000 // self.sample_rate

    def silence(self, duration_ms: int) -> bytes:
        """``duration_ms`` of digital silence."""
        return self.encoding.silence * self.samples_in_ms(duration_ms)

    def __str__(self) -> str:
        return f"{self.encoding.value}@{self.sample_rate}"


MULAW_8K = AudioFormat(Encoding.MULAW, 8_000)
ALAW_8K = AudioFormat(Encoding.ALAW, 8_000)
PCM16_8K = AudioFormat(Encoding.PCM16, 8_000)
PCM16_16K = AudioFormat(Encoding.PCM16, 16_000)
PCM16_24K = AudioFormat(Encoding.PCM16, 24_000)
