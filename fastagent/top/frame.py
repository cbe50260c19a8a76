"""How a reading looks on a terminal: lines of text, none wider than the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastagent.top.reading import CallRow, Reading

__all__ = ["SORTS", "draw"]

WIDTH_MIN = 40
MIB = float(1 << 20)
MINUTE_S = 60
HOUR_S = 3600
SORTS: dict[str, Callable[[CallRow], float | str]] = {
    "age": lambda row: -row.duration_s,
    "latency": lambda row: -(row.latency_ms or 0.0),
    "drops": lambda row: -row.drops,
    "cost": lambda row: -(row.dollars or 0.0),
    "agent": lambda row: row.agent_id,
    "id": lambda row: row.session_id,
}
"""What calls can be ordered by."""
SPEAKERS = {"caller": "caller", "bot": "bot", "both": "both", "": "-"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column; text is cut, figures are never."""

    title: str
    width: int
    cell: Callable[[CallRow], str]
    is_figure: bool = False


COLUMNS = (
    Column("LINE", 10, lambda row: row.carrier),
    Column("AGENT", 10, lambda row: row.agent_id),
    Column("STATE", 10, lambda row: "(parked)" if row.is_parked else row.state or "-"),
    Column("SPEAKS", 6, lambda row: SPEAKERS.get(row.speaker, "?")),
    Column("TIME", 7, lambda row: clock(row.duration_s), is_figure=True),
    Column("TURN", 4, lambda row: str(row.turns), is_figure=True),
    Column("MS", 5, lambda row: "-" if row.latency_ms is None else f"{row.latency_ms:.0f}", is_figure=True),
    Column("DROP", 4, lambda row: str(row.drops), is_figure=True),
    Column("$", 6, lambda row: "-" if row.dollars is None else f"{row.dollars:.3f}", is_figure=True),
)
"""All but the id, which takes what is left."""
ID_WIDTH_MIN = 8


def draw(
    reading: Reading,
    former: Reading | None = None,
    *,
    width: int = 80,
    height: int | None = None,
    sort: str = "age",
    notice: str = "",
) -> list[str]:
    """One frame.

    Args:
        former: the reading before, for what is told per second.
        height: lines there are; None for as many as wanted.
        sort: one of `SORTS`.
        notice: said in the first line, such as that the connection is lost.
    """
    width = max(WIDTH_MIN, width)
    lines = [*_head(reading, former, notice), "", _titles(width)]
    rows = sorted(reading.calls, key=lambda row: (SORTS[sort](row), row.session_id))
    room = len(rows) if height is None else max(0, height - len(lines) - 1)
    lines += [_line(row, width) for row in rows[:room]]
    hidden = reading.calls_in_all - min(room, len(rows))
    if hidden > 0:
        lines.append(f"... and {hidden} more")
    elif not rows:
        lines.append("no calls")
    return [_plain(line)[:width].rstrip() for line in lines]


def clock(seconds: float) -> str:
    """A duration, such as ``4:07`` or ``1:02:03``."""
    whole = int(seconds)
    hours, rest = divmod(whole, HOUR_S)
    if hours:
        return f"{hours}:{rest // MINUTE_S:02}:{rest % MINUTE_S:02}"
    return f"{rest // MINUTE_S}:{rest % MINUTE_S:02}"


def _head(reading: Reading, former: Reading | None, notice: str) -> list[str]:
    latency = reading.latency_ms
    first = f"fastagent {reading.version}  {reading.status}  up {clock(reading.uptime_s)}"
    lines = [f"{first}  {notice}".rstrip()]
    answers = (
        f"answers {latency['avg']:.0f} ms, p95 {latency['p95']:.0f}" if {"avg", "p95"} <= set(latency) else ""
    )
    lines.append(f"calls {reading.calls_in_all}  {answers}".rstrip())
    found = reading.metrics
    if found is None:
        return [*lines, "process: not told (a token with the scope metrics is wanted)"]

    def value(name: str) -> float:
        return found.get(name, 0.0)

    cpu = lag = "-"
    if former is not None and former.metrics is not None and reading.at_s > former.at_s:
        passed_s = reading.at_s - former.at_s
        spent_s = value("fastagent_cpu_seconds_total") - former.metrics.get(
            "fastagent_cpu_seconds_total", 0.0
        )
        cpu = f"{100 * max(0.0, spent_s) / passed_s:.0f} %"
        count = "fastagent_loop_lag_seconds_count"
        looks = value(count) - former.metrics.get(count, 0.0)
        late_s = value("fastagent_loop_lag_seconds_sum") - former.metrics.get(
            "fastagent_loop_lag_seconds_sum", 0.0
        )
        lag = f"{1000 * max(0.0, late_s) / looks:.1f} ms" if looks > 0 else "-"
    lines.append(
        f"cpu {cpu}  memory {value('fastagent_memory_bytes') / MIB:.0f} MiB  loop lag {lag}  "
        f"fds {value('fastagent_descriptors'):.0f}  tasks {value('fastagent_tasks'):.0f}  "
        f"threads {value('fastagent_threads'):.0f}"
    )
    lines.append(
        f"over {value('fastagent_calls_total'):.0f}  refused {value('fastagent_refusals_total'):.0f}  "
        f"drops {value('fastagent_drops_total'):.0f}  troubles {value('fastagent_troubles_total'):.0f}  "
        f"cost ${value('fastagent_cost_dollars_total'):.2f}"
        + ("  DRAINING" if value("fastagent_draining") else "")
    )
    return lines


def _id_width(width: int) -> int:
    return max(ID_WIDTH_MIN, width - sum(column.width + 1 for column in COLUMNS))


def _titles(width: int) -> str:
    cells = [
        column.title.rjust(column.width) if column.is_figure else column.title.ljust(column.width)
        for column in COLUMNS
    ]
    return " ".join([*_fit("CALL", _id_width(width)), *cells])


def _line(row: CallRow, width: int) -> str:
    cells = []
    for column in COLUMNS:
        text = column.cell(row)
        cells.append(text.rjust(column.width) if column.is_figure else _fit(text, column.width)[0])
    return " ".join([*_fit(row.session_id, _id_width(width)), *cells])


def _fit(text: str, width: int) -> Sequence[str]:
    return [text.ljust(width) if len(text) <= width else text[: width - 1] + "…"]


def _plain(text: str) -> str:
    """Without what would move the cursor: ids come from carriers, names from configurations."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
