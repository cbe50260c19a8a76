"""What a load test is asked to do: whom to call, how many, what is said, and what must be kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastagent.load.caller import Target
from fastagent.load.limits import Limit
from fastagent.load.model import ModelOptions
from fastagent.load.plan import Plan
from fastagent.load.scenario import Scenario
from fastagent.load.speech import Speech
from fastagent.testing.fault_flow import Shape

__all__ = ["LoadTest"]


@dataclass(frozen=True, slots=True)
class LoadTest:
    """What is to be done."""

    target: Target
    plan: Plan
    scenario: Scenario = field(default_factory=Scenario)
    voices: Mapping[str, Speech] = field(default_factory=dict)
    """Speech for texts of the scenario; what has none is babble."""
    model: ModelOptions | None = field(default_factory=ModelOptions)
    """The model's side in this process; None when the server has one elsewhere."""
    limits: tuple[Limit, ...] = ()
    fault: Shape | None = None
    """What becomes of messages between callers and server, both ways."""
    pid: int | None = None
    """Of the server; None looks for who listens on its port on this machine."""
    metrics_url: str = ""
    """Empty: ``/metrics`` of the target's host."""
    seed: int = 0
