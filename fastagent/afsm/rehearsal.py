"""Rehearsal: a task's run without a call, on a clock that stands still, for tests and for `explore`.

::

    rehearsal = Rehearsal(agent.tasks["take_message"].graph)
    await rehearsal.start("I want to leave a message")
    await rehearsal.say("John Smith")
    assert rehearsal.state == "confirm"
    await rehearsal.close()
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastagent.afsm.graph import Graph
from fastagent.afsm.orders import DigitsEnd, DigitsOutcome, Order, TransferEnd, TransferOutcome
from fastagent.afsm.run.clock import ManualClock
from fastagent.afsm.run.limits import Limits
from fastagent.afsm.run.machine import Machine, Outcome
from fastagent.afsm.run.proposal import Reasoner
from fastagent.afsm.spec import EFFECT_MARK, EffectSpec, Event
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import AgentError, EffectFailedError

__all__ = ["Rehearsal", "RehearsedControl"]

SETTLE_TIMEOUT_S = 10.0
TURNS_TO_WAKE = 3
TURNS_BEFORE_SLEEP = 200


@dataclass(slots=True)
class RehearsedControl:
    """The call as states see it; what they order is noted as (order, what)."""

    call_id: str = "rehearsal"
    caller: str = ""
    orders: list[tuple[str, str]] = field(default_factory=list, repr=False)
    transfer_outcome: TransferOutcome = field(default_factory=lambda: TransferOutcome(TransferEnd.ANSWERED))
    """What a state is told that awaits its transfer."""

    def hang_up(self, reason: str) -> None:
        """Note it."""
        self.orders.append(("hang_up", reason))

    def transfer(
        self, target: str, reason: str, *, is_warm: bool = False, summary: str = ""
    ) -> Order[TransferOutcome]:
        """Note it; the outcome is `transfer_outcome`."""
        self.orders.append(("transfer", target))
        return Order.settled(self.transfer_outcome)

    def hand_over(self, to: str, reason: str) -> bool:
        """Note it."""
        self.orders.append(("hand_over", to))
        return True

    def recall(self) -> bool:
        """Note it."""
        self.orders.append(("recall", ""))
        return False

    def send_digits(self, digits: str) -> Order[DigitsOutcome]:
        """Note it; they are sent."""
        self.orders.append(("send_digits", digits))
        return Order.settled(DigitsOutcome(DigitsEnd.SENT))

    def hold(self, clip: str = "") -> None:
        """Note it."""
        self.orders.append(("hold", clip))

    def resume(self) -> None:
        """Note it."""
        self.orders.append(("resume", ""))

    def send_metadata(self, value: Mapping[str, Any]) -> None:
        """Note it."""
        self.orders.append(("send_metadata", ", ".join(sorted(value))))

    def announce(self, text: str) -> None:
        """Note it."""
        self.orders.append(("announce", text))

    def set_voice_policy(self, policy: VoicePolicy | None) -> None:
        """Nothing is heard here."""

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None:
        """Note it."""
        self.orders.append(("play_clip", name))

    def stop_clips(self) -> None:
        """Note it."""
        self.orders.append(("stop_clips", ""))


class _NotedEffects:
    """Runs no effect: notes its name and gives a prepared outcome."""

    def __init__(self, outcomes: Mapping[str, Any]) -> None:
        self.run_names: list[str] = []
        self.fails_next = False
        self._outcomes = outcomes

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        call_id: str | None = None,
    ) -> Any:
        if not name:  # then it is the one that the function was declared with
            mark = getattr(function, EFFECT_MARK, None)
            name = mark.name if isinstance(mark, EffectSpec) else str(getattr(function, "__name__", "effect"))
        if self.fails_next:
            self.fails_next = False
            raise EffectFailedError(f"effect {name!r} was made to fail")
        self.run_names.append(name)
        outcome = self._outcomes.get(name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Rehearsal:
    """One run of a task.

    Args:
        graph: of the task.
        slots: what the model passes along when it starts the task.
        facts: of the call so far.
        outcomes: what each effect gives; an exception is raised. No effect that goes through an effect
            runner is run; what a state does by itself it does.
        observer: told of each move; `Coverage.note` counts them.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        slots: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        outcomes: Mapping[str, Any] | None = None,
        observer: Callable[[str, str, str], None] | None = None,
        limits: Limits | None = None,
        reasoner: Reasoner | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.control = RehearsedControl()
        self.context = ConversationContext().task_view()
        self.context.slots.update(slots or {})
        for name, value in (facts or {}).items():
            self.context.add_salient_fact(name, value)
        self.said: list[str] = []
        """What the caller was asked and told, in order; the closing words too."""
        self.states: list[str] = []
        """Entered, in order."""
        self.outcome: Outcome | None = None
        """How the run ended; None while it goes on."""
        self._effects = _NotedEffects(outcomes or {})
        self._observer = observer
        self._task: asyncio.Task[Outcome] | None = None
        self.machine = Machine(
            graph,
            self.context,
            self.control,
            ask=self.said.append,
            observer=self._moved,
            clock=self.clock,
            effects=self._effects,
            limits=limits,
            reasoner=reasoner,
        )

    def __repr__(self) -> str:
        return f"<Rehearsal {self.state!r} asked={len(self.said)}>"

    @property
    def state(self) -> str:
        """The current state, or the last one."""
        return self.machine.state

    @property
    def effects(self) -> list[str]:
        """Names of the effects that were run, in order."""
        return self._effects.run_names

    def fail_next_effect(self) -> None:
        """Have the next effect fail without being done."""
        self._effects.fails_next = True

    async def start(self, text: str = "") -> None:
        """Begin the run with the caller's wish, and let it come to its first question or its end."""
        self._task = asyncio.create_task(self.machine.run(text))
        await self._settle()

    async def say(self, text: str) -> None:
        """Answer."""
        self.machine.post(text)
        await self._settle()

    async def press(self, keys: str) -> None:
        """Press keys, one after another."""
        for key in keys:
            self.machine.signal(Event.DTMF, key)
            await self._settle()

    async def happen(self, event: Event) -> None:
        """Let something else happen."""
        self.machine.signal(event)
        await self._settle()

    async def wait(self, seconds: float) -> None:
        """Let time pass, with nobody speaking."""
        until = self.clock.now() + seconds
        while (due := self.clock.next_due()) is not None and due <= until and self.outcome is None:
            self.clock.advance(due - self.clock.now())
            await self._settle()
        self.clock.advance(until - self.clock.now())
        await self._settle()

    async def close(self) -> None:
        """End the run, wherever it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _moved(self, from_state: str, to_state: str, reason: str) -> None:
        self.states.append(to_state)
        if self._observer is not None:
            self._observer(from_state, to_state, reason)

    async def _settle(self) -> None:
        """Let the run come to where only something new moves it."""
        if self._task is None:
            raise AgentError("a rehearsal must be started first")
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + SETTLE_TIMEOUT_S
        turns = 0
        # A timer that ran out wakes the run in the next turn of the loop, and until then it looks idle.
        while not self._task.done() and (turns < TURNS_TO_WAKE or not self.machine.is_idle):
            turns += 1
            # States that work in threads need more than turns of the loop.
            await asyncio.sleep(0 if turns < TURNS_BEFORE_SLEEP else 0.001)
            if loop.time() > give_up_at:
                raise AgentError(f"state {self.state!r} came to no question in {SETTLE_TIMEOUT_S:g} s")
        if self._task.done() and self.outcome is None:
            self.outcome = self._task.result()
            if self.outcome.say:
                self.said.append(self.outcome.say)
