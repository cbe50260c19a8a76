"""Parameters of a request's query, strictly read: each known, given once, of its type."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from fastagent.server.rest.problems import invalid

__all__ = ["WHOLE_NUMBER", "Moment", "Query", "read_query", "rfc3339", "validation_errors"]

PATH_CHARACTERS_MAX = 200
"""Of a mistake's path: keys may be as long as a body."""

_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(?:\.(\d{1,30}))?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _whole(text: Any) -> int:
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise PydanticCustomError("whole_number", "expected a whole number in decimal digits")
    return int(text)


def _moment(text: Any) -> float:
    match = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        to_minutes, seconds, fraction, zone = match.groups()
        if int(seconds) > 60:
            raise ValueError
        # Python knows neither leap seconds nor the year 0.
        to_minutes = re.sub(r"^0000", "0001", to_minutes.upper())
        whole = datetime.fromisoformat(f"{to_minutes}00{'+00:00' if zone in 'Zz' else zone}")
        return (whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() + float(
            f"{seconds}.{fraction or 0}"
        )
    except (ValueError, OverflowError):
        raise PydanticCustomError("moment", "expected a time as in 2026-11-21T18:30:00Z") from None


WHOLE_NUMBER = BeforeValidator(_whole)
"""Stands behind an integer's bounds, which the document then tells of."""
Moment = Annotated[float, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time of RFC 3339; seconds since 1970 within."""


class Query(BaseModel):
    """Parameters of one operation; a model without fields takes none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Query = TypeVar("_Query", bound=Query)


def read_query(request: Request, kind: type[_Query]) -> _Query:
    """The query's parameters.

    Raises:
        Problem: 422 with the name of each that does not fit.
    """
    pairs = request.query_params.multi_items()
    values = dict(pairs)
    try:
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            doubled = next(name for name in names if names.count(name) > 1)
            raise invalid(
                "invalid-query", "a parameter stands twice", [(doubled[:PATH_CHARACTERS_MAX], "once")]
            )
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid("invalid-query", "parameters do not fit", validation_errors(error)) from None


def validation_errors(error: ValidationError) -> list[tuple[str, str]]:
    """The path of each mistake, and what is wrong there; never what was sent."""
    found = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        path = ""
        for part in one["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        found.append((path[:PATH_CHARACTERS_MAX], one["msg"]))
    return found


def rfc3339(unix_s: float) -> str:
    """A moment as text, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
