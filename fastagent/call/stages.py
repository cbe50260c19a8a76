"""A call's stages, timed as its events pass: a comparison and a clock each, nothing per frame."""

import time
from collections.abc import Sequence

import orjson

from fastagent.bridge.commands import Command
from fastagent.call.observer import Observers, Stage
from fastagent.stats import Counters
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model

__all__ = ["FUNCTION_STATUSES", "CallStages", "status_of_output"]

FAILURES = ("failed", "error", "unknown")
FUNCTION_STATUSES = ("done", "needs_input", "working", "failed", "cancelled", "error", "unknown", "other")
"""What can become of a function call."""


class CallStages:
    """Tells the observers of one call how long its stages take.

    Args:
        begun: when the call began, in monotonic seconds.
        counters: where functions that failed are counted.
    """

    def __init__(self, observers: Observers, call_id: str, begun: float, counters: Counters) -> None:
        self._observers = observers
        self._counters = counters
        self._call_id = call_id
        self._model_absent_since: float | None = begun
        self._caller_stopped_at: float | None = None
        self._is_answered = False
        """A response began since then: audio that comes now is not the rest of an older one."""
        self._event_at = begun

    def event_came(self, now: float) -> None:
        """Something is about to be decided on."""
        self._event_at = now

    def model_came(self, now: float) -> None:
        """The caller's audio was appended, or will be as it comes."""
        since, self._model_absent_since = self._model_absent_since, None
        if since is not None:
            self._tell(Stage.MODEL_APPEND, now - since)

    def model_left(self, now: float) -> None:
        """It has nowhere to go."""
        self._model_absent_since = now

    def model_event(self, event: model.ModelEvent, now: float) -> None:
        """What an event of the model begins or ends."""
        self._event_at = now
        if isinstance(event, model.SpeechStopped):
            self._caller_stops(now)
        elif isinstance(event, model.SpeechStarted):
            self._caller_stopped_at = None
        elif isinstance(event, model.ResponseCreated):
            self._is_answered = True
        elif isinstance(event, model.ResponseDone):
            if event.status is model.ResponseStatus.CANCELLED:
                # What the caller said is not answered after all.
                self._caller_stopped_at = None
            self._observers.tell("response_done", self._call_id, event)

    def audio_begins(self, now: float) -> None:
        """The first audio of something the bot says is about to be sent."""
        if self._caller_stopped_at is None or not self._is_answered:
            return
        self._tell(Stage.FIRST_AUDIO, now - self._caller_stopped_at)
        self._caller_stopped_at = None

    def carried_out(self, commands: Sequence[Command]) -> None:
        """The brain's commands of one event are on the wire."""
        takes_floor = is_cut = False
        for command in commands:
            if isinstance(command, carrier.ReportSpeech):
                takes_floor |= command.phase is carrier.SpeechPhase.STARTED
            elif isinstance(command, carrier.AbortPlayback):
                is_cut = True
            elif isinstance(command, model.CommitInput):
                # By our own ears the turn is over.
                self._caller_stops(time.monotonic())
        if takes_floor and is_cut:
            self._tell(Stage.CUT_THROUGH, time.monotonic() - self._event_at)

    def _caller_stops(self, now: float) -> None:
        self._caller_stopped_at, self._is_answered = now, False

    def function_done(self, name: str, output: str, begun: float) -> None:
        """A function has an outcome; ``name`` is empty where it was not offered."""
        seconds, status = time.monotonic() - begun, status_of_output(output)
        if status in FAILURES:
            self._counters.note("functions_failed")
        self._observers.tell("function_done", self._call_id, name, status, seconds)

    def _tell(self, stage: Stage, seconds: float) -> None:
        self._observers.tell("timed", self._call_id, stage, seconds)


def status_of_output(output: str) -> str:
    """The status that a function's output tells: one of `FUNCTION_STATUSES`."""
    try:
        report = orjson.loads(output)
    except orjson.JSONDecodeError:
        return "other"
    status = report.get("status") if isinstance(report, dict) else None
    return status if isinstance(status, str) and status in FUNCTION_STATUSES else "other"
