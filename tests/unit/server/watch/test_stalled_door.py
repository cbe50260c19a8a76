"""Stalled door: whoever knocks while the loop stands still is told so."""

import socket
import threading

import pytest

from fastagent.server.watch import stalled_door
from fastagent.server.watch.stalled_door import StalledDoor


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


@pytest.fixture
def door(listener):
    one = StalledDoor(listener)
    yield one
    one.close()


def knock(listener, request):
    peer = socket.create_connection(listener.getsockname())
    peer.settimeout(10)
    peer.sendall(request)
    return peer


def read_all(peer):
    with peer:
        answer = b""
        while data := peer.recv(4096):
            answer += data
        return answer


def test_request_is_answered_503(listener, door):
    peer = knock(listener, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    door.answer()
    head, _, body = read_all(peer).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"content-length: {len(body)}".encode() in head
    assert b"loop stalled" in body
    assert door.answered == 1


def test_half_a_request_is_answered_after_a_moment(listener, door, monkeypatch):
    monkeypatch.setattr(stalled_door, "READ_TIMEOUT_S", 0.01)
    peer = knock(listener, b"GET / HT")
    door.answer()
    assert read_all(peer).startswith(b"HTTP/1.1 503 ")


def test_several_are_answered_in_one_turn_and_not_more_than_a_few(listener, door):
    peers = [knock(listener, b"GET / HTTP/1.1\r\n\r\n") for _ in range(stalled_door.ANSWERS_PER_TURN + 2)]
    door.answer()
    assert door.answered == stalled_door.ANSWERS_PER_TURN
    door.answer()
    assert all(read_all(peer).startswith(b"HTTP/1.1 503 ") for peer in peers)


def test_nobody_at_the_door_takes_no_time(door):
    done = threading.Event()
    thread = threading.Thread(target=lambda: (door.answer(), done.set()))
    thread.start()
    assert done.wait(10)
    thread.join()
    assert door.answered == 0


def test_one_who_left_is_no_trouble(listener, door):
    knock(listener, b"").close()
    door.answer()
    assert door.answered == 0
