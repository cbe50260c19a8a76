"""An agent for the help desk of a company, by the rules of its auditors.

::

    notice ──▶ employee ──▶ pin ──▶ menu ──▶ system ──▶ reset_password ──┐
                             │      ▲  │ └──▶ problem (opens a ticket) ──┤
                             ▼      │  ▼                                 │
                          security  │ goodbye                            │
                                    └────────────────────────────────────┘
                                               from anywhere: human, hung_up

The notice about recording comes first and cannot be talked over; who says no to it is not recorded. Nothing
is changed before the caller has proved who they are, and a reset is confirmed with a key, which only the
caller's telephone can send. Passwords are never spoken: a new one is sent to the telephone on file.
Administrators' passwords are not reset by telephone at all. Beside the states, one watch fetches a person
whenever the caller asks for one, and one ends abusive calls after a warning.
"""

import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType

from fastagent import ConversationContext, FastAgent
from fastagent.afsm import StateResult, VoicePolicy, WatchSpec, WatchStep
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.guards import words_in
from fastagent.afsm.run.machine import RECORDING_REFUSED
from fastagent.afsm.spoken import parse_digits, parse_yes_no
from fastagent.errors import EffectFailedError
from fastagent.examples.telephone_state import COMMON, Goodbye, Human, HungUp, TelephoneState

__all__ = ["Employee", "HelpDesk", "agent", "enterprise_agent"]

MAX_PIN_ATTEMPTS = 3
MAX_ORDERS = 10_000
TECHNICIAN = "tel:+15550178"
SECURITY = "tel:+15550179"
SECRETS = ("employee", "identified")
"""Slots that are not part of what the task found."""

NOTICE = "This call is recorded, and who called for what is kept for one year. Is that all right?"
ASK_EMPLOYEE = "What is your four digit employee number?"
ASK_PIN = "Please say or key in your help desk PIN."
ASK_MENU = "Would you like to reset a password, or report a problem?"
ASK_MORE = "Is there anything else?"


@dataclass(frozen=True, slots=True)
class Employee:
    """An employee who has proved who they are."""

    number: str
    is_administrator: bool = False


@dataclass(slots=True)
class _Entry:
    pin: str = field(repr=False)
    employee: Employee
    failed_attempts: int = 0


class HelpDesk:
    """Employees, resets and tickets in memory. The same key again gives the same outcome."""

    def __init__(self, employees: Mapping[str, tuple[str, bool]] | None = None) -> None:
        """Take in employees, each number with its PIN and whether it is an administrator's."""
        given = employees or {"1042": ("7391", False), "1001": ("8264", True)}
        self._entries = {
            number: _Entry(pin, Employee(number, is_admin)) for number, (pin, is_admin) in given.items()
        }
        self._done: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        """By key: number of the reset or ticket, employee, what it is about."""
        self._numbers = count(1)

    @property
    def resets(self) -> list[tuple[str, str]]:
        """Resets that stand, oldest first: (employee, system)."""
        return self._standing("W")

    @property
    def tickets(self) -> list[tuple[str, str]]:
        """Open tickets, oldest first: (employee, category)."""
        return self._standing("T")

    def identify(self, number: str, pin: str) -> Employee | None:
        """Give the employee; None for a wrong number or PIN, not told apart, or after too many attempts."""
        entry = self._entries.get(number)
        if entry is None or entry.failed_attempts >= MAX_PIN_ATTEMPTS:
            return None
        if not hmac.compare_digest(entry.pin, pin):
            entry.failed_attempts += 1
            return None
        entry.failed_attempts = 0
        return entry.employee

    def reset(self, employee: str, system: str, key: str) -> str:
        """Send a new password to the telephone on file; gives the reset's number.

        Raises:
            EffectFailedError: an administrator's password.
        """
        if self._entries[employee].employee.is_administrator:
            raise EffectFailedError("not by telephone")
        return self._do("W", employee, system, key)

    @effect(undo="close_ticket", check="find_ticket", is_idempotent=True, claims=("your ticket is",))
    async def open_ticket(self, employee: str, category: str, idempotency_key: str = "") -> str:
        """Open a ticket; gives its number."""
        return self._do("T", employee, category, idempotency_key or f"{employee} {category}")

    async def close_ticket(self, employee: str, category: str, idempotency_key: str = "") -> None:
        """Withdraw a ticket; a second time changes nothing."""
        self.withdraw(idempotency_key or f"{employee} {category}")

    async def find_ticket(self, idempotency_key: str) -> str | None:
        """The ticket that was opened with a key."""
        return self.find(idempotency_key)

    def withdraw(self, key: str) -> None:
        """Take a reset or a ticket back; a second time changes nothing."""
        self._done.pop(key, None)

    def find(self, key: str) -> str | None:
        """The number that was given out for a key."""
        return self._done[key][0] if key in self._done else None

    def _do(self, letter: str, employee: str, about: str, key: str) -> str:
        if key not in self._done:
            self._done[key] = f"{letter}{next(self._numbers):04}", employee, about
            if len(self._done) > MAX_ORDERS:
                self._done.popitem(last=False)
        return self._done[key][0]

    def _standing(self, letter: str) -> list[tuple[str, str]]:
        return [(employee, about) for number, employee, about in self._done.values() if number[0] == letter]


def is_identified(context: ConversationContext) -> bool:
    """Guard: the caller has proved who they are."""
    return isinstance(context.slots.get("identified"), Employee)


class DeskState(TelephoneState):
    """A state that asks the help desk's systems."""

    def __init__(self, desk: HelpDesk) -> None:
        super().__init__()
        self.desk = desk


class Notice(TelephoneState):
    name = "notice"
    description = "Tell that the call is recorded, and have the caller agree or not"
    allowed_transitions = ("employee", "human")
    voice_policy = VoicePolicy(barge_in="protected", tools=())
    has_asked = False

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        if not self.has_asked:
            self.has_asked = True
            return self.go(self.name, NOTICE)
        answer = parse_yes_no(input_text)
        if answer is None:
            return self.again(NOTICE)
        if answer:
            return self.go("employee", "Thank you.", ASK_EMPLOYEE)
        context.add_salient_fact(RECORDING_REFUSED, True)
        return self.go("employee", "All right, this call is not recorded.", ASK_EMPLOYEE)


class EmployeeNumber(TelephoneState):
    name = "employee"
    description = "Find out the employee number"
    allowed_transitions = ("pin", "human")
    voice_policy = VoicePolicy(speech="dictation", dtmf_grammar="[0-9]{4}", redaction="digits", tools=())

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        number = parse_digits(input_text) or ""
        if len(number) != 4:
            return self.again("That is no employee number.", ASK_EMPLOYEE)
        context.slots["employee"] = number
        return self.go("pin", ASK_PIN)


class Pin(DeskState):
    name = "pin"
    description = "Have the caller prove who they are"
    allowed_transitions = ("menu", "security")
    guards = MappingProxyType({"menu": is_identified})
    voice_policy = VoicePolicy(
        speech="dictation", dtmf_grammar="[0-9]{4}", redaction="all", is_recorded=False, tools=()
    )
    attempts = 0

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        employee = self.desk.identify(context.slots["employee"], parse_digits(input_text) or "")
        if employee is not None:
            context.slots["identified"] = employee
            return self.go("menu")
        self.attempts += 1
        if self.attempts >= MAX_PIN_ATTEMPTS:
            return self.go("security")
        return self.go(self.name, "That does not match.", ASK_PIN)


class Menu(TelephoneState):
    name = "menu"
    description = "Find out what the caller wants"
    allowed_transitions = ("system", "problem", "goodbye", "human")
    guards = MappingProxyType({"system": is_identified, "problem": is_identified})
    has_asked = False

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        # What the task was started with is done first.
        request = context.slots.pop("request", None)
        words = set(words_in(str(request or input_text)))
        context.slots.pop("category", None)
        if words & {"password", "reset", "locked"}:
            return self.go("system")
        if words & {"problem", "ticket", "broken", "report"}:
            return self.go("problem")
        if words & {"no", "nothing", "goodbye", "bye", "all"}:
            return self.go("goodbye")
        if not self.has_asked:
            self.has_asked = True
            return self.go(self.name, "Thank you.", ASK_MENU)
        return self.again(ASK_MENU)


class ResetPassword(DeskState):
    name = "reset_password"
    description = "Reset the password"
    allowed_transitions = ("menu", "human")
    guards = MappingProxyType({"menu": is_identified})

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        slots = context.slots
        number = context.facts.get("resets_asked", 0) + 1
        context.add_salient_fact("resets_asked", number)
        order = {"employee": slots["identified"].number, "system": slots.pop("system"), "number": number}
        try:
            slots["reset"] = await self.run_once(self.reset, order)
        except EffectFailedError:
            return self.go("human")
        return self.go("menu", "I have sent a new password to your telephone.", ASK_MORE)

    @effect(
        undo="withdraw",
        check="find",
        key="call_id employee system number",
        is_idempotent=True,
        claims=("i have sent a new password", "password is reset"),
        redacted=("employee",),
    )
    async def reset(self, employee: str, system: str, number: int, idempotency_key: str) -> str:
        """Reset it; ``number`` tells two equal resets of a call apart."""
        return self.desk.reset(employee, system, idempotency_key)

    async def withdraw(self, idempotency_key: str) -> None:
        self.desk.withdraw(idempotency_key)

    async def find(self, idempotency_key: str) -> str | None:
        return self.desk.find(idempotency_key)


class Technician(Human):
    words = "A technician takes over."


class Security(Human):
    name = "security"
    description = "The caller could not be identified: security takes over"
    words = "I could not verify who you are."
    reason = "not identified"


SYSTEM = {
    **COMMON,
    "name": "system",
    "description": "Find out which password",
    "allowed_transitions": ["reset_password"],
    "slots": [
        {
            "name": "system",
            "type": "choice",
            "choices": ["email", "network", "laptop"],
            "prompt": "Which password: email, network, or laptop?",
            "confirmation": "keypad",
            "read_back": "I will reset your {value} password. Press one to confirm, or two to change it.",
        }
    ],
    "guards": {"reset_password": "slots.identified != null"},
}
PROBLEM = {
    **COMMON,
    "name": "problem",
    "description": "Find out what is wrong, and open a ticket",
    "allowed_transitions": ["menu"],
    "slots": [
        {
            "name": "category",
            "type": "choice",
            "choices": ["telephone", "printer", "software"],
            "prompt": "Is it the telephone, the printer, or software?",
            "confirmation": "read_back",
            "read_back": "Shall I open a ticket for the {value}?",
        }
    ],
    "guards": {"menu": "slots.identified != null"},
    "effects": [{"name": "open_ticket", "undo": "close_ticket", "key": "call_id employee category"}],
    "prompt_template": f"Your ticket is open, and a technician will call you. {ASK_MORE}",
}

WATCHES = (
    WatchSpec(
        "person",
        (WatchStep(next_state="human"),),
        words=("person", "human", "technician", "manager", "supervisor"),
    ),
    WatchSpec(
        "abuse",
        (
            WatchStep(say="Please stay polite, or I have to end this call."),
            WatchStep(say="I am ending this call. Goodbye.", next_state="hung_up"),
        ),
        words=("idiot", "stupid", "shut up"),
    ),
)

INSTRUCTIONS = """\
You answer the telephone of the company's help desk.
Opening hours: We are open Monday to Friday, nine to five.
Location: We are at twelve Main Street, next to the station.
Never ask for a password or PIN yourself, and never repeat one."""

PARAMETERS = {
    "type": "object",
    "properties": {
        "request": {
            "type": "string",
            "enum": ["password", "problem"],
            "description": "What the caller wants, when it was said.",
        }
    },
}

PHRASES = (
    *("i need to reset my password", "reset my password", "i would like to report a problem", "a password"),
    *("report a problem", "the printer", "the telephone", "software", "email", "network", "laptop"),
    *("one zero four two", "one zero zero one", "seven three nine one", "what are your opening hours"),
    *("yes", "yes please", "yes that is all right", "no", "no thank you", "that is all", "goodbye"),
    *("i want to speak to a person", "where are you located"),
)


def enterprise_agent(desk: HelpDesk | None = None) -> FastAgent:
    """Make the agent of a help desk."""
    desk = HelpDesk() if desk is None else desk
    return FastAgent(
        "enterprise",
        [
            Notice(),
            EmployeeNumber(),
            Pin(desk),
            Menu(),
            SYSTEM,
            ResetPassword(desk),
            PROBLEM,
            Goodbye(SECRETS),
            Technician(TECHNICIAN, SECRETS),
            Security(SECURITY, SECRETS),
            HungUp(SECRETS),
        ],
        "notice",
        instructions=INSTRUCTIONS,
        greeting="Hello, this is the help desk. How can I help you?",
        task_name="help_desk",
        task_description="Reset a password, or report a problem and open a ticket.",
        task_parameters=PARAMETERS,
        supervisor=WATCHES,
        effects={"open_ticket": desk.open_ticket, "close_ticket": desk.close_ticket},
        transcription_phrases=PHRASES,
        transfer_target=TECHNICIAN,
        transfer_targets=[SECURITY],
    )


agent = enterprise_agent()
