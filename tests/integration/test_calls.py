"""Whole calls over real sockets: audio both ways, negotiation, barge-in, pacing, ends, digits, functions."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import uvloop

from fastagent import AFSMState, ConversationContext, FastAgent
from fastagent._native import g711
from fastagent.afsm.state import StateResult
from fastagent.audio.formats import MULAW_8K, PCM16_24K, Encoding
from fastagent.errors import LegClosedError, LegConnectError
from fastagent.testing.audiocodes_phone import LinePhase, PhoneLine
from fastagent.testing.realtime_model import ModelSession
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA
from tests.integration.scene import Scene, chirp, heard, likeness, resampled, run

MEDIA = list(AUDIOCODES_MEDIA)
SPEECH_MS = 240
LEAD_S = 0.4
QUANTUM_S = 0.1


def say_nothing(session: ModelSession) -> None:
    session.finish()


def as_pcm(data: bytes | bytearray, encoding: Encoding) -> bytes:
    return g711.ulaw_decode(bytes(data)) if encoding is Encoding.MULAW else bytes(data)


def is_done(number: int, line: PhoneLine) -> bool:
    return len(line.streams) == number + 1 and line.streams[number].is_done


def has_heard(word: bytes, session: ModelSession) -> bool:
    return word in bytes(session.audio)


# Audio


@pytest.mark.parametrize("media", MEDIA)
def test_caller_audio_arrives_at_the_model_whole_and_in_order(media: str) -> None:
    format = AUDIOCODES_MEDIA[media].format

    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(media)
        words = [chirp(SPEECH_MS, format.sample_rate, low=300 + 400 * k) for k in range(2)]
        for word in words:
            await phone.say(word, format.sample_rate)
            await asyncio.sleep(0.05)
        await phone.hang_up()
        await session.wait_until(lambda one: not one.is_open, "the end of the session")
        sent_ms = phone.line.chunks_sent * 20
        assert len(session.audio) == sent_ms * session.input_format.bytes_per_ms
        if session.input_format == format:
            heard = bytes(session.audio)
            for word in words:
                coded = g711.ulaw_encode(word) if format.encoding is Encoding.MULAW else word
                # Under a WAV header µ-law is decoded and encoded again: its two zeros become one.
                assert coded in heard or coded.replace(b"\x7f", b"\xff") in heard.replace(b"\x7f", b"\xff")
                assert coded in heard or media == "wav/mulaw"
        else:
            assert session.input_format == PCM16_24K
            for word in words:
                reference = resampled(word, format.sample_rate, 24_000)
                assert likeness(session.audio, reference, 24_000) > 0.999

    run(scenario)


@pytest.mark.parametrize("stop_semantics", ["drain", "cut"])
@pytest.mark.parametrize("media", MEDIA)
def test_bot_audio_arrives_at_the_phone_whole_and_in_order(media: str, stop_semantics: str) -> None:
    format = AUDIOCODES_MEDIA[media].format

    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(media, stop_semantics=stop_semantics)
        model = session.output_format
        spoken = []
        for k in range(3):
            pcm = chirp(SPEECH_MS + 7 * k, model.sample_rate, low=300 + 300 * k)
            spoken.append(g711.ulaw_encode(pcm) if model.encoding is Encoding.MULAW else pcm)
            session.speak(spoken[-1])
            await phone.wait_until(partial(is_done, k), "an utterance")
        for stream, said in zip(phone.line.streams, spoken, strict=True):
            heard = tap.audio[stream.stream_id]
            samples = len(said) // model.encoding.bytes_per_sample
            assert (
                len(heard) // format.encoding.bytes_per_sample
                >= samples * format.sample_rate // model.sample_rate
            )
            if model == format:
                assert bytes(heard) == said
            else:
                reference = resampled(as_pcm(said, model.encoding), model.sample_rate, format.sample_rate)
                assert likeness(as_pcm(heard, format.encoding), reference, format.sample_rate) > 0.998
            assert not stream.was_cut

    run(scenario)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_call_works_on_either_event_loop(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call("raw/lpcm16")
        assert await _answers(scene, phone, session)
        await phone.say(chirp(100, 16_000), 16_000)
        await phone.hang_up()
        await session.wait_until(lambda one: not one.is_open, "the end of the session")
        assert len(session.audio) == phone.line.chunks_sent * 20 * 48
        assert len(tap.all_audio) >= 200 * 32

    run(scenario, new_loop=new_loop)


def test_speech_before_the_model_is_there_reaches_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.refuse(503)
        phone = await scene.dial(scene.phone())
        word = chirp(100, 24_000)
        await phone.say(word, 24_000)
        session = await scene.model.session(0)
        await session.wait_until(lambda one: word in bytes(one.audio), "the words of the gap")
        assert len(scene.model.upgrades) == 2

    run(scenario)


# Negotiation


@pytest.mark.parametrize(
    ("offered", "accepted", "model"),
    [
        (("raw/lpcm16", "raw/lpcm16_24", "raw/mulaw"), "raw/lpcm16_24", "audio/pcm"),
        (("raw/lpcm16", "raw/mulaw", "raw/lpcm16_24"), "raw/mulaw", "audio/pcmu"),
        (("wav/lpcm16_24", "raw/mulaw"), "raw/mulaw", "audio/pcmu"),
        (("wav/lpcm16_24", "raw/lpcm16_8"), "raw/lpcm16_8", "audio/pcm"),
        (("wav/mulaw", "wav/lpcm16_24"), "wav/mulaw", "audio/pcmu"),
        (("raw/lpcm16", "raw/lpcm16_8"), "raw/lpcm16", "audio/pcm"),
    ],
)
def test_a_format_both_sides_speak_is_preferred(offered: tuple[str, ...], accepted: str, model: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(formats=offered)
        assert phone.line.media is not None
        assert phone.line.media.name == accepted
        assert session.settings["audio"]["input"]["format"]["type"] == model
        assert session.settings["audio"]["output"]["format"]["type"] == model
        session.speak(session.tone(60))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "a tone")
        assert phone.line.streams[0].media == phone.line.media

    run(scenario)


def test_a_call_without_a_usable_format_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        phone.line.initiate(0.0)
        phone.line.messages_to_send()
        phone.send_raw(
            b'{"type":"session.initiate","conversationId":"c","expectAudioMessages":true,'
            b'"supportedMediaFormats":["audio/wav","raw/opus"]}'
        )
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert "format" in phone.line.error_reason
        assert phone.close_code == 1000
        assert scene.model.upgrades == []

    run(scenario)


def test_a_call_that_wants_text_back_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        phone = await scene.dial(scene.phone(expects_audio=False))
        await phone.wait_ended()
        assert phone.line.phase is LinePhase.FAILED
        assert phone.close_code == 1000

    run(scenario)


def test_both_sides_are_configured_once() -> None:
    agent = FastAgent(
        "bot",
        instructions="Opening hours: nine to five.",
        voice="cedar",
        language="de",
        transcription_phrases=("nine to five",),
        transfer_target="tel:+15550100099",
    )

    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await phone.wait_until(lambda line: "config" in tap.order, "the settings")
        assert phone.line.settings["bargeIn"] is True
        assert phone.line.settings["sendDTMF"] is True
        assert {"playFinished", "noUserInput"} <= set(phone.line.settings["sendEventsToBot"])
        assert tap.order.count("config") == 1
        assert session.updates == 1
        heard, said = session.settings["audio"]["input"], session.settings["audio"]["output"]
        assert heard["format"] == said["format"] == {"type": "audio/pcm", "rate": 24_000}
        assert said["voice"] == "cedar"
        assert heard["transcription"]["model"] == "gpt-4o-mini-transcribe"
        assert heard["transcription"]["language"] == "de"
        assert "nine to five" in heard["transcription"]["prompt"]
        assert heard["turn_detection"]["type"] == "server_vad"
        assert heard["turn_detection"]["interrupt_response"] is True
        assert "Opening hours" in session.settings["instructions"]
        assert {tool["name"] for tool in session.settings["tools"]} == {"end_call", "transfer_call"}
        path, headers = scene.model.upgrades[0]
        assert path.endswith("?model=gpt-realtime")
        assert headers["authorization"] == "Bearer sk-a-key-for-tests"

    run(scenario, agent=agent, openai_api_key="sk-a-key-for-tests")


def test_bot_greets_first() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the greeting")
        [create] = session.sent("response.create")
        assert "Good morning" in create["response"]["instructions"]

    run(scenario, agent=FastAgent("bot", greeting="Good morning, how can I help?"))


# Barge-in and pacing


@pytest.mark.parametrize("stop_semantics", ["drain", "cut"])
@pytest.mark.parametrize("media", ["raw/lpcm16_24", "raw/lpcm16_8", "raw/mulaw"])
def test_barge_in_stops_the_bot_in_order_and_truncates_to_what_was_heard(
    media: str, stop_semantics: str
) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(media, stop_semantics=stop_semantics)
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        item_id = session.speak(session.tone(5_000), is_last=False)
        await phone.wait_until(heard(200), "the answer under way")
        tap.order.clear()
        session.speech_started()
        await phone.wait_until(lambda line: "abortPrompts" in tap.order, "the abort")
        assert [kind for kind in tap.order if kind != "playStream.chunk"] == [
            "userStream.speech.started",
            "playStream.stop",
            "abortPrompts",
        ]
        received_ms = phone.line.streams[0].received_ms
        await session.wait_until(lambda one: one.sent("conversation.item.truncate"), "the truncation")
        [truncate] = session.sent("conversation.item.truncate")
        assert truncate["item_id"] == item_id
        heard_ms = phone.line.streams[0].heard_ms(asyncio.get_running_loop().time())
        assert 0 < truncate["audio_end_ms"] <= heard_ms + 100
        assert session.sent("response.cancel") == []
        cut = session.items[item_id]
        session.speech_stopped("wait")
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the answer")
        assert phone.line.streams[0].was_cut
        assert phone.line.streams[0].received_ms == received_ms
        assert stop_semantics == "cut" or not phone.line.streams[1].was_cut
        assert cut.truncated_ms == truncate["audio_end_ms"]

    run(scenario)


def test_stale_audio_of_a_cut_response_is_not_heard() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        session.speak(session.tone(1_000), is_last=False)
        await phone.wait_until(lambda line: line.streams, "the first audio")
        session.send({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item_u"})
        await phone.wait_until(lambda line: "abortPrompts" in tap.order, "the abort")
        before = len(tap.all_audio)
        session.speak(session.tone(1_000), is_last=False)
        session.finish("cancelled", reason="turn_detected")
        session.speech_stopped("go on")
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the answer")
        answer_bytes = session.output_format.bytes_per_ms * 200
        assert len(tap.all_audio) - before == answer_bytes
        await phone.hang_up()
        summary = await scene.summary()
        assert summary.counters["downlink_stale"] == 10

    run(scenario)


def test_bot_item_that_was_not_heard_at_all_is_deleted() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        first = session.speak(session.tone(2_000))
        second = session.speak(session.tone(500), "And more.")
        await phone.wait_until(heard(100), "the answer under way")
        session.speech_started()
        await session.wait_until(lambda one: second not in one.items, "the deletion")
        assert session.items[first].truncated_ms is not None

    run(scenario)


@pytest.mark.parametrize("media", ["raw/lpcm16_24", "raw/lpcm16_8"])
def test_phone_never_holds_more_than_the_lead(media: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(media)
        format = AUDIOCODES_MEDIA[media].format
        said = chirp(2_500, 24_000)
        session.speak(said)
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the end of it")
        assert tap.most_ahead_s <= LEAD_S + QUANTUM_S
        assert len(phone.line.streams) == 1
        if media == "raw/lpcm16_24":
            assert tap.all_audio == said
        else:
            assert likeness(tap.all_audio, resampled(said, 24_000, format.sample_rate), 8_000) > 0.998

    run(scenario)


def test_ten_seconds_at_once_are_held_back_and_dropped_on_barge_in() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        session.speak(session.tone(10_000))
        await phone.wait_until(heard(300), "the answer under way")
        session.speech_started()
        await phone.wait_until(lambda line: "abortPrompts" in tap.order, "the abort")
        assert tap.most_ahead_s <= LEAD_S + QUANTUM_S
        assert len(tap.all_audio) < session.output_format.bytes_per_ms * 2_000
        session.speech_stopped("never mind")
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the answer")

    run(scenario)


# Ends


def test_bot_hangs_up_only_after_its_goodbye_was_heard() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        scene.model.on_response = _goodbye
        session.call_function("end_call", {"reason": "all done"})
        await phone.wait_ended()
        assert phone.line.end_code == "bot-disconnected"
        assert phone.line.unheard_at_hangup_s == 0
        assert len(tap.all_audio) == session.output_format.bytes_per_ms * 600
        assert tap.order[-1] == "hangup"
        assert phone.close_code == 1000
        summary = await scene.summary()
        assert summary.outcome == "bot"
        [output] = session.sent("conversation.item.create")
        assert output["item"]["type"] == "function_call_output"

    run(scenario)


def _goodbye(session: ModelSession) -> None:
    session.speak(session.tone(600), "Goodbye.")


def test_caller_hangs_up_while_the_bot_speaks() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        session.speak(session.tone(5_000))
        await phone.wait_until(lambda line: line.streams, "the first audio")
        await phone.hang_up()
        assert phone.close_code == 1000
        assert (await scene.summary()).outcome == "caller"
        await session.wait_until(lambda one: not one.is_open, "the end of the session")
        assert session.close_code == 1000

    run(scenario)


@pytest.mark.parametrize("failure", [None, "busy"])
def test_transfer_happens_once_the_words_were_heard(failure: str | None) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(transfer_failure=failure)
        session.call_function("transfer_call", {"reason": "a person, please"})
        await phone.wait_until(lambda line: "transfer" in tap.order, "the transfer")
        assert phone.line.unheard_at_hangup_s == 0
        assert len(tap.all_audio) == session.output_format.bytes_per_ms * 200
        if failure is None:
            await phone.wait_ended()
            assert (await scene.summary()).outcome == "transferred"
        else:
            # The bot tells the caller, and the call goes on.
            await phone.wait_until(
                lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the news"
            )

    run(scenario, agent=FastAgent("bot", transfer_target="tel:+15550100099"))


def test_transfer_that_the_carrier_cannot_do_is_told_and_the_call_goes_on() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        session.call_function("transfer_call", {"reason": "a person, please"})
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the news")
        assert "transfer" not in tap.order
        assert (await _answers(scene, phone, session)) is True

    run(scenario, agent=FastAgent("bot", transfer_target="+15550100099"))


async def _answers(scene: Scene, phone: Any, session: ModelSession) -> bool:
    streams = len(phone.line.streams)
    session.speech_started()
    session.speech_stopped("still there?")
    await phone.wait_until(lambda line: len(line.streams) > streams and line.streams[-1].is_done, "an answer")
    return True


def test_hang_up_that_the_carrier_does_not_confirm_still_ends_the_call() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        setattr(phone.line, "_end", lambda *_: None)  # noqa: B010 - this line never says session.end
        scene.model.on_response = say_nothing
        session.call_function("end_call", {})
        assert (await scene.summary()).outcome == "bot"
        assert "hangup" in tap.order
        await phone.close()

    run(scenario)


# Digits


@pytest.mark.parametrize("spelling", ["DTMF", "dtmf"])
def test_digits_reach_the_model_under_any_spelling(spelling: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(dtmf_name=spelling, collects_dtmf=True)
        await phone.wait_until(lambda line: line.settings.get("sendDTMF"), "the settings")
        assert phone.dtmf("42#")
        await session.wait_until(lambda one: one.sent("conversation.item.create"), "the digits")
        [create] = session.sent("conversation.item.create")
        assert "42#" in create["item"]["content"][0]["text"]
        await session.wait_until(lambda one: one.sent("response.create"), "the wish for an answer")

    run(scenario)


class Pin(AFSMState):
    """Asks for a number, sends it on as digits, closes."""

    name = "pin"
    description = "Asks for the number."
    allowed_transitions = ("sent",)

    async def process(self, input_text: str, context: ConversationContext) -> StateResult:
        if not input_text.isdigit():
            return {"response": "Which number?", "next_state": "pin", "confidence": 1.0}
        context.slots["number"] = input_text
        self.call.send_digits(input_text)
        self.call.send_metadata({"digits": len(input_text)})
        return {"response": "", "next_state": "sent", "confidence": 1.0}


class Sent(AFSMState):
    name = "sent"
    description = "Thank you."
    allowed_transitions = ()


def pin_agent(**options: Any) -> FastAgent:
    return FastAgent("bot", [Pin(), Sent()], "pin", task_name="send_number", **options)


def test_digits_answer_a_waiting_task_and_digits_go_out() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await phone.wait_until(lambda line: line.settings.get("sendDTMF"), "the settings")
        session.call_function("send_number", {"request": "please"})
        await session.wait_until(lambda one: one.sent("response.create"), "the question")
        assert phone.dtmf("1") is True
        await phone.wait_until(lambda line: line.dtmf_heard == "1", "the digits")
        assert "sendMetaData" in tap.order
        await session.wait_until(
            lambda one: any(
                "Thank you" in str(event["item"]) for event in one.sent("conversation.item.create")
            ),
            "the closing words",
        )
        assert [move.to_state for move in scene.witness.transitions] == ["pin", "sent"]

    run(scenario, agent=pin_agent())


# Functions


def test_task_asks_answers_a_side_question_and_reports() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        call_id = session.call_function("send_number", {"request": "send a number"})
        await session.wait_until(lambda one: one.sent("response.create"), "the question")
        [output] = session.sent("conversation.item.create")
        assert output["item"]["call_id"] == call_id
        assert "Which number?" in output["item"]["output"]
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the question")
        # Something else first: the model answers by itself, the task waits.
        assert await _answers(scene, phone, session)
        session.speech_started()
        scene.model.on_response = _reply
        session.speech_stopped("it is 12")
        await session.wait_until(lambda one: len(one.sent("conversation.item.create")) == 2, "the report")
        scene.model.on_response = _goodbye
        report = session.sent("conversation.item.create")[1]["item"]["output"]
        assert '"done"' in report
        assert "Thank you" in report
        await phone.wait_until(lambda line: line.dtmf_heard == "12", "the digits")
        await phone.hang_up()
        summary = await scene.summary()
        assert summary.results == (
            {"task": "send_number", "status": "done", "result": {"number": "12", "request": "send a number"}},
        )
        assert scene.witness.caller == ["still there?", "it is 12"]
        # One response per outcome, none while another ran.
        assert len(session.sent("response.create")) == 2

    run(scenario, agent=pin_agent())


def _reply(session: ModelSession) -> None:
    session.call_function("task_reply", {"task": "send_number", "answer": "12"})


def test_function_that_the_model_repeats_runs_once() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        scene.model.on_response = say_nothing
        session.call_function("send_number", {"request": "x"})
        await session.wait_until(lambda one: one.sent("response.create"), "the question")
        for _ in range(3):
            session.call_function("task_reply", {"task": "send_number", "answer": "77"}, call_id="call_same")
        await session.wait_until(lambda one: len(one.sent("conversation.item.create")) >= 2, "the report")
        await phone.wait_until(lambda line: line.dtmf_heard, "the digits")
        assert await _hears_a_question(session)
        assert phone.line.dtmf_heard == "77"
        assert len(session.sent("conversation.item.create")) == 2

    run(scenario, agent=pin_agent())


async def _hears_a_question(session: ModelSession) -> bool:
    """The client has worked off everything sent to it before."""
    events = len(session.sent("conversation.item.create"))
    session.call_function("no_such_function", {})
    await session.wait_until(
        lambda one: len(one.sent("conversation.item.create")) > events, "an error output"
    )
    last = session.sent("conversation.item.create")[-1]
    assert "no such function" in last["item"]["output"]
    session.events.remove(last)
    return True


# The door


def test_connectivity_check_is_answered() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        await phone.validate()
        assert scene.model.upgrades == []

    run(scenario)


@pytest.mark.parametrize("token", [None, "wrong-token-wrong-token", "rïght-tökên-right-tökên"])
def test_wrong_token_is_answered_401_before_the_upgrade(token: str | None) -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        with pytest.raises(LegConnectError) as error:
            await phone.connect(scene.server.audiocodes_url, token)
        assert error.value.status == 401
        for right in ("correct-token-0001", "correct-token-0002"):
            other = await scene.dial(scene.phone(), right)
            await other.hang_up()

    run(scenario, audiocodes_tokens=("correct-token-0001", "correct-token-0002"))


def test_full_house_is_answered_503_and_has_room_again_afterwards() -> None:
    async def scenario(scene: Scene) -> None:
        first = await scene.dial(scene.phone())
        with pytest.raises(LegConnectError) as error:
            await scene.phone().connect(scene.server.audiocodes_url)
        assert error.value.status == 503
        await first.hang_up()
        await scene.summary()
        second = await scene.dial(scene.phone())
        assert second.line.phase is LinePhase.ACTIVE

    run(scenario, max_sessions=1)


def test_same_conversation_offered_twice_is_refused_and_the_first_goes_on() -> None:
    async def scenario(scene: Scene) -> None:
        first, session, _ = await scene.call(conversation_id="same")
        second = await scene.dial(scene.phone(conversation_id="same"))
        assert second.line.phase is LinePhase.FAILED
        assert await _answers(scene, first, session)

    run(scenario)


# The end of the process


def test_stopping_server_lets_a_call_end_by_itself() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        scene.server.stop()
        session.speak(session.tone(300))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the words")
        await phone.hang_up()
        assert (await scene.summary()).outcome == "caller"

    run(scenario, drain_timeout_s=20.0)


def test_stopping_server_hangs_up_at_the_deadline_and_takes_no_new_calls() -> None:
    async def scenario(scene: Scene) -> None:
        waiting = scene.phone()
        await waiting.connect(scene.server.audiocodes_url)
        phone, _, tap = await scene.call()
        scene.server.stop()
        await phone.wait_ended()
        assert tap.order[-1] == "hangup"
        assert phone.line.end_code == "bot-disconnected"
        assert phone.close_code == 1000
        assert (await scene.summary()).outcome == "drained"
        with pytest.raises(LegConnectError):
            await scene.phone().connect(scene.server.audiocodes_url)
        with pytest.raises(LegClosedError):
            await waiting.wait_until(lambda line: False, "the end of the server")
        assert waiting.close_code == 1001

    run(scenario, drain_timeout_s=0.5)


def test_two_calls_do_not_hear_each_other() -> None:
    async def scenario(scene: Scene) -> None:
        calls = [await scene.call(media) for media in ("raw/lpcm16_24", "raw/mulaw")]
        words = [chirp(150, 24_000, low=400), chirp(150, 8_000, low=900)]
        for (phone, _, _), word, rate in zip(calls, words, (24_000, 8_000), strict=True):
            phone.start_saying(word, rate)
        for (_, session, _), hz in zip(calls, (500, 900), strict=True):
            session.speak(session.tone(200, hz=hz))
        for phone, session, tap in calls:
            await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the words")
            assert tap.all_audio == session.tone(200, hz=500 if session.input_format != MULAW_8K else 900)
        coded = [words[0], g711.ulaw_encode(words[1])]
        for (_, session, _), word in zip(calls, coded, strict=True):
            await session.wait_until(partial(has_heard, word), "the caller")

    run(scenario)


def test_loud_audio_survives_the_conversion_without_wrapping() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call("raw/lpcm16_8")
        soft = np.frombuffer(chirp(200, 8_000), "<i2").astype(np.int32)
        loud = np.clip(soft * 6, -32_768, 32_767).astype("<i2").tobytes()
        await phone.say(loud, 8_000)
        await phone.hang_up()
        await session.wait_until(lambda one: not one.is_open, "the end")
        # A single sample that wraps from one end of the scale to the other would show here.
        assert likeness(session.audio, resampled(loud, 8_000, 24_000), 24_000) > 0.99

    run(scenario)
