"""Finite state agents: a task as a graph of states, run as a coroutine beside the call."""

from fastagent.afsm.graph import Graph
from fastagent.afsm.run.machine import Limits, Machine, Outcome
from fastagent.afsm.slots import Digits, Slot
from fastagent.afsm.spec import EffectSpec, Event, SilenceStep, WatchSpec, WatchStep
from fastagent.afsm.state import AFSMState, CallControl, StateResult
from fastagent.afsm.voice import VoicePolicy

__all__ = [
    "AFSMState",
    "CallControl",
    "Digits",
    "EffectSpec",
    "Event",
    "Graph",
    "Limits",
    "Machine",
    "Outcome",
    "SilenceStep",
    "Slot",
    "StateResult",
    "VoicePolicy",
    "WatchSpec",
    "WatchStep",
]
