"""What to say and what to call: fixed rules in place of a language model.

The first rule that applies decides::

    1. the response's own instructions dictate a sentence         -> say it
    2. a function's output or a task's report came last           -> say what it tells to say
    3. nothing was said yet                                       -> greet
    4. a task waits for an answer:  "never mind"                  -> task_cancel
                                    "a person, please"            -> transfer_call
                                    a question a labelled line of the instructions answers
                                                                  -> answer it
                                    anything else                 -> task_reply, in the caller's words
    5. "goodbye"                                                  -> end_call
    6. a question a labelled line of the instructions answers     -> answer it
    7. words that fit a function                                  -> call it, arguments from the words
    8. a question any sentence of the instructions answers        -> answer it
    9. anything else                                              -> "Sorry, ...", the last question again

A task waits while the newest report on it, the JSON of a function output or of a system message, is
``{"status": "needs_input", "task": name, "say": question}``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import orjson

from fastagent.local.slots import fill
from fastagent.local.words import normalise

__all__ = ["Action", "Call", "Entry", "Mind", "Say", "Situation"]

GREETING = "Hello, how can I help you?"
NOT_UNDERSTOOD = "Sorry, I did not catch that."
ASK_AGAIN = "How can I help you?"
FAREWELL = "Thank you for calling. Goodbye."
WELCOME = "You are welcome. Is there anything else?"
DONE = "That is done."
FAILED = "Sorry, that did not work."
WORKING = "One moment, please."
NO_PERSON = "Sorry, nobody is available right now."
STILL_THERE = "Are you still there?"

TASK_REPLY = "task_reply"
TASK_CANCEL = "task_cancel"
END_CALL = "end_call"
TRANSFER_CALL = "transfer_call"
SPEECH_LIMIT = 1_000
"""Characters said of an output that does not tell what to say."""


@dataclass(frozen=True, slots=True)
class Say:
    """Speak a text."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function; ``arguments`` is JSON text."""

    name: str
    arguments: str = field(repr=False)


Action = Say | Call


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of the conversation, reduced to words."""

    kind: Literal["user", "assistant", "system", "call", "output"]
    text: str = field(default="", repr=False)
    """What was said or written; a call's arguments; an output's content."""
    name: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a decision depends on."""

    instructions: str = field(default="", repr=False)
    response_instructions: str | None = field(default=None, repr=False)
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = "auto"
    entries: Sequence[Entry] = field(default=(), repr=False)
    last_said: str = field(default="", repr=False)
    """What was last spoken, even if the client truncated it since."""


_DICTATION = re.compile(
    r"\s*(?:say|repeat|greet|tell|ask)\b[^:\"]{0,80}:\s*(?P<quote>[\"“]?)(?P<text>.+?)[\"”]?\s*$", re.I | re.S
)
_GREETING_LINE = re.compile(r"^\s*greeting:\s*(?P<text>.+?)\s*$", re.I | re.M)
_LABELLED = re.compile(r"^\s*(?P<label>[A-Z][\w /-]{1,40}):\s*(?P<text>.+?)\s*$")
_CLAUSE = re.compile(r"\b(?:is|are|was|we|you|it|there|can|have|has|opens?|costs?)\b", re.I)

_WORDS_WITHOUT_MEANING = """
    a an and any are as at be by can could do does for from give go had has have hello hi how i if in is it
    just know like me much my need of okay on one or our please so some tell that the their there they this
    to us want was we what when which will with would yes no you your start ask caller user client person's
    call function s m d ll re ve
"""
_STOP_WORDS = frozenset(_WORDS_WITHOUT_MEANING.split())
_CONCEPTS = {
    "opening": ("open", "opens", "opened", "opening", "close", "closes", "closed", "hours", "hour"),
    "location": ("where", "located", "location", "address", "find", "directions", "street"),
    "price": ("cost", "costs", "price", "prices", "fee", "fees", "charge", "charges", "expensive", "pay"),
    "appointment": ("appointment", "appointments", "booking", "bookings", "reservation", "visit"),
    "book": ("book", "books", "schedule", "arrange", "reserve", "make"),
    "person": ("person", "human", "someone", "somebody", "operator", "representative", "agent", "people"),
    "cancel": ("cancel", "cancels", "delete", "remove"),
    "change": ("change", "reschedule", "move", "modify"),
    "parking": ("parking", "park"),
    "transfer": ("transfer", "hand", "connect", "forward"),
}
_CONCEPT_OF = {word: concept for concept, words in _CONCEPTS.items() for word in words}
_OPPOSED = {"cancel", "change"}
"""What a caller wants undone is not started by a function that says nothing of undoing."""
_QUESTION_WORDS = {"what", "where", "when", "who", "how", "which", "why", "whose"}
_QUESTION_OPENINGS = re.compile(r"^(?:do|does|is|are|can i|can we|will|may i)\b")
_NEVER_MIND = re.compile(
    r"^(?:please )?(?:cancel|cancel that|cancel it|stop|forget it|never mind)(?: please)?$"
)
_GOODBYE = re.compile(
    r"\b(?:goodbye|good bye|bye|that is all|that's all|that will be all|nothing else)\b"
    r"|^no (?:thank you|thanks)$"
)
_THANKS = re.compile(r"^(?:thank you|thanks|thank you very much)$")
_REPEAT = re.compile(r"\b(?:repeat|say that again|pardon|what did you say)\b")
_HELP = re.compile(r"\b(?:help|what can you do)\b")


class Mind:
    """Decides by the rules above; the same situation always gives the same actions.

    Args:
        today: the day that "tomorrow" counts from, for parameters that ask for a date in ISO 8601.
    """

    def __init__(self, today: Callable[[], date] = date.today) -> None:
        self._today = today

    def decide(self, situation: Situation) -> tuple[Action, ...]:
        """What to do now; empty to stay silent."""
        forced = self._forced(situation)
        if forced is not None:
            return (forced,)
        dictated = _DICTATION.match(situation.response_instructions or "")
        if dictated:
            return (Say(dictated["text"].strip()),)
        fresh = _fresh(situation.entries)
        reports = [entry for entry in fresh if _is_report(entry)]
        last = fresh[-1] if fresh else None
        user_text = last.text.strip() if last is not None and last.kind == "user" else ""
        if reports and not user_text:
            return _tell(reports, situation.entries)
        if last is None or last.kind == "system":
            return (Say(self._opening(situation)),)
        if not user_text:
            return (Say(_again(situation)),)
        return self._answer(user_text, situation)

    def _opening(self, situation: Situation) -> str:
        if any(entry.kind in ("assistant", "user") for entry in situation.entries):
            return f"{STILL_THERE} {_question(situation)}"
        line = _GREETING_LINE.search(situation.instructions)
        return line["text"].strip('"“”') if line else GREETING

    def _answer(self, text: str, situation: Situation) -> tuple[Action, ...]:
        said = normalise(text)
        tools = {} if situation.tool_choice == "none" else {tool["name"]: tool for tool in situation.tools}
        words = _keywords(said)
        is_question = _is_question(said)
        answer = _fact(said, words, situation.instructions, is_labelled=True) if is_question else None
        task = waiting_task(situation.entries)
        if task is not None:
            if TASK_CANCEL in tools and _NEVER_MIND.match(said):
                return (_call(TASK_CANCEL, {"task": task}),)
            if TRANSFER_CALL in tools and "person" in words:
                return (_call(TRANSFER_CALL, {}),)
            if answer is not None:
                return (Say(answer),)
            if TASK_REPLY in tools:
                return (_call(TASK_REPLY, {"task": task, "answer": text}),)
        elif _GOODBYE.search(said):
            return (_call(END_CALL, {}),) if END_CALL in tools else (Say(FAREWELL),)
        if answer is not None:
            return (Say(answer),)
        tool = _best_tool(
            words, [tool for name, tool in tools.items() if name not in (TASK_REPLY, TASK_CANCEL)]
        )
        if tool is not None:
            return (_call(tool["name"], fill(tool.get("parameters") or {}, text, self._today())),)
        if is_question and (answer := _fact(said, words, situation.instructions)) is not None:
            return (Say(answer),)
        return (Say(_small_talk(said, words, situation)),)

    def _forced(self, situation: Situation) -> Call | None:
        """The call that ``tool_choice`` insists on."""
        choice = situation.tool_choice
        tools = [tool for tool in situation.tools if tool["name"] not in (TASK_REPLY, TASK_CANCEL)]
        text = next((entry.text for entry in reversed(situation.entries) if entry.kind == "user"), "")
        if isinstance(choice, Mapping) and choice.get("type") == "function":
            tool = next((tool for tool in situation.tools if tool["name"] == choice["name"]), None)
        elif choice == "required" and tools:
            tool = _best_tool(_keywords(normalise(text)), tools) or tools[0]
        else:
            return None
        if tool is None:
            return None
        return _call(tool["name"], fill(tool.get("parameters") or {}, text, self._today()))


def waiting_task(entries: Sequence[Entry]) -> str | None:
    """The task that asked last and has no answer yet."""
    status: dict[str, str] = {}
    for entry in entries:
        report = _report(entry)
        task = report.get("task")
        if isinstance(task, str) and isinstance(report.get("status"), str) and report["status"] != "heard":
            status.pop(task, None)
            status[task] = report["status"]
    waiting = [task for task, state in status.items() if state == "needs_input"]
    return waiting[-1] if waiting else None


def _fresh(entries: Sequence[Entry]) -> list[Entry]:
    """What came after our last word or call."""
    fresh: list[Entry] = []
    for entry in reversed(entries):
        if entry.kind in ("assistant", "call"):
            break
        fresh.append(entry)
    return fresh[::-1]


def _report(entry: Entry) -> dict[str, Any]:
    """The JSON object that an output or a system message holds; empty if none."""
    if entry.kind not in ("output", "system"):
        return {}
    start, end = entry.text.find("{"), entry.text.rfind("}")
    if entry.kind == "output" and entry.text.strip()[:1] != "{":
        return {}
    try:
        report = orjson.loads(entry.text[start : end + 1])
    except orjson.JSONDecodeError:
        return {}
    return report if isinstance(report, dict) else {}


def _is_report(entry: Entry) -> bool:
    return entry.kind == "output" or "say" in _report(entry)


def _tell(reports: Sequence[Entry], entries: Sequence[Entry]) -> tuple[Action, ...]:
    names = {entry.call_id: entry.name for entry in entries if entry.kind == "call"}
    texts = [_words_of_report(entry, names.get(entry.call_id, "")) for entry in reports]
    text = " ".join(text for text in texts if text)
    return (Say(text),) if text else ()


def _words_of_report(entry: Entry, function: str) -> str:
    report = _report(entry)
    for key in ("say", "response", "message", "text", "answer"):
        if isinstance(report.get(key), str):
            return str(report[key])
    if report.get("error"):
        return FAILED
    if report.get("status") == "working":
        return WORKING
    if function in (END_CALL, TRANSFER_CALL):
        return ""
    if report:
        spoken = ", ".join(_spoken_fields(report))
        return f"{spoken}."[:SPEECH_LIMIT] if spoken else DONE
    plain = entry.text.strip().strip('"')
    return plain[:SPEECH_LIMIT] if re.search(r"[A-Za-z0-9]", plain) and plain not in ("null", "{}") else DONE


def _spoken_fields(report: Mapping[str, Any]) -> Iterator[str]:
    for key, value in report.items():
        if key in ("status", "task", "id"):
            continue
        values = value if isinstance(value, list) else [value]
        said = " and ".join(
            str(one) for one in values if isinstance(one, str | int | float) and one is not True
        )
        if said:
            yield f"{key.replace('_', ' ')}: {said}"


def _keywords(text: str) -> set[str]:
    """The words that carry meaning, synonyms as one; ``text`` is normalised."""
    words = set()
    for word in text.split():
        if word in _CONCEPT_OF:
            words.add(_CONCEPT_OF[word])
        elif word not in _STOP_WORDS:
            words.add(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return words


def _is_question(said: str) -> bool:
    return bool(set(said.split()[:3]) & _QUESTION_WORDS) or bool(_QUESTION_OPENINGS.match(said))


def _facts(instructions: str) -> Iterator[tuple[str, str, bool]]:
    """What the instructions tell: words to match, sentence to say, whether the line has a label.

    A labelled line ("Opening hours: ...") is one fact; its label is not read out when a sentence follows.
    """
    for line in instructions.splitlines():
        if _GREETING_LINE.match(line):
            continue
        labelled = _LABELLED.match(line)
        if labelled:
            said = labelled["text"] if _CLAUSE.search(labelled["text"]) else line.strip()
            # The label says what the line is about: it counts twice as a title does.
            yield f"{labelled['label']} {line}", said, True
            continue
        for sentence in re.split(r"(?<=[.!?])\s+", line):
            if sentence.strip():
                yield sentence, sentence.strip(), False


def _fact(said: str, words: set[str], instructions: str, *, is_labelled: bool = False) -> str | None:
    """The fact that shares most keywords with a question; None when none shares any."""
    best, best_score = None, 0.0
    for about, sentence, has_label in _facts(instructions):
        if is_labelled and not has_label:
            continue
        keywords = _keywords(normalise(about))
        shared = len(words & keywords)
        # Among equals the sentence that is about little else.
        score = shared + (1.0 / (1 + len(keywords)) if shared else 0.0)
        if score > best_score and 2 * shared >= len(words):
            best, best_score = sentence, score
    return best


def _best_tool(words: set[str], tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The function that fits the words best: a word of its description counts once; one of its name, or of
    what a parameter lists, twice."""
    best, best_score = None, 1
    for tool in tools:
        name = _keywords(normalise(str(tool["name"]).replace("_", " ").replace("-", " ")))
        name |= _listed_words(tool)
        about = name | _keywords(normalise(str(tool.get("description") or "")))
        if (words & _OPPOSED) - about:
            continue
        score = len(words & name) + len(words & about)
        if tool["name"] == TRANSFER_CALL and "person" in words:
            score += 2
        if score > best_score:
            best, best_score = tool, score
    return best


def _listed_words(tool: Mapping[str, Any]) -> set[str]:
    """Keywords of the values that a function's parameters enumerate."""
    properties = (tool.get("parameters") or {}).get("properties")
    listed = [
        value
        for parameter in (properties.values() if isinstance(properties, Mapping) else ())
        if isinstance(parameter, Mapping) and isinstance(parameter.get("enum"), list)
        for value in parameter["enum"]
    ]
    return _keywords(normalise(" ".join(str(value).replace("_", " ") for value in listed)))


def _call(name: str, arguments: Mapping[str, Any]) -> Call:
    return Call(name, orjson.dumps(arguments).decode())


def _small_talk(said: str, words: set[str], situation: Situation) -> str:
    if _REPEAT.search(said) and situation.last_said:
        return situation.last_said
    if _THANKS.match(said):
        return WELCOME
    if "person" in words:
        return f"{NO_PERSON} {_question(situation)}"
    if said in ("hello", "hi", "good morning", "good afternoon"):
        return GREETING
    if said in ("yes", "yes please", "yeah"):
        return "What can I do for you?"
    if _HELP.search(said):
        return _offer(situation)
    return _again(situation)


def _offer(situation: Situation) -> str:
    special = {TASK_REPLY, TASK_CANCEL, END_CALL, TRANSFER_CALL}
    names = [str(tool["name"]).replace("_", " ") for tool in situation.tools if tool["name"] not in special]
    return f"Of course. I can {' or '.join(names)}." if names else f"Of course. {ASK_AGAIN}"


def _again(situation: Situation) -> str:
    return f"{NOT_UNDERSTOOD} {_question(situation)}"


def _question(situation: Situation) -> str:
    """The question still open: the waiting task's, else the last one asked."""
    task = waiting_task(situation.entries)
    for entry in reversed(situation.entries):
        report = _report(entry)
        if task is not None and report.get("task") == task and isinstance(report.get("say"), str):
            return _last_question(report["say"]) or str(report["say"])
    return _last_question(situation.last_said) or ASK_AGAIN


def _last_question(text: str) -> str | None:
    questions = re.findall(r"[^.!?]+\?", text)
    return questions[-1].strip() if questions else None
