"""``fastagent call``: one synthetic call to a running server."""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from fastagent.audio import wav
from fastagent.audio.formats import PCM16_24K, AudioFormat, Encoding
from fastagent.errors import ConfigurationError, FastAgentError, LegError
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.caller_script import (
    AwaitEndStep,
    CallerScript,
    KeysStep,
    PauseStep,
    Progress,
    SayStep,
    ScriptReport,
)
from fastagent.testing.phone import Phone
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA

__all__ = ["Narrator", "add_parser", "caller_voice", "media_formats", "play_call", "save_recording"]

EPILOG = """\
examples:
  fastagent call --say "book an appointment for monday" --say "three pm" --say "yes please"
  fastagent call --script booking.txt --media raw/mulaw
  fastagent call --carrier twilio --token "$TWILIO_AUTH_TOKEN" --public-url https://h.example --say hello
  fastagent call --wav question.wav --url wss://bot.example.com/audiocodes/webhook --token "$AUDIOCODES_TOKEN"

A script holds one step a line: words to say, "interrupt 1.5: words", "pause 2", "dtmf 12#", "hang up".
The recording is stereo: left the caller, right the bot. Speaking lines needs: pip install 'fastagent[local]'.
"""

DEFAULT_URLS = {
    "audiocodes": "ws://127.0.0.1:8000/audiocodes/webhook",
    "twilio": "http://127.0.0.1:8000/twilio/webhook",
}
CALLER_VOICE = "en-gb"
CALLER_SAMPLE_RATE = 16_000
HANG_UP_TIMEOUT_S = 2.0
"""For the server to close after a call that was broken off here."""

Render = Callable[[str], tuple[bytes, int]]
"""Speech for a text: PCM16 and its sample rate in Hz."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "call",
        help="ring a running server as a synthetic caller",
        description="Ring a server as a telephone network does, speak, listen, and record both sides.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--carrier",
        choices=sorted(DEFAULT_URLS),
        default="audiocodes",
        help="whose protocol to speak (default audiocodes)",
    )
    parser.add_argument("--url", help="the bot URL, or the webhook's (default: on this machine, port 8000)")
    parser.add_argument("--token", help="bearer token; for Twilio the auth token that signs")
    parser.add_argument(
        "--public-url", metavar="URL", help="for Twilio: the server's FASTAGENT_PUBLIC_URL, if it is another"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--say", action="append", metavar="LINE", help="a line to speak; may be repeated")
    what.add_argument("--script", type=Path, metavar="FILE", help="a file of steps")
    what.add_argument("--wav", type=Path, metavar="FILE", help="a recording to play as the caller (mono)")
    parser.add_argument(
        "--media",
        metavar="FORMATS",
        help="formats the carrier offers, comma-separated (default: all raw ones; see the README)",
    )
    parser.add_argument("--bot", default="front-desk", help="bot name the carrier presents")
    parser.add_argument(
        "--out", type=Path, default=Path("call.wav"), help="the stereo recording (default call.wav)"
    )
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Make the call."""
    url = options.url or DEFAULT_URLS[options.carrier]
    _check_url(url, options.carrier)
    phone = _phone(options)
    if options.wav is not None:
        script = CallerScript([SayStep("")])
        render = _recorded(options.wav)
    else:
        text = "\n".join(options.say) if options.say else _read(options.script)
        script = CallerScript.parse(text)
        render = caller_voice()
    narrator = Narrator(sys.stdout)
    try:
        report = await play_call(phone, url, options.token, script, render, narrator)
    finally:
        if phone.line.streams or phone.line.said("caller"):
            save_recording(phone, options.out)
            print(f"recording: {options.out} (left caller, right bot)")
    narrator.summary(report)
    for violation in phone.line.violations:
        print(f"protocol: {violation.rule} {violation.detail}", file=sys.stderr)
    return 0 if report.ended_by in ("bot", "caller") and not phone.line.violations else 1


def _phone(options: argparse.Namespace) -> Phone[Any]:
    if options.carrier == "twilio":
        if options.media is not None:
            raise ConfigurationError("--media: Twilio has one format only")
        return TwilioPhone(TwilioOptions(fields={"bot": options.bot}), public_url=options.public_url or "")
    if options.media is None:
        return AudioCodesPhone(LineOptions(bot_name=options.bot))
    return AudioCodesPhone(LineOptions(bot_name=options.bot, formats=media_formats(options.media)))


class Narrator:
    """Prints a call as it goes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = time.monotonic()

    def line(self, who: str, what: str) -> None:
        """One line, with the time since the call began."""
        print(f"{time.monotonic() - self._begun:6.1f} s  {who:<7} {what}", file=self._out, flush=True)

    def step(self, step: Progress) -> None:
        """What the caller does."""
        match step:
            case SayStep():
                self.line("caller", step.text or "(plays the recording)")
            case PauseStep():
                self.line("caller", f"(waits {step.duration_s:g} s)")
            case KeysStep():
                self.line("caller", f"(presses {len(step.digits)} keys)")
            case AwaitEndStep():
                self.line("caller", "(waits for the bot to end the call)")
            case _:
                self.line("caller", "(hangs up)")

    def summary(self, report: ScriptReport) -> None:
        """How it ended, and how quickly the bot answered."""
        self.line("end", f"by the {report.ended_by} ({report.end_code or 'no code'})")
        if report.reply_times_s:
            times = sorted(report.reply_times_s)
            print(
                f"reply after the caller's last sound: median {times[len(times) // 2]:.2f} s, "
                f"worst {times[-1]:.2f} s",
                file=self._out,
            )


async def play_call(
    phone: Phone[Any],
    url: str,
    token: str | None,
    script: CallerScript,
    render: Render,
    narrator: Narrator,
    *,
    tells_bot: bool = True,
) -> ScriptReport:
    """Connect, play the script, tell what happens.

    However it is left, by Ctrl-C too, the caller hangs up: a server keeps a call whose socket merely closes.

    Args:
        tells_bot: print the bot's words as the carrier is told them (a server may not tell).

    Raises:
        ConfigurationError: nobody answers at ``url``, or the call was refused.
        LegError: the server fell silent, or went away while it was being rung.
    """
    try:
        await phone.connect(url, token)
    except LegError as error:
        raise ConfigurationError(
            f"cannot reach {url}: {error.reason} (is `fastagent serve` running?)"
        ) from None
    teller = asyncio.create_task(_tell_bot(phone, narrator)) if tells_bot else None
    try:
        await phone.initiate()
        if phone.line.refusal:
            raise ConfigurationError(f"the server refused the call: {phone.line.refusal}")
        narrator.line("line", f"connected, caller audio as {phone.line.media_name}")
        return await script.play(phone, render, on_step=narrator.step)
    finally:
        if teller is not None:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)
        if phone.is_connected and not phone.line.is_over:
            with contextlib.suppress(LegError):  # what ended the call is the story to tell, not this
                await asyncio.shield(phone.hang_up(timeout_s=HANG_UP_TIMEOUT_S))
        await phone.close()


async def _tell_bot(phone: Phone[Any], narrator: Narrator) -> None:
    """Print the bot's utterances as they begin: in words where the server tells them to the carrier."""
    told = 0

    def has_more(line: Any) -> bool:
        return len(line.streams) > told

    while True:
        await phone.wait_until(has_more, "the bot", timeout_s=3600)
        words = phone.line.bot_words
        for stream in phone.line.streams[told:]:
            narrator.line("bot", words.get(stream.opened_at_s, "(speaks)"))
        told = len(phone.line.streams)


def media_formats(text: str) -> tuple[str, ...]:
    """Format names, comma-separated, in the carrier's order of preference.

    Raises:
        ConfigurationError: one is not known; the message names those that are.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in AUDIOCODES_MEDIA:
            raise ConfigurationError(
                f"--media: unknown format {name!r}; known are {', '.join(sorted(AUDIOCODES_MEDIA))}"
            )
    return names


def caller_voice() -> Render:
    """Speech for the caller's lines.

    Raises:
        ConfigurationError: no voice is installed.
    """
    from fastagent.local.voice import Voice  # an optional extra

    voice = Voice()

    def render(text: str) -> tuple[bytes, int]:
        return voice.speak(text, voice=CALLER_VOICE, sample_rate=CALLER_SAMPLE_RATE), CALLER_SAMPLE_RATE

    return render


def _recorded(path: Path) -> Render:
    try:
        audio_format, channels, data = wav.read_wav(path)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except FastAgentError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if channels != 1:
        raise ConfigurationError(f"{path}: expected one channel, got {channels}")
    return lambda _: (_linear(audio_format, data), audio_format.sample_rate)


def _linear(audio_format: AudioFormat, data: bytes) -> bytes:
    from fastagent._native import g711

    if audio_format.encoding is Encoding.MULAW:
        return g711.ulaw_decode(data)
    if audio_format.encoding is Encoding.ALAW:
        return g711.alaw_decode(data)
    return data


def save_recording(phone: Phone[Any], path: Path) -> None:
    """Write the call as stereo WAV at 24 kHz: left the caller, right the bot.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    pcm = phone.recording(PCM16_24K.sample_rate)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav.header(PCM16_24K, 2, len(pcm)) + pcm)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: expected UTF-8 text") from None


def _check_url(url: str, carrier: str) -> None:
    schemes = ("http", "https") if carrier == "twilio" else ("ws", "wss")
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        is_usable = False
    if not is_usable:
        plain, safe = schemes
        raise ConfigurationError(
            f"--url: expected {plain}://HOST:PORT/… or {safe}://…, the port from 1 to 65535"
        )
