"""Redaction: what a log line may hold, decided where it leaves the process.

Code keeps secrets and callers' words out of its messages in the first place. This is the second lock:
whatever comes to a log, secrets that the settings know, bearer tokens and keys, runs of digits as telephone
numbers and cards have them, and everything under keys that name such things are taken out. Errors of
others' code lose their text, which may quote the caller, and keep their type and place.
"""

import hashlib
import re
import secrets as random_source
import traceback
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

from fastagent.errors import FastAgentError, RealtimeError, ToolError

__all__ = ["REDACTED", "Redactor"]

REDACTED = "[redacted]"
DIGITS = "[digits]"
SECRET_CHARACTERS_MIN = 6
"""A shorter secret cannot be told from ordinary text."""
TEXT_CHARACTERS_MAX = 2000
ENTRIES_MAX = 100
DEPTH_MAX = 6
FRAMES_MAX = 12
NUMBER_MAX = 999_999
"""A larger whole number may be a telephone number, unless its key names a unit."""

DENIED_KEYS = frozenset(
    {
        "api_key", "args", "arguments", "authorization", "body", "callee", "caller", "card",
        "cookie", "digits", "dtmf", "from", "headers", "iban", "input", "instructions", "key",
        "message_body", "number", "output", "password", "payload", "phone", "pin", "prompt", "said",
        "secret", "slots", "speech", "text", "to", "token", "transcript", "utterance", "value",
        "words",
    }
)  # fmt: skip
_DENIED_PARTS = ("api_key", "authorization", "password", "phone", "secret", "transcript")
_UNITS = ("_s", "_ms", "_us", "_ns", "_bytes", "_total", "_count")
_COUNTS = frozenset({"counters", "tokens"})
"""Keys of our own whose values are plain counts by name."""

_BEARER = re.compile(r"(?i)\b(bearer|basic|token|api[-_]?key)([\s:=]+)[^\s,;\"']{4,}")
_KEY = re.compile(r"\b(?:sk|rk|pk|ek)[-_][A-Za-z0-9_\-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*")
_KEPT = (
    r"(?<![\w-])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![\w-])"  # UUID
    r"|(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"  # IPv4
    r"(?::\d{1,5})?(?![\d.])"
    r"|(?<!\d)20\d\d-[01]\d-[0-3]\d(?!\d)"  # a date
)
_DIGITS = re.compile(rf"({_KEPT})|\+?\d(?:[\s().\-/]{{0,2}}\d){{5,}}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class Redactor:
    """Takes out of values what nobody may read.

    Args:
        secrets: what must not show, wherever it stands.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({one for one in secrets if len(one) >= SECRET_CHARACTERS_MIN}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None
        self._salt = random_source.token_bytes(16)

    def text(self, text: str) -> str:
        """A text without what nobody may read, on one line, cut to a length."""
        # Half a surrogate pair is no text that could be written.
        text = text[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode()
        if self._secrets is not None:
            text = self._secrets.sub(REDACTED, text)
        text = _BEARER.sub(rf"\1\2{REDACTED}", text)
        text = _KEY.sub(REDACTED, text)
        return _DIGITS.sub(lambda found: found.group(1) or DIGITS, text)

    def call_id(self, call_id: object) -> str:
        """A call's name: as it is if nothing in it need be hidden, else with a tag that tells calls apart."""
        text = str(call_id)
        if _UUID.fullmatch(text):
            return text
        clean = self.text(text)
        if clean == text:
            return clean
        tag = hashlib.blake2s(text.encode("utf-8", "replace"), key=self._salt, digest_size=3).hexdigest()
        return f"{clean}~{tag}"

    def entry(self, key: str, value: object, depth: int = 0) -> Any:
        """A value as it may stand under ``key``."""
        name = key.lower()
        if name in DENIED_KEYS or any(part in name for part in _DENIED_PARTS):
            return REDACTED
        if name in _COUNTS and isinstance(value, Mapping):
            return {
                self.text(str(inner)): count
                for inner, count in islice(value.items(), ENTRIES_MAX)
                if isinstance(count, int | float)
            }
        return self._value(value, depth, is_measure=name.endswith(_UNITS))

    def _value(self, value: object, depth: int, *, is_measure: bool = False) -> Any:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if is_measure or abs(value) <= NUMBER_MAX else DIGITS
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, BaseException):
            return self.error(value)
        if depth >= DEPTH_MAX:
            return f"<{type(value).__name__}>"
        if isinstance(value, Mapping):
            entries = islice(value.items(), ENTRIES_MAX)
            return {self.text(str(key)): self.entry(str(key), inner, depth + 1) for key, inner in entries}
        if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
            return [self._value(inner, depth + 1) for inner in islice(value, ENTRIES_MAX)]
        # Bytes may be speech, and what an object shows of itself is anybody's guess.
        return f"<{type(value).__name__}>"

    def error(self, error: BaseException) -> str:
        """An error's type, with its text where that is ours: the package's errors carry no words of
        callers."""
        name = type(error).__name__
        if isinstance(error, FastAgentError) and not isinstance(error, ToolError | RealtimeError):
            return f"{name}: {self.text(str(error))}"
        return name

    def exception(
        self, error: BaseException | None, trace: TracebackType | None = None
    ) -> dict[str, Any] | None:
        """What is told of an exception: its kind, where it came through, and what it came from."""
        if error is None:
            return None
        frames = traceback.extract_tb(trace or error.__traceback__)[-FRAMES_MAX:]
        told: dict[str, Any] = {
            "error": self.error(error),
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            told["cause"] = self.error(cause)
        return told
