"""Random interleavings of wishes, the server's doings and time: one create in flight, none lost silently."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastagent.bridge.responses import GateState, ResponseGate
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

QUEUE_LIMIT = 3
IDS = st.sampled_from(["", "r1", "r2", "r3", "r4"])
OUR_ID = f"{CREATE_RESPONSE_ID}1"


class AnyServer(RuleBasedStateMachine):
    """Events in any order, possible or not: the gate's own promises hold all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.gate = ResponseGate(queue_limit=QUEUE_LIMIT)
        self.sent = 0

    def take(self, commands: list[ModelCommand], *, may_start: bool = True) -> None:
        creates = [one for one in commands if isinstance(one, CreateResponse) and not one.is_out_of_band]
        assert len(creates) <= (1 if may_start else 0)
        if creates:
            # Whatever was in flight before is settled or back in the queue: this one alone is requested.
            assert self.gate.state is GateState.REQUESTED
            self.sent += 1

    @rule(kind=st.sampled_from(["plain", "one", "two", "aside"]))
    def want(self, kind: str) -> None:
        was_free = self.gate.state is GateState.IDLE
        command = {
            "plain": CreateResponse(),
            "one": CreateResponse(instructions="One."),
            "two": CreateResponse(instructions="Two."),
            "aside": CreateResponse(is_out_of_band=True),
        }[kind]
        self.take(self.gate.want(command, self.now), may_start=was_free)

    @rule(response_id=IDS, is_aside=st.booleans())
    def created(self, response_id: str, is_aside: bool) -> None:
        self.take(self.gate.created(ResponseCreated(response_id, is_aside), self.now), may_start=False)

    @rule(
        response_id=IDS,
        status=st.sampled_from(ResponseStatus),
        severity=st.none() | st.sampled_from(Severity),
    )
    def done(self, response_id: str, status: ResponseStatus, severity: Severity | None) -> None:
        self.take(self.gate.done(ResponseDone(response_id, status, severity=severity), self.now))

    @rule(
        code=st.sampled_from([ACTIVE_RESPONSE_CODE, CANCEL_NOT_ACTIVE_CODE, "other", ""]),
        severity=st.sampled_from(Severity),
        event_id=st.sampled_from([OUR_ID, "other-1", None]),
    )
    def error(self, code: str, severity: Severity, event_id: str | None) -> None:
        self.take(self.gate.error(ModelError(severity, code, "", event_id), self.now))

    @rule()
    def speech_started(self) -> None:
        self.take(self.gate.speech_started(self.now), may_start=False)

    @rule()
    def speech_stopped(self) -> None:
        self.take(self.gate.speech_stopped(self.now))

    @rule()
    def cancel(self) -> None:
        was_active = self.gate.state is GateState.ACTIVE
        assert (self.gate.cancel() is None) or was_active
        assert self.gate.cancel() is None

    @rule()
    def suspend(self) -> None:
        self.gate.suspend()

    @rule()
    def reset(self) -> None:
        self.take(self.gate.reset(self.now))

    @rule(step=st.sampled_from([0.0, 0.3, 1.0, 2.0, 9.0, 400.0]))
    def time_passes(self, step: float) -> None:
        self.now += step
        self.take(self.gate.advance(self.now))

    @precondition(lambda self: self.gate.next_deadline() is not None)
    @rule()
    def deadline_comes(self) -> None:
        deadline = self.gate.next_deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        self.take(self.gate.advance(self.now))
        later = self.gate.next_deadline()
        assert later is None or later > self.now

    @invariant()
    def none_is_lost_silently(self) -> None:
        assert self.gate.counters.wanted == self.gate.counters.settled() + self.gate.unsettled

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert self.gate.waiting <= QUEUE_LIMIT

    @invariant()
    def a_waiting_create_always_has_a_way_on(self) -> None:
        if self.gate.waiting and self.gate.state is not GateState.SUSPENDED:
            assert self.gate.next_deadline() is not None

    def teardown(self) -> None:
        """Left alone with a server that answers, the gate comes to rest."""
        self.take(self.gate.reset(self.now))
        for number in range(4 * QUEUE_LIMIT):
            if self.gate.state is GateState.REQUESTED:
                self.gate.created(ResponseCreated(f"last{number}"), self.now)
                self.take(self.gate.done(ResponseDone(f"last{number}", ResponseStatus.COMPLETED), self.now))
            elif (deadline := self.gate.next_deadline()) is not None:
                self.now = max(self.now, deadline)
                self.take(self.gate.advance(self.now))
        assert self.gate.unsettled == 0
        assert self.gate.state is GateState.IDLE


class HonestServer(RuleBasedStateMachine):
    """A server that keeps to the protocol and answers late: it never has two creates to read.

    Its responses last longer than a message is under way; shorter ones the gate cannot tell from answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0
        self.gate = ResponseGate(queue_limit=QUEUE_LIMIT, response_timeout_s=1e6, active_timeout_s=1e6)
        self.to_server: list[ModelCommand] = []
        self.to_gate: list[ResponseCreated | ResponseDone | ModelError] = []
        self.running: str | None = None
        self.unanswered = 0
        self.take(self.gate.reset(0.0))

    def take(self, commands: list[ModelCommand]) -> None:
        for command in commands:
            if isinstance(command, CreateResponse):
                self.unanswered += 1
                assert self.unanswered <= 1, "two creates in flight"
            self.to_server.append(command)

    def begin(self) -> None:
        self.number += 1
        self.running = f"r{self.number}"
        self.to_gate.append(ResponseCreated(self.running))

    def end(self, status: ResponseStatus, severity: Severity | None = None) -> None:
        assert self.running is not None
        self.to_gate.append(ResponseDone(self.running, status, severity=severity))
        self.running = None

    @rule(is_plain=st.booleans())
    def want(self, is_plain: bool) -> None:
        command = CreateResponse() if is_plain else CreateResponse(instructions="One.")
        self.take(self.gate.want(command, self.now))

    @rule()
    def caller_turn(self) -> None:
        self.take(self.gate.speech_started(self.now))
        self.take(self.gate.speech_stopped(self.now))

    @rule()
    def barge_in(self) -> None:
        cancel = self.gate.cancel()
        if cancel is not None:
            self.to_server.append(cancel)

    @precondition(lambda self: self.running is None)
    @rule()
    def server_answers_a_turn(self) -> None:
        self.begin()

    @precondition(lambda self: self.to_server)
    @rule()
    def server_reads(self) -> None:
        command = self.to_server.pop(0)
        if isinstance(command, CreateResponse):
            if self.running is None:
                self.begin()
            else:
                self.to_gate.append(ModelError(Severity.BENIGN, ACTIVE_RESPONSE_CODE, "", OUR_ID))
            self.unanswered = 0
        elif isinstance(command, CancelResponse) and command.response_id == self.running is not None:
            self.end(ResponseStatus.CANCELLED)
        else:
            self.to_gate.append(ModelError(Severity.BENIGN, CANCEL_NOT_ACTIVE_CODE, "", "cancel-response-1"))

    def is_all_read(self) -> bool:
        has_create = any(isinstance(one, CreateResponse) for one in self.to_server)
        return not has_create and ResponseCreated(str(self.running)) not in self.to_gate

    @precondition(lambda self: self.running is not None and self.is_all_read())
    @rule(fails=st.booleans())
    def server_ends(self, fails: bool) -> None:
        if fails:
            self.end(ResponseStatus.FAILED, Severity.RETRYABLE)
        else:
            self.end(ResponseStatus.COMPLETED)

    @precondition(lambda self: self.to_gate)
    @rule()
    def gate_reads(self) -> None:
        match self.to_gate.pop(0):
            case ResponseCreated() as event:
                self.take(self.gate.created(event, self.now))
            case ResponseDone() as event:
                self.take(self.gate.done(event, self.now))
            case ModelError() as event:
                self.take(self.gate.error(event, self.now))

    @rule(step=st.sampled_from([0.3, 1.0, 2.0]))
    def time_passes(self, step: float) -> None:
        self.now += step
        self.take(self.gate.advance(self.now))

    @invariant()
    def none_is_lost_silently(self) -> None:
        counters = self.gate.counters
        assert counters.wanted == counters.settled() + self.gate.unsettled
        assert (counters.timed_out, counters.stalled) == (0, 0)


TestAnyServer = AnyServer.TestCase
TestAnyServer.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestHonestServer = HonestServer.TestCase
TestHonestServer.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
