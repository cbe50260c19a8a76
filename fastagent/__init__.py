"""FastAgent answers phone lines with a voice model and does the work with finite state agents.

The public names are imported when they are asked for, so that ``import fastagent`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastagent.afsm.state import AFSMState
    from fastagent.agent import FastAgent
    from fastagent.context import ConversationContext

__all__ = ["AFSMState", "ConversationContext", "FastAgent", "__version__"]

__version__ = "0.1.0"

_HOME = {
    "AFSMState": "fastagent.afsm.state",
    "ConversationContext": "fastagent.context",
    "FastAgent": "fastagent.agent",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
