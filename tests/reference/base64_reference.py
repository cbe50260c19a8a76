"""Strict base64 by the standard library, and by hand what is wrong with a text that it refuses."""

import binascii
import string
from typing import Literal

ALPHABET = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode()

Fault = Literal["length", "symbol", "padding"]


def encode(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def decode(text: bytes) -> bytes | Fault:
    """The bytes that text stands for, or its first fault."""
    if len(text) % 4:
        return "length"
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        data = None
    # Strict mode lets set bits below the last byte pass: only the canonical text comes back as itself.
    if data is not None and encode(data) == text:
        return data
    return first_fault(text)


def first_fault(text: bytes) -> Fault:
    pads = 2 if text.endswith(b"==") else 1 if text.endswith(b"=") else 0
    for symbol in text[: len(text) - pads]:
        if symbol == ord("="):
            return "padding"
        if symbol not in ALPHABET:
            return "symbol"
    return "padding"
