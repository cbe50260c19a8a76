"""``MODULE:AGENT``: what is found, and one clear line about what is not."""

import sys

import pytest

from fastagent.cli.serve import load_agent, load_agents
from fastagent.errors import ConfigurationError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current folder and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write(text, name="desk_under_test"):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in set(sys.modules) - known:
        if name.endswith("_under_test"):
            del sys.modules[name]


AGENTS = """\
from fastagent import FastAgent
day = FastAgent("day", instructions="Hello.")
night = FastAgent("night", instructions="Hello.")
other_day = FastAgent("day", instructions="Hello.")
"""


def test_agents_come_from_the_current_folder_in_the_order_named(module):
    name = module(AGENTS)
    assert [agent.agent_id for agent in load_agents([f"{name}:night", f"{name}:day"])] == ["night", "day"]


@pytest.mark.parametrize("names", [("day", "other_day"), ("day", "night", "day")])
def test_two_agents_of_one_id_are_refused(module, names):
    name = module(AGENTS)
    with pytest.raises(ConfigurationError, match="same agent_id 'day'") as caught:
        load_agents(f"{name}:{attribute}" for attribute in names)
    assert f"{name}:{names[0]} and {name}:{names[-1]}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import json\n\njson.loads('{')\n", r"desk_under_test\.py:3: JSONDecodeError: Expecting"),
        ("def f():\n    return 1 / 0\nf()\n", r"desk_under_test\.py:2: ZeroDivisionError: division by zero$"),
        (
            "import no_such_module_at_all\n",
            r"desk_under_test\.py:1: ModuleNotFoundError: .*no_such_module_at_all",
        ),
        ("x = 1\ndef (\n", r"desk_under_test\.py:2: SyntaxError: "),
        (
            "from fastagent import FastAgent\nagent = FastAgent('')\n",
            r"desk_under_test\.py:2: ConfigurationError: agent_id must not be empty$",
        ),
        ("raise RuntimeError('one\\ntwo')\n", r"desk_under_test\.py:1: RuntimeError: one$"),
        ("raise RuntimeError\n", r"desk_under_test\.py:1: RuntimeError$"),
    ],
)
def test_module_that_fails_is_named_with_its_own_line_and_exception(module, text, complaint):
    name = module(text)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load_agent(f"{name}:agent")
    assert str(caught.value).startswith(f"cannot import {name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "expected MODULE:AGENT"),
        ("desk", "expected MODULE:AGENT"),
        (":agent", "expected MODULE:AGENT"),
        ("desk:", "expected MODULE:AGENT"),
        ("no_such_desk:agent", "no module named 'no_such_desk'"),
        ("fastagent.nowhere:agent", "no module named 'fastagent.nowhere'"),
        (".desk:agent", "cannot import .desk"),
        ("fastagent.errors:agent", "holds no FastAgent"),
        ("fastagent.examples.appointment:nobody", "has no agent 'nobody'; it has agent"),
    ],
)
def test_name_that_leads_nowhere_is_refused(name, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        load_agent(name)
