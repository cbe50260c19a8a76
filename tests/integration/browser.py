"""A real browser, headless, steered over its DevTools protocol; its microphone plays a file."""

import asyncio
import contextlib
import itertools
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import websockets

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 20.0
LOOK_AGAIN_S = 0.02


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Page:
    """One tab."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while True:
                answer = json.loads(await self._socket.recv())
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return answer["result"]

    async def run(self, script: str) -> Any:
        """The value of a script, awaited where it is a promise."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def until(self, claim: str) -> None:
        """Wait until a claim about the page is true."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while not await self.run(claim):  # noqa: ASYNC110 - nobody tells us of another process
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            text = await self.run("document.body?.innerText")
            raise AssertionError(f"never came true: {claim}\n{text}") from None


@contextlib.asynccontextmanager
async def open_browser(folder: Path, microphone: Path) -> AsyncIterator[Page]:
    """A tab of a browser of its own, whose microphone plays a WAV over and over."""
    program = find_browser()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
        "--remote-allow-origins=*",
        f"--user-data-dir={folder}",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            port_file = folder / "DevToolsActivePort"
            while not (port_file.exists() and "\n" in port_file.read_text()):
                assert process.returncode is None, "the browser did not start"
                await asyncio.sleep(LOOK_AGAIN_S)
        port = port_file.read_text().splitlines()[0]
        targets = await asyncio.to_thread(_get_json, f"http://127.0.0.1:{port}/json")
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        async with websockets.connect(address, max_size=None) as socket:
            page = Page(socket)
            await page.call("Page.enable")
            yield page
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)
