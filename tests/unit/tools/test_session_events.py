"""AgentSession: what a line's events, a model's arguments and a machine's refusals come to."""

import asyncio
import json
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, Event
from fastagent.agent import FastAgent

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
    agent = FastAgent("a", states, "ask", task_name="work", task_parameters=parameters)
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


async def test_event_of_the_line_reaches_running_tasks(session):
    await call(session, "1", "work")
    session.context.add_salient_fact("ok", True)
    session.signal(Event.TRANSFER)
    session.note_activity()
    (running,) = session.background
    await running
    assert session.transitions[-1].to_state == "end"
    await session.close("over")
