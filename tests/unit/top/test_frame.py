"""Frames of ``fastagent top``."""

from dataclasses import replace

import pytest

from fastagent.top.frame import SORTS, clock, draw
from fastagent.top.reading import CallRow, Reading

ROW = CallRow("call-1", "front-desk", "twilio", "order", "both", 3723.0, 12, 431.7, 2, 0.0421, False)
READING = Reading(
    at_s=100.0,
    version="1.0",
    status="healthy",
    uptime_s=61.0,
    calls=(ROW,),
    calls_in_all=1,
    latency_ms={"avg": 400.0, "p95": 612.0},
    metrics={
        "fastagent_cpu_seconds_total": 10.0,
        "fastagent_memory_bytes": 100 * 2.0**20,
        "fastagent_loop_lag_seconds_count": 100.0,
        "fastagent_loop_lag_seconds_sum": 0.1,
    },
)


def test_row_holds_what_is_asked_of_a_call():
    row = draw(READING)[-1].split()
    assert row == ["call-1", "twilio", "front-desk", "order", "both", "1:02:03", "12", "432", "2", "0.042"]


def test_what_is_told_per_second_comes_of_two_readings():
    later = replace(
        READING,
        at_s=102.0,
        metrics={
            "fastagent_cpu_seconds_total": 10.5,
            "fastagent_loop_lag_seconds_count": 120.0,
            "fastagent_loop_lag_seconds_sum": 0.14,
        },
    )
    text = "\n".join(draw(later, READING))
    assert "cpu 25 %" in text
    assert "loop lag 2.0 ms" in text
    assert "cpu -" in "\n".join(draw(READING))


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [8, 24])
def test_no_frame_is_wider_or_higher_than_its_terminal(width, height):
    rows = tuple(replace(ROW, session_id=f"{n}-" + "x" * 90, state="y" * 50) for n in range(40))
    lines = draw(replace(READING, calls=rows, calls_in_all=140), width=width, height=height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    shown = sum(line.endswith("0.042") or "-xx" in line for line in lines)
    assert lines[-1] == f"... and {140 - shown} more"


@pytest.mark.parametrize(
    ("sort", "first"), [("latency", "slow"), ("drops", "lossy"), ("cost", "dear"), ("age", "old")]
)
def test_worst_call_comes_first(sort, first):
    base = replace(ROW, duration_s=1.0, latency_ms=None, drops=0, dollars=None)
    rows = (
        replace(base, session_id="a"),
        replace(base, session_id="slow", latency_ms=900.0),
        replace(base, session_id="lossy", drops=9),
        replace(base, session_id="dear", dollars=2.0),
        replace(base, session_id="old", duration_s=99.0),
    )
    assert sort in SORTS
    lines = draw(replace(READING, calls=rows), sort=sort)
    assert lines[-len(rows)].startswith(first)


def test_ids_cannot_move_the_cursor():
    text = "\n".join(draw(replace(READING, calls=(replace(ROW, session_id="a\x1b[2Jb"),))))
    assert "\x1b" not in text
    assert "a?[2Jb" in text


def test_parked_calls_empty_servers_and_notices_are_told():
    parked = "\n".join(draw(replace(READING, calls=(replace(ROW, is_parked=True),))))
    assert "(parked)" in parked
    empty = draw(replace(READING, calls=(), calls_in_all=0, metrics=None), notice="LOST")
    assert empty[0].endswith("LOST")
    assert empty[-1] == "no calls"
    assert any("scope metrics" in line for line in empty)


def test_clock():
    assert (clock(7), clock(247), clock(3600)) == ("0:07", "4:07", "1:00:00")
