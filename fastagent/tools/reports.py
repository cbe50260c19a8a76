"""Reports: the JSON that tells the model what became of a function call, and the words in it.

::

    {"status": "needs_input" | "done" | "failed" | "working" | "cancelled" | "error", "task": ..., "say": ...}

with ``result`` beside "done", and ``reason`` (for the model, not for the caller) beside "error". "heard"
tells that the words had their effect already, as they were heard: what came of them follows by itself.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["FunctionOutcome", "Report", "as_json", "error_report", "outcome_of", "task_report"]

HEARD = "heard"
SAY_WORKING = "One moment, please."
SAY_CANCELLED = "All right, I have stopped that."
SAY_UNDONE = "All right, I have stopped that, and taken back what was done."
SAY_NOT_UNDONE = "I have stopped that, but something that was done already could not be taken back."
SAY_GOODBYE = "Thank you for calling. Goodbye."
SAY_START_OVER = "All right, we start over. What can I do for you?"
SAY_TRANSFER = "One moment, I am putting you through."
SAY_ERROR = "I am sorry, I did not get that. Could you say it again?"
SAY_FAILED = "I am sorry, something went wrong and I could not finish that."

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FunctionOutcome:
    """What to send back for a function call."""

    output: str = field(repr=False)
    """The ``function_call_output``, a JSON object as text."""
    should_respond: bool = True
    """Have the model speak on it."""


def task_report(status: str, task: str, say: str) -> Report:
    """Tell of a task, or of what the call itself does."""
    return {"status": status, "task": task, "say": say}


def error_report(reason: str, task: str | None = None, say: str = SAY_ERROR) -> Report:
    """Tell the model what it did wrong."""
    report: Report = {"status": "error", "say": say, "reason": reason}
    return report if task is None else {**report, "task": task}


def as_json(report: Report) -> str:
    """Give a report as the model gets it."""
    return orjson.dumps(report).decode()


def outcome_of(report: Report) -> FunctionOutcome:
    """Give a report as the outcome of a function call."""
    return FunctionOutcome(as_json(report), should_respond=report["status"] != HEARD)
