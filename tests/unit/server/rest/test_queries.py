"""Parameters of a query: how they are read, and how what does not fit is named."""

from typing import Annotated

import pytest
from pydantic import Field
from starlette.requests import Request

from fastagent.server.rest.problems import Problem
from fastagent.server.rest.queries import WHOLE_NUMBER, Moment, Query, read_query, rfc3339


class Parameters(Query):
    number: Annotated[int, Field(ge=1, le=9), WHOLE_NUMBER] = 1
    since: Moment | None = None


def read(query: str) -> Parameters:
    request = Request({"type": "http", "query_string": query.encode(), "headers": []})
    return read_query(request, Parameters)


@pytest.mark.parametrize(
    ("query", "number", "since"),
    [
        ("", 1, None),
        ("number=9", 9, None),
        ("since=1970-01-01T00:00:01Z", 1, 1.0),
        ("since=1970-01-01t00:00:01.5z", 1, 1.5),
        ("since=1970-01-01T01:00:00%2B01:00", 1, 0.0),
        ("since=1969-12-31T23:59:60Z", 1, 0.0),
        ("since=0000-01-01T00:00:00Z", 1, -62_135_596_800.0),
        ("since=2026-11-21T18:30:00.123456789Z&number=2", 2, 1_795_285_800.123456789),
    ],
)
def test_parameters_are_read(query, number, since):
    found = read(query)
    assert found.number == number
    assert found.since == (None if since is None else pytest.approx(since, abs=1e-6))


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("number=0", "number"),
        ("number=10", "number"),
        ("number=01", "number"),
        ("number=1_0", "number"),
        ("number=+1", "number"),
        ("number=1.0", "number"),
        ("number=", "number"),
        ("number=9999999999999999999999", "number"),
        ("number=1&number=1", "number"),
        ("nummer=1", "nummer"),
        ("since=0", "since"),
        ("since=2026-11-21", "since"),
        ("since=2026-11-21T18:30:00", "since"),
        ("since=2026-13-21T18:30:00Z", "since"),
        ("since=2026-11-21T18:30:61Z", "since"),
        ("since=2026-11-21T18:30:00%2B25:00", "since"),
        ("x" * 5_000 + "=1", "x" * 200),
    ],
)
def test_what_does_not_fit_is_named_and_not_repeated(query, path):
    with pytest.raises(Problem) as refused:
        read(query)
    assert (refused.value.status, refused.value.kind) == (422, "invalid-query")
    [error] = refused.value.members["errors"]
    assert error["path"] == path


def test_moments_are_written_as_they_are_read():
    assert rfc3339(1_795_285_800.25) == "2026-11-21T18:30:00.250Z"
    assert read(f"since={rfc3339(1_795_285_800.25)}").since == 1_795_285_800.25
