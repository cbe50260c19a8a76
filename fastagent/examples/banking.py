"""An agent for telephone banking.

::

    account ──▶ pin ──▶ menu ──▶ balance ────────────────────────────────┐
                 │      ▲ │ ├──▶ transfer_details ──▶ confirm_transfer ──┤
                 ▼      │ │ └──▶ card_reason ───────▶ card_order ────────┤
               locked   └─┼──────────────────────────────────────────────┘
                          └──▶ goodbye          from anywhere: human, hung_up

Who calls is found out by account number and PIN, spoken or keyed in, within three attempts. A PIN is
not recorded and not kept. ``slots.customer`` is an object that only the bank gives out: nothing the model
passes along can stand for it. Money moves after a yes to its amount and payee, and once.
"""

import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

from fastagent import ConversationContext, FastAgent
from fastagent.afsm import StateResult, VoicePolicy
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.guards import words_in
from fastagent.afsm.spoken import parse_digits, parse_yes_no
from fastagent.errors import EffectFailedError
from fastagent.examples.telephone_state import COMMON, Goodbye, Human, HungUp, TelephoneState

__all__ = ["Bank", "Customer", "Payment", "agent", "banking_agent"]

MAX_PIN_ATTEMPTS = 3
MAX_TRANSFER_DOLLARS = 5_000
MAX_ORDERS = 10_000
COLLEAGUE = "tel:+15550123"
SECRETS = ("account", "customer")
"""Slots that are not part of what the task found."""

FOR_CALLS = VoicePolicy(is_call_only=True)
"""What is for identified customers is not told or done by text message: a number can be forged."""

ASK_PIN = "Please say or key in your four digit PIN."
ASK_MORE = "Is there anything else?"
ASK_MENU = "Would you like your balance, a transfer, or a new card?"


@dataclass(frozen=True, slots=True)
class Customer:
    """A caller the bank has identified."""

    id: str
    account: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that was moved."""

    id: str
    payee: str
    amount_dollars: int


class _Account:
    def __init__(self, customer: Customer, pin: str, balance_dollars: int) -> None:
        self.customer = customer
        self.pin = pin
        self.balance_dollars = balance_dollars
        self.failed_attempts = 0
        self.is_card_blocked = False


class Bank:
    """A bank in memory. Orders carry a key: the same key again gives the same outcome."""

    def __init__(self, accounts: Mapping[str, tuple[str, int]] | None = None) -> None:
        """Open accounts, each number with its PIN and balance in dollars."""
        given = {"482913": ("2580", 1_200)} if accounts is None else accounts
        self._accounts = {
            number: _Account(Customer(f"C{n:04}", number), pin, balance)
            for n, (number, (pin, balance)) in enumerate(given.items(), 1)
        }
        self._orders: OrderedDict[str, Payment | str] = OrderedDict()
        self._reversed: set[str] = set()
        self._numbers = count(1)

    @property
    def payments(self) -> list[Payment]:
        """The payments that stand, oldest first."""
        return [
            order
            for order in self._orders.values()
            if isinstance(order, Payment) and order.id not in self._reversed
        ]

    @property
    def cards(self) -> list[str]:
        """Orders of new cards that stand, oldest first."""
        return [
            order for order in self._orders.values() if isinstance(order, str) and order not in self._reversed
        ]

    def identify(self, number: str, pin: str) -> Customer | None:
        """Give the customer; None for a wrong number or PIN, not told apart, or a locked account."""
        account = self._accounts.get(number)
        if account is None or account.failed_attempts >= MAX_PIN_ATTEMPTS:
            return None
        if not hmac.compare_digest(account.pin, pin):
            account.failed_attempts += 1
            return None
        account.failed_attempts = 0
        return account.customer

    def balance_dollars(self, customer: Customer) -> int:
        """What is on the account."""
        return self._accounts[customer.account].balance_dollars

    def is_card_blocked(self, customer: Customer) -> bool:
        """Tell whether the card can be used no more."""
        return self._accounts[customer.account].is_card_blocked

    def transfer(self, account: str, payee: str, amount_dollars: int, key: str) -> Payment:
        """Move money. Raises: `EffectFailedError` when there is not enough."""
        known = self._orders.get(key)
        if isinstance(known, Payment):
            return known
        source = self._accounts[account]
        if not 0 < amount_dollars <= source.balance_dollars:
            raise EffectFailedError("not enough money")
        source.balance_dollars -= amount_dollars
        payment = Payment(f"P{next(self._numbers):04}", payee, amount_dollars)
        self._keep(key, payment)
        return payment

    def reverse(self, account: str, key: str) -> None:
        """Take a payment or a card order back, once. A blocked card stays blocked."""
        order = self._orders.get(key)
        if order is None:
            return
        order_id = order if isinstance(order, str) else order.id
        if order_id in self._reversed:
            return
        self._reversed.add(order_id)
        if isinstance(order, Payment):
            self._accounts[account].balance_dollars += order.amount_dollars

    def order_card(self, account: str, key: str) -> str:
        """Block the card and send a new one; gives the order's number."""
        known = self._orders.get(key)
        if isinstance(known, str):
            return known
        self._accounts[account].is_card_blocked = True
        order = f"K{next(self._numbers):04}"
        self._keep(key, order)
        return order

    def find(self, key: str) -> Payment | str | None:
        """The order that was given with a key."""
        return self._orders.get(key)

    def _keep(self, key: str, order: Payment | str) -> None:
        self._orders[key] = order
        if len(self._orders) > MAX_ORDERS:
            self._orders.popitem(last=False)


def is_identified(context: ConversationContext) -> bool:
    """Guard: the bank knows who calls."""
    return isinstance(context.slots.get("customer"), Customer)


class BankState(TelephoneState):
    """A state that asks the bank."""

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.bank = bank


class Pin(BankState):
    name = "pin"
    description = "Have the caller prove who they are"
    allowed_transitions = ("menu", "locked")
    guards = MappingProxyType({"menu": is_identified})
    voice_policy = VoicePolicy(
        speech="dictation", dtmf_grammar="[0-9]{4}", redaction="all", is_recorded=False, tools=()
    )
    attempts = 0

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        pin = parse_digits(input_text) or ""
        customer = self.bank.identify(context.slots["account"], pin)
        if customer is not None:
            context.slots["customer"] = customer
            return self.go("menu")
        self.attempts += 1
        if self.attempts >= MAX_PIN_ATTEMPTS:
            return self.go("locked")
        return self.go(self.name, "That does not match.", ASK_PIN)


class Menu(BankState):
    name = "menu"
    description = "Find out what the caller wants"
    voice_policy = FOR_CALLS
    allowed_transitions = ("balance", "transfer_details", "card_reason", "goodbye", "human")
    guards = MappingProxyType(
        {"balance": is_identified, "transfer_details": is_identified, "card_reason": is_identified}
    )
    has_asked = False

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        # What the task was started with is done first.
        request = context.slots.pop("request", None)
        words = set(words_in(str(request or input_text)))
        if words & {"person", "human", "colleague"}:
            return self.go("human")
        if words & {"balance"}:
            return self.go("balance")
        if words & {"transfer", "send", "pay"}:
            return self.go("transfer_details")
        if words & {"card", "lost", "stolen"}:
            return self.go("card_reason")
        if words & {"no", "nothing", "goodbye", "bye", "all"}:
            return self.go("goodbye")
        if not self.has_asked:
            self.has_asked = True
            return self.go(self.name, "Thank you.", ASK_MENU)
        return self.again(ASK_MENU)


class Balance(BankState):
    name = "balance"
    description = "Tell the balance"
    allowed_transitions = ("menu",)

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        balance = self.bank.balance_dollars(context.slots["customer"])
        return self.go("menu", f"Your balance is {balance} dollars.", ASK_MORE)


class ConfirmTransfer(BankState):
    name = "confirm_transfer"
    description = "Have the caller confirm the transfer, then make it"
    allowed_transitions = ("menu", "human")
    guards = MappingProxyType({"menu": is_identified})
    voice_policy = VoicePolicy(speech="eager", tools=(), is_call_only=True)

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        slots = context.slots
        answer = parse_yes_no(input_text)
        if answer is None:
            what = f"That is {slots['amount']} dollars to {slots['payee']}."
            return self.again("Please say yes or no.", what, "Shall I transfer it?")
        self.misses = 0
        payee, amount = slots.pop("payee"), int(slots.pop("amount"))
        if not answer:
            return self.go("menu", "All right, nothing was transferred.", ASK_MORE)
        number = context.facts.get("transfers_ordered", 0) + 1
        context.add_salient_fact("transfers_ordered", number)
        order = {
            "account": slots["customer"].account,
            "payee": payee,
            "amount_dollars": amount,
            "number": number,
        }
        try:
            payment = await self.run_once(self.transfer, order)
        except EffectFailedError:
            return self.go("menu", "There is not enough money on your account for that.", ASK_MORE)
        slots.setdefault("payments", []).append(payment)
        return self.go("menu", f"I have transferred {amount} dollars to {payee}.", ASK_MORE)

    @effect(
        undo="reverse_transfer",
        check="find_transfer",
        key="call_id account payee amount_dollars number",
        is_idempotent=True,
        claims=("i have transferred", "was transferred", "is transferred"),
        redacted=("account",),
    )
    async def transfer(
        self, account: str, payee: str, amount_dollars: int, number: int, idempotency_key: str
    ) -> dict[str, Any]:
        """Move the money; ``number`` tells two equal transfers of a call apart."""
        payment = self.bank.transfer(account, payee, amount_dollars, idempotency_key)
        return {"id": payment.id, "payee": payment.payee, "amount_dollars": payment.amount_dollars}

    async def reverse_transfer(self, account: str, idempotency_key: str) -> None:
        self.bank.reverse(account, idempotency_key)

    async def find_transfer(self, idempotency_key: str) -> dict[str, Any] | None:
        payment = self.bank.find(idempotency_key)
        if not isinstance(payment, Payment):
            return None
        return {"id": payment.id, "payee": payment.payee, "amount_dollars": payment.amount_dollars}


class CardOrder(BankState):
    name = "card_order"
    description = "Block the card and send a new one"
    allowed_transitions = ("menu",)
    guards = MappingProxyType({"menu": is_identified})

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        slots = context.slots
        reason = slots.pop("reason")
        order = {"account": slots["customer"].account, "reason": reason}
        slots["card"] = await self.run_once(self.replace_card, order)
        return self.go("menu", "Your card is blocked, and a new one will come within five days.", ASK_MORE)

    @effect(
        undo="cancel_card",
        check="find_card",
        key="account reason",
        is_idempotent=True,
        claims=("your card is blocked", "i have blocked"),
        redacted=("account",),
    )
    async def replace_card(self, account: str, reason: str, idempotency_key: str) -> str:
        return self.bank.order_card(account, idempotency_key)

    async def cancel_card(self, account: str, idempotency_key: str) -> None:
        self.bank.reverse(account, idempotency_key)

    async def find_card(self, idempotency_key: str) -> str | None:
        order = self.bank.find(idempotency_key)
        return order if isinstance(order, str) else None


class Locked(Human):
    name = "locked"
    description = "The caller could not be identified: a colleague takes over"
    words = "I could not verify who you are."
    reason = "not identified"


ACCOUNT = {
    **COMMON,
    "name": "account",
    "description": "Find out the account number",
    "allowed_transitions": ["pin"],
    "initial_state": True,
    "slots": [
        {
            "name": "account",
            "type": "digits",
            "prompt": "What is your six digit account number?",
            "reprompt": "That is no account number.",
            "pattern": "^[0-9]{6}$",
        }
    ],
    "prompt_template": ASK_PIN,
    "voice_policy": {"speech": "dictation", "dtmf_grammar": "[0-9]{6}", "redaction": "digits", "tools": []},
}
TRANSFER_DETAILS = {
    **COMMON,
    "name": "transfer_details",
    "voice_policy": {"is_call_only": True},
    "description": "Find out how much goes to whom",
    "allowed_transitions": ["confirm_transfer"],
    "slots": [
        {
            "name": "payee",
            "type": "choice",
            "choices": ["savings", "rent", "electricity"],
            "prompt": "Where to: savings, rent, or electricity?",
        },
        {"name": "amount", "type": "integer", "minimum": 1, "prompt": "How many dollars?"},
    ],
    "guards": {
        "confirm_transfer": {
            "when": f"slots.customer != null and slots.amount <= {MAX_TRANSFER_DOLLARS}",
            "say": "I can transfer up to five thousand dollars.",
        }
    },
    "prompt_template": "That is {amount} dollars to {payee}. Shall I transfer it?",
}
CARD_REASON = {
    **COMMON,
    "name": "card_reason",
    "voice_policy": {"is_call_only": True},
    "description": "Find out why a new card is needed",
    "allowed_transitions": ["card_order"],
    "slots": [
        {
            "name": "reason",
            "type": "choice",
            "choices": ["lost", "stolen", "damaged"],
            "prompt": "Is your card lost, stolen, or damaged?",
            "confirmation": "read_back",
            "read_back": "Your card is {value}. Shall I block it and send a new one?",
        }
    ],
    "guards": {"card_order": "slots.customer != null"},
}

INSTRUCTIONS = """\
You answer the telephone of the city bank.
Opening hours: We are open Monday to Friday, nine to five.
Location: We are at twelve Main Street, next to the station.
Fee: Transfers are free.
Never ask for a PIN yourself, and never repeat one."""

PARAMETERS = {
    "type": "object",
    "properties": {
        "request": {
            "type": "string",
            "enum": ["balance", "transfer", "card"],
            "description": "What the caller wants, when it was said.",
        }
    },
}

PHRASES = (
    *("hello", "what is my balance", "my balance please", "i would like to know my balance", "balance"),
    *("i would like to transfer money", "transfer money", "a transfer please", "i lost my card"),
    *("i need a new card", "my card was stolen", "it is stolen", "it is lost", "it is damaged"),
    *("savings", "to savings", "rent", "electricity", "is a transfer free", "what are your opening hours"),
    *("two hundred dollars", "one hundred dollars", "fifty dollars", "nine thousand dollars"),
    *("four eight two nine one three", "two five eight zero", "one two three four"),
    *("yes", "yes please", "no", "no thank you", "that is all", "goodbye", "i want to speak to a person"),
)


def banking_agent(bank: Bank | None = None) -> FastAgent:
    """Make the agent of a bank."""
    bank = Bank() if bank is None else bank
    return FastAgent(
        "banking",
        [
            ACCOUNT,
            Pin(bank),
            Menu(bank),
            Balance(bank),
            TRANSFER_DETAILS,
            ConfirmTransfer(bank),
            CARD_REASON,
            CardOrder(bank),
            Goodbye(SECRETS),
            Human(COLLEAGUE, SECRETS),
            Locked(COLLEAGUE, SECRETS),
            HungUp(SECRETS),
        ],
        "account",
        instructions=INSTRUCTIONS,
        greeting="Hello, this is the city bank. How can I help you?",
        task_name="telephone_banking",
        task_description="Tell the balance, transfer money, replace a lost or stolen card.",
        task_parameters=PARAMETERS,
        transcription_phrases=PHRASES,
        transfer_target=COLLEAGUE,
    )


agent = banking_agent()
