"""``--workers N``: real workers, killed, replaced, lost and stopped; and what a service manager is told."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from fastagent.testing.audiocodes_phone import LinePhase
from fastagent.testing.realtime_model import RealtimeModel
from tests.integration.processes import ROOT, House, Load, Process, dial, status
from tests.integration.test_drain import drop_and_resume, heard_something, run


def workers_of(process: Process) -> list[int]:
    """Processes in the order they were started."""
    return [int(found) for found in re.findall(r"worker \d+ is process (\d+)", process.log)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_share_a_port_and_a_call_is_resumed_wherever_its_socket_lands(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        async with here.process("--workers", "2") as process:
            await process.logged("2 workers take calls")
            phone = await dial(here.url)
            session = await model.session(0)
            # Until it has come to the other worker, and back.
            for n in range(30):
                await drop_and_resume(phone, session)
                if n > 1 and "goes on in a sibling process" in process.log:
                    break
            assert "goes on in a sibling process" in process.log
            assert phone.line.violations == []
            await phone.hang_up()
            process.signal(signal.SIGTERM)
            assert await process.ended(20) == 0
            assert "Traceback" not in process.log
            assert not any(map(is_alive, workers_of(process)))

    run(tmp_path, scenario)


def test_workers_are_replaced_one_by_one_under_load_and_nobody_is_refused_or_cut(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        async with here.process("--workers", "2") as process:
            await process.logged("2 workers take calls")
            talker = await dial(here.url)
            session = await model.session(0)
            async with Load(here.url, at_once=3) as load:
                await load.until_served(5)
                process.signal(signal.SIGUSR2)
                await process.logged("all workers were replaced")
                await load.until_served(load.served + 10)
                await drop_and_resume(talker, session)
                await talker.hang_up()
            assert (load.refused, load.cut) == ([], [])
            assert talker.line.violations == []
            assert len(workers_of(process)) == 4
            process.signal(signal.SIGTERM)
            assert await process.ended(20) == 0

    run(tmp_path, scenario)


def test_killed_worker_is_started_again_and_its_siblings_calls_go_on(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        async with here.process("--workers", "2") as process:
            await process.logged("2 workers take calls")
            await process.listening(times=2)  # a worker is ready before it says so itself
            first, second = workers_of(process)
            phone = await dial(here.url)
            session = await model.session(0)
            await process.logged("begins, raw")
            # Whichever has the call, the other one is killed: that which does not hold the model's socket.
            mine = first if holds_connection_to(first, model) else second
            other = second if mine == first else first
            os.kill(other, signal.SIGKILL)
            await process.listening(times=3)
            session.speak(session.tone(100))
            await phone.wait_until(heard_something, "the words")
            await phone.hang_up()
            assert len(workers_of(process)) == 3
            process.signal(signal.SIGINT)
            assert await process.ended(20) == 130

    run(tmp_path, scenario)


def holds_connection_to(pid: int, model: RealtimeModel) -> bool:
    port = int(re.findall(r":(\d+)/", model.url)[0])
    inodes = {
        target[8:-1]
        for name in os.listdir(f"/proc/{pid}/fd")
        if (target := os.readlink(f"/proc/{pid}/fd/{name}")).startswith("socket:[")
    }
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return any(row[9] in inodes and row[2].endswith(f":{port:04X}") for row in rows)


def test_worker_that_dies_again_and_again_ends_the_house_with_an_error(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        async with here.process("--workers", "2") as process:
            await process.logged("2 workers take calls")
            victim = workers_of(process)[1]
            for n in range(4):
                await process.logged(r"AudioCodes at", times=2 + n)
                os.kill(victim, signal.SIGKILL)
                if n < 3:
                    await process.logged(r"worker 1 is process", times=2 + n)
                    victim = workers_of(process)[-1]
            await process.logged("worker 1 cannot be kept alive: giving up")
            assert await process.ended(20) == 1

    run(tmp_path, scenario)


def test_house_that_cannot_start_says_so_once_and_ends(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.write_agent('")')
        async with here.process("--workers", "2") as process:
            assert await process.ended(20) == 1
            assert "giving up" in process.log
            assert len(workers_of(process)) == 2

    run(tmp_path, scenario)


def test_workers_end_when_their_supervisor_is_killed(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        async with here.process("--workers", "2") as process:
            await process.logged("2 workers take calls")
            pids = workers_of(process)
            phone = await dial(here.url)
            process.signal(signal.SIGKILL)
            await process.process.wait()
            await process.logged("draining: 1 calls run")
            await phone.hang_up()  # its call was not cut
            assert phone.line.phase is LinePhase.ENDED
            async with asyncio.timeout(10):
                while any(map(is_alive, pids)):  # noqa: ASYNC110 - nobody tells of a grandchild's end
                    await asyncio.sleep(0.02)

    run(tmp_path, scenario)


def test_service_manager_gives_the_socket_and_hears_ready_watchdog_and_stopping(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        loop = asyncio.get_running_loop()
        address = str(tmp_path / "notify")
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports,
        ):
            reports.bind(address)
            reports.setblocking(False)
            script = (
                "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True); "
                "os.environ['LISTEN_PID'] = str(os.getpid()); "
                "os.execv(sys.executable, [sys.executable, '-m', 'fastagent', 'serve', *sys.argv[2:]])"
            )
            settings = [word for one in here.settings for word in ("--set", one)]
            child = subprocess.Popen(  # noqa: ASYNC220 - only started here
                [sys.executable, "-c", script, str(listener.fileno()), "desk_of_test:agent", *settings],
                cwd=here.folder,
                env={
                    **os.environ, "PYTHONPATH": str(ROOT), "LISTEN_FDS": "1", "NOTIFY_SOCKET": address,
                    "WATCHDOG_USEC": "200000",
                },
                pass_fds=[listener.fileno()],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                async with asyncio.timeout(30):
                    assert await loop.sock_recv(reports, 100) == b"READY=1"
                    assert await loop.sock_recv(reports, 100) == b"WATCHDOG=1"
                    assert await loop.sock_recv(reports, 100) == b"WATCHDOG=1"
                    code, _ = await status(listener.getsockname()[1])
                    assert code == 200
                    child.terminate()
                    while (report := await loop.sock_recv(reports, 100)) == b"WATCHDOG=1":
                        pass
                    assert report == b"STOPPING=1"
                    assert await asyncio.to_thread(child.wait, 20) == 0
            finally:
                child.kill()
                child.wait()

    run(tmp_path, scenario)


@pytest.mark.parametrize("number", [0, 2])
def test_descriptor_that_does_not_listen_is_one_clear_line(number, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fastagent", "serve", "fastagent.examples.appointment:agent",
         "--set", "realtime_url=ws://127.0.0.1:1/", "--listen-fd", str(number)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"descriptor {number} is not a" in done.stderr
    assert "Traceback" not in done.stderr
