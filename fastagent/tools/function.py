"""`tool` makes a typed Python function something the model can call in the middle of a conversation.

>>> from typing import Annotated
>>> from pydantic import Field
>>> @tool
... def opening_hours(day: Annotated[str, Field(description="The day of the week.")]) -> str:
...     '''Tell when the shop is open.'''
...     return f"On {day} from nine to five."
>>> opening_hours.tool["parameters"]["required"]
['day']
>>> opening_hours("monday")
'On monday from nine to five.'

A coroutine function runs on the call's loop and must not block it; any other function runs in a thread.
Either has a deadline, a size its result may have, and a number of calls at once. What goes wrong is told to
the model politely; nothing is raised into the call, and neither arguments nor results reach a log.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints, overload

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from fastagent.afsm.place import place_of_error
from fastagent.errors import ConfigurationError, ToolError
from fastagent.tools import offered
from fastagent.tools.arguments import ArgumentsError, read_arguments
from fastagent.tools.offered import DEFAULT_DEADLINE_S, DEFAULT_MAX_OUTPUT_BYTES, ToolCall, ToolResult
from fastagent.tools.task import function_tool
from fastagent.tools.threads import BoundedThreads

__all__ = ["DEFAULT_MAX_CONCURRENCY", "Function", "tool"]

DEFAULT_MAX_CONCURRENCY = 16
"""Calls of one function at once, over all telephone calls; abandoned threads count."""
MAX_COMPLAINTS = 5
"""Mistakes in the arguments that are told at once."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_log = logging.getLogger(__name__)


class Function:
    """A function with its schema and its limits; calling it calls the plain function. Made by `tool`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
    ) -> None:
        if not callable(function):
            raise ConfigurationError(f"a tool must be a function, got a {type(function).__name__}")
        self.name: str = name or str(getattr(function, "__name__", ""))
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"function name {self.name!r} must be 1 to 64 of a-z A-Z 0-9 _ -")
        self.description = description or _first_paragraph(function)
        if not self.description:
            raise ConfigurationError(f"function {self.name!r} needs a docstring or a description")
        if deadline_s <= 0 or max_output_bytes <= 0 or max_concurrency <= 0:
            raise ConfigurationError(f"function {self.name!r}: limits must be above 0")
        self.deadline_s = deadline_s
        self.max_output_bytes = max_output_bytes
        self.max_concurrency = max_concurrency
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine
        )
        self._function = function
        self._model, self._fields, self._call_parameter = _arguments_model(function, self.name)
        self.parameters = _untitled(self._model.model_json_schema())
        self._threads = BoundedThreads(max_concurrency, self.name)
        self._running = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Function {self.name!r}>"

    @property
    def qualified_name(self) -> str:
        """The name: a function of this process has no other."""
        return self.name

    @property
    def tool(self) -> dict[str, Any]:
        """The function tool, flat, as the Realtime API takes it."""
        return function_tool(self.name, self.description, self.parameters)

    async def run(self, arguments_json: str, call: ToolCall) -> ToolResult:
        """Do it; see `fastagent.tools.offered.OfferedTool.run`."""
        try:
            values = self._bind(read_arguments(arguments_json, {}), call)
        except ArgumentsError as error:
            return offered.refused("arguments", str(error))
        if not self.is_async:
            started = self._threads.start(partial(self._guarded, values))
            if started is None:
                return offered.busy("too many calls of this function at once")
            return await self._wait(started)
        if self._running >= self.max_concurrency:
            return offered.busy("too many calls of this function at once")
        self._running += 1
        task = asyncio.create_task(self._guarded_async(values))
        task.add_done_callback(self._ended)
        return await self._wait(task)

    async def _wait(self, work: asyncio.Future[ToolResult]) -> ToolResult:
        try:
            done, _ = await asyncio.wait({work}, timeout=self.deadline_s)
        except asyncio.CancelledError:
            work.cancel()
            raise
        if done and not work.cancelled():
            return work.result()
        # A task that ignores its cancellation goes on alone; nobody waits for it.
        work.cancel()
        _log.warning("function %r gave no answer within %g s", self.name, self.deadline_s)
        return offered.unknown("deadline", f"no answer within {self.deadline_s:g} s")

    def _ended(self, task: asyncio.Task[ToolResult]) -> None:
        self._running -= 1

    def _bind(self, arguments: Mapping[str, Any], call: ToolCall) -> dict[str, Any]:
        try:
            model = self._model.model_validate(arguments)
        except ValidationError as error:
            raise ArgumentsError(_complaints(error)) from None
        values = {name: getattr(model, field) for name, field in self._fields.items()}
        if self._call_parameter:
            values[self._call_parameter] = call
        return values

    def _guarded(self, values: dict[str, Any]) -> ToolResult:
        """Run the function; whatever it raises, an exit of the process too, becomes a report."""
        try:
            return self._shape(self._function(**values))
        except BaseException as error:
            return self._failure(error)

    async def _guarded_async(self, values: dict[str, Any]) -> ToolResult:
        try:
            return self._shape(await self._function(**values))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._failure(error)  # something it awaited was cancelled
        except BaseException as error:
            return self._failure(error)

    def _failure(self, error: BaseException) -> ToolResult:
        if isinstance(error, ToolError):
            return offered.failed("tool", "the function says so", answer=str(error))
        # The text of a foreign exception may quote the caller or tell how things are built.
        _log.warning("function %r failed: %s", self.name, place_of_error(error))
        return offered.failed("exception", "the function failed")

    def _shape(self, value: Any) -> ToolResult:
        if value is None:
            return ToolResult("done", {"status": "done"})
        if isinstance(value, str):
            return offered.text_result(value, self.max_output_bytes)
        report: dict[str, Any] = {"status": "done"}
        if not _fits(value, self.max_output_bytes):
            return self._left_out(report, f"the result is longer than {self.max_output_bytes} bytes")
        try:
            plain = to_jsonable_python(value, inf_nan_mode="null")
            size = len(orjson.dumps(plain))
        except (PydanticSerializationError, TypeError, ValueError, RecursionError):
            return self._left_out(report, "the result cannot be written as JSON")
        if size > self.max_output_bytes:
            return self._left_out(report, f"the result is longer than {self.max_output_bytes} bytes")
        if isinstance(plain, dict) and isinstance(plain.get("say"), str):
            report["say"] = plain.pop("say")
        report["result"] = plain
        return ToolResult("done", report)

    def _left_out(self, report: dict[str, Any], reason: str) -> ToolResult:
        _log.warning("function %r: %s", self.name, reason)
        # What it did is done: a failure reported here would have the model call it again.
        return ToolResult("done", {**report, "reason": f"{reason} and was left out"}, "output")


@overload
def tool(function: Callable[..., Any], /) -> Function: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    deadline_s: float = DEFAULT_DEADLINE_S,
    max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
) -> Callable[[Callable[..., Any]], Function]: ...
def tool(
    function: Callable[..., Any] | None = None, /, **options: Any
) -> Function | Callable[[Callable[..., Any]], Function]:
    """Offer a function to the model.

    The schema comes from the annotations, the description from the docstring's first paragraph; describe a
    parameter with ``Annotated[str, Field(description="...")]``. A parameter annotated with `ToolCall` is
    given what is known of the call.

    What the function returns is told to the model: a text as ``answer``, anything else pydantic can write
    as JSON as ``result``; a text under the key ``say`` is spoken word for word. To have the caller told what
    went wrong, raise `fastagent.errors.ToolError` with that sentence.

    Args:
        name: default the function's own.
        description: tells the model when to call it.
        deadline_s: for one call. A coroutine is cancelled then; a thread is left behind.
        max_output_bytes: longer texts are cut, other results left out.
        max_concurrency: calls at once; one more is told to try again.

    Raises:
        ConfigurationError: a parameter without annotation, or one that has no JSON form; no description.
    """
    if function is not None:
        return Function(function, **options)
    return lambda function: Function(function, **options)


def _arguments_model(
    function: Callable[..., Any], name: str
) -> tuple[type[BaseModel], dict[str, str], str | None]:
    """Give the model that checks the arguments, its field of each parameter, and the one for a `ToolCall`."""
    try:
        target = function if inspect.isroutine(function) else type(function).__call__
        hints = get_type_hints(target, include_extras=True)
    except Exception as error:
        raise ConfigurationError(f"function {name!r}: annotations cannot be read: {error}") from None
    definitions: dict[str, Any] = {}
    fields: dict[str, str] = {}
    call_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(f"function {name!r}: {parameter} cannot be passed by name")
        if parameter.name not in hints:
            raise ConfigurationError(f"function {name!r}: parameter {parameter.name!r} has no annotation")
        if hints[parameter.name] is ToolCall:
            call_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        # An alias, so that no parameter's name collides with a name of pydantic's.
        field = fields[parameter.name] = f"argument_{len(fields)}"
        definitions[field] = (hints[parameter.name], Field(default, alias=parameter.name))
    try:
        model: type[BaseModel] = create_model(
            name, __config__=ConfigDict(extra="forbid", validate_default=False), **definitions
        )
        model.model_json_schema()
    except (PydanticUserError, TypeError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise ConfigurationError(f"function {name!r}: no JSON Schema of its parameters: {text}") from None
    return model, fields, call_parameter


def _first_paragraph(function: Callable[..., Any]) -> str:
    paragraph = (inspect.getdoc(function) or "").strip().split("\n\n", 1)[0]
    return " ".join(paragraph.split())


def _untitled(schema: Any) -> Any:
    """Without the titles pydantic makes of names: they cost tokens and tell nothing."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _untitled(part) for name, part in value.items()}
        if key in ("properties", "$defs")
        else _untitled(value)
        for key, value in schema.items()
        if key != "title"
    }


def _complaints(error: ValidationError) -> str:
    """What is wrong with which argument; pydantic's sentences tell types and limits, not the input."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    texts = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in found]
    return "; ".join(texts[:MAX_COMPLAINTS])


def _fits(value: Any, budget: int) -> bool:
    """Tell whether a value can be that small, looking at no more of it than the budget: cost O(budget)."""
    left = [value]
    while left and budget >= 0:
        part = left.pop()
        budget -= 1
        if isinstance(part, str | bytes):
            budget -= len(part)
        elif isinstance(part, int):
            budget -= part.bit_length() // 4
        elif isinstance(part, Mapping):
            if len(part) > budget:
                return False
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            if len(part) > budget:
                return False
            left += part
        elif isinstance(fields := getattr(part, "__dict__", None), dict):
            left += list(fields.values())
    return budget >= 0
