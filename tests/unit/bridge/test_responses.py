"""One response at a time: what the gate sends, holds back, repeats and gives up."""

from collections.abc import Callable
from typing import Any

import pytest

from fastagent.bridge.responses import GateState, ResponseGate
from fastagent.wire.openai_realtime import CREATE_RESPONSE_ID
from fastagent.wire.realtime_events import (
    CancelResponse,
    CreateResponse,
    ModelError,
    ResponseCreated,
    ResponseDone,
    ResponseStatus,
    Severity,
)

PLAIN = CreateResponse()
GREETING = CreateResponse(instructions="Greet.")
ASIDE = CreateResponse(is_out_of_band=True)
OUR_ID = f"{CREATE_RESPONSE_ID}1"


def open_gate(**settings: Any) -> ResponseGate:
    gate = ResponseGate(**settings)
    assert gate.reset(0.0) == []
    return gate


def created(response_id: str = "r1") -> ResponseCreated:
    return ResponseCreated(response_id)


def done(response_id: str = "r1", status: ResponseStatus = ResponseStatus.COMPLETED) -> ResponseDone:
    return ResponseDone(response_id, status)


def failed(severity: Severity = Severity.RETRYABLE, response_id: str = "r1") -> ResponseDone:
    return ResponseDone(response_id, ResponseStatus.FAILED, severity=severity)


def busy(event_id: str | None = OUR_ID) -> ModelError:
    return ModelError(Severity.BENIGN, "conversation_already_has_active_response", "", event_id)


def refusal(severity: Severity, event_id: str | None = OUR_ID) -> ModelError:
    return ModelError(severity, "some_code", "", event_id)


def assert_all_settled(gate: ResponseGate) -> None:
    assert gate.counters.wanted == gate.counters.settled() + gate.unsettled


def test_a_create_goes_out_at_once_when_nothing_runs() -> None:
    gate = open_gate()
    assert gate.want(PLAIN, 1.0) == [PLAIN]
    assert gate.state is GateState.REQUESTED
    assert gate.created(created(), 1.1) == []
    assert (gate.state, gate.active_response_id) == (GateState.ACTIVE, "r1")
    assert gate.done(done(), 2.0) == []
    assert (gate.state, gate.active_response_id) == (GateState.IDLE, None)
    assert (gate.counters.wanted, gate.counters.answered) == (1, 1)


def test_a_create_during_a_response_waits_for_its_end() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    assert gate.want(PLAIN, 1.0) == []
    gate.created(created(), 1.1)
    assert gate.want(PLAIN, 1.2) == []
    assert gate.done(done(), 2.0) == [PLAIN]
    assert gate.counters.coalesced == 1


@pytest.mark.parametrize(
    "status", [ResponseStatus.CANCELLED, ResponseStatus.INCOMPLETE, ResponseStatus.COMPLETED]
)
def test_any_end_lets_the_next_one_go(status: ResponseStatus) -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created(), 1.1)
    gate.want(PLAIN, 1.2)
    assert gate.done(done(status=status), 2.0) == [PLAIN]


def test_creates_with_particulars_are_each_sent_in_order() -> None:
    gate = open_gate()
    first, second = CreateResponse(instructions="One."), CreateResponse(instructions="Two.")
    gate.want(PLAIN, 1.0)
    gate.want(first, 1.0)
    gate.want(second, 1.0)
    gate.created(created("r1"), 1.1)
    assert gate.done(done("r1"), 1.2) == [first]
    gate.created(created("r2"), 1.3)
    assert gate.done(done("r2"), 1.4) == [second]


def test_a_full_queue_drops_the_oldest_plain_create_and_counts_it() -> None:
    gate = open_gate(queue_limit=3)
    gate.want(GREETING, 1.0)
    wanted = [CreateResponse(instructions=str(number)) for number in range(3)]
    gate.want(wanted[0], 1.0)
    gate.want(PLAIN, 1.0)
    gate.want(wanted[1], 1.0)
    gate.want(wanted[2], 1.0)
    assert (gate.counters.dropped, gate.waiting) == (1, 3)
    for number, command in enumerate(wanted):
        gate.created(created(f"r{number}"), 2.0)
        assert gate.done(done(f"r{number}"), 2.0) == [command]
    assert_all_settled(gate)


def test_a_full_queue_without_a_plain_create_drops_the_oldest() -> None:
    gate = open_gate(queue_limit=1)
    gate.want(PLAIN, 1.0)
    gate.want(GREETING, 1.0)
    gate.want(CreateResponse(instructions="Later."), 1.0)
    assert (gate.counters.dropped, gate.waiting) == (1, 1)
    assert_all_settled(gate)


def test_a_response_of_the_servers_own_is_followed_like_ours() -> None:
    gate = open_gate()
    gate.created(created(), 1.0)
    assert gate.want(GREETING, 1.1) == []
    assert gate.done(done(), 2.0) == [GREETING]


def test_the_end_of_another_response_changes_nothing() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created("r1"), 1.1)
    gate.want(PLAIN, 1.2)
    assert gate.done(done("r0"), 1.3) == []
    assert gate.state is GateState.ACTIVE


def test_a_response_without_an_id_is_followed_to_its_end() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created(""), 1.1)
    gate.want(PLAIN, 1.2)
    assert gate.done(done("r7"), 2.0) == [PLAIN]


def test_an_end_whose_beginning_was_lost_answers_the_request() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.want(PLAIN, 1.0)
    assert gate.done(done("r1"), 2.0) == [PLAIN]
    assert gate.counters.answered == 1


def test_a_beginning_told_twice_or_after_its_end_changes_nothing() -> None:
    gate = open_gate()
    gate.want(PLAIN, 1.0)
    gate.created(created(), 1.1)
    gate.created(created(), 1.2)
    gate.done(done(), 1.3)
    gate.created(created(), 1.4)
    assert gate.state is GateState.IDLE
    assert (gate.counters.answered, gate.counters.overlapped) == (1, 0)


def test_the_younger_of_two_overlapping_responses_counts() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created("r1"), 1.1)
    gate.want(PLAIN, 1.2)
    gate.created(created("r2"), 1.3)
    assert gate.done(done("r1"), 1.4) == []
    assert gate.done(done("r2"), 1.5) == [PLAIN]
    assert gate.counters.overlapped == 1
    assert_all_settled(gate)


# The caller's turn


def test_nothing_begins_while_the_caller_speaks() -> None:
    gate = open_gate(answers_turns=False)
    gate.speech_started(1.0)
    assert gate.want(PLAIN, 1.5) == []
    assert gate.advance(2.0) == []
    assert gate.speech_stopped(3.0) == [PLAIN]


def test_the_servers_answer_to_the_turn_takes_waiting_plain_creates_along() -> None:
    gate = open_gate()
    gate.speech_started(1.0)
    gate.want(PLAIN, 1.2)
    gate.want(GREETING, 1.2)
    assert gate.speech_stopped(3.0) == []
    gate.created(created(), 3.1)
    assert gate.counters.absorbed == 1
    assert gate.done(done(), 4.0) == [GREETING]
    assert_all_settled(gate)


def test_a_create_too_young_for_the_servers_answer_goes_out_after_it() -> None:
    gate = open_gate()
    gate.speech_started(1.0)
    gate.want(PLAIN, 2.9)
    gate.speech_stopped(3.0)
    gate.created(created(), 3.1)
    assert gate.counters.absorbed == 0
    assert gate.done(done(), 4.0) == [PLAIN]


def test_a_younger_wish_makes_an_old_plain_create_young() -> None:
    gate = open_gate()
    gate.speech_started(1.0)
    gate.want(PLAIN, 1.0)
    gate.want(PLAIN, 2.9)
    gate.speech_stopped(3.0)
    gate.created(created(), 3.1)
    assert gate.done(done(), 4.0) == [PLAIN]


def test_a_turn_the_server_leaves_unanswered_holds_only_for_the_grace() -> None:
    gate = open_gate(turn_grace_s=2.0)
    gate.speech_started(1.0)
    gate.want(PLAIN, 1.2)
    gate.speech_stopped(3.0)
    assert gate.next_deadline() == 5.0
    assert gate.advance(4.9) == []
    assert gate.advance(5.0) == [PLAIN]


def test_speech_that_never_stops_holds_only_so_long() -> None:
    gate = open_gate(speech_hold_s=30.0)
    gate.speech_started(1.0)
    gate.want(PLAIN, 2.0)
    assert gate.next_deadline() == 31.0
    assert gate.advance(31.0) == [PLAIN]


def test_a_stop_without_a_start_holds_nothing() -> None:
    gate = open_gate()
    gate.speech_stopped(1.0)
    assert gate.want(PLAIN, 1.1) == [PLAIN]


# Refusals and failures


def test_a_create_refused_for_an_active_response_goes_out_after_that() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created("r1"), 1.1)  # the server's own, which was quicker
    assert gate.error(busy(), 1.2) == []
    assert gate.done(done("r1"), 2.0) == [GREETING]
    gate.created(created("r2"), 2.1)
    gate.done(done("r2"), 3.0)
    assert (gate.counters.requeued, gate.counters.answered) == (1, 1)
    assert_all_settled(gate)


@pytest.mark.parametrize("event_id", [OUR_ID, None])
def test_a_refusal_for_a_response_we_never_saw_begin_waits_for_any_end(event_id: str | None) -> None:
    gate = open_gate(response_timeout_s=10.0)
    gate.want(GREETING, 1.0)
    gate.error(busy(event_id), 1.2)
    assert (gate.state, gate.active_response_id) == (GateState.ACTIVE, None)
    assert gate.done(done("r9"), 2.0) == [GREETING]


def test_a_response_we_never_see_is_waited_for_only_so_long() -> None:
    gate = open_gate(response_timeout_s=10.0)
    gate.want(GREETING, 1.0)
    gate.error(busy(), 1.2)
    assert gate.next_deadline() == pytest.approx(11.2)
    assert gate.advance(11.2) == [GREETING]
    assert gate.counters.stalled == 1


def test_a_create_refused_again_and_again_is_given_up() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    for number in range(9):
        gate.error(busy(), 1.2)
        gate.done(done(f"r{number}"), 2.0)
    assert (gate.counters.refused, gate.unsettled) == (1, 0)
    assert_all_settled(gate)


@pytest.mark.parametrize("severity", [Severity.FAULT, Severity.FATAL, Severity.BENIGN])
def test_a_create_refused_for_good_makes_way(severity: Severity) -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.want(PLAIN, 1.0)
    assert gate.error(refusal(severity), 1.2) == [PLAIN]
    assert gate.counters.refused == 1


def test_a_refusal_that_comes_while_the_servers_own_response_runs_leaves_that_alone() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created("r1"), 1.1)
    gate.error(refusal(Severity.FAULT), 1.2)
    assert (gate.state, gate.counters.refused, gate.unsettled) == (GateState.ACTIVE, 1, 0)


@pytest.mark.parametrize("event_id", ["truncate-item-4", None])
def test_an_error_about_something_else_changes_nothing(event_id: str | None) -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    for severity in Severity:
        assert gate.error(refusal(severity, event_id), 1.2) == []
    assert gate.state is GateState.REQUESTED
    assert open_gate().error(busy(), 1.0) == []


@pytest.mark.parametrize("fail", [lambda gate, now: gate.error(refusal(Severity.RETRYABLE), now),
                                  lambda gate, now: gate.done(failed(), now)])  # fmt: skip
def test_a_retryable_failure_is_retried_once_after_a_pause(
    fail: Callable[[ResponseGate, float], Any],
) -> None:
    gate = open_gate(backoff_s=1.0)
    gate.want(GREETING, 1.0)
    assert fail(gate, 2.0) == []
    assert gate.next_deadline() == 3.0
    assert gate.advance(2.9) == []
    assert gate.advance(3.0) == [GREETING]
    gate.created(created("r2"), 3.1)
    assert gate.done(failed(response_id="r2"), 4.0) == []
    assert gate.advance(99.0) == []
    assert (gate.counters.retried, gate.counters.failed) == (1, 1)
    assert_all_settled(gate)


def test_a_failure_no_retry_helps_is_not_retried() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created(), 1.1)
    assert gate.done(failed(Severity.FATAL), 2.0) == []
    assert (gate.advance(99.0), gate.unsettled) == ([], 0)


def test_a_failed_answer_of_the_servers_own_is_asked_for_again() -> None:
    gate = open_gate(backoff_s=1.0)
    gate.created(created(), 1.0)
    gate.done(failed(), 2.0)
    assert gate.advance(3.0) == [PLAIN]
    assert_all_settled(gate)


def test_the_pause_holds_other_creates_too() -> None:
    gate = open_gate(backoff_s=1.0)
    gate.want(PLAIN, 1.0)
    gate.error(refusal(Severity.RETRYABLE), 1.1)
    assert gate.want(GREETING, 1.2) == []


def test_a_create_nobody_answers_is_given_up_and_counted() -> None:
    gate = open_gate(response_timeout_s=10.0)
    gate.want(GREETING, 1.0)
    gate.want(PLAIN, 2.0)
    assert gate.next_deadline() == 11.0
    assert gate.advance(10.9) == []
    assert gate.advance(11.0) == [PLAIN]
    assert gate.counters.timed_out == 1
    assert_all_settled(gate)


def test_a_response_that_comes_after_its_time_is_followed() -> None:
    gate = open_gate(response_timeout_s=10.0)
    gate.want(GREETING, 1.0)
    gate.advance(11.0)
    gate.created(created(), 11.5)
    assert gate.want(PLAIN, 12.0) == []
    assert gate.done(done(), 13.0) == [PLAIN]


def test_a_response_that_never_ends_is_cancelled_and_left_behind() -> None:
    gate = open_gate(active_timeout_s=300.0)
    gate.created(created(), 0.0)
    gate.want(GREETING, 1.0)
    assert gate.advance(300.0) == [CancelResponse("r1"), GREETING]
    assert gate.counters.stalled == 1
    assert gate.done(done("r1"), 301.0) == []  # its late end is not that of the greeting
    assert gate.state is GateState.REQUESTED


# Cancelling


def test_only_an_active_response_is_cancelled_and_only_once() -> None:
    gate = open_gate()
    assert gate.cancel() is None
    gate.want(PLAIN, 1.0)
    assert gate.cancel() is None
    gate.created(created(), 1.1)
    assert gate.cancel() == CancelResponse("r1")
    assert gate.cancel() is None
    gate.done(done(status=ResponseStatus.CANCELLED), 1.2)
    assert gate.cancel() is None


def test_the_next_response_can_be_cancelled_again() -> None:
    gate = open_gate()
    gate.created(created("r1"), 1.0)
    gate.cancel()
    gate.done(done("r1"), 1.1)
    gate.created(created("r2"), 1.2)
    assert gate.cancel() == CancelResponse("r2")


def test_a_cancel_that_finds_nothing_frees_the_gate_before_long() -> None:
    gate = open_gate(response_timeout_s=10.0)
    gate.created(created(), 1.0)
    gate.want(GREETING, 1.1)
    not_active = ModelError(Severity.BENIGN, "response_cancel_not_active", "", "cancel-response-2")
    assert gate.error(not_active, 1.2) == []  # nobody cancelled: it is about an earlier response
    assert gate.next_deadline() == 301.0
    gate.cancel()
    assert gate.error(not_active, 1.3) == []
    assert gate.next_deadline() == 11.3
    assert gate.advance(11.3) == [GREETING]


def test_a_cancel_that_crossed_the_end_of_its_response_does_not_end_the_next() -> None:
    gate = open_gate()
    gate.created(created("r1"), 1.0)
    gate.cancel()
    gate.done(done("r1"), 1.1)
    gate.created(created("r2"), 1.2)
    gate.cancel()
    gate.want(GREETING, 1.3)
    not_active = ModelError(Severity.BENIGN, "response_cancel_not_active", "", "cancel-response-1")
    assert gate.error(not_active, 1.4) == []
    assert gate.done(done("r2", ResponseStatus.CANCELLED), 1.5) == [GREETING]


# Out-of-band


def test_an_out_of_band_response_neither_waits_nor_blocks() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    assert gate.want(ASIDE, 1.0) == [ASIDE]
    gate.created(ResponseCreated("r5", is_out_of_band=True), 1.1)
    assert gate.is_out_of_band("r5")
    assert gate.state is GateState.REQUESTED
    gate.created(created("r1"), 1.2)
    gate.want(PLAIN, 1.3)
    assert gate.done(done("r5"), 1.4) == []
    assert not gate.is_out_of_band("r5")
    assert gate.done(done("r1"), 1.5) == [PLAIN]


# The socket


def test_nothing_goes_out_before_the_first_socket_is_ready() -> None:
    gate = ResponseGate()
    assert gate.want(GREETING, 0.0) == []
    assert gate.want(ASIDE, 0.0) == []
    assert gate.speech_started(0.1) == []
    assert gate.next_deadline() is None
    assert gate.advance(99.0) == []
    assert gate.reset(1.0) == [ASIDE, GREETING]


def test_what_was_requested_on_a_lost_socket_goes_out_on_the_next() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.want(PLAIN, 1.0)
    gate.suspend()
    assert gate.state is GateState.SUSPENDED
    assert gate.created(created("old"), 1.5) == []
    assert gate.done(done("old"), 1.6) == []
    assert gate.reset(2.0) == [GREETING]
    assert gate.counters.requeued == 1
    assert_all_settled(gate)


def test_a_response_that_ran_on_a_lost_socket_is_over() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    gate.created(created(), 1.1)
    assert gate.reset(2.0) == []
    assert (gate.state, gate.unsettled) == (GateState.IDLE, 0)


def test_an_expired_session_keeps_the_create_for_the_next_socket() -> None:
    gate = open_gate()
    gate.want(GREETING, 1.0)
    assert gate.error(refusal(Severity.EXPIRED), 1.1) == []
    assert gate.state is GateState.SUSPENDED
    assert gate.reset(2.0) == [GREETING]
    assert_all_settled(gate)


def test_speech_on_a_lost_socket_holds_nothing_on_the_next() -> None:
    gate = open_gate()
    gate.speech_started(1.0)
    gate.want(PLAIN, 1.1)
    assert gate.reset(2.0) == [PLAIN]


def test_creates_that_wait_for_a_socket_are_bounded() -> None:
    gate = ResponseGate(queue_limit=2)
    for number in range(9):
        gate.want(CreateResponse(instructions=str(number)), 0.0)
        gate.want(ASIDE, 0.0)
    assert gate.counters.dropped == 14
    assert len(gate.reset(1.0)) == 3
    assert_all_settled(gate)


def test_a_queue_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ResponseGate(queue_limit=0)
