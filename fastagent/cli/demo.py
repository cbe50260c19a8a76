"""``fastagent demo``: a whole spoken call on the embedded engine, no key and no network."""

import argparse
import json
import logging
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fastagent.agent import FastAgent, Transition
from fastagent.call import CallSummary
from fastagent.cli.call import Narrator, caller_voice, media_formats, play_call, save_recording
from fastagent.server.lines.agent import DEMO_PATH
from fastagent.server.process import run_server
from fastagent.settings import LOCAL_REALTIME, Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.caller_script import CallerScript, ScriptReport
from fastagent.testing.phone import Phone
from fastagent.testing.twilio_phone import TwilioPhone

__all__ = ["DEFAULT_EXAMPLE", "EXAMPLES", "Example", "PlayedCall", "add_parser", "play_example"]

EPILOG = """\
examples:
  fastagent demo
  fastagent demo banking
  fastagent demo --media raw/mulaw --out recordings/demo.wav
  fastagent demo retail --browser

A synthetic caller rings over the AudioCodes protocol, a Realtime server with real ears and a real voice
answers, and a finite state agent does the work. With --browser you are the caller: a page with a microphone
is served until Ctrl-C. Needs: pip install 'fastagent[local]'.
"""


@dataclass(frozen=True, slots=True)
class Example:
    """An agent of `fastagent.examples`, and a call that shows it."""

    script: str
    """What the caller does (see `CallerScript`)."""
    outcome: str
    """The name of what the call is to lead to, among the results of the agent's task."""

    @staticmethod
    def agent(name: str) -> FastAgent:
        """The agent of an example, made anew, as some remember earlier calls."""
        module = import_module(f"fastagent.examples.{name}")
        made: FastAgent = getattr(module, f"{name}_agent")()
        return made


EXAMPLES = {
    "appointment": Example(
        """\
i would like to book an appointment
on monday
what are your opening hours
at three pm
yes please
no thank you
""",
        "appointment",
    ),
    "banking": Example(
        """\
i would like to transfer money
dtmf 482913
two five eight zero
to savings
two hundred dollars
is a transfer free
yes please
my balance please
no thank you
""",
        "payments",
    ),
    "healthcare": Example(
        """\
i would like an appointment
my back hurts
no i do not
four
yes
how much does it cost
on tuesday
in the morning
yes please
no thank you
""",
        "visit",
    ),
    "retail": Example(
        """\
i would like to return my order
four zero two one eight
dtmf 10115
it is broken
how much does it cost
yes please
yes
status please
no thank you
""",
        "return",
    ),
    "enterprise": Example(
        """\
reset my password
yes
one zero four two
dtmf 7391
email
what are your opening hours
dtmf 1
report a problem
the printer
yes please
no thank you
""",
        "reset",
    ),
}
DEFAULT_EXAMPLE = "appointment"
DEMO_PUBLIC_URL = "https://demo.invalid"
"""What Twilio would know this machine by; nobody resolves it."""
DRAIN_TIMEOUT_S = 5.0
"""After a Ctrl-C nobody is on the line any more."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "demo",
        help="a whole spoken call, no key and no network",
        description="Have one of the example agents called by telephone, on this machine alone.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "example",
        nargs="?",
        choices=sorted(EXAMPLES),
        default=DEFAULT_EXAMPLE,
        help=f"who answers (default {DEFAULT_EXAMPLE})",
    )
    parser.add_argument(
        "--carrier",
        choices=("audiocodes", "twilio"),
        default="audiocodes",
        help="whose protocol the call comes by (default audiocodes)",
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
    parser.add_argument(
        "--browser", action="store_true", help="serve a page with a microphone instead of calling"
    )
    parser.add_argument("--port", type=int, default=8000, help="of that page (default 8000; 0 picks one)")
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


@dataclass(frozen=True, slots=True)
class PlayedCall:
    """A call that was made, from both ends."""

    phone: Phone[Any]
    report: ScriptReport
    summary: CallSummary | None
    """What the server knows of it."""

    def outcome(self, name: str) -> Any:
        """What a task found under a name; None when no task did."""
        results = [] if self.summary is None else [run["result"] for run in self.summary.results]
        return next((result[name] for result in results if name in result), None)


async def play_example(
    agent: FastAgent,
    script: str,
    narrator: Narrator,
    formats: tuple[str, ...],
    *,
    render: Callable[[str], tuple[bytes, int]],
    carrier: str = "audiocodes",
    realtime_url: str = LOCAL_REALTIME,
) -> PlayedCall:
    """Serve an agent on this machine, and call it.

    Args:
        formats: offered by AudioCodes; Twilio has one only.
        carrier: ``audiocodes`` or ``twilio``.
        realtime_url: of the model; by default an embedded engine is started for the call.
    """
    teller = _Teller(narrator)
    # Caller, server and engine share this machine, and its load keeps nobody out.
    settings = Settings(
        port=0,
        realtime_url=realtime_url,
        admission_lag_ms=0,
        admission_cpu_percent=0,
        drain_timeout_s=DRAIN_TIMEOUT_S,
    )
    phone: Phone[Any] = AudioCodesPhone(LineOptions(formats=formats))
    token = None
    if carrier == "twilio":
        # Twilio's doors open to signatures alone: the call is signed with a key made for it.
        token = secrets.token_hex(16)
        settings = settings.with_changes(twilio_auth_tokens=(token,), public_url=DEMO_PUBLIC_URL)
        phone = TwilioPhone(public_url=DEMO_PUBLIC_URL)
    async with run_server(agent, settings, observers=[teller]) as server:
        url = server.audiocodes_url if token is None else server.twilio_url
        steps = CallerScript.parse(script)
        report = await play_call(phone, url, token, steps, render, narrator, tells_bot=False)
    return PlayedCall(phone, report, teller.summary)


async def run(options: argparse.Namespace) -> int:
    """Make the call, or serve the page."""
    logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s: %(message)s")
    if options.browser:
        return await _serve_page(EXAMPLES[options.example].agent(options.example), options.port)
    formats = media_formats(options.media)
    example = EXAMPLES[options.example]
    print("starting the embedded engine and the server ...", flush=True)
    narrator = Narrator(sys.stdout)
    played = await play_example(
        example.agent(options.example),
        example.script,
        narrator,
        formats,
        render=caller_voice(),
        carrier=options.carrier,
    )
    save_recording(played.phone, options.out)
    narrator.summary(played.report)
    summary = played.summary
    if summary is None:
        print("the server knows nothing of the call", file=sys.stderr)
        return 1
    outcome = played.outcome(example.outcome)
    states = [move.to_state for move in summary.transitions]
    print(f"states: {' -> '.join(states)}")
    print(f"{example.outcome}: {json.dumps(outcome)}")
    print(
        f"added latency, {'passthrough' if summary.is_passthrough else 'transcoding'} of {summary.media}, "
        f"inside the bridge per frame: p50 below {summary.frame_times.quantile_us(0.5):.0f} µs, "
        f"p99 below {summary.frame_times.quantile_us(0.99):.0f} µs, {summary.frame_times.total} frames"
    )
    print(f"recording: {options.out} (stereo: left caller, right bot)")
    violations = played.phone.line.violations
    for violation in violations:
        print(f"protocol: {violation.rule} {violation.detail}", file=sys.stderr)
    return 0 if outcome and played.report.ended_by == "bot" and not violations else 1


async def _serve_page(agent: FastAgent, port: int) -> int:
    """Serve the page with the microphone until told to stop."""
    settings = Settings(port=port, realtime_url=LOCAL_REALTIME, agent_demo=True)
    settings.check()
    print("starting the embedded engine and the server ...", flush=True)
    async with run_server(
        agent, settings, observers=[_Teller(Narrator(sys.stdout))], handle_signals=True
    ) as server:
        # Browsers give the microphone to pages of this machine, and to those behind TLS.
        print(f"open http://localhost:{server.port}{DEMO_PATH} and press Call (Ctrl-C ends)", flush=True)
    return 0
