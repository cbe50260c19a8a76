"""Input that no carrier should send: counted, answered, survived; and a thousand calls that leave nothing."""

import asyncio
import base64
import gc
import logging
import os
import time
from typing import Any

import orjson
import pytest

from fastagent import FastAgent
from fastagent._native.pump import Downlink, Uplink
from fastagent.bridge.brain import Bridge
from fastagent.call import Call
from fastagent.errors import LegClosedError
from fastagent.legs.carrier import CarrierSocket
from fastagent.legs.model import ModelSocket
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LinePhase
from fastagent.testing.realtime_model import ModelSession
from tests.integration.scene import Scene, run

THOUSAND_CALLS_LIMIT_S = 240.0
SETTLE_LIMIT_S = 30.0
CALLS = 1_000
CALLS_AT_ONCE = 20
GOOD_CHUNK = b'{"type":"userStream.chunk","audioChunk":"' + base64.b64encode(b"\x01\x02" * 480) + b'"}'


async def still_talks(phone: AudioCodesPhone, session: ModelSession) -> None:
    """The call works in both directions, and everything sent before was worked off."""
    streams = len(phone.line.streams)
    heard = len(session.audio)
    phone.send_raw(GOOD_CHUNK)
    await session.wait_until(lambda one: b"\x01\x02" * 480 in bytes(one.audio[heard:]), "the caller")
    session.speech_started()
    session.speech_stopped("hello?")
    await phone.wait_until(
        lambda line: len(line.streams) > streams and line.streams[-1].is_done, "the answer"
    )


async def counters(scene: Scene, phone: AudioCodesPhone) -> dict[str, int]:
    """What was counted, by the call and by the process, once the call is over."""
    await phone.hang_up()
    summary = await scene.summary()
    return dict(scene.server.service.counters) | dict(summary.counters)


def activity(*activities: Any) -> bytes:
    return orjson.dumps({"type": "activities", "activities": activities})


MALFORMED: dict[str, bytes] = {
    "no JSON": b"hello",
    "empty": b"",
    "an array": b'[{"type":"activities"}]',
    "a number": b"42",
    "half an object": b'{"type":"activities","activities":[',
    "two objects": b'{"type":"x"}{"type":"y"}',
    "type is no string": b'{"type":5}',
    "no type": b'{"conversationId":"c"}',
    "type is endless": b'{"type":"' + b"x" * 5_000 + b'"}',
    "activities is no array": b'{"type":"activities","activities":{}}',
    "activity is no object": b'{"type":"activities","activities":["DTMF"]}',
    "activity without a name": b'{"type":"activities","activities":[{"type":"event"}]}',
    "digits are no text": activity({"type": "event", "name": "DTMF", "value": [1]}),
    "digits are letters": activity({"type": "event", "name": "DTMF", "value": "XYZ"}),
    "count is no number": activity({"type": "event", "name": "noUserInput", "value": {}}),
    "too many activities": orjson.dumps(
        {"type": "activities", "activities": [{"type": "event", "name": "x"}] * 65}
    ),
    "participant is no text": b'{"type":"userStream.start","participant":7}',
    "too deep": b'{"type":"x","a":' + b"[" * 200 + b"]" * 200 + b"}",
    "too many brackets": b'{"type":"x","a":[' + b"[]," * 5_000 + b"[]]}",
    "NaN": b'{"type":"x","a":NaN}',
    "lone surrogate": b'{"type":"\\ud800"}',
    "too long": b'{"type":"x","a":"' + b"y" * 65_536 + b'"}',
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
def test_malformed_message_is_counted_and_the_call_goes_on(message: bytes) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        phone.send_raw(message)
        await still_talks(phone, session)
        assert (await counters(scene, phone))["carrier_malformed"] == 1

    run(scenario)


CHUNKS: dict[str, tuple[bytes, str]] = {
    "base64 with junk": (b'"!!!!"', "uplink_bad_audio"),
    "base64 cut short": (b'"AAAAA"', "uplink_bad_audio"),
    "base64 padded wrongly": (b'"AA=A"', "uplink_bad_audio"),
    "base64 with a line break": (b'"AAAA\\nAAAA"', "uplink_bad_audio"),
    "escape that says nothing": (b'"\\u00e9AAA"', "uplink_bad_audio"),
    "no text": (b"5", "carrier_malformed carrier_ignored_chunk_unusable"),
    "null": (b"null", "carrier_malformed carrier_ignored_chunk_unusable"),
    "an object": (b"{}", "carrier_malformed carrier_ignored_chunk_unusable"),
    "nothing": (b'""', ""),
}


@pytest.mark.parametrize(("audio", "counter"), CHUNKS.values(), ids=CHUNKS)
def test_chunk_with_bad_audio_is_dropped_and_the_next_is_heard(audio: bytes, counter: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(opens_stream=False)
        phone.send_raw(b'{"type":"userStream.chunk","audioChunk":' + audio + b"}")
        phone.send_raw(b'{"audioChunk":' + audio + b',"type":"userStream.chunk"}')
        await still_talks(phone, session)
        assert len(session.audio) == 960
        counted = await counters(scene, phone)
        if counter:
            assert sum(counted.get(name, 0) for name in counter.split()) == 2, counted

    run(scenario)


def test_chunk_without_audio_at_all_is_counted_and_survived() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(opens_stream=False)
        phone.send_raw(b'{"type":"userStream.chunk"}')
        await still_talks(phone, session)
        counted = await counters(scene, phone)
        names = ("carrier_malformed", "carrier_ignored_chunk_unusable", "uplink_malformed")
        assert any(counted.get(name) for name in names), counted

    run(scenario)


def test_odd_byte_is_kept_for_the_next_chunk_and_never_shifts_the_samples() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(opens_stream=False)
        pcm = bytes(range(1, 200)) * 2
        for piece in (pcm[:101], pcm[101:]):
            chunk = base64.b64encode(piece).decode()
            phone.send_raw(orjson.dumps({"type": "userStream.chunk", "audioChunk": chunk}))
        await session.wait_until(lambda one: len(one.audio) == len(pcm), "all of it")
        assert bytes(session.audio) == pcm
        await still_talks(phone, session)

    run(scenario)


def test_messages_before_the_offer_are_ignored() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        for message in (
            GOOD_CHUNK,
            b'{"type":"userStream.start"}',
            b'{"type":"activities","activities":[{"type":"event","name":"DTMF","value":"1"}]}',
            b'{"type":"session.end"}',
            b'{"type":"something.new"}',
            b"junk",
        ):
            phone.send_raw(message)
        await phone.initiate()
        session = await scene.model.session(0)
        await still_talks(phone, session)
        counted = await counters(scene, phone)
        assert counted["carrier_ignored_before_initiate"] == 5
        assert counted["carrier_malformed"] == 1

    run(scenario)


IGNORED: dict[str, bytes] = {
    "second_initiate": orjson.dumps(
        {"type": "session.initiate", "conversationId": "x", "supportedMediaFormats": ["raw/mulaw"]}
    ),
    "unexpected_resume": b'{"type":"session.resume","conversationId":"other"}',
    "unknown_type": b'{"type":"playStream.mark.reached","streamId":"play-1"}',
    "no_activities": b'{"type":"activities","activities":[]}',
    "connectivity_check": b'{"type":"connection.validate"}',
}


@pytest.mark.parametrize(("cause", "message"), IGNORED.items(), ids=IGNORED)
def test_message_out_of_place_is_ignored_and_counted(cause: str, message: bytes) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        phone.send_raw(message)
        await still_talks(phone, session)
        assert (await counters(scene, phone))[f"carrier_ignored_{cause}"] == 1
        assert len(scene.model.sessions) == 1

    run(scenario)


def test_chunks_before_the_user_stream_was_acknowledged_are_heard() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(opens_stream=False)
        for _ in range(5):
            phone.send_raw(GOOD_CHUNK)
        await session.wait_until(lambda one: len(one.audio) == 5 * 960, "the chunks")

    run(scenario)


def test_good_digits_beside_a_bad_activity_are_not_lost() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        digits = {"type": "event", "name": "dtmf", "value": "7"}
        phone.send_raw(orjson.dumps({"type": "activities", "activities": [digits, 5, {"type": "event"}]}))
        await session.wait_until(lambda one: one.sent("conversation.item.create"), "the digit")
        assert (await counters(scene, phone))["carrier_ignored_malformed_activity"] == 2

    run(scenario)


OFFERS: dict[str, dict[str, Any]] = {
    "no id": {"supportedMediaFormats": ["raw/mulaw"]},
    "id is no text": {"conversationId": 5, "supportedMediaFormats": ["raw/mulaw"]},
    "no formats": {"conversationId": "c"},
    "formats are no array": {"conversationId": "c", "supportedMediaFormats": "raw/mulaw"},
    "formats are no texts": {"conversationId": "c", "supportedMediaFormats": [1]},
    "audio is no truth": {
        "conversationId": "c",
        "supportedMediaFormats": ["raw/mulaw"],
        "expectAudioMessages": 1,
    },
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_malformed_offer_is_counted_and_a_good_one_may_follow(offer: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        phone.send_raw(orjson.dumps({"type": "session.initiate", **offer}))
        await phone.initiate()
        await still_talks(phone, await scene.model.session(0))
        assert (await counters(scene, phone))["carrier_malformed"] == 1

    run(scenario)


def test_messages_in_binary_frames_are_taken() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(opens_stream=False)
        phone.send_raw(GOOD_CHUNK, is_binary=True)
        phone.send_raw(bytes(range(256)), is_binary=True)
        await session.wait_until(lambda one: len(one.audio) == 960, "the chunk")
        await still_talks(phone, session)
        assert (await counters(scene, phone))["carrier_malformed"] == 1

    run(scenario)


def test_hundred_malformed_messages_close_the_socket_and_the_call_can_be_resumed() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        for _ in range(99):
            phone.send_raw(b"junk")
        await still_talks(phone, session)
        phone.send_raw(b"junk")
        with pytest.raises(LegClosedError):
            await phone.wait_until(lambda line: False)
        assert phone.close_code == 1008
        await phone.resume()
        await still_talks(phone, session)
        assert (await counters(scene, phone))["carrier_malformed"] == 100

    run(scenario)


@pytest.mark.parametrize(
    ("message", "is_binary", "code"),
    [(b'{"type":"\xff\xfe"}', False, 1007), (b'{"type":"x","a":"' + b"y" * 1_100_000 + b'"}', False, None)],
    ids=["no UTF-8", "too long"],
)
def test_broken_frame_closes_the_socket_and_the_call_can_be_resumed(
    message: bytes, is_binary: bool, code: int | None
) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        phone.send_raw(message, is_binary=is_binary)
        with pytest.raises(LegClosedError):
            await phone.wait_until(lambda line: False)
        assert code is None or phone.close_code == code
        await phone.resume()
        await still_talks(phone, session)

    run(scenario)


def test_socket_that_never_says_whose_it_is_is_closed() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        with pytest.raises(LegClosedError):
            await phone.wait_until(lambda line: False)
        assert phone.close_code == 1000

    run(scenario, first_message_timeout_s=0.1)


def test_fast_burst_of_audio_is_heard_whole() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call("raw/lpcm16_8", opens_stream=False)
        audio = base64.b64encode(b"\x10\x00" * 160).decode()
        for _ in range(250):
            phone.send_raw(orjson.dumps({"type": "userStream.chunk", "audioChunk": audio}))
        await session.wait_until(lambda one: len(one.audio) == 250 * 960, "five seconds of audio")

    run(scenario)


def test_words_digits_numbers_and_keys_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(caller="+15550123987", collects_dtmf=True)
        await phone.wait_until(lambda line: line.settings.get("sendDTMF"), "the settings")
        phone.dtmf("480615")
        session.speech_started()
        session.speech_stopped("zanzibar")
        session.call_function("no_such_function", {"word": "quagmire"})
        phone.send_raw(
            b'{"type":"activities","activities":[{"type":"event","name":"DTMF","value":"480615x"}]}'
        )
        phone.send_raw(b'{"type":"zanzibar", "a": "480615"')
        session.error("odd", "zanzibar said sk-secret-key-0001")
        session.send_raw(b'{"type": "zanzibar')
        await session.wait_until(lambda one: len(one.sent("conversation.item.create")) >= 2, "the answers")
        scene.benign.add("invalid_tool_call_id")
        await phone.hang_up()
        await scene.summary()

    run(scenario, openai_api_key="sk-secret-key-0001", audiocodes_tokens=())
    assert "call" in caplog.text
    for secret in ("480615", "zanzibar", "quagmire", "+15550123987", "sk-secret-key-0001"):
        assert secret not in caplog.text


@pytest.mark.parametrize("media", ["raw/lpcm16_24", "raw/lpcm16", "raw/mulaw"])
def test_a_chunk_of_two_seconds_is_taken(media: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call(media)
        assert phone.line.media is not None
        audio = b"\x01\x02" * phone.line.media.format.bytes_per_ms * 1000
        phone.send_raw(b'{"type":"userStream.chunk","audioChunk":"' + base64.b64encode(audio) + b'"}')
        expected = len(audio) * session.input_format.bytes_per_ms // phone.line.media.format.bytes_per_ms
        await session.wait_until(lambda one: len(one.audio) >= expected, "the chunk")
        await phone.hang_up()

    run(scenario)


def test_an_id_with_a_line_break_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.phone()
        await phone.connect(scene.server.audiocodes_url)
        phone.send_raw(
            b'{"type":"session.initiate","conversationId":"a\\nINFO call b","expectAudioMessages":true,'
            b'"supportedMediaFormats":["raw/mulaw"],"botName":"b","caller":"c"}'
        )
        await phone.initiate()
        assert scene.server.service.counters["carrier_malformed"] == 1
        await phone.hang_up()

    run(scenario)


class Raising:
    """An observer with a fault in everything it does."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_an_observer_that_fails_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # The scene takes a logged traceback for a fault, which this one is not.
    monkeypatch.setattr(logging.getLogger("fastagent.call"), "propagate", False)

    async def scenario(scene: Scene) -> None:
        services = scene.server.service.services
        object.__setattr__(services, "observers", (Raising(), *services.observers))
        phone, session, _ = await scene.call()
        await still_talks(phone, session)
        counted = await counters(scene, phone)
        assert counted["observers_failed"] >= 2

    run(scenario)


# Many calls


async def short_call(scene: Scene, number: int) -> None:
    """One call: accepted, heard, answered, ended."""
    phone = AudioCodesPhone(conversation_id=f"call-{number}")
    await phone.connect(scene.server.audiocodes_url)
    await phone.initiate()
    for _ in range(2):
        phone.send_raw(GOOD_CHUNK)
    await phone.wait_until(lambda line: line.streams and line.streams[0].received_bytes, "the greeting")
    await phone.hang_up()
    assert phone.line.phase is LinePhase.ENDED
    assert phone.line.violations == []
    assert phone.close_code == 1000


def alive() -> dict[str, int]:
    """What a call is made of, and how much of it there is."""
    gc.collect()
    kinds = (Call, Bridge, Downlink, Uplink, CarrierSocket, ModelSocket)
    counts = {kind.__name__: 0 for kind in kinds}
    for one in gc.get_objects():
        if type(one) in kinds:
            counts[type(one).__name__] += 1
    return counts


def test_thousandth_call_works_as_the_first_and_nothing_is_left() -> None:
    async def scenario(scene: Scene) -> None:
        witness = await scene.dial(scene.phone())
        assert alive()["Call"] == alive()["Downlink"] == 1
        await witness.hang_up()
        await settle(scene, {})
        files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        numbers = iter(range(1, CALLS))

        async def caller() -> None:
            for number in numbers:
                await short_call(scene, number)
                # The model's own record is no part of what is measured.
                scene.model.sessions[:] = [session for session in scene.model.sessions if session.is_open]

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS_AT_ONCE):
                group.create_task(caller())
        await settle(scene, {"files": files, "tasks": tasks})
        assert scene.server.service.counters["calls"] == CALLS
        assert scene.server.service.counters["calls_ended_caller"] == CALLS
        # The first one hung up before the model was needed.
        assert len(scene.model.upgrades) >= CALLS - 1

    run(scenario, agent=FastAgent("bot", greeting="Hello."), limit_s=THOUSAND_CALLS_LIMIT_S)


async def settle(scene: Scene, wanted: dict[str, int]) -> None:
    """Wait until nothing of any call is left, and of files and tasks no more than ``wanted``."""
    found: dict[str, int] = {}
    give_up_at = time.monotonic() + SETTLE_LIMIT_S
    while time.monotonic() < give_up_at:
        found = {"calls": scene.server.service.switchboard.active_calls}
        if wanted:
            found["files"] = max(0, len(os.listdir("/proc/self/fd")) - wanted["files"])
            found["tasks"] = max(0, len(asyncio.all_tasks()) - wanted["tasks"])
        if not any(found.values()):
            # This holds the loop up, and with it what is waited for.
            found |= alive()
            if not any(found.values()):
                return
        await asyncio.sleep(0.25)
    raise AssertionError(f"left over: {found}")
