"""Unit: the incremental UTF-8 validator against bytes.decode."""

import itertools

import pytest

from fastagent._native.envelope import UTF8_ACCEPT, UTF8_REJECT, is_utf8, utf8_advance

# One byte below, at and above every limit of RFC 3629's table, and some between.
EDGES = bytes.fromhex(
    "00 20 41 7e 7f 80 81 8e 8f 90 91 9e 9f a0 a1 ae be bf c0 c1 c2 c3 d0 de df e0 e1 e8 ec ed ee ef"
    "f0 f1 f2 f3 f4 f5 f6 f8 fc fe ff"
)
TEXT = "Grüße, Καλημέρα, 你好 \U0001f4de\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff!".encode()


def decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def can_go_on(data: bytes) -> bool:
    """Whether the bytes are valid but for a character that more bytes may end."""
    tails = (
        b"",
        *(bytes(tail) for size in (1, 2, 3) for tail in itertools.product(b"\x80\x90\xa0\xbf", repeat=size)),
    )
    return any(decodes(data + tail) for tail in tails)


def state_of(data: bytes) -> str:
    state = utf8_advance(UTF8_ACCEPT, data)
    return {UTF8_ACCEPT: "accepted", UTF8_REJECT: "rejected"}.get(state, "inside")


def expected_state(data: bytes) -> str:
    return "accepted" if decodes(data) else "inside" if can_go_on(data) else "rejected"


@pytest.mark.parametrize("size", [0, 1, 2])
def test_every_sequence_of_up_to_two_bytes_is_judged_like_the_decoder(size: int) -> None:
    for sequence in itertools.product(range(256), repeat=size):
        data = bytes(sequence)
        assert state_of(data) == expected_state(data), data.hex()


@pytest.mark.parametrize("first", range(0x80, 0x100))
def test_three_bytes_are_judged_like_the_decoder(first: int) -> None:
    for second in range(256):
        for third in EDGES:
            data = bytes((first, second, third))
            assert is_utf8(data) == decodes(data), data.hex()


@pytest.mark.parametrize("first", range(0xE0, 0x100))
def test_four_bytes_are_judged_like_the_decoder(first: int) -> None:
    for rest in itertools.product(EDGES, repeat=3):
        data = bytes((first, *rest))
        assert is_utf8(data) == decodes(data), data.hex()


def test_every_character_is_accepted_and_every_surrogate_rejected() -> None:
    assert is_utf8("".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF).encode())
    for code in range(0xD800, 0xE000):
        assert state_of(chr(code).encode("utf-8", "surrogatepass")) == "rejected"


@pytest.mark.parametrize("position", range(len(TEXT) + 1))
def test_a_split_anywhere_changes_nothing(position: int) -> None:
    state = utf8_advance(UTF8_ACCEPT, TEXT[:position])
    assert state != UTF8_REJECT
    assert (state == UTF8_ACCEPT) == decodes(TEXT[:position])
    assert utf8_advance(state, TEXT[position:]) == UTF8_ACCEPT


def test_byte_by_byte_gives_the_states_of_the_whole() -> None:
    for data in (TEXT, TEXT[:-1] + b"\xf5", b"\xf0\x8f", b"\xed\xa0", b"A\xc3(", TEXT + b"\xf4\x8f\xbf"):
        state = UTF8_ACCEPT
        for i, byte in enumerate(data):
            state = utf8_advance(state, bytes([byte]))
            assert state == utf8_advance(UTF8_ACCEPT, data[: i + 1])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 79, 127, 128, 129, 200])
def test_one_bad_byte_is_found_anywhere_in_a_long_ascii_run(size: int) -> None:
    assert is_utf8(b"a" * size)
    for position in range(size):
        run = bytearray(b"a" * size)
        run[position] = 0xFF
        assert utf8_advance(UTF8_ACCEPT, run) == UTF8_REJECT
        run[position : position + 1] = "é".encode()
        assert utf8_advance(UTF8_ACCEPT, run) == UTF8_ACCEPT


def test_rejected_stays_rejected() -> None:
    assert utf8_advance(UTF8_REJECT, b"") == UTF8_REJECT
    assert utf8_advance(UTF8_REJECT, b"plain") == UTF8_REJECT


@pytest.mark.parametrize("state", [9, 10, 255, 2**32 - 1])
def test_unknown_states_are_rejected(state: int) -> None:
    assert utf8_advance(state, b"") == UTF8_REJECT
    assert utf8_advance(state, b"a") == UTF8_REJECT


def test_nothing_leaves_the_state_as_it_is() -> None:
    inside = utf8_advance(UTF8_ACCEPT, b"\xe2\x82")
    assert utf8_advance(inside, b"") == inside
    assert not is_utf8(b"\xe2\x82")
    assert is_utf8(b"")
