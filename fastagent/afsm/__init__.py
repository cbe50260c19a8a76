"""Finite state agents: a task as a graph of states, run as a coroutine beside the call."""

from fastagent.afsm.graph import Graph
from fastagent.afsm.orders import DigitsEnd, DigitsOutcome, Order, TransferEnd, TransferOutcome
from fastagent.afsm.run.machine import Limits, Machine, Outcome
from fastagent.afsm.slots import Digits, Slot
from fastagent.afsm.spec import EffectSpec, Event, SilenceStep, WatchSpec, WatchStep
from fastagent.afsm.state import AFSMState, CallControl, StateResult
from fastagent.afsm.voice import VoicePolicy

__all__ = [
    "AFSMState",
    "CallControl",
    "Digits",
    "DigitsEnd",
    "DigitsOutcome",
    "EffectSpec",
    "Event",
    "Graph",
    "Limits",
    "Machine",
    "Order",
    "Outcome",
    "SilenceStep",
    "Slot",
    "StateResult",
    "TransferEnd",
    "TransferOutcome",
    "VoicePolicy",
    "WatchSpec",
    "WatchStep",
]
