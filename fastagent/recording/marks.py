"""Named stretches of a WAV file, as its ``cue`` and ``LIST adtl`` chunks hold them behind the samples.

Source: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0", cue-points chunk,
associated data list (``labl``, ``ltxt``). Readers that know neither skip them.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PAUSED", "Mark", "mark_chunks", "parse_marks"]

PAUSED = "paused"
"""The label of a stretch that was not recorded."""
MARKS_MAX = 10_000
"""A cue chunk that says more is not read."""

_CUE = struct.Struct("<II4sIII")
_REGION = struct.Struct("<II4sHHHH")


@dataclass(frozen=True, slots=True)
class Mark:
    """From sample ``start`` up to, not including, ``end``."""

    start: int
    end: int
    label: str


def mark_chunks(marks: Sequence[Mark]) -> bytes:
    """The chunks to stand behind the data chunk; empty without marks."""
    if not marks:
        return b""
    cue = struct.pack("<I", len(marks))
    adtl = b"adtl"
    for number, mark in enumerate(marks, 1):
        cue += _CUE.pack(number, mark.start, b"data", 0, 0, mark.start)
        label = mark.label.encode() + b"\0"
        adtl += _chunk(b"labl", struct.pack("<I", number) + label)
        adtl += _chunk(b"ltxt", _REGION.pack(number, mark.end - mark.start, b"rgn ", 0, 0, 0, 0))
    return _chunk(b"cue ", cue) + _chunk(b"LIST", adtl)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def parse_marks(chunks: bytes) -> list[Mark] | None:
    """The marks in what stands behind the data chunk; None when it is not a whole chain of chunks that begins
    with ``cue``.
    """
    found = _chain(chunks)
    if not found or found[0][0] != b"cue ":
        return None
    cue = found[0][1]
    if len(cue) < 4:
        return None
    (count,) = struct.unpack_from("<I", cue)
    if count > MARKS_MAX or len(cue) < 4 + count * _CUE.size:
        return None
    starts = {}
    for i in range(count):
        number, _, _, _, _, start = _CUE.unpack_from(cue, 4 + i * _CUE.size)
        starts[number] = start
    lengths: dict[int, int] = {}
    labels: dict[int, str] = {}
    for name, content in found[1:]:
        if name != b"LIST" or content[:4] != b"adtl":
            continue
        for kind, entry in _chain(content[4:]) or []:
            if kind == b"labl" and len(entry) >= 4:
                labels[struct.unpack_from("<I", entry)[0]] = entry[4:].rstrip(b"\0").decode(errors="replace")
            elif kind == b"ltxt" and len(entry) >= 8:
                number, length = struct.unpack_from("<II", entry)
                lengths[number] = length
    return [Mark(start, start + lengths.get(n, 0), labels.get(n, "")) for n, start in starts.items()]


def _chain(text: bytes) -> list[tuple[bytes, bytes]] | None:
    chunks = []
    at = 0
    while at < len(text):
        if at + 8 > len(text):
            return None
        name, size = struct.unpack_from("<4sI", text, at)
        at += 8
        if at + size > len(text):
            return None
        chunks.append((name, text[at : at + size]))
        at += size + size % 2
    return chunks
