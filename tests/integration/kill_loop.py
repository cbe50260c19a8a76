"""SIGKILL again and again under calls: what was acknowledged is kept, and soon there is a server again.

``python -m tests.integration.kill_loop --kills 100`` prints one JSON line.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from fastagent.errors import FastAgentError
from fastagent.journal import read_journal
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.processes import House, Process
from tests.integration.test_state_calls import Talk, say_nothing

AGENT = """\
from fastagent import AFSMState, FastAgent
from fastagent.agent import Task


class Step(AFSMState):
    async def process(self, input_text, context):
        (other,) = self.allowed_transitions
        return {"response": f"at {input_text}", "next_state": other, "confidence": 1.0}


states = [Step("even", "Go on.", ["odd"]), Step("odd", "Go on.", ["even"])]
agent = FastAgent("walker", instructions="Walk.", tasks=[Task("walk", "Walk.", None, states, "even")])
"""
CALLS = 3
SERVING_TIMEOUT_S = 30.0
SETTLE_S = 0.05
"""For what was sent before the kill to be read."""


@dataclass
class Report:
    """What came of it."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    torn: int = 0
    """Journals that end in half a line; that is no loss: it was not acknowledged."""
    again_s: list[float] = field(default_factory=list)
    """From each kill to the first call taken by the next process."""

    def line(self) -> str:
        ordered = sorted(self.again_s)
        return json.dumps(
            {
                "kills": self.kills,
                "acknowledged_transitions": self.acknowledged,
                "lost": self.lost,
                "torn_journals": self.torn,
                "serving_again_s": {
                    "median": round(statistics.median(ordered), 3),
                    "p95": round(ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)], 3),
                    "max": round(ordered[-1], 3),
                },
            }
        )


class Walker:
    """One call whose model walks on, and remembers how far it was told to be."""

    def __init__(self, url: str, conversation_id: str) -> None:
        self._url = url
        self.conversation_id = conversation_id
        self.acknowledged = 0

    async def walk(self, model: RealtimeModel, number: int) -> None:
        phone = AudioCodesPhone(LineOptions(), conversation_id=self.conversation_id)
        try:
            await phone.connect(self._url)
            await phone.initiate()
            talk = Talk(await model.session(number))
            await talk.call("walk")
            for n in range(10_000):
                report = await talk.call("task_reply", task="walk", answer=str(n))
                assert report["say"] == f"at {n}", report
                self.acknowledged = n + 1
        except FastAgentError:
            pass  # the kill
        finally:
            await phone.close()


async def kill_loop(folder: Path, kills: int, seed: int = 1) -> Report:
    """Run it; the folder keeps the journals."""
    rng = random.Random(seed)
    report = Report()
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(RealtimeModel())
        model.on_response = say_nothing
        here = House(folder, model.url)
        here.settings += [f"journals_dir={folder / 'journals'}"]
        (folder / "desk_of_test.py").write_text(AGENT)
        killed_at = 0.0
        for _ in range(kills + 1):
            async with here.process() as process:
                await first_call(here, model)
                if killed_at:
                    report.again_s.append(time.monotonic() - killed_at)
                if report.kills < kills:
                    await one_life(here, model, process, rng.uniform(0.05, 0.6), report)
                    killed_at = time.monotonic()
                    report.kills += 1
    return report


async def first_call(here: House, model: RealtimeModel) -> None:
    """Call until somebody answers."""
    async with asyncio.timeout(SERVING_TIMEOUT_S):
        while True:
            phone = AudioCodesPhone(LineOptions())
            number = len(model.sessions)
            try:
                await phone.connect(here.url)
                await phone.initiate()
                await model.session(number)
                await phone.hang_up()
                return
            except FastAgentError:
                await asyncio.sleep(0.01)
            finally:
                await phone.close()


async def one_life(
    here: House, model: RealtimeModel, process: Process, life_s: float, report: Report
) -> None:
    walkers = [Walker(here.url, f"life{report.kills}-call{n}") for n in range(CALLS)]
    tasks = []
    for walker in walkers:
        number = len(model.sessions)
        tasks.append(asyncio.create_task(walker.walk(model, number)))
        await model.session(number)
    await asyncio.sleep(life_s)
    process.signal(signal.SIGKILL)
    await process.process.wait()
    await asyncio.sleep(SETTLE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for walker in walkers:
        path = here.folder / "journals" / f"{walker.conversation_id}.journal"
        reading = read_journal(path)
        kept = sum(entry.kind == "transition" for entry in reading.entries())
        report.acknowledged += walker.acknowledged
        report.lost += max(0, walker.acknowledged - kept)
        report.torn += reading.torn_bytes > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        report = runner.run(kill_loop(Path(folder), options.kills, options.seed))
    print(report.line())
    return 1 if report.lost else 0


if __name__ == "__main__":
    sys.exit(main())
