"""One stream of digits from several sources: each press once, with any delays and misses."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent.media.digits import BATCH_MAX, PRESSES_KEPT, WINDOW_S, DigitMerger, DigitSource

CARRIER, RTP, TONE = DigitSource.CARRIER, DigitSource.TELEPHONE_EVENT, DigitSource.IN_BAND


def merged(told: list[tuple[float, DigitSource, str]], merger: DigitMerger | None = None) -> str:
    merger = merger or DigitMerger()
    return "".join(merger.receive(source, digits, at) for at, source, digits in told)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(0.0, TONE, "1")], "1"),
        ([(0.0, TONE, "1"), (1.9, CARRIER, "1")], "1"),
        ([(0.0, CARRIER, "1"), (1.9, TONE, "1")], "1"),
        ([(0.0, TONE, "1"), (0.0, CARRIER, "1")], "1"),
        ([(0.0, TONE, "1"), (0.1, RTP, "1"), (0.9, CARRIER, "1")], "1"),
        # Pressed twice, told alternately, or by one after the other, or all at once.
        ([(0.0, TONE, "1"), (0.1, CARRIER, "1"), (0.2, TONE, "1"), (0.3, CARRIER, "1")], "11"),
        ([(0.0, TONE, "1"), (0.2, TONE, "1"), (1.0, CARRIER, "1"), (1.2, CARRIER, "1")], "11"),
        ([(0.0, TONE, "1"), (0.2, TONE, "1"), (1.0, CARRIER, "11")], "11"),
        ([(0.0, CARRIER, "11"), (0.1, TONE, "1"), (0.3, TONE, "1")], "11"),
        # One source alone is never thinned out.
        ([(0.1 * place, TONE, "5") for place in range(20)], "5" * 20),
        # One source misses a press.
        ([(0.0, TONE, "1"), (0.3, TONE, "1"), (1.3, CARRIER, "1")], "11"),
        ([(0.0, TONE, "1"), (1.0, CARRIER, "1"), (1.3, CARRIER, "1")], "11"),
        ([(0.0, TONE, "12"), (0.6, CARRIER, "123")], "123"),
        # Told in another order.
        ([(0.0, TONE, "2"), (0.4, CARRIER, "12")], "21"),
        # Too far apart to be one press.
        ([(0.0, TONE, "1"), (WINDOW_S + 0.1, CARRIER, "1")], "11"),
        # Collected by the carrier until the caller stops.
        ([(float(place), TONE, str(place)) for place in range(6)] + [(7.0, CARRIER, "012345")], "012345"),
    ],
)
def test_presses_are_counted_once(told: list[tuple[float, DigitSource, str]], expected: str) -> None:
    assert merged(told) == expected


def test_the_two_short_ways_name_their_sources() -> None:
    merger = DigitMerger()
    assert merger.signalled("4", 0.0) == "4"
    assert merger.heard("4", 0.5) == ""
    assert merger.signalled("4", 0.6) == "4"
    assert merger.receive(CARRIER, "", 0.7) == ""
    assert merger.settled_count == 1


@pytest.mark.parametrize("window_s", [0.0, -1.0, float("nan")])
def test_a_window_must_be_positive(window_s: float) -> None:
    with pytest.raises(ValueError, match="window"):
        DigitMerger(window_s=window_s)


def test_memory_is_bounded_in_time_and_number() -> None:
    merger = DigitMerger()
    merger.heard("1" * 3 * PRESSES_KEPT, 0.0)
    assert len(merger._presses) == PRESSES_KEPT
    merger.heard("2", WINDOW_S * BATCH_MAX + 1)
    assert len(merger._presses) == 1


@dataclass(frozen=True)
class Call:
    """Presses, and what each source tells of them."""

    presses: str
    told: list[tuple[float, DigitSource, str]]


@st.composite
def calls(draw: st.DrawFn, *, may_miss: bool, sources: tuple[DigitSource, ...] = (CARRIER, TONE)) -> Call:
    """Presses 0.08 to 4 s apart; each source keeps their order, late by up to the window."""
    presses = draw(st.lists(st.tuples(st.sampled_from("1119#"), st.floats(0.08, 4.0)), max_size=25))
    told: list[tuple[float, int, DigitSource, str]] = []
    for source in sources:
        now = latest = 0.0
        for place, (digit, gap) in enumerate(presses):
            now += gap
            # Just less than the window, so that rounding decides nothing.
            latest = max(latest, now + draw(st.floats(0.0, WINDOW_S - 0.01)))
            if not (may_miss and draw(st.booleans())):
                told.append((latest, place, source, digit))
    told.sort(key=lambda one: (one[0], one[1], one[2].value))
    return Call(
        "".join(digit for digit, _ in presses), [(at, source, digit) for at, _, source, digit in told]
    )


@given(calls(may_miss=False))
@settings(deadline=None)
def test_with_nothing_missed_every_press_comes_once_whatever_the_delays(call: Call) -> None:
    assert Counter(merged(call.told)) == Counter(call.presses)


@given(calls(may_miss=False, sources=(CARRIER, RTP, TONE)))
@settings(deadline=None)
def test_three_sources_are_still_one_stream(call: Call) -> None:
    assert Counter(merged(call.told)) == Counter(call.presses)


@given(calls(may_miss=True, sources=(CARRIER, RTP, TONE)))
@settings(deadline=None)
def test_with_presses_missed_none_is_doubled_and_the_best_source_decides(call: Call) -> None:
    out = Counter(merged(call.told))
    made = Counter(call.presses)
    for digit in "19#":
        by_source = Counter(source for _, source, told in call.told if told == digit)
        assert max(by_source.values(), default=0) <= out[digit] <= made[digit]


@given(calls(may_miss=True), st.data())
@settings(deadline=None)
def test_a_source_that_misses_nothing_loses_nothing_to_one_that_does(call: Call, data: st.DataObject) -> None:
    """The tone is always heard, at once; the carrier's events come later, some of them."""
    now = 0.0
    told = []
    for place, digit in enumerate(call.presses):
        now += data.draw(st.floats(0.08, 4.0))
        told.append((now, place, TONE, digit))
        if data.draw(st.booleans()):
            told.append((now + 1.0, place, CARRIER, digit))
    told.sort(key=lambda one: (one[0], one[1]))
    assert merged([(at, source, digit) for at, _, source, digit in told]) == call.presses
