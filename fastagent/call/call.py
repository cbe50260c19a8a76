"""One call: carries the brain's commands out, runs timer and agent, and closes all in the end.

Events come in synchronously from the legs; the brain's commands go out in the same callback. Only the agent's
functions, the reading of clips and the connection to the model are tasks, held by the call and ended with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from operator import add
from typing import Any, Literal

from fastagent._native.listener import Leg
from fastagent._native.tap import Heard, News
from fastagent.afsm.spec import Event
from fastagent.agent import AgentSession, FastAgent, Transition
from fastagent.audio.formats import AudioFormat
from fastagent.bridge import commands as asked
from fastagent.bridge.brain import PASSIVE_EVENTS, Bridge, BridgeLimits, Phase
from fastagent.bridge.commands import Command
from fastagent.call.callee import meet_callee
from fastagent.call.carrier_side import CarrierSide
from fastagent.call.clips import CallClips
from fastagent.call.control import AgentControl
from fastagent.call.desk import AgentDesk
from fastagent.call.gauge import CallGauge
from fastagent.call.keeping import CallKeeping
from fastagent.call.media import CallMedia
from fastagent.call.missing_media import MissingMedia
from fastagent.call.model_keeper import ModelKeeper
from fastagent.call.observer import CallSummary, Observers
from fastagent.call.record import CallRecord
from fastagent.call.recorder import CallRecorder
from fastagent.call.services import CallServices
from fastagent.call.session_view import CallView
from fastagent.call.stages import CallStages
from fastagent.call.stored import CarriedEntry, StoredSession
from fastagent.call.timer import DeadlineTimer
from fastagent.legs.carrier import CarrierSocket
from fastagent.media.bargein import BargeIn
from fastagent.stats import Counters, TimeClasses
from fastagent.tools.task_runs import TaskStand
from fastagent.wire import events as carrier
from fastagent.wire.openai_realtime import request_named
from fastagent.wire.realtime_events import (
    ModelCommand,
    ModelError,
    ModelEvent,
    Severity,
    SpeechStarted,
    SpeechStopped,
    UpdateSession,
)

__all__ = ["Call"]

logger = logging.getLogger("fastagent.call")

AGENT_CLOSE_TIMEOUT_S = 2.0
TRANSFER_MARGIN_S = 40.0
"""For the carrier's word on a transfer, beyond the time that it rings."""
DISMISSAL = "The house has to end the call now. Say so and say goodbye, in one short sentence; ask nothing."


class Call:
    """One conversation, over however many sockets it takes.

    Args:
        offer: the carrier's offer.
        agent: who answers.
        carrier_settings: what the carrier is configured with once the call stands.
        owner: whose credential opened the call.
        carrier_name: who brings the call, for those who count.
        carried: what the journal of another process tells of the call's effects.

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
        owner: str = "",
        carrier_name: str = "other",
        carried: Sequence[CarriedEntry] = (),
    ) -> None:
        settings = services.settings
        self._services = services
        self._offer = offer
        self._begun = time.monotonic()
        self.started_at_unix_s = time.time()
        """When the call was offered."""
        self._is_dismissed = False
        ears = services.ears
        self._media = CallMedia(offer.offers, codec, settings, ears, self._begun)
        self._media.downlink.on_item = self._meet_item
        self._media.tap.on_news = self._heard
        self._counters = Counters()
        self._observers = Observers(services.observers, self.call_id, self._counters)
        self._stages = CallStages(self._observers, self.call_id, self._begun, self._counters)
        control = AgentControl(
            offer,
            self._do,
            self._start,
            voice_policy=agent.voice_policy,
            is_always_protected=settings.barge_in == "off",
            sends_digits=codec.sends_digits,
        )
        self._control = control
        self._desk = AgentDesk(
            agent,
            control,
            settings,
            self._media.plan.model_format,
            on_transition=self._moved,
            on_change=self._refocus,
            announce=lambda note: self._do(self._bridge.announce(note, time.monotonic())),
            start=self._start,
        )
        self._bridge = Bridge(
            self._media.ledger,
            self._media.plan.offer,
            self._desk.model_settings,
            greeting=agent.greeting,
            limits=BridgeLimits(
                transfer_timeout_s=settings.transfer_ring_s + TRANSFER_MARGIN_S,
                resume_grace_s=settings.resume_grace_s if codec.can_resume else 0.0,
                max_call_s=settings.max_call_s,
                model_session_limit_s=settings.model_session_limit_s,
            ),
            counters=self._counters,
            closes_when_heard=codec.close_may_cut,
            barge_in=self._barge_in(agent),
            turn_silence_s=settings.turn_silence_ms / 1000,
            now=self._begun,
        )
        self._clips = CallClips(
            self.call_id,
            self._bridge,
            self._do,
            self.carrier_format,
            services.clips,
            queue_limit_ms=settings.queue_limit_ms,
            counters=self._counters,
        )
        control.connect(self._bridge, self._clips)
        self._carrier = CarrierSide(
            carrier_settings,
            on_event=self._carrier_event,
            on_lost=self._carrier_lost,
            on_leg_closed=self._carrier_leg_closed,
            counters=self._counters,
        )
        self._model_times = TimeClasses()
        self._model = ModelKeeper(
            self,
            services.connector,
            services.model_watch,
            attempts=settings.model_connect_attempts,
            retry_s=settings.model_connect_timeout_s,
            frame_times=self._model_times,
        )
        self._gauge = CallGauge(
            self._media,
            carrier=carrier_name,
            agent_id=agent.agent_id,
            legs=self._legs,
            carrier_times=self._carrier.times,
            model_times=self._model_times,
        )
        self._missing_media = MissingMedia(
            lambda: self._media.uplink.messages,
            prompt_s=settings.no_media_prompt_s,
            give_up_s=settings.no_media_limit_s,
            on_missing=self._ask_for_media,
            on_gone=self._give_up_media,
        )
        self._timer = DeadlineTimer(self._next_deadline, self._advance)
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcome = "error"
        self._is_told_goodbye = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recorder: CallRecorder | None = None
        if services.recordings is not None:
            self._recorder = control.recorder = CallRecorder(
                services.recordings,
                self.call_id,
                self._media.tap,
                encoding=settings.recording_encoding,
                begun=self._begun,
            )
        control.set_voice_policy(None)
        view = CallView(offer, self._desk, owner, carrier_name, self.media_name)
        self._view = view
        self._kept = CallKeeping(
            view,
            agent,
            lambda: self._desk.session,
            records=services.records,
            sessions=services.sessions,
            counters=self._counters,
            on_claim=self._correct,
            carried=carried,
        )
        view.connect(self._kept)
        control.on_recall = self._recall
        self._desk.begin(self._kept.record)

    def _barge_in(self, agent: FastAgent) -> BargeIn | None:
        """Who decides that the caller stops the bot; None: the model, without exception."""
        is_models = self._services.settings.barge_in == "model"
        if is_models and not agent.protects_speech:
            return None
        return BargeIn(self._media.tap, is_models=is_models)

    @property
    def call_id(self) -> str:
        """The carrier's name for the conversation."""
        return self._offer.conversation_id

    @property
    def _session(self) -> AgentSession:
        return self._desk.session

    # The call as an operator sees it

    @property
    def carrier_format(self) -> AudioFormat:
        """What the carrier is played."""
        return self._media.plan.offer.format

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
        return self._clips.play(clip_bytes, loop=loop, when=when, interruptible=interruptible)

    def stop_playback(self) -> None:
        """End the clip that plays, and forget those that wait."""
        self._clips.stop()

    def hang_up(self, reason: str) -> None:
        """End the call once everything said was heard."""
        self._do(self._bridge.hang_up(reason, time.monotonic()))

    def say_goodbye(self, note: str, reason: str) -> None:
        """Have the model say why the call ends, and hang up once that was heard; a parked call ends at once.

        Args:
            note: what the model is told.
            reason: what the carrier is told.
        """
        if not self.is_over:
            self._is_told_goodbye = True
            now = time.monotonic()
            self._do([*self._bridge.announce(note, now), *self._bridge.hang_up(reason, now)])

    def dismiss(self) -> None:
        """Have the bot say goodbye, and hang up once that was heard. Dismissing again changes nothing."""
        if self._is_dismissed or self.is_over:
            return
        self._is_dismissed = True
        now = time.monotonic()
        if not self.is_parked:
            self._do(self._bridge.announce(DISMISSAL, now))
        self._do(self._bridge.hang_up("dismissed", now))

    @property
    def agent_id(self) -> str:
        """Who answers now."""
        return self._desk.agent.agent_id

    @property
    def graph_hashes(self) -> dict[str, str]:
        """Content hashes of the graphs of who answers now, by task."""
        return {name: task.graph.content_hash for name, task in self._desk.agent.tasks.items()}

    @property
    def turn_count(self) -> int:
        """Finished utterances of either side."""
        return self._view.turn_count

    @property
    def stands(self) -> list[TaskStand]:
        """Where each task under way stands, the one that asked last at the end."""
        return self._session.stands

    @property
    def current_state(self) -> str:
        """The state of the task that asked last; else where the last move led; empty before the first."""
        if stands := self.stands:
            return stands[-1].state
        moves = self._session.transitions
        return moves[-1].to_state if moves else ""

    @property
    def record(self) -> CallRecord | None:
        """What keeps the call's journal."""
        return self._kept.record

    # The call as the switchboard sees it

    @property
    def is_parked(self) -> bool:
        """The carrier's socket is lost, and the call waits for another."""
        return self._bridge.phase is Phase.PARKED

    @property
    def speaker(self) -> str:
        """Who is heard: ``caller``, ``bot``, ``both``; empty for nobody."""
        return self._bridge.speaker(time.monotonic())

    @property
    def session_id(self) -> str:
        """The id of its stored session; the call's own without one."""
        return self.call_id if self._kept.stored is None else self._kept.stored.session_id

    @property
    def stored(self) -> StoredSession | None:
        """Its stored session."""
        return self._kept.stored

    @property
    def is_over(self) -> bool:
        """Nothing more happens."""
        return self._over.done()

    @property
    def awaits_return(self) -> bool:
        """The caller was handed on together with their line, and is back if nobody takes them over."""
        return self._bridge.awaits_return

    @property
    def media_name(self) -> str:
        """The carrier's name of the format chosen."""
        return self._media.plan.offer.name

    @property
    def duration_s(self) -> float:
        """Since the call was offered."""
        return time.monotonic() - self._begun

    @property
    def _state_name(self) -> str:
        """Where the agent's last task stands; before it has one, where its first task would begin."""
        if self._session.transitions:
            return self._session.transitions[-1].to_state
        return next((task.graph.initial_state for task in self._desk.agent.tasks.values()), "")

    def take(self, socket: CarrierSocket) -> None:
        """Answer on this socket: the call's first, or another after the first was lost."""
        is_return = self._bridge.awaits_return
        is_resume = self._carrier.socket is not None or self._bridge.phase is Phase.PARKED
        if is_resume or is_return:
            self._leave_carrier()
            self._media.reset_caller()
        self._carrier.take(socket)
        socket.send(carrier.AcceptSession(self._media.plan.offer, self._state_name, self.duration_s))
        self._join_legs()
        if is_return:
            self._kept.line_back()
            self._bridge.line_returned(time.monotonic())
            self._timer.schedule()
        elif is_resume:
            self._kept.line_back()
            self._do(self._bridge.carrier_resumed(time.monotonic()))
            self._session.signal(Event.RESUME)

    async def run(self) -> CallSummary:
        """Live until the call is over; everything the call opened is closed then."""
        self._observers.tell("began", self.call_id, self._gauge)
        self._kept.begin()
        if (gather_tick := self._services.gather_tick) is not None:
            gather_tick.watch(self._media.uplink, self._flush_caller)
        try:
            await self._welcome_back()
            self._model.start()
            self._timer.schedule()
            await asyncio.shield(self._over)
        finally:
            await self._model.stop()
            await self._close()
        summary = CallSummary(
            self.call_id,
            self._outcome,
            self.duration_s,
            self.media_name,
            self._media.plan.is_passthrough,
            tuple(self._session.transitions),
            tuple(self._session.results),
            dict(self._all_counters()),
            TimeClasses(map(add, self._carrier.times.counts, self._model_times.counts)),
            self._media.tap.caller_level(time.monotonic()),
            self._media.tap.bot_level(time.monotonic()),
            self._gauge.carrier,
        )
        self._observers.tell("ended", summary)
        return summary

    async def _welcome_back(self) -> None:
        """Greet a caller who was cut off in an earlier call otherwise than others."""
        comeback = await self._kept.look_up()
        if comeback is not None:
            self._session.offer_comeback(comeback)
            self._bridge.greet_with(comeback.greeting)
            self._refocus()

    def _recall(self) -> bool:
        memory = self._kept.recall()
        if memory:
            self._session.context.import_memory(memory)
        return memory is not None

    async def go_on(
        self, session_id: str, snapshot: Mapping[str, Any], said: Sequence[tuple[str, str]]
    ) -> None:
        """Be a session that another process began: its line is on this call.

        Raises:
            ConfigurationError: it is no such snapshot.
        """
        taken_up = await self._view.go_on(session_id, snapshot, said)
        self._bridge.greet_with("")
        words = " ".join(report["say"] for report in taken_up.questions)
        note = "The line was interrupted for a moment and is back. Say so, and go on where you stopped."
        if words:
            note += f" The open question is: {words}"
        if taken_up.lost:
            note += f" These tasks cannot go on and would have to begin anew: {', '.join(taken_up.lost)}."
        self._do(self._bridge.announce(note, time.monotonic()))

    def break_off(self) -> None:
        """Tell those who hear the call that `run` failed."""
        self._observers.tell("broke", self.call_id)

    def end(self, outcome: str) -> None:
        """End the call at once, telling the carrier: the process stops."""
        if not self.is_over:
            self._carrier.send(carrier.HangUp("service stops"))
            self._finish(outcome)

    def lose(self) -> None:
        """End the call at once and silently: its session goes on elsewhere, and its caller is there."""
        if self._kept.stored is not None:
            self._kept.stored.lost()
        self._finish("taken_over")

    # Carrier

    def told_by_carrier(self, event: carrier.CarrierEvent) -> None:
        """Take in what the carrier tells beside its socket."""
        if not self.is_over:
            self._carrier_event(event)

    def _carrier_event(self, event: carrier.CarrierEvent) -> None:
        if settings := self._carrier.take_settings(event):
            self._do([carrier.ConfigureCall(settings)])
        if isinstance(event, carrier.CallerAudio):
            self._media.hear(event.message, self._legs()[1], time.monotonic())
            return
        self._flush_caller()
        if isinstance(event, carrier.CallerStreamStarted):
            self._media.tap.reset_caller()
            self._gauge.caller_restarted()
            self._missing_media.begin()
        elif isinstance(event, carrier.CallerStreamStopped):
            self._missing_media.end()
        elif isinstance(event, carrier.HandedOver):
            self._leave_carrier()
            self._kept.line_lost()
        self._do(self._bridge.receive_carrier(event, time.monotonic()))

    def _carrier_lost(self, socket: CarrierSocket, code: int, reason: str) -> None:
        level = logging.INFO if socket.codec.may_close else logging.WARNING
        logger.log(level, "call %s: carrier socket lost with %d", self.call_id, code)
        self._leave_carrier()
        self._kept.line_lost()
        self._do(self._bridge.carrier_lost(time.monotonic()))

    def _leave_carrier(self) -> None:
        self._missing_media.end()
        self._flush_caller()
        if not self._carrier.leave():
            return
        self._services.tick.forget(self._media.downlink)
        if self._model.socket is not None:
            self._model.socket.leg.connect_pump(self._media.downlink, None)

    def _carrier_leg_closed(self, leg: Leg) -> None:
        self._gauge.leg_closed(leg)

    # What the model's keeper reports

    def is_talk_going_on(self, now: float) -> bool:
        """Somebody speaks, is about to, or waits for a function."""
        return self._bridge.is_talk_going_on(now)

    def model_opened(self, lifetime_s: float | None) -> None:
        """Another session is there: it is configured, and given what the caller said meanwhile."""
        now = time.monotonic()
        self._media.downlink.forget_item()
        self._do(self._bridge.model_opened(now, lifetime_s=lifetime_s))
        self.model_writable()
        self._join_legs()
        self._stages.model_came(now)

    def model_event(self, event: ModelEvent) -> None:
        """The brain decides."""
        if isinstance(event, ModelError) and event.severity is not Severity.BENIGN:
            # Its message may quote what was said; our own event's id tells what it is about.
            code = event.code if event.code.isidentifier() else "unnamed"
            of = request_named(event.event_id) or "no event of ours"
            logger.warning("call %s: model error %s (%s)", self.call_id, code, of)
            self._send_carrier(carrier.TellError("model", "the model reported an error", code))
        elif isinstance(event, SpeechStarted | SpeechStopped):
            self._session.note_activity()
        now = time.monotonic()
        self._stages.model_event(event, now)
        commands = self._bridge.receive_model(event, now)
        if not isinstance(event, PASSIVE_EVENTS):
            self._do(commands)

    def model_writable(self) -> None:
        """Caller audio of the gap goes out, now that the model can take it."""
        if self._model.socket is not None and self._media.is_caller_heard:
            self._model.socket.leg.send_backlog(self._media.uplink)

    def model_queued(self) -> None:
        """The shared tick sends what waits for its time."""
        if (leg := self._carrier.leg) is not None:
            self._services.tick.watch(self._media.downlink, leg, self._playout_drained)

    def model_leaving(self) -> None:
        """Caller audio is kept for the next session; bot audio that came already still plays to its end."""
        if (leg := self._carrier.leg) is not None:
            leg.connect_pump(self._media.uplink, None)

    def model_lost(self) -> None:
        """What was promised waits for the next session."""
        self._counters.note("model_lost")
        now = time.monotonic()
        self._stages.model_left(now)
        self._do(self._bridge.model_lost(now))

    def model_failed(self) -> None:
        """The call ends in the way the caller understands best."""
        self._do(self._bridge.model_failed(time.monotonic()))

    def _legs(self) -> tuple[Leg | None, Leg | None]:
        return self._carrier.leg, self._model.socket.leg if self._model.socket is not None else None

    def _join_legs(self) -> None:
        self._media.join(*self._legs())

    # Media

    def _flush_caller(self) -> None:
        self._media.flush_caller(self._legs()[1])

    def _ask_for_media(self) -> None:
        self._counters.note("media_missing")
        note = "No sound has come from the caller's line for a while. Ask whether they are still there."
        self._do(self._bridge.announce(note, time.monotonic()))

    def _give_up_media(self) -> None:
        self._counters.note("media_gone")
        self.hang_up("no media")

    def _heard(self, news: list[News]) -> None:
        """What our own ears found."""
        self._flush_caller()
        now = time.monotonic()
        self._stages.event_came(now)
        for one in news:
            match one.kind:
                case Heard.OVERLAP_CONFIRMED:
                    self._do(self._bridge.caller_overlaps(now))
                case Heard.SPEECH_STARTED:
                    self._session.note_activity()
                    self._do(self._bridge.caller_started(now))
                case Heard.SPEECH_STOPPED:
                    self._session.note_activity()
                    self._do(self._bridge.caller_stopped(now))
                case Heard.DIGIT:
                    self._do(self._bridge.digit_heard(one.digit, now))

    def _meet_item(self, response_id: str, item_id: str, content_index: int) -> bool:
        now = time.monotonic()
        is_played, commands = self._bridge.meet_item(response_id, item_id, content_index, now)
        if is_played:
            self._stages.audio_begins(now)
        self._do(commands)
        return is_played

    def _playout_drained(self) -> None:
        self._session.note_activity()
        self._do(self._bridge.playout_drained(time.monotonic()))

    # Commands

    def _do(self, commands: Sequence[Command]) -> None:
        if commands:
            self._carry_out(commands)
        if self._media.downlink.is_queued:
            self.model_queued()
        self._timer.schedule()

    def _carry_out(self, commands: Sequence[Command]) -> None:
        queue = deque(commands)
        while queue:
            command = queue.popleft()
            match command:
                case asked.RunFunction():
                    self._start(self._run_function(command))
                case asked.CallerSaid():
                    self._view.turn_count += 1
                    self._session.caller_said(command.text)
                    self._kept.said("caller", command.text)
                    self._observers.tell("caller_said", self.call_id, command.text)
                case asked.BotSaid():
                    self._view.turn_count += 1
                    self._session.bot_said(command.text)
                    self._kept.said("agent", command.text)
                    self._observers.tell("bot_said", self.call_id, command.text)
                    self._send_carrier(carrier.TellTranscript(command.text))
                case asked.CallerPressed():
                    if not self._session.dtmf(command.digits):
                        queue.extend(self._bridge.caller_pressed(command.digits, time.monotonic()))
                case asked.NoteInterruption():
                    logger.info("call %s: bot interrupted after %d ms", self.call_id, command.heard_ms)
                    self._session.signal(Event.BARGE_IN)
                case asked.ReplaceModel():
                    self._model.need()
                case asked.CalleeKnown():
                    self._counters.note(f"answered_by_{command.callee.value}")
                    queue.extend(
                        meet_callee(command.callee, self._session, self._bridge, self._desk.agent.voicemail)
                    )
                case asked.HearCaller():
                    self._flush_caller()
                    self._media.hear_caller(command.is_heard)
                    self._join_legs()
                case asked.TransferEnded():
                    queue.extend(self._transfer_ended(command))
                case asked.EndCall():
                    self._finish(command.outcome)
                case carrier.OpenPlayback():
                    if (socket := self._carrier.socket) is not None:
                        socket.send(command)
                        template = socket.codec.playback_template(command.playback_id)
                        self._media.downlink.set_template(template.prefix, template.suffix)
                case _ if isinstance(command, ModelCommand):
                    if self._model.socket is not None:
                        # What the caller said before is heard before; but audio needs a session configured.
                        if not isinstance(command, UpdateSession):
                            self._flush_caller()
                        self._model.socket.send(command)
                case _:
                    queue.extend(self._send_carrier(command))
        self._stages.carried_out(commands)

    def _send_carrier(self, command: carrier.CarrierCommand) -> Sequence[Command]:
        """Send what agents may ask for; what this carrier cannot do is refused here, not in its callback."""
        if self._carrier.send(command):
            return ()
        logger.error("call %s: %s cannot be sent", self.call_id, type(command).__name__)
        if not isinstance(command, carrier.TransferCall):
            return ()
        status = carrier.TransferStatus(answered=False, code=asked.NOT_SUPPORTED)
        return self._bridge.receive_carrier(status, time.monotonic())

    def _transfer_ended(self, ended: asked.TransferEnded) -> Sequence[Command]:
        """Tell whoever sees to it: the state that waits, else one that handles the event, else the model."""
        outcome, was_awaited = self._control.transfer_ended(is_answered=ended.is_answered, code=ended.code)
        self._counters.note(f"transfer_{outcome.end}")
        if ended.is_answered or was_awaited or self.is_over:
            return ()
        if self._session.signal(Event.TRANSFER_FAILED, outcome.end.value):
            return ()
        return self._bridge.transfer_untold(ended.code, time.monotonic())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task that is held by the call and ended with it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_function(self, command: asked.RunFunction) -> None:
        begun = time.monotonic()
        # A name that the model made up is its words.
        is_offered = any(one["name"] == command.name for one in self._desk.model_settings.tools)
        outcome = await self._desk.call_function(command.call_id, command.name, command.arguments)
        now = time.monotonic()
        self._stages.function_done(command.name if is_offered else "", outcome.output, begun)
        self._do(
            self._bridge.function_returned(
                command.call_id, outcome.output, now, should_respond=outcome.should_respond
            )
        )
        self._desk.function_told()

    def _moved(self, transition: Transition) -> None:
        logger.info(
            "call %s: %s: %s -> %s", self.call_id, transition.task, transition.from_state, transition.to_state
        )
        self._kept.moved()
        self._observers.tell("moved", self.call_id, transition)
        move = transition.task, transition.from_state, transition.to_state, transition.reason
        self._send_carrier(carrier.TellTransition(*move))

    def _correct(self, note: str) -> None:
        """Tell the model of words that are not so; this comes in the midst of what follows from them."""
        asyncio.get_running_loop().call_soon(lambda: self._do(self._bridge.announce(note, time.monotonic())))

    def _refocus(self) -> None:
        """A task's state changed: the model is told at the next turn boundary."""
        now = time.monotonic()
        self._do(self._bridge.agent_works(self._session.is_at_work, now))
        self._do(self._bridge.configure(self._desk.model_settings, now))
        self._kept.changed()

    # Time

    def _next_deadline(self) -> float | None:
        return None if self.is_over else self._bridge.next_deadline()

    def _advance(self) -> None:
        self._do(self._bridge.advance(time.monotonic()))

    # The end

    def _finish(self, outcome: str) -> None:
        if not self.is_over:
            self._outcome = "drained" if outcome == "bot" and self._is_told_goodbye else outcome
            self._control.call_ended()
            self._over.set_result(None)

    async def _close(self) -> None:
        self._timer.stop()
        if self._services.gather_tick is not None:
            self._services.gather_tick.forget(self._media.uplink)
        self._leave_carrier()
        self._model.leave()
        if self._recorder is not None:
            self._recorder.close()
        goes_on = self._kept.ending(self._outcome, is_unfinished=self._session.is_unfinished)
        await self._desk.close(AGENT_CLOSE_TIMEOUT_S, is_hang_up=not goes_on)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._kept.close(self._outcome)

    def _all_counters(self) -> Counters:
        counters = Counters(self._counters)
        self._media.count_into(counters)
        return Counters({name: count for name, count in counters.items() if count})
