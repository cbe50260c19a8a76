"""A bridge as anybody writes it: Twilio Media Streams on one side, a Realtime API on the other.

Run as a program: ``python -m tests.integration.foreign_bridge PORT MODEL_URL``.
"""

import asyncio
import json
import sys

import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

MODEL_URL = ""


async def media_stream(socket: WebSocket) -> None:
    await socket.accept()
    sid = ""
    async with websockets.connect(MODEL_URL, additional_headers={"Authorization": "Bearer none"}) as model:
        formats = {"format": {"type": "audio/pcmu"}}
        session = {"type": "realtime", "audio": {"input": formats, "output": formats}}
        await model.send(json.dumps({"type": "session.update", "session": session}))

        async def uplink() -> None:
            nonlocal sid
            async for text in socket.iter_text():
                message = json.loads(text)
                if message["event"] == "start":
                    sid = message["start"]["streamSid"]
                elif message["event"] == "media":
                    audio = message["media"]["payload"]
                    await model.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
                elif message["event"] == "stop":
                    return

        async def downlink() -> None:
            async for text in model:
                message = json.loads(text)
                if message["type"] == "response.output_audio.delta":
                    media = {"event": "media", "streamSid": sid, "media": {"payload": message["delta"]}}
                    await socket.send_json(media)
                elif message["type"] == "input_audio_buffer.speech_started":
                    await socket.send_json({"event": "clear", "streamSid": sid})

        tasks = [asyncio.create_task(uplink()), asyncio.create_task(downlink())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except WebSocketDisconnect:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


app = Starlette(routes=[WebSocketRoute("/media-stream", media_stream)])

if __name__ == "__main__":
    MODEL_URL = sys.argv[2]
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", ws_ping_interval=None)
