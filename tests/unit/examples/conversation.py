"""Talks to an agent as the model would: what the caller hears is the ``say`` of each report."""

import asyncio
import json
from typing import Any
from unittest.mock import create_autospec

from fastagent import FastAgent
from fastagent.afsm import CallControl, Machine
from fastagent.afsm.effects.effects import Effects, TaskEffects
from fastagent.afsm.run.proposal import Reasoner
from fastagent.agent import AgentSession
from fastagent.context import ConversationContext
from fastagent.journal import MemoryJournal


class Conversation:
    """One call of an agent that has one task."""

    def __init__(self, agent: FastAgent) -> None:
        (self.task,) = agent.tasks
        self.control = create_autospec(CallControl, instance=True)
        self.control.caller = "tel:+15550100"
        self.control.call_id = "call-1"
        self.session: AgentSession = agent.open(self.control)
        self.calls = 0
        self.status = ""

    async def begin(self, **arguments: Any) -> str:
        """The model starts the task."""
        return await self._call(self.task, arguments)

    async def reply(self, answer: str) -> str:
        """The caller answers; the words that follow."""
        return await self._call("task_reply", {"task": self.task, "answer": answer})

    async def talk(self, *answers: str) -> str:
        """Several answers; what the last one led to."""
        say = ""
        for answer in answers:
            say = await self.reply(answer)
        return say

    async def press(self, keys: str) -> str:
        """The caller presses keys one by one; what is said then."""
        before = self.control.announce.call_count
        for key in keys:
            if not self.session.dtmf(key):
                break  # nothing is asked any more
            await self.settle()
        if self.control.announce.call_count == before:
            return ""
        return self._read(self.control.announce.call_args.args[0])

    async def settle(self) -> None:
        """Let the task do what it can without another answer."""
        for _ in range(40):
            await asyncio.sleep(0)

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        self.calls += 1
        outcome = await self.session.call_function(f"fc{self.calls}", name, json.dumps(arguments))
        return self._read(outcome.output)

    def _read(self, output: str) -> str:
        report = json.loads(output)
        self.status = report["status"]
        say: str = report["say"]
        return say

    @property
    def states(self) -> list[str]:
        return [transition.to_state for transition in self.session.transitions]

    @property
    def result(self) -> dict[str, Any]:
        """What the one run that ended has found."""
        (run,) = self.session.results
        result: dict[str, Any] = run["result"]
        return result


class JournalledRun:
    """One run of an agent's task whose effects go through a journal."""

    def __init__(self, agent: FastAgent, *, reasoner: Reasoner | None = None) -> None:
        (task,) = agent.tasks.values()
        self.said: list[str] = []
        self.effects = Effects(MemoryJournal(), "call-1")
        self.control = create_autospec(CallControl, instance=True)
        self.control.call_id = "call-1"
        self.control.caller = "tel:+15550100"
        self._arrived = asyncio.Event()
        context = ConversationContext().task_view()
        self.context = context
        self.machine = Machine(
            task.graph,
            context,
            self.control,
            ask=self._ask,
            effects=TaskEffects(self.effects, "fc1"),
            reasoner=reasoner,
        )

    def _ask(self, question: str) -> None:
        self.said.append(question)
        self._arrived.set()

    async def play(self, *answers: str, **arguments: Any) -> str:
        """Begin with arguments, give the answers, leave the line; gives the words after the last answer."""
        self.context.slots.update(arguments)
        machine = self.machine
        running = asyncio.create_task(machine.run(" ".join(map(str, arguments.values()))))
        running.add_done_callback(lambda _: self._arrived.set())
        for answer in answers:
            await self._next()
            assert not running.done(), self.said
            assert machine.post(answer)
        await self._next()
        if running.done():
            self.said.append(running.result().say)
        else:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return self.said[-1]

    async def _next(self) -> None:
        await self._arrived.wait()
        self._arrived.clear()
