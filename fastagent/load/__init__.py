"""A load test of any server between telephone callers and a Realtime model; `fastagent load` is its command.

::

    exchange   the native engine on its thread: sockets, due times, marks in the audio
    pairing    whose audio a session of the model has: by the caller's sign in it
    caller     one call: line (a carrier's words) + scenario (what is said and done)
    model      the other end, in the same process: answers each turn with speech
    order      what a test is asked to do
    run        stages of a plan, one after the other ─▶ tally ─▶ report ─▶ page
"""

from fastagent.load.caller import Target
from fastagent.load.knee import KneeSearch
from fastagent.load.limits import Limit, parse_limit
from fastagent.load.model import ModelOptions
from fastagent.load.order import LoadTest
from fastagent.load.page import page
from fastagent.load.plan import Plan, Stage
from fastagent.load.report import Report
from fastagent.load.run import LoadRun
from fastagent.load.scenario import Scenario

__all__ = [
    "KneeSearch",
    "Limit",
    "LoadRun",
    "LoadTest",
    "ModelOptions",
    "Plan",
    "Report",
    "Scenario",
    "Stage",
    "Target",
    "page",
    "parse_limit",
]
