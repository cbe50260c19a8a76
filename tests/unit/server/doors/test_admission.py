"""Each cause for which a call is not taken, alone and in order."""

from typing import Any

import pytest

from fastagent.server.doors.admission import Admission, RefusalCause
from fastagent.server.doors.load import LoadCause
from fastagent.settings import Settings
from fastagent.stats import Counters

CALLER = "+15550100"


def admission(**settings: Any) -> tuple[Admission, Counters]:
    counters = Counters()
    return Admission(Settings(**settings), counters), counters


def test_call_is_taken_and_ends():
    one, counters = admission()
    assert one.verdict(0.0, calls=0, caller=CALLER) is None
    one.end(one.begin(0.0, CALLER))
    assert counters == {}


@pytest.mark.parametrize(
    ("cause", "load"), [(RefusalCause.LOOP_LAG, LoadCause.LAG), (RefusalCause.CPU, LoadCause.CPU)]
)
def test_load_refuses_before_the_upgrade_and_at_the_offer(cause, load):
    one, counters = admission()
    one.load.overload = load
    for caller in (None, CALLER):
        refusal = one.verdict(0.0, calls=0, caller=caller)
        assert refusal is not None
        assert (refusal.cause, refusal.headers) == (cause, {"Retry-After": "5"})
    assert counters == {f"admission_refused_{cause}": 2}


def test_full_house_and_the_end_of_the_process():
    one, counters = admission(max_sessions=2)
    assert one.verdict(0.0, calls=1) is None
    refusal = one.verdict(0.0, calls=2)
    assert refusal is not None
    assert (refusal.cause, refusal.retry_after_s) == (RefusalCause.FULL, 1)
    one.is_draining = True
    assert one.foresee(0.0, calls=0, is_late=True) is None  # it was let in before
    refusal = one.verdict(0.0, calls=0)
    assert refusal is not None
    assert refusal.cause is RefusalCause.DRAINING
    assert counters == {"admission_refused_full": 1, "admission_refused_draining": 1}


def test_rate_of_calls():
    one, _ = admission(calls_per_second=0.1, call_burst=2)
    for _ in range(2):
        assert one.verdict(0.0, calls=0) is None
        one.begin(0.0, "")
    refusal = one.verdict(0.0, calls=0)
    assert refusal is not None
    assert (refusal.cause, refusal.retry_after_s) == (RefusalCause.CALL_RATE, 10)
    assert one.verdict(10.0, calls=0) is None


def test_number_is_looked_at_only_when_it_is_known():
    one, counters = admission(calls_per_number=1, calls_per_number_hour=2)
    first = one.begin(0.0, CALLER)
    assert one.verdict(0.0, calls=1) is None
    refusal = one.verdict(0.0, calls=1, caller=CALLER)
    assert refusal is not None
    assert refusal.cause is RefusalCause.NUMBER_CONCURRENT
    one.end(first)
    one.end(one.begin(60.0, CALLER))
    refusal = one.verdict(60.0, calls=0, caller=CALLER)
    assert refusal is not None
    assert (refusal.cause, refusal.retry_after_s) == (RefusalCause.NUMBER_HOURLY, 3540)
    assert one.verdict(60.0, calls=0, caller="anonymous") is None
    assert set(counters) == {"admission_refused_number_concurrent", "admission_refused_number_hourly"}


def test_foreseeing_counts_nothing():
    one, counters = admission(max_sessions=1)
    assert one.foresee(0.0, calls=1) is not None
    assert counters == {}
