"""Base64 against the standard library, and every way in which a text can be wrong."""

import random
from types import ModuleType

import pytest

from tests.reference import base64_reference, kernel_variants

ALPHABET = base64_reference.ALPHABET


@pytest.fixture(params=kernel_variants.names("base64"))
def base64(request: pytest.FixtureRequest) -> ModuleType:
    return kernel_variants.load("base64", request.param)


def fault(base64: ModuleType, text: bytes) -> str:
    """What decode and validate both say is wrong; "" when nothing is."""
    said = []
    for call in (base64.decode, base64.validate):
        try:
            call(text)
        except ValueError as error:
            said.append(str(error).split(":")[0].removeprefix("base64 "))
        else:
            said.append("")
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", b""),
        (b"f", b"Zg=="),
        (b"fo", b"Zm8="),
        (b"foo", b"Zm9v"),
        (b"foob", b"Zm9vYg=="),
        (b"fooba", b"Zm9vYmE="),
        (b"foobar", b"Zm9vYmFy"),
        (b"\xff\xff\xff", b"////"),
        (b"\xfb\xef\xbe", b"++++"),
    ],
)
def test_vectors_of_rfc_4648(base64: ModuleType, data: bytes, text: bytes) -> None:
    assert base64.encode(data) == text
    assert base64.decode(text) == data
    assert base64.validate(text) == len(data)


def test_every_length_up_to_500(base64: ModuleType) -> None:
    data = random.Random(64).randbytes(500)
    for n in range(501):
        text = base64.encode(data[:n])
        assert text == base64_reference.encode(data[:n])
        assert base64.decode(text) == data[:n]
        assert base64.validate(text) == n


def test_every_group_of_three_symbols_worth_of_bits(base64: ModuleType) -> None:
    data = b"".join(n.to_bytes(3, "big") for n in range(0, 1 << 24, 61))
    text = base64.encode(data)
    assert text == base64_reference.encode(data)
    assert base64.decode(text) == data


@pytest.mark.parametrize("size", [131_069, 131_070, 131_071, 131_072, 400_001])
def test_blocks_that_release_the_gil(base64: ModuleType, size: int) -> None:
    data = random.Random(size).randbytes(size)
    text = base64.encode(data)
    assert text == base64_reference.encode(data)
    assert base64.decode(text) == data
    assert base64.validate(text) == size
    broken = text[:70_000] + b"\n" + text[70_001:]
    assert fault(base64, broken) == "symbol"


def test_every_alignment(base64: ModuleType) -> None:
    data = random.Random(5).randbytes(200)
    text = base64_reference.encode(data)
    for start in range(33):
        assert base64.encode(memoryview(bytes(start) + data)[start:]) == text
        assert base64.decode(memoryview(bytearray(start) + text)[start:]) == data
        assert base64.validate(memoryview(bytes(start) + text)[start:]) == 200


@pytest.mark.parametrize("size", [4, 8, 36, 68, 100])
def test_every_byte_in_every_place_gets_the_reference_verdict(base64: ModuleType, size: int) -> None:
    text = bytearray(base64_reference.encode(random.Random(size).randbytes(size // 4 * 3)))
    for place in range(size):
        kept = text[place]
        for byte in range(256):
            text[place] = byte
            expected = base64_reference.decode(bytes(text))
            if isinstance(expected, bytes):
                assert base64.decode(text) == expected
            else:
                assert fault(base64, bytes(text)) == expected
        text[place] = kept


@pytest.mark.parametrize("body", ["", "QUJD" * 8, "QUJD" * 33])
def test_bits_below_the_last_byte_must_be_zero(base64: ModuleType, body: str) -> None:
    for value, symbol in enumerate(ALPHABET.decode()):
        one, two = f"{body}A{symbol}==", f"{body}AA{symbol}="
        assert fault(base64, one.encode()) == ("" if value % 16 == 0 else "padding")
        assert fault(base64, two.encode()) == ("" if value % 4 == 0 else "padding")


@pytest.mark.parametrize("body", [b"", b"QUJD" * 8, b"QUJD" * 33])
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (b"A", "length"),
        (b"AA", "length"),
        (b"AAA", "length"),
        (b"=", "length"),
        (b"AA==\n", "length"),
        (b"====", "padding"),
        (b"A===", "padding"),
        (b"=AAA", "padding"),
        (b"A=AA", "padding"),
        (b"AA=A", "padding"),
        (b"A=A=", "padding"),
        (b"A==A", "padding"),
        (b"==AA", "padding"),
        (b"AA==AAAA", "padding"),
        (b"AAA=AAAA", "padding"),
        (b"AA\n=", "symbol"),
        (b"A\n==", "symbol"),
        (b"A\n=A", "symbol"),
        (b"AAA\n", "symbol"),
        (b"AA=\n", "padding"),
        (b"AA A", "symbol"),
        (b"-_AA", "symbol"),
        (b"AAA\0", "symbol"),
        (b"\xc3\xa9AA", "symbol"),
    ],
)
def test_texts_that_are_not_canonical_are_refused(
    base64: ModuleType, body: bytes, last: bytes, expected: str
) -> None:
    assert fault(base64, body + last) == expected


def test_the_first_of_two_faults_is_the_one_named(base64: ModuleType) -> None:
    for left, right, expected in ((b"=", b"!", "padding"), (b"!", b"=", "symbol")):
        for gap in (1, 5, 31, 40, 100):
            text = b"A" * 7 + left + b"A" * gap + right
            assert fault(base64, text + b"A" * (-len(text) % 4 + 4)) == expected


def test_text_may_be_str(base64: ModuleType) -> None:
    assert base64.decode("Zm9vYmE=") == b"fooba"
    assert base64.validate("Zm9vYmE=") == 5
    with pytest.raises(ValueError, match="symbol"):
        base64.decode("Zmé=é"[:3])
    with pytest.raises(UnicodeEncodeError):
        base64.decode("\ud800AAA")


def test_a_refusal_does_not_repeat_the_text(base64: ModuleType) -> None:
    for text in (b"c2VjcmV0!", b"c2VjcmV0!!!!", b"c2VjcmV0=AAA"):
        with pytest.raises(ValueError, match="base64") as caught:
            base64.decode(text)
        assert "c2Vj" not in str(caught.value)


def test_objects_that_are_no_buffer_are_refused(base64: ModuleType) -> None:
    for call in (base64.encode, base64.decode, base64.validate):
        for wrong in (7, None, [65]):
            with pytest.raises(TypeError):
                call(wrong)
        with pytest.raises(BufferError):
            call(memoryview(bytes(8))[::2])
    with pytest.raises(TypeError):
        base64.encode("text")
