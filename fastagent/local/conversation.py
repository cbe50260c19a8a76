"""The conversation of a session: its items, their audio, and what truncation leaves of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastagent.audio.formats import AudioFormat
from fastagent.local.mind import Entry
from fastagent.local.schema import Refusal

__all__ = ["Conversation", "Item", "entry_of"]

ITEMS_LIMIT = 4_000
"""Items kept; the oldest are forgotten first, as a full context would do."""
AUDIO_LIMIT_BYTES = 16 << 20
"""Audio kept for ``conversation.item.retrieve``; the oldest is dropped first, the items stay."""


@dataclass(slots=True)
class Item:
    """One item: what the wire shows of it, and what only we know."""

    wire: dict[str, Any]
    """The item as the client sees it, without audio bytes."""
    audio: bytearray = field(default_factory=bytearray, repr=False)
    """In ``audio_format``; may have been dropped while ``audio_bytes`` still counts it."""
    audio_bytes: int = 0
    audio_format: AudioFormat | None = None
    heard: str = field(default="", repr=False)
    """What the ears made of a caller's audio, whether or not a transcript was asked for."""
    said: str = field(default="", repr=False)
    """What a spoken item said so far; empty once truncated."""

    @property
    def id(self) -> str:
        """The item's id."""
        item_id: str = self.wire["id"]
        return item_id

    @property
    def audio_ms(self) -> int:
        """Milliseconds of audio in the item."""
        return self.audio_bytes // self.audio_format.bytes_per_ms if self.audio_format else 0

    @property
    def role(self) -> str:
        """A message's role; empty for other items."""
        return str(self.wire.get("role", ""))

    @property
    def has_output_audio(self) -> bool:
        """Whether the model spoke it."""
        return any(part["type"] == "output_audio" for part in self.wire.get("content", ()))


class Conversation:
    """Items in order. Unknown ids and impossible truncations are refused."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._audio_bytes = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    @property
    def last_id(self) -> str | None:
        """The newest item's id."""
        return self._order[-1] if self._order else None

    def find(self, item_id: str) -> Item | None:
        """The item, if it is there."""
        return self._items.get(item_id)

    def get(self, item_id: str, *, action: str) -> Item:
        """The item.

        Raises:
            Refusal: no such item; ``action`` names the event in its code.
        """
        item = self._items.get(item_id)
        if item is None:
            raise Refusal(
                f"item_{action}_invalid_item_id",
                f"Error {action.removesuffix('e')}ing item: the item with id '{item_id}' does not exist.",
                "item_id",
            )
        return item

    def add(self, item: Item, previous_item_id: str | None = None) -> str | None:
        """Put an item at the end, at the front (``root``) or after another; gives the id before it.

        Raises:
            Refusal: the id is taken, or the item to follow does not exist.
        """
        if item.id in self._items:
            raise Refusal(
                "item_create_duplicate_item_id", f"An item with id '{item.id}' already exists.", "item.id"
            )
        if previous_item_id is None:
            index = len(self._order)
        elif previous_item_id == "root":
            index = 0
        elif previous_item_id in self._items:
            index = self._order.index(previous_item_id) + 1
        else:
            raise Refusal(
                "item_create_invalid_previous_item_id",
                f"Error creating item: the previous item with id '{previous_item_id}' does not exist.",
                "previous_item_id",
            )
        self._order.insert(index, item.id)
        self._items[item.id] = item
        before = self._order[index - 1] if index else None
        if len(self._order) > ITEMS_LIMIT:
            self._forget(self._order[0])
        self._audio_bytes += len(item.audio)
        self._bound_audio()
        return before

    def delete(self, item_id: str) -> None:
        """Forget an item.

        Raises:
            Refusal: no such item.
        """
        self.get(item_id, action="delete")
        self._forget(item_id)

    def extend_audio(self, item: Item, audio: bytes) -> None:
        """Add output audio to an item of the conversation."""
        item.audio += audio
        item.audio_bytes += len(audio)
        self._audio_bytes += len(audio)
        self._bound_audio()

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Keep the first ``audio_end_ms`` of a spoken item and forget its words.

        Raises:
            Refusal: no such item, nothing spoken in it, or shorter than that already.
        """
        item = self.get(item_id, action="truncate")
        content = item.wire.get("content", [])
        if not item.has_output_audio or item.audio_format is None:
            raise Refusal(
                "unsupported_content_type", "Only model output audio messages can be truncated.", "item_id"
            )
        if content_index >= len(content) or content[content_index]["type"] != "output_audio":
            raise Refusal("invalid_value", "There is no audio content at that index.", "content_index")
        if audio_end_ms > item.audio_ms:
            raise Refusal(
                "invalid_value",
                f"Audio content of {item.audio_ms}ms is already shorter than {audio_end_ms}ms",
                "audio_end_ms",
            )
        item.audio_bytes = audio_end_ms * item.audio_format.bytes_per_ms
        self._audio_bytes -= max(0, len(item.audio) - item.audio_bytes)
        del item.audio[item.audio_bytes :]
        item.said = ""
        # Which words were heard is not known: the whole transcript goes.
        content[content_index].pop("transcript", None)

    def _forget(self, item_id: str) -> None:
        self._audio_bytes -= len(self._items.pop(item_id).audio)
        self._order.remove(item_id)

    def _bound_audio(self) -> None:
        for item_id in self._order:
            if self._audio_bytes <= AUDIO_LIMIT_BYTES:
                return
            item = self._items[item_id]
            self._audio_bytes -= len(item.audio)
            item.audio.clear()


def entry_of(item: Item) -> Entry:
    """What the mind sees of an item."""
    wire = item.wire
    if wire["type"] == "function_call":
        return Entry("call", name=wire["name"], text=wire["arguments"], call_id=wire["call_id"])
    if wire["type"] == "function_call_output":
        return Entry("output", text=wire["output"], call_id=wire["call_id"])
    texts = [part["text"] for part in wire["content"] if "text" in part]
    role = wire["role"]
    if role == "assistant":
        return Entry("assistant", text=" ".join(texts) or item.said)
    if role == "system":
        return Entry("system", text=" ".join(texts))
    return Entry("user", text=" ".join([*texts, item.heard] if item.heard else texts))
