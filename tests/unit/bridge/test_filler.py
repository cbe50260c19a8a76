"""Words against a silence: said while something is at work and nobody speaks, each once per wait."""

import pytest

from fastagent.bridge.commands import CallerPressed, Command
from fastagent.bridge.filler import Filler
from fastagent.media.bargein import BargeInPolicy
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import Stage, done, function, waits_for_a_function

WORDS = ("One moment.", "Still at it.")


def fillers(commands: list[Command]) -> list[str]:
    creates = [one for one in commands if isinstance(one, model.CreateResponse) and one.instructions]
    assert all(create.tool_choice == "none" for create in creates)
    return [create.instructions.partition('"')[2].rstrip('"') for create in creates if create.instructions]


def stage_with_filler(after_s: float = 1.0) -> Stage:
    stage = Stage()
    stage.brain.set_filler(after_s, WORDS, stage.now)
    return stage


def say_filler(stage: Stage, number: int) -> None:
    response = f"filler{number}"
    stage.begins(response)
    stage.audio(f"i_{response}", 300, of=response)
    stage.model(model.AudioDone(response, f"i_{response}"), done(response))


def test_a_slow_function_is_bridged_by_one_filler_after_another_and_then_by_silence() -> None:
    stage = stage_with_filler()
    waits_for_a_function(stage)
    assert fillers(stage.wait(0.9)) == []
    assert fillers(stage.wait(0.2)) == ["One moment."]
    say_filler(stage, 1)
    assert fillers(stage.wait(1.2)) == []  # 0.3 s of words, then a second from their end
    assert fillers(stage.wait(0.2)) == ["Still at it."]
    say_filler(stage, 2)
    assert fillers(stage.wait(30.0)) == []


def test_the_result_follows_the_filler() -> None:
    stage = stage_with_filler()
    waits_for_a_function(stage)
    assert fillers(stage.wait(1.1)) == ["One moment."]
    stage.begins("filler1")
    commands = stage.brain.function_returned("c1", "{}", stage.now)
    assert model.CreateResponse() not in commands  # one response at a time
    assert model.CreateResponse() in stage.model(done("filler1"))


def test_a_task_that_works_without_a_function_call_is_bridged_too() -> None:
    stage = stage_with_filler()
    assert fillers(stage.brain.agent_works(True, stage.now)) == []
    assert fillers(stage.wait(1.1)) == ["One moment."]


def test_another_wait_begins_anew() -> None:
    stage = stage_with_filler()
    for number in (1, 2):
        stage.brain.agent_works(True, stage.now)
        assert fillers(stage.wait(1.1)) == ["One moment."]
        say_filler(stage, number)
        stage.brain.agent_works(False, stage.now)
        assert fillers(stage.wait(3.0)) == []


def _caller_speaks(stage: Stage) -> None:
    stage.interrupt()


def _bot_speaks(stage: Stage) -> None:
    stage.begins("r9")
    stage.audio("i9", 5_000, of="r9")


def _carrier_is_lost(stage: Stage) -> None:
    stage.brain.carrier_lost(stage.now)


def _session_is_lost(stage: Stage) -> None:
    stage.brain.model_lost(stage.now)


def _call_ends(stage: Stage) -> None:
    stage.brain.hang_up("done", stage.now)


@pytest.mark.parametrize(
    "happens", [_caller_speaks, _bot_speaks, _carrier_is_lost, _session_is_lost, _call_ends]
)
def test_no_filler_when_somebody_speaks_or_nobody_would_hear_it(happens) -> None:
    stage = stage_with_filler()
    stage.brain.agent_works(True, stage.now)
    stage.wait(0.5)
    happens(stage)
    assert fillers(stage.wait(3.0)) == []


def test_without_words_nothing_is_said() -> None:
    stage = Stage()
    waits_for_a_function(stage)
    assert fillers(stage.wait(5.0)) == []
    assert Filler().due(9.0, is_working=True, is_free=True, silent_at=0.0) is None


def test_the_words_of_another_state_count_from_their_first() -> None:
    stage = stage_with_filler()
    stage.brain.agent_works(True, stage.now)
    assert fillers(stage.wait(1.1)) == ["One moment."]
    say_filler(stage, 1)
    stage.brain.set_filler(0.5, ("Nearly there.",), stage.now)
    assert fillers(stage.wait(1.0)) == ["Nearly there."]


# Keys over the bot


@pytest.mark.parametrize(
    ("policy", "is_cut"),
    [(None, True), (BargeInPolicy("interruptible"), True), (BargeInPolicy("keyword", ("stop",)), True),
     (BargeInPolicy("protected"), False)],
)  # fmt: skip
def test_a_key_silences_the_bot_unless_it_is_protected(policy: BargeInPolicy | None, is_cut: bool) -> None:
    stage = Stage(policy=policy)
    stage.begins()
    stage.audio("i1", 3_000)
    stage.wait(1.0)
    commands = stage.carrier(carrier.DtmfReceived("4"))
    assert commands[-1] == CallerPressed("4")
    cuts = [one for one in commands if isinstance(one, model.TruncateItem)]
    assert bool(cuts) is is_cut
    assert (model.CancelResponse("r1") in commands) is is_cut
    assert any(isinstance(one, carrier.AbortPlayback) for one in commands) is is_cut
    assert stage.downlink.is_queued is not is_cut


def test_a_key_in_a_pause_cuts_nothing() -> None:
    stage = Stage()
    stage.begins()
    stage.model(function(), done())
    assert stage.carrier(carrier.DtmfReceived("4")) == [CallerPressed("4")]
