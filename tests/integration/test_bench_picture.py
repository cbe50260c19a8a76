"""Baseline, comparison and picture of the benches: made from reports, and once from a real run."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benches import compare, picture
from benches.baseline import Figures, Subject, load, machine_class, read_results, save

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"


def case(
    name: str, min_ns: float, *, group: str = "g", param: str | None = None, **info: Any
) -> dict[str, Any]:
    return {
        "fullname": f"benches/test_bench_x.py::{name}",
        "name": name,
        "group": group,
        "param": param,
        "params": {"engine": param} if param else None,
        "extra_info": info,
        "stats": {"min": min_ns / 1e9, "median": min_ns * 1.5 / 1e9},
    }


def frame(implementation: str, min_ns: float, subject: str = "vad speech", **info: Any) -> dict[str, Any]:
    named = {"subject": subject, "implementation": implementation, "unit": "20 ms frame"}
    return case(f"{subject} {implementation}", min_ns, **named, **info)


def results(ours_ns: float, peer_ns: float, lone_ns: float = 500.0) -> dict[str, Subject]:
    lone = frame("fastagent", lone_ns, "level meter")
    report = [frame("fastagent", ours_ns, goal_ns=3000), frame("webrtc", peer_ns), lone]
    return read_results([{"benchmarks": report}])


def test_case_is_named_by_its_extra_info_else_by_group_and_engine() -> None:
    report = [
        case("test_a", 100.0, group="resample", param="soxr-HQ"),
        case("test_b", 50.0, group="resample", param="fastagent"),
        frame("fastagent", 4000.0, units_per_call=5, goal_ns=900),
    ]
    assert read_results([{"benchmarks": report}]) == {
        "resample": Subject(
            "call", None, {"soxr-HQ": Figures(100.0, 150.0), "fastagent": Figures(50.0, 75.0)}
        ),
        "vad speech": Subject("20 ms frame", 900.0, {"fastagent": Figures(800.0, 1200.0)}),
    }


def test_cases_of_one_group_are_told_apart_by_their_parameters() -> None:
    report = [case("test_a", 100.0), case("test_a", 200.0)]
    report[0]["param"], report[1]["param"] = "mulaw", "pcm16"
    assert list(read_results([{"benchmarks": report}])) == ["g [mulaw]", "g [pcm16]"]


def test_two_cases_may_not_claim_one_name() -> None:
    with pytest.raises(ValueError, match="both measure 'vad speech' of 'webrtc'"):
        read_results([{"benchmarks": [frame("webrtc", 1.0), frame("webrtc", 2.0)]}])


def test_several_runs_give_the_least_minimum_and_the_middle_median() -> None:
    runs = [{"benchmarks": [frame("fastagent", ns)]} for ns in (120.0, 100.0, 400.0)]
    assert read_results(runs)["vad speech"].figures["fastagent"] == Figures(100.0, 180.0)


def test_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = results(1000.0, 3000.0)
    path = tmp_path / "some" / "class.json"
    save(path, kept, runs=3)
    assert load(path) == kept
    first = path.read_bytes()
    save(path, dict(reversed(kept.items())), runs=3)
    assert path.read_bytes() == first


def test_missing_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="scripts/bench baseline"):
        load(tmp_path / "none.json")


def test_machine_class_names_processor_and_interpreter_and_no_host() -> None:
    cpuinfo = (
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC (tm)\n\nprocessor\t: 1\n"
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert machine_class(cpuinfo) == f"amd-epyc-tm-25-17-{sys.implementation.name}-{version}"


@pytest.mark.parametrize(
    ("ours_ns", "peer_ns", "lone_ns", "slow"),
    [
        (1000.0, 3000.0, 500.0, []),
        (1400.0, 3000.0, 500.0, ["vad speech"]),
        (1200.0, 3000.0, 500.0, []),
        (2000.0, 6000.0, 1000.0, []),  # the machine has become half as fast
        (1400.0, 3000.0, 700.0, ["vad speech", "level meter"]),
        (2000.0, 6000.0, 2000.0, ["level meter"]),
        (1000.0, 1500.0, 500.0, ["vad speech", "level meter"]),  # the machine twice as fast, ours not
    ],
)
def test_slowdown_is_judged_against_the_peers_of_the_same_run(
    ours_ns: float, peer_ns: float, lone_ns: float, slow: list[str]
) -> None:
    found = compare.changes(results(1000.0, 3000.0), results(ours_ns, peer_ns, lone_ns))
    assert sorted(change.subject for change in found if change.is_slow) == sorted(slow)


def test_few_nanoseconds_are_no_slowdown_whatever_their_share() -> None:
    found = compare.changes(results(20.0, 3000.0), results(32.0, 3000.0))
    assert found[0].slowdown == pytest.approx(0.6)
    assert not found[0].is_slow


def test_measuring_again_keeps_the_shorter_time() -> None:
    both = compare.merged(results(1500.0, 3000.0), results(1000.0, 3500.0))
    assert both["vad speech"].figures["fastagent"].min_ns == 1000.0
    assert both["vad speech"].figures["webrtc"].min_ns == 3000.0


def test_picture_shows_every_case_counted_in_frames(tmp_path: Path) -> None:
    subjects = results(1000.0, 3000.0)
    subjects["relay whole call"] = Subject("call", None, {"fastagent": Figures(1.0, 1.0)})
    files = picture.draw(subjects, tmp_path / "kernels", deepcopy(subjects))
    png, svg = (path.read_bytes() for path in files)
    assert png.startswith(PNG)
    text = " ".join(ElementTree.fromstring(svg).itertext())
    for shown in ("vad", "speech", "webrtc", "3 µs", "3×", "goal", "stored baseline", "level", "meter"):
        assert shown in text
    assert "whole call" not in text


def test_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="20 ms frame"):
        picture.draw({}, tmp_path / "kernels")


def test_baseline_compare_and_picture_run_on_real_benches(tmp_path: Path) -> None:
    def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            f"benches.{module}",
            *arguments,
            "-k",
            "g711 and frame and ulaw and encode",
        ]
        # pytest-benchmark refuses to measure in what looks like a worker of ours.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    path = tmp_path / "baseline.json"
    made = run("baseline", "--runs", "1", "--out", str(path))
    assert made.returncode == 0, made.stderr
    assert set(load(path)["g711 ulaw encode"].figures) >= {"fastagent", "numpy-table"}
    # A baseline no kernel could keep: the comparison must be able to fail.
    content = json.loads(path.read_text())
    content["subjects"]["g711 ulaw encode"]["implementations"]["fastagent"]["min_ns"] /= 10
    path.write_text(json.dumps(content))
    compared = run("compare", "--runs", "1", "--baseline", str(path))
    assert compared.returncode == 1
    assert "SLOWER" in compared.stdout
    drawn = run("picture", str(tmp_path / "kernels"))
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "kernels.png").read_bytes().startswith(PNG)
