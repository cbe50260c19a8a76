"""The caller over the bot on whole calls: real speech, real echo, through sockets."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
import soxr

from fastagent import FastAgent
from fastagent._native.g711 import alaw_encode, ulaw_encode
from fastagent.afsm import AFSMState, VoicePolicy
from fastagent.audio import wav
from fastagent.audio.formats import Encoding
from fastagent.local.prerendered import Prompts
from fastagent.testing.realtime_model import ModelSession
from tests.integration.scene import Scene, heard, run

BOT_TEXT = "Appointments begin on the hour or at half past. All right, I have not booked it."
CALLER_TEXT = "Appointments begin on the hour or at half past."
RATES = {"raw/lpcm16_24": 24_000, "raw/lpcm16": 16_000, "raw/lpcm16_8": 8_000, "raw/mulaw": 8_000}


def speech(text: str, rate: int, seconds: float | None = None, *, db: float = 0.0) -> bytes:
    samples, own_rate = Prompts().render(text, "", 1.0)
    if seconds is not None:
        samples = np.tile(samples, int(seconds * own_rate / len(samples)) + 1)[: int(seconds * own_rate)]
    wave = soxr.resample(samples.astype(np.float32) * 10 ** (db / 20), own_rate, rate, quality="HQ")
    pcm: bytes = np.clip(wave, -32768, 32767).astype("<i2").tobytes()
    return pcm


def hum(rate: int, ms: int = 260) -> bytes:
    """A voiced "mm": the shortest of answers."""
    samples, own_rate = Prompts().render("Are you still there?", "", 1.0)
    loud = int(np.argmax(np.abs(samples) > 2000))
    piece = samples[loud : loud + own_rate * ms // 1000].astype(np.float32)
    pcm: bytes = soxr.resample(piece, own_rate, rate, quality="HQ").astype("<i2").tobytes()
    return pcm


def bot_speech(session: ModelSession, seconds: float) -> bytes:
    """In the format the session wants."""
    format = session.output_format
    pcm = speech(BOT_TEXT, format.sample_rate, seconds)
    if format.encoding is Encoding.MULAW:
        return ulaw_encode(pcm)
    return alaw_encode(pcm) if format.encoding is Encoding.ALAW else pcm


@pytest.mark.parametrize("media", list(RATES))
def test_the_bots_own_echo_stops_nothing(media: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(media, echo_db=-15.0, echo_delay_ms=140, comfort_noise_peak=8)
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        session.speak(bot_speech(session, 4.0))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the whole answer")
        assert "abortPrompts" not in tap.order
        assert not phone.line.streams[0].was_cut
        await phone.hang_up()
        counters = (await scene.summary()).counters
        assert "barge_ins" not in counters

    run(scenario, barge_in="local")


@pytest.mark.parametrize("stop_semantics", ["drain", "cut"])
@pytest.mark.parametrize("media", list(RATES))
def test_a_caller_who_goes_on_takes_the_turn(media: str, stop_semantics: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(
            media, echo_db=-25.0, comfort_noise_peak=8, stop_semantics=stop_semantics
        )
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        item_id = session.speak(bot_speech(session, 8.0), is_last=False)
        await phone.wait_until(heard(2_500), "the answer under way")
        phone.start_saying(speech(CALLER_TEXT, RATES[media]), RATES[media])
        await phone.wait_until(lambda line: "abortPrompts" in tap.order, "silence")
        now = asyncio.get_running_loop().time()
        heard_ms = phone.line.streams[0].heard_ms(now)
        told = [kind for kind in tap.order if kind != "playStream.chunk"]
        assert told[-3:] == ["userStream.speech.started", "playStream.stop", "abortPrompts"]
        await session.wait_until(lambda one: one.sent("conversation.item.truncate"), "the truncation")
        [truncate] = session.sent("conversation.item.truncate")
        assert truncate["item_id"] == item_id
        assert truncate["audio_end_ms"] == pytest.approx(heard_ms, abs=20)
        assert session.sent("response.cancel")
        assert session.settings["audio"]["input"]["turn_detection"]["interrupt_response"] is False

    run(scenario, barge_in="local")


@pytest.mark.parametrize(
    ("media", "chunk_ms"), [("raw/lpcm16_24", 20), ("raw/mulaw", 20), ("raw/mulaw", 100)]
)
def test_after_a_backchannel_the_bot_goes_on_and_nothing_is_lost(media: str, chunk_ms: int) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(media, echo_db=-25.0, comfort_noise_peak=8, chunk_ms=chunk_ms)
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        audio = bot_speech(session, 6.0)
        session.speak(audio)
        await phone.wait_until(heard(2_500), "the answer under way")
        phone.start_saying(hum(RATES[media]), RATES[media])
        await phone.wait_until(lambda line: len(line.streams) == 2, "the rest of the answer")
        await phone.wait_until(lambda line: line.streams[1].is_done, "its end")
        first, second = phone.line.streams
        heard_ms = first.received_ms - first.cut_ms + second.received_ms
        assert heard_ms == pytest.approx(6000, abs=40), "the bot goes on at the sample where it was held"
        assert not second.was_cut
        assert session.sent("conversation.item.truncate") == []
        assert session.sent("response.cancel") == []
        await phone.hang_up()
        counters = (await scene.summary()).counters
        assert counters["backchannels"] >= 1

    run(scenario, barge_in="local")


def test_yes_said_into_the_bots_last_words_is_answered() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call("raw/mulaw", comfort_noise_peak=8)
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        session.speak(bot_speech(session, 3.0))
        await phone.wait_until(heard(2_200), "the answer under way")
        begun = len(session.audio)
        phone.start_saying(hum(8000), 8000)
        # By the caller's audio, as our own ears have it: the bot goes on 200 ms after the "mm" of 260.
        await session.wait_until(lambda one: len(one.audio) - begun >= 300 * 8, "the mm")
        session.speech_started()
        await session.wait_until(lambda one: len(one.audio) - begun >= 560 * 8, "the silence behind it")
        session.speech_stopped("Yes.")
        await phone.wait_until(
            lambda line: line.streams[-1].is_done and line.streams[-1].received_ms >= 200, "the answer"
        )
        received_ms = sum(stream.received_ms - stream.cut_ms for stream in phone.line.streams)
        assert received_ms >= 3150, "the question whole, and an answer"
        assert "hangup" not in tap.order

    run(scenario, barge_in="local")


@pytest.mark.parametrize("barge_in", ["off", "model"])
def test_our_own_turns_do_not_begin_by_the_bots_echo(barge_in: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(
            "raw/lpcm16_8", echo_db=-15.0, echo_delay_ms=140, comfort_noise_peak=8
        )
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        session.speak(bot_speech(session, 4.0))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the whole answer")
        await asyncio.sleep(1.0)
        assert session.sent("input_audio_buffer.commit") == []
        assert session.sent("response.create") == []

    run(scenario, barge_in=barge_in, turn_detection="local")


def test_an_agent_whose_calls_are_not_recorded_leaves_silence(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call("raw/lpcm16_8")
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        await phone.say(speech(CALLER_TEXT, 8000, 1.0), 8000)
        session.speak(bot_speech(session, 1.0))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the whole answer")
        await phone.hang_up()

    agent = FastAgent("bot", voice_policy=VoicePolicy(is_recorded=False))
    run(scenario, agent=agent, recordings_dir=str(tmp_path))
    assert [abs(np.frombuffer(wav.read_wav(file)[2], "<i2")).max() for file in tmp_path.glob("*.wav")] == [0]


def test_a_recording_holds_what_was_said_and_heard(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call("raw/lpcm16_8", conversation_id="../up/and:away")
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        await phone.say(speech(CALLER_TEXT, 8000, 1.0), 8000)
        session.speak(bot_speech(session, 1.0))
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the whole answer")
        await phone.hang_up()

    run(scenario, recordings_dir=str(tmp_path))
    [file] = tmp_path.rglob("*")
    format, channels, samples = wav.read_wav(file)
    assert (format.sample_rate, channels) == (8000, 2)
    stereo = np.frombuffer(samples, "<i2").reshape(-1, 2).astype(np.int32)
    for side in (0, 1):
        assert np.count_nonzero(np.abs(stereo[:, side]) > 300) > 2000, "both are there"
    caller, bot = (np.flatnonzero(np.abs(stereo[:, side]) > 1000) for side in (0, 1))
    assert caller[-1] < bot[-1], "in the order in which they spoke"


class Notice(AFSMState):
    """A state whose words must be heard."""

    name = "notice"
    description = "Tells what the law wants told."
    voice_policy = VoicePolicy("protected")

    async def process(self, input_text, context):  # type: ignore[no-untyped-def]
        if input_text == "yes":
            return {"response": "Thank you.", "next_state": "end", "confidence": 1.0}
        return {"response": "Calls are recorded. Do you agree?", "next_state": "notice", "confidence": 1.0}


class End(AFSMState):
    name = "end"
    description = "Done."


def test_a_protected_state_is_not_interrupted() -> None:
    notice, end = Notice(), End()
    notice.allowed_transitions = ("end",)
    agent = FastAgent(
        "bot", states=[notice, end], initial_state="notice", task_name="notice", task_description="Tell."
    )

    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call(comfort_noise_peak=8)
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        session.call_function("notice", {})
        await session.wait_until(lambda one: one.sent("conversation.item.create"), "the question")
        await phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the reply to it")
        streams = len(phone.line.streams)
        session.speak(bot_speech(session, 4.0))
        await phone.wait_until(
            lambda line: len(line.streams) > streams and heard(1_000)(line), "the answer under way"
        )
        phone.start_saying(speech(CALLER_TEXT, 24_000, 1.5), 24_000)
        await phone.wait_until(lambda line: line.streams[-1].is_done, "the whole answer")
        assert "abortPrompts" not in tap.order
        assert session.sent("conversation.item.truncate") == []

    run(scenario, agent=agent, barge_in="local")


def test_nobody_stops_a_bot_that_may_not_be_stopped() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        session.speak(bot_speech(session, 2.0))
        await phone.wait_until(lambda line: line.streams, "the first audio")
        session.speech_started()
        await phone.wait_until(lambda line: line.streams[0].is_done, "the whole answer")
        assert "abortPrompts" not in tap.order

    run(scenario, barge_in="off")


def test_turns_by_our_own_ears_are_committed_and_answered() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(comfort_noise_peak=8)
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        assert session.settings["audio"]["input"]["turn_detection"] is None
        begun = time.monotonic()
        await phone.say(speech(CALLER_TEXT, 24_000), 24_000)
        await session.wait_until(lambda one: one.sent("response.create"), "the answer")
        assert time.monotonic() - begun < 15
        [commit] = session.sent("input_audio_buffer.commit")
        assert commit["type"] == "input_audio_buffer.commit"

    run(scenario, barge_in="local", turn_detection="local")


def test_keypad_tones_in_the_audio_reach_the_agent_once() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(comfort_noise_peak=8, settings={"sendDTMF": True})
        await phone.wait_until(lambda line: line.settings.get("bargeIn"), "the settings")
        t = np.arange(24_000 // 10) / 24_000
        tone = ((np.sin(2 * np.pi * 770 * t) + np.sin(2 * np.pi * 1336 * t)) * 5000).astype("<i2")
        phone.start_saying(tone.tobytes() + bytes(4800), 24_000)
        phone.dtmf("5")
        await session.wait_until(lambda one: one.sent("conversation.item.create"), "the digit")
        await asyncio.sleep(0.5)
        [item] = session.sent("conversation.item.create")
        assert item["item"]["content"][0]["text"] == "The caller pressed 5."

    run(scenario, inband_dtmf=True)
