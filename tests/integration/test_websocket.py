"""RFC 6455 over real sockets, frame by frame, in the order of the Autobahn cases (sections 1 to 7).

Both kinds of route are held to it: one that an ASGI application serves and one whose leg is a carrier's. The
suite's own cases, for server and client, are the table of `test_websocket_cases.py`; here is what it leaves
out: ASGI, calls, and the edges of our limits.

Where we deviate, each with a test of its own:

- a whole message that comes in one read with a frame of a kind nobody may send is not delivered (4.1.2 …);
- of two close frames in one read the first is answered with 1002, not with its own code (7.1.2);
- bad UTF-8 is noticed frame by frame, not byte by byte, so a long frame is read to its end first (6.4.3 …).
"""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastagent._native import stages
from tests.integration.raw_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    TIMEOUT_S,
    Peer,
    ServerThread,
    close_payload,
    frame,
    server_thread,
)

MEDIA = "/audiocodes/webhook"
ECHO = "/echo"
MESSAGE_LIMIT_BYTES = 65_536

codes: list[int] = []
"""What the application heard of each end."""
texts: list[str] = []
"""What it heard before."""


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            websocket._raise_on_disconnect(message)
            if message.get("text") is not None:
                texts.append(message["text"])
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect as end:
        codes.append(end.code)


def until_told(before: int) -> None:
    deadline = time.monotonic() + 10
    while len(codes) == before:
        assert time.monotonic() < deadline, "the application was never told"
        time.sleep(0.002)


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerThread]:
    with server_thread(routes=[WebSocketRoute(ECHO, echo)], loop=request.param) as running:
        yield running


@pytest.fixture
def peer(server: ServerThread) -> Iterator[Peer]:
    with Peer.connect(server.port) as connected:
        assert connected.upgrade(ECHO).status == 101
        yield connected
    server.until_idle()


@pytest.fixture
def media_peer(server: ServerThread) -> Iterator[Peer]:
    with Peer.connect(server.port) as connected:
        assert connected.upgrade(MEDIA).status == 101
        yield connected
    server.until_idle()


def expect(peer: Peer, opcode: int, payload: bytes) -> None:
    got = peer.receive()
    assert (got.opcode, got.payload, got.is_final) == (opcode, payload, True)


def expect_refusal(peer: Peer, code: int, *, is_call: bool = False) -> None:
    """A close frame with this code; the connection ends once it is answered, or at once."""
    got = peer.receive()
    while is_call and got.opcode == TEXT:  # what the call had to say before
        got = peer.receive()
    assert got.opcode == CLOSE
    assert got.close_code == code
    assert got.payload[2:].decode().isprintable()
    try:
        peer.send(CLOSE, close_payload(code))
    except OSError:
        pass  # closed already
    peer.until_end()


def split(payload: bytes, *cuts: int, opcode: int = TEXT) -> list[bytes]:
    """A message as fragments."""
    edges = [0, *cuts, len(payload)]
    parts = [payload[a:b] for a, b in pairwise(edges)]
    return [
        frame(opcode if i == 0 else CONTINUATION, part, first_bits=FIN if i == len(parts) - 1 else 0)
        for i, part in enumerate(parts)
    ]


# 1: sizes


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65_535, MESSAGE_LIMIT_BYTES])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_message_of_any_size_up_to_the_limit_comes_back(peer, opcode, size):
    payload = b"*" * size if opcode == TEXT else bytes(range(256)) * (size // 256 + 1)
    peer.send(opcode, payload[:size])
    expect(peer, opcode, payload[:size])
    assert peer.leave() == 1000


@pytest.mark.parametrize("step", [1, 2, 7, 997])
def test_frame_in_pieces_is_put_together(peer, step):
    data = frame(TEXT, b"piece by piece " * 20)
    for at in range(0, len(data), step):
        peer.write(data[at : at + step])
    expect(peer, TEXT, b"piece by piece " * 20)
    assert peer.leave() == 1000


def test_frames_in_one_write_come_back_in_order(peer):
    peer.write(b"".join(frame(TEXT, str(i).encode()) for i in range(200)))
    for i in range(200):
        expect(peer, TEXT, str(i).encode())
    assert peer.leave() == 1000


@pytest.mark.parametrize(
    ("size", "form"),
    [(5, 16), (125, 16), (5, 64), (126, 64), (65_535, 64)],
)
def test_length_in_a_form_longer_than_needed_is_refused(peer, size, form):
    peer.send(TEXT, b"x" * size, length_form=form)
    expect_refusal(peer, 1002)


# 2: pings and pongs


@pytest.mark.parametrize(
    "payload",
    [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125],
    ids=["empty", "text", "binary", "longest"],
)
def test_ping_is_answered_with_its_payload(peer, payload):
    peer.send(PING, payload)
    expect(peer, PONG, payload)
    assert peer.leave() == 1000


def test_ping_longer_than_125_bytes_is_refused(peer):
    peer.send(PING, b"\xfe" * 126)
    expect_refusal(peer, 1002)


def test_ten_pings_are_answered_in_order(peer):
    peer.write(b"".join(frame(PING, b"payload-%d" % i) for i in range(10)))
    for i in range(10):
        expect(peer, PONG, b"payload-%d" % i)
    assert peer.leave() == 1000


def test_time_of_a_control_frame_is_counted(peer):
    before = stages.read()["other"]
    stages.set_every(1)
    try:
        for payload in (b"one", b"two"):
            peer.send(PING, payload)
            expect(peer, PONG, payload)
    finally:
        stages.set_every(0)
    after = stages.read()["other"]
    # The last one may still be at its end.
    assert after.timed > before.timed
    assert after.stages["guard"].frames - before.stages["guard"].frames == after.timed - before.timed
    assert after.whole.ns > before.whole.ns
    assert peer.leave() == 1000


@pytest.mark.parametrize("payload", [b"", b"unsolicited"])
def test_unsolicited_pong_is_ignored(peer, payload):
    peer.send(PONG, payload)
    peer.send(PING, b"after")
    expect(peer, PONG, b"after")
    assert peer.leave() == 1000


# 3: reserved bits


@pytest.mark.parametrize("bits", [RSV1, RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV2 | RSV3], ids=hex)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG], ids=["text", "binary", "ping", "pong"])
def test_reserved_bits_are_refused(peer, opcode, bits):
    peer.send(opcode, b"Hello", first_bits=FIN | bits)
    expect_refusal(peer, 1002)


@pytest.mark.parametrize("bits", [RSV1, RSV2, RSV3], ids=hex)
def test_message_before_a_frame_with_reserved_bits_is_delivered(peer, bits):
    # The application answers later than the guard refuses, so it is asked what it heard.
    texts.clear()
    peer.write(frame(TEXT, b"before") + frame(TEXT, b"Hello", first_bits=FIN | bits) + frame(PING))
    expect_refusal(peer, 1002)
    assert texts == ["before"]


def test_reserved_bits_of_a_continuation_are_refused(peer):
    peer.send(TEXT, b"begin", first_bits=0)
    peer.send(CONTINUATION, b"end", first_bits=FIN | RSV1)
    expect_refusal(peer, 1002)


# 4: reserved opcodes


@pytest.mark.parametrize("payload", [b"", b"reserved opcode payload"], ids=["empty", "full"])
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcode_is_refused(peer, opcode, payload):
    peer.send(TEXT, b"before")
    expect(peer, TEXT, b"before")
    peer.send(opcode, payload)
    expect_refusal(peer, 1002)


def test_deviation_message_in_one_read_with_a_reserved_opcode_may_be_lost(peer):
    peer.write(frame(TEXT, b"before") + frame(3))
    got = peer.receive()
    if got.opcode == TEXT:  # the two came in separate reads
        got = peer.receive()
    assert got.close_code == 1002
    peer.until_end()


# 5: fragmentation


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("cuts", [(3,), (0,), (6,), (0, 0, 6), (1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("is_one_write", [True, False], ids=["one-write", "frames"])
def test_fragments_make_one_message(peer, opcode, cuts, is_one_write):
    frames = split(b"abcdef", *cuts, opcode=opcode)
    for data in [b"".join(frames)] if is_one_write else frames:
        peer.write(data)
    expect(peer, opcode, b"abcdef")
    assert peer.leave() == 1000


def test_empty_fragments_make_an_empty_message(peer):
    for data in split(b"", 0, 0):
        peer.write(data)
    expect(peer, TEXT, b"")
    assert peer.leave() == 1000


def test_control_frames_between_fragments_are_answered_at_once(peer):
    first, second, third = split(b"abcdef", 2, 4)
    peer.write(first)
    peer.send(PING, b"one")
    expect(peer, PONG, b"one")
    peer.write(second)
    peer.send(PONG, b"ignored")
    peer.send(PING, b"two")
    expect(peer, PONG, b"two")
    peer.write(third)
    expect(peer, TEXT, b"abcdef")
    assert peer.leave() == 1000


def test_close_between_fragments_is_answered(peer):
    peer.send(TEXT, b"never finished", first_bits=0)
    assert peer.leave(1001) == 1001


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE], ids=["ping", "pong", "close"])
def test_fragmented_control_frame_is_refused(peer, opcode):
    peer.send(opcode, b"", first_bits=0)
    expect_refusal(peer, 1002)


@pytest.mark.parametrize("first_bits", [FIN, 0], ids=["final", "more"])
def test_continuation_of_nothing_is_refused(peer, first_bits):
    peer.send(CONTINUATION, b"of nothing", first_bits=first_bits)
    expect_refusal(peer, 1002)


def test_continuation_after_a_finished_message_is_refused(peer):
    for data in split(b"abcdef", 3):
        peer.write(data)
    expect(peer, TEXT, b"abcdef")
    peer.send(CONTINUATION, b"more")
    expect_refusal(peer, 1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("first_bits", [FIN, 0], ids=["whole", "fragment"])
def test_new_message_inside_a_fragmented_one_is_refused(peer, opcode, first_bits):
    peer.send(TEXT, b"begin", first_bits=0)
    peer.send(opcode, b"another", first_bits=first_bits)
    expect_refusal(peer, 1002)


def test_fragments_are_counted_together_against_the_limit(peer):
    whole = b"x" * MESSAGE_LIMIT_BYTES
    for data in split(whole, 60_000, opcode=BINARY):
        peer.write(data)
    expect(peer, BINARY, whole)
    for data in split(whole + b"x", 60_000, opcode=BINARY):
        peer.write(data)
    expect_refusal(peer, 1009)


def test_unmasked_frame_is_refused(peer):
    peer.send(TEXT, b"Hello", is_masked=False)
    expect_refusal(peer, 1002)


# 5b: messages over the limit


@pytest.mark.parametrize("declared", [MESSAGE_LIMIT_BYTES + 1, 1 << 20, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_message_over_the_limit_is_refused_by_its_declared_length(peer, opcode, declared):
    # Not a byte of the payload is sent: the length alone must do.
    peer.send(opcode, b"", declared=declared, length_form=64)
    expect_refusal(peer, 1009)


def test_length_with_the_top_bit_is_refused(peer):
    peer.send(BINARY, b"", declared=1 << 63, length_form=64)
    expect_refusal(peer, 1002)


# 6: UTF-8

GREEK = "Hello-µ@ßöäüàá-UTF-8!! κόσμε \U0001f600".encode()
BAD_UTF8 = {
    "surrogate": b"\xce\xba\xed\xa0\x80edited",
    "beyond-unicode": b"\xf4\x90\x80\x80",
    "overlong-slash": b"\xc0\xaf",
    "overlong-nul": b"\xe0\x80\x80",
    "lone-continuation": b"a\x80b",
    "lone-lead": b"a\xc3",
    "cut-short": GREEK[:-1],
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
}


def test_text_beyond_ascii_comes_back(peer):
    peer.send(TEXT, GREEK)
    expect(peer, TEXT, GREEK)
    assert peer.leave() == 1000


@pytest.mark.parametrize(
    "payload", [b"\xf4\x8f\xbf\xbf", b"\xef\xbf\xbf", b"\x00", b"\xed\x9f\xbf"], ids=repr
)
def test_outermost_characters_are_valid(peer, payload):
    peer.send(TEXT, payload)
    expect(peer, TEXT, payload)
    assert peer.leave() == 1000


def test_characters_may_be_split_between_fragments(peer):
    for data in split(GREEK, *range(1, len(GREEK))):
        peer.write(data)
    expect(peer, TEXT, GREEK)
    assert peer.leave() == 1000


@pytest.mark.parametrize("payload", BAD_UTF8.values(), ids=BAD_UTF8.keys())
def test_text_that_is_not_utf8_is_refused(peer, payload):
    peer.send(TEXT, payload)
    expect_refusal(peer, 1007)


@pytest.mark.parametrize("payload", BAD_UTF8.values(), ids=BAD_UTF8.keys())
def test_text_that_is_not_utf8_is_refused_in_fragments_of_one_byte(peer, payload):
    for data in split(payload, *range(1, len(payload))):
        try:
            peer.write(data)
        except OSError:
            break  # refused before the end
    expect_refusal(peer, 1007)


def test_bad_text_is_refused_before_the_last_fragment(peer):
    peer.send(TEXT, b"\xce\xba\xe1\xbd\xb9", first_bits=0)
    peer.send(CONTINUATION, b"\xf4\x90\x80\x80", first_bits=0)
    expect_refusal(peer, 1007)


def test_bytes_of_a_binary_message_are_free(peer):
    for payload in BAD_UTF8.values():
        peer.send(BINARY, payload)
        expect(peer, BINARY, payload)
    assert peer.leave() == 1000


def test_deviation_bad_text_in_one_frame_is_noticed_at_its_end(peer):
    data = frame(TEXT, b"\xf4\x90\x80\x80" + b"x" * 20)
    peer.write(data[:-1])
    peer.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        peer.receive()
    peer.socket.settimeout(TIMEOUT_S)
    peer.write(data[-1:])
    expect_refusal(peer, 1007)


# 7: closing


@pytest.mark.parametrize(
    "code",
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999],
)
@pytest.mark.parametrize("reason", [b"", b"going home", "gehört".encode(), b"*" * 123], ids=len)
def test_close_is_echoed_and_told(peer, code, reason):
    before = len(codes)
    peer.send(CLOSE, close_payload(code, reason))
    got = peer.receive()
    assert (got.opcode, got.close_code) == (CLOSE, code)
    assert peer.is_at_end()
    until_told(before)
    assert codes[before:] == [code]


def test_close_without_a_code_is_answered_without_one(peer):
    before = len(codes)
    peer.send(CLOSE)
    got = peer.receive()
    assert (got.opcode, got.payload) == (CLOSE, b"")
    assert peer.is_at_end()
    until_told(before)
    assert codes[before:] == [1005]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_close_code_nobody_may_send_is_refused(peer, code):
    peer.send(CLOSE, close_payload(code))
    got = peer.receive()
    assert (got.opcode, got.close_code) == (CLOSE, 1002)
    assert peer.is_at_end()


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (close_payload(1000, b"\xce\xba\xed\xa0\x80"), 1007),
        (close_payload(1000, b"cut \xc3"), 1007),
        (close_payload(1000, b"*" * 124), 1002),
    ],
    ids=["one-byte", "surrogate", "cut", "too-long"],
)
def test_malformed_close_is_refused(peer, payload, code):
    peer.send(CLOSE, payload)
    got = peer.receive()
    assert (got.opcode, got.close_code) == (CLOSE, code)
    peer.until_end()


@pytest.mark.parametrize(
    "late",
    [frame(TEXT, b"late"), frame(PING, b"late"), frame(TEXT, b"late", first_bits=0), frame(TEXT, b"\xff")],
    ids=["text", "ping", "fragment", "bad-text"],
)
def test_frames_behind_a_close_are_ignored(peer, late):
    peer.write(frame(CLOSE, close_payload(1000)) + late)
    got = peer.receive()
    assert (got.opcode, got.close_code) == (CLOSE, 1000)
    peer.until_end()
    assert not peer.received


def test_deviation_second_close_in_one_read_makes_the_answer_1002(peer):
    peer.write(frame(CLOSE, close_payload(1000)) * 2)
    got = peer.receive()
    assert got.opcode == CLOSE
    assert got.close_code in (1000, 1002)  # 1000 when they came in separate reads
    peer.until_end()


def test_lost_connection_is_told_as_1006(peer):
    before = len(codes)
    peer.reset()
    until_told(before)
    assert codes[before:] == [1006]


def test_end_of_stream_without_a_close_is_told_as_1006(peer):
    before = len(codes)
    peer.send(TEXT, b"half a message", first_bits=0)
    peer.socket.shutdown(1)
    peer.until_end()
    until_told(before)
    assert codes[before:] == [1006]


# The same guard on a carrier's leg

REFUSED: dict[str, tuple[bytes, int]] = {
    "reserved-bit": (frame(TEXT, b"{}", first_bits=FIN | RSV1), 1002),
    "reserved-opcode": (frame(3, b"{}"), 1002),
    "reserved-control": (frame(11), 1002),
    "unmasked": (frame(TEXT, b"{}", is_masked=False), 1002),
    "long-ping": (frame(PING, b"x" * 126), 1002),
    "fragmented-ping": (frame(PING, b"x", first_bits=0), 1002),
    "continuation-of-nothing": (frame(CONTINUATION, b"{}"), 1002),
    "message-in-message": (frame(TEXT, b"{", first_bits=0) + frame(TEXT, b"{}"), 1002),
    "bad-text": (frame(TEXT, b'{"type":"\xff"}'), 1007),
    "bad-text-in-fragments": (frame(TEXT, b"\xe1\xbd", first_bits=0) + frame(CONTINUATION, b"{"), 1007),
    "over-the-limit": (frame(TEXT, b"", declared=MESSAGE_LIMIT_BYTES + 1, length_form=64), 1009),
    "fragments-over-the-limit": (b"".join(split(b"x" * (MESSAGE_LIMIT_BYTES + 1), 60_000)), 1009),
    "close-code": (frame(CLOSE, close_payload(1006)), 1002),
    "close-one-byte": (frame(CLOSE, b"x"), 1002),
    "close-reason": (frame(CLOSE, close_payload(1000, b"\xff")), 1007),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_carrier_that_breaks_the_protocol_is_refused(media_peer, data, code):
    media_peer.write(data)
    expect_refusal(media_peer, code)


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_call_whose_carrier_breaks_the_protocol_waits_to_be_resumed(server, media_peer, data, code):
    conversation = begin(media_peer, "broken")
    media_peer.write(data)
    expect_refusal(media_peer, code, is_call=True)
    with Peer.connect(server.port) as again:
        assert again.upgrade(MEDIA).status == 101
        again.send_json({"type": "session.resume", "conversationId": conversation})
        assert received(again)["type"] == "session.accepted"
        end(again)


@pytest.mark.parametrize("code", [1000, 1001, 3000])
def test_carrier_closes_politely(media_peer, code):
    assert media_peer.leave(code) == code


def begin(peer: Peer, conversation: str) -> str:
    """A call that stands; its caller's stream is open."""
    peer.send_json(
        {
            "type": "session.initiate",
            "conversationId": conversation,
            "expectAudioMessages": True,
            "botName": "stub",
            "caller": "anonymous",
            "supportedMediaFormats": ["raw/lpcm16_24"],
        }
    )
    assert received(peer)["type"] == "session.accepted"
    peer.send_json({"type": "userStream.start", "conversationId": conversation})
    while received(peer)["type"] != "userStream.started":
        pass
    return conversation


def end(peer: Peer) -> None:
    peer.send_json({"type": "session.end", "conversationId": "", "reasonCode": "client-disconnected"})
    assert peer.answer_close().close_code == 1000


def received(peer: Peer) -> dict[str, Any]:
    while (got := peer.receive()).opcode != TEXT:
        assert got.opcode != CLOSE, got.payload
    message: dict[str, Any] = json.loads(got.payload)
    return message


@pytest.mark.parametrize("cuts", [(), (1,), (20, 40, 60)], ids=["whole", "two", "four"])
def test_caller_audio_takes_the_native_path_in_any_fragmentation(server, media_peer, cuts):
    conversation = begin(media_peer, "native")
    message = json.dumps(
        {"type": "userStream.chunk", "conversationId": conversation, "audioChunk": "AAAA" * 80}
    )
    for data in split(message.encode(), *cuts):
        media_peer.write(data)
    media_peer.send(PING, b"sync")
    while media_peer.receive().opcode != PONG:
        pass
    (call,) = server.service.switchboard._calls.values()
    uplink = call._media.uplink
    assert (uplink.messages, uplink.samples_in, uplink.backlog_messages) == (1, 120, 1)
    end(media_peer)
