"""The scripted Twilio on a clock of its own: what it plays, when marks come back, which rules it holds."""

import base64
import json
from typing import Any

import pytest

from fastagent._native import g711
from fastagent.testing.twilio_line import TwilioLine
from fastagent.testing.twilio_records import Faults, TwilioOptions

T = 100.0


def begun(**options: Any) -> TwilioLine:
    options.setdefault("comfort_noise_peak", 0)
    line = TwilioLine(TwilioOptions(**options), call_sid="CA1")
    line.initiate(T, {"ticket": "t"})
    return line


def told(line: TwilioLine) -> list[dict[str, Any]]:
    return [json.loads(message) for message in line.messages_to_send()]


def media(line: TwilioLine, ms: int, **changes: Any) -> bytes:
    payload = base64.b64encode(b"\x80" * 8 * ms).decode()
    message = {"event": "media", "streamSid": line.stream_sid, "media": {"payload": payload}}
    return json.dumps(message | changes).encode()


def mark(line: TwilioLine, name: str = "m") -> bytes:
    return json.dumps({"event": "mark", "streamSid": line.stream_sid, "mark": {"name": name}}).encode()


def clear(line: TwilioLine) -> bytes:
    return json.dumps({"event": "clear", "streamSid": line.stream_sid}).encode()


def marks(line: TwilioLine) -> list[str]:
    return [one["mark"]["name"] for one in told(line) if one["event"] == "mark"]


def rules(line: TwilioLine) -> list[str]:
    return [violation.rule for violation in line.violations]


def test_stream_begins_as_the_documents_say() -> None:
    line = begun()
    connected, start = told(line)
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start == {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": line.stream_sid,
        "start": {
            "streamSid": line.stream_sid,
            "accountSid": line.options.account_sid,
            "callSid": "CA1",
            "tracks": ["inbound"],
            "customParameters": {"ticket": "t"},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }
    with pytest.raises(ValueError, match="begun"):
        line.initiate(T, {})


def test_caller_audio_comes_every_20_ms_numbered_however_late_the_clock_is() -> None:
    line = begun()
    told(line)
    line.say(b"\x10\x20" * 160, 8_000)
    line.advance(T + 0.0601)
    sent = told(line)
    assert [one["sequenceNumber"] for one in sent] == ["2", "3", "4"]
    assert [one["media"]["chunk"] for one in sent] == ["1", "2", "3"]
    assert [one["media"]["timestamp"] for one in sent] == ["20", "40", "60"]
    audio = b"".join(base64.b64decode(one["media"]["payload"]) for one in sent)
    assert audio == bytes(line.caller_audio) == g711.ulaw_encode(b"\x10\x20" * 160) + b"\xff" * 320
    assert line.next_deadline(T + 0.0601) == pytest.approx(T + 0.08)


def test_marks_come_back_when_what_came_before_them_was_heard() -> None:
    line = begun()
    line.receive(mark(line, "first"), T)
    assert marks(line) == ["first"], "at once, for nothing is before it"
    line.receive(media(line, 100), T)
    line.receive(mark(line, "second"), T)
    line.receive(media(line, 100), T)
    line.receive(mark(line, "third"), T)
    line.advance(T + 0.099)
    assert marks(line) == []
    line.advance(T + 0.1)
    assert marks(line) == ["second"]
    line.advance(T + 0.2)
    assert marks(line) == ["third"]
    assert [one.is_done for one in line.streams] == [True, True]
    assert line.marks_reached == ["first", "second", "third"]


def test_clear_silences_and_sends_back_what_was_never_heard() -> None:
    line = begun()
    line.receive(media(line, 1000), T)
    line.receive(mark(line), T)
    line.receive(clear(line), T + 0.25)
    assert marks(line) == ["m"]
    assert line.marks_cleared == ["m"]
    [stretch] = line.streams
    assert stretch.was_cut
    assert stretch.heard_ms(T + 9) == pytest.approx(250)
    assert not line.is_playing(T + 0.26)


def test_late_marks_are_late() -> None:
    line = begun(faults=Faults(mark_delay_ms=300))
    line.receive(mark(line), T)
    line.advance(T + 0.299)
    assert marks(line) == []
    assert line.owes_marks
    line.advance(T + 0.301)
    assert marks(line) == ["m"]


@pytest.mark.parametrize(
    ("faults", "numbers"),
    [
        (Faults(loses_every=2), ["1", "3", "5"]),
        (Faults(repeats_every=2), ["1", "2", "2", "3", "4", "4", "5"]),
        (Faults(swaps_every=2), ["1", "3", "2", "5", "4"]),
    ],
)
def test_faults(faults: Faults, numbers: list[str]) -> None:
    line = begun(faults=faults)
    told(line)
    line.advance(T + 0.1001)
    assert [one["media"]["chunk"] for one in told(line)] == numbers


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (b"{", "message_malformed"),
        (b"[]", "message_malformed"),
        (b'{"event":1}', "message_malformed"),
        (b'{"event":"dtmf","streamSid":"%s"}', "event_unknown"),
        (b'{"event":"clear"}', "field_missing"),
        (b'{"event":"mark","streamSid":"%s"}', "field_missing"),
        (b'{"event":"mark","streamSid":"%s","mark":{}}', "field_missing"),
        (b'{"event":"mark","streamSid":"%s","mark":{"name":""}}', "mark_name_malformed"),
        (b'{"event":"mark","streamSid":"%s","mark":{"name":1}}', "message_malformed"),
        (b'{"event":"clear","streamSid":"%s","more":1}', "field_extra"),
        (
            b'{"event":"media","streamSid":"%s","media":{"payload":"////","track":"outbound"}}',
            "field_extra",
        ),
        (b'{"event":"media","streamSid":"%s","media":{"payload":"!"}}', "payload_not_base64"),
        (b'{"event":"media","streamSid":"%s","media":{"payload":""}}', "payload_empty"),
        (b'{"event":"media","streamSid":"%s","media":{"payload":"UklGRg=="}}', "payload_with_header"),
        (b'{"event":"clear","streamSid":"MZ0"}', "wrong_stream"),
    ],
)
def test_rules(message: bytes, rule: str) -> None:
    line = begun()
    line.receive(message.replace(b"%s", line.stream_sid.encode()), T)
    assert rules(line) == [rule]


def test_nothing_may_be_said_before_the_start() -> None:
    line = TwilioLine()
    line.receive(clear(line), T)
    assert rules(line) == ["message_before_start"]
    line.report_binary(T, 3)
    assert rules(line)[-1] == "binary_frame"


def test_digits_are_one_message_each_and_none_without_a_stream() -> None:
    line = begun()
    told(line)
    assert line.dtmf("1#")
    assert [one["dtmf"] for one in told(line)] == [
        {"track": "inbound_track", "digit": "1"},
        {"track": "inbound_track", "digit": "#"},
    ]
    with pytest.raises(ValueError, match="keys"):
        line.dtmf("x")
    assert not TwilioLine().dtmf("1")


def test_stop_is_the_last_message() -> None:
    line = begun()
    told(line)
    line.hang_up(T)
    [stop] = told(line)
    assert stop["stop"] == {"accountSid": line.options.account_sid, "callSid": "CA1"}
    line.hang_up(T)
    line.advance(T + 1)
    assert told(line) == []
    assert (line.is_over, line.end_code, line.next_deadline(T)) == (True, "stopped", None)


@pytest.mark.parametrize(("code", "end_code"), [(1000, "closed"), (1006, "lost")])
def test_a_closed_socket_ends_the_stream(code: int, end_code: str) -> None:
    line = begun()
    line.receive(media(line, 500), T)
    line.lose_socket(T + 0.1, code)
    assert line.is_over
    assert line.end_code == end_code
    assert line.unheard_at_hangup_s == pytest.approx(0.4)
    assert line.messages_to_send() == []
    assert line.streams[0].was_cut
