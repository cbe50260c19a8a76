"""G.711 against the ITU's own tables: every sample, every code, every length and alignment."""

import array
import random
import struct
import sys
from types import ModuleType

import numpy as np
import pytest

from tests.reference import g711_reference, kernel_variants
from tests.reference.g711_reference import Law

EVERY_SAMPLE = struct.pack("<65536H", *range(65536))
EVERY_CODE = bytes(range(256))
LAWS: tuple[Law, ...] = ("ulaw", "alaw")


@pytest.fixture(params=kernel_variants.names("g711"))
def g711(request: pytest.FixtureRequest) -> ModuleType:
    return kernel_variants.load("g711", request.param)


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Law:
    chosen: Law = request.param
    return chosen


def samples(count: int, seed: int = 711) -> bytes:
    return random.Random(seed).randbytes(2 * count)


def encoded_by_table(law: Law, pcm: bytes) -> bytes:
    table = g711_reference.itu_table(law, "enc")
    return bytes(table[sample] for (sample,) in struct.iter_unpack("<H", pcm))


def decoded_by_table(law: Law, codes: bytes) -> bytes:
    table = g711_reference.itu_table(law, "dec")
    return b"".join(table[2 * code : 2 * code + 2] for code in codes)


def test_reference_equals_the_itu_tables(law: Law) -> None:
    assert g711_reference.encode(law, EVERY_SAMPLE) == g711_reference.itu_table(law, "enc")
    assert g711_reference.decode(law, EVERY_CODE) == g711_reference.itu_table(law, "dec")


def test_all_65536_samples_encode_as_the_itu_says(g711: ModuleType, law: Law) -> None:
    assert getattr(g711, f"{law}_encode")(EVERY_SAMPLE) == g711_reference.itu_table(law, "enc")


def test_all_256_codes_decode_as_the_itu_says(g711: ModuleType, law: Law) -> None:
    assert getattr(g711, f"{law}_decode")(EVERY_CODE) == g711_reference.itu_table(law, "dec")


def test_samples_encode_the_same_alone_as_in_a_block(g711: ModuleType, law: Law) -> None:
    encode = getattr(g711, f"{law}_encode")
    alone = b"".join(encode(EVERY_SAMPLE[i : i + 2]) for i in range(0, len(EVERY_SAMPLE), 2))
    assert alone == g711_reference.itu_table(law, "enc")


@pytest.mark.parametrize(
    ("law", "sample", "code"),
    [
        ("ulaw", 0, 0xFF),
        ("ulaw", -1, 0x7F),  # a negated instead of a complemented sample gives 0x7E
        ("ulaw", -4, 0x7F),
        ("ulaw", -5, 0x7E),
        ("ulaw", 32767, 0x80),
        ("ulaw", -32768, 0x00),
        ("alaw", 0, 0xD5),
        ("alaw", -1, 0x55),
        ("alaw", 32767, 0xAA),
        ("alaw", -32768, 0x2A),
    ],
)
def test_landmarks(g711: ModuleType, law: Law, sample: int, code: int) -> None:
    assert getattr(g711, f"{law}_encode")(struct.pack("<h", sample)) == bytes([code])


def test_codes_survive_a_round_trip(g711: ModuleType, law: Law) -> None:
    back = getattr(g711, f"{law}_encode")(getattr(g711, f"{law}_decode")(EVERY_CODE))
    # Mu-law has two codes for zero; the negative one comes back as the positive one.
    expected = EVERY_CODE.replace(b"\x7f", b"\xff") if law == "ulaw" else EVERY_CODE
    assert back == expected


def test_every_length_up_to_500(g711: ModuleType, law: Law) -> None:
    pcm, codes = samples(500), samples(250)
    whole_codes, whole_pcm = encoded_by_table(law, pcm), decoded_by_table(law, codes)
    for n in range(501):
        assert getattr(g711, f"{law}_encode")(pcm[: 2 * n]) == whole_codes[:n]
        assert getattr(g711, f"{law}_decode")(codes[:n]) == whole_pcm[: 2 * n]


def test_every_alignment_of_input_and_output(g711: ModuleType, law: Law) -> None:
    pcm, codes = samples(100), samples(50)
    whole_codes, whole_pcm = encoded_by_table(law, pcm), decoded_by_table(law, codes)
    for start in range(33):
        source = memoryview(bytes(start) + pcm)[start:]
        out = bytearray(b"\xa5" * 300)
        assert getattr(g711, f"{law}_encode_into")(source, memoryview(out)[start:]) == 100
        assert out == b"\xa5" * start + whole_codes + b"\xa5" * (200 - start)
        source = memoryview(bytes(start) + codes)[start:]
        out = bytearray(b"\xa5" * 300)
        assert getattr(g711, f"{law}_decode_into")(source, memoryview(out)[start:]) == 200
        assert out == b"\xa5" * start + whole_pcm + b"\xa5" * (100 - start)


@pytest.mark.parametrize("count", [65535, 65536, 200_003])
def test_blocks_that_release_the_gil(g711: ModuleType, law: Law, count: int) -> None:
    pcm = samples(count)
    codes = getattr(g711, f"{law}_encode")(pcm)
    assert codes == encoded_by_table(law, pcm)
    assert getattr(g711, f"{law}_decode")(codes) == decoded_by_table(law, codes)


def test_any_contiguous_buffer_is_read(g711: ModuleType, law: Law) -> None:
    pcm = samples(48)
    expected = encoded_by_table(law, pcm)
    encode = getattr(g711, f"{law}_encode")
    for source in (bytearray(pcm), memoryview(pcm), array.array("h", pcm), np.frombuffer(pcm, dtype="<i2")):
        assert encode(source) == expected


@pytest.mark.parametrize("form", ["{}_encode", "{}_encode_into"])
def test_half_a_sample_is_refused(g711: ModuleType, law: Law, form: str) -> None:
    call = getattr(g711, form.format(law))
    for source in (b"\0" * 321, bytearray(1)):
        arguments = (source, bytearray(400)) if form.endswith("into") else (source,)
        with pytest.raises(ValueError, match=f"got {len(source)} bytes"):
            call(*arguments)


def test_too_little_room_is_refused(g711: ModuleType, law: Law) -> None:
    out = bytearray(9)
    with pytest.raises(ValueError, match="room for 10 bytes expected, got 9"):
        getattr(g711, f"{law}_encode_into")(bytes(20), out)
    with pytest.raises(ValueError, match="room for 10 bytes expected, got 9"):
        getattr(g711, f"{law}_decode_into")(bytes(5), out)
    assert out == bytearray(9)


def test_overlapping_buffers_are_refused(g711: ModuleType, law: Law) -> None:
    both = memoryview(bytearray(40))
    for source, out in ((both[:20], both[19:]), (both[9:29], both[:12]), (both, both)):
        with pytest.raises(ValueError, match="overlaps"):
            getattr(g711, f"{law}_encode_into")(source, out)
    assert getattr(g711, f"{law}_encode_into")(both[:20], both[20:]) == 10


def test_objects_that_are_no_buffer_are_refused(g711: ModuleType, law: Law) -> None:
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            getattr(g711, f"{law}_encode")(wrong)
    with pytest.raises(BufferError):
        getattr(g711, f"{law}_decode_into")(b"\0", b"\0\0")
    with pytest.raises(BufferError):
        getattr(g711, f"{law}_decode")(memoryview(bytes(8))[::2])


def test_a_refused_buffer_is_let_go(g711: ModuleType, law: Law) -> None:
    source, out = bytearray(7), bytearray(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="expected"):
            getattr(g711, f"{law}_encode_into")(source, out)
    source.append(0)  # a bytearray that is still exported cannot be resized
    out.append(0)
    before = sys.getrefcount(source)
    with pytest.raises(ValueError, match="room"):
        getattr(g711, f"{law}_encode_into")(source, out)
    assert sys.getrefcount(source) == before
