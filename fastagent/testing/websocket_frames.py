"""WebSocket frames as bytes (RFC 6455, section 5.2), for doubles that stand between two peers. Sans-I/O."""

import os
from dataclasses import dataclass

__all__ = ["CLOSE", "RawFrame", "build_frame", "head_size", "payload_size"]

CONTINUATION, CLOSE = 0x0, 0x8
FIN = 0x80
MASKED = 0x80
HEAD_BYTES_MAX = 14
MASK_BYTES = 4


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame as it stood on the wire."""

    head: bytes
    """All before the payload, the mask included."""
    body: bytes
    """The payload as it was sent: masked, if it was."""

    @property
    def data(self) -> bytes:
        """The whole frame."""
        return self.head + self.body

    @property
    def opcode(self) -> int:
        """What kind of frame."""
        return self.head[0] & 0x0F

    @property
    def is_message(self) -> bool:
        """A whole message of its own: neither a control frame nor a fragment."""
        return bool(self.head[0] & FIN) and self.opcode in (1, 2)

    @property
    def payload(self) -> bytes:
        """The payload in clear."""
        return _masked(self.body, self.head[-MASK_BYTES:]) if self.head[1] & MASKED else self.body

    def flipped(self, at: int, bits: int) -> "RawFrame":
        """The same with some bits of one payload byte turned; a mask turns with them."""
        body = bytearray(self.body)
        body[at] ^= bits
        return RawFrame(self.head, bytes(body))


def head_size(begin: bytes) -> int:
    """Bytes of a frame's head, told by its first two bytes."""
    length = begin[1] & 0x7F
    wide = 2 if length == 126 else 8 if length == 127 else 0
    return 2 + wide + (MASK_BYTES if begin[1] & MASKED else 0)


def payload_size(head: bytes) -> int:
    """Bytes of the payload that follows a whole head."""
    length = head[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(head[2 : 4 if length == 126 else 10], "big")


def build_frame(opcode: int, payload: bytes = b"", *, is_masked: bool) -> bytes:
    """A whole frame; a client's are masked, a server's are not."""
    mask_bit = MASKED if is_masked else 0
    size = len(payload)
    head = bytes([FIN | opcode])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65_536:
        head += bytes([mask_bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + size.to_bytes(8, "big")
    if not is_masked:
        return head + payload
    mask = os.urandom(MASK_BYTES)
    return head + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = mask * (size // MASK_BYTES + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")
    return number.to_bytes(size, "big")
