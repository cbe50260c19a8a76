"""What a field of a Realtime event holds, whatever the server put there: its type, or a neutral value."""

import math
import re
from typing import Any

from fastagent.wire.realtime_errors import classify_error
from fastagent.wire.realtime_events import ResponseStatus, Severity, Usage

__all__ = [
    "Event",
    "count_in",
    "id_in",
    "metadata_of",
    "number_in",
    "object_in",
    "role_of",
    "safe_name",
    "severity_of",
    "status_of",
    "text_of",
    "usage_of",
]

Event = dict[str, Any]
"""One decoded JSON object."""

ID_MAX_CHARS = 256
NAME_MAX_CHARS = 64
_COUNT_MAX = 2**31 - 1

_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_STATUSES = {status.value: status for status in ResponseStatus}


def object_in(source: Event, key: str) -> Event:
    """The object at ``key``, else an empty one."""
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def id_in(source: Event, key: str) -> str:
    """The id at ``key``, else an empty one; what is too long or would spoil a log line is no id."""
    value = source.get(key)
    return value if isinstance(value, str) and len(value) <= ID_MAX_CHARS and value.isprintable() else ""


def number_in(source: Event, key: str) -> float | None:
    """The finite number at ``key``, if there is one."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def count_in(source: Event, key: str) -> int:
    """The number at ``key`` as a whole one from 0 to 2**31 - 1; 0 when there is none."""
    return min(max(0, int(number_in(source, key) or 0)), _COUNT_MAX)


def safe_name(value: object) -> str:
    """A name fit for counters and logs, else ``unknown``."""
    name = value[:NAME_MAX_CHARS] if isinstance(value, str) else ""
    return name if _NAME.fullmatch(name) else "unknown"


def role_of(item: Event) -> str | None:
    """An item's role, if it has one."""
    role = item.get("role")
    return safe_name(role) if isinstance(role, str) else None


def text_of(item: Event) -> str:
    """An item's words: transcripts and texts of its parts."""
    # Audio parts have a transcript, text parts a text, under whichever content type the dialect gives them.
    content = item.get("content")
    pieces = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            for key in ("transcript", "text"):
                if isinstance(part.get(key), str):
                    pieces.append(part[key])
                    break
    return "".join(pieces)


def metadata_of(response: Event) -> dict[str, str]:
    """A response's metadata; only pairs of strings are any."""
    return {key: value for key, value in object_in(response, "metadata").items() if isinstance(value, str)}


def usage_of(usage: object) -> Usage | None:
    """The tokens of a response, if it tells them."""
    if not isinstance(usage, dict):
        return None
    into, out = object_in(usage, "input_token_details"), object_in(usage, "output_token_details")
    return Usage(
        # Totals without details are counted as text.
        input_text=count_in(into, "text_tokens") if into else count_in(usage, "input_tokens"),
        input_audio=count_in(into, "audio_tokens"),
        input_cached=count_in(into, "cached_tokens"),
        output_text=count_in(out, "text_tokens") if out else count_in(usage, "output_tokens"),
        output_audio=count_in(out, "audio_tokens"),
        cached_audio=count_in(object_in(into, "cached_tokens_details"), "audio_tokens"),
    )


def severity_of(error: Event) -> tuple[Severity, str]:
    """What an error means, and its code fit for counters."""
    code, kind, message = (error.get(key) for key in ("code", "type", "message"))
    if isinstance(code, int) and not isinstance(code, bool):
        code = str(code)
    severity, code = classify_error(
        code if isinstance(code, str) else "",
        kind if isinstance(kind, str) else "",
        message[:1024] if isinstance(message, str) else "",
    )
    return severity, safe_name(code) if code else ""


def status_of(response: Event) -> ResponseStatus:
    """How a response ended. One that names no status ended in the ordinary way; an unknown status did not."""
    status = response.get("status")
    if status is None:
        return ResponseStatus.COMPLETED
    known = _STATUSES.get(status) if isinstance(status, str) else None
    return known or ResponseStatus.INCOMPLETE
