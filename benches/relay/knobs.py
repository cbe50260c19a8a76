"""What a knob is worth: ``python -m benches.relay.knobs 'gather=FASTAGENT_APPEND_MS=60'``.

The bridge runs as it is and with each variant, all at the same time, on one core, each under a load of the
relay bench of its own: what else goes on befalls all of them alike, so a busy machine leaves the ratio as it
is. A variant is a name and what its server is started with: variables, or a command in front
(``[/some/wrapper]``). Read the ratio and its range; the milliseconds are those of a crowded core. Three
variants at a time are enough for two cores.
"""

import argparse
import os
import shlex
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benches.relay.servers import BRIDGE_PATH, DEFAULT_BRIDGE, Server, bridge
from benches.relay.toolchain import BuildError
from benches.relay.trial import Cores, Load, Trial, TrialError, run_trial

__all__ = ["main"]

FEW_CALLS = 20
"""From here to the last stage the slope of memory is taken."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How one server is started."""

    name: str
    environment: dict[str, str]
    before: str
    """Put in front of the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all variants; 0 unless nothing could be measured."""
    options = _parse(arguments)
    allowed = sorted(os.sched_getaffinity(0))
    cores = Cores(server=allowed[-1], swarm=allowed[0]) if len(allowed) > 1 else Cores(None, None)
    variants = [Variant("as it is", {}, ""), *map(_variant, options.variants)]
    stages = ((FEW_CALLS, 1.0), (options.calls, options.seconds))
    load = Load("bridge", BRIDGE_PATH, options.format, stages, 0, 300)
    trials: dict[str, list[Trial]] = {one.name: [] for one in variants}

    def try_out(one: Variant) -> Trial:
        return run_trial(load, _Starter(one, cores.server, load), cores)

    try:
        with ThreadPoolExecutor(len(variants)) as pool:
            for number in range(options.repeats):
                # Whoever is started first is ahead of the others by a little: that goes round.
                first = number % len(variants)
                order = variants[first:] + variants[:first]
                for one, trial in zip(order, pool.map(try_out, order), strict=True):
                    trials[one.name].append(trial)
                    print(_line(one.name, [trial], []), file=sys.stderr, flush=True)
    except (BuildError, TrialError) as error:
        print(f"knobs: {error}", file=sys.stderr)
        return 1
    print("| variant | CPU ms/call-s | ratio | user | sys | p50 up µs | p99 up µs | KiB per call | faults |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in trials.items():
        print(_line(name, runs, trials["as it is"]))
    return 0


class _Starter:
    def __init__(self, variant: Variant, core: int | None, load: Load) -> None:
        self.variant = variant
        self.core = core
        self.load = load

    def __call__(self, model_port: int) -> AbstractContextManager[Server]:
        variables = shlex.join(f"{name}={value}" for name, value in self.variant.environment.items())
        template = f"env {variables} {self.variant.before} {DEFAULT_BRIDGE}"
        return bridge(
            template, model_port, self.core, self.load.stages[-1][0], carrier=self.load.carrier, name="bridge"
        )


def _variant(text: str) -> Variant:
    name, _, rest = text.partition("=")
    before, _, rest = rest[1:].partition("]") if rest.startswith("[") else ("", "", rest)
    pairs = (one.partition("=") for one in shlex.split(rest))
    return Variant(name, {variable: value for variable, _, value in pairs}, before)


def _line(name: str, runs: Sequence[Trial], base: Sequence[Trial]) -> str:
    lasts = [trial.stages[max(trial.stages)] for trial in runs]
    cpu = statistics.median(one.cpu_ms_per_call_s for one in lasts)
    bases = [trial.stages[max(trial.stages)].cpu_ms_per_call_s for trial in base]
    # Pairs of one round: what the machine does in a minute befalls both.
    ratios = [one.cpu_ms_per_call_s / other for one, other in zip(lasts, bases, strict=bool(bases))]
    faults = "; ".join(sorted({fault for trial in runs for fault in trial.faults}))
    figures = (
        f"{cpu:.3f}",
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})" if ratios else "",
        f"{statistics.median(one.user_ms_per_call_s for one in lasts):.3f}",
        f"{statistics.median(one.system_ms_per_call_s for one in lasts):.3f}",
        f"{statistics.median(one.up['p50_us'] for one in lasts):.0f}",
        f"{statistics.median(one.up['p99_us'] for one in lasts):.0f}",
        f"{statistics.median(trial.kib_per_further_call or 0.0 for trial in runs):.1f}",
    )
    return f"| {name} | " + " | ".join(figures) + f" | {faults} |"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.relay.knobs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("variants", nargs="*", help="NAME=[COMMAND IN FRONT]VARIABLE=VALUE …")
    parser.add_argument("--calls", type=int, default=60, help="calls of each at the last stage (60)")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured seconds of it (4)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; medians are shown (5)")
    parser.add_argument("--format", default="raw/mulaw", help="the callers' (raw/mulaw)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
