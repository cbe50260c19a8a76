"""The slow oracle of the envelope scanner: the standard library's JSON decoder and a walk in document order.

Bytes that are not ASCII reach the decoder as the characters U+10FF80 to U+10FFFF, one each, and are turned
back afterwards, so text that is not UTF-8 passes through as the scanner lets it. A message that writes one of
these 128 characters as an escape is beyond the oracle.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

__all__ = [
    "CONTAINERS",
    "LONE_SURROGATE",
    "Array",
    "Envelope",
    "Number",
    "Object",
    "Verdict",
    "could_be_other",
    "judge",
    "parse",
]

Path = tuple[str, ...]
Code = Literal["media", "other", "malformed", "too deep", "duplicate", "no audio"]

DEPTH_MAX = 32
RAW_BYTE = 0x10FF00


class Object(list[tuple[bytes | None, Any]]):
    """An object's members in order, equal keys included; a key without meaning (a lone surrogate) is None."""


class Array(list[Any]):
    """An array; tells itself apart from an object's members."""


CONTAINERS = (Object, Array)


class Number(str):
    """A number as it is written."""


@dataclass(frozen=True)
class Envelope:
    """What the scanner is told to look for."""

    discriminator: Path
    values: tuple[str, ...]
    audio: Path
    fields: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the scanner must say; the last three are for media only.

    A string without a meaning is None in ``audio``; a field may be bytes, Number, bool, None, Object, Array
    or LONE_SURROGATE.
    """

    code: Code
    value: str = ""
    audio: bytes | None = None
    fields: tuple[Any, ...] = ()


LONE_SURROGATE = object()
"""A string that is grammatical but has no meaning."""


class _Stop(Exception):
    """The walk ends here with this code."""

    def __init__(self, code: Code) -> None:
        self.code: Code = code


def as_text(raw: bytes) -> str:
    return "".join(chr(byte) if byte < 0x80 else chr(RAW_BYTE + byte) for byte in raw)


def as_bytes(text: str) -> bytes | None:
    out = bytearray()
    for character in text:
        if RAW_BYTE + 0x80 <= ord(character) <= RAW_BYTE + 0xFF:
            out.append(ord(character) - RAW_BYTE)
        elif 0xD800 <= ord(character) <= 0xDFFF:
            return None
        else:
            out += character.encode()
    return bytes(out)


def refuse_constant(word: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def plain(value: Any) -> Any:
    """A decoded value in the oracle's types."""
    if isinstance(value, Object | Array | Number) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, list):
        return Array(plain(item) for item in value)
    text = as_bytes(value)
    return LONE_SURROGATE if text is None else text


_DECODER = json.JSONDecoder(
    object_pairs_hook=lambda pairs: Object((as_bytes(key), plain(value)) for key, value in pairs),
    parse_int=Number,
    parse_float=Number,
    parse_constant=refuse_constant,
)


def parse(message: bytes) -> Any:
    """Decode one JSON text of any kind.

    Raises:
        ValueError: it is not one.
    """
    try:
        return plain(_DECODER.decode(as_text(message)))
    except RecursionError as error:
        raise ValueError("deeper than the interpreter's stack") from error


class _Walk:
    """Meets every value in document order and keeps the wanted ones."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.paths = {
            "discriminator": envelope.discriminator,
            "audio": envelope.audio,
            **{str(i): path for i, path in enumerate(envelope.fields)},
        }
        self.found: dict[str, Any] = {}
        self.duplicated: set[str] = set()

    def enter(self, value: Any, depth: int, trail: dict[str, int]) -> None:
        """Meet the values inside ``value``; ``trail`` tells how many keys of which path led to it."""
        if depth > DEPTH_MAX:
            raise _Stop("too deep")
        if isinstance(value, Array):
            for item in value:
                self.meet(item, depth, {})
            return
        met: set[bytes] = set()
        for key, item in value:
            through = {
                name: used + 1
                for name, used in trail.items()
                if used < len(self.paths[name]) and self.paths[name][used].encode() == key
            }
            if key in met:
                self.duplicated.update(through)
                through = {}
            elif key is not None:
                met.add(key)
            self.meet(item, depth, through)

    def meet(self, value: Any, depth: int, through: dict[str, int]) -> None:
        for name, used in through.items():
            if used == len(self.paths[name]):
                self.found[name] = value
        if through.get("discriminator") == len(self.envelope.discriminator):
            wanted = [accepted.encode() for accepted in self.envelope.values]
            if value not in wanted:
                raise _Stop("other")
        if isinstance(value, CONTAINERS):
            self.enter(value, depth + 1, through)


def judge(message: bytes, envelope: Envelope) -> Verdict:
    """What the scanner must say of a message.

    For text that is not JSON it may also say "other" where :func:`could_be_other` agrees, and "too deep".
    """
    try:
        top = parse(message)
    except ValueError:
        return Verdict("malformed")
    if not isinstance(top, Object):
        return Verdict("malformed")
    walk = _Walk(envelope)
    try:
        walk.enter(top, 1, dict.fromkeys(walk.paths, 0))
    except _Stop as stop:
        return Verdict(stop.code)
    if "discriminator" in walk.duplicated:
        return Verdict("duplicate")
    if "discriminator" not in walk.found:
        return Verdict("other")
    if walk.duplicated:
        return Verdict("duplicate")
    audio = walk.found.get("audio")
    if not isinstance(audio, bytes) and audio is not LONE_SURROGATE:
        return Verdict("no audio")
    return Verdict(
        "media",
        walk.found["discriminator"].decode(),
        audio if isinstance(audio, bytes) else None,
        tuple(walk.found.get(str(i)) for i in range(len(envelope.fields))),
    )


def could_be_other(message: bytes, envelope: Envelope) -> bool:
    """Whether a beginning of a broken message, closed at once, shows a discriminator with another value."""
    for beginning in _closed_beginnings(message):
        try:
            top = parse(beginning)
        except ValueError:
            continue
        walk = _Walk(envelope)
        try:
            walk.enter(top, 1, dict.fromkeys(walk.paths, 0))
        except _Stop as stop:
            if stop.code == "other":
                return True
    return False


def _closed_beginnings(message: bytes) -> Iterator[bytes]:
    closers = b""
    in_string = escaped = False
    for i, byte in enumerate(message):
        character = bytes([byte])
        if escaped:
            escaped = False
        elif in_string:
            escaped = character == b"\\"
            in_string = character != b'"'
        elif character == b'"':
            in_string = True
        elif character in b"{[":
            closers = (b"}" if character == b"{" else b"]") + closers
        elif character in b"}]":
            closers = closers[1:]
        if not in_string and closers:
            yield message[: i + 1] + closers
