"""Machine: guards, events, timers, digressions, the supervisor and states that the engine runs."""

import asyncio
from dataclasses import replace
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import AFSMState, CallControl, Graph, Limits, Machine, VoicePolicy
from fastagent.afsm.run.clock import ManualClock
from fastagent.afsm.run.machine import RECORDING_REFUSED, SAY_FAILED, SAY_NOT_UNDERSTOOD, SAY_TOO_LATE
from fastagent.afsm.spec import Event, SilenceStep, WatchSpec, WatchStep
from fastagent.context import ConversationContext
from fastagent.errors import EffectFailedError, EffectUnknownError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Ask(AFSMState):
    """Asks its description until it is told where to go."""

    def __init__(self, name, transitions=(), **attributes):
        super().__init__(name, f"{name}?", list(transitions))
        self.inputs = []
        for attribute, value in attributes.items():
            setattr(self, attribute, value)

    async def process(self, input_text, context):
        self.inputs.append(input_text)
        if input_text.startswith("fact "):
            context.add_salient_fact(input_text.split()[1], True)
        to = input_text.removeprefix("to ") if input_text.startswith("to ") else self.name
        return {"response": "" if to != self.name else self.description, "next_state": to, "confidence": 1.0}


class Line:
    """A call with one machine, driven one stimulus at a time on a clock that stands still."""

    def __init__(self, *states, initial="", supervisor=(), functions=None, default_policy=None, **limits):
        self.clock, self.questions, self.moves, self.record_of = ManualClock(), [], [], []
        self.control = create_autospec(CallControl, instance=True)
        self.control.call_id = "c"
        self.graph = Graph.from_states(states, initial, supervisor=supervisor, functions=functions)
        self.machine = Machine(
            self.graph,
            ConversationContext().task_view(),
            self.control,
            ask=self.questions.append,
            observer=lambda *move: self.moves.append(move),
            limits=Limits(**limits),
            recorder=self,
            clock=self.clock,
            default_policy=default_policy,
        )

    def record(self, kind, data):
        self.record_of.append((kind, data))

    def recorded(self, kind):
        return [data for entry, data in self.record_of if entry == kind]

    async def settle(self):
        for _ in range(200):
            await asyncio.sleep(0)
            if self.running.done() or self.machine.is_idle:
                return self
        return self

    async def start(self, text="hello"):
        self.running = asyncio.create_task(self.machine.run(text))
        await asyncio.sleep(0)
        return await self.settle()

    async def say(self, *answers):
        for answer in answers:
            assert self.machine.post(answer)
            await self.settle()
        return self.questions[-1]

    async def signal(self, event, text=""):
        assert self.machine.signal(event, text)
        await self.settle()

    async def wait(self, seconds):
        until = self.clock.now() + seconds
        while (due := self.clock.next_due()) is not None and due <= until:
            self.clock.advance(due - self.clock.now())
            await asyncio.sleep(0)
            await self.settle()
        self.clock.advance(until - self.clock.now())

    @property
    def outcome(self):
        return self.running.result()


END = AFSMState("end", "Bye.", [])


# Guards


@pytest.mark.parametrize("guard", ["facts.ok", lambda context: context.facts.get("ok", False)])
async def test_guard_decides_and_its_refusal_is_recorded_and_told(guard):
    line = Line(Ask("a", ["end"], guards={"end": (guard, "First tell me.")}), END, initial="a")
    await line.start()
    assert await line.say("to end") == "First tell me."
    told = line.machine.take_refusals()
    assert told == ["the guard of the move from 'a' to 'end' does not hold"]
    assert line.machine.take_refusals() == []
    assert line.recorded("refused") == [{"state": "a", "to": "end", "reason": told[0]}]
    await line.say("fact ok", "to end")
    assert line.outcome.status == "done"


async def test_refused_move_without_words_asks_the_open_question_again():
    line = Line(Ask("a", ["end"], guards={"end": "false"}), END, initial="a")
    await line.start()
    assert await line.say("to end") == "a?"
    assert line.questions == ["a?", "a?"]


async def test_guard_that_raises_does_not_hold():
    line = Line(Ask("a", ["end"], guards={"end": lambda context: 1 / 0}), END, initial="a")
    await line.start()
    await line.say("to end")
    assert line.moves == [("", "a", "start")]


async def test_undeclared_move_is_recorded_and_ends_the_run():
    line = Line(Ask("a", ["end"]), END, initial="a")
    await line.start()
    await line.say("to secret")
    assert (line.outcome.status, line.outcome.say) == ("failed", SAY_FAILED)
    assert line.recorded("refused") == [
        {"state": "a", "to": "", "reason": "state 'a' may not move to an unknown state"}
    ]


async def test_slots_the_model_passed_along_are_not_for_guards():
    line = Line(Ask("a", ["end"], guards={"end": "slots.ok"}), END, initial="a")
    line.machine.context.slots["ok"] = True
    await line.start()
    await line.say("to end")
    assert line.machine.state == "a"
    line.machine.context.slots["ok"] = "by a state"
    await line.say("to end")
    assert line.outcome.status == "done"


# Timers and events


async def test_deadline_leads_on_while_a_question_is_open():
    line = Line(Ask("a", ["end"], deadline_s=30, on_deadline="late"), Ask("late", ["end"]), END, initial="a")
    await line.start()
    await line.wait(29)
    await line.say("hm")
    assert line.machine.state == "a", "staying does not wind the deadline up again"
    await line.wait(1)
    assert line.moves[-1] == ("a", "late", "deadline")
    assert line.questions[-1] == "late?"
    assert line.recorded("timer")[-1]["event"] == "deadline"


async def test_deadline_without_a_way_ends_the_run():
    line = Line(Ask("a", ["end"], deadline_s=30), END, initial="a")
    await line.start()
    await line.wait(30)
    assert line.outcome.say == SAY_TOO_LATE


async def test_deadline_interrupts_a_state_at_work():
    class Slow(Ask):
        async def process(self, input_text, context):
            await asyncio.Event().wait()

    line = Line(Slow("a", ["end"], deadline_s=5, on_deadline="late"), Ask("late", ["end"]), END, initial="a")
    await line.start()
    await line.wait(5)
    assert line.moves[-1] == ("a", "late", "deadline")


async def test_silence_climbs_its_ladder_and_speech_begins_it_anew():
    ladder = [SilenceStep(8, "Are you there?"), SilenceStep(20, next_state="end")]
    line = Line(Ask("a", ["end"], silence=ladder), END, initial="a")
    await line.start()
    await line.wait(8)
    assert line.questions[-1] == "Are you there?"
    line.machine.note_activity()
    await line.settle()
    await line.wait(12)
    assert line.questions.count("Are you there?") == 2
    await line.wait(8)
    assert line.moves[-1] == ("a", "end", "silence")
    assert line.outcome.status == "done"


async def test_events_lead_where_the_state_says_and_others_change_nothing():
    line = Line(Ask("a", ["end"], handles={"transfer": "person"}), Ask("person", ["end"]), END, initial="a")
    await line.start()
    await line.signal(Event.BARGE_IN)
    assert line.questions == ["a?"]
    await line.signal(Event.RESUME)
    assert line.questions == ["a?", "a?"]
    await line.signal(Event.TRANSFER)
    assert line.moves[-1] == ("a", "person", "transfer")


async def test_hook_decides_on_events_without_a_state():
    class Hooked(Ask):
        async def on_event(self, event, text, context):
            return {"response": "", "next_state": "end", "confidence": 1.0} if text == "9" else None

    line = Line(Hooked("a", ["end"], handles={"dtmf": "", "barge_in": ""}), END, initial="a")
    await line.start()
    await line.signal(Event.DTMF, "1")
    assert line.machine.state == "a"
    await line.signal(Event.DTMF, "9")
    assert line.outcome.status == "failed", "its move is for an answer and was not declared for keys"


@pytest.mark.parametrize("error", [EffectFailedError, EffectUnknownError])
async def test_an_effect_that_fails_leads_where_its_state_says(error):
    class Orders(Ask):
        async def process(self, input_text, context):
            raise error("the bank says no")

    state = Orders("a", ["end"], handles={"tool_failed": "person"})
    line = Line(state, Ask("person", ["end"]), END, initial="a")
    await line.start()
    assert line.moves[-1] == ("a", "person", "tool_failed")
    line = Line(Orders("a", ["end"]), END, initial="a")
    await line.start()
    assert (line.outcome.status, line.outcome.say) == ("failed", SAY_FAILED)


async def test_hook_decides_on_failures_and_on_answers_not_understood():
    class Hooked(Ask):
        async def process(self, input_text, context):
            if input_text == "order":
                raise EffectFailedError("the bank says no")
            return await super().process(input_text, context)

        async def on_event(self, event, text, context):
            return {"response": f"{event.value}, then?", "next_state": self.name, "confidence": 1.0}

    line = Line(Hooked("a", ["end"], handles={"tool_failed": ""}), END, initial="a")
    await line.start("order")
    assert line.questions == ["tool_failed, then?"]

    class Fills(AFSMState):
        name, allowed_transitions, slots = "a", ("end",), {"amount": int}
        handles = {"no_match": ""}  # noqa: RUF012
        on_event = Hooked.on_event

    line = Line(Fills(), END, initial="a", max_attempts=1)
    await line.start()
    await line.say("hm")
    assert line.questions[-1] == "no_match, then?"
    assert line.moves[-1] == ("a", "a", "no_match"), "it begins anew"
    await line.say("well", "seven")
    assert line.outcome.status == "done"


async def test_keys_are_an_answer_once_they_fit_the_grammar():
    state = Ask("a", ["end"], voice_policy=VoicePolicy(dtmf_grammar="[0-9]{4}#"))
    line = Line(state, END, initial="a")
    await line.start()
    for key in "4711#":
        await line.signal(Event.DTMF, key)
    assert state.inputs == ["hello", "4711#"]


async def test_hang_up_overtakes_what_waits_and_ends_the_run_or_leads_to_a_clean_end():
    line = Line(Ask("a", ["end"]), END, initial="a")
    await line.start()
    line.machine.post("hm")
    await line.signal(Event.HANG_UP)
    assert (line.outcome.status, line.outcome.say) == ("failed", "")
    line = Line(Ask("a", ["end"], handles={"hang_up": "undo"}), Ask("undo", ["end"]), END, initial="a")
    await line.start()
    await line.signal(Event.HANG_UP)
    assert line.moves[-1] == ("a", "undo", "hang_up")
    assert line.questions == ["a?"], "nobody is there to be asked"
    assert line.outcome.status == "failed"


async def test_state_may_lead_to_itself_on_an_event():
    line = Line(Ask("a", ["end"], deadline_s=5, on_deadline="a"), END, initial="a")
    await line.start()
    await line.wait(11)
    assert [move[2] for move in line.moves] == ["start", "deadline", "deadline"]


# Digressions


def hours(**attributes):
    state = AFSMState("hours", "We are open from nine to five.", [])
    state.is_digression, state.enter_when = True, "'hours' in words"
    for name, value in attributes.items():
        setattr(state, name, value)
    return state


async def test_digression_comes_back_to_the_open_question():
    line = Line(Ask("a", ["b"]), Ask("b", ["end"]), hours(), END, initial="a")
    await line.start()
    await line.say("to b")
    assert await line.say("what are your hours") == "We are open from nine to five. b?"
    assert line.moves[-2:] == [("b", "hours", "digression"), ("hours", "b", "return")]
    assert line.machine.depth == 0
    assert await line.say("what are your hours") == "We are open from nine to five. b?"
    await line.say("to end")
    assert line.outcome.status == "done"


async def test_slot_being_asked_for_survives_a_digression():
    slots = {"name": "n", "type": "number", "prompt": "How many?"}
    state = {"name": "a", "slots": [slots], "allowed_transitions": ["end"]}
    line = Line(state, hours(), END, initial="a")
    await line.start()
    assert await line.say("your hours please") == "We are open from nine to five. How many?"
    await line.say("twelve")
    assert line.outcome.result == {"n": "12"}


async def test_deadline_stands_still_during_a_digression():
    line = Line(
        Ask("a", ["end"], deadline_s=10),
        Ask("side", ["back"], is_digression=True, enter_when="'side' in words"),
        AFSMState("back", "Back.", []),
        END,
        initial="a",
    )
    line.graph.states["back"].is_digression = True
    line = Line(*line.graph.states.values(), initial="a")
    await line.start()
    await line.wait(6)
    assert await line.say("side") == "side?"
    await line.wait(50)
    assert await line.say("to back") == "Back. a?"
    await line.wait(3)
    assert not line.running.done()
    await line.wait(1)
    assert line.outcome.say == SAY_TOO_LATE


async def test_digressions_nest_within_bounds():
    sides = [
        Ask(f"d{n}", ["end"], is_digression=True, enter_when=f"'w{n}' in words") for n in range(3)
    ]  # fmt: skip
    line = Line(Ask("a", ["end"]), *sides, END, initial="a", max_depth=2)
    await line.start()
    await line.say("w0", "w1")
    assert line.machine.depth == 2
    await line.say("w2", "w0")
    assert line.machine.state == "d1"
    assert line.machine.take_refusals() == [
        "digressions may be 2 deep",
        "the digression 'd0' is open already",
    ]
    await line.say("to end")
    assert line.outcome.status == "done", "an ordinary end forgets the way back"


# The supervisor


async def test_watch_warns_first_and_hangs_up_then_whatever_the_state_does():
    steps = (WatchStep("Please stay polite."), WatchStep("Goodbye.", do="hang_up"))

    class Stuck(Ask):
        async def process(self, input_text, context):
            await asyncio.Event().wait()

    watch = WatchSpec("abuse", steps, words=("idiot",))
    line = Line(Stuck("a", ["end"]), END, initial="a", supervisor=[watch])
    await line.start()
    line.machine.post("you idiot")
    line.control.announce.assert_called_once_with("Please stay polite.")
    line.control.hang_up.assert_not_called()
    line.machine.post("idiotic is no such word")
    line.machine.post("IDIOT!")
    line.control.hang_up.assert_called_once_with("abuse")
    line.running.cancel()
    await asyncio.wait([line.running])


async def test_watch_leads_elsewhere_and_its_input_goes_no_further():
    watch = WatchSpec("person", (WatchStep(next_state="person"),), words=("a person",))
    first, person = Ask("a", ["end"]), Ask("person", ["end"])
    line = Line(first, person, END, initial="a", supervisor=[watch])
    await line.start()
    await line.say("I want a person")
    assert line.moves[-1] == ("a", "person", "supervisor")
    assert (first.inputs, person.inputs) == (["hello"], [""])


async def test_refused_consent_stops_the_recording_for_the_rest_of_the_call():
    watch = WatchSpec("consent", (WatchStep("All right.", do="stop_recording"),), words=("do not record",))
    line = Line(Ask("a", ["end"]), END, initial="a", supervisor=[watch])
    await line.start()
    await line.say("please do not record me", "to end")
    policies = [call.args[0] for call in line.control.set_voice_policy.call_args_list]
    assert [policy is None or policy.is_recorded for policy in policies] == [True, False, False, False]
    assert line.machine.context.facts[RECORDING_REFUSED] is True


async def test_refused_recording_changes_nothing_else_of_the_agents_policy():
    watch = WatchSpec("consent", (WatchStep(do="stop_recording"),), words=("do not record",))
    own, default = VoicePolicy(speech="eager"), VoicePolicy(barge_in="protected", speech="patient")
    line = Line(
        Ask("a", ["b"]), Ask("b", ["end"], voice_policy=own), END,
        initial="a", supervisor=[watch], default_policy=default,
    )  # fmt: skip
    await line.start()
    await line.say("please do not record me", "to b", "to end")
    policies = [call.args[0] for call in line.control.set_voice_policy.call_args_list]
    silent_default, silent_own = replace(default, is_recorded=False), replace(own, is_recorded=False)
    assert policies == [None, silent_default, silent_own, silent_default, silent_default]


async def test_watch_on_silence_runs_beside_the_ladder():
    watch = WatchSpec("silent", (WatchStep(do="transfer", target="tel:+100"),), Event.SILENCE)
    line = Line(Ask("a", ["end"], silence=[SilenceStep(5, "Hello?")]), END, initial="a", supervisor=[watch])
    await line.start()
    await line.wait(5)
    line.control.transfer.assert_called_once_with("tel:+100", "silent")


# States that the engine runs

PAY = {
    "name": "pay", "allowed_transitions": ["sent", "end"], "prompt_template": "I send {amount}.",
    "slots": [{"name": "amount", "type": "number", "prompt": "How much?", "confirmation": "read_back",
               "redacted": True}],
    "guards": {"sent": {"when": "slots.amount <= 1000", "say": "I can send up to 1000."},
               "end": "slots.amount == 0"},
}  # fmt: skip
SENT = {"name": "sent", "prompt_template": "Sent."}


async def test_json_state_collects_confirms_and_moves_by_its_guards():
    line = Line(PAY, SENT, END, initial="pay")
    await line.start()
    assert await line.say("five thousand") == "That is 5000. Is that right?"
    assert await line.say("yes") == "I can send up to 1000. How much?"
    await line.say("two hundred", "yes", "thanks")
    assert line.questions[-1] == "I send 200."
    assert (line.outcome.say, line.outcome.result) == ("Sent.", {"amount": "200"})
    assert all(data["is_redacted"] for data in line.recorded("slot"))
    assert {data["is_redacted"] for data in line.recorded("input")[1:5]} == {True}


async def test_class_with_slots_and_no_process_is_run_the_same_way():
    class Pay(AFSMState):
        name = "pay"
        allowed_transitions = ("end",)
        slots = {"count": int}  # noqa: RUF012

    line = Line(Pay(), END, initial="pay")
    await line.start()
    assert line.questions == ["What is the count?"]
    await line.say("seven")
    assert line.outcome.result == {"count": 7}


async def test_json_state_without_slots_waits_where_the_answer_decides():
    menu = {
        "name": "menu", "prompt_template": "Cash or card?", "allowed_transitions": ["cash", "card"],
        "guards": {"cash": "'cash' in words", "card": "'card' in words or '2' in words"},
    }  # fmt: skip
    states = [menu, {"name": "cash", "prompt_template": "C."}, {"name": "card", "prompt_template": "D."}]
    line = Line(*states, initial="menu")
    await line.start("cash and card")
    assert await line.say("what") == "Sorry, I did not get that. Cash or card?"
    await line.signal(Event.DTMF, "2")
    assert line.outcome.say == "D."


async def test_answers_nobody_understands_are_an_event():
    lost = AFSMState("lost", "I give up.", [])
    line = Line({**PAY, "handles": {"no_match": "lost"}}, SENT, END, lost, initial="pay")
    await line.start()
    await line.say("a", "b", "c")
    assert line.moves[-1] == ("pay", "lost", "no_match")
    line = Line(PAY, SENT, END, initial="pay")
    await line.start()
    await line.say("a", "b", "c")
    assert line.outcome.say == SAY_NOT_UNDERSTOOD


async def test_effects_of_a_json_state_run_before_it_moves_and_their_failure_is_an_event():
    state = {**PAY, "effects": [{"name": "send"}], "handles": {"tool_failed": "lost"}}
    lost = AFSMState("lost", "I give up.", [])
    sent = []

    async def send(amount):
        if amount == 13:
            raise RuntimeError("of the bank, quoting 13")
        sent.append(amount)
        return "T1"

    for amount, to in (("ten", "sent"), ("thirteen", "lost")):
        line = Line(state, SENT, END, lost, initial="pay", functions={"send": send})
        await line.start()
        await line.say(amount, "yes")
        assert line.moves[-1][1] == to
    assert sent == [10]
    assert "13" not in str(line.recorded("refused"))


async def test_endless_loop_of_states_lets_the_others_run():
    ping, pong = (
        {"name": "ping", "allowed_transitions": ["pong"]},
        {"name": "pong", "allowed_transitions": ["ping"]},
    )
    line = Line(ping, pong, initial="ping", max_steps_per_turn=10_000)
    turns = 0
    line.running = asyncio.create_task(line.machine.run(""))
    while not line.running.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 1_000
    assert line.outcome.status == "failed"


# A "no" to what was said back on the way to the next state

DAY = {
    "name": "day", "prompt_template": "Which doctor?", "allowed_transitions": ["doctor"],
    "slots": [{"name": "kind", "type": "choice", "choices": ["visit", "call"], "prompt": "Visit or call?",
               "confirmation": "implicit"}],
}  # fmt: skip


async def test_no_after_the_last_slot_was_said_back_goes_back_and_corrects_it():
    doctor = Ask("doctor", ["end"])
    line = Line(DAY, doctor, END, initial="day")
    await line.start()
    assert await line.say("a visit") == "visit. Which doctor?"
    assert line.machine.state == "doctor"
    assert await line.say("no") == "Visit or call?"
    assert line.moves[-1] == ("doctor", "day", "correction")
    assert line.machine.context.slots == {}
    assert await line.say("call") == "call. Which doctor?"
    assert await line.say("no, visit") == "visit. Which doctor?"
    assert line.machine.context.slots == {"kind": "visit"}
    assert doctor.inputs == [], "none of it was for the next state"
    await line.say("Smith")
    assert await line.say("no") == "doctor?"
    assert doctor.inputs == ["Smith", "no"], "later a no is an answer like any other"
    await line.say("to end")
    assert line.outcome.result == {"kind": "visit"}


async def test_free_text_that_was_said_back_is_asked_for_again():
    slot = {"name": "city", "type": "string", "prompt": "Which city?", "confirmation": "implicit"}
    line = Line({**DAY, "slots": [slot]}, Ask("doctor", ["end"]), END, initial="day")
    await line.start("")
    await line.say("Rome")
    assert await line.say("no, that is wrong") == "Sorry, let me ask again. Which city?"


async def test_a_no_is_for_the_next_state_where_going_back_could_repeat_or_leave_something():
    sent = []
    with_effect = {**DAY, "effects": [{"name": "send"}]}
    doctor = Ask("doctor", ["end"])

    async def send(kind):
        sent.append(kind)

    line = Line(with_effect, doctor, END, initial="day", functions={"send": send})
    await line.start()
    await line.say("visit")
    await line.say("no")
    assert (doctor.inputs, line.machine.state, sent) == (["no"], "doctor", ["visit"])
    line = Line({**DAY, "allowed_transitions": ["end"]}, END, initial="day")
    await line.start()
    await line.say("visit", "no")
    assert line.outcome.status == "done"
    side = Ask("doctor", ["end"], is_digression=True)
    line = Line(DAY, side, END, initial="day")
    await line.start()
    await line.say("visit", "no")
    assert (side.inputs, line.machine.depth) == (["no"], 1)
