"""AgentSession: what a line's events, a model's arguments and a machine's refusals come to."""

import asyncio
import json
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, Event, WatchSpec, WatchStep
from fastagent.agent import FastAgent, Task
from fastagent.tools import task_runs

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Ask(AFSMState):
    name = "ask"
    description = "Ready?"
    allowed_transitions = ("end",)
    guards = {"end": ("facts.ok", "Not yet.")}  # noqa: RUF012
    handles = {Event.HANG_UP: "undo", Event.TRANSFER: "end"}  # noqa: RUF012

    async def process(self, input_text, context):
        context.add_salient_fact("seen", sorted(context.slots))
        to = "end" if input_text == "go" else self.name
        return {"response": "Ready?", "next_state": to, "confidence": 1.0}


class Undo(AFSMState):
    name = "undo"
    undone = 0

    async def process(self, input_text, context):
        await asyncio.sleep(0)
        type(self).undone += 1
        return {"response": "", "next_state": self.name, "confidence": 1.0}


@pytest.fixture
def session():
    parameters = {"type": "object", "properties": {"day": {"type": "string"}}}
    states = [Ask(), Undo(), AFSMState("end", "Done.", [])]
    agent = FastAgent(
        "a",
        states,
        "ask",
        task_name="work",
        task_parameters=parameters,
        transfer_target="tel:+15550100099",
        task_patience_s=0.2,
    )
    control = create_autospec(CallControl, instance=True)
    control.call_id = "c"
    return agent.open(control)


async def call(session, call_id, name, **arguments):
    return json.loads((await session.call_function(call_id, name, json.dumps(arguments))).output)


async def test_refusal_is_told_with_the_next_report_and_once(session):
    await call(session, "1", "work")
    report = await call(session, "2", "task_reply", task="work", answer="go")
    assert report["say"] == "Not yet."
    assert report["refused"] == ["the guard of the move from 'ask' to 'end' does not hold"]
    report = await call(session, "3", "task_reply", task="work", answer="hm")
    assert "refused" not in report
    await session.close("over")


async def test_arguments_the_task_did_not_ask_for_do_not_arrive(session):
    await call(session, "1", "work", day="monday", is_admin=True)
    assert session.context.facts["seen"] == ["day"]
    await session.close("over")


async def test_closing_lets_a_task_leave_by_its_way_for_a_hang_up(session):
    Undo.undone = 0
    await call(session, "1", "work")
    await session.close("hung up")
    assert Undo.undone == 1
    assert [move.to_state for move in session.transitions] == ["ask", "undo"]
    assert session.transitions[-1].reason == "hang_up"


async def test_a_wish_for_a_person_is_seen_to_by_the_task_that_answers_to_it(session):
    await call(session, "1", "work")
    session.context.add_salient_fact("ok", True)
    report = await call(session, "2", "transfer_call", reason="a person, please")
    assert (report["status"], report["task"], report["say"]) == ("done", "work", "Done.")
    assert session.transitions[-1].reason == "transfer"
    session._control.transfer.assert_not_called()


async def test_a_wish_for_a_person_that_no_task_sees_to_is_granted_at_once(session):
    await call(session, "1", "work")  # its guard keeps it where it is
    report = await call(session, "2", "transfer_call", reason="a person, please")
    assert (report["status"], report["task"]) == ("done", "transfer_call")
    session._control.transfer.assert_called_once_with("tel:+15550100099", "a person, please", is_warm=False)
    await session.close("over")


async def test_event_of_the_line_reaches_a_watch_whatever_the_state_answers_to():
    watch = WatchSpec("impatient", (WatchStep(say="I hear you."),), on=Event.BARGE_IN)
    agent = FastAgent("a", [Ask(), Undo(), AFSMState("end", "Done.", [])], "ask", supervisor=[watch])
    control = create_autospec(CallControl, instance=True)
    control.call_id = "c"
    session = agent.open(control)
    await call(session, "1", "a")
    session.signal(Event.BARGE_IN)
    control.announce.assert_called_once_with("I hear you.")
    await session.close("over")


async def test_event_of_the_line_reaches_running_tasks(session):
    await call(session, "1", "work")
    session.context.add_salient_fact("ok", True)
    session.signal(Event.TRANSFER)
    session.note_activity()
    (running,) = session.background
    await running
    assert session.transitions[-1].to_state == "end"
    await session.close("over")


# What the caller is heard to say


class Complaint(AFSMState):
    name = "complaint"
    allowed_transitions = ("emergency", "end")

    async def process(self, input_text, context):
        return {"response": "Go on?", "next_state": "complaint", "confidence": 1.0}


def triage_bench(monkeypatch, grace_s=0.0):
    monkeypatch.setattr(task_runs, "HEARD_GRACE_S", grace_s)
    watch = WatchSpec(
        "emergency", (WatchStep(next_state="emergency"),), words=("chest pain",), starts_task=True
    )
    states = [Complaint(), AFSMState("emergency", "Call for help now."), AFSMState("end", "Bye.")]
    task = Task("triage", "Triage.", None, states, "complaint", supervisor=(watch,))
    control = create_autospec(CallControl, instance=True)
    control.call_id = "call-1"
    control.announced = asyncio.Queue()
    control.announce.side_effect = lambda text: control.announced.put_nowait(json.loads(text))
    return control, FastAgent("desk", tasks=[task], task_patience_s=5.0).open(control)


async def test_runs_begun_by_hearing_are_told_apart_in_whatever_process_they_began(monkeypatch):
    names = []
    for _ in range(2):
        control, session = triage_bench(monkeypatch)
        session.keep_in(SimpleNamespace(keep=names.append))
        session.caller_said("I have chest pain")
        async with asyncio.timeout(5):
            await control.announced.get()
        await session.close("over")
    assert len(set(names)) == len(names) == 2


async def test_words_that_must_not_be_missed_begin_their_task_without_the_model(monkeypatch):
    control, session = triage_bench(monkeypatch)
    session.caller_said("hello")
    session.caller_said("I have chest pain")
    report = await control.announced.get()
    assert (report["task"], report["status"], report["say"]) == ("triage", "done", "Call for help now.")
    assert control.announced.empty()


async def test_the_model_that_begins_the_task_in_time_is_not_disturbed(monkeypatch):
    control, session = triage_bench(monkeypatch, grace_s=0.02)
    session.caller_said("I have chest pain")
    outcome = await session.call_function("fc1", "triage", json.dumps({"request": "I have chest pain"}))
    assert json.loads(outcome.output)["say"] == "Call for help now."
    await asyncio.sleep(0.05)
    assert control.announced.empty()
    assert len(session.results) == 1


async def test_a_model_that_passes_on_less_than_was_said_is_overruled(monkeypatch):
    control, session = triage_bench(monkeypatch, grace_s=0.02)
    session.caller_said("I have chest pain")
    outcome = await session.call_function("fc1", "triage", json.dumps({"request": "feels unwell"}))
    assert json.loads(outcome.output)["say"] == "Go on?"
    assert (await control.announced.get())["say"] == "Call for help now."


async def test_words_heard_while_the_task_runs_lead_at_once(monkeypatch):
    control, session = triage_bench(monkeypatch)
    await session.call_function("fc1", "triage", "{}")
    session.caller_said("now I have chest pain")
    assert (await control.announced.get())["say"] == "Call for help now."


async def test_a_model_that_passes_on_words_that_were_heard_is_told_so_and_does_not_speak(monkeypatch):
    control, session = triage_bench(monkeypatch, grace_s=5.0)
    await session.call_function("fc1", "triage", "{}")
    session.caller_said("now I have chest pain")
    assert (await control.announced.get())["say"] == "Call for help now."
    reply = json.dumps({"task": "triage", "answer": "now I have chest pain"})
    outcome = await session.call_function("fc2", "task_reply", reply)
    assert json.loads(outcome.output) == {"status": "heard", "task": "triage", "say": ""}
    assert not outcome.should_respond
    again = await session.call_function("fc3", "task_reply", reply)
    assert json.loads(again.output)["status"] == "error"
    assert again.should_respond


async def test_nothing_begins_by_hearing_once_the_call_ends(monkeypatch):
    _, session = triage_bench(monkeypatch, grace_s=0.01)
    session.caller_said("I have chest pain")
    await session.close("over")
    session.caller_said("I have chest pain")
    await asyncio.sleep(0.03)
    assert session.results == []
