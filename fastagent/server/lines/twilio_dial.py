"""Calls that somebody with a token has us make: POST /twilio/dial, for the scopes ``dial`` and ``admin``.

::

    {"to": "+15550100001", "agent": "front", "from": "+15550100002", "detect_machines": true}
                                                    ──▶ 201 {"call_sid": "CA…"}

Whoever is called hears the agent once Twilio asks the webhook. Only what `TwilioDialer` allows is called.
"""

from collections.abc import Callable, Collection
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.responses import Response
from starlette.routing import BaseRoute

from fastagent.errors import TelephonyError, TelephonyLimitError
from fastagent.server.doors.auth import Doorkeeper, Scope
from fastagent.server.lines.twilio import MACHINE_PATH, STATUS_PATH, WEBHOOK_PATH
from fastagent.server.rest.bodies import read_json
from fastagent.server.rest.models import DialRequest, DialStarted
from fastagent.server.rest.operations import Answer, Asked, Operation, json_answer, operation_routes
from fastagent.server.rest.problems import Problem, bad_request
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.telephony.twilio_outbound import TwilioOutbound
from fastagent.wire.twilio import BOT_PARAMETER

__all__ = ["DIAL", "DIAL_PATH", "dial_routes"]

DIAL_PATH = "/twilio/dial"
REQUEST_BYTES_MAX = 4096

DIAL = Operation(
    "POST",
    DIAL_PATH,
    "start_call",
    "Call a number by Twilio, and have an agent talk to who answers",
    {201: Answer("Twilio has the order; nobody has answered yet.", DialStarted)},
    (400, 403, 404, 405, 413, 415, 422, 502),
    description=(
        "Only where FASTAGENT_DIAL_ALLOW names numbers; elsewhere there is no such path. A number that is "
        "not on the list, and one beyond the day's limits, is answered 403."
    ),
    tag="calls",
    bodies={"application/json": DialRequest},
    scopes=(Scope.DIAL, Scope.ADMIN),
)


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

    async def dial(asked: Asked) -> Response:
        try:
            wanted = DialRequest.model_validate_json(await read_json(asked.request, REQUEST_BYTES_MAX))
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
                waits_for_beep=wanted.wait_for_beep,
                machine_callback=public_url + MACHINE_PATH,
            )
        except TelephonyLimitError as error:
            counters.note("dials_refused")
            raise Problem(403, "not-dialled", error.reason) from None
        except TelephonyError as error:
            counters.note("dials_failed")
            raise Problem(502, "carrier-failed", str(error)) from None
        counters.note("dials")
        return json_answer(DialStarted(call_sid=sid), 201)

    return operation_routes(doors, [(DIAL, dial)])
