"""The README's examples: they run as printed. Its agent takes an order."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

from fastagent.afsm import CallControl

README = Path(__file__).parents[2] / "README.md"


def example(number: int = 0) -> dict[str, Any]:
    """What the code defines: first the agent, last the client."""
    page = README.read_text(encoding="utf-8")
    found = list(re.finditer(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))[number]
    # In its place: what looks for the source of a state finds it there.
    code = "\n" * page.count("\n", 0, found.start(1)) + found[1]
    names: dict[str, Any] = {"__name__": "pizza"}
    exec(compile(code, str(README), "exec"), names)
    return names


def test_example_takes_an_order_while_the_talk_wanders():
    async def main() -> None:
        control = create_autospec(CallControl, instance=True)
        control.call_id = "call-1"
        session = example()["agent"].open(control)

        async def call(call_id: str, name: str, **arguments: str) -> tuple[str, str]:
            report = json.loads((await session.call_function(call_id, name, json.dumps(arguments))).output)
            return report["status"], report["say"]

        assert await call("1", "order_pizza") == ("needs_input", "Small or large?")
        answer = {"task": "order_pizza"}
        session.caller_said("how late are you open")
        assert await call("2", "task_reply", answer="hm", **answer) == ("needs_input", "Small or large?")
        asked = "One small pizza. Is that right?"
        assert await call("3", "task_reply", answer="small please", **answer) == ("needs_input", asked)
        done = ("done", "It will be ready in twenty minutes.")
        assert await call("4", "task_reply", answer="yes", **answer) == done
        assert [move.to_state for move in session.transitions] == ["ask_size", "confirm", "done"]
        assert [result["result"] for result in session.results] == [{"size": "small"}]
        control.announce.assert_not_called()
        await session.close("end")

    asyncio.run(main())
