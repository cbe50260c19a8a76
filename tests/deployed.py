"""The files of deploy/: read, and taken apart for tests that hold them against the code."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(DEPLOY.glob("kubernetes/*.yaml"))
GRAFANA_WORDS = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
"""Durations that Grafana puts in."""


def required_tool(name: str, package: str) -> str:
    """Path of a tool of the system; without it the test is skipped, but never in CI."""
    path = shutil.which(name)
    if path is None:
        text = f"{name} is not here: apt-get install {package}"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return path


def documents(path: Path) -> list[dict[str, Any]]:
    """Every document of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def manifest(kind: str) -> dict[str, Any]:
    """The one Kubernetes object of a kind."""
    [found] = [one for path in MANIFESTS for one in documents(path) if one["kind"] == kind]
    return found


def rules() -> list[dict[str, Any]]:
    """Recording rules and alerts of Prometheus."""
    [file] = documents(DEPLOY / "prometheus" / "rules.yaml")
    return [rule for group in file["groups"] for rule in group["rules"]]


def board() -> dict[str, Any]:
    """Grafana's board."""
    return json.loads((DEPLOY / "grafana" / "fastagent.json").read_text(encoding="utf-8"))


def expressions() -> list[str]:
    """Every PromQL expression of rules and board."""
    found = [rule["expr"] for rule in rules()]
    found += [target["expr"] for panel in board()["panels"] for target in panel.get("targets", ())]
    found += [one["expr"] for one in board()["annotations"]["list"]]
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            found.append(re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])[1])
    for word, duration in GRAFANA_WORDS.items():
        found = [expression.replace(word, duration) for expression in found]
    return found


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """(metric, [(label, operator, value)]) of each selector.

    Raises:
        ValueError: Prometheus would not understand the expression.
    """
    yield from _selectors(promql_parser.parse(expression))


def _selectors(node: Any) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, [(one.name, str(one.op), one.value) for one in node.matchers.matchers]
    for name in ("lhs", "rhs", "expr", "args", "vector_selector", "param"):
        child = getattr(node, name, None)
        for one in child if isinstance(child, list) else [child]:
            if isinstance(one, promql_parser.Expr):
                yield from _selectors(one)


def sections(path: Path) -> dict[str, list[tuple[str, str]]]:
    """A unit file of systemd: by section its assignments, in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            current.append((name, value))
    return found
