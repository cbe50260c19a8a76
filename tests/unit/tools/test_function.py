"""`tool`: schemas from annotations, limits, and that nothing a function does gets out of it."""

import asyncio
import contextvars
import doctest
import json
import logging
import threading
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from fastagent.errors import ConfigurationError, ToolError
from fastagent.tools import Function, ToolCall, function, tool

pytestmark = pytest.mark.anyio

CALL = ToolCall("call-1", "fc-1", "+1555", {"city": "Bonn"})


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Day(BaseModel):
    name: str
    hour: int = 9


async def run(offered, call=CALL, **arguments):
    return await offered.run(json.dumps(arguments), call)


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(function).failed == 0
    assert doctest.testmod(function).attempted >= 4


def test_schema_comes_from_annotations_and_words_from_the_docstring():
    @tool
    def book(
        day: Annotated[str, Field(description="Which day.")],
        kind: Literal["long", "short"] = "short",
        title: str | None = None,
        *,
        when: Day | None = None,
        schema: int = 1,
    ) -> str:
        """Book a
        table.

        More words, not for the model.
        """
        return ""

    assert isinstance(book, Function)
    assert book.tool["type"] == "function"
    assert (book.name, book.tool["name"], book.qualified_name) == ("book", "book", "book")
    assert book.tool["description"] == "Book a table."
    schema = book.tool["parameters"]
    assert schema["properties"]["day"] == {"type": "string", "description": "Which day."}
    assert schema["properties"]["kind"] == {"type": "string", "enum": ["long", "short"], "default": "short"}
    assert list(schema["properties"]) == ["day", "kind", "title", "when", "schema"]
    assert schema["$defs"]["Day"]["properties"] == {
        "name": {"type": "string"},
        "hour": {"type": "integer", "default": 9},
    }
    assert schema["required"] == ["day"]
    assert schema["additionalProperties"] is False


def test_options_replace_what_the_function_says():
    offered = tool(name="x-1", description="Do it.", deadline_s=3.0, max_output_bytes=9, max_concurrency=2)(
        lambda: None
    )
    assert (offered.name, offered.description) == ("x-1", "Do it.")
    assert (offered.deadline_s, offered.max_output_bytes, offered.max_concurrency) == (3.0, 9, 2)
    assert repr(offered) == "<Function 'x-1'>"


def no_annotation(day):
    """Words."""


def no_words(day: str):
    pass


def star(*days: str):
    """Words."""


def positional(day: str, /):
    """Words."""


def no_json(day: threading.Lock):
    """Words."""


def unknown_name(day: "NoSuchName"):  # noqa: F821
    """Words."""


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (no_annotation, "'day' has no annotation"),
        (no_words, "needs a docstring"),
        (star, "cannot be passed by name"),
        (positional, "cannot be passed by name"),
        (no_json, "no JSON Schema"),
        (unknown_name, "annotations cannot be read"),
        ("text", "must be a function"),
        (lambda: None, "must be 1 to 64"),
    ],
)
def test_what_cannot_be_offered_is_refused_when_it_is_declared(wrong, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        tool(wrong)


@pytest.mark.parametrize("limit", ["deadline_s", "max_output_bytes", "max_concurrency"])
def test_limits_must_be_above_zero(limit):
    with pytest.raises(ConfigurationError, match="above 0"):
        tool(**{limit: 0})(star)


async def test_arguments_are_parsed_into_their_types():
    seen = []

    @tool
    async def book(when: Day, count: int = 1):
        """Book."""
        seen.append((when, count))

    result = await run(book, when={"name": "monday"}, count="3")
    assert result.report == {"status": "done"}
    assert seen == [(Day(name="monday"), 3)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"count": "many"}', "count: Input should be a valid integer"),
        ('{"day": "monday"}', "day: Extra inputs are not permitted"),
        ('{"count": 900}', "count: Input should be less than or equal to 9"),
        ("", "count: Field required"),
    ],
)
async def test_wrong_arguments_are_told_without_running_anything(arguments, complaint):
    ran = []

    @tool
    def book(count: Annotated[int, Field(le=9)]):
        """Book."""
        ran.append(count)

    result = await book.run(arguments, CALL)
    assert (result.status, result.cause) == ("error", "arguments")
    assert complaint in result.report["reason"]
    assert "many" not in result.report["reason"]
    assert ran == []


async def test_function_that_asks_is_told_of_its_call_and_the_model_does_not_see_it():
    @tool
    def where(call: ToolCall) -> str:
        """Tell."""
        return f"{call.call_id} {call.facts['city']} {call.idempotency_key}"

    assert where.parameters["properties"] == {}
    other = ToolCall("call-1", "fc-2", facts=CALL.facts)
    answers = [(await run(where, call)).report["answer"] for call in (CALL, CALL, other)]
    assert answers[0] == answers[1] == f"call-1 Bonn {CALL.idempotency_key}"
    assert answers[2] != answers[0]
    assert "+1555" not in repr(CALL)
    assert "Bonn" not in repr(CALL)


@pytest.mark.parametrize(
    ("value", "report"),
    [
        (None, {"status": "done"}),
        ("Nine.", {"status": "done", "answer": "Nine."}),
        (7, {"status": "done", "result": 7}),
        (Day(name="monday"), {"status": "done", "result": {"name": "monday", "hour": 9}}),
        ({"say": "Nine.", "hour": 9}, {"status": "done", "say": "Nine.", "result": {"hour": 9}}),
        ([float("nan")], {"status": "done", "result": [None]}),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_results_are_shaped_for_the_model(value, report, is_async):
    async def give_async():
        return value

    offered = tool(name="give", description="Give.")(give_async if is_async else lambda: value)
    assert offered.is_async is is_async
    assert (await run(offered)).report == report


CYCLE: list = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["x" * 200], "longer than 100 bytes"),
        ([""] * 90, "longer than 100 bytes"),
        ({"a": {"b": list(range(10**6))}}, "longer than 100 bytes"),
        (10**500, "longer than 100 bytes"),
        ([Day(name="x" * 200)], "longer than 100 bytes"),
        (threading.Lock(), "cannot be written as JSON"),
        (CYCLE, "longer than 100 bytes"),
    ],
    ids=["text", "many", "deep", "number", "model", "lock", "cycle"],
)
async def test_result_that_cannot_be_told_is_left_out_and_still_counts_as_done(value, reason):
    offered = tool(name="give", description="Give.", max_output_bytes=100)(lambda: value)
    result = await run(offered)
    assert (result.status, result.cause) == ("done", "output")
    assert result.report.keys() == {"status", "reason"}
    assert reason in result.report["reason"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x" * 10, "x" * 10), ("x" * 11, "x" * 10), ("é" * 5, "é" * 5), ("é" * 6, "é" * 5), ("€" * 4, "€" * 3)],
)
async def test_long_text_is_cut_at_a_character(text, kept):
    offered = tool(name="give", description="Give.", max_output_bytes=10)(lambda: text)
    report = (await run(offered)).report
    assert report["answer"] == kept
    assert report.get("is_truncated", False) is (text != kept)


@pytest.mark.parametrize("error", [ValueError("caller said 4711"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("is_async", [False, True])
async def test_whatever_a_function_raises_becomes_a_polite_report(error, is_async, caplog):
    def fail():
        raise error

    async def fail_async():
        raise error

    offered = tool(name="fail", description="Fail.")(fail_async if is_async else fail)
    result = await run(offered)
    assert (result.status, result.cause) == ("failed", "exception")
    assert result.report == {
        "status": "failed",
        "say": "I am sorry, that did not work.",
        "reason": "the function failed",
    }
    assert type(error).__name__ in caplog.text
    assert "4711" not in caplog.text


async def test_tool_error_is_told_in_its_own_words_and_not_logged(caplog):
    @tool
    def find(number: int):
        """Find."""
        raise ToolError(f"There is no order {number}.")

    with caplog.at_level(logging.DEBUG):
        report = (await run(find, number=4711)).report
    assert (report["status"], report["answer"]) == ("failed", "There is no order 4711.")
    assert "4711" not in caplog.text


async def test_sync_function_runs_beside_the_loop():
    gate = threading.Event()
    names = []

    @tool
    def wait() -> str:
        """Wait."""
        names.append(threading.current_thread().name)
        gate.wait()
        return "done"

    waiting = asyncio.create_task(run(wait))
    while not names:  # noqa: ASYNC110
        await asyncio.sleep(0)
    gate.set()  # the loop is free to do so
    assert (await waiting).report["answer"] == "done"
    assert names == ["wait-tool"]


async def test_deadline_leaves_a_thread_behind_that_keeps_its_place():
    gate = threading.Event()

    @tool(deadline_s=0.01, max_concurrency=1)
    def wait() -> str:
        """Wait."""
        gate.wait()
        return "late"

    late = await run(wait)
    assert (late.status, late.cause) == ("unknown", "deadline")
    assert "may have been done" in late.report["reason"]
    refused = await run(wait)
    assert (refused.status, refused.cause) == ("error", "busy")
    gate.set()
    for _ in range(10_000):
        again = await run(wait)
        if again.status == "done":
            break
        await asyncio.sleep(0.001)
    assert again.report["answer"] == "late"


async def test_deadline_cancels_a_coroutine():
    ended = asyncio.Event()

    @tool(deadline_s=0.01)
    async def wait():
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert (await run(wait)).status == "unknown"
    await ended.wait()


async def test_coroutine_that_ignores_its_cancellation_is_left_to_itself():
    gate = asyncio.Event()

    @tool(deadline_s=0.01, max_concurrency=1)
    async def wait():
        """Wait."""
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                pass

    assert (await run(wait)).status == "unknown"
    assert (await run(wait)).cause == "busy"
    gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (await run(wait)).status == "done"


@pytest.mark.parametrize("is_async", [False, True])
async def test_end_of_the_call_cancels_the_function(is_async):
    gate, ended = threading.Event(), []

    def wait():
        gate.wait()
        ended.append("thread")

    async def wait_async():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("coroutine")

    offered = tool(name="wait", description="Wait.")(wait_async if is_async else wait)
    running = asyncio.create_task(run(offered))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    await asyncio.sleep(0)
    if is_async:
        assert ended == ["coroutine"]


async def test_function_that_awaits_something_cancelled_has_failed():
    @tool
    async def wait():
        """Wait."""
        other = asyncio.get_running_loop().create_future()
        other.cancel()
        await other

    assert (await run(wait)).status == "failed"


async def test_context_variables_reach_the_thread():
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("of the call")

    @tool
    def get() -> str:
        """Get."""
        return variable.get()

    assert (await run(get)).report["answer"] == "of the call"


def test_annotations_as_texts_are_understood():
    code = (
        "from __future__ import annotations\n"
        "from fastagent.tools import ToolCall, tool\n"
        "@tool\n"
        "def find(number: int, call: ToolCall) -> str:\n"
        "    'Find.'\n"
        "    return ''\n"
    )
    space = {"__name__": __name__}
    exec(compile(code, "postponed", "exec"), space)
    assert space["find"].parameters["properties"] == {"number": {"type": "integer"}}


def test_calling_it_calls_the_plain_function():
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert add(1, b=2) == 3
