"""The protocol of the embedded engine, without sockets: events in, events out, time as an argument."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import orjson
import pytest

from fastagent.audio.formats import Encoding
from fastagent.local.jobs import Hear, Speak
from fastagent.local.mind import Mind
from fastagent.local.response import Pace
from fastagent.local.session import LocalSession, SessionOptions
from fastagent.local.transcode import from_pcm16

Event = dict[str, Any]

TOOL = {
    "type": "function",
    "name": "book_appointment",
    "description": "Book an appointment.",
    "parameters": {"type": "object", "properties": {"date": {"type": "string"}}},
}
SPEECH_MS = 1_000
"""How long every reply lasts."""


class Driver:
    """A session with ears that hear what they are told and a voice that speaks for a second."""

    def __init__(self, **options: Any) -> None:
        numbers = count(1)
        self.now = 100.0
        self.heard: list[str] = []
        self.answers_jobs = True
        self.jobs: list[Hear | Speak] = []
        self.session = LocalSession(
            model="gpt-test",
            now=self.now,
            unix_s=1_700_000_000.0,
            mind=Mind(),
            options=SessionOptions(**options),
            new_id=lambda prefix: f"{prefix}_{next(numbers)}",
        )

    def send(self, event_type: str, **fields: Any) -> list[Event]:
        self.session.receive(orjson.dumps({"type": event_type, "event_id": "mine", **fields}), self.now)
        return self.take()

    def configure(self, **session: Any) -> list[Event]:
        return self.send("session.update", session={"type": "realtime", **session})

    def take(self) -> list[Event]:
        """Events so far, jobs done as they come."""
        events = [orjson.loads(message) for message in self.session.messages_to_send()]
        self.jobs += self.session.jobs_to_run()
        while self.answers_jobs and self.jobs:
            job = self.jobs.pop(0)
            if isinstance(job, Hear):
                self.session.receive_heard(job.item_id, self.heard.pop(0) if self.heard else "", self.now)
            else:
                audio = b"\1" * (SPEECH_MS * job.output_format.bytes_per_ms)
                self.session.receive_speech(job.response_id, audio, self.now)
            events += [orjson.loads(message) for message in self.session.messages_to_send()]
            self.jobs += self.session.jobs_to_run()
        return events

    def wait(self, duration_s: float) -> list[Event]:
        """Let time pass, from deadline to deadline."""
        events, end = [], self.now + duration_s
        while (due := self.session.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.session.advance(self.now)
            events += self.take()
        self.now = end
        return events

    def speak(
        self, duration_ms: int = 600, quiet_ms: int = 700, encoding: Encoding = Encoding.PCM16
    ) -> list[Event]:
        """Caller speech, then silence."""
        rate = 24_000 if encoding is Encoding.PCM16 else 8_000
        time = np.arange(rate * duration_ms // 1000) / rate
        loud = (8_000 * np.sin(2 * np.pi * 400 * time)).astype("<i2").tobytes()
        pcm = loud + bytes(2 * (rate * quiet_ms // 1000))
        events = []
        for start in range(0, len(pcm), rate // 50 * 2):
            audio = from_pcm16(pcm[start : start + rate // 50 * 2], encoding)
            events += self.send("input_audio_buffer.append", audio=b64encode(audio).decode())
        return events

    def say(self, text: str, **options: Any) -> list[Event]:
        self.heard.append(text)
        return self.speak(**options)


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.take()
    return driver


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


def only(events: list[Event], event_type: str) -> Event:
    (event,) = [event for event in events if event["type"] == event_type]
    return event


def error_of(events: list[Event]) -> Event:
    (event,) = events
    assert event["type"] == "error", event
    assert event["error"]["type"] == "invalid_request_error"
    error: Event = event["error"]
    return error


def message(role: str, text: str, kind: str = "input_text") -> Event:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


class TestSession:
    def test_is_announced_at_once_with_the_whole_object(self) -> None:
        (created,) = Driver(expires_after_s=60).take()
        session = created["session"]
        assert created["type"] == "session.created"
        assert session["model"] == "gpt-test"
        assert session["expires_at"] == 1_700_000_060
        assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        assert session["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}

    def test_update_changes_what_it_names_and_echoes_everything(self, driver: Driver) -> None:
        driver.configure(instructions="Be brief.", tools=[TOOL])
        (updated,) = driver.configure(audio={"input": {"format": {"type": "audio/pcmu"}}})
        session = updated["session"]
        assert updated["type"] == "session.updated"
        assert session["instructions"] == "Be brief."
        assert session["tools"] == [TOOL]
        assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert session["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}

    def test_null_and_empty_values_clear(self, driver: Driver) -> None:
        driver.configure(
            instructions="x", tools=[TOOL], audio={"input": {"transcription": {"model": "whisper-1"}}}
        )
        (updated,) = driver.configure(
            instructions="", tools=[], audio={"input": {"transcription": None, "turn_detection": None}}
        )
        session = updated["session"]
        assert (session["instructions"], session["tools"]) == ("", [])
        assert session["audio"]["input"]["transcription"] is None
        assert session["audio"]["input"]["turn_detection"] is None

    @pytest.mark.parametrize(
        ("session", "code", "param"),
        [
            ({}, "missing_required_parameter", "session.type"),
            ({"type": "transcription"}, "invalid_value", "session.type"),
            ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
            ({"type": "realtime", "modalities": ["text"]}, "unknown_parameter", "session.modalities"),
            (
                {"type": "realtime", "output_modalities": ["audio", "text"]},
                "invalid_value",
                "session.output_modalities",
            ),
            ({"type": "realtime", "model": "other"}, "invalid_value", "session.model"),
            ({"type": "realtime", "max_output_tokens": 0}, "invalid_value", "session.max_output_tokens"),
            ({"type": "realtime", "max_output_tokens": True}, "invalid_type", "session.max_output_tokens"),
            (
                {"type": "realtime", "tools": [{"type": "function"}]},
                "missing_required_parameter",
                "session.tools[0].name",
            ),
            ({"type": "realtime", "tool_choice": "maybe"}, "invalid_value", "session.tool_choice"),
            (
                {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
                "invalid_value",
                "session.audio.input.format.rate",
            ),
            (
                {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}}},
                "unknown_parameter",
                "session.audio.input.format.rate",
            ),
            (
                {"type": "realtime", "audio": {"output": {"voice": "nobody"}}},
                "invalid_value",
                "session.audio.output.voice",
            ),
            (
                {"type": "realtime", "audio": {"output": {"speed": 2}}},
                "invalid_value",
                "session.audio.output.speed",
            ),
            (
                {
                    "type": "realtime",
                    "audio": {"input": {"turn_detection": {"type": "server_vad", "eagerness": "low"}}},
                },
                "unknown_parameter",
                "session.audio.input.turn_detection.eagerness",
            ),
            ("x", "invalid_type", "session"),
        ],
    )
    def test_a_bad_update_is_refused_as_a_whole(
        self, driver: Driver, session: Any, code: str, param: str
    ) -> None:
        if isinstance(session, dict):
            session = {"instructions": "changed", **session}
        error = error_of(driver.send("session.update", session=session))
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
        (updated,) = driver.configure()
        assert updated["session"]["instructions"] != "changed"

    def test_the_voice_is_locked_after_the_first_audio(self, driver: Driver) -> None:
        assert types(driver.configure(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
        driver.send("response.create")
        driver.wait(2)
        error = error_of(driver.configure(audio={"output": {"voice": "alloy"}}))
        assert error["param"] == "session.audio.output.voice"
        assert types(driver.configure(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
        error = error_of(driver.send("response.create", response={"audio": {"output": {"voice": "alloy"}}}))
        assert error["param"] == "response.audio.output.voice"

    def test_speed_changes_only_between_responses(self, driver: Driver) -> None:
        driver.send("response.create")
        assert error_of(driver.configure(audio={"output": {"speed": 1.2}}))["code"] == "invalid_value"
        driver.wait(2)
        assert types(driver.configure(audio={"output": {"speed": 1.2}})) == ["session.updated"]

    def test_expires_with_an_error_and_a_close(self) -> None:
        driver = Driver(expires_after_s=120)
        driver.take()
        events = driver.wait(121)
        assert error_of(events)["code"] == "session_expired"
        assert driver.session.close_code == 1001
        assert driver.session.next_deadline() is None
        assert driver.send("response.create") == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("raw", "code"),
        [
            (b"{", "invalid_event"),
            (b"[]", "invalid_event"),
            (b"\xff\xfe", "invalid_event"),
            (b"{}", "missing_required_parameter"),
            (b'{"type":1}', "invalid_type"),
            (b'{"type":"nonsense"}', "invalid_value"),
            (b'{"type":"output_audio_buffer.clear"}', "invalid_value"),
            (b'{"type":"response.create","extra":1}', "unknown_parameter"),
            (b'{"type":"response.create","event_id":7}', "invalid_type"),
            (b'{"type":"input_audio_buffer.append"}', "missing_required_parameter"),
        ],
    )
    def test_a_malformed_event_is_an_error_and_the_session_goes_on(
        self, driver: Driver, raw: bytes, code: str
    ) -> None:
        driver.session.receive(raw, driver.now)
        assert error_of(driver.take())["code"] == code
        assert types(driver.configure()) == ["session.updated"]

    @pytest.mark.parametrize(
        ("event_type", "fields", "code"),
        [
            ("conversation.item.retrieve", {"item_id": "none"}, "item_retrieve_invalid_item_id"),
            ("conversation.item.delete", {"item_id": "none"}, "item_delete_invalid_item_id"),
            (
                "conversation.item.truncate",
                {"item_id": "none", "content_index": 0, "audio_end_ms": 1},
                "item_truncate_invalid_item_id",
            ),
            (
                "conversation.item.truncate",
                {"item_id": "none", "content_index": 0, "audio_end_ms": 1.5},
                "invalid_type",
            ),
            (
                "conversation.item.create",
                {"item": message("user", "hi"), "previous_item_id": "none"},
                "item_create_invalid_previous_item_id",
            ),
            ("conversation.item.create", {"item": message("assistant", "hi")}, "invalid_value"),
            (
                "conversation.item.create",
                {"item": {"type": "function_call_output", "call_id": "none", "output": ""}},
                "invalid_tool_call_id",
            ),
            ("response.cancel", {}, "response_cancel_not_active"),
            ("response.cancel", {"response_id": "none"}, "response_cancel_not_active"),
            ("input_audio_buffer.commit", {}, "input_audio_buffer_commit_empty"),
            ("input_audio_buffer.append", {"audio": "a"}, "invalid_value"),
            ("input_audio_buffer.append", {"audio": "!!!!"}, "invalid_value"),
            ("input_audio_buffer.append", {"audio": "AAAA"}, "invalid_value"),
            ("response.create", {"response": {"conversation": "other"}}, "invalid_value"),
            ("response.create", {"response": {"metadata": {"k": 1}}}, "invalid_type"),
            (
                "response.create",
                {"response": {"input": [{"type": "item_reference", "id": "none"}]}},
                "item_retrieve_invalid_item_id",
            ),
        ],
    )
    def test_what_cannot_be_done_is_an_error_and_nothing_else(
        self, driver: Driver, event_type: str, fields: Event, code: str
    ) -> None:
        error = error_of(driver.send(event_type, **fields))
        assert (error["code"], error["event_id"]) == (code, "mine")


class TestResponses:
    def test_come_in_the_order_of_the_protocol(self, driver: Driver) -> None:
        events = driver.send("response.create") + driver.wait(2)
        order = [name for name in types(events) if not name.endswith(".delta")]
        assert order == [
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            # The words come before their sound, so that a client can log what is heard.
            "response.output_audio_transcript.done",
            "response.output_audio.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        assert len({event["event_id"] for event in events}) == len(events)

    def test_audio_and_transcript_deltas_join_to_the_whole(self, driver: Driver) -> None:
        events = driver.send("response.create") + driver.wait(2)
        audio = b"".join(
            b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"
        )
        words = "".join(
            event["delta"] for event in events if event["type"] == "response.output_audio_transcript.delta"
        )
        done = only(events, "response.done")["response"]
        assert len(audio) == SPEECH_MS * 48
        assert words == only(events, "response.output_audio_transcript.done")["transcript"]
        assert done["status"] == "completed"
        assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": words}]
        assert done["usage"]["output_token_details"]["audio_tokens"] == 20
        assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"]

    def test_audio_leaves_at_the_configured_pace(self) -> None:
        driver = Driver(pace=Pace(piece_ms=100, speed_up=4.0))
        driver.take()
        first = driver.send("response.create")
        assert types(first).count("response.output_audio.delta") == 1
        assert types(driver.wait(0.11)).count("response.output_audio.delta") == 4
        assert types(driver.wait(0.12)).count("response.done") == 1

    @pytest.mark.parametrize(
        ("name", "bytes_per_ms"), [("audio/pcm", 48), ("audio/pcmu", 8), ("audio/pcma", 8)]
    )
    def test_speak_in_the_output_format(self, driver: Driver, name: str, bytes_per_ms: int) -> None:
        driver.configure(audio={"output": {"format": {"type": name}}})
        events = driver.send("response.create") + driver.wait(2)
        sizes = [len(b64decode(e["delta"])) for e in events if e["type"] == "response.output_audio.delta"]
        assert sizes == [100 * bytes_per_ms] * 10

    def test_text_only_responses_have_no_audio(self, driver: Driver) -> None:
        driver.configure(output_modalities=["text"])
        events = driver.send("response.create")
        assert "response.output_audio.delta" not in types(events)
        text = only(events, "response.output_text.done")["text"]
        deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        assert "".join(deltas) == text == "Hello, how can I help you?"
        assert only(events, "response.done")["response"]["output"][0]["content"] == [
            {"type": "output_text", "text": text}
        ]

    def test_only_one_at_a_time(self, driver: Driver) -> None:
        driver.send("response.create")
        error = error_of(driver.send("response.create"))
        assert error["code"] == "conversation_already_has_active_response"
        driver.wait(2)
        assert "response.created" in types(driver.send("response.create"))

    def test_one_out_of_band_runs_beside_and_leaves_no_item(self, driver: Driver) -> None:
        driver.send("response.create")
        events = driver.send(
            "response.create",
            response={
                "conversation": "none",
                "output_modalities": ["text"],
                "metadata": {"topic": "note"},
                "instructions": "Say: Noted.",
                "input": [message("user", "hello")],
            },
        )
        done = only(events, "response.done")["response"]
        assert done["conversation_id"] is None
        assert done["metadata"] == {"topic": "note"}
        assert done["output"][0]["content"][0]["text"] == "Noted."
        assert "conversation.item.added" not in types(events)
        assert only(driver.wait(2), "response.done")["response"]["conversation_id"] is not None

    def test_overrides_hold_for_one_response(self, driver: Driver) -> None:
        driver.send(
            "response.create", response={"instructions": "Greeting: Good day.", "output_modalities": ["text"]}
        )
        (updated,) = driver.configure()
        assert updated["session"]["output_modalities"] == ["audio"]
        driver.send("conversation.item.create", item=message("user", "book an appointment"))
        events = driver.send("response.create", response={"tools": [TOOL]})
        assert only(events, "response.function_call_arguments.done")["name"] == "book_appointment"
        events = driver.send("conversation.item.create", item=message("user", "book an appointment"))
        assert "response.output_audio.delta" in types(driver.send("response.create"))

    def test_cancel_closes_everything_as_incomplete(self, driver: Driver) -> None:
        created = only(driver.send("response.create"), "response.created")["response"]["id"]
        driver.wait(0.05)
        events = driver.send("response.cancel", response_id=created)
        assert types(events) == [
            "response.output_audio.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        done = events[-1]["response"]
        assert done["status"] == "cancelled"
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert done["output"][0]["status"] == "incomplete"
        assert driver.wait(2) == []

    def test_cancel_before_anything_is_said_leaves_no_item(self, driver: Driver) -> None:
        driver.answers_jobs = False
        driver.speak()
        events = driver.send("response.cancel")
        assert types(events) == ["response.done"]
        assert events[0]["response"]["output"] == []

    def test_speech_that_comes_after_the_cancel_is_dropped(self, driver: Driver) -> None:
        driver.answers_jobs = False
        driver.send("response.create")
        (job,) = driver.jobs
        driver.send("response.cancel")
        driver.session.receive_speech(job.response_id, b"\0" * 4800, driver.now)  # type: ignore[union-attr]
        assert driver.wait(1) == []

    def test_the_token_limit_ends_it_incomplete(self, driver: Driver) -> None:
        driver.configure(max_output_tokens=6)
        events = driver.send("response.create") + driver.wait(2)
        done = only(events, "response.done")["response"]
        assert (done["status"], done["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
        assert types(events).count("response.output_audio.delta") == 3

    def test_a_fault_fails_so_many_responses(self) -> None:
        driver = Driver(fail_responses=1)
        driver.take()
        done = only(driver.send("response.create"), "response.done")["response"]
        assert done["status"] == "failed"
        assert done["status_details"]["error"]["code"] == "inference_rate_limit_exceeded"
        assert (
            only(driver.send("response.create") + driver.wait(2), "response.done")["response"]["status"]
            == "completed"
        )

    def test_a_voice_that_breaks_fails_the_response(self, driver: Driver) -> None:
        driver.answers_jobs = False
        driver.send("response.create")
        driver.session.receive_failure(driver.jobs[0], driver.now)
        assert only(driver.take(), "response.done")["response"]["status"] == "failed"


class TestCallerAudio:
    def test_a_turn_is_found_committed_heard_and_answered(self, driver: Driver) -> None:
        driver.configure(audio={"input": {"transcription": {"model": "whisper-1"}}})
        events = driver.say("hello") + driver.wait(2)
        order = [name for name in types(events) if not name.endswith(".delta") and "response." not in name]
        assert order == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "rate_limits.updated",
            "conversation.item.input_audio_transcription.completed",
            "conversation.item.added",
            "conversation.item.done",
        ]
        item_id = only(events, "input_audio_buffer.committed")["item_id"]
        assert only(events, "input_audio_buffer.speech_started")["item_id"] == item_id
        assert only(events, "input_audio_buffer.speech_stopped")["audio_end_ms"] == 1100
        completed = only(events, "conversation.item.input_audio_transcription.completed")
        assert (completed["item_id"], completed["transcript"]) == (item_id, "hello")

    def test_without_transcription_the_words_stay_inside(self, driver: Driver) -> None:
        events = driver.say("hello") + driver.wait(2)
        assert not [name for name in types(events) if "transcription" in name]
        item_id = only(events, "input_audio_buffer.committed")["item_id"]
        (retrieved,) = driver.send("conversation.item.retrieve", item_id=item_id)
        part = retrieved["item"]["content"][0]
        assert part["transcript"] is None
        assert len(b64decode(part["audio"])) == 1100 * 48

    @pytest.mark.parametrize(
        ("name", "encoding"), [("audio/pcmu", Encoding.MULAW), ("audio/pcma", Encoding.ALAW)]
    )
    def test_time_counts_bytes_of_the_input_format(
        self, driver: Driver, name: str, encoding: Encoding
    ) -> None:
        driver.speak(quiet_ms=1_000)
        driver.wait(2)
        driver.configure(audio={"input": {"format": {"type": name}}})
        events = driver.speak(encoding=encoding)
        assert only(events, "input_audio_buffer.speech_started")["audio_start_ms"] == 1600
        assert only(events, "input_audio_buffer.speech_stopped")["audio_end_ms"] == 1600 + 1100

    def test_padding_and_silence_follow_the_settings(self, driver: Driver) -> None:
        detection = {"type": "server_vad", "prefix_padding_ms": 100, "silence_duration_ms": 200}
        driver.configure(audio={"input": {"turn_detection": detection}})
        quiet = b64encode(bytes(48 * 500)).decode()
        driver.send("input_audio_buffer.append", audio=quiet)
        events = driver.speak(duration_ms=400, quiet_ms=300)
        assert only(events, "input_audio_buffer.speech_started")["audio_start_ms"] == 400
        assert only(events, "input_audio_buffer.speech_stopped")["audio_end_ms"] == 500 + 400 + 200

    def test_semantic_detection_waits_by_its_eagerness(self, driver: Driver) -> None:
        ends = {}
        for eagerness in ("low", "high"):
            detection = {"type": "semantic_vad", "eagerness": eagerness}
            driver.configure(audio={"input": {"turn_detection": detection}})
            events = driver.speak(quiet_ms=1_500)
            start = only(events, "input_audio_buffer.speech_started")["audio_start_ms"]
            ends[eagerness] = only(events, "input_audio_buffer.speech_stopped")["audio_end_ms"] - start
            driver.wait(3)
        assert ends["low"] > ends["high"] + 300

    def test_speech_cancels_the_running_response(self, driver: Driver) -> None:
        driver.send("response.create")
        driver.wait(0.03)
        events = driver.say("hello")
        names = types(events)
        done = next(event for event in events if event["type"] == "response.done")["response"]
        assert names.index("input_audio_buffer.speech_started") < names.index("response.output_audio.done")
        assert names.index("response.done") < names.index("input_audio_buffer.speech_stopped")
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert "response.created" in names[names.index("input_audio_buffer.committed") :]

    def test_without_interrupt_it_goes_on_and_the_answer_is_refused(self, driver: Driver) -> None:
        detection = {"type": "server_vad", "interrupt_response": False}
        driver.configure(audio={"input": {"turn_detection": detection}})
        driver.send("response.create")
        events = driver.speak()
        assert only(events, "error")["error"]["code"] == "conversation_already_has_active_response"
        assert "response.done" not in types(events)

    def test_without_create_response_nobody_answers(self, driver: Driver) -> None:
        detection = {"type": "server_vad", "create_response": False}
        driver.configure(audio={"input": {"turn_detection": detection}})
        events = driver.say("hello")
        assert "input_audio_buffer.committed" in types(events)
        assert "response.created" not in types(events)
        assert "response.created" in types(driver.send("response.create"))

    def test_without_detection_the_client_ends_turns(self, driver: Driver) -> None:
        driver.configure(audio={"input": {"turn_detection": None}})
        assert driver.speak() == []
        driver.heard.append("hello")
        events = driver.send("input_audio_buffer.commit")
        assert types(events) == [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
        ]
        assert error_of(driver.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"
        assert "response.created" in types(driver.send("response.create"))

    @pytest.mark.parametrize(("duration_ms", "is_enough"), [(99, False), (100, True)])
    def test_a_commit_needs_a_tenth_of_a_second(
        self, driver: Driver, duration_ms: int, is_enough: bool
    ) -> None:
        driver.configure(audio={"input": {"turn_detection": None}})
        driver.send("input_audio_buffer.append", audio=b64encode(bytes(48 * duration_ms)).decode())
        assert ("error" not in types(driver.send("input_audio_buffer.commit"))) is is_enough

    def test_clear_forgets_the_audio(self, driver: Driver) -> None:
        driver.configure(audio={"input": {"turn_detection": None}})
        driver.speak()
        assert types(driver.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
        assert error_of(driver.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"

    def test_one_message_may_hold_several_turns(self, driver: Driver) -> None:
        time = np.arange(24 * 500) / 24_000
        loud = (8_000 * np.sin(2 * np.pi * 400 * time)).astype("<i2").tobytes()
        turn = loud + bytes(48 * 700)
        events = driver.send("input_audio_buffer.append", audio=b64encode(turn + turn).decode())
        stops = [e["audio_end_ms"] for e in events if e["type"] == "input_audio_buffer.speech_stopped"]
        ids = {e["item_id"] for e in events if e["type"] == "input_audio_buffer.committed"}
        assert stops == [1000, 2200]
        assert len(ids) == 2

    def test_phrases_of_the_transcription_reach_the_ears(self, driver: Driver) -> None:
        transcription = {"model": "whisper-1", "prompt": "blue door\n\n red door ", "keywords": ["window"]}
        driver.configure(audio={"input": {"transcription": transcription}})
        driver.answers_jobs = False
        driver.speak()
        (job,) = driver.jobs
        assert isinstance(job, Hear)
        assert job.phrases == ("blue door", "red door", "window")

    def test_a_flood_of_commits_is_not_understood_but_kept_in_bounds(self, driver: Driver) -> None:
        driver.configure(audio={"input": {"turn_detection": None, "transcription": {"model": "m"}}})
        driver.answers_jobs = False
        names: list[str] = []
        for _ in range(20):
            driver.send("input_audio_buffer.append", audio=b64encode(bytes(4_800)).decode())
            names += types(driver.send("input_audio_buffer.commit"))
        assert len(driver.jobs) == 16
        assert names.count("conversation.item.input_audio_transcription.completed") == 4

    def test_a_silent_caller_is_asked_after_the_idle_timeout(self, driver: Driver) -> None:
        detection = {"type": "server_vad", "idle_timeout_ms": 5_000}
        driver.configure(audio={"input": {"turn_detection": detection}})
        driver.send("response.create")
        assert "input_audio_buffer.timeout_triggered" not in types(driver.wait(5.9))
        events = driver.wait(1)
        assert "input_audio_buffer.timeout_triggered" in types(events)
        assert "response.created" in types(events)

    def test_a_caller_who_speaks_is_not_asked(self, driver: Driver) -> None:
        detection = {"type": "server_vad", "idle_timeout_ms": 5_000, "create_response": False}
        driver.configure(audio={"input": {"turn_detection": detection}})
        driver.send("response.create")
        driver.wait(3)
        driver.speak()
        assert "input_audio_buffer.timeout_triggered" not in types(driver.wait(10))


class TestItems:
    def test_go_where_the_client_says(self, driver: Driver) -> None:
        for item_id, previous in (("b", None), ("a", "root"), ("c", "b"), ("x", "a")):
            events = driver.send(
                "conversation.item.create",
                item={"id": item_id, **message("user", item_id)},
                **({} if previous is None else {"previous_item_id": previous}),
            )
            assert types(events) == ["conversation.item.added", "conversation.item.done"]
        assert events[0]["previous_item_id"] == "a"
        assert types(driver.send("conversation.item.delete", item_id="a")) == ["conversation.item.deleted"]
        (retrieved,) = driver.send("conversation.item.retrieve", item_id="c")
        assert retrieved["item"]["content"] == [{"type": "input_text", "text": "c"}]

    def test_an_id_is_used_once(self, driver: Driver) -> None:
        item = {"id": "a", **message("user", "x")}
        driver.send("conversation.item.create", item=item)
        error = error_of(driver.send("conversation.item.create", item=item))
        assert error["code"] == "item_create_duplicate_item_id"

    def test_history_of_another_session_can_be_replayed(self, driver: Driver) -> None:
        for item in (
            message("user", "book an appointment"),
            {"type": "function_call", "call_id": "c1", "name": "book_appointment", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": '{"status":"needs_input","task":"book_appointment","say":"What day?"}',
            },
            message("assistant", "What day?", "output_text"),
            message("user", ""),
        ):
            assert "error" not in types(driver.send("conversation.item.create", item=item))
        events = driver.send("response.create", response={"output_modalities": ["text"]})
        assert only(events, "response.output_text.done")["text"].endswith("What day?")

    def test_a_function_call_goes_round(self, driver: Driver) -> None:
        driver.configure(tools=[TOOL])
        events = driver.say("book an appointment for tomorrow")
        done = only(events, "response.function_call_arguments.done")
        pieces = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
        assert "".join(pieces) == done["arguments"] == '{"date":"tomorrow"}'
        item = only(events, "response.done")["response"]["output"][0]
        assert (item["type"], item["call_id"], item["status"]) == (
            "function_call",
            done["call_id"],
            "completed",
        )
        output = {
            "type": "function_call_output",
            "call_id": done["call_id"],
            "output": '{"say":"It is done."}',
        }
        driver.send("conversation.item.create", item=output)
        events = driver.send("response.create") + driver.wait(2)
        assert only(events, "response.output_audio_transcript.done")["transcript"] == "It is done."


class TestTruncation:
    @pytest.fixture
    def spoken(self, driver: Driver) -> str:
        events = driver.send("response.create") + driver.wait(2)
        item_id: str = only(events, "response.output_item.done")["item"]["id"]
        return item_id

    def truncate(
        self, driver: Driver, item_id: str, audio_end_ms: int, content_index: int = 0
    ) -> list[Event]:
        return driver.send(
            "conversation.item.truncate",
            item_id=item_id,
            content_index=content_index,
            audio_end_ms=audio_end_ms,
        )

    def test_keeps_what_was_heard_and_forgets_the_words(self, driver: Driver, spoken: str) -> None:
        (truncated,) = self.truncate(driver, spoken, 400)
        assert truncated["type"] == "conversation.item.truncated"
        assert truncated["audio_end_ms"] == 400
        (retrieved,) = driver.send("conversation.item.retrieve", item_id=spoken)
        part = retrieved["item"]["content"][0]
        assert len(b64decode(part["audio"])) == 400 * 48
        assert "transcript" not in part

    def test_at_the_end_is_allowed_and_beyond_is_not(self, driver: Driver, spoken: str) -> None:
        assert types(self.truncate(driver, spoken, SPEECH_MS)) == ["conversation.item.truncated"]
        error = error_of(self.truncate(driver, spoken, SPEECH_MS + 1))
        assert error["code"] == "invalid_value"
        assert error["message"] == "Audio content of 1000ms is already shorter than 1001ms"

    def test_twice_only_shortens(self, driver: Driver, spoken: str) -> None:
        self.truncate(driver, spoken, 300)
        assert error_of(self.truncate(driver, spoken, 301))["code"] == "invalid_value"

    def test_of_an_item_being_spoken_counts_what_was_sent(self, driver: Driver) -> None:
        events = driver.send("response.create")
        item_id = only(events, "response.output_item.added")["item"]["id"]
        assert error_of(self.truncate(driver, item_id, 101))["code"] == "invalid_value"
        assert types(self.truncate(driver, item_id, 100)) == ["conversation.item.truncated"]
        events = driver.send("response.cancel")
        assert "transcript" not in only(events, "conversation.item.done")["item"]["content"][0]

    @pytest.mark.parametrize("item", [message("user", "hi"), message("assistant", "hi", "output_text")])
    def test_only_spoken_items_have_audio_to_cut(self, driver: Driver, item: Event) -> None:
        driver.send("conversation.item.create", item={"id": "a", **item})
        error = error_of(self.truncate(driver, "a", 0))
        assert error["message"] == "Only model output audio messages can be truncated."

    def test_needs_an_audio_part(self, driver: Driver, spoken: str) -> None:
        assert error_of(self.truncate(driver, spoken, 10, content_index=1))["param"] == "content_index"

    def test_an_item_deleted_while_it_is_spoken_stays_away(self, driver: Driver) -> None:
        events = driver.send("response.create")
        item_id = only(events, "response.output_item.added")["item"]["id"]
        driver.send("conversation.item.delete", item_id=item_id)
        events = driver.wait(2)
        assert only(events, "response.done")["response"]["status"] == "completed"
        assert "conversation.item.done" not in types(events)


def test_no_words_or_audio_show_in_the_jobs(driver: Driver) -> None:
    driver.answers_jobs = False
    driver.configure(audio={"input": {"transcription": {"model": "m", "prompt": "secret words"}}})
    driver.speak()
    shown: Callable[[object], str] = repr
    assert "secret" not in shown(driver.jobs[0])
    assert "pcm" not in shown(driver.jobs[0])
