"""Functions offered to the model, and what happens when it calls one."""

from fastagent.tools.router import AgentSession, FunctionOutcome, Transition
from fastagent.tools.task import Task

__all__ = ["AgentSession", "FunctionOutcome", "Task", "Transition"]
