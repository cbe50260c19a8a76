"""What follows from the state of things, whatever event led there: changes, ends, fillers, farewells."""

from fastagent.bridge.answers import Answers
from fastagent.bridge.commands import Command
from fastagent.bridge.filler import Filler
from fastagent.bridge.floor import Floor
from fastagent.bridge.functions import FunctionCalls
from fastagent.bridge.hold import CallerHold
from fastagent.bridge.model_session import ModelSession
from fastagent.bridge.phases import DEAF_PHASES, CallPhases, Phase
from fastagent.bridge.playback import BotPlayback
from fastagent.bridge.responses import ResponseGate
from fastagent.media.playout import PlayoutLedger
from fastagent.wire import realtime_events as model

__all__ = ["Housekeeping"]


class Housekeeping:
    """Looks at all nouns of a call after each event. All times are monotonic seconds."""

    def __init__(
        self,
        ledger: PlayoutLedger,
        phases: CallPhases,
        session: ModelSession,
        gate: ResponseGate,
        answers: Answers,
        playback: BotPlayback,
        floor: Floor,
        functions: FunctionCalls,
        filler: Filler,
        hold: CallerHold,
    ) -> None:
        self._ledger = ledger
        self._phases = phases
        self._session = session
        self._gate = gate
        self._answers = answers
        self._playback = playback
        self._floor = floor
        self._functions = functions
        self._filler = filler
        self._hold = hold
        self._response_followed: str | None = None

    def session_lost(self) -> None:
        """The response that was followed is gone with its session."""
        self._response_followed = None

    def next_deadlines(self) -> list[float | None]:
        """When something here is due, while the talk goes on."""
        deadlines = [self._session.next_deadline(), self._filler.next_deadline()]
        if self._is_between_turns:
            deadlines.append(self._session.change_at)
        return deadlines

    def conclude(self, commands: list[Command], now: float) -> list[Command]:
        """``commands`` with what follows from the state of things, and with a change of settings where it
        may go: right before the model is asked to speak, or while nobody is at it."""
        commands = commands + self._follow(now)
        change_at = self._session.change_at
        if change_at is None or self._phases.phase is not Phase.TALKING or self._floor.is_callers:
            return commands
        for at, command in enumerate(commands):
            if isinstance(command, model.CreateResponse) and not command.is_out_of_band:
                return [*commands[:at], *self._session.change(), *commands[at:]]
        if now >= change_at and self._is_between_turns:
            return commands + self._session.change()
        return commands

    @property
    def _is_between_turns(self) -> bool:
        """Nobody speaks or is about to, and no function is at work."""
        is_answering = self._answers.is_busy or self._answers.is_owed or self._functions.is_any_running
        return not (is_answering or self._floor.is_callers or self._floor.is_turn_expected)

    def _follow(self, now: float) -> list[Command]:
        """What follows from the state of things, whatever event led there."""
        if self._phases.phase is Phase.ENDED:
            return []
        commands: list[Command] = []
        if self._gate.active_response_id != self._response_followed:
            # One response at a time: the one before is over, even if its end was never told.
            self._ledger.finish_response(self._response_followed or "", now)
            self._response_followed = self._gate.active_response_id
        commands += self._playback.close_when_done(now)
        if self._phases.phase not in DEAF_PHASES:
            commands += self._floor.settle(now)
        if self._phases.phase is Phase.LEAVING:
            commands += self._leave_when_heard(now)
        elif self._phases.phase is Phase.TALKING:
            if self._floor.is_clip_waiting and not self.is_talk_going_on(now):
                commands += self._floor.play_waiting(now)
            if self._hold.is_wanted and not self.is_talk_going_on(now):
                return commands + self._hold.begin(now)
            commands += self._fill(now)
            if self._session.is_due(now):
                commands += self._replace_in_a_pause(now)
        return commands

    def _fill(self, now: float) -> list[Command]:
        """Say something against a silence that something at work has caused."""
        is_next_due = self._answers.is_busy or self._answers.is_owed or self._floor.is_turn_expected
        words = self._filler.due(
            now,
            is_working=self._functions.is_any_running or self._filler.is_agent_at_work,
            is_free=self._session.is_connected and not is_next_due and not self._floor.is_callers,
            silent_at=self._ledger.silent_at(now),
        )
        return [] if words is None else self._answers.say(words, now)

    def _replace_in_a_pause(self, now: float) -> list[Command]:
        if self.is_talk_going_on(now):
            self._session.postpone(now)
            return []
        return self._session.replace()

    def is_talk_going_on(self, now: float) -> bool:
        """Somebody speaks, is about to, or waits for a function."""
        return self._answers.is_busy or self._functions.is_any_running or self._floor.is_taken(now)

    @property
    def _is_more_to_come(self) -> bool:
        """Something is still to be said, or to be answered."""
        if self._session.is_gone:
            return False
        is_asked = self._answers.is_busy or self._answers.is_owed
        is_callers = self._floor.is_callers or self._floor.is_turn_expected
        return is_asked or is_callers

    def _leave_when_heard(self, now: float) -> list[Command]:
        # A task that asks for a transfer has its last words still to say, unless it waits for the outcome.
        is_at_work = self._functions.is_any_running and not self._session.is_gone
        is_at_work |= self._filler.is_agent_at_work
        is_at_work &= not self._phases.is_farewell_awaited
        is_more_to_come = self._playback.is_open or self._is_more_to_come or is_at_work
        farewell = self._phases.take_farewell(now, is_more_to_come=is_more_to_come)
        return [] if farewell is None else [farewell]
