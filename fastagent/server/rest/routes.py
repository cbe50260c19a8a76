"""All operations of the house, and their routes."""

import sys

from starlette.routing import BaseRoute

from fastagent.server.clips.playback import START_PLAYBACK, STOP_PLAYBACK
from fastagent.server.doors.auth import Doorkeeper
from fastagent.server.lines.twilio_dial import DIAL
from fastagent.server.rest.agents_api import LIST_AGENTS, POST_CONFIG, READ_CONFIG, AgentsApi
from fastagent.server.rest.openapi import DOCUMENT, document_bytes, document_handler
from fastagent.server.rest.operations import Operation, operation_routes
from fastagent.server.rest.sessions_api import (
    END_SESSION,
    LIST_SESSIONS,
    READ_JOURNAL,
    READ_RECORDING,
    READ_SESSION,
    SessionsApi,
)

__all__ = ["OPERATIONS", "rest_routes"]

OPERATIONS: tuple[Operation, ...] = (
    LIST_AGENTS,
    READ_CONFIG,
    POST_CONFIG,
    LIST_SESSIONS,
    READ_SESSION,
    END_SESSION,
    READ_RECORDING,
    READ_JOURNAL,
    START_PLAYBACK,
    STOP_PLAYBACK,
    DIAL,
    DOCUMENT,
)
"""What the document tells of; clips and calls of ours have routes of their own."""


def rest_routes(doors: Doorkeeper, agents: AgentsApi, sessions: SessionsApi) -> list[BaseRoute]:
    """The routes of agents, sessions and the document."""
    handlers = [*agents.handlers, *sessions.handlers, (DOCUMENT, document_handler(OPERATIONS))]
    return operation_routes(doors, handlers)


if __name__ == "__main__":
    sys.stdout.buffer.write(document_bytes(OPERATIONS))
