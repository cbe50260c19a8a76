"""The page itself: findings as Markdown that renders where the repository is looked at."""

from collections.abc import Collection, Iterable, Sequence

from benches.page.findings import Findings
from benches.page.goals import PEER_P99_LIMITS_MS, Goal, goals_of, kernel_goals_of
from benches.peers.climb import BASES, GIVE_UP_MS, Climb, Step
from benches.relay.trial import SWARM_LIMIT_PERCENT

__all__ = ["page_of"]

DISTURBED_PERCENT = 10.0
"""Of the server's core, used by others: from here on a figure bears a mark."""


PEERS = """\
The same Twilio calls and the same model through each server, one process on one core, the peers in
environments of their own (`benches/peers/requirements/`). What each is made of stands at the top of its
file in `benches/peers/`. Some gather audio before they pass it on, or resample it: that is in their p50
with ten calls already. The model hears who interrupts; FastAgent with its own ears for that is told as
well. CPU and memory are those of the most calls that a server carried."""
HOW = f"""\
Callers and model are one C program on one core, the server is on the other, all on loopback. Each
caller sends 20 ms frames without a pause and the model talks in deltas of 100 ms, so every call is at
its busiest. Latency runs from just before the sender's system call to the kernel's stamp at the
receiver. CPU is the scheduler's clock of the server's process per second of one call. Memory is the
slope of resident memory from {" or ".join(map(str, BASES))} calls to the level. `benches/README.md` tells
the rest; `results.json` holds every figure."""
LOAD_HEADS = ("calls", "CPU ms/call-s", "core %", "up p50 / p99 ms", "down p50 / p99 ms")


def page_of(findings: Findings, pictures: Collection[str]) -> str:
    """The page.

    Args:
        findings: of one run.
        pictures: names of the files that lie beside the page.
    """
    sections = [_head(findings), _goals(findings)]
    if findings.capacity:
        sections.append(_capacity(findings, pictures))
    if findings.peers:
        sections.append(_peers(findings, pictures))
    if findings.relay is not None:
        sections.append(_relay(findings, pictures))
    if findings.kernels:
        sections.append(_kernels(findings, pictures))
    sections.append(_how())
    return "\n\n".join(sections) + "\n"


def _head(findings: Findings) -> str:
    machine = findings.machine
    facts = [
        ("date", findings.date),
        ("commit", f"`{findings.commit}`{' with changes' if findings.is_dirty else ''}"),
        ("machine", f"{machine.processor}, {machine.cores} cores, Linux {machine.linux}"),
        ("Python", machine.python),
        ("byte relay", machine.relay),
        ("command", f"`{findings.command}`, {findings.took_s / 60:.0f} min"),
    ]
    lines = ["# Results", *([QUICK] if findings.is_quick else []), "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts]
    if findings.remarks:
        lines += ["", *(f"- {remark}" for remark in findings.remarks)]
    return "\n".join(lines)


QUICK = "\nA quick run: short windows and few rounds. Read the order of magnitude, not the digits."


def _goals(findings: Findings) -> str:
    goals = goals_of(findings)
    met, missed = (sum(goal.is_met is claim for goal in goals) for claim in (True, False))
    unmeasured = len(goals) - met - missed
    return "\n".join(
        [
            "## Goals",
            "",
            f"{met} hit, {missed} missed"
            + (f", {unmeasured} not measured in this run" if unmeasured else "")
            + ".",
            "",
            *_goal_table(goals),
            *_doubt(findings),
        ]
    )


def _doubt(findings: Findings) -> list[str]:
    """What must be said when the machine had other work."""
    steps = [step for one in (*findings.capacity, *findings.peers) for step in one.steps]
    disturbed = [step.others_percent > DISTURBED_PERCENT for step in steps]
    if findings.relay is not None:
        disturbed += [bool(trial["disturbed"]) for trial in findings.relay.trials]
    if not any(disturbed):
        return []
    return [
        "",
        f"**Others used the server's core in {sum(disturbed)} of {len(disturbed)} trials**, more than "
        f"{DISTURBED_PERCENT:g} % of it: believe no verdict that a quiet machine has not repeated.",
    ]


def _goal_table(goals: Sequence[Goal]) -> list[str]:
    return _table(
        ("", "goal", "figure", ""),
        [(f"{goal.section}: {goal.what}", goal.goal, goal.figure or "–", _verdict(goal)) for goal in goals],
    )


def _verdict(goal: Goal) -> str:
    return "not measured" if goal.is_met is None else "hit" if goal.is_met else "**missed**"


def _capacity(findings: Findings, pictures: Collection[str]) -> str:
    return "\n".join(
        [
            "## Capacity",
            "",
            f"More and more talking calls on one core, until p99 exceeds {GIVE_UP_MS:g} ms, too much audio "
            "is lost or a call fails. Each level has a freshly started server.",
            *_images(pictures, ("capacity-p99.svg", "capacity-core.svg", "capacity-memory.svg")),
            "",
            *_steps(findings.capacity),
        ]
    )


def _peers(findings: Findings, pictures: Collection[str]) -> str:
    limits = [f"p99 ≤ {limit:g} ms" for limit in PEER_P99_LIMITS_MS]
    held = _table(
        ("most calls of those tried", *limits, "CPU per call", "memory per further call"),
        [
            (
                f"{one.title} {one.version}".strip(),
                *(str(one.held(limit) or "none") for limit in PEER_P99_LIMITS_MS),
                *_cost(one),
            )
            for one in findings.peers
        ],
    )
    return "\n".join(
        [
            "## Peers",
            "",
            PEERS,
            *_images(pictures, ("peers-cpu.svg", "peers-p99.svg", "peers-memory.svg")),
            "",
            *held,
            "",
            *_steps(findings.peers),
        ]
    )


def _cost(one: Climb) -> tuple[str, str]:
    step = next((s for s in reversed(one.steps) if not s.failure), None)
    if step is None:
        return ("–", "–")
    slope = one.kib_per_further_call
    return (f"{step.cpu_ms_per_call_s:.2f} ms/s", "–" if slope is None else f"{slope:.0f} KiB")


def _steps(climbs: Sequence[Climb]) -> list[str]:
    rows = [(one.title, *_step(step)) for one in climbs for step in one.steps]
    table = _table(("server", *LOAD_HEADS, "RSS MiB", ""), rows)
    marks = [step for one in climbs for step in one.steps]
    if any(step.others_percent > DISTURBED_PERCENT for step in marks):
        table += ["", f"* others used more than {DISTURBED_PERCENT:g} % of the server's core meanwhile."]
    return table


def _step(step: Step) -> tuple[str, ...]:
    remark = step.failure
    if not remark and step.swarm_percent > SWARM_LIMIT_PERCENT:
        remark = f"callers and model used {step.swarm_percent:.0f} % of their core"
    if step.p99_ms == 0:
        return (str(step.calls), "–", "–", "–", "–", "–", remark)
    return (
        f"{step.calls}{'*' if step.others_percent > DISTURBED_PERCENT else ''}",
        f"{step.cpu_ms_per_call_s:.2f}",
        f"{step.core_percent:.0f}",
        f"{_ms(step.up_p50_ms)} / {_ms(step.up_p99_ms)}",
        f"{_ms(step.down_p50_ms)} / {_ms(step.down_p99_ms)}",
        f"{step.rss_mib:.0f}",
        remark,
    )


def _relay(findings: Findings, pictures: Collection[str]) -> str:
    assert findings.relay is not None
    rows = [
        (
            trial["media_format"],
            trial["server"],
            str(stage["calls"]),
            f"{stage['cpu_ms_per_call_s']:.2f}",
            f"{stage['server_cpu_percent']:.0f}",
            f"{_ms(stage['up']['p50_us'] / 1e3)} / {_ms(stage['up']['p99_us'] / 1e3)}",
            f"{_ms(stage['down']['p50_us'] / 1e3)} / {_ms(stage['down']['p99_us'] / 1e3)}",
            "; ".join(trial["faults"]) or "nothing",
        )
        for trial in findings.relay.trials
        for stage in (trial["stages"][max(trial["stages"], key=int)],)
    ]
    heads = ("format", "server", *LOAD_HEADS, "lost or broken")
    return "\n".join(
        [
            "## Beside a byte relay",
            "",
            "The relay copies bytes and understands none; FastAgent does its work on the same messages, with "
            "its own ears for interruptions off.",
            *_images(pictures, ("relay-cpu.svg",)),
            "",
            *_table(heads, rows),
        ]
    )


def _kernels(findings: Findings, pictures: Collection[str]) -> str:
    goals = {goal.what: goal for goal in kernel_goals_of(findings)}
    rows = []
    for kernel in findings.kernels:
        goal = goals.get(kernel.subject)
        peers = ", ".join(f"{name} {_ns(ns)}" for name, ns in kernel.peers_ns.items())
        rows.append(
            (
                kernel.subject,
                kernel.unit,
                _ns(kernel.ours_ns),
                "" if kernel.goal_ns is None else f"≤ {_ns(kernel.goal_ns)}",
                "" if goal is None else _verdict(goal),
                peers,
            )
        )
    return "\n".join(
        [
            "## Kernels",
            "",
            "Medians, seen from Python. Peers do the same work on the same input in the same run.",
            *_images(pictures, ("kernels.svg",)),
            "",
            *_table(("work", "per", "FastAgent", "goal", "", "peers"), rows),
        ]
    )


def _how() -> str:
    return "\n".join(
        [
            "## How it was measured",
            "",
            HOW,
        ]
    )


def _images(pictures: Collection[str], wanted: Iterable[str]) -> list[str]:
    shown = [name for name in wanted if name in pictures]
    return (
        ["", *(f"![{name.partition('.')[0].replace('-', ', ')}]({name})" for name in shown)] if shown else []
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows),
    ]


def _cell(words: str) -> str:
    """Words that end no cell and open no tag."""
    return words.replace("|", "∣").replace("<", "&lt;")


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ns(value: float) -> str:
    if value < 1000:
        return f"{value:.0f} ns"
    return f"{value / 1e3:.3g} µs" if value < 1e6 else f"{value / 1e6:.3g} ms"
