"""The cases of the Autobahn suite as data: what a peer sends, and what an echoing endpoint must do.

Numbers are the suite's own, so that a verdict here can be held against one there. A case is sent either as it
is, frame by frame or byte by byte; the same data drives a server (frames are masked then) and a client (they
are not). Groups 12 and 13 are about compression, which is never negotiated here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["BINARY", "CASES", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "Case", "Out", "Pause"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Out:
    """A frame to be sent."""

    opcode: int
    payload: bytes = b""
    is_final: bool = True
    reserved: int = 0
    """The three reserved bits, 0 to 7."""


@dataclass(frozen=True)
class Pause:
    """Bytes of a frame are held back here until the endpoint was found to be silent, or closed."""

    after_bytes: int
    """Of the frame before, header excluded; -1 for all of it."""


@dataclass(frozen=True)
class Case:
    """One case.

    Args:
        expected: messages and pongs, in order, that the endpoint sends before it closes or is closed.
        close: the codes of which it closes with one; empty: it goes on, and answers our close with 1000.
        chop: the most bytes of one write; 0 for each frame in a write of its own, None for all in one.
        may_skip: the endpoint may have closed before it sent ``expected`` (the suite's NON-STRICT).
        message_bytes: the longest message of the case.
    """

    number: str
    sent: tuple[Out | Pause, ...]
    expected: tuple[tuple[int, bytes], ...] = ()
    close: tuple[int, ...] = ()
    chop: int | None = None
    may_skip: bool = False
    message_bytes: int = 0

    def __str__(self) -> str:
        return self.number


def fragments(payload: bytes, *cuts: int, opcode: int = TEXT) -> tuple[Out, ...]:
    """A message in fragments."""
    edges = [0, *cuts, len(payload)]
    last = len(edges) - 2
    return tuple(
        Out(opcode if i == 0 else CONTINUATION, payload[a:b], is_final=i == last)
        for i, (a, b) in enumerate(pairwise(edges))
    )


def _sizes() -> Iterator[Case]:
    """1: framing."""
    for group, opcode, unit in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for n, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536, 65_536), 1):
            payload = unit * size
            chop = 997 if n == 8 else None
            yield Case(f"1.{group}.{n}", (Out(opcode, payload),), ((opcode, payload),), chop=chop)


def _pings() -> Iterator[Case]:
    """2: pings and pongs."""
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    for n, payload in enumerate((b"", b"Hello, world!", binary, b"\xfe" * 125), 1):
        yield Case(f"2.{n}", (Out(PING, payload),), ((PONG, payload),))
    yield Case("2.5", (Out(PING, b"\xfe" * 126),), close=(1002,))
    yield Case("2.6", (Out(PING, b"\xfe" * 125),), ((PONG, b"\xfe" * 125),), chop=1)
    yield Case("2.7", (Out(PONG),))
    yield Case("2.8", (Out(PONG, b"unsolicited pong payload"),))
    yield Case("2.9", (Out(PONG, b"unsolicited"), Out(PING, b"ping payload")), ((PONG, b"ping payload"),))
    ten = [b"payload-%d" % n for n in range(10)]
    for number, chop in (("2.10", None), ("2.11", 1)):
        yield Case(number, tuple(Out(PING, one) for one in ten), tuple((PONG, one) for one in ten), chop=chop)


def _reserved_bits() -> Iterator[Case]:
    """3: reserved bits."""
    hello = b"Hello, world!"
    yield Case("3.1", (Out(TEXT, hello, reserved=1),), close=(1002,))
    for number, bits, chop in (("3.2", 2, None), ("3.3", 3, 0), ("3.4", 4, 1)):
        sent = (Out(TEXT, hello), Out(TEXT, hello, reserved=bits), Out(PING))
        yield Case(number, sent, ((TEXT, hello),), (1002,), chop=chop, may_skip=True)
    yield Case("3.5", (Out(BINARY, b"\x00\xff\xfe\xfd", reserved=5),), close=(1002,))
    yield Case("3.6", (Out(PING, hello, reserved=6),), close=(1002,))
    yield Case("3.7", (Out(CLOSE, b"", reserved=7),), close=(1002,))


def _opcodes() -> Iterator[Case]:
    """4: opcodes that mean nothing."""
    hello, full = b"Hello, world!", b"reserved opcode payload"
    for group, first in ((1, 3), (2, 11)):
        yield Case(f"4.{group}.1", (Out(first),), close=(1002,))
        yield Case(f"4.{group}.2", (Out(first + 1, full),), close=(1002,))
        for n, payload, chop in ((3, b"", None), (4, full, None), (5, full, 1)):
            sent = (Out(TEXT, hello), Out(first + n - 1, payload), Out(PING))
            yield Case(f"4.{group}.{n}", sent, ((TEXT, hello),), (1002,), chop=chop, may_skip=True)


def _fragmentation() -> Iterator[Case]:
    """5: fragments."""
    for n, opcode in ((1, PING), (2, PONG)):
        yield Case(f"5.{n}", fragments(b"fragment1fragment2", 9, opcode=opcode), close=(1002,))
    whole = b"fragment1fragment2"
    two = fragments(whole, 9)
    for n, chop in ((3, None), (4, 0), (5, 1)):
        yield Case(f"5.{n}", two, ((TEXT, whole),), chop=chop)
    for n, chop in ((6, None), (7, 0), (8, 1)):
        sent = (two[0], Out(PING, b"ping payload"), two[1])
        yield Case(f"5.{n}", sent, ((PONG, b"ping payload"), (TEXT, whole)), chop=chop)
    hello = Out(TEXT, b"Hello, world!")
    for n, is_final in ((9, True), (12, False)):
        stray = Out(CONTINUATION, b"non-continuation payload", is_final=is_final)
        for step, chop in ((0, None), (1, 0), (2, 1)):
            yield Case(f"5.{n + step}", (stray, hello), close=(1002,), chop=chop)
    sent = (*two, Out(CONTINUATION, b"fragment3", is_final=False), Out(TEXT, b"fragment4"))
    yield Case("5.15", sent, ((TEXT, whole),), (1002,), may_skip=True)
    for n, is_final in ((16, False), (17, True)):
        turn = (Out(CONTINUATION, b"fragment1", is_final=is_final), *fragments(b"fragment2fragment3", 9))
        yield Case(f"5.{n}", turn * 2, close=(1002,))
    sent = (Out(TEXT, b"fragment1", is_final=False), Out(TEXT, b"fragment2"))
    yield Case("5.18", sent, close=(1002,))
    parts = fragments(b"fragment1fragment2fragment3fragment4fragment5", 9, 18, 27, 36)
    one, other = Out(PING, b"pongme 1!"), Out(PING, b"pongme 2!")
    expected = ((PONG, one.payload), (PONG, other.payload), (TEXT, b"".join(part.payload for part in parts)))
    mixed = (parts[0], parts[1], one, Pause(-1), parts[2], parts[3], other, parts[4])
    for n, chop in ((19, None), (20, 0)):
        yield Case(f"5.{n}", mixed, expected, chop=chop)


KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
EDITED = KOSME + b"\xed\xa0\x80edited"
"""Ends in a surrogate, which UTF-8 cannot hold."""
BEYOND = KOSME + b"\xf4\x90\x80\x80edited"
"""Goes wrong at its thirteenth byte: the code point would be past the last one."""

CUT_SHORT = [
    b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
    b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf",
]  # fmt: skip
NONCHARACTERS = [chr(plane * 0x10000 + low).encode() for plane in range(17) for low in (0xFFFE, 0xFFFF)]
UTF8_GROUPS: dict[int, list[bytes]] = {
    # Well-formed text, and all its beginnings.
    5: [
        b"hello\x24world",
        b"hello\xc2\xa2world",
        b"hello\xe2\x82\xacworld",
        b"hello\xf0\xa4\xad\xa2world",
        KOSME,
    ],
    6: [KOSME[:n] for n in range(1, len(KOSME) + 1)],
    # The first and the last of each length; lengths five and six do not exist.
    7: [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    8: [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    9: [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    10: [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    11: [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"],
    # Continuations of nothing, lonely leads, cut sequences, bytes that never occur.
    12: [b"\x80", b"\xbf", *[(b"\x80\xbf" * 3)[:n] for n in (2, 3, 4, 5, 6)], bytes(range(0x80, 0xBF))],
    13: [
        b"".join(bytes([lead]) + b" " for lead in range(low, high))
        for low, high in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ],
    14: CUT_SHORT,
    15: [b"".join(CUT_SHORT)],
    16: [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    # Longer than need be.
    17: [
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
    ],
    18: [
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
    ],
    19: [
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x80\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80\x80",
    ],
    # Surrogates, one by one and in pairs.
    20: [
        b"\xed" + rest
        for rest in (
            b"\xa0\x80",
            b"\xad\xbf",
            b"\xae\x80",
            b"\xaf\xbf",
            b"\xb0\x80",
            b"\xbe\x80",
            b"\xbf\xbf",
        )
    ],
    21: [
        b"\xed" + high + b"\xed" + low
        for high in (b"\xa0\x80", b"\xad\xbf", b"\xae\x80", b"\xaf\xbf")
        for low in (b"\xb0\x80", b"\xbf\xbf")
    ],
    # Code points that are no characters are text all the same.
    22: NONCHARACTERS,
    23: [chr(code).encode() for code in range(0xFFF9, 0x10000)],
}


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8() -> Iterator[Case]:
    """6: text is UTF-8, or refused."""
    yield Case("6.1.1", (Out(TEXT),), ((TEXT, b""),))
    yield Case("6.1.2", fragments(b"", 0, 0), ((TEXT, b""),))
    yield Case("6.1.3", fragments(b"middle frame payload", 0, 20), ((TEXT, b"middle frame payload"),))
    hello = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    yield Case("6.2.1", (Out(TEXT, hello),), ((TEXT, hello),))
    yield Case("6.2.2", fragments(hello, 12), ((TEXT, hello),))
    yield Case("6.2.3", fragments(hello, *range(1, len(hello))), ((TEXT, hello),))
    yield Case("6.2.4", fragments(KOSME, *range(1, len(KOSME))), ((TEXT, KOSME),))
    yield Case("6.3.1", (Out(TEXT, EDITED),), close=(1007,))
    yield Case("6.3.2", fragments(EDITED, *range(1, len(EDITED))), close=(1007,))
    for n, cuts in ((1, (11, 15)), (2, (12, 13))):
        first, second, third = fragments(BEYOND, *cuts)
        yield Case(f"6.4.{n}", (first, Pause(-1), second, Pause(-1), third), close=(1007,))
    for n, cuts in ((3, (11, 15)), (4, (12, 13))):
        yield Case(f"6.4.{n}", (Out(TEXT, BEYOND), *(Pause(cut) for cut in cuts)), close=(1007,))
    for group, payloads in UTF8_GROUPS.items():
        for n, payload in enumerate(payloads, 1):
            if is_text(payload):
                yield Case(f"6.{group}.{n}", (Out(TEXT, payload),), ((TEXT, payload),))
            else:
                yield Case(f"6.{group}.{n}", (Out(TEXT, payload),), close=(1007,))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


def _closing() -> Iterator[Case]:
    """7: the closing handshake."""
    hello, normal = b"Hello World!", Out(CLOSE, close_payload(1000))
    yield Case("7.1.1", (Out(TEXT, hello),), ((TEXT, hello),))
    yield Case("7.1.2", (normal, Out(CLOSE)), close=(1000,))
    yield Case("7.1.3", (normal, Out(PING)), close=(1000,))
    yield Case("7.1.4", (normal, Out(TEXT, hello)), close=(1000,))
    first, second = fragments(b"fragment1fragment2", 9)
    yield Case("7.1.5", (first, normal, second), close=(1000,))
    long = b"BAsd7&jh23" * (256 * KIB // 10)
    sent = (Out(TEXT, long), Out(TEXT, hello), normal, Out(PING))
    yield Case("7.1.6", sent, ((TEXT, long), (TEXT, hello)), (1000,), may_skip=True, message_bytes=len(long))
    yield Case("7.3.1", (Out(CLOSE),), close=(1005,))
    yield Case("7.3.2", (Out(CLOSE, b"a"),), close=(1002,))
    yield Case("7.3.3", (normal,), close=(1000,))
    yield Case("7.3.4", (Out(CLOSE, close_payload(1000, hello)),), close=(1000,))
    yield Case("7.3.5", (Out(CLOSE, close_payload(1000, b"*" * 123)),), close=(1000,))
    yield Case("7.3.6", (Out(CLOSE, close_payload(1000, b"*" * 124)),), close=(1002,))
    yield Case("7.5.1", (Out(CLOSE, close_payload(1000, EDITED)),), close=(1002, 1007))
    lawful = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for n, code in enumerate(lawful, 1):
        yield Case(f"7.7.{n}", (Out(CLOSE, close_payload(code)),), close=(1000, code))
    for n, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield Case(f"7.9.{n}", (Out(CLOSE, close_payload(code)),), close=(1002,))
    for n, code in enumerate((5000, 65_535), 1):
        yield Case(f"7.13.{n}", (Out(CLOSE, close_payload(code)),), close=(1000, 1002, code))


def _limits() -> Iterator[Case]:
    """9: long messages, many fragments, small pieces, and many messages."""
    for group, opcode, unit in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for n, size in enumerate((64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB), 1):
            payload = unit * size
            yield Case(f"9.{group}.{n}", (Out(opcode, payload),), ((opcode, payload),), message_bytes=size)
    for group, opcode, unit in ((3, TEXT, b"*"), (4, BINARY, b"\xfe")):
        whole = unit * (4 * MIB)
        steps = (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
        for n, step in enumerate(steps, 1):
            sent = fragments(whole, *range(step, len(whole), step), opcode=opcode)
            yield Case(f"9.{group}.{n}", sent, ((opcode, whole),), message_bytes=len(whole))
    for group, opcode, unit in ((5, TEXT, b"*"), (6, BINARY, b"\xfe")):
        payload = unit * MIB
        for n, chop in enumerate((64, 128, 256, 512, 1024, 2048), 1):
            sent = (Out(opcode, payload),)
            yield Case(f"9.{group}.{n}", sent, ((opcode, payload),), chop=chop, message_bytes=MIB)
    for group, opcode, unit in ((7, TEXT, b"*"), (8, BINARY, b"\xfe")):
        for n, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            message = unit * size
            sent = (Out(opcode, message),) * 1000
            yield Case(f"9.{group}.{n}", sent, ((opcode, message),) * 1000, message_bytes=size)


def _fragmenting() -> Iterator[Case]:
    """10: a message in fragments of 1300 bytes."""
    whole = b"*" * 65_536
    sent = fragments(whole, *range(1300, len(whole), 1300))
    yield Case("10.1.1", sent, ((TEXT, whole),))


CASES: tuple[Case, ...] = tuple(
    case
    for group in (
        _sizes, _pings, _reserved_bits, _opcodes, _fragmentation, _utf8, _closing, _limits, _fragmenting
    )
    for case in group()
)  # fmt: skip
