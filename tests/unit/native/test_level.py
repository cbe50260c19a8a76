"""The level meter: known signals read what the standards say, and arrivals are timed."""

import math
import struct
from dataclasses import asdict

import pytest

from fastagent._native import g711
from fastagent._native.level import FLOOR_DB, SILENCE_DBFS, LevelFigures, LevelMeter
from tests.reference import level_reference


def packed(samples: list[int]) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def measured(samples: list[int], encoding: str = "pcm16", sample_rate: int = 8000) -> LevelFigures:
    meter = LevelMeter(sample_rate, encoding)  # type: ignore[arg-type]
    meter.process(packed(samples), 0.0)
    return meter.snapshot(0.0)


def sine(amplitude: float, count: int, frequency: float = 1000.0, sample_rate: int = 8000) -> list[int]:
    return [
        round(amplitude * math.sin(2 * math.pi * frequency * (i + 0.5) / sample_rate)) for i in range(count)
    ]


# Level


@pytest.mark.parametrize(
    ("encoding", "codes"),
    [("mulaw", "1e0b0b1e9e8b8b9e"), ("alaw", "342121 34b4a1a1b4")],
)
def test_the_digital_milliwatt_of_g711_reads_0_dbm0(encoding: str, codes: str) -> None:
    decode = g711.ulaw_decode if encoding == "mulaw" else g711.alaw_decode
    meter = LevelMeter(8000, encoding)  # type: ignore[arg-type]
    meter.process(decode(bytes.fromhex(codes) * 1000), 0.0)
    figures = meter.snapshot(0.0)
    assert figures.rms_dbm0 == pytest.approx(0, abs=0.01)
    assert figures.recent_rms_dbm0 == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("samples", "rms_dbfs"),
    [
        ([-32768] * 800, 0.0),
        ([32767, -32768] * 400, 0.0),
        (sine(32767, 8000), -3.01),
        (sine(3276.7, 8000), -23.01),
        ([1] * 800, -90.31),
        ([0] * 800, FLOOR_DB),
        ([], FLOOR_DB),
    ],
    ids=["rail", "square", "sine", "sine-20", "smallest", "silence", "nothing"],
)
def test_rms_of_known_signals(samples: list[int], rms_dbfs: float) -> None:
    figures = measured(samples)
    assert figures.rms_dbfs == pytest.approx(rms_dbfs, abs=0.01)
    assert figures.recent_rms_dbfs == pytest.approx(rms_dbfs, abs=0.01)


@pytest.mark.parametrize(
    ("samples", "peak"),
    [([0, 5, -9, 3], 9), ([-32768], 32768), ([32767], 32767), ([0], 0), ([], 0), ([-7], 7)],
)
def test_peak_is_the_greatest_magnitude(samples: list[int], peak: int) -> None:
    figures = measured(samples)
    assert figures.peak == peak
    assert figures.peak_dbfs == pytest.approx(20 * math.log10(peak / 32768) if peak else FLOOR_DB)


def test_the_recent_second_forgets_and_the_whole_does_not() -> None:
    figures = measured(sine(10000, 8000) + [0] * 8000)
    assert figures.recent_rms_dbfs == FLOOR_DB
    assert figures.rms_dbfs == pytest.approx(20 * math.log10(10000 / 32768) - 6.02, abs=0.01)


def test_recent_level_covers_nine_to_ten_tenths_of_a_second() -> None:
    for blocks in range(1, 160):
        loud = measured([8000] * 160 * 100 + [0] * 160 * blocks).recent_rms_dbfs
        assert (loud == FLOOR_DB) == (blocks > 45 + (blocks - 1) % 5), blocks


@pytest.mark.parametrize("level", [-32768, -300, 0, 1, 32767])
def test_dc_offset_is_the_mean(level: int) -> None:
    assert measured([level] * 1234).dc_offset == level


# Clipping


@pytest.mark.parametrize(("encoding", "rail"), level_reference.RAILS.items())
@pytest.mark.parametrize(
    ("pattern", "clipped", "runs"),
    [
        ("++", 0, 0),
        ("+++", 3, 1),
        ("---", 3, 1),
        ("++--++--", 0, 0),
        ("+++---", 6, 2),
        ("++++0--0-----", 9, 2),
        ("vvvv", 0, 0),
        ("++v+++v++", 3, 1),
    ],
)
def test_runs_at_the_encodings_rail_are_clipping(
    encoding: str, rail: int, pattern: str, clipped: int, runs: int
) -> None:
    """`v` is one step short of the rail."""
    values = {"+": rail, "-": -rail, "0": 0, "v": rail - 1}
    figures = measured([values[mark] for mark in pattern], encoding)
    assert (figures.clipped_samples, figures.clip_runs) == (clipped, runs)


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_a_sine_over_the_top_of_g711_clips_and_one_below_does_not(law: str) -> None:
    encoding = {"ulaw": "mulaw", "alaw": "alaw"}[law]
    for amplitude, clips in ((45000.0, True), (20000.0, False)):
        source = [max(-32768, min(32767, s)) for s in sine(amplitude, 800, 200)]
        through = getattr(g711, f"{law}_decode")(getattr(g711, f"{law}_encode")(packed(source)))
        meter = LevelMeter(8000, encoding)  # type: ignore[arg-type]
        meter.process(through, 0.0)
        assert (meter.snapshot(0.0).clip_runs > 0) == clips


def test_a_run_goes_on_over_frames_and_other_samples_end_it() -> None:
    meter = LevelMeter()
    for chunk in ([32767, 32767], [32767], [5], [32767] * 2, [5] * 300, [32767]):
        meter.process(packed(chunk), 0.0)
    figures = meter.snapshot(0.0)
    assert (figures.clipped_samples, figures.clip_runs) == (3, 1)


# Silence


def test_silence_is_counted_in_blocks_below_the_threshold() -> None:
    threshold = 32768 * 10 ** (SILENCE_DBFS / 20)
    below, above = [int(threshold)] * 160, [int(threshold) + 1] * 160
    figures = measured(above * 2 + below * 5 + above * 3 + below * 2)
    assert figures.silence_share == pytest.approx(7 / 12)
    assert figures.silence_max_s == pytest.approx(0.1)
    assert figures.silence_s == pytest.approx(0.04)
    assert measured(below + above).silence_s == 0


def test_an_unfinished_block_is_neither_silent_nor_loud() -> None:
    figures = measured([0] * 159)
    assert (figures.silence_share, figures.silence_s, figures.samples) == (0, 0, 159)


# Arrivals


def test_age_and_the_longest_gap_follow_the_clock() -> None:
    meter = LevelMeter()
    assert meter.snapshot(5.0).age_s is None
    for now in (10.0, 10.02, 10.5, 10.52):
        meter.process(bytes(320), now)
    figures = meter.snapshot(10.6)
    assert figures.age_s == pytest.approx(0.08)
    assert figures.gap_max_s == pytest.approx(0.48)


def test_an_empty_chunk_is_no_arrival() -> None:
    meter = LevelMeter()
    meter.process(b"", 1.0)
    assert meter.snapshot(2.0).age_s is None
    meter.process(bytes(2), 3.0)
    meter.process(b"", 9.0)
    assert meter.snapshot(10.0).age_s == pytest.approx(7.0)
    assert meter.snapshot(10.0).gap_max_s == 0


def test_a_clock_that_runs_back_gives_no_gap_and_no_negative_age() -> None:
    meter = LevelMeter()
    for now in (10.0, 4.0, 10.5):
        meter.process(bytes(320), now)
    figures = meter.snapshot(10.0)
    assert figures.gap_max_s == pytest.approx(0.5)
    assert figures.age_s == 0


# Exactness, chunks, refusals


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 48000])
def test_full_scale_sums_are_exact(sample_rate: int) -> None:
    count = sample_rate * 3 + 7
    figures = measured([-32768] * count, sample_rate=sample_rate)
    assert (figures.rms_dbfs, figures.dc_offset, figures.samples) == (0, -32768, count)
    assert (figures.clipped_samples, figures.clip_runs) == (count, 1)


@pytest.mark.parametrize("encoding", level_reference.RAILS)
def test_figures_equal_the_reference_for_every_length_up_to_400(encoding: str) -> None:
    samples = [(i * 7919 % 65536) - 32768 for i in range(400)]
    for n in range(401):
        expected = asdict(level_reference.figures(samples[:n], 8000, encoding))
        found = measured(samples[:n], encoding)._asdict()
        assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_every_alignment() -> None:
    pcm = packed(sine(20000, 333))
    whole = LevelMeter()
    whole.process(pcm, 0.0)
    for start in range(33):
        meter = LevelMeter()
        meter.process(memoryview(bytes(start) + pcm)[start:], 0.0)
        assert meter.snapshot(0.0) == whole.snapshot(0.0)


def test_reset_forgets_all_but_the_format() -> None:
    meter = LevelMeter(8000, "mulaw")
    fresh = meter.snapshot(1.0)
    meter.process(packed([32767] * 1000), 0.0)
    assert meter.snapshot(1.0) != fresh
    meter.reset()
    assert meter.snapshot(1.0) == fresh
    meter.process(packed([32124] * 3), 2.0)
    assert meter.snapshot(2.0).clip_runs == 1


def test_refusals_take_nothing() -> None:
    meter = LevelMeter()
    with pytest.raises(ValueError, match="got 321 bytes"):
        meter.process(bytes(321), 0.0)
    for now in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="now must be finite"):
            meter.process(bytes(320), now)
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            meter.process(wrong, 0.0)  # type: ignore[arg-type]
    assert meter.snapshot(0.0) == LevelMeter().snapshot(0.0)


@pytest.mark.parametrize("sample_rate", [0, -8000, 7999, 8001, 96000])
def test_other_rates_are_refused(sample_rate: int) -> None:
    with pytest.raises(ValueError, match=f"got {sample_rate}"):
        LevelMeter(sample_rate)


def test_other_encodings_are_refused() -> None:
    with pytest.raises(ValueError, match="one of pcm16, mulaw, alaw expected"):
        LevelMeter(8000, "opus")  # type: ignore[arg-type]
