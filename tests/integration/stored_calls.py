"""A process of its own on a store: ``python -m tests.integration.stored_calls write|own kind place``.

``write`` saves for ever and tells of each write once it was acknowledged, until it is killed. ``own`` tries
to own one session and writes when it does, with leases that are too short, and tells what became of it.
"""

import asyncio
import os
import sys

from fastagent.errors import SessionConflictError
from tests.integration.stores import lines, opened, record

SESSIONS = 4
OWNED_S = 0.004


async def write(kind: str, place: str, holder: str, first: str) -> None:
    async with opened(kind, place) as store:

        async def call(n: int) -> None:
            session_id = f"call-{n}"
            lease = await store.acquire(session_id, holder, 0.001)
            turn = int(first)
            while True:
                turn += 1
                await store.append_transcript(session_id, lines(turn), lease)
                await store.save(
                    record(session_id, turn_count=turn, snapshot=b"state %d " % turn * 500), lease
                )
                print(n, turn, flush=True)

        await asyncio.gather(*(call(n) for n in range(SESSIONS)))


async def own(kind: str, place: str, holder: str, stop: str) -> None:
    async with opened(kind, place) as store:
        while not os.path.exists(stop):  # noqa: ASYNC240 - nothing else runs here
            try:
                lease = await store.acquire("contested", holder, OWNED_S)
            except SessionConflictError:
                print("held", flush=True)
                await asyncio.sleep(0.003)
                continue
            for turn in range(6):
                try:
                    await store.save(
                        record("contested", turn_count=turn, outcome=holder, started_at_unix_s=lease.fence),
                        lease,
                    )
                    await store.append_transcript(
                        "contested", lines(lease.fence * 10 + turn, text=holder), lease
                    )
                    print("wrote", lease.fence, turn, flush=True)
                except SessionConflictError:
                    print("lost", lease.fence, flush=True)
                    break
                await asyncio.sleep(0.002)


if __name__ == "__main__":
    asyncio.run({"write": write, "own": own}[sys.argv[1]](*sys.argv[2:]))
