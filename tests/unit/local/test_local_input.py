"""The input buffer: what a commit takes, and where in the stream it stands."""

from typing import Any

import numpy as np

from fastagent.audio.formats import MULAW_8K, PCM16_24K
from fastagent.local.input import InputBuffer, TurnSettings
from fastagent.local.turns import SpeechEnd, SpeechStart

TURNS = TurnSettings(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=400)


def pcm(duration_ms: int, amplitude: float = 0.0) -> bytes:
    time = np.arange(8 * duration_ms) / 8_000
    samples: np.ndarray[Any, Any] = amplitude * np.sin(2 * np.pi * 300 * time)
    return samples.astype("<i2").tobytes()


def test_a_turn_holds_its_padding_and_its_silence_and_nothing_after() -> None:
    buffer = InputBuffer(MULAW_8K, TURNS)
    taken = []
    for verdict in buffer.append(pcm(1_000) + pcm(500, 6_000) + pcm(900)):
        if isinstance(verdict, SpeechStart):
            assert buffer.turn_start_ms == 700
        else:
            assert isinstance(verdict, SpeechEnd)
            assert buffer.position_ms == 1_900
            taken.append(buffer.take_turn())
    assert [len(turn) // 16 for turn in taken] == [300 + 500 + 400]
    assert buffer.position_ms == 2_400
    assert buffer.buffered_ms == 500


def test_padding_does_not_reach_into_the_turn_before() -> None:
    buffer = InputBuffer(MULAW_8K, TURNS)
    starts = []
    for verdict in buffer.append((pcm(200) + pcm(500, 6_000)) + (pcm(450) + pcm(500, 6_000)) + pcm(500)):
        if isinstance(verdict, SpeechStart):
            starts.append(buffer.turn_start_ms)
        else:
            buffer.take_turn()
    assert starts == [0, 1_100]


def test_quiet_is_forgotten_while_nobody_speaks() -> None:
    buffer = InputBuffer(MULAW_8K, TURNS)
    for _ in range(20):
        assert list(buffer.append(pcm(1_000))) == []
    assert buffer.position_ms == 20_000
    assert buffer.buffered_ms == 2_300


def test_without_turn_detection_everything_is_kept_up_to_a_minute() -> None:
    buffer = InputBuffer(MULAW_8K, None)
    for _ in range(70):
        assert list(buffer.append(pcm(1_000, 6_000))) == []
    assert buffer.buffered_ms == 60_000
    assert len(buffer.take_turn()) == 60_000 * 16
    assert buffer.buffered_ms == 0


def test_another_format_goes_on_counting() -> None:
    buffer = InputBuffer(MULAW_8K, TURNS)
    list(buffer.append(pcm(1_000)))
    buffer = buffer.reformatted(PCM16_24K)
    list(buffer.append(bytes(48 * 500)))
    assert buffer.position_ms == 1_500


def test_switching_detection_off_keeps_the_audio() -> None:
    buffer = InputBuffer(MULAW_8K, TURNS)
    list(buffer.append(pcm(500, 6_000)))
    before = buffer.is_speaking
    buffer.configure(None)
    assert (before, buffer.is_speaking) == (True, False)
    assert buffer.buffered_ms == 500
