"""Random calls: the brain, its ledger and the native downlink between a strict model and a strict carrier.

The model holds what a Realtime server would refuse: truncations beyond an item, unknown items, outputs of
unknown calls. The carrier holds what a play stream may do, and an ear plays what arrives and knows, sample by
sample, which item it belongs to. Whatever the order of events, neither has anything to complain of, nothing
is cut that was heard or kept that was not, and nobody hangs up on audio.
"""

import base64
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fastagent._native.pump import Downlink
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_24K, AudioFormat
from fastagent.bridge.brain import Bridge, BridgeLimits, Phase
from fastagent.bridge.commands import Command, EndCall, NoteInterruption, ReplaceModel, RunFunction
from fastagent.media.playout import STALE_FINISH_SLACK_S, PlayoutLedger
from fastagent.media.pumps import MediaPlan, build_downlink
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from fastagent.wire.openai_realtime import AUDIO_MEDIA, CREATE_RESPONSE_ID
from fastagent.wire.realtime_errors import ACTIVE_RESPONSE_CODE, CANCEL_NOT_ACTIVE_CODE

TICK_S = 1 / 32
LIMITS = BridgeLimits(
    hang_up_grace_s=1.0,
    leaving_limit_s=15.0,
    hang_up_timeout_s=5.0,
    transfer_timeout_s=20.0,
    resume_grace_s=30.0,
    hold_limit_s=20.0,
    max_call_s=150.0,
    model_session_limit_s=60.0,
)
STEPS_MAX = 2_000
"""More than the longest wait or the longest talk takes."""
CREATE_TIMEOUT_S = 10.0
"""After this the gate gives a create up, and another may follow."""


@dataclass(frozen=True)
class Delta:
    """Audio on its way to us."""

    response_id: str
    item_id: str
    ms: int


ServerEvent = model.ModelEvent | Delta


@dataclass
class ServerItem:
    """What the server knows of an item."""

    ms: int = 0
    is_deleted: bool = False


@dataclass
class StrictModel:
    """One session of a Realtime server. Commands work at once; events wait in the outbox to be delivered."""

    numbers: list[int]
    interrupts: bool
    outbox: deque[ServerEvent] = field(default_factory=deque)
    items: dict[str, ServerItem] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    active: str = ""
    speaking_item: str = ""
    is_configured: bool = False
    hears_caller: bool = False
    creates: int = 0
    unanswered_since: float | None = None
    """A create was sent, and nothing of responses was delivered since."""

    def _number(self) -> int:
        self.numbers[0] += 1
        return self.numbers[0]

    # What it does by itself

    def begin(self) -> None:
        self.active = f"r{self._number()}"
        self.outbox.append(model.ResponseCreated(self.active))

    def talk(self, ms: int) -> None:
        if not self.speaking_item:
            self.speaking_item = f"i{self._number()}"
            self.items[self.speaking_item] = ServerItem()
            self.outbox.append(model.ItemAdded(self.speaking_item, "message", "assistant"))
        self.items[self.speaking_item].ms += ms
        self.outbox.append(Delta(self.active, self.speaking_item, ms))

    def end_item(self) -> None:
        if self.speaking_item:
            text = f"words of {self.speaking_item}"
            self.outbox.append(model.AudioDone(self.active, self.speaking_item))
            self.outbox.append(model.BotTranscript(self.active, self.speaking_item, text, is_final=True))
            self.speaking_item = ""

    def call(self) -> None:
        call_id = f"c{self._number()}"
        self.calls.add(call_id)
        self.outbox.append(model.FunctionCall(call_id, "look_up", "{}", self.active, f"item_{call_id}"))

    def end(self, status: model.ResponseStatus) -> None:
        self.end_item()
        severity = model.Severity.RETRYABLE if status is model.ResponseStatus.FAILED else None
        self.outbox.append(model.ResponseDone(self.active, status, severity=severity))
        self.active = ""

    def hear_speech(self) -> None:
        self.hears_caller = True
        self.outbox.append(model.SpeechStarted("user"))
        if self.active and self.interrupts:
            self.end(model.ResponseStatus.CANCELLED)

    def hear_silence(self) -> None:
        self.hears_caller = False
        self.outbox += [model.SpeechStopped("user"), model.InputCommitted(f"u{self._number()}")]
        if not self.active:
            self.begin()

    def whisper(self, ms: int) -> None:
        """A response beside the conversation."""
        response_id, item_id = f"aside{self._number()}", f"aside{self._number()}"
        self.outbox += [
            model.ResponseCreated(response_id, is_out_of_band=True),
            Delta(response_id, item_id, ms),
            model.ResponseDone(response_id, model.ResponseStatus.COMPLETED),
        ]

    # What it is told

    def take(self, command: model.ModelCommand, now: float) -> None:
        assert self.is_configured or isinstance(command, model.UpdateSession), "spoke before session.update"
        match command:
            case model.UpdateSession():
                self.is_configured = True
            case model.CreateResponse():
                self._create(now)
            case model.CancelResponse(response_id):
                if self.active and response_id in (None, self.active):
                    self.end(model.ResponseStatus.CANCELLED)
                else:
                    error = model.ModelError(model.Severity.BENIGN, CANCEL_NOT_ACTIVE_CODE, "", "cancel-1")
                    self.outbox.append(error)
            case model.TruncateItem(item_id, audio_end_ms):
                item = self.items[item_id]
                assert not item.is_deleted, "truncated a deleted item"
                assert 0 < audio_end_ms <= item.ms, f"{item_id} is {item.ms} ms long"
                item.ms = audio_end_ms
            case model.DeleteItem(item_id):
                item = self.items[item_id]
                assert not item.is_deleted, "deleted twice"
                item.is_deleted = True
            case model.CreateItem(item=new):
                self._add(new)
            case model.ClearInput():
                pass
            case _:
                raise AssertionError(f"unexpected {command}")

    def _create(self, now: float) -> None:
        waited_s = None if self.unanswered_since is None else now - self.unanswered_since
        assert waited_s is None or waited_s >= CREATE_TIMEOUT_S, "two creates in flight"
        self.unanswered_since = now
        self.creates += 1
        if self.active:
            event_id = f"{CREATE_RESPONSE_ID}{self.creates}"
            self.outbox.append(model.ModelError(model.Severity.BENIGN, ACTIVE_RESPONSE_CODE, "", event_id))
        else:
            self.begin()

    def _add(self, item: model.Item) -> None:
        if item.item_id:
            assert item.item_id not in self.items, "an item id came twice"
            self.items[item.item_id] = ServerItem()
        if item.kind == "function_call":
            assert item.call_id not in self.calls, "a call was told twice"
            self.calls.add(item.call_id)
        elif item.kind == "function_call_output":
            assert item.call_id in self.calls, "an output of an unknown call"
            assert item.call_id not in self.outputs, "an output was posted twice"
            self.outputs.add(item.call_id)


@dataclass
class Run:
    """Consecutive samples of one item."""

    item_id: str
    samples: int


@dataclass
class Heard:
    """A run at the ear: from when, how long."""

    item_id: str
    start: float
    samples: int


class Ear:
    """Plays what arrives, in real time, without gaps where it can."""

    def __init__(self, sample_rate: int, link_delay_s: float) -> None:
        self.rate = sample_rate
        self.delay_s = link_delay_s
        self.runs: list[Heard] = []
        self.free_at = 0.0

    def play(self, run: Run, now: float) -> None:
        start = max(now + self.delay_s, self.free_at)
        self.runs.append(Heard(run.item_id, start, run.samples))
        self.free_at = start + run.samples / self.rate

    def cut(self, now: float) -> None:
        for run in self.runs:
            run.samples = min(run.samples, max(0, int((now - run.start) * self.rate)))
        self.free_at = min(self.free_at, now)

    def heard_ms(self, item_id: str, now: float) -> float:
        of_item = (run for run in self.runs if run.item_id == item_id)
        samples = sum(min(run.samples, max(0.0, (now - run.start) * self.rate)) for run in of_item)
        return samples * 1000 / self.rate


@dataclass
class StrictCarrier:
    """The play streams of one conversation, over one socket at a time."""

    ear: Ear
    finishes: str
    """``never``, ``lossy``, ``real``, ``named`` or ``all``: which ends of playbacks it tells of."""
    chance: random.Random
    open_id: str = ""
    used: set[str] = field(default_factory=set)
    due: list[tuple[float, str]] = field(default_factory=list)
    is_connected: bool = True
    is_leaving: bool = False

    def template(self, playback_id: str) -> tuple[bytes, bytes]:
        """What is to be written around audio of this playback."""
        return json.dumps({"id": playback_id, "audio": ""}).removesuffix('"}').encode(), b'"}'

    def audio_in(self, message: bytes) -> bytes:
        """The audio of a message, which must belong to the open playback."""
        chunk = json.loads(message)
        assert chunk["id"] == self.open_id, "audio outside its playback"
        return base64.b64decode(chunk["audio"])

    def open(self, playback_id: str) -> None:
        assert not self.open_id, "two playbacks open"
        assert playback_id not in self.used, "a playback id came again"
        self.used.add(playback_id)
        self.open_id = playback_id

    def close(self, playback_id: str, now: float) -> None:
        assert playback_id == self.open_id, "closed a playback that is not open"
        self.open_id = ""
        if self.finishes != "never" and not (self.finishes == "lossy" and self.chance.random() < 0.4):
            self._finish(playback_id, max(now, self.ear.free_at))

    def abort(self, now: float) -> None:
        aborted = [playback_id for at, playback_id in self.due if at > now]
        if self.finishes == "all":
            for playback_id in [*aborted, *filter(None, [self.open_id])]:
                self._finish(playback_id, now)
        self.due = [(at, one) for at, one in self.due if one not in aborted or self.finishes == "all"]
        self.ear.cut(now)

    def drop_socket(self, now: float) -> None:
        self.is_connected = False
        self.open_id = ""
        self.due.clear()
        self.ear.cut(now)

    def _finish(self, playback_id: str, at: float) -> None:
        self.due = [entry for entry in self.due if entry[1] != playback_id]
        self.due.append((at + self.chance.choice([0.0, 0.0625, 0.25]), playback_id))
        self.due.sort()

    def finished(self, now: float) -> Sequence[carrier.CarrierEvent]:
        over = [one for at, one in self.due if at <= now]
        self.due = self.due[len(over) :]
        return [carrier.PlaybackFinished(one if self.finishes == "named" else None) for one in over]


class World:
    """One call as `fastagent.call` would carry it out, on a clock of its own."""

    def __init__(
        self,
        *,
        is_passthrough: bool,
        lead_ms: int,
        link_delay_ms: int,
        interrupts: bool,
        finishes: str,
        closes_when_heard: bool,
    ) -> None:
        self.now = 1000.0
        line: AudioFormat = MULAW_8K if is_passthrough else PCM16_8K
        self.model_format: AudioFormat = MULAW_8K if is_passthrough else PCM16_24K
        self.media = carrier.MediaOffer("line", line)
        plan = MediaPlan(self.media, self.model_format)
        self.downlink: Downlink = build_downlink(plan, AUDIO_MEDIA, lead_ms=lead_ms, queue_limit_ms=600_000)
        self.downlink.on_item = self._meet_item
        detection = model.TurnDetection(interrupt_response=interrupts)
        self.brain = Bridge(
            PlayoutLedger(self.downlink, line, self.model_format, link_delay_ms=link_delay_ms),
            self.media,
            model.SessionSettings(self.model_format, self.model_format, turn_detection=detection),
            greeting="Hello.",
            limits=self.limits,
            closes_when_heard=closes_when_heard,
            now=self.now,
        )
        self.interrupts = interrupts
        self.numbers = [0]
        self.server: StrictModel | None = None
        self.line = self.new_line(Ear(line.sample_rate, link_delay_ms / 1000), finishes)
        self.waiting: deque[Run] = deque()
        self.received_ms: dict[str, int] = {}
        self.cut_items: set[str] = set()
        self.functions: set[str] = set()
        self.wants_replacement = False
        self.leaving_since: float | None = None
        self.has_failed = False
        self.slack_ms = 1.5 + (STALE_FINISH_SLACK_S * 1000 if finishes == "all" else 0)
        # Silences on the way to the ear may be counted twice, to the safe side.
        self.slack_below_ms = self.slack_ms + link_delay_ms
        self.open_model()

    limits = LIMITS

    def new_line(self, ear: Ear, finishes: str) -> StrictCarrier:
        return StrictCarrier(ear, finishes, random.Random(1))

    # Carrying out

    def do(self, commands: list[Command], *, is_over: bool = False) -> None:
        self._follow_queue()
        assert not (is_over and commands), f"after the end: {commands}"
        assert sum(isinstance(one, model.CreateResponse) for one in commands) <= 1
        for command in commands:
            match command:
                case RunFunction():
                    self.functions.add(command.call_id)
                case ReplaceModel():
                    assert self.is_connected
                    self.wants_replacement = True
                case NoteInterruption():
                    self.cut_items.add(command.item_id)
                case EndCall():
                    assert command is commands[-1]
                    assert self.brain.phase is Phase.ENDED
                case _ if isinstance(command, model.ModelCommand):
                    self._check_cut(command)
                    if self.server is not None:
                        self.server.take(command, self.now)
                case _ if isinstance(command, carrier.CarrierCommand):
                    if self.line.is_connected:
                        self._tell_carrier(command)
        self._settle()

    def _tell_carrier(self, command: carrier.CarrierCommand) -> None:
        assert not self.line.is_leaving or self.has_failed or not isinstance(command, carrier.OpenPlayback)
        match command:
            case carrier.OpenPlayback(playback_id):
                self.line.open(playback_id)
                self.downlink.set_template(*self.line.template(playback_id))
            case carrier.ClosePlayback(playback_id):
                self.line.close(playback_id, self.now)
            case carrier.AbortPlayback():
                assert not self.downlink.is_queued, "the queue was not dropped first"
                assert not self.line.open_id, "aborted with a playback open"
                self.line.abort(self.now)
            case carrier.HangUp() | carrier.TransferCall():
                self._check_farewell()
                self.line.is_leaving = True
            case carrier.FailSession():
                assert not self.brain.has_started_talking
            case _:
                pass

    def _check_cut(self, command: model.ModelCommand) -> None:
        if isinstance(command, model.TruncateItem):
            heard_ms = self.line.ear.heard_ms(command.item_id, self.now)
            assert command.audio_end_ms <= self.received_ms[command.item_id]
            assert command.audio_end_ms <= heard_ms + self.slack_ms, f"heard {heard_ms} ms"
            assert (
                command.audio_end_ms >= min(heard_ms, self.received_ms[command.item_id]) - self.slack_below_ms
            )
            self.cut_items.add(command.item_id)
        elif isinstance(command, model.DeleteItem):
            heard_ms = self.line.ear.heard_ms(command.item_id, self.now)
            assert heard_ms <= self.slack_below_ms, f"deleted after {heard_ms} ms were heard"
            self.cut_items.add(command.item_id)

    def _check_farewell(self) -> None:
        if self.has_failed:
            return
        if self.leaving_since is not None and self.now >= self.leaving_since + LIMITS.leaving_limit_s:
            return
        assert not self.downlink.is_queued, "left with audio in the queue"
        assert not self.line.open_id, "left with a playback open"
        unheard_ms = (self.line.ear.free_at - self.now) * 1000
        assert unheard_ms <= self.slack_ms, f"left {unheard_ms} ms before the last audio was heard"
        assert not self.functions, "left while a function runs"

    def _settle(self) -> None:
        """Do what has become due; one `advance` must be enough for now."""
        if self.brain.phase is Phase.LEAVING:
            self.leaving_since = self.now if self.leaving_since is None else self.leaving_since
        elif self.brain.phase is Phase.TALKING:
            self.leaving_since = None
            self.line.is_leaving = False
        deadline = self.brain.next_deadline()
        if deadline is not None and deadline <= self.now:
            commands = self.brain.advance(self.now)
            later = self.brain.next_deadline()
            assert later is None or later > self.now, "a deadline stays in the past"
            self.do(commands)

    # Audio

    def _meet_item(self, response_id: str, item_id: str, content_index: int) -> bool:
        is_over = self.brain.phase is Phase.ENDED
        is_played, commands = self.brain.meet_item(response_id, item_id, content_index, self.now)
        assert not (is_played and is_over)
        self.do(commands, is_over=is_over)
        return is_played

    def _follow_queue(self) -> None:
        """Keep the record of whose samples wait in step with the downlink, which drops all or adds a tail."""
        known = sum(run.samples for run in self.waiting)
        if self.downlink.queued < known:
            assert self.downlink.queued == 0
            self.waiting.clear()
        elif self.downlink.queued > known:
            last = self.waiting[-1].item_id if self.waiting else self.last_fed
            self.waiting.append(Run(last, self.downlink.queued - known))

    last_fed = ""

    def _hear(self, delta: Delta) -> None:
        if self.brain.phase is Phase.ENDED:
            return  # the call has closed its legs
        number = int(delta.item_id.lstrip("aside") or 0) % 200 + 1
        pattern = bytes([number]) if self.model_format is MULAW_8K else bytes([number, 0])
        message = {
            "type": "response.output_audio.delta",
            "response_id": delta.response_id,
            "item_id": delta.item_id,
            "content_index": 0,
            "delta": base64.b64encode(pattern * self.model_format.samples_in_ms(delta.ms)).decode(),
        }
        received = self.downlink.received
        sent = self.downlink.feed(json.dumps(message).encode(), self.now)
        if self.downlink.received > received:
            self.received_ms[delta.item_id] = self.received_ms.get(delta.item_id, 0) + delta.ms
            self.last_fed = delta.item_id
        leaving = self._samples(sent)
        known = sum(run.samples for run in self.waiting)
        added = self.downlink.queued + leaving - known
        if added:
            self.waiting.append(Run(delta.item_id, added))
        self._leave(sent)
        self.send_due()

    def _samples(self, message: bytes | None) -> int:
        if message is None:
            return 0
        return self.media.format.samples(len(self.line.audio_in(message)))

    def send_due(self) -> None:
        if not self.line.is_connected:
            return
        was_queued = self.downlink.is_queued
        while (message := self.downlink.due(self.now)) is not None:
            self._leave(message)
        if was_queued and not self.downlink.is_queued:
            is_over = self.brain.phase is Phase.ENDED
            self.do(self.brain.playout_drained(self.now), is_over=is_over)

    def _leave(self, message: bytes | None) -> None:
        if message is None:
            return
        assert self.line.is_connected
        audio = self.line.audio_in(message)
        samples = self._samples(message)
        at = 0
        while samples:
            run = self.waiting[0]
            n = min(samples, run.samples)
            assert run.item_id not in self.cut_items, "audio of a cut item was sent"
            assert not run.item_id.startswith("aside"), "audio beside the conversation was sent"
            if self.model_format is MULAW_8K:
                assert set(audio[at : at + n]) == {int(run.item_id[1:]) % 200 + 1}
            self.line.ear.play(Run(run.item_id, n), self.now)
            samples, at = samples - n, at + n
            run.samples -= n
            if not run.samples:
                self.waiting.popleft()

    # The model's side

    @property
    def is_connected(self) -> bool:
        return self.server is not None

    def open_model(self) -> None:
        """A session, the first or another one in place of the last."""
        self.server = StrictModel(self.numbers, self.interrupts)
        self.wants_replacement = False
        self.downlink.forget_item()
        is_over = self.brain.phase is Phase.ENDED
        self.do(self.brain.model_opened(self.now), is_over=is_over)

    def lose_model(self) -> None:
        self.server = None
        self.wants_replacement = False
        is_over = self.brain.phase is Phase.ENDED
        self.do(self.brain.model_lost(self.now), is_over=is_over)

    def deliver(self, count: int = 1_000_000) -> None:
        server = self.server
        steps = 0
        while server is not None and server is self.server and server.outbox and count:
            count -= 1
            steps += 1
            assert steps < STEPS_MAX, "each answer of the model asks for the next"
            event = server.outbox.popleft()
            if isinstance(event, Delta):
                self._hear(event)
                continue
            if isinstance(event, model.ResponseCreated | model.ResponseDone | model.ModelError):
                server.unanswered_since = None
            is_over = self.brain.phase is Phase.ENDED
            self.do(self.brain.receive_model(event, self.now), is_over=is_over)

    # The carrier's side

    def carrier_says(self, event: carrier.CarrierEvent) -> None:
        if self.line.is_connected:
            is_over = self.brain.phase is Phase.ENDED
            self.do(self.brain.receive_carrier(event, self.now), is_over=is_over)

    def lose_carrier(self) -> None:
        is_over = self.brain.phase is Phase.ENDED
        # The socket is gone before anybody can be told, but the ear heard on until now.
        self.line.is_connected = False
        self.do(self.brain.carrier_lost(self.now), is_over=is_over)
        self.line.drop_socket(self.now)

    def resume_carrier(self) -> None:
        is_over = self.brain.phase is Phase.ENDED
        commands = self.brain.carrier_resumed(self.now)
        if self.brain.phase is Phase.LEAVING:
            self.leaving_since = self.now
        self.line.is_connected = False
        self.do([one for one in commands if not isinstance(one, carrier.CarrierCommand)], is_over=is_over)
        self.line.drop_socket(self.now)
        self.line.is_connected = self.brain.phase is not Phase.ENDED
        for command in commands:
            if isinstance(command, carrier.CarrierCommand) and self.line.is_connected:
                self._tell_carrier(command)

    # The agent's side

    def return_function(self, call_id: str, *, should_respond: bool) -> None:
        self.functions.discard(call_id)
        is_over = self.brain.phase is Phase.ENDED
        commands = self.brain.function_returned(call_id, "out", self.now, should_respond=should_respond)
        posted = [one for one in commands if isinstance(one, model.CreateItem)]
        outputs = [one for one in posted if one.item.kind == "function_call_output"]
        assert len(outputs) == (1 if self.is_connected and not is_over else 0)
        self.do(commands, is_over=is_over)

    # Time

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        steps = 0
        while self.now < end:
            steps += 1
            assert steps < STEPS_MAX, "time stands still"
            step = end
            if self.downlink.is_queued and self.line.is_connected:
                step = min(step, self.now + TICK_S)
            if self.line.due:
                step = min(step, self.line.due[0][0])
            deadline = self.brain.next_deadline()
            if deadline is not None:
                step = min(step, deadline)
            self.now = max(self.now, step)
            self.send_due()
            if self.line.is_connected:
                for event in self.line.finished(self.now):
                    self.carrier_says(event)
            self._settle()

    def end(self) -> None:
        """However the call stands, it can be brought to its end."""
        for _ in range(4):
            if self.brain.phase is Phase.ENDED:
                break
            self.do(self.brain.hang_up("end", self.now))
            self.wait(LIMITS.resume_grace_s + LIMITS.leaving_limit_s + LIMITS.hang_up_timeout_s)
        assert self.brain.phase is Phase.ENDED
        assert self.brain.next_deadline() is None


WAITS_S = st.sampled_from([1 / 64, 1 / 16, 1 / 8, 0.25, 0.5, 1.0, 2.0, 5.0, 12.0])
SHORT_WAITS_S = st.sampled_from([1 / 64, 1 / 8, 0.375, 1.0])
PIECES_MS = st.sampled_from([20, 60, 100, 400, 1000])


WISHES = ("announce", "announce", "announce", "hold", "hold over", "transfer", "hang up")


class AnyCall(RuleBasedStateMachine):
    """Events of model, carrier, agent and time in any order."""

    world: World

    @initialize(
        is_passthrough=st.booleans(),
        lead_ms=st.sampled_from([200, 400, 60_000]),
        link_delay_ms=st.sampled_from([0, 0, 125]),
        interrupts=st.booleans(),
        finishes=st.sampled_from(["never", "lossy", "real", "named", "all", "all"]),
        closes_when_heard=st.booleans(),
        is_answered=st.booleans(),
    )
    def begin(
        self,
        is_passthrough: bool,
        lead_ms: int,
        link_delay_ms: int,
        interrupts: bool,
        finishes: str,
        closes_when_heard: bool,
        is_answered: bool,
    ) -> None:
        self.world = World(
            is_passthrough=is_passthrough,
            lead_ms=lead_ms,
            link_delay_ms=link_delay_ms,
            interrupts=interrupts,
            finishes=finishes,
            closes_when_heard=closes_when_heard,
        )
        if is_answered:
            self._speak([400, 400])

    def _speak(self, pieces: list[int]) -> None:
        server = self.world.server
        if server is not None and server.active:
            for ms in pieces:
                server.talk(ms)
            server.end(model.ResponseStatus.COMPLETED)
        self.world.deliver()

    # Model

    def _has_response(self) -> bool:
        return self.world.server is not None and bool(self.world.server.active)

    def _has_server(self) -> bool:
        return self.world.server is not None

    @precondition(_has_response)
    @rule(ms=PIECES_MS)
    def server_talks(self, ms: int) -> None:
        assert self.world.server is not None
        self.world.server.talk(ms)

    @precondition(_has_response)
    @rule()
    def server_ends_item(self) -> None:
        assert self.world.server is not None
        self.world.server.end_item()

    @precondition(_has_response)
    @rule()
    def server_calls(self) -> None:
        assert self.world.server is not None
        self.world.server.call()

    @precondition(_has_response)
    @rule(
        status=st.sampled_from(
            [model.ResponseStatus.COMPLETED, model.ResponseStatus.COMPLETED, model.ResponseStatus.FAILED]
        )
    )
    def server_ends_response(self, status: model.ResponseStatus) -> None:
        assert self.world.server is not None
        self.world.server.end(status)

    @precondition(_has_response)
    @rule(pieces=st.lists(PIECES_MS, min_size=1, max_size=4))
    def server_speaks_a_whole_response(self, pieces: list[int]) -> None:
        self._speak(pieces)

    @precondition(_has_server)
    @rule(ms=PIECES_MS)
    def server_whispers(self, ms: int) -> None:
        assert self.world.server is not None
        self.world.server.whisper(ms)

    @precondition(_has_server)
    @rule()
    def caller_starts_or_stops(self) -> None:
        server = self.world.server
        assert server is not None
        if server.hears_caller:
            server.hear_silence()
        else:
            server.hear_speech()

    @precondition(_has_server)
    @rule()
    def caller_interrupts_now(self) -> None:
        assert self.world.server is not None
        if not self.world.server.hears_caller:
            self.world.server.hear_speech()
        self.world.deliver()

    @precondition(_has_server)
    @rule(count=st.sampled_from([1, 1, 3, 1000]))
    def events_arrive(self, count: int) -> None:
        self.world.deliver(count)

    @precondition(_has_server)
    @rule(pieces=st.lists(PIECES_MS, min_size=1, max_size=4), seconds=SHORT_WAITS_S, is_whole=st.booleans())
    def caller_takes_a_turn_and_hears_some(self, pieces: list[int], seconds: float, is_whole: bool) -> None:
        server = self.world.server
        assert server is not None
        if not server.hears_caller:
            server.hear_speech()
        server.hear_silence()
        if is_whole:
            self._speak(pieces)
        else:
            for ms in pieces:
                if server.active:
                    server.talk(ms)
            self.world.deliver()
        self.world.wait(seconds)

    @precondition(lambda self: self.world.server is None or self.world.wants_replacement)
    @rule()
    def model_opens(self) -> None:
        self.world.open_model()

    # Carrier

    @precondition(lambda self: not self.world.line.is_connected)
    @rule()
    def carrier_is_back(self) -> None:
        self.world.resume_carrier()

    @rule(misfortune=st.sampled_from(["model lost", "carrier lost", "carrier changes sockets", "call ends"]))
    def bad_luck_strikes(self, misfortune: str) -> None:
        if misfortune == "model lost" and self.world.server is not None:
            self.world.lose_model()
        elif misfortune == "carrier lost" and self.world.line.is_connected:
            self.world.lose_carrier()
        elif misfortune == "carrier changes sockets":
            self.world.resume_carrier()
        elif misfortune == "call ends" and self.world.line.is_leaving:
            self.world.carrier_says(carrier.SessionEnded(carrier.EndReason.BOT))

    @rule(
        event=st.sampled_from(
            [
                carrier.PlaybackFinished("play-0"),
                carrier.NoUserInput(1),
                carrier.DtmfReceived("1"),
                carrier.TransferStatus(answered=False),
                carrier.TransferStatus(answered=True),
                carrier.CallerText("yes"),
            ]
        )
    )
    def carrier_tells(self, event: carrier.CarrierEvent) -> None:
        self.world.carrier_says(event)

    # Agent

    @precondition(lambda self: bool(self.world.functions))
    @rule(should_respond=st.booleans())
    def a_function_returns(self, should_respond: bool) -> None:
        self.world.return_function(min(self.world.functions), should_respond=should_respond)

    @rule(wish=st.sampled_from(WISHES))
    def agent_wishes(self, wish: str) -> None:
        brain, now = self.world.brain, self.world.now
        is_over = brain.phase is Phase.ENDED
        if wish == "announce":
            commands = brain.announce("News.", now)
        elif wish == "transfer":
            commands = brain.transfer(carrier.TransferCall("tel:+15550100099"), now)
        elif wish == "hold":
            commands = brain.hold(None, now)
        elif wish == "hold over":
            commands = brain.end_hold(now)
        else:
            commands = brain.hang_up("bye", now)
        self.world.do(commands, is_over=is_over)

    # Time

    @rule(seconds=WAITS_S)
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()


TestAnyCall = AnyCall.TestCase
TestAnyCall.settings = settings(
    max_examples=600,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
