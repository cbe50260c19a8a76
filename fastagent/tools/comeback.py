"""Comeback: what an interrupted talk offers a caller who calls again, and the tool by which they choose."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastagent.tools.reports import Report
from fastagent.tools.task import function_tool

__all__ = ["RESUME_TALK", "Comeback", "comeback_tool"]

RESUME_TALK = "resume_talk"


@dataclass(frozen=True, slots=True)
class Comeback:
    """An earlier talk of the caller that can go on."""

    about: str
    """What was under way, in words."""
    needs_code: bool
    """Only who says the code that was sent to the caller's telephone may go on with it."""
    go_on: Callable[[str], Awaitable[Report]] = field(repr=False)
    """Take the talk up; the report brings its open question. The argument is the code, if there is one."""
    start_over: Callable[[], None] = field(repr=False)
    """Forget it."""

    @property
    def greeting(self) -> str:
        """What the caller is welcomed back with."""
        code = " If you want to go on, please say the code from our text message." if self.needs_code else ""
        return (
            f"Welcome back. Our call was interrupted while we were at this: {self.about} "
            f"Shall we go on where we stopped, or start over?{code}"
        )

    @property
    def instructions(self) -> str:
        """What the model is told of it."""
        return (
            "The caller was cut off in an earlier call. Once they say whether to go on with it or to start "
            f"over, call {RESUME_TALK}, then speak the words in say. Do nothing else for them before that, "
            "unless they ask for something else."
        )


def comeback_tool(comeback: Comeback) -> dict[str, Any]:
    """The function tool by which the caller's choice is passed on."""
    properties: dict[str, Any] = {
        "choice": {"type": "string", "enum": ["continue", "start_over"], "description": "What they want."}
    }
    if comeback.needs_code:
        properties["code"] = {"type": "string", "description": "The digits of the code, as they said it."}
    schema = {"type": "object", "properties": properties, "required": ["choice"]}
    return function_tool(RESUME_TALK, "Go on with the caller's interrupted talk, or start over.", schema)
