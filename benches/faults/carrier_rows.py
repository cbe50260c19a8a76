"""Faults of the carrier's side, and of strangers who knock."""

import asyncio
import base64
import os
import time

from benches.faults.stage import POLL_S, Outcome, Stage, until
from fastagent.testing.audiocodes_phone import LinePhase
from fastagent.testing.websocket_frames import head_size, payload_size

__all__ = [
    "audio_in_a_burst",
    "carrier_is_half_open",
    "carrier_resets",
    "chunks_meet",
    "half_heads_are_held",
    "idle_sockets_crowd_in",
    "oversize_is_declared",
]

HALF_HEADS = 200
IDLE_SOCKETS = 500
RATE_BYTES_PER_MS = 48


def _since_ms(begun: float) -> float:
    return 1000 * (time.monotonic() - begun)


async def carrier_resets(stage: Stage) -> Outcome:
    """6: the carrier's socket goes; the call waits, and goes on where it was."""
    victim = await stage.victim()
    victim.session.speak(victim.session.tone(600), "Your booking is")
    await asyncio.sleep(stage.some_s(0.0, 0.5))
    begun = time.monotonic()
    victim.carrier.reset()
    await until(lambda: victim.call.is_parked, "a parked call")
    outcome = Outcome(detected_ms=_since_ms(begun))
    await until(lambda: not victim.phone.is_connected, "the phone's own loss")
    await victim.phone.resume()
    outcome.recovered_ms = _since_ms(begun)
    await victim.phone.wait_until(lambda line: line.streams and line.streams[-1].is_done, "the rest")
    await stage.talk(victim.phone, victim.session)
    outcome.is_recovered = victim.session.is_open and victim.phone.line.phase is LinePhase.ACTIVE
    return outcome


async def carrier_is_half_open(stage: Stage) -> Outcome:
    """7: the carrier is gone and nobody tells."""
    victim = await stage.victim()
    begun = time.monotonic()
    victim.carrier.half_open()
    await until(lambda: victim.call.is_parked, "a parked call")
    outcome = Outcome(detected_ms=_since_ms(begun))
    await victim.phone.drop()
    await victim.phone.resume()
    outcome.recovered_ms = _since_ms(begun)
    await stage.talk(victim.phone, victim.session)
    return outcome


async def chunks_meet(stage: Stage, **faults: float) -> Outcome:
    """8, 12: caller audio is lost, doubled, swapped or garbled for half a second."""
    victim = await stage.victim()
    await victim.phone.wait_until(lambda line: line.is_listening, "the user stream")
    flow = victim.carrier.to_server
    flow.change(matches=lambda text: b'"userStream.chunk"' in text, **faults)
    await asyncio.sleep(0.5)
    flow.change(drop=0.0, duplicate=0.0, reorder=0.0, corrupt=0.0)
    await stage.talk(victim.phone, victim.session)
    counts = {
        "dropped": flow.dropped,
        "duplicated": flow.duplicated,
        "reordered": flow.reordered,
        "corrupted": flow.corrupted,
    }
    notes = {name: float(count) for name, count in counts.items() if count}
    return Outcome(None, None, victim.session.is_open and victim.carrier.is_open, notes)


async def audio_in_a_burst(stage: Stage) -> Outcome:
    """9: the carrier's audio is held up and then comes all at once; none of it is lost."""
    victim = await stage.victim()
    await victim.phone.wait_until(lambda line: line.is_listening, "the user stream")
    victim.carrier.to_server.freeze()
    await asyncio.sleep(2.0)
    begun = time.monotonic()
    victim.carrier.to_server.thaw()
    wanted = 20 * RATE_BYTES_PER_MS * victim.phone.line.chunks_sent
    await until(lambda: len(victim.session.audio) >= wanted, "the audio")
    outcome = Outcome(None, _since_ms(begun))
    await stage.talk(victim.phone, victim.session)
    return outcome


# Strangers


def _upgrade_head(stage: Stage) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /audiocodes/webhook HTTP/1.1\r\nHost: {stage.server.host}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


async def _open(stage: Stage) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(stage.server.host, stage.server.port)


def _rss_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def oversize_is_declared(stage: Stage) -> Outcome:
    """11: a frame of a terabyte is refused by its head."""
    reader, writer = await _open(stage)
    writer.write(_upgrade_head(stage))
    await reader.readuntil(b"\r\n\r\n")
    rss_kib, begun = _rss_kib(), time.monotonic()
    writer.write(bytes([0x81, 0xFF]) + (1 << 40).to_bytes(8, "big") + bytes(4))
    begin = await reader.readexactly(2)
    head = begin + await reader.readexactly(head_size(begin) - 2)
    payload = await reader.readexactly(payload_size(head))
    detected_ms = _since_ms(begun)
    writer.close()
    code = int.from_bytes(payload[:2], "big")
    notes = {"rss_kib": float(max(0, _rss_kib() - rss_kib))}
    return Outcome(detected_ms, detected_ms, begin[0] & 0x0F == 8 and code == 1009, notes)


async def half_heads_are_held(stage: Stage) -> Outcome:
    """17: many send half a head and no more; a call gets through meanwhile, and they are cut."""
    begun = time.monotonic()
    held = await asyncio.gather(*(_open(stage) for _ in range(HALF_HEADS)))
    for _, writer in held:
        writer.write(b"GET /audiocodes/webhook HTTP/1.1\r\nHost: x\r\nX-")
    victim = await stage.victim()
    await stage.talk(victim.phone, victim.session)
    answered_ms = _since_ms(begun)
    await asyncio.wait_for(
        asyncio.gather(*(reader.read() for reader, _ in held), return_exceptions=True), timeout=20.0
    )
    outcome = Outcome(_since_ms(begun), _since_ms(begun), notes={"call_ms": answered_ms})
    for _, writer in held:
        writer.close()
    return outcome


async def idle_sockets_crowd_in(stage: Stage) -> Outcome:
    """18: many open a WebSocket and say nothing; a call gets through."""
    begun = time.monotonic()
    rss_kib = _rss_kib()
    idle = await asyncio.gather(*(_open(stage) for _ in range(IDLE_SOCKETS)))
    for _, writer in idle:
        writer.write(_upgrade_head(stage))
        await asyncio.sleep(POLL_S)
    answers = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in idle))
    notes = {"kib_each": max(0, _rss_kib() - rss_kib) / IDLE_SOCKETS}
    victim = await stage.victim()
    await stage.talk(victim.phone, victim.session)
    for _, writer in idle:
        writer.close()
    is_open = all(answer.startswith(b"HTTP/1.1 101") for answer in answers)
    return Outcome(None, _since_ms(begun), is_open, notes)
