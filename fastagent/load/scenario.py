"""What a caller does on a call: steps that are said, waited for, pressed or broken off.

A script is text, one step a line, as for ``fastagent call``, and two more words::

    book an appointment for monday     spoken once the bot has finished
    interrupt 1.5: opening hours       spoken 1.5 s after the bot begins to talk
    pause 2                            two seconds of silence
    dtmf 12#                           keys pressed
    drop                               the socket is lost, without a word
    hang up
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastagent.errors import ConfigurationError
from fastagent.testing.caller_script import CallerScript, HangUpStep, KeysStep, PauseStep, SayStep

__all__ = ["DropStep", "LoadStep", "Scenario"]

FIRST_PAUSE_S = (0.3, 1.3)
TURN_PAUSE_S = (0.1, 0.5)
INTERRUPT_AFTER_S = (0.5, 1.0)


@dataclass(frozen=True, slots=True)
class DropStep:
    """Lose the socket."""


LoadStep = SayStep | PauseStep | KeysStep | HangUpStep | DropStep


@dataclass(frozen=True, slots=True)
class Scenario:
    """How calls go. Without a script callers speak in turn with the bot until their time is over.

    Chances are from 0 to 1, for each turn.
    """

    script: tuple[LoadStep, ...] = ()
    barge_in: float = 0.0
    """The chance that the caller speaks while the bot does."""
    dtmf: float = 0.0
    drop: float = 0.0
    """The chance that the socket is lost."""
    hang_up: float = 0.0
    """The chance that the caller has had enough."""
    texts: tuple[str, ...] = ("",)
    """What is said in turn; empty texts are babble."""
    first_pause_s: tuple[float, float] = FIRST_PAUSE_S
    """Before a caller does anything: from, to."""

    def __post_init__(self) -> None:
        for name in ("barge_in", "dtmf", "drop", "hang_up"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name}: expected a chance from 0 to 1, got {getattr(self, name)}")

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """Read a script.

        Raises:
            ConfigurationError: a step that cannot be read; the message names its line.
        """
        lines = text.splitlines()
        steps: list[LoadStep] = []
        for number, line in enumerate(lines, 1):
            if line.strip() == "drop":
                steps.append(DropStep())
            elif line.strip() and not line.strip().startswith("#"):
                # Empty lines before it, so that the number in an error is right.
                steps += CallerScript.parse("\n" * (number - 1) + line).steps
        if not steps:
            raise ConfigurationError("the script holds no step")
        return cls(tuple(steps))

    def spoken(self) -> Sequence[str]:
        """Every text that is said, once."""
        texts = [step.text for step in self.script if isinstance(step, SayStep)] or list(self.texts)
        return list(dict.fromkeys(texts))

    def steps(self, chance: random.Random) -> Iterator[LoadStep]:
        """One caller's steps. A caller without a script never ends by itself unless chance says so."""
        yield PauseStep(chance.uniform(*self.first_pause_s))
        if self.script:
            yield from self.script
            return
        is_first = True
        while True:
            interrupts = not is_first and chance.random() < self.barge_in
            after_s = chance.uniform(*INTERRUPT_AFTER_S) if interrupts else None
            yield SayStep(chance.choice(self.texts), after_s)
            is_first = False
            if chance.random() < self.dtmf:
                yield KeysStep(chance.choice("0123456789*#"))
            if chance.random() < self.drop:
                yield DropStep()
            if chance.random() < self.hang_up:
                yield HangUpStep()
            yield PauseStep(chance.uniform(*TURN_PAUSE_S))
