"""The public names, and that asking for them is what imports them."""

import subprocess
import sys

import pytest

import fastagent
import fastagent.afsm
import fastagent.agent
import fastagent.client
import fastagent.context
import fastagent.examples.appointment
import fastagent.load
import fastagent.sessions
import fastagent.telephony
import fastagent.tools


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (fastagent, {"AFSMState", "ConversationContext", "FastAgent", "__version__"}),
        (
            fastagent.afsm,
            {
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
            },
        ),
        (
            fastagent.load,
            {
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
            },
        ),
        (fastagent.agent, {"AgentSession", "FastAgent", "FunctionOutcome", "Task", "Transition"}),
        (
            fastagent.client,
            {
                "AgentClient",
                "AudioResponse",
                "CallerSpeech",
                "ClientEvent",
                "ErrorNotice",
                "Interruption",
                "Metadata",
                "SessionEnded",
                "SessionStarted",
                "StateTransition",
                "Transcript",
                "UnknownMessage",
            },
        ),
        (
            fastagent.context,
            {"DEFAULT_MAX_HISTORY", "MAX_FACTS", "MAX_UTTERANCE_CHARS", "ConversationContext", "Utterance"},
        ),
        (
            fastagent.tools,
            {
                "AgentSession",
                "Function",
                "FunctionOutcome",
                "McpPool",
                "McpServer",
                "OfferedTool",
                "Recorder",
                "Task",
                "ToolCall",
                "Transition",
                "tool",
            },
        ),
        (
            fastagent.sessions,
            {
                "CallerMemory",
                "KeeperLimits",
                "Lease",
                "MemoryStore",
                "SessionKeeper",
                "SessionPage",
                "SessionRecord",
                "SessionStore",
                "SqliteStore",
                "StoreHealth",
                "TranscriptLine",
                "make_store",
                "open_store",
            },
        ),
        (fastagent.telephony, {"AudiocodesConnector", "TwilioConnector"}),
        (fastagent.examples.appointment, {"Appointment", "Calendar", "agent", "appointment_agent"}),
    ],
)
def test_public_names_are_these_and_exist(module, names):
    assert set(module.__all__) == names
    for name in names:
        assert getattr(module, name) is not None
    assert names <= set(dir(module))


def test_package_names_are_the_classes_of_their_modules():
    assert fastagent.FastAgent is fastagent.agent.FastAgent
    assert fastagent.AFSMState is fastagent.afsm.AFSMState
    assert fastagent.ConversationContext is fastagent.context.ConversationContext
    assert fastagent.__version__ == "0.1.0"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = fastagent.NoSuchThing


def test_importing_the_package_imports_none_of_its_modules():
    code = "import sys, fastagent; print([name for name in sys.modules if name.startswith('fastagent.')])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
