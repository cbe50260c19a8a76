"""Explore: random calls of a task, made up from its graph, until a promise about it is broken.

::

    invariants = [
        never("pays unidentified", lambda now: "pay" in now.effects and "pin" not in now.states),
        always("amount is small", lambda now: now.slots.get("amount", 0) <= 1000),
        eventually("says goodbye", lambda now: now.state == "goodbye"),
    ]

A call that breaks one is made as short as it can be, and told line by line. No effect that goes through an
effect runner is run (see `Rehearsal`). Needs Hypothesis, which is for tests only.
"""

import ast
import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from fastagent.afsm.coverage import Coverage
from fastagent.afsm.graph import Graph
from fastagent.afsm.rehearsal import Rehearsal
from fastagent.afsm.run.limits import DEFAULT_ANSWER_TIMEOUT_S
from fastagent.afsm.run.machine import SAY_FAILED, Outcome
from fastagent.afsm.spec import Event, SlotSpec
from fastagent.afsm.verify.source import read_code
from fastagent.errors import ConfigurationError

__all__ = [
    "NO_CRASH",
    "Counterexample",
    "Exploration",
    "Invariant",
    "Moment",
    "Stimuli",
    "always",
    "eventually",
    "explore",
    "never",
    "stimuli_of",
]

NO_CRASH = "no state fails"
"""Name of the invariant every exploration has."""
INSTALL = "exploring needs Hypothesis: pip install hypothesis"
MAX_ANSWERS = 300
MAX_ANSWER_CHARS = 60
NEVER_SIGNALLED = {Event.SILENCE, Event.DEADLINE, Event.DTMF, Event.NO_MATCH, Event.TOOL_FAILED}
"""Events that come of time, keys, answers and effects, and are made that way."""
_RESULT_WORDS = {"response", "next_state", "confidence"}
_MACHINE_LOG = "fastagent.afsm.run.machine"


@dataclass(frozen=True, slots=True)
class Moment:
    """What an invariant may look at."""

    state: str
    states: tuple[str, ...]
    """Entered so far, in order."""
    slots: Mapping[str, Any]
    facts: Mapping[str, Any]
    said: tuple[str, ...]
    """What the caller was asked and told so far."""
    effects: tuple[str, ...]
    """Effects run so far."""
    orders: tuple[tuple[str, str], ...]
    """What states asked of the call: ``("hang_up", "completed")``."""
    outcome: Outcome | None
    """How the run ended; None while it goes on."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """A promise about every call."""

    name: str
    kind: Literal["always", "never", "eventually"]
    holds: Callable[[Moment], bool]


def always(name: str, holds: Callable[[Moment], bool]) -> Invariant:
    """It holds at every moment of every call."""
    return Invariant(name, "always", holds)


def never(name: str, holds: Callable[[Moment], bool]) -> Invariant:
    """It holds at no moment of any call."""
    return Invariant(name, "never", holds)


def eventually(name: str, holds: Callable[[Moment], bool]) -> Invariant:
    """It holds at some moment of every call that comes to its end."""
    return Invariant(name, "eventually", holds)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A call that breaks a promise."""

    invariant: str
    lines: tuple[str, ...]
    """The call, line by line."""
    reason: str = ""

    def __str__(self) -> str:
        told = "\n".join(f"  {line}" for line in self.lines)
        return f"broken: {self.invariant}{f' ({self.reason})' if self.reason else ''}\n{told}"


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was found, and what was walked."""

    counterexample: Counterexample | None
    coverage: Coverage
    """Over all calls, those that were made shorter too."""


@dataclass(frozen=True, slots=True)
class Stimuli:
    """What callers may do, made up from a graph."""

    answers: tuple[str, ...]
    keys: tuple[str, ...]
    events: tuple[Event, ...]
    waits_s: tuple[float, ...]
    fitting: Mapping[str, tuple[str, ...]]
    """By state: answers to its own questions."""


def stimuli_of(graph: Graph, phrases: Iterable[str] = ()) -> Stimuli:
    """Make up what callers may say and do: what guards, slots, watches and code look for, and nonsense."""
    answers = ["yes", "no", "hm", *phrases]
    fitting: dict[str, tuple[str, ...]] = {}
    waits = {DEFAULT_ANSWER_TIMEOUT_S}
    for name, spec in graph.specs.items():
        own = ["yes"]
        for guard in (*(move.guard for move in spec.transitions), spec.enter_when):
            own += _constants(guard)
        for slot in spec.slots:
            own += _samples(slot)
        words = read_code(graph.states[name]).words - _RESULT_WORDS - graph.states.keys()
        own += sorted(word for word in words if word.islower() and len(word.split()) <= 4)
        fitting[name] = _said(own)
        answers += own
        waits |= {step.after_s for step in spec.silence}
        waits |= {spec.deadline_s} if spec.deadline_s is not None else set()
    for watch in graph.spec.supervisor:
        answers += [*watch.words, *_constants(watch.when)]
    handled = {event for spec in graph.specs.values() for event in spec.handles}
    events = {Event.HANG_UP, Event.TRANSFER, Event.BARGE_IN, Event.RESUME, *handled}
    return Stimuli(
        _said(answers),
        tuple("1234567890*#"),
        tuple(sorted(events - NEVER_SIGNALLED)),
        tuple(sorted(waits)),
        fitting,
    )


def _said(answers: Iterable[str]) -> tuple[str, ...]:
    kept = dict.fromkeys(answer.strip() for answer in answers if 0 < len(answer.strip()) <= MAX_ANSWER_CHARS)
    return tuple(kept)[:MAX_ANSWERS]


def _constants(guard: str) -> list[str]:
    if not guard or guard.startswith("python:"):
        return []
    found: list[str] = []
    for node in ast.walk(ast.parse(guard.strip(), mode="eval")):
        match node:
            case ast.Constant(value=str(text)):
                found.append(text)
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                found += [str(number), str(number + 1), str(max(0, number - 1))]
    return found


def _samples(slot: SlotSpec) -> list[str]:
    schema = slot.schema
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]
    kinds = {schema.get("type"), *(one.get("type") for one in schema.get("anyOf", ()))}
    match schema.get("format"):
        case "digits":
            return ["one two three four", "12345678"]
        case "date":
            return ["tomorrow", "monday"]
        case "time":
            return ["three pm", "at noon"]
    if kinds & {"integer", "number"}:
        bounds = [schema[name] for name in ("minimum", "maximum") if name in schema]
        return ["0", "five", "one hundred", "100000", *(f"{bound:g}" for bound in bounds)]
    return [] if "boolean" in kinds else ["John Smith"]


class _Broken(Exception):
    """A promise does not hold."""


@dataclass
class _Search:
    """What the calls of one exploration share."""

    graph: Graph
    invariants: Sequence[Invariant]
    outcomes: Mapping[str, Any]
    stimuli: Stimuli
    coverage: Coverage = field(default_factory=Coverage)
    last: Counterexample | None = None
    """Of the latest call that broke a promise; the shortest comes last."""
    complaint: str = ""
    """Of the machine about its state."""


class _Call:
    """One made-up call."""

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._runner = asyncio.Runner()
        self._rehearsal = Rehearsal(search.graph, outcomes=search.outcomes, observer=search.coverage.note)
        self._lines: list[str] = []
        self._told = 0
        self._told_states = 0
        self._seen: set[str] = set()
        search.complaint = ""

    @property
    def state(self) -> str:
        return self._rehearsal.state

    @property
    def is_over(self) -> bool:
        return self._rehearsal.outcome is not None

    def do(self, line: str, step: Callable[[Rehearsal], Any]) -> None:
        """Let the caller do something, and hold what comes of it against the promises."""
        if self.is_over:
            return
        self._lines.append(line)
        self._runner.run(step(self._rehearsal))
        self._tell()
        self._check()

    def close(self) -> None:
        self._runner.run(self._rehearsal.close())
        self._runner.close()

    def _tell(self) -> None:
        for state in self._rehearsal.states[self._told_states :]:
            self._lines.append(f"[{state}]")
        self._told_states = len(self._rehearsal.states)
        self._lines += [f"bot:    {words}" for words in self._rehearsal.said[self._told :]]
        self._told = len(self._rehearsal.said)
        if (outcome := self._rehearsal.outcome) is not None:
            self._lines.append(f"end:    {outcome.status}")

    def _check(self) -> None:
        rehearsal, search = self._rehearsal, self._search
        outcome = rehearsal.outcome
        if outcome is not None and outcome.status == "failed" and outcome.say == SAY_FAILED:
            self._break(NO_CRASH, search.complaint)
        now = Moment(
            rehearsal.state,
            tuple(rehearsal.states),
            dict(rehearsal.context.slots),
            rehearsal.context.facts,
            tuple(rehearsal.said),
            tuple(rehearsal.effects),
            tuple(rehearsal.control.orders),
            outcome,
        )
        for one in search.invariants:
            holds = bool(one.holds(now))
            if holds:
                self._seen.add(one.name)
            is_broken = {
                "always": not holds,
                "never": holds,
                "eventually": outcome is not None and one.name not in self._seen,
            }[one.kind]
            if is_broken:
                self._break(f"{one.kind} {one.name}")

    def _break(self, name: str, reason: str = "") -> None:
        self._search.last = Counterexample(name, tuple(self._lines), reason)
        raise _Broken(name)


def explore(
    graph: Graph,
    invariants: Sequence[Invariant] = (),
    *,
    phrases: Iterable[str] = (),
    outcomes: Mapping[str, Any] | None = None,
    calls: int = 200,
    steps: int = 30,
    seed: int | None = None,
) -> Exploration:
    """Make up calls until one breaks a promise, and make that one as short as it can be.

    It runs event loops of its own: call it from where none runs.

    Args:
        graph: of the task.
        invariants: promises, beside `NO_CRASH`.
        phrases: further things callers may say.
        outcomes: what effects give, by name; others give "done".
        calls: how many.
        steps: things a caller does in one call.
        seed: another one makes up other calls; None always the same ones.

    Raises:
        ConfigurationError: Hypothesis is not installed, or two invariants have one name.
    """
    try:
        import hypothesis
        from hypothesis import stateful
        from hypothesis import strategies as st
    except ModuleNotFoundError:
        raise ConfigurationError(INSTALL) from None
    if len({one.name for one in invariants}) < len(invariants):
        raise ConfigurationError("two invariants have one name")
    effects = {effect.name for spec in graph.specs.values() for effect in spec.effects}
    stimuli = stimuli_of(graph, phrases)
    search = _Search(graph, invariants, {**dict.fromkeys(effects, "done"), **(outcomes or {})}, stimuli)

    class Caller(stateful.RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.phone = _Call(search)

        @stateful.initialize(text=st.sampled_from(["", *stimuli.answers]))
        def begin(self, text: str) -> None:
            self.phone.do(f"caller: {text or '(says nothing)'}", lambda one: one.start(text))

        @stateful.rule(text=st.sampled_from(stimuli.answers))
        def say(self, text: str) -> None:
            self.phone.do(f"caller: {text}", lambda one: one.say(text))

        @stateful.rule(number=st.integers(0, MAX_ANSWERS))
        def answer(self, number: int) -> None:
            fitting = stimuli.fitting[self.phone.state]
            text = fitting[number % len(fitting)]
            self.phone.do(f"caller: {text}", lambda one: one.say(text))

        @stateful.rule(number=st.integers(0, MAX_ANSWERS))
        def answer_again(self, number: int) -> None:
            self.answer(number)

        @stateful.rule(key=st.sampled_from(stimuli.keys))
        def press(self, key: str) -> None:
            self.phone.do(f"caller: presses {key}", lambda one: one.press(key))

        @stateful.rule(event=st.sampled_from(stimuli.events))
        def happen(self, event: Event) -> None:
            self.phone.do(f"event:  {event.value}", lambda one: one.happen(event))

        @stateful.rule(seconds=st.sampled_from(stimuli.waits_s))
        def wait(self, seconds: float) -> None:
            self.phone.do(f"time:   {seconds:g} s pass", lambda one: one.wait(seconds))

        @stateful.precondition(lambda self: bool(effects))
        @stateful.rule()
        def break_down(self) -> None:
            self.phone.do("world:  the next effect will fail", _fail_next)

        def teardown(self) -> None:
            self.phone.close()

    settings = hypothesis.settings(
        max_examples=calls,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=seed is None,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    factory = Caller if seed is None else hypothesis.seed(seed)(Caller)
    try:
        with _listening(search):
            stateful.run_state_machine_as_test(factory, settings=settings)
    except _Broken:
        return Exploration(search.last, search.coverage)
    return Exploration(None, search.coverage)


async def _fail_next(rehearsal: Rehearsal) -> None:
    rehearsal.fail_next_effect()


class _Listener(logging.Handler):
    def __init__(self, search: _Search) -> None:
        super().__init__()
        self._search = search

    def emit(self, record: logging.LogRecord) -> None:
        self._search.complaint = record.getMessage().partition(": ")[2]


@contextmanager
def _listening(search: _Search) -> Iterator[None]:
    """Take the machine's complaints into the counter-example instead of the log."""
    log = logging.getLogger(_MACHINE_LOG)
    listener, propagate = _Listener(search), log.propagate
    log.addHandler(listener)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(listener)
        log.propagate = propagate
