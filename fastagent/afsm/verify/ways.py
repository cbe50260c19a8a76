"""Checks of the ways through a graph: states never reached, traps, ends, cycles, moves that code makes."""

from fastagent.afsm.run.limits import DEFAULT_ANSWER_TIMEOUT_S
from fastagent.afsm.spec import Event
from fastagent.afsm.state import AFSMState
from fastagent.afsm.verify.finding import Level
from fastagent.afsm.verify.subject import Subject

__all__ = ["check_ways"]


def check_ways(subject: Subject) -> None:
    """Add what is wrong with the ways."""
    _unreachable(subject)
    _constant_guards(subject)
    _traps(subject)
    _ends(subject)
    _undecided(subject)
    _endless(subject)
    _rounds(subject)
    _undeclared(subject)


def _unreachable(subject: Subject) -> None:
    for name in subject.specs:
        if name not in subject.reachable:
            subject.add(
                Level.ERROR,
                "unreachable_state",
                name,
                "no way leads here from the initial state",
                "declare a move to it, give a digression enter_when, or remove it",
            )


def _constant_guards(subject: Subject) -> None:
    for (name, position), holds in subject.constants.items():
        move = subject.graph.moves[name][position]
        subject.add(
            Level.WARNING if holds else Level.ERROR,
            "constant_guard",
            name,
            f"the guard of the move to {move.spec.target!r} {'always' if holds else 'never'} holds",
            "let it look at a slot, a fact or the input, or remove it",
            f"guards.{move.spec.target}",
        )


def _traps(subject: Subject) -> None:
    for name, spec in subject.specs.items():
        if spec.is_terminal or name in subject.ends:
            continue
        if all(target == name for target in subject.successors(name)):
            subject.add(
                Level.ERROR,
                "trap",
                name,
                "no way leads on, and it is no end, as its own moves come back to it",
                "declare a move that leads on, or none to make it an end",
                "allowed_transitions",
            )


def _ends(subject: Subject) -> None:
    toward: dict[str, list[str]] = {}
    for edge in subject.edges:
        toward.setdefault(edge.target, []).append(edge.origin)
    can_end = subject.closure(subject.ends, lambda name: toward.get(name, []))
    for name in subject.specs:
        is_trap = any(one.kind == "trap" and one.state == name for one in subject.findings)
        if name in subject.reachable and name not in can_end and not is_trap:
            subject.add(
                Level.ERROR,
                "no_path_to_end",
                name,
                "no end can be reached from here",
                "declare a move toward a state without moves, or a deadline_s without on_deadline",
                "allowed_transitions",
            )


def _undecided(subject: Subject) -> None:
    """Between two ways without guards the engine cannot choose; a state without code never moves."""
    for name, spec in subject.specs.items():
        kind = type(subject.state(name))
        if subject.code[name].has_process or subject.is_asked_of_model(name):
            continue
        if kind._determine_next_state is not AFSMState._determine_next_state:
            continue
        free = [move.spec.target for move in subject.answers(name) if not move.spec.guard]
        if not subject.is_engines(name):
            free = list(spec.targets()) if len(spec.targets()) > 1 else []
        if len(free) > 1:
            subject.add(
                Level.ERROR,
                "undecided_move",
                name,
                f"nothing decides between the moves to {_listed(free)}, so none of them is ever made",
                "guard all of them but one, or give the state an llm_config"
                if subject.is_engines(name)
                else "override process or _determine_next_state, or declare slots or an llm_config",
                "guards",
            )


def _automatic(subject: Subject) -> dict[str, list[str]]:
    """The moves that need no caller: timers, failures, and states that say nothing."""
    counted = any(
        watch.on is Event.SILENCE and any(step.next_state or step.do for step in watch.steps)
        for watch in subject.graph.spec.supervisor
    )
    found: dict[str, list[str]] = {name: [] for name in subject.specs}
    for edge in subject.declared:
        is_passed = not subject.asks(edge.origin) and not subject.specs[edge.origin].is_terminal
        is_answer = edge.is_answer and is_passed
        if (is_answer or edge.cause == Event.TOOL_FAILED) and not edge.guard:
            found[edge.origin].append(edge.target)
    for name, spec in subject.specs.items():
        free = {move.target for move in spec.transitions if not move.guard}
        timers = [] if counted else [(step.after_s, step.next_state) for step in spec.silence]
        if spec.deadline_s is not None:
            timers += [(spec.deadline_s, target) for target in spec.targets(Event.DEADLINE)] or [
                (spec.deadline_s, "-")
            ]
        due = sorted((at, target) for at, target in timers if target and at < DEFAULT_ANSWER_TIMEOUT_S)
        if due and due[0][1] in free:
            found[name].append(due[0][1])
    return found


def _endless(subject: Subject) -> None:
    for cycle in _cycles(_automatic(subject)):
        if any(name not in subject.reachable for name in cycle):
            continue
        is_silent = all(not subject.asks(name) for name in cycle)
        subject.add(
            Level.ERROR,
            "endless_cycle",
            cycle[0],
            f"{_round(cycle)} goes round with nobody there"
            + (", without a word" if is_silent else ": timers alone keep it going"),
            "lead one of its timers out of it, or guard a move by a counter kept in a slot or fact",
            "silence" if subject.specs[cycle[0]].silence else "on_deadline" if not is_silent else "",
        )


def _rounds(subject: Subject) -> None:
    """Rounds the caller may be led in for ever, where the engine decides and nothing counts."""
    moves: dict[str, list[str]] = {name: [] for name in subject.specs}
    for edge in subject.declared:
        counts = any(table in edge.guard for table in ("slots", "facts", "python:"))
        spec = subject.specs[edge.origin]
        is_bounded = spec.deadline_s is not None or bool(spec.slots) or bool(spec.effects)
        if edge.is_answer and subject.is_engines(edge.origin) and not counts and not is_bounded:
            moves[edge.origin].append(edge.target)
    for cycle in _cycles(moves):
        if all(name in subject.reachable and subject.asks(name) for name in cycle):
            subject.add(
                Level.HINT,
                "cycle_without_bound",
                cycle[0],
                f"{_round(cycle)} may be walked for ever: no counter and no deadline bounds it",
                "give one of its states a deadline_s, or guard a move by a counter in a slot or fact",
                "deadline_s",
            )


def _undeclared(subject: Subject) -> None:
    for name, spec in subject.specs.items():
        code = subject.code[name]
        for on_event, named in ((False, code.next_states), (True, code.event_states)):
            allowed = {
                move.target for move in spec.transitions if (move.on is not Event.INPUT) is on_event
            } | {name}
            for one in named:
                if one.state not in allowed:
                    known = "" if one.state in subject.specs else ", which is no state of this task"
                    subject.add(
                        Level.ERROR,
                        "undeclared_transition",
                        name,
                        f"its code moves to {one.state!r}{known}"
                        + ("" if known else ", which is not declared"),
                        f"add {one.state!r} to {'handles' if on_event else 'allowed_transitions'}, "
                        "or move elsewhere",
                        one.place,
                    )
        if code.is_complete and not spec.is_terminal and not subject.is_engines(name):
            returned = {one.state for one in code.next_states}
            for target in spec.targets():
                if target not in returned:
                    subject.add(
                        Level.WARNING,
                        "move_never_made",
                        name,
                        f"declares a move to {target!r}, which its code never makes",
                        "make the move, or remove it from allowed_transitions",
                    )


def _cycles(successors: dict[str, list[str]]) -> list[list[str]]:
    """One cycle of each strongly connected part, in the order it is walked."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in successors:
        if start in done:
            continue
        came = dict.fromkeys(successors[start], "")
        waiting = list(came)
        while waiting and start not in came:
            name = waiting.pop(0)
            for target in successors.get(name, []):
                if target not in came:
                    came[target] = name
                    waiting.append(target)
        if start in came:
            cycle = [start]
            name = came[start]
            while name:
                cycle.insert(1, name)
                name = came[name]
            if not done & set(cycle):
                found.append(cycle)
            done |= set(cycle)
    return found


def _round(cycle: list[str]) -> str:
    return " → ".join([*cycle, cycle[0]])


def _listed(names: list[str]) -> str:
    return " and ".join(repr(name) for name in names)
