"""Histograms, limits, the knee, plans and scripts: what a report is made of."""

import random

import numpy as np
import pytest

from fastagent.errors import ConfigurationError
from fastagent.load.histogram import DurationHistogram
from fastagent.load.knee import KneeSearch
from fastagent.load.limits import Limit, breaches, parse_limit
from fastagent.load.plan import Plan, Stage, parse_rate
from fastagent.load.scenario import DropStep, Scenario
from fastagent.testing.caller_script import HangUpStep, KeysStep, PauseStep, SayStep


def test_quantiles_are_within_a_class_of_the_truth():
    values = np.random.default_rng(1).lognormal(14, 2, 5000).astype(int) + 1
    histogram = DurationHistogram()
    for value in values:
        histogram.note_ns(int(value))
    ordered = np.sort(values)
    for q in (0.5, 0.9, 0.99, 0.999):
        truth_ms = ordered[int(np.ceil(q * len(ordered))) - 1] / 1e6
        assert histogram.quantile_ms(q) == pytest.approx(truth_ms, rel=0.017, abs=1e-4)
    assert histogram.figures()["max_ms"] == pytest.approx(values.max() / 1e6, abs=1e-4)
    assert histogram.figures()["n"] == 5000


def test_an_empty_histogram_has_no_figures():
    assert DurationHistogram().figures()["p99_ms"] is None
    assert DurationHistogram().curve() == []


def test_limits_are_read_and_compared():
    assert parse_limit("p99_ms=5") == [Limit("up_p99_ms", 5), Limit("down_p99_ms", 5)]
    found = breaches(
        [*parse_limit("failed=0"), *parse_limit("turn_p95_ms=900"), *parse_limit("cpu_ms=2")],
        {"failed": 0, "turn_p95_ms": 901.0, "cpu_ms": None},
    )
    assert [str(one) for one in found] == [
        "turn_p95_ms was 901, at most 900",
        "cpu_ms was not measured, at most 2",
    ]


@pytest.mark.parametrize("text", ["p99_ms", "p99_ms=fast", "p99_ms=nan", "warp=9", "failed=-1"])
def test_a_limit_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigurationError):
        parse_limit(text)


@pytest.mark.parametrize("truth", [1, 9, 10, 37, 100, 777])
def test_the_knee_is_found_within_its_precision(truth):
    search = KneeSearch(most=2000)
    tried = []
    while (level := search.next_level()) is not None:
        tried.append(level)
        search.judge(level, level <= truth)
    assert search.kept <= truth < search.broken
    assert search.broken - search.kept <= max(1, 0.1 * truth)
    assert len(tried) <= 16
    assert len(set(tried)) == len(tried)


def test_a_server_that_holds_nothing_has_no_knee():
    search = KneeSearch()
    while (level := search.next_level()) is not None:
        search.judge(level, False)
    assert search.kept == 0


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(ConfigurationError, match="--call-s"):
        Plan((Stage(10, rate_per_s=2),))
    with pytest.raises(ConfigurationError):
        Plan()
    with pytest.raises(ConfigurationError):
        Plan((Stage(10, calls=0),))
    assert parse_rate("300/m") == 5
    for text in ("fast", "5/h", "-1", "0"):
        with pytest.raises(ConfigurationError):
            parse_rate(text)


def test_a_script_is_played_step_by_step():
    text = "# a call\nhello there\ninterrupt 1.5: stop\npause 2\ndtmf 12#\ndrop\nhang up\n"
    scenario = Scenario.parse(text)
    first, *steps = scenario.steps(random.Random(1))
    assert isinstance(first, PauseStep)
    assert steps == [
        SayStep("hello there"),
        SayStep("stop", 1.5),
        PauseStep(2.0),
        KeysStep("12#"),
        DropStep(),
        HangUpStep(),
    ]
    assert scenario.spoken() == ["hello there", "stop"]


def test_a_wrong_step_is_named_by_its_line():
    with pytest.raises(ConfigurationError, match="line 3"):
        Scenario.parse("hello\n\npause soon\n")


def test_callers_without_a_script_differ_and_repeat():
    scenario = Scenario(barge_in=0.5, dtmf=0.5)

    def begin(seed):
        steps = scenario.steps(random.Random(seed))
        return [next(steps) for _ in range(12)]

    assert begin(1) == begin(1)
    assert begin(1) != begin(2)
