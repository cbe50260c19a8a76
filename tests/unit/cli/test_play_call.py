"""``fastagent call``: formats, addresses, what is printed, and that a call is never left open."""

import asyncio
import io
from types import SimpleNamespace
from typing import Any

import pytest

from fastagent.cli.call import Narrator, media_formats, play_call, save_recording
from fastagent.errors import ConfigurationError, LegConnectError, LegTimeoutError
from fastagent.testing.caller_script import (
    AwaitEndStep,
    CallerScript,
    HangUpStep,
    KeysStep,
    PauseStep,
    SayStep,
    ScriptReport,
)


def test_formats_are_read_in_order():
    assert media_formats("raw/mulaw, raw/lpcm16_24") == ("raw/mulaw", "raw/lpcm16_24")


@pytest.mark.parametrize("text", ["foo/bar", "", "raw/mulaw,", "raw/mulaw,foo/bar"])
def test_unknown_format_is_refused_and_the_known_ones_named(text):
    with pytest.raises(ConfigurationError, match=r"raw/lpcm16_24.*raw/mulaw.*wav/"):
        media_formats(text)


def test_narrator_tells_each_step_and_keeps_keys_to_itself():
    out = io.StringIO()
    narrator = Narrator(out)
    for step in (SayStep("hello"), SayStep(""), PauseStep(2), KeysStep("4711"), AwaitEndStep(), HangUpStep()):
        narrator.step(step)
    told = [line.split(" s  ", 1)[1].split(maxsplit=1)[1] for line in out.getvalue().splitlines()]
    assert told == [
        "hello",
        "(plays the recording)",
        "(waits 2 s)",
        "(presses 4 keys)",
        "(waits for the bot to end the call)",
        "(hangs up)",
    ]


def test_summary_tells_the_end_and_the_reply_times():
    out = io.StringIO()
    Narrator(out).summary(ScriptReport([0.5, 0.25, 2.0], "bot", "bot-disconnected"))
    assert "by the bot (bot-disconnected)" in out.getvalue()
    assert "median 0.50 s, worst 2.00 s" in out.getvalue()


class Phone:
    """A phone whose server is `outcome`; writes down how it was left."""

    def __init__(self, outcome: str = "") -> None:
        self.outcome = outcome
        self.is_connected = False
        self.hang_ups = 0
        self.begun = asyncio.Event()
        self.line: Any = SimpleNamespace(
            is_over=False, refusal="", media_name="?", bot_words={}, end_code="", streams=[]
        )

    async def connect(self, url: str, token: str | None) -> None:
        if self.outcome == "unreachable":
            raise LegConnectError("carrier", "ConnectionRefusedError", retryable=True)
        self.is_connected = True

    async def initiate(self) -> None:
        if self.outcome == "refused":
            self.line.is_over, self.line.refusal = True, "no room"

    async def wait_until(self, claim: Any, what: str, *, timeout_s: float) -> None:
        self.begun.set()
        await asyncio.Event().wait()

    async def hang_up(self, *, timeout_s: float) -> None:
        self.hang_ups += 1
        self.line.is_over = True
        if self.outcome == "never closes":
            raise LegTimeoutError("carrier", "waited", retryable=False)

    async def close(self) -> None:
        self.is_connected = False


def ring(phone: Phone, *, cancel: bool = False) -> None:
    async def main() -> None:
        script, out = CallerScript.parse("hello"), Narrator(io.StringIO())
        call = asyncio.create_task(
            play_call(phone, "ws://127.0.0.1/", None, script, lambda _: (b"", 8000), out)  # type: ignore[arg-type]
        )
        if cancel:
            async with asyncio.timeout(10):
                await phone.begun.wait()
            call.cancel()
        await call

    asyncio.run(main())


@pytest.mark.parametrize("outcome", ["", "never closes"])
def test_call_that_is_broken_off_hangs_up_and_closes(outcome):
    phone = Phone(outcome)
    with pytest.raises(asyncio.CancelledError):
        ring(phone, cancel=True)
    assert phone.hang_ups == 1
    assert not phone.is_connected


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [("unreachable", "cannot reach ws://127.0.0.1/: ConnectionRefusedError"), ("refused", "no room")],
)
def test_server_that_takes_no_call_is_named(outcome, complaint):
    phone = Phone(outcome)
    with pytest.raises(ConfigurationError, match=complaint):
        ring(phone)
    assert phone.hang_ups == 0
    assert not phone.is_connected


def test_recording_that_cannot_be_written_is_a_clear_error(tmp_path):
    phone: Any = SimpleNamespace(recording=lambda sample_rate: b"\0\0\0\0")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "call.wav"):
        with pytest.raises(ConfigurationError, match="cannot write"):
            save_recording(phone, path)
    save_recording(phone, tmp_path / "new" / "call.wav")
    assert (tmp_path / "new" / "call.wav").stat().st_size == 48
