"""How a scripted Twilio behaves, and what it writes down about the bot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

__all__ = ["Faults", "PlayedStretch", "TwilioOptions", "TwilioPhase", "TwilioRule", "TwilioViolation"]

TwilioRule = Literal[
    "binary_frame",
    "event_unknown",
    "field_extra",
    "field_missing",
    "mark_name_malformed",
    "message_before_start",
    "message_malformed",
    "payload_empty",
    "payload_not_base64",
    "payload_with_header",
    "stream_url_malformed",
    "twiml_malformed",
    "wrong_stream",
]
"""Every rule that is watched over. Twilio warns of those on the stream once (error 31951) and goes on."""


class TwilioPhase(Enum):
    """Where the stream stands."""

    IDLE = "idle"
    ACTIVE = "active"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Faults:
    """What may go wrong on the way to the bot. A number n means every n-th media message; 0 is never."""

    loses_every: int = 0
    """It is not sent; the numbers go on."""
    repeats_every: int = 0
    """It is sent twice."""
    swaps_every: int = 0
    """It is sent after its successor."""
    mark_delay_ms: int = 0
    """How much later than they are reached marks come back."""


@dataclass(frozen=True, slots=True)
class TwilioOptions:
    """How this Twilio behaves, and who calls."""

    caller: str = "+15550100001"
    callee: str = "+15550100002"
    account_sid: str = "AC00000000000000000000000000000001"
    fields: Mapping[str, str] = field(default_factory=dict)
    """Added to the webhook's form."""
    dial_status: str = "completed"
    """The ``DialCallStatus`` that a ``<Dial>`` ends with; ``canceled``: the caller gives up as it rings."""
    chunk_ms: int = 20
    comfort_noise_peak: int = 8
    """Largest sample of the noise between words, of 32767; 0 sends digital silence."""
    echo_db: float | None = None
    """How loud the bot comes back on the caller's audio, below 0; None for a line without echo."""
    echo_delay_ms: int = 120
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True, slots=True)
class TwilioViolation:
    """A rule the bot broke."""

    at_s: float
    rule: TwilioRule
    detail: str = ""
    """Names and sizes; never what was said."""


@dataclass(slots=True)
class PlayedStretch:
    """Audio of the bot without a pause, a mark or a ``clear`` in it. Times are those of the line's clock."""

    opened_at_s: float
    starts_at_s: float
    """When its first audio was, or will be, heard."""
    ends_at_s: float
    """When its last audio was, or will be, heard."""
    first_chunk_at_s: float | None = None
    last_chunk_at_s: float | None = None
    received_bytes: int = 0
    was_cut: bool = False
    cut_ms: float = 0.0
    """Audio that was received and never heard."""
    is_closed: bool = False
    """A mark or a ``clear`` came behind it."""
    is_done: bool = False
    """Heard to its end, or cut."""

    @property
    def received_ms(self) -> float:
        """Audio received, in milliseconds."""
        return self.received_bytes / 8

    def heard_ms(self, now: float) -> float:
        """Audio the caller has heard, in milliseconds."""
        return self.received_ms - self.cut_ms - self.unheard_s(now) * 1000

    def unheard_s(self, now: float) -> float:
        """Audio that waits to be heard."""
        return max(0.0, self.ends_at_s - max(now, self.starts_at_s))
