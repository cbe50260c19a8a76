"""What the model is to say: the greeting, answers to the caller, notes of ours.

`ResponseGate` decides when a create may go out; what has no session to say it, or no caller to hear it, waits
here.
"""

from fastagent.bridge.commands import Command
from fastagent.bridge.history import ConversationHistory
from fastagent.bridge.model_session import ModelSession
from fastagent.bridge.phases import DEAF_PHASES, CallPhases, Phase
from fastagent.bridge.responses import GateState, ResponseGate
from fastagent.stats import Counters
from fastagent.wire import realtime_events as model

__all__ = ["FUNCTION_ROUNDS_MAX", "Answers"]

FUNCTION_ROUNDS_MAX = 16
"""Answers to functions in a row, without a word of the caller; a model that goes on has lost its way."""


class Answers:
    """Has the model speak, now or as soon as somebody hears it. All times are monotonic seconds.

    Args:
        gate: sends one create at a time.
        session: the model's session.
        phases: tell whether anybody hears what is said.
        history: records what the model is told.
        greeting: what the bot says first; empty to let the caller speak first.
        counters: where oddities are counted.
    """

    def __init__(
        self,
        gate: ResponseGate,
        session: ModelSession,
        phases: CallPhases,
        history: ConversationHistory,
        *,
        greeting: str,
        counters: Counters,
    ) -> None:
        self.is_owed = False
        """The caller is to be answered, and the gate does not know of it."""
        self._gate = gate
        self._session = session
        self._phases = phases
        self._history = history
        self._greeting = greeting
        self._counters = counters
        self._was_greeted = False
        self._function_rounds = 0

    def greet_with(self, greeting: str) -> None:
        """Have the caller greeted so, unless they were greeted already."""
        self._greeting = greeting

    @property
    def is_busy(self) -> bool:
        """A response runs, or one is wanted."""
        if self._session.is_gone:
            return False
        return self._gate.state in (GateState.REQUESTED, GateState.ACTIVE) or self._gate.waiting > 0

    def want(self, now: float) -> list[Command]:
        """Have the model go on with what is in the conversation."""
        if not self._session.is_connected or self._phases.phase in DEAF_PHASES:
            self.is_owed = True
            return []
        return list(self._gate.want(model.CreateResponse(), now))

    def want_of_function(self, now: float) -> list[Command]:
        """Have the model speak of what a function gave, unless it did little else of late."""
        self._function_rounds += 1
        if self._function_rounds > FUNCTION_ROUNDS_MAX:
            self._counters.note("function_rounds_hit")
            return []
        return self.want(now)

    def caller_spoke(self) -> None:
        """The model has something new to go by: it may call functions anew."""
        self._function_rounds = 0

    def tell(self, text: str, now: float) -> list[Command]:
        """Have the model act on a note of ours."""
        return self._tell(model.Item("message", text=text, role="system"), now)

    def tell_of_caller(self, text: str, now: float) -> list[Command]:
        """Have the model answer what the caller did otherwise than by speaking."""
        return self._tell(model.Item("message", text=text, role="user"), now)

    def say(self, words: str, now: float) -> list[Command]:
        """Have the model say these very words, and do nothing else."""
        create = model.CreateResponse(instructions=f'Say only this: "{words}"', tool_choice="none")
        return list(self._gate.want(create, now))

    def _tell(self, item: model.Item, now: float) -> list[Command]:
        if self._phases.phase is Phase.ENDED:
            return []
        create = self._history.add(item)
        commands: list[Command] = []
        if self._session.is_connected:
            commands.append(create)
        return commands + self.want(now)

    def begin(self, now: float) -> list[Command]:
        """Greet, or give the answer that is owed, if there is anybody to hear it."""
        if self._phases.phase in DEAF_PHASES:
            return []
        commands: list[Command] = []
        if not self._was_greeted:
            self._was_greeted = True
            if self._greeting:
                greeting = model.CreateResponse(instructions=f'Greet the caller with: "{self._greeting}"')
                commands += self._gate.want(greeting, now)
        if self.is_owed:
            self.is_owed = False
            commands += self._gate.want(model.CreateResponse(), now)
        return commands

    def go_on(self, now: float) -> list[Command]:
        """The caller's line is back."""
        if not self._was_greeted:
            return self.begin(now) if self._session.is_connected else []
        self.is_owed = False
        return self.tell("The line was interrupted for a moment and is back. Go on where you stopped.", now)
