"""A brain on a stage: its ledger, the real downlink, a clock moved by hand, peers played by the test."""

import base64
import json

from fastagent._native.pump import Downlink
from fastagent.audio.formats import MULAW_8K
from fastagent.bridge.brain import Bridge, BridgeLimits
from fastagent.bridge.commands import Command
from fastagent.media.bargein import BargeIn, BargeInPolicy
from fastagent.media.playout import PlayoutLedger
from fastagent.media.pumps import MediaPlan, build_downlink
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from fastagent.wire.openai_realtime import AUDIO_MEDIA

MEDIA = carrier.MediaOffer("raw/mulaw", MULAW_8K)
STARTED = carrier.ReportSpeech(carrier.SpeechPhase.STARTED)
STOPPED = carrier.ReportSpeech(carrier.SpeechPhase.STOPPED)
COMMITTED = carrier.ReportSpeech(carrier.SpeechPhase.COMMITTED)
TICK_S = 1 / 64
"""A binary fraction, as the waits below, so that positions come out exactly."""


class Speech:
    """What our ears hear of the caller; the test sets it."""

    def __init__(self) -> None:
        self.spoken = 0
        self.quiet = 0
        self.rearmed = 0

    def spoken_ms(self) -> int:
        return self.spoken

    def quiet_ms(self) -> int:
        return self.quiet

    def rearm(self) -> None:
        self.rearmed += 1


class Stage:
    """A brain, its ledger and the real downlink, on a clock that is moved by hand."""

    def __init__(
        self,
        *,
        greeting: str = "",
        interrupts: bool = True,
        answers: bool = True,
        lead_ms: int = 400,
        is_open: bool = True,
        closes_when_heard: bool = False,
        policy: BargeInPolicy | None = None,
        detects_turns: bool = True,
        transcribes: bool = False,
        **limits: float,
    ) -> None:
        self.now = 100.0
        plan = MediaPlan(MEDIA, MULAW_8K)
        self.downlink: Downlink = build_downlink(
            plan, AUDIO_MEDIA, lead_ms=lead_ms, queue_limit_ms=60_000, retains=policy is not None
        )
        self.downlink.on_item = self._meet_item
        self.speech = Speech()
        detection = model.TurnDetection(
            kind="server_vad" if detects_turns else "none",
            create_response=answers and detects_turns,
            interrupt_response=interrupts and policy is None,
        )
        self.settings = model.SessionSettings(
            MULAW_8K,
            MULAW_8K,
            turn_detection=detection,
            transcription_model="words" if transcribes else None,
        )
        self.brain = Bridge(
            PlayoutLedger(self.downlink, MULAW_8K, MULAW_8K),
            MEDIA,
            self.settings,
            greeting=greeting,
            limits=BridgeLimits(**limits),
            closes_when_heard=closes_when_heard,
            barge_in=None if policy is None else BargeIn(self.speech, policy),
            now=self.now,
        )
        self._met: list[Command] = []
        if is_open:
            self.brain.model_opened(self.now)

    def _meet_item(self, response_id: str, item_id: str, content_index: int) -> bool:
        is_played, commands = self.brain.meet_item(response_id, item_id, content_index, self.now)
        self._met += commands
        return is_played

    def model(self, *events: model.ModelEvent) -> list[Command]:
        return [command for event in events for command in self.brain.receive_model(event, self.now)]

    def carrier(self, *events: carrier.CarrierEvent) -> list[Command]:
        return [command for event in events for command in self.brain.receive_carrier(event, self.now)]

    def audio(self, item_id: str, ms: int, *, of: str = "r1") -> list[Command]:
        """The model sends ``ms`` of an item; the commands that meeting it gave."""
        delta = {
            "type": "response.output_audio.delta",
            "response_id": of,
            "item_id": item_id,
            "content_index": 0,
            "delta": base64.b64encode(b"\x55" * 8 * ms).decode(),
        }
        self.downlink.feed(json.dumps(delta).encode(), self.now)
        met, self._met = self._met, []
        return met

    def says(self, item_id: str = "i1", ms: int = 200, *, of: str = "r1") -> None:
        """A whole response: begun, spoken, ended."""
        self.begins(of)
        self.audio(item_id, ms, of=of)
        self.model(model.AudioDone(of, item_id), done(of))

    def begins(self, response_id: str = "r1") -> list[Command]:
        return self.model(model.ResponseCreated(response_id))

    def wait(self, seconds: float) -> list[Command]:
        """Time passes: queued audio leaves every tick, and what is due is done when it is due."""
        commands: list[Command] = []
        end = self.now + seconds
        while self.now < end:
            deadline = self.brain.next_deadline()
            step = min(end, self.now + TICK_S)
            if deadline is not None and deadline < step:
                step = max(self.now, deadline)
            self.now = step
            was_queued = self.downlink.is_queued
            while self.downlink.due(self.now) is not None:
                pass
            if was_queued and not self.downlink.is_queued:
                commands += self.brain.playout_drained(self.now)
            deadline = self.brain.next_deadline()
            if deadline is not None and self.now >= deadline:
                commands += self.brain.advance(self.now)
                later = self.brain.next_deadline()
                assert later is None or later > self.now
        return commands

    def interrupt(self) -> list[Command]:
        return self.model(model.SpeechStarted("u1"))

    def turn(self) -> list[Command]:
        """The caller's utterance ends and joins the conversation."""
        return self.model(model.SpeechStopped("u1"), model.InputCommitted("u1"))

    def leave(self) -> None:
        """The carrier's socket is lost, and found again after a second."""
        self.brain.carrier_lost(self.now)
        self.now += 1.0


def done(
    response_id: str = "r1",
    status: model.ResponseStatus = model.ResponseStatus.COMPLETED,
    severity: model.Severity | None = None,
) -> model.ResponseDone:
    return model.ResponseDone(response_id, status, severity=severity)


def function(call_id: str = "c1", response_id: str = "r1") -> model.FunctionCall:
    return model.FunctionCall(call_id, "look_up", "{}", response_id, f"item_{call_id}")


def said(item_id: str, text: str, *, of: str = "r1") -> model.BotTranscript:
    return model.BotTranscript(of, item_id, text, is_final=True)


def texts(commands: list[Command]) -> list[tuple[str, str]]:
    """The items created, as kind or role and text."""
    items = [command.item for command in commands if isinstance(command, model.CreateItem)]
    return [(item.role or item.kind, item.text) for item in items]


def without_items(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not isinstance(command, model.CreateItem)]


def is_speaking(stage: Stage) -> None:
    stage.interrupt()


def hears_the_bot(stage: Stage) -> None:
    stage.says("i1", 250)


def waits_for_the_model(stage: Stage) -> None:
    stage.begins()


def waits_for_a_function(stage: Stage) -> None:
    stage.begins()
    stage.model(function(), done())
