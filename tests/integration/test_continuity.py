"""Calls that are cut off and go on: on another line, in another call, after a restart, in another process."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastagent import AFSMState, FastAgent
from fastagent.errors import FastAgentError
from fastagent.server.kept.call_journal import CallJournal
from fastagent.server.process import RunningServer, run_server
from fastagent.sessions import SessionRecord, SessionStore, TranscriptLine, open_store
from fastagent.settings import Settings
from fastagent.testing.audiocodes_phone import AudioCodesPhone, LineOptions
from fastagent.testing.realtime_model import ModelSession, RealtimeModel
from fastagent.testing.twilio_phone import TwilioOptions, TwilioPhone
from tests.integration.redis_server import RedisServer
from tests.integration.scene import PUBLIC_URL, TWILIO, TWILIO_TOKEN
from tests.integration.test_state_calls import Talk, clinic, kept, kinds, lines, say_nothing, weather

CALLER = "+15550100001"
SECRET = "a secret of thirty-two characters"


class House:
    """Servers, their model, the messages they sent and the things they booked."""

    def __init__(self, directory: Path, model: RealtimeModel) -> None:
        self.directory = directory
        self.model = model
        self.phones: list[AudioCodesPhone | TwilioPhone] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in lines(self.directory / "sms")]

    @property
    def code(self) -> str:
        found = re.search(r"code (\d{4})\b", self.messages[-1]["text"])
        assert found
        return found[1]

    @contextlib.asynccontextmanager
    async def server(self, **settings: Any) -> AsyncIterator[RunningServer]:
        values: dict[str, Any] = {
            "port": 0,
            "realtime_url": self.model.url,
            "drain_timeout_s": 0.5,
            "barge_in": "model",
            "store_path": str(self.directory / "sessions.db"),
            "journals_dir": str(self.directory / "journals"),
            "sms_sender": str(self.directory / "sms"),
            "resume_grace_s": 0.3,
            "admission_cpu_percent": 0.0,
            "admission_lag_ms": 0.0,
            **settings,
        }
        agent = values.pop("agent", None) or clinic(self.directory / "bookings")
        async with run_server(agent, Settings(**values)) as server:
            yield server

    async def call(
        self, server: RunningServer, *, token: str | None = None, **options: Any
    ) -> tuple[AudioCodesPhone, Talk]:
        number = len(self.model.sessions)
        phone = AudioCodesPhone(LineOptions(formats=("raw/mulaw",), **options))
        self.phones.append(phone)
        await phone.connect(server.audiocodes_url, token)
        await phone.initiate()
        return phone, Talk(await self.model.session(number))

    async def twilio_call(self, server: RunningServer) -> tuple[TwilioPhone, Talk]:
        number = len(self.model.sessions)
        phone = TwilioPhone(TwilioOptions(caller=CALLER), public_url=PUBLIC_URL)
        self.phones.append(phone)
        await phone.connect(server.twilio_url, TWILIO_TOKEN)
        await phone.initiate()
        return phone, Talk(await self.model.session(number))

    async def over(self, server: RunningServer) -> None:
        while server.service.switchboard.active_calls:  # noqa: ASYNC110 - a call tells nobody
            await asyncio.sleep(0.01)

    async def told(self, number: int = 1) -> None:
        async with asyncio.timeout(5):
            while len(self.messages) < number:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.01)


def play(tmp_path: Path, scenario: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with RealtimeModel() as model, asyncio.timeout(60):
            model.on_response = say_nothing
            house = House(tmp_path, model)
            try:
                await scenario(house)
            finally:
                for phone in house.phones:
                    await phone.close()

    asyncio.run(main())


def greeting(session: ModelSession) -> str:
    return "".join(
        str(event.get("response", {}).get("instructions")) for event in session.sent("response.create")
    )


async def welcomed(talk: Talk) -> str:
    """The words with which a caller is welcomed back."""
    await talk.session.wait_until(lambda one: "Welcome back" in greeting(one), "the welcome")
    assert "resume_talk" in {tool["name"] for tool in talk.session.settings["tools"]}
    return greeting(talk.session)


async def booked_elsewhere(talk: Talk) -> None:
    """The rest of the booking, from its open question."""
    report = await talk.call("task_reply", task="book", answer="yes")
    assert report["say"] == "Booked. Anything else?"
    assert (await talk.call("task_reply", task="book", answer="no"))["status"] == "done"


# How long it is kept


def test_sessions_beyond_their_time_are_deleted_and_others_stay(tmp_path: Path) -> None:
    async def stored(house: House) -> SessionStore:
        return await open_store(house.directory / "sessions.db")

    async def scenario(house: House) -> None:
        store = await stored(house)
        for name, age_s in (("old", 7_200.0), ("new", 60.0)):
            at = time.time() - age_s
            lease = await store.acquire(name, "dead", 0.001)
            record = SessionRecord(
                session_id=name, agent_id="clinic", status="ended", started_at_unix_s=at, updated_at_unix_s=at
            )
            await store.save(record, lease)
            await store.append_transcript(name, [TranscriptLine(1, at, "caller", "hello")], lease)
            await store.release(lease)
        await store.close()
        async with house.server(session_ttl_s=3_600.0):
            watching = await stored(house)
            while (await watching.list()).total_count > 1:  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(0.01)
            assert [one.session_id for one in (await watching.list()).records] == ["new"]
            assert not await watching.transcript("old")
            assert len(await watching.transcript("new")) == 1
            await watching.close()

    play(tmp_path, scenario)


# The caller calls again


@pytest.mark.parametrize("carrier", ["audiocodes", "twilio"])
def test_the_whole_story_across_a_restart(tmp_path: Path, carrier: str) -> None:
    settings = TWILIO if carrier == "twilio" else {}

    async def scenario(house: House) -> None:
        call = house.twilio_call if carrier == "twilio" else house.call
        async with house.server(**settings) as server:
            phone, talk = await call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.told()
            page = await server.service.store.list()
            [record] = page.records
            assert (record.carrier, record.status, record.outcome) == (carrier, "interrupted", "caller")
        [message] = house.messages
        assert message["to"] == CALLER
        assert message["text"].startswith("Our call was disconnected. Reply CALL to continue")
        async with house.server(**settings) as server:
            phone, talk = await call(server)
            assert "Have the day confirmed" not in await welcomed(talk)  # nobody knows yet who it is
            wrong = "0000" if house.code != "0000" else "1111"
            report = await talk.call("resume_talk", choice="continue", code=wrong)
            assert report["status"] == "error"
            report = await talk.call("resume_talk", choice="continue", code=" ".join(house.code))
            assert (report["status"], report["task"]) == ("needs_input", "book")
            assert report["say"] == "Good, let us go on. Shall I book it?"
            await booked_elsewhere(talk)
            await talk.tools({"book", "identify", "weather", "task_reply", "task_cancel", "end_call"})
            await phone.hang_up()
            await house.over(server)
            # It is finished: nobody is asked about it again.
            phone, talk = await call(server)
            await asyncio.sleep(0.1)
            assert "Welcome back" not in greeting(talk.session)
        assert lines(house.directory / "bookings") == ["book Monday"]
        assert len(house.messages) == 1

    play(tmp_path, scenario)


def test_an_effect_of_the_first_call_is_not_repeated_by_the_second(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            await talk.book(until="extras")
            await phone.drop()
            await house.told()
            phone, talk = await house.call(server)
            await welcomed(talk)
            report = await talk.call("resume_talk", choice="continue", code=house.code)
            assert report["say"].endswith("Booked. Anything else?")
            assert (await talk.call("task_reply", task="book", answer="no"))["status"] == "done"
        assert lines(house.directory / "bookings") == ["book Monday"]

    play(tmp_path, scenario)


def test_without_its_journal_the_second_call_knows_the_effects_of_the_first(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            await talk.book(until="extras")
            await phone.hang_up()
            await house.told()
        # Another machine: the same store, other files.
        async with house.server(journals_dir=str(tmp_path / "elsewhere")) as server:
            phone, talk = await house.call(server)
            await welcomed(talk)
            await talk.call("resume_talk", choice="continue", code=house.code)
            [call] = server.service.switchboard._calls.values()
            effects = await call._kept.record.effects()  # type: ignore[union-attr, attr-defined]
            assert [(one.name, one.status) for one in effects.outcomes()] == [("book", "done")]

    play(tmp_path, scenario)


def test_a_caller_who_wants_to_start_over_does(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.told()
            phone, talk = await house.call(server)
            await welcomed(talk)
            report = await talk.call("resume_talk", choice="start_over", code=house.code)
            assert report["status"] == "done"
            assert (await talk.book("Tuesday"))["status"] == "done"
            await phone.hang_up()
            await house.over(server)
            page = await server.service.store.list()
            assert sorted((one.status, one.outcome) for one in page.records) == [
                ("ended", "caller"),
                ("ended", "started_over"),
            ]
        assert lines(house.directory / "bookings") == ["book Tuesday"]

    play(tmp_path, scenario)


def test_a_stranger_who_starts_over_ends_nothing(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.told()
            phone, talk = await house.call(server)
            await welcomed(talk)
            assert (await talk.call("resume_talk", choice="start_over"))["status"] == "done"
            await phone.hang_up()
            await house.over(server)
            phone, talk = await house.call(server)
            await welcomed(talk)
            report = await talk.call("resume_talk", choice="continue", code=house.code)
            assert report["status"] == "needs_input"
            await booked_elsewhere(talk)

    play(tmp_path, scenario)


def test_wrong_codes_end_the_offer(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.told()
            phone, talk = await house.call(server)
            await welcomed(talk)
            wrong = f"{(int(house.code) + 1) % 10_000:04d}"
            statuses = [
                (await talk.call("resume_talk", choice="continue", code=wrong))["status"] for _ in range(4)
            ]
            assert statuses == ["error", "error", "error", "failed"]
            report = await talk.call("resume_talk", choice="continue", code=house.code)
            assert report["status"] == "error"
            assert server.service.counters["comebacks_taken"] == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"caller": "+15550100009"}, {}),
        ({"caller": "anonymous"}, {}),
        ({}, {"interrupted_fresh_s": 0.001}),
        ({}, {"resume_proof": "off"}),
        ({}, {"sms_sender": ""}),
    ],
    ids=["another number", "no number", "too late", "switched off", "nobody could have the code"],
)
def test_others_are_not_welcomed_back(
    tmp_path: Path, options: dict[str, Any], settings: dict[str, Any]
) -> None:
    async def scenario(house: House) -> None:
        async with house.server(**settings) as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.over(server)
            await asyncio.sleep(0.01)
            phone, talk = await house.call(server, **options)
            await talk.session.wait_until(lambda one: one.sent("session.update"), "the settings")
            await asyncio.sleep(0.1)
            assert "Welcome back" not in greeting(talk.session)
            assert "resume_talk" not in {tool["name"] for tool in talk.session.settings["tools"]}
            report = await talk.call("resume_talk", choice="continue")
            assert report["status"] == "error"

    play(tmp_path, scenario)


def test_where_the_number_is_proof_no_code_is_asked_for(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server(resume_proof="number", sms_sender="") as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.over(server)
            phone, talk = await house.call(server)
            words = await welcomed(talk)
            assert "Have the day confirmed with yes or no." in words
            assert "code" not in words
            report = await talk.call("resume_talk", choice="continue")
            assert report["status"] == "needs_input"
            await booked_elsewhere(talk)

    play(tmp_path, scenario)


def test_a_caller_comes_in_by_another_call_while_the_first_waits_for_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = CallJournal.close

    async def close_late(self: CallJournal, outcome: str) -> None:
        await asyncio.sleep(0.2)
        await close(self, outcome)

    monkeypatch.setattr(CallJournal, "close", close_late)

    async def scenario(house: House) -> None:
        async with house.server(resume_proof="number", resume_grace_s=30.0) as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.drop()
            while not server.service.switchboard.calls[0].is_parked:  # noqa: ASYNC110 - a call tells nobody
                await asyncio.sleep(0.01)
            await server.service.continuity.keeper.flush(server.service.switchboard.calls[0].session_id, 5.0)
            phone, talk = await house.call(server)
            await welcomed(talk)
            report = await talk.call("resume_talk", choice="continue")
            assert report["status"] == "needs_input"
            await booked_elsewhere(talk)
            assert len(server.service.switchboard.calls) == 1
            await phone.hang_up()
            await house.over(server)
        assert lines(house.directory / "bookings") == ["book Monday"]
        assert house.messages == []

    play(tmp_path, scenario)


def test_what_proves_who_calls_is_written_down_nowhere(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.over(server)
            await house.told()
            phone, talk = await house.call(server)
            await welcomed(talk)
            talk.session.speech_started()
            talk.session.speech_stopped(f"Go on, the code is {house.code}.")
            await talk.settled()
            report = await talk.call("resume_talk", choice="continue", code=house.code)
            assert report["status"] == "needs_input"
            await phone.hang_up()
            await house.over(server)
        kept = [house.directory / "sessions.db", *(house.directory / "journals").iterdir()]
        assert not [path.name for path in kept if f"code is {house.code}".encode() in path.read_bytes()]

    play(tmp_path, scenario)


def test_a_call_that_ends_in_good_order_brings_no_message(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as server:
            phone, talk = await house.call(server)
            assert (await talk.book())["status"] == "done"
            await phone.hang_up()
            await house.over(server)
        assert house.messages == []

    play(tmp_path, scenario)


# What is remembered


class Identify(AFSMState):
    """Knows callers who say the password, and their favourite from the call before."""

    name = "identify"
    allowed_transitions = ("end",)

    async def process(self, input_text, context):
        if input_text == "the password":
            assert self.call.recall()
        known = context.profile.get("favourite", "nothing")
        if input_text.startswith("I like"):
            context.update_user_profile({"favourite": input_text.removeprefix("I like ")})
            return {"response": "", "next_state": "end", "confidence": 1.0}
        return {"response": f"I know {known}.", "next_state": "identify", "confidence": 1.0}


def rememberer(days: float) -> FastAgent:
    states = [Identify(), AFSMState("end", "Noted.")]
    return FastAgent("shop", states, "identify", task_name="identify", memory_days=days)


def test_what_an_agent_knows_of_a_caller_outlives_the_call_once_they_have_proved_who_they_are(
    tmp_path: Path,
) -> None:
    async def scenario(house: House) -> None:
        async def calls(*answers: str, **options: Any) -> list[str]:
            async with house.server(agent=rememberer(1.0)) as server:
                phone, talk = await house.call(server, **options)
                said = [(await talk.call("identify", request="hello"))["say"]]
                for answer in answers:
                    report = await talk.call("task_reply", task="identify", answer=answer)
                    said.append(report["say"])
                await phone.hang_up()
                await house.over(server)
            return said

        assert await calls("I like tea") == ["I know nothing.", "Noted."]  # and nobody proved anything
        assert await calls("the password", "I like coffee") == [
            "I know nothing.",
            "I know nothing.",
            "Noted.",
        ]
        assert await calls("the password") == ["I know nothing.", "I know coffee."]
        assert await calls("the password", caller="+15550100009") == ["I know nothing.", "I know nothing."]

    play(tmp_path, scenario)


# Another process


def test_a_line_that_comes_back_at_another_server_goes_on_there(tmp_path: Path) -> None:
    redis = RedisServer()

    async def scenario(house: House) -> None:
        shared = {"redis_url": redis.url, "store_path": "", "resume_grace_s": 30.0}
        async with (
            house.server(**shared) as one,
            house.server(**shared, journals_dir=str(tmp_path / "other")) as other,
        ):
            phone, talk = await house.call(one)
            await talk.book(until="confirm")
            await phone.drop()
            number = len(house.model.sessions)
            await phone.resume(url=other.audiocodes_url)
            talk = Talk(await house.model.session(number))
            await talk.session.wait_until(
                lambda one: "Shall I book it?" in str(one.sent("conversation.item.create")), "the question"
            )
            await booked_elsewhere(talk)
            await house.over(one)  # which has seen that its call is there
            assert other.service.counters["calls_taken_over"] == 1
            await phone.hang_up()
            await house.over(other)
        assert lines(house.directory / "bookings") == ["book Monday"]
        assert house.messages == []

    try:
        play(tmp_path, scenario)
    finally:
        redis.close()


def test_what_was_done_before_the_line_came_back_elsewhere_can_be_taken_back(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with (
            house.server(resume_grace_s=30.0) as one,
            house.server(resume_grace_s=30.0, journals_dir=str(tmp_path / "other")) as other,
        ):
            phone, talk = await house.call(one)
            await talk.book(until="extras")
            await phone.drop()
            number = len(house.model.sessions)
            await phone.resume(url=other.audiocodes_url)
            talk = Talk(await house.model.session(number))
            await talk.session.wait_until(
                lambda one: "Anything else?" in str(one.sent("conversation.item.create")), "the question"
            )
            report = await talk.call("task_cancel", task="book")
            assert (report["undone"], report["not_undone"]) == (["book"], [])
            await phone.hang_up()
            await house.over(other)
            await house.over(one)
        assert lines(house.directory / "bookings") == ["book Monday", "cancel Monday"]

    play(tmp_path, scenario)


def test_who_takes_over_after_a_comeback_is_kept_in_the_same_journal(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        desk = clinic(house.directory / "bookings")
        back = FastAgent("back", functions=[weather])
        agent = FastAgent("clinic", tasks=desk.tasks.values(), colleagues=[back], functions=[weather])
        async with house.server(agent=agent, resume_proof="number") as server:
            phone, talk = await house.call(server)
            first = phone.line.conversation_id
            await talk.book(until="confirm")
            await phone.hang_up()
            await house.over(server)
            phone, talk = await house.call(server)
            await welcomed(talk)
            await talk.call("resume_talk", choice="continue")
            await talk.call("weather")
            await talk.call("hand_over", to="back")
            await talk.session.wait_until(
                lambda one: "'back'" in str(one.sent("conversation.item.create")), "the other agent"
            )
            await talk.call("weather")
            await phone.hang_up()
            await house.over(server)
        assert kinds(kept(house.directory / "journals", first)).count("tool_call") == 2

    play(tmp_path, scenario)


def test_another_owners_call_cannot_be_resumed(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        tokens = {"one": "a-token-of-the-first-carrier", "other": "a-token-of-the-other-carrier"}
        file = tmp_path / "tokens.toml"
        entry = '[[token]]\nname = "{}"\ntoken = "{}"\nscopes = ["audiocodes"]\n'
        file.write_text("".join(entry.format(name, token) for name, token in tokens.items()))
        file.chmod(0o600)
        async with house.server(tokens_file=str(file)) as server:
            phone = AudioCodesPhone(LineOptions(formats=("raw/mulaw",)))
            house.phones.append(phone)
            await phone.connect(server.audiocodes_url, tokens["one"])
            await phone.initiate()
            await phone.drop()
            await house.over(server)
            thief = AudioCodesPhone(
                LineOptions(formats=("raw/mulaw",)), conversation_id=phone.line.conversation_id
            )
            house.phones.append(thief)
            await thief.connect(server.audiocodes_url, tokens["other"])
            thief.line.resume(0.0)
            with contextlib.suppress(FastAgentError):
                await thief._answered(5.0)
            assert server.service.counters["resumes_not_found"] == 1
            assert server.service.counters["calls_taken_over"] == 0

    play(tmp_path, scenario)


def serve(tmp_path: Path, model_url: str) -> tuple["subprocess.Popen[str]", str]:
    """A server in a process of its own; gives its AudioCodes address."""
    environment = {
        **os.environ,
        "PORT": "0",
        "FASTAGENT_REALTIME_URL": model_url,
        "FASTAGENT_STORE": str(tmp_path / "sessions.db"),
        "FASTAGENT_JOURNALS_DIR": str(tmp_path / "journals"),
        "FASTAGENT_SMS": str(tmp_path / "sms"),
        "FASTAGENT_BARGE_IN": "model",
        "FASTAGENT_ADMISSION_CPU_PERCENT": "0",
        "FASTAGENT_ADMISSION_LAG_MS": "0",
        "BOOKINGS": str(tmp_path / "bookings"),
        "LOG_FORMAT": "text",
    }
    words = [sys.executable, "-m", "fastagent", "serve", "tests.integration.test_state_calls:agent"]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as log:
        for line in log:
            if found := re.search(r"ws://\S+/audiocodes/webhook", line):
                return process, found[0]
    raise AssertionError("the server did not start")


@pytest.mark.parametrize("comes_back", ["on its line", "in another call"])
def test_a_killed_process_loses_no_call(tmp_path: Path, comes_back: str) -> None:
    async def scenario(house: House) -> None:
        process, url = await asyncio.to_thread(serve, tmp_path, house.model.url)
        try:
            phone = AudioCodesPhone(LineOptions(formats=("raw/mulaw",)))
            house.phones.append(phone)
            await phone.connect(url)
            await phone.initiate()
            talk = Talk(await house.model.session(0))
            await talk.book(until="confirm")
            await asyncio.sleep(0.3)  # the store is behind the call by that much at the most
        finally:
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        if comes_back == "on its line":
            async with house.server() as server:
                await phone.resume(url=server.audiocodes_url, timeout_s=15.0)
                talk = Talk(await house.model.session(1))
                await booked_elsewhere(talk)
        else:
            await asyncio.sleep(6.5)  # the lease of the dead runs out
            async with house.server() as server:
                await house.told()
                phone, talk = await house.call(server)
                await welcomed(talk)
                report = await talk.call("resume_talk", choice="continue", code=house.code)
                assert report["say"].endswith("Shall I book it?")
                await booked_elsewhere(talk)
        assert lines(house.directory / "bookings") == ["book Monday"]

    play(tmp_path, scenario)


def test_a_line_that_comes_back_at_two_servers_at_once_goes_on_at_one(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        async with house.server() as first:
            phone, talk = await house.call(first)
            await talk.book(until="confirm")
            await phone.drop()
            await house.told()  # the grace is over: nobody has it
        names = [str(tmp_path / name) for name in ("one", "other")]
        async with house.server(journals_dir=names[0]) as one, house.server(journals_dir=names[1]) as other:
            sessions = len(house.model.sessions)
            lines = [phone, AudioCodesPhone(phone.line.options, conversation_id=phone.line.conversation_id)]
            house.phones.append(lines[1])
            await lines[1].connect(other.audiocodes_url)

            async def come_back() -> None:
                lines[1].line.resume(asyncio.get_running_loop().time())
                with contextlib.suppress(FastAgentError):
                    await lines[1]._answered(15.0)

            await asyncio.gather(
                phone.resume(url=one.audiocodes_url, timeout_s=15.0), come_back(), return_exceptions=True
            )
            taken = [server.service.counters["calls_taken_over"] for server in (one, other)]
            assert sorted(taken) == [0, 1]
            assert len(house.model.sessions) == sessions + 1
            await booked_elsewhere(Talk(house.model.sessions[-1]))
        assert lines_of(tmp_path) == ["book Monday"]

    play(tmp_path, scenario)


def lines_of(directory: Path) -> list[str]:
    return lines(directory / "bookings")
