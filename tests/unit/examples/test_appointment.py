"""The appointment agent, in whole conversations on a fixed clock."""

import json
import re
from datetime import UTC, datetime
from unittest.mock import create_autospec

import pytest

from fastagent.afsm import CallControl
from fastagent.examples import appointment
from fastagent.examples.appointment import Calendar, appointment_agent

pytestmark = pytest.mark.anyio

MONDAY_NOON = datetime(2026, 11, 23, 12, 0)
WHEN = "Tuesday the 24th at 3 PM"
BOOKED = f"You are booked for {WHEN}. Is there anything else?"
CLOSED = "We are open from nine to five, and the last appointment is at 4:30 PM. What time would you like?"
GOODBYE = "Thank you for calling. Goodbye."


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Conversation:
    """Talks to the agent as the model would; ``say`` of each report is what the caller hears."""

    def __init__(self, now=MONDAY_NOON):
        self.calendar = Calendar()
        self.control = create_autospec(CallControl, instance=True)
        self.control.caller = "tel:+15550100"
        self.session = appointment_agent(lambda: now, self.calendar).open(self.control)
        self.calls = 0
        self.status = ""

    async def book(self, **arguments):
        return await self._call("book_appointment", arguments)

    async def reply(self, answer):
        return await self._call("task_reply", {"task": "book_appointment", "answer": answer})

    async def _call(self, name, arguments):
        self.calls += 1
        outcome = await self.session.call_function(f"fc{self.calls}", name, json.dumps(arguments))
        report = json.loads(outcome.output)
        self.status = report["status"]
        return report["say"]

    @property
    def booked(self):
        return [(entry.date, entry.time) for entry in self.calendar.appointments]

    @property
    def states(self):
        return [transition.to_state for transition in self.session.transitions]


async def test_whole_booking():
    talk = Conversation()
    assert await talk.book() == "What day would you like?"
    assert await talk.reply("tomorrow") == "What time would you like?"
    assert await talk.reply("three pm") == f"That is {WHEN}. Shall I book it?"
    assert await talk.reply("yes please") == BOOKED
    talk.control.hang_up.assert_not_called()
    assert await talk.reply("no thank you") == GOODBYE
    assert talk.status == "done"
    talk.control.hang_up.assert_called_once_with("completed")
    assert talk.states == ["collect_date", "collect_time", "confirm", "anything_else", "goodbye"]
    details = {"id": "A0001", "date": "2026-11-24", "time": "15:00", "caller": "tel:+15550100"}
    assert talk.session.results == [
        {"task": "book_appointment", "status": "done", "result": {"appointment": details}}
    ]


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        ({"date": "tomorrow"}, "What time would you like?"),
        ({"date": "tomorrow", "time": "three"}, f"That is {WHEN}. Shall I book it?"),
        ({"date": "2026-11-24", "time": "15:00"}, f"That is {WHEN}. Shall I book it?"),
        ({"date": "tomorrow at three pm"}, f"That is {WHEN}. Shall I book it?"),
        ({"time": "three pm"}, "What day would you like?"),
        ({"date": "some day"}, "What day would you like?"),
        ({"date": "sunday", "time": "ten"}, "We are open Monday to Friday. What day would you like?"),
        (
            {"date": "tomorrow", "time": "eight pm"},
            CLOSED,
        ),
    ],
)
async def test_what_was_said_at_the_start_is_not_asked_again(arguments, question):
    assert await Conversation().book(**arguments) == question


async def test_time_said_with_the_start_is_kept_until_the_day_is_known():
    talk = Conversation()
    await talk.book(date="sunday", time="three pm")
    assert await talk.reply("tuesday") == f"That is {WHEN}. Shall I book it?"


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("saturday", "We are open Monday to Friday. What day would you like?"),
        ("2026-11-20", "That day has passed. What day would you like?"),
        ("2028-01-05", "I can book up to one year ahead. What day would you like?"),
        ("banana", "Sorry, I did not get the day. What day would you like?"),
        ("tomorrow at three pm", f"That is {WHEN}. Shall I book it?"),
        ("today", "What time would you like?"),
    ],
)
async def test_answers_to_the_day(answer, question):
    talk = Conversation()
    await talk.book()
    assert await talk.reply(answer) == question


async def test_today_is_refused_when_nothing_is_left_of_it():
    talk = Conversation(MONDAY_NOON.replace(hour=16, minute=30))
    assert await talk.book(date="today") == "There is nothing left today. What day would you like?"


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("eight am", CLOSED),
        ("five", CLOSED),
        ("quarter past two", "Appointments begin on the hour or at half past. What time would you like?"),
        ("banana", "Sorry, I did not get the time. What time would you like?"),
        ("half past two", "That is Tuesday the 24th at 2:30 PM. Shall I book it?"),
        ("at noon", "That is Tuesday the 24th at noon. Shall I book it?"),
        ("rather wednesday", "What time would you like?"),
        ("wednesday at ten", "That is Wednesday the 25th at 10 AM. Shall I book it?"),
        ("on sunday", "We are open Monday to Friday. What day would you like?"),
    ],
)
async def test_answers_to_the_time(answer, question):
    talk = Conversation()
    await talk.book(date="tomorrow")
    assert await talk.reply(answer) == question


@pytest.mark.parametrize("now", [MONDAY_NOON, MONDAY_NOON.replace(tzinfo=UTC)])
async def test_time_that_has_passed_today_is_refused(now):
    talk = Conversation(now)
    await talk.book(date="today")
    assert await talk.reply("ten") == "That time has passed. What time would you like?"
    assert await talk.reply("one") == "That is Monday the 23rd at 1 PM. Shall I book it?"


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ("yes", BOOKED),
        ("that is right", BOOKED),
        ("yes that time is fine", BOOKED),
        ("no", "What shall I change, the day or the time?"),
        ("that is not right", "What shall I change, the day or the time?"),
        ("change the time", "What time would you like?"),
        ("the time please", "What time would you like?"),
        ("no, the day is wrong", "What day would you like?"),
        ("no, four pm", "That is Tuesday the 24th at 4 PM. Shall I book it?"),
        ("no, on wednesday", "That is Wednesday the 25th at 3 PM. Shall I book it?"),
        ("no, on sunday", "We are open Monday to Friday. What day would you like?"),
        ("never mind", "All right, I have not booked it. Is there anything else?"),
        ("cancel", "All right, I have not booked it. Is there anything else?"),
        ("banana", f"Sorry, I did not get that. That is {WHEN}. Shall I book it?"),
    ],
)
async def test_answers_to_the_confirmation(answer, heard):
    talk = Conversation()
    await talk.book(date="tomorrow", time="three pm")
    assert await talk.reply(answer) == heard
    assert talk.booked == ([("2026-11-24", "15:00")] if heard == BOOKED else [])


async def test_change_of_the_day_keeps_the_time():
    talk = Conversation()
    await talk.book(date="tomorrow", time="three pm")
    await talk.reply("no")
    assert await talk.reply("okay, the day") == "What day would you like?"
    assert await talk.reply("wednesday") == "That is Wednesday the 25th at 3 PM. Shall I book it?"


@pytest.mark.parametrize(
    ("answer", "heard", "status"),
    [
        ("no", GOODBYE, "done"),
        ("no thank you", GOODBYE, "done"),
        ("that is all", GOODBYE, "done"),
        ("okay thank you goodbye", GOODBYE, "done"),
        ("yes please", "What day would you like?", "needs_input"),
        ("another appointment", "What day would you like?", "needs_input"),
        ("one on friday", "What time would you like?", "needs_input"),
        ("banana", "Would you like another appointment?", "needs_input"),
    ],
)
async def test_answers_to_anything_else(answer, heard, status):
    talk = Conversation()
    await talk.book(date="tomorrow", time="three pm")
    await talk.reply("yes")
    assert await talk.reply(answer) == heard
    assert talk.status == status


async def test_second_appointment_in_one_call():
    talk = Conversation()
    await talk.book(date="tomorrow", time="three pm")
    await talk.reply("yes")
    await talk.reply("book another one on wednesday at ten")
    assert (await talk.reply("yes")).startswith("You are booked for Wednesday the 25th at 10 AM.")
    await talk.reply("no")
    assert talk.booked == [("2026-11-24", "15:00"), ("2026-11-25", "10:00")]
    (run,) = talk.session.results
    assert run["result"]["appointment"]["id"] == "A0002"
    assert [entry["id"] for entry in run["result"]["earlier_appointments"]] == ["A0001"]


async def test_hanging_up_after_the_booking_keeps_it():
    talk = Conversation()
    await talk.book(date="tomorrow", time="three pm")
    await talk.reply("yes")
    await talk.session.close("caller hung up")
    (run,) = talk.session.results
    assert run["status"] == "cancelled"
    assert run["result"]["appointment"]["time"] == "15:00"
    talk.control.hang_up.assert_not_called()


async def test_calls_at_the_same_time_do_not_mix():
    first = Conversation()
    second = Conversation()
    agent = appointment_agent(lambda: MONDAY_NOON, first.calendar)
    first.session, second.session = agent.open(first.control), agent.open(second.control)
    await first.book(date="tomorrow")
    await second.book(date="wednesday")
    assert await first.reply("three pm") == f"That is {WHEN}. Shall I book it?"
    assert await second.reply("ten am") == "That is Wednesday the 25th at 10 AM. Shall I book it?"
    await first.reply("yes")
    await second.reply("no")
    assert first.booked == [("2026-11-24", "15:00")]


async def test_appointment_does_not_show_the_caller():
    assert "555" not in repr(Calendar().book("2026-11-24", "15:00", "tel:+15550100"))


async def test_agent_carries_facts_greeting_and_hints():
    agent = appointment.agent
    for line in (
        "Opening hours: We are open Monday to Friday, nine to five.",
        "Location: ",
        "Price: ",
        "Greeting: Hello, this is ",
    ):
        assert line in agent.instructions
    assert agent.tools[0]["name"] == "book_appointment"
    assert set(agent.tools[0]["parameters"]["properties"]) == {"date", "time"}
    assert len(set(agent.transcription_phrases)) == len(agent.transcription_phrases)
    for phrase in agent.transcription_phrases:
        assert re.fullmatch(r"[a-z]+(?:[ '][a-z]+)*", phrase)
