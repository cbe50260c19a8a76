"""``/sessions/{id}/playback``: what reaches the call, and what is answered when nothing may."""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette

from fastagent._native import g711
from fastagent.audio import wav
from fastagent.audio.clip_files import ClipLimits
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_24K, AudioFormat
from fastagent.errors import PlaybackRefusedError
from fastagent.server.clips.library import ClipLibrary
from fastagent.server.clips.playback import REQUEST_BYTES_MAX, UPLOADS_AT_ONCE_MAX, playback_routes
from fastagent.server.doors.auth import Doorkeeper
from fastagent.settings import Settings
from fastagent.stats import Counters

TOKEN = "correct-token-0123"
PCM = (np.arange(800) * 20).astype("<i2").tobytes()
WAV = wav.header(PCM16_8K, 1, len(PCM)) + PCM
UPLOAD = {"content-type": "audio/wav"}
JSON = {"content-type": "application/json"}


@dataclass
class FakeCall:
    """A call that writes down what it is asked to play."""

    carrier_format: AudioFormat = PCM16_8K
    refusal: str = ""
    played: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    stops: int = 0

    def play(self, clip_bytes: bytes, **options: Any) -> str:
        if self.refusal:
            raise PlaybackRefusedError(self.refusal)
        self.played.append((clip_bytes, options))
        return f"clip-{len(self.played)}"

    def stop_playback(self) -> None:
        self.stops += 1


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_problem(self, status: int, kind: str) -> bool:
        """It is this problem, in the form of RFC 9457."""
        assert self.headers["content-type"] == "application/problem+json"
        assert set(self.json) == {"type", "title", "status", "detail"}
        assert self.json["status"] == self.status
        assert self.json["title"]
        assert self.json["detail"]
        return (self.status, self.json["type"]) == (status, f"urn:fastagent:problem:{kind}")


class House:
    """The routes over some calls, asked without a socket."""

    def __init__(self, calls: dict[str, FakeCall], *, tokens: Iterable[str] = (), **options: Any) -> None:
        self.calls = calls
        self.counters = Counters()
        self.clips = options.pop("clips", None) or ClipLibrary()
        doors = Doorkeeper(Settings(audiocodes_tokens=tuple(tokens)), self.counters)
        routes = playback_routes(self.calls.get, self.clips, doors, self.counters, **options)
        self.app = Starlette(routes=routes)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: dict[str, str] | None = None,
        gate: asyncio.Event | None = None,
    ) -> Answer:
        """One request; ``body`` may come in parts, ``gate`` holds back the last one."""
        parts = [body] if isinstance(body, bytes) else list(body)
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            if len(parts) == 1 and gate is not None:
                await gate.wait()
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        heads = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], heads, b"".join(part.get("body", b"") for part in sent[1:]))

    def post(self, path: str, body: bytes | Sequence[bytes], headers: dict[str, str]) -> Answer:
        return asyncio.run(self.ask("POST", path, body, headers))

    def delete(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return asyncio.run(self.ask("DELETE", path, b"", headers))


@pytest.fixture
def call():
    return FakeCall()


@pytest.fixture
def house(call):
    return House({"conversation-1": call})


PATH = "/sessions/conversation-1/playback"


# Playing


def test_upload_is_played_with_the_options_of_its_query(house, call):
    query = "loop=true&when=when_quiet&interruptible=false"
    answer = house.post(f"{PATH}?{query}", [WAV[:50], WAV[50:]], UPLOAD)
    [(data, options)] = call.played
    assert data == PCM
    clip_id = options.pop("clip_id")
    assert options == {"loop": True, "when": "when_quiet", "interruptible": False}
    assert answer.status == 202
    assert answer.json == {
        "playback_id": "clip-1",
        "clip": clip_id,
        "duration_ms": 100,
        "loop": True,
        "when": "when_quiet",
        "interruptible": False,
    }
    assert house.counters == {"playbacks": 1}


@pytest.mark.parametrize("media_type", ["audio/wav", "audio/x-wav", "Audio/WAV; rate=8000", "audio/mpeg"])
def test_upload_is_known_by_its_content_whatever_audio_it_claims_to_be(house, call, media_type):
    assert house.post(PATH, WAV, {"content-type": media_type}).status == 202
    [(data, options)] = call.played
    assert data == PCM
    assert options["clip_id"].startswith("upload-")
    assert {**options, "clip_id": ""} == {"clip_id": "", "loop": False, "when": "now", "interruptible": True}


def test_clip_is_converted_to_what_the_carrier_plays():
    for format in (MULAW_8K, PCM16_24K):
        call = FakeCall(format)
        assert House({"a": call}).post("/sessions/a/playback", WAV, UPLOAD).json["duration_ms"] == 100
        [(data, _)] = call.played
        assert data == g711.ulaw_encode(PCM) if format == MULAW_8K else len(data) == 4_800


def test_clip_is_played_by_its_name(house, call):
    asked = {"clip": "hold-music", "loop": True, "when": "when_quiet", "interruptible": False}
    answer = house.post(PATH, json.dumps(asked).encode(), JSON)
    [(data, options)] = call.played
    assert options == {"clip_id": "hold-music", "loop": True, "when": "when_quiet", "interruptible": False}
    assert data == house.clips.named("hold-music", PCM16_8K).data
    assert answer.json["clip"] == "hold-music"
    assert answer.json["duration_ms"] == 20_000


def test_options_of_a_name_have_the_same_defaults(house, call):
    assert (
        house.post(PATH, b'{"clip": "beep"}', {"content-type": "application/json; charset=utf-8"}).status
        == 202
    )
    assert call.played[0][1] == {"clip_id": "beep", "loop": False, "when": "now", "interruptible": True}


@pytest.mark.parametrize("level", ["-30", "-30.0"])
def test_clip_is_brought_to_a_level(house, call, level):
    house.post(f"{PATH}?level_dbfs={level}", WAV, UPLOAD)
    house.post(PATH, f'{{"clip": "beep", "level_dbfs": {level}}}'.encode(), JSON)
    for data, _ in call.played:
        samples = np.frombuffer(data, "<i2") / 2**15
        sounding = samples[np.abs(samples) > 0.001]
        assert 20 * np.log10(np.std(sounding) + abs(np.mean(sounding))) == pytest.approx(-30, abs=3)


def test_session_id_may_hold_whatever_a_carrier_puts_there():
    for session_id in ("a/b", "a b", "ü", "a/playback", "sessions/x", "."):
        call = FakeCall()
        assert House({session_id: call}).delete(f"/sessions/{session_id}/playback").status == 204
        assert call.stops == 1


def test_playing_is_stopped(house, call):
    for stops in (1, 2):
        answer = house.delete(PATH)
        assert (answer.status, answer.body) == (204, b"")
        assert call.stops == stops


# Refusals


def test_unknown_session_is_not_found(house):
    for path in ("/sessions/another/playback", "/sessions//playback", "/sessions/CONVERSATION-1/playback"):
        assert house.post(path, WAV, UPLOAD).is_problem(404, "unknown-session")
        assert house.delete(path).is_problem(404, "unknown-session")


def test_call_that_cannot_play_now_is_a_conflict(house, call):
    call.refusal = "the call is being transferred"
    answer = house.post(PATH, WAV, UPLOAD)
    assert answer.is_problem(409, "cannot-play")
    assert answer.json["detail"] == "the call is being transferred"
    assert house.counters == {"playbacks_refused": 1}


def test_call_that_ends_while_its_clip_is_prepared_is_not_played_to(house, call, monkeypatch):
    uploaded = house.clips.uploaded

    def end_meanwhile(*arguments: Any, **options: Any) -> Any:
        house.calls.clear()
        return uploaded(*arguments, **options)

    monkeypatch.setattr(house.clips, "uploaded", end_meanwhile)
    assert house.post(PATH, WAV, UPLOAD).is_problem(404, "unknown-session")
    assert call.played == []


@pytest.mark.parametrize("header", [None, "", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN])
def test_without_a_token_nothing_is_said_about_sessions(call, header):
    house = House({"conversation-1": call}, tokens=[TOKEN])
    headers = {} if header is None else {"authorization": header}
    for path in (PATH, "/sessions/another/playback"):
        for answer in (house.post(path, WAV, {**UPLOAD, **headers}), house.delete(path, headers)):
            assert answer.is_problem(401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (call.played, call.stops) == ([], 0)
    assert sum(n for name, n in house.counters.items() if name.startswith("auth_refused_")) == 4


def test_with_a_token_all_is_open(call):
    house = House({"conversation-1": call}, tokens=["another-token-0123", TOKEN])
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert house.post(PATH, WAV, {**UPLOAD, **headers}).status == 202
    assert house.delete(PATH, headers).status == 204


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
def test_other_methods_are_named_as_not_allowed(house, method):
    answer = asyncio.run(house.ask(method, PATH))
    assert answer.status == 405
    assert {"POST", "DELETE"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "audio"},
        {"content-type": "text/plain"},
        {"content-type": "application/octet-stream"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "video/mp4"},
    ],
)
def test_other_media_types_are_refused(house, call, headers):
    # Also what keeps web pages out: none of these a browser sends to another origin without asking first.
    assert house.post(PATH, WAV, headers).is_problem(415, "unsupported-media-type")
    assert call.played == []


@pytest.mark.parametrize("body", [b"", b"hello", WAV[:43], WAV[:-1], b"OggS" + bytes(90)])
def test_upload_that_is_no_audio_file_is_refused(house, call, body):
    assert house.post(PATH, body, UPLOAD).is_problem(415, "unsupported-audio")
    assert call.played == []


def test_missing_decoder_is_said(house, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    answer = house.post(PATH, b"fLaC" + bytes(100), UPLOAD)
    assert answer.is_problem(415, "unsupported-container")
    assert "fastagent[export]" in answer.json["detail"]


@pytest.mark.parametrize("is_declared", [True, False])
def test_upload_beyond_its_limit_is_refused_and_not_kept(call, is_declared):
    house = House({"conversation-1": call}, upload_bytes_max=len(WAV) - 1)
    headers = {**UPLOAD, "content-length": str(len(WAV))} if is_declared else UPLOAD
    assert house.post(PATH, [WAV[:100], WAV[100:], b"never read"], headers).is_problem(413, "body-too-large")
    house = House({"conversation-1": call}, upload_bytes_max=len(WAV))
    assert house.post(PATH, WAV, headers).status == 202


def test_declared_size_is_enough_to_refuse(call):
    house = House({"conversation-1": call})
    answer = house.post(PATH, b"", {**UPLOAD, "content-length": "99999999999999999999"})
    assert answer.is_problem(413, "body-too-large")


def test_audio_beyond_its_limit_is_refused(call):
    house = House({"conversation-1": call}, clips=ClipLibrary(limits=ClipLimits(duration_s=0.05)))
    assert house.post(PATH, WAV, UPLOAD).is_problem(413, "clip-too-large")


def test_json_beyond_its_limit_is_refused(house):
    body = b'{"clip": "' + b"x" * REQUEST_BYTES_MAX + b'"}'
    assert house.post(PATH, body, JSON).is_problem(413, "body-too-large")


@pytest.mark.parametrize("name", ["nobody", "", "../clips", "/etc/passwd", "hold-music.wav"])
def test_unknown_clip_is_not_found(house, name):
    body = json.dumps({"clip": name}).encode()
    assert house.post(PATH, body, JSON).is_problem(404, "unknown-clip")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"hold-music"',
        b"{}",
        b'{"clip": 1}',
        b'{"clip": null}',
        b'{"clip": "\\ud800"}',
        b'{"clip": "beep", "loop": 1}',
        b'{"clip": "beep", "loop": "yes"}',
        b'{"clip": "beep", "loop": []}',
        b'{"clip": "beep", "when": "later"}',
        b'{"clip": "beep", "when": "when-quiet"}',
        b'{"clip": "beep", "when": {}}',
        b'{"clip": "beep", "interruptible": null}',
        b'{"clip": "beep", "level_dbfs": 1}',
        b'{"clip": "beep", "level_dbfs": true}',
        b'{"clip": "beep", "level_dbfs": -61}',
        b'{"clip": "beep", "level_dbfs": NaN}',
        b'{"clip": "beep", "level_dbfs": "loud"}',
        b'{"clip": "beep", "volume": 3}',
        b"\xff\xfe",
    ],
)
def test_malformed_json_is_a_bad_request(house, call, body):
    assert house.post(PATH, body, JSON).is_problem(400, "bad-request")
    assert call.played == []


@pytest.mark.parametrize(
    "query",
    ["loop=1", "loop=", "loop=True", "when=soon", "clip=beep", "x=y", "level_dbfs=nan", "level_dbfs=x"],
)
def test_wrong_query_is_a_bad_request(house, call, query):
    assert house.post(f"{PATH}?{query}", WAV, UPLOAD).is_problem(400, "bad-request")
    assert call.played == []


def test_options_of_a_name_do_not_stand_in_the_query(house):
    assert house.post(f"{PATH}?loop=true", b'{"clip": "beep"}', JSON).is_problem(400, "bad-request")


def test_few_uploads_are_held_at_a_time_and_each_frees_its_place(house, call):
    async def scenario() -> None:
        gate = asyncio.Event()
        uploads = [
            asyncio.create_task(house.ask("POST", PATH, [WAV[:100], WAV[100:]], UPLOAD, gate))
            for _ in range(UPLOADS_AT_ONCE_MAX)
        ]
        await asyncio.sleep(0)
        one_more = await house.ask("POST", PATH, WAV, UPLOAD)
        assert one_more.is_problem(503, "too-many-uploads")
        assert one_more.headers["retry-after"] == "1"
        assert (await house.ask("POST", PATH, b'{"clip": "beep"}', JSON)).status == 202
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*uploads)] == [202] * UPLOADS_AT_ONCE_MAX
        assert (await house.ask("POST", PATH, WAV, UPLOAD)).status == 202
        # A client that goes away, and one whose file is refused, free theirs too.
        for _ in range(UPLOADS_AT_ONCE_MAX + 1):
            assert (await house.ask("POST", PATH, (), UPLOAD)).status == 400
            assert (await house.ask("POST", PATH, b"no audio", UPLOAD)).status == 415

    asyncio.run(scenario())
