"""Who says whether a frame is speech: our own kernel, WebRTC's detector or Silero's net, behind one outline.

===========  ============================================================================================
``native``   the kernel of `fastagent._native.vad`; nothing to install
``webrtc``   WebRTC's rule, by the package webrtcvad-wheels; its four modes vote. Hears keypad tones as speech
``silero``   Silero's net on onnxruntime, with the weight file only; the best ear and by far the dearest
===========  ============================================================================================
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from fastagent._native.vad import FRAME_BYTES, VoiceDetector
from fastagent.errors import ConfigurationError, FormatMismatchError

__all__ = ["DETECTORS", "DetectorName", "SpeechDetector", "build_detector", "silero_weight_file"]

DetectorName = Literal["native", "webrtc", "silero"]
DETECTORS: Final[tuple[DetectorName, ...]] = get_args(DetectorName)

SAMPLE_RATE = 8000

WEBRTC_MODES = (0, 1, 2, 3)
"""From the one that hears speech most often to the strictest."""

# Silero's net at 8 kHz: https://github.com/snakers4/silero-vad, OnnxWrapper.
SILERO_CHUNK_SAMPLES = 256
SILERO_CONTEXT_SAMPLES = 32
SILERO_STATE_SHAPE = (2, 1, 128)
SILERO_WEIGHT_FILE = "silero_vad.onnx"
SILERO_INPUTS = frozenset({"input", "state", "sr"})


class SpeechDetector(Protocol):
    """Judges one stream of 20 ms frames, in order."""

    def process(self, frame: bytes, /) -> float:
        """How likely the next frame is speech, from 0 to 1.

        Args:
            frame: 160 samples at 8 kHz, PCM16 little-endian, mono.

        Raises:
            ValueError: the frame has another size.
        """

    def reset(self) -> None:
        """Forget all input."""


def checked(frame: bytes) -> bytes:
    if len(frame) != FRAME_BYTES:
        raise FormatMismatchError(f"a frame of {FRAME_BYTES} bytes expected, got {len(frame)}")
    return frame


class WebRtcDetector:
    """The share of WebRTC's four modes that call the frame speech: 0, 0.25, 0.5, 0.75 or 1."""

    def __init__(self, make_mode: Callable[[int], Any]) -> None:
        self._make_mode = make_mode
        self.reset()

    def process(self, frame: bytes, /) -> float:
        frame = checked(frame)
        return sum(bool(mode.is_speech(frame, SAMPLE_RATE)) for mode in self._modes) / len(self._modes)

    def reset(self) -> None:
        self._modes = [self._make_mode(mode) for mode in WEBRTC_MODES]


class SileroDetector:
    """Silero's net, which judges 32 ms at a time: each frame gets the newest verdict there is.

    A verdict takes some 60 µs or more, and comes up to 32 ms later than the frame it is about.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._rate = np.array(SAMPLE_RATE, dtype=np.int64)
        self.reset()

    def process(self, frame: bytes, /) -> float:
        samples = np.frombuffer(checked(frame), dtype="<i2").astype(np.float32) / np.float32(32768)
        self._waiting: NDArray[np.float32] = np.concatenate([self._waiting, samples])
        needed = SILERO_CONTEXT_SAMPLES + SILERO_CHUNK_SAMPLES
        while len(self._waiting) >= needed:
            self._probability, self._state = self._judge(self._waiting[:needed])
            self._waiting = self._waiting[SILERO_CHUNK_SAMPLES:]
        return self._probability

    def _judge(self, samples: NDArray[np.float32]) -> tuple[float, Any]:
        inputs = {"input": samples[np.newaxis], "state": self._state, "sr": self._rate}
        output, state = self._session.run(None, inputs)
        return float(output.flat[0]), state

    def reset(self) -> None:
        self._probability = 0.0
        self._state = np.zeros(SILERO_STATE_SHAPE, dtype=np.float32)
        # Each chunk is judged behind the last samples of the one before it.
        self._waiting = np.zeros(SILERO_CONTEXT_SAMPLES, dtype=np.float32)


def silero_weight_file() -> Path | None:
    """The weight file inside an installed silero-vad package, or None.

    The package is only looked at, never imported: importing it would load torch. ``pip install --no-deps
    silero-vad`` brings the file without torch.
    """
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "data" / SILERO_WEIGHT_FILE
        if path.is_file():
            return path
    return None


def _webrtc() -> SpeechDetector:
    try:
        module: Any = importlib.import_module("webrtcvad")
    except ImportError:
        raise ConfigurationError("the webrtc detector needs: pip install 'fastagent[webrtc]'") from None
    return WebRtcDetector(module.Vad)


def _silero(weight_file: Path | None) -> SpeechDetector:
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        raise ConfigurationError("the silero detector needs: pip install 'fastagent[silero]'") from None
    path = weight_file if weight_file is not None else silero_weight_file()
    if path is None:
        raise ConfigurationError(
            f"the silero detector needs its weight file: set the path of a {SILERO_WEIGHT_FILE}, "
            "or pip install --no-deps silero-vad"
        )
    if not path.is_file():
        raise ConfigurationError(f"the silero detector's weight file does not exist: {path}")
    options = runtime.SessionOptions()
    # One call is one stream of small chunks: more threads would only cost every other call.
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime raises a class of its own per fault, all of them for an unusable file
        raise ConfigurationError(f"the silero detector's weight file cannot be read: {path}") from None
    if {entry.name for entry in session.get_inputs()} != SILERO_INPUTS:
        raise ConfigurationError(f"not a Silero net for 8 kHz (version 5 or later): {path}")
    return SileroDetector(session)


def build_detector(
    name: DetectorName,
    *,
    preset: Literal["sensitive", "balanced", "strict"] = "balanced",
    silero_weights: str | Path | None = None,
) -> SpeechDetector:
    """A new detector for one stream.

    Args:
        name: of `DETECTORS`.
        preset: for ``native``.
        silero_weights: path of Silero's ``silero_vad.onnx``; without it, an installed silero-vad package's.

    Raises:
        ConfigurationError: no such detector, or something it needs is not installed.
    """
    match name:
        case "native":
            return VoiceDetector(preset=preset)
        case "webrtc":
            return _webrtc()
        case "silero":
            return _silero(Path(silero_weights) if silero_weights is not None else None)
    raise ConfigurationError(f"speech detector {', '.join(DETECTORS)} expected, got {name!r}")
