"""The functions that a model calls, and what is said of their outcomes."""

import pytest

from fastagent.bridge.answers import FUNCTION_ROUNDS_MAX
from fastagent.bridge.commands import (
    Command,
    RunFunction,
)
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    Stage,
    done,
    function,
    texts,
    without_items,
)

PLAIN = model.CreateResponse()


def test_one_create_follows_when_all_outputs_of_a_response_are_in() -> None:
    stage = Stage()
    stage.begins()
    assert stage.model(function("c1"), function("c2")) == [
        RunFunction("c1", "look_up", "{}"),
        RunFunction("c2", "look_up", "{}"),
    ]
    stage.model(done())
    first = stage.brain.function_returned("c2", "two", stage.now)
    assert (texts(first), without_items(first)) == ([("function_call_output", "two")], [])
    second = stage.brain.function_returned("c1", "one", stage.now)
    assert (texts(second), without_items(second)) == ([("function_call_output", "one")], [PLAIN])


def test_the_create_waits_for_the_end_of_the_response_that_called() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function())
    assert without_items(stage.brain.function_returned("c1", "out", stage.now)) == []
    assert stage.model(done()) == [PLAIN]


@pytest.mark.parametrize(
    ("first", "second", "creates"),
    [(False, False, []), (True, False, [PLAIN]), (False, True, [PLAIN]), (True, True, [PLAIN])],
)
def test_outcomes_are_spoken_if_any_of_them_wants_to_be(
    first: bool, second: bool, creates: list[Command]
) -> None:
    stage = Stage()
    stage.begins()
    stage.model(function("c1"), function("c2"), done())
    commands = stage.brain.function_returned("c1", "one", stage.now, should_respond=first)
    commands += stage.brain.function_returned("c2", "two", stage.now, should_respond=second)
    assert without_items(commands) == creates


def test_an_outcome_is_posted_once() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    assert stage.brain.function_returned("c1", "out", stage.now)
    assert stage.brain.function_returned("c1", "out", stage.now) == []
    assert stage.brain.function_returned("unknown", "out", stage.now) == []


def test_a_session_that_never_made_the_call_is_told_of_it_with_the_outcome() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    stage.brain.model_lost(stage.now)
    assert texts(stage.brain.model_opened(stage.now)) == []
    commands = stage.brain.function_returned("c1", "out", stage.now)
    items = [command.item for command in commands if isinstance(command, model.CreateItem)]
    assert [(item.kind, item.call_id, item.name) for item in items] == [
        ("function_call", "c1", "look_up"),
        ("function_call_output", "c1", ""),
    ]
    assert without_items(commands) == [PLAIN]


def test_an_outcome_without_a_session_is_replayed_and_answered_in_the_next() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    stage.brain.model_lost(stage.now)
    assert stage.brain.function_returned("c1", "out", stage.now) == []
    commands = stage.brain.model_opened(stage.now)
    assert texts(commands) == [("function_call", "{}"), ("function_call_output", "out")]
    assert without_items(commands) == [model.UpdateSession(stage.settings), PLAIN]


def test_an_announcement_is_spoken_when_it_may_be() -> None:
    stage = Stage()
    stage.begins()
    commands = stage.brain.announce("Ready.", stage.now)
    assert (texts(commands), without_items(commands)) == ([("system", "Ready.")], [])
    assert stage.model(done()) == [PLAIN]


def test_functions_without_a_word_of_the_caller_are_answered_so_often_and_no_more() -> None:
    stage = Stage()
    answered = 0
    for number in range(FUNCTION_ROUNDS_MAX + 5):
        stage.begins(f"r{number}")
        stage.model(function(f"c{number}", f"r{number}"), done(f"r{number}"))
        commands = stage.brain.function_returned(f"c{number}", "{}", stage.now)
        answered += PLAIN in commands
    assert answered == FUNCTION_ROUNDS_MAX
    assert stage.brain.counters["function_rounds_hit"] == 5
    stage.interrupt()
    stage.turn()
    stage.begins("again")
    stage.model(function("again", "again"), done("again"))
    assert PLAIN in stage.brain.function_returned("again", "{}", stage.now)
