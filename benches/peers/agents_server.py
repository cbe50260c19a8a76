"""An OpenAI Agents SDK server for Twilio calls, as the SDK's Twilio example bridges one.

``python agents_server.py --port N --model ws://...``, in the environment that `benches.peers.build` makes.
µ-law on both sides, pieces of 50 ms in both directions with a look every 50 ms for what has waited too long,
and a mark after each piece for the SDK's playback tracker. Printing, tools and guardrails are left out.
"""

import argparse
import asyncio
import base64
import json
import time

import uvicorn
from agents.realtime import RealtimeAgent, RealtimePlaybackTracker, RealtimeRunner, RealtimeSession
from agents.tracing import set_tracing_disabled
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

PIECE_S = 0.05
PIECE_BYTES = int(8000 * PIECE_S)
STALE_S = 2 * PIECE_S

agent = RealtimeAgent(name="Telephone", instructions="You answer the telephone. Be brief.")


class Call:
    """One call: the caller's socket, the model's session, and what is gathered between them."""

    def __init__(self, websocket: WebSocket, model_url: str) -> None:
        self.websocket = websocket
        self.model_url = model_url
        self.tracker = RealtimePlaybackTracker()
        self.stream_sid = ""
        self.from_caller = bytearray()
        self.from_model = bytearray()
        self.sent_to_model_s = self.sent_to_caller_s = time.monotonic()
        self.marks: dict[str, tuple[str, int, int]] = {}
        """What a mark stands for: item, content index, bytes."""
        self.waiting_marks: list[str] = []
        self.marks_made = 0

    async def run(self) -> None:
        """Bridge until the caller leaves."""
        self.session: RealtimeSession = await RealtimeRunner(agent).run(
            model_config={
                "api_key": "x",
                "url": self.model_url,
                "initial_model_settings": {
                    "input_audio_format": "g711_ulaw",
                    "output_audio_format": "g711_ulaw",
                    "turn_detection": {
                        "type": "semantic_vad", "interrupt_response": True, "create_response": True
                    },
                },
                "playback_tracker": self.tracker,
            }
        )  # fmt: skip
        async with self.session:
            await self.websocket.accept()
            tasks = [asyncio.create_task(self.hear_model()), asyncio.create_task(self.flush_what_is_stale())]
            try:
                await self.hear_caller()
            except WebSocketDisconnect:
                pass
            finally:
                for task in tasks:
                    task.cancel()

    async def hear_caller(self) -> None:
        while True:
            message = json.loads(await self.websocket.receive_text())
            match message.get("event"):
                case "start":
                    self.stream_sid = message["start"]["streamSid"]
                case "media":
                    self.from_caller += base64.b64decode(message["media"]["payload"])
                    if len(self.from_caller) >= PIECE_BYTES:
                        await self.flush_to_model()
                case "mark" if (played := self.marks.pop(message["mark"]["name"], None)) is not None:
                    item_id, content_index, size_bytes = played
                    self.tracker.on_play_bytes(item_id, content_index, bytes(size_bytes))
                case "stop":
                    await self.websocket.close()
                    return

    async def hear_model(self) -> None:
        async for event in self.session:
            match event.type:
                case "audio":
                    self.from_model += event.audio.data
                    self.marks_made += 1
                    name = str(self.marks_made)
                    self.marks[name] = (event.audio.item_id, event.audio.content_index, len(event.audio.data))
                    self.waiting_marks.append(name)
                    if len(self.from_model) >= PIECE_BYTES:
                        await self.flush_to_caller()
                case "audio_end":
                    await self.flush_to_caller()
                case "audio_interrupted":
                    await self.flush_to_caller()
                    await self.send({"event": "clear"})

    async def flush_what_is_stale(self) -> None:
        while True:
            await asyncio.sleep(PIECE_S)
            now_s = time.monotonic()
            if self.from_caller and now_s - self.sent_to_model_s > STALE_S:
                await self.flush_to_model()
            if self.from_model and now_s - self.sent_to_caller_s > STALE_S:
                await self.flush_to_caller()

    async def flush_to_model(self) -> None:
        audio = bytes(self.from_caller)
        self.from_caller.clear()
        self.sent_to_model_s = time.monotonic()
        await self.session.send_audio(audio)

    async def flush_to_caller(self) -> None:
        if not self.from_model:
            return
        payload = base64.b64encode(self.from_model).decode()
        marks = self.waiting_marks
        self.from_model.clear()
        self.waiting_marks = []
        self.sent_to_caller_s = time.monotonic()
        await self.send({"event": "media", "media": {"payload": payload}})
        for name in marks:
            await self.send({"event": "mark", "mark": {"name": name}})

    async def send(self, message: dict[str, object]) -> None:
        await self.websocket.send_text(json.dumps(message | {"streamSid": self.stream_sid}))


def application(model_url: str) -> FastAPI:
    """The server: TwiML that connects a stream, and every stream is one call."""
    app = FastAPI()

    @app.post("/twilio/webhook")
    async def ring(request: Request) -> Response:
        stream = f"wss://{request.headers['host']}/stream"
        twiml = f'<Response><Connect><Stream url="{stream}"/></Connect></Response>'
        return Response(twiml, media_type="application/xml")

    @app.websocket("/stream")
    async def call(websocket: WebSocket) -> None:
        await Call(websocket, model_url).run()

    return app


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    set_tracing_disabled(True)
    uvicorn.run(application(options.model), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
