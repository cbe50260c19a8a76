"""What the router can call beside tasks: a function, what it is told, and what it gives back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fastagent.context import Utterance

__all__ = [
    "DEFAULT_DEADLINE_S",
    "DEFAULT_MAX_OUTPUT_BYTES",
    "OfferedTool",
    "Recorder",
    "ToolCall",
    "ToolResult",
    "busy",
    "failed",
    "refused",
    "text_result",
    "unknown",
]

DEFAULT_DEADLINE_S = 10.0
"""For one function call. A caller has hung up before a longer silence ends."""
DEFAULT_MAX_OUTPUT_BYTES = 16 * 1024
"""About 4,000 tokens of the model's context."""

SAY_BUSY = "I am sorry, that is not possible just now. Shall I try again in a moment?"
SAY_FAILED = "I am sorry, that did not work."
SAY_UNKNOWN = "I am sorry, I cannot tell yet whether that went through."

Status = Literal["done", "failed", "error", "unknown"]


class Recorder(Protocol):
    """Takes audit records: names, sizes and durations, never what was said."""

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep one record; returns at once and does not raise."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a function may know of the call it works for; a copy, safe to read from any thread.

    A function asks for it by annotating a parameter with this class; the model does not see that parameter.
    """

    call_id: str
    """The telephone call's name in logs and records."""
    function_call_id: str
    """The model's id of this function call."""
    caller: str = field(default="", repr=False)
    """The caller's number or address, empty when it is withheld."""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    history: tuple[Utterance, ...] = field(default=(), repr=False)

    @property
    def idempotency_key(self) -> str:
        """The same for every delivery of this function call, another one for any other (64 hex digits)."""
        return hashlib.sha256(f"{self.call_id}\n{self.function_call_id}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """How a function call ended, and the report of it for the model."""

    status: Status
    """``error``: it was not begun; ``unknown``: nobody can say whether it was done."""
    report: dict[str, Any] = field(repr=False)
    cause: str = ""
    """Why it did not end well, in one word, for records."""


class OfferedTool(Protocol):
    """A function the model may call."""

    @property
    def name(self) -> str:
        """The name the model knows."""

    @property
    def qualified_name(self) -> str:
        """``server:tool`` of a remote one, else the name: what allow-lists may say instead of the name."""

    @property
    def tool(self) -> dict[str, Any]:
        """The function tool, flat, as the Realtime API takes it."""

    async def run(self, arguments_json: str, call: ToolCall) -> ToolResult:
        """Do it, within a deadline of its own. Raises nothing but the cancellation of the caller's task."""


def failed(cause: str, reason: str, *, answer: str | None = None) -> ToolResult:
    """It was begun and did not work; ``answer`` are words the caller may hear."""
    words = {"say": SAY_FAILED} if answer is None else {"answer": answer}
    return ToolResult("failed", {"status": "failed", **words, "reason": reason}, cause)


def refused(cause: str, reason: str) -> ToolResult:
    """It was not begun, and will not be as long as the model asks in the same way."""
    return ToolResult("error", {"status": "error", "say": SAY_FAILED, "reason": reason}, cause)


def busy(reason: str) -> ToolResult:
    """It was not begun, because there is no room."""
    return ToolResult("error", {"status": "error", "say": SAY_BUSY, "reason": reason}, "busy")


def unknown(cause: str, reason: str) -> ToolResult:
    """It was begun and nobody knows how it ended, so it must not be repeated blindly."""
    advice = "It may have been done: do not call it again unless the caller asks for that."
    report = {"status": "unknown", "say": SAY_UNKNOWN, "reason": f"{reason}. {advice}"}
    return ToolResult("unknown", report, cause)


def text_result(text: str, max_bytes: int) -> ToolResult:
    """It gave a text, cut to ``max_bytes`` of UTF-8."""
    report: dict[str, Any] = {"status": "done", "answer": text}
    if len(text) * 4 > max_bytes:
        # Encoding no more than can be kept bounds the time, however long the text is.
        encoded = text[: max_bytes + 1].encode(errors="replace")
        if len(encoded) > max_bytes or len(text) > max_bytes:
            report["answer"] = encoded[:max_bytes].decode(errors="ignore")
            report["is_truncated"] = True
    return ToolResult("done", report)
