"""``fastagent play``: what is asked of the server, and one clear line for whatever goes wrong."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from fastagent.audio import wav
from fastagent.audio.clip_files import ClipLimits
from fastagent.audio.formats import MULAW_8K
from fastagent.cli import main, play

WAV = wav.header(MULAW_8K, 1, 160) + bytes(160)
PLAYING = {"playback_id": "clip-1", "clip": "upload-0123", "duration_ms": 20}


class Server:
    """Answers every request the same, and writes down what came."""

    def __init__(self, status: int, body: bytes, *, reads_body: bool) -> None:
        self.requests: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                server.requests.append(
                    {
                        "method": self.command,
                        "path": self.path,
                        "headers": {name.lower(): value for name, value in self.headers.items()},
                        "body": self.rfile.read(size) if reads_body else b"",
                    }
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = answer

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def serving(status: int, answer: Any = None, *, reads_body: bool = True) -> Iterator[Server]:
    body = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
    server = Server(status, body, reads_body=reads_body)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("FASTAGENT_TOKEN", raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "greeting.wav"
    path.write_bytes(WAV)
    return str(path)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    out, error = capsys.readouterr()
    assert out == ""
    (line,) = error.splitlines()
    assert line.startswith("fastagent play: ")
    return line.removeprefix("fastagent play: ")


def test_file_is_uploaded_with_its_options(file, capsys):
    with serving(202, PLAYING) as server:
        assert main(["play", file, "--session", "c-1", "--url", server.url]) == 0
        how = ["--loop", "--when", "when-quiet", "--uninterruptible", "--level", "-20.5"]
        assert main(["play", file, "--session", "c-1", "--url", server.url, *how]) == 0
    first, second = server.requests
    assert first["method"] == "POST"
    assert first["body"] == WAV
    assert first["headers"]["content-type"] == "audio/wav"
    assert "authorization" not in first["headers"]
    path, query = urlsplit(first["path"]).path, parse_qs(urlsplit(first["path"]).query)
    assert path == "/sessions/c-1/playback"
    assert query == {"loop": ["false"], "when": ["now"], "interruptible": ["true"]}
    assert parse_qs(urlsplit(second["path"]).query) == {
        "loop": ["true"],
        "when": ["when_quiet"],
        "interruptible": ["false"],
        "level_dbfs": ["-20.5"],
    }
    assert capsys.readouterr().out.splitlines() == [
        "playing upload-0123, 20 ms (playback clip-1)",
        "playing upload-0123, again and again (playback clip-1)",
    ]


@pytest.mark.parametrize(
    ("head", "media_type"),
    [(b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"), (b"ID3\x04", "audio/mpeg"), (WAV[:12], "audio/wav")],
)
def test_media_type_follows_from_the_content(head, media_type, tmp_path):
    (tmp_path / "sound").write_bytes(head + bytes(100))
    with serving(202, PLAYING) as server:
        assert main(["play", str(tmp_path / "sound"), "--session", "c", "--url", server.url]) == 0
    assert server.requests[0]["headers"]["content-type"] == media_type


def test_clip_is_asked_for_by_its_name(capsys):
    with serving(202, {**PLAYING, "clip": "hold-music"}) as server:
        assert main(["play", "--clip", "hold-music", "--loop", "--session", "c", "--url", server.url]) == 0
        assert main(["play", "--clip", "x", "--level", "-30", "--session", "c", "--url", server.url]) == 0
    first, second = server.requests
    assert first["headers"]["content-type"] == "application/json"
    assert json.loads(first["body"]) == {
        "clip": "hold-music",
        "loop": True,
        "when": "now",
        "interruptible": True,
    }
    assert json.loads(second["body"])["level_dbfs"] == -30
    assert capsys.readouterr().out.startswith("playing hold-music, again and again (playback clip-1)\n")


def test_playing_is_stopped(capsys):
    with serving(204) as server:
        assert main(["play", "--stop", "--session", "c", "--url", server.url]) == 0
    assert (server.requests[0]["method"], server.requests[0]["body"]) == ("DELETE", b"")
    assert server.requests[0]["path"] == "/sessions/c/playback"
    assert capsys.readouterr().out == "stopped\n"


@pytest.mark.parametrize("session", ["a/b", "a b?c#d", "ü", "..", "a%2Fb"])
def test_session_id_is_kept_whole_in_the_address(session):
    with serving(204) as server:
        assert main(["play", "--stop", "--session", session, "--url", f"{server.url}/prefix/"]) == 0
    path = server.requests[0]["path"]
    assert path.startswith("/prefix/sessions/")
    assert path.count("/") == 4
    assert unquote(path.split("/")[3]) == session


def test_token_is_an_option_or_a_variable(monkeypatch):
    with serving(204) as server:
        monkeypatch.setenv("FASTAGENT_TOKEN", " from-environment ")
        main(["play", "--stop", "--session", "c", "--url", server.url])
        main(["play", "--stop", "--session", "c", "--url", server.url, "--token", "from-option"])
    presented = [request["headers"]["authorization"] for request in server.requests]
    assert presented == ["Bearer from-environment", "Bearer from-option"]


@pytest.mark.parametrize("arguments", [["--clip", "beep"], ["--stop"], ["--stop", "--session", ""]])
def test_without_a_session_it_is_said_where_to_find_one(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["play", *arguments])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: fastagent play")
    assert 'The server logs it when a call begins ("call ID begins")' in error.replace("\n", " ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.wav", "--clip", "b"],
        ["a.wav", "--stop"],
        ["--clip", "a", "--stop"],
        ["a.wav", "--when", "later"],
        ["a.wav", "--level", "loud"],
    ],
)
def test_wrong_command_line_exits_2(arguments):
    with pytest.raises(SystemExit) as exit:
        main(["play", *arguments, "--session", "c"])
    assert exit.value.code == 2


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (
            404,
            {"type": "x", "detail": "no running call has this session id"},
            "refused with 404: no running call",
        ),
        (409, {"detail": "the call is over"}, "refused with 409: the call is over"),
        (401, {"detail": "a bearer token is needed"}, "wants a bearer token: --token, or FASTAGENT_TOKEN"),
        (401, b"<html>", "wants a bearer token: --token, or FASTAGENT_TOKEN"),
        (404, b"Not Found", "answered 404, but not as a FastAgent server does"),
        (500, b"", "answered 500, but not as"),
        (502, {"detail": 5}, "answered 502, but not as"),
        (200, b"[1]", "answered 200, but not as"),
        (200, b"[" * 30_000, "answered 200, but not as"),
        (302, b"", "answered 302, but not as"),
    ],
)
def test_refusal_is_one_clear_line(status, answer, said, capsys):
    with serving(status, answer) as server:
        assert main(["play", "--clip", "beep", "--session", "c", "--url", server.url]) == 1
    assert said in complaint(capsys)


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError])
def test_server_that_refuses_a_file_without_reading_it_is_heard(error, file, capsys, monkeypatch):
    request = http.client.HTTPConnection.request

    def cut_short(*arguments: Any) -> None:
        request(*arguments)
        raise error

    monkeypatch.setattr(http.client.HTTPConnection, "request", cut_short)
    with serving(413, {"detail": "expected a body of at most 100 bytes"}, reads_body=False) as server:
        assert main(["play", file, "--session", "c", "--url", server.url]) == 1
    assert complaint(capsys) == "refused with 413: expected a body of at most 100 bytes"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000", "--url: expected http://"),
        ("ws://127.0.0.1:8000", "--url: expected http://"),
        ("http://", "--url: expected http://"),
        ("http://h:0", "--url: expected http://"),
        ("http://h:99999", "--url: expected http://"),
        ("http://[::1", "--url: expected http://"),
        ("http://user:secret@127.0.0.1:1", "cannot reach http://127.0.0.1:1: Connection refused"),
        ("https://127.0.0.1:1", "cannot reach https://127.0.0.1:1: Connection refused"),
        ("http://127.0.0.1:1/ü", "cannot reach http://127.0.0.1:1: "),
        ("http://127.0.0.1:1/a b", "cannot reach http://127.0.0.1:1: InvalidURL"),
        (f"http://{'x' * 70}.example", "cannot reach http://xxx"),
    ],
)
def test_address_that_leads_nowhere_is_one_clear_line(url, said, capsys):
    assert main(["play", "--stop", "--session", "c", "--url", url]) == 1
    line = complaint(capsys)
    assert said in line
    assert "secret" not in line


def test_server_that_is_none_is_one_clear_line(capsys):
    for greeting in (b"", b"220 mail.example ESMTP\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer(listener: socket.socket = listener, greeting: bytes = greeting) -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(greeting)

            thread = threading.Thread(target=answer)
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert main(["play", "--stop", "--session", "c", "--url", url]) == 1
            thread.join()
        assert f"cannot reach {url}: " in complaint(capsys)


def test_server_that_says_nothing_is_given_up(capsys, monkeypatch):
    monkeypatch.setattr(play, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["play", "--stop", "--session", "c", "--url", url]) == 1
    assert f"{url} did not answer within 0.05 s" in complaint(capsys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        (b"", "expected an audio file (wav, flac, ogg, mp3)"),
        (b"shopping list", "expected an audio file (wav, flac, ogg, mp3)"),
        (WAV + bytes(ClipLimits().file_bytes), f"expected at most {ClipLimits().file_bytes} bytes"),
    ],
)
def test_file_that_cannot_be_played_is_one_clear_line(content, said, tmp_path, capsys):
    path = tmp_path / "sound.wav"
    if content is not None:
        path.write_bytes(content)
    assert main(["play", str(path), "--session", "c", "--url", "http://127.0.0.1:1"]) == 1
    line = complaint(capsys)
    assert said in line
    assert str(path) in line
    assert "shopping" not in line


def test_token_that_no_header_can_hold_is_refused_and_not_repeated(capsys):
    for token in ("sëcret", "secret\n"):
        assert (
            main(["play", "--stop", "--session", "c", "--url", "http://127.0.0.1:1", "--token", token]) == 1
        )
        line = complaint(capsys)
        assert "--token: expected printable ASCII" in line
        assert "cret" not in line
