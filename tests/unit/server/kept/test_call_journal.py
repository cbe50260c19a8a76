"""A call's journal: order before the file is open, claims, and what an earlier process left unknown."""

import asyncio

import pytest

from fastagent.afsm.effects.rules import bind, effect
from fastagent.errors import EffectFailedError, JournalError
from fastagent.journal import JournalWriter, read_journal
from fastagent.server.kept import call_journal
from fastagent.server.kept.call_journal import CallJournal
from tests.written import is_written

pytestmark = pytest.mark.anyio

KEY = bytes(32)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def writer(tmp_path):
    writer = JournalWriter(tmp_path, key=KEY)
    yield writer
    assert writer.close(5.0)


class Shop:
    def __init__(self):
        self.orders = []

    @effect(check="find", claims=("i have ordered it",))
    async def order(self, what: str) -> str:
        self.orders.append(what)
        return "receipt"

    async def find(self, what: str) -> str | None:
        return "receipt" if what in self.orders else None


def journal_of(shop, open_file=None, carried=()):
    notes = []
    journal = CallJournal(
        "c1",
        about={"agent": "desk"},
        functions=[bind(shop.order)],
        redacted=frozenset({"pin"}),
        open_file=open_file,
        on_claim=notes.append,
        carried=carried,
    )
    return journal, notes


def kept(tmp_path):
    return [(entry.kind, dict(entry.data)) for entry in read_journal(tmp_path / "c1.journal").entries()]


async def test_what_comes_before_the_file_is_open_is_kept_in_order(writer, tmp_path):
    gate = asyncio.Event()

    async def open_file():
        await gate.wait()
        return await writer.open("c1", redacted={"pin"})

    journal, notes = journal_of(Shop(), open_file)
    journal.said("caller", "Hello.", is_redacted=False)
    run = journal.keep("f1")
    run.begin("buy", "hash", slots={"pin": "4711"})
    journal.said("agent", "I have ordered it.", is_redacted=False)
    ordering = asyncio.create_task(run.effects.run("", Shop().order, {"what": "tea"}))
    committing = asyncio.create_task(journal.commit())
    await asyncio.sleep(0)
    assert (notes, ordering.done(), committing.done()) == ([], False, False)
    gate.set()
    await committing
    assert await ordering == "receipt"
    await journal.close("caller")
    entries = kept(tmp_path)
    assert [kind for kind, _ in entries] == [
        "opened", "said", "opened", "said", "claim", "effect_intent", "effect_outcome", "closed",
    ]  # fmt: skip
    assert entries[2][1]["run"] == "f1"
    assert not is_written("4711", (tmp_path / "c1.journal").read_bytes())
    assert len(notes) == 1
    assert journal.counters == {"claims_flagged": 1}


async def test_what_waits_for_the_file_is_bounded(monkeypatch):
    monkeypatch.setattr(call_journal, "WAITING_MAX", 2)
    monkeypatch.setattr(call_journal, "SETTLE_TIMEOUT_S", 0.01)
    journal, _ = journal_of(Shop(), asyncio.Event().wait)
    for _ in range(5):
        journal.record("said", {})
    await journal.close("caller")
    assert journal.counters["journal_entries_lost"] >= 3


async def test_a_model_that_goes_on_claiming_is_told_a_few_times_and_counted_always():
    journal, notes = journal_of(Shop())
    for _ in range(9):
        journal.said("agent", "I have ordered it.", is_redacted=False)
        journal.said("caller", "I have ordered it.", is_redacted=False)
    assert journal.counters["claims_flagged"] == 9
    assert len(notes) == call_journal.CLAIM_NOTES_MAX


@pytest.mark.parametrize(("was_done", "status"), [(True, "done"), (False, "failed")])
async def test_what_an_earlier_process_left_unknown_is_found_out(writer, tmp_path, was_done, status):
    shop = Shop()
    first = await writer.open("c1")
    about = {"key": "k", "name": "order", "call_id": "f1", "arguments": {"what": "tea"}, "attempt": 1}
    first.append("effect_intent", about)
    assert await first.close()
    shop.orders = ["tea"] if was_done else []
    journal, _ = journal_of(shop, lambda: writer.open("c1"))
    effects = await journal.effects()
    async with asyncio.timeout(5):
        while effects.outcomes()[0].status == "unknown":  # noqa: ASYNC110 - reconciled behind our back
            await asyncio.sleep(0)
    assert effects.outcomes()[0].status == status
    await journal.close("caller")
    assert [kind for kind, _ in kept(tmp_path)] == [
        "effect_intent", "opened", "resumed", "effect_outcome", "closed",
    ]  # fmt: skip
    assert shop.orders == (["tea"] if was_done else [])


@pytest.mark.parametrize("was_closed_after", [0, 1, 2])
async def test_a_file_takes_in_what_another_machine_kept_meanwhile_and_nothing_twice(
    writer, tmp_path, was_closed_after
):
    shop = Shop()
    elsewhere, _ = journal_of(shop)
    for what in ("tea", "salt"):
        await elsewhere.keep("f1").effects.run("", shop.order, {"what": what})
    carried = elsewhere.carried()
    assert [kind for kind, _ in carried] == ["effect_intent", "effect_outcome"] * 2
    file = await writer.open("c1")
    for kind, data in carried[: 2 * was_closed_after]:
        file.record(kind, data)
    assert await file.close()
    for _ in range(2):
        journal, _ = journal_of(shop, lambda: writer.open("c1"), carried)
        await journal.keep("f1").effects.run("", shop.order, {"what": "tea"})
        assert journal.carried() == carried
        await journal.close("caller")
    assert shop.orders == ["tea", "salt"]


async def test_a_journal_that_is_being_closed_is_waited_for(writer):
    first = await writer.open("c1")
    journal, _ = journal_of(Shop(), lambda: writer.open("c1"))
    ordering = asyncio.create_task(journal.keep("f1").effects.run("", Shop().order, {"what": "tea"}))
    await asyncio.sleep(2 * call_journal.IN_USE_PAUSE_S)
    assert not ordering.done()
    assert await first.close()
    assert await ordering == "receipt"
    await journal.close("caller")
    assert journal.counters["journals_not_opened"] == 0


async def test_a_journal_in_use_by_another_process_begins_no_effect(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(call_journal, "IN_USE_TIMEOUT_S", 0.1)
    other = JournalWriter(tmp_path, key=KEY)
    await other.open("c1")
    shop = Shop()
    journal, _ = journal_of(shop, lambda: writer.open("c1"))
    with pytest.raises(EffectFailedError):
        await journal.keep("f1").effects.run("", shop.order, {"what": "tea"})
    await journal.close("caller")
    assert journal.counters["journals_not_opened"] == 1
    assert shop.orders == []
    assert other.close(5.0)


async def test_a_call_that_is_over_begins_no_effect():
    shop = Shop()
    journal, _ = journal_of(shop)
    run = journal.keep("f1")
    await journal.close("caller")
    await journal.close("caller")
    with pytest.raises(EffectFailedError):
        await run.effects.run("", shop.order, {"what": "tea"})
    assert shop.orders == []


async def test_a_disk_that_refuses_a_commit_is_counted_and_waited_for_no_longer(monkeypatch):
    journal, _ = journal_of(Shop())

    async def refuse():
        raise JournalError("not durable")

    monkeypatch.setattr(journal._journal, "commit", refuse)
    await journal.commit()
    assert journal.counters == {"commits_missed": 1}


async def test_disk_that_was_late_is_waited_for_shortly_until_it_is_in_time_again(monkeypatch):
    journal, _ = journal_of(Shop())
    disk = asyncio.Event()
    limits_s = []
    real_timeout = asyncio.timeout

    def timeout(limit_s):
        limits_s.append(limit_s)
        return real_timeout(0.001 if not disk.is_set() else limit_s)

    monkeypatch.setattr(call_journal.asyncio, "timeout", timeout)
    monkeypatch.setattr(journal._journal, "commit", disk.wait)
    await journal.commit()
    disk.set()
    await journal.commit()
    await journal.commit()
    usual, short = call_journal.COMMIT_TIMEOUT_S, call_journal.NEXT_COMMIT_TIMEOUT_S
    assert limits_s == [usual, short, usual]
    assert journal.counters == {"commits_missed": 1}
