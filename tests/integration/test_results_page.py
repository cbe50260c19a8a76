"""The page of results, made from figures that were stored: no server is measured and no peer is built."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import fastagent
from benches.page.__main__ import main as page
from benches.page.findings import Findings, Kernel, Machine, RelayFindings
from benches.page.goals import goals_of
from benches.page.markdown import page_of
from benches.page.measure import PARTS
from benches.peers.climb import Climb, Step
from benches.peers.peer import PEERS
from fastagent.cli import bench, main

ROOT = Path(__file__).resolve().parents[2]


def climb(name: str, title: str, *steps: Step) -> Climb:
    return Climb(name, title, "1.0", steps)


def step(calls: int, cpu: float, p99_ms: float, kib: float | None = 50.0) -> Step:
    return Step(
        calls=calls,
        seconds=2,
        cpu_ms_per_call_s=cpu,
        core_percent=calls * cpu / 10,
        up_p50_ms=p99_ms / 4,
        up_p99_ms=p99_ms,
        down_p50_ms=p99_ms / 4,
        down_p99_ms=p99_ms / 2,
        kib_per_further_call=kib,
        rss_mib=90,
    )


def trial(mode: str, cpu: float) -> dict[str, object]:
    way = {"n": 100, "p50_us": 50.0, "p99_us": 200.0}
    stage = {"calls": 300, "cpu_ms_per_call_s": cpu, "server_cpu_percent": 30.0, "up": way, "down": way}
    name = "bridge" if mode == "bridge" else "haproxy"
    return {
        "server": name, "mode": mode, "media_format": "twilio/mulaw", "faults": [], "disturbed": False,
        "stages": {"10": stage, "300": stage},
    }  # fmt: skip


@pytest.fixture
def findings() -> Findings:
    ours = climb("fastagent", "FastAgent", step(10, 1.5, 0.3, None), step(50, 1.0, 0.5), step(1000, 0.9, 4.0))
    verdict = {
        "media_format": "twilio/mulaw", "goal": "memory per further call", "figure": "120.0 KiB",
        "limit": "<= 96 KiB", "is_met": False,
    }  # fmt: skip
    return Findings(
        date="2026-11-21",
        commit="0123456789",
        is_dirty=False,
        command="fastagent bench",
        machine=Machine("Some Processor", "some-processor-cpython-3.11", 2, "6.1", "3.11.7", "HAProxy 3.0"),
        took_s=1200.0,
        kernels=[
            Kernel("encode", "block", 90, {"fastagent": 60, "numpy": 800}, {"fastagent": 62, "numpy": 810}),
            Kernel("pump carry", "message", 100, {"fastagent": 140}, {"fastagent": 150}),
        ],
        relay=RelayFindings([verdict], [trial("relay", 1.0), trial("bridge", 1.2)]),
        capacity=[ours],
        peers=[
            ours,
            climb("fastapi", "FastAPI pass-through", step(10, 6.0, 2.0), step(50, 5.5, 9.0, 300.0)),
            climb(
                "pipecat",
                "Pipecat",
                step(10, 30.0, 220.0, None),
                Step(50, 2.0, failure="3 calls failed: <model> & more"),
            ),
        ],
    )  # fmt: skip


@pytest.fixture
def stored(findings: Findings, tmp_path: Path) -> Path:
    path = tmp_path / "stored.json"
    findings.save(path)
    return path


def test_every_goal_stands_on_the_page_beside_its_figure_hit_or_missed(stored, tmp_path, capsys) -> None:
    assert page(["--from", str(stored), "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "results.md").read_text()

    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| (hit|\*\*missed\*\*|not measured) \|$", text, re.MULTILINE
    )
    told = {what: (goal, figure, verdict) for what, goal, figure, verdict in rows}
    assert told["capacity: calls on one core, p99 of each way at most 5 ms"] == ("≥ 1000", "1000", "hit")
    assert told["capacity: memory per further call"] == ("≤ 64 KiB", "50 KiB", "hit")
    assert told["peers: CPU per call, FastAPI pass-through / FastAgent, 50 calls"] == ("≥ 4×", "5.5×", "hit")
    assert told["relay: CPU beside the byte relay, passthrough, twilio/mulaw"] == (
        "≤ 1.1×",
        "1.20×",
        "**missed**",
    )
    assert told["relay: twilio/mulaw: memory per further call"] == ("≤ 96 KiB", "120.0 KiB", "**missed**")
    assert told["kernels: kernels within their goals"] == ("all of 2", "1", "**missed**")
    assert "3 hit, 3 missed." in text
    assert "| pump carry | message | 150 ns | ≤ 100 ns | **missed** |  |" in text
    assert "missed: relay: CPU beside the byte relay" in capsys.readouterr().out


def test_the_page_tells_machine_date_and_commit_and_links_to_pictures_that_are_there(
    stored, tmp_path
) -> None:
    page(["--from", str(stored), "--out", str(tmp_path / "page")])
    text = (tmp_path / "page" / "results.md").read_text()

    for fact in (
        "Some Processor, 2 cores",
        "2026-11-21",
        "`0123456789`",
        "HAProxy 3.0",
        "`fastagent bench`, 20 min",
    ):
        assert fact in text
    shown = re.findall(r"!\[.*?\]\((.+?)\)", text)
    assert {"peers-cpu.svg", "peers-p99.svg", "capacity-p99.svg", "relay-cpu.svg"} <= set(shown)
    for name in shown:
        assert ElementTree.parse(tmp_path / "page" / name).getroot().tag.endswith("svg")


def test_how_many_calls_a_peer_held_within_each_limit(stored, tmp_path) -> None:
    page(["--from", str(stored), "--out", str(tmp_path / "page")])
    text = (tmp_path / "page" / "results.md").read_text()

    assert "| FastAPI pass-through 1.0 | 10 | 50 | 50 | 5.50 ms/s | 300 KiB |" in text
    assert "| Pipecat 1.0 | none | none | 10 | 30.00 ms/s | – |" in text
    assert "3 calls failed: &lt;model> & more" in text


def test_a_run_on_a_busy_machine_says_so_beside_its_verdicts(findings, tmp_path) -> None:
    assert "believe no verdict" not in page_of(findings, [])
    busy = replace(step(10, 1.5, 0.3), others_percent=40.0)
    disturbed = replace(findings, capacity=[climb("fastagent", "FastAgent", busy)])
    assert "**Others used the server's core in 1 of 10 trials**" in page_of(disturbed, [])


def test_what_was_not_run_is_a_goal_not_measured_and_misses_are_an_exit_code(findings, tmp_path) -> None:
    only_relay = replace(findings, kernels=[], capacity=[], peers=[])
    only_relay.save(tmp_path / "relay.json")

    assert page(["--from", str(tmp_path / "relay.json"), "--out", str(tmp_path / "page"), "--strict"]) == 1
    text = (tmp_path / "page" / "results.md").read_text()
    assert "| capacity: memory per further call | ≤ 64 KiB | – | not measured |" in text
    assert "## Capacity" not in text
    assert {goal.section for goal in goals_of(only_relay) if goal.is_met is None} == {
        "capacity",
        "peers",
        "kernels",
    }


def test_stored_figures_come_back_as_they_were(findings, stored) -> None:
    assert Findings.load(stored) == findings
    stored.write_text(stored.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(ValueError, match="expected schema 1, got 9"):
        Findings.load(stored)


def test_the_verb_runs_the_checkout_s_bench_with_paths_as_seen_from_here(
    stored, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--from", stored.name, "--out", "drawn"]) == 0
    assert (tmp_path / "drawn" / "results.md").exists()


def test_the_verb_says_plainly_that_there_is_no_checkout(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fastagent, "__file__", str(tmp_path / "site-packages" / "fastagent" / "__init__.py"))
    assert main(["bench", "--quick"]) == 1
    assert "no checkout here" in capsys.readouterr().err


def test_an_unknown_part_is_refused_before_anything_runs(capsys) -> None:
    with pytest.raises(SystemExit) as left:
        page(["kernel"])
    assert left.value.code == 2
    assert f"among {', '.join(PARTS)}" in capsys.readouterr().err


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_a_short_server_whose_every_package_is_pinned(peer) -> None:
    lines = peer.requirements.read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert f"{peer.package}=={peer.version}" in lines
    assert list(peer.levels) == sorted(set(peer.levels))
    source = peer.server.read_text()
    assert "import fastagent" not in source
    assert "from fastagent" not in source


def test_the_verb_finds_this_checkout() -> None:
    assert bench.checkout() == ROOT
    done = subprocess.run(
        [sys.executable, "-m", "benches.page", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "capacity" in done.stdout
