"""Slots: the typed values a state collects, as they are declared, read from words and checked."""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import SchemaError

from fastagent.afsm import spoken
from fastagent.afsm.spec import Confirmation, SlotSpec, canonical_json
from fastagent.errors import ConfigurationError

__all__ = ["Digits", "Slot", "plain_type", "read_slots"]

MAX_SLOTS_PER_STATE = 50


class Digits:
    """Marker: ``Annotated[str, Digits()]`` is a text of digits, said one by one."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = {**handler(schema), "format": "digits"}
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digits)

    def __hash__(self) -> int:
        return hash(Digits)


@dataclass(frozen=True)
class Slot:
    """One slot as a class declares it: ``slots = {"amount": Slot(Decimal, "How much?")}``."""

    annotation: Any = str
    """A type pydantic can check, with its constraints: ``Annotated[int, Field(ge=1)]``."""
    prompt: str = ""
    """The question that asks for it; empty is made of the name."""
    confirmation: Confirmation | Literal["none", "implicit", "read_back", "keypad"] = Confirmation.NONE
    is_required: bool = True
    is_redacted: bool = False
    reprompt: str = ""
    """What is said when an answer gives no valid value; the prompt follows."""
    read_back: str = ""
    """How it is said back; ``{value}`` stands for it."""
    parse: Callable[[str], Any] | None = None
    """Reads the caller's words; None when they hold no value. Default: by the type."""
    validate: Callable[[Any], str | None] | None = None
    """Tells the caller what is wrong with a value of the right type; None when nothing is."""
    name: str = ""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "confirmation", Confirmation(self.confirmation))
        except ValueError:
            raise ConfigurationError(
                f"slot {self.name!r}: confirmation must be none, implicit, read_back or keypad"
            ) from None

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Checks values. Raises: `ConfigurationError`."""
        try:
            return TypeAdapter(self.annotation)
        except (PydanticSchemaGenerationError, PydanticUserError, SchemaError):
            raise ConfigurationError(f"slot {self.name!r}: its type cannot be checked") from None

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value."""
        try:
            return self.adapter.json_schema()
        except PydanticUserError:
            raise ConfigurationError(f"slot {self.name!r}: its type has no JSON Schema") from None

    @property
    def question(self) -> str:
        """The question that asks for it."""
        return self.prompt or f"What is the {self.name.replace('_', ' ')}?"

    @property
    def spec(self) -> SlotSpec:
        """The frozen description."""
        return SlotSpec(
            self.name,
            canonical_json(self.schema).decode(),
            self.is_required,
            Confirmation(self.confirmation),
            self.prompt,
            self.is_redacted,
        )

    @property
    def is_recognisable(self) -> bool:
        """A value is told from other words by its form, so it may be picked out of any sentence."""
        kind = plain_type(self.annotation)
        return self.parse is not None or kind in (date, time) or bool(_choices(self.annotation))

    def read(self, text: str, today: Callable[[], date] = date.today) -> Any:
        """Read the caller's words; None when they hold no value."""
        if self.parse is not None:
            return self.parse(text)
        if choices := _choices(self.annotation):
            return spoken.parse_choice(text, choices)
        if self.schema.get("format") == "digits":
            return spoken.parse_digits(text)
        match plain_type(self.annotation):
            case kind if kind is bool:
                return spoken.parse_yes_no(text)
            case kind if kind is int or kind is float or kind is Decimal:
                return spoken.parse_number(text)
            case kind if kind is date:
                return spoken.parse_date(text, today())
            case kind if kind is time:
                return spoken.parse_time(text)
        return text.strip() or None

    def check(self, value: Any) -> tuple[Any, str | None]:
        """Give (the value in its type, None), or (None, what to tell the caller)."""
        try:
            typed = self.adapter.validate_python(value)
        except ValidationError:
            # pydantic's message quotes the value, so it is not passed on.
            return None, self.reprompt or "Sorry, I cannot take that."
        if typed is None:
            return None, self.reprompt or "Sorry, I cannot take that."
        complaint = self.validate(typed) if self.validate is not None else None
        return (None, complaint) if complaint else (typed, None)


def read_slots(declared: Any, where: str) -> tuple[Slot, ...]:
    """Give the slots of a declaration: a pydantic model class, or a mapping of names to `Slot` or type.

    A model's fields take their prompt from ``description`` and the rest from ``json_schema_extra``:
    ``Field(description="How much?", json_schema_extra={"confirmation": "read_back"})``.

    Raises:
        ConfigurationError: it is none of these; ``where`` is named in the message.
    """
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        found = [_slot_of_field(name, entry) for name, entry in declared.model_fields.items()]
    elif isinstance(declared, Mapping):
        found = []
        for name, value in declared.items():
            slot = value if isinstance(value, Slot) else Slot(value)
            found.append(_named(slot, str(name)))
    else:
        raise ConfigurationError(f"{where}: slots must be a mapping or a pydantic model class")
    if len(found) > MAX_SLOTS_PER_STATE:
        raise ConfigurationError(f"{where}: a state may have {MAX_SLOTS_PER_STATE} slots, got {len(found)}")
    for slot in found:
        if not slot.name.isidentifier():
            raise ConfigurationError(f"{where}: slot name {slot.name!r} must be an identifier")
        _ = slot.schema  # fails here and not in a call
    return tuple(found)


def _named(slot: Slot, name: str) -> Slot:
    return slot if slot.name == name else replace(slot, name=name)


def _slot_of_field(name: str, entry: Any) -> Slot:
    extra = entry.json_schema_extra if isinstance(entry.json_schema_extra, dict) else {}
    annotation = Annotated[(entry.annotation, *entry.metadata)] if entry.metadata else entry.annotation
    return Slot(
        annotation,
        entry.description or "",
        extra.get("confirmation", Confirmation.NONE),
        entry.is_required(),
        bool(extra.get("redacted", False)),
        str(extra.get("reprompt", "")),
        str(extra.get("read_back", "")),
        name=name,
    )


def plain_type(annotation: Any) -> Any:
    """The type under ``Annotated`` and ``| None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return plain_type(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return plain_type(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def _choices(annotation: Any) -> list[str]:
    kind = plain_type(annotation)
    if get_origin(kind) is Literal:
        return [value for value in get_args(kind) if isinstance(value, str)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind if isinstance(member.value, str)]
    return []
