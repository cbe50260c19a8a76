"""StateCode: what the code of a state class says about its moves and writes, read without running it.

The functions a state may run (`process`, its hooks, what they call on ``self`` or in their own module) are
read from their source. Followed are literals, names, conditions, tables of literals, parameters and return
values; what else a name of a state is made of leaves the reading incomplete, never wrong.
"""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

from fastagent.afsm.state import AFSMState

__all__ = ["Named", "StateCode", "place_of", "read_code"]

HOOKS = ("process", "_determine_next_state", "_generate_response")


@dataclass(frozen=True, slots=True)
class Named:
    """A state that code names, and where."""

    state: str
    place: str


@dataclass(slots=True)
class StateCode:
    """What was read of one state."""

    next_states: list[Named] = field(default_factory=list)
    """What an answer may lead to, by the code."""
    event_states: list[Named] = field(default_factory=list)
    """The same of `on_event`."""
    is_complete: bool = True
    """Each next state of an answer is known."""
    is_silent: bool = False
    """It never says anything: the next state reads the same input."""
    writes: set[str] = field(default_factory=set)
    """``slots.amount``, ``facts.is_verified``; ``slots.*`` when a name is made at run time."""
    words: set[str] = field(default_factory=set)
    """Texts that stand in the code."""
    bare_effects: list[str] = field(default_factory=list)
    """Places that run an effect where nothing catches its failure."""
    has_process: bool = False
    has_on_event: bool = False


def place_of(kind: type) -> str:
    """Give ``file:line`` of a class; empty when there is no source."""
    key: Any = kind  # a class with a metaclass of its own is no Hashable to the type checker
    return _place_of(key)


@lru_cache(maxsize=1_000)  # the standard library parses the whole file each time
def _place_of(value: Any) -> str:
    try:
        path = inspect.getsourcefile(value)
        line = inspect.getsourcelines(value)[1]
    except (OSError, TypeError):
        return ""
    return f"{_shown(path)}:{line}" if path else ""


def _shown(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def read_code(state: AFSMState) -> StateCode:
    """Read a state's code; of a JSON state there is none."""
    kind = type(state)
    code = StateCode(
        has_process=kind.process is not AFSMState.process,
        has_on_event=kind.on_event is not AFSMState.on_event,
    )
    if state.kind == "json":
        return code
    _Reader(state).read(code)
    return code


@cache
def _functions_of(path: str) -> Mapping[tuple[str, int], ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a file by name and first line."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {
        (node.name, min(node.lineno, *(mark.lineno for mark in node.decorator_list), node.lineno)): node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@dataclass(frozen=True, eq=False)
class _Function:
    """A function with its syntax tree."""

    function: FunctionType
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: type | None
    """The class it stands in; None for a function of a module."""

    def place(self, node: ast.AST) -> str:
        return f"{_shown(self.function.__code__.co_filename)}:{getattr(node, 'lineno', 0)}"

    @property
    def parameters(self) -> list[str]:
        arguments = self.node.args
        names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        return names[1:] if self.owner is not None and names else names

    @property
    def keyword_only(self) -> list[str]:
        return [one.arg for one in self.node.args.kwonlyargs]

    def default_of(self, name: str) -> ast.expr | None:
        arguments = self.node.args
        positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        defaults = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
        keyword = dict(zip(self.keyword_only, arguments.kw_defaults, strict=True))
        return defaults.get(name) or keyword.get(name)


class _Unknown(Exception):
    """A value that only a run can tell."""


class _Reader:
    def __init__(self, state: AFSMState) -> None:
        self._state = state
        self._functions: dict[Any, _Function | None] = {}
        self._calls: list[tuple[_Function, ast.Call, _Function]] = []

    def read(self, code: StateCode) -> None:
        by_answer = self._reach([name for name in HOOKS if self._overrides(name)])
        code.is_complete = all(self._own(name) is not None for name in HOOKS if self._overrides(name))
        code.next_states, is_whole, spoken = self._results(by_answer, "process")
        code.is_complete = code.is_complete and is_whole and not self._calls_unread(by_answer)
        if not code.has_process and self._overrides("_determine_next_state"):
            hook = self._own("_determine_next_state")
            found, is_whole = self._returned(hook) if hook is not None else ([], False)
            code.next_states += found
            code.is_complete = code.is_complete and is_whole
        if not code.has_process and not self._overrides("_determine_next_state"):
            code.is_complete = False  # the engine or the default decides
        code.is_silent = code.has_process and bool(spoken) and not any(spoken)
        reached = by_answer
        if code.has_on_event:
            by_event = self._reach(["on_event"])
            code.event_states = self._results(by_event, "on_event")[0]
            reached = [*by_answer, *(one for one in by_event if one not in by_answer)]
        for function in reached:
            self._read_writes(function, code)
            self._read_effects(function, code)

    # Which functions may run

    def _overrides(self, name: str) -> bool:
        return getattr(type(self._state), name) is not getattr(AFSMState, name)

    def _own(self, name: str) -> _Function | None:
        return self._method(name, type(self._state).__mro__)

    def _method(self, name: str, owners: tuple[type, ...]) -> _Function | None:
        for owner in owners:
            if owner is AFSMState:
                return None
            if name in vars(owner):
                value = vars(owner)[name]
                value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                is_static = isinstance(vars(owner)[name], staticmethod)
                return self._parsed(value, None if is_static else owner)
        return None

    def _parsed(self, value: Any, owner: type | None) -> _Function | None:
        value = inspect.unwrap(value) if callable(value) else value
        if not isinstance(value, FunctionType):
            return None
        if value not in self._functions:
            key = value.__code__.co_name, value.__code__.co_firstlineno
            node = _functions_of(value.__code__.co_filename).get(key)
            self._functions[value] = None if node is None else _Function(value, node, owner)
        return self._functions[value]

    def _reach(self, names: list[str]) -> list[_Function]:
        found: list[_Function] = []
        waiting = [one for one in map(self._own, names) if one is not None]
        while waiting:
            function = waiting.pop()
            if function in found:
                continue
            found.append(function)
            for node in ast.walk(function.node):
                if isinstance(node, ast.Call) and (callee := self._callee(function, node)) is not None:
                    self._calls.append((function, node, callee))
                    waiting.append(callee)
        return found

    def _callee(self, function: _Function, call: ast.Call) -> _Function | None:
        match call.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return self._method(name, type(self._state).__mro__)
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name):
                order = type(self._state).__mro__
                behind = order.index(function.owner) + 1 if function.owner in order else len(order)
                return self._method(name, order[behind:])
            case ast.Name(id=name):
                value = function.function.__globals__.get(name)
                if isinstance(value, FunctionType) and value.__module__ == function.function.__module__:
                    return self._parsed(value, None)
        return None

    def _calls_unread(self, functions: list[_Function]) -> bool:
        """Some result comes from where nothing was read: ``return await helper.decide(...)``."""
        for name in ("process",):
            function = self._own(name)
            if function is not None and function in functions and not self._gives_result(function, set()):
                return True
        return False

    def _gives_result(self, function: _Function, seen: set[_Function]) -> bool:
        if function in seen:
            return True
        seen.add(function)
        return all(
            self._is_result(function, node.value, seen)
            for node in _own_nodes(function.node)
            if isinstance(node, ast.Return) and node.value is not None
        )

    def _is_result(self, function: _Function, value: ast.expr, seen: set[_Function]) -> bool:
        match value:
            case ast.Dict():
                return True
            case ast.Await(value=inner):
                return self._is_result(function, inner, seen)
            case ast.IfExp(body=body, orelse=orelse):
                return self._is_result(function, body, seen) and self._is_result(function, orelse, seen)
            case ast.BoolOp(values=values):
                return all(self._is_result(function, one, seen) for one in values)
            case ast.Call(func=ast.Name(id="dict" | "StateResult")):
                return True
            case ast.Call():
                callee = self._callee(function, value)
                return callee is not None and self._gives_result(callee, seen)
            case ast.Name(id=name):
                values = _assigned(function.node, name)
                return bool(values) and all(self._is_result(function, one, seen) for one in values)
        return False

    # Next states

    def _results(self, functions: list[_Function], entry: str) -> tuple[list[Named], bool, list[bool]]:
        """(states named, whether all are known, for each result whether it says something)."""
        found: list[Named] = []
        spoken: list[bool] = []
        is_whole = True
        for function in functions:
            for next_state, response in _sinks(function.node):
                try:
                    found += self._resolve(function, next_state, frozenset())
                except _Unknown:
                    is_whole = False
                if response is not None:
                    try:
                        texts = self._resolve(function, response, frozenset())
                        spoken.append(any(one.state for one in texts))
                    except _Unknown:
                        spoken.append(True)
        return list(dict.fromkeys(found)), is_whole, spoken

    def _returned(self, function: _Function) -> tuple[list[Named], bool]:
        try:
            return list(dict.fromkeys(self._returns(function, frozenset()))), True
        except _Unknown:
            pass
        known: list[Named] = []
        for node in _own_nodes(function.node):
            if isinstance(node, ast.Return) and node.value is not None:
                try:
                    known += self._resolve(function, node.value, frozenset())
                except _Unknown:
                    continue
        return list(dict.fromkeys(known)), False

    def _returns(self, function: _Function, seen: frozenset[Any]) -> Iterator[Named]:
        for node in _own_nodes(function.node):
            if isinstance(node, ast.Return) and node.value is not None:
                yield from self._resolve(function, node.value, seen)

    def _resolve(self, function: _Function, value: ast.expr, seen: frozenset[Any]) -> list[Named]:
        """The texts an expression may be. Raises: _Unknown."""
        if (function, value) in seen:
            return []
        seen |= {(function, value)}
        match value:
            case ast.Constant(value=str(text)):
                return [Named(text, function.place(value))]
            case ast.IfExp(body=body, orelse=orelse):
                return self._resolve(function, body, seen) + self._resolve(function, orelse, seen)
            case ast.BoolOp(values=values):
                return [one for part in values for one in self._resolve(function, part, seen)]
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                return self._resolve(function, inner, seen)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                own = getattr(self._state, name, None)
                if isinstance(own, str) and not self._is_assigned(name):
                    return [Named(own, function.place(value))]
            case ast.Name(id=name):
                return self._named(function, value, name, seen)
            case ast.Subscript(value=table):
                return [
                    one for part in self._table(function, table) for one in self._resolve(*part, seen)
                ] + self._texts(function, table, value)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *default]):
                parts = [*self._table(function, table), *((function, one) for one in default)]
                return [one for part in parts for one in self._resolve(*part, seen)] + self._texts(
                    function, table, value
                )
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=""), attr="join")):
                raise _Unknown
            case ast.Call():
                callee = self._callee(function, value)
                if callee is not None:
                    return list(self._returns(callee, seen))
        raise _Unknown

    def _named(self, function: _Function, value: ast.expr, name: str, seen: frozenset[Any]) -> list[Named]:
        if values := _assigned(function.node, name):
            return [one for part in values for one in self._resolve(function, part, seen)]
        if name in (*function.parameters, *function.keyword_only):
            return self._passed(function, name, seen)
        text = function.function.__globals__.get(name)
        if isinstance(text, str):
            return [Named(text, function.place(value))]
        raise _Unknown

    def _passed(self, function: _Function, name: str, seen: frozenset[Any]) -> list[Named]:
        """What callers pass for a parameter."""
        found: list[Named] = []
        calls = list({id(call): (caller, call) for caller, call, callee in self._calls if callee is function}
                     .values())  # fmt: skip
        if not calls:
            raise _Unknown
        for caller, call in calls:
            position = function.parameters.index(name) if name in function.parameters else None
            given = next((one.value for one in call.keywords if one.arg == name), None)
            if given is None and position is not None and position < len(call.args):
                if any(isinstance(one, ast.Starred) for one in call.args[: position + 1]):
                    raise _Unknown
                given = call.args[position]
            if given is not None:
                found += self._resolve(caller, given, seen)
            elif (default := function.default_of(name)) is not None:
                found += self._resolve(function, default, seen)
            else:
                raise _Unknown
        return found

    def _table(self, function: _Function, table: ast.expr) -> list[tuple[_Function, ast.expr]]:
        if isinstance(table, ast.Dict):
            return [(function, one) for one in table.values]
        if isinstance(table, ast.Name) and len(values := _assigned(function.node, table.id)) == 1:
            return self._table(function, values[0])
        return []

    def _texts(self, function: _Function, table: ast.expr, value: ast.expr) -> list[Named]:
        """The texts of a table of the module or the state."""
        match table:
            case ast.Dict():
                return []
            case ast.Name(id=name) if _assigned(function.node, name):
                if not self._table(function, table):
                    raise _Unknown
                return []
            case ast.Name(id=name):
                values = function.function.__globals__.get(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if not self._is_assigned(name):
                values = getattr(self._state, name, None)
            case _:
                raise _Unknown
        if not isinstance(values, Mapping) or not all(isinstance(one, str) for one in values.values()):
            raise _Unknown
        return [Named(one, function.place(value)) for one in values.values()]

    def _is_assigned(self, name: str) -> bool:
        """A run changes this attribute."""
        return any(
            isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store)
            for function in self._functions.values()
            if function is not None and function.function.__name__ != "__init__"
            for node in ast.walk(function.node)
        )

    # Writes, words, effects

    def _read_writes(self, function: _Function, code: StateCode) -> None:
        for node in ast.walk(function.node):
            match node:
                case ast.Constant(value=str(text)):
                    code.words.add(text)
                case ast.Subscript(value=table, slice=key, ctx=ast.Store()) if _is_slots(
                    function.node, table
                ):
                    code.writes.add(f"slots.{_text_of(key)}")
                case ast.Call(func=ast.Attribute(value=table, attr="setdefault"), args=[key, *_]) if (
                    _is_slots(function.node, table)
                ):
                    code.writes.add(f"slots.{_text_of(key)}")
                case ast.Call(func=ast.Attribute(value=table, attr="update")) if _is_slots(
                    function.node, table
                ):
                    code.writes |= {f"slots.{name}" for name in _update_names(node)}
                case ast.Call(func=ast.Attribute(attr="add_salient_fact"), args=[key, *_]):
                    code.writes.add(f"facts.{_text_of(key)}")
                case ast.Call(func=ast.Attribute(attr="update_user_profile")):
                    code.writes |= {f"profile.{name}" for name in _update_names(node)}

    def _read_effects(self, function: _Function, code: StateCode) -> None:
        caught = {
            id(inner)
            for node in ast.walk(function.node)
            if isinstance(node, ast.Try) and node.handlers
            for part in node.body
            for inner in ast.walk(part)
        }
        for node in ast.walk(function.node):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="effect_runner"), attr="run")):
                    if id(node) not in caught:
                        code.bare_effects.append(function.place(node))


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions within it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _assigned(function: ast.AST, name: str) -> list[ast.expr]:
    """What a local name is set to; a value that is not one expression is given as the name itself."""
    found: list[ast.expr] = []
    for node in _own_nodes(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        found.append(value)
                    elif any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(target)) and (
                        isinstance(target, ast.Tuple | ast.List)
                    ):
                        found.append(ast.Tuple(elts=[], ctx=ast.Load()))
            case ast.AnnAssign(target=ast.Name(id=target_name), value=ast.expr() as value) if (
                target_name == name
            ):
                found.append(value)
            case ast.NamedExpr(target=ast.Name(id=target_name), value=value) if target_name == name:
                found.append(value)
            case ast.For(target=target) | ast.AsyncFor(target=target):
                if any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(target)):
                    found.append(ast.Tuple(elts=[], ctx=ast.Load()))
    return found


def _sinks(function: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """(next_state, response) of each result that a function makes."""
    for node in _own_nodes(function):
        match node:
            case ast.Dict(keys=keys, values=values):
                named = {
                    key.value: value
                    for key, value in zip(keys, values, strict=True)
                    if isinstance(key, ast.Constant)
                }
                if "next_state" in named:
                    yield named["next_state"], named.get("response")
            case ast.Call(func=ast.Name(id="dict" | "StateResult"), keywords=keywords):
                by_name = {one.arg: one.value for one in keywords}
                if "next_state" in by_name:
                    yield by_name["next_state"], by_name.get("response")
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value="next_state"))], value=value):
                yield value, None


def _is_slots(function: ast.AST, table: ast.expr) -> bool:
    match table:
        case ast.Attribute(attr="slots"):
            return True
        case ast.Name(id=name):
            return any(
                isinstance(one, ast.Attribute) and one.attr == "slots" for one in _assigned(function, name)
            )
    return False


def _text_of(key: ast.expr) -> str:
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else "*"


def _update_names(call: ast.Call) -> set[str]:
    names = {one.arg or "*" for one in call.keywords}
    for argument in call.args:
        names |= (
            {"*" if key is None else _text_of(key) for key in argument.keys}
            if isinstance(argument, ast.Dict)
            else {"*"}
        )
    return names
