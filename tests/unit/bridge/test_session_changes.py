"""Changes of the model's settings in mid-call: sent at turn boundaries, once for several, undone by none."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fastagent.bridge.brain import Phase
from fastagent.bridge.commands import Command
from fastagent.bridge.model_session import CHANGE_DELAY_S
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    Stage,
    done,
    function,
    is_speaking,
    waits_for_a_function,
    waits_for_the_model,
)

PLAIN = model.CreateResponse()
LATER_S = 2 * CHANGE_DELAY_S


def told(stage: Stage, instructions: str) -> model.UpdateSession:
    return model.UpdateSession(replace(stage.settings, instructions=instructions))


def change(stage: Stage, instructions: str) -> list[Command]:
    return stage.brain.configure(told(stage, instructions).settings, stage.now)


def updates(commands: list[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, model.UpdateSession)]


def accept(stage: Stage) -> None:
    stage.model(model.SessionUpdated(None))


def test_in_a_pause_several_changes_are_sent_as_one_and_soon() -> None:
    stage = Stage()
    assert change(stage, "one") == []
    assert change(stage, "two") == []
    assert stage.wait(LATER_S) == [told(stage, "two")]
    assert stage.wait(10.0) == []


def test_a_change_that_is_taken_back_is_not_sent() -> None:
    stage = Stage()
    change(stage, "one")
    change(stage, stage.settings.instructions)
    assert stage.wait(1.0) == []
    assert change(stage, stage.settings.instructions) == []
    assert stage.wait(1.0) == []


def _response_ends(stage: Stage) -> list[Command]:
    return stage.model(done())


def _turn_is_answered(stage: Stage) -> list[Command]:
    commands = stage.turn()
    assert updates(commands + stage.wait(LATER_S)) == []  # the answer is about to begin
    assert updates(stage.begins()) == []
    return stage.model(done())


def _function_returns(stage: Stage) -> list[Command]:
    return stage.brain.function_returned("c1", "out", stage.now, should_respond=False)


@pytest.mark.parametrize(
    ("prepare", "end"),
    [
        (waits_for_the_model, _response_ends),
        (is_speaking, _turn_is_answered),
        (waits_for_a_function, _function_returns),
    ],
)
def test_a_change_waits_for_the_end_of_what_is_under_way(
    prepare: Callable[[Stage], None], end: Callable[[Stage], list[Command]]
) -> None:
    stage = Stage()
    prepare(stage)
    assert change(stage, "new") == []
    assert updates(stage.wait(5.0)) == []
    assert updates(end(stage)) == [told(stage, "new")]


def test_a_change_made_by_a_function_is_told_between_its_outcome_and_the_answer() -> None:
    stage = Stage()
    waits_for_a_function(stage)
    change(stage, "new")
    output, update, create = stage.brain.function_returned("c1", "out", stage.now)
    assert isinstance(output, model.CreateItem)
    assert (update, create) == (told(stage, "new"), PLAIN)


def test_a_change_made_within_a_response_is_told_before_the_next_is_asked_for() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function())
    change(stage, "new")
    assert updates(stage.brain.function_returned("c1", "out", stage.now)) == []
    assert stage.model(done()) == [told(stage, "new"), PLAIN]


def test_a_change_is_told_before_what_is_announced() -> None:
    stage = Stage()
    change(stage, "new")
    item, update, create = stage.brain.announce("news", stage.now)
    assert isinstance(item, model.CreateItem)
    assert (update, create) == (told(stage, "new"), PLAIN)


def test_speech_that_holds_answers_back_for_long_holds_a_change_back_still() -> None:
    stage = Stage()
    stage.interrupt()
    change(stage, "new")
    stage.brain.announce("news", stage.now)
    commands = stage.wait(60.0)  # the gate gives up waiting: such speech is noise, mostly
    assert PLAIN in commands
    assert updates(commands) == []


def test_a_change_goes_out_while_the_bot_is_still_heard() -> None:
    stage = Stage()
    stage.says("i1", 2000)
    change(stage, "new")
    assert updates(stage.wait(LATER_S)) == [told(stage, "new")]


# Other sessions, other phases


def test_the_next_session_begins_with_what_was_not_told_to_the_last() -> None:
    stage = Stage()
    stage.begins()
    change(stage, "new")
    stage.brain.model_lost(stage.now)
    change(stage, "newer")
    assert updates(stage.brain.model_opened(stage.now)) == [told(stage, "newer")]
    assert updates(stage.wait(1.0)) == []


def test_a_parked_call_tells_once_the_caller_is_back() -> None:
    stage = Stage()
    stage.leave()
    change(stage, "new")
    assert stage.wait(5.0) == []
    assert stage.brain.phase is Phase.PARKED
    assert updates(stage.brain.carrier_resumed(stage.now)) == [told(stage, "new")]


def test_a_call_that_is_over_tells_nothing() -> None:
    stage = Stage()
    stage.carrier(carrier.SessionEnded(carrier.EndReason.CALLER))
    assert change(stage, "new") == []
    assert stage.brain.next_deadline() is None


# Refusals


def refused(stage: Stage) -> list[Command]:
    return stage.model(
        model.ModelError(model.Severity.FAULT, "invalid_value", "", event_id="update-session-2")
    )


def test_a_change_that_is_refused_ends_no_call_and_is_not_repeated() -> None:
    stage = Stage()
    accept(stage)
    change(stage, "new")
    stage.wait(1.0)
    assert refused(stage) == []
    assert stage.brain.counters["session_updates_refused"] == 1
    change(stage, "new")
    assert stage.wait(1.0) == []
    change(stage, "another")
    assert stage.wait(1.0) == [told(stage, "another")]


def test_a_session_that_took_only_the_bare_necessities_is_told_no_more_than_those() -> None:
    stage = Stage(transcribes=True)
    [bare] = refused(stage)
    assert isinstance(bare, model.UpdateSession)
    change(stage, "new")
    [update] = stage.wait(1.0)
    assert update == model.UpdateSession(replace(bare.settings, instructions="new"))
