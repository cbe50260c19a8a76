"""A Pipecat server for Twilio calls and a Realtime model, as Pipecat's own guides compose one.

``python pipecat_server.py --port N --model ws://...``, in the environment that `benches.peers.build` makes. A
pipeline for each call: Twilio's serializer on a FastAPI WebSocket, the OpenAI Realtime service, the pair of
context aggregators. The model detects turns; there is no detector, recorder, tool or observer of ours in it.
"""

import argparse

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from loguru import logger
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    SessionProperties,
    TurnDetection,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

TELEPHONE_HZ = 8000


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
        await websocket.accept()
        _, start = await parse_telephony_websocket(websocket)
        serializer = TwilioFrameSerializer(
            stream_sid=start["stream_id"],
            call_sid=start["call_id"],
            # Hanging up is a REST request to Twilio, which is not here.
            params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
        )
        transport = FastAPIWebsocketTransport(
            websocket=websocket,
            params=FastAPIWebsocketParams(
                audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
            ),
        )
        await converse(transport, model_url)

    return app


async def converse(transport: FastAPIWebsocketTransport, model_url: str) -> None:
    """One call, from the caller's first word to the end of the pipeline."""
    model = OpenAIRealtimeLLMService(
        api_key="x",
        base_url=model_url,
        settings=OpenAIRealtimeLLMService.Settings(
            system_instruction="You answer the telephone. Be brief.",
            session_properties=SessionProperties(
                audio=AudioConfiguration(input=AudioInput(turn_detection=TurnDetection()))
            ),
        ),
    )
    context = LLMContext([{"role": "developer", "content": "Greet the caller."}])
    of_user, of_assistant = LLMContextAggregatorPair(context)
    pipeline = Pipeline([transport.input(), of_user, model, transport.output(), of_assistant])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=TELEPHONE_HZ, audio_out_sample_rate=TELEPHONE_HZ),
    )

    @transport.event_handler("on_client_connected")
    async def greet(_transport: object, _client: object) -> None:
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")
    async def leave(_transport: object, _client: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    logger.remove()  # at its default it would write several lines a frame
    uvicorn.run(application(options.model), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
