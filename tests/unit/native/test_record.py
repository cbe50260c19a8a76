"""The recorder's promises: both parties on one clock, whatever jitters, stalls, bursts or pauses."""

import struct
import sys

import pytest

from fastagent._native import g711, record
from fastagent._native.record import BLOCK_SAMPLES, BOT_SLACK_SAMPLES, RING_SAMPLES, Recorder

FRAME = 160
RATE = 8000
START = 1000.0


def packed(samples):
    return struct.pack(f"<{len(samples)}h", *samples)


def numbered(start, n=FRAME):
    """Samples that tell where they were spoken: 1 to 30000, so never silence."""
    return packed([1 + at % 30_000 for at in range(start, start + n)])


class Call:
    """A recorder on a clock that counts samples, and what came out of it."""

    def __init__(self, encoding="pcm16"):
        self.recorder = Recorder(encoding, START)
        self.out = b""

    def caller(self, at, pcm):
        self.out += self.recorder.caller(pcm, START + at / RATE)

    def advance(self, at):
        self.out += self.recorder.advance(START + at / RATE)

    def bot(self, position, pcm):
        self.recorder.bot(pcm, position)

    def pause(self, at):
        return self.recorder.pause(START + at / RATE)

    def resume(self, at):
        return self.recorder.resume(START + at / RATE)

    def talk(self, spoken, until, *, delay=0):
        """Frames of the caller that arrive when they end, or `delay` samples later."""
        for start in range(spoken, until, FRAME):
            self.caller(start + FRAME + delay, numbered(start))

    def finish(self, at):
        self.out += self.recorder.flush(START + at / RATE)
        stereo = struct.unpack(f"<{len(self.out) // 2}h", self.out)
        return list(stereo[::2]), list(stereo[1::2])


def spoken(channel):
    """Stretches of a channel that was fed by `numbered`: (where it stands, when it was spoken, how long)."""
    found = []
    for at, value in enumerate(channel):
        if not value:
            continue
        if (
            found
            and found[-1][0] + found[-1][2] == at
            and (found[-1][1] + found[-1][2]) % 30_000 == value - 1
        ):
            found[-1][2] += 1
        else:
            found.append([at, value - 1, 1])
    return [tuple(stretch) for stretch in found]


# One clock


def test_both_parties_stand_where_they_were_heard():
    call = Call()
    for start in range(0, 24_000, FRAME):
        call.caller(start + FRAME, numbered(start))
        if 8000 <= start < 16_000:
            call.bot(start, numbered(start))
    left, right = call.finish(24_000)
    assert spoken(left) == [(0, 0, 24_000)]
    assert spoken(right) == [(8000, 8000, 8000)]
    assert (
        call.recorder.padded_samples == call.recorder.dropped_samples == call.recorder.misplaced_samples == 0
    )


@pytest.mark.parametrize("pattern", [[0], [0, 150], [0, 40, 1000, 3, 700], [300, 0], [1500, 1500, 0]])
def test_jitter_puts_nothing_in_and_takes_nothing_out(pattern):
    call = Call()
    call.caller(FRAME, numbered(0))
    arrived = 0
    for i, start in enumerate(range(FRAME, 40_000, FRAME)):
        arrived = max(arrived, start + FRAME + pattern[i % len(pattern)])
        call.caller(arrived, numbered(start))
    left, _ = call.finish(40_000)
    assert spoken(left) == [(0, 0, 40_000)]


@pytest.mark.parametrize("n", [0, 1, 7, 80, 159, 160, 161, 320, 1600])
def test_any_chunk_length_of_the_caller(n):
    call = Call()
    at = 0
    for _ in range(60):
        call.caller(at + n, numbered(at, n))
        at += n
    left, _ = call.finish(at)
    assert spoken(left) == ([(0, 0, at)] if at else [])


def test_first_words_stand_where_they_arrive():
    call = Call()
    call.talk(50_000, 60_000)
    left, _ = call.finish(60_000)
    stretches = spoken(left)
    assert [(at, at + n) for at, _, n in stretches] == [(50_000, 60_000 + (-10_000 % FRAME))]


def test_output_comes_in_blocks_and_is_never_more_than_a_second_behind():
    call = Call()
    sizes = []
    for start in range(0, 80_000, FRAME):
        before = len(call.out)
        call.caller(start + FRAME, numbered(start))
        sizes.append(len(call.out) - before)
        assert start + FRAME - len(call.out) // 4 <= BLOCK_SAMPLES + BOT_SLACK_SAMPLES
    assert set(sizes) == {0, 4 * BLOCK_SAMPLES}


def test_flush_fills_up_the_shorter_channel():
    for caller_ms, bot_ms in [(100, 40), (40, 100), (0, 60), (60, 0), (0, 0)]:
        call = Call()
        call.advance(800)
        call.bot(0, numbered(0, 8 * bot_ms))
        call.caller(8 * caller_ms, numbered(0, 8 * caller_ms))
        left, right = call.finish(800)
        assert len(left) == len(right)
        assert sum(map(bool, right)) == 8 * bot_ms
        assert sum(map(bool, left)) == 8 * caller_ms


def test_nothing_is_taken_after_flush():
    call = Call()
    call.talk(0, 1600)
    left, _ = call.finish(1600)
    call.talk(1600, 3200)
    call.bot(1600, numbered(0))
    call.advance(80_000)
    assert len(call.out) == 4 * len(left)


# A caller who stalls


@pytest.mark.parametrize("stall_ms", [40, 180, 300, 380])
def test_a_stall_and_its_burst_within_the_ring_lose_nothing(stall_ms):
    call = Call()
    call.talk(0, 16_000)
    end = 16_000 + 8 * stall_ms
    for at in range(16_000, end, FRAME):
        call.advance(at)
        call.bot(at - FRAME, numbered(at - FRAME))
    for start in range(16_000, end, FRAME):
        call.caller(end, numbered(start))
    call.talk(end, 32_000)
    left, _ = call.finish(32_000)
    assert spoken(left) == [(0, 0, 32_000)]
    assert call.recorder.padded_samples == call.recorder.dropped_samples == 0


@pytest.mark.parametrize("stall_ms", [600, 1000, 3000, 20_000])
def test_a_burst_after_a_longer_stall_keeps_its_newest_audio_in_true_place(stall_ms):
    call = Call()
    call.talk(0, 16_000)
    end = 16_000 + 8 * stall_ms
    for at in range(16_000, end, FRAME):
        call.advance(at)
        call.bot(at - FRAME, numbered(at - FRAME))
    for start in range(16_000, end, FRAME):
        call.caller(end, numbered(start))
    call.talk(end, end + 16_000)
    left, right = call.finish(end + 16_000)
    assert spoken(right) == [(16_000 - FRAME, (16_000 - FRAME) % 30_000, end - 16_000)]
    first, last = spoken(left[: end + 8000])[0], spoken(left[: end + 8000])[-1]
    assert first == (0, 0, 16_000)
    assert 0 <= (last[0] - last[1]) % 30_000 <= FRAME
    assert last[0] + last[2] == end + 8000
    kept_from = min(at for at, value in enumerate(left) if at >= 16_000 and value)
    assert kept_from <= end - 2200  # of the burst, at least 275 ms are kept
    assert not any(value == 0 for value in left[kept_from:])
    assert call.recorder.padded_samples == kept_from - 16_000
    assert call.recorder.dropped_samples == pytest.approx(kept_from - 16_000, abs=FRAME)


@pytest.mark.parametrize("gap_ms", [600, 1000, 60_000])
def test_audio_after_lost_audio_stands_in_its_true_place_at_once(gap_ms):
    call = Call()
    call.talk(0, 16_000)
    end = 16_000 + 8 * gap_ms
    for at in range(16_000, end, FRAME):
        call.advance(at)
    call.talk(end, end + 16_000)
    left, _ = call.finish(end + 16_000)
    assert spoken(left) == [(0, 0, 16_000), (end, end % 30_000, 16_000)]
    assert call.recorder.padded_samples == end - 16_000
    assert call.recorder.dropped_samples == 0


def test_a_long_gap_without_any_call_is_silence_too():
    call = Call()
    call.talk(0, 16_000)
    call.talk(4_000_000, 4_016_000)
    left, right = call.finish(4_016_000)
    assert len(left) == len(right) == 4_016_000
    assert not any(left[16_000:4_000_000])
    assert all(left[4_000_000:])


def test_a_lag_that_stays_is_taken_for_lost_audio_within_two_seconds():
    call = Call()
    call.talk(0, 16_000)
    call.talk(18_400, 60_000)  # 300 ms are lost: too little to fill the ring
    left, _ = call.finish(60_000)
    first, last = spoken(left)[0], spoken(left)[-1]
    assert first[:2] == (0, 0)
    assert last[0] % 30_000 == last[1]
    assert last[0] <= 16_000 + 2 * 8000 + 2400
    assert call.recorder.padded_samples == 2400


def test_a_lag_under_a_fifth_of_a_second_is_left_alone():
    call = Call()
    call.talk(0, 16_000)
    call.talk(17_440, 80_000)  # 180 ms
    assert call.recorder.padded_samples == 0


def test_a_caller_who_runs_ahead_of_the_clock_is_held_to_a_fifth_of_a_second():
    call = Call()
    at = 0
    for i in range(2000):  # 2 % fast
        at += 157
        call.caller(at, numbered(i * FRAME))
        left = len(call.out) // 4
        assert left <= at + 1600
    left, _ = call.finish(at)
    assert at <= len(left) <= at + 1600
    assert call.recorder.dropped_samples > 0


def test_a_slow_caller_is_kept_within_a_fifth_of_a_second_and_a_window():
    call = Call()
    at = 0
    for i in range(3000):  # 2 % slow
        at += 163
        call.caller(at, numbered(i * FRAME))
    left, _ = call.finish(at)
    assert 0 <= at - len(left) <= 1600 + 400
    assert call.recorder.padded_samples > 0
    assert call.recorder.dropped_samples == 0


def test_a_stalled_caller_never_holds_up_the_bot():
    call = Call()
    for start in range(0, 80_000, FRAME):
        call.advance(start + FRAME)
        call.bot(start, numbered(start))
        assert start + FRAME - len(call.out) // 4 <= RING_SAMPLES
    left, right = call.finish(80_000)
    assert spoken(right) == [(0, 0, 80_000)]
    assert not any(left)
    assert call.recorder.misplaced_samples == 0


# The bot


@pytest.mark.parametrize(
    ("position", "n", "kept"),
    [
        (0, 160, 0), (6400, 160, 0), (12_240, 160, 0), (12_720, 160, 80), (12_800, 160, 160),
        (16_000, 160, 160), (16_720, 160, 80), (16_800, 160, 0), (1 << 62, 160, 0),
        (-(1 << 63), 160, 0), ((1 << 63) - 1, 160, 0),
        (-100, 160, 0), (12_800, 4000, 4000), (12_800, 4001, 0), (10_000, 4000, 1200),
    ],
)  # fmt: skip
def test_bot_audio_outside_the_ring_is_dropped_and_counted(position, n, kept):
    call = Call()
    call.talk(0, 16_320)
    assert len(call.out) == 4 * 12_800
    call.bot(position, packed([5] * n))
    assert call.recorder.misplaced_samples == n - kept
    _, right = call.finish(16_320)
    assert right.count(5) == kept


def test_later_bot_audio_wins_where_two_stretches_meet():
    call = Call()
    call.talk(0, 800)
    call.bot(0, packed([3] * 320))
    call.bot(160, packed([4] * 320))
    _, right = call.finish(800)
    assert right[:480] == [3] * 160 + [4] * 320


# Pause


def test_a_pause_holds_no_audio_and_keeps_the_clock():
    call = Call()
    for start in range(0, 48_000, FRAME):
        if start == 16_000:
            assert call.pause(start) == 16_000
            assert call.recorder.is_paused
        if start == 32_000:
            assert call.resume(start) == 32_000
            assert not call.recorder.is_paused
        call.caller(start + FRAME, numbered(start))
        call.bot(start, numbered(start))
    left, right = call.finish(48_000)
    for channel in (left, right):
        assert len(channel) == 48_000
        assert not any(channel[16_000:32_000])
        assert all(channel[:16_000])
        assert all(channel[32_000:])


def test_pausing_or_resuming_twice_changes_nothing():
    call = Call()
    call.resume(100)
    call.talk(0, 1600)
    call.pause(1600)
    call.pause(2000)
    call.bot(1700, numbered(0))
    call.resume(2400)
    call.resume(3200)
    call.bot(2400, numbered(0))
    _, right = call.finish(3200)
    assert not any(right[:2400])
    assert all(right[2400:2560])


@pytest.mark.parametrize("resumed_ms", [200, 460, 700, 2000])
@pytest.mark.parametrize("burst_after_ms", [0, 20, 100, 400, 1000])
@pytest.mark.parametrize("stalled_before_ms", [0, 100, 1000])
def test_a_burst_after_the_pause_brings_nothing_of_the_pause(resumed_ms, burst_after_ms, stalled_before_ms):
    """The line stalls before or at the pause, and everything arrives at once some time after it."""
    call = Call()
    stalled, paused = 16_000, 16_000 + 8 * stalled_before_ms
    resumed = paused + 8 * resumed_ms
    burst = resumed + 8 * burst_after_ms
    call.talk(0, stalled)
    for at in range(stalled, burst + 1, FRAME):
        if at - FRAME < paused <= at:
            call.pause(paused)
        if at - FRAME < resumed <= at:
            call.resume(resumed)
        call.advance(at)
    assert not call.recorder.is_paused
    for start in range(stalled, burst, FRAME):
        call.caller(burst, packed([-7] * FRAME) if paused <= start < resumed else numbered(start))
    call.talk(burst, burst + 24_000)
    left, _ = call.finish(burst + 24_000)
    assert -7 not in left
    assert not any(left[paused:resumed])
    assert all(left[burst + 8000 + FRAME : burst + 24_000 - FRAME])


def test_audio_that_a_surplus_moves_into_a_pause_is_silenced():
    call = Call()
    call.talk(0, 16_000)
    call.pause(16_000)
    call.talk(16_000, 16_640)
    call.resume(16_640)
    for i in range(12):  # three times as fast as the clock: what is too early pushes out the oldest
        for _ in range(3):
            call.caller(16_800 + i * FRAME, packed([9] * FRAME))
    assert call.recorder.dropped_samples > 0
    left, _ = call.finish(20_000)
    assert not any(left[16_000:16_640])
    assert 9 in left[16_640:]


def test_late_bot_audio_of_a_pause_is_kept_out():
    call = Call()
    call.talk(0, 1600)
    call.pause(1600)
    call.talk(1600, 3200)
    call.resume(3200)
    call.talk(3200, 3360)
    call.bot(1440, packed([9] * 2000))
    _, right = call.finish(4800)
    assert right[1440:1600] == [9] * 160
    assert not any(right[1600:3200])
    assert right[3200:3440] == [9] * 240


# The file's encodings, and its limits


def test_mulaw_holds_the_codes_of_g711_and_its_silence():
    pcm = packed([-32768, 32767, 0, -1, 1000, -20_000] * 40)
    recorder = Recorder("mulaw", START)
    out = recorder.caller(pcm, START + 240 / RATE)
    recorder.bot(pcm, 240)
    out += recorder.flush(START + 0.1)
    codes = g711.ulaw_encode(pcm)
    assert out[::2] == codes + b"\xff" * 240
    assert out[1::2] == b"\xff" * 240 + codes


@pytest.mark.parametrize("level", [-32768, -1, 0, 1, 32767])
def test_extreme_levels_pass_unchanged(level):
    call = Call()
    call.caller(FRAME, packed([level] * FRAME))
    call.bot(0, packed([level] * FRAME))
    assert call.finish(FRAME) == ([level] * FRAME, [level] * FRAME)


def test_every_alignment_and_any_buffer():
    for shift in range(4):
        raw = bytes(shift) + numbered(0)
        for buffer in (memoryview(raw)[shift:], memoryview(bytearray(raw))[shift:], raw[shift:]):
            recorder = Recorder("pcm16", START)
            recorder.caller(buffer, START + 0.02)
            recorder.bot(buffer, 0)
            out = struct.unpack("<320h", recorder.flush(START + 0.02))
            assert list(out[::2]) == list(out[1::2]) == [1 + at for at in range(FRAME)]


def test_a_recorder_holds_eight_kibibytes_for_mulaw():
    assert sys.getsizeof(Recorder("mulaw", START)) <= 8192
    assert sys.getsizeof(Recorder("pcm16", START)) <= 16_384


def test_time_that_stands_still_or_runs_backwards_changes_nothing():
    call = Call()
    call.talk(0, 8000)
    before = len(call.out)
    for at in (0, -5000, 8000):
        call.advance(at)
    assert len(call.out) == before
    assert call.recorder.position(START - 1) == 0
    assert call.recorder.position(float("nan")) == 0
    assert call.recorder.advance(float("nan")) == b""
    left, _ = call.finish(4000)
    assert spoken(left) == [(0, 0, 8000)]


def test_one_jump_of_the_clock_gives_at_most_ten_minutes():
    assert len(Recorder("mulaw", START).advance(1e300)) <= 2 * 600 * RATE
    assert len(Recorder("mulaw", START).advance(float("inf"))) <= 2 * 600 * RATE
    assert Recorder("mulaw", float("nan")).advance(5.0) == b""


def test_positions_are_exact_for_times_made_of_frames():
    recorder = Recorder("mulaw", 123_456.789)
    for frame in range(0, 100_000, 77):
        assert recorder.position(123_456.789 + frame * 0.02) == frame * FRAME


def test_half_a_sample_and_what_is_no_buffer_are_refused():
    recorder = Recorder("pcm16", START)
    for wrong in (b"\0", bytearray(321)):
        with pytest.raises(ValueError, match="samples of two bytes expected, got"):
            recorder.caller(wrong, START)
        with pytest.raises(ValueError, match="samples of two bytes expected, got"):
            recorder.bot(wrong, 0)
    for wrong in ("text", None, 7):
        with pytest.raises(TypeError):
            recorder.caller(wrong, START)
        with pytest.raises(TypeError):
            recorder.bot(wrong, 0)
    assert recorder.flush(START) == b""


@pytest.mark.parametrize("encoding", ["alaw", "", "PCM16"])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(ValueError, match="expected one of"):
        Recorder(encoding, START)


def test_constants_bound_what_a_kill_can_lose():
    assert record.SAMPLE_RATE == RATE
    assert (BLOCK_SAMPLES + BOT_SLACK_SAMPLES) / RATE < 0.5
    assert BLOCK_SAMPLES + BOT_SLACK_SAMPLES + FRAME <= RING_SAMPLES
