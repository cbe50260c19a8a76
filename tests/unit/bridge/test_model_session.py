"""The model's session: lost, refused, replaced."""

from collections.abc import Callable

import pytest

from fastagent.bridge.commands import (
    Command,
    EndCall,
    ReplaceModel,
    TransferEnded,
)
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    MEDIA,
    Stage,
    done,
    is_speaking,
    said,
    texts,
    waits_for_a_function,
    waits_for_the_model,
)

PLAIN = model.CreateResponse()
TRANSFER = carrier.TransferCall("tel:+15550100099", wants_status=True)


# The model is lost


def test_a_lost_answer_is_asked_for_in_the_next_session_after_the_replay() -> None:
    stage = Stage()
    stage.model(model.CallerTranscript("u1", "Hello?"))
    stage.begins()
    stage.audio("i1", 200)
    stage.model(said("i1", "Hello caller."))
    assert stage.brain.model_lost(stage.now) == [carrier.ClosePlayback("play-1")]
    commands = stage.brain.model_opened(stage.now)
    assert commands[0] == model.UpdateSession(stage.settings)
    assert texts(commands) == [("user", "Hello?"), ("assistant", "Hello caller.")]
    assert commands[-1] == PLAIN
    assert len(commands) == 4


@pytest.mark.parametrize(
    ("events", "is_owed"),
    [
        ([], False),
        ([model.SpeechStarted("u1")], True),
        ([model.SpeechStarted("u1"), model.SpeechStopped("u1")], True),
        ([model.InputCommitted("u1")], True),
        ([model.InputCommitted("u1"), model.ResponseCreated("r1")], True),
        ([model.InputCommitted("u1"), model.ResponseCreated("r1"), done()], False),
    ],
)
def test_an_answer_is_owed_to_a_caller_who_spoke(events: list[model.ModelEvent], is_owed: bool) -> None:
    stage = Stage()
    stage.model(*events)
    stage.brain.model_lost(stage.now)
    assert (PLAIN in stage.brain.model_opened(stage.now)) is is_owed


def test_a_server_that_does_not_answer_by_itself_owes_nothing() -> None:
    stage = Stage(answers=False)
    stage.interrupt()
    stage.turn()
    stage.brain.model_lost(stage.now)
    assert PLAIN not in stage.brain.model_opened(stage.now)


def test_audio_of_the_lost_session_plays_to_its_end() -> None:
    stage = Stage(lead_ms=200)
    stage.begins()
    stage.audio("i1", 1000)
    assert stage.brain.model_lost(stage.now) == []
    assert stage.wait(0.9) == [carrier.ClosePlayback("play-1")]
    assert stage.downlink.sent == 8000


def test_ids_may_come_again_in_another_session() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 500)
    stage.interrupt()
    stage.brain.model_lost(stage.now)
    stage.downlink.forget_item()
    stage.brain.model_opened(stage.now)
    stage.begins()
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-2", MEDIA)]


def test_a_session_that_takes_over_midway_finishes_what_the_old_one_said() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 200)
    commands = stage.brain.model_opened(stage.now)
    assert commands == [carrier.ClosePlayback("play-1"), model.UpdateSession(stage.settings), PLAIN]


@pytest.mark.parametrize(
    ("has_spoken", "word"),
    [
        (False, carrier.FailSession("the voice service is not available")),
        (True, carrier.HangUp("the voice service is not available")),
    ],
)
@pytest.mark.parametrize("way", ["error", "response", "connection"])
def test_a_fatal_error_ends_the_call_so_that_the_caller_understands(
    has_spoken: bool, word: Command, way: str
) -> None:
    stage = Stage()
    stage.begins()
    if has_spoken:
        stage.audio("i1", 200)
    fatal = model.Severity.FATAL
    if way == "error":
        commands = stage.model(model.ModelError(fatal, "invalid_api_key", ""))
    elif way == "response":
        commands = stage.model(done(status=model.ResponseStatus.FAILED, severity=fatal))
    else:
        commands = stage.brain.model_failed(stage.now)
    assert commands == [word, EndCall("model_lost")]
    assert stage.brain.has_started_talking is has_spoken


def test_a_model_that_fails_does_not_undo_a_transfer() -> None:
    stage = Stage()
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.brain.model_failed(stage.now) == []
    commands = stage.carrier(carrier.SessionEnded(carrier.EndReason.TRANSFERRED))
    assert commands == [TransferEnded(True), EndCall("transferred")]


def test_a_transfer_that_fails_without_a_model_ends_the_call() -> None:
    stage = Stage()
    stage.says("i1", 125)
    stage.wait(0.1875)
    stage.carrier(carrier.PlaybackFinished())
    stage.brain.transfer(TRANSFER, stage.now)
    stage.brain.model_failed(stage.now)
    commands = stage.carrier(carrier.TransferStatus(answered=False))
    assert commands == [
        TransferEnded(False),
        carrier.HangUp("the voice service is not available"),
        EndCall("model_lost"),
    ]


def test_a_model_that_fails_while_leaving_lets_what_was_said_be_heard() -> None:
    stage = Stage()
    stage.begins()
    stage.audio("i1", 250)
    stage.brain.transfer(TRANSFER, stage.now)
    assert stage.brain.model_failed(stage.now) == [carrier.ClosePlayback("play-1")]
    stage.wait(0.25)
    assert stage.carrier(carrier.PlaybackFinished()) == [TRANSFER]


def test_errors_that_are_not_fatal_are_counted() -> None:
    stage = Stage()
    assert stage.model(model.ModelError(model.Severity.FAULT, "invalid_value", "")) == []
    assert stage.model(model.ModelError(model.Severity.BENIGN, "item_not_found", "")) == []
    assert stage.brain.counters["model_errors_fault"] == 1
    assert stage.brain.counters["model_errors_benign"] == 1


# An update is refused


def refusal(of: str) -> model.ModelError:
    return model.ModelError(model.Severity.FAULT, "invalid_value", "no such voice", event_id=of)


def test_a_refused_session_is_tried_bare_and_then_given_up() -> None:
    stage = Stage()
    [update] = stage.model(refusal("update-session-1"))
    assert isinstance(update, model.UpdateSession)
    assert update.settings.voice is update.settings.transcription_model is None
    assert update.settings.input_format == stage.settings.input_format
    assert update.settings.tools == stage.settings.tools
    assert stage.model(refusal("update-session-2")) == [
        carrier.FailSession("the voice service is not available"),
        EndCall("model_lost"),
    ]


def test_other_refusals_are_only_counted() -> None:
    stage = Stage()
    assert stage.model(refusal("truncate-item-4")) == []
    assert stage.brain.counters["model_errors_fault"] == 1


# A session is replaced


def test_a_session_near_its_end_is_replaced_in_a_pause_once() -> None:
    stage = Stage(model_session_limit_s=30.0)
    assert stage.wait(29.9) == []
    assert stage.wait(0.1875) == [ReplaceModel()]
    assert stage.wait(100.0) == []
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]
    assert stage.wait(30.1) == [ReplaceModel()]


@pytest.mark.parametrize(
    ("lifetime_s", "replaced_after_s"),
    [(None, 3000.0), (1000.0, 940.0), (40.0, 20.0), (9000.0, 3000.0), (0.0, 3000.0), (-7200.0, 3000.0)],
)
def test_a_session_is_replaced_before_its_own_end(lifetime_s: float | None, replaced_after_s: float) -> None:
    stage = Stage(is_open=False, max_call_s=10_000.0)
    stage.brain.model_opened(stage.now, lifetime_s=lifetime_s)
    assert stage.brain.next_deadline() == stage.now + replaced_after_s


def _ends_speech(stage: Stage) -> None:
    stage.turn()
    stage.says("i1", 125)


def _ends_response(stage: Stage) -> None:
    stage.model(done())


def _returns_function(stage: Stage) -> None:
    stage.brain.function_returned("c1", "out", stage.now, should_respond=False)


def _speaks_without_end(stage: Stage) -> None:
    stage.begins()
    stage.audio("i1", 125)


@pytest.mark.parametrize(
    ("prepare", "end"),
    [
        (is_speaking, _ends_speech),
        (waits_for_the_model, _ends_response),
        (waits_for_a_function, _returns_function),
        (_speaks_without_end, _ends_response),
    ],
)
def test_a_session_is_not_replaced_while_the_talk_goes_on(
    prepare: Callable[[Stage], None], end: Callable[[Stage], None]
) -> None:
    stage = Stage(model_session_limit_s=30.0)
    stage.wait(29.0)
    prepare(stage)
    assert ReplaceModel() not in stage.wait(5.0)
    end(stage)
    assert ReplaceModel() in stage.wait(2.0)


def test_a_session_is_not_replaced_for_the_goodbye() -> None:
    stage = Stage(model_session_limit_s=30.0, leaving_limit_s=60.0)
    stage.begins()
    stage.brain.hang_up("bye", stage.now)
    assert stage.wait(40.0) == []
