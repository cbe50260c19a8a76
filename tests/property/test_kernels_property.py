"""Kernels for any input: equal to their oracles, whole = chunked = split, and back again."""

import random
import struct
from itertools import pairwise
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import base64_reference, g711_reference, kernel_variants, resample_reference
from tests.reference.g711_reference import Law

G711 = [kernel_variants.load("g711", name) for name in kernel_variants.names("g711")]
BASE64 = [kernel_variants.load("base64", name) for name in kernel_variants.names("base64")]
RESAMPLE = [kernel_variants.load("resample", name) for name in kernel_variants.names("resample")]


def variant_name(module: object) -> str | None:
    return str(module.variant()) if isinstance(module, ModuleType) else None


laws = st.sampled_from(("ulaw", "alaw"))
pairs = st.sampled_from(resample_reference.PAIRS)


@st.composite
def pcm(draw: st.DrawFn, longest: int = 400) -> bytes:
    """Samples that are arbitrary, or all at the rails, or a run of one value."""
    n = draw(st.integers(0, longest))
    kind = draw(st.sampled_from(("any", "rails", "constant")))
    if kind == "any":
        return random.Random(draw(st.integers(0, 1 << 32))).randbytes(2 * n)
    values = [-32768, 32767] if kind == "rails" else [draw(st.integers(-32768, 32767))]
    return struct.pack(f"<{n}h", *random.Random(n).choices(values, k=n))


@st.composite
def cuts(draw: st.DrawFn, count: int) -> list[int]:
    """Where to cut `count` items: rising, empty pieces allowed."""
    inner = draw(st.lists(st.integers(0, count), max_size=12))
    return [0, *sorted(inner), count]


@pytest.mark.parametrize("g711", G711, ids=variant_name)
@given(law=laws, samples=pcm())
@settings(deadline=None)
def test_g711_equals_its_oracle(g711: ModuleType, law: Law, samples: bytes) -> None:
    codes = getattr(g711, f"{law}_encode")(samples)
    assert codes == g711_reference.encode(law, samples)
    assert getattr(g711, f"{law}_decode")(samples) == g711_reference.decode(law, samples)
    out = bytearray(len(samples))
    assert getattr(g711, f"{law}_encode_into")(samples, out) == len(codes)
    assert out[: len(codes)] == codes
    assert not any(out[len(codes) :])


@pytest.mark.parametrize("g711", G711, ids=variant_name)
@given(law=laws, samples=pcm(), data=st.data())
@settings(deadline=None)
def test_g711_may_be_cut_anywhere(g711: ModuleType, law: Law, samples: bytes, data: st.DataObject) -> None:
    places = data.draw(cuts(len(samples) // 2))
    encode, decode = getattr(g711, f"{law}_encode"), getattr(g711, f"{law}_decode")
    pieces = [encode(samples[2 * a : 2 * b]) for a, b in pairwise(places)]
    assert b"".join(pieces) == encode(samples)
    assert b"".join(map(decode, pieces)) == decode(encode(samples))


@pytest.mark.parametrize("g711", G711, ids=variant_name)
@given(law=laws, samples=pcm())
@settings(deadline=None)
def test_g711_settles_after_one_round_trip(g711: ModuleType, law: Law, samples: bytes) -> None:
    encode, decode = getattr(g711, f"{law}_encode"), getattr(g711, f"{law}_decode")
    once = decode(encode(samples))
    assert decode(encode(once)) == once


@pytest.mark.parametrize("base64", BASE64, ids=variant_name)
@given(data=st.binary(max_size=600))
@settings(deadline=None)
def test_base64_round_trip_equals_the_standard_library(base64: ModuleType, data: bytes) -> None:
    text = base64.encode(data)
    assert text == base64_reference.encode(data)
    assert base64.decode(text) == data
    assert base64.decode(text.decode()) == data
    assert base64.validate(text) == len(data)


@pytest.mark.parametrize("base64", BASE64, ids=variant_name)
@given(
    text=st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from(base64_reference.ALPHABET + b"== \n-"), max_size=200).map(bytes),
    ),
    pad=st.booleans(),
)
@settings(deadline=None)
def test_base64_judges_any_text_as_its_oracle(base64: ModuleType, text: bytes, pad: bool) -> None:
    if pad:
        text += b"A" * (-len(text) % 4)
    expected = base64_reference.decode(text)
    if isinstance(expected, bytes):
        assert base64.decode(text) == expected
        assert base64.validate(text) == len(expected)
        return
    for call in (base64.decode, base64.validate):
        with pytest.raises(ValueError, match=f"^base64 {expected}:"):
            call(text)


@pytest.mark.parametrize("base64", BASE64, ids=variant_name)
@given(data=st.binary(max_size=600), drawn=st.data())
@settings(deadline=None)
def test_base64_may_be_cut_between_groups(base64: ModuleType, data: bytes, drawn: st.DataObject) -> None:
    places = [min(3 * place, len(data)) for place in drawn.draw(cuts(-(-len(data) // 3)))]
    pieces = [base64.encode(data[a:b]) for a, b in pairwise(places)]
    assert b"".join(pieces) == base64.encode(data)
    assert b"".join(map(base64.decode, pieces)) == data


@pytest.mark.parametrize("resample", RESAMPLE, ids=variant_name)
@given(rates=pairs, samples=pcm(longest=150))
@settings(deadline=None, max_examples=60)
def test_resampler_equals_its_oracle(resample: ModuleType, rates: tuple[int, int], samples: bytes) -> None:
    stream = resample.Resampler(*rates)
    out = stream.process(samples) + stream.flush()
    plain = [sample for (sample,) in struct.iter_unpack("<h", samples)]
    assert [sample for (sample,) in struct.iter_unpack("<h", out)] == resample_reference.flushed(
        plain, *rates
    )


@pytest.mark.parametrize("resample", RESAMPLE, ids=variant_name)
@given(rates=pairs, samples=pcm(longest=3000), data=st.data())
@settings(deadline=None)
def test_resampler_may_be_fed_in_any_pieces(
    resample: ModuleType, rates: tuple[int, int], samples: bytes, data: st.DataObject
) -> None:
    whole, pieces = resample.Resampler(*rates), resample.Resampler(*rates)
    expected = whole.process(samples) + whole.flush()
    places = data.draw(cuts(len(samples) // 2))
    out = b""
    for a, b in pairwise(places):
        out += pieces.process(samples[2 * a : 2 * b])
        assert len(out) // 2 == resample_reference.output_count(b, *rates)
    assert out + pieces.flush() == expected


@given(rates=pairs, samples=pcm(longest=3000))
@settings(deadline=None)
def test_variants_resample_to_the_same_bits(rates: tuple[int, int], samples: bytes) -> None:
    assert len({module.Resampler(*rates).process(samples) for module in RESAMPLE}) == 1
