"""Strict base64: the standard alphabet with padding (RFC 4648, section 4), and one text only for each value.

Arguments may be any object with a contiguous buffer; ``bytes`` are fastest. The GIL is released for 128 KiB
and more. A ``ValueError`` begins with what is wrong, ``base64 length``, ``base64 symbol`` or ``base64
padding``, and never repeats the text; when several things are wrong it is the length, else the first in the
text.
"""

from typing import Literal

from typing_extensions import Buffer

def encode(data: Buffer, /) -> bytes:
    """Encode bytes as base64 with padding, without line breaks."""

def decode(text: Buffer | str, /) -> bytes:
    """Decode base64 text, refusing whatever is not canonical.

    Raises:
        ValueError: the length is no multiple of four; there is a character outside the alphabet, white
            space included; ``=`` stands anywhere but in the last one or two places; or bits below the last
            byte are set.
    """

def validate(text: Buffer | str, /) -> int:
    """The number of bytes that base64 text stands for, without decoding it.

    Raises:
        ValueError: as ``decode``.
    """

def variant() -> Literal["avx2", "scalar"]:
    """The body in use on this processor; ``FASTAGENT_SIMD=scalar`` before the import forces the second."""
