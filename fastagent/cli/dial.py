"""``fastagent dial``: have a running server call a number."""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
from collections.abc import Coroutine
from typing import Any

from fastagent.errors import ConfigurationError
from fastagent.server_address import DEFAULT_URL, ServerAddress

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent dial +15550100001 --agent front
  fastagent dial +15550100001 --agent front --from +15550100002 --detect-machines --token "$FASTAGENT_TOKEN"

The server calls by Twilio, and only numbers of its FASTAGENT_DIAL_ALLOW. See docs/telephony.md.
"""
TOKEN_VARIABLE = "FASTAGENT_TOKEN"
TIMEOUT_S = 40.0
"""The server gives Twilio 25 s."""
ANSWER_BYTES_MAX = 65_536


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "dial",
        help="have a running server call a number",
        description="Have a running server call a telephone by Twilio, and an agent talk to who answers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("number", metavar="NUMBER", help="whom to call: + and the digits")
    parser.add_argument("--agent", required=True, metavar="ID", help="who talks to them")
    parser.add_argument(
        "--from", dest="sender", metavar="NUMBER", help="our number (default TWILIO_SMS_FROM)"
    )
    parser.add_argument(
        "--detect-machines", action="store_true", help="have Twilio find out whether a machine answers"
    )
    parser.add_argument(
        "--wait-for-beep",
        action="store_true",
        help="with it: tell of a machine when its greeting is over, so that a message can be left",
    )
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server (default {DEFAULT_URL})")
    parser.add_argument("--token", help=f"bearer token with the scope dial ({TOKEN_VARIABLE})")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Ask the server."""
    return _run(options)


async def _run(options: argparse.Namespace) -> int:
    server = ServerAddress(options.url, options.token or os.environ.get(TOKEN_VARIABLE, "").strip())
    asked = {
        "to": options.number,
        "agent": options.agent,
        "detect_machines": options.detect_machines or options.wait_for_beep,
        "wait_for_beep": options.wait_for_beep,
    }
    if options.sender:
        asked["from"] = options.sender
    status, content = await asyncio.to_thread(_exchange, server, json.dumps(asked).encode())
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if status != http.HTTPStatus.CREATED or not isinstance(answer, dict):
        detail = answer.get("detail") if isinstance(answer, dict) else None
        raise ConfigurationError(
            f"refused with {status}" + (f": {detail}" if isinstance(detail, str) else "")
        )
    print(f"calling ({answer.get('call_sid')})")
    return 0


def _exchange(server: ServerAddress, body: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json", **server.headers}
    try:
        with contextlib.closing(server.connection(TIMEOUT_S)) as connection:
            connection.request("POST", server.target("/twilio/dial"), body, headers)
            response = connection.getresponse()
            return response.status, response.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise server.unreachable(error) from None
