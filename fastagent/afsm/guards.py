"""Guard expressions: conditions over slots, facts, profile and input, without ``eval``.

The language is a small part of Python's expressions, so an editor knows it::

    slots.amount <= 1000 and facts.is_verified
    'yes' in words and len(slots.pin) == 4
    profile.tier in ['gold', 'platinum'] or arguments.urgent == true

Names: ``slots``, ``facts``, ``profile`` and ``arguments`` (what the model passed along, unchecked), each with
``.name`` or ``['name']``; ``input`` (the text) and ``words`` (its words, in lower case); ``true false null``.
Functions: ``len``, ``lower``, ``abs``. What is missing is null; comparing what cannot be compared is false.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastagent.errors import ConfigurationError

__all__ = ["MAX_GUARD_CHARS", "Guard", "Scope", "holds_phrase", "parse_guard", "words_in"]

MAX_GUARD_CHARS = 500
MAX_GUARD_NODES = 150
_TABLES = ("slots", "facts", "profile", "arguments")
_NAMES: dict[str, Any] = {"true": True, "false": False, "null": None}
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

Evaluate = Callable[["Scope"], Any]


def words_in(text: str) -> tuple[str, ...]:
    """The words of a text, in lower case."""
    return tuple(_WORD.findall(text.lower().replace("’", "'")))


def holds_phrase(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """The words hold the phrase's, side by side."""
    size = len(phrase)
    return any(words[start : start + size] == phrase for start in range(len(words) - size + 1))


@dataclass(slots=True)
class Scope:
    """What a guard may look at."""

    slots: Mapping[str, Any] = field(default_factory=dict, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    input: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Guard:
    """A parsed guard."""

    text: str
    names: frozenset[str]
    """What it looks at: ``slots.amount``, ``input``."""
    _evaluate: Evaluate = field(repr=False, compare=False)

    def holds(self, scope: Scope) -> bool:
        """Tell whether the condition is met; one that cannot be worked out is not."""
        try:
            return bool(self._evaluate(scope))
        except Exception:  # the values are an author's: comparing them may raise anything
            return False


def parse_guard(text: str) -> Guard:
    """Read a guard expression.

    Raises:
        ConfigurationError: it is not one; the message says which part is not understood.
    """
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError("a guard must be an expression, got an empty one")
    if len(text) > MAX_GUARD_CHARS:
        raise ConfigurationError(f"a guard may be {MAX_GUARD_CHARS} characters long, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigurationError(f"guard {text!r} is not an expression") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_GUARD_NODES:
        raise ConfigurationError(f"guard {text!r} is too long")
    parser = _Parser(text)
    evaluate = parser.node(tree.body)
    return Guard(text, frozenset(parser.names), evaluate)


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
    ast.Is: lambda one, other: one is other,
    ast.IsNot: lambda one, other: one is not other,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "len": len,
    "lower": lambda text: text.lower() if isinstance(text, str) else text,
    "abs": abs,
}


class _Parser:
    """Turns a syntax tree into closures; what is not listed here is not in the language."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.names: set[str] = set()

    def node(self, node: ast.expr) -> Evaluate:
        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float | str):
                return lambda scope: value
            case ast.BoolOp(op=op, values=values):
                return self._bool(op, [self.node(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.node(operand)
                return lambda scope: not inner(scope)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = self.node(operand)
                return lambda scope: -_number(inner(scope))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                function, one, other = _ARITHMETIC[type(op)], self.node(left), self.node(right)
                return lambda scope: function(_number(one(scope)), _number(other(scope)))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._compare(left, ops, comparators)
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                items = [self.node(part) for part in parts]
                return lambda scope: [item(scope) for item in items]
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
                function_of, inner = _FUNCTIONS[name], self.node(argument)
                return lambda scope: function_of(inner(scope))
            case ast.Attribute(value=ast.Name(id=table), attr=name) if table in _TABLES:
                return self._entry(table, name)
            case ast.Subscript(value=ast.Name(id=table), slice=ast.Constant(value=str(name))) if (
                table in _TABLES
            ):
                return self._entry(table, name)
            case ast.Name(id=name) if name in _NAMES:
                value = _NAMES[name]
                return lambda scope: value
            case ast.Name(id="input"):
                self.names.add("input")
                return lambda scope: scope.input
            case ast.Name(id="words"):
                self.names.add("input")
                return lambda scope: words_in(scope.input)
        part = ast.get_source_segment(self._text.strip(), node) or type(node).__name__
        raise ConfigurationError(f"guard {self._text!r}: {part!r} is not understood here")

    def _entry(self, table: str, name: str) -> Evaluate:
        self.names.add(f"{table}.{name}")
        table_of = operator.attrgetter(table)
        return lambda scope: table_of(scope).get(name)

    def _bool(self, op: ast.boolop, parts: list[Evaluate]) -> Evaluate:
        if isinstance(op, ast.And):
            return lambda scope: all(part(scope) for part in parts)
        return lambda scope: any(part(scope) for part in parts)

    def _compare(self, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr]) -> Evaluate:
        first = self.node(left)
        pairs = [(_COMPARE[type(op)], self.node(right)) for op, right in zip(ops, comparators, strict=True)]

        def evaluate(scope: Scope) -> bool:
            value = first(scope)
            for compare, right in pairs:
                other = right(scope)
                try:
                    if not compare(value, other):
                        return False
                except TypeError:  # null < 3, 3 in null
                    return False
                value = other
            return True

        return evaluate


def _number(value: Any) -> Any:
    """A number; texts and lists do not multiply here, which keeps the cost of a guard flat."""
    if isinstance(value, bool) or not hasattr(value, "__abs__") or not hasattr(value, "__mul__"):
        raise TypeError("not a number")
    return value
