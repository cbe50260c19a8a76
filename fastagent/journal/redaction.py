"""Redaction: what must not be written is replaced by a keyed digest before it is.

A plain hash of a PIN or of a card number is guessed in no time, so the digest is an HMAC: without the key
nothing can be told of the value, with it two equal values can be seen to be equal.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from typing import Any

from fastagent.journal.entry import canonical_json

__all__ = ["CONTENT_NAMES", "KEY_BYTES", "Redaction", "redaction_key_ids"]

KEY_BYTES = 32
DIGEST_NAME = "redacted"
CONTENT_NAMES = frozenset({"arguments", "result", "say", "slots", "text", "value", "values"})
"""Members that hold words or values in an object marked ``"is_redacted": true``."""


class Redaction:
    """Replaces marked values.

    Replaced is, at any depth,

    * a member whose name is one of ``names``: ``{"slots": {"card": …}}``;
    * ``value`` and ``text`` beside a ``name`` or ``slot`` that is one of ``names``:
      ``{"name": "card", "value": …}``;
    * each of `CONTENT_NAMES` in an object with ``"is_redacted": true``.

    Args:
        key: secret bytes, `KEY_BYTES` or more; the same key gives the same digests.
        names: names of slots and arguments.

    Raises:
        ValueError: the key is too short.
    """

    def __init__(self, key: bytes, names: Collection[str] = ()) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a redaction key needs {KEY_BYTES} bytes, got {len(key)}")
        self._key = bytes(key)
        self.names = frozenset(names)
        self.key_id = hashlib.sha256(b"fastagent redaction key" + self._key).hexdigest()[:8]
        """Tells keys apart; nothing of the key can be learnt from it."""

    def __repr__(self) -> str:
        return f"<Redaction names={len(self.names)}>"

    def add(self, names: Collection[str]) -> None:
        """Mark more names from now on."""
        self.names = self.names | frozenset(names)

    def digest(self, value: object) -> dict[str, str]:
        """What stands in the place of a value.

        Raises:
            TypeError: JSON cannot hold it.
        """
        code = hmac.digest(self._key, canonical_json(value), "sha256").hex()
        return {DIGEST_NAME: f"{self.key_id}:{code}"}

    def redacted(self, data: Mapping[str, object], names: Collection[str] = ()) -> Mapping[str, object]:
        """Give a copy of ``data`` with marked values replaced; ``names`` are marked besides."""
        marked = self.names | frozenset(names) if names else self.names
        return self._object(data, marked)

    def _object(self, data: Mapping[str, object], marked: frozenset[str]) -> dict[str, object]:
        is_marked = data.get("is_redacted") is True
        about = data.get("name"), data.get("slot")
        is_about_marked = bool(marked) and any(isinstance(name, str) and name in marked for name in about)
        result: dict[str, object] = {}
        for name, value in data.items():
            if (
                name in marked
                or (is_marked and name in CONTENT_NAMES)
                or (is_about_marked and name in ("value", "text"))
            ):
                result[name] = self.digest(value)
            else:
                result[name] = self._any(value, marked)
        return result

    def _any(self, value: object, marked: frozenset[str]) -> object:
        if isinstance(value, Mapping):
            return self._object(value, marked)
        if isinstance(value, list | tuple):
            return [self._any(item, marked) for item in value]
        return value


def _is_digest(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {DIGEST_NAME}


def redaction_key_ids(value: Any) -> set[str]:
    """The keys whose digests stand in a JSON value, by their ids; empty when nothing was redacted."""
    if isinstance(value, Mapping):
        if _is_digest(value) and isinstance(value[DIGEST_NAME], str):
            return {value[DIGEST_NAME].partition(":")[0]}
        value = list(value.values())
    if isinstance(value, list | tuple):
        return set().union(*(redaction_key_ids(item) for item in value))
    return set()
