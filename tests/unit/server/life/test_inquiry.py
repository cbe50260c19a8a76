"""Requests that are passed on to siblings which do not answer as they should."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request

from fastagent.server.life import inquiry
from fastagent.server.life.inquiry import ask_siblings

pytestmark = pytest.mark.anyio

PATHS = [Path("one"), Path("other"), Path("third")]
REQUEST = Request(
    {"type": "http", "method": "POST", "raw_path": b"/twilio/next", "query_string": b"", "headers": []}
)


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for one in opened:
        one.close()


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"nonsense\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"])
async def test_a_sibling_that_talks_nonsense_is_passed_over(
    answer: bytes, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [answer, b"HTTP/1.1 204 No Content\r\n\r\n"]

    def visit(path: Path) -> socket.socket:
        near, far = socket.socketpair()
        sockets.append(far)
        far.sendall(answers[len(sockets) - 1])
        far.shutdown(socket.SHUT_WR)
        near.setblocking(False)
        return near

    monkeypatch.setattr(inquiry, "visit", visit)
    found = await ask_siblings(REQUEST, b"", PATHS)
    assert found is not None
    assert (found.status_code, len(sockets)) == (204, 2)


async def test_siblings_that_say_nothing_are_not_all_waited_for(
    sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def visit(path: Path) -> socket.socket:
        near, far = socket.socketpair()
        sockets.append(far)
        near.setblocking(False)
        return near

    monkeypatch.setattr(inquiry, "visit", visit)
    monkeypatch.setattr(inquiry, "ASK_TIMEOUT_S", 0.01)
    monkeypatch.setattr(inquiry, "ASK_ALL_TIMEOUT_S", 0.0, raising=False)
    assert await ask_siblings(REQUEST, b"", PATHS) is None
    assert len(sockets) == 1
