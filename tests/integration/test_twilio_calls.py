"""Whole calls over Twilio: webhook, stream, audio both ways, barge-in, marks, ends, refusals."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastagent import FastAgent
from fastagent._native import g711
from fastagent.audio.formats import MULAW_8K
from fastagent.errors import LegConnectError
from fastagent.server.process import run_server
from fastagent.settings import Settings
from fastagent.testing.realtime_model import ModelSession
from fastagent.testing.twilio_phone import Faults, TwilioLine, TwilioPhone
from fastagent.testing.twilio_requests import post_form, sign
from tests.integration.http_peer import ask, samples
from tests.integration.scene import (
    PUBLIC_URL,
    TWILIO,
    TWILIO_ACCOUNT,
    TWILIO_TOKEN,
    UNLIMITED,
    Scenario,
    Scene,
    chirp,
    heard,
)
from tests.integration.scene import run as run_scene
from tests.integration.test_barge_in import bot_speech, speech

STREAM_URL = f"wss://{PUBLIC_URL.partition('://')[2]}/twilio/stream"
LEAD_S = 0.4
QUANTUM_S = 0.1


def run(scenario: Scenario, **options: Any) -> None:
    run_scene(scenario, **{**TWILIO, **options})


def is_done(number: int) -> Callable[[TwilioLine], bool]:
    return lambda line: len(line.streams) > number and line.streams[number].is_done


def events(line: TwilioLine) -> list[str]:
    """What the bot sent, audio that follows audio left out."""
    found: list[str] = []
    for _, event in line.received:
        if event != "media" or found[-1:] != ["media"]:
            found.append(event)
    return found


def counted(scene: Scene, name: str) -> int:
    return scene.server.service.counters[name]


# Audio


def test_greeting_is_heard_whole_and_its_mark_comes_back() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call()
        await phone.wait_until(is_done(0), "the greeting")
        assert phone.line.streams[0].received_ms > 0
        assert not phone.line.streams[0].was_cut
        assert phone.line.marks_reached == ["g0-play-1"]
        assert session.input_format == session.output_format == MULAW_8K
        [create] = session.sent("response.create")
        assert "Good morning" in create["response"]["instructions"]
        await phone.hang_up()
        summary = await scene.summary()
        assert summary.is_passthrough
        assert summary.outcome == "caller"

    run(scenario, agent=FastAgent("bot", greeting="Good morning, how can I help?"))


def test_caller_audio_reaches_the_model_bit_for_bit() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call(comfort_noise_peak=200)
        for low in (300, 900):
            await phone.say(chirp(240, 8_000, low=low), 8_000)
        await phone.hang_up()
        await session.wait_until(lambda one: not one.is_open, "the end of the session")
        assert bytes(session.audio) == bytes(phone.line.caller_audio)
        assert len(phone.line.caller_audio) == phone.line.chunks_sent * 160
        summary = await scene.summary()
        assert "uplink_gaps" not in summary.counters
        assert "uplink_repeats" not in summary.counters

    run(scenario)


def test_bot_audio_reaches_the_caller_bit_for_bit_and_is_kept_to_the_lead() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call()
        most_ahead_s = 0.0

        def is_heard(line: TwilioLine) -> bool:
            nonlocal most_ahead_s
            most_ahead_s = max(most_ahead_s, line.pending_s(asyncio.get_running_loop().time()))
            return bool(line.streams) and line.streams[0].is_done

        said = g711.ulaw_encode(chirp(2_500, 8_000))
        session.speak(said)
        await phone.wait_until(is_heard, "the whole of it")
        assert len(phone.line.streams) == 1
        assert phone.line.streams[0].received_bytes == len(said)
        heard = phone.line.clock.track.render(phone.line.streams[0].starts_at_s, 8_000)
        assert heard == g711.ulaw_decode(said)
        assert 0.2 < most_ahead_s <= LEAD_S + QUANTUM_S

    run(scenario)


@pytest.mark.parametrize(
    ("faults", "gaps", "repeats"),
    [
        (Faults(loses_every=10), True, False),
        (Faults(repeats_every=10), False, True),
        (Faults(swaps_every=10), True, True),
    ],
)
def test_media_messages_that_are_missing_doubled_or_swapped_are_counted(
    faults: Faults, gaps: bool, repeats: bool
) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call(faults=faults)
        await phone.say(chirp(600, 8_000), 8_000)
        await phone.hang_up()
        counters = (await scene.summary()).counters
        assert ("uplink_gaps" in counters) is gaps
        assert ("uplink_repeats" in counters) is repeats
        assert counters["uplink_messages"] >= 27
        assert len(session.audio) == counters["uplink_messages"] * 160

    run(scenario)


# Barge-in


@pytest.mark.parametrize("mark_delay_ms", [0, 300])
def test_barge_in_clears_at_once_and_truncates_to_what_was_heard(mark_delay_ms: int) -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call(faults=Faults(mark_delay_ms=mark_delay_ms))
        item_id = session.speak(session.tone(5_000), is_last=False)
        await phone.wait_until(heard(400), "the answer under way")
        session.speech_started()
        await phone.wait_until(lambda line: "clear" in events(line), "the clear")
        stretch = phone.line.streams[0]
        heard_ms = stretch.heard_ms(asyncio.get_running_loop().time())
        assert stretch.was_cut
        await session.wait_until(lambda one: one.sent("conversation.item.truncate"), "the truncation")
        [truncate] = session.sent("conversation.item.truncate")
        assert truncate["item_id"] == item_id
        assert truncate["audio_end_ms"] == pytest.approx(heard_ms, abs=30)
        received_bytes = stretch.received_bytes
        session.speech_stopped("wait")
        await phone.wait_until(is_done(1), "the answer")
        assert stretch.received_bytes == received_bytes
        assert not phone.line.streams[1].was_cut
        assert phone.line.marks_reached[-1].startswith("g1-")
        await phone.wait_until(lambda line: not line.owes_marks, "the marks")
        await phone.hang_up()
        counters = (await scene.summary()).counters
        assert counters["carrier_ignored_cleared_mark"] == len(phone.line.marks_cleared) == 1

    run(scenario)


def test_a_caller_who_goes_on_takes_the_turn_by_our_own_ears() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call(echo_db=-25.0, comfort_noise_peak=8)
        item_id = session.speak(bot_speech(session, 8.0), is_last=False)
        await phone.wait_until(heard(2_500), "the answer under way")
        phone.start_saying(speech("Appointments begin on the hour or at half past.", 8_000), 8_000)
        await phone.wait_until(lambda line: "clear" in events(line), "silence")
        heard_ms = phone.line.streams[0].heard_ms(asyncio.get_running_loop().time())
        await session.wait_until(lambda one: one.sent("conversation.item.truncate"), "the truncation")
        [truncate] = session.sent("conversation.item.truncate")
        assert truncate["item_id"] == item_id
        assert truncate["audio_end_ms"] == pytest.approx(heard_ms, abs=20)
        assert events(phone.line).count("clear") == 1

    run(scenario, barge_in="local")


# Digits, ends


def test_digits_are_heard_once_each() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call()
        assert phone.dtmf("12#A")

        def told(one: ModelSession) -> str:
            items = [event["item"] for event in one.sent("conversation.item.create")]
            return " ".join(part["text"] for item in items for part in item.get("content", ()))

        await session.wait_until(lambda one: "pressed A" in told(one), "the digits")
        for digit in "12#A":
            assert told(session).count(f"pressed {digit}.") == 1

    run(scenario)


def test_bot_hangs_up_after_the_last_audio_was_heard_and_nothing_follows() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call()
        session.speak(session.tone(1_000), is_last=False)
        session.call_function("end_call", {"reason": "done"})
        await phone.wait_ended()
        assert phone.line.end_code == "closed"
        assert phone.line.unheard_at_hangup_s == 0
        assert phone.line.streams[0].received_ms >= 1_000
        assert [verb.tag for verb in phone.verbs] == ["Connect", "Redirect", "Hangup"]
        summary = await scene.summary()
        assert summary.outcome == "bot"

    run(scenario)


def test_caller_who_hangs_up_ends_the_call_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call()
        await phone.hang_up()
        summary = await scene.summary()
        assert summary.outcome == "caller"
        await session.wait_until(lambda one: not one.is_open, "the end of the session")

    run(scenario, resume_grace_s=50.0)


def test_a_lost_socket_ends_the_call_for_there_is_no_way_back() -> None:
    async def scenario(scene: Scene) -> None:
        phone, _ = await scene.twilio_call()
        await phone.drop()
        summary = await scene.summary()
        assert summary.outcome == "carrier_lost"
        assert summary.duration_s < 25

    run(scenario, resume_grace_s=50.0)


def test_a_transfer_is_dialled_after_the_stream() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session = await scene.twilio_call()
        session.speak(session.tone(300), is_last=False)
        session.call_function("transfer_call", {"reason": "asked"})
        await phone.wait_ended()
        assert [verb.tag for verb in phone.verbs] == ["Connect", "Redirect", "Dial", "Hangup"]
        number = phone.verbs[2].find("Number")
        assert number is not None
        assert number.text == "+15550100099"
        assert phone.line.unheard_at_hangup_s == 0
        assert (await scene.summary()).outcome == "transferred"
        assert counted(scene, "twilio_transfers") == 1

    run(scenario, agent=FastAgent("bot", transfer_target="tel:+15550100099"))


# Webhooks


def test_webhook_names_the_stream_by_the_public_address_with_a_ticket() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.twilio_phone(call_sid="CA00000000000000000000000000000001")
        await phone.ask(scene.twilio_url + "?bot=front-desk", TWILIO_TOKEN)
        assert phone.stream_url == STREAM_URL
        assert phone.parameters["bot"] == "front-desk"
        assert phone.parameters["caller"] == "+15550100001"
        again = scene.twilio_phone(call_sid="CA00000000000000000000000000000001")
        await again.ask(scene.twilio_url + "?bot=front-desk", TWILIO_TOKEN)
        assert again.parameters == phone.parameters, "a repeated webhook is answered the same"
        other = scene.twilio_phone()
        await other.ask(scene.twilio_url, TWILIO_TOKEN)
        assert other.parameters["ticket"] != phone.parameters["ticket"]
        assert counted(scene, "twilio_webhooks") == 2

    run(scenario)


def test_agent_is_chosen_by_the_webhooks_query() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.twilio_phone()
        await phone.connect(scene.twilio_url + "?bot=second", TWILIO_TOKEN)
        await phone.initiate()
        session = await scene.model.session(0)
        await session.wait_until(lambda one: one.updates, "the settings")
        assert "I am the second." in session.settings["instructions"]

    agents = [FastAgent("first"), FastAgent("second", instructions="I am the second.")]
    run(scenario, agent=agents)


def test_calls_count_under_their_carrier() -> None:
    async def scenario(scene: Scene) -> None:
        phone, _ = await scene.twilio_call()
        assert list(scene.server.service.switchboard._calls) == [
            (f"twilio:{TWILIO_ACCOUNT}", phone.line.call_sid)
        ]
        await phone.hang_up()
        await scene.summary()
        told = samples((await ask(scene.server, "/metrics")).body)
        assert told["fastagent_calls_total", "twilio", "none", "caller"] == 1

    run(scenario, metrics="open")


def test_a_full_house_rejects_the_caller_as_busy() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.twilio_call()
        late = scene.twilio_phone()
        with pytest.raises(LegConnectError, match="no stream: Reject"):
            await late.connect(scene.twilio_url, TWILIO_TOKEN)
        assert late.verbs[0].get("reason") == "busy"

    run(scenario, max_sessions=1)


def test_status_callbacks_and_the_fallback_are_answered() -> None:
    async def scenario(scene: Scene) -> None:
        phone, _ = await scene.twilio_call()
        answer = await phone.callback("/twilio/status", {"CallStatus": "completed"})
        assert (answer.status, answer.body) == (204, b"")
        answer = await phone.callback(
            "/twilio/status",
            {"CallStatus": "", "StreamEvent": "stream-error", "StreamError": "31951 - Stream - Message"},
        )
        assert answer.status == 204
        answer = await phone.callback("/twilio/fallback", {"ErrorCode": "11200"})
        assert answer.status == 200
        assert b"<Say>Sorry" in answer.body
        assert b"<Hangup" in answer.body
        assert counted(scene, "twilio_call_completed") == 1
        assert counted(scene, "twilio_stream_error") == 1
        assert counted(scene, "twilio_fallbacks") == 1

    run(scenario)


# Who is not believed


FORM = {"CallSid": "CA00000000000000000000000000000001", "AccountSid": TWILIO_ACCOUNT, "From": "+15550100001"}


@pytest.mark.parametrize(
    ("changes", "signed_url", "key", "cause"),
    [
        ({}, "", TWILIO_TOKEN, "unsigned"),
        ({}, PUBLIC_URL + "/twilio/webhook", "another key of good length", "forged"),
        ({"From": "+15550100009"}, PUBLIC_URL + "/twilio/webhook", TWILIO_TOKEN, "forged"),
        ({}, PUBLIC_URL + "/twilio/status", TWILIO_TOKEN, "forged"),
        ({}, "https://evil.example/twilio/webhook", TWILIO_TOKEN, "wrong_host"),
        ({"AccountSid": "AC1"}, PUBLIC_URL + "/twilio/webhook", TWILIO_TOKEN, "other_account"),
    ],
)
def test_a_webhook_that_is_not_twilios_is_refused_and_counted(
    changes: dict[str, str], signed_url: str, key: str, cause: str
) -> None:
    async def scenario(scene: Scene) -> None:
        sent = {**FORM, **changes}
        signed = sent if cause == "other_account" else FORM
        headers = {"Host": "evil.example" if cause == "wrong_host" else "bridge.example.com"}
        if signed_url:
            headers["X-Twilio-Signature"] = sign(key, signed_url, signed.items())
        answer = await post_form(scene.twilio_url, sent.items(), headers)
        assert answer.status == 403
        assert counted(scene, f"twilio_refused_{cause}") == 1
        assert counted(scene, "twilio_webhooks") == 0

    run(scenario)


def test_what_a_proxy_writes_into_the_request_is_not_believed_and_does_no_harm() -> None:
    async def scenario(scene: Scene) -> None:
        url = PUBLIC_URL + "/twilio/webhook"
        headers = {
            "Host": "10.0.0.7:8000",
            "X-Forwarded-Host": "elsewhere.example",
            "X-Forwarded-Proto": "http",
            "X-Twilio-Signature": sign(TWILIO_TOKEN, url, FORM.items()),
        }
        assert (await post_form(scene.twilio_url, FORM.items(), headers)).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("signature", "cause"),
    [
        ("", "unsigned"),
        (sign("another key of good length", STREAM_URL), "forged"),
        (sign(TWILIO_TOKEN, STREAM_URL.replace("wss", "https")), "forged"),
    ],
)
def test_a_stream_that_is_not_twilios_gets_403(signature: str, cause: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.twilio_phone()
        await phone.ask(scene.twilio_url, TWILIO_TOKEN)
        with pytest.raises(LegConnectError) as refused:
            await phone.open_stream(headers={"X-Twilio-Signature": signature})
        assert refused.value.status == 403
        assert counted(scene, f"twilio_refused_stream_{cause}") == 1
        assert scene.server.service.switchboard.active_calls == 0

    run(scenario)


async def begun(phone: TwilioPhone, parameters: dict[str, str]) -> None:
    """Open the stream with other parameters, and wait for the server to close it."""
    await phone.open_stream()
    phone.parameters = parameters
    await phone.initiate()
    await phone.wait_until(lambda line: line.is_over, "the refusal")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"ticket": ""}, "ticket_missing"),
        ({"ticket": "99999999999.nonce.seal"}, "ticket_forged"),
        ({"caller": "+15550100009"}, "ticket_forged"),
        ({"bot": "another"}, "ticket_forged"),
    ],
)
def test_a_stream_without_its_own_ticket_is_closed(changes: dict[str, str], cause: str) -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.twilio_phone()
        await phone.ask(scene.twilio_url, TWILIO_TOKEN)
        await begun(phone, {**phone.parameters, **changes})
        assert counted(scene, f"twilio_refused_stream_{cause}") == 1
        assert scene.model.sessions == []

    run(scenario)


def test_a_ticket_taken_at_another_machine_of_the_store_is_used_up(tmp_path: Path) -> None:
    store = {"store_path": str(tmp_path / "sessions.db")}

    async def scenario(scene: Scene) -> None:
        phone, _ = await scene.twilio_call()
        values = {**TWILIO, **UNLIMITED, **store, "port": 0, "realtime_url": scene.model.url}
        async with run_server(FastAgent("bot"), Settings(**values, drain_timeout_s=0.5)) as server:
            other = scene.twilio_phone(call_sid=phone.line.call_sid)
            other.stream_url = phone.stream_url
            other._base, other._auth_token = f"http://{server.host}:{server.port}", TWILIO_TOKEN
            await begun(other, dict(phone.parameters))
            assert server.service.counters["twilio_refused_stream_ticket_replayed"] == 1
        assert phone.is_connected

    run(scenario, **store)


def test_a_ticket_is_no_good_for_another_call_and_not_twice() -> None:
    async def scenario(scene: Scene) -> None:
        phone, _ = await scene.twilio_call(call_sid="CA1")
        other = scene.twilio_phone(call_sid="CA2")
        await other.ask(scene.twilio_url, TWILIO_TOKEN)
        await begun(other, dict(phone.parameters))
        assert counted(scene, "twilio_refused_stream_ticket_forged") == 1
        await phone.hang_up()
        await scene.summary()
        again = scene.twilio_phone(call_sid="CA1")
        with pytest.raises(LegConnectError) as refused:
            await again.ask(scene.twilio_url, TWILIO_TOKEN)
        assert refused.value.status == 403
        assert counted(scene, "twilio_refused_replayed") == 1
        again.stream_url = STREAM_URL
        await begun(again, dict(phone.parameters))
        assert counted(scene, "twilio_refused_stream_ticket_replayed") == 1
        assert len(scene.model.sessions) == 1

    run(scenario)


def test_another_accounts_stream_is_closed() -> None:
    async def scenario(scene: Scene) -> None:
        phone = scene.twilio_phone(account_sid=TWILIO_ACCOUNT)
        await phone.ask(scene.twilio_url, TWILIO_TOKEN)
        stranger = scene.twilio_phone(account_sid="AC2", call_sid=phone.line.call_sid)
        stranger.stream_url, stranger._base, stranger._auth_token = STREAM_URL, phone._base, TWILIO_TOKEN
        stranger._public_url = PUBLIC_URL
        await begun(stranger, dict(phone.parameters))
        assert counted(scene, "twilio_refused_stream_other_account") == 1

    run(scenario)


def test_without_a_key_there_are_no_doors() -> None:
    async def scenario(scene: Scene) -> None:
        for path in ("webhook", "status", "fallback", "next"):
            url = scene.twilio_url.replace("webhook", path)
            assert (await post_form(url, FORM.items(), {})).status == 404
        phone = scene.twilio_phone()
        phone.stream_url, phone._base = STREAM_URL, scene.twilio_url.removesuffix("/twilio/webhook")
        with pytest.raises(LegConnectError) as refused:
            await phone.open_stream()
        assert refused.value.status == 404

    run_scene(scenario)


def test_a_body_without_end_is_refused() -> None:
    async def scenario(scene: Scene) -> None:
        answer = await post_form(scene.twilio_url, [("A", "x" * 70_000)], {})
        assert answer.status == 413
        assert counted(scene, "twilio_refused_too_large") == 1

    run(scenario)
