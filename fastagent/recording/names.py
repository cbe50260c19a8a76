"""File names made of conversation ids, which come from outside and may say anything."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PART_SUFFIX", "WAV_SUFFIX", "safe_stem", "stems"]

WAV_SUFFIX = ".wav"
PART_SUFFIX = ".wav.part"
"""What a file is called until it is complete."""

STEM_CHARACTERS_MAX = 80
"""File systems allow 255 bytes; this leaves room for suffixes and numbers."""
DIGEST_CHARACTERS = 16
"""64 bits of SHA-256: ids that were changed do not meet in one name."""
NAME_TRIES_MAX = 10_000
"""Recordings of one conversation in one directory."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def safe_stem(conversation_id: str) -> str:
    """A file name without suffix for an id: the id itself where it is harmless, else what is harmless of it
    and a digest.

    Letters, digits, ``_`` and ``-`` are harmless; neither the first nor the last place takes a ``-``.
    """
    kept = _UNSAFE.sub("_", conversation_id).strip("-")
    if kept == conversation_id and 0 < len(kept) <= STEM_CHARACTERS_MAX:
        return kept
    digest = hashlib.sha256(conversation_id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
    room = STEM_CHARACTERS_MAX - DIGEST_CHARACTERS - 1
    # The dot keeps these apart from ids that are used as they are.
    return f"{kept[:room] or 'call'}.{digest}"


def stems(directory: Path, stem: str) -> Iterator[Path]:
    """Paths to try in turn, without suffix: ``stem``, ``stem.2``, ``stem.3`` and so on."""
    yield directory / stem
    for number in range(2, NAME_TRIES_MAX + 1):
        yield directory / f"{stem}.{number}"
