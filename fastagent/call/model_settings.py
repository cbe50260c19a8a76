"""What a call's model sessions are configured with."""

from typing import Literal

from fastagent.agent import FastAgent
from fastagent.audio.formats import AudioFormat
from fastagent.settings import Settings
from fastagent.tools.router import Focus
from fastagent.wire.realtime_events import SessionSettings, TurnDetection

__all__ = ["session_settings"]

SILENCE_FACTORS = {"default": 1.0, "eager": 0.6, "patient": 2.0, "dictation": 3.0}
"""How long a pause ends the caller's turn, by the voice policy's ``speech``."""
EAGERNESS: dict[str, Literal["low", "high", "auto"]] = {
    "default": "auto",
    "eager": "high",
    "patient": "low",
    "dictation": "low",
}


def session_settings(
    agent: FastAgent, focus: Focus, media: AudioFormat, settings: Settings
) -> SessionSettings:
    """The same for every session of a call, but for what the tasks' states say.

    Args:
        agent: who answers.
        focus: what the model is to go by.
        media: what the model hears and speaks.
    """
    llm_config = agent.llm_config
    return SessionSettings(
        input_format=media,
        output_format=media,
        instructions=focus.instructions,
        tools=focus.tools,
        voice=agent.voice,
        transcription_model=settings.transcription_model or None,
        transcription_language=agent.language,
        transcription_prompt=agent.transcription_prompt,
        max_output_tokens=llm_config.get("max_output_tokens"),
        turn_detection=_turn_detection(agent, focus.speech or agent.voice_policy.speech, settings),
    )


def _turn_detection(agent: FastAgent, speech: str, settings: Settings) -> TurnDetection:
    kind: Literal["server_vad", "semantic_vad", "none"] = "server_vad"
    silence_factor = SILENCE_FACTORS[speech]
    eagerness: Literal["low", "high", "auto"] = "auto"
    if settings.turn_detection == "local":
        kind, silence_factor = "none", 1.0
    elif settings.turn_detection == "semantic_vad":
        kind, silence_factor, eagerness = "semantic_vad", 1.0, EAGERNESS[speech]
    return TurnDetection(
        kind=kind,
        silence_duration_ms=round(settings.turn_silence_ms * silence_factor),
        eagerness=eagerness,
        create_response=kind != "none",
        # What is protected can be so only if we stop responses ourselves.
        interrupt_response=settings.barge_in == "model" and not agent.protects_speech,
    )
