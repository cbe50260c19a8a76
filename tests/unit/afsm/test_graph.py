"""Graph: what it refuses, and what it answers."""

import pytest

from fastagent.afsm import AFSMState, Graph
from fastagent.errors import ConfigurationError


def state(name, *transitions):
    return AFSMState(name, "", list(transitions))


@pytest.mark.parametrize(
    ("states", "initial_state", "complaint"),
    [
        ([], "a", "at least one state"),
        ([state("a"), state("a")], "a", "two states are named 'a'"),
        ([state("a", "b", "zz")], "a", r"'a' may move to 'b', which is not one of \['a'\]"),
        ([state("a")], "b", r"initial_state 'b' is not one of \['a'\]"),
        ([state("a")], "", "initial_state"),
        ([AFSMState()], "a", "AFSMState has no name"),
        ([state("")], "", "has no name"),
        ([AFSMState], "a", "got the class AFSMState"),
        (["a"], "a", "got a str"),
        ([AFSMState("a", "", "b"), state("b")], "a", "must be a list of names"),
    ],
)
def test_states_that_do_not_fit_are_refused(states, initial_state, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Graph.from_states(states, initial_state)


def test_moves_are_those_listed_and_staying():
    graph = Graph.from_states([state("a", "b"), state("b")], "a")
    assert graph.allows("a", "b")
    assert graph.allows("a", "a")
    assert not graph.allows("b", "a")
    assert not graph.allows("a", "elsewhere")


def test_terminal_states_have_no_way_on():
    graph = Graph.from_states([state("a", "b"), state("b"), state("c", "c")], "a")
    assert [name for name in graph.states if graph.is_terminal(name)] == ["b"]


def test_graph_is_frozen_and_later_changes_of_a_state_do_not_reach_it():
    first = state("a", "b")
    graph = Graph.from_states([first, state("b")], "a")
    first.allowed_transitions = []
    assert graph.allows("a", "b")
    with pytest.raises(TypeError):
        graph.states["c"] = state("c")
    with pytest.raises(AttributeError):
        graph.initial_state = "b"
