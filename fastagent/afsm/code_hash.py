"""The hash of the code that decides in a state, so that a changed class makes another graph."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterable
from functools import cache
from types import CodeType, FunctionType
from typing import Any

__all__ = ["hash_class", "hash_functions"]


def hash_class(kind: type, until: type) -> str:
    """sha256 over the methods of a class and of its bases below ``until``; comments do not count."""
    functions = [
        (f"{owner.__qualname__}.{name}", value)
        for owner in kind.__mro__
        if issubclass(owner, until) and owner is not until
        for name, value in sorted(vars(owner).items())
    ]
    return hash_functions(functions)


def hash_functions(named: Iterable[tuple[str, Any]]) -> str:
    """sha256 over functions by name; what is not a function is left out. Empty when there are none."""
    digest = hashlib.sha256()
    is_empty = True
    for name, value in named:
        function = _function_of(value)
        if function is not None:
            digest.update(f"{name.rpartition('.')[2]}\n{_text(function.__code__)}\n".encode())
            is_empty = False
    return "" if is_empty else digest.hexdigest()


def _function_of(value: Any) -> FunctionType | None:
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, FunctionType) else None


@cache
def _text(code: CodeType) -> str:
    """The source without comments, docstrings and layout; the byte code where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError, IndentationError, UnicodeDecodeError):
        return _bytecode(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _bytecode(code: CodeType) -> str:
    constants = [
        _bytecode(value) if isinstance(value, CodeType) else _constant(value) for value in code.co_consts
    ]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"


def _constant(value: object) -> str:
    # The order of a set differs from process to process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
