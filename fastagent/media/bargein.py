"""Is this speech during playout a barge-in? Two stages, sans-I/O.

::

    QUIET ──the gate hears the caller over the bot──▶ HELD ──they go on────▶ cut: the turn is theirs
      ▲                                                 └───they fall silent─▶ resume where it was held
      └────────────────────────────────────────────────────────────────────────┘

The first stage is native (`fastagent._native.tap`): it decides within some 100 ms, early enough to be polite
and too early to be sure. So the bot is only held. The second stage looks at how long the caller speaks:
"uh-huh" is over soon, an objection is not. Words come later than that; a resumed bot is still cut when the
transcript of what was taken for a backchannel turns out to say something, "stop" for instance.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

__all__ = [
    "BACKCHANNELS",
    "BargeIn",
    "BargeInPolicy",
    "CallerSpeech",
    "Decision",
    "repeats",
    "says_something",
]

BACKCHANNELS = frozenset(
    """
    ah aha alright exactly good great hm hmm huh mhm mm mmhm mm-hm nice oh ok okay oui ja right si sí so sure
    uh uh-huh um umm well yeah yep yes
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
"""Words that tell the speaker to go on. A text of these alone takes no turn."""
ECHO_SHARE = 0.7
CHECK_S = 0.02
"""While the bot is held, how often the caller's speech is looked at: once a frame."""
HOLD_LIMIT_S = 1.5
"""Longer than any verdict takes while the caller's audio comes; without it the bot goes on."""


class Decision(Enum):
    """What is to be done about the bot's speech."""

    NONE = "none"
    HOLD = "hold"
    CUT = "cut"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class BargeInPolicy:
    """What may stop the bot while it speaks."""

    mode: Literal["interruptible", "protected", "keyword"] = "interruptible"
    """``protected``: nothing does; ``keyword``: only one of the keywords, once it is transcribed."""
    keywords: tuple[str, ...] = ()
    backchannels: frozenset[str] = BACKCHANNELS
    interrupt_ms: int = 580
    """Speech of this length, pauses bridged, takes the turn: longer than four backchannels in five."""
    quiet_ms: int = 200
    """Silence of this length ends what the caller says."""


class CallerSpeech(Protocol):
    """What is heard of the caller while the bot is held."""

    def spoken_ms(self) -> int:
        """Length of what they say, from its first sound to the last one heard."""

    def quiet_ms(self) -> int:
        """Time since that last sound."""

    def rearm(self) -> None:
        """What they said was judged: hear them anew."""


class BargeIn:
    """Decides for one call. All times are monotonic seconds."""

    def __init__(
        self, speech: CallerSpeech, policy: BargeInPolicy | None = None, *, is_models: bool = False
    ) -> None:
        self.policy = policy or BargeInPolicy()
        self.is_models = is_models
        """The model's ears decide; ours only see to it that what is protected is not stopped."""
        self._speech = speech
        self._check_at: float | None = None
        self._held_until = 0.0

    @property
    def is_holding(self) -> bool:
        """The bot is held, and the caller's speech not judged yet."""
        return self._check_at is not None

    @property
    def is_caller_talking(self) -> bool:
        """Our ears hear the caller, and not the bot's echo."""
        return self._speech.spoken_ms() > 0 and self._speech.quiet_ms() < self.policy.quiet_ms

    def quiet_s(self) -> float:
        """Since the caller's last sound over the bot."""
        return self._speech.quiet_ms() / 1000

    def overlapped(self, now: float) -> Decision:
        """The caller is heard over the bot."""
        if self.policy.mode != "interruptible" or self.is_holding or self.is_models:
            return Decision.NONE
        self._check_at = now + CHECK_S
        self._held_until = now + HOLD_LIMIT_S
        return Decision.HOLD

    def advance(self, now: float) -> Decision:
        """Judge what is heard of a caller over whom the bot is held."""
        if self._check_at is None or now < self._check_at:
            return Decision.NONE
        if self.policy.mode == "interruptible" and self._speech.spoken_ms() >= self.policy.interrupt_ms:
            self._check_at = None
            return Decision.CUT
        is_over = self._speech.quiet_ms() >= self.policy.quiet_ms or now >= self._held_until
        if is_over or self.policy.mode != "interruptible":
            self._check_at = None
            self._speech.rearm()
            return Decision.RESUME
        self._check_at = now + CHECK_S
        return Decision.NONE

    def next_deadline(self) -> float | None:
        """When `advance` is due."""
        return self._check_at

    def said(self, text: str) -> Decision:
        """What the caller said over the bot, now that it is written down."""
        if self.policy.mode == "interruptible":
            return Decision.CUT if says_something(text, self.policy.backchannels) else Decision.NONE
        if self.policy.mode == "keyword" and self._names_keyword(text):
            return Decision.CUT
        return Decision.NONE

    def reset(self) -> None:
        """The bot is not held any more, for another reason than our own."""
        self._check_at = None

    def _names_keyword(self, text: str) -> bool:
        said = f" {' '.join(_words(text))} "
        return any(f" {' '.join(_words(keyword))} " in said for keyword in self.policy.keywords)


def says_something(text: str, backchannels: frozenset[str] = BACKCHANNELS) -> bool:
    """Whether any word of a text is more than a sign to go on."""
    return any(word not in backchannels and not _is_hum(word) for word in _words(text))


def repeats(text: str, other: str) -> bool:
    """Whether most words of a text occur in another: what a model hears of the bot's own echo."""
    words, others = _words(text), set(_words(other))
    return bool(words) and sum(word in others for word in words) >= ECHO_SHARE * len(words)


def _is_hum(word: str) -> bool:
    """Transcripts spell hums as they like: "mmmm", "hmm-hmm", "uhhuh"."""
    return len(word) <= 10 and set(word) <= set("uhma-") and any(letter in "hm" for letter in word)


def _words(text: str) -> list[str]:
    words = ("".join(one if one.isalnum() or one in "-'" else " " for one in text.casefold())).split()
    return [word.strip("-'") for word in words if word.strip("-'")]
