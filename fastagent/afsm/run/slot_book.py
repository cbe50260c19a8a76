"""SlotBook: the slots of one run, and how a value becomes one that counts.

::

    missing ──heard, valid──▶ none, implicit ───────────────────────────▶ confirmed
       ▲  ▲                 └▶ read_back ──"yes"──────────────────────────▶ confirmed
       │  │                 └▶ keypad ──key 1──────────────────────────────▶ confirmed
       │  └──"no", key 2─────────┘                                             │
       └──"no" to an implicit one, within the next answer──────────────────────┘

Only a confirmed value stands in ``context.slots`` and in the sight of guards. What the model passed along
when it started the task is treated like something heard: it is parsed, validated and confirmed like the rest.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from fastagent.afsm import spoken
from fastagent.afsm.run.limits import DEFAULT_MAX_ATTEMPTS
from fastagent.afsm.slots import Slot, plain_type
from fastagent.afsm.spec import Confirmation

__all__ = ["BookPosition", "FillStep", "SlotBook"]

KEY_CONFIRM, KEY_CHANGE = "1", "2"


@dataclass(frozen=True, slots=True)
class FillStep:
    """What comes of one input."""

    say: str = field(default="", repr=False)
    """The next question; of the last step, what is said back."""
    is_filled: bool = False
    has_given_up: bool = False
    asks_redacted: bool = False
    """The answer to the question, or the question itself, must stay out of records."""
    taken: tuple[str, ...] = ()
    """Slots that were confirmed by this input."""
    contradicted: str = ""
    """The slot whose confirmation was not believed."""


@dataclass(frozen=True, slots=True)
class BookPosition:
    """Which question about which slot is open."""

    open: str | None = None
    is_confirming: bool = False
    attempts: int = 0
    implicit: tuple[str, ...] = ()


class SlotBook:
    """The slots of one run.

    Args:
        values: ``context.slots``.
        today: the date, for "tomorrow".
    """

    def __init__(
        self,
        values: dict[str, Any],
        *,
        today: Callable[[], date] = date.today,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    ) -> None:
        self.arguments: dict[str, Any] = {}
        """What the model passed along, unchecked."""
        self._raw: dict[str, Any] = {}
        """Of these, what nobody has checked or replaced."""
        self._values = values
        self._today = today
        self._max_attempts = max_attempts
        self._pending: dict[str, Any] = {}
        """Valid values that wait for their confirmation."""
        self._open: str | None = None
        """The slot the caller was asked for, or asked to confirm."""
        self._implicit: list[str] = []
        """Said back within the last question."""
        self._attempts = 0
        self._is_confirming = False

    def __repr__(self) -> str:
        return f"<SlotBook filled={len(self._values)} pending={len(self._pending)}>"

    @property
    def trusted(self) -> dict[str, Any]:
        """The values a guard may rely on: all but those that are still as the model passed them along."""
        if not self._raw:
            return self._values
        raw = self._raw
        return {
            name: value for name, value in self._values.items() if name not in raw or value is not raw[name]
        }

    def begin(self) -> None:
        """The run begins: what stands in the slots now was passed along by the model."""
        self.arguments, self._raw = dict(self._values), dict(self._values)

    @property
    def is_confirming(self) -> bool:
        """The open question is whether a value is right."""
        return self._is_confirming

    @property
    def said_back(self) -> tuple[str, ...]:
        """Slots with implicit confirmation that the last question says back."""
        return tuple(self._implicit)

    @property
    def position(self) -> BookPosition:
        """Which question is open."""
        return BookPosition(self._open, self._is_confirming, self._attempts, tuple(self._implicit))

    @position.setter
    def position(self, position: BookPosition) -> None:
        self._open, self._is_confirming = position.open, position.is_confirming
        self._attempts, self._implicit = position.attempts, list(position.implicit)

    @property
    def pending(self) -> dict[str, Any]:
        """Valid values that wait for their confirmation (a copy)."""
        return dict(self._pending)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The slots that still hold what the model passed along."""
        return tuple(name for name, value in self._raw.items() if self._values.get(name) is value)

    def restore(
        self, *, arguments: Mapping[str, Any], pending: Mapping[str, Any], unchecked: Iterable[str]
    ) -> None:
        """Go on as another book left off, whose values stand in the slots."""
        self.arguments, self._pending = dict(arguments), dict(pending)
        self._raw = {name: self._values[name] for name in unchecked if name in self._values}

    def left(self) -> None:
        """The state was left: no question of it is open any more."""
        self.position = BookPosition()

    def reopen(self, names: Iterable[str]) -> None:
        """Forget the values of these slots, so that they are asked for again."""
        for name in names:
            self._values.pop(name, None)
            self._pending.pop(name, None)

    def take_arguments(self, slots: tuple[Slot, ...]) -> None:
        """Move what the model passed along for these slots out of sight, until it has been checked."""
        for slot in slots:
            if slot.name in self._raw:
                value = self._raw.pop(slot.name)
                if self._values.get(slot.name) is value:
                    del self._values[slot.name]
                    self._offer(slot, value)

    def step(
        self,
        slots: tuple[Slot, ...],
        text: str = "",
        *,
        keys: str = "",
        proposed: Mapping[str, Any] | None = None,
        is_contradicted: bool = False,
    ) -> FillStep:
        """Take one answer, by voice or by keys, and tell what to ask next.

        Args:
            text: what the caller said; empty on entry.
            keys: the keys pressed, when the answer came from the keypad.
            proposed: values a model made of the answer. They are checked like words.
            is_contradicted: a "yes" that the caller was heard not to say; it confirms nothing that is read
                back.
        """
        by_name = {slot.name: slot for slot in slots}
        before = set(self._values)
        remark = contradicted = ""
        opened = by_name.get(self._open) if self._open else None
        heard = keys or text
        if heard or proposed:
            if opened is not None and self._is_confirming and opened.name in self._pending:
                if is_contradicted and not keys and opened.confirmation is Confirmation.READ_BACK:
                    contradicted = opened.name
                    self._attempts += 1
                    remark = "Sorry, I did not get that."
                else:
                    remark = self._confirm(opened, text, keys)
            else:
                remark = self._answer(by_name, opened, text, keys, dict(proposed or {}))
        self._settle(by_name)
        taken = tuple(name for name in by_name if name in self._values and name not in before)
        if self._attempts >= self._max_attempts:
            self.left()
            return FillStep(has_given_up=True, taken=taken, contradicted=contradicted)
        return replace(self._next(slots, remark), taken=taken, contradicted=contradicted)

    def _offer(self, slot: Slot, value: Any, *, is_read: bool = False) -> str | None:
        """Check a value; keep it for confirmation or say what is wrong."""
        if isinstance(value, str) and not is_read:
            parsed = slot.read(value, self._today)
            value = value if parsed is None else parsed
        typed, complaint = slot.check(value)
        if complaint is None:
            self._pending[slot.name] = typed
            self._values.pop(slot.name, None)
        return complaint

    def _answer(
        self,
        by_name: Mapping[str, Slot],
        opened: Slot | None,
        text: str,
        keys: str,
        proposed: dict[str, Any],
    ) -> str:
        if self._implicit and text and spoken.parse_yes_no(text) is False:
            # "No" to what was said back within the question: all of it is open again.
            names, self._implicit = list(self._implicit), []
            for name in names:
                self._values.pop(name, None)
            self._open = None
            if not any(by_name[name].is_recognisable for name in names if name in by_name):
                return "Sorry, let me ask again."
            opened = None
        self._implicit.clear()
        found = False
        remark = ""
        for name, value in proposed.items():
            if name in by_name and name not in self._values:
                complaint = self._offer(by_name[name], value)
                found = found or complaint is None
                remark = remark or complaint or ""
        if opened is not None and opened.name not in self._pending and opened.name not in self._values:
            value = keys.rstrip("#") if keys else opened.read(text, self._today)
            if value is not None:
                complaint = self._offer(opened, value, is_read=True)
                found = found or complaint is None
                remark = complaint or ""
        for slot in by_name.values():
            if slot is opened or slot.name in self._pending or slot.name in self._values or not text:
                continue
            if slot.is_recognisable and (value := slot.read(text, self._today)) is not None:
                complaint = self._offer(slot, value)
                found = found or complaint is None
                remark = remark or complaint or ""
        if opened is not None:
            self._attempts = 0 if found else self._attempts + 1
            if not found and not remark:
                remark = opened.reprompt or "Sorry, I did not get that."
        return remark

    def _confirm(self, slot: Slot, text: str, keys: str) -> str:
        if slot.confirmation is Confirmation.KEYPAD:
            verdict = {KEY_CONFIRM: True, KEY_CHANGE: False}.get(keys)
        else:
            verdict = {KEY_CONFIRM: True, KEY_CHANGE: False}.get(keys) if keys else spoken.parse_yes_no(text)
        if verdict:
            self._values[slot.name] = self._pending.pop(slot.name)
            self._open, self._is_confirming, self._attempts = None, False, 0
            return ""
        if verdict is False:
            self._pending.pop(slot.name, None)
            self._is_confirming = False
            self._attempts = 0
            # "No, two hundred": the right value may stand in the same answer.
            if text and plain_type(slot.annotation) not in (bool, str):
                value = slot.read(text, self._today)
                if value is not None:
                    return self._offer(slot, value) or ""
            return ""
        self._attempts += 1
        return "Sorry, I did not get that."

    def _settle(self, by_name: Mapping[str, Slot]) -> None:
        """Move on what needs no confirmation."""
        for name in [name for name in self._pending if name in by_name]:
            confirmation = by_name[name].confirmation
            if confirmation in (Confirmation.NONE, Confirmation.IMPLICIT):
                self._values[name] = self._pending.pop(name)
                if confirmation is Confirmation.IMPLICIT:
                    self._implicit.append(name)

    def _next(self, slots: tuple[Slot, ...], remark: str) -> FillStep:
        said_back = [
            _read_back(slot, self._values[slot.name], "{value}.")
            for slot in slots
            if slot.name in self._implicit and slot.name in self._values
        ]
        for slot in slots:
            if slot.name in self._pending:
                self._open, self._is_confirming = slot.name, True
                question = _read_back(
                    slot, self._pending[slot.name], _CONFIRM[Confirmation(slot.confirmation)]
                )
                return FillStep(_join(remark, *said_back, question), asks_redacted=slot.is_redacted)
        for slot in slots:
            if slot.is_required and slot.name not in self._values:
                if self._open != slot.name:
                    self._attempts = 0
                self._open, self._is_confirming = slot.name, False
                return FillStep(_join(remark, *said_back, slot.question), asks_redacted=slot.is_redacted)
        self._open, self._is_confirming = None, False
        return FillStep(_join(*said_back), is_filled=True)


_CONFIRM = {
    Confirmation.NONE: "{value}.",
    Confirmation.IMPLICIT: "{value}.",
    Confirmation.READ_BACK: "That is {value}. Is that right?",
    Confirmation.KEYPAD: f"That is {{value}}. Press {KEY_CONFIRM} to confirm, or {KEY_CHANGE} to change it.",
}


def _read_back(slot: Slot, value: Any, default: str) -> str:
    template = slot.read_back or default
    return template.replace("{value}", spoken.say_value(value))


def _join(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
