"""AgentSession: functions beside the tasks: once per call id, allowed by state, bounded, recorded."""

import asyncio
import collections
import json
import random
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, VoicePolicy
from fastagent.agent import FastAgent, Task
from fastagent.errors import ConfigurationError
from fastagent.tools import ToolCall, router, tool
from fastagent.tools.function_runs import MAX_FUNCTIONS_AT_ONCE
from fastagent.tools.offered import ToolResult, text_result

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Ask(AFSMState):
    """Asks for ever."""

    name = "ask"
    allowed_transitions = ("end",)

    async def process(self, input_text, context):
        return {"response": "Which one?", "next_state": "ask", "confidence": 1.0}


def task(name, *tools, policy=True):
    state = Ask()
    state.voice_policy = VoicePolicy(tools=tools) if policy else None
    return Task(name, "Ask.", None, [state, AFSMState("end", "Done.")], "ask")


class Ledger:
    """Takes audit records."""

    def __init__(self):
        self.records = []

    def record(self, kind, data):
        self.records.append((kind, dict(data)))


class Counter:
    """A function that counts its calls and may be held up."""

    def __init__(self, name="count", qualified_name=None):
        self.name, self.qualified_name = name, qualified_name or name
        self.calls, self.gate = [], asyncio.Event()
        self.gate.set()

    @property
    def tool(self):
        return {
            "type": "function",
            "name": self.name,
            "description": "Count.",
            "parameters": {"type": "object"},
        }

    async def run(self, arguments_json, call):
        self.calls.append((arguments_json, call))
        await self.gate.wait()
        return text_result(f"{len(self.calls)}", 100)


def open_session(*offered, tasks=(), recorder=None, allowed_tools=None):
    control = create_autospec(CallControl, instance=True)
    control.call_id, control.caller = "call-1", "+1555"
    agent = FastAgent("desk", tasks=tasks)
    return router.AgentSession(
        control,
        agent.open(control).talk,
        instructions="",
        tools=(*agent.tools, *(one.tool for one in offered)),
        tasks=agent.tasks,
        functions={one.name: one for one in offered},
        allowed_tools=allowed_tools,
        recorder=recorder,
    )


async def call(session, name, call_id="fc1", arguments="{}"):
    outcome = await session.call_function(call_id, name, arguments)
    assert outcome.should_respond
    return json.loads(outcome.output)


async def test_function_reports_at_once_and_knows_its_call():
    counter = Counter()
    session = open_session(counter)
    session.caller_said("hello")
    session.context.add_salient_fact("city", "Bonn")
    assert await call(session, "count", arguments='{"a": 1}') == {"status": "done", "answer": "1"}
    ((arguments, told),) = counter.calls
    assert arguments == '{"a": 1}'
    assert told == ToolCall("call-1", "fc1", "+1555", {"city": "Bonn"}, {}, session.context.history)


async def test_one_call_id_runs_once_however_often_it_comes():
    counter = Counter()
    counter.gate.clear()
    session = open_session(counter)
    calls = [asyncio.create_task(call(session, "count")) for _ in range(5)]
    await asyncio.sleep(0)
    counter.gate.set()
    reports = await asyncio.gather(*calls)
    assert reports == [{"status": "done", "answer": "1"}] * 5
    assert await call(session, "count") == reports[0]
    assert len(counter.calls) == 1
    assert (await call(session, "count", "fc2"))["answer"] == "2"


async def test_ten_thousand_doubled_reordered_and_interrupted_deliveries_have_one_effect_each():
    chance = random.Random(4)
    effects = collections.Counter()

    @tool
    async def charge(number: int) -> str:
        """Charge."""
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        effects[number] += 1
        return f"charged {number}"

    session = open_session(charge)
    deliveries = 0

    async def deliver(number):
        await asyncio.sleep(0)
        report = await call(session, "charge", f"fc{number}", json.dumps({"number": number}))
        assert report == {"status": "done", "answer": f"charged {number}"}

    for block in range(0, 2_500, MAX_FUNCTIONS_AT_ONCE):
        numbers = range(block, block + MAX_FUNCTIONS_AT_ONCE)
        firsts = [asyncio.create_task(deliver(number)) for number in numbers]
        order = [number for number in numbers for _ in range(3)]
        chance.shuffle(order)
        again = []
        for number in order:
            again.append(asyncio.create_task(deliver(number)))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                chance.choice(again).cancel()
        await asyncio.gather(*firsts)
        await asyncio.gather(*again, return_exceptions=True)
        assert not any(one.exception() for one in again if not one.cancelled())
        deliveries += len(firsts) + len(again)
    assert deliveries >= 10_000
    assert len(effects) >= 2_500
    assert set(effects.values()) == {1}


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        (None, {"count", "orders_find", "find"}),
        ((), set()),
        (("count",), {"count"}),
        (("orders_find",), {"orders_find"}),
        (("orders:find",), {"orders_find"}),
        (("orders:*", "find"), {"orders_find", "find"}),
        (("count:*", "*"), set()),
    ],
)
async def test_state_of_a_running_task_says_which_functions_may_be_called(allowed, names):
    counters = [Counter(), Counter("orders_find", "orders:find"), Counter("find", "maps:find")]
    session = open_session(*counters, tasks=[task("book", *(allowed or ()), policy=allowed is not None)])
    assert {tool["name"] for tool in session.allowed_tools} >= {"count", "orders_find", "find"}
    await call(session, "book", "start")
    always = {"book", "task_reply", "task_cancel", "end_call"}
    assert {tool["name"] for tool in session.allowed_tools} == names | always
    for counter in counters:
        report = await call(session, counter.name, f"fc-{counter.name}")
        assert (report["status"] == "done") is (counter.name in names)
        assert len(counter.calls) == (counter.name in names)
    await session.close("over")


async def test_several_tasks_allow_what_all_of_them_allow():
    tasks = [task("book", "count", "find"), task("pay", "find"), task("chat", policy=False)]
    session = open_session(Counter(), Counter("find"), tasks=tasks)
    for name in ("book", "pay", "chat"):
        await call(session, name, name)
    assert (await call(session, "count", "a"))["status"] == "error"
    assert (await call(session, "find", "b"))["status"] == "done"
    await session.close("over")


async def test_given_rule_takes_the_place_of_the_states():
    allowed = frozenset({"count"})
    session = open_session(Counter(), Counter("find"), allowed_tools=lambda: allowed)
    assert (await call(session, "find", "a"))["status"] == "error"
    allowed = None
    assert (await call(session, "find", "b"))["status"] == "done"


async def test_one_call_may_not_run_too_many_at_once():
    counter = Counter()
    counter.gate.clear()
    session = open_session(counter)
    calls = [
        asyncio.create_task(call(session, "count", f"fc{number}"))
        for number in range(MAX_FUNCTIONS_AT_ONCE + 1)
    ]
    await asyncio.sleep(0)
    assert len(counter.calls) == MAX_FUNCTIONS_AT_ONCE
    assert (await calls[-1])["reason"] == "too many functions at once"
    counter.gate.set()
    await asyncio.gather(*calls)
    assert (await call(session, "count", "later"))["status"] == "done"


async def test_records_tell_names_sizes_and_durations_and_nothing_that_was_said():
    ledger = Ledger()
    session = open_session(Counter("find", "orders:find"), recorder=ledger)
    await call(session, "find", arguments='{"number": 4711}')
    (first, asked), (second, told) = ledger.records
    assert (first, second) == ("tool_call", "tool_outcome")
    assert asked == {"name": "orders:find", "function_call_id": "fc1", "argument_bytes": 16}
    assert told.pop("duration_ms") >= 0
    assert told == {
        "name": "orders:find",
        "function_call_id": "fc1",
        "status": "done",
        "cause": "",
        "output_bytes": len('{"status":"done","answer":"1"}'),
    }
    assert "4711" not in repr(ledger.records)


async def test_refusals_and_cancellations_are_recorded_too():
    ledger, counter = Ledger(), Counter()
    session = open_session(counter, recorder=ledger, allowed_tools=frozenset)
    await call(session, "count", "a")
    assert ledger.records[-1][1]["cause"] == "not_allowed"
    session = open_session(counter, recorder=ledger)
    counter.gate.clear()
    running = asyncio.create_task(call(session, "count", "b"))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ledger.records[-1][1]["status"] == "cancelled"
    assert (await call(session, "count", "b"))["reason"] == "the function call was cancelled"
    assert len(counter.calls) == 1


async def test_recorder_that_fails_disturbs_nothing(caplog):
    class Broken:
        def record(self, kind, data):
            raise OSError("disk full at 4711")

    assert (await call(open_session(Counter(), recorder=Broken()), "count"))["status"] == "done"
    assert "no audit record: OSError" in caplog.text
    assert "4711" not in caplog.text


async def test_function_that_breaks_its_promise_fails_alone():
    counter = Counter()
    broken = Counter("broken")
    broken.run = lambda *_: (_ for _ in ()).throw(ValueError("4711"))
    session = open_session(counter, broken)
    assert (await call(session, "broken", "a"))["reason"] == "internal error"
    assert (await call(session, "count", "b"))["status"] == "done"


async def test_closed_session_runs_no_function():
    counter = Counter()
    session = open_session(counter)
    await session.close("over")
    assert (await call(session, "count"))["reason"] == "the call is ending"
    assert counter.calls == []


def opening_hours(day: str) -> str:
    """Tell when we are open."""
    return f"Nine to five on {day}."


async def test_agent_offers_its_functions_beside_its_tasks():
    agent = FastAgent("desk", tasks=[task("book")], functions=[tool(deadline_s=1.0)(opening_hours)])
    assert [one["name"] for one in agent.tools] == [
        "book",
        "opening_hours",
        "task_reply",
        "task_cancel",
        "end_call",
    ]
    assert "answer or result" in agent.instructions
    assert "answer or result" not in FastAgent("desk").instructions
    control = create_autospec(CallControl, instance=True)
    control.call_id = control.caller = "call-1"
    ledger = Ledger()
    session = agent.open(control, recorder=ledger)
    assert session.tools == agent.tools
    report = await call(session, "opening_hours", arguments='{"day": "monday"}')
    assert report == {"status": "done", "answer": "Nine to five on monday."}
    assert [kind for kind, _ in ledger.records] == ["tool_call", "tool_outcome"]


def test_plain_function_is_offered_with_the_default_limits():
    agent = FastAgent("desk", functions=[opening_hours])
    assert agent.functions["opening_hours"].description == "Tell when we are open."


@pytest.mark.parametrize("name", ["end_call", "book", "task_reply"])
def test_function_may_not_take_the_name_of_another_tool(name):
    with pytest.raises(ConfigurationError, match=f"two tools named '{name}'"):
        FastAgent("desk", tasks=[task("book")], functions=[tool(name=name)(opening_hours)])


def test_two_functions_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two tools named 'opening_hours'"):
        FastAgent("desk", functions=[opening_hours, opening_hours])


def test_result_hides_what_it_holds():
    assert "4711" not in repr(ToolResult("done", {"answer": "4711"}))
