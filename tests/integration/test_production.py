"""The README's production section, word for word, and the roll of docs/operations.md, under supervision."""

import asyncio
import os
import re
import shutil
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from fastagent.testing.realtime_model import RealtimeModel
from tests.deployed import DEPLOY, ROOT, expressions, rules, selectors
from tests.integration.processes import AGENT, LIMIT_S, TOKEN, UNLIMITED, Load, dial, free_port, status
from tests.integration.test_drain import drop_and_resume
from tests.integration.unit_manager import UnitManager

FASTAGENT = f"""\
#!/bin/sh
PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 exec {sys.executable} -m fastagent "$@"
"""
"""What pip would put into an environment; scripts/package tests that it does."""
PIP = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$SCENE/pip"
"""
PYTHON = f"""\
#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"
for place; do :; done
mkdir -p "$place/bin"
cp "$SCENE/pip.sh" "$place/bin/pip" && cp "$SCENE/fastagent.sh" "$place/bin/fastagent"
"""
SUDO = """\
#!/bin/sh
exec "$@"
"""
USERADD = """\
#!/bin/sh
for last; do :; done
printf '%s\\n' "$last" >> "$SCENE/users"
"""
SYSTEMCTL = f"""\
#!{sys.executable}
import json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({{address!r}})
    line.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    answer = line.makefile().readline().strip()
sys.exit(0 if answer == "0" else answer or "no answer")
"""
MADE_BY_PROMETHEUS = {"up"}


def shell(page: str, heading: str) -> str:
    """The commands below a heading of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    [commands] = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return commands


class Place:
    """A clean directory with the checkout's deploy/ in it, and the commands of a system beside it."""

    def __init__(self, folder: Path, **overrides: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.manager = UnitManager(folder, self.port, **overrides)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.cwd = folder / "checkout"
        self.cwd.mkdir()
        (self.cwd / "deploy").symlink_to(DEPLOY)
        for name, text in (("sudo", SUDO), ("useradd", USERADD), ("python3", PYTHON)):
            self._write(self.bin / name, text)
        for name, text in (("pip.sh", PIP), ("fastagent.sh", FASTAGENT)):
            self._write(folder / name, text)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    async def follow(self, commands: str, address: str) -> str:
        """Have bash run the commands, each of which must succeed; what they print."""
        self._write(self.bin / "systemctl", SYSTEMCTL.format(address=address))
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", self.manager.roots.here(commands),
            cwd=self.cwd, env={"PATH": f"{self.bin}:{os.environ['PATH']}", "SCENE": str(self.folder)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode() + self.manager.text()
        return said.decode()

    def installed(self) -> list[str]:
        return (self.folder / "pip").read_text().splitlines()


def run(place: Place, scenario: Callable[[str], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S * 2), place.manager.running() as address:
            try:
                await scenario(address)
            except BaseException:
                print(place.manager.text())
                raise

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_production_section_word_for_word_leads_to_a_server_that_answers_a_call(tmp_path):
    place = Place(tmp_path)

    async def scenario(address: str) -> None:
        said = await place.follow(shell("README.md", "## Production"), address)
        assert "bot     Hello, how can I help you?" in said
        assert "end     by the caller" in said
        [(name, unit)] = place.manager.units.items()
        assert name == "fastagent@a"
        assert place.manager.enabled == {"fastagent.socket", "fastagent@a"}
        assert (unit.starts, unit.reports) == (1, ["READY=1"])
        assert (tmp_path / "users").read_text().split() == [unit.one("User")]
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        [command] = place.installed()
        assert set(re.findall(r"\w+", command.partition("[")[2])) <= set(extras)
        environment = Path(place.manager.roots.moved["/etc/fastagent"]) / "environment"
        assert environment.stat().st_mode & 0o077 == 0
        token = re.findall(r"AUDIOCODES_TOKEN=(\S+)", environment.read_text())[0]
        assert token not in place.manager.text()
        # It listens on loopback alone, and in what it wrote down is the call.
        assert place.manager.listener.getsockname() == ("127.0.0.1", place.port)
        state = Path(place.manager.roots.moved["/var/lib/fastagent"])
        assert list((state / "journals").glob("*.journal"))
        [metrics_token] = re.findall(r"METRICS_TOKEN=(\S+)", environment.read_text())
        await metrics_resolve(place.port, metrics_token)
        await place.manager.systemctl(["stop", "fastagent@a"])
        assert unit.exit_codes == [0]
        assert unit.reports[-1] == "STOPPING=1"

    run(place, scenario)


async def metrics_resolve(port: int, token: str) -> None:
    """Every name in rules and board is what a running server says."""
    code, text = await status(port, "/metrics", token=token)
    assert code == 200
    # A family that has nothing to count yet is declared, without samples.
    told = set(re.findall(r"^(\w+)[ {]", text, re.MULTILINE))
    told |= set(re.findall(r"^# TYPE (\w+) counter$", text, re.MULTILINE))
    own = {rule["record"] for rule in rules() if "record" in rule} | MADE_BY_PROMETHEUS
    asked = {metric for expression in expressions() for metric, _ in selectors(expression)} - own
    assert asked
    assert asked <= told


def furnish(place: Place, model: RealtimeModel, slot: str = "a") -> None:
    """What the README's section leaves behind, with a scripted model."""
    for path in (DEPLOY / "systemd").iterdir():
        shutil.copy(path, place.manager.roots.units)
    folder = Path(place.manager.roots.moved["/opt/fastagent"]) / slot
    (folder / "bin").mkdir(parents=True)
    place._write(folder / "bin" / "fastagent", FASTAGENT)
    (folder / "front_desk.py").write_text(AGENT.format(words=f"You are of slot {slot}."))
    settings = {"FASTAGENT_REALTIME_URL": model.url, "AUDIOCODES_TOKEN": TOKEN, "FASTAGENT_BARGE_IN": "model"}
    for one in UNLIMITED:
        name, _, value = one.partition("=")
        settings[f"FASTAGENT_{name.upper()}"] = value
    etc = Path(place.manager.roots.moved["/etc/fastagent"])
    etc.mkdir(exist_ok=True)
    (etc / "environment").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def test_a_server_that_hangs_is_killed_and_started_again_and_who_rings_meanwhile_waits(tmp_path):
    place = Place(tmp_path, WatchdogSec="1")

    async def scenario(address: str) -> None:
        async with RealtimeModel() as model:
            furnish(place, model)
            await place.manager.systemctl(["enable", "--now", "fastagent.socket", "fastagent@a"])
            unit = place.manager.units["fastagent@a"]
            assert unit.process is not None
            unit.process.send_signal(signal.SIGSTOP)
            phone = await dial(f"ws://127.0.0.1:{place.port}/audiocodes/webhook", TOKEN)
            assert (unit.starts, unit.watchdog_kills, unit.exit_codes) == (2, 1, [-signal.SIGKILL])
            await phone.hang_up()
            await place.manager.systemctl(["stop", "fastagent@a"])
            assert unit.exit_codes[-1] == 0

    run(place, scenario)


def test_roll_of_the_page_word_for_word_cuts_and_refuses_no_call(tmp_path):
    place = Place(tmp_path)
    url = f"ws://127.0.0.1:{place.port}/audiocodes/webhook"

    async def scenario(address: str) -> None:
        async with RealtimeModel() as model:
            furnish(place, model)
            await place.manager.systemctl(["enable", "--now", "fastagent.socket", "fastagent@a"])
            talker = await dial(url, TOKEN)
            session = await model.session(0)
            async with Load(url, at_once=3, token=TOKEN) as load:
                await load.until_served(3)
                await place.follow(shell("docs/operations.md", "### systemd: the other slot"), address)
                old, new = (place.manager.units[f"fastagent@{slot}"] for slot in "ab")
                await load.until_served(load.served + 6)
                assert not old.life.done()  # its call goes on
                await drop_and_resume(talker, session)
                await talker.hang_up()
                await asyncio.wait_for(asyncio.shield(old.life), 20)
                await load.until_served(load.served + 3)
            assert (load.refused, load.cut) == ([], [])
            assert talker.line.violations == []
            assert old.exit_codes == [0]
            assert new.exit_codes == []
            assert place.manager.enabled == {"fastagent.socket", "fastagent@b"}
            assert (await status(place.port, "/health/ready"))[0] == 200
            await place.manager.systemctl(["stop", "fastagent@b"])

    run(place, scenario)
