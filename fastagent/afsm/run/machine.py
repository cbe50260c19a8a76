"""Machine: one run of one task, a coroutine that walks a graph and asks its questions through the model.

::

    start ─▶ PROCESSING ──question──▶ WAITING ──answer, event, timer──▶ PROCESSING ──terminal state──▶ done
                 │  ▲                    └──no answer within answer_timeout_s──────────────────────▶ failed
                 │  ├─ silent move: the next state reads the same input
                 │  └─ move whose guard does not hold: refused, recorded, told; the state asks again
                 └──error, undeclared move, time-out, too many steps, hang-up────────────────────▶ failed

A state's words are a question whenever its run goes on: the machine hands them to ``ask`` and waits for the
answer, which the state named by ``next_state`` then reads. A terminal state is processed once; its words
close the task. Whatever a state does wrong ends its task, never the call.

Events. An event leads where the current state says (``handles``, ``on_deadline``, ``silence``); one that no
state handles changes nothing, but a hang-up and a passed deadline end the task. Keys are an answer where no
state handles them otherwise.

Digressions. Entering a state with ``is_digression`` from one without keeps the way back: the digression's
terminal state leads there, and the open question is asked again. An answer for which a digression's
``enter_when`` holds leads into it from anywhere, from within another digression too, `Limits.max_depth` deep.
A move from a digression to a state that is none forgets the way back.

Corrections. What a state says back while it moves on may be wrong: a "no" right after leads back to it, with
those slots open again, unless effects of the state have run or the next state is terminal.

Authority. Only declared moves whose guard holds are made. A model's proposal (`Reasoner`) is checked like
anything heard: its slots are parsed, validated and confirmed, its move must be declared and guarded. A "yes"
to a value that was read back counts only if the caller was not heard to say otherwise (`Heard`).

The loop. A machine gives way to others between its steps, and what takes long is awaited. Code of a state
that never awaits holds everything up, which nothing can end; the `watchdog` names it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from fastagent.afsm.graph import Graph
from fastagent.afsm.place import place_of_error
from fastagent.afsm.run.asking import Asking
from fastagent.afsm.run.authority import Authority
from fastagent.afsm.run.clock import LOOP_CLOCK, Clock
from fastagent.afsm.run.decider import Decider
from fastagent.afsm.run.digressions import Digressions
from fastagent.afsm.run.engine import Engine
from fastagent.afsm.run.limits import Limits
from fastagent.afsm.run.line_policy import RECORDING_REFUSED, LinePolicy
from fastagent.afsm.run.mailbox import Mail, Mailbox
from fastagent.afsm.run.outcome import (
    SAY_FAILED,
    SAY_NO_ANSWER,
    SAY_NOT_UNDERSTOOD,
    SAY_TOO_LATE,
    Outcome,
    RunEnded,
    plain_result,
)
from fastagent.afsm.run.passage import Passage, Reason
from fastagent.afsm.run.proposal import Reasoner
from fastagent.afsm.run.run_record import Recorder, Refusal, RunRecord
from fastagent.afsm.run.slot_book import SlotBook
from fastagent.afsm.run.snapshot import (
    SNAPSHOT_VERSION,
    position_in,
    position_of,
    said_back_in,
    typed_values,
    values_of,
    way_back_in,
    way_back_of,
)
from fastagent.afsm.run.standing import Standing
from fastagent.afsm.run.supervisor import SupervisorRegion
from fastagent.afsm.run.timers import Timers
from fastagent.afsm.run.verdict import Verdict
from fastagent.afsm.run.watchdog import process_watchdog
from fastagent.afsm.spec import Event
from fastagent.afsm.state import CallControl, EffectRunner
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import AgentError, ConfigurationError

__all__ = [
    "RECORDING_REFUSED",
    "SAY_FAILED",
    "SAY_NOT_UNDERSTOOD",
    "SAY_NO_ANSWER",
    "SAY_TOO_LATE",
    "Limits",
    "Machine",
    "Outcome",
    "Recorder",
    "Refusal",
]

SAY_ONCE_MORE = "Let us go on. Could you say that once more?"
"""Instead of a question that must not be written down."""
STEPS_BEFORE_YIELD = 8
"""Steps in a row after which other tasks get the loop, whether or not a state awaited anything."""

_log = logging.getLogger(__name__)


class Machine:
    """One run of a graph.

    Args:
        graph: what may happen.
        context: the run's own view of the call's context.
        control: the call, as states see it.
        ask: takes each question; it returns at once.
        observer: told of each move as (from_state, to_state, reason); ``from_state`` is empty on entry.
        recorder: keeps the record.
        clock: what deadlines and silences go by.
        effects: runs the states' effects; None runs those of JSON states without a record.
        reasoner: proposes for states that the engine runs.
        default_policy: how the bot behaves where no state says; a refused recording changes only that of it.
    """

    def __init__(
        self,
        graph: Graph,
        context: ConversationContext,
        control: CallControl,
        *,
        ask: Callable[[str], None],
        observer: Callable[[str, str, Reason], None] | None = None,
        limits: Limits | None = None,
        recorder: Recorder | None = None,
        clock: Clock = LOOP_CLOCK,
        effects: EffectRunner | None = None,
        reasoner: Reasoner | None = None,
        default_policy: VoicePolicy | None = None,
    ) -> None:
        self.context = context
        self._graph = graph
        self._control = control
        self._limits = limits = limits or Limits()
        self._standing = standing = Standing(graph.initial_state)
        self._record = record = RunRecord(recorder, standing)
        self._line = LinePolicy(control, context, default_policy)
        self._mailbox = Mailbox(limits.mailbox_size)
        self._timers = Timers(
            clock, work_timeout_s=limits.state_timeout_s, answer_timeout_s=limits.answer_timeout_s
        )
        self._book = SlotBook(context.slots, max_attempts=limits.max_attempts)
        self._engine = Engine(
            graph,
            context,
            self._book,
            limits=limits,
            reasoner=reasoner,
            effects=effects,
            refuse=record.refuse,
            record=record.add,
        )
        self._digressions = Digressions(graph, limits.max_depth, record.refuse)
        self._decider = decider = Decider(
            graph,
            context,
            standing,
            self._engine,
            Authority(graph, context, self._engine, standing, record.refuse),
            self._digressions,
            self._timers,
            self._mailbox,
            record,
            graph.states[graph.initial_state],
        )
        self._passage = Passage(
            graph,
            standing,
            self._engine,
            decider,
            self._digressions,
            self._timers,
            self._line,
            record,
            control=control,
            effects=effects,
            observer=observer,
        )
        self._supervisor = SupervisorRegion(
            graph.spec.supervisor,
            control,
            standing,
            self._mailbox,
            record,
            scope=self._engine.scope,
            refuse_recording=lambda: self._line.refuse_recording(self.voice_policy),
        )
        self._asking = Asking(
            graph,
            standing,
            self._engine,
            self._supervisor,
            self._timers,
            self._mailbox,
            record,
            clock,
            ask,
        )
        self._steps = 0
        self._resumed: Mapping[str, Any] | None = None
        self._carried = ""
        """Closing words of a digression, to be said before the next question."""

    @property
    def state(self) -> str:
        """The current state's name."""
        return self._standing.state

    @property
    def question(self) -> str | None:
        """What the caller was asked and has not answered."""
        return self._standing.question

    @property
    def refusals(self) -> deque[Refusal]:
        """What was not accepted, oldest first, a bounded number."""
        return self._record.refusals

    @property
    def is_waiting(self) -> bool:
        """A question is open and no answer to it has come."""
        return self._standing.question is not None and not self._mailbox.answers

    @property
    def is_idle(self) -> bool:
        """Nothing is to be done until something comes."""
        return self._mailbox.is_idle

    @property
    def depth(self) -> int:
        """How many digressions are open."""
        return self._digressions.depth

    @property
    def voice_policy(self) -> VoicePolicy | None:
        """The current state's policy."""
        return self._graph.specs[self.state].voice

    @property
    def allowed_tools(self) -> tuple[str, ...] | None:
        """Functions the model may call in the current state; None: all the agent has."""
        return self._graph.specs[self.state].tools

    @property
    def version(self) -> str:
        """The graph's content hash."""
        return self._graph.content_hash

    def handles(self, event: Event) -> bool:
        """Tell whether the current state, or a watch, has an answer to an event."""
        is_watched = any(watch.on is event for watch in self._graph.spec.supervisor)
        return is_watched or event in self._graph.specs[self.state].handles

    def post(self, answer: str, *, is_contradicted: bool | None = None) -> bool:
        """Queue an answer; False when the mailbox is full and it was refused.

        Args:
            is_contradicted: of a "yes", whether the caller was heard not to say it, as the record of the run
                tells (input, ``is_contradicted``); None looks into the transcript.
        """
        return self._asking.deliver(Mail(Event.INPUT, answer, is_contradicted=is_contradicted))

    def signal(self, event: Event, text: str = "") -> bool:
        """Queue an event; False when the mailbox is full and it was refused.

        Args:
            text: the key or keys of `Event.DTMF`; else mostly empty.
        """
        return self._asking.deliver(Mail(Event(event), text))

    def hear(self, text: str) -> bool:
        """Show the watches what the caller was heard to say; an answer made of it comes by `post`.

        Returns:
            a watch leads elsewhere by it.
        """
        return self._asking.hear(text)

    def note_activity(self) -> None:
        """The caller or the bot is heard: the silence ladder begins anew."""
        self._timers.note_activity()
        self._mailbox.wake()

    def take_refusals(self) -> list[str]:
        """What was not accepted since the last call, told so that a model can do better."""
        return self._record.take_refusals()

    async def run(self, input_text: str, *, is_heard: bool | None = None) -> Outcome:
        """Walk from the initial state to an end. Raises nothing but the cancellation of its own task.

        Args:
            is_heard: whether the caller was heard to say what a watch listens for, as the record of the run
                tells; None looks into the transcript.
        """
        if is_heard is None:
            is_heard = self._supervisor.knows(self._heard_last())
        watched = process_watchdog.begin(self._control.call_id, lambda: self.state)
        try:
            say = await self._walk(input_text, is_heard)
            return Outcome("done", say, self.result(), self.state)
        except RunEnded as ended:
            say = ended.say
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            # Something a state awaited was cancelled, not this run: that is the state's failure.
            _log.warning("call %s: state %r awaited a cancelled task", self._control.call_id, self.state)
            say = SAY_FAILED
        except AgentError as error:
            _log.warning("call %s: task failed: %s", self._control.call_id, error)
            say = SAY_FAILED
        except Exception as error:
            # The text of a foreign exception may quote the caller, so only its kind and place are logged.
            _log.warning(
                "call %s: state %r failed: %s", self._control.call_id, self.state, place_of_error(error)
            )
            say = SAY_FAILED
        finally:
            process_watchdog.end(watched)
            self._standing.question = None
            self._line.apply(None)
        return Outcome("failed", say, self._result_or_nothing(), self.state)

    @property
    def scratchpads(self) -> dict[str, list[str]]:
        """The notes of the states that were entered and keep any, by state."""
        specs = self._graph.specs
        notes = self._passage.scratchpads
        return {name: kept for name, kept in notes.items() if specs[name].is_scratchpad_enabled}

    def snapshot(self) -> dict[str, Any] | None:
        """Give the run at rest as JSON values; None while it is at work.

        Facts and profile belong to the call, and are not part of it.
        """
        if not self.is_waiting:
            return None
        graph, standing, book = self._graph, self._standing, self._book
        secret = graph.redacted
        hides_question = self._asking.is_redacted
        said_back = standing.said_back
        return {
            "version": SNAPSHOT_VERSION,
            "graph": graph.content_hash,
            "state": standing.state,
            "question": "" if hides_question else standing.open_question,
            "said_back": None
            if said_back is None
            else {"state": said_back.state, "slots": list(said_back.slots)},
            "slots": values_of(graph, self.context.slots),
            "arguments": values_of(graph, book.arguments),
            "pending": values_of(graph, book.pending),
            "unchecked": list(book.unchecked),
            "position": position_of(book.position, without=secret),
            "misses": self._engine.misses,
            "ways_back": [way_back_of(one, without=secret) for one in self._digressions.ways_back],
            "time_left_s": self._timers.time_left_s,
            "watches": self._supervisor.counts,
            "scratchpads": self._passage.scratchpads,
            "task_facts": list(self.context.task_facts),
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Have `run` go on where another machine's `snapshot` was taken, instead of at the beginning.

        Raises:
            ConfigurationError: it is of another graph, or of another version of this package.
        """
        if snapshot.get("version") != SNAPSHOT_VERSION or snapshot.get("graph") != self.version:
            raise ConfigurationError("the snapshot is of another graph or version")
        self._resumed = snapshot

    def result(self) -> dict[str, Any]:
        """Facts and slots of the run as plain JSON values; a slot hides a fact of the same name.

        Raises:
            AgentError: a value cannot be written as JSON.
        """
        return plain_result(self.context, self.state)

    def _result_or_nothing(self) -> dict[str, Any]:
        try:
            return self.result()
        except AgentError:
            return {}

    def _heard_last(self) -> str:
        said = (one.text for one in reversed(self.context.history) if one.speaker == "caller")
        return next(said, "")

    # Walking

    async def _walk(self, input_text: str, is_heard: bool) -> str:
        reason: Reason = "start"
        steps = 0
        mail = Mail(Event.INPUT, input_text, is_heard=is_heard)
        if self._resumed is not None:
            reason, mail = "answer", await self._go_on(self._resumed)
        else:
            self._begin(mail)
        while True:
            steps += 1
            if _is_cancelled():  # a state may have swallowed it
                raise asyncio.CancelledError
            if steps > self._limits.max_steps_per_turn:
                raise AgentError(
                    f"state {self.state!r}: no question within {self._limits.max_steps_per_turn} steps"
                )
            self._steps += 1
            if self._steps % STEPS_BEFORE_YIELD == 0:
                await asyncio.sleep(0)
            verdict = await self._decider.decide(mail)
            if verdict is None:  # nothing came of it: the question stays open
                mail, reason, steps = await self._asking.next_mail(), "answer", 0
                continue
            if verdict.is_end:
                way_back = self._digressions.leave()
                if way_back is None:
                    return f"{self._carried} {verdict.say}".strip()
                self._passage.go_back(way_back)
                self._carried = f"{self._carried} {verdict.say}".strip()
                verdict = Verdict(way_back.question, self.state)
                if not verdict.say:  # nothing was open there: the state says how it goes on
                    mail = Mail(Event.INPUT)
            elif verdict.next_state != self.state or verdict.on is not Event.INPUT:
                self._passage.move(verdict, reason)
            elif not verdict.say:
                raise AgentError(f"state {self.state!r} stays without asking anything")
            reason = "continue"
            if verdict.say:
                lead, self._carried = self._carried, ""
                self._decider.asked()
                self._asking.put(verdict.say, lead)
                mail = await self._asking.next_mail()
                reason, steps = "answer", 0
            else:
                mail = Mail(Event.INPUT, mail.text, is_fresh=False)

    def _begin(self, mail: Mail) -> None:
        self._book.begin()
        self._asking.note(mail)
        self._passage.begin()
        self._supervisor.see(mail)

    async def _go_on(self, snapshot: Mapping[str, Any]) -> Mail:
        """Stand where the snapshot was taken, and ask what was open there."""
        context, graph = self.context, self._graph
        context.slots.clear()
        context.slots.update(typed_values(graph, snapshot["slots"]))
        self._book.restore(
            arguments=snapshot["arguments"],
            pending=typed_values(graph, snapshot["pending"]),
            unchecked=snapshot["unchecked"],
        )
        facts = context.facts
        for name in snapshot["task_facts"]:
            if name in facts:
                context.add_salient_fact(name, facts[name])
        self._passage.resume(snapshot["state"], snapshot["scratchpads"])
        self._digressions.restore(way_back_in(one) for one in snapshot["ways_back"])
        self._supervisor.counts = snapshot["watches"]
        self._engine.restore(position_in(snapshot["position"]), snapshot["misses"])
        self._timers.time_left_s = snapshot["time_left_s"]
        self._standing.said_back = said_back_in(snapshot["said_back"])
        question = snapshot["question"]
        if not question and self.state in graph.run_by_engine:
            question = self._engine.question_anew(self.state)
        self._asking.put(question or SAY_ONCE_MORE)
        return await self._asking.next_mail()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
