"""The barge-in gate for any input: whatever comes, its figures stay in range and its answers repeat."""

import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.bargein import BRIDGE_MS, FRAME_BYTES, BargeInGate

SILENCE = bytes(FRAME_BYTES)


stretches = st.lists(
    st.tuples(
        st.sampled_from(("silence", "noise", "constant", "rails")),
        st.integers(1, 32767),  # peak
        st.integers(1, 40),  # frames
    ),
    min_size=1,
    max_size=5,
)


def stream(plan: list[tuple[str, int, int]]) -> list[bytes]:
    """Stretches of silence, noise of any level, a constant, or the rails, in turn."""
    out: list[bytes] = []
    for kind, peak, count in plan:
        chance = random.Random(peak)
        for _ in range(count):
            if kind == "silence":
                samples = [0] * 160
            elif kind == "noise":
                samples = [chance.randint(-peak, peak) for _ in range(160)]
            elif kind == "constant":
                samples = [-peak - 1] * 160
            else:
                samples = chance.choices((-32768, 32767), k=160)
            out.append(struct.pack("<160h", *samples))
    return out


def at(frames: list[bytes], i: int) -> bytes:
    return frames[i % len(frames)]


@given(
    caller=stretches,
    bot=stretches | st.none(),
    probabilities=st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=40),
    confirm_ms=st.integers(20, 1000),
)
@settings(deadline=None, max_examples=60)
def test_any_input(
    caller: list[tuple[str, int, int]],
    bot: list[tuple[str, int, int]] | None,
    probabilities: list[float | None],
    confirm_ms: int,
) -> None:
    caller_frames, bot_frames = stream(caller), None if bot is None else stream(bot)
    gate, twin = BargeInGate(confirm_ms=confirm_ms), BargeInGate(confirm_ms=confirm_ms)
    before, spoken_ms = "quiet", 0
    for i in range(120):
        heard, played = at(caller_frames, i), None if bot_frames is None else at(bot_frames, i)
        probability = probabilities[i % len(probabilities)]
        verdict = gate.process(heard, played, speech_probability=probability)
        assert verdict == twin.process(heard, played or SILENCE, speech_probability=probability)
        spoken_ms = 0 if gate.onset_ms == 0 else spoken_ms + 20
        assert 0 <= gate.speech_ms <= gate.onset_ms == gate.speech_ms + gate.pause_ms
        assert gate.pause_ms <= BRIDGE_MS
        assert all(-60 <= leak_db <= 6 for leak_db in gate.leak_db)
        assert gate.lag_ms is None or 0 <= gate.lag_ms <= 620
        if verdict == "confirmed" and before != "confirmed":
            assert spoken_ms >= confirm_ms
        if verdict in ("speech", "confirmed"):
            assert gate.onset_ms > 0
        before = verdict


@given(caller=stretches, cut=st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_reset_is_a_new_gate(caller: list[tuple[str, int, int]], cut: int) -> None:
    frames = stream(caller)
    used, new = BargeInGate(), BargeInGate()
    for i in range(cut):
        used.process(at(frames, i), at(frames, i + 7))
    used.reset()
    for i in range(60):
        assert used.process(at(frames, i), at(frames, 3 * i)) == new.process(at(frames, i), at(frames, 3 * i))
    assert used.leak_db == new.leak_db
