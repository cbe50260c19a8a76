"""The microphone page in a real Chromium: sound both ways, interruption, words, and who may connect."""

from pathlib import Path

import numpy as np
import pytest

from fastagent import FastAgent
from fastagent.audio.wav import WavWriter
from fastagent.server.lines.agent import DEMO_PATH
from tests.integration.browser import find_browser, open_browser
from tests.integration.scene import Scene, run

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")

TOKEN = "a-token-for-the-browser"
MICROPHONE_HZ = 700


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    t = np.arange(48_000) / 48_000
    with WavWriter(tmp_path / "microphone.wav", 48_000) as writer:
        writer.write((9000 * np.sin(2 * np.pi * MICROPHONE_HZ * t)).astype("<i2").tobytes())
    return tmp_path / "microphone.wav"


def loudest_hz(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * 24_000 / len(samples))


def test_page_talks_and_is_interrupted(microphone: Path, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        base = f"http://{scene.server.host}:{scene.server.port}"
        async with open_browser(tmp_path / "profile", microphone) as page:
            # A page of no site of ours gets nowhere, token or not.
            protocols = f"['fastagent.v1', 'fastagent.bearer.{TOKEN}']"
            attempt = f"new WebSocket('{scene.server.agent_url}', {protocols})"
            code = await page.run(
                f"new Promise(tell => {{ {attempt}.onclose = event => tell(event.code); }})"
            )
            assert code == 1006
            assert scene.server.service.counters["upgrades_of_foreign_pages"] == 1

            await page.go(base + DEMO_PATH)
            await page.run("document.getElementById('call').click()")
            await page.until("document.getElementById('status').textContent.startsWith('ended')")
            assert scene.server.service.counters["auth_refused_missing"] == 1

            await page.run(f"document.getElementById('token').value = '{TOKEN}'")
            await page.run("document.getElementById('call').click()")
            session = await scene.model.session(0)
            await page.until("document.getElementById('status').textContent === 'connected'")

            # The microphone: whole chunks, and the very tone.
            await session.wait_until(lambda one: len(one.audio) >= 3 * 48_000, "two seconds and more")
            assert loudest_hz(bytes(session.audio[48_000:144_000])) == pytest.approx(MICROPHONE_HZ, abs=3)

            # The voice: played in real time, and silent at once when the caller speaks.
            session.speak(session.tone(20_000), "A long answer.", is_last=False)
            await page.until("Number(document.body.dataset.received) >= 100")
            await page.until("document.getElementById('bot').textContent === 'speaking'")
            session.speech_started()
            await page.until("Number(document.body.dataset.interruptions) === 1")
            await page.until("document.getElementById('bot').textContent === 'silent'")
            played = int(await page.run("document.body.dataset.played"))
            assert 0 < played < 10 * 24_000
            await page.until("document.getElementById('speech').textContent === 'speaking'")
            session.speech_stopped("stop it please")
            await page.until("document.querySelector('#words li.caller')?.textContent === 'stop it please'")
            # The short answer after it is heard to its end.
            await page.until(f"Number(document.body.dataset.played) >= {played + 4_800}")
            await page.until("document.getElementById('bot').textContent === 'silent'")

            await page.run("document.getElementById('text').value = 'grüße ☎'")
            await page.run("document.querySelector('#say button').click()")
            await scene.witness.wait_until(lambda witness: "grüße ☎" in witness.caller)
            await page.run("document.getElementById('end').click()")
            await page.until(
                "document.getElementById('status').textContent === 'ended: client ended the session'"
            )
        summary = await scene.summary()
        assert summary.outcome == "caller"
        assert summary.is_passthrough
        assert summary.counters.get("uplink_gaps", 0) == 0

    run(scenario, agent=FastAgent("bot"), agent_demo=True, agent_tokens=(TOKEN,))


def test_page_resumes_after_a_lost_connection(microphone: Path, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        base = f"http://localhost:{scene.server.port}"
        async with open_browser(tmp_path / "profile", microphone) as page:
            await page.go(base + DEMO_PATH)
            await page.run("document.getElementById('write').click()")
            await page.until("document.getElementById('status').textContent === 'connected'")
            model = await scene.model.session(0)
            await page.run("session.socket.close()")
            await page.until("document.getElementById('status').textContent !== 'connected'")
            await page.until("document.getElementById('status').textContent === 'connected'")
            await page.run("document.getElementById('text').value = 'still there?'")
            await page.run("document.querySelector('#say button').click()")
            await scene.witness.wait_until(lambda witness: witness.caller == ["still there?"])
            assert model.is_open
            assert len(scene.model.sessions) == 1
            await page.run("document.getElementById('end').click()")
            assert (await scene.summary()).outcome == "caller"

    run(scenario, agent=FastAgent("bot"), agent_demo=True)
