"""Property: the envelope scanner agrees with its slow oracle on rendered and on spoiled JSON."""

import json
from random import Random
from typing import Any

from hypothesis import event, example, given
from hypothesis import strategies as st

from fastagent._native import envelope as native
from fastagent._native.envelope import ScanError, Scanner, is_utf8, utf8_advance
from tests.reference.envelope_reference import (
    CONTAINERS,
    LONE_SURROGATE,
    Envelope,
    Number,
    could_be_other,
    judge,
    parse,
)

ENVELOPES = [
    Envelope(("type",), ("chunk",), ("audio",), (("id",), ("index",), ("media",))),
    Envelope(("event",), ("media", "m\u00e9dia"), ("media", "payload"), (("id",), ("media", "index"))),
    Envelope(("media", "type"), ("chunk",), ("media", "payload", "audio"), (("media", "payload", "id"),)),
]
KEYS = ["type", "event", "media", "payload", "audio", "id", "index"]
VALUES = ["chunk", "media", "m\u00e9dia"]
CODES = {
    native.MALFORMED: "malformed",
    native.TOO_DEEP: "too deep",
    native.DUPLICATE: "duplicate",
    native.NO_AUDIO: "no audio",
}

# The oracle keeps U+10FF80 to U+10FFFF for itself; lone surrogates are written as escapes.
CHARACTERS = st.characters(max_codepoint=0x10FF7F, exclude_categories=())
TEXT = st.one_of(st.sampled_from(VALUES), st.text(CHARACTERS, max_size=12), st.text("AZaz09+/=", max_size=80))
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0", "0.0", "1E5", "1e-5", "-2.50e+10"]),
).map(Number)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)


class Members(list[tuple[str, Any]]):
    """An object to be written: keys may repeat and their order is kept."""


def members(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Members]:
    keys = st.one_of(st.sampled_from(KEYS), st.text(CHARACTERS, max_size=6))
    return st.lists(st.tuples(keys, values), max_size=6).map(Members)


JSON = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), members(inner)), max_leaves=12
)


def render(value: Any, random: Random) -> bytes:
    """JSON text of a value, with white space and escapes where the grammar allows them."""

    def space() -> str:
        return "".join(random.choices(" \t\r\n", k=random.choice((0, 0, 0, 1, 3))))

    def string(text: str) -> str:
        out = []
        often = random.choice((0.0, 0.0, 0.05, 1.0))
        for character in text:
            if character == "/" and random.random() < 0.2:
                out.append("\\/")
            elif 0xD800 <= ord(character) <= 0xDFFF or random.random() < often:
                units = character.encode("utf-16-be", "surrogatepass").hex()
                written = [units[i : i + 4] for i in range(0, len(units), 4)]
                out += ["\\u" + (unit.upper() if random.random() < 0.5 else unit) for unit in written]
            else:
                out.append(json.dumps(character, ensure_ascii=False)[1:-1])
        return f'"{"".join(out)}"'

    def text(value: Any) -> str:
        match value:
            case Number():
                return value
            case str():
                return string(value)
            case Members():
                inside = [
                    f"{space()}{string(key)}{space()}:{space()}{text(item)}{space()}" for key, item in value
                ]
                return f"{{{','.join(inside) or space()}}}"
            case list():
                return f"[{','.join(f'{space()}{text(item)}{space()}' for item in value) or space()}]"
            case _:
                return json.dumps(value)

    return f"{space()}{text(value)}{space()}".encode()


def nested(path: tuple[str, ...], value: Any) -> tuple[str, Any]:
    return path[0], value if len(path) == 1 else Members([nested(path[1:], value)])


def merged(pairs: list[tuple[str, Any]]) -> Members:
    """The members with objects under equal keys made one, as a peer that means well writes them."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        if isinstance(out.get(key), Members) and isinstance(value, Members):
            value = merged([*out[key], *value])
        out[key] = value
    return Members(out.items())


@st.composite
def messages(draw: st.DrawFn) -> tuple[Envelope, bytes]:
    """An envelope and a message that mostly is its media, in any order and dress."""
    envelope = draw(st.sampled_from(ENVELOPES))
    pairs = list(draw(members(JSON)))
    if draw(st.integers(0, 9)) > 0:
        pairs.append(nested(envelope.discriminator, draw(st.sampled_from(envelope.values))))
        pairs.append(nested(envelope.audio, draw(TEXT)))
        pairs += [nested(path, draw(SCALARS)) for path in envelope.fields]
        pairs = list(merged(pairs))
    if draw(st.integers(0, 9)) == 0:
        pairs.append(draw(st.sampled_from(pairs)) if pairs else ("type", None))
    random = Random(draw(st.integers(0, 2**32)))
    random.shuffle(pairs)
    return envelope, render(Members(pairs), random)


def expected_field(value: Any) -> Any:
    """What the binding makes of the oracle's value; LONE_SURROGATE when it must refuse."""
    if isinstance(value, bytes):
        return value.decode() if is_utf8(value) else LONE_SURROGATE
    if isinstance(value, Number):
        return float(value) if set(value) & set(".eE") else int(value)
    return value


def check_agreement(envelope: Envelope, message: bytes) -> str:
    """Hold the scanner against the oracle; gives the oracle's code."""
    verdict = judge(message, envelope)
    scanner = Scanner(envelope.discriminator, envelope.values, envelope.audio, envelope.fields)
    refusal: int | None = None
    try:
        match = scanner.scan(message)
    except ScanError as error:
        refusal = error.code
    if refusal is not None:
        if verdict.code == "media":
            wanted = [expected_field(value) for value in verdict.fields]
            assert verdict.audio is None or LONE_SURROGATE in wanted
            assert refusal == native.MALFORMED
        elif verdict.code == "malformed":
            assert CODES[refusal] in ("malformed", "too deep")
        else:
            assert CODES[refusal] == verdict.code
        return verdict.code
    if match is None:
        assert verdict.code == "other" or (verdict.code == "malformed" and could_be_other(message, envelope))
        return verdict.code
    assert verdict.code == "media"
    assert (match.value, match.audio) == (verdict.value, verdict.audio)
    for got, value in zip(match.fields, verdict.fields, strict=True):
        if isinstance(value, CONTAINERS):
            assert isinstance(got, bytes)
            assert parse(got) == value
        else:
            assert (type(got), got) == (type(expected_field(value)), expected_field(value))
    return verdict.code


@given(messages())
def test_rendered_objects_are_judged_like_the_oracle(case: tuple[Envelope, bytes]) -> None:
    code = check_agreement(*case)
    assert code != "malformed"
    event(code)


@given(messages(), st.data())
def test_spoiled_messages_are_judged_like_the_oracle(
    case: tuple[Envelope, bytes], data: st.DataObject
) -> None:
    envelope, message = case
    spoiled = bytearray(message)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(spoiled)))
        piece = data.draw(
            st.one_of(
                st.sampled_from([b"", *(bytes([c]) for c in b'"\\{}[],:0.e-tu \x00')]), st.binary(max_size=3)
            )
        )
        removed = data.draw(st.sampled_from([0, 0, 1, 1, 2, 10]))
        spoiled[position : position + removed] = piece
    event(check_agreement(envelope, bytes(spoiled)))


@given(st.sampled_from(ENVELOPES), st.binary(max_size=64))
@example(ENVELOPES[0], b"\xef\xbb\xbf{}")
def test_any_bytes_are_judged_like_the_oracle(envelope: Envelope, message: bytes) -> None:
    check_agreement(envelope, message)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.text(max_size=20).map(str.encode),
            st.text("ab", max_size=99).map(str.encode),
        )
    )
)
def test_utf8_in_pieces_is_judged_like_the_decoder_on_the_whole(pieces: list[bytes]) -> None:
    state = native.UTF8_ACCEPT
    for piece in pieces:
        state = utf8_advance(state, piece)
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        assert state != native.UTF8_ACCEPT
    else:
        assert state == native.UTF8_ACCEPT
