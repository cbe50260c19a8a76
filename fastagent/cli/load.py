"""``fastagent load``: many synthetic calls to a server, and a report of how it bore them."""

import argparse
import asyncio
import itertools
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from fastagent.errors import ConfigurationError
from fastagent.load.caller import Target
from fastagent.load.knee import FIRST_LEVEL, KneeSearch
from fastagent.load.limits import DEFAULT_LIMITS, parse_limit
from fastagent.load.lines import MEDIA
from fastagent.load.model import ModelOptions
from fastagent.load.order import LoadTest
from fastagent.load.page import page
from fastagent.load.plan import DURATION_S, OPENING_PER_S, SETTLE_S, STEP_S, Plan, Stage, parse_rate
from fastagent.load.report import Report, Second
from fastagent.load.run import LoadRun
from fastagent.load.scenario import Scenario
from fastagent.load.speech import Speech, lay_words
from fastagent.testing.fault_flow import Shape

__all__ = ["add_parser"]

EPILOG = """\
examples:
  # terminal 1: a server whose model is the one in the load test
  FASTAGENT_REALTIME_URL=ws://127.0.0.1:9200/v1/realtime OPENAI_API_KEY=none fastagent serve MODULE:AGENT
  # terminal 2
  fastagent load --model-listen 127.0.0.1:9200 --calls 50 --duration 30 --limit p99_ms=5 --limit failed=0
  fastagent load --model-listen 127.0.0.1:9200 --steps 50,100,200 --html load.html --json load.json
  fastagent load --model-listen 127.0.0.1:9200 --find-knee --limit p99_ms=20 --limit failed=0
  fastagent load --carrier twilio --token "$TWILIO_AUTH_TOKEN" --public-url https://h.example --rate 5/s \\
                 --call-s 20
  # any server that takes Twilio Media Streams and speaks to a Realtime API, without a webhook
  fastagent load --carrier twilio --stream-url ws://127.0.0.1:5050/media-stream --calls 20
  # a server with a model of its own: turns, barge-in and setup are measured, the ways through it are not
  fastagent load --no-model --calls 10 --script booking.txt --voice espeak

  # the generator against itself: what of every figure is its own
  fastagent load --carrier realtime --calls 200 --duration 10

exit code:
  0  every limit was kept, or none was given
  1  a limit was broken; with --find-knee, no level kept them
  2  the command line is wrong or cannot be followed: a bad value, a missing file, a port in use
  3  VOID: the generator itself was too slow to be believed, or nothing was measured
docs/load.md tells what is measured how.
"""

DEFAULT_URLS = {
    "audiocodes": "ws://127.0.0.1:8000/audiocodes/webhook",
    "twilio": "http://127.0.0.1:8000/twilio/webhook",
    "agent": "ws://127.0.0.1:8000/agent/ws",
    "realtime": "ws://127.0.0.1:9200/v1/realtime",
}
DISPLAY_EVERY_S = 5
"""Where the display is not a terminal."""
VOICE_RATE = 16_000
WRONG_COMMAND_LINE = 2
CALLER_VOICE = "en-gb"


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "load",
        help="put a server under the load of many synthetic calls",
        description="Call a server many times at once, speak, listen, and report latency, failures and cost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whom = parser.add_argument_group("whom to call")
    whom.add_argument(
        "--carrier", choices=sorted(DEFAULT_URLS), default="audiocodes", help="protocol of callers"
    )
    whom.add_argument("--url", help="the bot URL, or the webhook's (default: on this machine, port 8000)")
    whom.add_argument("--stream-url", metavar="URL", help="for Twilio: straight to a Media Streams socket")
    whom.add_argument("--token", help="bearer token; for Twilio the auth token that signs")
    whom.add_argument(
        "--public-url", default="", metavar="URL", help="for Twilio: the server's public address"
    )
    whom.add_argument("--bot", default="", help="bot or agent that is asked for")
    whom.add_argument("--media", default="", metavar="FORMAT", help="one format to offer, as raw/mulaw")
    whom.add_argument(
        "--number", default="+1555{n:07d}", metavar="PATTERN", help="callers' numbers; {n} counts"
    )
    many = parser.add_argument_group("how many")
    level = many.add_mutually_exclusive_group()
    level.add_argument("--calls", type=int, metavar="N", help="hold N calls (default 10)")
    level.add_argument("--steps", metavar="N,N,…", help="hold each level for --step-s")
    level.add_argument("--rate", metavar="N/s", help="begin so many calls a second, each for --call-s")
    level.add_argument("--find-knee", action="store_true", help="seek the most calls that keep the limits")
    many.add_argument(
        "--duration", type=float, default=DURATION_S, metavar="S", help="measured time (default 30)"
    )
    many.add_argument("--step-s", type=float, default=STEP_S, metavar="S", help="measured time of a level")
    many.add_argument(
        "--ramp", default=f"{OPENING_PER_S:g}/s", metavar="N/s", help="how fast a level is reached"
    )
    many.add_argument(
        "--settle-s", type=float, default=SETTLE_S, metavar="S", help="from a level to its measure"
    )
    many.add_argument("--call-s", type=float, metavar="S", help="length of a call (default: to the end)")
    many.add_argument("--most", type=int, default=2000, metavar="N", help="calls at which --find-knee stops")
    what = parser.add_argument_group("what callers do")
    what.add_argument(
        "--script", type=Path, metavar="FILE", help="steps, as for `fastagent call`, and 'drop'"
    )
    what.add_argument(
        "--say", action="append", metavar="LINE", help="a line to speak in turn; may be repeated"
    )
    what.add_argument("--voice", choices=("babble", "espeak"), help="espeak needs 'fastagent[local]'")
    for name, does in (
        ("barge-in", "speaks while the bot does"),
        ("dtmf", "presses a key"),
        ("drop", "loses the line"),
        ("hang-up", "hangs up"),
    ):
        what.add_argument(
            f"--{name}", type=float, default=0.0, metavar="P", help=f"chance that one {does}, per turn"
        )
    what.add_argument(
        "--fault", metavar="SPEC", help="delay_ms=20,jitter_ms=10,drop=0.01,… on the way, both ways"
    )
    what.add_argument("--seed", type=int, default=0, help="of everything that happens by chance")
    model = parser.add_argument_group("the model's side")
    model.add_argument(
        "--model-listen", default="127.0.0.1:9200", metavar="HOST:PORT", help="of the one in here"
    )
    model.add_argument("--no-model", action="store_true", help="the server has a model of its own")
    model.add_argument(
        "--model-silence-ms", type=int, default=500, metavar="MS", help="that ends a caller's turn"
    )
    model.add_argument("--model-delay-ms", type=int, default=0, metavar="MS", help="before each answer")
    model.add_argument("--model-greets", action="store_true", help="the model speaks first")
    out = parser.add_argument_group("the report")
    out.add_argument(
        "--limit", action="append", default=[], metavar="NAME=N", help="p99_ms=5, failed=0, cpu_ms=2 …"
    )
    out.add_argument("--json", type=Path, metavar="FILE", help="the whole report as JSON")
    out.add_argument("--html", type=Path, metavar="FILE", help="the report as one page with charts")
    out.add_argument("--pid", type=int, help="the server's process (default: who listens on its port here)")
    out.add_argument("--metrics-url", default="", metavar="URL", help="default: /metrics of the server")
    out.add_argument("--quiet", action="store_true", help="no progress display")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Run the test and write its report; gives the exit code."""
    try:
        return await _run(options)
    except ConfigurationError as error:  # not 1, which says that a limit was broken
        print(f"fastagent load: {error}", file=sys.stderr)
        return WRONG_COMMAND_LINE


async def _run(options: argparse.Namespace) -> int:
    test = _test(options)
    _check_writable(options.json, options.html)
    display = _Display(sys.stderr, is_quiet=options.quiet)
    load = LoadRun(test, on_ready=display.ready, on_second=display.second)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, load.stop)
    try:
        report = await load.run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    display.end()
    _print(report, sys.stdout)
    whole = report.as_json()
    for path, text in ((options.json, json.dumps(whole, indent=1)), (options.html, page(whole))):
        if path is not None:
            path.write_text(text, encoding="utf-8")
            print(f"report: {path}")
    return report.exit_code


def _test(options: argparse.Namespace) -> LoadTest:
    scenario = _scenario(options)
    limits = [limit for text in options.limit for limit in parse_limit(text)]
    if options.find_knee and not limits:
        limits = [limit for text in DEFAULT_LIMITS for limit in parse_limit(text)]
    model = None
    if not options.no_model:
        host, port = _address(options.model_listen)
        if options.model_silence_ms < 1 or options.model_delay_ms < 0:
            raise ConfigurationError("--model-silence-ms and --model-delay-ms: expected at least 1, and 0")
        model = ModelOptions(
            host, port, options.model_silence_ms, options.model_delay_ms, greets=options.model_greets
        )
    elif any(limit.name.startswith(("up", "down")) for limit in limits):
        raise ConfigurationError("--no-model: limits of up and down need the model's side in here")
    return LoadTest(
        target=_target(options),
        plan=_plan(options),
        scenario=scenario,
        voices=_voices(options, scenario),
        model=model,
        limits=tuple(limits),
        fault=_fault(options.fault),
        pid=options.pid,
        metrics_url=options.metrics_url,
        seed=options.seed,
    )


def _target(options: argparse.Namespace) -> Target:
    url = options.stream_url or options.url or DEFAULT_URLS[options.carrier]
    if options.stream_url and (options.carrier != "twilio" or options.url):
        raise ConfigurationError("--stream-url: for --carrier twilio only, and in place of --url")
    schemes = ("http", "https") if options.carrier == "twilio" and not options.stream_url else ("ws", "wss")
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError(f"--url: expected {schemes[0]}://HOST:PORT/… or {schemes[1]}://…")
    known = MEDIA[options.carrier]
    if options.media and options.media not in known:
        raise ConfigurationError(f"--media: expected one of {', '.join(sorted(known)) or 'nothing'}")
    try:
        options.number.format(n=1)
    except (ValueError, KeyError, IndexError):
        raise ConfigurationError("--number: expected a pattern like +1555{n:07d}") from None
    return Target(
        options.carrier, url, options.token, options.public_url, options.bot, options.media, options.number
    )


def _plan(options: argparse.Namespace) -> Plan:
    opening = {
        "opening_per_s": parse_rate(options.ramp),
        "settle_s": options.settle_s,
        "call_s": options.call_s,
    }
    if options.find_knee:
        if options.most < 1:
            raise ConfigurationError("--most: expected at least 1 call")
        knee = KneeSearch(first=min(FIRST_LEVEL, options.most), step_s=options.step_s, most=options.most)
        return Plan(knee=knee, **opening)
    if options.rate is not None:
        stages = [Stage(options.duration, rate_per_s=parse_rate(options.rate))]
    elif options.steps is not None:
        try:
            stages = [Stage(options.step_s, int(text)) for text in options.steps.split(",")]
        except ValueError:
            raise ConfigurationError("--steps: expected numbers of calls, like 50,100,200") from None
        if any(a.calls >= b.calls for a, b in itertools.pairwise(stages)):
            raise ConfigurationError("--steps: expected rising numbers of calls")
    else:
        stages = [Stage(options.duration, 10 if options.calls is None else options.calls)]
    return Plan(tuple(stages), **opening)


def _scenario(options: argparse.Namespace) -> Scenario:
    scenario = Scenario()
    if options.script is not None:
        try:
            scenario = Scenario.parse(options.script.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(f"cannot read {options.script}") from None
    if options.say:
        if options.script is not None:
            raise ConfigurationError("--say: not together with --script")
        scenario = replace(scenario, texts=tuple(options.say))
    chances = {name: getattr(options, name) for name in ("barge_in", "dtmf", "drop", "hang_up")}
    return replace(scenario, **chances)


def _voices(options: argparse.Namespace, scenario: Scenario) -> Mapping[str, Speech]:
    """Real speech, when it was asked for; babble needs nothing."""
    if options.voice != "espeak":
        return {}
    from fastagent.local.voice import Voice  # an optional extra

    voice = Voice()
    spoken = {}
    for text in scenario.spoken():
        words = text or "Hello, I would like to ask you something."
        pcm = voice.speak(words, voice=CALLER_VOICE, sample_rate=VOICE_RATE)
        spoken[text] = lay_words(pcm, VOICE_RATE)
    return spoken


def _fault(text: str | None) -> Shape | None:
    if text is None:
        return None
    scales = {
        "delay_ms": ("delay_s", 1e-3),
        "jitter_ms": ("jitter_s", 1e-3),
        "bytes_per_s": ("bytes_per_s", 1.0),
    }
    scales |= {name: (name, 1.0) for name in ("drop", "duplicate", "reorder", "corrupt")}
    given = {}
    try:
        for pair in text.split(","):
            name, _, number = pair.partition("=")
            field, scale = scales[name.strip()]
            given[field] = float(number) * scale
        return Shape(**given)  # type: ignore[arg-type]
    except (KeyError, ValueError):
        raise ConfigurationError(f"--fault: expected NAME=NUMBER,… of {', '.join(scales)}") from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationError("--model-listen: expected HOST:PORT")
    return host, int(port)


def _check_writable(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise ConfigurationError(f"cannot write {path}: no such directory")


class _Display:
    """One line that is written over and over, or on occasion where there is no terminal."""

    def __init__(self, out: TextIO, *, is_quiet: bool) -> None:
        self._out = out
        self._is_quiet = is_quiet
        self._seconds = 0

    def ready(self, model_url: str) -> None:
        """The first call comes next."""
        if model_url and not self._is_quiet:
            print(f"model's side: {model_url} (the server's Realtime URL)", file=self._out, flush=True)

    def second(self, second: Second) -> None:
        """Tell of a second."""
        self._seconds += 1
        if self._is_quiet:
            return
        text = (
            f"{second.at_s:6.0f} s  level {second.stage:>6}  live {second.live:5d}  "
            f"failed {second.failed:4d}  "
            f"up p99 {_ms(second.up_p99_ms)}  down p99 {_ms(second.down_p99_ms)}  "
            f"server {_ms(second.cpu_percent)} %  generator {100 * second.own_share:4.0f} %"
        )
        if self._out.isatty():
            print(f"\r{text}", end="", file=self._out, flush=True)
        elif self._seconds % DISPLAY_EVERY_S == 0:
            print(text, file=self._out, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._out.isatty() and not self._is_quiet:
            print(file=self._out)


def _ms(value: float | None) -> str:
    return "     –" if value is None else f"{value:6.2f}"


def _print(report: Report, out: TextIO) -> None:
    for stage in report.stages:
        durations = stage.durations
        print(f"{stage.name} calls: {stage.live} live, {stage.counts.get('failed', 0)} failed", file=out)
        for what in (
            "up",
            "down",
            "up_frame",
            "down_frame",
            "turn",
            "barge_in",
            "setup",
            "late",
            "read_late",
        ):
            of = durations[what]
            if of["n"]:
                figures = "  ".join(f"{q} {of[f'{q}_ms']:.3f}" for q in ("p50", "p95", "p99", "max"))
                print(f"  {what:<11} {figures} ms  (n {of['n']})", file=out)
        if stage.cpu_percent is not None:
            print(
                f"  server      CPU {stage.cpu_percent:g} %, {stage.cpu_ms} ms per call-second, "
                f"{stage.rss_mib} MiB, {stage.kib_per_call} KiB per call",
                file=out,
            )
        print(f"  generator   {100 * stage.own_share:.0f} % of its core", file=out)
        for reason, n in stage.failures.items():
            print(f"  failed      {n} x {reason}", file=out)
        for text in stage.breaches:
            print(f"  broken      {text}", file=out)
    knee = report.knee
    if knee is not None:
        next_one = "none that was tried did not" if knee.broken is None else f"{knee.broken} did not"
        print(f"knee: {knee.kept} calls kept every limit; {next_one}", file=out)
        if report.void:
            print("knee: a void level counts as one that did not, so it is no figure of the server", file=out)
    for reason in report.void:
        print(f"VOID: {reason}", file=out)
