"""What FastAgent costs beside a byte relay: ``python -m benches.relay.run``.

Relay and bridge take turns under the same load, in one run, on one core; callers and model share the other.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from benches.relay.report import Verdict, format_tables, judge
from benches.relay.servers import (
    BRIDGE_PATH,
    PASSTHROUGH_COMMAND,
    RELAY_PATH,
    Server,
    bridge,
    haproxy_path,
    relay,
)
from benches.relay.toolchain import BuildError
from benches.relay.trial import TWILIO_FORMAT, Cores, Load, Trial, TrialError, run_trial

__all__ = ["main"]

FORMATS = ("raw/lpcm16_24", "raw/lpcm16", "raw/lpcm16_8", "raw/mulaw", TWILIO_FORMAT)
FEW_CALLS = 10
"""Where added latency is read: no queueing yet."""
SOME_CALLS = 50
"""From here on memory is taken to grow by calls alone."""
SOME_SECONDS = 1.0
PASSTHROUGH_CALLS = 100
"""Calls that one process of the FastAPI pass-through is given: they take about half of a core."""

EXAMPLES = """\
examples:
  python -m benches.relay.run                              all formats, 300 calls, 3 rounds: about 10 minutes
  python -m benches.relay.run --calls 100 --seconds 5 --repeats 1 --formats raw/lpcm16_24
  python -m benches.relay.run --relay-only --peer c        the relay alone, to see the machine's floor
  python -m benches.relay.run --bridge-command 'python other.py --port {port} --model {model_url}'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 0 unless nothing could be measured, or a goal was missed under ``--strict``."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _leave)
    cores = _cores(options)
    peer = options.peer or ("haproxy" if haproxy_path() else "c")
    trials: list[Trial] = []
    verdicts: list[Verdict] = []
    started_s = time.monotonic()
    try:
        for media_format in options.formats:
            relays: list[Trial] = []
            bridges: list[Trial] = []
            passthroughs: list[Trial] = []
            compared = _passthrough_calls(options, media_format)
            stages = _stages(options.calls, options.seconds, compared)
            for round_number in range(1, options.repeats + 1):
                progress = f"{media_format}, round {round_number} of {options.repeats}"
                load = Load("relay", RELAY_PATH, media_format, stages, options.forget_every, options.gap_ms)
                relays.append(
                    _trial(load, _RelayStarter(peer, cores.server, load), cores, f"{progress}, {peer}")
                )
                if not options.relay_only:
                    load = Load(
                        "bridge", BRIDGE_PATH, media_format, stages, options.forget_every, options.gap_ms
                    )
                    starter = _BridgeStarter(options.bridge_command, cores.server, load)
                    bridges.append(_trial(load, starter, cores, f"{progress}, bridge"))
                if compared:
                    load = replace(load, stages=_stages(compared, options.seconds))
                    starter = _BridgeStarter(PASSTHROUGH_COMMAND, cores.server, load, "fastapi")
                    passthroughs.append(_trial(load, starter, cores, f"{progress}, fastapi"))
            trials += relays + bridges + passthroughs
            if bridges:
                verdicts += judge(relays, bridges, passthroughs)
    except (BuildError, TrialError) as error:
        print(f"relay bench: {error}", file=sys.stderr)
        return 1
    print(_machine(cores, peer, time.monotonic() - started_s))
    print(format_tables(trials, verdicts))
    if options.json:
        _write_json(options.json, trials, verdicts, peer)
    is_good = all(verdict.is_met for verdict in verdicts) and not any(
        trial.is_void or trial.faults for trial in trials
    )
    return 1 if options.strict and not is_good else 0


class _RelayStarter:
    def __init__(self, peer: str, core: int | None, load: Load) -> None:
        self.peer = peer
        self.core = core
        self.load = load

    def __call__(self, model_port: int) -> AbstractContextManager[Server]:
        return relay(self.peer, model_port, self.core, self.load.stages[-1][0], self.load.limit_s)


class _BridgeStarter:
    def __init__(self, template: str | None, core: int | None, load: Load, name: str = "bridge") -> None:
        self.template = template
        self.core = core
        self.load = load
        self.name = name

    def __call__(self, model_port: int) -> AbstractContextManager[Server]:
        return bridge(
            self.template,
            model_port,
            self.core,
            self.load.stages[-1][0],
            carrier=self.load.carrier,
            name=self.name,
        )


def _trial(load: Load, start: _RelayStarter | _BridgeStarter, cores: Cores, what: str) -> Trial:
    trial = run_trial(load, start, cores)
    last = trial.stages[max(trial.stages)]
    faults = ", faults" if trial.faults else ""
    print(
        f"{what}: {last.cpu_ms_per_call_s:.3f} ms/call-s, "
        f"p99 {last.up['p99_us']:.0f}/{last.down['p99_us']:.0f} us, "
        f"swarm {last.swarm_cpu_percent:.0f} %{faults}",
        file=sys.stderr,
        flush=True,
    )
    return trial


def _passthrough_calls(options: argparse.Namespace, media_format: str) -> int:
    """Calls at which FastAPI stands beside the bridge; 0 where it does not."""
    if media_format != TWILIO_FORMAT or options.relay_only or options.bridge_command:
        return 0
    return int(min(options.passthrough_calls, options.calls))


def _stages(calls: int, seconds: float, compared: int = 0) -> tuple[tuple[int, float], ...]:
    """Levels of calls and measured seconds, rising; ``compared`` is one more level."""
    stages = {calls: seconds}
    if calls > SOME_CALLS:
        stages[SOME_CALLS] = SOME_SECONDS
    if calls > FEW_CALLS:
        stages[FEW_CALLS] = max(1.0, seconds / 2)
    if compared:
        stages[compared] = seconds
    return tuple(sorted(stages.items()))


def _cores(options: argparse.Namespace) -> Cores:
    allowed = sorted(os.sched_getaffinity(0))
    if options.no_pin or len(allowed) < 2:
        return Cores(None, None)
    return Cores(server=allowed[1], swarm=allowed[0])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benches.relay.run",
        description="CPU, latency, memory and losses of FastAgent beside a byte relay under the same calls.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=300, help="calls at the last stage, 1 to 5000 (300)")
    parser.add_argument("--seconds", type=float, default=12.0, help="measured seconds at the last stage (12)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds of relay and bridge; medians are judged (3)"
    )
    parser.add_argument("--formats", default=",".join(FORMATS), help="caller formats, comma-separated (all)")
    parser.add_argument("--peer", choices=("haproxy", "c"), help="the relay (HAProxy where installed)")
    parser.add_argument("--relay-only", action="store_true", help="measure the relay alone")
    parser.add_argument(
        "--bridge-command", metavar="COMMAND", help="another server; {port} and {model_url} are filled in"
    )
    parser.add_argument(
        "--passthrough-calls",
        type=int,
        default=PASSTHROUGH_CALLS,
        metavar="N",
        help=f"calls of FastAPI, measured beside {TWILIO_FORMAT}; 0 leaves it out ({PASSTHROUGH_CALLS})",
    )
    parser.add_argument("--no-pin", action="store_true", help="leave the cores to the scheduler")
    parser.add_argument(
        "--forget-every",
        type=int,
        default=0,
        metavar="N",
        help="leave out every Nth chunk: must show as loss",
    )
    parser.add_argument(
        "--gap-ms",
        type=int,
        default=300,
        metavar="MS",
        help="pause between utterances, in steps of 100 (300)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 when a goal is missed, a run is void or audio lost"
    )
    options = parser.parse_args(arguments)
    options.formats = tuple(options.formats.split(","))
    unknown = [name for name in options.formats if name not in FORMATS]
    if unknown:
        parser.error(f"expected formats among {', '.join(FORMATS)}, got {', '.join(unknown)}")
    if not 0 <= options.passthrough_calls <= 5000:
        parser.error("expected 0 to 5000 calls of the pass-through")
    is_wanted = any(_passthrough_calls(options, media_format) for media_format in options.formats)
    if is_wanted and (find_spec("fastapi") is None or find_spec("websockets") is None):
        parser.error("FastAPI is not installed: pip install '.[bench]', or --passthrough-calls 0")
    if not 0 <= options.gap_ms <= 60_000:
        parser.error("expected a gap of 0 to 60000 ms")
    if not 1 <= options.calls <= 5000 or not 0.5 <= options.seconds <= 600 or not 1 <= options.repeats <= 20:
        parser.error("expected 1 to 5000 calls, 0.5 to 600 seconds and 1 to 20 repeats")
    return options


def _machine(cores: Cores, peer: str, took_s: float) -> str:
    where = (
        "not pinned"
        if cores.server is None
        else f"server on core {cores.server}, swarm on core {cores.swarm}"
    )
    version = ""
    if peer == "haproxy":
        answer = subprocess.run(
            [haproxy_path() or "haproxy", "-v"], capture_output=True, text=True, check=False
        )
        version = " " + " ".join(answer.stdout.split()[2:3])
    return (
        f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, relay {peer}{version}; {where}; {took_s:.0f} s"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _write_json(path: Path, trials: Sequence[Trial], verdicts: Sequence[Verdict], peer: str) -> None:
    document = {
        "subject": "relay",
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "linux": platform.release()},
        "peer": peer,
        "trials": [
            asdict(trial)
            | {
                "void": trial.is_void,
                "disturbed": trial.is_disturbed,
                "behind": trial.is_behind,
                "faults": trial.faults,
                "kib_per_further_call": trial.kib_per_further_call,
            }
            for trial in trials
        ],
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _leave(signal_number: int, _frame: FrameType | None) -> None:
    # As an exception, so that every child is ended on the way out.
    raise SystemExit(128 + signal_number)


if __name__ == "__main__":
    sys.exit(main())
