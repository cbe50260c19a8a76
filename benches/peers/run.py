"""Climbs of FastAgent, the byte relay and the peers: ``python -m benches.peers.run [--peers NAME ...]``.

All take the same Twilio calls (`benches.relay`), one server at a time, on one core.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benches.peers.build import PeerBuildError, environment
from benches.peers.climb import Climb, Step, climb
from benches.peers.peer import PEERS, peers_named
from benches.relay.servers import (
    BRIDGE_PATH,
    DEFAULT_BRIDGE,
    RELAY_PATH,
    Server,
    bridge,
    haproxy_path,
    relay,
)
from benches.relay.toolchain import BuildError
from benches.relay.trial import TWILIO_FORMAT, Cores, Load, StartServer
from fastagent import __version__

__all__ = ["Entrant", "cores", "entrants", "main", "measure", "relay_version"]

GAP_MS = 700
"""Pause between the model's utterances: room for what a server plays later than it hears it."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A server that may climb."""

    name: str
    title: str
    version: str
    mode: str
    """``relay`` or ``bridge``, as `benches.relay.trial` calls them."""
    command: str | None = None
    """Of a bridge; ours as its users have it when there is none."""

    def start(self, load: Load, core: int | None) -> StartServer:
        """How it is started for a load."""
        calls = load.stages[-1][0]

        def on(model_port: int) -> AbstractContextManager[Server]:
            if self.mode == "relay":
                return relay(self.name_of_relay, model_port, core, calls, load.limit_s)
            return bridge(self.command, model_port, core, calls, carrier=load.carrier, name=self.name)

        return on

    @property
    def name_of_relay(self) -> str:
        return "haproxy" if haproxy_path() else "c"

    def load(self, stages: tuple[tuple[int, float], ...]) -> Load:
        """Calls of the same kind for everybody."""
        path = RELAY_PATH if self.mode == "relay" else BRIDGE_PATH
        return Load(self.mode, path, TWILIO_FORMAT, stages, gap_ms=GAP_MS)


def entrants(peers: Sequence[str], remarks: list[str]) -> list[Entrant]:
    """The byte relay, FastAgent without and with its ears, and these peers with their environments made.

    Args:
        peers: names among `PEERS`.
        remarks: gets a line for each peer whose environment could not be made.
    """
    found = houses_own()
    for peer in peers_named(peers) if peers else []:
        try:
            python = environment(peer)
        except PeerBuildError as error:
            remarks.append(f"{peer.title} was not measured: {str(error).splitlines()[0]}")
            continue
        # Isolated: our own packages are none of its business.
        command = f"{shlex.quote(str(python))} -I {shlex.quote(str(peer.server))}"
        command += " --port {port} --model {model_url}"
        found.append(Entrant(peer.name, peer.title, peer.version, "bridge", command))
    return found


def houses_own() -> list[Entrant]:
    """The relay that only copies bytes, and FastAgent: judged as its peers are, and as its users have it."""
    relay_title = "HAProxy, copies bytes" if haproxy_path() else "C relay, copies bytes"
    return [
        Entrant("relay", relay_title, "", "relay"),
        # The model hears who interrupts, as it does for the peers.
        Entrant("fastagent", "FastAgent", __version__, "bridge", f"{DEFAULT_BRIDGE} --set barge_in=model"),
        Entrant("fastagent-ears", "FastAgent, own ears", __version__, "bridge"),
    ]


def relay_version() -> str:
    """The byte relay by name and version."""
    program = haproxy_path()
    if program is None:
        return "C relay of this bench"
    answer = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=False)
    return " ".join(["HAProxy", *answer.stdout.split()[2:3]])


def cores() -> Cores:
    """A core for the server and one for the swarm; with a single one the scheduler decides."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(None, None) if len(allowed) < 2 else Cores(server=allowed[1], swarm=allowed[0])


def measure(
    chosen: Sequence[Entrant], levels_of: Callable[[Entrant], Sequence[int]], seconds: float
) -> list[Climb]:
    """Let each entrant climb.

    Args:
        chosen: who.
        levels_of: calls at once, rising.
        seconds: what is measured at each level.

    Raises:
        BuildError: there is no C compiler.
    """
    where = cores()

    def start_of(entrant: Entrant) -> Callable[[Load], StartServer]:
        return lambda load: entrant.start(load, where.server)

    def told_of(entrant: Entrant) -> Callable[[Step], None]:
        return lambda step: print(_line(entrant, step), file=sys.stderr, flush=True)

    return [
        Climb(
            one.name,
            one.title,
            one.version,
            climb(
                levels_of(one),
                one.load,
                start_of(one),
                where,
                seconds=seconds,
                told=told_of(one),
            ),
        )
        for one in chosen
    ]


def _line(entrant: Entrant, step: Step) -> str:
    if step.failure:
        return f"{entrant.title}, {step.calls} calls: {step.failure}"
    return (
        f"{entrant.title}, {step.calls} calls: {step.cpu_ms_per_call_s:.2f} ms/call-s, "
        f"p50 {step.up_p50_ms:.2f}/{step.down_p50_ms:.2f} ms, "
        f"p99 {step.up_p99_ms:.2f}/{step.down_p99_ms:.2f} ms, "
        f"core {step.core_percent:.0f} %, others {step.others_percent:.0f} %, lost {step.lost_percent:.2f} %"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Climb and print; 0, or 1 when nothing could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.peers.run", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--peers", nargs="*", default=[p.name for p in PEERS], help="which of them (all); none for ours alone"
    )
    parser.add_argument("--levels", default="10,25,50,100", help="calls at once, rising (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured at each level (%(default)s)")
    options = parser.parse_args(arguments)
    levels = [int(level) for level in options.levels.split(",")]
    remarks: list[str] = []
    try:
        measure(entrants(options.peers, remarks), lambda _: levels, options.seconds)
    except (BuildError, ValueError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    for remark in remarks:
        print(remark, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
