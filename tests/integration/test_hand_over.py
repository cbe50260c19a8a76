"""Agents that hand a caller over to one another, and to a person: what goes along, and what is done once."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from fastagent import AFSMState, FastAgent
from fastagent.afsm.effects.rules import effect
from fastagent.afsm.slots import Slot
from fastagent.afsm.voice import VoicePolicy
from fastagent.agent import Task
from fastagent.call.desk import MAX_HAND_OVERS
from fastagent.journal import read_journal
from fastagent.testing.audiocodes_phone import AudioCodesPhone
from tests.integration.scene import Scene, run
from tests.integration.test_state_calls import Talk, say_nothing

PIN = "4711"


class Ask(AFSMState):
    name = "ask"
    description = "Find out what is broken."
    allowed_transitions = ("order", "pass_on")
    slots: ClassVar = {"pin": Slot(str, "Your PIN?", is_redacted=True)}

    async def process(self, input_text, context):
        context.slots["pin"] = PIN
        context.slots["broken"] = input_text
        context.add_salient_fact("customer", "number seven")
        if "bill" in input_text:
            return {"response": "", "next_state": "pass_on", "confidence": 1.0}
        if input_text == "the mixer":
            return {"response": "", "next_state": "order", "confidence": 1.0}
        return {"response": "What is broken?", "next_state": "ask", "confidence": 1.0}


class Order(AFSMState):
    name = "order"
    allowed_transitions = ("end",)
    voice_policy = VoicePolicy(filler_after_ms=200, filler=("Let me see.",))

    def __init__(self, orders: list[str], gate: asyncio.Event) -> None:
        super().__init__()
        self.orders = orders
        self.gate = gate

    @effect(undo="cancel", key="part")
    async def order(self, part: str) -> str:
        await self.gate.wait()
        self.orders.append(part)
        return "ordered"

    async def cancel(self, part: str) -> None:
        self.orders.append(f"not {part}")

    async def process(self, input_text, context):
        await self.effect_runner.run("", self.order, {"part": input_text})
        return {"response": "", "next_state": "end", "confidence": 1.0}


class PassOn(AFSMState):
    name = "pass_on"

    async def process(self, input_text, context):
        assert self.call.hand_over("billing", "it is about a bill")
        return {"response": "My colleague takes over.", "next_state": "pass_on", "confidence": 1.0}


class Shop:
    """Two agents; what the repair desk ordered."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        billing = FastAgent(
            "billing",
            instructions="You are the billing desk.",
            purpose="bills and refunds",
            tasks=[Task("refund", "Refund.", None, [AFSMState("paid", "It is paid back.")], "paid")],
        )
        states = [Ask(), Order(self.orders, self.gate), PassOn(), AFSMState("end", "It is on its way.")]
        self.agent = FastAgent(
            "repairs",
            states,
            "ask",
            instructions="You are the repair desk.",
            task_name="repair",
            task_patience_s=5.0,
            transfer_target="tel:+15550100099",
            colleagues=[billing],
        )


def play(scenario: Callable[[Scene, AudioCodesPhone, Talk, Shop], Any], **settings: Any) -> None:
    async def main(scene: Scene) -> None:
        scene.model.on_response = say_nothing
        phone, session, _ = await scene.call(conversation_id="c1")
        await scenario(scene, phone, Talk(session), shop)

    shop = Shop()
    run(main, agent=shop.agent, **settings)


async def taken_over(talk: Talk, instructions: str) -> str:
    """The note with which the other agent was begun."""
    await talk.session.wait_until(
        lambda one: instructions in one.settings["instructions"], "the other instructions"
    )
    notes = [event["item"] for event in talk.session.sent("conversation.item.create")]
    return [note["content"][0]["text"] for note in notes if note.get("role") == "system"][-1]


def test_the_other_agent_takes_over_with_its_tools_and_what_was_found_out(tmp_path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        assert (await talk.call("repair", request="hello"))["say"] == "What is broken?"
        report = await talk.call("hand_over", to="billing", reason="wants a refund")
        assert report["status"] == "done"
        note = await taken_over(talk, "You are the billing desk.")
        assert "repair desk" not in talk.session.settings["instructions"]
        await talk.tools({"refund", "hand_over", "task_reply", "task_cancel", "end_call"})
        assert "wants a refund" in note
        assert "Find out what is broken." in note
        assert "customer number seven" in note
        assert "broken hello" in note
        assert PIN not in note
        assert (await talk.call("refund"))["status"] == "done"
        # The task of the first agent is over, and its tools are gone.
        assert (await talk.call("repair", request="hello"))["status"] == "error"
        await talk.call("hand_over", to="repairs", reason="something else")
        note = await taken_over(talk, "You are the repair desk.")
        assert "refund done" in note

    play(scenario, journals_dir=str(tmp_path))
    entries = read_journal(tmp_path / "c1.journal").entries()
    assert [entry.data for entry in entries if entry.kind == "handover"] == [
        {"from": "repairs", "to": "billing"},
        {"from": "billing", "to": "repairs"},
    ]


def test_a_state_hands_over_once_its_closing_words_are_told() -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        report = await talk.call("repair", request="my bill is wrong")
        assert (report["status"], report["say"]) == ("done", "My colleague takes over.")
        assert "it is about a bill" in await taken_over(talk, "You are the billing desk.")

    play(scenario)


def test_a_function_call_answered_by_one_agent_is_not_done_again_by_the_other() -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        await talk.settled()
        first = talk.session.call_function("hand_over", {"to": "billing"}, call_id="once")
        await taken_over(talk, "You are the billing desk.")
        await talk.settled()
        second = talk.session.call_function("hand_over", {"to": "billing"}, call_id="once")
        assert first == second
        await talk.settled()
        assert (await talk.call("refund"))["status"] == "done"
        assert "billing desk" in talk.session.settings["instructions"]

    play(scenario)


def test_an_effect_under_way_at_the_hand_over_is_done_once_and_kept(tmp_path) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        shop.gate.clear()
        await talk.settled()
        call_id = talk.session.call_function("repair", {"request": "the mixer"})
        await talk.session.wait_until(
            lambda one: any("Let me see." in str(event) for event in one.sent("response.create")), "a filler"
        )
        # It still works when the caller wants somebody else.
        await talk.call("hand_over", to="billing")
        shop.gate.set()
        await taken_over(talk, "You are the billing desk.")
        items = [event["item"] for event in talk.session.sent("conversation.item.create")]
        [output] = [json.loads(item["output"]) for item in items if item.get("call_id") == call_id]
        assert output["status"] == "done"
        assert shop.orders == ["the mixer"]

    play(scenario, journals_dir=str(tmp_path))
    kinds = [entry.kind for entry in read_journal(tmp_path / "c1.journal").entries()]
    assert kinds.count("effect_intent") == kinds.count("effect_outcome") == 1


def test_agents_that_pass_a_caller_to_and_fro_are_stopped() -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        for number in range(MAX_HAND_OVERS):
            to, words = (("billing", "billing desk"), ("repairs", "repair desk"))[number % 2]
            assert (await talk.call("hand_over", to=to))["status"] == "done"
            await taken_over(talk, f"You are the {words}.")
        assert (await talk.call("hand_over", to="billing"))["status"] == "error"

    play(scenario)


@pytest.mark.parametrize("to", ["nobody", "repairs"])
def test_there_is_no_hand_over_to_strangers_or_to_oneself(to: str) -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        assert (await talk.call("hand_over", to=to))["status"] == "error"

    play(scenario)


def test_a_person_who_takes_over_is_told_where_the_call_stands() -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        await talk.call("repair", request="hello")
        await talk.call("transfer_call", reason="wants a person")
        await phone.wait_until(lambda line: line.transfer is not None, "the transfer")
        params = phone.line.transfer
        assert params is not None
        assert params["handoverReason"] == "wants a person"
        [header] = params["transferSipHeaders"]
        assert header["name"] == "X-Call-Summary"
        summary = unquote(header["value"])
        assert summary.startswith("Reason: wants a person. Under way: repair: Find out what is broken.")
        assert "Last question: What is broken?" in summary
        assert PIN not in summary
        assert header["value"].isascii()

    play(scenario)


def test_an_update_of_a_running_session_holds_only_what_the_state_changes() -> None:
    async def scenario(scene: Scene, phone: AudioCodesPhone, talk: Talk, shop: Shop) -> None:
        await talk.call("repair", request="hello")
        await talk.session.wait_until(lambda one: len(one.sent("session.update")) == 2, "the state's words")
        first, second = (event["session"] for event in talk.session.sent("session.update"))
        assert set(second) == {"type", "instructions"}
        assert second["instructions"].startswith(first["instructions"])  # so that it can be cached
        assert "Find out what is broken." in second["instructions"]

    play(scenario)
