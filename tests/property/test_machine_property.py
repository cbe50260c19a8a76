"""Property: the machine makes the moves of the slow reference, on random graphs, and no others.

Answers, keys, events and the passing of time come in random order, some of them several at once. Beside the
comparison each move is held against the graph by itself: declared for its cause, and its guard held.
"""

import asyncio
import json
from random import Random
from unittest.mock import create_autospec

from fastagent.afsm import AFSMState, CallControl, Graph, Limits, Machine
from fastagent.afsm.run.clock import ManualClock
from fastagent.afsm.spec import Event, SilenceStep
from fastagent.context import ConversationContext
from tests.reference.machine_reference import Plan, ReferenceMachine, make_plan, scripted

STEPS = 100_000
STIMULI_PER_RUN = 60
SEED = 20_261_121


class Scripted(AFSMState):
    def __init__(self, plan, name, counter):
        state = plan.states[name]
        super().__init__(name, "", list(state.moves))
        self.plan, self.counter = plan, counter
        self.guards = {to: f"facts.level {guard[0]} {guard[1]}" for to, guard in state.moves.items() if guard}
        self.handles = dict(state.events)
        self.deadline_s, self.on_deadline = state.deadline, state.on_deadline
        self.silence = [SilenceStep(*step) for step in state.silence]
        self.is_digression = state.is_digression
        self.enter_when = f"{state.enter_on!r} in words" if state.enter_on else ""

    async def process(self, input_text, context):
        count = self.counter[0]
        self.counter[0] += 1
        context.add_salient_fact("level", self.counter[0])
        decided = scripted(self.plan, self.name, count, input_text)
        if decided is None:
            raise RuntimeError
        return {"response": decided[0], "next_state": decided[1], "confidence": 1.0}


class Run:
    """Machine and reference side by side."""

    def __init__(self, plan: Plan, control):
        self.plan = plan
        self.counter = [0]
        self.clock = ManualClock()
        self.trace = []
        self.illegal = 0
        self.reference = ReferenceMachine(plan)
        self.graph = Graph.from_states(
            [Scripted(plan, name, self.counter) for name in plan.states], plan.initial
        )
        self.control = control
        self.context = ConversationContext()
        self.resumed = 0
        self.is_resuming = False
        self.asked_at = -1.0
        self.machine = self.make_machine()

    def make_machine(self) -> Machine:
        return Machine(
            self.graph,
            self.context.task_view(),
            self.control,
            ask=self.asked,
            observer=self.moved,
            clock=self.clock,
            limits=Limits(state_timeout_s=1e9),
        )

    def asked(self, question):
        if question == self.machine.question:  # and no remark against a silence
            self.asked_at = self.clock.now()
        if not self.is_resuming:
            self.trace.append(("ask", question))

    def moved(self, origin, to, reason):
        if self.is_resuming:
            assert (origin, reason) == (to, "resume")
            return
        self.trace.append(("move", origin, to, reason))
        self.illegal += not self.is_legal(origin, to, reason)

    def is_legal(self, origin, to, reason):
        if not origin:
            return to == self.plan.initial
        if reason == "return":
            return self.plan.is_terminal[origin] and self.plan.states[origin].is_digression
        if reason == "digression":
            return bool(self.plan.states[to].enter_on)
        state, level = self.plan.states[origin], self.counter[0]
        guard = state.moves.get(to)
        if guard and not (level >= guard[1] if guard[0] == ">=" else level < guard[1]):
            return False
        declared = {
            "deadline": state.on_deadline == to,
            "silence": any(step[2] == to for step in state.silence),
        }
        return declared.get(reason, state.events.get(reason) == to or to in state.moves)

    async def settle(self):
        for _ in range(4):
            await asyncio.sleep(0)
        for _ in range(1_000):
            if self.running.done() or self.machine.is_idle:
                return
            await asyncio.sleep(0)
        raise AssertionError("the machine does not come to rest")

    async def change_machines(self):
        """Go on with another machine, as another process would; silences count anew, so not in one."""
        if self.clock.now() != self.asked_at or (snapshot := self.machine.snapshot()) is None:
            return
        self.running.cancel()
        await asyncio.wait([self.running])
        self.machine = self.make_machine()
        self.machine.resume(json.loads(json.dumps(snapshot)))
        self.is_resuming = True
        self.running = asyncio.create_task(self.machine.run(""))
        await self.settle()
        assert self.machine.snapshot() == snapshot
        self.is_resuming = False
        self.resumed += 1

    async def play(self, random: Random, *, resumes=False):
        text = f"start word{random.randint(0, 9)}"
        self.running = asyncio.create_task(self.machine.run(text))
        self.reference.start(text)
        await self.settle()
        for _ in range(STIMULI_PER_RUN):
            if self.running.done():
                break
            if resumes and random.random() < 0.3:
                await self.change_machines()
            self.stimulate(random)
            await self.settle()
            until = self.clock.now() + (random.randint(0, 30) if random.random() < 0.4 else 0)
            while (due := self.clock.next_due()) is not None and due <= until:
                self.clock.advance(due - self.clock.now())
                await self.settle()
            self.clock.advance(until - self.clock.now())
            self.reference.advance(int(until))
            if self.trace != self.reference.trace and not self.running.done():
                break
        if self.running.done():
            outcome = self.running.result()
            self.trace.append(("end", outcome.status, outcome.say if outcome.status == "done" else ""))
        else:
            self.running.cancel()
            await asyncio.wait([self.running])

    def stimulate(self, random: Random):
        for number in range(random.choice([1, 1, 1, 2, 3])):
            what = random.random()
            if what < 0.75:
                event, text = Event.INPUT, f"yes word{random.randint(0, 9)}"
            elif what < 0.76 and number == 0:
                event, text = Event.HANG_UP, ""
            else:
                event = random.choice([Event.DTMF, Event.TRANSFER, Event.BARGE_IN])
                text = str(random.randint(0, 9)) if event is Event.DTMF else ""
            assert self.machine.signal(event, text)
            if event is Event.HANG_UP:
                # A hang-up overtakes what waits, so it comes alone.
                self.reference.stimulus(event.value, text)
                return
            self.reference.stimulus(event.value, text)
            if random.random() < 0.5:
                return


async def walk() -> tuple[int, int, int]:
    control = create_autospec(CallControl, instance=True)
    control.call_id = "call"
    steps = runs = refused = 0
    while steps < STEPS:
        seed = SEED + runs
        run = Run(make_plan(seed), control)
        await run.play(Random(seed))
        assert run.trace == run.reference.trace, f"seed {seed}"
        assert run.illegal == 0, f"seed {seed}"
        assert run.machine.refusals or not run.reference.refused, f"seed {seed}"
        control.reset_mock()
        steps += len(run.trace) + run.counter[0]
        refused += run.reference.refused
        runs += 1
    return steps, runs, refused


def test_a_hundred_thousand_random_steps_are_those_of_the_reference(caplog):
    caplog.set_level("ERROR")
    steps, runs, refused = asyncio.run(walk())
    assert steps >= STEPS
    assert runs > 500
    assert refused > 1_000


def test_runs_that_change_processes_at_any_question_go_on_as_if_they_had_not(caplog):
    caplog.set_level("ERROR")

    async def walk() -> int:
        control = create_autospec(CallControl, instance=True)
        control.call_id = "call"
        resumed = 0
        for seed in range(SEED, SEED + 400):
            run = Run(make_plan(seed), control)
            await run.play(Random(seed), resumes=True)
            assert run.trace == run.reference.trace, f"seed {seed}"
            assert run.illegal == 0, f"seed {seed}"
            resumed += run.resumed
        return resumed

    assert asyncio.run(walk()) > 1_000


def test_the_reference_would_see_a_move_that_ignores_its_guard(monkeypatch, caplog):
    """The comparison is able to fail."""
    caplog.set_level("ERROR")
    monkeypatch.setattr("fastagent.afsm.graph.Move.holds", lambda move, scope, context: True)

    async def search() -> bool:
        control = create_autospec(CallControl, instance=True)
        for seed in range(SEED, SEED + 100):
            run = Run(make_plan(seed), control)
            await run.play(Random(seed))
            if run.illegal and run.trace != run.reference.trace:
                return True
        return False

    assert asyncio.run(search())
