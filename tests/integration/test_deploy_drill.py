"""The drill of a deployment by SO_REUSEPORT: under load a new version comes, and the old one drains."""

import asyncio
import contextlib
import json
import signal
from pathlib import Path

from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.processes import House, Load, dial
from tests.integration.test_drain import heard_something, run

LISTENING = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""
OLD, NEW = "You are the old version.", "You are the new version."


def versions(model: RealtimeModel) -> list[str]:
    """Whose instructions each session of the model was given, in the order they began."""
    said = [json.dumps(session.events) for session in model.sessions]
    return ["new" if NEW in words else "old" for words in said if OLD in words or NEW in words]


def queues(port: int) -> int:
    """How many sockets the kernel shares the port's connections out to."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == LISTENING for row in rows)


def test_new_version_takes_over_by_reuse_port_and_drain_and_no_call_is_cut_or_refused(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += ["reuse_port=1"]
        here.write_agent(OLD)
        async with contextlib.AsyncExitStack() as stack:
            old = await stack.enter_async_context(here.process())
            await old.listening()
            talkers = [await dial(here.url) for _ in range(3)]
            sessions = [await model.session(number) for number in range(3)]
            async with Load(here.url, at_once=3) as load:
                await load.until_served(4)
                # The new version is installed elsewhere, as in another container.
                there = House(tmp_path / "new", model.url, here.port)
                there.settings = here.settings
                there.write_agent(NEW)
                new = await stack.enter_async_context(there.process())
                await new.listening()
                old.signal(signal.SIGTERM)
                await old.logged("draining")
                # Else new calls would wait in its queue for its last call to end.
                while queues(here.port) > 1:
                    assert old.process.returncode is None
                    await asyncio.sleep(0.02)
                # The old one's calls go on, and end when their callers end them.
                for talker, session in zip(talkers, sessions, strict=True):
                    session.speak(session.tone(100))
                    await talker.wait_until(heard_something, "the words of the old version")
                    assert old.process.returncode is None
                    await talker.hang_up()
                assert await old.ended(20) == 0
                begun = len(model.sessions)
                await load.until_served(load.served + 6)
            assert (load.refused, load.cut) == ([], [])
            assert [talker.line.violations for talker in talkers] == [[], [], []]
            assert set(versions(model)[begun:]) == {"new"}
            assert "Traceback" not in old.log + new.log
            new.signal(signal.SIGTERM)
            assert await new.ended(20) == 0

    (tmp_path / "new").mkdir()
    run(tmp_path, scenario)
