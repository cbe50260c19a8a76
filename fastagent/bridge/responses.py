"""One response at a time: when a ``CreateResponse`` may go to the model, and what becomes of it.

::

                    a queued create goes out                  created
        ┌──────┐ ─────────────────────────────▶ ┌───────────┐ ─────────▶ ┌────────┐
        │ IDLE │ ◀── refused, or no answer ──── │ REQUESTED │            │ ACTIVE │
        └──────┘        in response_timeout_s   └───────────┘            └────────┘
           ▲  │                                                             ▲  │
           │  └───── created: the server began one by itself ───────────────┘  │
           └─────────────── done, or silent for active_timeout_s ──────────────┘

        SUSPENDED: no socket. Everything waits; what was REQUESTED returns to the queue.

Creates wait in a bounded queue while a response is requested or active, while the caller speaks, and for a
pause after a retryable failure. *Plain* creates (no instructions or other particulars: "go on with what is in
the conversation") stand for one another, so one of them in the queue is enough.

After the caller's turn a server with VAD answers by itself. That answer has in its context whatever was put
into the conversation before it began, function outputs among them, so a plain create that has waited for at
least `ABSORB_AFTER_S` is answered by it and leaves the queue; a younger one may have missed it and goes out
afterwards. Creates with particulars always go out. If no answer comes within ``turn_grace_s``, waiting ends.

The wire does not say which create a response belongs to. One that begins while a create is on its way is
taken for its answer, until the server refuses the create because of it; then the create returns to the queue.

Out-of-band responses run beside the others: their creates go out at once and their events change nothing.
"""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum

from fastagent.wire.openai_realtime import CREATE_RESPONSE_ID
from fastagent.wire.realtime_errors import ACTIVE_RESPONSE_CODE, CANCEL_NOT_ACTIVE_CODE
from fastagent.wire.realtime_events import (
    CancelResponse,
    CreateResponse,
    ModelCommand,
    ModelError,
    ResponseCreated,
    ResponseDone,
    ResponseStatus,
    Severity,
)

__all__ = ["GateCounters", "GateState", "ResponseGate"]

ABSORB_AFTER_S = 0.5
"""Longer than a round trip to the model: what we sent that long before an answer began is in its context."""
REFUSALS_MAX = 8
"""Times one create returns to the queue because the server was busy, before it is given up."""
IDS_REMEMBERED = 64


class GateState(Enum):
    """What the gate waits for."""

    SUSPENDED = "suspended"
    IDLE = "idle"
    REQUESTED = "requested"
    ACTIVE = "active"


@dataclass(slots=True)
class GateCounters:
    """What became of in-band creates: each ends in exactly one counter from ``answered`` to ``failed``."""

    wanted: int = 0
    """Creates taken in; retries of answers the server began by itself included."""
    answered: int = 0
    """A response began for it and ended (not in a failure worth a retry)."""
    coalesced: int = 0
    """A plain one was waiting already."""
    absorbed: int = 0
    """The answer to the caller's turn answered it too."""
    dropped: int = 0
    """The queue was full."""
    timed_out: int = 0
    """The server neither began a response nor refused."""
    refused: int = 0
    """The server refused it for good."""
    failed: int = 0
    """It failed again after its retry."""
    retried: int = 0
    """Put back after a retryable failure."""
    requeued: int = 0
    """Put back because another response was active, or the socket was lost."""
    stalled: int = 0
    """Responses that never ended."""
    overlapped: int = 0
    """Responses that began before the last one had ended."""

    def settled(self) -> int:
        """Creates that came to an end."""
        return (
            self.answered
            + self.coalesced
            + self.absorbed
            + self.dropped
            + self.timed_out
            + self.refused
            + self.failed
        )


@dataclass(slots=True)
class _Wanted:
    command: CreateResponse
    since: float
    failures: int = 0
    refusals: int = 0


class ResponseGate:
    """Sends creates one at a time and follows each to its end.

    Args:
        answers_turns: whether the server answers a caller's turn by itself (``create_response``).
        queue_limit: creates that may wait.
        response_timeout_s: how long a create may go unanswered, and how long an active response that the
            server tells of but we never saw begin is waited for.
        active_timeout_s: how long a response may run; the longest one (4,096 tokens) is 205 s of audio.
        turn_grace_s: how long after the caller's turn the server's own answer is waited for.
        speech_hold_s: how long the caller's speech may hold creates back; noise can pass for speech forever.
        backoff_s: the pause before a retry.

    All times are monotonic seconds. The gate starts suspended: `reset` opens it once a socket is ready.
    """

    def __init__(
        self,
        *,
        answers_turns: bool = True,
        queue_limit: int = 8,
        response_timeout_s: float = 10.0,
        active_timeout_s: float = 300.0,
        turn_grace_s: float = 2.0,
        speech_hold_s: float = 30.0,
        backoff_s: float = 1.0,
    ) -> None:
        if queue_limit < 1:
            raise ValueError(f"expected queue_limit of at least 1, got {queue_limit}")
        self.answers_turns = answers_turns
        self.counters = GateCounters()
        self._queue_limit = queue_limit
        self._response_timeout_s = response_timeout_s
        self._active_timeout_s = active_timeout_s
        self._turn_grace_s = turn_grace_s
        self._speech_hold_s = speech_hold_s
        self._backoff_s = backoff_s
        self._state = GateState.SUSPENDED
        self._queue: deque[_Wanted] = deque()
        self._asides: deque[CreateResponse] = deque(maxlen=queue_limit)
        self._current: _Wanted | None = None  # requested, or answered by the active response
        self._active_id = ""  # empty while ACTIVE: the server has one that we never saw begin
        self._is_cancelling = False
        self._deadline: float | None = None  # of REQUESTED and ACTIVE
        self._speech_until: float | None = None
        self._turn_until: float | None = None
        self._backoff_until: float | None = None
        self._out_of_band: OrderedDict[str, None] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    @property
    def state(self) -> GateState:
        """Where the gate stands."""
        return self._state

    @property
    def active_response_id(self) -> str | None:
        """The in-band response that runs, when its id is known."""
        return self._active_id or None

    @property
    def is_cancelling(self) -> bool:
        """The response that runs was told to stop."""
        return self._is_cancelling

    @property
    def waiting(self) -> int:
        """In-band creates in the queue."""
        return len(self._queue)

    @property
    def unsettled(self) -> int:
        """In-band creates that have not come to an end: queued, requested, or being answered."""
        return len(self._queue) + (self._current is not None)

    def is_out_of_band(self, response_id: str) -> bool:
        """Whether this response runs beside the conversation, so that nothing of it is played or recorded."""
        return response_id in self._out_of_band

    # What the call wants

    def want(self, command: CreateResponse, now: float) -> list[ModelCommand]:
        """Have the model speak, as soon as it may."""
        if command.is_out_of_band:
            if self._state is not GateState.SUSPENDED:
                return [command]
            if len(self._asides) == self._asides.maxlen:
                self.counters.wanted += 1
                self.counters.dropped += 1
            self._asides.append(command)
            return []
        self.counters.wanted += 1
        self._enqueue(_Wanted(command, now))
        return self._start(now)

    def cancel(self) -> CancelResponse | None:
        """What stops the active response; None when there is none or it was asked to stop already."""
        if self._state is not GateState.ACTIVE or self._is_cancelling:
            return None
        self._is_cancelling = True
        return CancelResponse(self._active_id or None)

    # What the model tells

    def created(self, event: ResponseCreated, now: float) -> list[ModelCommand]:
        """A response began, asked for or not."""
        if event.is_out_of_band:
            _remember(self._out_of_band, event.response_id)
            return []
        is_known = bool(event.response_id) and (
            event.response_id in self._ended or event.response_id == self._active_id
        )
        if self._state is GateState.SUSPENDED or is_known:
            return []
        if self._state is GateState.ACTIVE:
            if self._active_id:
                self.counters.overlapped += 1
            self._end_current()
        elif self._state is GateState.IDLE:
            self._absorb(now)
        self._turn_until = None
        self._activate(event.response_id, now + self._active_timeout_s)
        return []

    def done(self, event: ResponseDone, now: float) -> list[ModelCommand]:
        """A response ended."""
        if event.response_id in self._out_of_band:
            del self._out_of_band[event.response_id]
            return []
        if not self._is_about_us(event.response_id):
            return []
        wanted = self._current
        self._settle(event.response_id)
        if event.status is ResponseStatus.FAILED and event.severity is Severity.RETRYABLE:
            if wanted is None:  # the server's own answer failed: the caller still waits for one
                wanted = _Wanted(CreateResponse(), now)
                self.counters.wanted += 1
            self._retry(wanted, now)
        elif wanted is not None:
            self.counters.answered += 1
        return self._start(now)

    def error(self, event: ModelError, now: float) -> list[ModelCommand]:
        """The model refused something; most errors are not about a create and change nothing."""
        if event.code == CANCEL_NOT_ACTIVE_CODE and self._state is GateState.ACTIVE and self._is_cancelling:
            # Either the cancel of a response before this one crossed its end, or this one's end was lost.
            self._deadline = min(self._deadline or math.inf, now + self._response_timeout_s)
            return []
        is_busy = event.code == ACTIVE_RESPONSE_CODE
        is_named = (event.event_id or "").startswith(CREATE_RESPONSE_ID)
        wanted = self._current
        # An error that names no event of ours is about a create only while we wait for its answer: a server
        # that could not answer a turn by itself complains in the same words.
        is_unnamed = is_busy and event.event_id is None and not self._active_id
        if wanted is None or not (is_named or is_unnamed):
            return []
        if self._state is GateState.ACTIVE and not is_busy and event.severity is Severity.RETRYABLE:
            return []  # trouble within the response, whose end will say more
        was_requested = self._state is GateState.REQUESTED
        self._current = None
        if was_requested:
            self._idle()
        if is_busy:
            # The active response is the server's own: one we saw begin, or one we are yet to hear of.
            if was_requested:
                self._activate("", now + self._response_timeout_s)
            self._requeue_refused(wanted)
        elif event.severity is Severity.RETRYABLE:
            self._retry(wanted, now)
        elif event.severity is Severity.EXPIRED:
            # The socket closes next, and its successor takes the create.
            self._return(wanted)
            self.suspend()
        else:
            self.counters.refused += 1
        return self._start(now)

    def speech_started(self, now: float) -> list[ModelCommand]:
        """The caller speaks: nothing new begins."""
        if self._state is GateState.SUSPENDED:
            return []
        self._speech_until = now + self._speech_hold_s
        self._turn_until = None
        return []

    def speech_stopped(self, now: float, *, is_answered: bool = True) -> list[ModelCommand]:
        """The caller's turn is over; the server's own answer, if it gives one, goes first.

        Args:
            is_answered: the server ended the turn, so that it may answer by itself.
        """
        if self._speech_until is not None and self.answers_turns and is_answered:
            self._turn_until = now + self._turn_grace_s
        self._speech_until = None
        return self._start(now)

    # The socket

    def suspend(self) -> None:
        """The socket is gone, and with it the responses on it. What was only requested waits for the next."""
        if self._state is GateState.REQUESTED and self._current is not None:
            self._return(self._current)
            self._current = None
        elif self._current is not None:
            self.counters.answered += 1
            self._current = None
        self._idle()
        self._state = GateState.SUSPENDED
        self._speech_until = self._turn_until = None
        self._out_of_band.clear()

    def reset(self, now: float) -> list[ModelCommand]:
        """A new socket is ready: its session is set up and the history replayed. Starts what waited."""
        self.suspend()
        self._ended.clear()
        self._state = GateState.IDLE
        asides: list[ModelCommand] = list(self._asides)
        self._asides.clear()
        return asides + self._start(now)

    # Time

    def next_deadline(self) -> float | None:
        """When `advance` has something to do, if ever."""
        holds = [self._speech_until, self._turn_until, self._backoff_until]
        until = [hold for hold in holds if hold is not None]
        if self._state is GateState.SUSPENDED:
            return None
        if self._deadline is not None:
            return self._deadline
        return max(until) if self._queue and until else None

    def advance(self, now: float) -> list[ModelCommand]:
        """Give up what has waited too long, and start what may start."""
        commands: list[ModelCommand] = []
        if self._deadline is not None and now >= self._deadline:
            if self._state is GateState.REQUESTED:
                self.counters.timed_out += 1
                self._current = None
                self._idle()
            elif self._state is GateState.ACTIVE:
                self.counters.stalled += 1
                if self._active_id and (cancel := self.cancel()) is not None:
                    commands.append(cancel)
                self._end_current()
        return commands + self._start(now)

    # Moves

    def _start(self, now: float) -> list[ModelCommand]:
        self._speech_until = _unless_past(self._speech_until, now)
        self._turn_until = _unless_past(self._turn_until, now)
        self._backoff_until = _unless_past(self._backoff_until, now)
        holds = (self._speech_until, self._turn_until, self._backoff_until)
        if self._state is not GateState.IDLE or not self._queue or any(hold is not None for hold in holds):
            return []
        self._current = self._queue.popleft()
        self._state = GateState.REQUESTED
        self._deadline = now + self._response_timeout_s
        return [self._current.command]

    def _activate(self, response_id: str, deadline: float) -> None:
        self._state = GateState.ACTIVE
        self._active_id = response_id
        self._is_cancelling = False
        self._deadline = deadline

    def _idle(self) -> None:
        self._state = GateState.IDLE
        self._active_id = ""
        self._is_cancelling = False
        self._deadline = None

    def _settle(self, response_id: str) -> None:
        for ended in {response_id, self._active_id}:
            _remember(self._ended, ended)
        self._current = None
        self._idle()

    def _end_current(self) -> None:
        """The active response is over, though nobody said so."""
        if self._current is not None:
            self.counters.answered += 1
        self._settle("")

    def _is_about_us(self, response_id: str) -> bool:
        match self._state:
            case GateState.ACTIVE:
                is_same = response_id == self._active_id
                return is_same or not response_id or (not self._active_id and response_id not in self._ended)
            case GateState.REQUESTED:
                # Its beginning was lost, unless it is the late end of one we had given up.
                return response_id not in self._ended
            case _:
                return False

    def _absorb(self, now: float) -> None:
        kept = [one for one in self._queue if not _is_plain(one) or now - one.since < ABSORB_AFTER_S]
        self.counters.absorbed += len(self._queue) - len(kept)
        self._queue = deque(kept)

    def _enqueue(self, wanted: _Wanted) -> None:
        if self._coalesces(wanted):
            return
        self._make_room()
        self._queue.append(wanted)

    def _return(self, wanted: _Wanted) -> None:
        """Put a create back where it came from: the front."""
        self.counters.requeued += 1
        if self._coalesces(wanted):
            return
        self._make_room()
        self._queue.appendleft(wanted)

    def _requeue_refused(self, wanted: _Wanted) -> None:
        wanted.refusals += 1
        if wanted.refusals > REFUSALS_MAX:
            self.counters.refused += 1
        else:
            self._return(wanted)

    def _retry(self, wanted: _Wanted, now: float) -> None:
        self._backoff_until = now + self._backoff_s
        wanted.failures += 1
        if wanted.failures > 1:
            self.counters.failed += 1
            return
        self.counters.retried += 1
        if self._coalesces(wanted):
            return
        self._make_room()
        self._queue.appendleft(wanted)

    def _coalesces(self, wanted: _Wanted) -> bool:
        twin = next((one for one in self._queue if _is_plain(one)), None) if _is_plain(wanted) else None
        if twin is None:
            return False
        # The younger wish counts: what it wants spoken may have missed an answer that the older one saw.
        twin.since = max(twin.since, wanted.since)
        twin.failures = max(twin.failures, wanted.failures)
        self.counters.coalesced += 1
        return True

    def _make_room(self) -> None:
        if len(self._queue) < self._queue_limit:
            return
        oldest_plain = next((one for one in self._queue if _is_plain(one)), self._queue[0])
        self._queue.remove(oldest_plain)
        self.counters.dropped += 1


def _is_plain(wanted: _Wanted) -> bool:
    return wanted.command == CreateResponse()


def _unless_past(deadline: float | None, now: float) -> float | None:
    return None if deadline is not None and now >= deadline else deadline


def _remember(ids: OrderedDict[str, None], response_id: str) -> None:
    if response_id:
        ids[response_id] = None
        if len(ids) > IDS_REMEMBERED:
            ids.popitem(last=False)
