"""The call's brain, sans-I/O: an event and the time go in, commands come out.

It holds no JSON, no sample arithmetic and no ``await``, so every race of a call is a table test:

- *barge-in*: drop the queue, tell the carrier that the caller speaks, close the playback, abort what the
  carrier still holds, tell the model what was heard (in this order). With ears of our own the bot is only
  held at first, and goes on if the caller meant nothing by it (`Floor`, `Overlap`);
- *one response at a time*: `Answers` knows what is to be said, `ResponseGate` when a create may go out;
- *hang-up*: only after the last audio was heard (`CallPhases`, `Farewell`);
- *loss*: a lost model session (`ModelSession`) is rebuilt from `ConversationHistory`; a lost carrier socket
  parks the call (`CallPhases`).

Each of these has its state in a file of its own. Here is what an event means to several of them.
"""

from collections.abc import Sequence
from typing import assert_never

from fastagent.bridge.answers import Answers
from fastagent.bridge.clips import Clip
from fastagent.bridge.commands import CalleeKnown, CallerPressed, CallerSaid, Command, EndCall, TransferEnded
from fastagent.bridge.filler import Filler
from fastagent.bridge.floor import Floor
from fastagent.bridge.functions import FunctionCalls
from fastagent.bridge.history import ConversationHistory
from fastagent.bridge.hold import CallerHold
from fastagent.bridge.housekeeping import Housekeeping
from fastagent.bridge.limits import BridgeLimits
from fastagent.bridge.model_session import ModelSession
from fastagent.bridge.phases import DEAF_PHASES, CallPhases, Phase
from fastagent.bridge.playback import BotPlayback
from fastagent.bridge.responses import GateCounters, ResponseGate
from fastagent.bridge.transcripts import Transcripts
from fastagent.media.bargein import BargeIn
from fastagent.media.digits import DigitMerger
from fastagent.media.playout import PlayoutLedger
from fastagent.stats import Counters
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from fastagent.wire.openai_realtime import UPDATE_SESSION_ID
from fastagent.wire.realtime_errors import ACTIVE_RESPONSE_CODE

__all__ = ["PASSIVE_EVENTS", "Bridge", "BridgeLimits", "Phase"]

SILENCE_PROMPTS_MAX = 2
"""How often a silent caller is asked whether they are there, before the call ends."""

TRANSFER_FAILURES = {
    "busy": "the line was busy",
    "no-answer": "nobody answered",
    "declined": "the call was declined",
}
"""What the model is told of a carrier's word."""

PASSIVE_EVENTS = (
    model.SessionCreated,
    model.SessionUpdated,
    model.InputCleared,
    model.InputTimeout,
    model.ItemAdded,
    model.ItemDone,
    model.ItemTruncated,
    model.ItemDeleted,
    model.RateLimits,
    model.ModelNotice,
)
"""Events that are only recorded: nothing follows from them, no deadline moves. Half of what a model sends."""


class Bridge:
    """Decides for one call.

    Args:
        ledger: knows what was heard.
        playback_media: the format of bot audio on the carrier's side.
        session: what the model is configured with, on every session of this call.
        greeting: what the bot says first; empty to let the caller speak first.
        limits: how long to wait for others.
        counters: where oddities are counted.
        closes_when_heard: keep a playback open until its audio was heard: for a carrier to which closing
            it may mean silence.
        barge_in: decides by our own ears whether the caller stops the bot; None leaves that to the model.
        turn_silence_s: where the session detects no turns, our own ears do: how long after the caller's last
            sound their turn is over.
        now: monotonic seconds; the call begins.
    """

    def __init__(
        self,
        ledger: PlayoutLedger,
        playback_media: carrier.MediaOffer,
        session: model.SessionSettings,
        *,
        greeting: str = "",
        limits: BridgeLimits | None = None,
        counters: Counters | None = None,
        closes_when_heard: bool = False,
        barge_in: BargeIn | None = None,
        turn_silence_s: float = 0.5,
        now: float = 0.0,
    ) -> None:
        self.counters = Counters() if counters is None else counters
        self.barge_in = barge_in
        self.history = ConversationHistory()
        limits = limits or BridgeLimits()
        self._ledger = ledger
        self._phases = CallPhases(ledger, limits, self.counters, now)
        self._session = ModelSession(
            session, self.history, limit_s=limits.model_session_limit_s, counters=self.counters
        )
        self._gate = ResponseGate(answers_turns=session.turn_detection.create_response)
        self._answers = Answers(
            self._gate, self._session, self._phases, self.history, greeting=greeting, counters=self.counters
        )
        self._playback = BotPlayback(
            ledger,
            playback_media,
            closes_when_heard=closes_when_heard,
            close_margin_s=limits.close_margin_s,
        )
        self._floor = Floor(
            ledger,
            self._playback,
            self._gate,
            self._session,
            self._answers,
            self._phases,
            barge_in=barge_in,
            turn_silence_s=turn_silence_s,
            counters=self.counters,
        )
        self._hold = CallerHold(self._phases, self._floor, self._answers, self.counters)
        self._functions = FunctionCalls(self._session, self.history)
        self._filler = Filler()
        self._transcripts = Transcripts(self.history)
        self._digits = DigitMerger()
        self._house = Housekeeping(
            ledger,
            self._phases,
            self._session,
            self._gate,
            self._answers,
            self._playback,
            self._floor,
            self._functions,
            self._filler,
            self._hold,
        )

    @property
    def phase(self) -> Phase:
        """Where the call stands."""
        return self._phases.phase

    def speaker(self, now: float) -> str:
        """Who is heard: ``caller``, ``bot``, ``both``; empty for nobody."""
        return self._floor.speaker(now)

    @property
    def has_started_talking(self) -> bool:
        """A playback was opened at least once."""
        return self._playback.has_begun

    @property
    def response_counts(self) -> GateCounters:
        """What became of the responses we asked for."""
        return self._gate.counters

    # The model's leg

    def model_opened(self, now: float, *, lifetime_s: float | None = None) -> list[Command]:
        """A session is open: configure it, replay what was said, greet or go on.

        Args:
            lifetime_s: what the session has to live, if the model told.
        """
        if self._phases.phase is Phase.ENDED:
            return []
        # Another session takes over: what the old one was at is lost with it.
        commands = self.model_lost(now) if self._session.is_connected else []
        commands += self._session.opened(now, lifetime_s=lifetime_s)
        commands += self._gate.reset(now)
        self._floor.session_opened(now)
        return commands + self._answers.begin(now)

    def model_lost(self, now: float) -> list[Command]:
        """The session is gone. What was sent to the caller plays on; what was promised waits for the next."""
        is_interrupted = self._floor.session_lost()
        self._answers.is_owed = self._answers.is_owed or self._answers.is_busy or is_interrupted
        self._session.lost()
        self._gate.suspend()
        self._house.session_lost()
        self._ledger.finish_all(now)
        return self._house.conclude([], now)

    def model_failed(self, now: float) -> list[Command]:
        """No session can be had any more: end the call in the way the caller understands best."""
        if self._phases.phase is Phase.ENDED:
            return []
        self.counters.note("model_failed")
        self._session.is_gone = True
        if self._phases.phase in (Phase.HANGING_UP, Phase.TRANSFERRING):
            return []
        if self._phases.phase is Phase.LEAVING:
            # The caller is about to be in better hands, or to leave anyway: no more is said.
            self._ledger.finish_all(now)
            return self._house.conclude([], now)
        reason = "the voice service is not available"
        command: Command = carrier.HangUp(reason) if self.has_started_talking else carrier.FailSession(reason)
        return [command, *self._end("model_lost")]

    def receive_model(self, event: model.ModelEvent, now: float) -> list[Command]:
        """Take one event of the model."""
        if self._phases.phase is Phase.ENDED:
            return []
        if isinstance(event, PASSIVE_EVENTS):
            self._note(event)
            return []
        if not (isinstance(event, model.BotTranscript) and self._gate.is_out_of_band(event.response_id)):
            self.history.receive(event)
        commands: list[Command] = []
        match event:
            case model.SpeechStarted() if self._hold.is_on:
                # Of audio that was on its way when the hold began.
                self.counters.note("speech_on_hold")
            case model.SpeechStarted():
                commands += self._floor.caller_starts(event.item_id, now)
            case model.SpeechStopped():
                commands += self._floor.caller_stops(now)
            case model.InputCommitted():
                commands += self._floor.turn_committed(event.item_id, now)
            case model.CallerTranscript():
                commands += self._transcripts.caller_said(event)
                if event.is_final:
                    commands += self._floor.words_known(event, self._transcripts.last_words, now)
            case model.ResponseCreated():
                commands += self._floor.response_created(event, now)
            case model.BotTranscript():
                if event.is_final and not self._gate.is_out_of_band(event.response_id):
                    commands += self._transcripts.bot_said(event)
            case model.AudioDone():
                self._ledger.finish_item(event.item_id, now)
            case model.FunctionCall():
                commands += self._functions.begin(event)
            case model.ResponseDone():
                commands += self._response_done(event, now)
            case model.ModelError():
                commands += self._model_error(event, now)
            case _:
                assert_never(event)
        return self._house.conclude(commands, now)

    def _note(self, event: model.ModelEvent) -> None:
        if isinstance(event, model.ModelNotice):
            self.counters.note("model_notices")
        elif isinstance(event, model.SessionUpdated):
            self._session.accepted()
        else:
            self.history.receive(event)

    # The caller by our own ears

    def caller_overlaps(self, now: float) -> list[Command]:
        """The caller is heard over the bot, and it is not the bot's echo."""
        return [] if self._phases.phase in DEAF_PHASES else self._floor.overlap_heard(now)

    def caller_started(self, now: float) -> list[Command]:
        """Speech begins. Where the model detects turns, that is its to say."""
        if self._phases.phase in DEAF_PHASES or self._session.turn_detection.kind != "none":
            return []
        if self._floor.speech_goes_on():
            return []
        return self._house.conclude(self._floor.caller_starts("", now), now)

    def caller_stopped(self, now: float) -> list[Command]:
        """Speech ends; the turn may be over."""
        if self._session.turn_detection.kind == "none":
            self._floor.silence_heard(now)
        return []

    def digit_heard(self, digit: str, now: float) -> list[Command]:
        """A keypad tone in the audio."""
        if self._phases.phase in DEAF_PHASES:
            return []
        return self._press(self._digits.heard(digit, now), now)

    def _press(self, digits: str, now: float) -> list[Command]:
        if not digits:
            return []
        # Keys stop no music on hold.
        commands = [] if self._hold.is_on else self._floor.keys_pressed(now)
        return [*commands, CallerPressed(digits)]

    def _response_done(self, event: model.ResponseDone, now: float) -> list[Command]:
        self._ledger.finish_response(event.response_id or self._gate.active_response_id or "", now)
        if event.severity is model.Severity.FATAL:
            return self.model_failed(now)
        return list(self._gate.done(event, now))

    def _model_error(self, event: model.ModelError, now: float) -> list[Command]:
        self.counters.note(f"model_errors_{event.severity.value}")
        if event.severity is model.Severity.FATAL:
            return self.model_failed(now)
        if event.severity is model.Severity.FAULT and (event.event_id or "").startswith(UPDATE_SESSION_ID):
            commands = self._session.refused()
            return self.model_failed(now) if commands is None else commands
        if event.code == ACTIVE_RESPONSE_CODE and event.event_id is None and self._gate.active_response_id:
            self._floor.turn_refused(now)
        return list(self._gate.error(event, now))

    # The carrier's leg

    def receive_carrier(self, event: carrier.CarrierEvent, now: float) -> list[Command]:
        """Take one event of the carrier. Offers and resumes are for the call, which owns the legs."""
        if self._phases.phase is Phase.ENDED:
            return []
        commands: list[Command] = []
        match event:
            case carrier.SessionEnded():
                is_answered = event.reason is carrier.EndReason.TRANSFERRED
                commands += self._transfer_answered(event.code) if is_answered else []
                return commands + self._end(self._phases.outcome_of(event.reason))
            case carrier.HandedOver():
                if self._phases.phase is not Phase.TRANSFERRING:
                    return self.carrier_lost(now)
                commands += self._floor.clear(now)
                self._ledger.forget_playbacks()
                self._phases.handed_over()
            case carrier.DtmfReceived():
                digits = "".join(self._digits.signalled(one, now) for one in event.digits)
                commands += self._press(digits, now)
            case carrier.PlaybackFinished():
                if self._ledger.acknowledge(event.playback_id, now):
                    self._phases.disturb_farewell()
                else:
                    self.counters.note("playback_finished_stale")
            case carrier.NoUserInput():
                commands += self._ask_silent_caller(event.count, now)
            case carrier.CallerText():
                if event.is_final and event.text.strip():
                    commands.append(CallerSaid(event.text))
                    commands += self._answers.tell_of_caller(event.text, now)
            case carrier.TransferStatus():
                if not event.answered:
                    commands += self._transfer_failed(event.code, now)
                else:
                    commands += self._transfer_answered(event.code)
                    if self._phases.is_line_away:
                        return commands + self._end("transferred")
            case carrier.CalleeDetected():
                commands.append(CalleeKnown(event.callee))
            case carrier.CallerStreamStopped():
                commands += self._floor.end_turn(now)
            case carrier.PlaybackFailed():
                self.counters.note("playback_failed")
            case carrier.IgnoredMessage():
                self.counters.note(f"carrier_ignored_{event.cause}")
            case carrier.CallerStreamStarted():
                self._floor.stream_restarted(now)
            case (
                carrier.CallMetadata()
                | carrier.CallerAudio()
                | carrier.CarrierNotice()
                | carrier.SessionOffered()
                | carrier.SessionResumed()
            ):
                pass
            case _:
                assert_never(event)
        return self._house.conclude(commands, now)

    def _ask_silent_caller(self, count: int, now: float) -> list[Command]:
        if self._phases.phase is not Phase.TALKING or self.is_talk_going_on(now):
            return []
        if count > SILENCE_PROMPTS_MAX:
            commands = self._answers.tell("The caller has been silent for long. Say goodbye.", now)
            return commands + self.hang_up("caller silent", now)
        note = "The caller has said nothing for a while. Ask whether they are still there."
        return self._answers.tell(note, now)

    def carrier_lost(self, now: float) -> list[Command]:
        """The carrier's socket is gone without an end: park the call, keep what was heard."""
        if self._phases.phase in (Phase.ENDED, Phase.PARKED):
            return []
        if self._phases.phase is Phase.HANGING_UP:
            return self._end(self._phases.outcome_of_hang_up)
        self.counters.note("carrier_lost")
        commands = [*self._hold.leave_line(), *self._floor.clear(now)]
        self._ledger.forget_playbacks()
        cancel = self._gate.cancel()
        if cancel is not None and cancel not in commands:
            commands.insert(0, cancel)
        self._phases.park(now)
        return commands

    def carrier_resumed(self, now: float) -> list[Command]:
        """The caller's line is back on another socket: go on where the talk stopped."""
        # It may be back before the loss of the first socket was noticed.
        commands = self.carrier_lost(now)
        if self._phases.phase is not Phase.PARKED:
            return commands
        self.counters.note("carrier_resumed")
        if self._phases.resume(now):
            commands += self._answers.go_on(now)
        return self._house.conclude(commands, now)

    def line_returned(self, now: float) -> None:
        """A caller who was handed on by ending their socket is back on another; why is told next."""
        self._phases.line_returned(now)

    @property
    def awaits_return(self) -> bool:
        """The caller was handed on together with their line, and may come back on another."""
        return self._phases.phase is Phase.TRANSFERRING and self._phases.is_line_away

    def _transfer_answered(self, code: str) -> list[Command]:
        return [TransferEnded(True, code)] if self._phases.transfer_answered() else []

    def _transfer_failed(self, code: str, now: float) -> list[Command]:
        if self._phases.is_line_away:
            # It failed as the caller gave up: nobody is there to go on with.
            self._phases.is_line_away = False
            return [TransferEnded(False, code), *self._end("caller")]
        if not self._phases.transfer_failed():
            return []
        if self._session.is_gone:
            return [TransferEnded(False, code), *self.model_failed(now)]
        return [TransferEnded(False, code)]

    def transfer_untold(self, code: str, now: float) -> list[Command]:
        """A transfer failed, and no task sees to that: the model tells the caller."""
        note = "The transfer failed. Tell the caller and ask how else to help."
        if why := TRANSFER_FAILURES.get(code):
            note = f"The transfer failed: {why}. Tell the caller and ask how else to help."
        return self._house.conclude(self._answers.tell(note, now), now)

    # The media path

    def meet_item(
        self, response_id: str, item_id: str, content_index: int, now: float
    ) -> tuple[bool, list[Command]]:
        """Audio of another item begins: whether to play it, and what must be sent before its first sample."""
        if self._phases.phase is Phase.ENDED or self._gate.is_out_of_band(response_id):
            return False, []
        if item_id:
            self._session.items.add(item_id)
        if self._phases.phase in DEAF_PHASES:
            self._ledger.refuse_response(response_id)
        words = self._transcripts.words_of(item_id)
        return self._floor.open_item(response_id, item_id, content_index, now, text=words)

    def playout_drained(self, now: float) -> list[Command]:
        """The downlink's queue ran empty."""
        self._floor.drained(now)
        return self._house.conclude([], now)

    # Clips

    def play(self, clip: Clip, now: float, *, waits: bool) -> list[Command] | None:
        """Play audio of our own.

        Args:
            waits: for a pause in the talk; else whatever the bot says is cut short for it.

        Returns:
            None when nobody would hear it, or too many clips wait already.
        """
        if self._phases.phase is not Phase.TALKING:
            return None
        if waits:
            if not self._floor.play_later(clip):
                return None
            return self._house.conclude(self._floor.end_music(now), now)
        return self._house.conclude(self._floor.play(clip, now), now)

    def stop_playing(self, now: float) -> list[Command]:
        """End the clip that is heard, with all that is queued behind it; forget those that wait."""
        is_playing = self._floor.forget_clips(now)
        if self._phases.phase is not Phase.TALKING or not is_playing:
            return []
        return self._house.conclude(self._floor.silence(now), now)

    # On hold

    def hold(self, music: Clip | None, now: float) -> list[Command]:
        """Put the caller on hold once everything said was heard.

        Args:
            music: a clip that goes on and on; None for silence.
        """
        self._hold.want(music)
        return self._house.conclude([], now)

    def end_hold(self, now: float) -> list[Command]:
        """Have the talk go on."""
        return self._house.conclude(self._hold.end(now), now)

    # The agent

    def function_returned(
        self, call_id: str, output: str, now: float, *, should_respond: bool = True
    ) -> list[Command]:
        """A function's outcome: post it, and have it spoken once all outcomes of its response are in."""
        if self._phases.phase is Phase.ENDED or not self._functions.is_running(call_id):
            return []
        commands, is_answer_due = self._functions.end(call_id, output, should_respond=should_respond)
        if is_answer_due:
            commands += self._answers.want_of_function(now)
        return self._house.conclude(commands, now)

    def announce(self, text: str, now: float) -> list[Command]:
        """Have the model say something it was not asked for: a task's late question or result."""
        if self._phases.phase is Phase.ENDED:
            return []
        return self._house.conclude(self._answers.tell(text, now), now)

    def caller_pressed(self, digits: str, now: float) -> list[Command]:
        """Digits that no task took: the model hears of them."""
        return self._answers.tell_of_caller(f"The caller pressed {digits}.", now)

    def greet_with(self, greeting: str) -> None:
        """Have the caller greeted so, unless they were greeted already."""
        self._answers.greet_with(greeting)

    def agent_works(self, is_at_work: bool, now: float) -> list[Command]:
        """A task of the agent is at work, or waits again for the caller."""
        self._filler.is_agent_at_work = is_at_work
        return self._house.conclude([], now)

    def set_filler(self, after_s: float | None, words: Sequence[str], now: float) -> list[Command]:
        """Have these words said, one after another, when a wait is silent for so long; None: never."""
        self._filler.set(after_s, words)
        return self._house.conclude([], now)

    def hang_up(self, reason: str, now: float) -> list[Command]:
        """End the call once everything said was heard."""
        if self._phases.phase is Phase.PARKED:
            return self._end(self._phases.outcome_of_hang_up)
        return self._leave(carrier.HangUp(reason), now)

    def transfer(self, command: carrier.TransferCall, now: float) -> list[Command]:
        """Hand the caller on once everything said was heard."""
        return self._leave(command, now)

    def _leave(self, farewell: carrier.HangUp | carrier.TransferCall, now: float) -> list[Command]:
        commands = self._hold.end(now, is_talk_over=True)
        if self._phases.leave(farewell, now):
            commands += self._floor.end_music(now)
        return self._house.conclude(commands, now)

    def await_farewell(self, now: float) -> list[Command]:
        """A task waits for what comes of its transfer: nothing of its own is left to say before it."""
        self._phases.is_farewell_awaited = True
        return self._house.conclude([], now)

    def configure(self, settings: model.SessionSettings, now: float) -> list[Command]:
        """Have the model go by other settings from the next turn boundary on."""
        self._session.configure(settings, now)
        return self._house.conclude([], now)

    def is_talk_going_on(self, now: float) -> bool:
        """Somebody speaks, is about to, or waits for a function."""
        return self._house.is_talk_going_on(now)

    # Time

    def advance(self, now: float) -> list[Command]:
        """Do what is due by ``now``."""
        if self._phases.phase is Phase.ENDED:
            return []
        commands: list[Command] = list(self._gate.advance(now))
        if self._phases.phase not in DEAF_PHASES:
            commands += self._floor.advance(now)
        if self._phases.is_overdue(now) and self._hold.is_on:
            self.counters.note("holds_overdue")
            commands += self._hold.end(now)
        elif self._phases.is_overdue(now):
            outcome = self._phases.outcome_of_silence()
            if outcome is not None:
                return commands + self._end(outcome)
            commands += self._transfer_failed("", now)
        if self._phases.take_call_limit(now):
            commands += self.hang_up("call limit", now)
        return self._house.conclude(commands, now)

    def next_deadline(self) -> float | None:
        """When `advance` is due next, in monotonic seconds."""
        if self._phases.phase is Phase.ENDED:
            return None
        deadlines = [
            self._phases.next_deadline(),
            self._gate.next_deadline(),
            self._playback.close_deadline,
        ]
        if self._phases.phase not in DEAF_PHASES:
            deadlines += self._floor.deadlines()
        if self._phases.phase is Phase.TALKING:
            deadlines += self._house.next_deadlines()
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _end(self, outcome: str) -> list[Command]:
        self._phases.end()
        return [EndCall(outcome)]
