"""What ``fastagent top`` makes of answers, those of no server of ours too."""

import asyncio
import json

import pytest

from fastagent.errors import ConfigurationError
from fastagent.server_address import ServerAddress
from fastagent.top.reading import Reading, ServerReader


async def read(answers: dict[str, bytes]) -> Reading:
    """A look at a server that gives these answers, by path."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().partition("?")[0]
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + answers[path])
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await asyncio.to_thread(ServerReader(ServerAddress(f"http://127.0.0.1:{port}")).read)


def test_what_is_no_number_is_none():
    call = {"session_id": "a", "duration_seconds": float("nan"), "turn_count": 10**400, "latency_ms": "x"}
    reading = asyncio.run(
        read(
            {
                "/health": json.dumps({"uptime_seconds": float("inf"), "latency_metrics": 3}).encode(),
                "/sessions": json.dumps({"active_sessions": [call, 7], "total_count": 1}).encode(),
                "/metrics": b'# HELP x\nx_total{a="b"} 2\nx_total{a="c"} 3\nnonsense\n',
            }
        )
    )
    assert (reading.uptime_s, reading.calls_in_all, reading.latency_ms) == (0, 1, {})
    (row,) = reading.calls
    assert (row.session_id, row.duration_s, row.turns, row.latency_ms) == ("a", 0, 0, None)
    assert reading.metrics == {"x_total": 5}


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000])
def test_another_server_is_said_to_be_another(body):
    with pytest.raises(ConfigurationError, match="no FastAgent server"):
        asyncio.run(read({"/health": body}))


def test_a_page_without_a_list_holds_no_calls():
    answers = {"/health": b"{}", "/sessions": b'{"active_sessions": null}', "/metrics": b""}
    assert asyncio.run(read(answers)).calls == ()
