"""The window, the block, and a table that does not grow."""

from fastagent.server.doors.failures import FailureLimit


def test_failures_count_for_as_long_as_the_window():
    limit = FailureLimit(3, window_s=60, block_s=30)
    for now in (0.0, 30.0, 60.0):  # the first no longer counts at 60
        limit.note("192.0.2.1", now)
        assert limit.blocked_for_s("192.0.2.1", now) == 0
    limit.note("192.0.2.1", 61.0)
    assert limit.blocked_for_s("192.0.2.1", 61.0) == 30
    assert limit.blocked_for_s("192.0.2.1", 91.0) == 0


def test_block_starts_the_count_anew():
    limit = FailureLimit(2, window_s=60, block_s=10)
    limit.note("a", 0.0)
    limit.note("a", 1.0)
    assert limit.blocked_for_s("a", 1.0) == 10
    limit.note("a", 12.0)
    assert limit.blocked_for_s("a", 12.0) == 0


def test_ipv6_subscriber_is_one():
    limit = FailureLimit(2, window_s=60, block_s=10)
    limit.note("2001:db8::1", 0.0)
    limit.note("2001:db8::2", 0.0)
    assert limit.blocked_for_s("2001:db8::3", 0.0) == 10
    assert limit.blocked_for_s("2001:db8:0:1::3", 0.0) == 0


def test_table_forgets_the_oldest():
    limit = FailureLimit(1, window_s=60, block_s=10, table_max=100)
    for n in range(1000):
        limit.note(f"10.0.{n >> 8}.{n & 255}", 0.0)
    assert len(limit) == 100
    assert limit.blocked_for_s("10.0.0.0", 0.0) == 0
    assert limit.blocked_for_s("10.0.3.231", 0.0) == 10
