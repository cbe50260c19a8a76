"""The engine of a load test, on socket pairs: what goes out, what is told, and what becomes of audio."""

import base64
import contextlib
import select
import socket
import struct
import threading

import numpy as np
import pytest
import soxr

from fastagent._native import g711
from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.load import (
    AT_AUDIO,
    AT_CHUNK,
    AT_SEQUENCE,
    CLASS_EDGES_NS,
    CLOSED,
    MESSAGE,
    ONSET,
    QUIET,
    SAID,
    SIGN,
    TEMPLATE_BYTES_MAX,
    LoadEngine,
)
from fastagent.audio.formats import MULAW_8K, PCM16_24K
from fastagent.load.speech import babble, sign_clip, silence_clip, speech_clip

TIMEOUT_S = 10.0
SPEECH = babble(300, 3)
MEDIA = b'{"t":"m","n":' + AT_SEQUENCE + b',"c":' + AT_CHUNK + b',"a":"' + AT_AUDIO + b'"}'

MEDIA_AT = b'{"t":"m","a":"%s"}'


class Peer:
    """The far end of a socket of the engine: reads and writes whole frames."""

    def __init__(self, raw):
        self.raw = raw
        raw.settimeout(TIMEOUT_S)
        self.data = b""

    def _take(self, size):
        while len(self.data) < size:
            more = self.raw.recv(65536)
            if not more:
                raise EOFError
            self.data += more
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def read(self):
        first, second = self._take(2)
        size = second & 127
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        mask = self._take(4) if second & 128 else bytes(4)
        body = self._take(size)
        return first, bytes(byte ^ mask[i & 3] for i, byte in enumerate(body))

    def write(self, body, first=0x81):
        head = (
            bytes([first, len(body)])
            if len(body) < 126
            else bytes([first, 126]) + struct.pack(">H", len(body))
        )
        self.raw.sendall(head + body)


class Bench:
    def __init__(self):
        self.engine = LoadEngine()
        self.spec = self.engine.add_spec(EnvelopeSpec(("t",), ("m",), ("a",)))
        self.told = []
        self.sockets = []
        self.thread = threading.Thread(target=self.engine.run)
        self.thread.start()

    def add(self, **options):
        ours, theirs = socket.socketpair()
        self.sockets.append(theirs)
        given = {"is_client": True, "is_up": True, "end_quiet_ms": 0, "media": MEDIA} | options
        connection = self.engine.add(ours.detach(), spec=self.spec, **given)
        self.engine.set_format(connection, "mulaw", 8000)
        return connection, Peer(theirs)

    def clip(self, clip):
        return self.engine.add_clip(clip.text, clip.frames, clip.frame_ms, clip.flags, clip.mark_us)

    def wait(self, connection, kind):
        """The next event of a kind; others before it are dropped."""
        while True:
            while self.told:
                event = self.told.pop(0)
                if event[:2] == (connection, kind):
                    return event
            assert select.select([self.engine.fileno()], [], [], TIMEOUT_S)[0]
            self.told += self.engine.events()

    def close(self):
        self.engine.stop()
        self.thread.join(TIMEOUT_S)
        for one in self.sockets:
            one.close()


@pytest.fixture
def bench():
    with contextlib.closing(Bench()) as bench:
        yield bench


def test_messages_go_both_ways_and_pings_are_answered(bench):
    connection, peer = bench.add()
    assert bench.engine.send(connection, b'{"hello":' + AT_SEQUENCE + b"}")
    assert peer.read() == (0x81, b'{"hello":1}')
    peer.write(b"are you there", 0x89)
    assert peer.read() == (0x8A, b"are you there")
    peer.write(b'{"t":"o', 0x01)
    peer.write(b'ther"}', 0x80)
    assert bench.wait(connection, MESSAGE)[4] == b'{"t":"other"}'
    peer.write(struct.pack(">H", 1001), 0x88)
    assert bench.wait(connection, CLOSED)[3] == 1001
    assert peer.read() == (0x88, struct.pack(">H", 1001))
    assert not bench.engine.send(connection, b"{}")


def test_a_clip_is_said_between_the_silence_in_order(bench):
    connection, peer = bench.add()
    clip = speech_clip(SPEECH, MULAW_8K, 20)
    said, silence = bench.clip(clip), bench.clip(silence_clip(MULAW_8K, 20))
    bench.engine.idle(connection, silence)
    assert b'"n":1,"c":1,' in peer.read()[1]
    bench.engine.say(connection, said)
    texts = []
    while len(texts) < clip.frames + 5:
        texts.append(peer.read()[1].partition(b'"a":"')[2][:-2])
    size = len(clip.text) // clip.frames
    whole = [clip.text[i * size : (i + 1) * size] for i in range(clip.frames)]
    begun = texts.index(whole[0])
    assert texts[begun : begun + clip.frames] == whole[: len(texts) - begun]
    assert bench.wait(connection, SAID)[3] > 0
    bench.engine.close(connection, is_abrupt=True)


def test_what_one_says_the_other_hears_verbatim_and_by_its_marks(bench):
    caller, from_caller = bench.add()
    model, to_model = bench.add(is_client=False, is_up=False, end_quiet_ms=200)
    assert bench.engine.pair(caller, model)
    assert not bench.engine.pair(caller, model)
    clip = speech_clip(SPEECH, MULAW_8K, 20)
    bench.engine.say(caller, bench.clip(clip))
    for number in range(clip.frames):
        body = from_caller.read()[1]
        if number != 3:  # one frame is lost on its way
            to_model.write(body)
    to_model.write(MEDIA.replace(AT_SEQUENCE, b"0").replace(AT_CHUNK, b"0").replace(AT_AUDIO, b"/////"[:4]))
    bench.wait(model, ONSET)
    bench.wait(model, QUIET)
    to_model.write(b'{"t":"end"}')  # whatever is counted was counted before this
    bench.wait(model, MESSAGE)
    counters = bench.engine.counters()
    assert counters["verbatim"] == clip.frames - 1
    assert counters["frames_lost"] == 1
    assert counters["marks_sent"] == len(SPEECH.marks_ms)
    assert counters["marks_heard"] >= 1
    counts, largest_ns = bench.engine.take_histogram("up_mark")
    assert sum(struct.unpack(f"{len(CLASS_EDGES_NS)}I", counts)) == counters["marks_heard"]
    assert 0 < largest_ns < TIMEOUT_S * 1e9
    assert bench.engine.take_histogram("up_mark")[1] == 0


def test_a_peer_that_does_not_read_is_left(bench):
    connection, _ = bench.add()
    while bench.engine.send(connection, b"x" * 30_000):
        pass
    assert bench.wait(connection, CLOSED)[3] == 1006
    assert bench.engine.counters()["blocked"] >= 1


def test_audio_that_is_none_is_counted_and_too_much_is_refused(bench):
    connection, peer = bench.add()
    peer.write(b'{"t":"m","a":"no base64"}')
    peer.write(b'{"t":"m","a":""}')
    assert bench.wait(connection, MESSAGE)[4] == b'{"t":"m","a":""}'
    assert bench.engine.counters()["audio_unreadable"] == 1
    peer.raw.sendall(bytes([0x81, 127]) + struct.pack(">Q", 1 << 40))
    assert bench.wait(connection, CLOSED)[3] == 1009


def test_wrong_arguments_are_refused(bench):
    engine = bench.engine
    with pytest.raises(ValueError, match="equal frames"):
        engine.add_clip(base64.b64encode(b"abcd"), 3, 20, b"\0" * 3, bytes(12))
    with pytest.raises(ValueError, match="Hz"):
        engine.set_format(0, "opus", 48_000)
    with pytest.raises(ValueError, match="not in"):
        engine.take_histogram("nothing")
    with pytest.raises(ValueError, match="too long"):
        bench.add(media=b"x" * (TEMPLATE_BYTES_MAX + 1))
    with pytest.raises(RuntimeError):
        engine.run()
    for work in (engine.hush, engine.mute, engine.expect, engine.cut, engine.close):
        assert not work(99)
    assert not engine.send(99, b"")


@pytest.mark.parametrize("audio_format", [MULAW_8K, PCM16_24K])
def test_a_session_is_told_whose_audio_it_has_until_it_is_paired(bench, audio_format):
    caller, _ = bench.add()
    model, to_model = bench.add(is_client=False, is_up=False)
    bench.engine.set_format(model, audio_format.encoding.value, audio_format.sample_rate)

    def send(number, sent_format, frames):
        clip = sign_clip(number, sent_format, 20)
        data = b"".join(base64.b64decode(one) for one in frames_of(clip)[frames])
        if sent_format != audio_format:  # a server resampled it on the way
            given = np.frombuffer(g711.ulaw_decode(data), dtype="<i2").astype(np.float32)
            data = soxr.resample(given, 8000, 24_000, quality="HQ").astype("<i2").tobytes()
        for at in range(0, len(data), 4800):
            to_model.write(MEDIA_AT % base64.b64encode(data[at : at + 4800]))

    def heard():
        return bench.wait(model, SIGN)[3]

    send(0, MULAW_8K, slice(None))
    assert heard() == 0
    send(1023, MULAW_8K, slice(7, None))  # the beginning was lost, so the next one tells
    send(1023, MULAW_8K, slice(None))
    assert heard() == 1023
    assert bench.engine.pair(caller, model)
    send(5, MULAW_8K, slice(None))
    to_model.write(b'{"t":"end"}')
    told = []
    while not told or told[-1][1] != MESSAGE:
        assert select.select([bench.engine.fileno()], [], [], TIMEOUT_S)[0]
        told += bench.engine.events()
    assert SIGN not in {event[1] for event in told}


def frames_of(clip):
    size = len(clip.text) // clip.frames
    return [clip.text[i * size : (i + 1) * size] for i in range(clip.frames)]
