"""``fastagent new``: the files of a new agent, with its test."""

import argparse
import asyncio
import keyword
import re
from pathlib import Path

from fastagent.errors import ConfigurationError, FastAgentError

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent new front_desk                    front_desk.py and test_front_desk.py, here
  fastagent new front_desk --directory bots   in the folder bots

then:
  fastagent verify front_desk:agent           what is wrong with it (nothing yet)
  python -m pytest test_front_desk.py         its test
  fastagent serve front_desk:agent            answer calls
"""

AGENT = '''\
"""An agent that takes messages.

::

    take_message ──▶ anything_else ──▶ goodbye
         ▲──── another one ───┘
"""

from fastagent import AFSMState, ConversationContext, FastAgent
from fastagent.afsm import StateResult
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import SilenceStep

STILL_THERE = SilenceStep(10, say="Are you still there?")


class TakeMessage(AFSMState):
    """Has slots and no code: they are asked for one after another, then its one way leads on."""

    name = "take_message"
    description = "Take a message for somebody in the house"
    allowed_transitions = ("anything_else",)
    slots = {  # noqa: RUF012
        "caller_name": Slot(str, "Who is calling, please?"),
        "message": Slot(str, "What is the message?", "read_back"),
    }
    prompt_template = "Thank you, {caller_name}. I will pass that on. Is there anything else?"
    silence = (STILL_THERE,)


class AnythingElse(AFSMState):
    """Has code: it reads the answer and names the next state."""

    name = "anything_else"
    description = "Find out whether there is another message"
    allowed_transitions = ("take_message", "goodbye")
    silence = (STILL_THERE,)

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        words = set(input_text.lower().replace(".", "").replace(",", "").split())
        if words & {"yes", "another"}:
            del context.slots["message"]
            return {"response": "", "next_state": "take_message", "confidence": 1.0}
        if words & {"no", "nothing", "thanks", "goodbye"}:
            return {"response": "", "next_state": "goodbye", "confidence": 1.0}
        return {"response": "Is there another message?", "next_state": self.name, "confidence": 1.0}


class Goodbye(AFSMState):
    """Has no way on, so the task ends with what it says."""

    name = "goodbye"
    description = "Say goodbye and hang up"

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        self.call.hang_up("completed")
        return {"response": "Thank you for calling. Goodbye.", "next_state": self.name, "confidence": 1.0}


agent = FastAgent(
    "@NAME@",
    [TakeMessage(), AnythingElse(), Goodbye()],
    "take_message",
    instructions="You answer the telephone of the house. You take messages.",
    greeting="Hello, how can I help you?",
    task_name="take_message",
    task_description="Take a message from the caller.",
)
'''

TEST = '''\
"""The agent @NAME@: its state machine, without a call."""

import asyncio

from fastagent.afsm.rehearsal import Rehearsal
from fastagent.afsm.verify import check

from @NAME@ import agent


async def rehearse(*answers: str) -> Rehearsal:
    rehearsal = Rehearsal(agent.tasks["take_message"].graph)
    await rehearsal.start()
    for answer in answers:
        await rehearsal.say(answer)
    await rehearsal.close()
    return rehearsal


def test_nothing_is_wrong_with_its_graph() -> None:
    assert check(agent) == []


def test_a_message_is_taken() -> None:
    done = asyncio.run(rehearse("Ann", "the door is open", "yes", "no"))
    assert done.outcome is not None
    assert done.outcome.status == "done"
    assert done.outcome.result == {"caller_name": "Ann", "message": "the door is open"}
    assert done.control.orders == [("hang_up", "completed")]


def test_a_message_that_was_read_back_wrong_is_asked_for_again() -> None:
    done = asyncio.run(rehearse("Ann", "the floor is open", "no"))
    assert done.outcome is None
    assert done.said[-1] == "What is the message?"


def test_there_may_be_another_one() -> None:
    done = asyncio.run(rehearse("Ann", "the door is open", "yes", "yes", "it is shut", "yes", "no"))
    assert done.outcome is not None
    assert done.outcome.result["message"] == "it is shut"
'''


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "new",
        help="write the files of a new agent, with its test",
        description="Write an agent that works, and its test, to be changed into one's own.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="of the module and the agent: a-z 0-9 _")
    parser.add_argument("--directory", type=Path, default=Path(), help="where to write (default: here)")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Write both files; none that is there already is touched."""
    name = options.name
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or keyword.iskeyword(name):
        raise ConfigurationError(f"{name!r} cannot name a module: begin with a letter, then a-z 0-9 _")
    written = await asyncio.to_thread(_write, options.directory, name)
    for path in written:
        print(f"written: {path}")
    print(f"next: fastagent verify {name}:agent, python -m pytest {written[1]}, fastagent serve {name}:agent")
    return 0


def _write(directory: Path, name: str) -> list[Path]:
    texts = {directory / f"{name}.py": AGENT, directory / f"test_{name}.py": TEST}
    if there := [path for path in texts if path.exists()]:
        raise FastAgentError(f"{there[0]} is there already")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text.replace("@NAME@", name))
    except OSError as error:
        raise FastAgentError(f"{error.filename}: {error.strerror}") from error
    return list(texts)
