"""The end of a process: real processes, real signals, calls of scripted phones."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from fastagent.errors import LegConnectError
from fastagent.testing.audiocodes_line import PhoneLine
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LinePhase
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from tests.integration.processes import House, Load, dial, house, new_phone, status

Scenario = Callable[[House, RealtimeModel], Awaitable[None]]


def run(folder: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with house(folder) as (one, model):
            await scenario(one, model)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def drop_and_resume(phone: AudioCodesPhone, session: ModelSession) -> None:
    """Lose the carrier's socket, open another, and hear what is said then."""
    heard = len(phone.line.streams)
    await phone.drop()
    await phone.resume()
    assert phone.line.phase is LinePhase.ACTIVE
    session.speak(session.tone(200))
    await phone.wait_until(lambda line: len(line.streams) > heard and line.streams[-1].is_done, "the words")


def heard_something(line: PhoneLine) -> bool:
    return bool(line.streams) and line.streams[-1].is_done


def test_sigterm_is_seen_at_once_takes_no_new_call_and_lets_the_running_one_end_and_resume(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        async with here.process() as process:
            await process.listening()
            phone = await dial(here.url)
            session = await model.session(0)
            process.signal(signal.SIGTERM)
            begun = time.monotonic()
            while (await status(here.port))[1].find('"healthy"') >= 0:
                assert time.monotonic() - begun < 10
            seen_s = time.monotonic() - begun
            with pytest.raises(LegConnectError) as refused:
                await new_phone().connect(here.url)
            assert refused.value.status == 503
            await drop_and_resume(phone, session)
            await phone.hang_up()
            assert await process.ended(5) == 0
            assert "ends: caller" in process.log
            assert "Traceback" not in process.log
            # The promise is 100 ms; a machine full of tests is given more, and the call's end is still far.
            assert seen_s < 5.0

    run(tmp_path, scenario)


def test_calls_left_are_told_goodbye_before_the_deadline_and_a_parked_one_ends(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += ["drain_timeout_s=60", "drain_goodbye_s=59"]
        async with here.process() as process:
            await process.listening()
            phone, parked = await dial(here.url), await dial(here.url)
            session = await model.session(0)
            await model.session(1)
            await parked.drop()
            process.signal(signal.SIGTERM)
            await phone.wait_ended()
            assert phone.line.end_code == "bot-disconnected"
            assert heard_something(phone.line)
            said = json.dumps(session.events)
            assert "we have to end this call now" in said
            assert await process.ended(10) == 0
            assert process.log.count("ends: drained") == 2

    run(tmp_path, scenario)


def test_deadline_hangs_up_whoever_does_not_come_to_an_end(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += ["drain_timeout_s=1.5", "drain_goodbye_s=0.5"]
        model.on_response = lambda session: None  # it never says a word
        async with here.process() as process:
            await process.listening()
            phone = await dial(here.url)
            await model.session(0)
            begun = time.monotonic()
            process.signal(signal.SIGTERM)
            await phone.wait_ended()
            assert time.monotonic() - begun >= 1.4
            assert await process.ended(10) == 0
            assert "ends: drained" in process.log

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGTERM, signal.SIGTERM, 0),
        (signal.SIGINT, signal.SIGTERM, 130),
        (signal.SIGINT, signal.SIGINT, 130),
    ],
)
def test_second_signal_ends_now_and_what_was_written_down_is_whole(first, second, code, tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += [
            f"journals_dir={tmp_path / 'journals'}",
            f"recordings_dir={tmp_path / 'recordings'}",
        ]
        async with here.process() as process:
            await process.listening()
            phone = await dial(here.url)
            await model.session(0)
            process.signal(first)
            await process.logged("draining: 1 calls run")
            await asyncio.sleep(0)
            assert process.process.returncode is None
            process.signal(second)
            assert await process.ended(5) == code
            assert phone.line.is_over
            assert "Traceback" not in process.log
            (journal,) = (tmp_path / "journals").glob("*.journal")
            assert b'"drained"' in journal.read_bytes()
            assert list((tmp_path / "recordings").rglob("*.wav"))

    run(tmp_path, scenario)


def test_sighup_changes_tokens_and_agents_for_new_calls_and_touches_no_running_one(tmp_path):
    tokens = tmp_path / "tokens.toml"
    old, new = "the-first-token-of-many", "the-second-token-of-many"

    def write(*given: str) -> None:
        tokens.write_text(
            "".join(f'[[token]]\nname = "hub"\ntoken = "{one}"\nscopes = ["audiocodes"]\n' for one in given)
        )

    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += [f"tokens_file={tokens}"]
        async with here.process() as process:
            await process.listening()
            phone = await dial(here.url, old)
            first = await model.session(0)
            write(new)
            here.write_agent("Be thorough, and take your time.")
            process.signal(signal.SIGHUP)
            await process.logged("new calls are answered by desk")
            with pytest.raises(LegConnectError) as refused:
                await new_phone().connect(here.url, old)
            assert refused.value.status == 401
            second_phone = await dial(here.url, new)
            second = await model.session(1)
            assert "Be brief." in json.dumps(first.events)
            assert "take your time" in json.dumps(second.events)

            here.write_agent('")')  # a syntax error
            tokens.write_text("[[token]]\nname = 1\n")
            process.signal(signal.SIGHUP)
            await process.logged("tokens stay as they were")
            await process.logged("agents stay as they were: .*SyntaxError")
            await (await dial(here.url, new)).hang_up()
            for one, session in ((phone, first), (second_phone, second)):
                session.speak(session.tone(100))
                await one.wait_until(heard_something, "the words")
                await one.hang_up()

    write(old)
    run(tmp_path, scenario)


def test_new_process_takes_over_under_load_and_nobody_is_refused_or_cut(tmp_path):
    async def scenario(here: House, model: RealtimeModel) -> None:
        here.settings += [f"run_dir={tmp_path / 'run'}"]
        async with contextlib.AsyncExitStack() as stack:
            process = await stack.enter_async_context(here.process())
            await process.listening()
            talker = await dial(here.url)
            session = await model.session(0)
            async with Load(here.url, at_once=4) as load:
                for _ in range(3):
                    served = load.served
                    fresh = await stack.enter_async_context(here.process())
                    await fresh.listening()
                    process.signal(signal.SIGTERM)
                    if talker.is_connected:
                        session.speak(session.tone(100))
                        await talker.wait_until(heard_something, "the words of the old process")
                        # It is resumed through whichever process accepts it.
                        await drop_and_resume(talker, session)
                        await fresh.logged("goes on in a sibling process")
                        await talker.hang_up()
                    assert await process.ended(20) == 0
                    process = fresh
                    await load.until_served(served + 10)
            assert (load.refused, load.cut) == ([], [])
            assert talker.line.violations == []
            process.signal(signal.SIGTERM)
            assert await process.ended(10) == 0
        assert list((tmp_path / "run").iterdir()) == []

    run(tmp_path, scenario)
