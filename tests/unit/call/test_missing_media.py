"""The caller's silent line: when it is asked about, when it is given up; the clock is a double."""

import asyncio
from collections.abc import Callable

import pytest

from fastagent.call import missing_media
from fastagent.call.missing_media import LOOK_S, MissingMedia

PROMPT_S, GIVE_UP_S = 15.0, 30.0


class Clock:
    """Stands for the module's ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Scene:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.messages = 0
        self.told: list[str] = []
        self.watch = MissingMedia(
            lambda: self.messages,
            prompt_s=PROMPT_S,
            give_up_s=GIVE_UP_S,
            on_missing=lambda: self.told.append("missing"),
            on_gone=lambda: self.told.append("gone"),
        )

    def look(self, late_s: float = 0.0) -> None:
        """The timer fires."""
        assert self.watch._timer is not None
        self.watch._timer.cancel()
        self.clock.now += LOOK_S + late_s
        self.watch._look()

    def pass_s(self, seconds: int) -> None:
        for _ in range(seconds):
            self.look()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Scene], None]], None]:
    def run(body: Callable[[Scene], None]) -> None:
        async def main() -> None:
            clock = Clock()
            monkeypatch.setattr(missing_media, "time", clock)
            scene = Scene(clock)
            body(scene)
            scene.watch.end()

        asyncio.run(main())

    return run


def test_line_without_media_is_asked_about_once_and_then_given_up(play):
    def body(scene: Scene) -> None:
        scene.watch.begin()
        scene.pass_s(14)
        assert scene.told == []
        scene.pass_s(1)
        assert scene.told == ["missing"]
        scene.pass_s(14)
        assert scene.told == ["missing"]
        scene.pass_s(1)
        assert scene.told == ["missing", "gone"]
        assert scene.watch._timer is None

    play(body)


def test_media_that_comes_again_begins_the_wait_anew(play):
    def body(scene: Scene) -> None:
        scene.watch.begin()
        for _ in range(3):
            scene.pass_s(16)
            scene.messages += 1
            scene.pass_s(1)
        assert scene.told == ["missing"] * 3

    play(body)


def test_closed_stream_owes_nothing(play):
    def body(scene: Scene) -> None:
        scene.watch.begin()
        scene.pass_s(14)
        scene.watch.end()
        assert scene.watch._timer is None
        scene.clock.now += 100
        scene.watch.begin()
        scene.pass_s(14)
        assert scene.told == []

    play(body)


def test_our_own_stall_is_not_held_against_the_line(play):
    def body(scene: Scene) -> None:
        scene.watch.begin()
        scene.pass_s(10)
        scene.look(late_s=60.0)
        assert scene.told == []
        scene.pass_s(4)
        assert scene.told == ["missing"]

    play(body)
