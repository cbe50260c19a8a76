"""The carrier's socket: events to whoever holds it, answers before events, bad messages counted, one end."""

import logging
from typing import Any, cast

import pytest

from fastagent._native.listener import Leg
from fastagent.errors import MalformedMessageError
from fastagent.legs.carrier import CarrierSocket
from fastagent.stats import Counters
from fastagent.wire.events import EndReason, HandedOver, HangUp, SessionEnded, TransferCall


class Codec:
    """Turns each message into events of the same name; ``bad`` is malformed."""

    closing_hangs_up = False

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def receive(self, data: bytes) -> list[Any]:
        if data.startswith(b"bad and answered"):
            self.answers.append(b"why")
        if data.startswith(b"bad"):
            raise MalformedMessageError("carrier", "not parsable")
        self.answers.append(b"ack " + data)
        return [data.decode(), data.decode() + "!"]

    def messages_to_send(self) -> list[bytes]:
        answers, self.answers = self.answers, []
        return answers

    may_close = False

    def send(self, command: Any) -> list[bytes]:
        return [b"one", b"two"]


class Line:
    def __init__(self, story: list[Any]) -> None:
        self.story = story

    def send(self, message: bytes) -> None:
        self.story.append(message)

    def close(self, code: int, reason: str) -> None:
        self.story.append((code, reason))


class Scene:
    def __init__(self, limit: int = 3) -> None:
        self.story: list[Any] = []
        self.counters = Counters()
        self.socket = CarrierSocket(cast(Any, Codec()), bad_message_limit=limit, counters=self.counters)
        self.socket.leg = cast(Leg, Line(self.story))
        self.socket.on_event = self.story.append
        self.socket.on_lost = lambda code, reason: self.story.append(("lost", code, reason))


def test_answers_go_out_before_events_are_told_in_order():
    scene = Scene()
    scene.socket.on_message(b"hello", True)
    assert scene.story == [b"ack hello", "hello", "hello!"]


def test_command_is_put_on_the_wire_as_the_codec_says():
    scene = Scene()
    scene.socket.send(HangUp("over"))
    assert scene.story == [b"one", b"two"]


def test_where_closing_hangs_up_the_close_is_the_end_and_no_loss():
    scene = Scene()
    cast(Any, scene.socket.codec).closing_hangs_up = True
    scene.socket.send(HangUp("over"))
    assert scene.story == [b"one", b"two", (1000, "hang up")]
    scene.story.clear()
    scene.socket.on_message(b"late", True)
    scene.socket.on_closed(1006, "")
    scene.socket.on_closed(1006, "")
    assert scene.story == [SessionEnded(EndReason.BOT)]


def test_a_caller_is_handed_on_by_other_means_and_the_socket_closes():
    scene = Scene()
    scene.socket.hand_over = scene.story.append
    transfer = TransferCall("tel:+15550100099")
    scene.socket.send(transfer)
    assert scene.story == [transfer, (1000, "handed over")]
    scene.story.clear()
    scene.socket.on_closed(1000, "")
    assert scene.story == [HandedOver()]


def test_a_transfer_that_is_refused_leaves_the_call_as_it_was():
    def refuse(transfer: TransferCall) -> None:
        raise ValueError("no such target")

    scene = Scene()
    scene.socket.hand_over = refuse
    with pytest.raises(ValueError, match="target"):
        scene.socket.send(TransferCall("x"))
    scene.socket.on_closed(1006, "")
    assert scene.story == [("lost", 1006, "")]


def test_socket_without_a_leg_sends_nothing():
    scene = Scene()
    scene.socket.leg = None
    scene.socket.send(HangUp("over"))
    scene.socket.close()
    scene.socket.on_message(b"hello", True)
    assert scene.story == ["hello", "hello!"]


def test_bad_messages_are_counted_and_close_at_the_limit(caplog):
    scene = Scene(limit=5)
    with caplog.at_level(logging.WARNING, logger="fastagent.carrier"):
        for i in range(5):
            assert scene.story == []
            scene.socket.on_message(b"bad secret %d" % i, True)
    assert scene.story == [(1008, "too many malformed messages")]
    assert scene.counters == {"carrier_malformed": 5}
    assert len(caplog.records) == 3
    assert "secret" not in caplog.text


def test_answer_to_a_bad_message_goes_out_before_the_socket_closes():
    scene = Scene(limit=1)
    scene.socket.on_message(b"bad and answered", True)
    assert scene.story == [b"why", (1008, "too many malformed messages")]


def test_socket_closes_behind_the_last_word_of_a_session():
    scene = Scene()
    cast(Any, scene.socket.codec).may_close = True
    scene.socket.send(HangUp("over"))
    assert scene.story == [b"one", b"two", (1000, "session over")]


def test_good_message_between_bad_ones_is_read():
    scene = Scene()
    scene.socket.on_message(b"bad", True)
    scene.socket.on_message(b"hello", True)
    assert scene.story == [b"ack hello", "hello", "hello!"]


def test_end_is_told_once_and_nothing_after_it():
    scene = Scene()
    scene.socket.on_closed(1006, "")
    scene.socket.on_closed(1006, "")
    scene.socket.on_message(b"late", True)
    assert scene.story == [("lost", 1006, ""), b"ack late"]


def test_holder_may_change_inside_an_event():
    scene = Scene()
    second: list[Any] = []

    def hand_over(event: Any) -> None:
        scene.story.append(event)
        scene.socket.on_event = second.append

    scene.socket.on_event = hand_over
    scene.socket.on_message(b"hello", True)
    assert scene.story == [b"ack hello", "hello"]
    assert second == ["hello!"]


@pytest.mark.parametrize("name", ["on_open", "on_writable", "on_queued"])
def test_what_does_not_concern_the_carrier_does_nothing(name):
    scene = Scene()
    getattr(scene.socket, name)()
    assert scene.story == []
