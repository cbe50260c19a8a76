"""EffectRules: what a function declares about its effect on the world, and `effect`, which declares it.

::

    class Confirm(AFSMState):
        @effect(undo="cancel", check="find", key="call_id", claims=("you are booked", "i have booked"))
        async def book(self, day: str, idempotency_key: str) -> str: ...

        async def cancel(self, result: str) -> None: ...

        async def find(self, idempotency_key: str) -> str | None: ...
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastagent.afsm.spec import EFFECT_MARK, EffectSpec
from fastagent.errors import ConfigurationError

__all__ = [
    "CALL_ID",
    "DEFAULT_EFFECT_TIMEOUT_S",
    "KEY_ARGUMENT",
    "BoundEffect",
    "EffectRules",
    "bind",
    "effect",
]

DEFAULT_EFFECT_TIMEOUT_S = 30.0
CALL_ID = "call_id"
KEY_ARGUMENT = "idempotency_key"
"""A parameter of this name is given the key, for systems that take one."""
RULES_MARK = "__fastagent_effect_rules__"

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class EffectRules:
    """How an effect is run, told apart from others, reconciled and taken back."""

    name: str = ""
    """The function's own name by default."""
    undo: str = ""
    """The function that takes it back, called with what it names of the arguments, ``result`` and
    ``idempotency_key``. It must be safe to call twice, as a crash in the middle calls it again."""
    check: str = ""
    """The function that finds out whether it was done, called like ``undo``: None for no, else the result."""
    key: tuple[str, ...] = ()
    """What makes two runs the same: names of arguments, and ``call_id`` for the call that asked. By default
    the call and all arguments. Without ``call_id`` it happens once per conversation."""
    is_idempotent: bool = False
    """The other side knows the key, so an unknown outcome is found out by running it again."""
    timeout_s: float = DEFAULT_EFFECT_TIMEOUT_S
    failures: tuple[type[Exception], ...] = ()
    """Exceptions that say that nothing was done, besides `EffectFailedError`; others leave it unknown."""
    claims: tuple[str, ...] = ()
    """Words by which the bot claims that it was done."""
    redacted: tuple[str, ...] = ()
    """Names of arguments, and of members of the result, whose values are not written to the journal."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")
        for name in ("key", "failures", "claims", "redacted"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name} must be a tuple")


def effect(
    *,
    name: str = "",
    undo: str = "",
    check: str = "",
    key: str | Sequence[str] = (),
    is_idempotent: bool = False,
    timeout_s: float = DEFAULT_EFFECT_TIMEOUT_S,
    failures: Sequence[type[Exception]] = (),
    claims: Sequence[str] = (),
    redacted: Sequence[str] = (),
) -> Callable[[_F], _F]:
    """Mark a function or method, sync or async, as an effect. It stays what it is: `Effects.run` runs it.

    Args: see `EffectRules`; ``key`` may be one text with commas. ``undo`` and ``check`` are names of methods
    of the same object, or of functions of the same module.
    """
    if isinstance(claims, str) or isinstance(redacted, str):
        raise ValueError("claims and redacted must be sequences of words, got one string")

    def mark(function: _F) -> _F:
        rules = EffectRules(
            name or function.__name__,
            undo,
            check,
            _names(key),
            is_idempotent,
            timeout_s,
            tuple(failures),
            tuple(claims),
            tuple(redacted),
        )
        setattr(function, RULES_MARK, rules)
        setattr(function, EFFECT_MARK, EffectSpec(rules.name, rules.undo, ",".join(rules.key)))
        return function

    return mark


@dataclass(frozen=True, slots=True)
class BoundEffect:
    """An effect with the functions that belong to it."""

    rules: EffectRules
    run: Callable[..., Any]
    undo: Callable[..., Any] | None
    check: Callable[..., Any] | None


def bind(
    function: Callable[..., Any],
    name: str = "",
    *,
    undo: Callable[..., Any] | None = None,
    key: str = "",
) -> BoundEffect:
    """Find the rules of a function, and the functions they name. Without rules the defaults hold.

    Args:
        function: the effect's.
        name: another than the function's own.
        undo: another than the one the rules name.
        key: as in `effect`, where the rules have none.

    Raises:
        ConfigurationError: a function that the rules name is not there.
    """
    rules: EffectRules = getattr(function, RULES_MARK, None) or EffectRules(
        getattr(function, "__name__", "effect")
    )
    rules = replace(rules, name=name or rules.name, key=rules.key or _names(key))
    return BoundEffect(rules, function, undo or _named(function, rules.undo), _named(function, rules.check))


def _names(key: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(key.replace(",", " ").split() if isinstance(key, str) else key)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any] | None:
    if not name:
        return None
    owner = getattr(function, "__self__", None)
    found = getattr(owner, name, None) if owner is not None else None
    if found is None:
        found = getattr(inspect.unwrap(function), "__globals__", {}).get(name)
    if not callable(found):
        raise ConfigurationError(
            f"effect {function.__name__!r} names {name!r}, which is no function beside it"
        )
    named: Callable[..., Any] = found
    return named
