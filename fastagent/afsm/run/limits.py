"""What bounds a run of a machine."""

from dataclasses import dataclass

__all__ = [
    "DEFAULT_ANSWER_TIMEOUT_S",
    "DEFAULT_MAILBOX_SIZE",
    "DEFAULT_MAX_ATTEMPTS",
    "DEFAULT_MAX_DEPTH",
    "DEFAULT_MAX_STEPS_PER_TURN",
    "DEFAULT_TIMEOUT_S",
    "Limits",
]

DEFAULT_MAILBOX_SIZE = 16
DEFAULT_MAX_STEPS_PER_TURN = 50
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_ANSWER_TIMEOUT_S = 300.0
DEFAULT_MAX_DEPTH = 4
DEFAULT_MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a run."""

    mailbox_size: int = DEFAULT_MAILBOX_SIZE
    """Answers and events waiting to be read; one more is refused."""
    max_steps_per_turn: int = DEFAULT_MAX_STEPS_PER_TURN
    """Calls of ``process`` between two answers."""
    state_timeout_s: float = DEFAULT_TIMEOUT_S
    """For one call of ``process``."""
    answer_timeout_s: float = DEFAULT_ANSWER_TIMEOUT_S
    """How long a question may stay open."""
    max_depth: int = DEFAULT_MAX_DEPTH
    """Digressions within digressions."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    """Answers in a row that a state run by the engine may fail to understand."""
    requires_heard_yes: bool = True
    """A value that is read back is not confirmed by a "yes" the caller was heard not to say (module `heard`).
    English words are listened for: turn it off where callers speak another language."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not False and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
