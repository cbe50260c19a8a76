"""What a profile found: text for a terminal, one JSON object, one page."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from fastagent.profile.flame import draw_flame
from fastagent.profile.reading import ProfileReading, WayReading
from fastagent.profile.stacks import Stacks
from fastagent.profile.syscalls import SystemCalls

__all__ = ["ProfileReport"]

HOTTEST = 12
SYSTEM_CALLS_SHOWN = 8
DISTURBED_PER_S = 20
"""Forced switches from which on means are told to be doubtful."""
WAYS = {
    "uplink": "uplink: caller audio to the model",
    "downlink": "downlink: model audio to the caller, or into its queue",
    "tick": "tick: looks at queues, and what was due of them",
    "other": "other: events, control frames",
}


@dataclass(slots=True)
class ProfileReport:
    """The parts of a profile; those that could not be had are told in ``unmeasured``."""

    subject: str
    """What was measured."""
    reading: ProfileReading
    stacks: Stacks | None = None
    system_calls: SystemCalls | None = None
    system_calls_frames: int = 0
    """Frames of audio while they were counted."""
    unmeasured: list[str] = field(default_factory=list)

    @property
    def system_calls_per_frame(self) -> float | None:
        """Of each frame of audio; None without either."""
        if self.system_calls is None or not self.system_calls_frames:
            return None
        return self.system_calls.total / self.system_calls_frames

    @property
    def title(self) -> str:
        """One line on what it is of."""
        one = self.reading
        return (
            f"{self.subject}, process {one.pid}, FastAgent {one.version}, {one.python}: {one.seconds:.1f} s, "
            f"{one.calls_begin} calls at the begin, {one.calls_end} at the end"
        )

    # Text

    def text(self) -> str:
        """Tables for a terminal."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield self.title
        stages = self.reading.stages
        yield (
            f"stages in ns: one frame in {stages.every} timed by {stages.clock} "
            f"({stages.clock_ns:.0f} a reading, taken off the means); p50 and p99 are estimates"
        )
        for name, way in stages.ways.items():
            if way.timed:
                yield ""
                yield from _way_lines(name, way)
        yield ""
        for name, value in self._figures():
            yield f"{name:<22}{value}"
        if self.stacks is not None:
            yield ""
            yield from self._stack_lines(self.stacks)
        if self.system_calls is not None:
            yield ""
            yield from self._call_lines(self.system_calls)
        if self.unmeasured:
            yield ""
            yield from (f"not measured: {reason}" for reason in self.unmeasured)

    def _figures(self) -> Iterator[tuple[str, str]]:
        one = self.reading
        cpu_s = one.process.user_s + one.process.system_s

        def share(spent_s: float) -> str:
            return f"{100 * spent_s / one.seconds:.1f}"

        yield (
            "processor",
            f"{share(cpu_s)} % of a core ({share(one.process.user_s)} user, {share(one.process.system_s)} "
            f"system), loop's thread {share(one.process.loop_s)} %",
        )
        frames = one.stages.audio_frames
        if frames:
            yield (
                "a frame of audio",
                f"{1e6 * cpu_s / frames:.1f} µs of processor, all in all ({frames} frames)",
            )
        yield (
            "loop lag",
            f"p50 {one.loop.lag_p50_ms:.1f} ms, p99 {one.loop.lag_p99_ms:.1f} ms, most "
            f"{one.loop.lag_max_ms:.1f} ms ({one.loop.beats} beats)",
        )
        yield (
            "garbage collection",
            f"{' + '.join(map(str, one.gc.collections))} of generations 0 + 1 + 2, "
            f"{one.gc.pause_total_ms:.2f} ms in all, longest {one.gc.pause_max_ms:.2f} ms",
        )
        if one.stages.every:
            per_frame = one.per_frame(one.memory.allocations)
            each = "" if per_frame is None else f", {per_frame:.2f} a frame of audio"
            yield "allocations", f"{one.memory.allocations} in the whole process{each}"
        yield (
            "memory",
            f"{one.memory.rss_bytes / 1e6:.1f} MB ({one.memory.rss_delta_bytes / 1024:+.0f} KiB), "
            f"{one.memory.blocks_delta:+d} blocks, {one.memory.page_faults} page faults",
        )
        yield (
            "switches",
            f"{one.process.switches_voluntary} voluntary, {one.process.switches_forced} forced, "
            f"{one.process.threads} threads",
        )
        if one.process.switches_forced > DISTURBED_PER_S * one.seconds:
            yield "disturbed", "others took the processor: read p50, which that does not move, before means"

    def _stack_lines(self, stacks: Stacks) -> Iterator[str]:
        yield (
            f"stacks by {stacks.sampler}, {stacks.samples} samples at {stacks.rate_hz} Hz for "
            f"{stacks.seconds:g} s ({stacks.waiting} of waiting threads left out)"
        )
        for group, n in stacks.groups.items():
            yield f"  {100 * n / max(1, stacks.samples):5.1f} %  {group}"
        yield "at work themselves:"
        for frame, n in stacks.hottest(HOTTEST):
            yield f"  {100 * n / max(1, stacks.samples):5.1f} %  {frame}"

    def _call_lines(self, calls: SystemCalls) -> Iterator[str]:
        per_frame = self.system_calls_per_frame
        share = "" if per_frame is None else f": {per_frame:.2f} a frame of audio"
        yield f"system calls by {calls.source}{share}"
        for name, n in list(calls.counts.items())[:SYSTEM_CALLS_SHOWN]:
            each = f"{n / self.system_calls_frames:8.3f} a frame" if self.system_calls_frames else ""
            yield f"  {name:<20}{n:>9}{each}"

    # JSON

    def as_dict(self) -> dict[str, Any]:
        """Everything, for programs."""
        found: dict[str, Any] = {
            "subject": self.subject,
            "reading": self.reading.model_dump(mode="json"),
            "allocations_per_frame": self.reading.per_frame(self.reading.memory.allocations)
            if self.reading.stages.every
            else None,
            "unmeasured": self.unmeasured,
            "stacks": None,
            "system_calls": None,
        }
        if self.stacks is not None:
            found["stacks"] = {
                "sampler": str(self.stacks.sampler),
                "rate_hz": self.stacks.rate_hz,
                "seconds": self.stacks.seconds,
                "samples": self.stacks.samples,
                "waiting": self.stacks.waiting,
                "groups": {str(group): n for group, n in self.stacks.groups.items()},
                "hottest": [{"frame": frame, "samples": n} for frame, n in self.stacks.hottest(HOTTEST)],
            }
        if self.system_calls is not None:
            found["system_calls"] = {
                "source": self.system_calls.source,
                "counts": self.system_calls.counts,
                "frames": self.system_calls_frames,
                "per_frame": self.system_calls_per_frame,
            }
        return found

    def json(self) -> str:
        """The same as text."""
        return json.dumps(self.as_dict(), indent=2) + "\n"

    # Pictures

    def svg(self) -> str | None:
        """The flame graph; None without stacks."""
        stacks = self.stacks
        if stacks is None:
            return None
        title = f"{self.subject}: {stacks.samples} samples by {stacks.sampler} in {stacks.seconds:g} s"
        return draw_flame(stacks, title)

    def html(self) -> str:
        """One page that needs nothing else."""
        parts = [
            "<!doctype html><html lang=en><meta charset=utf-8><title>FastAgent profile</title><style>",
            "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1240px;padding:0 1rem}",
            "table{border-collapse:collapse;margin:.5rem 0 1.5rem}",
            "td,th{padding:.15rem .8rem;text-align:right;border-bottom:1px solid #ddd}",
            "td:first-child,th:first-child{text-align:left}.bar{display:inline-block;height:.7rem;",
            "background:#f59e0b}h2{font-size:1rem}</style>",
            f"<h1>FastAgent profile</h1><p>{escape(self.title)}",
        ]
        for name, way in self.reading.stages.ways.items():
            if way.timed:
                parts += _way_table(name, way)
        parts.append("<h2>Process</h2><table>")
        parts += [f"<tr><td>{escape(a)}<td>{escape(b)}" for a, b in self._figures()]
        parts.append("</table>")
        if self.system_calls is not None:
            parts.append(
                f"<h2>System calls</h2><pre>{escape(chr(10).join(self._call_lines(self.system_calls)))}</pre>"
            )
        if self.stacks is not None:
            parts.append(f"<h2>Stacks</h2><pre>{escape(chr(10).join(self._stack_lines(self.stacks)))}</pre>")
            parts.append(str(self.svg()))
        parts += [f"<p>Not measured: {escape(reason)}" for reason in self.unmeasured]
        return "\n".join(parts) + "\n"


def _shares(way: WayReading) -> Iterator[tuple[str, float, float]]:
    """Name of a stage, its mean over all timed frames of the way (ns), its share of them (percent)."""
    total = sum(one.frames * one.mean_ns for one in way.stages.values())
    for name, one in way.stages.items():
        amount = one.frames * one.mean_ns
        yield name, amount / way.timed, 100 * amount / total if total else 0.0


def _way_lines(name: str, way: WayReading) -> Iterator[str]:
    yield (
        f"{WAYS.get(name, name)}; {way.frames} frames, {way.timed} timed, "
        f"{way.allocations_per_frame:.2f} allocations each"
    )
    yield f"  {'stage':<10}{'share':>8}{'ns/frame':>11}{'met by':>9}{'p50':>11}{'p99':>11}"
    for stage, mean_ns, share in _shares(way):
        one = way.stages[stage]
        yield (
            f"  {stage:<10}{share:>6.1f} %{mean_ns:>11.0f}{100 * one.frames / way.timed:>7.0f} %"
            f"{one.p50_ns:>11.0f}{one.p99_ns:>11.0f}"
        )
    whole = way.whole
    yield f"  {'all':<10}{100:>6.1f} %{whole.mean_ns:>11.0f}{'':>9}{whole.p50_ns:>11.0f}{whole.p99_ns:>11.0f}"


def _way_table(name: str, way: WayReading) -> list[str]:
    parts = [
        f"<h2>{escape(WAYS.get(name, name))}</h2><p>{way.frames} frames, {way.timed} timed, "
        f"{way.allocations_per_frame:.2f} allocations each",
        "<table><tr><th>stage<th>share<th>ns a frame<th>met by<th>p50 ns<th>p99 ns<th>",
    ]
    for stage, mean_ns, share in _shares(way):
        one = way.stages[stage]
        parts.append(
            f"<tr><td>{escape(stage)}<td>{share:.1f} %<td>{mean_ns:.0f}"
            f"<td>{100 * one.frames / way.timed:.0f} %<td>{one.p50_ns:.0f}<td>{one.p99_ns:.0f}"
            f'<td style="text-align:left"><span class=bar style="width:{3 * share:.0f}px"></span>'
        )
    parts.append(
        f"<tr><th>all<th>100 %<th>{way.whole.mean_ns:.0f}<th><th>{way.whole.p50_ns:.0f}"
        f"<th>{way.whole.p99_ns:.0f}<th></table>"
    )
    return parts
