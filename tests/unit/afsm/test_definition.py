"""JSON definitions and specs: strict reading, one graph of two faces, and the content hash."""

import subprocess
import sys

import pytest

from fastagent.afsm import AFSMState, Graph, VoicePolicy
from fastagent.afsm.definition import JsonState, read_graph_definition
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import EFFECT_MARK, EffectSpec, Event, SilenceStep, TransitionSpec
from fastagent.errors import ConfigurationError

FULL = {
    "name": "collect", "description": "Find out the amount", "allowed_transitions": ["end"],
    "initial_state": True, "prompt_template": "That makes {amount}.", "scratchpad_enabled": False,
    "llm_config": {"model": "m", "temperature": 0},
    "slots": [{"name": "amount", "type": "number", "prompt": "How much?", "confirmation": "read_back"}],
    "guards": {"end": {"when": "slots.amount < 10", "say": "Too much."}},
    "deadline_s": 60, "on_deadline": "end",
    "silence": [{"after_s": 5, "say": "Hello?"}, {"after_s": 9, "next_state": "end"}],
    "handles": {"hang_up": "end", "dtmf": "end"},
    "voice_policy": {"barge_in": "protected", "tools": ["balance"], "speech": "patient"},
}  # fmt: skip


class Collect(AFSMState):
    name = "collect"
    description = "Find out the amount"
    allowed_transitions = ("end",)
    prompt_template = "That makes {amount}."
    scratchpad_enabled = False
    llm_config = {"model": "m", "temperature": 0}  # noqa: RUF012
    slots = FULL and JsonState.read(FULL).slots
    guards = {"end": ("slots.amount < 10", "Too much.")}  # noqa: RUF012
    deadline_s, on_deadline = 60, "end"
    silence = (SilenceStep(5, "Hello?"), SilenceStep(9, next_state="end"))
    handles = {Event.HANG_UP: "end", "dtmf": "end"}  # noqa: RUF012
    voice_policy = VoicePolicy("protected", tools=("balance",), speech="patient")


END = AFSMState("end", "", [])


def test_both_faces_give_the_same_description():
    from dataclasses import replace

    read, written = JsonState.read(FULL).spec(), Collect().spec()
    assert read == replace(written, kind="json", code_hash="")
    assert read.targets() == ("end",)
    assert read.targets(Event.HANG_UP) == ("end",)
    assert TransitionSpec("end", Event.INPUT, "slots.amount < 10", "Too much.") in read.transitions
    assert set(read.handles) == {Event.SILENCE, Event.HANG_UP, Event.DTMF, Event.DEADLINE}
    assert read.tools == ("balance",)
    assert hash(read) == hash(JsonState.read(FULL).spec())


def test_faces_mix_and_the_json_state_may_name_the_beginning():
    graph = Graph.from_states([FULL, END])
    assert graph.initial_state == "collect"
    assert graph.run_by_engine == {"collect"}
    assert graph.spec.state("collect").kind == "json"
    assert hash(graph.spec) == hash(Graph.from_states([FULL, END]).spec)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"nmae": "x"}, r"states\[0\]\.nmae: Extra inputs"),
        ({"name": ""}, r"states\[0\]\.name"),
        ({"allowed_transitions": "end"}, r"states\[0\]\.allowed_transitions"),
        ({"slots": [{"name": "a", "type": "colour"}]}, r"states\[0\]\.slots\[0\]\.type"),
        ({"slots": [{"name": "a", "minimum": 1}]}, r"states\[0\]\.slots\[0\]\.minimum: a string has none"),
        ({"slots": [{"name": "a", "type": "choice"}]}, r"states\[0\]\.slots\[0\]\.choices"),
        ({"slots": [{"name": "a"}, {"name": "a"}]}, r"states\[0\]\.slots: two"),
        ({"slots": [{"name": "a b"}]}, "identifier"),
        ({"guards": {"end": "__import__('os')"}}, "not understood"),
        ({"guards": {"elsewhere": "true"}}, "may not make"),
        ({"deadline_s": -1}, r"states\[0\]\.deadline_s"),
        ({"deadline_s": "60"}, r"states\[0\]\.deadline_s"),
        ({"silence": [{"after_s": 1}]}, r"states\[0\]\.silence"),
        ({"silence": [{"after_s": 2, "say": "a"}, {"after_s": 1, "say": "b"}]}, "rising order"),
        ({"handles": {"earthquake": "end"}}, "no event 'earthquake'"),
        ({"handles": {"hang_up": ""}}, r"states\[0\]\.handles\.hang_up"),
        ({"voice_policy": {"barge_in": "keyword"}}, r"states\[0\]\.voice_policy: barge-in by keyword"),
        ({"voice_policy": {"dtmf_grammar": "(1+)+"}}, "may not repeat a group"),
        ({"voice_policy": {"filler_after_ms": 800}}, "needs filler words"),
        ({"llm_config": {"api_key": "secret"}}, r"states\[0\]\.llm_config\.api_key"),
        ({"effects": [{"name": "book"}]}, "no function 'book'"),
        ({"enter_when": "true"}, "is_digression"),
        ({"on_deadline": "elsewhere"}, "may move to 'elsewhere'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(change, complaint):
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        Graph.from_states([{**FULL, **change}, END])
    assert "secret" not in str(raised.value)


def test_whole_graph_is_read_with_its_supervisor():
    watch = {
        "name": "abuse", "words": ["idiot"],
        "steps": [{"say": "Please stay polite."}, {"say": "Goodbye.", "do": "hang_up"}],
    }  # fmt: skip
    read = read_graph_definition({"states": [FULL, {"name": "end"}], "supervisor": [watch]})
    graph = Graph.from_states(read.states, read.initial_state, supervisor=read.supervisor)
    assert graph.spec.supervisor[0].steps[1].do == "hang_up"
    with pytest.raises(ConfigurationError, match=r"supervisor\[0\]: watch 'abuse' would fire on every input"):
        read_graph_definition({"states": [FULL], "supervisor": [{**watch, "words": []}]})
    with pytest.raises(ConfigurationError, match=r"supervisor\[0\]\.steps\[0\]\.do"):
        read_graph_definition({"states": [FULL], "supervisor": [{**watch, "steps": [{"do": "explode"}]}]})


def test_hash_follows_content_and_not_the_order_of_states():
    one = Graph.from_states([FULL, END]).content_hash
    assert one == Graph.from_states([END, FULL]).content_hash
    assert one != Graph.from_states([{**FULL, "deadline_s": 61}, END]).content_hash
    assert one != Graph.from_states([FULL, AFSMState("end", "Other", [])]).content_hash


def made(body):
    namespace = {}
    exec(f"class State(Base):\n    name = 'a'\n    async def process(self, text, context):\n{body}",
         {"Base": AFSMState}, namespace)  # fmt: skip
    return Graph.from_states([namespace["State"]()], "a").content_hash


def test_hash_follows_the_code_of_a_class():
    assert made("        return 1") == made("        return 1")
    assert made("        return 1") != made("        return 2")

    class Hooked(AFSMState):
        name = "a"

        def _determine_next_state(self, input_text, context):
            """Its docstring."""
            return "a"  # its comment

    class Other(Hooked):
        def _determine_next_state(self, input_text, context):
            return "a"

    class Changed(Hooked):
        def _determine_next_state(self, input_text, context):
            return "a" + ""

    hashes = [Graph.from_states([kind()], "a").content_hash for kind in (Other, Changed)]
    assert hashes[0] != hashes[1]


def test_hash_is_the_same_in_another_process():
    code = (
        "from fastagent.examples.appointment import agent\n"
        "print(*(task.graph.content_hash for task in agent.tasks.values()))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().strip()) == 64


def test_marked_methods_are_effects():
    class Book(AFSMState):
        name = "a"
        effects = (EffectSpec("mail"),)

        async def book(self):
            pass

        setattr(book, EFFECT_MARK, EffectSpec("book", "cancel"))

    assert Book().spec().effects == (EffectSpec("book", "cancel"), EffectSpec("mail"))


def test_mutable_lists_of_a_voice_policy_are_frozen():
    policy = VoicePolicy("keyword", ["stop"], dtmf_grammar="[0-9]{4}#")
    assert hash(policy) == hash(VoicePolicy("keyword", ("stop",), dtmf_grammar="[0-9]{4}#"))
    assert [policy.accepts_keys(keys) for keys in ("1234", "1234#")] == [False, True]
    assert [VoicePolicy().accepts_keys(keys) for keys in ("1", "12")] == [True, False]


def test_slot_declared_by_type_is_part_of_the_description():
    class State(AFSMState):
        name = "a"
        slots = {"count": int, "note": Slot(str, is_required=False)}  # noqa: RUF012

    spec = State().spec()
    assert [(slot.name, slot.schema["type"], slot.is_required) for slot in spec.slots] == [
        ("count", "integer", True),
        ("note", "string", False),
    ]
