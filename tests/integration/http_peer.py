"""Plain HTTP requests to a scene's server, made off its loop."""

import asyncio
import http.client
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from fastagent.server.process import RunningServer

__all__ = ["Answer", "ask", "request", "samples"]

TIMEOUT_S = 30.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def request(server: RunningServer, path: str, headers: dict[str, str] | None = None) -> Answer:
    """Ask, and wait for the answer: for a thread of its own."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, fields, answer.read().decode())
    finally:
        connection.close()


async def ask(server: RunningServer, path: str, headers: dict[str, str] | None = None) -> Answer:
    """Ask while the loop goes on."""
    return await asyncio.to_thread(request, server, path, headers)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
