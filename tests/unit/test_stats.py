"""Stats: bounds count what they say, and figures are values that were measured."""

import pytest

from fastagent.stats import Histogram, RecentTimes, TimeClasses


@pytest.mark.parametrize(("value", "place"), [(-1, 0), (1, 0), (1.001, 1), (10, 1), (11, 2), (1e9, 2)])
def test_a_value_counts_up_to_and_with_its_bound(value, place):
    histogram = Histogram((1, 10))
    histogram.note(value)
    assert histogram.counts.index(1) == place
    assert (histogram.total, histogram.sum) == (1, value)


def test_a_value_may_count_several_times():
    histogram = Histogram((1,))
    histogram.note(0.5, 4)
    assert (histogram.counts, histogram.sum) == ([4, 0], 2.0)


def test_figures_are_zeros_while_nothing_was_timed():
    assert set(RecentTimes().figures_ms().values()) == {0.0}


def test_figures_are_of_the_last_times_only():
    recent = RecentTimes(limit=100)
    for n in range(1, 201):
        recent.note(n / 1000)
    assert recent.figures_ms() == {"avg": 150.5, "min": 101.0, "max": 200.0, "p95": 195.0, "p99": 199.0}


def test_one_time_is_every_figure():
    recent = RecentTimes()
    recent.note(0.25)
    assert set(recent.figures_ms().values()) == {250.0}


def test_time_classes_show_their_counts():
    classes = TimeClasses([0, 2, 1])
    assert (list(classes.counts[:4]), classes.total) == ([0, 2, 1, 0], 3)
