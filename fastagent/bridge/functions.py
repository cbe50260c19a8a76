"""The functions a model calls: which run, which session knows of them, and when their outcomes are spoken."""

from fastagent.bridge.commands import Command, RunFunction
from fastagent.bridge.history import ConversationHistory
from fastagent.bridge.model_session import ModelSession
from fastagent.wire import realtime_events as model

__all__ = ["FunctionCalls"]


class FunctionCalls:
    """The function calls of one call, over however many model sessions it takes.

    Args:
        session: the model's session, which may be another by the time a function returns.
        history: records the outcomes.
    """

    def __init__(self, session: ModelSession, history: ConversationHistory) -> None:
        self._session = session
        self._history = history
        self._running: dict[str, model.FunctionCall] = {}
        """Those that have not returned, by call id."""
        self._wants_answer: set[str] = set()
        """Responses one of whose functions wants its outcome spoken."""

    @property
    def is_any_running(self) -> bool:
        """An outcome is still to come."""
        return bool(self._running)

    def is_running(self, call_id: str) -> bool:
        """This function has not returned yet."""
        return call_id in self._running

    def begin(self, call: model.FunctionCall) -> list[Command]:
        """The model calls a function."""
        self._running[call.call_id] = call
        self._session.calls.add(call.call_id)
        return [RunFunction(call.call_id, call.name, call.arguments)]

    def end(self, call_id: str, output: str, *, should_respond: bool) -> tuple[list[Command], bool]:
        """The outcome of a function that `is_running`.

        Returns:
            What posts it, and whether the model is to speak now: once all outcomes of a response are in.
        """
        call = self._running.pop(call_id)
        is_connected = self._session.is_connected
        commands: list[Command] = []
        if is_connected and call_id not in self._session.calls:
            # This session never made the call: it is told of it together with the outcome.
            made = model.Item("function_call", text=call.arguments, call_id=call_id, name=call.name)
            commands.append(model.CreateItem(made))
        create = self._history.add(model.Item("function_call_output", text=output, call_id=call_id))
        if is_connected:
            commands.append(create)
        if should_respond:
            self._wants_answer.add(call.response_id)
        return commands, self._is_answer_due(call.response_id)

    def _is_answer_due(self, response_id: str) -> bool:
        if response_id not in self._wants_answer:
            return False
        if any(other.response_id == response_id for other in self._running.values()):
            return False
        self._wants_answer.discard(response_id)
        return True
