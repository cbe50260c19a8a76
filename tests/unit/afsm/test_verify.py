"""`check`: a table of planted defects, found in classes and in JSON alike, and silence on what is right."""

import pytest

from fastagent import AFSMState, FastAgent
from fastagent.afsm import Graph, VoicePolicy
from fastagent.afsm.definition import read_graph_definition, read_watches
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.slots import Slot
from fastagent.afsm.spec import EffectSpec, SilenceStep
from fastagent.afsm.verify import KINDS, Level, check
from fastagent.errors import ConfigurationError
from fastagent.examples import appointment
from fastagent.tools import tool
from tests.reference.machine_reference import make_plan

TYPES = {"string": str, "integer": int, "boolean": bool}


class Asking(AFSMState):
    """Moves by what a run tells it, so that nothing is known of its code."""

    async def process(self, input_text, context):
        return {"response": "What?", "next_state": context.facts["way"], "confidence": 1.0}


class Filling(AFSMState):
    """Leaves it all to the engine."""


def as_class(document):
    """The same state as an object of a class; one with slots is run by the engine, as JSON is."""
    state = (Filling if document.get("slots") or "llm_config" in document else Asking)(
        document["name"], document.get("description", ""), document.get("allowed_transitions", ())
    )
    for name in ("prompt_template", "guards", "deadline_s", "on_deadline", "handles", "tools", "llm_config"):
        if name in document:
            setattr(state, name, document[name])
    for name in ("is_digression", "enter_when"):
        if name in document:
            setattr(state, name, document[name])
    if "voice_policy" in document:
        state.voice_policy = VoicePolicy(**document["voice_policy"])
    state.silence = tuple(SilenceStep(**step) for step in document.get("silence", ()))
    state.effects = tuple(EffectSpec(**one) for one in document.get("effects", ()))
    state.slots = {
        slot["name"]: Slot(
            TYPES[slot.get("type", "string")],
            slot.get("prompt", ""),
            slot.get("confirmation", "none"),
            slot.get("required", True),
        )
        for slot in document.get("slots", ())
    }
    return state


def pay(amount: int, idempotency_key: str = "") -> int:
    """Pay."""
    return amount


def refund(amount: int) -> None:
    """Give it back."""


def task(states, face, *, supervisor=(), effects=None, **agent):
    return FastAgent(
        "planted",
        states
        if face == "json"
        else [one if isinstance(one, AFSMState) else as_class(one) for one in states],
        "a",
        supervisor=read_watches(list(supervisor)),
        effects=effects,
        **agent,
    )


def asks(name, *ways, **more):
    """A state that collects something, and leads on."""
    slot = {"name": f"{name}_words", "prompt": "What?"}
    return {"name": name, "allowed_transitions": list(ways), "slots": [slot], **more}


END = {"name": "end", "description": "Goodbye."}


class Says(AFSMState):
    async def process(self, input_text, context):
        return {"response": "", "next_state": "b" if self.name == "a" else "a", "confidence": 1.0}


class Keyed(Says):
    voice_policy = VoicePolicy(dtmf_grammar="[0-9]{4}#")


class Wanders(AFSMState):
    name, allowed_transitions = "a", ("end",)

    async def process(self, input_text, context):
        if "manager" in input_text:
            return self.go("Wait.", to="manager")
        return self.go("Bye.", to="end")

    def go(self, *words, to):
        return {"response": " ".join(words), "next_state": to, "confidence": 1.0}


class Chooses(AFSMState):
    """Decides for the engine."""

    name, allowed_transitions, slots = "a", ("end",), {"amount": int}

    def _determine_next_state(self, input_text, context):
        where = {"yes": "end", "no": "lobby"}
        return where.get(input_text, self.name)


class Steady(AFSMState):
    name, allowed_transitions = "a", ("end", "b")

    async def process(self, input_text, context):
        return {"response": "So?", "next_state": "end" if input_text else self.name, "confidence": 1.0}


class Deaf(AFSMState):
    name, allowed_transitions, handles = "a", ("end",), {"barge_in": ""}

    async def process(self, input_text, context):
        return {"response": "So?", "next_state": "end", "confidence": 1.0}


class Still(AFSMState):
    name, description, allowed_transitions = "a", "Which one?", ("end", "b")


class Pays(AFSMState):
    name, allowed_transitions = "a", ("end",)

    @effect()
    async def pay(self, amount):
        return amount

    async def process(self, input_text, context):
        return {"response": "Paid.", "next_state": "end", "confidence": 1.0}


class PaysBare(Pays):
    @effect(key="amount", undo="refund")
    async def pay(self, amount):
        return amount

    async def refund(self, amount):
        return None

    async def process(self, input_text, context):
        await self.effect_runner.run("pay", self.pay, {"amount": 1})
        return {"response": "Paid.", "next_state": "end", "confidence": 1.0}


class PaysByTheWrongKey(Pays):
    @effect(key="amuont")
    async def pay(self, amount):
        return amount


class PaysWithoutUndo(Pays):
    @effect(undo="refund_it")
    async def pay(self, amount):
        return amount


class PaysElsewhere(Pays):
    name = "b"

    @effect(key="amount")
    async def pay(self, amount):
        return -amount


class PaysHere(PaysElsewhere):
    name, allowed_transitions = "a", ("b",)

    @effect(key="amount")
    async def pay(self, amount):
        return amount

    async def process(self, input_text, context):
        return {"response": "Paid.", "next_state": "b", "confidence": 1.0}


class Forgets(AFSMState):
    name, allowed_transitions, slots = "a", ("end",), {"amount": Slot(int)}

    async def process(self, input_text, context):
        return {"response": "Hm.", "next_state": "end", "confidence": 1.0}


UNSAFE = {"effects": [{"name": "pay"}], "handles": {"tool_failed": "end"}}
PAYING = {"name": "pay", "key": "amount"}
MISSPELT = {"name": "pay", "key": "amuont"}
PROTECTED = {"barge_in": "protected"}
MORE = {"b": "'more' in words"}
AMOUNT = {"name": "amount", "type": "integer", "prompt": "How much?"}
ON_PAY = {"effects": {"pay": pay, "refund": refund}}

DEFECTS = [
    # kind, state, states of the JSON form (None: it has none), those of the class form (None: the same;
    # empty: it has none), the rest of the agent
    ("unreachable_state", "b", [asks("a", "end"), asks("b", "end"), END], None, {}),
    ("unreachable_state", "b", [
        asks("a", "end", "b", guards={"b": "1 > 2"}), asks("b", "end"), END], None, {}),
    ("trap", "b", [
        asks("a", "end", "b", guards={"b": "slots.a_words == 'more'"}), asks("b", "b"), END], None, {}),
    ("no_path_to_end", "b", [
        asks("a", "end", "b", guards={"b": "slots.a_words == 'more'"}), asks("b", "c"), asks("c", "b"), END],
     None, {}),
    ("endless_cycle", "a", [
        asks("a", "end", silence=[{"after_s": 8, "next_state": "b"}]),
        asks("b", "end", silence=[{"after_s": 8, "next_state": "a"}]), END], None, {}),
    ("endless_cycle", "a", [asks("a", "end", deadline_s=20, on_deadline="a"), END], None, {}),
    ("endless_cycle", "a", [
        {"name": "a", "allowed_transitions": ["b"]}, {"name": "b", "allowed_transitions": ["a"]}],
     [Says("a", "", ["b"]), Says("b", "", ["a"])], {}),
    ("cycle_without_bound", "a", [
        {"name": "a", "prompt_template": "Which?", "allowed_transitions": ["b", "end"],
         "guards": MORE},
        {"name": "b", "prompt_template": "Again?", "allowed_transitions": ["a"],
         "guards": {"a": "'yes' in words"}}, END],
     [{"name": "a", "llm_config": {}, "allowed_transitions": ["b", "end"], "guards": MORE},
      {"name": "b", "llm_config": {}, "allowed_transitions": ["a"]}, END], {"llm_config": {"model": "m"}}),
    ("undecided_move", "a", [asks("a", "b", "end"), asks("b", "end"), END], None, {}),
    ("undecided_move", "a", [{"name": "a", "allowed_transitions": ["b", "end"]}, asks("b", "end"), END],
     [Still(), asks("b", "end"), END], {}),
    ("constant_guard", "a", [asks("a", "b", "end", guards={"b": "3 < 2"}), asks("b", "end"), END], None, {}),
    ("model_missing", "a", [
        asks("a", "end", llm_config={"model": "m"}), END], None, {}),
    ("undeclared_transition", "a", None, [Wanders(), END], {}),
    ("undeclared_transition", "a", None, [Chooses(), END], {}),
    ("move_never_made", "a", None, [Steady(), asks("b", "end"), END], {}),
    ("template_never_written", "a", [asks("a", "end", prompt_template="It costs {price}."), END], None, {}),
    ("template_before_write", "c", [
        asks("a", "b", "c", guards={"b": "slots.a_words == 'more'"}), {**asks("b", "c"), "slots": [AMOUNT]},
        asks("c", "end", prompt_template="So {amount}."), END], None, {}),
    ("template_before_write", "c", [
        {**asks("a", "c", handles={"transfer": "c"}), "slots": [AMOUNT]},
        asks("c", "end", handles={"transfer": "end"}, prompt_template="So {slots.amount}."), END], None, {}),
    ("unknown_slot", "a", [
        asks("a", "b", "end", guards={"b": "slots.amuont > 3"}), asks("b", "end"), END], None, {}),
    ("unknown_slot", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "when": "slots.nope", "steps": [{"say": "Hm."}]}]}),
    ("slot_filled_too_late", "a", [
        asks("a", "b", "end", guards={"b": "slots.b_words"}), asks("b", "end"), END], None, {}),
    ("unknown_fact", "a", [
        asks("a", "b", "end", guards={"b": "facts.is_verified"}), asks("b", "end"), END], None, {}),
    ("unknown_argument", "a", [
        asks("a", "b", "end", guards={"b": "arguments.urgent"}), asks("b", "end"), END], None, {}),
    ("slot_never_filled", "a", None, [Forgets(), END], {}),
    ("slot_never_asked", "a", [
        {**asks("a", "end"), "slots": [{**AMOUNT, "required": False}]}, END], None, {}),
    ("slot_type_clash", "b", [
        {**asks("a", "b"), "slots": [AMOUNT]}, {**asks("b", "end"), "slots": [{**AMOUNT, "type": "string"}]},
        END], None, {}),
    ("slot_overwritten", "a", [
        {**asks("a", "end"), "slots": [AMOUNT, {"name": "pay"}], "handles": {"tool_failed": "end"},
         "effects": [PAYING]}, END], [], ON_PAY),
    ("unsafe_effect", "a", [{**asks("a", "end"), "slots": [AMOUNT], **UNSAFE}, END], [Pays(), END], ON_PAY),
    ("unknown_effect_key", "a", [
        {**asks("a", "end"), "slots": [AMOUNT], **UNSAFE, "effects": [MISSPELT]}, END],
     [PaysByTheWrongKey(), END], ON_PAY),
    ("effect_argument_missing", "a", [
        asks("a", "end", **{**UNSAFE, "effects": [PAYING]}), END], [], ON_PAY),
    ("effect_without_function", "a", None, [PaysWithoutUndo(), END], {}),
    ("effect_without_function", "a", None, [
        asks("a", "end", effects=[{"name": "pay", "undo": "x"}]), END], {}),
    ("effect_name_clash", "b", None, [PaysHere(), PaysElsewhere(), END], {}),
    ("unhandled_silence", "b", [
        asks("a", "b", silence=[{"after_s": 8, "say": "Hello?"}]), asks("b", "end"), END], None, {}),
    *(
        (f"unhandled_{event}", "b", [asks("a", "b", handles={event: "end"}), asks("b", "end"), END], None, {})
        for event in ("hang_up", "transfer", "resume", "barge_in", "no_match")
    ),
    ("unhandled_dtmf", "a", [
        {**asks("a", "end", handles={"dtmf": "end"}), "slots": [{**AMOUNT, "confirmation": "keypad"}]}, END],
     None, {}),
    ("unhandled_dtmf", "a", [
        {"name": "a", "prompt_template": "Your pin?", "allowed_transitions": ["b"],
         "voice_policy": {"dtmf_grammar": "[0-9]{4}#"}}, asks("b", "end"), END],
     [Keyed("a", "", ["b"]), asks("b", "end"), END], {}),
    ("unhandled_tool_failed", "a", [
        {**asks("a", "end"), "slots": [AMOUNT], "effects": [PAYING]}, END],
     [PaysBare(), END], ON_PAY),
    ("event_without_answer", "a", None, [Deaf(), END], {}),
    ("event_never_comes", "a", [asks("a", "end", handles={"silence": "end"}), END], None, {}),
    ("event_never_comes", "a", [
        asks("a", "end", handles={"barge_in": "end"}, voice_policy=PROTECTED), END], None, {}),
    ("watch_never_fires", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "on": "silence", "steps": [{"say": "Hm."}]}]}),
    ("watch_never_fires", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "on": "deadline", "steps": [{"say": "Hm."}]}]}),
    ("watch_never_fires", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "on": "dtmf", "words": ["one"], "steps": [{"say": "Hm."}]}]}),
    ("watch_never_fires", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "on": "tool_failed", "steps": [{"say": "Hm."}]}]}),
    ("watch_always_fires", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "words": ["..."], "steps": [{"say": "Hm."}]}]}),
    ("watch_step_never_taken", "", [asks("a", "end"), END], None,
     {"supervisor": [{"name": "w", "words": ["damn"], "steps": [{"do": "hang_up"}, {"say": "Hm."}]}]}),
    ("tool_name_clash", "", [asks("a", "end"), END], None,
     {"functions": [tool(pay), tool(name="Pay")(refund)]}),
    ("tool_name_clash", "a", [
        {**asks("a", "end"), "slots": [AMOUNT], **UNSAFE, "effects": [PAYING]}, END],
     [PaysBare(), END], {**ON_PAY, "functions": [tool(pay)]}),
    ("unknown_tool", "a", [asks("a", "end", tools=["find_order"]), END], None, {}),
    ("unknown_tool", "a", [asks("a", "end", tools=["orders:find"]), END], None, {}),
    ("tool_listed_twice", "a", [asks("a", "end", tools=["pay", "pay"]), END], None, {"functions": [pay]}),
]  # fmt: skip

CASES = [
    pytest.param(face, *row, id=f"{face}-{row[0]}-{number}")
    for number, row in enumerate(DEFECTS)
    for face in ("json", "class")
    if (row[2] if face == "json" else row[2] if row[3] is None else row[3])
]


@pytest.mark.parametrize(("face", "kind", "state", "documents", "objects", "agent"), CASES)
def test_planted_defect_is_found(face, kind, state, documents, objects, agent):
    states = documents if face == "json" or objects is None else objects
    found = check(task(states, face, **agent))
    hits = [one for one in found if one.kind == kind and one.state == state]
    assert hits, found
    assert all(one.mend and one.message for one in hits)
    place = hits[0].place
    if state and face == "json":
        position = [one["name"] for one in states].index(state)
        assert place.startswith(f"states[{position}]")
    elif state:
        assert "test_verify.py:" in place


def test_the_table_covers_every_kind():
    assert {row[0] for row in DEFECTS} == KINDS.keys()
    both = {row[0] for row in DEFECTS if row[2] is not None}
    assert len(both) >= 30


def test_a_bank_transfer_without_a_fault_is_silent():
    document = {
        "initial_state": "a",
        "states": [
            {"name": "a", "allowed_transitions": ["pays"], "deadline_s": 120, "on_deadline": "end",
             "slots": [{**AMOUNT, "confirmation": "read_back", "minimum": 1}],
             "silence": [{"after_s": 8, "say": "Hello?"}, {"after_s": 20, "next_state": "end"}]},
            {"name": "pays", "prompt_template": "{amount}, that is {pay}.", "allowed_transitions": ["end"],
             "effects": [{**PAYING, "undo": "refund"}], "handles": {"tool_failed": "end"}},
            {"name": "hours", "prompt_template": "Nine to five.", "is_digression": True,
             "enter_when": "'hours' in words"},
            END,
        ],
        "supervisor": [
            {"name": "abuse", "words": ["damn"], "steps": [{"say": "Please."}, {"do": "hang_up"}]},
            {"name": "gone", "on": "silence", "steps": [{"say": "Hello?"}, {"say": "Bye.", "do": "hang_up"}]},
        ],
    }  # fmt: skip
    read = read_graph_definition(document)
    graph = Graph.from_states(
        read.states, read.initial_state, supervisor=read.supervisor, functions={"pay": pay, "refund": refund}
    )
    assert check(graph) == []


def test_the_example_is_silent():
    assert check(appointment.agent) == []


class Rich(AFSMState):
    """Names its next states in many ways."""

    name, allowed_transitions = "a", ("end", "b", "c", "d", "e", "f", "g")
    later = "c"
    table = {"x": "f"}  # noqa: RUF012 - as authors write it

    async def process(self, input_text, context):
        if input_text == "1":
            return await self.inner(input_text)
        target = "d" if input_text else self.later
        if target == "d":
            result = {"response": "Go.", "next_state": FALLBACK, "confidence": 1.0}
            result["next_state"] = ROUTES.get(input_text) or self.table[input_text]
            return result
        return dict(response="", next_state=target, confidence=0.5)  # noqa: C408 - as some write it

    async def inner(self, text):
        where = self.pick(text)
        return {"response": f"To {where}", "next_state": where, "confidence": 1.0}

    def pick(self, text):
        return "b" if text else "end"


FALLBACK = "g"
ROUTES = {"q": "e"}


def test_next_states_are_followed_through_names_tables_and_calls():
    states = [Rich(), *({"name": name, "allowed_transitions": ["end"]} for name in "bcdefg"), END]
    assert check(Graph.from_states(states, "a")) == []


class Unreadable(AFSMState):
    name, allowed_transitions = "a", ("end", "b")

    async def process(self, input_text, context):
        return {"response": "", "next_state": input_text.strip(), "confidence": 1.0}


def test_what_only_a_run_can_tell_is_no_finding():
    assert check(Graph.from_states([Unreadable(), asks("b", "end"), END], "a")) == []


def test_code_without_source_is_no_finding():
    room = {"AFSMState": AFSMState}
    exec(
        "class Made(AFSMState):\n"
        "    name, allowed_transitions = 'a', ('end', 'b')\n"
        "    async def process(self, input_text, context):\n"
        "        return {'response': '', 'next_state': 'nowhere', 'confidence': 1.0}",
        room,
    )
    assert check(Graph.from_states([room["Made"](), asks("b", "end"), END], "a")) == []


class Writes(AFSMState):
    name, allowed_transitions = "a", ("b",)

    async def process(self, input_text, context):
        slots = context.slots
        slots["price"] = 3
        context.add_salient_fact("is_known", True)
        context.update_user_profile({"tier": "gold"})
        return {"response": "So.", "next_state": "b", "confidence": 1.0}


def test_what_code_writes_is_known_to_words_and_guards():
    states = [
        Writes(),
        asks(
            "b",
            "end",
            prompt_template="{price} {facts.is_known} {profile.name}",
            guards={"end": "slots.price"},
        ),
        END,
    ]
    assert check(Graph.from_states(states, "a")) == []


def test_words_tell_the_way_on_which_nothing_is_written():
    states = [
        asks("a", "b", "c", guards={"b": "slots.a_words == 'more'"}),
        {**asks("b", "c"), "slots": [AMOUNT]},
        asks("c", "end", prompt_template="So {amount}."),
        END,
    ]
    (found,) = check(Graph.from_states(states, "a"))
    assert "a → c" in found.message
    assert found.place == "states[2].prompt_template"


def test_the_worst_comes_first():
    states = [asks("a", "end", prompt_template="{facts.nope}"), asks("b", "end"), END]
    assert [one.level for one in check(Graph.from_states(states, "a"))] == [Level.ERROR, Level.WARNING]


def broken():
    return FastAgent("broken", [asks("a", "end"), asks("b", "end"), END], "a")


def test_agents_are_verified_as_they_are_made_only_when_told_to(monkeypatch, caplog):
    monkeypatch.delenv("FASTAGENT_VERIFY", raising=False)
    broken()
    assert caplog.records == []
    monkeypatch.setenv("FASTAGENT_VERIFY", "1")
    broken()
    assert ["unreachable_state" in record.getMessage() for record in caplog.records] == [True]
    monkeypatch.setenv("FASTAGENT_VERIFY", "perhaps")
    with pytest.raises(ConfigurationError, match="FASTAGENT_VERIFY"):
        broken()


class Planned(AFSMState):
    async def process(self, input_text, context):
        return {"response": "So?", "next_state": context.facts["way"], "confidence": 1.0}


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs_are_searched_like_a_plain_walk_does(seed):
    plan = make_plan(seed)
    states = []
    for name, one in plan.states.items():
        state = Planned(name, "", list(one.moves))
        state.guards = {to: f"facts.level {guard[0]} {guard[1]}" for to, guard in one.moves.items() if guard}
        state.handles = dict(one.events)
        state.deadline_s, state.on_deadline = one.deadline, one.on_deadline
        state.silence = [SilenceStep(*step) for step in one.silence]
        state.is_digression = one.is_digression
        state.enter_when = f"{one.enter_on!r} in words" if one.enter_on else ""
        states.append(state)
    found = check(Graph.from_states(states, plan.initial))
    reached, waiting = {plan.initial}, [plan.initial]
    while waiting:
        one = plan.states[waiting.pop()]
        ways = [*one.moves, *one.events.values(), one.on_deadline, *(step[2] for step in one.silence)]
        for to in {*ways, *(name for name, other in plan.states.items() if other.enter_on)} - {"", *reached}:
            reached.add(to)
            waiting.append(to)
    unreachable = {one.state for one in found if one.kind == "unreachable_state"}
    assert unreachable == plan.states.keys() - reached
    assert {one.kind for one in found} <= KINDS.keys()
