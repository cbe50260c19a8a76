"""Function calls of the model, put together from the three places where the wire repeats them.

A call comes in ``response.function_call_arguments.done``, again in ``response.output_item.done`` and again in
``response.done``; older servers leave the name out of the first. Each call is given once, as early as it is
certain::

    id, name and arguments that are a JSON object   ─▶ given at once: cut text is never a whole object
    something missing or not an object              ─▶ waits for the end of its response
        response completed                          ─▶ given as it is: a tool's complaint mends it
        cancelled, incomplete, failed               ─▶ never given
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from fastagent.wire.realtime_events import FunctionCall

__all__ = ["FunctionCallCollector"]

CALLS_REMEMBERED = 1024
"""Call ids kept to recognise repetitions."""
DRAFTS_MAX = 64
"""Calls under way at a time; the oldest is forgotten, and found again in ``response.done``."""


@dataclass(slots=True)
class _Draft:
    item_id: str
    response_id: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str | None = None


class FunctionCallCollector:
    """The function calls of one connection, each given once."""

    def __init__(self) -> None:
        self._drafts: OrderedDict[str, _Draft] = OrderedDict()
        self._given: OrderedDict[str, None] = OrderedDict()
        self._by_response: OrderedDict[str, list[FunctionCall]] = OrderedDict()

    def item_added(self, item: dict[str, Any], response_id: str) -> None:
        """Learn the name and call id that belong to an item which has only begun."""
        self._learn(item, response_id, item_id=_text(item.get("id")), arguments=None)

    def item_done(self, item: dict[str, Any], response_id: str) -> FunctionCall | None:
        """The call this finished item makes, unless it was given before or is not certain yet."""
        draft = self._learn(item, response_id, item_id=_text(item.get("id")), arguments=item.get("arguments"))
        return self._give_if_whole(draft)

    def arguments_done(self, event: dict[str, Any]) -> FunctionCall | None:
        """The call these arguments complete, unless it was given before or is not certain yet."""
        draft = self._learn(
            event,
            _text(event.get("response_id")),
            item_id=_text(event.get("item_id")),
            arguments=event.get("arguments"),
        )
        return self._give_if_whole(draft)

    def response_done(
        self, response_id: str, output: list[Any], *, is_completed: bool
    ) -> tuple[list[FunctionCall], tuple[FunctionCall, ...]]:
        """Settle what the response left open.

        Args:
            response_id: the response that ended.
            output: its items; anything that is not a function call is passed over.
            is_completed: whether the model had its whole say.

        Returns:
            The calls given only now, and all calls given for this response.
        """
        late = []
        for item in output:
            if isinstance(item, dict) and item.get("type") == "function_call":
                call = self.item_done(item, response_id)
                if call is not None:
                    late.append(call)
        for key, draft in list(self._drafts.items()):
            if draft.response_id in (response_id, ""):
                del self._drafts[key]
                if is_completed and draft.arguments is not None and draft.call_id:
                    # A function without parameters may come with no arguments at all.
                    call = self._give(draft, draft.arguments if draft.arguments.strip() else "{}")
                    if call is not None:
                        late.append(call)
        given = [
            call for known in dict.fromkeys((response_id, "")) for call in self._by_response.pop(known, ())
        ]
        return late, tuple(given)

    def _learn(self, source: dict[str, Any], response_id: str, *, item_id: str, arguments: object) -> _Draft:
        call_id = _text(source.get("call_id"))
        key = item_id or f"call:{call_id}"
        draft = self._drafts.get(key)
        if draft is None:
            draft = next((one for one in self._drafts.values() if call_id and one.call_id == call_id), None)
        if draft is None:
            draft = self._drafts[key] = _Draft(item_id)
            if len(self._drafts) > DRAFTS_MAX:
                self._drafts.popitem(last=False)
        draft.response_id = response_id or draft.response_id
        draft.item_id = item_id or draft.item_id
        draft.call_id = call_id or draft.call_id
        draft.name = _text(source.get("name")) or draft.name
        if isinstance(arguments, str):
            draft.arguments = arguments
        elif isinstance(arguments, dict):  # an object where the protocol wants its text: some servers do
            draft.arguments = orjson.dumps(arguments).decode()
        return draft

    def _give_if_whole(self, draft: _Draft) -> FunctionCall | None:
        if draft.call_id and draft.name and draft.arguments is not None and _is_object(draft.arguments):
            return self._give(draft, draft.arguments)
        return None

    def _give(self, draft: _Draft, arguments: str) -> FunctionCall | None:
        if draft.call_id in self._given:
            return None
        self._given[draft.call_id] = None
        if len(self._given) > CALLS_REMEMBERED:
            self._given.popitem(last=False)
        call = FunctionCall(draft.call_id, draft.name, arguments, draft.response_id, draft.item_id)
        self._by_response.setdefault(draft.response_id, []).append(call)
        if len(self._by_response) > DRAFTS_MAX:
            self._by_response.popitem(last=False)
        return call


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
