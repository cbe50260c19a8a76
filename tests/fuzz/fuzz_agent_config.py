"""A posted configuration: any bytes give an agent and its findings, or a refusal that the API can answer."""

from pydantic import ValidationError

from fastagent import FastAgent
from fastagent.server.agents.config import AgentConfig, ConfigError, build_agent
from fastagent.server.rest.bodies import parse_json
from fastagent.server.rest.problems import Problem
from fastagent.server.rest.queries import validation_errors


def order_pizza(size: str) -> str:
    """An effect that configurations may name."""
    return size


def opening_hours(day: str) -> str:
    """Tell when the shop is open."""
    return day


CODED = FastAgent(
    "bot",
    [{"name": "only", "effects": [{"name": "order_pizza", "key": "size"}]}],
    "only",
    effects={"order_pizza": order_pizza},
    functions=[opening_hours],
)


def answer(data: bytes) -> list[object]:
    """Read, build and check it as a request would."""
    try:
        config = AgentConfig.model_validate(parse_json(data))
        built = build_agent("bot", config, CODED, {"night": FastAgent("night")})
    except Problem as problem:
        return [problem.response.body]
    except ValidationError as error:
        return list(validation_errors(error))
    except ConfigError as error:
        return [error.reason]
    return [built.agent, *(one.as_json() for one in built.findings)]


def check(data: bytes) -> None:
    """There is an answer."""
    assert all(answer(data))
