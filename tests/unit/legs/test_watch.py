"""The shared watch: whom it pings, whom it cuts, and why; its clock is a double, so nothing waits."""

import asyncio
from typing import cast

import pytest

from fastagent._native.listener import Leg
from fastagent.legs import watch as watch_module
from fastagent.legs.watch import BLOCKED_LIMIT_S, CLOSE_LIMIT_S, LegWatch
from fastagent.stats import Counters

INTERVAL_S, TIMEOUT_S = 20.0, 10.0


class Line:
    """A leg as the watch sees it."""

    def __init__(self) -> None:
        self.is_open = True
        self.is_closing = False
        self.is_blocked = False
        self.blocked_since = 0.0
        self.last_received = 1000.0
        self.ping_sent_at = 0.0
        self.pings = 0
        self.ends: list[tuple[int, str]] = []
        self.clock: Clock | None = None

    def ping(self) -> None:
        assert self.clock is not None
        if self.ping_sent_at == 0.0:
            self.pings += 1
            self.ping_sent_at = self.clock.now

    def abort(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))
        self.is_open = False


class Clock:
    """Stands for the module's ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(watch_module, "time", self.clock)
        self.counters = Counters()
        self.watch = LegWatch(ping_interval_s=INTERVAL_S, ping_timeout_s=TIMEOUT_S, counters=self.counters)

    def add(self, line: Line) -> Line:
        line.clock = self.clock
        self.watch.add(cast(Leg, line))
        return line

    def look(self, at_s: float) -> None:
        """The timer fires, in time."""
        self.clock.now = self.watch._due = 1000.0 + at_s
        if self.watch._timer is not None:
            self.watch._timer.cancel()
        self.watch._run()

    def look_late(self, at_s: float) -> None:
        """The timer fires long after it should have."""
        self.clock.now = 1000.0 + at_s
        assert self.watch._timer is not None
        self.watch._timer.cancel()
        self.watch._run()


@pytest.fixture
def scene(monkeypatch):
    return Scene(monkeypatch)


def in_loop(body):
    async def main() -> None:
        body()

    asyncio.run(main())


def test_silent_leg_is_pinged_once_and_cut_without_an_answer(scene):
    def body():
        line = scene.add(Line())
        scene.look(INTERVAL_S)
        assert line.pings == 0
        scene.look(INTERVAL_S + 1)
        scene.look(INTERVAL_S + 2)
        assert line.pings == 1
        scene.look(INTERVAL_S + 1 + TIMEOUT_S)
        assert line.ends == []
        scene.look(INTERVAL_S + 2 + TIMEOUT_S)
        assert [code for code, _ in line.ends] == [1006]
        assert scene.counters == {"legs_without_pong": 1}
        scene.look(INTERVAL_S + 3 + TIMEOUT_S)
        assert scene.watch._timer is None

    in_loop(body)


def test_leg_that_answers_or_talks_is_kept(scene):
    def body():
        line = scene.add(Line())
        for turn in range(1, 6):
            scene.look(turn * (INTERVAL_S + 1))
            assert line.pings == turn
            line.ping_sent_at = 0.0
            line.last_received = scene.clock.now
        scene.look(5 * (INTERVAL_S + 1) + INTERVAL_S)
        assert line.pings == 5
        assert line.ends == []
        assert not scene.counters

    in_loop(body)


def test_leg_that_does_not_read_is_cut(scene):
    def body():
        line = scene.add(Line())
        line.is_blocked, line.blocked_since = True, 1000.0
        line.last_received = 2000.0
        scene.look(BLOCKED_LIMIT_S)
        assert line.ends == []
        scene.look(BLOCKED_LIMIT_S + 1)
        assert [code for code, _ in line.ends] == [1008]
        assert scene.counters == {"legs_not_reading": 1}

    in_loop(body)


def test_leg_whose_close_is_not_answered_is_cut(scene):
    def body():
        line = scene.add(Line())
        line.is_closing = True
        scene.look(100.0)
        scene.look(100.0 + CLOSE_LIMIT_S)
        assert (line.ends, line.pings) == ([], 0)
        scene.look(101.0 + CLOSE_LIMIT_S)
        assert [code for code, _ in line.ends] == [1006]
        assert scene.counters == {"legs_without_close": 1}

    in_loop(body)


def test_closed_leg_is_forgotten_and_the_timer_rests(scene):
    def body():
        lines = [scene.add(Line()) for _ in range(3)]
        assert scene.watch._timer is not None
        for line in lines:
            line.is_open = False
        scene.look(1.0)
        assert not scene.watch._legs
        assert scene.watch._timer is None
        scene.add(Line())
        assert scene.watch._timer is not None
        scene.watch.close()
        assert scene.watch._timer is None
        assert not scene.watch._legs

    in_loop(body)


def test_leg_added_twice_is_watched_once(scene):
    def body():
        line = scene.add(Line())
        line.is_closing = True
        scene.look(1.0)
        scene.add(line)
        scene.look(2.0 + CLOSE_LIMIT_S)
        assert len(line.ends) == 1
        scene.watch.close()

    in_loop(body)


def test_our_own_stall_is_not_held_against_the_peers(scene):
    def body():
        line = scene.add(Line())
        scene.look(INTERVAL_S + 1)
        assert line.pings == 1
        # The loop stands still for a minute; the pong lies in the kernel's buffer meanwhile.
        scene.look_late(INTERVAL_S + 61)
        assert line.ends == []
        assert scene.counters == {"watch_late": 1}
        line.ping_sent_at, line.last_received = 0.0, scene.clock.now
        scene.look(INTERVAL_S + 62)
        assert line.ends == []

    in_loop(body)


def test_late_look_still_forgets_closed_legs(scene):
    def body():
        scene.add(Line()).is_open = False
        scene.look_late(INTERVAL_S)
        assert not scene.watch._legs
        scene.watch.close()

    in_loop(body)


def test_peer_that_owes_something_is_cut_although_it_answers_pings(scene):
    def body():
        line = Line()
        line.clock = scene.clock
        stuck_at_s = 1005.0
        scene.watch.add(cast(Leg, line), is_stuck=lambda now: now > stuck_at_s)
        scene.look(5.0)
        assert line.ends == []
        scene.look(6.0)
        assert [code for code, _ in line.ends] == [1006]
        assert scene.counters == {"legs_without_events": 1}

    in_loop(body)
