"""Replay: a run again from its journal, without network, to the same states and effects or to where it parts.

Inputs, proposals and the outcomes of effects come from the journal, and timers run out when they did in it;
no effect is run and no model asked. Compared are moves, slots, words and effects, in order. What was redacted
cannot be said again, and what a state waits for may not be in the journal: a replay ends there as incomplete.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastagent.afsm.effects.record import Record, records_of
from fastagent.afsm.graph import Graph
from fastagent.afsm.orders import DigitsEnd, DigitsOutcome, Order, TransferEnd, TransferOutcome
from fastagent.afsm.run.clock import ManualClock
from fastagent.afsm.run.machine import Machine
from fastagent.afsm.run.proposal import Proposal, ProposalError, ProposalRequest
from fastagent.afsm.spec import Event
from fastagent.afsm.voice import VoicePolicy
from fastagent.context import ConversationContext
from fastagent.errors import EffectFailedError, EffectUnknownError
from fastagent.journal import Entry
from fastagent.journal.entry import canonical_json
from fastagent.journal.redaction import redaction_key_ids

__all__ = ["Divergence", "Replay", "replay", "runs_of"]

COMPARED = frozenset({"transition", "slot", "asked", "said"})
LEFT_OUT = frozenset({"run", "at_s"})
TURNS_MAX = 20_000
"""Of the loop, without an event or an end, until a run is stuck."""
STALL_S = 5.0
"""The same by the clock, for states that work in threads."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a replay parts from its journal."""

    seq: int
    """Of the entry; one behind the last when the replay did more than was recorded."""
    expected: str
    """A kind with what it says, in JSON; empty when nothing more was recorded."""
    got: str
    """The same; empty when nothing came."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found."""

    run: str
    status: Literal["same", "diverged", "incomplete"]
    compared: int
    """Entries that agreed."""
    states: tuple[str, ...]
    """Entered, in order."""
    version: Literal["same", "other", "unknown"]
    """Whether the graph is the one of the call."""
    divergence: Divergence | None = field(default=None, repr=False)
    reason: str = ""
    """Why it is incomplete."""


def runs_of(entries: Sequence[Entry]) -> list[str]:
    """The runs of a journal, in the order of their beginnings; one without a name if none are told apart."""
    runs = dict.fromkeys(str(entry.data["run"]) for entry in entries if "run" in entry.data)
    if runs:
        return list(runs)
    return [""] if any(entry.kind == "input" for entry in entries) else []


async def replay(
    entries: Sequence[Entry],
    graph: Graph,
    *,
    run: str = "",
) -> Replay:
    """Run one run of a journal again.

    Args:
        entries: the journal's, all of them.
        graph: of the run's task.
        run: its id; empty for a journal that does not tell runs apart.
    """
    return await _Replaying(entries, graph, run).go()


class _Replaying:
    def __init__(self, entries: Sequence[Entry], graph: Graph, run: str) -> None:
        mine = [entry for entry in entries if str(entry.data.get("run", "")) == run]
        self._run = run
        self._end = len(entries)
        self._feed = deque(entry for entry in mine if entry.kind in ("input", "heard", "timer"))
        self._expected = deque(entry for entry in mine if entry.kind in COMPARED)
        self._proposals = deque(
            entry
            for entry in mine
            if entry.kind == "proposal"
            or (
                entry.kind == "refused" and str(entry.data.get("reason", "")).startswith("no usable proposal")
            )
        )
        records = records_of(entries).values()
        self._effects = deque(record for record in records if run in ("", record.call_id))
        self._known: dict[tuple[str, bytes], Record] = {}
        self._opened = next((entry for entry in mine if entry.kind == "opened"), None)
        self._closed = next((entry for entry in mine if entry.kind == "closed"), None)
        self._compared = 0
        self._states: list[str] = []
        self._divergence: Divergence | None = None
        self._graph = graph
        self._clock = ManualClock()

    async def go(self) -> Replay:
        version: Literal["same", "other", "unknown"] = "unknown"
        context = ConversationContext()
        if self._opened is not None:
            begun = self._opened.data
            version = "same" if begun.get("graph_hash") == self._graph.content_hash else "other"
            if redaction_key_ids(begun):
                return self._report(version, "the run began with redacted values")
            context.update_user_profile(begun.get("profile", {}))
            for name, value in begun.get("facts", {}).items():
                context.add_salient_fact(name, value)
            context = context.task_view()
            context.slots.update(begun.get("slots", {}))
        if not self._feed or self._feed[0].kind != "input":
            return self._report(version, "no input was recorded")
        first = self._feed.popleft()
        if redaction_key_ids(first.data):
            return self._report(version, f"entry {first.seq} is redacted")
        machine = Machine(
            self._graph,
            context,
            _SilentControl(self._run),
            ask=lambda question: None,
            recorder=self,
            clock=self._clock,
            effects=self,
            reasoner=self if self._proposals else None,
        )
        running = asyncio.create_task(
            machine.run(first.data["text"], is_heard=first.data.get("is_heard", False))
        )
        try:
            reason = await self._walk(machine, running)
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running})
        if not reason and self._divergence is None:
            self._check_end(running)
        return self._report(version, reason)

    async def _walk(self, machine: Machine, running: "asyncio.Task[Any]") -> str:
        """Feed the machine; gives why it cannot go on, or nothing."""
        while True:
            if not await self._until(
                lambda: machine.is_idle or running.done() or self._divergence is not None
            ):
                return f"state {machine.state!r} waits for something that is not in the journal"
            if running.done() or self._divergence is not None or not self._feed:
                return ""
            entry = self._feed.popleft()
            if redaction_key_ids(entry.data.get("text")):
                return f"entry {entry.seq} is redacted"
            if entry.kind == "timer":
                due = self._clock.next_due()
                if due is None:
                    self._diverge(entry, "")
                    return ""
                self._clock.advance(max(0.0, due - self._clock.now()))
                # The machine must notice before it can be idle again.
                for _ in range(3):
                    await asyncio.sleep(0)
            elif entry.kind == "heard":
                machine.hear(entry.data["text"])
            elif entry.data["event"] == Event.INPUT.value:
                machine.post(entry.data["text"], is_contradicted=entry.data.get("is_contradicted", False))
            else:
                machine.signal(Event(entry.data["event"]), entry.data["text"])

    async def _until(self, is_so: Callable[[], bool]) -> bool:
        for _ in range(TURNS_MAX):
            if is_so():
                return True
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + STALL_S
        while loop.time() < give_up_at:
            if is_so():
                return True
            await asyncio.sleep(0.01)
        return False

    def _check_end(self, running: "asyncio.Task[Any]") -> None:
        if self._expected:
            self._diverge(self._expected[0], "")
        elif self._effects:
            record = self._effects[0]
            self._part(record.seq, _effect_text(record.name, record.arguments), "")
        elif self._feed:
            self._diverge(self._feed[0], "the run has ended")
        elif self._closed is not None and running.done() and not running.cancelled():
            outcome = running.result()
            got = {"status": outcome.status, "state": outcome.state}
            expected = {name: self._closed.data.get(name) for name in got}
            if got != expected:
                self._part(self._closed.seq, _text("closed", expected), _text("closed", got))

    def _report(self, version: Literal["same", "other", "unknown"], reason: str) -> Replay:
        status: Literal["same", "diverged", "incomplete"] = "same"
        if self._divergence is not None:
            status, reason = "diverged", ""
        elif reason:
            status = "incomplete"
        return Replay(
            self._run, status, self._compared, tuple(self._states), version, self._divergence, reason
        )

    # What the machine is given.

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Compare what the machine records with the journal."""
        if kind not in COMPARED or self._divergence is not None:
            return
        got = _text(kind, data)
        if not self._expected:
            self._part(self._end, "", got)
            return
        entry = self._expected[0]
        hidden = {name for name, value in entry.data.items() if redaction_key_ids(value)}
        if _text(entry.kind, entry.data, hidden) != _text(kind, data, hidden):
            self._diverge(entry, got)
            return
        self._expected.popleft()
        self._compared += 1
        if kind == "transition":
            self._states.append(str(data["to"]))

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        call_id: str | None = None,
    ) -> Any:
        """Give an effect's recorded outcome; nothing is run."""
        name = name or getattr(function, "__name__", "effect")
        same = name, canonical_json(arguments)
        record = self._known.get(same)
        if record is None:
            got = _effect_text(name, arguments)
            if not self._effects:
                self._part(self._end, "", got)
                raise EffectUnknownError("not in the journal")
            record = self._effects[0]
            hidden = {key for key, value in record.arguments.items() if redaction_key_ids(value)}
            expected = _effect_text(record.name, record.arguments, hidden)
            if expected != _effect_text(name, arguments, hidden):
                self._part(record.seq, expected, got)
                raise EffectUnknownError("not in the journal")
            self._effects.popleft()
            self._known[same] = record
            self._compared += 1
        if record.status in ("done", "undone"):  # undone later
            return record.result
        error = EffectUnknownError if record.status == "unknown" else EffectFailedError
        raise error(f"effect {name!r} was {record.status}")

    async def propose(self, request: ProposalRequest) -> Proposal:
        """Give the next recorded proposal."""
        if not self._proposals:
            raise ProposalError("not in the journal")
        entry = self._proposals.popleft()
        data = entry.data
        if entry.kind == "refused":
            raise ProposalError("refused then")
        if redaction_key_ids(data):
            raise ProposalError("redacted")
        return Proposal(data["next_state"], data["value"], data["text"], data["confidence"])

    def _diverge(self, entry: Entry, got: str) -> None:
        self._part(entry.seq, _text(entry.kind, entry.data), got)

    def _part(self, seq: int, expected: str, got: str) -> None:
        if self._divergence is None:
            self._divergence = Divergence(seq, expected, got)


def _text(kind: str, data: Mapping[str, Any], hidden: set[str] | frozenset[str] = frozenset()) -> str:
    kept = {name: value for name, value in data.items() if name not in LEFT_OUT and name not in hidden}
    return f"{kind} {canonical_json(kept).decode()}"


def _effect_text(
    name: str, arguments: Mapping[str, Any], hidden: set[str] | frozenset[str] = frozenset()
) -> str:
    return _text("effect_intent", {"name": name, "arguments": {**arguments, **dict.fromkeys(hidden)}})


class _SilentControl:
    """A call in which nothing happens."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.caller = ""

    def hang_up(self, reason: str) -> None: ...

    def transfer(
        self, target: str, reason: str, *, is_warm: bool = False, summary: str = ""
    ) -> Order[TransferOutcome]:
        # No record holds what became of it: states that are to be replayed go by the event, which is in it.
        return Order.settled(TransferOutcome(TransferEnd.CALL_OVER))

    def hand_over(self, to: str, reason: str) -> bool:
        return True

    def recall(self) -> bool:
        return False

    def send_digits(self, digits: str) -> Order[DigitsOutcome]:
        return Order.settled(DigitsOutcome(DigitsEnd.SENT))

    def hold(self, clip: str = "") -> None: ...

    def resume(self) -> None: ...

    def send_metadata(self, value: Mapping[str, Any]) -> None: ...

    def announce(self, text: str) -> None: ...

    def set_voice_policy(self, policy: VoicePolicy | None) -> None: ...

    def play_clip(self, name: str, *, loop: bool = False, interruptible: bool = True) -> None: ...

    def stop_clips(self) -> None: ...
