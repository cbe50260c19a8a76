"""Finite state agents: a task as a graph of states, run as a coroutine beside the call."""

from fastagent.afsm.graph import Graph
from fastagent.afsm.machine import Limits, Machine, Outcome
from fastagent.afsm.state import AFSMState, CallControl, StateResult
from fastagent.afsm.voice import VoicePolicy

__all__ = ["AFSMState", "CallControl", "Graph", "Limits", "Machine", "Outcome", "StateResult", "VoicePolicy"]
