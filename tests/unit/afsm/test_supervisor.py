"""Watches of the supervisor: the caller's own words and what the talking model passes on are told apart."""

import pytest

from fastagent.afsm.guards import Scope
from fastagent.afsm.run.supervisor import Supervisor
from fastagent.afsm.spec import Event, WatchSpec, WatchStep

STEPS = tuple(WatchStep(say=say) for say in ("one", "two", "three"))
ABUSE = WatchSpec("abuse", STEPS, words=("you idiot",))


def played(script: str) -> list[str]:
    """What fires: ``h`` heard, ``p`` passed on, in capitals when the words are in it."""
    supervisor, fired = Supervisor([ABUSE]), []
    for letter in script:
        text = "well you idiot" if letter.isupper() else "all right"
        if letter in "hH":
            fired += supervisor.hear(Scope(input=text))[1]
        else:
            fired += supervisor.see(Event.INPUT, Scope(input=text))
    return [one.step.say for one in fired]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("P", ["one"]),
        ("H", ["one"]),
        ("HP", ["one"]),
        ("PH", ["one"]),
        ("HPHP", ["one", "two"]),
        ("PHHP", ["one", "two"]),
        ("HH", ["one", "two"]),  # the model passes nothing on
        ("PP", ["one", "two"]),  # nothing is written down
        ("PhH", ["one", "two"]),  # what was passed on had been heard before the run began
        ("HpHP", ["one", "two"]),
        ("HHPP", ["one", "two"]),
        ("hp", []),
        ("HPHPHPHP", ["one", "two", "three", "three"]),
    ],
)
def test_what_comes_twice_fires_once(script: str, said: list[str]) -> None:
    assert played(script) == said


def test_what_was_heard_before_the_run_is_not_waited_for() -> None:
    supervisor = Supervisor([ABUSE])
    scope = Scope(input="you idiot")
    assert [one.step.say for one in supervisor.see(Event.INPUT, scope, is_heard=True)] == ["one"]
    assert [one.step.say for one in supervisor.hear(scope)[1]] == ["two"]


def test_watches_without_words_hear_nothing() -> None:
    watch = WatchSpec("long", STEPS, when="len(input) > 3")
    assert Supervisor([watch]).hear(Scope(input="a long sentence")) == (False, [])


def test_a_watch_without_words_cannot_begin_its_task() -> None:
    with pytest.raises(ValueError, match="by words, and has none"):
        WatchSpec("long", STEPS, when="len(input) > 3", starts_task=True)
