"""An agent's configuration as JSON: what it may hold, and the agent made of it.

What is not given is as the agent in code of the same id has it, or else the default. States make its one
task; they call for effects, and the configuration for functions and colleagues, by the names those have in
code: a configuration brings data, never code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fastagent.afsm.definition import (
    LLM_KEYS,
    MAX_STATES,
    JsonState,
    StateDefinition,
    VoiceDefinition,
    WatchDefinition,
    read_watches,
)
from fastagent.afsm.effects.declared import effects_of
from fastagent.afsm.verify import Finding, Level, check
from fastagent.agent import FastAgent
from fastagent.errors import ConfigurationError

__all__ = ["AGENT_ID_PATTERN", "AgentConfig", "ParameterDefinition", "build_agent"]

AGENT_ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"
"""Also the name of its task's tool, and of a file."""

_Text = Annotated[str, Field(max_length=20_000)]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_ToolName = Annotated[str, Field(pattern=AGENT_ID_PATTERN)]
_ModelSetting = (
    Annotated[str, Field(max_length=10_000)]
    | Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
    | Annotated[float, Field(ge=-1_000_000, le=1_000_000)]
    | bool
)
MODEL_KEYS = LLM_KEYS | {"max_output_tokens"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ParameterDefinition(_Strict):
    """JSON Schema of a value that the model passes along, as far as it is looked at."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: Annotated[str, Field(max_length=2_000)] = ""
    enum: Annotated[list[str | int | float | bool], Field(min_length=1, max_length=200)] | None = None
    items: "ParameterDefinition | None" = None
    properties: Annotated[dict[str, "ParameterDefinition"], Field(max_length=100)] | None = None
    required: Annotated[list[_Name], Field(max_length=100)] | None = None
    additionalProperties: bool | None = None


class ParametersDefinition(_Strict):
    """JSON Schema of all that the model may pass along when it calls for the task."""

    type: Literal["object"] = "object"
    properties: Annotated[dict[str, ParameterDefinition], Field(max_length=100)] = {}
    required: Annotated[list[_Name], Field(max_length=100)] = []
    additionalProperties: bool = True


class AgentConfig(_Strict):
    """An agent's configuration. What is left out is as the agent in code has it, or else the default."""

    name: Annotated[str, Field(max_length=200)] = ""
    """For people."""
    description: Annotated[str, Field(max_length=2_000)] | None = None
    """What the agent is for, told to its colleagues."""
    instructions: Annotated[str, Field(max_length=100_000)] | None = None
    """Who the agent is and what it knows."""
    greeting: Annotated[str, Field(max_length=2_000)] | None = None
    """What it says first; empty waits for the caller."""
    states: Annotated[list[StateDefinition], Field(min_length=1, max_length=MAX_STATES)] | None = None
    """The states of its one task. Left out: the tasks of the agent in code."""
    initial_state: Annotated[str, Field(max_length=100)] = ""
    """Empty takes the one state that says it is the initial one."""
    supervisor: Annotated[list[WatchDefinition], Field(max_length=100)] = []
    """Watches beside the states."""
    task_name: _ToolName | None = None
    task_description: _Text | None = None
    task_parameters: ParametersDefinition | None = None
    llm_config: Annotated[dict[str, _ModelSetting], Field(max_length=20)] | None = None
    """Settings for models; where the model's server is and what opens it is for code and settings to say."""
    functions: Annotated[list[_Name], Field(max_length=200)] | None = None
    """Names of functions of the agent in code that it may call. Left out: all of them."""
    colleagues: Annotated[list[_Name], Field(max_length=50)] | None = None
    """Ids of agents that it may hand the caller over to. Left out: those of the agent in code."""
    voice: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2}$")] | None = None
    """ISO 639-1."""
    transcription_phrases: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=500)] | None
    ) = None
    transfer_target: Annotated[str, Field(pattern="^(tel|sips?):[!-~]{1,200}$")] | None = None
    """``tel:+…`` or ``sip:…``, where ``transfer_call`` leads."""
    is_transfer_warm: bool | None = None
    """Whoever takes a `transfer_call` hears a summary first, where the carrier can do that."""
    voicemail: Annotated[str, Field(max_length=2_000)] | None = None
    """What it says to an answering machine that takes a call of ours; empty hangs up without a word."""
    max_history: Annotated[int, Field(ge=1, le=1_000)] | None = None
    task_patience_s: Annotated[float, Field(ge=0, le=60)] | None = None
    voice_policy: VoiceDefinition | None = None


@dataclass(frozen=True, slots=True)
class BuiltAgent:
    """An agent made of a configuration, and what its graph's check found."""

    agent: FastAgent
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that a caller will meet."""
        return tuple(one for one in self.findings if one.level is Level.ERROR)


class ConfigError(ConfigurationError):
    """A configuration that does not fit; ``path`` says where."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)


def build_agent(
    agent_id: str,
    config: AgentConfig,
    coded: FastAgent | None,
    colleagues: Mapping[str, FastAgent],
) -> BuiltAgent:
    """Make the agent of a configuration and check its graph. May run in a thread.

    Args:
        coded: the agent in code of this id.
        colleagues: agents that may be named as such, by their ids.

    Raises:
        ConfigError: it does not fit.
    """
    given: dict[str, Any] = {} if coded is None else _of_code(coded)
    for name in (
        "instructions", "greeting", "voice", "language", "transcription_phrases", "transfer_target",
        "is_transfer_warm", "voicemail", "max_history", "task_patience_s",
    ):  # fmt: skip
        if (value := getattr(config, name)) is not None:
            given[name] = value
    if config.description is not None:
        given["purpose"] = config.description
    if config.llm_config is not None:
        given["llm_config"] = _model_settings(config.llm_config)
    if config.voice_policy is not None:
        given["voice_policy"] = _checked("voice_policy", config.voice_policy.policy, "voice_policy")
    if config.functions is not None:
        given["functions"] = _named("functions", config.functions, {} if coded is None else coded.functions)
    if config.colleagues is not None:
        given["colleagues"] = _named("colleagues", config.colleagues, colleagues)
    if config.states is not None:
        given.pop("tasks", None)
        effects = {} if coded is None else _effects(coded)
        states = _states(config.states, effects)
        parameters = config.task_parameters
        given |= {
            "states": states,
            "initial_state": config.initial_state,
            "supervisor": _watches(config.supervisor),
            "effects": effects,
            "task_name": config.task_name,
            "task_description": config.task_description,
            "task_parameters": None if parameters is None else parameters.model_dump(exclude_none=True),
        }
    else:
        for name in ("initial_state", "supervisor", "task_name", "task_description", "task_parameters"):
            if getattr(config, name):
                raise ConfigError(name, "goes with states, and there are none")
    agent = _checked("", FastAgent, agent_id, **given)
    # What stands in code answers already, whatever is wrong with it.
    findings = check(agent) if config.states is not None else ()
    return BuiltAgent(agent, tuple(findings))


def _of_code(agent: FastAgent) -> dict[str, Any]:
    return {
        "llm_config": agent.llm_config,
        "instructions": agent.own_instructions,
        "greeting": agent.greeting,
        "tasks": tuple(agent.tasks.values()),
        "functions": tuple(agent.functions.values()),
        "mcp_servers": agent.mcp_servers,
        "voice": agent.voice,
        "language": agent.language,
        "transcription_phrases": agent.transcription_phrases,
        "transfer_target": agent.transfer_target,
        "transfer_targets": agent.transfer_targets,
        "is_transfer_warm": agent.is_transfer_warm,
        "voicemail": agent.voicemail,
        "memory_days": agent.memory_days,
        "colleagues": tuple(agent.colleagues.values()),
        "purpose": agent.purpose,
        "max_history": agent.max_history,
        "task_patience_s": agent.task_patience_s,
        "voice_policy": agent.voice_policy,
    }


def _effects(coded: FastAgent) -> dict[str, Callable[..., Any]]:
    """The functions in code that states may name."""
    found: dict[str, Callable[..., Any]] = {}
    for task in coded.tasks.values():
        for bound in effects_of(task.graph):
            found.setdefault(bound.rules.name, bound.run)
            if bound.undo is not None and bound.rules.undo:
                found.setdefault(bound.rules.undo, bound.undo)
        found.update(task.graph.functions)
    return found


def _states(definitions: list[StateDefinition], effects: Mapping[str, Callable[..., Any]]) -> list[JsonState]:
    states = []
    names = {definition.name for definition in definitions}
    for number, definition in enumerate(definitions):
        where = f"states[{number}]"
        for key in definition.llm_config or {}:
            _check_model_key(f"{where}.llm_config.{key}", key, LLM_KEYS)
        for position, effect in enumerate(definition.effects):
            for part, name in (("name", effect.name), ("undo", effect.undo)):
                if name and name not in effects:
                    raise ConfigError(
                        f"{where}.effects[{position}].{part}", "the agent in code has no effect of this name"
                    )
        for position, target in enumerate(definition.allowed_transitions):
            if target not in names:
                raise ConfigError(
                    f"{where}.allowed_transitions[{position}]", "there is no state of this name"
                )
        state = _checked(where, JsonState.of, definition, where)
        _checked(where, state.spec)
        states.append(state)
    return states


def _watches(definitions: list[WatchDefinition]) -> Any:
    return _checked("supervisor", read_watches, [one.model_dump() for one in definitions])


def _model_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    for key in settings:
        _check_model_key(f"llm_config.{key}", key, MODEL_KEYS)
    return dict(settings)


def _check_model_key(path: str, key: str, known: frozenset[str] | set[str]) -> None:
    if key == "base_url":
        # The key to the model's door would go to whoever is named here.
        raise ConfigError(path, "where a model's server is can be said in code alone")
    if key not in known:
        raise ConfigError(path, f"there are {', '.join(sorted(known - {'base_url'}))}")


def _named(path: str, names: list[str], known: Mapping[str, Any]) -> list[Any]:
    for position, name in enumerate(names):
        if name not in known:
            raise ConfigError(f"{path}[{position}]", "there is none of this name in code")
        if name in names[:position]:
            raise ConfigError(f"{path}[{position}]", "it is named twice")
    return [known[name] for name in names]


def _checked(path: str, make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return make(*arguments, **named)
    except ConfigurationError as error:
        text = str(error)
        place, colon, reason = text.partition(": ")
        is_path = bool(colon) and bool(path) and place.startswith(path)
        raise ConfigError(place if is_path else path, reason if is_path else text) from None
