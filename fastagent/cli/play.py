"""``fastagent play``: play a file or a clip into a running call."""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import socket
import textwrap
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastagent.audio.clip_files import MEDIA_TYPES, ClipLimits, container_of
from fastagent.errors import AudioError, ConfigurationError
from fastagent.server.clips.library import BUILT_IN_CLIPS
from fastagent.server_address import DEFAULT_URL, ServerAddress

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent play greeting.wav --session 8f4c...
  fastagent play --clip hold-music --loop --session 8f4c...
  fastagent play --clip ringback --when when-quiet --session 8f4c... --url https://bot.example.com
  fastagent play --stop --session 8f4c...

A session's id is the conversation id, which the server logs: "call ID begins, raw/mulaw". A file is WAV, or
FLAC, Ogg or MP3 where the server has the extra 'fastagent[export]'. Clips are the files of the server's
FASTAGENT_CLIPS_DIR, and these:
"""
EPILOG += textwrap.fill(
    ", ".join(sorted(BUILT_IN_CLIPS)),
    initial_indent="  ",
    subsequent_indent="  ",
    width=110,
    break_on_hyphens=False,
)

TOKEN_VARIABLE = "FASTAGENT_TOKEN"
TIMEOUT_S = 30.0
"""For connecting, and for every single read and write."""
ANSWER_BYTES_MAX = 65_536
NO_SESSION = (
    "--session is needed: the conversation id of a running call. The server logs it when a call begins "
    '("call ID begins").'
)


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "play",
        help="play a file or a clip into a running call",
        description="Have a running server play an audio file, or a clip it knows by name, to a caller.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the audio file to play")
    what.add_argument("--clip", metavar="NAME", help="a clip of the server's to play instead")
    what.add_argument("--stop", action="store_true", help="stop what plays")
    parser.add_argument(
        "--session", metavar="ID", help="the call: its conversation id, as the server logs it"
    )
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server (default {DEFAULT_URL})")
    parser.add_argument("--token", help=f"bearer token ({TOKEN_VARIABLE})")
    parser.add_argument(
        "--loop", action="store_true", help="again and again until the bot speaks or it is stopped"
    )
    parser.add_argument(
        "--when",
        choices=("now", "when-quiet"),
        default="now",
        help="at once, or once neither side speaks (default now)",
    )
    parser.add_argument(
        "--uninterruptible", action="store_true", help="go on playing while the caller speaks"
    )
    parser.add_argument("--level", type=float, metavar="DBFS", help="bring it to this RMS level, such as -20")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Check the command line, then ask the server."""
    if not options.session:
        options.usage_error(NO_SESSION)
    return _run(options)


async def _run(options: argparse.Namespace) -> int:
    server = ServerAddress(options.url, options.token or os.environ.get(TOKEN_VARIABLE, "").strip())
    path = f"/sessions/{quote(os.fsencode(options.session), safe='')}/playback"
    if options.stop:
        await _ask(server, "DELETE", path)
        print("stopped")
        return 0
    how: dict[str, Any] = {
        "loop": options.loop,
        "when": options.when.replace("-", "_"),
        "interruptible": not options.uninterruptible,
    }
    if options.level is not None:
        how["level_dbfs"] = options.level
    if options.clip is not None:
        body = json.dumps({"clip": options.clip, **how}).encode()
        answer = await _ask(server, "POST", path, body, "application/json")
    else:
        body, media_type = _file(options.file)
        texts = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in how.items()
        }
        path = f"{path}?{urlencode(texts)}"
        answer = await _ask(server, "POST", path, body, media_type)
    lasting = "again and again" if options.loop else f"{answer.get('duration_ms')} ms"
    print(f"playing {answer.get('clip')}, {lasting} (playback {answer.get('playback_id')})")
    return 0


def _file(path: Path) -> tuple[bytes, str]:
    """The content of an audio file and its media type."""
    limits = ClipLimits()
    try:
        with path.open("rb") as file:
            content = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    try:
        limits.check_file(len(content))
    except AudioError:
        raise ConfigurationError(f"{path}: expected at most {limits.file_bytes} bytes") from None
    container = container_of(content)
    if container is None:
        raise ConfigurationError(f"{path}: expected an audio file ({', '.join(MEDIA_TYPES)})")
    return content, MEDIA_TYPES[container]


async def _ask(
    server: ServerAddress, method: str, path: str, body: bytes | None = None, media_type: str = ""
) -> dict[str, Any]:
    """The server's JSON answer.

    Raises:
        ConfigurationError: the server cannot be reached, or says no; the message says why.
    """
    connection = server.connection(TIMEOUT_S)
    headers = server.headers | ({"Content-Type": media_type} if media_type else {})
    try:
        status, content = await asyncio.to_thread(
            _exchange, connection, method, server.target(path), headers, body
        )
    except TimeoutError:
        raise ConfigurationError(f"{server.origin} did not answer within {TIMEOUT_S:g} s") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise server.unreachable(error) from None
    finally:
        # After Ctrl-C the thread still waits for an answer, and the process for the thread.
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
    return _answer(server.origin, status, content)


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | None,
) -> tuple[int, bytes]:
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server that has refused a file need not read it: its answer may be there
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)


def _answer(origin: str, status: int, content: bytes) -> dict[str, Any]:
    try:
        answer: Any = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        if 200 <= status < 300:
            return answer
        if status != 401 and isinstance(detail := answer.get("detail"), str):
            raise ConfigurationError(f"refused with {status}: {detail}")
    if status == 401:
        raise ConfigurationError(f"{origin} wants a bearer token: --token, or {TOKEN_VARIABLE}")
    raise ConfigurationError(f"{origin} answered {status}, but not as a FastAgent server does")
