"""Reports: what is printed and written is the reading, with its shares and its gaps."""

import json
import xml.etree.ElementTree as ElementTree

from fastagent.profile.reading import (
    GcReading,
    LoopReading,
    MemoryReading,
    ProcessReading,
    ProfileReading,
    StageReading,
    StagesReading,
    WayReading,
)
from fastagent.profile.report import ProfileReport
from fastagent.profile.stacks import Sampler, Stacks
from fastagent.profile.syscalls import SystemCalls


def reading(*, forced: int = 0) -> ProfileReading:
    uplink = WayReading(
        frames=1000,
        timed=100,
        allocations_per_frame=0.0,
        whole=StageReading(frames=100, mean_ns=4000.0, p50_ns=3000.0, p99_ns=9000.0),
        stages={
            "scan": StageReading(frames=100, mean_ns=1000.0, p50_ns=900.0, p99_ns=2000.0),
            "send": StageReading(frames=50, mean_ns=6000.0, p50_ns=5000.0, p99_ns=9000.0),
        },
    )
    still = WayReading(
        frames=0,
        timed=0,
        allocations_per_frame=0.0,
        whole=StageReading(frames=0, mean_ns=0.0, p50_ns=0.0, p99_ns=0.0),
        stages={},
    )
    return ProfileReading(
        pid=7,
        version="1",
        python="CPython 3",
        seconds=2.0,
        calls_begin=1,
        calls_end=1,
        stages=StagesReading(
            clock="tsc", clock_ns=9.0, every=10, ways={"uplink": uplink, "downlink": still, "tick": still}
        ),
        loop=LoopReading(
            beats=9,
            lag_mean_ms=0.1,
            lag_p50_ms=0.5,
            lag_p99_ms=1.0,
            lag_max_ms=1.5,
            bounds_ms=(1,),
            counts=(8, 1),
        ),
        gc=GcReading(collections=(3, 2, 1), pause_total_ms=4.0, pause_max_ms=2.0),
        memory=MemoryReading(
            allocations=5000, blocks_delta=3, rss_bytes=50_000_000, rss_delta_bytes=2048, page_faults=4
        ),
        process=ProcessReading(
            user_s=0.1, system_s=0.1, loop_s=0.2, switches_voluntary=5, switches_forced=forced, threads=2
        ),
    )


def report(**changes: object) -> ProfileReport:
    made = ProfileReport("a <server>", reading(forced=int(str(changes.pop("forced", 0)))))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_shares_are_of_all_timed_frames():
    lines = [line.split() for line in report().text().splitlines()]
    scan = next(words for words in lines if words[:1] == ["scan"])
    send = next(words for words in lines if words[:1] == ["send"])
    # 1000 ns in each frame beside 6000 ns in every second one.
    assert (scan[1], scan[3], scan[4]) == ("25.0", "1000", "100")
    assert (send[1], send[3], send[4]) == ("75.0", "3000", "50")


def test_figures_a_frame_are_those_of_audio():
    text = report().text()
    assert "200.0 µs of processor, all in all (1000 frames)" in text
    assert "5000 in the whole process, 5.00 a frame of audio" in text
    assert "3 + 2 + 1 of generations" in text
    assert "tick:" not in text


def test_a_busy_machine_is_told_of():
    assert "disturbed" not in report(forced=30).text()
    assert "disturbed" in report(forced=50).text()


def test_gaps_are_told_everywhere():
    made = report(unmeasured=["stacks: perf is not installed"])
    assert "not measured: stacks: perf is not installed" in made.text()
    assert json.loads(made.json())["unmeasured"] == ["stacks: perf is not installed"]
    assert "Not measured: stacks" in made.html()
    assert made.svg() is None


def test_system_calls_a_frame_need_frames():
    made = report(system_calls=SystemCalls("strace", {"sendto": 30, "read": 10}))
    assert made.system_calls_per_frame is None
    made.system_calls_frames = 20
    assert made.system_calls_per_frame == 2.0
    assert "system calls by strace: 2.00 a frame of audio" in made.text()
    assert json.loads(made.json())["system_calls"]["per_frame"] == 2.0


def test_page_and_picture_hold_the_stacks():
    stacks = Stacks(Sampler.PERF, 199, 2.0, {("main (a.py:1)", "send (libc.so.6)"): 4}, 1)
    made = report(stacks=stacks)
    ElementTree.fromstring(made.svg() or "")
    assert made.svg() in made.html()
    assert "a &lt;server&gt;" in made.html()
    assert json.loads(made.json())["stacks"]["groups"] == {"kernel, system calls": 4}
    assert "100.0 %  send (libc.so.6)" in made.text()
