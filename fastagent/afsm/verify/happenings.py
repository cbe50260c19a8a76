"""Checks of events: what the graph promises an answer to, what never comes, and the watches beside it.

What promises an answer to an event, and so makes a state that has none a finding:

============  =====================================================================================
silence       another state that asks has a silence ladder
hang_up       another state handles it (what is half done is then put right there)
transfer      another state handles it
resume        another state handles it
barge_in      another state that can be interrupted handles it
no_match      another state the engine runs handles it
dtmf          a keypad grammar, or a slot that a key confirms, in this state
tool_failed   effects, in this state
============  =====================================================================================

A watch of the supervisor on the event, where watches are shown it, answers for all states. A task in which
nobody mentions an event keeps the machine's own answer: a hang-up and a long silence end it, keys are an
answer, a question is asked again.
"""

from fastagent.afsm.guards import parse_guard, words_in
from fastagent.afsm.spec import Confirmation, Event, StateSpec, WatchSpec
from fastagent.afsm.verify.finding import Level
from fastagent.afsm.verify.subject import Subject

__all__ = ["check_happenings"]

CONSISTENT = (Event.HANG_UP, Event.TRANSFER, Event.RESUME, Event.BARGE_IN, Event.NO_MATCH)
NEVER_WATCHED = (Event.DEADLINE, Event.NO_MATCH, Event.TOOL_FAILED)
"""Events the machine decides on without showing them to the watches."""

_MEANS = {
    Event.HANG_UP: "a hang-up ends the task here, though",
    Event.TRANSFER: "the wish for a person is passed over here, though",
    Event.RESUME: "after a lost line the question is merely asked again here, though",
    Event.BARGE_IN: "a barge-in changes nothing here, though",
    Event.NO_MATCH: "answers that are not understood end the task here, though",
}


def check_happenings(subject: Subject) -> None:
    """Add what is wrong with events and watches."""
    for name, spec in subject.specs.items():
        _deaf_hook(subject, name, spec)
        _never_comes(subject, name, spec)
        _keys(subject, name, spec)
        _tool_failed(subject, name, spec)
        _model(subject, name, spec)
    for event in CONSISTENT:
        _consistent(subject, event)
    _silence(subject)
    for position, watch in enumerate(subject.graph.spec.supervisor):
        _watch(subject, position, watch)


def _needs(subject: Subject, name: str, event: Event) -> bool:
    spec = subject.specs[name]
    if spec.is_terminal or not subject.asks(name) or name not in subject.reachable:
        return False
    if event is Event.BARGE_IN:
        return spec.voice is None or spec.voice.barge_in != "protected"
    return event is not Event.NO_MATCH or subject.is_engines(name)


def _consistent(subject: Subject, event: Event) -> None:
    handled = [name for name, spec in subject.specs.items() if event in spec.handles]
    if not handled or (event not in NEVER_WATCHED and subject.watches(event)):
        return
    for name, spec in subject.specs.items():
        if event not in spec.handles and _needs(subject, name, event):
            subject.add(
                Level.WARNING,
                f"unhandled_{event}",
                name,
                f"{_MEANS[event]} {handled[0]!r} handles it",
                f"add {event.value!r} to handles, or put a watch on it beside all states",
                "handles",
            )


def _silence(subject: Subject) -> None:
    ladders = [name for name, spec in subject.specs.items() if spec.silence]
    for name, spec in subject.specs.items():
        if ladders and not spec.silence and _needs(subject, name, Event.SILENCE):
            subject.add(
                Level.WARNING,
                "unhandled_silence",
                name,
                f"nothing is said when the caller is silent here, though {ladders[0]!r} has a silence ladder",
                "give it a silence ladder too",
                "silence",
            )


def _deaf_hook(subject: Subject, name: str, spec: StateSpec) -> None:
    moved = {move.on for move in spec.transitions}
    for event in spec.handles:
        if event not in moved and event is not Event.SILENCE and not subject.code[name].has_on_event:
            subject.add(
                Level.ERROR,
                "event_without_answer",
                name,
                f"says that it handles {event.value!r}, but names no state for it and has no on_event",
                "name a state in handles, or override on_event",
                f"handles.{event.value}",
            )


def _never_comes(subject: Subject, name: str, spec: StateSpec) -> None:
    never = ""
    if Event.SILENCE in spec.handles and not spec.silence:
        event, never = Event.SILENCE, "it has no silence ladder, whose steps lead on"
    elif Event.BARGE_IN in spec.handles and spec.voice is not None and spec.voice.barge_in == "protected":
        event, never = Event.BARGE_IN, "its voice policy protects what it says"
    if never:
        subject.add(
            Level.ERROR,
            "event_never_comes",
            name,
            f"handles {event.value!r}, which never comes here: {never}",
            "give it silence steps with next_state" if event is Event.SILENCE else "make it interruptible",
            f"handles.{event.value}",
        )


def _keys(subject: Subject, name: str, spec: StateSpec) -> None:
    keypad = [slot.name for slot in spec.slots if slot.confirmation is Confirmation.KEYPAD]
    if keypad and Event.DTMF in spec.handles:
        subject.add(
            Level.ERROR,
            "unhandled_dtmf",
            name,
            f"a key confirms the slot {keypad[0]!r}, but handles takes every key elsewhere first",
            "take dtmf out of handles, or confirm by read_back",
            "handles.dtmf",
        )
    has_grammar = spec.voice is not None and bool(spec.voice.dtmf_grammar)
    is_heard = subject.asks(name) or Event.DTMF in spec.handles
    if has_grammar and not is_heard:
        subject.add(
            Level.ERROR,
            "unhandled_dtmf",
            name,
            "has a keypad grammar, but waits for no answer, so the keys go to another state",
            "let it ask (a slot, or a guard that looks at the input), or move the grammar to where one asks",
            "voice_policy.dtmf_grammar",
        )


def _tool_failed(subject: Subject, name: str, spec: StateSpec) -> None:
    if Event.TOOL_FAILED in spec.handles:
        return
    if spec.kind == "json" and spec.effects:
        subject.add(
            Level.WARNING,
            "unhandled_tool_failed",
            name,
            f"when the effect {spec.effects[0].name!r} fails the task ends with an apology",
            "name a state in handles.tool_failed that tells the caller what was not done",
            "handles",
        )
    for place in subject.code[name].bare_effects:
        subject.add(
            Level.WARNING,
            "unhandled_tool_failed",
            name,
            "when the effect that is run here fails the task ends with an apology",
            "catch EffectFailedError and EffectUnknownError, or name a state in handles.tool_failed",
            place,
        )


def _model(subject: Subject, name: str, spec: StateSpec) -> None:
    if spec.llm_config_json and subject.is_engines(name) and subject.has_model is False:
        subject.add(
            Level.ERROR,
            "model_missing",
            name,
            "has an llm_config, but the agent has no model that could propose",
            "give the agent an llm_config with a model",
            "llm_config",
        )


def _watch(subject: Subject, position: int, watch: WatchSpec) -> None:
    at = f"supervisor[{position}]"
    never, mend = "", "mend or remove it"
    if watch.on in NEVER_WATCHED:
        never = f"watches are not shown the event {watch.on.value!r}"
    elif watch.words and watch.on is not Event.INPUT:
        never, mend = f"the event {watch.on.value!r} brings no words", "leave words out"
    elif watch.on is Event.SILENCE and not any(spec.silence for spec in subject.specs.values()):
        never, mend = "no state has a silence ladder, whose steps it counts", "give states a silence ladder"
    elif watch.when and not (guard := parse_guard(watch.when)).names:
        never = "" if guard.text.strip() != "false" else "its condition is never met"
    if never:
        subject.add(
            Level.ERROR, "watch_never_fires", "", f"watch {watch.name!r} never fires: {never}", mend, at
        )
    if any(not words_in(phrase) for phrase in watch.words):
        subject.add(
            Level.ERROR,
            "watch_always_fires",
            "",
            f"watch {watch.name!r} has a phrase without a word in it, so it fires on everything",
            "remove the phrase",
            f"{at}.words",
        )
    for number, step in enumerate(watch.steps[:-1]):
        if step.do == "hang_up":
            subject.add(
                Level.WARNING,
                "watch_step_never_taken",
                "",
                f"watch {watch.name!r} hangs up in step {number + 1}, so later ones are never taken",
                "let the last step hang up",
                f"{at}.steps[{number}]",
            )
            break
