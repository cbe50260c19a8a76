"""``fastagent dial``: have a running server call a number."""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
from collections.abc import Coroutine
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastagent.errors import ConfigurationError

__all__ = ["add_parser"]

EPILOG = """\
examples:
  fastagent dial +15550100001 --agent front
  fastagent dial +15550100001 --agent front --from +15550100002 --detect-machines --token "$FASTAGENT_TOKEN"

The server calls by Twilio, and only numbers of its FASTAGENT_DIAL_ALLOW. See docs/telephony.md.
"""
DEFAULT_URL = "http://127.0.0.1:8000"
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
    try:
        parts = urlsplit(options.url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that cannot be
        is_usable = False
    if not is_usable:
        raise ConfigurationError("--url: expected http://HOST:PORT or https://…, the port from 1 to 65535")
    token = options.token or os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token.isascii() or (token and not token.isprintable()):
        raise ConfigurationError("--token: expected printable ASCII")
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    asked = {
        "to": options.number,
        "agent": options.agent,
        "detect_machines": options.detect_machines or options.wait_for_beep,
        "wait_for_beep": options.wait_for_beep,
    }
    if options.sender:
        asked["from"] = options.sender
    status, content = await asyncio.to_thread(_exchange, parts, headers, json.dumps(asked).encode())
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


def _exchange(parts: SplitResult, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        with contextlib.closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", f"{parts.path.rstrip('/')}/twilio/dial", body, headers)
            response = connection.getresponse()
            return response.status, response.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        reason = f"the server cannot be reached: {type(error).__name__} (is `fastagent serve` running?)"
        raise ConfigurationError(reason) from None
