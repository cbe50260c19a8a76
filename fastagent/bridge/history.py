"""The record of a conversation from which a new socket's is rebuilt.

A Realtime session cannot be resumed: a new socket begins with an empty conversation. What was said goes in
again as text, the bot's share only as far as the caller heard it, and finished function calls with their
outputs, so that nothing is asked or done twice. Audio cannot be put back.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fastagent.wire.realtime_events import (
    BotTranscript,
    CallerTranscript,
    CreateItem,
    FunctionCall,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ModelEvent,
)

__all__ = ["ConversationHistory"]

MAX_ITEMS = 40
MAX_TEXT_BYTES = 8192
DELETED_REMEMBERED = 64
"""Deleted ids kept so that a transcript that comes late does not bring its item back."""


_Speaker = Literal["user", "assistant"]


@dataclass(slots=True)
class _Message:
    item_id: str
    role: Literal["system", "user", "assistant"]
    text: str = field(default="", repr=False)
    is_final: bool = False
    heard: float | str | None = field(default=None, repr=False)
    """How much of it was heard: a fraction or the words; None for all."""


@dataclass(slots=True)
class _Call:
    item_id: str
    call_id: str
    name: str
    arguments: str = field(repr=False)
    output: str | None = field(default=None, repr=False)
    output_item_id: str = ""


class ConversationHistory:
    """What was said and done, in order, bounded.

    Args:
        max_items: items a replay may hold; the oldest go first. A function call and its output are two, and
            leave together.
        max_text_bytes: UTF-8 bytes kept of each text; the rest is cut off.
        new_id: ids for the items that we put in. They are sent with them, so that the server's word of an
            item is recognised as of one we know.
    """

    def __init__(
        self,
        *,
        max_items: int = MAX_ITEMS,
        max_text_bytes: int = MAX_TEXT_BYTES,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        if max_items < 2 or max_text_bytes < 4:
            raise ValueError(f"expected at least 2 items and 4 bytes, got {max_items} and {max_text_bytes}")
        self.evicted = 0
        """Items that made room for younger ones."""
        self._max_items = max_items
        self._max_text_bytes = max_text_bytes
        numbers = (f"fa_item_{number}" for number in itertools.count(1))
        self._new_id = new_id or numbers.__next__
        self._entries: OrderedDict[str, _Message | _Call] = OrderedDict()
        self._items = 0
        self._deleted: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Items kept."""
        return self._items

    def __repr__(self) -> str:
        return f"ConversationHistory(items={len(self)}, evicted={self.evicted})"

    # What the model tells

    def receive(self, event: ModelEvent) -> None:
        """Record what an event says, if anything. Leave out those of out-of-band responses."""
        match event:
            case ItemAdded(item_id, "message", ("user" | "assistant") as role):
                # An empty item keeps the place of a transcript that may come after later ones.
                self._place(item_id, role)
            case CallerTranscript(item_id, text, is_final):
                self._transcript(item_id, "user", text, is_final=is_final)
            case BotTranscript(_, item_id, text, is_final):
                self._transcript(item_id, "assistant", text, is_final=is_final)
            case ItemDone(item_id, "message", ("user" | "assistant") as role, text) if text:
                self._transcript(item_id, role, text, is_final=True)
            case FunctionCall():
                self._function_call(event)
            case ItemDeleted(item_id):
                self.delete_item(item_id)
            case _:
                pass

    # What we put in

    def add(self, item: Item) -> CreateItem:
        """Record an item of ours.

        Returns:
            The command that puts it into the conversation; the item in it has an id.
        """
        item_id = item.item_id or self._new_id()
        match item.kind:
            case "message":
                text = self._cut(item.text)
                self._put(item_id, _Message(item_id, item.role or "user", text, is_final=True))
            case "function_call":
                self._put(item_id, _Call(item_id, item.call_id, item.name, self._arguments(item.text)))
            case "function_call_output":
                call = self._call(item.call_id)
                if call is not None:
                    self._items -= _size(call)
                    call.output, call.output_item_id = self._cut(item.text), item_id
                    self._items += _size(call)
                    # The pair stands where it became whole: what is said of it comes next.
                    self._entries.move_to_end(call.item_id)
                    self._make_room()
        return CreateItem(
            Item(item.kind, item.text, role=item.role, call_id=item.call_id, name=item.name, item_id=item_id)
        )

    def truncate_item(self, item_id: str, heard: float | str) -> None:
        """Keep of an item only what the caller heard.

        Args:
            item_id: an item of the bot; an unknown one is passed over.
            heard: the words heard, or the fraction of the item's audio, 0 to 1. A fraction is cut at the last
                whole word and holds for a transcript that comes later, too.

        Raises:
            ValueError: a fraction that is not a number.
        """
        if not isinstance(heard, str):
            if math.isnan(heard):
                raise ValueError("expected a fraction from 0 to 1, got NaN")
            heard = min(max(float(heard), 0.0), 1.0)
        entry = self._entries.get(item_id)
        if isinstance(entry, _Message):
            entry.heard = self._cut(heard) if isinstance(heard, str) else heard

    def delete_item(self, item_id: str) -> None:
        """Forget an item, and what may still come of it. A function call goes with its output."""
        if not item_id:
            return
        self._drop(item_id)
        self._deleted[item_id] = None
        if len(self._deleted) > DELETED_REMEMBERED:
            self._deleted.popitem(last=False)

    def heard_text(self, item_id: str) -> str | None:
        """What the caller heard of a message, as far as is known; None for one that we do not know."""
        if item_id in self._deleted:
            return ""
        entry = self._entries.get(item_id)
        return _heard_of(entry) if isinstance(entry, _Message) else None

    def replay(self) -> list[CreateItem]:
        """What rebuilds the conversation, oldest first.

        Empty and unheard messages are left out, and function calls without their output: the model would wait
        for an answer to a call it cannot see made.
        """
        commands = []
        for entry in self._entries.values():
            if isinstance(entry, _Message):
                text = _heard_of(entry)
                if text.strip():
                    commands.append(CreateItem(Item("message", text, role=entry.role, item_id=entry.item_id)))
            elif entry.output is not None and entry.name and entry.call_id:
                call_id = entry.call_id
                call = Item(
                    "function_call", entry.arguments, call_id=call_id, name=entry.name, item_id=entry.item_id
                )
                output = Item(
                    "function_call_output", entry.output, call_id=call_id, item_id=entry.output_item_id
                )
                commands += [CreateItem(call), CreateItem(output)]
        return commands

    # The record

    def _place(self, item_id: str, role: _Speaker) -> _Message | None:
        entry = self._entries.get(item_id) if item_id else None
        if entry is None and item_id not in self._deleted:
            entry = _Message(item_id or self._new_id(), role)
            self._put(entry.item_id, entry)
        return entry if isinstance(entry, _Message) else None

    def _transcript(self, item_id: str, role: _Speaker, text: str, *, is_final: bool) -> None:
        if not item_id and not is_final:
            return  # a piece of nobody knows what; the whole will follow
        message = self._place(item_id, role)
        if message is None:
            return
        if is_final:
            message.text, message.is_final = self._cut(text), True
        elif not message.is_final:
            message.text = self._cut(message.text + text)

    def _function_call(self, call: FunctionCall) -> None:
        if self._call(call.call_id) is None and call.item_id not in self._deleted:
            item_id = call.item_id or self._new_id()
            self._put(item_id, _Call(item_id, call.call_id, call.name, self._arguments(call.arguments)))

    def _call(self, call_id: str) -> _Call | None:
        for entry in reversed(self._entries.values()):
            if isinstance(entry, _Call) and entry.call_id == call_id:
                return entry
        return None

    def _put(self, item_id: str, entry: _Message | _Call) -> None:
        former = self._entries.get(item_id)
        self._items += _size(entry) - (_size(former) if former is not None else 0)
        self._entries[item_id] = entry
        self._make_room()

    def _drop(self, item_id: str) -> int:
        """Forget an entry; give the items it was."""
        entry = self._entries.pop(item_id, None)
        size = 0 if entry is None else _size(entry)
        self._items -= size
        return size

    def _make_room(self) -> None:
        while self._items > self._max_items:
            # A call under way is kept while anything else can go: its output is still to come.
            oldest = next(iter(self._entries))
            for item_id, entry in self._entries.items():
                if isinstance(entry, _Message) or entry.output is not None:
                    oldest = item_id
                    break
            self.evicted += self._drop(oldest)

    def _cut(self, text: str) -> str:
        if len(text) * 4 <= self._max_text_bytes:
            return text
        return text.encode(errors="replace")[: self._max_text_bytes].decode(errors="ignore")

    def _arguments(self, text: str) -> str:
        # Half a JSON object would mislead more than none.
        return text if len(text.encode(errors="replace")) <= self._max_text_bytes else "{}"


def _size(entry: _Message | _Call) -> int:
    return 2 if isinstance(entry, _Call) and entry.output is not None else 1


def _heard_of(message: _Message) -> str:
    heard, text = message.heard, message.text
    if heard is None:
        return text
    if isinstance(heard, str):
        return heard
    end = int(len(text) * heard)
    if end < len(text) and not text[end].isspace():
        # Back to the last whole word.
        while end > 0 and not text[end - 1].isspace():
            end -= 1
    return text[:end].rstrip()
