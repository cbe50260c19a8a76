"""One trial: a server, N calls through it, and what both cost."""

import json
import signal
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from benches.relay.cost import core_time, cpu_time, rss_kib
from benches.relay.servers import Server, ServerError, spawn
from benches.relay.toolchain import swarm_program
from benches.relay.webhook import TwilioWebhook, WebhookError

__all__ = ["TWILIO_FORMAT", "Cores", "Load", "StageResult", "Trial", "TrialError", "run_trial"]

TWILIO_FORMAT = "twilio/mulaw"
OVERHEAD_S = 90
"""Room for start, ramp, drain and hang-up in a run's time limit."""
SWARM_LIMIT_PERCENT = 80.0
"""A generator busier than this measures itself."""
FOREIGN_LIMIT_PERCENT = 10.0
"""Others on the server's core beyond this make a figure doubtful."""
BEHIND_P50_US = 20_000.0
"""A server whose middle chunk takes longer than a chunk lasts has not done the work of its window in it."""


class TrialError(Exception):
    """A trial gave no figures."""


class StartServer(Protocol):
    """Starts the server under test, given the model's port."""

    def __call__(self, model_port: int) -> AbstractContextManager[Server]: ...


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the two sides run; ``None`` leaves it to the scheduler."""

    server: int | None
    swarm: int | None


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a server."""

    mode: str
    """``relay`` or ``bridge``."""
    path: str
    media_format: str
    """``raw/...`` as AudioCodes names it, or ``twilio/mulaw``: Media Streams, which have no other."""
    stages: tuple[tuple[int, float], ...]
    """Calls and measured seconds; rising."""
    forget_every: int = 0
    """Every nth chunk is not sent, though booked: proves that losses are seen."""
    gap_ms: int = 300
    """Pause between the model's utterances; when short, a bridge may keep one play stream for several."""

    @property
    def carrier(self) -> str:
        """Whose messages the callers speak: ``audiocodes`` or ``twilio``."""
        return "twilio" if self.media_format == TWILIO_FORMAT else "audiocodes"

    @property
    def asks_webhook(self) -> bool:
        """Twilio asks a server what to do with a call; a relay has nothing to say."""
        return self.carrier == "twilio" and self.mode == "bridge"

    @property
    def limit_s(self) -> int:
        return int(sum(seconds for _, seconds in self.stages)) + OVERHEAD_S


@dataclass(frozen=True, slots=True)
class StageResult:
    """Steady load of ``calls`` calls."""

    calls: int
    cpu_ms_per_call_s: float
    user_ms_per_call_s: float
    system_ms_per_call_s: float
    rss_kib: int
    server_cpu_percent: float
    swarm_cpu_percent: float
    foreign_percent: float
    """Of the server's core, taken by others; 0 when not pinned."""
    steal_percent: float
    up: dict[str, float]
    """Caller to model: n, p50_us, p90_us, p99_us, p999_us, max_us."""
    down: dict[str, float]
    send_lateness: dict[str, float]


@dataclass(slots=True)
class Trial:
    """All figures of one server under one load."""

    server: str
    mode: str
    media_format: str
    stages: dict[int, StageResult] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    """The account of all audio, as the swarm closes it."""

    @property
    def is_void(self) -> bool:
        """The generator was too busy to be believed."""
        return any(stage.swarm_cpu_percent > SWARM_LIMIT_PERCENT for stage in self.stages.values())

    @property
    def is_disturbed(self) -> bool:
        """Others used the server's core."""
        return any(
            stage.foreign_percent > FOREIGN_LIMIT_PERCENT or stage.steal_percent > FOREIGN_LIMIT_PERCENT
            for stage in self.stages.values()
        )

    @property
    def is_behind(self) -> bool:
        """Audio waited for the server, so that its CPU figure is too low."""
        return any(
            max(stage.up["p50_us"], stage.down["p50_us"]) > BEHIND_P50_US for stage in self.stages.values()
        )

    @property
    def faults(self) -> list[str]:
        """What was lost, changed or broken; empty when all is well."""
        end = self.end
        counted = {
            "calls failed": end["failed"],
            "ms of uplink audio lost": end["up_lost_ms"],
            "ms of downlink audio lost": end["down_lost_ms"],
            "chunks out of place": end["stamps_wrong"],
            "chunks outside a play stream": end["orphan_chunks"],
            "play streams that overlap": end["overlapping_streams"],
            "hang-ups": end["hangups"],
            "cancels and truncations": end["cuts"],
            "calls not ended properly": end["calls"] - end["failed"] - end["ended_well"],
        }
        found = [f"{count:g} {what}" for what, count in counted.items() if count]
        if end["first_failure"]:
            found.append(f"first failure: {end['first_failure']}")
        if end["level_worst_db"] > 1.0:
            found.append(f"a tone {end['level_worst_db']:.1f} dB off after conversion")
        return found

    @property
    def tail_ms_per_utterance(self) -> float:
        """What a converting server sends beyond an utterance's length: its filter's tail."""
        return float(self.end["down_surplus_ms"]) / max(1, int(self.end["utterances"]))

    @property
    def kib_per_further_call(self) -> float | None:
        """Slope of resident memory between the last two stages."""
        if len(self.stages) < 2:
            return None
        few, many = sorted(self.stages)[-2:]
        return (self.stages[many].rss_kib - self.stages[few].rss_kib) / (many - few)


def run_trial(load: Load, start: StartServer, cores: Cores) -> Trial:
    """Run one load against one server.

    Raises:
        TrialError: the server or the swarm failed before there was a result.
    """
    command = [
        str(swarm_program()),
        *("--mode", load.mode, "--path", load.path, "--carrier", load.carrier),
        *("--format", "raw/mulaw" if load.carrier == "twilio" else load.media_format),
        *("--webhook", str(int(load.asks_webhook))),
        *("--stages", ",".join(f"{calls}:{seconds:g}" for calls, seconds in load.stages)),
        *("--limit-s", str(load.limit_s), "--forget-every", str(load.forget_every)),
        *("--gap-ms", str(load.gap_ms)),
    ]
    swarm = spawn(command, cores.swarm, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        return _measure(swarm, load, start, cores)
    except (ServerError, WebhookError, OSError) as error:
        raise TrialError(str(error)) from error
    finally:
        swarm.kill()
        swarm.wait()
        for pipe in (swarm.stdin, swarm.stdout):
            if pipe is not None:
                pipe.close()


def _measure(swarm: "subprocess.Popen[str]", load: Load, start: StartServer, cores: Cores) -> Trial:
    assert swarm.stdin is not None
    listening = _next_event(swarm)
    with start(listening["port"]) as server:
        trial = Trial(server.name, load.mode, load.media_format)
        swarm.stdin.write(f"{server.port}\n")
        swarm.stdin.flush()
        before = after = cpu_time(server.pid)
        core_before = core_after = None if cores.server is None else core_time(cores.server)
        rss = 0
        while True:
            event = _next_event(swarm, server)
            match event["event"]:
                case "ring":
                    _ring(swarm, server, range(event["from"], event["calls"]))
                case "window_start":
                    before = cpu_time(server.pid)
                    core_before = None if cores.server is None else core_time(cores.server)
                case "window_end":
                    after = cpu_time(server.pid)
                    core_after = None if cores.server is None else core_time(cores.server)
                    rss = rss_kib(server.pid)
                case "stage":
                    took_s = after.at_s - before.at_s
                    call_s = event["calls"] * took_s
                    foreign_s = steal_s = 0.0
                    if core_before is not None and core_after is not None:
                        used_s = after.run_s - before.run_s
                        foreign_s = max(0.0, core_after.busy_s - core_before.busy_s - used_s)
                        steal_s = core_after.steal_s - core_before.steal_s
                    trial.stages[event["calls"]] = StageResult(
                        calls=event["calls"],
                        cpu_ms_per_call_s=1e3 * (after.run_s - before.run_s) / call_s,
                        user_ms_per_call_s=1e3 * (after.user_s - before.user_s) / call_s,
                        system_ms_per_call_s=1e3 * (after.system_s - before.system_s) / call_s,
                        rss_kib=rss,
                        server_cpu_percent=100 * (after.run_s - before.run_s) / took_s,
                        swarm_cpu_percent=event["swarm_cpu_percent"],
                        foreign_percent=100 * foreign_s / took_s,
                        steal_percent=100 * steal_s / took_s,
                        up=event["up"],
                        down=event["down"],
                        send_lateness=event["send_lateness"],
                    )
                case "end":
                    trial.end = event
                    return trial


def _ring(swarm: "subprocess.Popen[str]", server: Server, calls: range) -> None:
    """Ask the webhook what to do with these calls, and tell the swarm, outside of any measured window."""
    assert swarm.stdin is not None
    with TwilioWebhook(server.port) as webhook:
        for number in calls:
            swarm.stdin.write(webhook.ring(number) + "\n")
    swarm.stdin.flush()


def _next_event(swarm: "subprocess.Popen[str]", server: Server | None = None) -> dict[str, Any]:
    assert swarm.stdout is not None
    line = swarm.stdout.readline()
    if not line:  # it limits its own time, so this always comes
        words = "" if server is None else f"; the server's last words:\n{server.last_words()}"
        status = swarm.wait()
        ended = "ran out of time" if status == -signal.SIGALRM else f"ended with {status}"
        raise TrialError(f"the swarm {ended} before its report{words}")
    event: dict[str, Any] = json.loads(line)
    return event
