"""The machine's rules once more, slowly and plainly: no tasks, no clock of the loop, one stimulus at a time.

A plan is data both sides are built from. A state's decisions come from `scripted`, a pure function of the
plan's seed, so machine and reference see the same ones.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

ANSWER_TIMEOUT = 300
MAX_STEPS = 50
MAX_DEPTH = 4


@dataclass
class StatePlan:
    name: str
    moves: dict[str, tuple[str, int] | None]
    """Target -> (">=" or "<", bound) that ``facts.level`` is held against, or no guard."""
    events: dict[str, str] = field(default_factory=dict)
    deadline: int | None = None
    on_deadline: str = ""
    silence: list[tuple[int, str, str]] = field(default_factory=list)
    """(after, say, next state)."""
    is_digression: bool = False
    enter_on: str = ""


@dataclass
class Plan:
    seed: int
    states: dict[str, StatePlan]
    initial: str

    @property
    def is_terminal(self) -> dict[str, bool]:
        return {
            name: not (
                state.moves or state.events or state.on_deadline or any(step[2] for step in state.silence)
            )
            for name, state in self.states.items()
        }


def make_plan(seed: int) -> Plan:
    random = Random(seed)
    names = [f"s{number}" for number in range(random.randint(3, 8))]
    states = {}
    for position, name in enumerate(names):
        targets = random.sample(names, random.randint(0 if position else 1, min(4, len(names))))
        moves = {
            target: (random.choice([">=", "<"]), random.randint(0, 30)) if random.random() < 0.3 else None
            for target in targets
            if target != name
        }
        state = states[name] = StatePlan(name, moves)
        if not moves:
            state.is_digression = random.random() < 0.6
        else:
            for event in random.sample(["dtmf", "hang_up", "transfer", "barge_in"], random.randint(0, 2)):
                state.events[event] = random.choice(names)
            if random.random() < 0.3:
                state.deadline, state.on_deadline = random.randint(5, 60), random.choice([*names, ""])
            at = 0
            for _ in range(random.randint(0, 3)):
                at += random.randint(3, 20)
                moves_on = random.random() < 0.3
                state.silence.append((at, "", random.choice(names)) if moves_on else (at, "Still there?", ""))
            state.is_digression = position > 0 and random.random() < 0.25
        if state.is_digression and random.random() < 0.7:
            state.enter_on = f"word{random.randint(0, 3)}"
    return Plan(seed, states, names[0])


def scripted(plan: Plan, state: str, count: int, text: str) -> tuple[str, str] | None:
    """What a state decides: (say, next state), or None for an exception."""
    random = Random(f"{plan.seed} {state} {count} {text}")
    what = random.random()
    targets = list(plan.states[state].moves)
    if plan.is_terminal[state]:
        return "Done.", state
    if what < 0.004:
        return None
    if what < 0.008:
        return "Hello.", "nowhere"
    if what < 0.012:
        return "Hello.", random.choice(list(plan.states))
    if what < 0.014:
        return "", state
    if not targets or what < 0.45:
        return f"Question {count}?", state
    return ("" if what < 0.7 else f"And {count}?"), random.choice(targets)


class Over(Exception):
    pass


class ReferenceMachine:
    """Walks a plan; `trace` holds moves, questions and the outcome."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trace: list[tuple[Any, ...]] = []
        self.refused = 0
        self.now = 0
        self.level = 0
        self.count = 0
        self.state = ""
        self.frames: list[tuple[str, str, int | None]] = []
        self.question = ""
        self.carried = ""
        self.is_hung_up = False
        self.is_over = False
        self.deadline_at: int | None = None
        self.asked_at = 0
        self.silent_steps = 0

    # Stimuli

    def start(self, text: str) -> None:
        self.enter(self.plan.initial, "start")
        self.go("input", text, "start", is_fresh=True)

    def stimulus(self, event: str, text: str) -> None:
        if not self.is_over:
            self.go(event, text, "answer", is_fresh=True)

    def next_due(self) -> int:
        dues = [self.asked_at + ANSWER_TIMEOUT]
        ladder = self.plan.states[self.state].silence
        if self.silent_steps < len(ladder):
            dues.append(self.asked_at + ladder[self.silent_steps][0])
        if self.deadline_at is not None:
            dues.append(self.deadline_at)
        return min(dues)

    def advance(self, until: int) -> None:
        while not self.is_over and self.next_due() <= until:
            self.now = max(self.now, self.next_due())
            if self.deadline_at is not None and self.deadline_at <= self.now:
                self.go("deadline", "", "answer")
            elif self.asked_at + ANSWER_TIMEOUT <= self.now:
                self.end("failed")
            else:
                _, say, target = self.plan.states[self.state].silence[self.silent_steps]
                self.silent_steps += 1
                if say:
                    self.trace.append(("ask", say))
                else:
                    self.go("silence", "", "answer", target=target)
        self.now = max(self.now, until)

    # Rules

    def go(self, event: str, text: str, reason: str, *, is_fresh: bool = False, target: str = "") -> None:
        try:
            self.walk(event, text, reason, is_fresh, target)
        except Over:
            pass

    def walk(self, event: str, text: str, reason: str, is_fresh: bool, target: str) -> None:
        steps = 0
        while True:
            steps += 1
            if steps > MAX_STEPS:
                self.end("failed")
            say = ""
            if event != "input":
                if event == "hang_up":
                    self.is_hung_up = True
                to = self.event_target(event, target)
                if to:
                    self.move(to, event)
                elif event in ("hang_up", "deadline"):
                    self.end("failed")
                elif event == "dtmf" and "dtmf" not in self.plan.states[self.state].events:
                    event, is_fresh = "input", False
                    steps -= 1
                    continue
                else:
                    return
            elif is_fresh and (into := self.digression(text)):
                self.move(into, "digression", is_push=True)
            else:
                decided = scripted(self.plan, self.state, self.count, text)
                self.count += 1
                self.level += 1
                if decided is None:
                    self.end("failed")
                say, to = decided  # type: ignore[misc]
                if self.plan.is_terminal[self.state]:
                    if to != self.state:
                        self.end("failed")
                    if not self.frames:
                        self.end("done", f"{self.carried} {say}".strip())
                    self.carried = f"{self.carried} {say}".strip()
                    say, text = self.go_back(), ""
                elif to != self.state:
                    if to not in self.plan.states[self.state].moves:
                        self.end("failed")
                    if not self.allows(to):
                        say = self.question or "I am sorry, I cannot do that."
                    else:
                        self.move(to, reason)
                elif not say:
                    self.end("failed")
            if say:
                if self.is_hung_up:
                    self.end("failed")
                self.question = say
                self.trace.append(("ask", f"{self.carried} {say}".strip()))
                self.carried = ""
                self.asked_at, self.silent_steps = self.now, 0
                if self.deadline_at is not None and self.deadline_at <= self.now:
                    event, text, reason, is_fresh, target, steps = "deadline", "", "answer", False, "", 0
                    continue
                return
            event, is_fresh, reason, target = "input", False, "continue", ""

    def event_target(self, event: str, target: str) -> str:
        state = self.plan.states[self.state]
        if event == "deadline":
            found = state.on_deadline
        elif event == "silence":
            found = target
        else:
            found = state.events.get(event, "")
        return found if found and self.allows(found) else ""

    def allows(self, to: str) -> bool:
        guard = self.plan.states[self.state].moves.get(to)
        holds = guard is None or (self.level >= guard[1] if guard[0] == ">=" else self.level < guard[1])
        self.refused += not holds
        return holds

    def digression(self, text: str) -> str:
        for name, state in self.plan.states.items():
            if state.enter_on and state.enter_on in text.split() and name != self.state:
                if any(frame[0] == name for frame in self.frames) or len(self.frames) >= MAX_DEPTH:
                    self.refused += 1
                else:
                    return name
        return ""

    def move(self, to: str, reason: str, *, is_push: bool = False) -> None:
        from_digression = self.plan.states[self.state].is_digression
        if self.plan.states[to].is_digression:
            if is_push or not from_digression:
                left = None if self.deadline_at is None else self.deadline_at - self.now
                left = left if left is not None and left > 0 else None
                self.frames.append((self.state, self.question, left))
        else:
            self.frames.clear()
        self.enter(to, reason)

    def go_back(self) -> str:
        name, question, left = self.frames.pop()
        self.enter(name, "return")
        if left is not None:
            self.deadline_at = self.now + left
        return question

    def enter(self, name: str, reason: str) -> None:
        self.trace.append(("move", self.state, name, reason))
        self.state = name
        self.question = ""
        deadline = self.plan.states[name].deadline
        self.deadline_at = None if deadline is None else self.now + deadline

    def end(self, status: str, say: str = "") -> None:
        self.is_over = True
        self.trace.append(("end", status, say))
        raise Over
