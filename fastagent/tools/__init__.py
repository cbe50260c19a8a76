"""Functions offered to the model, and what happens when it calls one."""

from fastagent.tools.function import Function, tool
from fastagent.tools.mcp import McpPool, McpServer
from fastagent.tools.offered import OfferedTool, Recorder, ToolCall
from fastagent.tools.router import AgentSession, FunctionOutcome, Transition
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
