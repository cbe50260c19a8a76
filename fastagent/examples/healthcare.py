"""An agent for the telephone of a doctor's practice: triage first, then an appointment.

::

    complaint ──▶ red_flags ──▶ pain ──▶ visit ──▶ confirm_visit ──▶ anything_else ──▶ goodbye
                     │            │        ▲───── no, or full ─┘
                     ▼            ▼
                 emergency      nurse          from anywhere: emergency, human, hung_up

Safety is not left to the model. A watch beside the states hears every answer: words of an emergency lead to
the emergency advice and a transfer from wherever the talk is, whatever a model proposes. The question about
red flags is passed by a plain no only: "I am not sure" is none. Too many emergencies are better than too few.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from fastagent import ConversationContext, FastAgent
from fastagent.afsm import StateResult, VoicePolicy, WatchSpec, WatchStep
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.guards import words_in
from fastagent.afsm.spoken import parse_yes_no
from fastagent.errors import EffectFailedError
from fastagent.examples.telephone_state import COMMON, Goodbye, Human, HungUp, TelephoneState

__all__ = ["EMERGENCY_WORDS", "Practice", "Visit", "agent", "healthcare_agent", "is_plain_no"]

EMERGENCY_LINE = "tel:+15550112"
NURSE_LINE = "tel:+15550145"
FRONT_DESK = "tel:+15550146"
VISITS_PER_HALF_DAY = 4
MAX_VISITS = 10_000
SEVERE_PAIN = 8

ASK_COMPLAINT = "What is the matter?"
ASK_RED_FLAGS = "Do you have chest pain, trouble breathing, or heavy bleeding?"
ASK_PAIN = "From zero to ten, how bad is it?"
ASK_MORE = "Is there anything else?"
EMERGENCY_ADVICE = "This may be an emergency. Stay on the line, do not drive, and unlock your door."

EMERGENCY_WORDS = (
    *("chest pain", "chest pains", "pain in my chest", "pain in the chest", "my chest hurts", "heart attack"),
    *("trouble breathing", "cannot breathe", "can not breathe", "can't breathe", "hard to breathe"),
    *("not breathing", "short of breath", "choking", "stroke", "face is drooping", "cannot feel my arm"),
    *("heavy bleeding", "bleeding heavily", "bleeding a lot", "won't stop bleeding", "unconscious"),
    *("passed out", "collapsed", "seizure", "overdose", "poisoned", "swallowed poison", "suicide"),
    *("kill myself", "end my life", "allergic shock", "ambulance", "emergency"),
)
COMPLAINTS = ("fever", "cough", "headache", "back", "stomach", "rash", "check up")
_PLAIN_NOS = frozenset(
    (
        *("no", "nope", "no no", "none", "none of them", "none of that", "no none", "no none of them"),
        *("no i do not", "no i don't", "i do not", "i don't", "not at all", "no not at all", "no thank you"),
        *("no nothing", "nothing like that", "no nothing like that", "no i do not have any of them"),
    )
)


def is_plain_no(text: str) -> bool:
    """Tell a no that denies all of it; "I don't know" and "no, but" are none."""
    return " ".join(words_in(text)) in _PLAIN_NOS


@dataclass(frozen=True, slots=True)
class Visit:
    """A booked visit."""

    id: str
    day: str
    part: str
    caller: str = field(default="", repr=False)


class Practice:
    """The visits of a week in memory; each half day takes `VISITS_PER_HALF_DAY`."""

    def __init__(self) -> None:
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._numbers = count(1)

    @property
    def visits(self) -> list[Visit]:
        """Those that stand, oldest first."""
        return list(self._visits.values())

    def book(self, day: str, part: str, caller: str, key: str) -> Visit:
        """Book; the same key again gives the same visit. Raises: `EffectFailedError` when it is full."""
        if key in self._visits:
            return self._visits[key]
        taken = sum((visit.day, visit.part) == (day, part) for visit in self._visits.values())
        if taken >= VISITS_PER_HALF_DAY or len(self._visits) >= MAX_VISITS:
            raise EffectFailedError("full")
        visit = self._visits[key] = Visit(f"V{next(self._numbers):04}", day, part, caller)
        return visit

    def cancel(self, key: str) -> None:
        """Give a visit up; a second time changes nothing."""
        self._visits.pop(key, None)

    def find(self, key: str) -> Visit | None:
        """The visit that was booked with a key."""
        return self._visits.get(key)


class Complaint(TelephoneState):
    name = "complaint"
    description = "Find out what the matter is"
    allowed_transitions = ("red_flags",)
    has_asked = False
    has_begun = False

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        if not self.has_begun:
            # Nothing the model passes along may stand for the caller's answers.
            self.has_begun = True
            context.slots.clear()
        said = f" {' '.join(words_in(input_text))} "
        known = next((complaint for complaint in COMPLAINTS if f" {complaint} " in said), "")
        if known or self.has_asked:
            # The caller's own words about their health are not kept.
            context.slots["complaint"] = known or "other"
            return self.go("red_flags", ASK_RED_FLAGS)
        self.has_asked = True
        return self.go(self.name, ASK_COMPLAINT)


class RedFlags(TelephoneState):
    name = "red_flags"
    description = "Rule out an emergency"
    allowed_transitions = ("emergency", "pain", "human")
    voice_policy = VoicePolicy(barge_in="protected", tools=(), is_call_only=True)

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        if parse_yes_no(input_text):
            return self.go("emergency")
        if is_plain_no(input_text):
            context.slots["is_triaged"] = [True]  # a value of its own, which nothing passed along can be
            return self.go("pain")
        return self.again("I must be sure.", ASK_RED_FLAGS)


class ConfirmVisit(TelephoneState):
    name = "confirm_visit"
    description = "Have the caller confirm the visit, then book it"
    allowed_transitions = ("visit", "anything_else", "human")
    voice_policy = VoicePolicy(speech="eager")

    def __init__(self, practice: Practice) -> None:
        super().__init__()
        self.practice = practice

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        slots = context.slots
        answer = parse_yes_no(input_text)
        if answer is None:
            return self.again(
                "Please say yes or no.", f"That is {slots['day']} {slots['part']}. Shall I book it?"
            )
        self.misses = 0
        day, part = slots.pop("day"), slots.pop("part")
        if not answer:
            return self.go("visit", "Which day would you like?")
        number = context.facts.get("visits_asked", 0) + 1
        context.add_salient_fact("visits_asked", number)
        order = {"day": day, "part": part, "caller": self.call.caller, "number": number}
        try:
            slots["visit"] = await self.run_once(self.book, order)
        except EffectFailedError:
            return self.go("visit", "That is full. Which day would you like?")
        return self.go("anything_else", f"You are booked for {day} {part}.", ASK_MORE)

    @effect(
        undo="cancel",
        check="find",
        key="call_id day part caller number",
        is_idempotent=True,
        claims=("you are booked", "i have booked"),
        redacted=("caller",),
    )
    async def book(
        self, day: str, part: str, caller: str, number: int, idempotency_key: str
    ) -> dict[str, Any]:
        """Book the visit; ``number`` tells two equal wishes of a call apart."""
        return _plain(self.practice.book(day, part, caller, idempotency_key))

    async def cancel(self, idempotency_key: str) -> None:
        self.practice.cancel(idempotency_key)

    async def find(self, idempotency_key: str) -> dict[str, Any] | None:
        visit = self.practice.find(idempotency_key)
        return None if visit is None else _plain(visit)


def _plain(visit: Visit) -> dict[str, Any]:
    return {"id": visit.id, "day": visit.day, "part": visit.part}


class AnythingElse(TelephoneState):
    name = "anything_else"
    description = "Find out whether the caller wants more"
    allowed_transitions = ("complaint", "goodbye", "human")

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        words = set(words_in(input_text))
        if words & {"person", "human", "nurse", "doctor"}:
            return self.go("human")
        if words & {"another", "appointment", "yes"}:
            # Another visit may be for another matter, so everything is asked anew.
            for name in ("complaint", "is_triaged", "pain"):
                context.slots.pop(name, None)
            return self.go("complaint", ASK_COMPLAINT)
        if words & {"no", "nothing", "goodbye", "bye", "thanks", "all"}:
            return self.go("goodbye")
        return self.again(ASK_MORE)


class Emergency(Human):
    name = "emergency"
    description = "Give the emergency advice and put the caller through to the emergency line"
    words = EMERGENCY_ADVICE
    reason = "emergency"


class Nurse(Human):
    name = "nurse"
    description = "A nurse takes over at once"
    words = "A nurse should hear that."
    reason = "severe pain"


PAIN = {
    **COMMON,
    "name": "pain",
    "description": "Find out how bad it is",
    "allowed_transitions": ["nurse", "visit"],
    "slots": [
        {
            "name": "pain",
            "type": "integer",
            "minimum": 0,
            "maximum": 10,
            "prompt": ASK_PAIN,
            "confirmation": "read_back",
            "read_back": "That is {value} of ten. Is that right?",
        }
    ],
    "guards": {
        "nurse": f"slots.pain >= {SEVERE_PAIN}",
        "visit": f"slots.is_triaged != null and slots.pain < {SEVERE_PAIN}",
    },
}
VISIT = {
    **COMMON,
    "name": "visit",
    "description": "Find out when the caller can come",
    "allowed_transitions": ["confirm_visit"],
    "slots": [
        {
            "name": "day",
            "type": "choice",
            "choices": ["monday", "tuesday", "wednesday", "thursday", "friday"],
            "prompt": "Which day would you like?",
            "reprompt": "We are open Monday to Friday.",
        },
        {
            "name": "part",
            "type": "choice",
            "choices": ["morning", "afternoon"],
            "prompt": "In the morning, or in the afternoon?",
        },
    ],
    "guards": {"confirm_visit": "slots.is_triaged != null"},
    "prompt_template": "That is {day} {part}. Shall I book it?",
}

EMERGENCY_WATCH = WatchSpec(
    "emergency", (WatchStep(next_state="emergency"),), words=EMERGENCY_WORDS, starts_task=True
)

INSTRUCTIONS = """\
You answer the telephone of a doctor's practice. You give no medical advice of your own.
Whatever a caller says of their health you pass to the task at once, in their own words.
Opening hours: We are open Monday to Friday, nine to five.
Location: We are at twelve Main Street, next to the station.
Price: The first visit is free. Every other visit is forty dollars."""

PARAMETERS = {
    "type": "object",
    "properties": {
        "request": {"type": "string", "description": "What the caller said, word for word."},
    },
    "required": ["request"],
}

PHRASES = (
    *(
        "hello",
        "i would like an appointment",
        "i need to see a doctor",
        "i have a fever",
        "i have a headache",
    ),
    *("i have a cough", "my back hurts", "i have chest pain", "i cannot breathe", "it is an emergency"),
    *("no", "no i do not", "yes", "yes please", "i do not know", "how much does it cost"),
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("on monday", "on tuesday", "on wednesday", "on thursday", "on friday", "on tuesday morning"),
    *("in the morning", "in the afternoon", "no thank you", "that is all", "goodbye"),
    *("i want to speak to a person", "what are your opening hours"),
)


def healthcare_agent(practice: Practice | None = None) -> FastAgent:
    """Make the agent of a practice."""
    practice = Practice() if practice is None else practice
    forgets = ("is_triaged",)
    return FastAgent(
        "healthcare",
        [
            Complaint(),
            RedFlags(),
            PAIN,
            VISIT,
            ConfirmVisit(practice),
            AnythingElse(),
            Emergency(EMERGENCY_LINE, forgets),
            Nurse(NURSE_LINE, forgets),
            Goodbye(forgets),
            Human(FRONT_DESK, forgets),
            HungUp(forgets),
        ],
        "complaint",
        instructions=INSTRUCTIONS,
        greeting="Hello, this is the city practice. How can I help you?",
        task_name="doctor_appointment",
        task_description=(
            "Hear what is the matter and book an appointment with a doctor: fever, cough, headache, back, "
            "chest pain, cannot breathe, bleeding, emergency."
        ),
        task_parameters=PARAMETERS,
        supervisor=(EMERGENCY_WATCH,),
        transcription_phrases=PHRASES,
        transfer_target=FRONT_DESK,
        transfer_targets=[EMERGENCY_LINE, NURSE_LINE],
    )


agent = healthcare_agent()
