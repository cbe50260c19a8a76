"""The call's brain, sans-I/O: an event and the time go in, commands come out.

It holds no JSON, no sample arithmetic and no ``await``, so every race of a call is a table test:

- *barge-in*: drop the queue, tell the carrier that the caller speaks, close the playback, abort what the
  carrier still holds, tell the model what was heard (in this order). With ears of our own the bot is only
  held at first, and goes on if the caller meant nothing by it (`media.bargein`);
- *one response at a time*: `ResponseGate` decides when a create may go out;
- *hang-up*: only after the last audio was heard;
- *loss*: a lost model session is rebuilt from `ConversationHistory`; a lost carrier socket parks the call.

::

    TALKING ──hang_up()──▶ LEAVING ──all heard──▶ HANGING_UP ──session end or hang_up_timeout_s──▶ ENDED
     │  ▲ └──transfer()───▶ LEAVING ──all heard──▶ TRANSFERRING ──session end──▶ ENDED
     │  └───────────────────refused or transfer_timeout_s───┘
     ├────carrier_lost()───▶ PARKED ──resume_grace_s──▶ ENDED
     └──◀─carrier_resumed()───┘

A call can be parked while it is LEAVING or TRANSFERRING, too, and goes on there. Nothing follows ENDED.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from fastagent.bridge.clips import Clip, ClipPlayer
from fastagent.bridge.commands import (
    BotSaid,
    CallerPressed,
    CallerSaid,
    Command,
    EndCall,
    NoteInterruption,
    ReplaceModel,
    RunFunction,
)
from fastagent.bridge.farewell import Farewell
from fastagent.bridge.history import ConversationHistory
from fastagent.bridge.playback import BotPlayback
from fastagent.bridge.responses import GateCounters, GateState, ResponseGate
from fastagent.media.bargein import BargeIn, Decision, says_something
from fastagent.media.digits import DigitMerger
from fastagent.media.playout import Admission, PlayoutLedger
from fastagent.stats import Counters
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from fastagent.wire.openai_realtime import UPDATE_SESSION_ID

__all__ = ["PASSIVE_EVENTS", "Bridge", "BridgeLimits", "Phase"]


class Phase(Enum):
    """Where the call stands; the moves are drawn above."""

    TALKING = "talking"
    PARKED = "parked"
    LEAVING = "leaving"
    HANGING_UP = "hanging_up"
    TRANSFERRING = "transferring"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class BridgeLimits:
    """How long the brain waits for others."""

    hang_up_grace_s: float = 1.0
    """For the carrier's word that the last playback was heard, once the clock says it was."""
    leaving_limit_s: float = 20.0
    """For the goodbye to be spoken and heard; then we hang up anyway."""
    close_margin_s: float = 0.1
    """Beyond the clock's "heard", before a close that may cut: the clock is an estimate."""
    hang_up_timeout_s: float = 5.0
    """From our hang-up to the carrier's end of session."""
    transfer_timeout_s: float = 60.0
    """From our transfer to the carrier's word on it; then the talk goes on."""
    resume_grace_s: float = 60.0
    """For a lost carrier socket to come back."""
    max_call_s: float = 3600.0
    model_session_limit_s: float = 3000.0


_DEAF_PHASES = frozenset({Phase.PARKED, Phase.HANGING_UP, Phase.TRANSFERRING, Phase.ENDED})
"""Nothing that is said now reaches the caller."""

SILENCE_PROMPTS_MAX = 2
"""How often a silent caller is asked whether they are there, before the call ends."""

TALKED_OVER_KEPT = 8
"""Utterances over the bot whose words are waited for."""
HYPOTHESIS_CHARACTERS_MAX = 500
"""Each hypothesis repeats the utterance so far: beyond this length only the final transcript is told."""
FUNCTION_ROUNDS_MAX = 16
"""Answers to functions in a row, without a word of the caller; a model that goes on has lost its way."""

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

_OUTCOMES = {
    carrier.EndReason.CALLER: "caller",
    carrier.EndReason.BOT: "bot",
    carrier.EndReason.TRANSFERRED: "transferred",
    carrier.EndReason.MACHINE: "machine",
    carrier.EndReason.NOT_ANSWERED: "not_answered",
    carrier.EndReason.ERROR: "error",
    carrier.EndReason.OTHER: "other",
}


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
        self.limits = limits or BridgeLimits()
        self.history = ConversationHistory()
        self._ledger = ledger
        self._session = session
        self._greeting = greeting
        self._gate = ResponseGate(answers_turns=session.turn_detection.create_response)
        self._phase = Phase.TALKING
        self._phase_before_parking = Phase.TALKING
        self._is_connected = False
        self._is_model_gone = False
        """No session can be had any more."""
        self._was_greeted = False
        self._caller_is_speaking = False
        self._is_speech_reported = False
        """The carrier was told that the caller speaks, and not yet that they stopped."""
        self._talks_over = False
        """What the caller says began over the bot, and has not taken the turn."""
        self._talked_over: list[str] = []
        """Items that began so; their words may still take the turn."""
        self._turn_silence_s = turn_silence_s
        self._turn_end: float | None = None
        """When the caller's turn is over, unless they speak again."""
        self._is_create_crossed = False
        """A create was on its way when the caller began to speak."""
        self._owes_answer = False
        self._hypothesis_id = ""
        self._hypothesis = ""
        self._running: dict[str, model.FunctionCall] = {}
        """Function calls that have not returned, by call id."""
        self._calls_of_session: set[str] = set()
        """Those the current session knows it made."""
        self._wants_answer: set[str] = set()
        """Responses one of whose functions wants its outcome spoken."""
        self._is_session_bare = False
        self._function_rounds = 0
        self._last_bot_text = ("", "")
        """The item whose words came last, and the words."""
        self._playback = BotPlayback(
            ledger,
            playback_media,
            closes_when_heard=closes_when_heard,
            close_margin_s=self.limits.close_margin_s,
        )
        self._clips = ClipPlayer(ledger)
        self._digits = DigitMerger()
        self._items_of_session: set[str] = set()
        """Items whose audio the current session made: no other can be truncated in it."""
        self._response_followed: str | None = None
        self._farewell = Farewell(
            ledger, limit_s=self.limits.leaving_limit_s, grace_s=self.limits.hang_up_grace_s
        )
        self._was_transfer_answered = False
        self._phase_deadline: float | None = None
        self._call_deadline: float | None = now + self.limits.max_call_s
        self._outcome_of_hang_up = "bot"
        self._session_deadline: float | None = None
        self._replacing = False

    @property
    def phase(self) -> Phase:
        """Where the call stands."""
        return self._phase

    @property
    def has_started_talking(self) -> bool:
        """A playback was opened at least once."""
        return self._playback.has_begun

    @property
    def response_counts(self) -> GateCounters:
        """What became of the responses we asked for."""
        return self._gate.counters

    @property
    def _is_model_busy(self) -> bool:
        """A response runs, or one is wanted."""
        if self._is_model_gone:
            return False
        return self._gate.state in (GateState.REQUESTED, GateState.ACTIVE) or self._gate.waiting > 0

    # The model's leg

    def model_opened(self, now: float, *, lifetime_s: float | None = None) -> list[Command]:
        """A session is open: configure it, replay what was said, greet or go on.

        Args:
            lifetime_s: what the session has to live, if the model told.
        """
        if self._phase is Phase.ENDED:
            return []
        # Another session takes over: what the old one was at is lost with it.
        commands = self.model_lost(now) if self._is_connected else []
        limit_s = self.limits.model_session_limit_s
        # A lifetime that is over already speaks of a wrong clock, ours or theirs.
        if lifetime_s is not None and lifetime_s > 0:
            # A session is replaced a minute before it ends, or halfway through a short one.
            limit_s = min(limit_s, max(lifetime_s - 60.0, lifetime_s / 2))
        self._session_deadline = now + limit_s
        self._is_connected = True
        self._is_model_gone = False
        self._replacing = False
        commands += [model.UpdateSession(self._session), *self.history.replay()]
        commands += self._gate.reset(now)
        return commands + self._begin_talk(now)

    def _begin_talk(self, now: float) -> list[Command]:
        """Greet, or give the answer that is owed, if there is anybody to hear it."""
        if self._phase in _DEAF_PHASES:
            return []
        commands: list[Command] = []
        if not self._was_greeted:
            self._was_greeted = True
            if self._greeting:
                greeting = model.CreateResponse(instructions=f'Greet the caller with: "{self._greeting}"')
                commands += self._gate.want(greeting, now)
        if self._owes_answer:
            self._owes_answer = False
            commands += self._gate.want(model.CreateResponse(), now)
        return commands

    def model_lost(self, now: float) -> list[Command]:
        """The session is gone. What was sent to the caller plays on; what was promised waits for the next."""
        self._owes_answer = self._owes_answer or self._is_model_busy or self._caller_is_speaking
        self._is_connected = False
        self._caller_is_speaking = False
        self._session_deadline = None
        self._calls_of_session.clear()
        self._items_of_session.clear()
        self._gate.suspend()
        self._response_followed = None
        self._ledger.finish_all(now)
        return self._housekeeping(now)

    def model_failed(self, now: float) -> list[Command]:
        """No session can be had any more: end the call in the way the caller understands best."""
        if self._phase is Phase.ENDED:
            return []
        self.counters.note("model_failed")
        self._is_model_gone = True
        if self._phase in (Phase.HANGING_UP, Phase.TRANSFERRING):
            return []
        if self._phase is Phase.LEAVING:
            # The caller is about to be in better hands, or to leave anyway: no more is said.
            self._ledger.finish_all(now)
            return self._housekeeping(now)
        reason = "the voice service is not available"
        command: Command = carrier.HangUp(reason) if self.has_started_talking else carrier.FailSession(reason)
        return [command, *self._end("model_lost")]

    def receive_model(self, event: model.ModelEvent, now: float) -> list[Command]:
        """Take one event of the model."""
        if self._phase is Phase.ENDED:
            return []
        if isinstance(event, PASSIVE_EVENTS):
            self._note(event)
            return []
        if not (isinstance(event, model.BotTranscript) and self._gate.is_out_of_band(event.response_id)):
            self.history.receive(event)
        commands: list[Command] = []
        match event:
            case model.SpeechStarted():
                commands += self._caller_starts(event.item_id, now)
            case model.SpeechStopped():
                self._caller_is_speaking = False
                self._owes_answer |= self._is_turn_answered(now)
                commands += self._report_stop()
                commands += self._gate.speech_stopped(now, is_answered=self._is_turn_answered(now))
            case model.InputCommitted():
                self._owes_answer |= self._is_turn_answered(now)
                commands.append(carrier.ReportSpeech(carrier.SpeechPhase.COMMITTED))
            case model.CallerTranscript():
                commands += self._transcribe_caller(event)
                if event.is_final:
                    commands += self._weigh_words(event, now)
            case model.ResponseCreated():
                commands += self._response_created(event, now)
            case model.BotTranscript():
                if event.is_final and not self._gate.is_out_of_band(event.response_id):
                    commands += self._transcribe_bot(event)
            case model.AudioDone():
                self._ledger.finish_item(event.item_id, now)
            case model.FunctionCall():
                commands += self._call_function(event)
            case model.ResponseDone():
                commands += self._response_done(event, now)
            case model.ModelError():
                commands += self._model_error(event, now)
            case _:
                assert_never(event)
        return commands + self._housekeeping(now)

    def _note(self, event: model.ModelEvent) -> None:
        if isinstance(event, model.ModelNotice):
            self.counters.note("model_notices")
        else:
            self.history.receive(event)

    def _caller_starts(self, item_id: str, now: float) -> list[Command]:
        self._caller_is_speaking = True
        self._is_create_crossed = self._gate.state is GateState.REQUESTED
        self._function_rounds = 0
        self._gate.speech_started(now)
        is_protected = self._clips.is_protected(now)
        self._talks_over = (self.barge_in is not None or is_protected) and self._ledger.is_audible(now)
        if self._talks_over:
            # Our own ears decide what becomes of it: a model takes echo and "uh-huh" for speech, too.
            if item_id:
                self._talked_over = [*self._talked_over[1 - TALKED_OVER_KEPT :], item_id]
            return self._report_start()
        if (
            not self._ledger.is_audible(now)
            and not self._playback.is_open
            and self._gate.active_response_id is None
        ):
            return self._report_start()
        return self._interrupt(now)

    def _report_start(self) -> list[Command]:
        if self._is_speech_reported:
            return []
        self._is_speech_reported = True
        return [carrier.ReportSpeech(carrier.SpeechPhase.STARTED)]

    def _report_stop(self) -> list[Command]:
        if not self._is_speech_reported:
            return []
        self._is_speech_reported = False
        return [carrier.ReportSpeech(carrier.SpeechPhase.STOPPED)]

    def _is_turn_answered(self, now: float) -> bool:
        """The model answers what it just heard by itself, and we want it to."""
        is_unheeded = self._talks_over and self._ledger.is_audible(now)
        return self._session.turn_detection.create_response and not is_unheeded

    # The caller by our own ears

    def caller_overlaps(self, now: float) -> list[Command]:
        """The caller is heard over the bot, and it is not the bot's echo."""
        if self.barge_in is None or self._phase in _DEAF_PHASES:
            return []
        if not self._ledger.is_audible(now):
            # They went on where the bot ended: an ordinary turn.
            self._talks_over = False
            return []
        if self._clips.is_protected(now) or self.barge_in.overlapped(now) is not Decision.HOLD:
            return []
        self.counters.note("holds")
        self._ledger.hold(now)
        return [*self._report_start(), *self._playback.abort()]

    def caller_started(self, now: float) -> list[Command]:
        """Speech begins. Where the model detects turns, that is its to say."""
        if self._phase in _DEAF_PHASES or self._session.turn_detection.kind != "none":
            return []
        self._turn_end = None
        if self._caller_is_speaking:
            return []
        return self._caller_starts("", now) + self._housekeeping(now)

    def caller_stopped(self, now: float) -> list[Command]:
        """Speech ends; the turn may be over."""
        if self._caller_is_speaking and self._session.turn_detection.kind == "none":
            self._turn_end = now + self._turn_silence_s
        return []

    def digit_heard(self, digit: str, now: float) -> list[Command]:
        """A keypad tone in the audio."""
        if self._phase in _DEAF_PHASES:
            return []
        return self._press(self._digits.heard(digit, now))

    def _press(self, digits: str) -> list[Command]:
        return [CallerPressed(digits)] if digits else []

    def _judge_overlap(self, now: float) -> list[Command]:
        if self.barge_in is None:
            return []
        match self.barge_in.advance(now):
            case Decision.CUT:
                return self._interrupt(now, is_silenced=True)
            case Decision.RESUME:
                return self._resume()
            case Decision.NONE | Decision.HOLD:
                return []

    def _resume(self) -> list[Command]:
        """The caller meant nothing by it: the bot goes on where it was held."""
        self.counters.note("backchannels")
        self._talks_over = True
        self._ledger.release()
        commands = self._report_stop()
        return commands + self._playback.open() if self._ledger.is_queued else commands

    def _weigh_words(self, event: model.CallerTranscript, now: float) -> list[Command]:
        """The words of what was said over the bot may take the turn after all."""
        if self.barge_in is None or event.item_id not in self._talked_over:
            return []
        self._talked_over.remove(event.item_id)
        if not self._talks_over or self.barge_in.is_holding or self._clips.is_protected(now):
            return []
        if self.barge_in.said(event.text) is Decision.CUT and self._ledger.is_audible(now):
            return self._interrupt(now) + self._want_response(now)
        # A protected bot speaks on; what was said meanwhile is answered then.
        is_owed = self.barge_in.policy.mode != "interruptible" and says_something(event.text)
        return self._want_response(now) if is_owed else []

    def _interrupt(self, now: float, *, is_silenced: bool = False) -> list[Command]:
        """The caller takes the turn.

        Args:
            is_silenced: the carrier has dropped what it had already.
        """
        self.counters.note("barge_ins")
        told_model = self._cut(now)
        told_carrier: list[Command] = [*self._report_start()]
        if not is_silenced:
            told_carrier += self._playback.abort()
        return told_carrier + told_model

    def _cut(self, now: float) -> list[Command]:
        """The bot's turn is over: drop what it still had to say; gives what the model must be told."""
        detection = self._session.turn_detection
        is_cancelled = detection.interrupt_response and detection.kind != "none" and self._caller_is_speaking
        told = self._drop(now, active_response_id=self._gate.active_response_id)
        cancel = None if is_cancelled else self._gate.cancel()
        return told if cancel is None else [cancel, *told]

    def _drop(self, now: float, *, active_response_id: str | None = None) -> list[Command]:
        """Drop what is queued; of a response that is named, what is still to come, too."""
        cuts = self._ledger.cut(now, active_response_id=active_response_id)
        commands: list[Command] = []
        self._talks_over = False
        self._clips.forget()
        self._farewell.disturb()
        if self.barge_in is not None:
            self.barge_in.reset()
        for cut in cuts:
            is_known = cut.item_id in self._items_of_session
            if cut.audio_end_ms > 0:
                if is_known:
                    commands.append(model.TruncateItem(cut.item_id, cut.audio_end_ms, cut.content_index))
                self.history.truncate_item(cut.item_id, cut.audio_end_ms / cut.received_ms)
            else:
                if is_known:
                    commands.append(model.DeleteItem(cut.item_id))
                self.history.delete_item(cut.item_id)
            if cut.received_ms:
                commands.append(NoteInterruption(cut.item_id, cut.audio_end_ms))
        return commands

    def _response_created(self, event: model.ResponseCreated, now: float) -> list[Command]:
        was_asked_for = self._gate.state is GateState.REQUESTED
        commands: list[Command] = list(self._gate.created(event, now))
        if event.is_out_of_band:
            return commands
        if self._talks_over and not was_asked_for and self._ledger.is_audible(now):
            # The model answers what took no turn: not into the bot's own words.
            self.counters.note("answers_declined")
            return commands + self._decline(event.response_id)
        self._owes_answer = False
        is_crossed, self._is_create_crossed = self._is_create_crossed, False
        if is_crossed and self._caller_is_speaking and self._may_interrupt:
            # We asked before the caller spoke, and the answer comes into the caller's words: not now. What
            # was asked for later goes on: the gate waited as long as it may, this speech may well be noise.
            commands += self._decline(event.response_id) + self._want_response(now)
        return commands

    @property
    def _may_interrupt(self) -> bool:
        """What the caller says goes before what the bot says."""
        if self.barge_in is None:
            return self._session.turn_detection.interrupt_response
        return self.barge_in.policy.mode == "interruptible"

    def _decline(self, response_id: str) -> list[Command]:
        self._ledger.refuse_response(response_id)
        cancel = self._gate.cancel()
        return [] if cancel is None else [cancel]

    def _transcribe_caller(self, event: model.CallerTranscript) -> list[Command]:
        if not event.is_final:
            if event.item_id != self._hypothesis_id:
                self._hypothesis_id, self._hypothesis = event.item_id, ""
            self._hypothesis += event.text
            if len(self._hypothesis) > HYPOTHESIS_CHARACTERS_MAX:
                return []
            return [carrier.ReportTranscript(self._hypothesis, is_final=False)]
        self._hypothesis_id, self._hypothesis = "", ""
        if not event.text.strip():
            return []
        return [carrier.ReportTranscript(event.text, is_final=True), CallerSaid(event.text)]

    def _transcribe_bot(self, event: model.BotTranscript) -> list[Command]:
        heard = self.history.heard_text(event.item_id)
        text = event.text if heard is None else heard
        if not text.strip():
            return []
        self._last_bot_text = (event.item_id, text)
        return [BotSaid(text)]

    def _call_function(self, event: model.FunctionCall) -> list[Command]:
        self._running[event.call_id] = event
        self._calls_of_session.add(event.call_id)
        return [RunFunction(event.call_id, event.name, event.arguments)]

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
            return self._session_refused(now)
        return list(self._gate.error(event, now))

    def _session_refused(self, now: float) -> list[Command]:
        """The whole update was refused, formats and tools with it: try once with the bare necessities."""
        self.counters.note("session_updates_refused")
        if self._is_session_bare:
            return self.model_failed(now)
        self._is_session_bare = True
        self._session = replace(
            self._session,
            voice=None,
            speed=None,
            transcription_model=None,
            transcription_language=None,
            transcription_prompt=None,
            noise_reduction=None,
            max_output_tokens=None,
        )
        return [model.UpdateSession(self._session)]

    # The carrier's leg

    def receive_carrier(self, event: carrier.CarrierEvent, now: float) -> list[Command]:
        """Take one event of the carrier. Offers and resumes are for the call, which owns the legs."""
        if self._phase is Phase.ENDED:
            return []
        commands: list[Command] = []
        match event:
            case carrier.SessionEnded():
                is_ours = event.reason is carrier.EndReason.BOT
                return self._end(self._outcome_of_hang_up if is_ours else _OUTCOMES[event.reason])
            case carrier.DtmfReceived():
                commands += self._press("".join(self._digits.signalled(one, now) for one in event.digits))
            case carrier.PlaybackFinished():
                if self._ledger.acknowledge(event.playback_id, now):
                    self._farewell.disturb()
                else:
                    self.counters.note("playback_finished_stale")
            case carrier.NoUserInput():
                commands += self._ask_silent_caller(event.count, now)
            case carrier.CallerText():
                if event.is_final and event.text.strip():
                    commands.append(CallerSaid(event.text))
                    commands += self._tell(model.Item("message", text=event.text, role="user"), now)
            case carrier.TransferStatus():
                if event.answered:
                    self._was_transfer_answered = True
                else:
                    commands += self._transfer_failed(now)
            case carrier.CallerStreamStopped():
                commands += self._end_turn(now)
            case carrier.PlaybackFailed():
                self.counters.note("playback_failed")
            case carrier.IgnoredMessage():
                self.counters.note(f"carrier_ignored_{event.cause}")
            case (
                carrier.CallerStreamStarted()
                | carrier.CallMetadata()
                | carrier.CarrierNotice()
                | carrier.SessionOffered()
                | carrier.SessionResumed()
            ):
                pass
            case _:
                assert_never(event)
        return commands + self._housekeeping(now)

    def _end_turn(self, now: float) -> list[Command]:
        """The caller's turn is over, and the model does not hear that by itself: their ears are ours, or the
        carrier stopped within an utterance."""
        if not self._caller_is_speaking or not self._is_connected:
            return []
        self._caller_is_speaking = False
        self._turn_end = None
        commands: list[Command] = [model.CommitInput(), *self._report_stop()]
        commands += self._gate.speech_stopped(now, is_answered=False)
        if self._talks_over and self._ledger.is_audible(now):
            return commands
        return commands + self._want_response(now)

    def _ask_silent_caller(self, count: int, now: float) -> list[Command]:
        if self._phase is not Phase.TALKING or self.is_talk_going_on(now):
            return []
        if count > SILENCE_PROMPTS_MAX:
            note = "The caller has been silent for long. Say goodbye."
            commands = self._tell(model.Item("message", text=note, role="system"), now)
            return commands + self.hang_up("caller silent", now)
        note = "The caller has said nothing for a while. Ask whether they are still there."
        return self._tell(model.Item("message", text=note, role="system"), now)

    def carrier_lost(self, now: float) -> list[Command]:
        """The carrier's socket is gone without an end: park the call, keep what was heard."""
        if self._phase in (Phase.ENDED, Phase.PARKED):
            return []
        if self._phase is Phase.HANGING_UP:
            return self._end(self._outcome_of_hang_up)
        self.counters.note("carrier_lost")
        self._caller_is_speaking = False
        commands = self._cut(now)
        self._playback.forget()
        self._is_speech_reported = False
        self._turn_end = None
        self._ledger.forget_playbacks()
        cancel = self._gate.cancel()
        if cancel is not None and cancel not in commands:
            commands.insert(0, cancel)
        self._phase_before_parking = self._phase
        self._phase = Phase.PARKED
        self._phase_deadline = now + self.limits.resume_grace_s
        return commands

    def carrier_resumed(self, now: float) -> list[Command]:
        """The caller's line is back on another socket: go on where the talk stopped."""
        # It may be back before the loss of the first socket was noticed.
        commands = self.carrier_lost(now)
        if self._phase is not Phase.PARKED:
            return commands
        self.counters.note("carrier_resumed")
        self._phase = self._phase_before_parking
        self._phase_deadline = None
        if self._phase is Phase.TRANSFERRING:
            self._phase_deadline = now + self.limits.transfer_timeout_s
        else:
            self._farewell.begin_anew(now)
            commands += self._go_on(now)
        return commands + self._housekeeping(now)

    def _go_on(self, now: float) -> list[Command]:
        if not self._was_greeted:
            return self._begin_talk(now) if self._is_connected else []
        self._owes_answer = False
        note = "The line was interrupted for a moment and is back. Go on where you stopped."
        return self._tell(model.Item("message", text=note, role="system"), now)

    def _transfer_failed(self, now: float) -> list[Command]:
        if self._phase is not Phase.TRANSFERRING:
            return []
        self.counters.note("transfers_failed")
        self._phase = Phase.TALKING
        self._phase_deadline = None
        if self._is_model_gone:
            return self.model_failed(now)
        note = "The transfer failed. Tell the caller and ask how else to help."
        return self._tell(model.Item("message", text=note, role="system"), now)

    # The media path

    def meet_item(
        self, response_id: str, item_id: str, content_index: int, now: float
    ) -> tuple[bool, list[Command]]:
        """Audio of another item begins: whether to play it, and what must be sent before its first sample."""
        if self._phase is Phase.ENDED or self._gate.is_out_of_band(response_id):
            return False, []
        if item_id:
            self._items_of_session.add(item_id)
        if self._phase in _DEAF_PHASES:
            self._ledger.refuse_response(response_id)
        commands: list[Command] = []
        if self._clips.is_looping and self._ledger.admits(response_id, item_id):
            # Hold music ends where the talk goes on.
            commands += [*self._drop(now), *self._playback.abort()]
        admission = self._ledger.open_item(response_id, item_id, content_index, now)
        if admission is not Admission.PLAYED:
            self.counters.note("stale_items")
            return False, self._leave_unheard(item_id) if admission is Admission.UNHEARD else []
        self._farewell.disturb()
        # A model may tell its words before it speaks them; then the carrier's log can have them too.
        text = self._last_bot_text[1] if self._last_bot_text[0] == item_id else None
        is_held = self.barge_in is not None and self.barge_in.is_holding
        return True, commands if is_held else commands + self._playback.open(text)

    def _leave_unheard(self, item_id: str) -> list[Command]:
        """An item of which the caller will hear nothing: the model must not think that it was said."""
        self.history.delete_item(item_id)
        return [model.DeleteItem(item_id)] if item_id else []

    def playout_drained(self, now: float) -> list[Command]:
        """The downlink's queue ran empty."""
        return self._clips.go_on() + self._housekeeping(now)

    # Clips

    def play(self, clip: Clip, now: float, *, waits: bool) -> list[Command] | None:
        """Play audio of our own.

        Args:
            waits: for a pause in the talk; else whatever the bot says is cut short for it.

        Returns:
            None when nobody would hear it, or too many clips wait already.
        """
        if self._phase is not Phase.TALKING:
            return None
        if waits:
            return self._housekeeping(now) if self._clips.wait(clip) else None
        commands: list[Command] = []
        if self._ledger.is_audible(now) or self._gate.active_response_id is not None:
            told_model = self._cut(now)
            commands += [*self._playback.abort(), *told_model]
        return commands + self._play(clip, now) + self._housekeeping(now)

    def _play(self, clip: Clip, now: float) -> list[Command]:
        self.counters.note("clips_played")
        opened = self._playback.open()
        return opened + self._clips.begin(clip, now)

    def clip_inserted(self, playback_id: str, now: float) -> list[Command]:
        """The downlink queued a clip."""
        self._clips.inserted(playback_id, now)
        return self._housekeeping(now)

    def stop_playing(self, now: float) -> list[Command]:
        """End the clip that is heard, with all that is queued behind it; forget those that wait."""
        is_playing = self._clips.is_playing(now)
        self._clips.clear()
        if self._phase is not Phase.TALKING or not is_playing:
            return []
        told_model = self._drop(now)
        return [*self._playback.abort(), *told_model, *self._housekeeping(now)]

    # The agent

    def function_returned(
        self, call_id: str, output: str, now: float, *, should_respond: bool = True
    ) -> list[Command]:
        """A function's outcome: post it, and have it spoken once all outcomes of its response are in."""
        call = self._running.pop(call_id, None)
        if call is None or self._phase is Phase.ENDED:
            return []
        commands: list[Command] = []
        if self._is_connected and call_id not in self._calls_of_session:
            # This session never made the call: it is told of it together with the outcome.
            made = model.Item("function_call", text=call.arguments, call_id=call_id, name=call.name)
            commands.append(model.CreateItem(made))
        create = self.history.add(model.Item("function_call_output", text=output, call_id=call_id))
        if self._is_connected:
            commands.append(create)
        if should_respond:
            self._wants_answer.add(call.response_id)
        is_last = all(other.response_id != call.response_id for other in self._running.values())
        if is_last and call.response_id in self._wants_answer:
            self._wants_answer.discard(call.response_id)
            self._function_rounds += 1
            if self._function_rounds > FUNCTION_ROUNDS_MAX:
                self.counters.note("function_rounds_hit")
            else:
                commands += self._want_response(now)
        return commands + self._housekeeping(now)

    def announce(self, text: str, now: float) -> list[Command]:
        """Have the model say something it was not asked for: a task's late question or result."""
        if self._phase is Phase.ENDED:
            return []
        return self._tell(model.Item("message", text=text, role="system"), now) + self._housekeeping(now)

    def caller_pressed(self, digits: str, now: float) -> list[Command]:
        """Digits that no task took: the model hears of them."""
        return self._tell(model.Item("message", text=f"The caller pressed {digits}.", role="user"), now)

    def hang_up(self, reason: str, now: float) -> list[Command]:
        """End the call once everything said was heard."""
        if self._phase is Phase.PARKED:
            return self._end(self._outcome_of_hang_up)
        return self._leave(carrier.HangUp(reason), now)

    def transfer(self, command: carrier.TransferCall, now: float) -> list[Command]:
        """Hand the caller on once everything said was heard."""
        return self._leave(command, now)

    def _leave(self, farewell: carrier.HangUp | carrier.TransferCall, now: float) -> list[Command]:
        if self._phase is Phase.PARKED and self._phase_before_parking is Phase.TALKING:
            self._phase_before_parking = Phase.LEAVING
            self._farewell.begin(farewell, now)
            return []
        if self._phase is not Phase.TALKING:
            return []
        self._phase = Phase.LEAVING
        self._farewell.begin(farewell, now)
        return self._housekeeping(now)

    def _tell(self, item: model.Item, now: float) -> list[Command]:
        if self._phase is Phase.ENDED:
            return []
        create = self.history.add(item)
        commands: list[Command] = []
        if self._is_connected:
            commands.append(create)
        return commands + self._want_response(now)

    def _want_response(self, now: float) -> list[Command]:
        if not self._is_connected or self._phase in _DEAF_PHASES:
            self._owes_answer = True
            return []
        return list(self._gate.want(model.CreateResponse(), now))

    # Time

    def advance(self, now: float) -> list[Command]:
        """Do what is due by ``now``."""
        if self._phase is Phase.ENDED:
            return []
        commands: list[Command] = list(self._gate.advance(now))
        commands += self._judge_overlap(now)
        if self._turn_end is not None and now >= self._turn_end:
            self._turn_end = None
            commands += self._end_turn(now)
        if self._phase_deadline is not None and now >= self._phase_deadline:
            if self._phase is Phase.PARKED:
                return commands + self._end("carrier_lost")
            if self._phase is Phase.HANGING_UP:
                self.counters.note("hang_up_unanswered")
                return commands + self._end(self._outcome_of_hang_up)
            if self._was_transfer_answered:
                return commands + self._end("transferred")
            commands += self._transfer_failed(now)
        if self._phase is Phase.TALKING and self._call_deadline is not None and now >= self._call_deadline:
            self.counters.note("call_limit_hit")
            self._call_deadline = None
            self._outcome_of_hang_up = "limit"
            commands += self.hang_up("call limit", now)
        return commands + self._housekeeping(now)

    def next_deadline(self) -> float | None:
        """When `advance` is due next, in monotonic seconds."""
        if self._phase is Phase.ENDED:
            return None
        deadlines = [self._gate.next_deadline(), self._phase_deadline, self._playback.close_deadline]
        deadlines.append(self._turn_end)
        if self.barge_in is not None:
            deadlines.append(self.barge_in.next_deadline())
        if self._phase is Phase.LEAVING:
            deadlines.append(self._farewell.next_deadline())
        elif self._phase is Phase.TALKING:
            deadlines.append(self._call_deadline)
            if not self._replacing:
                deadlines.append(self._session_deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _housekeeping(self, now: float) -> list[Command]:
        """What follows from the state of things, whatever event led there."""
        if self._phase is Phase.ENDED:
            return []
        commands: list[Command] = []
        if self._gate.active_response_id != self._response_followed:
            # One response at a time: the one before is over, even if its end was never told.
            self._ledger.finish_response(self._response_followed or "", now)
            self._response_followed = self._gate.active_response_id
        commands += self._playback.close_when_done(now)
        if self._phase is Phase.LEAVING:
            commands += self._leave_when_heard(now)
        elif self._phase is Phase.TALKING:
            if self._clips.is_pending and not self.is_talk_going_on(now):
                clip = self._clips.next_pending()
                commands += self._play(clip, now) if clip is not None else []
            commands += self._replace_in_a_pause(now)
        return commands

    def _replace_in_a_pause(self, now: float) -> list[Command]:
        if self._replacing or self._session_deadline is None or now < self._session_deadline:
            return []
        if self.is_talk_going_on(now):
            # Look again in a second.
            self._session_deadline = now + 1.0
            return []
        self._replacing = True
        self.counters.note("model_sessions_replaced")
        return [ReplaceModel()]

    def is_talk_going_on(self, now: float) -> bool:
        """Somebody speaks, is about to, or waits for a function."""
        return (
            self._is_model_busy
            or bool(self._running)
            or self._playback.is_open
            or self._caller_is_speaking
            or self._ledger.is_audible(now)
        )

    @property
    def _is_more_to_come(self) -> bool:
        """Something is still to be said, or to be answered."""
        if self._is_model_gone:
            return False
        return self._is_model_busy or bool(self._running) or self._caller_is_speaking or self._owes_answer

    def _leave_when_heard(self, now: float) -> list[Command]:
        is_more_to_come = self._playback.is_open or self._is_more_to_come
        farewell = self._farewell.take(now, is_more_to_come=is_more_to_come)
        if farewell is None:
            return []
        if isinstance(farewell, carrier.TransferCall):
            self._phase = Phase.TRANSFERRING
            self._was_transfer_answered = False
            self._phase_deadline = now + self.limits.transfer_timeout_s
        else:
            self._phase = Phase.HANGING_UP
            self._phase_deadline = now + self.limits.hang_up_timeout_s
        return [farewell]

    def _end(self, outcome: str) -> list[Command]:
        self._phase = Phase.ENDED
        return [EndCall(outcome)]
