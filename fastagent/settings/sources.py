"""Where settings come from: options before variables before a TOML file before defaults."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastagent.errors import ConfigurationError

__all__ = ["CONFIG_VARIABLE", "Reading", "Source", "is_verifying", "read_sources"]

CONFIG_VARIABLE = "FASTAGENT_CONFIG"
"""Names the file when no option does."""
CONFIG_BYTES_MAX = 1_048_576

_VERIFY_VARIABLE = "FASTAGENT_VERIFY"
_OTHER_VARIABLES = frozenset(
    f"FASTAGENT_{name}" for name in ("COVERAGE", "DEBUG", "MCP_TOKEN", "SANITIZE", "SIMD", "TOKEN")
)
"""Ours, but no settings of a server: they are read by other verbs and by the build."""
_TRUTHS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
_KINDS = {bool: "true or false", int: "int", float: "float", str: "text"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where one value came from."""

    kind: Literal["default", "file", "variable", "option"]
    place: str = ""
    """``file:line``, the variable or the option."""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".rstrip()


@dataclass(slots=True)
class Reading:
    """What the sources hold together."""

    entries: tuple[Field[Any], ...]
    file: str = ""
    """The TOML file that was read."""
    values: dict[str, Any] = field(default_factory=dict)
    """By field; only those that some source gives."""
    sources: dict[str, Source] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    """What could not be read, by field, key or place."""
    unknown_variables: list[str] = field(default_factory=list)
    """Variables that begin like ours and are none."""

    def source(self, name: str) -> Source:
        """Where a field's value came from."""
        return self.sources.get(name, Source("default"))

    def label(self, name: str) -> str:
        """What a complaint about a field's value begins with."""
        source = self.source(name)
        if source.kind == "file":
            return f"{source.place}: {name}"
        if source.kind == "option":
            return source.place
        return next(str(entry.metadata["variable"]) for entry in self.entries if entry.name == name)


def read_sources(
    entries: Sequence[Field[Any]],
    environment: Mapping[str, str] | None = None,
    *,
    config: str | None = None,
    assignments: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Reading:
    """Read every source; faults are collected, none is raised.

    Args:
        entries: the fields, each with its variable in its metadata.
        environment: None for the process's own.
        config: a TOML file; None for the one that the environment names.
        assignments: ``NAME=VALUE``, a field's name or its variable before the sign.
        overrides: values of fields; None stands for not given.
    """
    environment = os.environ if environment is None else environment
    reading = Reading(tuple(entries))
    config = config or environment.get(CONFIG_VARIABLE, "").strip()
    if config:
        _read_file(reading, config)
    _read_variables(reading, environment)
    for assignment in assignments:
        _read_assignment(reading, assignment)
    for name, value in (overrides or {}).items():
        if value is not None:
            reading.values[name] = value
            reading.sources[name] = Source("option", f"--{name.replace('_', '-')}")
            reading.complaints.pop(name, None)
    return reading


def _read_file(reading: Reading, name: str) -> None:
    path = Path(name)
    reading.file = name
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
        if len(data) > CONFIG_BYTES_MAX:
            raise ConfigurationError(f"more than {CONFIG_BYTES_MAX} bytes")
        text = data.decode()
        table = tomllib.loads(text)
    except OSError as error:
        reading.complaints[name] = f"{name}: {error.strerror}"
        return
    except UnicodeDecodeError:
        reading.complaints[name] = f"{name}: not UTF-8"
        return
    except (tomllib.TOMLDecodeError, ConfigurationError) as error:
        reading.complaints[name] = f"{name}: {error}"
        return
    known = {entry.name: entry for entry in reading.entries}
    for key, value in table.items():
        place = f"{name}:{_line_of(key, text)}"
        entry = known.get(key)
        if entry is None:
            reading.complaints[f"{name} {key}"] = f"{place}: {key!r} is no setting{_nearest(key, reading)}"
            continue
        try:
            reading.values[key] = _typed(value, entry.default)
        except ConfigurationError as error:
            reading.complaints[key] = f"{place}: {key}: {error}"
        reading.sources[key] = Source("file", place)


def _line_of(key: str, text: str) -> int:
    """The line that a top-level key stands in (1 when it is written in a way that hides it)."""
    name = re.escape(key)
    found = re.search(rf"""^[ \t]*(?:\[+[ \t]*)?["']?{name}["']?[ \t]*(?:[=.\]])""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _nearest(wrong: str, reading: Reading) -> str:
    """The known name that looks most like a wrong one, as the end of a sentence."""
    names = {entry.name: entry.name for entry in reading.entries}
    names |= {str(entry.metadata["variable"]).casefold(): entry.name for entry in reading.entries}
    close = difflib.get_close_matches(wrong.casefold(), names, n=1, cutoff=0.0)
    return f"; the nearest is {names[close[0]]!r}" if close else ""


def _read_variables(reading: Reading, environment: Mapping[str, str]) -> None:
    variables = {CONFIG_VARIABLE, _VERIFY_VARIABLE, *_OTHER_VARIABLES}
    for entry in reading.entries:
        variable = entry.metadata["variable"]
        variables.add(variable)
        text = environment.get(variable, "").strip()
        if text:
            _take_text(reading, entry, text, Source("variable", variable))
    reading.unknown_variables = sorted(
        name for name in environment if name.startswith("FASTAGENT_") and name not in variables
    )


def _read_assignment(reading: Reading, assignment: str) -> None:
    name, sign, text = assignment.partition("=")
    name = name.strip()
    entry = next((one for one in reading.entries if name in (one.name, one.metadata["variable"])), None)
    if not sign:
        reading.complaints["--set"] = "--set: expected NAME=VALUE"
    elif entry is None:
        reading.complaints[f"--set {name}"] = f"--set: {name!r} is no setting{_nearest(name, reading)}"
    elif entry.metadata.get("is_secret"):
        # A command line can be read by every user of the machine.
        reading.complaints[entry.name] = f"--set {name}: a secret belongs into a variable or a file"
    else:
        _take_text(reading, entry, text.strip(), Source("option", f"--set {name}"))


def _take_text(reading: Reading, entry: Field[Any], text: str, source: Source) -> None:
    reading.sources[entry.name] = source
    # A source that wins takes the blame, too.
    reading.complaints.pop(entry.name, None)
    try:
        reading.values[entry.name] = _parsed(text, entry.default)
    except ConfigurationError as error:
        reading.values.pop(entry.name, None)
        reading.complaints[entry.name] = f"{source.place}: {error}"


def is_verifying() -> bool:
    """Tell whether agents are to be verified as they are made, for development: ``FASTAGENT_VERIFY``.

    Raises:
        ConfigurationError: it is neither 1 nor 0.
    """
    text = os.environ.get(_VERIFY_VARIABLE, "").strip()
    try:
        return bool(text) and bool(_parsed(text, False))
    except ConfigurationError as error:
        raise ConfigurationError(f"{_VERIFY_VARIABLE}: {error}") from None


def _parsed(text: str, default: Any) -> Any:
    """A text as the type of a field's default."""
    kind: Callable[[str], Any] = type(default)
    if isinstance(default, tuple):
        return _parts([text])
    if isinstance(default, bool):
        if text.casefold() not in _TRUTHS:
            raise ConfigurationError(f"expected 1 or 0, got {text!r}")
        return _TRUTHS[text.casefold()]
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(f"expected {kind.__name__}, got {text!r}") from None


def _parts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _typed(value: Any, default: Any) -> Any:
    """A TOML value as the type of a field's default; the value itself is never told, it may be a secret."""
    if isinstance(default, tuple):
        if isinstance(value, str):
            return _parts([value])
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return _parts(value)
        raise ConfigurationError("expected a list of texts")
    kind = type(default)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigurationError(f"expected {_KINDS[kind]}, got {_toml_kind(value)}")
    return value.strip() if isinstance(value, str) else value


def _toml_kind(value: Any) -> str:
    kinds: dict[type[Any], str] = {**_KINDS, list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")
