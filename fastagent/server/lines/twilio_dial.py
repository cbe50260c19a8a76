"""Calls that somebody with a token has us make: POST /twilio/dial, for the scopes ``dial`` and ``admin``.

::

    {"to": "+15550100001", "agent": "front", "from": "+15550100002", "detect_machines": true}
                                                    ──▶ 201 {"call_sid": "CA…"}

Whoever is called hears the agent once Twilio asks the webhook. Only what `TwilioDialer` allows is called.
"""

from collections.abc import Callable, Collection
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fastagent.errors import TelephonyError, TelephonyLimitError
from fastagent.server.doors.auth import Denial, Doorkeeper, Scope
from fastagent.server.lines.twilio import STATUS_PATH, WEBHOOK_PATH
from fastagent.server.rest.bodies import read_json
from fastagent.server.rest.problems import Problem, bad_request, denied
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.telephony.twilio_outbound import TwilioOutbound
from fastagent.wire.twilio import BOT_PARAMETER

__all__ = ["DIAL_PATH", "DialRequest", "dial_routes"]

DIAL_PATH = "/twilio/dial"
REQUEST_BYTES_MAX = 4096
DIAL_SCOPES = (Scope.DIAL, Scope.ADMIN)
NUMBER = r"^\+[1-9]\d{4,14}$"


class DialRequest(BaseModel):
    """Who is to be called, and who talks to them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    to: str = Field(pattern=NUMBER, repr=False)
    agent: str = Field(min_length=1, max_length=128)
    sender: str = Field("", alias="from", pattern=rf"^$|{NUMBER}", repr=False)
    detect_machines: bool = False


def dial_routes(
    settings: Settings,
    doors: Doorkeeper,
    outbound: TwilioOutbound | None,
    agent_ids: Callable[[], Collection[str]],
    counters: Counters,
) -> list[BaseRoute]:
    """The route; none where nobody may be called."""
    if outbound is None or not settings.dial_allow:
        return []
    public_url = settings.public_url.rstrip("/")
    own_number = settings.twilio_sms_from if settings.twilio_sms_from.startswith("+") else ""

    async def dial(request: Request) -> Response:
        found = doors.check(request, *DIAL_SCOPES)
        if isinstance(found, Denial):
            raise denied(found)
        try:
            wanted = DialRequest.model_validate_json(await read_json(request, REQUEST_BYTES_MAX))
        except ValidationError as error:
            # What pydantic says of a value would quote the number.
            names = ", ".join(
                sorted({str(one["loc"][0]) if one["loc"] else "body" for one in error.errors()})
            )
            raise bad_request(f"does not fit: {names}") from None
        sender = wanted.sender or own_number
        if not sender:
            raise bad_request("from: expected one of our numbers")
        if wanted.agent not in agent_ids():
            raise Problem(404, "agent-not-found", "there is no agent of this id")
        try:
            sid = await outbound.dialer.dial(
                wanted.to,
                sender=sender,
                url=f"{public_url}{WEBHOOK_PATH}?{urlencode({BOT_PARAMETER: wanted.agent})}",
                status_callback=public_url + STATUS_PATH,
                detects_machines=wanted.detect_machines,
            )
        except TelephonyLimitError as error:
            counters.note("dials_refused")
            raise Problem(403, "not-dialled", error.reason) from None
        except TelephonyError as error:
            counters.note("dials_failed")
            raise Problem(502, "carrier-failed", str(error)) from None
        counters.note("dials")
        return JSONResponse({"call_sid": sid}, 201)

    async def answer(request: Request) -> Response:
        try:
            return await dial(request)
        except Problem as problem:
            return problem.response
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    return [Route(DIAL_PATH, answer, methods=["POST"])]
