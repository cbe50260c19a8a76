"""Tasks that go on by text message, and back in a call: one conversation, whatever the channel."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fastagent import AFSMState, FastAgent
from fastagent.afsm.effects.rules import effect
from fastagent.examples.appointment import Calendar, appointment_agent
from fastagent.examples.banking import Bank, banking_agent
from fastagent.examples.healthcare import ASK_PAIN, EMERGENCY_ADVICE, Practice, healthcare_agent
from fastagent.journal import read_journal
from fastagent.server.chats.chats import (
    SAY_BY_CALL,
    SAY_CODE,
    SAY_ENOUGH,
    SAY_GO_ON,
    SAY_NO_LINE,
    SAY_NO_MORE_TRIES,
    SAY_NOT_STORED,
    SAY_WRONG_CODE,
)
from fastagent.server.lines import twilio_texts
from fastagent.server.process import RunningServer
from tests.integration.redis_server import RedisServer
from tests.integration.test_continuity import CALLER, welcomed
from tests.integration.test_state_calls import kinds, lines
from tests.integration.test_twilio_texts import OURS, Place, counted, message, play, post, said, until
from tests.written import is_written

TOKEN = "a token of thirty-two characters"
ASK = "Shall I book it?"
BOOKED = "Booked. Anything else?"


async def text(server: RunningServer, body: str, **fields: str) -> str:
    """Write to us, and read the answer."""
    return said(await post(server, message(body, **fields)))


def code_of(place: Place) -> str:
    """Of the last message about a call that was cut off."""
    sent = next(one for one in reversed(place.rest.messages) if "disconnected" in one["body"])
    return str(sent["body"]).rpartition("the code ")[2][:4]


def wrong_of(place: Place) -> str:
    return "0000" if code_of(place) != "0000" else "1111"


async def proved(place: Place, server: RunningServer) -> str:
    """Send the code, and read what is asked."""
    return await text(server, f"BOOK {code_of(place)}")


def chat(tmp_path: Path, scenario: Callable[[Place], Awaitable[None]]) -> None:
    play(tmp_path, scenario)


def serving(place: Place, **settings: Any) -> Any:
    return place.serving(text_channel=True, **settings)


# The story


@pytest.mark.parametrize("carrier", ["audiocodes", "twilio"])
def test_a_booking_goes_on_by_text_across_a_restart_and_is_made_once(tmp_path: Path, carrier: str) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place, audiocodes_tokens=(TOKEN,)) as server:
            if carrier == "twilio":
                await place.cut_off(server)
            else:
                phone, talk = await place.call(server, token=TOKEN)
                await talk.book(until="confirm")
                await phone.hang_up()
                await until(lambda: place.rest.messages)
            [sent] = place.rest.messages
            assert f"or {code_of(place)} to go on by text" in sent["body"]
            assert await text(server, "yes, please") == SAY_CODE
            assert await proved(place, server) == f"{SAY_GO_ON} {ASK}"
        async with serving(place) as server:
            assert await text(server, "yes") == BOOKED
        async with serving(place) as server:
            assert await text(server, "no") == "Goodbye then."
            assert counted(server, "chats_finished") == 1
            # It is over: nobody is asked, rung or welcomed back any more.
            assert await text(server, "hello?") == ""
            assert "no interrupted call" in await text(server, "CALL")
            [record] = (await server.service.store.list()).records
            assert (record.status, record.outcome) == ("ended", "finished_by_text")
            spoken = [line.text for line in await server.service.store.transcript(record.session_id)]
            assert spoken == ["yes", BOOKED, "no", "Goodbye then."]
        assert lines(place.directory / "bookings") == ["book Monday"]
        assert len(place.rest.messages) == 1

    chat(tmp_path, scenario)


def test_from_voice_to_text_to_voice_to_text(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place) as server:
            await place.cut_off(server)
            await proved(place, server)
            assert await text(server, "yes") == BOOKED
            assert "We are calling" in await text(server, "CALL")
            phone, talk = await place.rung(server)
            assert "the code" not in await welcomed(talk)
            report = await talk.call("resume_talk", choice="continue")
            assert report["say"] == f"Good, let us go on. {BOOKED}"
            # Nothing is answered by text while the call has it.
            assert await text(server, "no") == ""
            await phone.hang_up()
            await place.over(server)
            await until(lambda: len(place.rest.messages) == 2)
            # It was another interruption, so the code is wanted anew.
            assert await text(server, "no") == SAY_CODE
            assert await proved(place, server) == f"{SAY_GO_ON} {BOOKED}"
            assert await text(server, "no") == "Goodbye then."
        assert lines(place.directory / "bookings") == ["book Monday"]

    chat(tmp_path, scenario)


def test_the_appointment_example_goes_on_by_text(tmp_path: Path) -> None:
    calendar = Calendar()
    agent = appointment_agent(lambda: datetime(2026, 11, 23, 10), calendar)

    async def scenario(place: Place) -> None:
        async with serving(place, agent=agent, journals_dir="") as server:
            phone, talk = await place.twilio_call(server)
            assert (await talk.call("book_appointment"))["say"] == "What day would you like?"
            await phone.hang_up()
            await until(lambda: place.rest.messages)
            assert await proved(place, server) == f"{SAY_GO_ON} What day would you like?"
            assert await text(server, "Wednesday") == "What time would you like?"
            assert await text(server, code_of(place)) == f"{SAY_GO_ON} What time would you like?"
            assert await text(server, "never") == "Sorry, I did not get the time. What time would you like?"
            assert "Shall I book it?" in await text(server, "at three pm")
            assert "You are booked for" in await text(server, "Yes!")
            assert await text(server, "no thanks") == "Thank you for calling. Goodbye."
            assert await text(server, "yes") == ""
        [appointment] = calendar.appointments
        assert (appointment.date, appointment.time, appointment.caller) == ("2026-11-25", "15:00", CALLER)

    chat(tmp_path, scenario)


def test_values_are_read_back_by_text_and_words_of_an_emergency_count(tmp_path: Path) -> None:
    practice = Practice()

    async def scenario(place: Place) -> None:
        async with serving(place, agent=healthcare_agent(practice)) as server:
            phone, talk = await place.twilio_call(server)
            await talk.call("doctor_appointment", request="I have a headache")
            report = await talk.call("task_reply", task="doctor_appointment", answer="no")
            assert report["say"] == ASK_PAIN
            await phone.hang_up()
            await until(lambda: place.rest.messages)
            assert await proved(place, server) == f"{SAY_GO_ON} {ASK_PAIN}"
            assert await text(server, "6") == "That is 6 of ten. Is that right?"
            assert await text(server, "no, five") == "That is 5 of ten. Is that right?"
            assert await text(server, "Yes.") == "Which day would you like?"
            assert "Shall I book it?" in await text(server, "tuesday morning")
            assert (await text(server, "I have chest pain")).startswith(EMERGENCY_ADVICE)
            assert counted(server, "chat_refused_line") == 1
            assert "booked" in await text(server, "yes please")
        assert len(practice.visits) == 1

    chat(tmp_path, scenario)


def test_what_is_private_at_the_bank_stays_for_the_call(tmp_path: Path) -> None:
    bank = Bank()
    pin = "2580"

    async def scenario(place: Place) -> None:
        async with serving(place, agent=banking_agent(bank)) as server:
            phone, talk = await place.twilio_call(server)
            await talk.call("telephone_banking", request="balance")
            await talk.call("task_reply", task="telephone_banking", answer="482913")
            await phone.hang_up()
            await until(lambda: place.rest.messages)
            assert await proved(place, server) == SAY_BY_CALL
            assert await text(server, pin) == SAY_BY_CALL
            assert counted(server, "chat_refused_call_only") == 2
            assert "We are calling" in await text(server, "CALL")
            phone, talk = await place.rung(server)
            await welcomed(talk)
            assert (await talk.call("resume_talk", choice="continue"))["status"] == "needs_input"
            report = await talk.call("task_reply", task="telephone_banking", answer=pin)
            assert report["say"].startswith("Your balance is 1200 dollars.")
            await phone.hang_up()
            await place.over(server)
        for path in (*place.directory.glob("journals/*"), *place.directory.glob("sessions.db*")):
            assert not is_written(pin, path.read_bytes())

    chat(tmp_path, scenario)


def test_no_money_moves_by_text(tmp_path: Path) -> None:
    bank = Bank()

    async def scenario(place: Place) -> None:
        async with serving(place, agent=banking_agent(bank)) as server:
            phone, talk = await place.twilio_call(server)
            await talk.call("telephone_banking", request="transfer")
            for answer in ("482913", "2580", "savings", "two hundred"):
                report = await talk.call("task_reply", task="telephone_banking", answer=answer)
            assert "Shall I transfer it?" in report["say"]
            await phone.hang_up()
            await until(lambda: place.rest.messages)
            assert await proved(place, server) == SAY_BY_CALL
            assert await text(server, "yes") == SAY_BY_CALL
        assert bank.payments == []

    chat(tmp_path, scenario)


# What goes wrong


def test_a_process_that_dies_in_the_midst_of_a_message_leaves_the_rest_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place) as server:
            await place.cut_off(server)
            await proved(place, server)
            # It booked, and came no further: what it would have stored is lost, and so is its answer.
            with monkeypatch.context() as patch:
                patch.setattr(server.service.continuity.keeper, "put", lambda *_, **__: None)
                assert await text(server, "yes") == BOOKED
            assert lines(place.directory / "bookings") == ["book Monday"]
        async with serving(place) as server:
            store = server.service.store
            [record] = (await store.list()).records
            await store.acquire(record.session_id, "dead", 0.4)
            assert await text(server, "yes") == BOOKED
            assert await text(server, "no") == "Goodbye then."
        assert lines(place.directory / "bookings") == ["book Monday"]

    chat(tmp_path, scenario)


def test_what_is_written_to_a_question_that_was_never_sent_is_no_answer_to_it(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place, text_per_number_day=1) as server:
            await place.cut_off(server)
            await proved(place, server)
            assert await text(server, "yes") == ""
            assert counted(server, "twilio_replies_limited") == 1
        async with serving(place) as server:
            assert await text(server, "yes?") == f"{SAY_GO_ON} {BOOKED}"
            assert await text(server, "no") == "Goodbye then."
        assert lines(place.directory / "bookings") == ["book Monday"]

    chat(tmp_path, scenario)


def test_a_store_that_is_away_costs_the_answer_and_not_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> bool:
        return False

    async def scenario(place: Place) -> None:
        async with serving(place) as server:
            await place.cut_off(server)
            await proved(place, server)
            with monkeypatch.context() as patch:
                patch.setattr(server.service.continuity.keeper, "flush", away)
                assert await text(server, "yes") == SAY_NOT_STORED
            assert counted(server, "chat_refused_store") == 1
            assert await text(server, "no") == f"{SAY_GO_ON} {BOOKED}"
            assert await text(server, "no") == "Goodbye then."
        assert lines(place.directory / "bookings") == ["book Monday"]

    chat(tmp_path, scenario)


# Who is believed


def test_three_wrong_codes_are_the_last_in_every_process(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place, sms_per_number_day=50) as server:
            await place.cut_off(server)
            assert await text(server, wrong_of(place)) == SAY_WRONG_CODE
            assert await text(server, f"code: {wrong_of(place)}") == SAY_WRONG_CODE
        async with serving(place, sms_per_number_day=50) as server:
            assert await text(server, wrong_of(place)) == SAY_NO_MORE_TRIES
            assert await proved(place, server) == ""
            assert counted(server, "chat_refused_tries") == 1
            assert await text(server, code_of(place), From="+15550100009") == ""
        assert lines(place.directory / "bookings") == []

    chat(tmp_path, scenario)


def test_a_machine_that_answers_everything_is_soon_alone(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place, sms_per_number_day=50, text_answers=4) as server:
            await place.cut_off(server)
            away = [await text(server, "I am away until 10:30 on Monday.") for _ in range(4)]
            assert away == [SAY_CODE, SAY_CODE, "", ""]
            assert await proved(place, server) == f"{SAY_GO_ON} {ASK}"
            assert await text(server, "yes") == SAY_ENOUGH
            assert await text(server, "yes") == ""
            assert counted(server, "chat_refused_limit") == 1
        assert lines(place.directory / "bookings") == []

    chat(tmp_path, scenario)


def test_a_proof_holds_for_a_while_and_not_where_none_is_asked_for(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place, text_idle_s=0.001) as server:
            await place.cut_off(server)
            assert await proved(place, server) == f"{SAY_GO_ON} {ASK}"
            assert await text(server, "yes") == SAY_CODE
        async with serving(place, resume_proof="number") as server:
            assert await text(server, "yes") == BOOKED

    chat(tmp_path, scenario)


def test_a_message_counts_once_and_stop_ends_it_all(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with serving(place) as server:
            await place.cut_off(server)
            await proved(place, server)
            yes = message("yes")
            assert said(await post(server, yes)) == BOOKED
            assert (await post(server, yes)).status == 403
        async with serving(place) as server:
            assert (await post(server, yes)).status == 403
            assert "to go on by text" in await text(server, "help")
            assert await text(server, "STOP") == ""
            assert await text(server, "no") == ""
            assert await text(server, code_of(place)) == ""
            # A call goes on all the same.
            _, talk = await place.twilio_call(server)
            await welcomed(talk)
            report = await talk.call("resume_talk", choice="continue", code=code_of(place))
            assert report["say"].endswith(BOOKED)
        assert lines(place.directory / "bookings") == ["book Monday"]

    chat(tmp_path, scenario)


# One at a time


class Booking(AFSMState):
    """Books at a yes, as slowly as the test wants."""

    name = "ask"
    description = "Have it confirmed."
    allowed_transitions = ("more", "person")

    def __init__(self, bookings: list[str]) -> None:
        super().__init__()
        self.bookings = bookings
        self.gate = asyncio.Event()

    @effect(key="what")
    async def book(self, what: str) -> str:
        self.bookings.append(what)
        await self.gate.wait()
        return what

    async def process(self, input_text: str, context: Any) -> Any:
        if input_text == "person":
            return {"response": "", "next_state": "person", "confidence": 1.0}
        if input_text != "yes":
            return {"response": "Shall I?", "next_state": "ask", "confidence": 1.0}
        await self.effect_runner.run("", self.book, {"what": "it"})
        return {"response": "Done. More?", "next_state": "more", "confidence": 1.0}


class More(AFSMState):
    name = "more"
    description = "Ask for more."
    allowed_transitions = ("end",)

    async def process(self, input_text: str, context: Any) -> Any:
        if input_text == "no":
            return {"response": "", "next_state": "end", "confidence": 1.0}
        return {"response": f"More than {input_text}?", "next_state": "more", "confidence": 1.0}


class Person(AFSMState):
    name = "person"
    description = "Put through."

    async def process(self, input_text: str, context: Any) -> Any:
        self.call.transfer("tel:+15550123", "asked for")
        return {"response": "One moment.", "next_state": "person", "confidence": 1.0}


def slow_house(bookings: list[str]) -> tuple[FastAgent, Booking]:
    ask = Booking(bookings)
    states = [ask, More(), Person(), AFSMState("end", "Bye.")]
    return FastAgent("slow", states, "ask", task_name="book"), ask


async def cut_off_at(place: Place, server: RunningServer) -> None:
    phone, talk = await place.twilio_call(server)
    assert (await talk.call("book"))["say"] == "Shall I?"
    await phone.hang_up()
    await until(lambda: place.rest.messages)


def test_what_takes_longer_than_twilio_waits_is_sent_and_a_call_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio_texts, "CHAT_TIMEOUT_S", 0.05)
    bookings: list[str] = []
    agent, ask = slow_house(bookings)

    async def scenario(place: Place) -> None:
        async with serving(place, agent=agent) as server:
            await cut_off_at(place, server)
            ask.gate.set()
            monkeypatch.setattr(twilio_texts, "CHAT_TIMEOUT_S", 8.0)
            await proved(place, server)
            ask.gate.clear()
            monkeypatch.setattr(twilio_texts, "CHAT_TIMEOUT_S", 0.05)
            assert await text(server, "yes") == ""
            _, talk = await place.twilio_call(server)
            await welcomed(talk)
            take, is_wanted = server.service.continuity.take, asyncio.Event()

            async def taken(*arguments: Any, **options: Any) -> Any:
                is_wanted.set()
                return await take(*arguments, **options)

            monkeypatch.setattr(server.service.continuity, "take", taken)
            going_on = asyncio.create_task(talk.call("resume_talk", choice="continue", code=code_of(place)))
            await is_wanted.wait()
            ask.gate.set()
            assert (await going_on)["say"] == "Good, let us go on. Done. More?"
            await until(lambda: counted(server, "twilio_replies_late"))
            [_, late] = place.rest.messages
            assert (late["from"], late["to"], late["body"]) == (OURS, CALLER, "Done. More?")
        assert bookings == ["it"]

    chat(tmp_path, scenario)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_messages_at_once_are_taken_one_after_another_at_two_servers(tmp_path: Path, store: str) -> None:
    bookings: list[str] = []
    agent, ask = slow_house(bookings)
    ask.gate.set()
    redis = RedisServer() if store == "redis" else None
    url = "" if redis is None else redis.url

    async def scenario(place: Place) -> None:
        elsewhere = str(place.directory / ("elsewhere" if redis else "journals"))
        async with (
            serving(place, agent=agent, redis_url=url) as one,
            serving(place, agent=agent, redis_url=url, journals_dir=elsewhere) as other,
        ):
            await cut_off_at(place, one)
            await proved(place, other)
            answers = await asyncio.gather(*(text(server, "yes") for server in (one, other, one)))
            # Who wrote before the next question was there did not answer that one.
            assert sorted(answers) == ["Done. More?", *[f"{SAY_GO_ON} Done. More?"] * 2]
            assert await text(one, "cake") == "More than cake?"
            assert await text(other, "no") == "Bye."
            assert await text(one, "no") == ""
        assert bookings == ["it"]
        # What one of them did, both have on their disks.
        for journal in place.directory.glob("*/*.journal"):
            assert kinds(read_journal(journal).entries()).count("effect_outcome") == 1

    try:
        chat(tmp_path, scenario)
    finally:
        if redis is not None:
            redis.close()


def test_after_stop_nothing_is_answered_that_was_still_worked_on(tmp_path: Path) -> None:
    bookings: list[str] = []
    agent, ask = slow_house(bookings)

    async def scenario(place: Place) -> None:
        async with serving(place, agent=agent) as server:
            await cut_off_at(place, server)
            await proved(place, server)
            answering = asyncio.create_task(text(server, "yes"))
            await until(lambda: bookings)
            assert await text(server, "STOP") == ""
            ask.gate.set()
            assert await answering == ""
        assert bookings == ["it"]

    chat(tmp_path, scenario)


def test_who_wants_a_person_by_text_is_asked_to_call_and_stands_where_they_stood(tmp_path: Path) -> None:
    agent, ask = slow_house([])
    ask.gate.set()

    async def scenario(place: Place) -> None:
        async with serving(place, agent=agent) as server:
            await cut_off_at(place, server)
            await proved(place, server)
            assert await text(server, "person") == f"One moment. {SAY_NO_LINE}"
            assert await text(server, "what?") == "Shall I?"

    chat(tmp_path, scenario)
