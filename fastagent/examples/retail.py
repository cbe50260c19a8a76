"""An agent for a shop's orders: where they are, another delivery day, and returns.

::

    order ──▶ zip_code ──▶ menu ──▶ status ─────────────────────────────────┐
                           ▲  │ ├──▶ delivery_day ────▶ confirm_change ─────┤
                           │  │ └──▶ return_details ──▶ register_return ────┤
                           └──┼─────────────────────────────────────────────┘
                              └──▶ goodbye          from anywhere: human, hung_up

An order is opened by its number and the ZIP code it goes to. What may be done with it is the shop's rule: the
day of an order that is under way stays, and only what was delivered comes back, once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, Field

from fastagent import ConversationContext, FastAgent
from fastagent.afsm import StateResult, VoicePolicy
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.guards import words_in
from fastagent.afsm.spoken import parse_digits, parse_yes_no
from fastagent.errors import EffectFailedError
from fastagent.examples.telephone_state import COMMON, Goodbye, Human, HungUp, TelephoneState

__all__ = ["Order", "Shop", "agent", "retail_agent"]

MAX_ZIP_ATTEMPTS = 3
SERVICE_DESK = "tel:+15550167"
SECRETS = ("order", "opened")
"""Slots that are not part of what the task found."""

ASK_ZIP = "And the ZIP code it goes to?"
ASK_MENU = "Would you like its status, another delivery day, or to return it?"
ASK_MORE = "Is there anything else?"

OrderState = Literal["placed", "shipped", "delivered", "returned"]


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was opened with its ZIP code."""

    number: str


@dataclass(slots=True)
class _Kept:
    zip_code: str = field(repr=False)
    state: OrderState
    day: str


class Shop:
    """Orders in memory. What is done carries a key: the same key again gives the same outcome."""

    def __init__(self, orders: dict[str, tuple[str, OrderState, str]] | None = None) -> None:
        """Take in orders, each number with its ZIP code, state, and day of delivery."""
        given = orders or {
            "40217": ("10115", "placed", "friday"),
            "40218": ("10115", "delivered", "monday"),
            "40219": ("10115", "shipped", "tuesday"),
        }
        self._orders = {number: _Kept(*entry) for number, entry in given.items()}
        self._done: dict[str, tuple[str, str]] = {}
        """By key: what was given out, and what was there before."""
        self._numbers = count(1)

    def open(self, number: str, zip_code: str) -> Order | None:
        """Give an order; None for an unknown number and for another ZIP code, not told apart."""
        kept = self._orders.get(number)
        return Order(number) if kept is not None and kept.zip_code == zip_code else None

    def state(self, number: str) -> OrderState:
        """Where an order is."""
        return self._orders[number].state

    def day(self, number: str) -> str:
        """The day of its delivery."""
        return self._orders[number].day

    def change_day(self, number: str, day: str, key: str) -> str:
        """Deliver on another day. Raises: `EffectFailedError` when it is under way."""
        order = self._orders[number]
        if key not in self._done:
            if order.state != "placed":
                raise EffectFailedError("too late")
            self._done[key] = day, order.day
            order.day = day
        return self._done[key][0]

    def restore_day(self, number: str, key: str) -> None:
        """Go back to the day before; a second time changes nothing."""
        if key in self._done and self._orders[number].state == "placed":
            self._orders[number].day = self._done.pop(key)[1]

    def take_back(self, number: str, key: str) -> str:
        """Register a return; gives its number. Raises: `EffectFailedError` when it was not delivered."""
        order = self._orders[number]
        if key not in self._done:
            if order.state != "delivered":
                raise EffectFailedError("not delivered")
            self._done[key] = f"R{next(self._numbers):04}", "delivered"
            order.state = "returned"
        return self._done[key][0]

    def keep(self, number: str, key: str) -> None:
        """Take a return back; a second time changes nothing."""
        if self._done.pop(key, None) is not None:
            self._orders[number].state = "delivered"

    def find(self, key: str) -> str | None:
        """What was given out for a key."""
        return self._done[key][0] if key in self._done else None


def is_opened(context: ConversationContext) -> bool:
    """Guard: the shop has opened an order."""
    return isinstance(context.slots.get("opened"), Order)


class ShopState(TelephoneState):
    """A state that asks the shop."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self.shop = shop

    async def do_once(self, context: ConversationContext, function: Callable[..., Any], **more: Any) -> Any:
        """Do something to the open order, once for each time that the caller wants it."""
        number = context.facts.get("wishes", 0) + 1
        context.add_salient_fact("wishes", number)
        return await self.run_once(
            function, {"order": context.slots["opened"].number, "wish": number, **more}
        )


class ZipCode(ShopState):
    name = "zip_code"
    description = "Make sure that the order is the caller's"
    allowed_transitions = ("menu", "human")
    guards = MappingProxyType({"menu": is_opened})
    voice_policy = VoicePolicy(speech="dictation", dtmf_grammar="[0-9]{5}", redaction="digits", tools=())
    attempts = 0

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        opened = self.shop.open(context.slots["order"], parse_digits(input_text) or "")
        if opened is not None:
            context.slots["opened"] = opened
            return self.go("menu")
        self.attempts += 1
        if self.attempts >= MAX_ZIP_ATTEMPTS:
            return self.go("human")
        return self.go(self.name, "I find no such order.", ASK_ZIP)


class Menu(ShopState):
    name = "menu"
    description = "Find out what the caller wants"
    allowed_transitions = ("status", "delivery_day", "return_details", "goodbye", "human")
    guards = MappingProxyType(dict.fromkeys(("status", "delivery_day", "return_details"), is_opened))
    has_asked = False

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        # What the task was started with is done first.
        request = context.slots.pop("request", None)
        words = set(words_in(str(request or input_text)))
        if words & {"person", "human", "somebody"}:
            return self.go("human")
        if words & {"status", "where"}:
            return self.go("status")
        if words & {"change", "day", "later"}:
            return self.change(context)
        if words & {"return", "back"}:
            return self.take_back(context)
        if words & {"no", "nothing", "goodbye", "bye", "all"}:
            return self.go("goodbye")
        if not self.has_asked:
            self.has_asked = True
            return self.go(self.name, "Thank you.", ASK_MENU)
        return self.again(ASK_MENU)

    def change(self, context: ConversationContext) -> StateResult:
        if self.shop.state(context.slots["opened"].number) != "placed":
            return self.go(self.name, "The day of that order cannot be changed any more.", ASK_MORE)
        return self.go("delivery_day")

    def take_back(self, context: ConversationContext) -> StateResult:
        if self.shop.state(context.slots["opened"].number) != "delivered":
            return self.go(self.name, "Only an order that was delivered can be returned.", ASK_MORE)
        return self.go("return_details")


class Status(ShopState):
    name = "status"
    description = "Tell where the order is"
    allowed_transitions = ("menu",)

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        number = context.slots["opened"].number
        state, day = self.shop.state(number), self.shop.day(number)
        context.slots["status"] = state
        words = {
            "placed": f"Your order is packed and comes on {day}.",
            "shipped": f"Your order is on its way and comes on {day}.",
            "delivered": f"Your order was delivered on {day}.",
            "returned": "Your order was returned.",
        }
        return self.go("menu", words[state], ASK_MORE)


class ConfirmChange(ShopState):
    name = "confirm_change"
    description = "Have the caller confirm the new day, then change it"
    allowed_transitions = ("menu", "human")
    voice_policy = VoicePolicy(speech="eager", tools=())

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        slots = context.slots
        answer = parse_yes_no(input_text)
        if answer is None:
            return self.again("Please say yes or no.", f"Shall it come on {slots['day']}?")
        self.misses = 0
        day = slots.pop("day")
        if not answer:
            return self.go("menu", "All right, the day stays.", ASK_MORE)
        try:
            slots["delivery"] = await self.do_once(context, self.change_day, day=day)
        except EffectFailedError:
            return self.go("menu", "The day of that order cannot be changed any more.", ASK_MORE)
        return self.go("menu", f"I have changed it to {day}.", ASK_MORE)

    @effect(
        undo="restore_day",
        check="find",
        key="call_id order day wish",
        is_idempotent=True,
        claims=("i have changed", "is changed"),
    )
    async def change_day(self, order: str, day: str, wish: int, idempotency_key: str) -> str:
        """Change the day; ``wish`` tells two equal changes of a call apart."""
        return self.shop.change_day(order, day, idempotency_key)

    async def restore_day(self, order: str, idempotency_key: str) -> None:
        self.shop.restore_day(order, idempotency_key)

    async def find(self, idempotency_key: str) -> str | None:
        return self.shop.find(idempotency_key)


class ReturnSlots(BaseModel):
    """What the shop must know of a return."""

    reason: Literal["broken", "wrong size", "not needed"] = Field(
        description="Is it broken, the wrong size, or not needed?"
    )
    wants_refund: bool = Field(
        description="Would you like your money back?",
        json_schema_extra={"reprompt": "Please say yes or no."},
    )


class ReturnDetails(ShopState):
    name = "return_details"
    description = "Find out why it comes back, and what the caller gets for it"
    allowed_transitions = ("register_return",)
    guards = MappingProxyType({"register_return": is_opened})
    slots = ReturnSlots

    async def _generate_response(self, input_text: str, context: ConversationContext) -> str:
        wants = "your money" if context.slots["wants_refund"] else "a new one"
        return f"It is {context.slots['reason']}, and you get {wants}. Shall I register the return?"


class RegisterReturn(ShopState):
    name = "register_return"
    description = "Have the caller confirm the return, then register it"
    allowed_transitions = ("menu", "human")
    voice_policy = VoicePolicy(speech="eager", tools=())

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        slots = context.slots
        answer = parse_yes_no(input_text)
        if answer is None:
            return self.again("Please say yes or no.", "Shall I register the return?")
        self.misses = 0
        reason, wants_refund = slots.pop("reason"), slots.pop("wants_refund")
        if not answer:
            return self.go("menu", "All right, nothing is returned.", ASK_MORE)
        try:
            slots["return"] = await self.do_once(
                context, self.take_back, reason=reason, wants_refund=wants_refund
            )
        except EffectFailedError:
            return self.go("menu", "Only an order that was delivered can be returned.", ASK_MORE)
        return self.go("menu", "Your return is registered, and a label is in your mail.", ASK_MORE)

    @effect(
        undo="keep",
        check="find",
        key="call_id order wish",
        is_idempotent=True,
        claims=("return is registered", "i have registered"),
    )
    async def take_back(
        self, order: str, wish: int, reason: str, wants_refund: bool, idempotency_key: str
    ) -> str:
        """Register the return."""
        return self.shop.take_back(order, idempotency_key)

    async def keep(self, order: str, idempotency_key: str) -> None:
        self.shop.keep(order, idempotency_key)

    async def find(self, idempotency_key: str) -> str | None:
        return self.shop.find(idempotency_key)


ORDER = {
    **COMMON,
    "name": "order",
    "description": "Find out the order's number",
    "allowed_transitions": ["zip_code"],
    "slots": [
        {
            "name": "order",
            "type": "digits",
            "prompt": "What is your five digit order number?",
            "reprompt": "That is no order number.",
            "pattern": "^[0-9]{5}$",
        }
    ],
    "prompt_template": f"Order {{order}}. {ASK_ZIP}",
    "voice_policy": {"speech": "dictation", "dtmf_grammar": "[0-9]{5}", "tools": []},
}
DELIVERY_DAY = {
    **COMMON,
    "name": "delivery_day",
    "description": "Find out the day that suits the caller",
    "allowed_transitions": ["confirm_change"],
    "slots": [
        {
            "name": "day",
            "type": "choice",
            "choices": ["monday", "tuesday", "wednesday", "thursday", "friday"],
            "prompt": "Which day would you like?",
            "reprompt": "We deliver from Monday to Friday.",
        }
    ],
    "guards": {"confirm_change": "slots.opened != null"},
    "prompt_template": "Shall it come on {day}?",
}

INSTRUCTIONS = """\
You answer the telephone of a shop.
Opening hours: We are open Monday to Friday, nine to five.
Price: A return is free within thirty days.
Location: We are at twelve Main Street, next to the station."""

PARAMETERS = {
    "type": "object",
    "properties": {
        "request": {
            "type": "string",
            "enum": ["status", "change", "return"],
            "description": "What the caller wants, when it was said.",
        }
    },
}

PHRASES = (
    *("where is my order", "i would like to change my order", "i would like to return my order"),
    *("i want to return it", "change the day", "status please", "what is the status of my order"),
    *("four zero two one seven", "four zero two one eight", "one zero one one five"),
    *("on monday", "on tuesday", "on wednesday", "on friday", "it is broken", "wrong size", "not needed"),
    *("how much does it cost", "yes", "yes please", "no", "no thank you", "that is all", "goodbye"),
    "i want to speak to a person",
)


def retail_agent(shop: Shop | None = None) -> FastAgent:
    """Make the agent of a shop."""
    shop = Shop() if shop is None else shop
    return FastAgent(
        "retail",
        [
            ORDER,
            ZipCode(shop),
            Menu(shop),
            Status(shop),
            DELIVERY_DAY,
            ConfirmChange(shop),
            ReturnDetails(shop),
            RegisterReturn(shop),
            Goodbye(SECRETS),
            Human(SERVICE_DESK, SECRETS),
            HungUp(SECRETS),
        ],
        "order",
        instructions=INSTRUCTIONS,
        greeting="Hello, this is the city shop. How can I help you?",
        task_name="order_service",
        task_description="Tell the status of an order, change the day of an order, or return an order.",
        task_parameters=PARAMETERS,
        transcription_phrases=PHRASES,
        transfer_target=SERVICE_DESK,
    )


agent = retail_agent()
