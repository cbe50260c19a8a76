"""One call's life: its legs, its brain, its agent and its recording, from the offer to the summary."""

from fastagent.call.call import Call
from fastagent.call.gauge import CallGauge
from fastagent.call.observer import CallMeter, CallObserver, CallSummary, Stage
from fastagent.call.services import CallServices

__all__ = ["Call", "CallGauge", "CallMeter", "CallObserver", "CallServices", "CallSummary", "Stage"]
