"""TaskServer: an agent's tasks as tools of an MCP server, in text: the same machines, the same rules.

Each task is a tool. Starting one begins a conversation, whose id stands in the report beside what
`AgentSession` says. ``task_reply``, ``task_cancel`` and ``task_status`` go on in it, and so does a
further task that is started with the same ``conversation_id``. The id cannot be guessed and is all a
client must show, as newer versions of the protocol know no sessions. A conversation that nobody touched
for `IDLE_TIMEOUT_S` is closed; when there are too many, the one that has been idle longest. What a state
asks of the telephone has no effect, but that hanging up and transferring end the conversation. Needs: pip
install 'fastagent[mcp]'.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import mcp_types
import orjson
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from fastagent import __version__
from fastagent.afsm.orders import DigitsEnd, DigitsOutcome, Order, TransferEnd, TransferOutcome
from fastagent.afsm.state import CallControl
from fastagent.afsm.voice import VoicePolicy
from fastagent.errors import ConfigurationError
from fastagent.tools.arguments import MAX_ARGUMENTS_BYTES
from fastagent.tools.router import DEFAULT_TASK_PATIENCE_S, AgentSession
from fastagent.tools.task import TASK_CANCEL, TASK_REPLY, Task

__all__ = ["IDLE_TIMEOUT_S", "MAX_CONVERSATIONS", "TaskOwner", "TaskServer", "TextControl"]

TASK_STATUS = "task_status"
CONVERSATION_ID = "conversation_id"
IDLE_TIMEOUT_S = 900.0
MAX_CONVERSATIONS = 256
MAX_REPORTS = 50
"""Kept for a client that does not ask for them; the oldest goes first."""
MAX_REQUEST_BYTES = 2 * MAX_ARGUMENTS_BYTES

INSTRUCTIONS = """\
Each tool but task_reply, task_cancel and task_status starts a task, done step by step by rules of its own. \
Reports are JSON: needs_input means say is a question, answer it with task_reply; working means it takes \
longer, ask task_status; done, failed and cancelled are its end. Pass the conversation_id of the report on."""

_log = logging.getLogger(__name__)
# The SDK's records quote messages, so what people say; ours say what of it matters.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


class TaskOwner(Protocol):
    """What a `TaskServer` needs of an agent."""

    @property
    def agent_id(self) -> str:
        """Its name."""

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Its tasks by name."""

    def open(self, control: CallControl) -> AgentSession:
        """Give it for one conversation."""


class TextControl:
    """A conversation without a telephone: of what a state may ask, only words and the end have a meaning.

    Args:
        announced: takes the reports that no function call waits for.
    """

    def __init__(self, conversation_id: str, announced: Callable[[dict[str, Any]], None]) -> None:
        self.end = ""
        """"hang_up" or "transfer" once a state has asked for it."""
        self._conversation_id = conversation_id
        self._announced = announced

    @property
    def call_id(self) -> str:
        """A name for logs; not the whole id, which would let its reader in."""
        return f"text-{self._conversation_id[:6]}"

    @property
    def caller(self) -> str:
        """Nobody's number."""
        return ""

    def hang_up(self, reason: str) -> None:
        """End the conversation after this report."""
        self.end = self.end or "hang_up"

    def transfer(
        self, target: str, reason: str, *, is_warm: bool = False, summary: str = ""
    ) -> Order[TransferOutcome]:
        """End the conversation after this report: a person is wanted. Nobody can be put through."""
        self.end = self.end or "transfer"
        return Order.settled(TransferOutcome(TransferEnd.NOT_SUPPORTED))

    def hand_over(self, to: str, reason: str) -> bool:
        """There is no other agent."""
        return False

    def recall(self) -> bool:
        """Nobody is known here."""
        return False

    def send_digits(self, digits: str) -> Order[DigitsOutcome]:
        """There is no far side."""
        return Order.settled(DigitsOutcome(DigitsEnd.NOT_SUPPORTED))

    def hold(self, clip: str = "") -> None:
        """There is no sound."""

    def resume(self) -> None:
        """There is no sound."""

    def send_metadata(self, value: Mapping[str, Any]) -> None:
        """There is no telephone network."""

    def set_voice_policy(self, policy: VoicePolicy | None) -> None:
        """There is no voice."""

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None:
        """There is no sound."""

    def stop_clips(self) -> None:
        """There is no sound."""

    def announce(self, text: str) -> None:
        """Keep a report, or words, for the client's next question."""
        try:
            report = orjson.loads(text)
        except ValueError:
            report = None
        self._announced(report if isinstance(report, dict) else {"say": text})


class _Conversation:
    def __init__(self, owner: TaskOwner, now: float) -> None:
        self.id = secrets.token_urlsafe(16)
        self.touched = now
        self.reports: deque[dict[str, Any]] = deque(maxlen=MAX_REPORTS)
        self.latest: dict[str, dict[str, Any]] = {}
        """The last report of each task."""
        self.news = asyncio.Event()
        self.control = TextControl(self.id, self._announced)
        self.session = owner.open(self.control)
        self.running = 0
        self._calls = 0

    def _announced(self, report: dict[str, Any]) -> None:
        self.reports.append(report)
        self.keep(report)
        self.news.set()

    def keep(self, report: dict[str, Any]) -> None:
        if isinstance(task := report.get("task"), str) and report.get("status") != "error":
            self.latest[task] = report

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self._calls += 1
        outcome = await self.session.call_function(
            f"{self._calls}", name, orjson.dumps(arguments, option=orjson.OPT_NON_STR_KEYS).decode()
        )
        report: dict[str, Any] = orjson.loads(outcome.output)
        self.keep(report)
        return report

    async def status(self, patience_s: float) -> dict[str, Any]:
        """The reports that came since, waiting a little for one while a task works."""
        self.news.clear()
        if not self.reports and any(one["status"] == "working" for one in self.latest.values()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), patience_s)
        reports = list(self.reports)
        self.reports.clear()
        return {"status": "done", "reports": reports, "tasks": dict(self.latest)}


class TaskServer:
    """An agent's tasks for MCP clients.

    Args:
        patience_s: how long ``task_status`` waits for a report.
        now: monotonic seconds.

    Raises:
        ConfigurationError: the agent has no task, or one that cannot be offered.
    """

    def __init__(
        self,
        owner: TaskOwner,
        *,
        max_conversations: int = MAX_CONVERSATIONS,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        patience_s: float = DEFAULT_TASK_PATIENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if not owner.tasks:
            raise ConfigurationError(f"agent {owner.agent_id!r} has no tasks to offer")
        self._owner = owner
        self._max_conversations = max_conversations
        self._idle_timeout_s = idle_timeout_s
        self._patience_s = patience_s
        self._now = now
        self._conversations: OrderedDict[str, _Conversation] = OrderedDict()
        """By id, the one touched last at the end."""
        self._closing: set[asyncio.Task[None]] = set()
        self.tools = tuple(_task_tool(task) for task in owner.tasks.values()) + _talk_tools(list(owner.tasks))
        """The tools as a client sees them."""
        self._server: Server[Any] = Server(
            owner.agent_id,
            version=__version__,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    @property
    def conversations(self) -> int:
        """Those that are open."""
        return len(self._conversations)

    async def serve_stdio(self) -> None:
        """Serve one client over this process's stdin and stdout, until it closes them."""
        try:
            async with stdio_server() as (inbound, outbound):
                await self._server.run(inbound, outbound, self._server.create_initialization_options())
        finally:
            await self.close()

    @contextlib.asynccontextmanager
    async def http_app(self, allowed_hosts: Sequence[str]) -> AsyncIterator[ASGIApp]:
        """Give the ASGI endpoint of streamable HTTP, while the context is open.

        Args:
            allowed_hosts: ``Host`` headers it answers to (``name:port``, ``name:*``), so that a web page
                cannot reach it by a name of its own that leads here.
        """
        manager = StreamableHTTPSessionManager(
            self._server,
            security_settings=TransportSecuritySettings(allowed_hosts=list(allowed_hosts)),
            max_request_body_size=MAX_REQUEST_BYTES,
            max_sessions=self._max_conversations,
        )
        try:
            async with manager.run():
                yield manager.asgi_app
        finally:
            await self.close()

    async def close(self) -> None:
        """Close all conversations, and wait until their tasks have ended."""
        while self._conversations:
            self._drop(next(iter(self._conversations)))
        if self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _list_tools(
        self, context: ServerRequestContext[Any], params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=list(self.tools))

    async def _call_tool(
        self, context: ServerRequestContext[Any], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        report = await self.call(params.name, params.arguments or {})
        return mcp_types.CallToolResult(
            content=[mcp_types.TextContent(type="text", text=orjson.dumps(report).decode())],
            structured_content=report,
            is_error=report["status"] == "error",
        )

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a client asks for and report; a mistake of the client's is a report too."""
        self._drop_idle()
        given = dict(arguments)
        conversation_id = given.pop(CONVERSATION_ID, None)
        if name not in self._owner.tasks and name not in (TASK_REPLY, TASK_CANCEL, TASK_STATUS):
            return _error(f"no such tool; there are {', '.join(tool.name for tool in self.tools)}")
        if conversation_id is None and name in self._owner.tasks:
            conversation = self._open()
        else:
            found = self._conversations.get(conversation_id) if isinstance(conversation_id, str) else None
            if found is None:
                return _error("no such conversation; a task that is started without one begins one")
            conversation = found
        if conversation is None:
            return _error("too many conversations at once")
        conversation.touched = self._now()
        self._conversations.move_to_end(conversation.id)
        conversation.running += 1
        try:
            if name == TASK_STATUS:
                report = await conversation.status(self._patience_s)
            else:
                report = await conversation.call(name, given)
        finally:
            conversation.running -= 1
        if conversation.control.end:
            self._drop(conversation.id)
            return {**report, "conversation": "ended", "ended_by": conversation.control.end}
        return {**report, CONVERSATION_ID: conversation.id}

    def _open(self) -> _Conversation | None:
        if len(self._conversations) >= self._max_conversations:
            idle = next((one for one in self._conversations.values() if not one.running), None)
            if idle is None:
                return None
            self._drop(idle.id)
        conversation = _Conversation(self._owner, self._now())
        self._conversations[conversation.id] = conversation
        return conversation

    def _drop_idle(self) -> None:
        deadline = self._now() - self._idle_timeout_s
        for conversation in list(self._conversations.values()):
            if conversation.touched > deadline:
                break
            if not conversation.running:
                self._drop(conversation.id)

    def _drop(self, conversation_id: str) -> None:
        conversation = self._conversations.pop(conversation_id, None)
        if conversation is not None:
            task = asyncio.create_task(conversation.session.close("conversation over"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _task_tool(task: Task) -> mcp_types.Tool:
    properties = dict(task.parameters.get("properties", {}))
    if CONVERSATION_ID in properties or task.name == TASK_STATUS:
        raise ConfigurationError(f"task {task.name!r}: {CONVERSATION_ID} and {TASK_STATUS} are taken")
    properties[CONVERSATION_ID] = {
        "type": "string",
        "description": "Of an earlier report, to start the task in that conversation.",
    }
    schema = {**task.parameters, "properties": properties}
    return mcp_types.Tool(name=task.name, description=task.description, input_schema=schema)


def _talk_tools(task_names: list[str]) -> tuple[mcp_types.Tool, ...]:
    conversation = {"type": "string", "description": "Of the report that began it."}
    task = {"type": "string", "enum": task_names}
    answer = {"type": "string", "description": "The answer, in the user's own words."}
    tools: tuple[tuple[str, str, dict[str, Any]], ...] = (
        (TASK_REPLY, "Answer a waiting task's question.", {"task": task, "answer": answer}),
        (TASK_CANCEL, "Stop a task that is no longer wanted.", {"task": task}),
        (TASK_STATUS, "Tell what the tasks have reported since.", {}),
    )
    return tuple(
        mcp_types.Tool(
            name=name,
            description=description,
            input_schema={
                "type": "object",
                "properties": {CONVERSATION_ID: conversation, **properties},
                "required": [CONVERSATION_ID, *properties],
            },
        )
        for name, description, properties in tools
    )


def _error(reason: str) -> dict[str, Any]:
    return {"status": "error", "reason": reason}
