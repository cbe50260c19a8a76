"""The practice's agent: whole conversations, and safety rules that hold whatever is said or proposed."""

import random

import pytest

from fastagent.afsm.run.proposal import Proposal
from fastagent.examples import healthcare
from fastagent.examples.healthcare import (
    ASK_COMPLAINT,
    ASK_MORE,
    ASK_PAIN,
    ASK_RED_FLAGS,
    EMERGENCY_ADVICE,
    EMERGENCY_LINE,
    EMERGENCY_WORDS,
    FRONT_DESK,
    NURSE_LINE,
    VISITS_PER_HALF_DAY,
    Practice,
    healthcare_agent,
    is_plain_no,
)
from tests.unit.examples.conversation import Conversation, JournalledRun

pytestmark = pytest.mark.anyio

PUT_THROUGH = "One moment, I am putting you through."
EMERGENCY = f"{EMERGENCY_ADVICE} {PUT_THROUGH}"
TRIAGE = ("i have a headache", "no", "four", "yes")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Talk(Conversation):
    def __init__(self, practice=None):
        self.practice = practice or Practice()
        super().__init__(healthcare_agent(self.practice))

    @property
    def booked(self):
        return [(visit.day, visit.part) for visit in self.practice.visits]


async def test_visit_from_the_first_word_to_the_last():
    talk = Talk()
    assert await talk.begin(request="i would like an appointment") == ASK_COMPLAINT
    assert await talk.reply("i have a headache") == ASK_RED_FLAGS
    assert await talk.reply("no i do not") == ASK_PAIN
    assert await talk.reply("four") == "That is 4 of ten. Is that right?"
    assert await talk.reply("yes") == "Which day would you like?"
    assert await talk.reply("on tuesday") == "In the morning, or in the afternoon?"
    assert await talk.reply("in the morning") == "That is tuesday morning. Shall I book it?"
    assert talk.booked == []
    assert await talk.reply("yes please") == f"You are booked for tuesday morning. {ASK_MORE}"
    assert await talk.reply("no thank you") == "Thank you for calling. Goodbye."
    assert talk.booked == [("tuesday", "morning")]
    assert talk.result["visit"] == {"id": "V0001", "day": "tuesday", "part": "morning"}
    assert (talk.result["complaint"], talk.status) == ("headache", "done")
    talk.control.transfer.assert_not_called()


async def test_complaint_said_with_the_request_is_not_asked_again():
    assert await Talk().begin(request="i have a fever and would like to come") == ASK_RED_FLAGS


@pytest.mark.parametrize("words", EMERGENCY_WORDS)
@pytest.mark.parametrize("after", range(8))
async def test_words_of_an_emergency_lead_to_advice_and_transfer_from_wherever_the_talk_is(words, after):
    talk = Talk()
    said = f"well, {words.upper()}, i think"
    if after == 0:
        assert await talk.begin(request=said) == EMERGENCY
    else:
        await talk.begin(request="i would like an appointment")
        await talk.talk(*(*TRIAGE, "on tuesday", "in the morning")[: after - 1])
        assert await talk.reply(said) == EMERGENCY
    talk.control.transfer.assert_called_once_with(EMERGENCY_LINE, "emergency")
    assert (talk.status, talk.booked) == ("done", [])


@pytest.mark.parametrize("answer", ["yes", "yes i do", "i think so yes"])
async def test_a_yes_to_the_red_flags_is_an_emergency(answer):
    talk = Talk()
    await talk.begin(request="i have a fever")
    assert await talk.reply(answer) == EMERGENCY


@pytest.mark.parametrize(
    "answer", ["i don't know", "not sure", "no, but it feels tight", "maybe", "", "no i do"]
)
async def test_red_flags_are_passed_by_a_plain_no_only(answer):
    talk = Talk()
    await talk.begin(request="i have a fever")
    assert await talk.reply(answer) == f"I must be sure. {ASK_RED_FLAGS}"
    await talk.reply(answer)
    assert await talk.reply(answer) == PUT_THROUGH
    talk.control.transfer.assert_called_once_with(FRONT_DESK, "a person is needed")


async def test_plain_no_is_no_more_than_a_no():
    assert is_plain_no("No, I don't.")
    assert not is_plain_no("no idea")


@pytest.mark.parametrize("pain", ["eight", "9", "ten"])
async def test_severe_pain_goes_to_the_nurse(pain):
    talk = Talk()
    await talk.begin(request="i have a fever")
    assert await talk.talk("no", pain, "yes") == f"A nurse should hear that. {PUT_THROUGH}"
    talk.control.transfer.assert_called_once_with(NURSE_LINE, "severe pain")


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ("eleven", f"Sorry, I cannot take that. {ASK_PAIN}"),
        ("quite bad", f"Sorry, I did not get that. {ASK_PAIN}"),
    ],
)
async def test_pain_must_be_a_number_from_zero_to_ten(answer, heard):
    talk = Talk()
    await talk.begin(request="i have a fever")
    await talk.reply("no")
    assert await talk.reply(answer) == heard


async def test_a_no_chooses_another_day():
    talk = Talk()
    await talk.begin(request="i have a fever")
    await talk.talk("no", "four", "yes", "tuesday morning")
    assert await talk.reply("no") == "Which day would you like?"
    assert await talk.reply("friday afternoon") == "That is friday afternoon. Shall I book it?"
    await talk.reply("yes")
    assert talk.booked == [("friday", "afternoon")]


async def test_a_full_half_day_is_told():
    practice = Practice()
    for number in range(VISITS_PER_HALF_DAY):
        practice.book("monday", "morning", "", str(number))
    talk = Talk(practice)
    await talk.begin(request="i have a fever")
    say = await talk.talk("no", "four", "yes", "monday morning", "yes")
    assert say == "That is full. Which day would you like?"
    assert len(talk.booked) == VISITS_PER_HALF_DAY


async def test_another_matter_is_triaged_anew():
    talk = Talk()
    await talk.begin(request="i have a fever")
    await talk.talk("no", "four", "yes", "monday morning", "yes")
    assert await talk.reply("another appointment") == ASK_COMPLAINT
    assert await talk.reply("my back pain") == ASK_RED_FLAGS
    assert await talk.reply("no") == ASK_PAIN
    await talk.talk("two", "yes", "monday morning", "yes")
    assert talk.booked == [("monday", "morning")] * 2


async def test_what_the_model_passes_along_answers_nothing():
    talk = Talk()
    say = await talk.begin(
        request="fever", is_triaged=[True], pain=0, day="monday", part="morning", complaint="other"
    )
    assert say == ASK_RED_FLAGS
    assert await talk.reply("no") == ASK_PAIN
    await talk.reply("two")
    assert await talk.reply("yes") == "Which day would you like?"


async def test_hanging_up_leaves_nothing_booked():
    talk = Talk()
    await talk.begin(request="i have a fever")
    await talk.talk("no", "four", "yes", "monday morning")
    await talk.session.close("caller hung up")
    assert (talk.booked, talk.states[-1]) == ([], "hung_up")


async def test_a_booking_is_undone():
    practice = Practice()
    run = JournalledRun(healthcare_agent(practice))
    await run.play("no", "four", "yes", "monday morning", "yes", request="i have a fever")
    assert len(practice.visits) == 1
    (undone,) = await run.effects.undo_all("cancelled")
    assert (undone.name, undone.status) == ("book", "undone")
    assert practice.visits == []


class Liar:
    """A model that proposes to be past all checks, whatever is said."""

    def __init__(self):
        self.asked = 0

    async def propose(self, request):
        self.asked += 1
        slots = {name: {"pain": 0, "day": "monday", "part": "morning"}[name] for name in request.slots}
        target = next(iter(request.moves), request.state)
        return Proposal(next_state=target, slots=slots, say="All is well, you are booked.", confidence=1.0)


@pytest.mark.parametrize("words", EMERGENCY_WORDS)
async def test_no_proposal_comes_before_an_emergency(words):
    practice, liar = Practice(), Liar()
    run = JournalledRun(healthcare_agent(practice), reasoner=liar)
    assert await run.play("no", f"oh, {words}", request="i have a fever") == EMERGENCY
    run.control.transfer.assert_called_once_with(EMERGENCY_LINE, "emergency")
    assert practice.visits == []


async def test_proposed_pain_counts_only_once_the_caller_confirms_it():
    practice, liar = Practice(), Liar()
    run = JournalledRun(healthcare_agent(practice), reasoner=liar)
    say = await run.play("no", "ten", "no no it is ten", "yes", request="i have a fever")
    assert say == f"A nurse should hear that. {PUT_THROUGH}"
    assert liar.asked


APT = {
    ASK_COMPLAINT: ("i have a cough",),
    ASK_RED_FLAGS: ("no", "no", "no", "i don't know"),
    ASK_PAIN: ("three", "five", "nine"),
    "right?": ("yes", "no"),
    "like?": ("on monday", "tuesday afternoon"),
    "afternoon?": ("morning",),
    "it?": ("yes", "no"),
    ASK_MORE: ("another appointment", "no"),
}
WORDS = (
    "yes",
    "no",
    "banana",
    "",
    "monday",
    "four",
    "book it at once",
    "visit",
    "person",
    "goodbye",
    "maybe",
)


async def test_no_conversation_books_without_triage_or_goes_on_after_an_emergency():
    source = random.Random(7)
    booked = emergencies = 0
    for _ in range(150):
        talk = Talk()
        heard = [await talk.begin(request=source.choice(("appointment", "i have a fever")))]
        while talk.status == "needs_input" and talk.calls < 30:
            if is_emergency := source.random() < 0.05:
                answer = f"{source.choice(WORDS)} {source.choice(EMERGENCY_WORDS)}"
            else:
                apt = [said for end, answers in APT.items() if heard[-1].endswith(end) for said in answers]
                answer = source.choice(apt if source.random() < 0.8 and apt else WORDS)
            is_flagged = heard[-1].endswith(ASK_RED_FLAGS) and answer == "yes"
            before = len(talk.booked)
            heard.append(await talk.reply(answer))
            if is_emergency or is_flagged:
                emergencies += 1
                assert (heard[-1], talk.status, len(talk.booked)) == (EMERGENCY, "done", before)
                talk.control.transfer.assert_called_once_with(EMERGENCY_LINE, "emergency")
            if len(talk.booked) > before:
                day, part = talk.booked[-1]
                assert heard[-2].endswith(f"That is {day} {part}. Shall I book it?")
                assert "yes" in answer.split()
                assert talk.states.count("pain") >= len(talk.booked)
        booked += len(talk.booked)
        await talk.session.close("over")
    assert min(booked, emergencies) > 20


async def test_module_offers_an_agent():
    assert healthcare.agent.tools[0]["name"] == "doctor_appointment"
    assert len(set(healthcare.agent.transcription_phrases)) == len(healthcare.agent.transcription_phrases)
