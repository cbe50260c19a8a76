"""``fastagent load`` against real servers: calls of every carrier, a stranger's bridge, limits and void runs.

Nothing here judges how fast anything is: the machine has other tests to run.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import uvloop

from fastagent import FastAgent
from fastagent.cli import main
from fastagent.load import LoadRun, LoadTest, ModelOptions, Plan, Scenario, Stage, Target, page, parse_limit
from fastagent.load import report as judged
from fastagent.load import run as load_run
from fastagent.load.speech import babble
from fastagent.server.process import run_server
from fastagent.settings import Settings
from fastagent.testing.caller_script import KeysStep, SayStep
from fastagent.testing.fault_flow import Shape
from tests.integration.processes import ROOT, free_port
from tests.integration.scene import PUBLIC_URL, TWILIO, TWILIO_TOKEN, UNLIMITED

AGENT_TOKEN = "a-token-of-an-application"
CARRIER_TOKEN = "a-token-of-the-carrier-1"
START_LIMIT_S = 20.0
TARGETS = {
    "audiocodes": ("ws://127.0.0.1:{}/audiocodes/webhook", CARRIER_TOKEN, "raw/mulaw"),
    "twilio": ("http://127.0.0.1:{}/twilio/webhook", TWILIO_TOKEN, ""),
    "agent": ("ws://127.0.0.1:{}/agent/ws", AGENT_TOKEN, "audio/pcm;rate=8000"),
}
"""What each carrier calls; the last one has its audio resampled on the way."""
ONE_TURN = Scenario((KeysStep("1"), SayStep("")), first_pause_s=(0.0, 0.1))
SHORT = {"": babble(400, 1)}


def load_test(target, model_port, *, calls=3, duration_s=60.0, scenario=ONE_TURN, call_s=None, **more):
    return LoadTest(
        target,
        Plan((Stage(duration_s, calls),), opening_per_s=50, settle_s=0.1, call_s=call_s),
        scenario=scenario,
        voices=SHORT,
        model=ModelOptions(port=model_port, silence_ms=200),
        **more,
    )


@pytest.fixture(scope="module", autouse=True)
def short_seconds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_run, "TICK_S", 0.1)
        yield


async def run_until(answers, test):
    """A run that ends with its first look at so many answers: no machine is too slow for that, none waits."""

    def look(second):
        if load.is_measuring and load.counts["answers"] >= answers:
            load.stop()

    load = LoadRun(test, on_second=look)
    return (await load.run()).as_json()


def run(work):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@contextlib.asynccontextmanager
async def served(model_port):
    settings = Settings(
        port=0,
        realtime_url=f"ws://127.0.0.1:{model_port}/v1/realtime",
        audiocodes_tokens=(CARRIER_TOKEN,),
        agent_tokens=(AGENT_TOKEN,),
        barge_in="model",
        **TWILIO,
        **UNLIMITED,
    )
    async with run_server(FastAgent("desk", instructions="Be brief."), settings) as server:
        yield server


@pytest.fixture(scope="module")
def reports():
    """A run of each carrier, at the same time: most of a run is waiting."""

    async def call(carrier, url, token, media):
        port = free_port()
        async with served(port) as server:
            public = PUBLIC_URL if carrier == "twilio" else ""
            target = Target(carrier, url.format(server.port), token, public, media=media)
            return await run_until(3, load_test(target, port, limits=tuple(parse_limit("failed=0"))))

    async def main():
        runs = (call(carrier, *target) for carrier, target in TARGETS.items())
        return dict(zip(TARGETS, await asyncio.gather(*runs), strict=True))

    return run(main())


@pytest.mark.parametrize("carrier", TARGETS)
def test_every_carrier_calls_speaks_is_answered_and_hangs_up(carrier, reports):
    total = reports[carrier]["total"]
    counts = total["counts"]
    assert total["failures"] == {}
    assert counts["begun"] == counts["answered"] == counts["completed"] >= 3
    assert counts["answers"] >= 3
    assert counts["keys"] >= 3
    assert counts["frames_sent"] > 100
    assert "left_open" not in counts
    assert "unreadable" not in counts
    assert total["durations"]["setup"]["n"] == counts["answered"]
    assert total["durations"]["turn"]["n"] == counts["answers"]


@pytest.mark.parametrize("carrier", TARGETS)
def test_marks_are_found_both_ways_whatever_became_of_the_audio(carrier, reports):
    durations, counts = reports[carrier]["total"]["durations"], reports[carrier]["total"]["counts"]
    assert durations["up"]["n"] >= 3
    assert durations["down"]["n"] >= 3
    assert counts["marks_heard"] > 0.8 * counts["marks_sent"]
    if carrier == "agent":
        assert durations["up_frame"]["n"] < 0.1 * counts["frames_sent"]
    else:
        # Frames before the pairing are nobody's, and those at the end of a run may not arrive any more.
        assert durations["up_frame"]["n"] > 0.2 * counts["frames_sent"]


def test_the_report_is_json_and_one_page_without_network(reports):
    text = page(json.loads(json.dumps(reports["twilio"])))

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.seen, self.addresses = [], set(), []

        def handle_starttag(self, tag, attrs):
            self.seen.add(tag)
            self.addresses += [value for name, value in attrs if name in ("src", "href")]
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag):
            if tag in ("line", "rect", "polyline", "circle"):
                return
            assert self.open.pop() == tag

        def handle_startendtag(self, tag, attrs):
            self.seen.add(tag)

    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert {"svg", "polyline", "table"} <= reader.seen
    assert "script" not in reader.seen
    assert reader.addresses == []
    assert TWILIO_TOKEN not in text


def test_a_strangers_bridge_is_measured_through_faults():
    port, model_port = free_port(), free_port()
    command = [sys.executable, "-m", "tests.integration.foreign_bridge", str(port)]
    command.append(f"ws://127.0.0.1:{model_port}/v1/realtime")
    target = Target("twilio", f"ws://127.0.0.1:{port}/media-stream")

    async def main(pid):
        for _ in range(int(START_LIMIT_S / 0.05)):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        fault = Shape(delay_s=0.05)
        return await run_until(2, load_test(target, model_port, calls=2, fault=fault, pid=pid))

    with subprocess.Popen(command, cwd=ROOT) as bridge:
        try:
            report = run(main(bridge.pid))
        finally:
            bridge.kill()
    counts, stage = report["total"]["counts"], report["stages"][0]
    assert counts["answers"] >= 2
    assert "failed" not in counts
    assert counts["verbatim"] > 20
    assert report["model_side"]["paired_by_order"] == 0
    assert report["total"]["durations"]["up"]["p50_ms"] >= 49
    assert stage["rss_mib"] > 5
    assert stage["cpu_percent"] is not None


def command_line(port, *more):
    target = [
        "--url",
        f"ws://127.0.0.1:{port}/audiocodes/webhook",
        "--model-listen",
        f"127.0.0.1:{free_port()}",
    ]
    return [
        "load",
        *target,
        "--calls",
        "1",
        "--duration",
        "0.3",
        "--settle-s",
        "0",
        "--ramp",
        "1000/s",
        "--quiet",
        *more,
    ]


@pytest.fixture
def calm(monkeypatch):
    """A generator that is never too slow, on whatever machine."""
    monkeypatch.setattr(judged, "OWN_LATE_P99_MS_MAX", 1e9)
    monkeypatch.setattr(judged, "OWN_CPU_SHARE_MAX", 1e9)


def test_exit_codes_tell_of_limits_and_of_a_server_that_is_not_there(calm, capsys, tmp_path):
    nobody = free_port()
    out = tmp_path / "load.json"
    assert main(command_line(nobody, "--limit", "failed=0", "--json", str(out))) == 1
    assert "failed was" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["verdict"] == "broken"
    assert set(report["total"]["failures"]) == {"not reachable"}
    assert main(command_line(nobody, "--limit", "failed=1000000")) == 0


@pytest.mark.parametrize(
    "more",
    [
        ["--limit", "warp=9"],
        ["--steps", "5,3"],
        ["--rate", "5/s"],
        ["--fault", "gremlins=1"],
        ["--url", "http://x"],
        ["--media", "tape"],
        ["--find-knee", "--most", "0"],
        ["--call-s", "nan"],
        ["--script", "/nowhere.txt"],
    ],
)
def test_a_wrong_command_line_is_said_before_anything_is_called(more, capsys):
    arguments = [one for one in command_line(1) if one not in ("--calls", "1")] + more
    assert main(arguments) == 2
    assert "fastagent load: " in capsys.readouterr().err


def test_a_late_generator_makes_a_run_void(monkeypatch, capsys):
    monkeypatch.setattr(judged, "OWN_CPU_SHARE_MAX", -1.0)
    assert main(command_line(free_port())) == 3
    assert "VOID" in capsys.readouterr().out


def test_a_run_that_is_stopped_reports_what_was(calm):
    async def main():
        port = free_port()
        async with served(port) as server:
            target = Target("audiocodes", TARGETS["audiocodes"][0].format(server.port), CARRIER_TOKEN)
            test = load_test(target, port, calls=1, duration_s=600, scenario=Scenario())
            answered = asyncio.Event()
            load = LoadRun(test, on_second=lambda second: second.live and answered.set())
            work = asyncio.create_task(load.run())
            await asyncio.wait_for(answered.wait(), 20)
            load.stop()
            async with asyncio.timeout(20):
                return (await work).as_json()

    report = run(main())
    assert report["is_interrupted"]
    assert report["total"]["counts"]["completed"] == 1
