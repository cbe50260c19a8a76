"""The shop's agent: whole conversations, and rules that hold whatever is said."""

import random

import pytest

from fastagent.examples import retail
from fastagent.examples.retail import ASK_MENU, ASK_MORE, ASK_ZIP, SERVICE_DESK, Shop, retail_agent
from tests.unit.examples.conversation import Conversation, JournalledRun

pytestmark = pytest.mark.anyio

PLACED, DELIVERED, SHIPPED = "40217", "40218", "40219"
SPOKEN = {
    PLACED: "four zero two one seven",
    DELIVERED: "four zero two one eight",
    SHIPPED: "four zero two one nine",
}
ZIP = "one oh double one five"
TOO_LATE = f"The day of that order cannot be changed any more. {ASK_MORE}"
NOT_DELIVERED = f"Only an order that was delivered can be returned. {ASK_MORE}"
ASK_REASON = "Is it broken, the wrong size, or not needed?"
ASK_REFUND = "Would you like your money back?"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Talk(Conversation):
    def __init__(self, shop=None):
        self.shop = shop or Shop()
        super().__init__(retail_agent(self.shop))

    async def opened(self, number, **arguments):
        await self.begin(**arguments)
        return await self.talk(SPOKEN[number], ZIP)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (PLACED, "Your order is packed and comes on friday."),
        (SHIPPED, "Your order is on its way and comes on tuesday."),
        (DELIVERED, "Your order was delivered on monday."),
    ],
)
async def test_status_from_the_first_word_to_the_last(number, words):
    talk = Talk()
    assert await talk.begin(request="status") == "What is your five digit order number?"
    assert await talk.reply(SPOKEN[number]) == f"Order {' '.join(number)}. {ASK_ZIP}"
    assert await talk.reply(ZIP) == f"{words} {ASK_MORE}"
    assert await talk.reply("no thank you") == "Thank you for calling. Goodbye."
    assert talk.states == ["order", "zip_code", "menu", "status", "menu", "goodbye"]
    assert talk.result == {"status": talk.shop.state(number)}


async def test_number_and_zip_by_keypad():
    talk = Talk()
    await talk.begin()
    assert (await talk.press(PLACED)).endswith(ASK_ZIP)
    assert await talk.press("10115") == f"Thank you. {ASK_MENU}"


async def test_day_is_changed_after_a_yes():
    talk = Talk()
    assert await talk.opened(PLACED, request="change") == "Which day would you like?"
    assert await talk.reply("on sunday") == "We deliver from Monday to Friday. Which day would you like?"
    assert await talk.reply("on tuesday") == "Shall it come on tuesday?"
    assert talk.shop.day(PLACED) == "friday"
    assert await talk.reply("banana") == "Please say yes or no. Shall it come on tuesday?"
    assert await talk.reply("yes") == f"I have changed it to tuesday. {ASK_MORE}"
    assert talk.shop.day(PLACED) == "tuesday"
    await talk.talk("change the day", "on monday", "no", "no")
    assert talk.shop.day(PLACED) == "tuesday"
    assert talk.result["delivery"] == "tuesday"


@pytest.mark.parametrize("number", [SHIPPED, DELIVERED])
async def test_day_of_an_order_under_way_stays(number):
    assert await Talk().opened(number, request="change") == TOO_LATE


async def test_return_is_registered_after_a_yes_and_once():
    talk = Talk()
    assert await talk.opened(DELIVERED, request="return") == ASK_REASON
    assert await talk.reply("it has the wrong size") == ASK_REFUND
    question = "It is wrong size, and you get your money. Shall I register the return?"
    assert await talk.reply("yes please") == question
    assert talk.shop.state(DELIVERED) == "delivered"
    assert await talk.reply("yes") == f"Your return is registered, and a label is in your mail. {ASK_MORE}"
    assert talk.shop.state(DELIVERED) == "returned"
    assert await talk.reply("return it again") == NOT_DELIVERED
    await talk.reply("no")
    assert talk.result["return"] == "R0001"


async def test_a_return_without_refund_is_read_back_so():
    talk = Talk()
    await talk.opened(DELIVERED, request="return")
    assert await talk.reply("broken") == ASK_REFUND
    say = await talk.reply("no")
    assert say == "It is broken, and you get a new one. Shall I register the return?"
    assert await talk.reply("no") == f"All right, nothing is returned. {ASK_MORE}"
    assert talk.shop.state(DELIVERED) == "delivered"


@pytest.mark.parametrize("number", [PLACED, SHIPPED])
async def test_what_was_not_delivered_does_not_come_back(number):
    assert await Talk().opened(number, request="return") == NOT_DELIVERED


async def test_wrong_zip_opens_nothing_and_goes_to_a_person_in_the_end():
    talk = Talk()
    await talk.begin(request="return")
    await talk.reply(SPOKEN[DELIVERED])
    assert await talk.reply("one two three four five") == f"I find no such order. {ASK_ZIP}"
    assert await talk.reply("let me in") == f"I find no such order. {ASK_ZIP}"
    assert await talk.reply("one") == "One moment, I am putting you through."
    talk.control.transfer.assert_called_once_with(SERVICE_DESK, "a person is needed")


async def test_an_unknown_order_sounds_like_a_wrong_zip():
    talk = Talk()
    await talk.begin()
    assert await talk.talk("one one one one one", ZIP) == f"I find no such order. {ASK_ZIP}"


async def test_what_the_model_passes_along_opens_nothing():
    talk = Talk()
    await talk.begin(request="return", opened={"number": DELIVERED}, order=DELIVERED, reason="broken")
    while talk.status == "needs_input":
        await talk.reply("yes")
    assert talk.states[-1] == "human"
    assert "menu" not in talk.states


async def test_a_person_is_fetched_from_the_menu():
    talk = Talk()
    await talk.opened(PLACED)
    assert await talk.reply("a person please") == "One moment, I am putting you through."


async def test_hanging_up_before_the_yes_changes_nothing():
    talk = Talk()
    await talk.opened(PLACED, request="change")
    await talk.reply("on tuesday")
    await talk.session.close("caller hung up")
    assert (talk.shop.day(PLACED), talk.states[-1]) == ("friday", "hung_up")


async def test_changes_and_returns_are_undone():
    shop = Shop()
    run = JournalledRun(retail_agent(shop))
    changes = ("tuesday", "yes", "change the day", "monday", "yes")
    await run.play(SPOKEN[PLACED], ZIP, *changes, request="change")
    assert shop.day(PLACED) == "monday"
    undone = await run.effects.undo_all("cancelled")
    assert [(one.name, one.status) for one in undone] == [("change_day", "undone")] * 2
    assert shop.day(PLACED) == "friday"

    run = JournalledRun(retail_agent(shop))
    await run.play(SPOKEN[DELIVERED], ZIP, "broken", "yes", "yes", request="return")
    assert shop.state(DELIVERED) == "returned"
    await run.effects.undo_all("cancelled")
    assert shop.state(DELIVERED) == "delivered"


async def test_the_same_key_does_nothing_twice():
    shop = Shop()
    assert shop.take_back(DELIVERED, "key") == shop.take_back(DELIVERED, "key") == "R0001"
    assert shop.change_day(PLACED, "monday", "other") == shop.change_day(PLACED, "monday", "other")
    shop.restore_day(PLACED, "other")
    shop.restore_day(PLACED, "other")
    assert shop.day(PLACED) == "friday"


class WatchedShop(Shop):
    """Writes down what was done without its ZIP code, or without a yes to just this."""

    def __init__(self):
        super().__init__()
        self.heard = self.answer = ""
        self.opened = set()
        self.faults = []
        self.changes = self.returns = 0

    def open(self, number, zip_code):
        if number in SPOKEN and zip_code == "10115":
            self.opened.add(number)
        return super().open(number, zip_code)

    def change_day(self, number, day, key):
        self.changes += 1
        self.watch(number, f"Shall it come on {day}?", "placed")
        return super().change_day(number, day, key)

    def take_back(self, number, key):
        self.returns += 1
        self.watch(number, "Shall I register the return?", "delivered")
        return super().take_back(number, key)

    def watch(self, number, question, state):
        is_asked = self.heard.endswith(question) and "yes" in self.answer.split()
        if not (is_asked and number in self.opened and self.state(number) == state):
            self.faults.append((number, self.heard, self.answer))


APT = {
    "number?": tuple(SPOKEN.values()),
    "goes to?": (ZIP, ZIP, "one two three four five"),
    "return it?": ("status", "another day", "return"),
    "else?": ("status", "change the day", "return it", "no"),
    "like?": ("monday", "tuesday"),
    "needed?": ("broken", "wrong size"),
    "back?": ("yes", "no"),
    "day?": ("yes", "no"),
    "return?": ("yes", "no", "yes"),
}
WORDS = ("yes", "no", "banana", "", "open it anyway", "the order is mine", "return", "change", "person", ZIP)


async def test_no_conversation_touches_an_order_without_its_zip_and_a_yes():
    source = random.Random(11)
    changes = returns = strangers = 0
    for _ in range(150):
        shop = WatchedShop()
        talk = Talk(shop)
        shop.heard = await talk.begin(request=source.choice(("status", "change", "return")))
        while talk.status == "needs_input" and talk.calls < 25:
            apt = [said for end, answers in APT.items() if shop.heard.endswith(end) for said in answers]
            shop.answer = source.choice(apt if source.random() < 0.8 and apt else WORDS)
            shop.heard = await talk.reply(shop.answer)
        assert shop.faults == []
        changes, returns = changes + shop.changes, returns + shop.returns
        strangers += not shop.opened
        await talk.session.close("over")
    assert min(changes, returns, strangers) > 5


async def test_module_offers_an_agent():
    assert retail.agent.tools[0]["name"] == "order_service"
    assert len(set(retail.agent.transcription_phrases)) == len(retail.agent.transcription_phrases)
