"""What a state may do with its call, on both carriers: hand the caller on, hold, press keys."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from fastagent import AFSMState, FastAgent
from fastagent._native import g711
from fastagent.afsm import DigitsEnd, Event, TransferEnd
from fastagent.audio.dtmf import Detector
from fastagent.testing.audiocodes_phone import AudioCodesPhone
from fastagent.testing.realtime_model import ModelSession
from fastagent.testing.twilio_phone import TwilioPhone
from tests.integration.scene import TWILIO, Scene, run
from tests.integration.test_state_calls import Talk, say_nothing

CARRIERS = ("audiocodes", "twilio")
TARGET = "tel:+15550100099"

AnyPhone = AudioCodesPhone | TwilioPhone


class Doer(AFSMState):
    """Does as it is told by the first input; ``outcomes`` holds what came of it."""

    name = "do"
    description = "See to what the caller wants."
    allowed_transitions = ("wait", "sorry")

    def __init__(self, outcomes: list[Any]) -> None:
        super().__init__()
        self.outcomes = outcomes

    async def process(self, input_text, context):
        match input_text:
            case "transfer":
                self.call.transfer(TARGET, "asked for", is_warm=True, summary="A bill of March.")
                return {"response": "I put you through.", "next_state": "wait", "confidence": 1.0}
            case "await":
                self.outcomes.append(await self.call.transfer(TARGET, "asked for"))
                return {"response": self.outcomes[-1].end.value, "next_state": "do", "confidence": 1.0}
            case "nowhere":
                self.outcomes.append(await self.call.transfer("nobody", "asked for"))
                return {"response": self.outcomes[-1].end.value, "next_state": "do", "confidence": 1.0}
            case "hold":
                self.call.hold("ringback")
            case "resume":
                self.call.resume()
            case _:
                self.outcomes.append((await self.call.send_digits(input_text)).end)
        return {"response": "What else?", "next_state": "do", "confidence": 1.0}


class Wait(AFSMState):
    name = "wait"
    allowed_transitions = ("sorry",)
    handles: ClassVar = {Event.TRANSFER_FAILED: "sorry"}

    async def process(self, input_text, context):
        return {"response": "One moment.", "next_state": "wait", "confidence": 1.0}


class Sorry(AFSMState):
    name = "sorry"

    async def process(self, input_text, context):
        return {"response": f"Sorry: {input_text}.", "next_state": "sorry", "confidence": 1.0}


def play(
    scenario: Callable[[Scene, AnyPhone, Talk, list[Any]], Any],
    carrier: str,
    *,
    failure: str = "",
    **settings: Any,
) -> None:
    """Play a scenario on a carrier that hands nobody on for the reason ``failure``."""

    async def main(scene: Scene) -> None:
        scene.model.on_response = say_nothing
        phone: AnyPhone
        session: ModelSession
        if carrier == "twilio":
            phone, session = await scene.twilio_call(dial_status=failure or "completed")
        else:
            phone, session, _ = await scene.call("raw/mulaw", transfer_failure=failure or None)
        await scenario(scene, phone, Talk(session), outcomes)

    outcomes: list[Any] = []
    states = [Doer(outcomes), Wait(), Sorry()]
    agent = FastAgent("bot", states, "do", task_name="do", transfer_target=TARGET, task_patience_s=0.3)
    run(main, agent=agent, **{**(TWILIO if carrier == "twilio" else {}), **settings})


async def back_on_line(phone: AnyPhone) -> None:
    """At Twilio the caller leaves with their line, and is back on another stream."""
    if isinstance(phone, TwilioPhone):
        await phone.wait_ended()
        assert [verb.tag for verb in phone.verbs[-2:]] == ["Dial", "Connect"]
        await phone.come_back()


def notes(session: ModelSession) -> list[str]:
    """What the model was told by the bridge."""
    items = [event["item"] for event in session.sent("conversation.item.create")]
    return [part["text"] for item in items if item.get("role") == "system" for part in item["content"]]


# Transfers


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_state_is_told_that_nobody_took_the_caller_over_and_goes_on(carrier: str) -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        assert (await talk.call("do", request="transfer"))["say"] == "I put you through."
        await back_on_line(phone)
        await talk.session.wait_until(lambda one: "Sorry: busy." in str(notes(one)), "the news")
        assert not any("transfer failed" in note for note in notes(talk.session)), "one of them tells it"
        assert len(scene.model.sessions) == 1, "the same session goes on"
        talk.session.speak(talk.session.tone(200))
        await phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the bot")
        await phone.hang_up()
        assert (await scene.summary()).outcome == "caller"

    play(scenario, carrier, failure="busy")


@pytest.mark.parametrize(
    ("carrier", "failure", "end"),
    [("twilio", "no-answer", TransferEnd.NO_ANSWER), ("audiocodes", "error", TransferEnd.FAILED)],
)
def test_a_state_may_await_its_transfer(carrier: str, failure: str, end: TransferEnd) -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        talk.session.call_function("do", {"request": "await"})
        await back_on_line(phone)
        await talk.session.wait_until(
            lambda one: end in str(one.sent("conversation.item.create")), "the outcome"
        )
        assert [one.end for one in outcomes] == [end]
        assert not outcomes[0].is_answered

    play(
        scenario,
        carrier,
        failure="failed" if (carrier, failure) == ("twilio", "error") else failure,
    )


def test_the_model_is_told_why_where_no_state_waits() -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        assert (await talk.call("transfer_call"))["status"] == "done"
        await back_on_line(phone)
        await talk.session.wait_until(notes, "the news")
        assert notes(talk.session) == [
            "The transfer failed: nobody answered. Tell the caller and ask how else to help."
        ]

    play(scenario, "twilio", failure="no-answer")


def test_what_no_carrier_can_do_is_an_outcome_and_no_exception() -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        assert (await talk.call("do", request="nowhere"))["say"] == "not_supported"
        assert [one.end for one in outcomes] == [TransferEnd.NOT_SUPPORTED]

    play(scenario, "twilio")


def test_whoever_answers_a_warm_transfer_hears_the_summary() -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        assert isinstance(phone, TwilioPhone)
        await talk.call("do", request="transfer")
        await phone.wait_ended()
        assert phone.whispers == ["A bill of March."]
        assert phone.verbs[-1].tag == "Hangup"
        summary = await scene.summary()
        assert (summary.outcome, summary.counters["transfer_answered"]) == ("transferred", 1)
        assert scene.server.service.counters["twilio_whispers"] == 1

    play(scenario, "twilio")


def test_a_caller_who_gives_up_as_it_rings_ends_the_call() -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        await talk.call("do", request="transfer")
        await phone.wait_ended()
        assert (await scene.summary()).outcome == "caller"

    play(scenario, "twilio", failure="canceled")


def test_nobody_else_comes_back_into_a_call() -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        assert isinstance(phone, TwilioPhone)
        answer = await phone.callback("/twilio/dialled", {"DialCallStatus": "busy"})
        assert b"<Hangup" in answer.body, "the call is not away"
        await talk.call("do", request="transfer")
        await phone.wait_ended()
        ticket = dict(phone.parameters)
        await phone.come_back()
        await talk.session.wait_until(notes, "the news")
        other = scene.twilio_phone(call_sid=phone.line.call_sid)
        other._base, other._auth_token, other.stream_url = phone._base, phone._auth_token, phone.stream_url
        other.parameters = ticket
        await other.open_stream()
        await other.initiate()
        await other.wait_until(lambda line: line.is_over, "the refusal")
        assert scene.server.service.counters["twilio_refused_stream_ticket_replayed"] == 1
        assert phone.is_connected

    play(scenario, "twilio", failure="busy")


# Digits and hold


def heard_digits(audio: bytes) -> str:
    detector = Detector(8_000)
    pcm = g711.ulaw_decode(audio)
    return "".join(event.digit for event in detector.process(pcm) if not event.is_end)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_digits_reach_the_far_side(carrier: str) -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        await talk.call("do", request="12#")
        await talk.call("task_reply", task="do", answer="not a key")
        assert outcomes == [DigitsEnd.SENT, DigitsEnd.NOT_SUPPORTED]
        if isinstance(phone, AudioCodesPhone):
            await phone.wait_until(lambda line: line.dtmf_heard == "12#", "the digits")
            return
        await phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the tones")
        stereo = np.frombuffer(phone.recording(8_000), "<i2").reshape(-1, 2)
        assert heard_digits(g711.ulaw_encode(stereo[:, 1].tobytes())) == "12#"

    play(scenario, carrier)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_on_hold_the_caller_hears_music_and_the_model_nothing(carrier: str) -> None:
    async def scenario(scene: Scene, phone: AnyPhone, talk: Talk, outcomes: list[Any]) -> None:
        await talk.call("do", request="hold")
        await phone.wait_until(lambda line: line.streams, "the music")
        session = talk.session
        heard_before = len(session.audio)
        await phone.say(bytes(8_000), 8_000)
        assert len(session.audio) - heard_before <= 160 * 2, "the model hears nothing"
        await talk.call("task_reply", task="do", answer="resume")
        await session.wait_until(lambda one: notes(one) and "on hold" in notes(one)[-1], "the talk")
        heard_before = len(session.audio)
        await phone.say(bytes(8_000), 8_000)
        assert len(session.audio) - heard_before >= 160 * 20, "the model hears the caller again"
        await phone.hang_up()
        counters = (await scene.summary()).counters
        assert counters["holds"] == 1
        assert counters["uplink_on_hold"] >= 20
        assert "uplink_backlog_dropped" not in counters

    play(scenario, carrier)
