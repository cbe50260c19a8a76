"""`fastagent verify` on several agents that hand callers to one another."""

from fastagent import AFSMState, FastAgent
from fastagent.afsm.verify import Level
from fastagent.cli.verify import check_house


def test_colleagues_are_looked_at_too():
    states = [AFSMState("ask", "Ask.", ("more",)), AFSMState("more", "Ask more.", ("ask",))]
    trapped = FastAgent("billing", states, "ask", task_name="refund")
    front = FastAgent("front", [AFSMState("end", "Bye.", ())], "end", colleagues=[trapped])
    assert {one.task for one in check_house(front) if one.level is Level.ERROR} == {"billing/refund"}
