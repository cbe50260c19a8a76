"""What a call's model sessions are configured with."""

from typing import Any, Literal

from fastagent.agent import FastAgent
from fastagent.audio.formats import AudioFormat
from fastagent.settings import Settings
from fastagent.wire.realtime_events import SessionSettings, TurnDetection

__all__ = ["session_settings"]


def session_settings(
    agent: FastAgent, tools: tuple[dict[str, Any], ...], media: AudioFormat, settings: Settings
) -> SessionSettings:
    """The same for every session of a call.

    Args:
        agent: who answers.
        tools: what the model may call.
        media: what the model hears and speaks.
    """
    llm_config = agent.llm_config
    return SessionSettings(
        input_format=media,
        output_format=media,
        instructions=agent.instructions,
        tools=tools,
        voice=agent.voice,
        transcription_model=settings.transcription_model or None,
        transcription_language=agent.language,
        transcription_prompt="\n".join(agent.transcription_phrases) or None,
        max_output_tokens=llm_config.get("max_output_tokens"),
        turn_detection=_turn_detection(agent, settings),
    )


def _turn_detection(agent: FastAgent, settings: Settings) -> TurnDetection:
    kind: Literal["server_vad", "semantic_vad", "none"] = "server_vad"
    if settings.turn_detection == "local":
        kind = "none"
    elif settings.turn_detection == "semantic_vad":
        kind = "semantic_vad"
    return TurnDetection(
        kind=kind,
        silence_duration_ms=settings.turn_silence_ms,
        create_response=kind != "none",
        # What is protected can be so only if we stop responses ourselves.
        interrupt_response=settings.barge_in == "model" and not agent.protects_speech,
    )
