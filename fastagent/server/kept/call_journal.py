"""CallJournal: one call's journal and effects, in order from the first word, though the file opens later."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from fastagent.afsm.effects.effects import Effects
from fastagent.afsm.effects.rules import BoundEffect
from fastagent.call.stored import CarriedEntry
from fastagent.errors import EffectFailedError, JournalBusyError, JournalError
from fastagent.journal import Entry, FileJournal, Journal, MemoryJournal, RunRecorder
from fastagent.tools.kept import Undone

__all__ = ["CallJournal", "OpenFile"]

logger = logging.getLogger("fastagent.server")

SETTLE_TIMEOUT_S = 3.0
"""For effects under way at the end of a call; what takes longer is found out about at the next start."""
CLOSE_TIMEOUT_S = 2.0
"""For the disk, at the end of a call; the writer goes on behind it."""
COMMIT_TIMEOUT_S = 2.0
"""For the disk, before a function's outcome is told; the caller hears nothing meanwhile."""
NEXT_COMMIT_TIMEOUT_S = 0.25
"""The same after a disk was late, until it is in time again: a slow one is not to slow every answer."""
IN_USE_TIMEOUT_S = SETTLE_TIMEOUT_S + CLOSE_TIMEOUT_S + 1.0
"""For the call that goes on in another one to close its journal."""
IN_USE_PAUSE_S = 0.05
WAITING_MAX = 10_000
"""Entries that wait for the file to open; more are counted and lost."""
CLAIM_NOTES_MAX = 3
"""Of one call: a model that goes on claiming has lost its way, and the caller hears nothing else."""

EFFECT_KINDS = frozenset({"effect_intent", "effect_outcome", "undo_intent", "undo_outcome"})

OpenFile = Callable[[], Coroutine[Any, Any, FileJournal]]


class _NotKept(MemoryJournal):
    """Stands in for a file that could not be opened: entries stay readable, effects are not begun."""

    async def commit(self) -> None:
        """Raises: `JournalError`, always."""
        raise JournalError("the journal could not be opened")


class CallJournal:
    """The `CallRecord` of one call.

    Args:
        call_id: the carrier's name for the conversation.
        about: what the call begins with.
        functions: effects of the agent's tasks.
        redacted: names of slots whose values are not kept.
        open_file: opens the file; None keeps the journal in memory.
        on_claim: told what to tell the model of a claim that is not so.
        carried: effects that another process kept of this call; a file takes in what it does not know.
    """

    def __init__(
        self,
        call_id: str,
        *,
        about: Mapping[str, object],
        functions: Sequence[BoundEffect],
        redacted: frozenset[str],
        open_file: OpenFile | None,
        on_claim: Callable[[str], Any],
        carried: Sequence[CarriedEntry] = (),
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._call_id = call_id
        self._about = about
        self._functions = functions
        self._redacted = redacted
        self._on_claim = on_claim
        self._carried = tuple(carried)
        self._claim_notes = 0
        self._waiting: list[tuple[str, Mapping[str, Any]]] = []
        self._unchecked: list[str] = []
        self._journal: MemoryJournal | None = None
        self._effects: Effects | None = None
        self._opened = asyncio.Event()
        self._is_disk_late = False
        self._work: set[asyncio.Task[None]] = set()
        self._is_closed = False
        if open_file is None:
            journal = self._in_memory()
            for kind, data in self._carried:
                journal.record(kind, data)
            self._begin(journal, self._effects_in(journal))
        else:
            self._start(self._open(open_file))

    def __repr__(self) -> str:
        return f"<CallJournal {self._journal!r}>"

    def entries(self, start: int = 0) -> list[Entry]:
        """What is kept so far, from number ``start`` on; nothing while the file is not open yet.

        Raises:
            JournalCorruptError: the chain is broken.
        """
        return [] if self._journal is None else list(self._journal.entries(start))

    # Opening

    def _in_memory(self) -> MemoryJournal:
        journal = MemoryJournal()
        journal.redaction.add(self._redacted)
        return journal

    async def _open(self, open_file: OpenFile) -> None:
        journal: MemoryJournal
        resumed_entries = 0
        try:
            journal = file = await self._file(open_file)
            resumed_entries = file.resumed_entries
            # Reading a long journal takes a while, and nobody else has it yet.
            missing = await asyncio.to_thread(_missing, self._carried, journal)
            for kind, data in missing:
                journal.record(kind, data)
            effects = await asyncio.to_thread(self._effects_in, journal)
        except Exception as error:
            # A corrupt journal, or one in use; the call goes on, and does nothing that it could do twice.
            self.counters["journals_not_opened"] += 1
            logger.error("call %s: no journal: %s", self._call_id, type(error).__name__)
            journal = _NotKept()
            effects = self._effects_in(journal)
        self._begin(journal, effects)
        if resumed_entries:
            self.record("resumed", {"entries": resumed_entries})
            await self._reconcile(effects)

    async def _file(self, open_file: OpenFile) -> FileJournal:
        """The file, once the call that had the conversation before has let go of it."""
        until = time.monotonic() + IN_USE_TIMEOUT_S
        while True:
            try:
                return await open_file()
            except JournalBusyError:
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(IN_USE_PAUSE_S)

    def _effects_in(self, journal: MemoryJournal) -> Effects:
        return Effects(journal, self._call_id, functions=self._functions)

    def _begin(self, journal: MemoryJournal, effects: Effects) -> None:
        self._journal, self._effects = journal, effects
        self.record("opened", self._about)
        waiting, self._waiting = self._waiting, []
        for kind, data in waiting:
            self.record(kind, data)
        unchecked, self._unchecked = self._unchecked, []
        for text in unchecked:
            self._check_claims(effects, text)
        self._opened.set()

    async def _reconcile(self, effects: Effects) -> None:
        unknown = await effects.reconcile()
        if unknown:
            self.counters["effects_unknown"] = len(unknown)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._note_failure(error)

    def _note_failure(self, error: BaseException) -> None:
        self.counters["journal_failures"] += 1
        # The text may quote what was to be written.
        logger.error("call %s: its journal: %s", self._call_id, type(error).__name__)

    # What the call tells

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep an entry, behind all that came before."""
        if self._journal is None:
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append((kind, dict(data)))
            else:
                self.counters["journal_entries_lost"] += 1
            return
        try:
            self._journal.record(kind, data)
        except Exception as error:
            self._note_failure(error)

    def said(self, by: str, text: str, *, is_redacted: bool) -> None:
        """Note finished words; those of the agent are held against what was done."""
        self.record("said", {"by": by, "text": text, "is_redacted": is_redacted})
        if by != "agent":
            return
        if self._effects is None:
            self._unchecked.append(text)
        else:
            self._check_claims(self._effects, text)

    def _check_claims(self, effects: Effects, text: str) -> None:
        try:
            claimed = effects.flag_claims(text)
        except Exception as error:
            self._note_failure(error)
            return
        if not claimed:
            return
        self.counters["claims_flagged"] += len(claimed)
        self._claim_notes += 1
        if self._claim_notes <= CLAIM_NOTES_MAX:
            self._on_claim(
                f"You said that this was done: {', '.join(claimed)}. It was not done. Tell the caller so, "
                "and never say that something is done before a tool has reported it."
            )

    def resumed(self, channel: str = "") -> None:
        """The line is back after a loss, or the talk goes on by another ``channel`` than the line."""
        self.record("resumed", {"channel": channel} if channel else {})
        if self._effects is not None:
            self._start(self._reconcile(self._effects))

    def keep(self, run_id: str) -> "KeptTaskRun":
        """Begin to keep a run of a task."""
        return KeptTaskRun(self, run_id)

    async def commit(self) -> None:
        """Wait until what was kept is on the disk, unless there is trouble or it takes long."""
        limit_s = NEXT_COMMIT_TIMEOUT_S if self._is_disk_late else COMMIT_TIMEOUT_S
        try:
            async with asyncio.timeout(limit_s):
                await self._opened.wait()
                assert self._journal is not None
                await self._journal.commit()
            self._is_disk_late = False
        except (TimeoutError, JournalError):
            self._is_disk_late = True
            self.counters["commits_missed"] += 1

    def carried(self) -> list[CarriedEntry]:
        """The entries that tell of effects."""
        if self._journal is None:
            return list(self._carried)
        return [(entry.kind, entry.data) for entry in self._journal.entries() if entry.kind in EFFECT_KINDS]

    async def effects(self) -> Effects:
        """The call's effects, once the journal that they need is open."""
        await self._opened.wait()
        assert self._effects is not None
        return self._effects

    async def close(self, outcome: str) -> None:
        """End the record."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                effects = await self.effects()
                if not await effects.settle(SETTLE_TIMEOUT_S):
                    self.counters["effects_unsettled"] = effects.running
        except TimeoutError:
            self.counters["effects_unsettled"] += 1
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self.record("closed", {"outcome": outcome})
        if isinstance(self._journal, FileJournal):
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    is_kept = await self._journal.close()
            except TimeoutError:
                is_kept = False
            if not is_kept:
                self.counters["journals_not_durable"] += 1
                logger.warning("call %s: its journal is not whole on the disk", self._call_id)


def _missing(carried: Sequence[CarriedEntry], journal: MemoryJournal) -> list[CarriedEntry]:
    """What another process kept and this journal does not know; in a crash it may know more."""
    known = Counter(_name_of(entry.kind, entry.data) for entry in journal.entries()) if carried else Counter()
    missing = []
    for kind, data in carried:
        name = _name_of(kind, data)
        if known[name]:
            known[name] -= 1
        else:
            missing.append((kind, data))
    return missing


def _name_of(kind: str, data: Mapping[str, Any]) -> tuple[str, str, str]:
    """What tells an entry about an effect from others, whoever's key redacted its values."""
    return kind, str(data.get("key", "")), str(data.get("attempt", data.get("status", "")))


class KeptTaskRun(RunRecorder):
    """The `KeptRun` of one run of a task; also what runs its effects."""

    def __init__(self, journal: CallJournal, run_id: str) -> None:
        # A recorder needs no more of a journal than `record`.
        super().__init__(cast(Journal, journal), run_id)
        self.effects = _RunEffects(journal, run_id)
        self._call_journal = journal

    async def undo(self, reason: str) -> Undone:
        """Take back what the run did; what other runs did stands."""
        effects = await self._call_journal.effects()
        if not any(one.call_id == self.run for one in effects.records()):
            return Undone()
        outcomes = await effects.undo_all(reason, call_id=self.run)
        return Undone(
            tuple(one.name for one in outcomes if one.status == "undone"),
            tuple(one.name for one in outcomes if one.status != "undone"),
        )


class _RunEffects:
    """Runs a run's effects once the journal is open."""

    def __init__(self, journal: CallJournal, run_id: str) -> None:
        self._journal = journal
        self._run_id = run_id

    async def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        call_id: str | None = None,
    ) -> Any:
        """See `TaskEffects.run`."""
        effects = await self._journal.effects()
        if self._journal._is_closed:
            raise EffectFailedError("the call is over")
        return await effects.for_call(self._run_id).run(name, function, arguments, call_id=call_id)
