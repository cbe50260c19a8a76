"""Every speech detector behind the one outline, and what is said when one cannot be had."""

import importlib.machinery
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benches.hearing import sounds, vad_report, voices
from fastagent.errors import ConfigurationError
from fastagent.media import detectors
from fastagent.media.detectors import DETECTORS, DetectorName, SpeechDetector, build_detector

SILENCE = bytes(320)


# A net of Silero's outline in ONNX's wire format: its verdict is the mean of the samples it was shown, and
# its state is what it was, plus the rate. Onnx's own package would be needed only for this.


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


FLOAT, INT64 = 1, 7


def value_info(name: str, kind: int, dimensions: list[int]) -> bytes:
    shape = b"".join(field(1, field(1, size)) for size in dimensions)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def node(operator: str, inputs: list[str], outputs: list[str], attributes: bytes = b"") -> bytes:
    names = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    return names + field(4, operator) + attributes


def float_attribute_int(name: str, number: int) -> bytes:
    return field(5, field(1, name) + field(3, number) + field(20, 2))


def net(input_names: tuple[str, str, str] = ("input", "state", "sr")) -> bytes:
    samples, state, rate = input_names
    graph = b"".join(
        field(1, part)
        for part in (
            node("ReduceMean", [samples], ["output"], float_attribute_int("keepdims", 1)),
            node("Cast", [rate], ["rate"], float_attribute_int("to", FLOAT)),
            node("Add", [state, "rate"], ["stateN"]),
        )
    )
    graph += field(2, "net")
    graph += field(11, value_info(samples, FLOAT, [1, 288]))
    graph += field(11, value_info(state, FLOAT, [2, 1, 128]))
    graph += field(11, value_info(rate, INT64, []))
    graph += field(12, value_info("output", FLOAT, [1, 1])) + field(
        12, value_info("stateN", FLOAT, [2, 1, 128])
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "silero_vad.onnx"
    path.write_bytes(net())
    return path


@pytest.fixture(params=DETECTORS)
def make(request: pytest.FixtureRequest, weights: Path) -> Callable[[], SpeechDetector]:
    name: DetectorName = request.param
    return lambda: build_detector(name, silero_weights=weights)


# All of them


def test_probabilities_are_from_0_to_1_and_reset_forgets(make: Callable[[], SpeechDetector]) -> None:
    pcm = voices.on_the_line(np.abs(voices.conversation(voices.TEST_VOICES, 3.0, 2).samples))
    detector = make()
    first = [detector.process(frame) for frame in voices.frames_of(pcm)]
    assert all(isinstance(score, float) and 0 <= score <= 1 for score in first)
    assert len(set(first)) > 1
    detector.reset()
    assert [detector.process(frame) for frame in voices.frames_of(pcm)] == first


def test_streams_do_not_share_state(make: Callable[[], SpeechDetector]) -> None:
    pcm = voices.on_the_line(np.abs(voices.conversation(voices.TEST_VOICES, 1.0, 2).samples))
    alone = [make().process(SILENCE)] * 2
    busy, quiet = make(), make()
    found = []
    for frame in list(voices.frames_of(pcm))[:2]:
        busy.process(frame)
        found.append(quiet.process(SILENCE))
    assert found == pytest.approx(alone, abs=0.02)


@pytest.mark.parametrize("size", [0, 1, 319, 321, 640])
def test_another_size_is_refused(make: Callable[[], SpeechDetector], size: int) -> None:
    detector = make()
    with pytest.raises(ValueError, match=f"320 bytes expected, got {size}"):
        detector.process(bytes(size))


@pytest.mark.parametrize("name", ["native", "webrtc"])
def test_speech_scores_above_silence(name: DetectorName) -> None:
    spoken = voices.conversation(voices.TEST_VOICES, 6.0, 2)
    pcm = voices.on_the_line(spoken.samples + sounds.noise("white", 6.0, 1) * 0.01)
    scores = vad_report.judge(build_detector(name), pcm)
    assert vad_report.auc(scores, voices.frame_labels(spoken.is_speech)) > 0.9


def test_native_is_deaf_to_keys_where_webrtc_is_not() -> None:
    pcm = voices.on_the_line(sounds.dtmf("159D", on_s=0.5))
    assert vad_report.judge(build_detector("native"), pcm).max() < 0.5
    assert vad_report.judge(build_detector("webrtc"), pcm).max() == 1.0


@pytest.mark.parametrize("preset", ["sensitive", "balanced", "strict"])
def test_native_takes_a_preset(preset: str) -> None:
    detector = build_detector("native", preset=preset)  # type: ignore[arg-type]
    assert getattr(detector, "preset") == preset  # noqa: B009 - not part of the outline


# Silero's feeding


def test_silero_is_fed_chunks_behind_the_samples_before_them(weights: Path) -> None:
    pcm = np.random.default_rng(3).integers(0, 30_000, 20 * 160).astype("<i2")
    scores = vad_report.judge(build_detector("silero", silero_weights=weights), pcm)
    line = np.concatenate([np.zeros(32), pcm / 32768])
    expected = []
    for frame in range(20):
        chunks = (frame + 1) * 160 // 256
        begin = (chunks - 1) * 256
        expected.append(line[begin : begin + 288].mean() if chunks else 0.0)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_silero_carries_the_nets_state(weights: Path) -> None:
    detector = build_detector("silero", silero_weights=weights)
    for _ in range(8):
        detector.process(SILENCE)
    state: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = getattr(detector, "_state")  # noqa: B009
    assert np.all(state == 5 * 8000)


# What cannot be had


class Absent:
    """An import finder by which some packages are not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def hide(name: str) -> None:
        monkeypatch.setattr(sys, "meta_path", [Absent(name), *sys.meta_path])
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)

    return hide


@pytest.mark.parametrize(
    ("name", "package", "cure"),
    [
        ("webrtc", "webrtcvad", "pip install 'fastagent[webrtc]'"),
        ("silero", "onnxruntime", "pip install 'fastagent[silero]'"),
    ],
)
def test_a_missing_package_is_named(
    without: Callable[[str], None], name: DetectorName, package: str, cure: str
) -> None:
    without(package)
    with pytest.raises(ConfigurationError) as caught:
        build_detector(name)
    assert cure in str(caught.value)


def test_no_weight_file_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "silero_weight_file", lambda: None)
    with pytest.raises(ConfigurationError, match="pip install --no-deps silero-vad"):
        build_detector("silero")


def test_a_weight_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        build_detector("silero", silero_weights=tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"not a net", net()[:100]])
def test_an_unreadable_weight_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "silero_vad.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        build_detector("silero", silero_weights=path)


def test_a_net_of_another_outline_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(net(("samples", "h", "sr")))
    with pytest.raises(ConfigurationError, match="not a Silero net"):
        build_detector("silero", silero_weights=path)


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="native, webrtc, silero expected, got 'ears'"):
        build_detector("ears")  # type: ignore[arg-type]


def test_the_weight_file_of_an_installed_package_is_found_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "silero_vad"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    spec = importlib.machinery.PathFinder.find_spec("silero_vad", [str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert detectors.silero_weight_file() is None
    (package / "data" / "silero_vad.onnx").write_bytes(net())
    assert detectors.silero_weight_file() == package / "data" / "silero_vad.onnx"
    assert build_detector("silero").process(SILENCE) == 0.0


def test_without_the_package_there_is_no_weight_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert detectors.silero_weight_file() is None
