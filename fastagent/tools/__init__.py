"""Functions offered to the model, and what happens when it calls one."""

from fastagent.tools.function import Function, tool
from fastagent.tools.mcp import McpPool, McpServer
from fastagent.tools.offered import OfferedTool, Recorder, ToolCall
from fastagent.tools.reports import FunctionOutcome
from fastagent.tools.router import AgentSession
from fastagent.tools.talk import Transition
from fastagent.tools.task import Task

__all__ = [
    "AgentSession",
    "Function",
    "FunctionOutcome",
    "McpPool",
    "McpServer",
    "OfferedTool",
    "Recorder",
    "Task",
    "ToolCall",
    "Transition",
    "tool",
]
