"""The session object: its defaults, what an update does to it, and what is in force for a response."""

from typing import Any

from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_24K, AudioFormat
from fastagent.local.input import TurnSettings
from fastagent.local.response import ResponseSettings
from fastagent.local.schema import Refusal

__all__ = ["Configuration", "format_of"]

_FORMATS = {"audio/pcm": PCM16_24K, "audio/pcmu": MULAW_8K, "audio/pcma": ALAW_8K}

_SERVER_VAD: dict[str, Any] = {
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
_SEMANTIC_VAD: dict[str, Any] = {"eagerness": "auto", "create_response": True, "interrupt_response": True}
_SEMANTIC_SILENCE_MS = {"low": 1000, "medium": 600, "high": 300, "auto": 600}
"""The engine does not judge meaning: eagerness is how long a pause it waits."""

INSTRUCTIONS = "You are a helpful voice assistant on the telephone. Be brief and friendly."


def format_of(wire: dict[str, Any]) -> AudioFormat:
    """The audio format that a format object names."""
    return _FORMATS[wire["type"]]


def _whole_format(wire: dict[str, Any]) -> dict[str, Any]:
    return {"type": "audio/pcm", "rate": 24_000} if wire["type"] == "audio/pcm" else wire


def _whole_turn_detection(wire: dict[str, Any] | None) -> dict[str, Any] | None:
    if wire is None:
        return None
    return {**(_SERVER_VAD if wire["type"] == "server_vad" else _SEMANTIC_VAD), **wire}


class Configuration:
    """A session's settings. An update changes everything it names, or nothing when one part is refused."""

    def __init__(self, *, session_id: str, model: str, expires_at_unix_s: int) -> None:
        self.is_voice_locked = False
        """Set with the first output audio."""
        self._wire: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "expires_at": expires_at_unix_s,
            "output_modalities": ["audio"],
            "instructions": INSTRUCTIONS,
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "truncation": "auto",
            "tracing": None,
            "prompt": None,
            "include": None,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": {"type": "server_vad", **_SERVER_VAD},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin", "speed": 1.0},
            },
        }

    def wire(self) -> dict[str, Any]:
        """The full session object."""
        return self._wire

    def update(self, partial: dict[str, Any], *, is_responding: bool) -> None:
        """Apply a checked ``session`` of a ``session.update``.

        Raises:
            Refusal: something in it cannot change now; nothing was applied.
        """
        audio = partial.get("audio", {})
        given_input, given_output = dict(audio.get("input", {})), dict(audio.get("output", {}))
        self._check_model(partial)
        self._check_voice(given_output, "session.audio.output.voice")
        if is_responding and given_output.get("speed", self.output["speed"]) != self.output["speed"]:
            raise Refusal(
                "invalid_value", "Speed cannot change during a response.", "session.audio.output.speed"
            )
        if (
            self._wire["tracing"] is not None
            and partial.get("tracing", self._wire["tracing"]) != self._wire["tracing"]
        ):
            raise Refusal("invalid_value", "Tracing cannot change once it is on.", "session.tracing")
        for given in (given_input, given_output):
            if "format" in given:
                given["format"] = _whole_format(given["format"])
        if "turn_detection" in given_input:
            given_input["turn_detection"] = _whole_turn_detection(given_input["turn_detection"])
        self._wire = {
            **self._wire,
            **partial,
            "audio": {"input": {**self.input, **given_input}, "output": {**self.output, **given_output}},
        }

    def for_response(self, override: dict[str, Any]) -> ResponseSettings:
        """What is in force for a response with these checked overrides.

        Raises:
            Refusal: it asks for another voice than the one already heard.
        """
        output = {**self.output, **override.get("audio", {}).get("output", {})}
        self._check_voice(output, "response.audio.output.voice")
        voice = output["voice"]
        limit = override.get("max_output_tokens", self._wire["max_output_tokens"])
        return ResponseSettings(
            instructions=override.get("instructions", self.instructions),
            modality=override.get("output_modalities", self._wire["output_modalities"])[0],
            # A custom voice has no rendering here: the default one speaks for it.
            voice=voice if isinstance(voice, str) else "marin",
            voice_wire=voice,
            speed=self.output["speed"],
            output_format=format_of(output["format"]),
            format_wire=_whole_format(output["format"]),
            tools=tuple(
                tool for tool in override.get("tools", self._wire["tools"]) if tool["type"] == "function"
            ),
            tool_choice=override.get("tool_choice", self._wire["tool_choice"]),
            max_output_tokens=None if limit == "inf" else limit,
            metadata=override.get("metadata"),
            is_out_of_band=override.get("conversation") == "none",
        )

    @property
    def input(self) -> dict[str, Any]:
        """``audio.input``."""
        section: dict[str, Any] = self._wire["audio"]["input"]
        return section

    @property
    def output(self) -> dict[str, Any]:
        """``audio.output``."""
        section: dict[str, Any] = self._wire["audio"]["output"]
        return section

    @property
    def instructions(self) -> str:
        """The session's instructions."""
        instructions: str = self._wire["instructions"]
        return instructions

    @property
    def turn_detection(self) -> TurnSettings | None:
        """How turns are found, or None when the client ends them."""
        wire = self.input["turn_detection"]
        if wire is None:
            return None
        if wire["type"] == "semantic_vad":
            return TurnSettings(
                threshold=_SERVER_VAD["threshold"],
                prefix_padding_ms=_SERVER_VAD["prefix_padding_ms"],
                silence_duration_ms=_SEMANTIC_SILENCE_MS[wire["eagerness"]],
            )
        return TurnSettings(
            threshold=wire["threshold"],
            prefix_padding_ms=wire["prefix_padding_ms"],
            silence_duration_ms=wire["silence_duration_ms"],
        )

    @property
    def creates_response(self) -> bool:
        """Whether the end of speech is answered unasked."""
        return bool((self.input["turn_detection"] or {}).get("create_response"))

    @property
    def interrupts_response(self) -> bool:
        """Whether speech cancels the running response."""
        return bool((self.input["turn_detection"] or {}).get("interrupt_response"))

    @property
    def idle_timeout_ms(self) -> int | None:
        """How long the caller may stay silent."""
        timeout_ms: int | None = (self.input["turn_detection"] or {}).get("idle_timeout_ms")
        return timeout_ms

    @property
    def phrases(self) -> tuple[str, ...]:
        """Phrases the client expects: the lines of the transcription prompt, and its keywords."""
        transcription = self.input["transcription"] or {}
        lines = [line.strip() for line in transcription.get("prompt", "").splitlines()]
        return tuple(line for line in (*lines, *transcription.get("keywords", ())) if line)

    def _check_model(self, partial: dict[str, Any]) -> None:
        if partial.get("model", self._wire["model"]) != self._wire["model"]:
            raise Refusal("invalid_value", "The model is fixed when the session is opened.", "session.model")

    def _check_voice(self, given_output: dict[str, Any], param: str) -> None:
        if self.is_voice_locked and given_output.get("voice", self.output["voice"]) != self.output["voice"]:
            raise Refusal(
                "cannot_update_voice",
                "Cannot update a conversation's voice if assistant audio is present.",
                param,
            )
