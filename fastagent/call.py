"""One call's life: opens the legs, carries the brain's commands out, runs timer and agent, closes all.

Events come in synchronously from the legs; the brain's commands go out in the same callback. Only the agent's
functions and the connection to the model are tasks, held by the call and ended with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

from fastagent._native.level import LevelFigures
from fastagent._native.tap import Heard, News
from fastagent.afsm.machine import Limits
from fastagent.afsm.voice import VoicePolicy
from fastagent.agent import AgentSession, FastAgent, Transition
from fastagent.audio.formats import MULAW_8K, PCM16_8K, AudioFormat
from fastagent.bridge import commands as asked
from fastagent.bridge.brain import PASSIVE_EVENTS, Bridge, BridgeLimits, Phase
from fastagent.bridge.clips import Clip
from fastagent.bridge.commands import Command
from fastagent.errors import AudioError, LegError, PlaybackRefusedError
from fastagent.legs.carrier import CarrierSocket
from fastagent.legs.model import ModelConnector, ModelSocket
from fastagent.legs.tick import PlayoutTick
from fastagent.legs.watch import LegWatch
from fastagent.media.bargein import BargeIn, BargeInPolicy
from fastagent.media.ears import NO_EARS, EarsPlan, build_tap
from fastagent.media.playout import PlayoutLedger
from fastagent.media.pumps import MediaPlan, build_downlink, build_uplink, plan_media
from fastagent.recording import CallTrack, RecordingWriter
from fastagent.settings import Settings
from fastagent.stats import Counters, TimeClasses
from fastagent.wire import events as carrier
from fastagent.wire.openai_realtime import APPEND_TEMPLATE, AUDIO_MEDIA
from fastagent.wire.realtime_events import (
    ModelCommand,
    ModelError,
    ModelEvent,
    SessionSettings,
    Severity,
    TurnDetection,
)

__all__ = ["Call", "CallObserver", "CallServices", "CallSummary"]

logger = logging.getLogger("fastagent.call")

SHORT_SESSION_S = 2.0
"""A model session that ends sooner counts as a failed connection."""
AGENT_CLOSE_TIMEOUT_S = 2.0
PAUSE_LIMIT_S = 30.0
"""How long a fresh model session waits for a pause in the talk before it takes over anyway."""
PAUSE_CHECK_S = 0.05
CLIP_PIECE_MS = 10_000
"""Of a clip, what is queued for the caller at a time."""
RECORDING_STEP_S = 0.25
"""What is recorded goes to the disk at least this often."""


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What is left of a call."""

    conversation_id: str
    outcome: str
    duration_s: float
    media: str
    is_passthrough: bool
    transitions: tuple[Transition, ...]
    results: tuple[Mapping[str, Any], ...] = field(repr=False)
    counters: Mapping[str, int] = field(repr=False)
    frame_times: TimeClasses = field(repr=False)
    """How long each frame of either leg took inside the bridge."""
    caller_level: LevelFigures = field(repr=False)
    bot_level: LevelFigures = field(repr=False)


class CallObserver(Protocol):
    """Hears what happens in a call; must return at once."""

    def caller_said(self, conversation_id: str, text: str) -> None:
        """A finished utterance of the caller."""

    def bot_said(self, conversation_id: str, text: str) -> None:
        """A finished utterance of the bot."""

    def moved(self, conversation_id: str, transition: Transition) -> None:
        """A state machine changed its state."""

    def ended(self, summary: CallSummary) -> None:
        """The call is over."""


class ClipSource(Protocol):
    """Gives clips by name, in a call's format. It may read and convert: not for the loop."""

    def named(self, name: str, format: AudioFormat) -> "EncodedAudio":
        """Raises: `AudioError`: there is no such clip, or it cannot be played."""


class EncodedAudio(Protocol):
    """A clip in a call's format."""

    @property
    def data(self) -> bytes:
        """Its samples."""


@dataclass(frozen=True, slots=True)
class CallServices:
    """What all calls of a process share."""

    settings: Settings
    connector: ModelConnector
    tick: PlayoutTick
    watch: LegWatch
    counters: Counters
    observers: tuple[CallObserver, ...] = ()
    ears: EarsPlan = NO_EARS
    clips: ClipSource | None = None
    recordings: RecordingWriter | None = None


class Call:
    """One conversation, over however many sockets it takes.

    Args:
        offer: the carrier's offer.
        agent: who answers.
        carrier_settings: what the carrier is configured with once the call stands.

    Raises:
        UnsupportedMediaError: no offered format is usable.
    """

    def __init__(
        self,
        offer: carrier.SessionOffered,
        agent: FastAgent,
        services: CallServices,
        *,
        codec: carrier.CarrierCodec,
        carrier_settings: Mapping[str, Any],
    ) -> None:
        settings = services.settings
        self._services = services
        self._offer = offer
        self._agent = agent
        self._carrier_settings = carrier_settings
        self._plan: MediaPlan = plan_media(offer.offers)
        self._uplink = build_uplink(
            self._plan, codec.caller_media, APPEND_TEMPLATE, backlog_ms=settings.backlog_ms
        )
        self._begun = time.monotonic()
        ears = services.ears
        # What may have to be taken back is better not sent long before its time.
        sends_ahead = codec.cuts_reliably and not ears.hears_overlap
        self._downlink = build_downlink(
            self._plan,
            AUDIO_MEDIA,
            lead_ms=settings.queue_limit_ms if sends_ahead else settings.lead_ms,
            queue_limit_ms=settings.queue_limit_ms,
            retains=ears.hears_overlap,
        )
        self._downlink.on_item = self._meet_item
        self._tap = build_tap(self._plan, ears, self._begun)
        self._tap.on_news = self._heard
        self._uplink.connect_tap(self._tap)
        self._downlink.connect_tap(self._tap)
        self._track: CallTrack | None = None
        self._recording_timer: asyncio.TimerHandle | None = None
        self._clips_begun = 0
        ledger = PlayoutLedger(
            self._downlink,
            self._plan.offer.format,
            self._plan.model_format,
            link_delay_ms=settings.link_delay_ms,
        )
        self._counters = Counters()
        self._bridge = Bridge(
            ledger,
            self._plan.offer,
            self._session_settings(),
            greeting=agent.greeting,
            limits=BridgeLimits(
                resume_grace_s=settings.resume_grace_s,
                max_call_s=settings.max_call_s,
                model_session_limit_s=settings.model_session_limit_s,
            ),
            counters=self._counters,
            closes_when_heard=codec.close_may_cut,
            barge_in=BargeIn(self._tap) if ears.hears_overlap or settings.barge_in == "off" else None,
            turn_silence_s=settings.turn_silence_ms / 1000,
            now=self._begun,
        )
        self._session: AgentSession = agent.open(
            self, limits=Limits(state_timeout_s=settings.default_timeout_s), on_transition=self._moved
        )
        self._carrier: CarrierSocket | None = None
        self._model: ModelSocket | None = None
        self._model_since = 0.0
        self._model_needed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_configured = False
        self._frame_times = TimeClasses()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._functions: set[asyncio.Task[None]] = set()
        self._outcome = "error"
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.set_voice_policy(None)
        if services.recordings is not None:
            is_mulaw = settings.recording_encoding == "mulaw"
            recording = services.recordings.open(self.call_id, MULAW_8K if is_mulaw else PCM16_8K)
            self._track = CallTrack(recording, self._tap, self._begun)
            self._settle_recording()

    def _session_settings(self) -> SessionSettings:
        agent = self._agent
        model = self._plan.model_format
        llm_config = agent.llm_config
        return SessionSettings(
            input_format=model,
            output_format=model,
            instructions=agent.instructions,
            tools=agent.tools,
            voice=agent.voice,
            transcription_model=self._services.settings.transcription_model or None,
            transcription_language=agent.language,
            transcription_prompt="\n".join(agent.transcription_phrases) or None,
            max_output_tokens=llm_config.get("max_output_tokens"),
            turn_detection=self._turn_detection(),
        )

    def _turn_detection(self) -> TurnDetection:
        settings = self._services.settings
        kind: Literal["server_vad", "semantic_vad", "none"] = "server_vad"
        if settings.turn_detection == "local":
            kind = "none"
        elif settings.turn_detection == "semantic_vad":
            kind = "semantic_vad"
        return TurnDetection(
            kind=kind,
            silence_duration_ms=settings.turn_silence_ms,
            create_response=kind != "none",
            interrupt_response=settings.barge_in == "model",
        )

    # The agent's view: CallControl

    @property
    def call_id(self) -> str:
        """The carrier's name for the conversation."""
        return self._offer.conversation_id

    @property
    def caller(self) -> str:
        """The caller's number or address, empty when withheld."""
        return self._offer.caller

    def hang_up(self, reason: str) -> None:
        """End the call once everything said was heard."""
        self._do(self._bridge.hang_up(reason, time.monotonic()))

    def transfer(self, target: str, reason: str) -> None:
        """Hand the caller on once everything said was heard."""
        command = carrier.TransferCall(target, reason, wants_status=True)
        self._do(self._bridge.transfer(command, time.monotonic()))

    def send_dtmf(self, digits: str) -> None:
        """Send digits to the far side."""
        self._do([carrier.SendDtmf(digits)])

    def send_metadata(self, value: Mapping[str, Any]) -> None:
        """Pass data to the telephone network's side."""
        self._do([carrier.SendMetadata(value)])

    def announce(self, text: str) -> None:
        """Have the model act on ``text`` as soon as it may speak."""
        self._do(self._bridge.announce(text, time.monotonic()))

    def set_voice_policy(self, policy: VoicePolicy | None) -> None:
        """Have the bot behave so; None: as the agent does by default."""
        policy = policy or self._agent.voice_policy
        if self._bridge.barge_in is not None:
            mode = "protected" if self._services.settings.barge_in == "off" else policy.barge_in
            self._bridge.barge_in.policy = BargeInPolicy(mode, tuple(policy.barge_in_keywords))
        if self._track is not None:
            (self._track.resume if policy.is_recorded else self._track.pause)(time.monotonic())

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None:
        """Play a clip by its name, at the next pause in the talk."""
        task = asyncio.create_task(self._load_and_play(name, loop, interruptible))
        self._functions.add(task)
        task.add_done_callback(self._functions.discard)

    async def _load_and_play(self, name: str, loop: bool, interruptible: bool) -> None:
        clips = self._services.clips
        try:
            if clips is None:
                raise PlaybackRefusedError("this process has no clips")
            clip = await asyncio.to_thread(clips.named, name, self.carrier_format)
            self.play(clip.data, clip_id=name, loop=loop, interruptible=interruptible)
        except AudioError as error:
            self._counters.note("clips_refused")
            logger.error("call %s: a clip cannot be played: %s", self.call_id, error)

    def stop_clips(self) -> None:
        """End what `play_clip` began."""
        self.stop_playback()

    # The call as an operator sees it

    @property
    def carrier_format(self) -> AudioFormat:
        """What the carrier is played."""
        return self._plan.offer.format

    def play(
        self,
        clip_bytes: bytes,
        *,
        clip_id: str,
        loop: bool = False,
        when: Literal["now", "when_quiet"] = "when_quiet",
        interruptible: bool = True,
    ) -> str:
        """Play samples in the carrier's format; gives the playback's id.

        Args:
            clip_id: what the clip is called, for the log.
            loop: until the bot speaks again or `stop_playback`.
            when: ``now`` cuts short what the bot says.
            interruptible: the caller may cut it short by speaking.

        Raises:
            PlaybackRefusedError: the call cannot play now.
        """
        if not clip_bytes or len(clip_bytes) % self.carrier_format.encoding.bytes_per_sample:
            raise PlaybackRefusedError("a clip needs whole samples, and one at least")
        self._clips_begun += 1
        piece_bytes = self.carrier_format.bytes_per_ms * min(
            CLIP_PIECE_MS, self._services.settings.queue_limit_ms
        )
        clip = Clip(f"clip-{self._clips_begun}", clip_bytes, loop, interruptible, piece_bytes)
        commands = self._bridge.play(clip, time.monotonic(), waits=when == "when_quiet")
        if commands is None:
            raise PlaybackRefusedError("the call cannot play now")
        logger.info("call %s: %s: clip of %d bytes", self.call_id, clip.playback_id, len(clip_bytes))
        self._do(commands)
        return clip.playback_id

    def stop_playback(self) -> None:
        """End the clip that plays, and forget those that wait."""
        self._do(self._bridge.stop_playing(time.monotonic()))

    # The call as the switchboard sees it

    @property
    def is_parked(self) -> bool:
        """The carrier's socket is lost, and the call waits for another."""
        return self._bridge.phase is Phase.PARKED

    @property
    def is_over(self) -> bool:
        """Nothing more happens."""
        return self._over.done()

    @property
    def media_name(self) -> str:
        """The carrier's name of the format chosen."""
        return self._plan.offer.name

    @property
    def duration_s(self) -> float:
        """Since the call was offered."""
        return time.monotonic() - self._begun

    def take(self, socket: CarrierSocket) -> None:
        """Answer on this socket: the call's first, or another after the first was lost."""
        is_resume = self._carrier is not None or self._bridge.phase is Phase.PARKED
        if is_resume:
            self._leave_carrier()
            self._uplink.reset()
            self._tap.reset_caller()
        self._carrier = socket
        socket.on_event = self._carrier_event
        socket.on_lost = partial(self._carrier_lost, socket)
        self._is_configured = False
        socket.send(carrier.AcceptSession(self._plan.offer))
        self._join_pumps()
        if is_resume:
            self._do(self._bridge.carrier_resumed(time.monotonic()))

    async def run(self) -> CallSummary:
        """Live until the call is over; everything the call opened is closed then."""
        keeper = asyncio.create_task(self._keep_model())
        keeper.add_done_callback(self._keeper_ended)
        try:
            self._schedule()
            await asyncio.shield(self._over)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._close()
        summary = CallSummary(
            self.call_id,
            self._outcome,
            self.duration_s,
            self.media_name,
            self._plan.is_passthrough,
            tuple(self._session.transitions),
            tuple(self._session.results),
            dict(self._all_counters()),
            self._frame_times,
            self._tap.caller_level(time.monotonic()),
            self._tap.bot_level(time.monotonic()),
        )
        self._tell("ended", summary)
        return summary

    def end(self, outcome: str) -> None:
        """End the call at once, telling the carrier: the process stops."""
        if not self.is_over:
            if self._carrier is not None:
                self._carrier.send(carrier.HangUp("service stops"))
            self._finish(outcome)

    # Carrier

    def _carrier_event(self, event: carrier.CarrierEvent) -> None:
        if not self._is_configured and isinstance(event, carrier.CallMetadata | carrier.CallerStreamStarted):
            self._is_configured = True
            if self._carrier_settings:
                self._do([carrier.ConfigureCall(self._carrier_settings)])
        self._do(self._bridge.receive_carrier(event, time.monotonic()))

    def _carrier_lost(self, socket: CarrierSocket, code: int, reason: str) -> None:
        if socket is not self._carrier:
            return
        logger.warning("call %s: carrier socket lost with %d", self.call_id, code)
        self._leave_carrier()
        self._do(self._bridge.carrier_lost(time.monotonic()))

    def _leave_carrier(self) -> None:
        socket, self._carrier = self._carrier, None
        if socket is None:
            return
        socket.on_event, socket.on_lost = _ignore, _ignore
        if socket.leg is not None:
            self._frame_times.add(socket.leg.frame_times)
            self._counters.note("carrier_protocol_errors", socket.leg.protocol_errors)
            socket.leg.disconnect_pump()
            socket.close()
        self._services.tick.forget(self._downlink)
        if self._model is not None:
            self._model.leg.connect_pump(self._downlink, None)

    # Model

    async def _keep_model(self) -> None:
        """Have a session with the model while the call lasts."""
        short_sessions = 0
        while True:
            try:
                socket = await self._services.connector.connect()
            except LegError as error:
                logger.error("call %s: %s", self.call_id, str(error))
                if self._model is None:
                    self._do(self._bridge.model_failed(time.monotonic()))
                    return
                # The running session goes on until it ends by itself.
                await asyncio.wait(
                    {self._model_needed}, timeout=self._services.settings.model_connect_timeout_s
                )
                continue
            try:
                await self._wait_for_pause(socket)
            except asyncio.CancelledError:
                socket.close()
                raise
            if not socket.leg.is_open:
                continue
            # From here on, only the end of this session asks for another.
            self._model_needed = asyncio.get_running_loop().create_future()
            self._switch_model(socket)
            begun = time.monotonic()
            await asyncio.shield(self._model_needed)
            self._model_needed = asyncio.get_running_loop().create_future()
            if self._model is not None:
                continue  # it runs, and is to be replaced in time
            short_sessions = short_sessions + 1 if time.monotonic() - begun < SHORT_SESSION_S else 0
            if short_sessions >= self._services.settings.model_connect_attempts:
                logger.error(
                    "call %s: %d model sessions in a row ended at once", self.call_id, short_sessions
                )
                self._do(self._bridge.model_failed(time.monotonic()))
                return
            if short_sessions:
                await asyncio.sleep(0.25 * 2**short_sessions)

    async def _wait_for_pause(self, successor: ModelSocket) -> None:
        """Wait until the running session is gone or nobody speaks: what it has half heard would be lost."""
        deadline = time.monotonic() + PAUSE_LIMIT_S
        while (  # noqa: ASYNC110
            self._model is not None
            and successor.leg.is_open
            and (now := time.monotonic()) < deadline
            and self._bridge.is_talk_going_on(now)
        ):
            await asyncio.sleep(PAUSE_CHECK_S)  # a pause comes with time: no event tells of it

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        error = None if keeper.cancelled() else keeper.exception()
        if error is not None:
            logger.error("call %s: lost its way to the model", self.call_id, exc_info=error)
            self._do(self._bridge.model_failed(time.monotonic()))

    def _need_model(self) -> None:
        """Have `_keep_model` open another session."""
        if not self._model_needed.done():
            self._model_needed.set_result(None)

    def _switch_model(self, socket: ModelSocket) -> None:
        """Put a new session in the old one's place, between two messages."""
        self._leave_model()
        now = time.monotonic()
        self._model = socket
        self._services.watch.add(socket.leg)
        expires = socket.session.expires_at_unix_s if socket.session is not None else None
        lifetime_s = expires - time.time() if expires else None
        self._downlink.forget_item()
        self._do(self._bridge.model_opened(now, lifetime_s=lifetime_s))
        self._release_backlog()
        self._join_pumps()
        socket.attach(
            on_event=self._model_event,
            on_lost=partial(self._model_lost, socket),
            on_writable=self._release_backlog,
            on_queued=self._audio_queued,
        )

    def _model_event(self, event: ModelEvent) -> None:
        if isinstance(event, ModelError) and event.severity is not Severity.BENIGN:
            # Its message may quote what was said; our own event's id tells what it is about.
            code = event.code if event.code.isidentifier() else "unnamed"
            ours = event.event_id or ""
            of = ours if ours.replace("-", "_").isidentifier() else "no event of ours"
            logger.warning("call %s: model error %s (%s)", self.call_id, code, of)
        commands = self._bridge.receive_model(event, time.monotonic())
        if not isinstance(event, PASSIVE_EVENTS):
            self._do(commands)

    def _model_lost(self, socket: ModelSocket, code: int, reason: str) -> None:
        if socket is not self._model:
            return
        logger.warning("call %s: model socket lost with %d", self.call_id, code)
        self._counters.note("model_lost")
        self._leave_model()
        self._do(self._bridge.model_lost(time.monotonic()))
        self._need_model()

    def _leave_model(self) -> None:
        socket, self._model = self._model, None
        if socket is None:
            return
        self._frame_times.add(socket.leg.frame_times)
        # Caller audio is kept for the next session; bot audio that came already still plays to its end.
        if self._carrier is not None and self._carrier.leg is not None:
            self._carrier.leg.connect_pump(self._uplink, None)
        socket.close()

    def _join_pumps(self) -> None:
        carrier_leg = self._carrier.leg if self._carrier is not None else None
        model_leg = self._model.leg if self._model is not None else None
        if carrier_leg is not None:
            carrier_leg.connect_pump(self._uplink, model_leg)
        if model_leg is not None:
            model_leg.connect_pump(self._downlink, carrier_leg)

    def _release_backlog(self) -> None:
        """Caller audio of the gap, now that the model can take it."""
        if self._model is not None:
            self._model.leg.send_backlog(self._uplink)

    # Media

    def _heard(self, news: list[News]) -> None:
        """What our own ears found."""
        now = time.monotonic()
        for one in news:
            match one.kind:
                case Heard.OVERLAP_CONFIRMED:
                    self._do(self._bridge.caller_overlaps(now))
                case Heard.SPEECH_STARTED:
                    self._do(self._bridge.caller_started(now))
                case Heard.SPEECH_STOPPED:
                    self._do(self._bridge.caller_stopped(now))
                case Heard.DIGIT:
                    self._do(self._bridge.digit_heard(one.digit, now))

    def _meet_item(self, response_id: str, item_id: str, content_index: int) -> bool:
        is_played, commands = self._bridge.meet_item(response_id, item_id, content_index, time.monotonic())
        self._do(commands)
        return is_played

    def _audio_queued(self) -> None:
        if self._carrier is not None and self._carrier.leg is not None:
            self._services.tick.watch(self._downlink, self._carrier.leg, self._playout_drained)

    def _playout_drained(self) -> None:
        self._do(self._bridge.playout_drained(time.monotonic()))

    # Commands

    def _do(self, commands: Sequence[Command]) -> None:
        if commands:
            self._carry_out(commands)
        if self._downlink.is_queued:
            self._audio_queued()
        self._schedule()

    def _carry_out(self, commands: Sequence[Command]) -> None:
        queue = deque(commands)
        while queue:
            command = queue.popleft()
            match command:
                case asked.RunFunction():
                    task = asyncio.create_task(self._run_function(command))
                    self._functions.add(task)
                    task.add_done_callback(self._functions.discard)
                case asked.CallerSaid():
                    self._session.caller_said(command.text)
                    self._tell("caller_said", self.call_id, command.text)
                case asked.BotSaid():
                    self._session.bot_said(command.text)
                    self._tell("bot_said", self.call_id, command.text)
                case asked.CallerPressed():
                    if not self._session.dtmf(command.digits):
                        queue.extend(self._bridge.caller_pressed(command.digits, time.monotonic()))
                case asked.NoteInterruption():
                    logger.info("call %s: bot interrupted after %d ms", self.call_id, command.heard_ms)
                case asked.InsertClip():
                    now = time.monotonic()
                    if not self._downlink.insert(command.audio, now):
                        self._counters.note("clips_refused")
                    queue.extend(self._bridge.clip_inserted(command.playback_id, now))
                case asked.ReplaceModel():
                    self._need_model()
                case asked.EndCall():
                    self._finish(command.outcome)
                case carrier.OpenPlayback():
                    if self._carrier is not None:
                        self._carrier.send(command)
                        template = self._carrier.codec.playback_template(command.playback_id)
                        self._downlink.set_template(template.prefix, template.suffix)
                case _ if isinstance(command, ModelCommand):
                    if self._model is not None:
                        self._model.send(command)
                case _:
                    queue.extend(self._send_carrier(command))

    def _send_carrier(self, command: carrier.CarrierCommand) -> Sequence[Command]:
        """Send what agents may ask for; what this carrier cannot do is refused here, not in its callback."""
        if self._carrier is None:
            return ()
        try:
            self._carrier.send(command)
        except ValueError:
            logger.error("call %s: %s cannot be sent", self.call_id, type(command).__name__)
            self._counters.note("carrier_commands_refused")
            if isinstance(command, carrier.TransferCall):
                return self._bridge.receive_carrier(carrier.TransferStatus(answered=False), time.monotonic())
        return ()

    async def _run_function(self, command: asked.RunFunction) -> None:
        outcome = await self._session.call_function(command.call_id, command.name, command.arguments)
        now = time.monotonic()
        self._do(
            self._bridge.function_returned(
                command.call_id, outcome.output, now, should_respond=outcome.should_respond
            )
        )

    def _moved(self, transition: Transition) -> None:
        logger.info(
            "call %s: %s: %s -> %s", self.call_id, transition.task, transition.from_state, transition.to_state
        )
        self._tell("moved", self.call_id, transition)

    def _tell(self, what: Literal["caller_said", "bot_said", "moved", "ended"], *details: Any) -> None:
        """Tell the observers; one that fails disturbs neither the call nor the others."""
        for observer in self._services.observers:
            try:
                getattr(observer, what)(*details)
            except Exception:
                self._counters.note("observers_failed")
                logger.exception("call %s: an observer failed", self.call_id)

    # Time

    def _schedule(self) -> None:
        """Have `_advance` run by the brain's next deadline. A timer that is early stays: it looks again."""
        deadline = None if self.is_over else self._bridge.next_deadline()
        if deadline is not None and self._timer is not None and self._timer_at <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer_at = deadline
            delay_s = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._advance)

    def _advance(self) -> None:
        self._timer = None
        self._do(self._bridge.advance(time.monotonic()))

    def _settle_recording(self) -> None:
        """The recording's clock goes on while the caller sends nothing."""
        if self._track is not None and not self.is_over:
            self._track.advance(time.monotonic())
            loop = asyncio.get_running_loop()
            self._recording_timer = loop.call_later(RECORDING_STEP_S, self._settle_recording)

    # The end

    def _finish(self, outcome: str) -> None:
        if not self.is_over:
            self._outcome = outcome
            self._over.set_result(None)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leave_carrier()
        self._leave_model()
        if self._recording_timer is not None:
            self._recording_timer.cancel()
        if self._track is not None:
            self._track.close(time.monotonic())
        await self._session.close("call over", timeout_s=AGENT_CLOSE_TIMEOUT_S)
        for task in list(self._functions):
            task.cancel()
        await asyncio.gather(*self._functions, return_exceptions=True)

    def _all_counters(self) -> Counters:
        counters = Counters(self._counters)
        counters.note("uplink_messages", self._uplink.messages)
        counters.note("uplink_malformed", self._uplink.malformed)
        counters.note("uplink_bad_audio", self._uplink.bad_audio)
        counters.note("uplink_backlog_dropped", self._uplink.backlog_dropped)
        counters.note("downlink_messages", self._downlink.messages)
        counters.note("downlink_bad_audio", self._downlink.bad_audio)
        counters.note("downlink_stale", self._downlink.discarded)
        counters.note("downlink_dropped", self._downlink.dropped)
        counters.note("ears_dropped", self._tap.news_dropped)
        counters.note("detector_faults", self._tap.detector_faults)
        return Counters({name: count for name, count in counters.items() if count})


_ignore: Callable[..., None] = lambda *_: None  # noqa: E731 - a callback that does nothing, typed as any
