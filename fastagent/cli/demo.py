"""``fastagent demo``: a whole spoken call on the embedded engine, no key and no network."""

import argparse
import json
import logging
import sys
from pathlib import Path

from fastagent.agent import Transition
from fastagent.call import CallSummary
from fastagent.cli.call import Narrator, caller_voice, media_formats, play_call, save_recording
from fastagent.examples import appointment
from fastagent.server.process import run_server
from fastagent.settings import LOCAL_REALTIME, Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.caller_script import CallerScript

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent demo
  fastagent demo --media raw/mulaw --out recordings/demo.wav

A synthetic caller rings over the AudioCodes protocol, a Realtime server with real ears and a real voice
answers, and a finite state agent books an appointment. Needs: pip install 'fastagent[local]'.
"""

SCRIPT = """\
i would like to book an appointment
on monday
what are your opening hours
at three pm
yes please
no thank you
"""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "demo",
        help="a whole spoken call, no key and no network",
        description="Book an appointment by telephone, on this machine alone.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--media", default="raw/lpcm16_24", help="format the carrier offers (default raw/lpcm16_24)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("recordings/demo.wav"),
        help="the recording (default recordings/demo.wav)",
    )
    parser.set_defaults(run=run)


class _Teller:
    """Prints what the server hears, says and decides."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self.summary: CallSummary | None = None

    def caller_said(self, conversation_id: str, text: str) -> None:
        self._narrator.line("heard", text)

    def bot_said(self, conversation_id: str, text: str) -> None:
        self._narrator.line("bot", text)

    def moved(self, conversation_id: str, transition: Transition) -> None:
        self._narrator.line("state", f"{transition.from_state or '(begin)'} -> {transition.to_state}")

    def ended(self, summary: CallSummary) -> None:
        self.summary = summary


async def run(options: argparse.Namespace) -> int:
    """Make the call."""
    logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s: %(message)s")
    formats = media_formats(options.media)
    settings = Settings(port=0, realtime_url=LOCAL_REALTIME)
    print("starting the embedded engine and the server ...", flush=True)
    narrator = Narrator(sys.stdout)
    teller = _Teller(narrator)
    phone = AudioCodesPhone(LineOptions(formats=formats))
    async with run_server(appointment.agent, settings, observers=[teller]) as server:
        script = CallerScript.parse(SCRIPT)
        report = await play_call(
            phone, server.audiocodes_url, None, script, caller_voice(), narrator, tells_bot=False
        )
    save_recording(phone, options.out)
    narrator.summary(report)
    summary = teller.summary
    if summary is None:
        print("the server knows nothing of the call", file=sys.stderr)
        return 1
    appointments = [
        result["result"]["appointment"] for result in summary.results if "appointment" in result["result"]
    ]
    states = [move.to_state for move in summary.transitions]
    print(f"states: {' -> '.join(states)}")
    print(f"appointment: {json.dumps(appointments[0] if appointments else None)}")
    print(
        f"added latency, {'passthrough' if summary.is_passthrough else 'transcoding'} of {summary.media}, "
        f"inside the bridge per frame: p50 below {summary.frame_times.quantile_us(0.5):.0f} µs, "
        f"p99 below {summary.frame_times.quantile_us(0.99):.0f} µs, {summary.frame_times.total} frames"
    )
    print(f"recording: {options.out} (stereo: left caller, right bot)")
    for violation in phone.line.violations:
        print(f"protocol: {violation.rule} {violation.detail}", file=sys.stderr)
    return 0 if appointments and report.ended_by == "bot" and not phone.line.violations else 1
