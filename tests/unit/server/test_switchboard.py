"""The switchboard with sessions of other processes: what is refused is given back, what is lost is told."""

import asyncio
import time
from types import SimpleNamespace

import orjson
import pytest

from fastagent import FastAgent
from fastagent.errors import SessionConflictError
from fastagent.server.doors.admission import Admission
from fastagent.server.kept.continuity import Continuity
from fastagent.server.switchboard import Switchboard
from fastagent.sessions import SessionKeeper, SessionRecord
from fastagent.sessions.memory import MemoryStore
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.wire.audiocodes import AudioCodesCodec
from fastagent.wire.events import SessionOffered, SessionResumed

pytestmark = pytest.mark.anyio

OWNER = "audiocodes:one"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Socket:
    def __init__(self):
        self.codec = AudioCodesCodec()
        self.leg = SimpleNamespace(is_open=True)
        self.on_event = lambda event: None
        self.on_lost = lambda code, reason: None
        self.sent = []

    def send(self, command):
        self.sent.append(type(command).__name__)

    def close(self, code=1000, reason=""):
        self.leg.is_open = False

    def divert(self, to):
        return b""

    def divert_no_more(self, held=()):
        pass


@pytest.fixture
async def house():
    store, counters, settings = MemoryStore(), Counters(), Settings()
    keeper = SessionKeeper(store)
    continuity = Continuity(
        keeper, settings, b"secret", sms=None, start=lambda work: work.close(), counters=counters
    )
    now = time.time()
    snapshot = {"caller": "", "media": "raw/mulaw", "session": {"runs": []}}
    lease = await store.acquire("c1", "dead", 0.0)
    record = SessionRecord(
        session_id="c1",
        agent_id="clinic",
        owner=OWNER,
        started_at_unix_s=now,
        updated_at_unix_s=now,
        snapshot=orjson.dumps(snapshot),
    )
    await store.save(record, lease)
    keeper.start()
    services = SimpleNamespace(settings=settings, counters=counters)

    def choose(offer):
        raise LookupError("an agent that is no more")

    board = Switchboard(services, choose, Admission(settings, counters), continuity)
    continuity.on_lost = board.lose
    yield SimpleNamespace(board=board, store=store, keeper=keeper)
    await keeper.close(1.0)


async def resumed(house):
    socket = Socket()
    house.board.hold(socket, OWNER, {})
    socket.on_event(SessionResumed("c1"))
    await asyncio.gather(*house.board._tasks, return_exceptions=True)
    async with asyncio.timeout(5):
        while house.keeper.keeps("c1"):  # noqa: ASYNC110 - a keeper tells nobody
            await asyncio.sleep(0.005)
    return socket


@pytest.mark.parametrize("is_full", [True, False], ids=["no-capacity", "no-agent"])
async def test_a_session_that_cannot_go_on_here_is_given_back(house, is_full):
    house.board._admission.is_draining = is_full
    socket = await resumed(house)
    assert "RefuseSession" in socket.sent
    assert not socket.leg.is_open
    try:
        await house.store.acquire("c1", "another", 1.0)
    except SessionConflictError:
        pytest.fail("the session is still owned here")
    assert (await house.store.load("c1")).status == "live"


async def test_a_call_that_closes_hears_that_its_session_is_anothers(house):
    told = []
    closing = SimpleNamespace(session_id="c1", is_over=True, lose=lambda: told.append("c1"))
    house.board._calls[OWNER, "c1"] = closing
    house.board.lose("c1")
    assert told == ["c1"]


async def test_a_call_that_was_handed_over_goes_on_with_who_had_it(house):
    billing = FastAgent("billing")
    front = FastAgent("front", colleagues=[billing])
    house.board._choose_agent = lambda offer: front
    offer = SessionOffered("c1", (), wants_audio=True)
    for agent_id, answers in (("billing", "billing"), ("front", "front"), ("nobody", "front")):
        taken = SimpleNamespace(record=SimpleNamespace(agent_id=agent_id))
        assert house.board._agent_for(offer, taken).agent_id == answers
    back = house.board._agent_for(offer, SimpleNamespace(record=SimpleNamespace(agent_id="billing")))
    assert back.colleague("front") is front
