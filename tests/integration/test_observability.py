"""Observability on whole calls: what is scraped is what happened, and health is answered when it matters."""

import asyncio
import json
import logging
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastagent import FastAgent
from fastagent.errors import ToolError
from fastagent.server.watch import observability as observability_module
from fastagent.server.watch.costs import BUILT_IN_PRICES, TokenCount
from fastagent.server.watch.traces import CallTraces
from fastagent.testing.realtime_model import ModelSession
from fastagent.wire.realtime_events import Usage
from tests.integration.http_peer import ask, request, samples
from tests.integration.scene import Scene, chirp, heard, run

TOKEN = "a-token-for-the-metrics"
USAGE = {
    "total_tokens": 821,
    "input_tokens": 789,
    "output_tokens": 32,
    "input_token_details": {
        "text_tokens": 313,
        "audio_tokens": 476,
        "cached_tokens": 640,
        "cached_tokens_details": {"text_tokens": 256, "audio_tokens": 384},
    },
    "output_token_details": {"text_tokens": 9, "audio_tokens": 23},
}


def leave_it(session: ModelSession) -> None:
    """The response that runs is the test's to fill."""


async def scrape(scene: Scene) -> dict[tuple[str, ...], float]:
    answer = await ask(scene.server, "/metrics")
    assert answer.status == 200
    return samples(answer.body)


def test_scrape_tells_what_happened() -> None:
    async def scenario(scene: Scene) -> None:
        scene.model.on_response = leave_it
        phone, session, _ = await scene.call()
        running = await scrape(scene)
        assert running["fastagent_active_sessions",] == 1
        await phone.say(chirp(200, 24_000), 24_000)
        session.speech_started()
        session.speech_stopped("a table for two")
        session.speak(session.tone(300), is_last=False)
        session.finish(usage=USAGE)
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the answer")
        session.speak(session.tone(4000))
        await phone.wait_until(
            lambda line: len(line.streams) == 2 and heard(200)(line), "some of the next one"
        )
        session.speech_started()
        await phone.wait_until(lambda line: line.streams[-1].is_done, "the cut")
        session.speech_stopped("stop")
        await phone.hang_up()
        summary = await scene.summary()
        found = await scrape(scene)
        assert found["fastagent_active_sessions",] == 0
        assert found["fastagent_calls_total", "audiocodes", "none", "caller"] == 1
        assert found["fastagent_session_duration_seconds_count",] == 1
        assert found["fastagent_session_duration_seconds_sum",] == pytest.approx(summary.duration_s)
        for stage, n in (("model_append", 1), ("first_audio", 1), ("cut_through", 1)):
            assert found["fastagent_stage_seconds_count", stage] == n, stage
        assert found["fastagent_response_latency_seconds_count",] == 1
        assert found["fastagent_latency_milliseconds_count",] == 1
        frames = sum(found["fastagent_stage_seconds_count", stage] for stage in ("ingress", "egress"))
        assert frames == summary.frame_times.total
        assert found["fastagent_stage_seconds_count", "ingress"] >= phone.line.chunks_sent
        tokens = TokenCount.of(Usage(313, 476, 640, 9, 23, 384))
        for kind, n in tokens._asdict().items():
            assert found["fastagent_tokens_total", kind, "gpt-realtime"] == n
        dollars = BUILT_IN_PRICES["gpt-realtime"].dollars(tokens)
        assert found["fastagent_cost_dollars_total", "gpt-realtime"] == pytest.approx(dollars)
        assert found["fastagent_call_cost_dollars_sum",] == pytest.approx(dollars)
        assert found["fastagent_call_tokens_sum", "cached"] == 640
        assert found["fastagent_responses_total", "completed"] >= 1
        assert found["fastagent_audio_age_seconds_count", "caller"] >= 1
        assert found["fastagent_loop_lag_seconds_count",] >= 1
        health = json.loads((await ask(scene.server, "/health")).body)
        assert set(health["latency_metrics"]) == {"avg", "min", "max", "p95", "p99"}
        assert health["latency_metrics"]["max"] == pytest.approx(
            1000 * found["fastagent_response_latency_seconds_sum",], abs=0.001
        )

    run(scenario)


def test_lost_model_is_the_models_fault() -> None:
    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        scene.model.refuse(*[401] * 20)
        session.drop(1011)
        await phone.wait_ended()
        await scene.summary()
        found = await scrape(scene)
        assert found["fastagent_calls_total", "audiocodes", "model", "model_lost"] == 1
        assert found["fastagent_troubles_total", "model_connects_failed"] >= 1

    run(scenario)


def test_failed_function_is_the_tools_fault() -> None:
    def look_up(city: str) -> str:
        """Look up a city."""
        raise ToolError("closed today")

    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        session.call_function("look_up", {"city": "Paris"})
        await session.wait_until(lambda one: one.sent("conversation.item.create"), "the outcome")
        await phone.hang_up()
        await scene.summary()
        found = await scrape(scene)
        assert found["fastagent_calls_total", "audiocodes", "tool", "caller"] == 1
        assert found["fastagent_functions_total", "failed"] == 1
        assert found["fastagent_function_seconds_count",] == 1

    run(scenario, agent=FastAgent("bot", functions=[look_up]))


def test_call_that_we_break_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*details: object) -> None:
        raise RuntimeError("summary")

    async def scenario(scene: Scene) -> None:
        phone, _, _ = await scene.call()
        monkeypatch.setattr("fastagent.call.call.CallSummary", broken)
        # The log of it is expected here.
        logging.getLogger("fastagent.calls").disabled = True
        try:
            await phone.hang_up()
            async with asyncio.timeout(10):
                while scene.server.service.switchboard.active_calls:  # noqa: ASYNC110 - the end of a task
                    await asyncio.sleep(0.01)
        finally:
            logging.getLogger("fastagent.calls").disabled = False
        found = await scrape(scene)
        assert found["fastagent_calls_total", "audiocodes", "ours", "error"] == 1

    run(scenario)


def test_spans_of_a_call_are_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(
        observability_module, "open_traces", lambda url, redactor: CallTraces(provider, redactor)
    )

    async def scenario(scene: Scene) -> None:
        phone, session, _ = await scene.call()
        session.speech_started()
        session.speech_stopped("hello")
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the answer")
        session.call_function("end_call", {"reason": "all said"})
        await phone.wait_ended()
        await scene.summary()

    run(scenario, traces_url="http://127.0.0.1:1/v1/traces")
    spans = exporter.get_finished_spans()
    assert {"call", "turn", "tool"} <= {span.name for span in spans}
    assert len({span.context.trace_id for span in spans if span.context}) == 1


# Who may read, and when


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(None, 401), (f"Bearer {TOKEN}", 200), (f"Bearer {TOKEN}x", 401), (f"Basic {TOKEN}", 401)],
)
def test_metrics_are_for_those_with_a_token(authorization: str | None, status: int) -> None:
    async def scenario(scene: Scene) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = await ask(scene.server, "/metrics", headers)
        assert answer.status == status
        assert ("fastagent_calls" in answer.body) is (status == 200)

    run(scenario, metrics_tokens=(TOKEN,))


def test_metrics_are_closed_to_other_machines_without_a_token() -> None:
    async def scenario(scene: Scene) -> None:
        assert (await ask(scene.server, "/metrics")).status == 401
        assert (await ask(scene.server, "/health")).status == 200

    run(scenario, host="0.0.0.0", audiocodes_tokens=("correct-token-0123",))


def test_ready_fails_at_drain_while_calls_go_on() -> None:
    async def scenario(scene: Scene) -> None:
        phone, _, _ = await scene.call()
        assert (await ask(scene.server, "/health/ready")).status == 200
        scene.server.stop()
        assert (await ask(scene.server, "/health/ready")).status == 503
        assert (await ask(scene.server, "/health/live")).status == 200
        found = await scrape(scene)
        assert (found["fastagent_draining",], found["fastagent_active_sessions",]) == (1, 1)
        await phone.hang_up()

    run(scenario, drain_timeout_s=20.0)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/audiocodes/webhook"])
def test_stalled_loop_is_told_to_those_who_ask(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observability_module, "DEAD_AFTER_S", 0.2)

    async def scenario(scene: Scene) -> None:
        assert (await ask(scene.server, "/health/live")).status == 200
        answers = []
        answered = threading.Event()

        def probe() -> None:
            answers.append(request(scene.server, path))
            answered.set()

        thread = threading.Thread(target=probe)
        thread.start()
        hold_the_loop(answered)
        thread.join()
        assert answers[0].status == 503
        assert "loop stalled" in answers[0].body
        async with asyncio.timeout(10):
            while (await ask(scene.server, "/health/live")).status != 200:
                pass
        found = await scrape(scene)
        assert found["fastagent_loop_stalls_seconds_count",] == 1
        assert found["fastagent_loop_stalls_seconds_sum",] >= 0.2
        assert found["fastagent_loop_stalled_seconds",] == 0

    run(scenario)


def hold_the_loop(event: threading.Event) -> None:
    assert event.wait(30)


def test_stall_is_logged_with_its_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        seen = threading.Event()

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.set()

        handler = Handler()
        logging.getLogger("fastagent.loop").addHandler(handler)
        try:
            hold_the_loop(seen)
        finally:
            logging.getLogger("fastagent.loop").removeHandler(handler)

    run(scenario, stall_ms=50)
    held = [record.getMessage() for record in caplog.records if "is held" in record.getMessage()]
    assert len(held) == 1
    assert "hold_the_loop" in held[0]
    assert "test_observability.py:" in held[0]
