"""One call's life: its legs, its brain, its agent and its recording, from the offer to the summary."""

from fastagent.call.call import Call
from fastagent.call.observer import CallObserver, CallSummary
from fastagent.call.services import CallServices

__all__ = ["Call", "CallObserver", "CallServices", "CallSummary"]
