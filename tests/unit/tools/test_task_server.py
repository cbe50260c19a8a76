"""TaskServer: an agent's tasks in text, a conversation at a time."""

import asyncio

import pytest

from fastagent.afsm import AFSMState
from fastagent.agent import FastAgent, Task
from fastagent.errors import ConfigurationError
from fastagent.tools.mcp_server import TaskServer, TextControl

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
    """Works until its gate opens."""

    name = "gate"
    allowed_transitions = ("end",)

    def __init__(self):
        super().__init__()
        self.opened = asyncio.Event()

    async def process(self, input_text, context):
        await self.opened.wait()
        return {"response": "", "next_state": "end", "confidence": 1.0}


class Leave(AFSMState):
    """Does what a telephone would, and hangs up."""

    name = "leave"

    async def process(self, input_text, context):
        self.call.send_digits("1")
        self.call.send_metadata({})
        self.call.play_clip("music", loop=True)
        self.call.stop_clips()
        self.call.set_voice_policy(None)
        self.call.announce("By the way.")
        self.call.transfer("tel:+1555", "asked for")
        self.call.hang_up("done")
        return {"response": "Goodbye.", "next_state": "leave", "confidence": 1.0}


def end():
    return AFSMState("end", "All done.")


def ask_task(name="book", **properties):
    return Task(name, "Book.", {"properties": properties}, [Ask(), end()], "ask")


def server(*tasks, patience_s=0.01, **options):
    agent = FastAgent("desk", tasks=tasks or [ask_task(), ask_task("pay")], task_patience_s=patience_s)
    return TaskServer(agent, patience_s=patience_s, **options)


def test_tools_are_the_tasks_and_what_goes_on_with_them():
    tools = {tool.name: tool for tool in server(ask_task(day={"type": "string"})).tools}
    assert list(tools) == ["book", "task_reply", "task_cancel", "task_status"]
    assert list(tools["book"].input_schema["properties"]) == ["day", "conversation_id"]
    assert tools["task_reply"].input_schema["required"] == ["conversation_id", "task", "answer"]


@pytest.mark.parametrize(
    "tasks",
    [[], [ask_task(conversation_id={"type": "string"})], [ask_task("task_status")]],
    ids=["none", "property", "name"],
)
def test_agents_that_cannot_be_offered_are_refused(tasks):
    with pytest.raises(ConfigurationError):
        TaskServer(FastAgent("desk", tasks=tasks))


async def test_task_asks_is_answered_and_ends_in_one_conversation():
    tasks = server(patience_s=10)
    asked = await tasks.call("book", {})
    assert (asked["status"], asked["say"]) == ("needs_input", "Which one?")
    conversation_id = asked["conversation_id"]
    assert len(conversation_id) >= 20
    done = await tasks.call(
        "task_reply", {"conversation_id": conversation_id, "task": "book", "answer": "the red one"}
    )
    assert (done["status"], done["result"]) == ("done", {"answer": "the red one"})
    assert done["conversation_id"] == conversation_id
    await tasks.close()
    assert tasks.conversations == 0


async def test_tasks_of_one_conversation_run_side_by_side_and_conversations_apart():
    tasks = server(patience_s=10)
    first = (await tasks.call("book", {}))["conversation_id"]
    assert (await tasks.call("pay", {"conversation_id": first}))["conversation_id"] == first
    other = (await tasks.call("book", {}))["conversation_id"]
    assert other != first
    assert tasks.conversations == 2
    for conversation_id, task in ((first, "book"), (first, "pay"), (other, "book")):
        reply = {"conversation_id": conversation_id, "task": task, "answer": task}
        assert (await tasks.call("task_reply", reply))["result"] == {"answer": task}
    await tasks.close()


async def test_cancel_stops_a_task():
    tasks = server(patience_s=10)
    conversation_id = (await tasks.call("book", {}))["conversation_id"]
    cancel = {"conversation_id": conversation_id, "task": "book"}
    assert (await tasks.call("task_cancel", cancel))["status"] == "cancelled"
    assert (await tasks.call("task_cancel", cancel))["reason"] == "the task is not running"
    await tasks.close()


async def test_report_that_came_later_is_told_by_the_status():
    gate = Gate()
    tasks = server(Task("fetch", "Fetch.", None, [gate, end()], "gate"))
    working = await tasks.call("fetch", {})
    assert working["status"] == "working"
    status = {"conversation_id": working["conversation_id"]}
    assert (await tasks.call("task_status", status))["reports"] == []
    gate.opened.set()
    told = await tasks.call("task_status", status)
    assert [report["status"] for report in told["reports"]] == ["done"]
    assert told["tasks"]["fetch"]["status"] == "done"
    assert (await tasks.call("task_status", status))["reports"] == []
    await tasks.close()


async def test_hanging_up_ends_the_conversation_and_the_telephone_is_not_missed():
    tasks = server(Task("bye", "Leave.", None, [Leave()], "leave"), patience_s=10)
    report = await tasks.call("bye", {})
    assert (report["status"], report["say"]) == ("done", "Goodbye.")
    assert (report["conversation"], report["ended_by"]) == ("ended", "transfer")
    assert "conversation_id" not in report
    assert tasks.conversations == 0
    await tasks.close()


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("end_call", {}, "no such tool"),
        ("nothing", {}, "no such tool"),
        ("task_reply", {"task": "book", "answer": "x"}, "no such conversation"),
        ("task_status", {"conversation_id": 7}, "no such conversation"),
        ("book", {"conversation_id": "guessed"}, "no such conversation"),
        ("book", {"day": 7}, "must be of type string"),
        ("book", {"day": "x" * 70_000}, "longer than"),
    ],
)
async def test_mistakes_of_the_client_are_reports(name, arguments, reason):
    tasks = server(ask_task(day={"type": "string"}))
    report = await tasks.call(name, arguments)
    assert report["status"] == "error"
    assert reason in report["reason"]
    await tasks.close()


async def test_idle_conversations_are_closed_in_time():
    now = [0.0]
    tasks = server(idle_timeout_s=60, now=lambda: now[0], patience_s=10)
    old = (await tasks.call("book", {}))["conversation_id"]
    now[0] = 50
    young = (await tasks.call("book", {}))["conversation_id"]
    now[0] = 100
    assert "no such conversation" in (await tasks.call("task_status", {"conversation_id": old}))["reason"]
    assert (await tasks.call("task_status", {"conversation_id": young}))["status"] == "done"
    assert tasks.conversations == 1
    await tasks.close()


async def test_too_many_conversations_close_the_idlest_and_never_one_at_work():
    gate = Gate()
    fetch = Task("fetch", "Fetch.", None, [gate, end()], "gate")
    tasks = server(fetch, ask_task(), max_conversations=2, patience_s=10)
    first = (await tasks.call("book", {}))["conversation_id"]
    second = (await tasks.call("book", {}))["conversation_id"]
    await tasks.call("task_status", {"conversation_id": first})
    third = (await tasks.call("book", {}))["conversation_id"]
    assert list(tasks._conversations) == [first, third]
    assert second not in tasks._conversations
    busy = [asyncio.create_task(tasks.call("fetch", {})) for _ in range(2)]
    await asyncio.sleep(0)
    assert (await tasks.call("fetch", {}))["reason"] == "too many conversations at once"
    gate.opened.set()
    assert {report["status"] for report in await asyncio.gather(*busy)} == {"done"}
    await tasks.close()


def test_name_in_logs_does_not_let_its_reader_in():
    control = TextControl("abcdefghijklmnop", lambda report: None)
    assert control.call_id == "text-abcdef"
