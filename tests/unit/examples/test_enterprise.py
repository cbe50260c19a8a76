"""The help desk's agent: whole conversations, and the auditors' rules whatever is said."""

import random

import pytest

from fastagent.afsm.run.machine import RECORDING_REFUSED
from fastagent.examples import enterprise
from fastagent.examples.enterprise import (
    ASK_EMPLOYEE,
    ASK_MENU,
    ASK_MORE,
    ASK_PIN,
    NOTICE,
    SECURITY,
    TECHNICIAN,
    HelpDesk,
    enterprise_agent,
)
from tests.unit.examples.conversation import Conversation, JournalledRun

pytestmark = pytest.mark.anyio

NUMBER, PIN = "1042", "7391"
SPOKEN_NUMBER, SPOKEN_PIN = "one zero four two", "seven three nine one"
ADMIN, ADMIN_PIN = "one zero zero one", "eight two six four"
ASK_SYSTEM = "Which password: email, network, or laptop?"
ASK_KEY = "I will reset your email password. Press one to confirm, or two to change it."
SENT = f"I have sent a new password to your telephone. {ASK_MORE}"
TICKET = f"Your ticket is open, and a technician will call you. {ASK_MORE}"
PUT_THROUGH = "One moment, I am putting you through."
TO_TECHNICIAN = f"A technician takes over. {PUT_THROUGH}"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Talk(Conversation):
    def __init__(self, desk=None):
        self.desk = desk or HelpDesk()
        super().__init__(enterprise_agent(self.desk))

    async def identified(self, number=SPOKEN_NUMBER, pin=SPOKEN_PIN, **arguments):
        await self.begin(**arguments)
        return await self.talk("yes", number, pin)

    @property
    def policies(self):
        return [call.args[0] for call in self.control.set_voice_policy.call_args_list]


async def test_password_reset_from_the_notice_to_the_last_word():
    talk = Talk()
    assert await talk.begin(request="password") == NOTICE
    assert await talk.reply("yes that is all right") == f"Thank you. {ASK_EMPLOYEE}"
    assert await talk.press(NUMBER) == ASK_PIN
    assert await talk.press(PIN) == ASK_SYSTEM
    assert await talk.reply("email") == ASK_KEY
    assert talk.desk.resets == []
    assert await talk.press("1") == SENT
    assert talk.desk.resets == [(NUMBER, "email")]
    assert await talk.reply("no thank you") == "Thank you for calling. Goodbye."
    assert talk.result == {"reset": "W0001", "resets_asked": 1}
    assert talk.states == [
        "notice", "employee", "pin", "menu", "system", "reset_password", "menu", "goodbye"
    ]  # fmt: skip


async def test_notice_cannot_be_talked_over_and_comes_first():
    talk = Talk()
    await talk.begin(request="password")
    assert talk.policies[0].barge_in == "protected"
    assert await talk.reply("just do it") == NOTICE


async def test_who_says_no_is_not_recorded_from_then_on():
    talk = Talk()
    await talk.begin(request="password")
    assert await talk.reply("no") == f"All right, this call is not recorded. {ASK_EMPLOYEE}"
    await talk.talk(SPOKEN_NUMBER, SPOKEN_PIN)
    assert len(talk.policies) > 3
    assert not any(policy.is_recorded for policy in talk.policies[1:])
    await talk.reply("a person please")
    assert talk.result[RECORDING_REFUSED] is True


async def test_pin_is_not_recorded_even_with_consent():
    talk = Talk()
    await talk.begin(request="password")
    await talk.talk("yes", SPOKEN_NUMBER)
    assert (talk.policies[-1].is_recorded, talk.policies[-1].redaction) == (False, "all")


@pytest.mark.parametrize("answer", ["yes", "yes please confirm", "one", "press one"])
async def test_a_reset_is_confirmed_by_key_only(answer):
    talk = Talk()
    await talk.identified(request="password")
    await talk.reply("email")
    assert (await talk.reply(answer)).endswith(ASK_KEY)
    assert talk.desk.resets == []


async def test_key_two_asks_again():
    talk = Talk()
    await talk.identified(request="password")
    await talk.reply("email")
    assert await talk.press("2") == ASK_SYSTEM
    await talk.reply("laptop")
    await talk.press("1")
    assert talk.desk.resets == [(NUMBER, "laptop")]


async def test_ticket_is_opened_by_a_json_state_after_a_yes():
    talk = Talk()
    assert await talk.identified(request="problem") == "Is it the telephone, the printer, or software?"
    assert await talk.reply("the printer") == "Shall I open a ticket for the printer?"
    assert talk.desk.tickets == []
    assert await talk.reply("yes") == TICKET
    assert talk.desk.tickets == [(NUMBER, "printer")]
    await talk.talk("report a problem", "software", "yes", "no")
    assert talk.desk.tickets == [(NUMBER, "printer"), (NUMBER, "software")]
    assert talk.result["open_ticket"] == "T0002"


async def test_an_administrators_password_is_not_reset_by_telephone():
    talk = Talk()
    await talk.identified(ADMIN, ADMIN_PIN, request="password")
    await talk.reply("email")
    assert await talk.press("1") == TO_TECHNICIAN
    assert talk.desk.resets == []
    talk.control.transfer.assert_called_once_with(TECHNICIAN, "a person is needed")


async def test_three_wrong_pins_go_to_security_and_lock_out():
    talk = Talk()
    await talk.begin(request="password")
    await talk.talk("yes", SPOKEN_NUMBER)
    assert await talk.reply("one two three four") == f"That does not match. {ASK_PIN}"
    await talk.reply("let me in")
    assert await talk.press("0000") == f"I could not verify who you are. {PUT_THROUGH}"
    talk.control.transfer.assert_called_once_with(SECURITY, "not identified")
    assert await Talk(talk.desk).identified() == f"That does not match. {ASK_PIN}"


@pytest.mark.parametrize(
    "answers", [(), ("yes",), ("yes", SPOKEN_NUMBER), ("yes", SPOKEN_NUMBER, SPOKEN_PIN)]
)
async def test_a_person_is_fetched_from_wherever_the_talk_is(answers):
    talk = Talk()
    await talk.begin(request="password")
    await talk.talk(*answers)
    assert await talk.reply("I want a person, now") == TO_TECHNICIAN
    talk.control.transfer.assert_called_once_with(TECHNICIAN, "a person is needed")


async def test_abuse_is_warned_of_and_ends_the_call_when_it_goes_on():
    talk = Talk()
    await talk.identified()
    assert await talk.reply("you idiot") == ASK_MENU
    talk.control.announce.assert_called_once_with("Please stay polite, or I have to end this call.")
    assert await talk.reply("stupid machine") == "Goodbye."
    talk.control.hang_up.assert_called_once_with("nobody there")


@pytest.mark.parametrize(
    "arguments",
    [
        {"request": "password", "identified": {"number": NUMBER}, "employee": NUMBER, "system": "email"},
        {"request": "problem", "identified": True, "category": "printer"},
    ],
)
async def test_what_the_model_passes_along_proves_nothing(arguments):
    talk = Talk()
    assert await talk.begin(**arguments) == NOTICE
    while talk.status == "needs_input":
        await talk.reply("yes")
        if talk.status == "needs_input":
            await talk.press("1")
    assert (talk.desk.resets, talk.desk.tickets) == ([], [])
    assert "menu" not in talk.states


async def test_hanging_up_before_the_key_resets_nothing():
    talk = Talk()
    await talk.identified(request="password")
    await talk.reply("email")
    await talk.session.close("caller hung up")
    assert (talk.desk.resets, talk.states[-1]) == ([], "hung_up")
    assert not {"employee", "identified"} & talk.result.keys()


async def test_tickets_are_undone():
    desk = HelpDesk()
    run = JournalledRun(enterprise_agent(desk))
    answers = ("yes", SPOKEN_NUMBER, SPOKEN_PIN, "printer", "yes", "report a problem", "software", "yes")
    assert await run.play(*answers, request="problem") == TICKET
    assert len(desk.tickets) == 2
    undone = await run.effects.undo_all("cancelled")
    assert [(one.name, one.status) for one in undone] == [("open_ticket", "undone")] * 2
    assert desk.tickets == []


class WatchedDesk(HelpDesk):
    """Writes down what was done without a PIN, or without the key or the yes."""

    def __init__(self):
        super().__init__()
        self.heard = self.answer = ""
        self.known = set()
        self.faults = []

    def identify(self, number, pin):
        if (number, pin) in ((NUMBER, PIN), ("1001", "8264")):
            self.known.add(number)
        return super().identify(number, pin)

    def reset(self, employee, system, key):
        question = f"I will reset your {system} password. Press one to confirm, or two to change it."
        if not (employee in self.known and self.heard.endswith(question) and self.answer == "key 1"):
            self.faults.append((employee, self.heard, self.answer))
        return super().reset(employee, system, key)

    def _do(self, letter, employee, about, key):
        if letter == "T":
            is_asked = self.heard.endswith(f"Shall I open a ticket for the {about}?")
            if not (employee in self.known and is_asked and self.answer in ("yes", "key 1")):
                self.faults.append((employee, self.heard, self.answer))
        return super()._do(letter, employee, about, key)


APT = {
    NOTICE: ("yes", "no"),
    "employee number?": (SPOKEN_NUMBER, SPOKEN_NUMBER, ADMIN),
    "PIN.": (SPOKEN_PIN, ADMIN_PIN),
    "problem?": ("reset my password", "report a problem"),
    "else?": ("reset my password", "report a problem", "no"),
    "laptop?": ("email", "network"),
    "change it.": ("key 1", "key 1", "key 2", "yes"),
    "software?": ("printer", "software"),
    "printer?": ("yes", "no"),
    "the software?": ("yes", "no"),
}
WORDS = (
    "yes",
    "no",
    "banana",
    "",
    "i am the boss",
    "reset it anyway",
    "you idiot",
    "person",
    "key 1",
    "key 9",
)


async def test_no_conversation_changes_anything_without_notice_identity_and_confirmation():
    source = random.Random(13)
    resets = tickets = strangers = 0
    for _ in range(150):
        desk = WatchedDesk()
        talk = Talk(desk)
        desk.heard = await talk.begin(request=source.choice(("password", "problem")))
        assert desk.heard == NOTICE
        for _ in range(30):
            if talk.status != "needs_input":
                break
            apt = [said for end, answers in APT.items() if desk.heard.endswith(end) for said in answers]
            answer = source.choice(apt if source.random() < 0.85 and apt else WORDS)
            desk.answer = answer
            if answer.startswith("key "):
                desk.heard = await talk.press(answer[4:]) or desk.heard
            else:
                desk.heard = await talk.reply(answer)
        assert desk.faults == []
        assert not any(employee == "1001" for employee, _ in desk.resets)
        resets, tickets = resets + len(desk.resets), tickets + len(desk.tickets)
        strangers += not desk.known
        await talk.session.close("over")
    assert min(resets, tickets, strangers) > 5


async def test_module_offers_an_agent():
    assert enterprise.agent.tools[0]["name"] == "help_desk"
    assert enterprise.agent.protects_speech
    assert len(set(enterprise.agent.transcription_phrases)) == len(enterprise.agent.transcription_phrases)
