"""The telephone network's management side: what is not a call.

Connectors point a carrier's numbers at this server and serve the agents; they are imported when asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastagent.telephony.audiocodes_connector import AudiocodesConnector
    from fastagent.telephony.twilio_connector import TwilioConnector

__all__ = ["AudiocodesConnector", "TwilioConnector"]

_HOME = {
    "AudiocodesConnector": "fastagent.telephony.audiocodes_connector",
    "TwilioConnector": "fastagent.telephony.twilio_connector",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
