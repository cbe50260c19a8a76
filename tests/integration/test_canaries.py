"""Canaries: secrets, numbers and words planted in every input are in no log, metric, trace, error or answer.

The log is caught behind its handler, at the level DEBUG, with everything that any library logs.
"""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastagent import FastAgent
from fastagent.call import CallSummary
from fastagent.errors import LegConnectError
from fastagent.server.watch import observability as observability_module
from fastagent.server.watch.logs import start_logging
from fastagent.server.watch.traces import CallTraces
from fastagent.settings import Settings
from tests.integration.http_peer import ask
from tests.integration.scene import Scene, run

RIGHT_TOKEN = "canarytoken-right-zq"
WRONG_TOKEN = "canarytoken-wrong-zq"
KEY = "sk-canarykey-0123456789"
METRICS_TOKEN = "canarytoken-metrics-zq"
CALLER = "+49 170 5550142"
CONVERSATION = "491705550199"
SPOKEN_NUMBER = "0170 5550177"
DIGITS = "4711081599"
WORDS = "canaryword"
"""In names, transcripts, arguments and texts of errors."""
NUMBERS = ("5550142", "5550199", "5550177", DIGITS)
CANARIES = ("canary", *NUMBERS, CALLER, SPOKEN_NUMBER)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The process's log as it leaves."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    secrets = {"openai_api_key": KEY, "audiocodes_tokens": (RIGHT_TOKEN,), "metrics_tokens": (METRICS_TOKEN,)}
    start_logging(Settings(log_level="DEBUG", **secrets), stream)  # type: ignore[arg-type]
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(
        observability_module, "open_traces", lambda url, redactor: CallTraces(provider, redactor)
    )
    return exporter


def fail_with_words(name: str) -> str:
    """Look something up."""
    raise KeyError(f"{WORDS} {name} {SPOKEN_NUMBER}")


def assert_no_canary(text: str, where: str) -> None:
    for canary in CANARIES:
        at = text.find(canary)
        assert at < 0, f"{canary!r} in {where}: …{text[max(0, at - 120) : at + 60]}…"


def show(summary: CallSummary) -> str:
    return repr(summary)


def test_no_canary_sings(log: io.StringIO, spans: InMemorySpanExporter) -> None:
    found: dict[str, str] = {}

    async def scenario(scene: Scene) -> None:
        for headers in ({"Authorization": f"Bearer {WRONG_TOKEN}"}, {"X-Api-Key": WRONG_TOKEN}):
            stranger = scene.phone(caller=CALLER)
            with pytest.raises(LegConnectError):
                await stranger.connect(scene.server.audiocodes_url, headers=headers)
            scene.phones.remove(stranger)
        for path in (f"/metrics?token={WRONG_TOKEN}", f"/{WORDS}/{DIGITS}", f"/health?caller={CONVERSATION}"):
            answer = await ask(
                scene.server, path, {"Authorization": f"Bearer {WRONG_TOKEN}", "Cookie": WORDS}
            )
            found[path] = f"{answer.headers} {answer.body}"

        phone = scene.phone(caller=CALLER, bot_name=f"{WORDS} {SPOKEN_NUMBER}", conversation_id=CONVERSATION)
        await scene.dial(phone, RIGHT_TOKEN)
        session = await scene.model.session(0)
        twin = scene.phone(caller=CALLER, conversation_id=CONVERSATION)
        await scene.dial(twin, RIGHT_TOKEN)
        await twin.wait_until(lambda line: line.is_over, "the refusal")

        # the caller
        session.speech_started()
        session.speech_stopped(f"my name is {WORDS}, call me at {SPOKEN_NUMBER}")
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "an answer")
        phone.dtmf(DIGITS)
        for message in (
            f'{{"type": "{WORDS}", "caller": "{CALLER}"}}',
            f'{{"type": "session.initiate", "{WORDS}": ',
            f'{{"type": "activities", "activities": "{WORDS} {DIGITS}"}}',
            f'{{"type": "userStream.chunk", "audioChunk": "{WORDS} {DIGITS}!"}}',
            f'["{WORDS}"]',
        ):
            phone.send_raw(message.encode())
        phone.send_raw(f"{WORDS} {DIGITS}".encode(), is_binary=True)

        # the model
        arguments = {"name": f"{WORDS} {SPOKEN_NUMBER}"}
        for name, given in (
            ("fail_with_words", json.dumps(arguments)),
            ("fail_with_words", f'{{"name": "{WORDS} {DIGITS}'),
            ("fail_with_words", json.dumps({WORDS: DIGITS})),
            (f"{WORDS}_{DIGITS}", json.dumps(arguments)),
            (f"{WORDS} {SPOKEN_NUMBER}", "{}"),
        ):
            outcomes = len(session.sent("conversation.item.create"))
            session.call_function(name, given)
            await session.wait_until(
                lambda one, n=outcomes: len(one.sent("conversation.item.create")) > n, "the outcome"
            )
        session.error("invalid_value", f"you said {WORDS} {SPOKEN_NUMBER}", event_id=WORDS)
        session.error("server_error", f"{WORDS} {SPOKEN_NUMBER}", kind="server_error")
        session.error(f"no code: {WORDS} {DIGITS}", WORDS, event_id=f"update {DIGITS}")
        session.send({"type": f"{WORDS}.{DIGITS}", "text": WORDS})
        session.send({"type": "response.done", "response": WORDS})
        session.send_raw(f'{{"type": "{WORDS} {DIGITS}'.encode())
        session.send_raw(f'{{"type": 7, "{WORDS}": "{DIGITS}"}}'.encode())
        session.begin_response()
        session.finish(
            "failed", error={"type": WORDS, "code": f"{DIGITS}", "message": f"{WORDS} {SPOKEN_NUMBER}"}
        )
        await session.wait_until(lambda one: one.is_open, "the session")
        session.drop(1011)
        await scene.model.session(1)

        answer = await ask(scene.server, "/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert answer.status == 200
        found["metrics while it runs"] = answer.body
        await phone.hang_up()
        await scene.summary()
        answer = await ask(scene.server, "/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"})
        found["metrics"] = answer.body
        found["health"] = (await ask(scene.server, "/health")).body
        for summary in scene.witness.summaries:
            # Its counters are told by the log of the end; the id is the carrier's own.
            found["counters"] = str(summary.counters)

    agent = FastAgent("bot", functions=[fail_with_words])
    secrets = {"openai_api_key": KEY, "audiocodes_tokens": (RIGHT_TOKEN,), "metrics_tokens": (METRICS_TOKEN,)}
    run(
        scenario,
        agent=agent,
        traces_url="http://127.0.0.1:1/v1/traces",
        inband_dtmf=False,
        **secrets,
    )
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert any("ends" in line["event"] for line in lines), "the log was caught"
    assert len(spans.get_finished_spans()) >= 4
    assert_no_canary(log.getvalue(), "the log")
    assert_no_canary("".join(span.to_json() for span in spans.get_finished_spans()), "the traces")
    for where, text in found.items():
        assert_no_canary(text, where)


def test_model_that_refuses_in_words_is_told_without_them(log: io.StringIO) -> None:
    """The first event of a session may be an error, whose text ends up in our own error."""
    said = {
        "type": "error",
        "error": {"type": WORDS, "code": "server_error", "message": f"{WORDS} {SPOKEN_NUMBER} {KEY}"},
    }

    async def scenario(scene: Scene) -> None:
        scene.model.stay_silent(2)
        phone = scene.phone(caller=CALLER)
        dialled = asyncio.create_task(scene.dial(phone))
        sessions = scene.model.sessions
        for n in range(2):
            await scene.model.wait_until(lambda n=n: len(sessions) > n and sessions[n].is_open)  # type: ignore[misc]
            sessions[n].send(said)
        await dialled
        await scene.summary()

    run(scenario, openai_api_key=KEY, model_connect_attempts=2)
    assert "server_error" in log.getvalue()
    assert_no_canary(log.getvalue(), "the log")


def test_a_caught_canary_would_be_seen() -> None:
    with pytest.raises(AssertionError, match="in a place"):
        assert_no_canary(f"so they said: {WORDS}", "a place")
