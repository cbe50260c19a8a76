"""Problem details: every error of an application, whoever answers it."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fastagent.server.rest.problems import ProblemAnswers, answer_failure, bad_request, invalid
from tests.asgi import Answer, ask


async def pieces():
    yield b"two "
    yield b"words"


ANSWERS = {
    "fine": lambda: PlainTextResponse("fine"),
    "text": lambda: PlainTextResponse("no capacity", 503, {"Retry-After": "3"}),
    "long": lambda: PlainTextResponse("x" * 10_000, 400),
    "empty": lambda: Response(status_code=416, headers={"Content-Range": "bytes */9"}),
    "json": lambda: JSONResponse({"status": "draining"}, 503),
    "stream": lambda: StreamingResponse(pieces(), 409, media_type="text/plain"),
    "odd": lambda: Response(status_code=422),
}


async def answer(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "http":
        raise HTTPException(403, "not you")
    if name == "problem":
        raise bad_request("no", "not-so")
    if name == "bug":
        raise RuntimeError("a caller's words")
    return ANSWERS[name]()


APP = Starlette(
    routes=[Route("/{name}", answer)],
    middleware=[Middleware(ProblemAnswers)],
    exception_handlers={Exception: answer_failure, HTTPException: answer_failure},
)


def get(path: str, method: str = "GET") -> Answer:
    return asyncio.run(ask(APP, method, path))


@pytest.mark.parametrize(
    ("path", "status", "kind", "detail"),
    [
        ("/text", 503, "service-unavailable", "no capacity"),
        ("/long", 400, "bad-request", "x" * 500),
        ("/empty", 416, "range-not-satisfiable", "Range Not Satisfiable"),
        ("/stream", 409, "conflict", "two words"),
        ("/odd", 422, "unprocessable-content", "Unprocessable Content"),
        ("/http", 403, "forbidden", "not you"),
        ("/nowhere/else", 404, "not-found", "Not Found"),
    ],
)
def test_errors_are_problems_whoever_answers_them(path, status, kind, detail):
    found = get(path)
    assert found.is_problem(status, kind)
    assert found.json["detail"] == detail
    assert found.headers["content-length"] == str(len(found.body))


def test_headers_that_belong_to_an_error_stay():
    assert get("/text").headers["retry-after"] == "3"
    assert get("/empty").headers["content-range"] == "bytes */9"
    found = get("/fine", "POST")
    assert found.is_problem(405, "method-not-allowed")
    assert "GET" in found.headers["allow"]


def test_what_is_no_error_is_left_alone():
    assert (get("/fine").status, get("/fine").body) == (200, b"fine")


def test_an_error_that_speaks_json_of_its_own_is_left_alone():
    assert (get("/json").status, get("/json").json) == (503, {"status": "draining"})


def test_a_fault_of_ours_is_a_problem_without_its_text():
    answers: list[Answer] = []

    async def app(scope, receive, send):
        # The server's log takes the error itself, after the answer.
        with pytest.raises(RuntimeError):
            await APP(scope, receive, send)

    answers.append(asyncio.run(ask(app, "GET", "/bug")))
    assert answers[0].is_problem(500, "internal-server-error")
    assert b"words" not in answers[0].body


def test_mistakes_are_listed_and_their_number_is_bounded():
    problem = invalid("invalid-config", "no", [(f"states[{n}]", "wrong") for n in range(1_000)])
    assert len(problem.members["errors"]) == 50
    assert problem.members["errors"][1] == {"path": "states[1]", "message": "wrong"}
