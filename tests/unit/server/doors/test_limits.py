"""Rates, and what one number may do."""

import pytest

from fastagent.server.doors.limits import NumberLimits, NumberVerdict, TokenBucket


def test_bucket_lets_a_burst_through_and_then_the_rate():
    bucket = TokenBucket(2.0, 3)
    for _ in range(3):
        assert bucket.wait_s(10.0) == 0
        bucket.take(10.0)
    assert bucket.wait_s(10.0) == 0.5
    assert bucket.wait_s(10.25) == 0.25
    assert bucket.wait_s(10.5) == 0
    bucket.take(10.5)
    assert bucket.wait_s(10.5) == 0.5


def test_bucket_holds_no_more_than_the_burst():
    bucket = TokenBucket(100.0, 2)
    bucket.take(0.0)
    for _ in range(2):
        assert bucket.wait_s(1000.0) == 0
        bucket.take(1000.0)
    assert bucket.wait_s(1000.0) > 0


def test_calls_of_one_number_at_once():
    limits = NumberLimits(2, 0)
    key = limits.key("+1 555 0100")
    for _ in range(2):
        assert limits.verdict(key, 0.0) is None
        limits.begin(key, 0.0)
    assert limits.verdict(key, 0.0) is NumberVerdict.CONCURRENT
    assert limits.verdict(limits.key("+15550101"), 0.0) is None
    limits.end(key)
    assert limits.verdict(key, 0.0) is None


def test_calls_of_one_number_within_an_hour():
    limits = NumberLimits(0, 2)
    key = limits.key("+15550100")
    for now in (0.0, 100.0):
        assert limits.verdict(key, now) is None
        limits.begin(key, now)
        limits.end(key)
    assert limits.verdict(key, 3599.0) is NumberVerdict.HOURLY
    assert limits.wait_s(key, 3599.0) == 1.0
    assert limits.verdict(key, 3600.0) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+1 (555) 010-0", "+15550100"),
        ("+15550100@pbx.example.com", "+15550100"),
        ("sip:15550100", "15550100"),
    ],
)
def test_one_number_has_one_key_however_it_is_written(one, other):
    limits = NumberLimits(1, 1)
    assert limits.key(one) == limits.key(other) != b""


@pytest.mark.parametrize("caller", ["", "anonymous", "unknown", "12", "anonymous@10.20.30.40"])
def test_withheld_numbers_are_not_one_caller(caller):
    limits = NumberLimits(1, 1)
    key = limits.key(caller)
    for _ in range(5):
        assert limits.verdict(key, 0.0) is None
        limits.begin(key, 0.0)
    limits.end(key)


def test_no_number_is_kept_and_keys_differ_between_processes():
    limits = NumberLimits(1, 1)
    key = limits.key("+15550100")
    limits.begin(key, 0.0)
    kept = repr([getattr(limits, name) for name in vars(limits)])
    assert "5550100" not in kept
    assert key != NumberLimits(1, 1).key("+15550100")


def test_table_of_numbers_is_bounded_and_empties():
    limits = NumberLimits(1, 1, numbers_max=10)
    keys = [limits.key(f"+1555{n:06}") for n in range(100)]
    for key in keys:
        limits.begin(key, 0.0)
    assert len(limits._begun) == 10
    for key in keys:
        limits.end(key)
    assert not limits._running
