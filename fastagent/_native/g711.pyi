"""G.711 mu-law and A-law, bit-exact to the ITU-T reference program (G.191).

PCM is int16 little-endian, mono, any rate; a code is one byte. Every argument may be any object with a
contiguous buffer; ``bytes`` are fastest. Cost: O(n), one allocation (none for the ``_into`` forms). The GIL
is released for 65,536 samples and more. Source: ITU-T G.711, tables 1a to 2b.
"""

from typing import Literal

from typing_extensions import Buffer

def ulaw_encode(pcm: Buffer, /) -> bytes:
    """Compress linear samples to G.711 mu-law.

    Raises:
        ValueError: ``pcm`` has an odd length.
    """

def ulaw_decode(codes: Buffer, /) -> bytes:
    """Expand G.711 mu-law to linear samples, two bytes for each code."""

def alaw_encode(pcm: Buffer, /) -> bytes:
    """Compress linear samples to G.711 A-law.

    Raises:
        ValueError: ``pcm`` has an odd length.
    """

def alaw_decode(codes: Buffer, /) -> bytes:
    """Expand G.711 A-law to linear samples, two bytes for each code."""

def ulaw_encode_into(pcm: Buffer, out: Buffer, /) -> int:
    """Compress linear samples to G.711 mu-law in a buffer of the caller's.

    Args:
        pcm: n samples (2*n bytes).
        out: writable, room for n bytes; written from the start; may not overlap ``pcm``.

    Returns:
        n, the bytes written.

    Raises:
        ValueError: ``pcm`` has an odd length, or ``out`` is too small or overlaps it.
        BufferError: ``out`` is read-only.
    """

def ulaw_decode_into(codes: Buffer, out: Buffer, /) -> int:
    """Expand G.711 mu-law to linear samples in a buffer of the caller's.

    Args:
        codes: n bytes.
        out: writable, room for 2*n bytes; written from the start; may not overlap ``codes``.

    Returns:
        2*n, the bytes written.

    Raises:
        ValueError: ``out`` is too small or overlaps ``codes``.
        BufferError: ``out`` is read-only.
    """

def alaw_encode_into(pcm: Buffer, out: Buffer, /) -> int:
    """Compress linear samples to G.711 A-law in a buffer of the caller's; as ``ulaw_encode_into``."""

def alaw_decode_into(codes: Buffer, out: Buffer, /) -> int:
    """Expand G.711 A-law to linear samples in a buffer of the caller's; as ``ulaw_decode_into``."""

def variant() -> Literal["avx2", "scalar"]:
    """The body in use on this processor; ``FASTAGENT_SIMD=scalar`` before the import forces the second."""
