"""deploy/: each file is read by a tool or a schema of its field, and agrees with the code and the others."""

import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from fastagent.call.gauge import DROP_CAUSES
from fastagent.call.stages import FUNCTION_STATUSES
from fastagent.server.watch.figures import FAULTS
from fastagent.server.watch.metrics import FAMILIES, REFUSALS, TROUBLES
from fastagent.settings import Settings
from fastagent.settings.sources import read_sources
from tests.deployed import (
    DEPLOY,
    MANIFESTS,
    ROOT,
    board,
    documents,
    expressions,
    manifest,
    required_tool,
    rules,
    sections,
    selectors,
)

KUBERNETES = ("1.31", "1.33", "1.37")
"""Versions whose schemas the manifests must fit."""
EXPOSURE_MAX = 1.5
"""Of 10, as `systemd-analyze security` judges the unit; docs/operations.md tells the figure."""
CLOSING_S = 10
"""What a process may take after its drain: calls that write down what they must, connections that close."""
MADE_BY_PROMETHEUS = {"up"}
LABEL_VALUES = {
    ("fastagent_calls", "fault"): FAULTS,
    ("fastagent_drops", "cause"): DROP_CAUSES,
    ("fastagent_functions", "status"): FUNCTION_STATUSES,
    ("fastagent_refusals", "cause"): REFUSALS,
    ("fastagent_troubles", "cause"): TROUBLES,
}
"""The closed sets that rules and board choose from."""
LABELS_OF_PROMETHEUS = {"job", "instance", "namespace", "pod", "le"}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a checking tool says; the test fails if it complains."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def of_this_environment(name: str) -> str:
    """A tool that the extra `test` installs."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert path is not None, f"{name} is missing: pip install '.[test]'"
    return path


# The container


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each instruction of the Dockerfile, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], " ".join(line.split()[1:])) for line in lines if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def test_hadolint_has_nothing_to_say() -> None:
    said = run(of_this_environment("hadolint"), "--failure-threshold", "info", DEPLOY / "Dockerfile")
    assert said.strip() == ""


def test_image_runs_as_a_number_that_is_not_root_and_is_told_to_drain() -> None:
    stage = dict(final_stage())
    user, _, group = stage["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(stage["ENTRYPOINT"]) == ["fastagent", "serve"]
    pods = manifest("Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert (pods["runAsUser"], pods["runAsGroup"]) == (int(user), int(group))


def test_image_is_built_of_what_is_there_and_holds_no_secret() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [named] = [rest.removeprefix("EXTRAS=") for word, rest in instructions() if rest.startswith("EXTRAS=")]
    assert set(named.split(",")) <= set(extras)
    let_in = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / path).exists() for path in let_in)
    for word, rest in instructions():
        if word in ("ENV", "ARG"):
            assert not re.search(r"TOKEN|KEY|SECRET|PASSWORD|REDIS_URL", rest), rest


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_health_check_of_the_image_tells_a_live_server_from_a_dead_one(status: int, code: int) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    asked: list[str] = []
    [check] = [rest for word, rest in final_stage() if word == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = subprocess.run(
            [sys.executable, *command[1:]],
            env={"PORT": str(server.server_port)}, capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        thread.join()
    assert asked == ["/health/live"]
    assert done.returncode == code


def test_compose_file_fits_the_specification() -> None:
    tool = of_this_environment("check-jsonschema")
    run(tool, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_compose_gives_calls_their_time_and_closes_the_rest() -> None:
    [file] = documents(DEPLOY / "compose.yaml")
    service = file["services"]["fastagent"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    drain_s = int(service["environment"]["FASTAGENT_DRAIN_TIMEOUT_SECONDS"])
    assert int(service["stop_grace_period"].removesuffix("s")) >= drain_s + CLOSING_S
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    for name in ("AUDIOCODES_TOKEN", "OPENAI_API_KEY"):
        assert service["environment"][name].startswith("${" + name + ":?")  # none is written down


# systemd


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The unit files, with a command that is there."""
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text.replace("/opt/fastagent/%i/bin/fastagent", "/bin/true"))
    return tmp_path


def test_systemd_understands_the_units(units: Path) -> None:
    tool = required_tool("systemd-analyze", "systemd")
    said = run(tool, "verify", "--man=no", units / "fastagent.socket", units / "fastagent@a.service")
    assert str(units) not in said  # what it does not understand it only warns of
    run(tool, "verify", "--man=no", units / "fastagent@b.service")


def test_unit_is_closed_as_the_page_says(units: Path) -> None:
    tool = required_tool("systemd-analyze", "systemd")
    path = units / "fastagent@.service"
    said = run(tool, "security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", path)
    assert "Overall exposure level" in said
    assert f"below {EXPOSURE_MAX} of 10" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_unit_gives_calls_their_time() -> None:
    service = dict(sections(DEPLOY / "systemd" / "fastagent@.service")["Service"])
    assert int(service["TimeoutStopSec"]) >= Settings().drain_timeout_s + CLOSING_S
    assert service["KillMode"] == "mixed"


# Kubernetes


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifest_fits_the_schema(path: Path, version: str) -> None:
    for one in documents(path):
        if one["kind"] == "Kustomization":
            assert {path.parent / name for name in one["resources"]} | {
                path,
                path.parent / "secret.example.yaml",
            } == set(MANIFESTS)
        else:
            kubernetes_validate.validate(one, version, strict=True)


def test_a_schema_is_strict_about_words_it_does_not_know() -> None:
    wrong = {**manifest("Deployment"), "spec": {**manifest("Deployment")["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def test_pods_are_left_until_their_calls_are_over() -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    settings = {one["name"]: one["value"] for one in container["env"]}
    drain_s = int(settings["FASTAGENT_DRAIN_TIMEOUT_SECONDS"])
    leave_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= leave_s + drain_s + CLOSING_S
    probe = container["readinessProbe"]
    assert leave_s >= 5 * probe["periodSeconds"] * probe["failureThreshold"]
    strategy = manifest("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxUnavailable"] == 0


def test_probes_ask_what_each_is_for() -> None:
    [container] = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    assert asked == {"livenessProbe": "/health/live", "readinessProbe": "/health/ready"}


def test_autoscaler_goes_by_calls_and_leaves_room_for_those_that_ring_meanwhile() -> None:
    [metric] = [one["pods"] for one in manifest("HorizontalPodAutoscaler")["spec"]["metrics"]]
    [rule] = documents(DEPLOY / "prometheus" / "adapter.yaml")[0]["rules"]
    assert metric["metric"]["name"] == rule["name"]["as"] == "fastagent_active_sessions"
    assert FAMILIES[metric["metric"]["name"]].kind == "gauge"
    target = int(metric["target"]["averageValue"])
    most = max_sessions()
    assert 0.5 * most <= target <= 0.7 * most
    assert metric["target"]["type"] == "AverageValue"


def max_sessions() -> int:
    [container] = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return int({one["name"]: one["value"] for one in container["env"]}["MAX_SESSIONS"])


def test_everything_is_selected_by_the_same_labels() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    [job] = documents(DEPLOY / "prometheus" / "prometheus.yaml")[0]["scrape_configs"]
    assert job["relabel_configs"][0]["regex"] == labels["app.kubernetes.io/name"]


def test_variables_of_every_file_are_settings() -> None:
    [compose] = documents(DEPLOY / "compose.yaml")
    [container] = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    named = {
        *compose["services"]["fastagent"]["environment"],
        *manifest("Secret")["stringData"],
        *(one["name"] for one in container["env"]),
        *(
            value.partition("=")[0]
            for name, value in sections(DEPLOY / "systemd" / "fastagent@.service")["Service"]
            if name == "Environment"
        ),
    }
    reading = read_sources(fields(Settings), dict.fromkeys(named, "1"))
    assert reading.unknown_variables == []
    given = {source.place for source in reading.sources.values() if source.kind == "variable"}
    assert given | {"FASTAGENT_CONFIG"} >= named


# Prometheus


@pytest.fixture(scope="module")
def promtool() -> str:
    return required_tool("promtool", "prometheus")


def test_promtool_understands_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", "--lint-fatal", DEPLOY / "prometheus" / "rules.yaml")


def test_rules_fire_when_they_should_and_only_then(promtool: str) -> None:
    run(promtool, "test", "rules", DEPLOY / "prometheus" / "rules_test.yaml")


def test_promtool_understands_the_scrape(promtool: str, tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8")
    # Debian builds Prometheus without the discovery of Kubernetes.
    text = text.replace(
        "kubernetes_sd_configs:\n      - role: pod", 'file_sd_configs: [{files: ["pods.json"]}]'
    )
    (tmp_path / "prometheus.yaml").write_text(text)
    (tmp_path / "rules.yaml").write_text((DEPLOY / "prometheus" / "rules.yaml").read_text())
    run(promtool, "check", "config", "--syntax-only", tmp_path / "prometheus.yaml")


@pytest.mark.parametrize("expression", expressions())
def test_metrics_and_labels_of_rules_and_board_are_there(expression: str) -> None:
    """The integration tests hold the same names against what a running server says."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    found = list(selectors(expression))
    assert found
    for metric, matchers in found:
        if metric in recorded | MADE_BY_PROMETHEUS:
            continue
        name = re.sub(r"_(total|bucket|count|sum)$", "", metric)
        family = FAMILIES[name]
        ending = {"counter": r"_total", "histogram": r"_(bucket|count|sum)", "gauge": ""}[family.kind]
        assert re.fullmatch(name + ending, metric), metric
        assert {label for label, _, _ in matchers} <= {*family.labels, *LABELS_OF_PROMETHEUS}
        for label, _, value in matchers:
            if label in family.labels:
                assert set(value.split("|")) <= set(LABEL_VALUES[name, label])


def test_every_alert_links_to_its_heading_and_no_heading_is_left_over() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ (FastAgent\w+)$", page, re.MULTILINE))
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert headings == set(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_alert_of_a_full_server_fits_what_the_manifests_allow() -> None:
    [rule] = [rule for rule in rules() if rule.get("alert") == "FastAgentNearlyFull"]
    assert int(rule["expr"].split()[-1]) == 0.8 * max_sessions()


# Grafana


def test_board_fits_the_model_of_grafana() -> None:
    """Whatever Grafana's own model does not know is lost when it is read and written again."""
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board())))
    assert lost(board(), again) == []


def lost(given: Any, kept: Any, path: str = "") -> list[str]:
    """Paths of what is in one value and not, or otherwise, in the other."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            fault
            for key, value in given.items()
            for fault in (lost(value, kept[key], f"{path}/{key}") if key in kept else [f"{path}/{key}"])
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [fault for number, (one, other) in pairs for fault in lost(one, other, f"{path}/{number}")]
    return [] if given == kept else [path]


def test_loss_is_seen() -> None:
    assert lost({"a": [1, {"b": 2}], "c": 3}, {"a": [1, {"b": 4}]}) == ["/a/1/b", "/c"]


def test_panels_have_numbers_of_their_own_and_a_place_each() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_family_is_on_the_board() -> None:
    shown = {
        re.sub(r"_(total|bucket|count|sum)$", "", metric)
        for panel in board()["panels"]
        for target in panel.get("targets", ())
        for metric, _ in selectors(target["expr"].replace("$__rate_interval", "5m"))
    }
    assert shown == set(FAMILIES)
