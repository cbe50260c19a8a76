"""Whom callers may be handed on to."""

import pytest

from fastagent import FastAgent
from fastagent.afsm import WatchSpec, WatchStep
from fastagent.afsm.state import AFSMState
from fastagent.call.transfer_targets import TransferTargets
from fastagent.errors import ConfigurationError

ALLOW = ("+1555", "sip:desk@example.com", "@pbx.example.com")


@pytest.mark.parametrize(
    "target",
    [
        "tel:+15550123",
        "sip:desk@example.com",
        "sips:desk@EXAMPLE.com",
        "sip:desk@example.com:5061",
        "sip:anybody@pbx.example.com",
    ],
)
def test_what_is_on_the_list_is_allowed(target: str) -> None:
    assert TransferTargets(ALLOW).allows(target, ())


@pytest.mark.parametrize(
    "target",
    [
        "",
        "tel:+19005550123",
        "+15550123",
        "tel:+1555",
        "tel:+15550123;phone-context=example.net",
        "tel:+15550123,,99",
        "sip:other@example.com",
        "sip:desk@example.com.example.net",
        "sip:desk@example.net;maddr=example.com",
        "sip:x@example.net?Route=@pbx.example.com",
        "sip:desk@example.com@example.net",
        "sip:x@sub.pbx.example.com",
        "sip:pbx.example.com",
        "sip:x@pbx.example.com\r\nX: y",
        "http://pbx.example.com",
    ],
)
def test_what_only_looks_like_it_is_not(target: str) -> None:
    assert not TransferTargets(ALLOW).allows(target, ())
    assert not TransferTargets(()).allows(target, ("tel:+15550123",))


def test_an_agent_declares_what_stands_in_it() -> None:
    watch = WatchSpec("person", (WatchStep(do="transfer", target="tel:+15550102"),), words=("person",))
    agent = FastAgent(
        "bot",
        [AFSMState("end", "Bye.", ())],
        "end",
        supervisor=[watch],
        transfer_target="tel:+15550100",
        transfer_targets=["sip:desk@example.com;transport=tls"],
    )
    assert agent.declared_targets == {
        "tel:+15550100",
        "sip:desk@example.com;transport=tls",
        "tel:+15550102",
    }
    none = TransferTargets(())
    assert all(none.allows(one, agent.declared_targets) for one in agent.declared_targets)
    with pytest.raises(ConfigurationError, match="list of targets"):
        FastAgent("bot", transfer_targets="tel:+15550100")
