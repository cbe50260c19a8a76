"""The brain of a call: each event at its time, and exactly what the call is told to do."""

from collections.abc import Callable
from typing import Any

import pytest

from fastagent.bridge.brain import SILENCE_PROMPTS_MAX, Phase
from fastagent.bridge.commands import (
    CallerPressed,
    CallerSaid,
)
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    MEDIA,
    Stage,
    done,
    function,
    hears_the_bot,
    is_speaking,
    said,
    texts,
    waits_for_a_function,
    waits_for_the_model,
    without_items,
)

PLAIN = model.CreateResponse()
GREET = model.CreateResponse(instructions='Greet the caller with: "Hello."')
TRANSFER = carrier.TransferCall("tel:+15550100099", wants_status=True)


# The session begins


def test_the_first_session_is_configured_and_greets() -> None:
    stage = Stage(greeting="Hello.", is_open=False)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings), GREET]


def test_without_a_greeting_the_caller_speaks_first() -> None:
    stage = Stage(is_open=False)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]


def test_the_caller_is_greeted_once() -> None:
    stage = Stage(greeting="Hello.")
    stage.says()
    stage.wait(1.0)
    stage.brain.model_lost(stage.now)
    assert stage.brain.model_opened(stage.now) == [model.UpdateSession(stage.settings)]


def test_a_greeting_that_never_began_is_asked_for_again() -> None:
    stage = Stage(greeting="Hello.")
    stage.brain.model_lost(stage.now)
    commands = stage.brain.model_opened(stage.now)
    assert commands[:2] == [model.UpdateSession(stage.settings), GREET]
    assert PLAIN not in commands


def test_what_was_announced_before_the_session_follows_the_greeting() -> None:
    stage = Stage(greeting="Hello.", is_open=False)
    assert stage.brain.announce("Something.", stage.now) == []
    commands = stage.brain.model_opened(stage.now)
    assert texts(commands) == [("system", "Something.")]
    assert without_items(commands) == [model.UpdateSession(stage.settings), GREET]
    stage.begins()
    assert stage.model(done()) == [PLAIN]


# The caller in other ways


def test_digits_go_to_the_agent_and_on_to_the_model_if_it_wants_none() -> None:
    stage = Stage()
    assert stage.carrier(carrier.DtmfReceived("42#")) == [CallerPressed("42#")]
    commands = stage.brain.caller_pressed("42#", stage.now)
    assert texts(commands) == [("user", "The caller pressed 42#.")]
    assert without_items(commands) == [PLAIN]


def test_text_of_the_caller_is_an_utterance() -> None:
    stage = Stage()
    commands = stage.carrier(carrier.CallerText("I am here"))
    assert texts(commands) == [("user", "I am here")]
    assert without_items(commands) == [CallerSaid("I am here"), PLAIN]
    assert stage.carrier(carrier.CallerText("I", is_final=False), carrier.CallerText("  ")) == []


def test_a_silent_caller_is_asked_and_in_the_end_left() -> None:
    stage = Stage()
    for count in range(1, SILENCE_PROMPTS_MAX + 1):
        commands = stage.carrier(carrier.NoUserInput(count))
        assert "still there" in texts(commands)[0][1]
        assert without_items(commands) == [PLAIN]
        stage.says(f"i{count}", 100, of=f"r{count}")
        stage.wait(0.1875)
        stage.carrier(carrier.PlaybackFinished())
    commands = stage.carrier(carrier.NoUserInput(SILENCE_PROMPTS_MAX + 1))
    assert "goodbye" in texts(commands)[0][1]
    assert stage.brain.phase is Phase.LEAVING
    stage.says("i9", 100, of="r9")
    stage.wait(0.1875)
    assert stage.carrier(carrier.PlaybackFinished()) == [carrier.HangUp("caller silent")]


@pytest.mark.parametrize("prepare", [is_speaking, hears_the_bot, waits_for_the_model, waits_for_a_function])
@pytest.mark.parametrize("count", [1, SILENCE_PROMPTS_MAX + 1])
def test_a_caller_who_has_reason_to_be_silent_is_left_in_peace(
    prepare: Callable[[Stage], None], count: int
) -> None:
    stage = Stage()
    prepare(stage)
    assert stage.carrier(carrier.NoUserInput(count)) == []
    assert stage.brain.phase is Phase.TALKING


# Beside the conversation


def test_out_of_band_responses_are_neither_played_nor_recorded() -> None:
    stage = Stage()
    stage.begins("r1")
    stage.model(model.ResponseCreated("aside", is_out_of_band=True))
    assert stage.audio("i9", 200, of="aside") == []
    assert stage.model(said("i9", "A summary.", of="aside"), done("aside")) == []
    assert stage.audio("i1", 200) == [carrier.OpenPlayback("play-1", MEDIA)]
    assert stage.downlink.sent == 1600
    stage.model(done("r1"))
    stage.brain.model_lost(stage.now)
    assert texts(stage.brain.model_opened(stage.now)) == []


def test_what_the_brain_has_no_use_for_gives_nothing() -> None:
    stage = Stage()
    assert (
        stage.model(
            model.ModelNotice("mcp_list_tools.completed"),
            model.SessionCreated("s1"),
            model.SessionUpdated(),
            model.InputCleared(),
            model.InputTimeout("u1"),
            model.ItemAdded("x", "message", "user"),
            model.ItemDone("x", "message", "user"),
            model.ItemTruncated("x", 10),
            model.ItemDeleted("x"),
            model.RateLimits({}),
        )
        == []
    )
    assert (
        stage.carrier(
            carrier.CallMetadata({}),
            carrier.CallerStreamStarted(),
            carrier.CallerStreamStopped(),
            carrier.CarrierNotice("voiceDetected"),
            carrier.PlaybackFailed("x"),
            carrier.IgnoredMessage("unknown_type"),
            carrier.SessionResumed("c"),
            carrier.SessionOffered("c", (MEDIA,), wants_audio=True),
        )
        == []
    )
    assert stage.brain.counters["model_notices"] == 1
    assert stage.brain.counters["playback_failed"] == 1
    assert stage.brain.counters["carrier_ignored_unknown_type"] == 1


# The end


def test_nothing_follows_the_end() -> None:
    stage = Stage(greeting="Hello.")
    stage.begins()
    stage.audio("i1", 1000)
    stage.model(function())
    stage.carrier(carrier.SessionEnded(carrier.EndReason.CALLER))
    brain, now = stage.brain, stage.now + 10_000.0
    after: list[Any] = [
        brain.receive_model(model.SpeechStarted("u1"), now),
        brain.receive_carrier(carrier.DtmfReceived("1"), now),
        brain.receive_carrier(carrier.SessionEnded(carrier.EndReason.BOT), now),
        brain.function_returned("c1", "out", now),
        brain.announce("x", now),
        brain.caller_pressed("1", now),
        brain.hang_up("x", now),
        brain.transfer(TRANSFER, now),
        brain.carrier_lost(now),
        brain.carrier_resumed(now),
        brain.playout_drained(now),
        brain.model_lost(now),
        brain.model_opened(now),
        brain.model_failed(now),
        brain.advance(now),
    ]
    assert after == [[]] * len(after)
    assert brain.meet_item("r2", "i2", 0, now) == (False, [])
    assert brain.next_deadline() is None
    assert brain.phase is Phase.ENDED
