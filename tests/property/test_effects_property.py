"""Duplicated, reordered and interrupted function calls, with restarts between: each distinct effect once.

The world counts what is done to it. A restart takes the journal as it was committed, to the entry, so it also
strikes between an act and its outcome.
"""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent.afsm.effects.effects import Effects
from fastagent.afsm.effects.rules import effect
from fastagent.journal import MemoryJournal, Redaction

KEY = bytes(32)
CALLS = 10_000
DISTINCT = 1_200


class World:
    """What is done to it stays done when the process dies."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.acts: Counter[tuple[str, int]] = Counter()
        self.keys: dict[str, int] = {}

    async def _dawdle(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)

    @effect(undo="take_back")
    async def transfer(self, n: int) -> str:
        await self._dawdle()
        self.acts["transfer", n] += 1
        await self._dawdle()
        return f"receipt {n}"

    @effect(is_idempotent=True)
    async def deposit(self, n: int, idempotency_key: str) -> str:
        await self._dawdle()
        # The other side knows the key: a second time it answers and does nothing.
        if idempotency_key not in self.keys:
            self.keys[idempotency_key] = n
            self.acts["deposit", n] += 1
        await self._dawdle()
        return f"receipt {n}"

    @effect(check="find")
    async def order(self, n: int) -> str:
        await self._dawdle()
        self.acts["order", n] += 1
        await self._dawdle()
        return f"receipt {n}"

    async def find(self, n: int) -> str | None:
        return f"receipt {n}" if self.acts["order", n] else None

    async def take_back(self, n: int, result: str) -> None:
        self.acts["transfer", n] -= 1

    def function(self, n: int):
        return (self.transfer, self.deposit, self.order)[n % 3]


class CommittedJournal(MemoryJournal):
    """Knows how far a restart finds it."""

    committed = 0

    async def commit(self) -> None:
        upto = len(self)
        await asyncio.sleep(0)
        self.committed = max(self.committed, upto)

    def after_crash(self) -> "CommittedJournal":
        found = CommittedJournal(redaction=Redaction(KEY))
        found._lines = self._lines[: self.committed]
        found._last_hash = list(found.entries())[-1].hash if found._lines else found._last_hash
        found.committed = self.committed
        return found


async def storm(
    world: World, journal: CommittedJournal, calls: list[int], *, interrupted: float, crash_at: int
):
    """Make calls at once; some are cut short; a crash after so many loop turns ends all."""
    rng = world.rng
    effects = Effects(journal, "session", functions=[world.transfer, world.deposit, world.order])
    tasks = [
        asyncio.create_task(effects.run("", world.function(n), {"n": n}, call_id=f"call{n}")) for n in calls
    ]
    for _ in range(crash_at):
        await asyncio.sleep(0)
        if rng.random() < interrupted:
            rng.choice(tasks).cancel()
    crashed = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    found = journal.after_crash()
    for task in crashed:
        task.cancel()
    await asyncio.gather(*crashed, return_exceptions=True)
    return found


def test_ten_thousand_duplicated_reordered_interrupted_calls_do_each_thing_once():
    rng = random.Random(4)
    world = World(rng)
    # Every distinct call at least once, the rest duplicates; any order.
    calls = [*range(DISTINCT), *(rng.randrange(DISTINCT) for _ in range(CALLS - DISTINCT))]
    rng.shuffle(calls)

    async def main() -> tuple[CommittedJournal, int, int]:
        journal = CommittedJournal(redaction=Redaction(KEY))
        effects = Effects(journal, "session")
        asked = cancelled = 0
        pending: list[asyncio.Task[object]] = []
        for n in calls:
            call = effects.run("", world.function(n), {"n": n}, call_id=f"call{n}")
            pending.append(asyncio.create_task(call))
            asked += 1
            if rng.random() < 0.3:
                await asyncio.sleep(0)
            if rng.random() < 0.2:
                cancelled += rng.choice(pending).cancel()
            if len(pending) >= 32:
                await asyncio.gather(*pending, return_exceptions=True)
                pending = []
        await asyncio.gather(*pending, return_exceptions=True)
        assert await effects.settle(30)
        for n in range(DISTINCT):
            outcome = await effects.run("", world.function(n), {"n": n}, call_id=f"call{n}")
            assert outcome.is_done
            assert outcome.result == f"receipt {n}"
        return journal, asked, cancelled

    journal, asked, cancelled = asyncio.run(main())
    assert asked == CALLS
    assert cancelled > 500
    assert set(world.acts.values()) == {1}
    assert len(world.acts) == DISTINCT
    assert len(journal) == 2 * DISTINCT
    journal.verify_chain()


def test_calls_over_many_restarts_do_each_thing_at_most_once_and_exactly_once_where_it_can_be_known():
    rng = random.Random(5)
    world = World(rng)

    async def main() -> Effects:
        journal = CommittedJournal(redaction=Redaction(KEY))
        for life in range(60):
            calls = [rng.randrange(300) for _ in range(40)]
            journal = await storm(world, journal, calls, interrupted=0.3, crash_at=rng.randrange(12))
            assert max(world.acts.values(), default=0) <= 1, f"life {life}"
        effects = Effects(journal, "session", functions=[world.transfer, world.deposit, world.order])
        for n in range(300):
            await effects.run("", world.function(n), {"n": n}, call_id=f"call{n}")
        return effects

    effects = asyncio.run(main())
    unknown = [outcome for outcome in effects.outcomes() if outcome.status == "unknown"]
    assert {outcome.name for outcome in unknown} == {"transfer"}
    assert max(world.acts.values()) == 1
    assert [
        n for n in range(300) if n % 3 and world.acts[("transfer", "deposit", "order")[n % 3], n] != 1
    ] == []
    done = sum(outcome.is_done for outcome in effects.outcomes())
    assert done == 300 - len(unknown)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lives=st.lists(
        st.tuples(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.integers(0, 12), st.floats(0, 1)),
        min_size=1,
        max_size=4,
    ),
)
def test_any_order_of_calls_cuts_and_crashes_repeats_nothing_and_can_be_undone(seed, lives):
    world = World(random.Random(seed))

    async def main() -> None:
        journal = CommittedJournal(redaction=Redaction(KEY))
        for calls, crash_at, interrupted in lives:
            journal = await storm(world, journal, calls, interrupted=interrupted, crash_at=crash_at)
            journal.verify_chain()
        assert max(world.acts.values(), default=0) <= 1
        effects = Effects(journal, "session", functions=[world.transfer, world.deposit, world.order])
        unknown = {outcome.key for outcome in await effects.reconcile()}
        for outcome in effects.outcomes():
            assert (outcome.status == "unknown") == (outcome.key in unknown)
        done = {record.arguments["n"] for record in effects.records() if record.status == "done"}
        assert set(world.acts.values()) <= {1}
        undone = await effects.undo_all("test")
        assert {outcome.status for outcome in undone} <= {"undone", "not_undoable", "unknown"}
        assert all(world.acts["transfer", n] == 0 for n in done if n % 3 == 0)

    asyncio.run(main())


@pytest.mark.parametrize("distinct", [1, 7])
def test_duplicates_of_few_calls_all_hear_the_same(distinct):
    rng = random.Random(6)
    world = World(rng)

    async def main() -> None:
        effects = Effects(CommittedJournal(), "session")
        outcomes = await asyncio.gather(
            *(
                effects.run("", world.order, {"n": n % distinct}, call_id=f"call{n % distinct}")
                for n in range(500)
            )
        )
        assert {outcome.result for outcome in outcomes} == {f"receipt {n}" for n in range(distinct)}
        assert sum(not outcome.is_recorded for outcome in outcomes) == distinct

    asyncio.run(main())
    assert set(world.acts.values()) == {1}
