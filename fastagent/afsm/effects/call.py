"""How an effect's functions are called: what they take, and in what they run."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fastagent.afsm.effects.rules import KEY_ARGUMENT

__all__ = ["accepted", "begin", "offered"]


@functools.lru_cache(maxsize=512)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """What a function or bound method takes. Kept, since finding out costs more than the rest of a call."""
    if not inspect.ismethod(function):
        return _signature(function)
    # Of a method the function alone is kept, so that its object can go.
    whole = _signature(function.__func__)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def offered(
    function: Callable[..., Any], name: str, arguments: Mapping[str, Any], key: str
) -> dict[str, Any]:
    """What an effect's function is called with: all arguments, and the key where it takes one.

    Raises:
        TypeError: it does not take these arguments.
    """
    signature = signature_of(function)
    given = dict(arguments)
    if KEY_ARGUMENT in signature.parameters:
        given[KEY_ARGUMENT] = key
    try:
        signature.bind(**given)
    except TypeError:
        # Names may be a model's invention, so they are not quoted.
        raise TypeError(f"effect {name!r} does not take these arguments") from None
    if KEY_ARGUMENT in arguments:
        raise TypeError(f"effect {name!r} is given its {KEY_ARGUMENT}, it is no argument of a call")
    return given


def accepted(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Choose of ``values`` what a function names, or all if it takes any.

    Raises:
        TypeError: it needs more.
    """
    signature = signature_of(function)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        chosen = dict(values)
    else:
        chosen = {name: value for name, value in values.items() if name in signature.parameters}
    signature.bind(**chosen)
    return chosen


def begin(function: Callable[..., Any], arguments: Mapping[str, Any]) -> "asyncio.Future[Any]":
    """Start a function: an async one as a task, a sync one in a thread of its own."""
    if inspect.iscoroutinefunction(function):
        return asyncio.create_task(function(**arguments))
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def body() -> None:
        result, error = None, None
        try:
            result = function(**arguments)
        except Exception as raised:
            # StopIteration cannot be set on a future.
            error = RuntimeError("StopIteration") if isinstance(raised, StopIteration) else raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            pass  # the loop ended first

    def settle(result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    # A daemon, since a function that hangs must not keep the process from ending.
    threading.Thread(target=body, name="fastagent-effect", daemon=True).start()
    return future
