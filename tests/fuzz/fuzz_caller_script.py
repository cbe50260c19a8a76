"""A caller's script: any text is steps or the documented error."""

from fastagent.errors import ConfigurationError
from fastagent.testing.caller_script import CallerScript, KeysStep, PauseStep, SayStep


def check(data: bytes) -> None:
    """The bytes are the script's text."""
    try:
        script = CallerScript.parse(data.decode("utf-8", "replace"))
    except ConfigurationError:
        return
    assert script.steps
    for step in script.steps:
        match step:
            case PauseStep(duration_s=duration_s):
                assert 0 <= duration_s < float("inf")
            case KeysStep(digits=digits):
                assert digits
                assert set(digits) <= set("0123456789*#ABCD")
            case SayStep(text=text, interrupt_after_s=after_s):
                assert text
                assert after_s is None or 0 <= after_s < float("inf")
