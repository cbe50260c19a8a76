"""Machine: walking, asking, limits, and that nothing a state does gets out of its run."""

import asyncio
import logging
from datetime import date
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, Graph, Limits, Machine
from fastagent.afsm.run.machine import SAY_FAILED, SAY_NO_ANSWER
from fastagent.context import ConversationContext

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Scripted(AFSMState):
    """Gives the listed (response, next_state) pairs, the last one again and again, and keeps its inputs."""

    def __init__(self, name, transitions, *steps):
        super().__init__(name, "", transitions)
        self.steps = steps
        self.inputs = []
        self.done = 0

    async def process(self, input_text, context):
        self.inputs.append(input_text)
        step = self.steps[min(self.done, len(self.steps) - 1)]
        self.done += 1
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            step = await step(self, input_text, context)
        if not isinstance(step, tuple):
            return step
        return {"response": step[0], "next_state": step[1], "confidence": 1.0}


class Bench:
    """A machine with its questions and moves written down; answers come from a list."""

    def __init__(self, *states, answers=(), limits=None):
        self.control = create_autospec(CallControl, instance=True)
        self.control.call_id = "call-1"
        self.states = states
        self.questions, self.moves = [], []
        self.asked = asyncio.Event()
        self.answers = list(answers)
        self.machine = Machine(
            Graph.from_states(states, states[0].name),
            ConversationContext().task_view(),
            self.control,
            ask=self.ask,
            observer=lambda *move: self.moves.append(move),
            limits=limits,
        )

    def ask(self, question):
        self.questions.append(question)
        self.asked.set()
        if self.answers:
            assert self.machine.post(self.answers.pop(0))

    async def run(self, text="start"):
        return await self.machine.run(text)


END = Scripted("end", [], ("Goodbye.", "end"))


async def test_silent_moves_hand_on_the_same_input_and_the_terminal_state_closes():
    first, second = Scripted("first", ["second"], ("", "second")), Scripted("second", ["end"], ("", "end"))
    bench = Bench(first, second, END)
    outcome = await bench.run("hello")
    assert (outcome.status, outcome.say, outcome.state) == ("done", "Goodbye.", "end")
    assert first.inputs == second.inputs == ["hello"]
    assert bench.questions == []
    assert bench.moves == [
        ("", "first", "start"),
        ("first", "second", "start"),
        ("second", "end", "continue"),
    ]


async def test_question_with_a_move_is_answered_in_the_new_state():
    first = Scripted("first", ["second"], ("What time?", "second"))
    second = Scripted("second", ["end"], ("", "end"))
    bench = Bench(first, second, END, answers=["three"])
    assert (await bench.run()).status == "done"
    assert bench.questions == ["What time?"]
    assert (first.inputs, second.inputs) == (["start"], ["three"])
    assert bench.moves[1:] == [("first", "second", "start"), ("second", "end", "answer")]


async def test_staying_asks_again():
    state = Scripted("first", ["end"], ("Which?", "first"), ("Really, which?", "first"), ("", "end"))
    bench = Bench(state, END, answers=["a", "b"])
    assert (await bench.run()).status == "done"
    assert bench.questions == ["Which?", "Really, which?"]
    assert state.inputs == ["start", "a", "b"]
    assert bench.moves == [("", "first", "start"), ("first", "end", "answer")]


async def test_terminal_initial_state_is_processed_once():
    end = Scripted("end", [], ("Done at once.", "end"))
    outcome = await Bench(end).run()
    assert (outcome.say, end.inputs) == ("Done at once.", ["start"])


async def test_result_holds_slots_and_facts_as_plain_json():
    async def fill(state, input_text, context):
        context.slots["day"] = date(2026, 11, 24)
        context.slots["name"] = "slot"
        context.add_salient_fact("name", "fact")
        context.add_salient_fact("kind", "visit")
        return "", "end"

    outcome = await Bench(Scripted("first", ["end"], fill), END).run()
    assert outcome.result == {"name": "slot", "kind": "visit", "day": "2026-11-24"}


async def test_run_keeps_one_copy_of_each_state():
    async def look(state, input_text, context):
        state.scratchpad.append(input_text)
        context.slots["notes"] = list(state.scratchpad)
        return ("More?", state.name) if len(state.scratchpad) < 2 else ("", "end")

    first = Scripted("first", ["end"], look)
    outcome = await Bench(first, END, answers=["again"]).run()
    assert outcome.result == {"notes": ["start", "again"]}
    assert list(first.scratchpad) == []


async def test_state_that_is_entered_again_still_has_its_notes():
    async def look(state, input_text, context):
        state.scratchpad.append(input_text)
        context.slots["notes"] = list(state.scratchpad)
        return ("More?", "second") if len(state.scratchpad) < 2 else ("", "end")

    first, second = Scripted("first", ["second", "end"], look), Scripted("second", ["first"], ("", "first"))
    outcome = await Bench(first, second, END, answers=["again"]).run()
    assert outcome.result == {"notes": ["start", "again"]}


async def test_states_reach_the_call():
    async def hang_up(state, input_text, context):
        state.call.hang_up("done")
        return "Bye.", "end"

    bench = Bench(Scripted("end", [], hang_up))
    assert (await bench.run()).say == "Bye."
    bench.control.hang_up.assert_called_once_with("done")


async def never(state, input_text, context):
    await asyncio.Event().wait()


async def cancelled_inside(state, input_text, context):
    inner = asyncio.ensure_future(asyncio.Event().wait())
    inner.cancel()
    await inner


async def bad_slot(state, input_text, context):
    context.slots[("not", "a", "name")] = 1
    return "", "end"


@pytest.mark.parametrize(
    ("step", "logged"),
    [
        (("", "nowhere"), "may not move to an unknown state"),
        (("", "other"), "may not move to 'other'"),
        (("", "first"), "stays without asking"),
        (("   ", "first"), "stays without asking"),
        (None, "must return a dict"),
        ({"next_state": "end"}, "must be strings"),
        ({"response": "Hi.", "next_state": None}, "must be strings"),
        ({"response": 1, "next_state": "end"}, "must be strings"),
        (RuntimeError("quoting four two four two"), "RuntimeError in Scripted.process"),
        (TimeoutError("their own"), "TimeoutError in Scripted.process"),
        (never, "took longer than 0.01 s"),
        (cancelled_inside, "awaited a cancelled task"),
        (bad_slot, "JSON cannot hold"),
    ],
)
async def test_what_a_state_does_wrong_fails_the_run_politely(step, logged, caplog):
    bench = Bench(
        Scripted("first", ["end"], step),
        END,
        Scripted("other", [], ("", "other")),
        limits=Limits(state_timeout_s=0.01 if step is never else 10.0),
    )
    with caplog.at_level(logging.WARNING):
        outcome = await bench.run("nowhere secret")
    assert (outcome.status, outcome.say) == ("failed", SAY_FAILED)
    assert logged in caplog.text
    assert "secret" not in caplog.text
    assert "four two" not in caplog.text
    assert {name for name, *_ in bench.control.method_calls} <= {"set_voice_policy"}


async def test_terminal_state_may_not_move_on():
    bench = Bench(Scripted("end", [], ("Bye.", "first")), Scripted("first", ["end"], ("", "end")))
    assert (await bench.run()).status == "failed"


async def test_states_that_pass_an_input_round_and_round_are_stopped():
    ping, pong = Scripted("ping", ["pong"], ("", "pong")), Scripted("pong", ["ping"], ("", "ping"))
    outcome = await Bench(ping, pong, limits=Limits(max_steps_per_turn=7)).run()
    assert outcome.status == "failed"
    assert len(ping.inputs) + len(pong.inputs) == 7


async def test_each_answer_gets_all_its_steps():
    def graph(steps):
        states = [Scripted("s0", ["s1"], ("Question?", "s1"))]
        states += [Scripted(f"s{n}", [f"s{n + 1}"], ("", f"s{n + 1}")) for n in range(1, steps - 1)]
        return [*states, Scripted(f"s{steps - 1}", [], ("Bye.", f"s{steps - 1}"))]

    assert (await Bench(*graph(5), answers=["a"], limits=Limits(max_steps_per_turn=4)).run()).status == "done"
    assert (
        await Bench(*graph(6), answers=["a"], limits=Limits(max_steps_per_turn=4)).run()
    ).status == "failed"


async def test_open_question_ends_the_run_in_the_end():
    bench = Bench(
        Scripted("first", ["end"], ("Are you there?", "first")), END, limits=Limits(answer_timeout_s=0.01)
    )
    bench.machine.context.slots["day"] = "monday"
    outcome = await bench.run()
    assert (outcome.status, outcome.say, outcome.result) == ("failed", SAY_NO_ANSWER, {"day": "monday"})
    assert not bench.machine.is_waiting


async def test_mailbox_refuses_what_does_not_fit():
    bench = Bench(END, limits=Limits(mailbox_size=2))
    assert [bench.machine.post(text) for text in "abc"] == [True, True, False]


async def test_machine_waits_only_while_a_question_is_open():
    bench = Bench(Scripted("first", ["end"], ("Which?", "end")), END)
    assert not bench.machine.is_waiting
    running = asyncio.create_task(bench.run())
    await bench.asked.wait()
    assert bench.machine.is_waiting
    assert bench.machine.question == "Which?"
    bench.machine.post("this one")
    assert not bench.machine.is_waiting
    assert (await running).status == "done"
    assert bench.machine.question is None


async def test_cancelling_reaches_a_state_at_work_and_one_that_swallows_it():
    started = asyncio.Event()
    seen = []

    async def stubborn(state, input_text, context):
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
        return "", "end"

    end = Scripted("end", [], ("Goodbye.", "end"))
    running = asyncio.create_task(Bench(Scripted("first", ["end"], stubborn), end).run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["cancelled"]
    assert end.inputs == []


@pytest.mark.parametrize(
    "name", ["mailbox_size", "max_steps_per_turn", "state_timeout_s", "answer_timeout_s"]
)
async def test_limits_must_be_above_zero(name):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


async def test_default_limits():
    assert Limits() == Limits(16, 50, 30.0, 300.0)
