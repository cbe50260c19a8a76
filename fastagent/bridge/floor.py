"""The floor: who speaks, caller or bot, and what happens when both do.

The caller goes first. What the bot was saying is dropped, and both sides are told, in this order: the carrier
that the caller speaks and that what it holds is void, then the model how much was heard. Where our own ears
listen, speech over the bot takes the floor only once they say so (`Overlap`).
"""

from fastagent.bridge.answers import Answers
from fastagent.bridge.clips import Clip, ClipPlayer
from fastagent.bridge.commands import Command
from fastagent.bridge.model_session import ModelSession
from fastagent.bridge.overlap import Claim, Overlap
from fastagent.bridge.phases import CallPhases
from fastagent.bridge.playback import BotPlayback
from fastagent.bridge.responses import GateState, ResponseGate
from fastagent.bridge.turn import CallerTurn
from fastagent.media.bargein import BargeIn, Decision
from fastagent.media.playout import Admission, PlayoutLedger
from fastagent.stats import Counters
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model

__all__ = ["Floor"]

MISSING_TURN_S = 2.0
"""After our ears gave the caller the floor: silence in which the model should have heard of their turn."""
BACKLOG_S = 0.2
"""For kept audio to reach a new session before the turn it belongs to is ended there."""


class Floor:
    """Gives the floor to the caller, to the bot, or to a clip. All times are monotonic seconds.

    Args:
        ledger: knows what was heard.
        playback: of the bot's audio, as the carrier knows it.
        gate: knows which response runs.
        session: the model's session.
        answers: what is said next.
        phases: a farewell waits for what is to be heard.
        barge_in: decides by our own ears whether the caller stops the bot; None leaves that to the model.
        turn_silence_s: by our own ears, how long after the caller's last sound their turn is over.
        counters: where oddities are counted.
    """

    def __init__(
        self,
        ledger: PlayoutLedger,
        playback: BotPlayback,
        gate: ResponseGate,
        session: ModelSession,
        answers: Answers,
        phases: CallPhases,
        *,
        barge_in: BargeIn | None,
        turn_silence_s: float,
        counters: Counters,
    ) -> None:
        self._ledger = ledger
        self._playback = playback
        self._gate = gate
        self._session = session
        self._answers = answers
        self._phases = phases
        self._barge_in = barge_in
        self._counters = counters
        self._clips = ClipPlayer(ledger)
        self._turn = CallerTurn(silence_s=turn_silence_s)
        self._overlap = Overlap(
            ledger, self._clips, barge_in, has_words=session.writes_down, counters=counters
        )
        self._silent_at: float | None = None
        """When the bot will have ended, over whom something was said that nobody answered."""
        self._turn_missing_at: float | None = None
        """When the model should have heard the caller to whom our ears gave the floor."""
        self._commits_overlap = False
        """The turn just committed was said over the bot."""
        self._is_create_crossed = False
        """A create was on its way when the caller began to speak."""
        self._is_quiet = True
        """Our own ears hear no speech."""

    def speaker(self, now: float) -> str:
        """Who is heard: ``caller``, ``bot``, ``both``; empty for nobody."""
        is_bot = self._ledger.is_audible(now)
        if self.is_callers:
            return "both" if is_bot else "caller"
        return "bot" if is_bot else ""

    @property
    def is_callers(self) -> bool:
        """The caller speaks."""
        return self._turn.is_speaking

    def is_taken(self, now: float) -> bool:
        """The caller speaks, or something is heard of the bot, or is about to be."""
        return self._playback.is_open or self._turn.is_speaking or self._ledger.is_audible(now)

    # The caller, by the model's ears

    def caller_starts(self, item_id: str, now: float) -> list[Command]:
        """The caller begins to speak; ``item_id`` names what they say, where it has a name."""
        self._turn.begin()
        self._turn_missing_at = None
        self._is_create_crossed = self._gate.state is GateState.REQUESTED
        self._answers.caller_spoke()
        self._gate.speech_started(now)
        if self._overlap.begin(item_id, now):
            # The carrier would stop the bot if it were told.
            return []
        if (
            not self._ledger.is_audible(now)
            and not self._playback.is_open
            and (self._gate.active_response_id is None or self._gate.is_cancelling)
        ):
            return self._turn.report_start()
        return self._interrupt(now)

    def caller_stops(self, now: float) -> list[Command]:
        """The caller fell silent, and the model heard that by itself."""
        self._turn.stop()
        if self._overlap.is_unheeded(now):
            self._overlap.leave_unanswered(now)
            return [*self._turn.report_stop(), *self._gate.speech_stopped(now, is_answered=False)]
        is_answered = self._session.turn_detection.create_response
        self._answers.is_owed |= is_answered
        # Begun over the bot, ended after it: a turn like any other.
        commands = [*self._turn.report_start(), *self._turn.report_stop()]
        return [*commands, *self._gate.speech_stopped(now, is_answered=is_answered)]

    def turn_committed(self, item_id: str, now: float) -> list[Command]:
        """What the caller said is in the conversation."""
        self._turn_missing_at = None
        if self._commits_overlap:
            self._commits_overlap = False
            self._overlap.add_item(item_id)
        if self._overlap.is_unheeded(now):
            return []
        self._answers.is_owed |= self._session.turn_detection.create_response
        return [carrier.ReportSpeech(carrier.SpeechPhase.COMMITTED)]

    def end_turn(self, now: float) -> list[Command]:
        """The caller's turn is over, and the model does not hear that by itself: their ears are ours, or the
        carrier stopped within an utterance."""
        if not self._turn.is_speaking or not self._session.is_connected:
            return []  # `session_opened` ends it
        self._turn.end()
        commands: list[Command] = [model.CommitInput(), *self._turn.report_stop()]
        commands += self._gate.speech_stopped(now, is_answered=False)
        if self._overlap.is_unheeded(now):
            self._commits_overlap = True
            self._overlap.leave_unanswered(now)
            return commands
        return commands + self._answers.want(now)

    def words_known(self, event: model.CallerTranscript, bot_words: str, now: float) -> list[Command]:
        """All words of an utterance; those of one over the bot may take the floor after all."""
        is_silenced = self._overlap.is_holding
        match self._overlap.weigh(event, bot_words, now):
            case Claim.TURN:
                return self._interrupt(now, is_silenced=is_silenced) + self._answers.want(now)
            case Claim.ANSWER:
                return self._answers.want(now)
            case Claim.NOTHING:
                return []

    @property
    def _hears_turns(self) -> bool:
        """Our own ears end the caller's turns."""
        return self._session.turn_detection.kind == "none"

    def session_lost(self) -> bool:
        """The model's session is gone: whether what the caller just says must be answered by the next."""
        self._turn_missing_at = None
        is_speaking = self._turn.is_speaking
        if self._hears_turns:
            return False  # the turn goes on: we end it ourselves
        self._turn.stop()
        return is_speaking

    def session_opened(self, now: float) -> None:
        """Another is there: a turn that ended in between is ended once its audio was sent on."""
        if (
            self._hears_turns
            and self._turn.is_speaking
            and self._turn.next_deadline() is None
            and self._is_quiet
        ):
            self._turn.end_at(now + BACKLOG_S)

    def stream_restarted(self, now: float) -> None:
        """The caller's audio begins anew: nobody will say when what was said before it ended."""
        if self._hears_turns:
            self._turn.fall_silent(now)

    def turn_refused(self, now: float) -> None:
        """The model could not answer a turn by itself: it was speaking."""
        self._overlap.leave_unanswered(now)

    # The caller, by our own ears

    def overlap_heard(self, now: float) -> list[Command]:
        """The caller is heard over the bot, and it is not the bot's echo."""
        if not self._overlap.hold(now):
            return []
        return [*self._turn.report_start(), *self._playback.abort()]

    def speech_goes_on(self) -> bool:
        """There is speech: whether it goes on with a turn, which then is not about to end."""
        self._is_quiet = False
        self._turn.go_on()
        return self._turn.is_speaking

    def silence_heard(self, now: float) -> None:
        """Speech ends; the turn may be over."""
        self._is_quiet = True
        self._turn.fall_silent(now)

    def keys_pressed(self, now: float) -> list[Command]:
        """The caller presses keys, which is an answer: the bot falls silent unless it is protected."""
        if self._barge_in is None:
            may_cut = self._session.turn_detection.interrupt_response
        else:
            may_cut = self._barge_in.policy.mode != "protected"
        is_heard = self._ledger.is_audible(now) or self._playback.is_open
        if not may_cut or not (is_heard or self._gate.active_response_id is not None):
            return []
        self._counters.note("key_barge_ins")
        told_model = self.cut(now)
        return [*self._playback.abort(), *told_model]

    # The bot

    def response_created(self, event: model.ResponseCreated, now: float) -> list[Command]:
        """The model begins to answer; whether it may is seen here."""
        was_asked_for = self._gate.state is GateState.REQUESTED
        commands: list[Command] = list(self._gate.created(event, now))
        if event.is_out_of_band:
            return commands
        if not was_asked_for and self._overlap.is_unanswerable(now):
            # The model answers what took no turn: not into the bot's own words.
            self._counters.note("answers_declined")
            self._overlap.leave_unanswered(now)
            self._answers.is_owed = False
            return commands + self._decline(event.response_id)
        self._overlap.answered()
        self._answers.is_owed = False
        self._turn_missing_at = None
        is_crossed, self._is_create_crossed = self._is_create_crossed, False
        if is_crossed and self._turn.is_speaking and self._may_interrupt:
            # We asked before the caller spoke, and the answer comes into the caller's words: not now. What
            # was asked for later goes on: the gate waited as long as it may, this speech may well be noise.
            commands += self._decline(event.response_id) + self._answers.want(now)
        return commands

    @property
    def _may_interrupt(self) -> bool:
        """What the caller says goes before what the bot says."""
        if self._barge_in is None:
            return self._session.turn_detection.interrupt_response
        return self._barge_in.policy.mode == "interruptible"

    def _decline(self, response_id: str) -> list[Command]:
        self._ledger.refuse_response(response_id)
        cancel = self._gate.cancel()
        return [] if cancel is None else [cancel]

    def open_item(
        self, response_id: str, item_id: str, content_index: int, now: float, *, text: str | None
    ) -> tuple[bool, list[Command]]:
        """Audio of the model's next item begins: whether to play it, and what must be sent first.

        Args:
            text: the words of the audio, where they are known by now.
        """
        commands: list[Command] = []
        if self._clips.is_looping and self._ledger.admits(response_id, item_id):
            # Hold music ends where the talk goes on.
            commands += [*self._drop(now), *self._playback.abort()]
        elif self._ledger.admits(response_id, item_id):
            self._clips.make_way(now)
        admission = self._ledger.open_item(response_id, item_id, content_index, now)
        if admission is not Admission.PLAYED:
            self._counters.note("stale_items")
            return False, self._session.tell_unheard(item_id) if admission is Admission.UNHEARD else []
        self._phases.disturb_farewell()
        if self._overlap.is_holding:
            return True, commands
        if self._overlap.hold_beginning(now):
            # They speak while the bot begins: it was too early.
            return True, [*commands, *self._turn.report_start()]
        return True, commands + self._playback.open(text)

    def cut(self, now: float) -> list[Command]:
        """The bot's turn is over: drop what it still had to say; gives what the model must be told."""
        detection = self._session.turn_detection
        is_cancelled = detection.interrupt_response and detection.kind != "none" and self._turn.is_speaking
        told = self._drop(now, active_response_id=self._gate.active_response_id)
        cancel = None if is_cancelled else self._gate.cancel()
        return told if cancel is None else [cancel, *told]

    def _drop(self, now: float, *, active_response_id: str | None = None) -> list[Command]:
        """Drop what is queued; of a response that is named, what is still to come, too."""
        cuts = self._ledger.cut(now, active_response_id=active_response_id)
        self._overlap.end()
        self._clips.forget()
        self._phases.disturb_farewell()
        return self._session.tell_heard(cuts)

    def _interrupt(self, now: float, *, is_silenced: bool = False) -> list[Command]:
        """The caller takes the floor.

        Args:
            is_silenced: the carrier has dropped what it had already.
        """
        self._counters.note("barge_ins")
        told_model = self.cut(now)
        told_carrier = self._turn.report_start()
        if not is_silenced:
            told_carrier += self._playback.abort()
        return told_carrier + told_model

    def clear(self, now: float) -> list[Command]:
        """The carrier's socket is gone, and the caller with it: nobody has the floor."""
        self._turn.forget()
        self._turn_missing_at = None
        commands = self.cut(now)
        self._playback.forget()
        return commands

    # Clips

    def play(self, clip: Clip, now: float) -> list[Command]:
        """Have a clip heard now, whoever speaks."""
        commands: list[Command] = []
        if self._ledger.is_audible(now) or self._gate.active_response_id is not None:
            told_model = self.cut(now)
            commands += [*self._playback.abort(), *told_model]
        return commands + self._play(clip, now)

    def play_later(self, clip: Clip) -> bool:
        """Have a clip wait until the floor is free; False when too many do."""
        return self._clips.wait(clip)

    def end_music(self, now: float) -> list[Command]:
        """Something else is to come: hold music ends for it."""
        return self.silence(now) if self._clips.is_looping else []

    @property
    def is_clip_waiting(self) -> bool:
        """One is to be played by `play_waiting`."""
        return self._clips.is_pending

    def play_waiting(self, now: float) -> list[Command]:
        """The floor is free: play the clip that has waited longest."""
        clip = self._clips.next_pending()
        return [] if clip is None else self._play(clip, now)

    def _play(self, clip: Clip, now: float) -> list[Command]:
        self._counters.note("clips_played")
        self._clips.begin(clip, now)
        return self._playback.open()

    def drained(self, now: float) -> None:
        """All that was queued has left: a clip goes on."""
        self._clips.go_on(now)

    def forget_clips(self, now: float) -> bool:
        """No clip waits any more, nor goes on; whether one is heard."""
        is_playing = self._clips.is_playing(now)
        self._clips.clear()
        return is_playing

    def silence(self, now: float) -> list[Command]:
        """End what is heard, with all that is queued behind it."""
        told_model = self._drop(now)
        return [*self._playback.abort(), *told_model]

    # Time

    def _judge_overlap(self, now: float) -> list[Command]:
        match self._overlap.advance(now):
            case Decision.CUT:
                was_declined = self._overlap.is_unanswered and not self._turn.is_speaking
                commands = self._interrupt(now, is_silenced=True)
                if was_declined:
                    return commands + self._answers.want(now)
                if not self._turn.is_speaking:
                    self._turn_missing_at = now + MISSING_TURN_S
                return commands
            case Decision.RESUME:
                commands = self._turn.report_stop()
                return commands if self._ledger.is_complete else commands + self._playback.open()
            case Decision.NONE | Decision.HOLD:
                return []

    def advance(self, now: float) -> list[Command]:
        """Do what is due by ``now``."""
        commands = self._judge_overlap(now)
        if self._turn.is_over(now):
            commands += self.end_turn(now)
        if self._turn_missing_at is not None and now >= self._turn_missing_at:
            quiet_s = self._overlap.quiet_s()
            self._turn_missing_at = None if quiet_s >= MISSING_TURN_S else now + MISSING_TURN_S - quiet_s
            if self._turn_missing_at is None and not self._answers.is_busy:
                # It was a noise, or the model did not hear them: rather go on than say nothing for good.
                self._counters.note("turns_missing")
                commands += self._answers.want(now)
        return commands

    def settle(self, now: float) -> list[Command]:
        """What follows from the bot's having ended, once it has."""
        self._silent_at = None
        if not self._overlap.is_unanswered or self._turn.is_speaking or self._answers.is_busy:
            return []
        if self._ledger.is_audible(now):
            self._silent_at = self._ledger.silent_at(now)
            return []
        return self._answers.want(now) if self._overlap.take_answer_due(now) else []

    @property
    def is_turn_expected(self) -> bool:
        """The caller has the floor by our ears, and the model has not heard them yet."""
        return self._turn_missing_at is not None or self._overlap.is_holding

    def deadlines(self) -> tuple[float | None, ...]:
        """When `advance` is due."""
        return (
            self._turn.next_deadline(),
            self._overlap.next_deadline(),
            self._turn_missing_at,
            self._silent_at,
        )
