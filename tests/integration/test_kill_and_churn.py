"""Short forms of the long runs: scripts/killloop and scripts/churn do a hundred kills and 5,000 calls."""

import asyncio

import uvloop

from tests.integration.churn import churn
from tests.integration.kill_loop import kill_loop

KILLS = 20
CHURN_CALLS = 300
WARM_UP_CALLS = 100
SERVING_AGAIN_MAX_S = 30.0
"""Two seconds are promised; here other tests want the same cores."""
GROWTH_BYTES_MAX = 16 * 1024 * 1024
"""The heap still grows into its size; what one call leaves behind is told by scripts/churn."""
OBJECTS_MAX = 300
"""Less than one of each call's."""


def test_twenty_kills_lose_nothing_acknowledged_and_each_is_followed_by_a_server(tmp_path):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(kill_loop(tmp_path, KILLS))
    assert report.kills == KILLS
    assert report.lost == 0
    assert report.acknowledged > KILLS
    assert len(report.again_s) == KILLS
    assert max(report.again_s) < SERVING_AGAIN_MAX_S


def test_short_calls_leave_nothing_behind():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(churn(CHURN_CALLS, warm_up_calls=WARM_UP_CALLS))
    before, after = report["before"], report["after"]
    for name in ("tasks", "descriptors", "timers", "calls", "connections"):
        assert after[name] == before[name], report
    assert after["objects"] - before["objects"] < OBJECTS_MAX
    assert after["rss_bytes"] - before["rss_bytes"] < GROWTH_BYTES_MAX
