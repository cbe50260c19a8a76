"""The whole exception tree.

::

    FastAgentError
    ├── ConfigurationError            wrong settings; start-up only
    ├── WireError                     a peer said what we cannot accept (reason, field; never the payload)
    │   ├── MalformedMessageError     not parsable, or wrong types                 also ValueError
    │   ├── UnexpectedMessageError    legal, but not in this phase
    │   └── UnsupportedMediaError     no format both sides speak
    ├── AudioError
    │   ├── FormatMismatchError       audio does not fit its stage                 also ValueError
    │   ├── ClipNotFoundError         no such clip
    │   ├── ClipTooLargeError         a clip beyond a limit
    │   └── PlaybackRefusedError      the call cannot play now
    ├── LegError                      the socket's story (retryable)
    │   ├── LegConnectError           could not open, or was refused
    │   ├── LegClosedError            closed, with code and reason
    │   └── LegTimeoutError           the peer stayed silent                       also TimeoutError
    ├── SessionRefusedError           a FastAgent server began or resumed no session (code, details)
    ├── RealtimeError                 an error event from the model (code, event_id, retryable)
    ├── JournalError                  a conversation's record could not be kept or read (reason)
    │   └── JournalCorruptError       lines were changed, lost or swapped (seq)    also ValueError
    ├── SessionError                  what outlives a process cannot be kept or read (reason)
    │   ├── SessionNotFoundError      no such session, or no longer
    │   ├── SessionConflictError      another process owns the session
    │   └── StoreUnavailableError     the store does not answer, or cannot write (retryable)
    ├── TelephonyError                a carrier's management side (carrier, reason, retryable)
    │   ├── TelephonyRefusedError     it answered, and would not (status, code)
    │   └── TelephonyLimitError       our own limits: too many, or a number that may not be reached
    ├── SystemToolError               a tool that measures is not there, not allowed, or failed
    └── AgentError                    bad transition, failed tool, state time-out
        └── ToolError                 a tool says what went wrong, in words for the caller
        ├── EffectFailedError         nothing was done; effects raise it too
        └── EffectUnknownError        it may have been done

Errors carry plain values, never live objects. A caller's words, digits and numbers never enter a message.
"""

__all__ = [
    "AgentError",
    "AudioError",
    "ClipNotFoundError",
    "ClipTooLargeError",
    "ConfigurationError",
    "EffectFailedError",
    "EffectUnknownError",
    "FastAgentError",
    "FormatMismatchError",
    "JournalBusyError",
    "JournalCorruptError",
    "JournalError",
    "LegClosedError",
    "LegConnectError",
    "LegError",
    "LegTimeoutError",
    "MalformedMessageError",
    "PlaybackRefusedError",
    "RealtimeError",
    "SessionConflictError",
    "SessionError",
    "SessionNotFoundError",
    "SessionRefusedError",
    "StoreUnavailableError",
    "SystemToolError",
    "TelephonyError",
    "TelephonyLimitError",
    "TelephonyRefusedError",
    "ToolError",
    "UnexpectedMessageError",
    "UnsupportedMediaError",
    "WireError",
]


class FastAgentError(Exception):
    """The root: catching it catches everything this package raises on purpose."""


class ConfigurationError(FastAgentError):
    """Settings that cannot work; the message says which one and what would."""


class WireError(FastAgentError):
    """A peer said what we cannot accept."""

    def __init__(self, peer: str, reason: str, *, field: str | None = None) -> None:
        self.peer = peer
        self.reason = reason
        self.field = field
        super().__init__(f"{peer}: {reason}" + (f" (field {field!r})" if field else ""))


class MalformedMessageError(WireError, ValueError):
    """A message that is not parsable or whose fields have wrong types."""


class UnexpectedMessageError(WireError):
    """A legal message in a phase that does not allow it."""


class UnsupportedMediaError(WireError):
    """No media format that both sides speak."""


class AudioError(FastAgentError):
    """Audio that cannot be processed."""


class FormatMismatchError(AudioError, ValueError):
    """Audio that does not fit the stage it was given to."""


class ClipNotFoundError(AudioError):
    """No clip has this name."""


class ClipTooLargeError(AudioError):
    """A clip is larger or longer than its limits allow."""


class PlaybackRefusedError(AudioError):
    """The call cannot play a clip now; the message says why."""


class LegError(FastAgentError):
    """What happened to one side's WebSocket."""

    def __init__(self, leg: str, reason: str, *, retryable: bool) -> None:
        self.leg = leg
        self.reason = reason
        self.retryable = retryable
        super().__init__(f"{leg} leg: {reason}")


class LegConnectError(LegError):
    """The socket could not be opened, or the peer refused it (``status`` is its HTTP answer, if any)."""

    def __init__(self, leg: str, reason: str, *, retryable: bool, status: int | None = None) -> None:
        self.status = status
        super().__init__(leg, reason, retryable=retryable)


class LegClosedError(LegError):
    """The socket closed, with its close code (1006 when none came)."""

    def __init__(self, leg: str, reason: str, *, retryable: bool, code: int) -> None:
        self.code = code
        super().__init__(leg, reason, retryable=retryable)


class LegTimeoutError(LegError, TimeoutError):
    """The peer stayed silent for too long."""


class SessionRefusedError(FastAgentError):
    """A FastAgent server refused a session; ``code`` is one of its protocol's."""

    def __init__(self, code: str, reason: str, details: dict[str, object] | None = None) -> None:
        self.code = code
        self.reason = reason
        self.details = details or {}
        super().__init__(f"{code}: {reason}")


class RealtimeError(FastAgentError):
    """An ``error`` event from the model."""

    def __init__(
        self, code: str | None, reason: str, *, event_id: str | None = None, retryable: bool
    ) -> None:
        self.code = code
        self.reason = reason
        self.event_id = event_id
        self.retryable = retryable
        super().__init__(f"{code or 'error'}: {reason}")


class JournalError(FastAgentError):
    """A conversation's record cannot be kept or read; the call itself is not touched by that."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"journal: {reason}")


class JournalBusyError(JournalError):
    """Another writer has the journal, at this moment or for good."""

    def __init__(self) -> None:
        super().__init__("in use by another writer")


class JournalCorruptError(JournalError, ValueError):
    """Lines of a journal were changed, lost or swapped; ``seq`` is the first that does not fit."""

    def __init__(self, seq: int, reason: str) -> None:
        self.seq = seq
        super().__init__(f"entry {seq}: {reason}")


class SessionError(FastAgentError):
    """What outlives a process cannot be kept or read; a live call goes on without it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"session: {reason}")


class SessionNotFoundError(SessionError):
    """No such session, or no longer."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"{session_id} is not there")


class SessionConflictError(SessionError):
    """Another process owns the session; nothing was written."""

    def __init__(self, session_id: str, reason: str) -> None:
        self.session_id = session_id
        super().__init__(f"{session_id}: {reason}")


class StoreUnavailableError(SessionError):
    """The store does not answer, or cannot write; ``retryable`` says whether a later try may do."""

    def __init__(self, store: str, reason: str, *, retryable: bool = True) -> None:
        self.store = store
        self.retryable = retryable
        super().__init__(f"{store} store: {reason}")


class SystemToolError(FastAgentError):
    """A tool that measures is not there, not allowed, or failed; the text says which."""


class TelephonyError(FastAgentError):
    """A carrier's management side did not do what it was asked for; no number or text stands in it.

    ``retryable``: another try makes sense; ``may_be_done``: nobody knows whether it was done.
    """

    def __init__(
        self, carrier: str, reason: str, *, retryable: bool = False, may_be_done: bool = False
    ) -> None:
        self.carrier = carrier
        self.reason = reason
        self.retryable = retryable
        self.may_be_done = may_be_done
        super().__init__(f"{carrier}: {reason}")


class TelephonyRefusedError(TelephonyError):
    """The carrier answered with an error: its HTTP status, and its own code, 0 when it gave none."""

    def __init__(self, carrier: str, status: int, code: int = 0, *, retryable: bool = False) -> None:
        self.status = status
        self.code = code
        super().__init__(carrier, f"refused with {status}, code {code}", retryable=retryable)


class TelephonyLimitError(TelephonyError):
    """Not asked for at all: one of our own limits forbids it."""


class AgentError(FastAgentError):
    """A finite state agent did what its graph does not allow, or a tool of it failed."""


class EffectFailedError(AgentError):
    """An effect was not done. A function raises it to say so; any other error leaves the outcome unknown."""


class EffectUnknownError(AgentError):
    """Nobody can tell whether an effect was done, so it is not repeated and must not be claimed."""


class ToolError(AgentError):
    """Raised by an author's function: its message is for the caller and goes to the model, not to a log."""
