"""When a soak counts as passed, and how it ends."""

import asyncio
import os
import signal
from argparse import Namespace
from dataclasses import replace
from typing import Any

import pytest

from benches.soak import __main__ as soak
from benches.soak import samples
from benches.soak.report import judge
from benches.soak.samples import Sample, leaks

HELD = {"tasks": 9, "descriptors": 20}


def figures(what: str, finished: int, named: int, named_kept: int) -> dict[str, Any]:
    calls = {
        "failed": 0, "finished": finished, "violations": {}, "named": named, "named_resumed": named_kept,
        "named_ended": 0,
    }  # fmt: skip
    return {
        "what": what,
        "calls": calls,
        "held": {"before": HELD, "after": HELD},
        "leak": {"samples": 10},
        "calls_failed_by_us_in_metrics": 0,
        "tracebacks": 0,
    }


@pytest.mark.parametrize(
    ("what", "finished", "named", "named_kept", "is_kept"),
    [
        ("soak", 100, 0, 0, True),
        ("soak", 0, 0, 0, False),
        ("chaos", 100, 50, 50, True),
        ("chaos", 100, 50, 49, False),
        ("chaos", 100, 0, 0, False),
    ],
)
def test_a_run_in_which_nothing_happened_has_kept_nothing(
    what: str, finished: int, named: int, named_kept: int, is_kept: bool
) -> None:
    verdicts = judge(figures(what, finished, named, named_kept))
    assert all(one.is_kept is not False for one in verdicts) is is_kept


def test_the_slope_of_a_long_run_is_found_in_some_of_its_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SLOPE_SAMPLES_MAX", 12)
    asked: list[int] = []
    theil_sen = samples.theil_sen

    def counted(x: Any, y: Any, *, seed: int) -> Any:
        asked.append(len(x))
        return theil_sen(x, y, seed=seed)

    monkeypatch.setattr(samples, "theil_sen", counted)
    look = Sample(0.0, 0, 0, 10**8, 10**8, 9, 9, 9, 9, 0.0, 0.0, 0.0, 0.0, 0.0)
    run = [
        replace(look, at_s=5.0 * n, calls_over=10 * n, rss_bytes=10**8 + 70 * n, blocks=n) for n in range(400)
    ]
    found = leaks(run, seed=1)
    assert set(asked) == {12}
    assert found["samples"] == 300
    assert found["rss_bytes_per_call"]["value"] == pytest.approx(7.0)


def test_sigterm_ends_a_run_and_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def run(options: Namespace) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(30)
        finally:
            ended.append("servers")

    monkeypatch.setattr(soak, "_run", run)
    monkeypatch.setattr(soak.logging, "disable", lambda level: None)  # else for all tests to come
    assert soak.main(["soak", "1"]) == 128 + signal.SIGTERM
    assert ended == ["servers"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
