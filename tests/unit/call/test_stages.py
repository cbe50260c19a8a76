"""Stages: what is timed, from which event to which."""

import pytest

from fastagent.audio.formats import MULAW_8K
from fastagent.call import Stage
from fastagent.call import stages as module
from fastagent.call.observer import Observers
from fastagent.call.stages import CallStages, status_of_output
from fastagent.stats import Counters
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model

STOPPED, STARTED = model.SpeechStopped("item"), model.SpeechStarted("item")
CREATED = model.ResponseCreated("resp")
SPEAKS = carrier.ReportSpeech(carrier.SpeechPhase.STARTED)


class Meter:
    def __init__(self):
        self.times = []
        self.functions = []
        self.responses = []

    def timed(self, call_id, stage, seconds):
        self.times.append((stage, pytest.approx(seconds)))

    def response_done(self, call_id, event):
        self.responses.append(event)

    def function_done(self, call_id, name, status, seconds):
        self.functions.append((name, status))


class Plain:
    """An observer of before: it has no ears for a meter's events."""


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 10.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def meter():
    return Meter()


@pytest.fixture
def stages(meter, clock):
    counters = Counters()
    yield CallStages(Observers([Plain(), meter], "call-1", counters), "call-1", 10.0, counters)
    assert counters["observers_failed"] == 0


def test_first_audio_counts_from_where_the_caller_stopped(stages, meter):
    stages.model_event(STARTED, 11.0)
    stages.model_event(STOPPED, 12.0)
    stages.model_event(CREATED, 12.1)
    stages.audio_begins(12.4)
    stages.audio_begins(13.0)
    assert meter.times == [(Stage.FIRST_AUDIO, 0.4)]


def test_greeting_answers_nobody(stages, meter):
    stages.audio_begins(12.4)
    assert meter.times == []


def test_caller_who_goes_on_was_not_at_the_end(stages, meter):
    stages.model_event(STOPPED, 12.0)
    stages.model_event(STARTED, 12.2)
    stages.model_event(CREATED, 12.3)
    stages.audio_begins(12.4)
    assert meter.times == []


def test_rest_of_an_older_response_answers_nothing(stages, meter):
    stages.model_event(CREATED, 11.0)
    stages.model_event(STOPPED, 12.0)
    stages.audio_begins(12.4)
    stages.model_event(CREATED, 12.5)
    stages.audio_begins(12.6)
    assert meter.times == [(Stage.FIRST_AUDIO, 0.6)]


@pytest.mark.parametrize(
    ("status", "n"), [(model.ResponseStatus.CANCELLED, 0), (model.ResponseStatus.COMPLETED, 1)]
)
def test_cancelled_answer_is_none_and_a_functions_is_waited_for(stages, meter, status, n):
    stages.model_event(STOPPED, 12.0)
    stages.model_event(CREATED, 12.1)
    stages.model_event(model.ResponseDone("resp", status), 12.2)
    stages.model_event(CREATED, 12.3)
    stages.audio_begins(13.0)
    assert len(meter.times) == n


def test_turn_that_our_ears_end_counts_from_its_commit(stages, meter, clock):
    clock.now = 20.0
    stages.carried_out([model.CommitInput()])
    stages.model_event(CREATED, 20.2)
    stages.audio_begins(20.5)
    assert meter.times == [(Stage.FIRST_AUDIO, 0.5)]


def test_cut_through_counts_from_the_event_to_the_wire(stages, meter, clock):
    stages.event_came(30.0)
    clock.now = 30.002
    stages.carried_out([SPEAKS, carrier.ClosePlayback("play-1"), carrier.AbortPlayback()])
    assert meter.times == [(Stage.CUT_THROUGH, 0.002)]


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [SPEAKS],
        [carrier.AbortPlayback()],
        [carrier.ReportSpeech(carrier.SpeechPhase.STOPPED), carrier.AbortPlayback()],
        [carrier.OpenPlayback("play-1", carrier.MediaOffer("raw/mulaw", MULAW_8K), None)],
    ],
)
def test_other_commands_cut_nothing_through(stages, meter, commands):
    stages.carried_out(commands)
    assert meter.times == []


def test_model_append_counts_once_for_each_absence(stages, meter):
    stages.model_came(10.5)
    stages.model_came(11.0)
    stages.model_left(20.0)
    stages.model_came(20.25)
    assert meter.times == [(Stage.MODEL_APPEND, 0.5), (Stage.MODEL_APPEND, 0.25)]


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ('{"status":"done"}', "done"),
        ('{"status":"failed","say":"no"}', "failed"),
        ('{"status":"my name is Ada"}', "other"),
        ('{"status":7}', "other"),
        ('{"status":["done"]}', "other"),
        ("[]", "other"),
        ("no JSON", "other"),
        ("", "other"),
    ],
)
def test_status_is_of_a_closed_set(stages, meter, output, status):
    assert status_of_output(output) == status
    stages.function_done("book", output, 10.0)
    assert meter.functions == [("book", status)]
