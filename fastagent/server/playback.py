"""Playing clips into a running call over HTTP.

``POST /sessions/{session_id}/playback`` takes an audio file (``Content-Type: audio/…``, options as query
parameters) or the name of a clip (``application/json``), and answers 202 once the call has it.
``DELETE`` of the same path stops what plays. A session's id is its conversation id. Whatever goes wrong is
answered as problem details (RFC 9457).
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fastagent.audio.clips import LEVEL_DBFS_MIN
from fastagent.audio.formats import AudioFormat
from fastagent.errors import (
    AudioError,
    ClipNotFoundError,
    ClipTooLargeError,
    FormatMismatchError,
    PlaybackRefusedError,
)
from fastagent.server.auth import Denial, Doorkeeper, Scope
from fastagent.server.clip_library import ClipLibrary, EncodedClip
from fastagent.stats import Counters

__all__ = ["PLAYBACK_PATH", "PlayableCall", "Problem", "playback_routes"]

logger = logging.getLogger("fastagent.server")

PLAYBACK_PATH = "/sessions/{session_id:path}/playback"
UPLOAD_BYTES_MAX = 16 << 20
REQUEST_BYTES_MAX = 4_096
"""Of a JSON body."""
UPLOADS_AT_ONCE_MAX = 4
"""Uploads are held in memory; a further one is answered 503."""
RETRY_AFTER_S = 1

When = Literal["now", "when_quiet"]


class PlayableCall(Protocol):
    """What playing asks of a call."""

    @property
    def carrier_format(self) -> AudioFormat:
        """What the carrier is played: clips are converted to it beforehand."""

    def play(self, clip_bytes: bytes, *, clip_id: str, loop: bool, when: When, interruptible: bool) -> str:
        """Play samples in the carrier's format; gives the playback's id.

        Raises:
            PlaybackRefusedError: the call cannot play now.
        """

    def stop_playback(self) -> object:
        """Stop what plays; that nothing does is no error."""


class Problem(Exception):
    """An answer in problem details."""

    def __init__(
        self, status: HTTPStatus, kind: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers

    @property
    def response(self) -> Response:
        """``application/problem+json``; the type tells problems of one status apart."""
        body = {
            "type": f"urn:fastagent:problem:{self.kind}",
            "title": self.kind.replace("-", " ").capitalize(),
            "status": int(self.status),
            "detail": self.detail,
        }
        return JSONResponse(body, int(self.status), self.headers, media_type="application/problem+json")


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How a clip is played."""

    loop: bool = False
    """Again and again until the bot speaks, or until it is stopped."""
    when: When = "now"
    """``when_quiet`` waits until neither side speaks."""
    interruptible: bool = True
    """The caller's words stop it."""
    level_dbfs: float | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "PlayOptions":
        """Options of a JSON body, or of a query, where all are texts.

        Raises:
            Problem: an option is not known, or its value does not fit.
        """
        if unknown := values.keys() - cls.__dataclass_fields__.keys():
            raise _bad_request(f"expected {', '.join(cls.__dataclass_fields__)}, got {min(unknown)[:40]!r}")
        return cls(
            loop=_flag("loop", values.get("loop", False)),
            when=_when("when", values.get("when", "now")),
            interruptible=_flag("interruptible", values.get("interruptible", True)),
            level_dbfs=_level("level_dbfs", values.get("level_dbfs")),
        )


def playback_routes(
    find_call: Callable[[str], PlayableCall | None],
    clips: ClipLibrary,
    doors: Doorkeeper,
    counters: Counters,
    *,
    upload_bytes_max: int = UPLOAD_BYTES_MAX,
) -> list[BaseRoute]:
    """The routes under a session that play and stop clips.

    Args:
        find_call: the running call of a session id.
        doors: who may play: a carrier, into its own calls and those of others, and an administrator.
    """
    door = _Door(find_call, clips, doors, counters, upload_bytes_max)
    return [Route(PLAYBACK_PATH, door.answer, methods=["POST", "DELETE"])]


class _Door:
    def __init__(
        self,
        find_call: Callable[[str], PlayableCall | None],
        clips: ClipLibrary,
        doors: Doorkeeper,
        counters: Counters,
        upload_bytes_max: int,
    ) -> None:
        self._find_call = find_call
        self._clips = clips
        self._doors = doors
        self._counters = counters
        self._upload_bytes_max = upload_bytes_max
        self._uploads = 0

    async def answer(self, request: Request) -> Response:
        """Play or stop; a refusal is an answer, too."""
        try:
            self._admit(request)
            call = self._call(request)
            if request.method == "DELETE":
                call.stop_playback()
                return Response(status_code=HTTPStatus.NO_CONTENT)
            return await self._play(request, call)
        except Problem as problem:
            self._counters.note("playbacks_refused")
            return problem.response
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it

    def _admit(self, request: Request) -> None:
        found = self._doors.check(request, Scope.ADMIN, Scope.AUDIOCODES)
        if isinstance(found, Denial):
            status = HTTPStatus(found.status)
            raise Problem(status, status.phrase.lower().replace(" ", "-"), found.detail, found.headers)

    def _call(self, request: Request) -> PlayableCall:
        call = self._find_call(request.path_params["session_id"])
        if call is None:
            raise Problem(HTTPStatus.NOT_FOUND, "unknown-session", "no running call has this session id")
        return call

    async def _play(self, request: Request, call: PlayableCall) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "application/json":
            clip, options = await self._named(request, call.carrier_format)
        elif media_type.startswith("audio/"):
            clip, options = await self._uploaded(request, call.carrier_format)
        else:
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "expected an audio file (Content-Type audio/...) or application/json",
            )
        if self._call(request) is not call:
            raise Problem(
                HTTPStatus.NOT_FOUND, "unknown-session", "the call ended while the clip was prepared"
            )
        try:
            playback_id = call.play(
                clip.data,
                clip_id=clip.clip_id,
                loop=options.loop,
                when=options.when,
                interruptible=options.interruptible,
            )
        except PlaybackRefusedError as error:
            raise Problem(HTTPStatus.CONFLICT, "cannot-play", str(error)) from None
        self._counters.note("playbacks")
        return JSONResponse(
            {
                "playback_id": playback_id,
                "clip": clip.clip_id,
                "duration_ms": clip.duration_ms,
                "loop": options.loop,
                "when": options.when,
                "interruptible": options.interruptible,
            },
            HTTPStatus.ACCEPTED,
        )

    async def _named(self, request: Request, format: AudioFormat) -> tuple[EncodedClip, PlayOptions]:
        if request.query_params:
            raise _bad_request("query parameters go with an uploaded file; put them into the JSON")
        try:
            values = orjson.loads(await _body(request, REQUEST_BYTES_MAX))
        except orjson.JSONDecodeError:
            raise _bad_request("the body is not JSON") from None
        if not isinstance(values, dict):
            raise _bad_request('expected a JSON object such as {"clip": "hold-music", "loop": true}')
        name = values.pop("clip", None)
        if not isinstance(name, str):
            raise _bad_request("clip: expected the name of a clip")
        options = PlayOptions.parse(values)
        clip = await _prepared(self._clips.named, name, format, options)
        return clip, options

    async def _uploaded(self, request: Request, format: AudioFormat) -> tuple[EncodedClip, PlayOptions]:
        options = PlayOptions.parse(request.query_params)
        if self._uploads >= UPLOADS_AT_ONCE_MAX:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-many-uploads",
                f"{UPLOADS_AT_ONCE_MAX} files are being uploaded already",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self._uploads += 1
        try:
            content = await _body(request, self._upload_bytes_max)
            return await _prepared(self._clips.uploaded, content, format, options), options
        finally:
            self._uploads -= 1


async def _prepared(
    find: Callable[..., EncodedClip], what: str | bytes, format: AudioFormat, options: PlayOptions
) -> EncodedClip:
    """The clip, converted in a thread; audio goes on meanwhile."""
    try:
        return await asyncio.to_thread(find, what, format, level_dbfs=options.level_dbfs)
    except ClipNotFoundError as error:
        raise Problem(HTTPStatus.NOT_FOUND, "unknown-clip", str(error)) from None
    except ClipTooLargeError as error:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "clip-too-large", str(error)) from None
    except FormatMismatchError as error:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-audio", str(error)) from None
    except AudioError as error:
        logger.warning("a clip was refused: %s", error)
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-container", str(error)) from None


async def _body(request: Request, limit_bytes: int) -> bytes:
    """The request's body, refused as soon as it is known to be too large."""
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"expected a body of at most {limit_bytes} bytes",
    )
    if (claimed := request.headers.get("content-length", "")).isdecimal() and int(claimed) > limit_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise too_large
    return bytes(body)


def _bad_request(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad-request", detail)


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise _bad_request(f"{name}: expected true or false")


def _when(name: str, value: object) -> When:
    if value == "now":
        return "now"
    if value == "when_quiet":
        return "when_quiet"
    raise _bad_request(f"{name}: expected now or when_quiet")


def _level(name: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        level = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        )
    except ValueError:
        level = math.nan
    if not LEVEL_DBFS_MIN <= level <= 0:
        raise _bad_request(f"{name}: expected a level of {LEVEL_DBFS_MIN:g} to 0 dBFS")
    return level
