"""AgentSession: the protocol between the model and the machines."""

import asyncio
import json
import logging
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, Limits
from fastagent.agent import FastAgent, Task, Transition
from fastagent.tools import reports, talk

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Ask(AFSMState):
    """Asks once, then keeps the answer."""

    name = "ask"
    allowed_transitions = ("end",)

    async def process(self, input_text, context):
        if self.scratchpad:
            context.slots["answer"] = input_text
            return {"response": "", "next_state": "end", "confidence": 1.0}
        self.scratchpad.append("asked")
        return {"response": "Which one?", "next_state": "ask", "confidence": 1.0}


class Gate(AFSMState):
    """Works until its gate opens; says so when it begins."""

    name = "gate"
    allowed_transitions = ("end",)

    def __init__(self, response=""):
        super().__init__()
        self.opened, self.entered, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.response = response

    async def process(self, input_text, context):
        context.slots["entered"] = True
        self.entered.set()
        try:
            await self.opened.wait()
        finally:
            self.left.set()
        return {"response": self.response, "next_state": "end", "confidence": 1.0}


def end():
    return AFSMState("end", "All done.")


def ask_task(name="book"):
    return Task(name, "Book.", {"properties": {"day": {"type": "string"}}}, [Ask(), end()], "ask")


def gate_task(gate, name="fetch"):
    return Task(name, "Fetch.", None, [gate, end()], "gate")


class Bench:
    """An open session; calls are numbered, reports are parsed."""

    def __init__(self, *tasks, transfer_target=None, patience_s=10.0, **options):
        self.control = create_autospec(CallControl, instance=True)
        self.control.call_id = "call-1"
        self.announced = asyncio.Queue()
        self.control.announce.side_effect = lambda text: self.announced.put_nowait(json.loads(text))
        agent = FastAgent("desk", tasks=tasks, transfer_target=transfer_target, task_patience_s=patience_s)
        self.session = agent.open(self.control, **options)
        self.calls = 0

    async def call(self, name, /, **arguments):
        self.calls += 1
        return await self.raw(f"fc{self.calls}", name, json.dumps(arguments))

    async def raw(self, call_id, name, arguments):
        outcome = await self.session.call_function(call_id, name, arguments)
        assert outcome.should_respond
        return json.loads(outcome.output)


async def test_task_asks_is_answered_and_reports_its_result():
    bench = Bench(ask_task())
    asked = await bench.call("book", day="monday")
    assert asked == {"status": "needs_input", "task": "book", "say": "Which one?"}
    done = await bench.call("task_reply", task="book", answer="the red one")
    result = {"day": "monday", "answer": "the red one"}
    assert done == {"status": "done", "task": "book", "say": "All done.", "result": result}
    assert bench.session.results == [{"task": "book", "status": "done", "result": result}]
    assert bench.session.transitions == [
        Transition("book", "", "ask", "start"),
        Transition("book", "ask", "end", "answer"),
    ]
    assert bench.session.background == set()
    assert bench.announced.empty()


async def test_arguments_are_the_first_input_and_the_slots():
    class Echo(AFSMState):
        name = "echo"

        async def process(self, input_text, context):
            return {"response": input_text, "next_state": "echo", "confidence": 1.0}

    schema = {"properties": {"day": {}, "count": {}, "is_new": {}, "rest": {}}}
    bench = Bench(Task("echo", "", schema, [Echo()], "echo"))
    report = await bench.call("echo", day="monday", count=2, is_new=True, rest=[1])
    assert report["say"] == "monday 2"
    assert report["result"] == {"day": "monday", "count": 2, "is_new": True, "rest": [1]}


async def test_machine_keeps_waiting_while_the_talk_wanders():
    bench = Bench(ask_task(), ask_task("pay"))
    await bench.call("book")
    bench.session.caller_said("what are your opening hours")
    bench.session.bot_said("nine to five")
    (running,) = bench.session.background
    assert not running.done()
    # The model asks for the task again: it is told where it stands, and no second run begins.
    assert (await bench.call("book"))["say"] == "Which one?"
    assert (await bench.call("task_reply", task="book", answer="red"))["status"] == "done"
    assert [utterance.speaker for utterance in bench.session.context.history] == ["caller", "agent"]


async def test_task_can_be_run_again_after_it_ended():
    bench = Bench(ask_task())
    for answer in ("first", "second"):
        assert (await bench.call("book"))["status"] == "needs_input"
        report = await bench.call("task_reply", task="book", answer=answer)
        assert report["result"] == {"answer": answer}
    assert len(bench.session.results) == 2


async def test_several_tasks_wait_at_once_each_for_its_own_answer():
    bench = Bench(ask_task("book"), ask_task("pay"))
    await bench.call("book", day="monday")
    await bench.call("pay")
    assert len(bench.session.background) == 2
    assert (await bench.call("task_reply", task="pay", answer="cash"))["result"] == {"answer": "cash"}
    report = await bench.call("task_reply", task="book", answer="red")
    assert report["result"] == {"day": "monday", "answer": "red"}


async def test_slow_task_reports_working_and_announces_later_without_blocking_others():
    gate = Gate()
    bench = Bench(gate_task(gate), ask_task(), patience_s=0.01)
    assert (await bench.call("fetch"))["status"] == "working"
    assert (await bench.call("fetch"))["status"] == "working"
    assert (await bench.call("book"))["status"] == "needs_input"
    gate.opened.set()
    assert await bench.announced.get() == {
        "status": "done",
        "task": "fetch",
        "say": "All done.",
        "result": {"entered": True},
    }


async def test_question_that_comes_late_is_announced_and_answered_as_usual():
    gate = Gate("Which colour?")
    bench = Bench(gate_task(gate), patience_s=0.01)
    assert (await bench.call("fetch"))["status"] == "working"
    gate.opened.set()
    assert (await bench.announced.get())["say"] == "Which colour?"
    assert (await bench.call("task_reply", task="fetch", answer="red"))["status"] == "done"
    assert bench.announced.empty()


async def test_report_within_the_patience_is_not_announced_too():
    gate = Gate()
    bench = Bench(gate_task(gate))
    call = asyncio.create_task(bench.call("fetch"))
    await gate.entered.wait()
    gate.opened.set()
    assert (await call)["status"] == "done"
    assert bench.announced.empty()


async def test_failure_of_a_state_is_reported_and_leaves_the_session_usable():
    class Broken(Ask):
        async def process(self, input_text, context):
            raise RuntimeError("secret")

    bench = Bench(Task("pay", "", None, [Broken(), end()], "ask"), ask_task())
    report = await bench.call("pay")
    assert (report["status"], report["say"]) == ("failed", reports.SAY_FAILED)
    assert "result" not in report
    assert bench.session.results == [{"task": "pay", "status": "failed", "result": {}}]
    assert (await bench.call("book"))["status"] == "needs_input"


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("no_such", "{}", "no such function; there are book, task_reply, task_cancel, end_call"),
        ("transfer_call", "{}", "no such function"),
        ("book", "{", "not valid JSON"),
        ("book", '{"day": 1}', "day must be of type string"),
        ("task_reply", "{}", "lacks 'task'"),
        ("task_reply", '{"task": "book"}', "lacks 'answer'"),
        ("task_reply", '{"task": "other", "answer": "x"}', "task must be one of book"),
        ("task_reply", '{"task": "book", "answer": "x"}', "not waiting"),
        ("task_cancel", '{"task": "book"}', "not running"),
    ],
)
async def test_call_that_cannot_be_done_is_an_error_report(name, arguments, reason):
    bench = Bench(ask_task())
    report = await bench.raw("fc", name, arguments)
    assert report["status"] == "error"
    assert reason in report["reason"]
    assert report["say"]
    assert bench.session.background == set()


async def test_reply_to_a_task_at_work_is_an_error():
    gate = Gate()
    bench = Bench(gate_task(gate), patience_s=0.01)
    await bench.call("fetch")
    assert (await bench.call("task_reply", task="fetch", answer="x"))["status"] == "error"
    await bench.session.close("over")


async def test_of_two_answers_at_once_the_second_is_refused():
    bench = Bench(ask_task())
    await bench.call("book")
    answers = (bench.call("task_reply", task="book", answer=answer) for answer in ("red", "blue"))
    first, second = await asyncio.gather(*answers)
    assert (first["status"], first["result"]["answer"]) == ("done", "red")
    assert second["status"] == "error"


async def test_repeated_call_id_gives_the_same_output_and_runs_nothing_twice():
    bench = Bench(ask_task())
    first = await bench.raw("same", "book", "{}")
    assert await bench.raw("same", "book", "{}") == first
    assert await bench.raw("same", "end_call", "{}") == first
    bench.control.hang_up.assert_not_called()
    assert len(bench.session.transitions) == 1


async def test_repetition_of_a_call_that_still_waits_gets_the_same_output():
    gate = Gate()
    bench = Bench(gate_task(gate))
    both = asyncio.gather(bench.raw("same", "fetch", "{}"), bench.raw("same", "fetch", "{}"))
    await gate.entered.wait()
    gate.opened.set()
    first, second = await both
    assert first == second
    assert first["status"] == "done"
    assert len(bench.session.results) == 1


async def test_cancelled_repetition_leaves_the_first_call_alone():
    gate = Gate()
    bench = Bench(gate_task(gate))
    first = asyncio.create_task(bench.raw("same", "fetch", "{}"))
    await gate.entered.wait()
    repetition = asyncio.create_task(bench.raw("same", "fetch", "{}"))
    await asyncio.sleep(0)
    repetition.cancel()
    await asyncio.wait({repetition})
    gate.opened.set()
    assert (await first)["status"] == "done"


async def test_cancelled_function_call_is_not_run_again():
    gate = Gate()
    bench = Bench(gate_task(gate))
    call = asyncio.create_task(bench.raw("same", "fetch", "{}"))
    await gate.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await bench.raw("same", "fetch", "{}"))["status"] == "error"
    gate.opened.set()
    assert (await bench.announced.get())["status"] == "done"


async def test_outputs_are_kept_for_a_bounded_number_of_calls(monkeypatch):
    monkeypatch.setattr(talk, "MAX_FUNCTION_CALLS", 2)
    gate = Gate()
    bench = Bench(gate_task(gate))
    waiting = asyncio.create_task(bench.raw("waits", "fetch", "{}"))
    await gate.entered.wait()
    for number in range(3):
        await bench.raw(f"fc{number}", "end_call", "{}")
    assert bench.control.hang_up.call_count == 3
    await bench.raw("fc2", "end_call", "{}")
    assert bench.control.hang_up.call_count == 3
    await bench.raw("fc0", "end_call", "{}")
    assert bench.control.hang_up.call_count == 4
    gate.opened.set()
    assert (await waiting)["status"] == "done"


async def test_more_calls_at_once_than_can_be_kept_are_refused(monkeypatch):
    monkeypatch.setattr(talk, "MAX_FUNCTION_CALLS", 1)
    gate = Gate()
    bench = Bench(gate_task(gate))
    waiting = asyncio.create_task(bench.raw("waits", "fetch", "{}"))
    await gate.entered.wait()
    assert "too many" in (await bench.raw("more", "end_call", "{}"))["reason"]
    gate.opened.set()
    assert (await waiting)["status"] == "done"


async def test_cancelling_a_waiting_task_ends_it():
    bench = Bench(ask_task())
    await bench.call("book", day="monday")
    report = await bench.call("task_cancel", task="book")
    assert report == {"status": "cancelled", "task": "book", "say": reports.SAY_CANCELLED}
    assert bench.session.background == set()
    assert bench.session.results == [{"task": "book", "status": "cancelled", "result": {"day": "monday"}}]
    assert (await bench.call("task_reply", task="book", answer="x"))["status"] == "error"
    assert bench.announced.empty()


async def test_cancelling_a_task_at_work_tells_the_call_that_waits_for_it_too():
    gate = Gate()
    bench = Bench(gate_task(gate))
    start = asyncio.create_task(bench.call("fetch"))
    await gate.entered.wait()
    assert (await bench.call("task_cancel", task="fetch"))["status"] == "cancelled"
    assert (await start)["status"] == "cancelled"
    assert gate.left.is_set()
    assert bench.session.background == set()


async def test_closing_leaves_nothing_running_and_says_nothing_more():
    gate = Gate()
    bench = Bench(gate_task(gate), ask_task())
    await bench.call("book")
    start = asyncio.create_task(bench.call("fetch"))
    await gate.entered.wait()
    await bench.session.close("caller hung up")
    assert (await start)["status"] == "cancelled"
    assert gate.left.is_set()
    assert bench.session.background == set()
    assert {result["status"] for result in bench.session.results} == {"cancelled"}
    assert bench.announced.empty()
    assert (await bench.call("book"))["reason"] == "the call is ending"
    assert not bench.session.dtmf("1")
    await bench.session.close("again")


async def test_closing_has_a_deadline_and_tells_what_would_not_end(caplog):
    class Stubborn(Gate):
        async def process(self, input_text, context):
            self.entered.set()
            while not self.opened.is_set():
                try:
                    await self.opened.wait()
                except asyncio.CancelledError:
                    continue

    gate = Stubborn()
    bench = Bench(gate_task(gate), patience_s=0.01)
    await bench.call("fetch")
    (running,) = bench.session.background
    with caplog.at_level(logging.ERROR):
        await bench.session.close("over", timeout_s=0.01)
    assert "1 tasks ignore their cancellation" in caplog.text
    assert bench.session.background == {running}
    gate.opened.set()
    await asyncio.wait({running})
    assert bench.session.background == set()
    assert [result["status"] for result in bench.session.results] == ["failed"]
    assert bench.announced.empty()


async def test_machines_run_in_the_task_group_they_are_given():
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        bench = Bench(gate_task(gate), create_task=group.create_task)
        call = group.create_task(bench.call("fetch"))
        await gate.entered.wait()
        await bench.session.close("over")
    assert call.result()["status"] == "cancelled"


async def test_keys_answer_the_task_that_asked_last():
    bench = Bench(ask_task("book"), ask_task("pay"))
    await bench.call("pay")
    await bench.call("book")
    assert bench.session.dtmf("42")
    report = await bench.announced.get()
    assert (report["task"], report["result"]) == ("book", {"answer": "42"})
    assert bench.session.dtmf("7")
    assert (await bench.announced.get())["task"] == "pay"


async def test_keys_that_nobody_waits_for_are_taken_down():
    bench = Bench(ask_task())
    assert not bench.session.dtmf("5")
    assert not bench.session.dtmf("")
    assert [utterance.text for utterance in bench.session.context.history] == ["5"]
    assert bench.announced.empty()


async def test_end_call_says_goodbye_and_hangs_up():
    bench = Bench()
    assert await bench.call("end_call", reason="finished") == {
        "status": "done",
        "task": "end_call",
        "say": reports.SAY_GOODBYE,
    }
    bench.control.hang_up.assert_called_once_with("finished")


async def test_transfer_goes_to_the_configured_target():
    bench = Bench(transfer_target="tel:+1555")
    report = await bench.call("transfer_call", reason="wants a person")
    assert (report["status"], report["say"]) == ("done", reports.SAY_TRANSFER)
    bench.control.transfer.assert_called_once_with("tel:+1555", "wants a person", is_warm=False)


async def test_fault_of_the_call_becomes_an_error_report(caplog):
    bench = Bench()
    bench.control.hang_up.side_effect = RuntimeError("secret")
    assert (await bench.call("end_call"))["reason"] == "internal error"
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_moves_are_told_as_they_happen():
    told = []
    bench = Bench(ask_task(), on_transition=told.append)
    await bench.call("book")
    assert told == [Transition("book", "", "ask", "start")]


async def test_limits_reach_the_machine():
    bench = Bench(ask_task(), limits=Limits(answer_timeout_s=0.01))
    await bench.call("book")
    assert (await bench.announced.get())["status"] == "failed"


async def test_outcome_keeps_the_words_out_of_its_repr():
    bench = Bench(ask_task())
    assert "Which" not in repr(await bench.session.call_function("fc", "book", "{}"))
