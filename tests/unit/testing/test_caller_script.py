"""CallerScript: how a script is read, and the order in which its steps are played."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastagent.errors import ConfigurationError, LegClosedError, LegTimeoutError
from fastagent.testing import caller_script
from fastagent.testing.caller_script import (
    AwaitEndStep,
    CallerScript,
    HangUpStep,
    KeysStep,
    PauseStep,
    SayStep,
)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("book an appointment", [SayStep("book an appointment")]),
        (
            "  spaces around  \n\n# a comment\n   # another\nsecond",
            [SayStep("spaces around"), SayStep("second")],
        ),
        ("interrupt 1.5: what about: colons", [SayStep("what about: colons", 1.5)]),
        ("interrupt 0:now", [SayStep("now", 0.0)]),
        ("pause 2", [PauseStep(2.0)]),
        ("pause   0.25", [PauseStep(0.25)]),
        ("dtmf 12#", [KeysStep("12#")]),
        ("dtmf *A9", [KeysStep("*A9")]),
        ("hang up", [HangUpStep()]),
        ("hang up the picture", [SayStep("hang up the picture")]),
        ("pauses are fine\r\nhang up\r\n", [SayStep("pauses are fine"), HangUpStep()]),
    ],
)
def test_each_line_is_a_step(text, steps):
    assert list(CallerScript.parse(text).steps) == steps


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no step"),
        ("# only a comment\n\n", "holds no step"),
        ("hello\npause", "line 2: expected a number of seconds after 'pause'"),
        ("pause two", "line 1: expected a number"),
        ("pause -1", "line 1: expected a number"),
        ("pause nan", "line 1: expected a number"),
        ("pause inf", "line 1: expected a number"),
        ("# comment\n\ninterrupt soon: hello", "line 3: expected a number of seconds after 'interrupt'"),
        ("interrupt 1.5", "line 1: expected a colon and words"),
        ("interrupt 1.5: ", "line 1: expected a colon and words"),
        ("interrupt -1: hello", "line 1: expected a number"),
        ("dtmf", "line 1: expected keys"),
        ("dtmf 12x", "line 1: expected keys"),
    ],
)
def test_step_that_cannot_be_read_is_named_by_its_line(text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        CallerScript.parse(text)


def test_keys_and_words_stay_out_of_errors_and_reprs():
    with pytest.raises(ConfigurationError) as caught:
        CallerScript.parse("dtmf 4711x")
    assert "4711" not in str(caught.value)
    assert "4711" not in repr(CallerScript.parse("dtmf 4711").steps)
    assert "secret" not in repr(CallerScript.parse("secret words").steps)


class Phone:
    """Answers whatever is said with another utterance; ends the call as it is told to."""

    def __init__(
        self, *, ends_after: int | None = None, loses_line: bool = False, never_ends: bool = False
    ) -> None:
        self.done: list[str] = []
        self.ends_after = ends_after
        self.loses_line = loses_line
        self.never_ends = never_ends
        self.line: Any = SimpleNamespace(
            streams=[self._utterance()], is_playing=lambda now: False, is_over=False, end_code=""
        )

    def _utterance(self) -> Any:
        return SimpleNamespace(first_chunk_at_s=asyncio.get_running_loop().time())

    async def say(self, pcm: bytes, sample_rate: int) -> None:
        self.done.append(f"say {len(pcm)} bytes at {sample_rate}")
        self.line.streams.append(self._utterance())
        if len(self.line.streams) - 1 == self.ends_after:
            self.line.end_code = "" if self.loses_line else "bot-disconnected"
            raise LegClosedError("carrier", "closed", retryable=True, code=1000)

    def dtmf(self, digits: str) -> bool:
        self.done.append(f"{len(digits)} keys")
        return True

    async def hang_up(self) -> None:
        self.done.append("hang up")
        self.line.is_over, self.line.end_code = True, "client-disconnected"

    async def wait_ended(self, *, timeout_s: float) -> None:
        if self.never_ends:
            raise LegTimeoutError("carrier", "waited", retryable=False)
        self.line.is_over, self.line.end_code = True, "bot-disconnected"

    async def wait_until(self, claim: Callable[[Any], object], what: str, *, timeout_s: float) -> None:
        async with asyncio.timeout(10):
            while not claim(self.line):  # noqa: ASYNC110 - time alone may make it true
                await asyncio.sleep(0.001)


def play(text: str, **options: Any) -> tuple[list[str], list[Any], Any]:
    async def main() -> tuple[list[str], list[Any], Any]:
        phone, told = Phone(**options), []
        render = lambda text: (bytes(2 * len(text)), 16_000)  # noqa: E731
        report = await CallerScript.parse(text).play(phone, render, on_step=told.append)  # type: ignore[arg-type]
        return phone.done, told, report

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def bot_pauses_for_no_time(monkeypatch):
    monkeypatch.setattr(caller_script, "SETTLE_S", 0.0)


def test_steps_are_told_and_done_in_order_and_the_hang_up_is_the_last():
    done, told, report = play("hello\ndtmf 12\npause 0\nhang up\nnever said")
    assert done == ["say 10 bytes at 16000", "2 keys", "hang up"]
    assert told == [SayStep("hello"), KeysStep("12"), PauseStep(0.0), HangUpStep()]
    assert (report.ended_by, report.end_code) == ("caller", "client-disconnected")
    assert len(report.reply_times_s) == 1


def test_script_without_a_hang_up_waits_for_the_bot_to_end_the_call_and_says_so():
    _, told, report = play("hello")
    assert told == [SayStep("hello"), AwaitEndStep()]
    assert (report.ended_by, report.end_code) == ("bot", "bot-disconnected")


def test_caller_hangs_up_on_a_bot_that_never_does():
    done, _, report = play("hello", never_ends=True)
    assert done[-1] == "hang up"
    assert report.ended_by == "caller"


@pytest.mark.parametrize(("loses_line", "ended_by"), [(False, "bot"), (True, "lost")])
def test_call_that_ends_early_says_whose_doing_it_was(loses_line, ended_by):
    done, told, report = play("one\ntwo\nthree", ends_after=2, loses_line=loses_line)
    assert len(done) == 2
    assert told == [SayStep("one"), SayStep("two")]
    assert report.ended_by == ended_by
