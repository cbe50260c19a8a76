"""Many short calls, one after another: tasks, descriptors, timers and memory come back to where they were.

``python -m tests.integration.churn --calls 5000`` prints one JSON line. The server is a process of its own
(``--serve MODEL_URL``), which answers each line on its standard input with its figures.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from fastagent import FastAgent
from fastagent.errors import FastAgentError
from fastagent.server.process import RunningServer, run_server
from fastagent.settings import Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone
from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.processes import ROOT, dial, new_phone
from tests.integration.scene import UNLIMITED

WARM_UP_CALLS = 1000
"""Until the heap has seen every mixture of calls; then it stays as large as it is."""
AT_ONCE = 8
RESUME_GRACE_S = 0.3
IDLE_TIMEOUT_S = 20.0
KINDS = 8
"""Every so manieth call is lost for good, another is resumed, another refused; the others hang up."""


def figures(server: RunningServer) -> dict[str, int]:
    """What the process holds."""
    gc.collect()
    timers = [one for one in gc.get_objects() if type(one).__name__ == "TimerHandle"]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "timers": sum(not one.cancelled() for one in timers),
        "objects": len(gc.get_objects()),
        "calls": server.service.switchboard.active_calls,
        "connections": server.service.connections.held,
        "rss_bytes": pages * os.sysconf("SC_PAGESIZE"),
    }


async def serve(model_url: str, folder: str) -> None:
    """The server's side."""
    settings = Settings(
        port=0,
        realtime_url=model_url,
        barge_in="local",
        resume_grace_s=RESUME_GRACE_S,
        drain_timeout_s=1.0,
        journals_dir=f"{folder}/journals",
        recordings_dir=f"{folder}/recordings",
        **UNLIMITED,
    )
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with run_server(FastAgent("churn", instructions="Be brief."), settings) as server:
        print(server.audiocodes_url, flush=True)
        while await reader.readline():
            print(json.dumps(figures(server)), flush=True)


class Server:
    """The process, seen from here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def idle(self) -> dict[str, int]:
        """Its figures once nothing of any call is left."""
        assert self._process.stdin is not None
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            former: dict[str, int] = {}
            while True:
                self._process.stdin.write(b"\n")
                found: dict[str, int] = json.loads(await self.read())
                is_still = all(found[name] == former.get(name) for name in ("tasks", "descriptors", "timers"))
                if is_still and not (found["calls"] or found["connections"]):
                    return found
                former = found
                await asyncio.sleep(0.25)


async def one_call(url: str, number: int) -> None:
    kind = number % KINDS
    if kind == 3:
        phone = new_phone()
        await phone.connect(url)
        phone.send_raw(b'{"type":"session.resume","conversationId":"nobody"}')
        try:
            await phone.wait_until(lambda line: False, "the refusal")
        except FastAgentError:
            await phone.close()
        return
    phone: AudioCodesPhone = await dial(url)
    await phone.say(bytes(2400), 24_000)
    if kind == 1:
        await phone.drop()
        return
    if kind == 2:
        await phone.drop()
        await phone.resume()
    await phone.hang_up()
    await phone.close()


async def many_calls(url: str, model: RealtimeModel, calls: int) -> None:
    waiting = iter(range(calls))

    async def worker() -> None:
        for number in waiting:
            await one_call(url, number)
            # What the scripted model remembers would grow here, on the wrong side.
            model.upgrades.clear()
            model.sessions[:] = [session for session in model.sessions if session.is_open]

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def churn(calls: int, *, warm_up_calls: int = WARM_UP_CALLS, loop: str = "uvloop") -> dict[str, Any]:
    """Run it; gives the figures before and after."""
    with tempfile.TemporaryDirectory() as folder:
        async with RealtimeModel() as model:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.integration.churn", "--serve", model.url,
                "--folder", folder, "--loop", loop,
                cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                server = Server(process)
                url = await server.read()
                await many_calls(url, model, warm_up_calls)
                before = await server.idle()
                await many_calls(url, model, calls)
                after = await server.idle()
            finally:
                assert process.stdin is not None
                process.stdin.close()
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    await process.wait()
    grown = after["rss_bytes"] - before["rss_bytes"]
    return {"calls": calls, "before": before, "after": after, "bytes_per_call": round(grown / calls)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--serve", metavar="MODEL_URL", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    new_loop = uvloop.new_event_loop if options.loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        if options.serve:
            runner.run(serve(options.serve, options.folder))
            return 0
        report = runner.run(churn(options.calls, loop=options.loop))
    print(json.dumps(report))
    same = ("tasks", "descriptors", "timers", "calls", "connections")
    is_back = all(report["before"][name] == report["after"][name] for name in same)
    return 0 if is_back and report["bytes_per_call"] <= 1024 else 1


if __name__ == "__main__":
    sys.exit(main())
