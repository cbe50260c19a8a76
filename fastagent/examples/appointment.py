"""An agent that books appointments.

::

    collect_date ──▶ collect_time ──▶ confirm ──▶ anything_else ──▶ goodbye
      ▲  ▲  └───────────────────────▶  │  │          │
      │  └─────────── the day ─────────┘  │          │
      │                 ▲─ the time ──────┘          │
      └──────────────── another one ─────────────────┘

The model talks with the caller and answers side questions from the instructions. The states decide which
words are a day or a time and whether the house is open then; nothing is booked without a yes. Slots hold
``date`` and ``time`` while they are collected, and ``appointment`` once it is booked.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import count

from fastagent import AFSMState, ConversationContext, FastAgent
from fastagent.afsm import StateResult
from fastagent.examples.calendar_words import (
    WEEKDAYS,
    parse_date,
    parse_time,
    spoken_date,
    spoken_time,
    words_of,
)

__all__ = ["Appointment", "Calendar", "agent", "appointment_agent"]

Clock = Callable[[], datetime]

OPENS, LAST_START = time(9), time(16, 30)
SLOT_MINUTES = 30
MAX_DAYS_AHEAD = 365
MAX_APPOINTMENTS = 10_000

ASK_DATE = "What day would you like?"
ASK_TIME = "What time would you like?"
ASK_MORE = "Is there anything else?"

YES = {"yes", "yeah", "yep", "sure", "correct", "right", "okay", "ok", "fine", "perfect"}
NO = {"no", "nope", "nothing", "not", "wrong", "change", "different"}
NEVER_MIND = {"cancel", "forget", "nevermind"}
FAREWELL = {"goodbye", "bye", "thanks", "thank", "all"}


@dataclass(frozen=True, slots=True)
class Appointment:
    """A booked appointment."""

    id: str
    date: str
    """ISO 8601: 2026-11-24."""
    time: str
    """24 hours: 15:00."""
    caller: str = field(default="", repr=False)


class Calendar:
    """Appointments in memory, the newest `MAX_APPOINTMENTS`. Several people work here: times may coincide."""

    def __init__(self) -> None:
        self.appointments: deque[Appointment] = deque(maxlen=MAX_APPOINTMENTS)
        self._numbers = count(1)

    def book(self, day: str, at: str, caller: str) -> Appointment:
        """Enter an appointment."""
        appointment = Appointment(f"A{next(self._numbers):04}", day, at, caller)
        self.appointments.append(appointment)
        return appointment


class BookingState(AFSMState):
    """What the states share: the clock, the rules of the house, and what to ask next."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def take_date(self, text: str, context: ConversationContext) -> str:
        """Keep the day that ``text`` names; say what is wrong with it, or nothing."""
        now = self.clock()
        day = parse_date(text, now.date())
        if day is None:
            return ""
        context.slots.pop("date", None)
        if day < now.date():
            return "That day has passed."
        if day > now.date() + timedelta(days=MAX_DAYS_AHEAD):
            return "I can book up to one year ahead."
        if day.weekday() > 4:
            return "We are open Monday to Friday."
        if day == now.date() and now.time() >= LAST_START:
            return "There is nothing left today."
        context.slots["date"] = day.isoformat()
        return ""

    def take_time(self, text: str, context: ConversationContext, *, bare: bool) -> str:
        """Keep the time that ``text`` names; say what is wrong with it, or nothing."""
        at = parse_time(text, bare=bare)
        if at is None:
            return ""
        context.slots.pop("time", None)
        if not OPENS <= at <= LAST_START:
            return f"We are open from nine to five, and the last appointment is at {spoken_time(LAST_START)}."
        if at.minute % SLOT_MINUTES:
            return "Appointments begin on the hour or at half past."
        context.slots["time"] = f"{at:%H:%M}"
        return ""

    def next_step(self, context: ConversationContext, remark: str = "") -> StateResult:
        """Ask for what is missing, else for the yes."""
        slots = context.slots
        if "date" in slots and "time" in slots and self.has_passed(slots["date"], slots["time"]):
            del slots["time"]
            remark = "That time has passed."
        if "date" not in slots:
            return self.go("collect_date", remark, ASK_DATE)
        if "time" not in slots:
            return self.go("collect_time", remark, ASK_TIME)
        return self.go("confirm", remark, f"That is {self.when(context)}. Shall I book it?")

    def has_passed(self, day: str, at: str) -> bool:
        return datetime.fromisoformat(f"{day}T{at}") <= self.clock().replace(tzinfo=None)

    def when(self, context: ConversationContext) -> str:
        day = date.fromisoformat(context.slots["date"])
        at = time.fromisoformat(context.slots["time"])
        return f"{spoken_date(day, self.clock().date())} at {spoken_time(at)}"

    def go(self, next_state: str, *sentences: str) -> StateResult:
        return {"response": " ".join(filter(None, sentences)), "next_state": next_state, "confidence": 1.0}


class CollectDate(BookingState):
    name = "collect_date"
    description = "Find out the day"
    allowed_transitions = ("collect_time", "confirm")
    has_asked = False

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        # The arguments the task was started with arrive as slots, in the caller's words.
        given_date = context.slots.pop("date", input_text)
        given_time = context.slots.pop("time", None)
        remarks = [
            self.take_date(given_date, context),
            self.take_time(given_time or input_text, context, bare=given_time is not None),
        ]
        remark = " ".join(filter(None, remarks))
        if "date" not in context.slots and self.has_asked and not remark:
            remark = "Sorry, I did not get the day."
        self.has_asked = "date" not in context.slots
        return self.next_step(context, remark)


class CollectTime(BookingState):
    name = "collect_time"
    description = "Find out the time"
    allowed_transitions = ("collect_date", "confirm")

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        remark = self.take_date(input_text, context)
        names_a_day = parse_date(input_text, self.clock().date()) is not None
        remark = remark or self.take_time(input_text, context, bare=not names_a_day)
        if "time" not in context.slots and not names_a_day and not remark:
            remark = "Sorry, I did not get the time."
        return self.next_step(context, remark)


class Confirm(BookingState):
    name = "confirm"
    description = "Have the caller confirm, then book"
    allowed_transitions = ("collect_date", "collect_time", "anything_else")
    is_changing = False

    def __init__(self, clock: Clock, calendar: Calendar) -> None:
        super().__init__(clock)
        self.calendar = calendar

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        words = set(words_of(input_text))
        slots = context.slots
        if words & NEVER_MIND:
            del slots["date"], slots["time"]
            return self.go("anything_else", "All right, I have not booked it.", ASK_MORE)
        before = slots["date"], slots["time"]
        remark = self.take_date(input_text, context) or self.take_time(input_text, context, bare=False)
        if remark or before != (slots.get("date"), slots.get("time")):
            return self.next_step(context, remark)
        if self.is_changing or words & NO or not words & YES:
            self.is_changing = False
            if "time" in words:
                del slots["time"]
                return self.next_step(context)
            if words & {"day", "date"}:
                del slots["date"]
                return self.next_step(context)
            if words & NO:
                self.is_changing = True
                return self.go(self.name, "What shall I change, the day or the time?")
            return self.next_step(context, "Sorry, I did not get that.")
        return self.book(context)

    def book(self, context: ConversationContext) -> StateResult:
        slots = context.slots
        when = self.when(context)
        appointment = self.calendar.book(slots.pop("date"), slots.pop("time"), self.call.caller)
        if "appointment" in slots:
            slots.setdefault("earlier_appointments", []).append(slots["appointment"])
        slots["appointment"] = asdict(appointment)
        return self.go("anything_else", f"You are booked for {when}.", ASK_MORE)


class AnythingElse(BookingState):
    name = "anything_else"
    description = "Find out whether the caller wants another appointment"
    allowed_transitions = ("collect_date", "goodbye")

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        words = set(words_of(input_text))
        if words & {"another", "book"} or parse_date(input_text, self.clock().date()):
            return self.go("collect_date")
        if words & (NO | NEVER_MIND | FAREWELL):
            return self.go("goodbye")
        if words & YES or "appointment" in words:
            return self.go("collect_date")
        return self.go(self.name, "Would you like another appointment?")


class Goodbye(BookingState):
    name = "goodbye"
    description = "Say goodbye and hang up"

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        self.call.hang_up("completed")
        return self.go(self.name, "Thank you for calling. Goodbye.")


INSTRUCTIONS = """\
You answer the telephone of the city clinic. You book appointments and answer short questions.
Opening hours: We are open Monday to Friday, nine to five.
Location: We are at twelve Main Street, next to the station.
Price: The first visit is free. Every other visit is forty dollars.
Parking: You can park behind the house."""

PARAMETERS = {
    "type": "object",
    "properties": {
        "date": {"type": "string", "description": "The day, in the caller's words, when it was said."},
        "time": {
            "type": "string",
            "description": "The time of day, in the caller's words, when it was said.",
        },
    },
}

_HOURS = ("nine am", "ten am", "eleven am", "noon", "one pm", "two pm", "three pm", "four pm")
_HALVES = ("nine", "ten", "eleven", "twelve", "one", "two", "three", "four")
PHRASES = (
    *(
        "hello",
        "i would like to book an appointment",
        "i need an appointment",
        "book an appointment for today",
    ),
    *("book an appointment for tomorrow", "today", "tomorrow", "the day after tomorrow"),
    *("what are your opening hours", "where are you located", "how much does it cost", "do you have parking"),
    *("yes", "yes please", "that is right", "no", "no thank you", "no that is wrong", "that is all"),
    *("change the day", "change the time", "cancel", "thank you", "goodbye"),
    *(
        phrase
        for day in WEEKDAYS
        for phrase in (day, f"on {day}", f"next {day}", f"book an appointment for {day}")
    ),
    *(phrase for hour in _HOURS for phrase in (hour, f"at {hour}", f"tomorrow at {hour}")),
    *(
        phrase
        for hour in _HALVES
        for phrase in (f"half past {hour}", f"at half past {hour}", f"{hour} o'clock")
    ),
)


def appointment_agent(clock: Clock = datetime.now, calendar: Calendar | None = None) -> FastAgent:
    """Make the agent; ``clock`` tells the local time at the house."""
    return FastAgent(
        "appointment",
        [
            CollectDate(clock),
            CollectTime(clock),
            Confirm(clock, Calendar() if calendar is None else calendar),
            AnythingElse(clock),
            Goodbye(clock),
        ],
        "collect_date",
        instructions=INSTRUCTIONS,
        greeting="Hello, this is the city clinic. How can I help you?",
        task_name="book_appointment",
        task_description="Book an appointment for the caller.",
        task_parameters=PARAMETERS,
        transcription_phrases=PHRASES,
    )


agent = appointment_agent()
