"""The numbers of a server's ``/metrics`` page, if it has one."""

import math
import urllib.error
import urllib.request

__all__ = ["read_metrics"]

TIMEOUT_S = 3.0
PAGE_BYTES_MAX = 1 << 20
SERIES_MAX = 400


def read_metrics(url: str) -> dict[str, float]:
    """Series without buckets, by name and labels; nothing when the server gives no such page."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            text = answer.read(PAGE_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, ValueError, urllib.error.URLError):
        return {}
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, number = line.rpartition(" ")
        if not name or line.startswith("#") or "_bucket{" in name or len(found) >= SERIES_MAX:
            continue
        try:
            value = float(number)
        except ValueError:
            continue
        if math.isfinite(value):
            found[name] = value
    return found
