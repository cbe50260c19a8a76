"""Who imports whom: every import of the package, for types only or in a function too, held against the table.

The table is read from docs/design.md, section 3, so that prose and code cannot drift apart.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastagent"
DESIGN = ROOT / "docs" / "design.md"

SANS_IO = ("audio", "wire", "media", "bridge")
IO_MODULES = {
    "asyncio", "uvloop", "socket", "socketserver", "select", "selectors", "ssl", "threading", "subprocess",
    "concurrent", "multiprocessing", "picows", "websockets", "uvicorn", "starlette", "httpx", "requests",
    "http",
}  # fmt: skip
LATE = {
    ("fastagent.agent", "fastagent.server.process"),
    ("fastagent.telephony.registered", "fastagent.agent"),
    ("fastagent.telephony.registered", "fastagent.server.process"),
}
"""Looked up by name when `start` of an agent or a connector is called: the server knows both, neither it."""


@dataclass(frozen=True)
class Import:
    path: Path
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.target}"


@cache
def table() -> dict[str, frozenset[str] | None]:
    """Room -> rooms it may import; None for anything."""
    section = DESIGN.read_text().split("## 3. ", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    allowed: dict[str, frozenset[str] | None] = {}
    for names, _, may_import in rows:
        rooms = re.findall(r"`(\w+)`", names)
        for room in rooms:
            if "anything" in may_import:
                allowed[room] = None
            elif "everything above" in may_import:
                allowed[room] = frozenset(allowed)
            elif "public API" in may_import:
                allowed[room] = frozenset({"agent", "afsm", "context", "tools", "errors"})
            else:
                allowed[room] = frozenset(re.findall(r"`(\w+)`", may_import))
    return allowed


def room_of(module: str) -> str:
    """``fastagent.wire.events`` is in the room ``wire``; the package itself in none."""
    return [*module.split("."), ""][1]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    module = module_of(path)
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(path, node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*stem, base] if base else stem)
            if base == "fastagent":
                for name in node.names:
                    yield Import(path, node.lineno, f"fastagent.{name.name}")
            else:
                yield Import(path, node.lineno, base)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield Import(path, node.lineno, node.args[0].value)


SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")])
PUBLIC_NAMES = {
    "fastagent.__version__",
    "fastagent.FastAgent",
    "fastagent.AFSMState",
    "fastagent.ConversationContext",
}


def test_table_is_found():
    assert len(table()) >= 15
    assert table()["errors"] == frozenset()
    assert table()["cli"] is None
    assert "wire" in (table()["server"] or ())


def test_every_room_stands_in_the_table():
    rooms = {room_of(module_of(path)) for path in SOURCES} - {"", "__init__", "__main__"}
    assert rooms <= set(table())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_to_the_table(path):
    room = room_of(module_of(path))
    allowed = table().get(room)
    if room in ("", "__main__") or allowed is None:
        # The package hands out public names when asked for; the command may import anything.
        return
    wrong = [
        str(entry)
        for entry in imports_of(path)
        if entry.target.split(".")[0] == "fastagent"
        and entry.target not in PUBLIC_NAMES
        and (module_of(path), entry.target) not in LATE
        and room_of(entry.target) not in allowed | {room}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if room_of(module_of(path)) in SANS_IO],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_sans_io_rooms_import_no_loop_socket_or_thread(path):
    assert [str(entry) for entry in imports_of(path) if entry.target.split(".")[0] in IO_MODULES] == []
    waits = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert waits == []


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if room_of(module_of(path)) in SANS_IO],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_sans_io_rooms_read_no_clock(path):
    clocks = {"time", "monotonic", "perf_counter", "now", "utcnow", "today"}
    tree = ast.parse(path.read_text())
    # A clock that is the default of an argument can be replaced, so it is none of the room's own.
    given = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for default in [*node.defaults, *filter(None, node.kw_defaults)]
        for inner in ast.walk(default)
    }
    read = [
        node.lineno
        for node in ast.walk(tree)
        if node not in given
        and isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("time", "datetime", "date")
        and node.func.attr in clocks
    ]
    assert read == []


def reads_environment(path: Path) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {name.name for name in node.names} & {"environ", "getenv", "environb"}
        )
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_settings_and_the_command_read_the_environment(path):
    room = room_of(module_of(path))
    if room in ("settings", "cli"):
        return
    assert reads_environment(path) == []


def test_settings_are_what_reads_the_environment():
    assert reads_environment(PACKAGE / "settings" / "sources.py")


@pytest.mark.parametrize(
    ("code", "targets"),
    [
        ("import fastagent.wire.events", ["fastagent.wire.events"]),
        ("from fastagent import call", ["fastagent.call"]),
        ("from . import tick", ["fastagent.legs"]),
        ("from .tick import PlayoutTick", ["fastagent.legs.tick"]),
        ("from ..wire import events", ["fastagent.wire"]),
        ("def f():\n    from fastagent.call import Call", ["fastagent.call"]),
        ("if TYPE_CHECKING:\n    import fastagent.bridge", ["fastagent.bridge"]),
        ("importlib.import_module('fastagent.server')", ["fastagent.server"]),
    ],
)
def test_every_way_to_import_is_seen(code, targets, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "fastagent" / "legs" / "sample.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert [entry.target for entry in imports_of(path)] == targets
