"""Orders: an outcome for whoever waits, once, and nothing for those who do not."""

import asyncio

import pytest

from fastagent.afsm import Order, TransferEnd, TransferOutcome

BUSY = TransferOutcome(TransferEnd.BUSY, "busy")
ANSWERED = TransferOutcome(TransferEnd.ANSWERED)


def test_all_who_wait_are_told_and_the_first_outcome_counts():
    async def main():
        told = []
        order = Order(lambda: told.append("awaited"))
        waiting = [asyncio.ensure_future(order), asyncio.ensure_future(order)]
        await asyncio.sleep(0)
        assert order.is_awaited
        assert told == ["awaited"] * 2
        order.settle(BUSY)
        order.settle(ANSWERED)
        assert await asyncio.gather(*waiting) == [BUSY, BUSY]
        assert await order is BUSY
        assert told == ["awaited"] * 2, "what is known is not waited for"
        assert not order.is_awaited

    asyncio.run(main())


def test_who_gave_up_does_not_wait():
    async def main():
        order = Order()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await order
        assert not order.is_awaited
        order.settle(ANSWERED)
        assert (await order).is_answered

    asyncio.run(main())
