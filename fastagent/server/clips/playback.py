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
from pydantic import Field
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
from fastagent.server.clips.library import ClipLibrary, EncodedClip
from fastagent.server.doors.auth import Denial, Doorkeeper, Scope
from fastagent.server.rest.bodies import read_body
from fastagent.server.rest.models import PlaybackRequest, PlaybackStarted
from fastagent.server.rest.operations import Answer, Operation, Parameter
from fastagent.server.rest.problems import Problem, bad_request, denied
from fastagent.server.rest.queries import Query
from fastagent.stats import Counters

__all__ = ["PLAYBACK_PATH", "START_PLAYBACK", "STOP_PLAYBACK", "PlayableCall", "playback_routes"]

logger = logging.getLogger("fastagent.server")

PLAYBACK_PATH = "/sessions/{session_id:path}/playback"
UPLOAD_BYTES_MAX = 16 << 20
REQUEST_BYTES_MAX = 4_096
"""Of a JSON body."""
UPLOADS_AT_ONCE_MAX = 4
"""Uploads are held in memory; a further one is answered 503."""
RETRY_AFTER_S = 1

When = Literal["now", "when_quiet"]
PLAYBACK_SCOPES = (Scope.ADMIN, Scope.AUDIOCODES)

_SESSION_ID = Parameter("session_id", "The conversation id of a running call, whatever its carrier calls it.")


class PlaybackQuery(Query):
    """Options of an uploaded file; a clip that is named has them in its body."""

    loop: bool | None = Field(None, description="Again and again until the bot speaks or it is stopped.")
    when: When | None = Field(None, description="`when_quiet` waits until neither side speaks.")
    interruptible: bool | None = Field(None, description="The caller's words stop it.")
    level_dbfs: float | None = Field(None, ge=-60, le=0, description="Brought to this level before.")


START_PLAYBACK = Operation(
    "POST",
    PLAYBACK_PATH,
    "start_playback",
    "Play a clip into a running call: an audio file, or one by its name",
    {202: Answer("The call has it.", PlaybackStarted)},
    (400, 404, 405, 409, 413, 415, 503),
    tag="sessions",
    parameters=(_SESSION_ID,),
    query=PlaybackQuery,
    bodies={
        "application/json": PlaybackRequest,
        "audio/wav": {"type": "string", "format": "binary"},
    },
    scopes=PLAYBACK_SCOPES,
)
STOP_PLAYBACK = Operation(
    "DELETE",
    PLAYBACK_PATH,
    "stop_playback",
    "Stop what plays",
    {204: Answer("Nothing plays.")},
    (400, 404, 405),
    tag="sessions",
    parameters=(_SESSION_ID,),
    scopes=PLAYBACK_SCOPES,
)


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
            raise bad_request(f"expected {', '.join(cls.__dataclass_fields__)}, got {min(unknown)[:40]!r}")
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
        found = self._doors.check(request, *PLAYBACK_SCOPES)
        if isinstance(found, Denial):
            raise denied(found)

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
            raise bad_request("query parameters go with an uploaded file; put them into the JSON")
        try:
            values = orjson.loads(await read_body(request, REQUEST_BYTES_MAX))
        except orjson.JSONDecodeError:
            raise bad_request("the body is not JSON") from None
        if not isinstance(values, dict):
            raise bad_request('expected a JSON object such as {"clip": "hold-music", "loop": true}')
        name = values.pop("clip", None)
        if not isinstance(name, str):
            raise bad_request("clip: expected the name of a clip")
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
            content = await read_body(request, self._upload_bytes_max)
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


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise bad_request(f"{name}: expected true or false")


def _when(name: str, value: object) -> When:
    if value == "now":
        return "now"
    if value == "when_quiet":
        return "when_quiet"
    raise bad_request(f"{name}: expected now or when_quiet")


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
        raise bad_request(f"{name}: expected a level of {LEVEL_DBFS_MIN:g} to 0 dBFS")
    return level
