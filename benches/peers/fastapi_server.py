"""Twilio to the Realtime API with FastAPI and websockets, in the form that the vendors' samples gave it.

::

    python -m benches.peers.fastapi_server --port 8000 --model ws://127.0.0.1:9100/v1/realtime

Two coroutines a call: every message is parsed, one field of it is put into another message, and that is
serialised. Both sides speak µ-law, so base64 stays base64. After each piece of audio goes a mark, and a
caller who speaks over the bot clears what Twilio has yet to play. Logging is off. It imports nothing of ours.
"""

import argparse
import asyncio
import json
import os
from typing import Any

import uvicorn
import websockets
from fastapi import FastAPI, Request, Response, WebSocket

__all__ = ["application"]

STREAM_PATH = "/twilio/stream"
MARK = "responsePart"
SESSION = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "You answer the phone.",
    "audio": {
        "input": {"format": {"type": "audio/pcmu"}, "turn_detection": {"type": "server_vad"}},
        "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
    },
}
AUDIO_DELTAS = ("response.output_audio.delta", "response.audio.delta")
"""Of the API, and of its beta."""


def application(model_url: str, api_key: str) -> FastAPI:
    """The server: a webhook and a stream."""
    app = FastAPI()

    @app.post("/twilio/webhook")
    async def webhook(request: Request) -> Response:
        url = f"wss://{request.url.hostname}{STREAM_PATH}"
        document = f'<Response><Connect><Stream url="{url}"/></Connect></Response>'
        return Response(document, media_type="text/xml")

    @app.websocket(STREAM_PATH)
    async def stream(twilio: WebSocket) -> None:
        await twilio.accept()
        headers = {"Authorization": f"Bearer {api_key}"}
        async with websockets.connect(model_url, additional_headers=headers) as model:
            await model.send(json.dumps({"type": "session.update", "session": SESSION}))
            call = Passthrough(twilio, model)
            await asyncio.gather(call.carry_up(), call.carry_down())

    return app


class Passthrough:
    """One call."""

    def __init__(self, twilio: WebSocket, model: websockets.ClientConnection) -> None:
        self.twilio = twilio
        self.model = model
        self.stream_sid = ""
        self.caller_ms = 0
        """The caller's clock."""
        self.item_id = ""
        self.item_began_ms: int | None = None
        """On the caller's clock."""
        self.marks = 0
        """Sent and not yet come back."""

    async def carry_up(self) -> None:
        """Caller to model, until the caller is gone."""
        async for text in self.twilio.iter_text():
            message = json.loads(text)
            match message["event"]:
                case "media":
                    media = message["media"]
                    self.caller_ms = int(media["timestamp"])
                    append = {"type": "input_audio_buffer.append", "audio": media["payload"]}
                    await self.model.send(json.dumps(append))
                case "start":
                    self.stream_sid = message["start"]["streamSid"]
                case "mark":
                    self.marks = max(0, self.marks - 1)
        await self.model.close()

    async def carry_down(self) -> None:
        """Model to caller, until the model is gone."""
        async for text in self.model:
            event = json.loads(text)
            if event["type"] in AUDIO_DELTAS:
                await self._to_twilio("media", media={"payload": event["delta"]})
                if event["item_id"] != self.item_id:
                    self.item_id = event["item_id"]
                    self.item_began_ms = self.caller_ms
                await self._to_twilio("mark", mark={"name": MARK})
                self.marks += 1
            elif event["type"] == "input_audio_buffer.speech_started":
                await self._interrupt()

    async def _interrupt(self) -> None:
        if not self.marks or self.item_began_ms is None:
            return
        truncate = {
            "type": "conversation.item.truncate",
            "item_id": self.item_id,
            "content_index": 0,
            "audio_end_ms": self.caller_ms - self.item_began_ms,
        }
        await self.model.send(json.dumps(truncate))
        await self._to_twilio("clear")
        self.marks = 0
        self.item_began_ms = None

    async def _to_twilio(self, event: str, **fields: dict[str, Any]) -> None:
        await self.twilio.send_json({"event": event, "streamSid": self.stream_sid, **fields})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A plain pass-through from Twilio to the Realtime API.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, metavar="URL", help="of the Realtime API")
    options = parser.parse_args()
    server = application(options.model, os.environ.get("OPENAI_API_KEY", ""))
    uvicorn.run(server, host="127.0.0.1", port=options.port, log_level="warning")
