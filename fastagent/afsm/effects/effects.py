"""Effects: what a conversation does to the world, each thing once.

::

               ┌────────────────────────── the same key: the recorded outcome ─────────────────────┐
    run ──▶ intent, committed ──▶ the function runs ──▶ outcome, committed ──▶ done ──undo_all──▶ undone
               │                        │                      └─ EffectFailedError ──▶ failed
               └ no disk: failed,       └─ crash, deadline, other error ──▶ unknown
                 nothing is done             ├─ idempotent: run again with the same key
                                             ├─ check: done, or not done (then it may run)
                                             └─ neither: stays unknown, and is never repeated

The function runs in a task of its own, so that whoever waits may be cancelled (a barge-in, a hang-up, a
hand-over) without cutting it short; `settle` waits for what still runs. One object serves all tasks and
agents of a conversation, and one made from an earlier process's journal goes on where that one stopped.
"""

import asyncio
import hashlib
import logging
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, Literal

import orjson

from fastagent.afsm.effects.call import accepted, begin, offered
from fastagent.afsm.effects.claims import claims_any
from fastagent.afsm.effects.record import EffectOutcome, Record, Status, UndoOutcome, records_of
from fastagent.afsm.effects.rules import CALL_ID, KEY_ARGUMENT, BoundEffect, bind
from fastagent.errors import EffectFailedError, EffectUnknownError, JournalError
from fastagent.journal import Journal
from fastagent.journal.entry import canonical_json
from fastagent.journal.redaction import redaction_key_ids

__all__ = ["EffectOutcome", "Effects", "Status", "TaskEffects", "UndoOutcome"]

MAX_EFFECTS = 10_000
"""Of one conversation."""
MAX_RUNNING = 64
"""At once, of one conversation."""
ARGUMENTS_BYTES_MAX = 16 * 1024
CANCEL_GRACE_S = 1.0
"""How long a function may take to end once it was cancelled at its deadline."""
NOT_DURABLE, NOT_DONE = "not_durable", "not_done"
MAY_RUN_AGAIN = (NOT_DURABLE, NOT_DONE)
"""Failures that were not the function's word: the same key may be tried again."""

_log = logging.getLogger(__name__)
_owners: "weakref.WeakValueDictionary[int, Effects]" = weakref.WeakValueDictionary()


class Effects:
    """All effects of one conversation.

    Making one reads the whole journal: for a long one do it in a thread.

    Args:
        journal: of the conversation; what an earlier process left in it is taken up.
        session_id: part of every key.
        functions: effects that may have to be checked, undone or watched for claims before they are run
            here; `effects_of` finds those of a graph.
        recorded: outcomes by key, for a replay: no function is run, and what is not there stays unknown.

    Raises:
        ValueError: another object serves this journal.
        ConfigurationError: see `bind`.
        JournalCorruptError: see `Journal.entries`.
    """

    def __init__(
        self,
        journal: Journal,
        session_id: str,
        *,
        functions: Iterable[Callable[..., Any] | BoundEffect] = (),
        recorded: Mapping[str, EffectOutcome] | None = None,
    ) -> None:
        self.session_id = session_id
        self._journal = journal
        self._recorded = recorded
        self._bound: dict[str, BoundEffect] = {}
        self._records = records_of(journal.entries())
        self._busy: dict[str, Record] = {}
        """A task, or a thread behind its deadline, works on these."""
        # Arguments that another key redacted cannot be recognised, so these effects could repeat.
        self._strange = {
            record.name
            for record in self._records.values()
            if redaction_key_ids(record.arguments) - {journal.redaction_key_id}
        }
        self._undoing: asyncio.Task[list[UndoOutcome]] | None = None
        self._undoing_of: str | None = None
        if _owners.get(id(journal)) is not None:
            raise ValueError("one Effects object serves a journal: share it")
        for function in functions:
            self.declare(function)
        _owners[id(journal)] = self

    def __repr__(self) -> str:
        return f"<Effects known={len(self._records)} running={self.running}>"

    @property
    def running(self) -> int:
        """Effects under way."""
        return len(self._busy)

    @property
    def declared(self) -> Mapping[str, BoundEffect]:
        """Effects by name."""
        return self._bound

    def outcomes(self) -> list[EffectOutcome]:
        """All effects so far, in the order of their intents."""
        records = sorted(self._records.values(), key=lambda record: record.seq)
        return [record.outcome(is_recorded=True) for record in records]

    def records(self) -> Collection[Record]:
        """What is known of each effect."""
        return self._records.values()

    def declare(self, function: Callable[..., Any] | BoundEffect, name: str = "") -> BoundEffect:
        """Make an effect known, as `run` does by itself.

        Raises:
            ConfigurationError: see `bind`.
        """
        if isinstance(function, BoundEffect):
            bound = function
        else:
            known = self._bound.get(name)
            bound = known if known is not None and known.run == function else bind(function, name)
        self._bound[bound.rules.name] = bound
        return bound

    def for_call(self, call_id: str) -> "TaskEffects":
        """Give what the states of one run of a task use."""
        return TaskEffects(self, call_id)

    async def run(
        self, name: str, function: Callable[..., Any], arguments: Mapping[str, Any], *, call_id: str
    ) -> EffectOutcome:
        """Have an effect done once, and tell what became of it.

        The same key gives the recorded outcome, and waits for it while the first run goes on. Being cancelled
        ends the wait, not the effect.

        Args:
            name: of the effect; empty for the one that the function was declared with.
            function: marked with `effect`, or any other.
            arguments: by name, as JSON can hold them.
            call_id: of the function call, or of the run of the task, that asks.

        Raises:
            TypeError: the function does not take these arguments, or JSON cannot hold them. Nothing was done.
            ValueError: they are too large. Nothing was done.
        """
        bound = self.declare(function, name)
        offered(function, bound.rules.name, arguments, "")
        size = len(canonical_json(arguments))
        if size > ARGUMENTS_BYTES_MAX:
            raise ValueError(f"arguments of {size} bytes, more than {ARGUMENTS_BYTES_MAX}")
        key = self._key(bound, arguments, call_id)
        record = self._records.get(key)
        is_recorded = record is not None
        if record is None or record.task is None:
            if refusal := self._refusal(record, bound):
                return EffectOutcome(bound.rules.name, *refusal, key=key)
            if record is None:
                record = Record(key, bound.rules.name, call_id, arguments, -1, "running", None, "", attempt=0)
                self._records[key] = record
                self._start(record, self._perform(record, bound, arguments))
            elif record.status == "failed" and record.reason in MAY_RUN_AGAIN:
                is_recorded = False
                self._start(record, self._perform(record, bound, arguments))
            elif record.status == "unknown" and record.late is None:
                self._start(record, self._resolve(record, bound, arguments, may_run=True))
        if record.task is not None:
            await asyncio.wait({record.task})
        return record.outcome(is_recorded=is_recorded)

    async def settle(self, timeout_s: float) -> bool:
        """Wait for what runs, as a call does before it closes its journal; False when it takes longer."""
        work: set[asyncio.Future[Any]] = {*self._tasks()}
        work.update(record.late for record in self._busy.values() if record.late is not None)
        if self._undoing is not None:
            work.add(self._undoing)
        return not work or not (await asyncio.wait(work, timeout=timeout_s))[1]

    async def reconcile(self) -> list[EffectOutcome]:
        """Find out about effects that an earlier process left unknown; gives those that stay so.

        Idempotent ones are run again with their key, others checked. None is repeated on a guess.
        """
        for record in list(self._records.values()):
            bound = self._bound.get(record.name)
            if record.status == "unknown" and record.task is None and record.late is None and bound:
                self._start(record, self._resolve(record, bound, record.arguments, may_run=False))
        if tasks := self._tasks():
            await asyncio.wait(tasks)
        return [outcome for outcome in self.outcomes() if outcome.status == "unknown"]

    async def undo_all(self, reason: str, *, call_id: str | None = None) -> list[UndoOutcome]:
        """Take back all that was done, the latest first, and tell what became of each.

        What runs is waited for, and nothing new starts meanwhile. One that fails does not keep the others.
        Calling it again goes on with what is left, after a crash too.

        Args:
            reason: a word for the journal.
            call_id: of the function call, or of the run of the task, whose effects alone are taken back.
        """
        while self._undoing is not None and self._undoing_of != call_id:
            await asyncio.wait({self._undoing})
        if self._undoing is None:
            self._undoing_of = call_id
            self._undoing = asyncio.create_task(self._undo_all(reason, call_id))
        undoing = self._undoing
        await asyncio.wait({undoing})
        return undoing.result()

    def flag_claims(self, text: str, *, since_seq: int = 0) -> list[str]:
        """Tell which effects ``text`` claims although they were not done; each is noted in the journal.

        Args:
            text: what the bot said. It is not kept.
            since_seq: only what was done from this entry on counts, such as the one that began the turn.
        """
        flagged = []
        for name, bound in self._bound.items():
            if not bound.rules.claims or not claims_any(text, bound.rules.claims):
                continue
            records = [record for record in self._records.values() if record.name == name]
            if any(record.status == "done" and record.outcome_seq >= since_seq for record in records):
                continue
            latest = max(records, key=lambda record: record.seq, default=None)
            reason = latest.status if latest is not None and latest.status != "done" else "never_run"
            self._journal.append("claim", {"name": name, "reason": reason})
            _log.warning("effect %r was claimed but is not done: %s", name, reason)
            flagged.append(name)
        return flagged

    # Keys and records.

    def _key(self, bound: BoundEffect, arguments: Mapping[str, Any], call_id: str) -> str:
        rules = bound.rules
        # Keys are written to the journal, and nobody may guess a PIN from one.
        kept = self._journal.redact({"arguments": dict(arguments)}, rules.redacted)["arguments"]
        assert isinstance(kept, dict)
        names = [name for name in rules.key if name != CALL_ID]
        chosen = {name: kept.get(name) for name in names} if names else kept
        asked_by = call_id if not rules.key or CALL_ID in rules.key else None
        return hashlib.sha256(canonical_json([self.session_id, asked_by, rules.name, chosen])).hexdigest()

    def _refusal(self, record: Record | None, bound: BoundEffect) -> tuple[Status, None, str] | None:
        is_settled = record is not None and record.status in ("done", "undone")
        if is_settled or (
            record is not None and record.status == "failed" and record.reason not in MAY_RUN_AGAIN
        ):
            return None
        if self._undoing is not None:
            return "failed", None, "undoing"
        if record is None and bound.rules.name in self._strange:
            return "unknown", None, "redaction_key_changed"
        if self.running >= MAX_RUNNING or (record is None and len(self._records) >= MAX_EFFECTS):
            return "failed", None, "limit"
        return None

    def _tasks(self) -> set[asyncio.Task[Any]]:
        return {record.task for record in self._busy.values() if record.task is not None}

    def _start(self, record: Record, work: Coroutine[Any, Any, None]) -> None:
        task = record.task = asyncio.create_task(work, name=f"effect {record.name}")
        self._busy[record.key] = record

        def ended(task: asyncio.Task[None]) -> None:
            record.task = None
            if record.late is None:
                self._busy.pop(record.key, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                # The text may quote the caller.
                _log.error("effect %r: %s", record.name, type(error).__name__)
                self._close(record, "unknown", None, type(error).__name__)

        task.add_done_callback(ended)

    def _close(self, record: Record, status: Status, result: Any, reason: str) -> None:
        """Take an outcome into the record and the journal."""
        bound = self._bound.get(record.name)
        data = {"key": record.key, "name": record.name, "status": status, "result": result, "reason": reason}
        redacted = bound.rules.redacted if bound else ()
        try:
            entry = self._journal.append("effect_outcome", data, redacted=redacted)
        except TypeError:
            entry = self._journal.append("effect_outcome", {**data, "result": None, "is_result_cut": True})
        if entry.kind == "oversize":
            entry = self._journal.append("effect_outcome", {**data, "result": None, "is_result_cut": True})
        record.status, record.result, record.reason = status, result, reason
        record.outcome_seq = entry.seq

    async def _commit_outcome(self, record: Record) -> None:
        try:
            await self._journal.commit()
        except JournalError as error:
            # It stands in memory; after a crash it is unknown, which is the truth then.
            _log.warning("effect %r: its outcome is not durable (%s)", record.name, error.reason)

    # Running.

    async def _perform(self, record: Record, bound: BoundEffect, arguments: Mapping[str, Any]) -> None:
        was_unknown = record.status == "unknown"
        record.attempt += 1
        record.status, record.reason = "running", ""
        intent = self._journal.append(
            "effect_intent",
            {
                "key": record.key,
                "name": record.name,
                "call_id": record.call_id,
                "arguments": dict(arguments),
                "attempt": record.attempt,
            },
            redacted=bound.rules.redacted,
        )
        record.seq = intent.seq
        record.arguments = arguments
        if intent.kind == "oversize":
            self._close(record, "failed", None, "oversize")
            return
        try:
            await self._journal.commit()
        except JournalError:
            self._close(record, "unknown" if was_unknown else "failed", None, NOT_DURABLE)
            return
        except asyncio.CancelledError:
            self._close(record, "unknown" if was_unknown else "failed", None, NOT_DONE)
            raise
        try:
            status, result, reason = await self._outcome_of(record, bound, arguments)
        except asyncio.CancelledError:
            self._close(record, "unknown", None, "interrupted")
            raise
        self._close(record, status, result, reason)
        await self._commit_outcome(record)

    async def _outcome_of(
        self, record: Record, bound: BoundEffect, arguments: Mapping[str, Any]
    ) -> tuple[Status, Any, str]:
        if self._recorded is not None:
            known = self._recorded.get(record.key)
            return (known.status, known.result, known.reason) if known else ("unknown", None, "not_recorded")
        work = begin(bound.run, offered(bound.run, record.name, arguments, record.key))
        try:
            done, _ = await asyncio.wait({work}, timeout=bound.rules.timeout_s)
            if not done and isinstance(work, asyncio.Task):
                work.cancel()
                done, _ = await asyncio.wait({work}, timeout=CANCEL_GRACE_S)
        except asyncio.CancelledError:
            work.cancel()
            raise
        if not done:
            record.late = work
            work.add_done_callback(lambda late: self._take_late(record, bound, late))
            return "unknown", None, "deadline"
        return self._verdict(bound, work)

    def _verdict(self, bound: BoundEffect, work: "asyncio.Future[Any]") -> tuple[Status, Any, str]:
        if work.cancelled():
            return "unknown", None, "deadline"
        error = work.exception()
        if error is None:
            try:
                return "done", orjson.loads(canonical_json(work.result())), ""
            except TypeError:
                _log.warning("effect %r: JSON cannot hold its result", bound.rules.name)
                return "done", None, "result_lost"
        # The text of a foreign exception may quote the caller, so only its kind is kept.
        kind = type(error).__name__
        if isinstance(error, (EffectFailedError, *bound.rules.failures)):
            return "failed", None, kind
        _log.warning("effect %r: %s; whether it was done is unknown", bound.rules.name, kind)
        return "unknown", None, kind

    def _take_late(self, record: Record, bound: BoundEffect, late: "asyncio.Future[Any]") -> None:
        record.late = None
        if record.task is None:
            self._busy.pop(record.key, None)
        status, result, reason = self._verdict(bound, late)
        if record.status == "unknown" and status != "unknown":
            self._close(record, status, result, reason)

    async def _resolve(
        self, record: Record, bound: BoundEffect, arguments: Mapping[str, Any], *, may_run: bool
    ) -> None:
        """Find out about an unknown outcome; with ``may_run`` the caller wants it done now."""
        # Redacted arguments are not what the function was given.
        is_whole = may_run or not redaction_key_ids(arguments)
        if bound.rules.is_idempotent and is_whole:
            await self._perform(record, bound, arguments)
        else:
            await self._check(record, bound)
            if may_run and record.status == "failed":
                await self._perform(record, bound, arguments)

    async def _check(self, record: Record, bound: BoundEffect) -> None:
        """Ask the world about an unknown outcome."""
        if bound.check is None or self._recorded is not None:
            return
        found, error = await self._call_beside(bound.check, record, bound)
        if error:
            record.reason = f"check_{error}"
            return
        if found is None:
            self._close(record, "failed", None, NOT_DONE)
        else:
            self._close(record, "done", found, "checked")
        await self._commit_outcome(record)

    async def _call_beside(
        self, function: Callable[..., Any], record: Record, bound: BoundEffect
    ) -> tuple[Any, str]:
        """Call a check or an undo; gives its result as JSON values, and an error's name."""
        known = {**record.arguments, "result": record.result, KEY_ARGUMENT: record.key}
        try:
            work = begin(function, accepted(function, known))
        except TypeError:
            return None, "TypeError"
        try:
            done, _ = await asyncio.wait({work}, timeout=bound.rules.timeout_s)
        except asyncio.CancelledError:
            work.cancel()
            raise
        if not done:
            work.cancel()
            return None, "deadline"
        if work.cancelled():
            return None, "cancelled"
        if (error := work.exception()) is not None:
            return None, type(error).__name__
        try:
            return orjson.loads(canonical_json(work.result())), ""
        except TypeError:
            return True, ""

    # Undoing.

    async def _undo_all(self, reason: str, call_id: str | None) -> list[UndoOutcome]:
        try:
            while tasks := self._tasks():
                await asyncio.wait(tasks)
            chosen = [one for one in self._records.values() if call_id in (None, one.call_id)]
            records = sorted(chosen, key=lambda record: record.seq, reverse=True)
            outcomes = [await self._undo(record, reason) for record in records]
            return [outcome for outcome in outcomes if outcome is not None]
        finally:
            self._undoing = None

    async def _undo(self, record: Record, reason: str) -> UndoOutcome | None:
        bound = self._bound.get(record.name)
        if record.status == "unknown" and bound is not None and record.late is None:
            # Not run again only to be taken back.
            await self._check(record, bound)
        if record.status == "unknown":
            return UndoOutcome(record.name, record.key, "unknown", record.reason)
        if record.status != "done":
            return None
        if bound is None or bound.undo is None:
            return UndoOutcome(record.name, record.key, "not_undoable", "" if bound else "not_declared")
        about = {"key": record.key, "name": record.name}
        self._journal.append("undo_intent", {**about, "reason": reason})
        try:
            await self._journal.commit()
        except JournalError:
            return self._undone(record, "failed", NOT_DURABLE)
        error = ""
        if self._recorded is None:
            _, error = await self._call_beside(bound.undo, record, bound)
        outcome = self._undone(record, "failed" if error else "undone", error)
        await self._commit_outcome(record)
        return outcome

    def _undone(self, record: Record, status: Literal["undone", "failed"], reason: str) -> UndoOutcome:
        self._journal.append(
            "undo_outcome", {"key": record.key, "name": record.name, "status": status, "reason": reason}
        )
        if status == "undone":
            record.status, record.reason = "undone", ""
        else:
            _log.warning("effect %r could not be undone: %s", record.name, reason)
        return UndoOutcome(record.name, record.key, status, reason)


class TaskEffects:
    """Effects as the states of one run of a task use them: a result, or an error.

    Args:
        effects: of the conversation.
        call_id: of the function call that the run answers; part of each effect's key.
    """

    def __init__(self, effects: Effects, call_id: str) -> None:
        self.call_id = call_id
        self._effects = effects

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        call_id: str | None = None,
    ) -> Any:
        """Have an effect done once, and give its result; see `Effects.run`.

        Raises:
            EffectFailedError: it was not done, or was taken back.
            EffectUnknownError: it may have been done.
        """
        outcome = await self._effects.run(name, function, arguments, call_id=call_id or self.call_id)
        if outcome.is_done:
            return outcome.result
        reason = f"effect {outcome.name!r} is {outcome.status}" + (
            f" ({outcome.reason})" if outcome.reason else ""
        )
        raise (EffectUnknownError if outcome.status == "unknown" else EffectFailedError)(reason)
