"""What a jitter buffer owes its caller, kept the slow way: every packet ever put, the whole history of gets.

`Watch` wraps a buffer and raises AssertionError as soon as an answer is wrong: a payload that was not put
or is given twice or out of order, counters that do not add up. `least_impaired_delay_ms` is the target rule
over exact delays: the delay at which the E-model's losses to delay and to late packets are least.
"""

from collections.abc import Sequence

from fastagent._native.jitter import Arrival, JitterBuffer, Turn

__all__ = ["Watch", "least_impaired_delay_ms"]


class Watch:
    """A buffer under watch. Payloads are made here, so that each packet can be told from all others."""

    def __init__(self, buffer: JitterBuffer) -> None:
        self.buffer = buffer
        self.generation = 0
        """Rises with each reset: order holds within one."""
        self.put_count = 0
        self.inside: dict[bytes, tuple[int, int, int, int]] = {}
        """Payload to generation, seq, timestamp and duration of what may still be given."""
        self.last_seq: int | None = None
        """Of the last frame of this generation."""
        self.turns: list[Turn] = []
        self.played: list[int] = []

    def put(self, seq: int, timestamp: int, now: float, duration: int = 0) -> Arrival:
        self.put_count += 1
        payload = self.put_count.to_bytes(4, "big")
        resets = self.buffer.counters()["resets"]
        arrival = self.buffer.put(seq, timestamp, payload, now, duration)
        if self.buffer.counters()["resets"] != resets:
            self.generation += 1
            self.last_seq = None
        if arrival not in (Arrival.LATE, Arrival.DUPLICATE):
            self.inside[payload] = (self.generation, seq, timestamp, duration)
        self.check_counters()
        return arrival

    def get(self, now: float, quiet: bool = False) -> Turn:
        resets = self.buffer.counters()["resets"]
        turn, payload = self.buffer.get(now, quiet)
        if self.buffer.counters()["resets"] != resets:
            self.generation += 1
            self.last_seq = None
        self.turns.append(turn)
        assert self.buffer.duration > 0
        if turn is Turn.FRAME:
            generation, seq, timestamp, duration = self.inside.pop(payload)
            assert (self.buffer.seq, self.buffer.timestamp) == (seq, timestamp)
            assert not duration or self.buffer.duration == duration
            # A packet that was held aside counts to the generation that it opened.
            assert generation in (self.generation, self.generation - 1)
            if self.last_seq is not None:
                assert 0 < (seq - self.last_seq) % 65536 < 32768, "out of order"
            self.last_seq = seq
            self.played.append(seq)
        else:
            assert (payload, self.buffer.seq, self.buffer.timestamp) == (b"", 0, 0)
        self.check_counters()
        return turn

    def reset(self) -> None:
        self.buffer.reset()
        self.inside.clear()
        self.generation += 1
        self.last_seq = None
        self.check_counters()

    def check_counters(self) -> None:
        counted, waiting = self.buffer.counters(), self.buffer.waiting
        assert counted["received"] == self.put_count
        ended = counted["played"] + counted["late"] + counted["duplicates"] + counted["discarded"]
        assert counted["received"] == ended + waiting
        assert counted["played"] == self.turns.count(Turn.FRAME)
        assert counted["lost"] >= self.turns.count(Turn.LOST)
        assert counted["empty"] == self.turns.count(Turn.EMPTY) + self.turns.count(Turn.PREFETCH)
        assert counted["silences"] == self.turns.count(Turn.SILENCE)


def least_impaired_delay_ms(relative_ms: Sequence[float], path_ms: float) -> float:
    """Of 0 to 600 ms in whole ms, above the fastest packet."""

    def impairment(delay_ms: float) -> float:
        late = 100 * sum(r > floor + delay_ms for r in relative_ms) / len(relative_ms)
        beyond = max(0.0, delay_ms + path_ms - 177.3)
        return 0.024 * delay_ms + 0.11 * beyond + 95 * late / (late / 2 + 25.1)

    floor = min(relative_ms)
    return float(min(range(601), key=impairment))
