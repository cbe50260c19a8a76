"""FunctionRuns: the functions beside tasks, as one call runs them: allowed, bounded, audited.

A function is refused where the current states disallow it, and reports at once, with ``answer`` (a text) or
``result`` beside "done", or with the status "unknown" when none can tell whether it was done. Each call of
one leaves two audit records: ``tool_call``, ``tool_outcome``.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastagent.afsm.state import CallControl
from fastagent.context import ConversationContext
from fastagent.tools.offered import OfferedTool, Recorder, ToolCall, busy, refused
from fastagent.tools.reports import Report, as_json

__all__ = ["MAX_FUNCTIONS_AT_ONCE", "FunctionRuns"]

MAX_FUNCTIONS_AT_ONCE = 8
"""Functions beside tasks that one call may have running."""

_log = logging.getLogger(__name__)


class FunctionRuns:
    """Runs the functions of one agent for one call.

    Args:
        offered: what the model may call, by name.
        allowed: gives the names (or ``server:tool``, ``server:*``) that may be called now, None for all.
        recorder: takes the audit records.
    """

    def __init__(
        self,
        control: CallControl,
        context: ConversationContext,
        offered: Mapping[str, OfferedTool],
        allowed: Callable[[], frozenset[str] | None],
        recorder: Recorder | None,
    ) -> None:
        self.recorder = recorder
        self._control = control
        self._context = context
        self._offered = dict(offered)
        self._allowed = allowed
        self._running = 0

    def __contains__(self, name: str) -> bool:
        return name in self._offered

    def is_allowed(self, name: str) -> bool:
        """The current states let the model call this; they forbid only functions."""
        function = self._offered.get(name)
        return function is None or _is_allowed(function, self._allowed())

    async def call(self, call_id: str, name: str, arguments_json: str) -> Report:
        """Do what the model asks for, and tell what became of it."""
        function = self._offered[name]
        facts = {"name": function.qualified_name, "function_call_id": call_id}
        self._record("tool_call", {**facts, "argument_bytes": len(arguments_json.encode(errors="replace"))})
        begun = time.monotonic()
        status, cause, size = "cancelled", "", 0
        try:
            if not _is_allowed(function, self._allowed()):
                result = refused("not_allowed", "this function is not available at this point of the talk")
            elif self._running >= MAX_FUNCTIONS_AT_ONCE:
                result = busy("too many functions at once")
            else:
                self._running += 1
                try:
                    result = await function.run(arguments_json, self._tool_call(call_id))
                finally:
                    self._running -= 1
            status, cause, size = result.status, result.cause, len(as_json(result.report))
            return result.report
        finally:
            duration_ms = round(1000 * (time.monotonic() - begun), 3)
            outcome = {"status": status, "cause": cause, "output_bytes": size, "duration_ms": duration_ms}
            self._record("tool_outcome", {**facts, **outcome})

    def _tool_call(self, function_call_id: str) -> ToolCall:
        context = self._context
        return ToolCall(
            self._control.call_id,
            function_call_id,
            self._control.caller,
            context.facts,
            context.profile,
            context.history,
        )

    def _record(self, kind: str, data: dict[str, Any]) -> None:
        if self.recorder is None:
            return
        try:
            self.recorder.record(kind, data)
        except Exception as error:
            _log.error("call %s: no audit record: %s", self._control.call_id, type(error).__name__)


def _is_allowed(function: OfferedTool, allowed: frozenset[str] | None) -> bool:
    if allowed is None:
        return True
    server, colon, _ = function.qualified_name.partition(":")
    names = {function.name, function.qualified_name}
    return bool(allowed & (names | {f"{server}:*"} if colon else names))
