"""The caller on hold: they hear music or nothing, and the model hears nothing and says nothing."""

from fastagent.bridge.answers import Answers
from fastagent.bridge.clips import Clip
from fastagent.bridge.commands import Command, HearCaller
from fastagent.bridge.floor import Floor
from fastagent.bridge.phases import CallPhases, Phase
from fastagent.stats import Counters
from fastagent.wire import realtime_events as model

__all__ = ["CallerHold"]

BACK = "The caller was on hold and hears you again. Go on where you stopped."


class CallerHold:
    """Begins at the next pause in the talk, ends when it is told to. All times are monotonic seconds.

    Args:
        floor: plays the music.
        answers: what waited is said when the hold ends.
    """

    def __init__(self, phases: CallPhases, floor: Floor, answers: Answers, counters: Counters) -> None:
        self._phases = phases
        self._floor = floor
        self._answers = answers
        self._counters = counters
        self._music: Clip | None = None
        self.is_wanted = False
        """It begins once nobody speaks."""

    @property
    def is_on(self) -> bool:
        """The caller is on hold."""
        return self._phases.phase is Phase.HELD

    def want(self, music: Clip | None) -> None:
        """Begin as soon as what is said was heard; a second order changes the music of one that waits."""
        if self._phases.phase is Phase.TALKING:
            self._music, self.is_wanted = music, True

    def begin(self, now: float) -> list[Command]:
        """Begin: nobody speaks."""
        self.is_wanted = False
        if not self._phases.hold(now):
            return []
        self._counters.note("holds")
        # What the model has heard of an utterance that was about to begin would wait for its end.
        commands: list[Command] = [HearCaller(False), model.ClearInput()]
        if self._music is not None:
            commands += self._floor.play(self._music, now)
        return commands

    def end(self, now: float, *, is_talk_over: bool = False) -> list[Command]:
        """Go on with the talk, if the caller is on hold or about to be.

        Args:
            is_talk_over: the call is leaving: nobody is told that the caller is back.
        """
        self.is_wanted = False
        if not self._phases.end_hold():
            return []
        commands: list[Command] = [HearCaller(True), *self._floor.end_music(now)]
        if is_talk_over:
            return commands
        is_owed = self._answers.is_owed
        return commands + (self._answers.begin(now) if is_owed else self._answers.tell(BACK, now))

    def leave_line(self) -> list[Command]:
        """The carrier's socket is gone: whoever comes back is not on hold any more."""
        self.is_wanted = False
        return [HearCaller(True)] if self._phases.end_hold() else []
