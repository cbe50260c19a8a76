"""Effects: once, whatever happens; undone in reverse; unknown rather than guessed."""

import asyncio
import functools
import logging
import threading
from collections import Counter

import pytest

from fastagent.afsm.effects import effects as effects_module
from fastagent.afsm.effects.declared import effects_of
from fastagent.afsm.effects.effects import Effects
from fastagent.afsm.effects.record import EffectOutcome
from fastagent.afsm.effects.rules import EffectRules, bind, effect
from fastagent.afsm.graph import Graph
from fastagent.afsm.state import AFSMState
from fastagent.errors import ConfigurationError, EffectFailedError, EffectUnknownError, JournalError
from fastagent.journal import JournalLimits, MemoryJournal, Redaction

KEY = bytes(32)


class Bank:
    """The world outside: it counts what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.undone: list[str] = []
        self.started = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.error: BaseException | None = None
        self.error_after: BaseException | None = None
        self.undo_error: Exception | None = None
        self.keys: list[str] = []
        self.check_error: Exception | None = None

    @effect(undo="take_back", claims=("transferred",))
    async def transfer(self, amount: int) -> str:
        return await self._do(f"transfer {amount}")

    async def _do(self, what: str) -> str:
        self.started.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.done.append(what)
        if self.error_after is not None:
            raise self.error_after
        return f"receipt {len(self.done)}"

    async def take_back(self, amount: int, result: str, idempotency_key: str) -> None:
        if self.undo_error is not None:
            raise self.undo_error
        assert result.startswith("receipt")
        self.undone.append(f"transfer {amount}")

    @effect(is_idempotent=True, key="amount")
    async def deposit(self, amount: int, idempotency_key: str) -> str:
        self.keys.append(idempotency_key)
        return await self._do(f"deposit {amount}")

    @effect(check="find_order", undo="cancel_order", timeout_s=5)
    async def order(self, item: str) -> str:
        return await self._do(f"order {item}")

    def find_order(self, item: str) -> str | None:
        if self.check_error is not None:
            raise self.check_error
        return "found" if f"order {item}" in self.done else None

    def cancel_order(self, item: str) -> None:
        self.undone.append(f"order {item}")

    @property
    def functions(self):
        return [self.transfer, self.deposit, self.order]


def kinds(journal: MemoryJournal) -> list[str]:
    return [entry.kind for entry in journal.entries()]


def after_crash(journal: MemoryJournal, *, kept: int | None = None, key: bytes = KEY) -> MemoryJournal:
    """The journal as the next process finds it."""
    found = MemoryJournal(redaction=Redaction(key, journal.redaction.names))
    found._lines = journal._lines[:kept]
    return found


def running(test):
    """Run an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


def journal_of(**limits) -> MemoryJournal:
    return MemoryJournal(redaction=Redaction(KEY), limits=JournalLimits(**limits))


@running
async def test_intent_is_committed_before_and_outcome_after():
    journal, bank = journal_of(), Bank()
    seen: list[list[str]] = []
    commit = journal.commit

    async def noting() -> None:
        seen.append([*kinds(journal), f"done {len(bank.done)}"])
        await commit()

    journal.commit = noting  # type: ignore[method-assign]
    outcome = await Effects(journal, "s").run("", bank.transfer, {"amount": 5}, call_id="c")
    assert outcome.is_done
    assert outcome.result == "receipt 1"
    assert not outcome.is_recorded
    assert seen == [["effect_intent", "done 0"], ["effect_intent", "effect_outcome", "done 1"]]


@running
async def test_the_same_key_gives_the_recorded_outcome():
    bank = Bank()
    effects = Effects(journal_of(), "s")
    first = await effects.run("", bank.transfer, {"amount": 5}, call_id="c")
    again = await effects.run("transfer", bank.transfer, {"amount": 5}, call_id="c")
    assert bank.done == ["transfer 5"]
    assert again.is_recorded
    assert (again.key, again.result) == (first.key, first.result)


@pytest.mark.parametrize(
    ("name", "arguments", "call_id", "session_id"),
    [
        ("", {"amount": 6}, "c", "s"),
        ("", {"amount": 5}, "d", "s"),
        ("other", {"amount": 5}, "c", "s"),
        ("", {"amount": 5}, "c", "t"),
    ],
)
@running
async def test_another_call_argument_name_or_session_is_another_effect(name, arguments, call_id, session_id):
    bank = Bank()
    first = await Effects(journal_of(), "s").run("", bank.transfer, {"amount": 5}, call_id="c")
    other = await Effects(journal_of(), session_id).run(name, bank.transfer, arguments, call_id=call_id)
    assert other.key != first.key
    assert len(bank.done) == 2


@running
async def test_a_declared_key_without_the_call_happens_once_per_conversation():
    bank = Bank()
    effects = Effects(journal_of(), "s")
    for call_id in ("a", "b", "c"):
        await effects.run("", bank.deposit, {"amount": 5}, call_id=call_id)
    assert bank.done == ["deposit 5"]
    await effects.run("", bank.deposit, {"amount": 6}, call_id="a")
    assert bank.done == ["deposit 5", "deposit 6"]
    assert len(set(bank.keys)) == 2


@running
async def test_duplicates_meanwhile_wait_for_the_first():
    bank = Bank()
    bank.gate = asyncio.Event()
    effects = Effects(journal_of(), "s")
    calls = [
        asyncio.create_task(effects.run("", bank.transfer, {"amount": 5}, call_id="c")) for _ in range(9)
    ]
    await bank.started.wait()
    assert effects.running == 1
    bank.gate.set()
    outcomes = await asyncio.gather(*calls)
    assert bank.done == ["transfer 5"]
    assert {outcome.result for outcome in outcomes} == {"receipt 1"}
    assert [outcome.is_recorded for outcome in outcomes].count(False) == 1


@running
async def test_a_barge_in_ends_the_wait_and_not_the_effect():
    bank = Bank()
    bank.gate = asyncio.Event()
    journal = journal_of()
    effects = Effects(journal, "s")
    call = asyncio.create_task(effects.run("", bank.transfer, {"amount": 5}, call_id="c"))
    await bank.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not await effects.settle(0)
    again = asyncio.create_task(effects.run("", bank.transfer, {"amount": 5}, call_id="c"))
    bank.gate.set()
    assert (await again).is_done
    assert await effects.settle(5)
    assert bank.done == ["transfer 5"]
    assert kinds(journal) == ["effect_intent", "effect_outcome"]


@running
async def test_a_cancel_before_the_intent_is_durable_loses_nothing_either():
    bank = Bank()
    effects = Effects(journal_of(), "s")
    call = asyncio.create_task(effects.run("", bank.transfer, {"amount": 5}, call_id="c"))
    await asyncio.sleep(0)
    call.cancel()
    assert await effects.settle(5)
    assert (await effects.run("", bank.transfer, {"amount": 5}, call_id="c")).is_done
    assert bank.done == ["transfer 5"]


@running
async def test_a_restart_gives_the_recorded_outcome():
    journal, bank = journal_of(), Bank()
    first = await Effects(journal, "s").run("", bank.transfer, {"amount": 5}, call_id="c")
    again = await Effects(after_crash(journal), "s").run("", bank.transfer, {"amount": 5}, call_id="c")
    assert bank.done == ["transfer 5"]
    assert again.is_recorded
    assert again.result == first.result


@running
async def test_an_intent_without_outcome_is_unknown_and_not_repeated():
    journal, bank = journal_of(), Bank()
    await Effects(journal, "s").run("", bank.transfer, {"amount": 5}, call_id="c")
    effects = Effects(after_crash(journal, kept=1), "s")
    for _ in range(3):
        outcome = await effects.run("", bank.transfer, {"amount": 5}, call_id="c")
        assert (outcome.status, outcome.reason) == ("unknown", "interrupted")
    assert [left.status for left in await effects.reconcile()] == ["unknown"]
    assert bank.done == ["transfer 5"]


@pytest.mark.parametrize("way", ["run", "reconcile"])
@running
async def test_an_unknown_idempotent_effect_is_run_again_with_its_key(way):
    journal, bank = journal_of(), Bank()
    await Effects(journal, "s").run("", bank.deposit, {"amount": 5}, call_id="c")
    effects = Effects(after_crash(journal, kept=1), "s", functions=bank.functions)
    if way == "run":
        assert (await effects.run("", bank.deposit, {"amount": 5}, call_id="c")).is_done
    else:
        assert await effects.reconcile() == []
    assert len(bank.keys) == 2
    assert len(set(bank.keys)) == 1


@pytest.mark.parametrize("way", ["run", "reconcile"])
@pytest.mark.parametrize("was_done", [True, False])
@running
async def test_an_unknown_effect_is_checked(way, was_done):
    journal, bank = journal_of(), Bank()
    await Effects(journal, "s").run("", bank.order, {"item": "hat"}, call_id="c")
    if not was_done:
        bank.done.clear()
    effects = Effects(after_crash(journal, kept=1), "s", functions=bank.functions)
    if way == "reconcile":
        assert await effects.reconcile() == []
        assert len(bank.done) == was_done
    outcome = await effects.run("", bank.order, {"item": "hat"}, call_id="c")
    assert outcome.is_done
    assert outcome.result == ("found" if was_done else "receipt 1")
    assert bank.done == ["order hat"]


@running
async def test_a_check_that_fails_leaves_it_unknown():
    journal, bank = journal_of(), Bank()
    await Effects(journal, "s").run("", bank.order, {"item": "hat"}, call_id="c")
    bank.check_error = ConnectionError("4111")
    effects = Effects(after_crash(journal, kept=1), "s")
    outcome = await effects.run("", bank.order, {"item": "hat"}, call_id="c")
    assert (outcome.status, outcome.reason) == ("unknown", "check_ConnectionError")
    bank.check_error = None
    assert (await effects.run("", bank.order, {"item": "hat"}, call_id="c")).is_done
    assert bank.done == ["order hat"]


@running
async def test_a_failure_that_says_nothing_was_done_is_final_for_its_key(caplog):
    bank = Bank()
    bank.error = EffectFailedError("card 4111 declined")
    effects = Effects(journal_of(), "s")
    outcome = await effects.run("", bank.transfer, {"amount": 5}, call_id="c")
    assert (outcome.status, outcome.reason) == ("failed", "EffectFailedError")
    bank.error = None
    assert (await effects.run("", bank.transfer, {"amount": 5}, call_id="c")).status == "failed"
    assert (await effects.run("", bank.transfer, {"amount": 5}, call_id="d")).is_done
    assert "4111" not in caplog.text


@running
async def test_declared_failures_count_as_such():
    @effect(failures=[KeyError])
    def look(item: str) -> None:
        raise KeyError(item)

    outcome = await Effects(journal_of(), "s").run("", look, {"item": "4111"}, call_id="c")
    assert (outcome.status, outcome.reason) == ("failed", "KeyError")


@running
async def test_any_other_error_leaves_it_unknown(caplog):
    bank = Bank()
    bank.error_after = ConnectionError("lost while sending 4111")
    effects = Effects(journal_of(), "s")
    with caplog.at_level(logging.DEBUG):
        outcome = await effects.run("", bank.transfer, {"amount": 5}, call_id="c")
    assert (outcome.status, outcome.reason) == ("unknown", "ConnectionError")
    bank.error_after = None
    assert (await effects.run("", bank.transfer, {"amount": 5}, call_id="c")).status == "unknown"
    assert bank.done == ["transfer 5"]
    assert "4111" not in caplog.text
    assert "ConnectionError" in caplog.text


@running
async def test_a_deadline_cancels_and_leaves_it_unknown():
    @effect(timeout_s=0.001)
    async def hang() -> None:
        await asyncio.Event().wait()

    outcome = await Effects(journal_of(), "s").run("", hang, {}, call_id="c")
    assert (outcome.status, outcome.reason) == ("unknown", "deadline")


@running
async def test_one_that_will_not_be_cancelled_is_left_behind(monkeypatch):
    monkeypatch.setattr(effects_module, "CANCEL_GRACE_S", 0.001)
    gate = asyncio.Event()

    @effect(timeout_s=0.001)
    async def stubborn() -> str:
        while True:
            try:
                await gate.wait()
                return "late"
            except asyncio.CancelledError:
                pass

    effects = Effects(journal_of(), "s")
    outcome = await effects.run("", stubborn, {}, call_id="c")
    assert (outcome.status, outcome.reason) == ("unknown", "deadline")
    assert effects.running == 1
    gate.set()
    assert await effects.settle(30)
    assert effects.outcomes()[0].result == "late"


@running
async def test_a_thread_behind_its_deadline_is_not_repeated_and_its_late_outcome_counts():
    gate, runs = threading.Event(), []

    @effect(timeout_s=0.001, is_idempotent=True)
    def slow() -> str:
        runs.append(1)
        assert gate.wait(30)
        return "late"

    journal = journal_of()
    effects = Effects(journal, "s")
    assert (await effects.run("", slow, {}, call_id="c")).reason == "deadline"
    assert (await effects.run("", slow, {}, call_id="c")).reason == "deadline"
    gate.set()
    assert await effects.settle(30)
    outcome = await effects.run("", slow, {}, call_id="c")
    assert outcome.is_done
    assert outcome.result == "late"
    assert len(runs) == 1
    assert Effects(after_crash(journal), "s").outcomes()[0].is_done


@running
async def test_sync_functions_run_in_a_thread_and_do_not_block():
    here = threading.get_ident()

    @effect()
    def where() -> bool:
        return threading.get_ident() != here

    assert (await Effects(journal_of(), "s").run("", where, {}, call_id="c")).result is True


@running
async def test_stop_iteration_in_a_thread_does_not_hang():
    def spent() -> None:
        next(iter(()))

    outcome = await Effects(journal_of(), "s").run("spent", spent, {}, call_id="c")
    assert outcome.status == "unknown"


class BrokenDisk(MemoryJournal):
    is_broken = True

    async def commit(self) -> None:
        if self.is_broken:
            raise JournalError("not durable: disk_full")


@running
async def test_without_a_durable_intent_nothing_is_done_and_it_may_be_tried_again():
    journal, bank = BrokenDisk(), Bank()
    effects = Effects(journal, "s")
    outcome = await effects.run("", bank.transfer, {"amount": 5}, call_id="c")
    assert (outcome.status, outcome.reason) == ("failed", "not_durable")
    assert bank.done == []
    journal.is_broken = False
    assert (await effects.run("", bank.transfer, {"amount": 5}, call_id="c")).is_done
    assert bank.done == ["transfer 5"]


@running
async def test_an_unknown_effect_stays_unknown_when_the_disk_fails():
    first, bank = journal_of(), Bank()
    await Effects(first, "s").run("", bank.deposit, {"amount": 5}, call_id="c")
    journal = BrokenDisk(redaction=Redaction(KEY))
    journal._lines = first._lines[:1]
    outcome = await Effects(journal, "s").run("", bank.deposit, {"amount": 5}, call_id="c")
    assert (outcome.status, outcome.reason) == ("unknown", "not_durable")
    assert len(bank.keys) == 1


@running
async def test_an_outcome_that_is_not_durable_is_still_told():
    journal, bank = BrokenDisk(), Bank()
    journal.is_broken = False
    bank.gate = asyncio.Event()
    effects = Effects(journal, "s")
    call = asyncio.create_task(effects.run("", bank.transfer, {"amount": 5}, call_id="c"))
    await bank.started.wait()
    journal.is_broken = True
    bank.gate.set()
    assert (await call).is_done


@running
async def test_arguments_that_do_not_fit_do_nothing():
    journal, bank = journal_of(), Bank()
    effects = Effects(journal, "s")
    for arguments in ({}, {"amount": 5, "to": "4111"}, {"amount": object()}, {1: 2}):
        with pytest.raises(TypeError) as caught:
            await effects.run("", bank.transfer, arguments, call_id="c")
        assert "4111" not in str(caught.value)
    with pytest.raises(TypeError, match="idempotency_key"):
        await effects.run("", bank.deposit, {"amount": 5, "idempotency_key": "mine"}, call_id="c")
    with pytest.raises(ValueError, match="bytes"):
        await effects.run("", bank.order, {"item": "x" * 20_000}, call_id="c")
    assert kinds(journal) == []
    assert bank.done == []


@running
async def test_results_that_cannot_be_kept_do_not_spoil_the_effect():
    effects = Effects(journal_of(entry_bytes=1024), "s")

    def large() -> str:
        return "x" * 2000

    def strange() -> object:
        return object()

    first = await effects.run("large", large, {}, call_id="c")
    assert first.is_done
    second = await effects.run("strange", strange, {}, call_id="c")
    assert (second.status, second.result, second.reason) == ("done", None, "result_lost")
    assert [outcome.is_done for outcome in effects.outcomes()] == [True, True]


@running
async def test_an_intent_too_large_for_the_journal_does_nothing():
    bank = Bank()
    effects = Effects(journal_of(entry_bytes=1024), "s")
    outcome = await effects.run("", bank.order, {"item": "x" * 2000}, call_id="c")
    assert (outcome.status, outcome.reason) == ("failed", "oversize")
    assert bank.done == []


@pytest.mark.parametrize("limit", ["MAX_EFFECTS", "MAX_RUNNING"])
@running
async def test_limits_refuse_and_keep_what_is_known(limit, monkeypatch):
    bank = Bank()
    effects = Effects(journal_of(), "s")
    await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    monkeypatch.setattr(effects_module, limit, 1 if limit == "MAX_EFFECTS" else 0)
    outcome = await effects.run("", bank.transfer, {"amount": 2}, call_id="c")
    assert (outcome.status, outcome.reason) == ("failed", "limit")
    assert (await effects.run("", bank.transfer, {"amount": 1}, call_id="c")).is_done
    assert bank.done == ["transfer 1"]


@running
async def test_undo_goes_in_reverse_and_each_once():
    journal, bank = journal_of(), Bank()
    effects = Effects(journal, "s")
    await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    await effects.run("", bank.order, {"item": "hat"}, call_id="c")
    await effects.run("", bank.transfer, {"amount": 2}, call_id="c")
    both = await asyncio.gather(effects.undo_all("cancelled"), effects.undo_all("cancelled"))
    assert [outcome.status for outcome in both[0]] == ["undone"] * 3
    assert both[0] == both[1]
    assert bank.undone == ["transfer 2", "order hat", "transfer 1"]
    assert kinds(journal)[6:] == ["undo_intent", "undo_outcome"] * 3
    assert await effects.undo_all("cancelled") == []
    again = await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    assert (again.status, again.is_done) == ("undone", False)
    assert len(bank.done) == 3


@pytest.mark.parametrize("kept", range(4, 9))
@running
async def test_undo_goes_on_after_a_crash_at_any_entry(kept):
    journal, bank = journal_of(), Bank()
    effects = Effects(journal, "s")
    await effects.run("", bank.order, {"item": "hat"}, call_id="c")
    await effects.run("", bank.order, {"item": "coat"}, call_id="c")
    await effects.undo_all("cancelled")
    assert len(journal) == 8
    resumed = Effects(after_crash(journal, kept=kept), "s", functions=bank.functions)
    await resumed.undo_all("cancelled")
    assert {record.status for record in resumed.records()} == {"undone"}
    # An undo may be called twice, never left out.
    assert set(bank.undone) == {"order hat", "order coat"}
    assert max(Counter(bank.undone).values()) <= 2


@running
async def test_an_undo_that_fails_keeps_no_other_and_can_be_tried_again(caplog):
    bank = Bank()
    effects = Effects(journal_of(), "s")
    await effects.run("", bank.order, {"item": "hat"}, call_id="c")
    await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    bank.undo_error = ConnectionError("4111")
    first = await effects.undo_all("cancelled")
    assert [(outcome.name, outcome.status) for outcome in first] == [
        ("transfer", "failed"),
        ("order", "undone"),
    ]
    bank.undo_error = None
    assert [outcome.status for outcome in await effects.undo_all("cancelled")] == ["undone"]
    assert "4111" not in caplog.text


@running
async def test_undo_waits_for_what_runs_and_lets_nothing_new_start():
    bank = Bank()
    bank.gate = asyncio.Event()
    effects = Effects(journal_of(), "s")
    call = asyncio.create_task(effects.run("", bank.transfer, {"amount": 1}, call_id="c"))
    await bank.started.wait()
    undoing = asyncio.create_task(effects.undo_all("hang_up"))
    await asyncio.sleep(0)
    refused = await effects.run("", bank.transfer, {"amount": 2}, call_id="c")
    assert (refused.status, refused.reason) == ("failed", "undoing")
    assert not await effects.settle(0)
    bank.gate.set()
    assert [outcome.status for outcome in await undoing] == ["undone"]
    await call
    assert bank.undone == ["transfer 1"]


@running
async def test_cancelling_who_waits_for_undo_does_not_stop_it():
    bank = Bank()
    effects = Effects(journal_of(), "s")
    await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    undoing = asyncio.create_task(effects.undo_all("hang_up"))
    await asyncio.sleep(0)
    undoing.cancel()
    assert await effects.settle(5)
    assert bank.undone == ["transfer 1"]


@running
async def test_undo_tells_what_it_cannot_take_back():
    journal, bank = journal_of(), Bank()
    effects = Effects(journal, "s")
    await effects.run("", bank.deposit, {"amount": 1}, call_id="c")
    bank.error_after = ConnectionError()
    await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    bank.error_after, bank.error = None, EffectFailedError()
    await effects.run("", bank.transfer, {"amount": 2}, call_id="c")
    left = [(outcome.name, outcome.status) for outcome in await effects.undo_all("cancelled")]
    assert left == [("transfer", "unknown"), ("deposit", "not_undoable")]
    resumed = Effects(after_crash(journal), "s")
    assert ("deposit", "not_undoable", "not_declared") in [
        (outcome.name, outcome.status, outcome.reason) for outcome in await resumed.undo_all("cancelled")
    ]


@pytest.mark.parametrize("was_done", [True, False])
@running
async def test_undo_checks_what_is_unknown(was_done):
    journal, bank = journal_of(), Bank()
    await Effects(journal, "s").run("", bank.order, {"item": "hat"}, call_id="c")
    if not was_done:
        bank.done.clear()
    effects = Effects(after_crash(journal, kept=1), "s", functions=bank.functions)
    outcomes = await effects.undo_all("cancelled")
    assert [outcome.status for outcome in outcomes] == (["undone"] if was_done else [])
    assert bank.undone == (["order hat"] if was_done else [])


@running
async def test_undo_is_not_begun_without_a_durable_intent():
    journal, bank = BrokenDisk(), Bank()
    journal.is_broken = False
    effects = Effects(journal, "s")
    await effects.run("", bank.transfer, {"amount": 1}, call_id="c")
    journal.is_broken = True
    assert [(o.status, o.reason) for o in await effects.undo_all("x")] == [("failed", "not_durable")]
    assert bank.undone == []


@running
async def test_redacted_arguments_reach_the_function_and_no_entry():
    taken = []

    @effect(redacted=["card"], undo="", key="card")
    async def pay(card: str) -> dict[str, str]:
        taken.append(card)
        return {"card": card, "receipt": "7"}

    journal = journal_of()
    first = await Effects(journal, "s").run("", pay, {"card": "4111"}, call_id="a")
    assert first.result == {"card": "4111", "receipt": "7"}
    assert b"4111" not in b"".join(journal._lines)
    again = await Effects(after_crash(journal), "s").run("", pay, {"card": "4111"}, call_id="b")
    assert again.is_recorded
    assert again.result["receipt"] == "7"
    assert "4111" not in str(again.result)
    assert taken == ["4111"]
    other_key = Effects(after_crash(journal, key=bytes(range(32))), "s")
    outcome = await other_key.run("", pay, {"card": "4111"}, call_id="b")
    assert (outcome.status, outcome.reason) == ("unknown", "redaction_key_changed")
    assert taken == ["4111"]


@running
async def test_keys_cannot_be_guessed_from_redacted_arguments():
    @effect(redacted=["pin"])
    def unlock(pin: str) -> None: ...

    one = await Effects(journal_of(), "s").run("", unlock, {"pin": "1234"}, call_id="a")
    other = await Effects(MemoryJournal(), "s").run("", unlock, {"pin": "1234"}, call_id="a")
    assert one.key != other.key


@running
async def test_a_redacted_idempotent_effect_is_not_rerun_from_the_journal():
    runs = []

    @effect(redacted=["card"], is_idempotent=True)
    def pay(card: str) -> None:
        runs.append(card)

    journal = journal_of()
    await Effects(journal, "s").run("", pay, {"card": "4111"}, call_id="a")
    effects = Effects(after_crash(journal, kept=1), "s", functions=[pay])
    assert [outcome.status for outcome in await effects.reconcile()] == ["unknown"]
    assert (await effects.run("", pay, {"card": "4111"}, call_id="a")).is_done
    assert runs == ["4111", "4111"]


@running
async def test_a_claim_without_an_outcome_is_flagged_and_noted():
    journal, bank = journal_of(), Bank()
    effects = Effects(journal, "s", functions=bank.functions)
    claim = "I have transferred it."
    assert effects.flag_claims("Shall I have it transferred?") == []
    assert effects.flag_claims(claim) == ["transfer"]
    bank.error = EffectFailedError()
    await effects.run("", bank.transfer, {"amount": 1}, call_id="a")
    assert effects.flag_claims(claim) == ["transfer"]
    bank.error = None
    await effects.run("", bank.transfer, {"amount": 1}, call_id="b")
    assert effects.flag_claims(claim) == []
    assert effects.flag_claims(claim, since_seq=len(journal)) == ["transfer"]
    await effects.undo_all("cancelled")
    assert effects.flag_claims(claim) == ["transfer"]
    reasons = [entry.data["reason"] for entry in journal.entries() if entry.kind == "claim"]
    assert reasons == ["never_run", "failed", "never_run", "undone"]
    assert b"it." not in b"".join(journal._lines)


@running
async def test_a_replay_takes_outcomes_from_the_record_and_runs_nothing():
    bank = Bank()
    effects = Effects(journal_of(), "s")
    first = await effects.run("", bank.order, {"item": "hat"}, call_id="c")
    replayed = Effects(journal_of(), "s", recorded={o.key: o for o in effects.outcomes()})
    again = await replayed.run("", bank.order, {"item": "hat"}, call_id="c")
    assert (again.status, again.result) == (first.status, first.result)
    missing = await replayed.run("", bank.order, {"item": "coat"}, call_id="c")
    assert (missing.status, missing.reason) == ("unknown", "not_recorded")
    assert [o.status for o in await replayed.undo_all("x")] == ["unknown", "undone"]
    assert bank.done == ["order hat"]
    assert bank.undone == []


@running
async def test_states_are_given_a_result_or_an_error():
    bank = Bank()
    effects = Effects(journal_of(), "s")
    task, other = effects.for_call("a"), effects.for_call("b")
    assert await task.run("", bank.transfer, {"amount": 1}) == "receipt 1"
    assert await task.run("", bank.transfer, {"amount": 1}) == "receipt 1"
    assert await other.run("", bank.transfer, {"amount": 1}) == "receipt 2"
    assert await task.run("", bank.transfer, {"amount": 1}, call_id="b") == "receipt 2"
    bank.error = EffectFailedError("4111")
    with pytest.raises(EffectFailedError, match=r"'transfer' is failed \(EffectFailedError\)"):
        await task.run("", bank.transfer, {"amount": 2})
    bank.error = ConnectionError("4111")
    with pytest.raises(EffectUnknownError, match=r"'transfer' is unknown \(ConnectionError\)"):
        await task.run("", bank.transfer, {"amount": 3})
    await effects.undo_all("x")
    with pytest.raises(EffectFailedError, match="is undone"):
        await task.run("", bank.transfer, {"amount": 1})


@running
async def test_effects_of_a_graph_are_known_before_they_run():
    calls = []

    def reserve(table: str) -> str:
        calls.append(("reserve", table))
        return table

    def release(result: str) -> None:
        calls.append(("release", result))

    class Confirm(AFSMState):
        name = "confirm"
        allowed_transitions = ("table",)

        @effect(claims=["is booked"], undo="unbook")
        def book(self) -> None: ...

        def unbook(self) -> None: ...

    table = {
        "name": "table",
        "description": "A table",
        "effects": [{"name": "reserve", "undo": "release", "key": "table"}],
    }
    graph = Graph.from_states(
        [Confirm(), table], "confirm", functions={"reserve": reserve, "release": release}
    )
    found = {bound.rules.name: bound for bound in effects_of(graph)}
    assert found.keys() == {"reserve", "book"}
    assert found["reserve"].rules.key == ("table",)
    journal = journal_of()
    effects = Effects(journal, "s", functions=effects_of(graph))
    assert effects.flag_claims("It is booked.") == ["book"]
    for call_id in "ab":
        assert await effects.for_call(call_id).run("reserve", reserve, {"table": "7"}) == "7"
    resumed = Effects(after_crash(journal), "s", functions=effects_of(graph))
    assert [outcome.status for outcome in await resumed.undo_all("x")] == ["undone"]
    assert calls == [("reserve", "7"), ("release", "7")]


@running
async def test_one_object_serves_a_journal():
    journal = journal_of()
    effects = Effects(journal, "s")
    with pytest.raises(ValueError, match="share"):
        Effects(journal, "s")
    del effects
    Effects(journal, "s")


def test_undo_and_check_are_found_beside_the_function():
    bank = Bank()
    bound = bind(bank.order)
    assert bound.undo == bank.cancel_order
    assert bound.check == bank.find_order
    assert bind(module_effect).undo is module_undo
    assert bind(bank._do).rules == EffectRules("_do")


@effect(undo="module_undo", name="renamed", key=["call_id", "a"])
def module_effect(a: int, call_id: str = "") -> None: ...


def module_undo() -> None: ...


def test_a_name_and_a_key_can_be_given():
    rules = bind(module_effect).rules
    assert (rules.name, rules.key) == ("renamed", ("call_id", "a"))
    assert bind(module_effect, "other").rules.name == "other"
    assert effect(key="a, b")(lambda a, b: None).__fastagent_effect__.key == "a,b"


def test_what_is_not_there_is_a_configuration_error():
    @effect(undo="nowhere")
    def lonely() -> None: ...

    with pytest.raises(ConfigurationError, match="nowhere"):
        bind(lonely)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"claims": "word"}, {"redacted": "word"}])
def test_rules_must_make_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        effect(**wrong)(lambda: None)


def test_reprs_show_no_words():
    outcome = EffectOutcome("pay", "done", "4111")
    assert "4111" not in repr(outcome)
