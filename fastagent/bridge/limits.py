"""How long the brain waits for others."""

from dataclasses import dataclass

__all__ = ["BridgeLimits"]


@dataclass(frozen=True, slots=True)
class BridgeLimits:
    """How long the brain waits for others."""

    hang_up_grace_s: float = 1.0
    """For the carrier's word that the last playback was heard, once the clock says it was."""
    leaving_limit_s: float = 20.0
    """For the goodbye to be spoken and heard; then we hang up anyway."""
    close_margin_s: float = 0.1
    """Beyond the clock's "heard", before a close that may cut: the clock is an estimate."""
    hang_up_timeout_s: float = 5.0
    """From our hang-up to the carrier's end of session."""
    transfer_timeout_s: float = 60.0
    """From our transfer to the carrier's word on it; then the talk goes on."""
    hold_limit_s: float = 600.0
    """On hold; then the talk goes on by itself."""
    resume_grace_s: float = 60.0
    """For a lost carrier socket to come back."""
    max_call_s: float = 3600.0
    model_session_limit_s: float = 3000.0
