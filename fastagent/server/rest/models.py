"""What the house answers over HTTP; the document is made of these."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AcceptedConfig",
    "AgentList",
    "AgentSummary",
    "AgentVersionDetail",
    "DialRequest",
    "DialStarted",
    "GraphFinding",
    "LiveSession",
    "Mistake",
    "PlaybackRequest",
    "PlaybackStarted",
    "ProblemDetails",
    "SessionDetail",
    "SessionList",
    "StateMove",
    "StoredSession",
    "TaskSummary",
    "TranscriptEntry",
    "WorkingTask",
]


class _Answer(BaseModel):
    # What is said of a field here is what the document says.
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Mistake(_Answer):
    """One thing that does not fit."""

    path: str
    """Where it stands, ``states[2].name`` for instance; empty for the whole."""
    message: str


class GraphFinding(_Answer):
    """What a check of the graph found."""

    level: Literal["error", "warning", "hint"]
    kind: str
    message: str
    mend: str
    """What to do about it."""
    task: str
    state: str
    place: str
    """Its path in the configuration, or its place in the code."""


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    errors: list[Mistake] = []
    findings: list[GraphFinding] = []


class TaskSummary(_Answer):
    """A task of an agent."""

    name: str
    content_hash: str
    """Of its graph."""
    states: list[str]
    initial_state: str


class AgentSummary(_Answer):
    """An agent as it answers new calls."""

    agent_id: str
    name: str
    version: int
    content_hash: str
    source: Literal["code", "api"]
    is_default: bool
    """It answers calls that name no agent."""
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    """When this version came to answer."""
    active_sessions: int
    """Running calls that it answers, whichever version."""
    tasks: list[TaskSummary]


class AgentList(_Answer):
    """All agents."""

    agents: list[AgentSummary]
    total_count: int


class AcceptedConfig(_Answer):
    """What became of a configuration."""

    agent_id: str
    version: int
    content_hash: str
    is_changed: bool
    """False when it is what answered already."""
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    warnings: list[GraphFinding]


class AgentVersionDetail(_Answer):
    """One version of an agent's configuration."""

    agent_id: str
    version: int
    is_current: bool
    content_hash: str
    source: Literal["code", "api"]
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    config: dict[str, Any] | None
    """As it was posted, see `AgentConfig`; none for an agent in code."""
    tasks: list[TaskSummary]
    warnings: list[GraphFinding]
    kept_versions: list[int]


class LiveSession(_Answer):
    """A running call."""

    session_id: str
    agent_id: str
    start_time: str = Field(json_schema_extra={"format": "date-time"})
    current_state: str
    """Of the task that asked last; empty before the first."""
    duration_seconds: float
    turn_count: int
    """Finished utterances of either side."""
    is_parked: bool
    """Its line is lost, and it waits to be resumed."""
    carrier: str
    """``audiocodes``, ``twilio``, ``agent_ws`` or ``other``."""
    speaker: Literal["", "caller", "bot", "both"]
    """Who is heard; empty for nobody."""
    latency_ms: float | None
    """From the end of the caller's last turn to the first audio of its answer; null before one."""
    drops: int
    """Audio messages and findings dropped, as of 2 s ago."""
    cost_dollars: float | None
    """So far; null for a model without a price."""


class StoredSession(_Answer):
    """A call that is over, or was interrupted."""

    session_id: str
    agent_id: str
    status: Literal["live", "interrupted", "ended"]
    start_time: str = Field(json_schema_extra={"format": "date-time"})
    update_time: str = Field(json_schema_extra={"format": "date-time"})
    current_state: str
    duration_seconds: float
    turn_count: int
    outcome: str


class SessionList(_Answer):
    """Some of the sessions that were asked for, newest first."""

    active_sessions: list[LiveSession]
    stored_sessions: list[StoredSession]
    total_count: int
    """All that fit the question, on this page or not."""
    next_cursor: str
    """Where the next page begins; empty at the end."""


class TranscriptEntry(_Answer):
    """What was said."""

    at: str = Field(json_schema_extra={"format": "date-time"})
    speaker: Literal["caller", "agent"]
    text: str
    is_redacted: bool
    """The words are not kept."""


class StateMove(_Answer):
    """A move of a task's machine."""

    at: str = Field(json_schema_extra={"format": "date-time"})
    task: str
    from_state: str
    """Empty when it enters its initial state."""
    to_state: str
    reason: str


class WorkingTask(_Answer):
    """A task under way."""

    task: str
    state: str
    scratchpads: dict[str, list[str]]
    """Notes by state: none of a state that asks for what must not be written down, none that quotes it."""


class SessionDetail(_Answer):
    """One session."""

    session_id: str
    agent_id: str
    status: Literal["live", "interrupted", "ended"]
    start_time: str = Field(json_schema_extra={"format": "date-time"})
    current_state: str
    duration_seconds: float
    turn_count: int
    outcome: str
    graph_hashes: dict[str, str]
    """Content hashes of the graphs it runs, by task."""
    tasks: list[WorkingTask]
    moves: list[StateMove]
    """The last of them, oldest first."""
    transcript: list[TranscriptEntry]
    """The last of it, oldest first."""
    transcript_count: int
    """Of all that was said."""


class PlaybackRequest(BaseModel):
    """A clip that is played by its name."""

    model_config = ConfigDict(extra="forbid")

    clip: str
    loop: bool = False
    when: Literal["now", "when_quiet"] = "now"
    interruptible: bool = True
    level_dbfs: float | None = Field(None, ge=-60, le=0)


class PlaybackStarted(_Answer):
    """A clip that the call has."""

    playback_id: str
    clip: str
    duration_ms: int
    loop: bool
    when: Literal["now", "when_quiet"]
    interruptible: bool


NUMBER = r"^\+[1-9]\d{4,14}$"


class DialRequest(BaseModel):
    """Who is to be called, and who talks to them."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    to: str = Field(pattern=NUMBER, repr=False)
    """E.164; on the list of those that may be called."""
    agent: str = Field(min_length=1, max_length=128)
    """Its id."""
    sender: str = Field("", alias="from", pattern=rf"^$|{NUMBER}", repr=False)
    """One of our numbers; empty takes the one that texts come from."""
    detect_machines: bool = False
    """Twilio listens who takes the call, and the agent is told while it talks."""
    wait_for_beep: bool = False
    """With it: of a machine the agent is told when its greeting is over."""


class DialStarted(_Answer):
    """A call that rings, or is about to."""

    call_sid: str
    """Twilio's name for it, and the id of its session."""
