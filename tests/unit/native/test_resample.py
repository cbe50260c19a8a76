"""The resampler's promises, measured: how many samples, which bits, how clean, how late, how loud."""

import random
import struct
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference import kernel_variants, resample_reference
from tests.reference.resample_reference import PAIRS

RATES = pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
UPWARDS = pytest.mark.parametrize(("in_rate", "out_rate"), [pair for pair in PAIRS if pair[0] < pair[1]])
DOWNWARDS = pytest.mark.parametrize(("in_rate", "out_rate"), [pair for pair in PAIRS if pair[0] > pair[1]])

FULL_SCALE = 32767
LOUD = 0.9 * FULL_SCALE


@pytest.fixture(params=kernel_variants.names("resample"))
def resample(request: pytest.FixtureRequest) -> ModuleType:
    return kernel_variants.load("resample", request.param)


def noise(count: int, seed: int = 8) -> bytes:
    return random.Random(seed).randbytes(2 * count)


def unpacked(pcm: bytes) -> list[int]:
    return [sample for (sample,) in struct.iter_unpack("<h", pcm)]


def packed(samples: list[int]) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def speech_edge(in_rate: int, out_rate: int) -> int:
    """Hz up to which the slower rate carries speech."""
    return 3400 if min(in_rate, out_rate) == 8000 else 7000


def tone(frequency: float, rate: int, seconds: float = 0.5) -> bytes:
    time = np.arange(round(rate * seconds)) / rate
    return np.rint(LOUD * np.sin(2 * np.pi * frequency * time)).astype("<i2").tobytes()


def settled(resample: ModuleType, pcm: bytes, in_rate: int, out_rate: int) -> NDArray[np.float64]:
    """The output as floats, its first 10 ms set to one side."""
    out = np.frombuffer(resample.Resampler(in_rate, out_rate).process(pcm), dtype="<i2")
    return out[out_rate // 100 :].astype(np.float64)


def fitted(out: NDArray[np.float64], frequency: float, out_rate: int) -> tuple[complex, float]:
    """The tone found in a settled output, as LOUD * Im(z * exp(iwt)) -> z, and the power of all the rest."""
    time = (np.arange(len(out)) + out_rate // 100) / out_rate
    basis = np.stack([np.sin(2 * np.pi * frequency * time), np.cos(2 * np.pi * frequency * time)], axis=1)
    weights = np.linalg.lstsq(basis, out, rcond=None)[0]
    rest = out - basis @ weights
    return complex(weights[0], weights[1]) / LOUD, float(np.mean(rest**2))


def decibels(power_ratio: float) -> float:
    return float(10 * np.log10(power_ratio))


# What comes out, and how much of it


@RATES
def test_bits_equal_the_reference_for_every_length_up_to_500(
    resample: ModuleType, in_rate: int, out_rate: int
) -> None:
    pcm = noise(500)
    whole = packed(resample_reference.resample(unpacked(pcm), in_rate, out_rate))
    for n in range(501):
        out = resample.Resampler(in_rate, out_rate).process(pcm[: 2 * n])
        assert out == whole[: 2 * resample_reference.output_count(n, in_rate, out_rate)]


@RATES
def test_bits_and_counts_do_not_depend_on_chunking(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    pcm = noise(6000)
    whole = resample.Resampler(in_rate, out_rate).process(pcm)
    chance = random.Random(in_rate + out_rate)
    for longest in (1, 2, 3, 7, 160, 1500):
        stream = resample.Resampler(in_rate, out_rate)
        fed, out = 0, b""
        while fed < 6000:
            chunk = pcm[2 * fed : 2 * (fed + chance.randint(0, longest))]
            fed += len(chunk) // 2
            out += stream.process(chunk)
            assert len(out) // 2 == resample_reference.output_count(fed, in_rate, out_rate)
        assert out == whole


@RATES
def test_twenty_milliseconds_in_give_twenty_out_each_time(
    resample: ModuleType, in_rate: int, out_rate: int
) -> None:
    stream = resample.Resampler(in_rate, out_rate)
    for _ in range(20):
        assert len(stream.process(noise(in_rate // 50))) == 2 * (out_rate // 50)


@RATES
def test_every_alignment(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    pcm = noise(300)
    whole = resample.Resampler(in_rate, out_rate).process(pcm)
    for start in range(33):
        for source in (memoryview(bytes(start) + pcm)[start:], memoryview(bytearray(start) + pcm)[start:]):
            assert resample.Resampler(in_rate, out_rate).process(source) == whole


@RATES
def test_flush_gives_the_tail_and_starts_anew(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    stream = resample.Resampler(in_rate, out_rate)
    for n in (0, 1, 2, 3, 100, 161, 500):
        pcm = noise(n, seed=n)
        out = stream.process(pcm) + stream.flush()
        assert unpacked(out) == resample_reference.flushed(unpacked(pcm), in_rate, out_rate)


@RATES
def test_a_flushed_stream_lines_up_with_its_source(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    pcm = tone(440, in_rate, seconds=0.1)
    stream = resample.Resampler(in_rate, out_rate)
    out = np.frombuffer(stream.process(pcm) + stream.flush(), dtype="<i2")[stream.delay_samples :]
    assert len(out) == out_rate // 10
    expected = np.frombuffer(tone(440, out_rate, seconds=0.1), dtype="<i2")
    middle = slice(out_rate // 100, -out_rate // 100)
    assert np.abs(out[middle].astype(int) - expected[middle]).max() <= 0.002 * FULL_SCALE
    assert np.abs(out[-5:]).max() > 0


@RATES
def test_reset_forgets_all_input(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    stream = resample.Resampler(in_rate, out_rate)
    fresh = stream.process(noise(100))
    assert stream.process(noise(101)) != stream.process(noise(101))
    stream.reset()
    assert stream.process(noise(100)) == fresh


# How clean


@RATES
def test_signal_to_noise_at_1_khz_is_85_db(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    out = settled(resample, tone(1000, in_rate), in_rate, out_rate)
    found, rest = fitted(out, 1000, out_rate)
    assert decibels(abs(found * LOUD) ** 2 / 2 / rest) >= 85


@RATES
def test_speech_band_is_flat_within_a_twentieth_of_a_decibel(
    resample: ModuleType, in_rate: int, out_rate: int
) -> None:
    for frequency in np.linspace(300, speech_edge(in_rate, out_rate), 24):
        out = settled(resample, tone(frequency, in_rate), in_rate, out_rate)
        found, _ = fitted(out, frequency, out_rate)
        assert abs(decibels(abs(found) ** 2)) <= 0.05, frequency


@UPWARDS
def test_images_are_75_db_down(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    for frequency in np.linspace(300, speech_edge(in_rate, out_rate), 24):
        found, rest = fitted(
            settled(resample, tone(frequency, in_rate), in_rate, out_rate), frequency, out_rate
        )
        assert decibels(abs(found * LOUD) ** 2 / 2 / rest) >= 75, frequency


@DOWNWARDS
def test_aliases_are_75_db_down(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    mirror = out_rate - speech_edge(in_rate, out_rate)
    for frequency in np.linspace(mirror, in_rate / 2 - 1, 24):
        out = settled(resample, tone(frequency, in_rate), in_rate, out_rate)
        assert decibels((LOUD**2 / 2) / max(float(np.mean(out**2)), 1e-9)) >= 75, frequency


@RATES
@pytest.mark.parametrize("level", [-32768, -20000, -1, 0, 1, 12345, 32767])
def test_a_constant_comes_out_as_is(resample: ModuleType, in_rate: int, out_rate: int, level: int) -> None:
    out = unpacked(resample.Resampler(in_rate, out_rate).process(packed([level] * 400)))
    assert set(out[2 * resample.Resampler(in_rate, out_rate).delay_samples + 1 :]) == {level}


# How late


@RATES
def test_delay_is_as_stated_and_within_its_bound(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    delay_samples = resample.Resampler(in_rate, out_rate).delay_samples
    bound_ms = 2.1 if min(in_rate, out_rate) == 8000 else 1.3
    assert 0 < delay_samples / out_rate * 1000 <= bound_ms
    for frequency in (300, 1000, 2500, 3400):
        out = settled(resample, tone(frequency, in_rate), in_rate, out_rate)
        found, _ = fitted(out, frequency, out_rate)
        late = found * np.exp(2j * np.pi * frequency * delay_samples / out_rate)
        assert abs(np.angle(late)) / (2 * np.pi * frequency) * out_rate <= 0.01, frequency


# How loud


@RATES
@pytest.mark.parametrize("half_period", [1, 2, 3, 5, 8, 37])
def test_full_scale_square_waves_saturate_and_never_wrap(
    resample: ModuleType, in_rate: int, out_rate: int, half_period: int
) -> None:
    square = [32767 if i // half_period % 2 else -32768 for i in range(400)]
    ideal = resample_reference.unclipped(square, in_rate, out_rate)
    out = unpacked(resample.Resampler(in_rate, out_rate).process(packed(square)))
    assert out == [max(-32768, min(32767, value)) for value in ideal]
    if half_period == 37:  # the overshoot of its edges leaves the range on both sides
        assert max(ideal) > 32767
        assert min(ideal) < -32768


@RATES
def test_the_loudest_input_there_can_be_saturates(resample: ModuleType, in_rate: int, out_rate: int) -> None:
    """Each sample has the sign of the tap it meets, so the sums reach their largest values."""
    plan = resample_reference.plan(in_rate, out_rate)
    peak = 0
    for phase in range(plan.up):
        loudest = [32767 if tap > 0 else -32768 for tap in reversed(plan.taps[phase :: plan.up])]
        for lead in range(plan.down):  # one of these puts the whole pattern under an output's window
            for pcm in (loudest, [-1 - sample for sample in loudest]):
                stretch = [0] * lead + pcm * 3
                ideal = resample_reference.unclipped(stretch, in_rate, out_rate)
                peak = max(peak, *map(abs, ideal))
                out = unpacked(resample.Resampler(in_rate, out_rate).process(packed(stretch)))
                assert out == [max(-32768, min(32767, value)) for value in ideal]
    assert peak > 55_000


# What is refused


@pytest.mark.parametrize(
    "rates", [(8000, 8000), (8000, 44100), (48000, 16000), (0, 8000), (-8000, 8000), (1 << 40, 8000)]
)
def test_other_rates_are_refused(resample: ModuleType, rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {rates[0]}->{rates[1]}"):
        resample.Resampler(*rates)


def test_half_a_sample_is_refused_and_nothing_is_fed(resample: ModuleType) -> None:
    stream = resample.Resampler(8000, 24000)
    with pytest.raises(ValueError, match="got 321 bytes"):
        stream.process(bytes(range(256)) + bytes(65))
    with pytest.raises(ValueError, match="got 1 bytes"):
        stream.process(bytearray(1))
    assert stream.process(noise(10)) == resample.Resampler(8000, 24000).process(noise(10))


def test_objects_that_are_no_buffer_are_refused(resample: ModuleType) -> None:
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            resample.Resampler(8000, 24000).process(wrong)
    with pytest.raises(TypeError):
        resample.Resampler("8000", 24000)


def test_rates_are_kept_and_cannot_be_set(resample: ModuleType) -> None:
    stream = resample.Resampler(16000, 24000)
    assert (stream.in_rate, stream.out_rate, stream.delay_samples) == (16000, 24000, 27)
    with pytest.raises(AttributeError):
        stream.in_rate = 8000
