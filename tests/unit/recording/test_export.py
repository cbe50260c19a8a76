"""FLAC and Opus of finished recordings."""

import stat
import sys

import numpy as np
import pytest
import soundfile

from fastagent._native.g711 import ulaw_encode
from fastagent.audio.formats import MULAW_8K, PCM16_8K
from fastagent.errors import AudioError, ConfigurationError
from fastagent.recording.export import export
from fastagent.recording.marks import PAUSED, Mark
from fastagent.recording.wav_file import GrowingWav


@pytest.fixture(params=[PCM16_8K, MULAW_8K], ids=["pcm16", "mulaw"])
def recorded(request, tmp_path):
    time = np.arange(100_000) / 8000
    tones = np.stack([8000 * np.sin(2 * np.pi * 440 * time), 8000 * np.sin(2 * np.pi * 700 * time)], axis=1)
    data = tones.astype("<i2").tobytes()
    if request.param is MULAW_8K:
        data = ulaw_encode(data)
    file = GrowingWav(tmp_path / "calls", "call", request.param)
    file.append([data])
    return file.publish([Mark(5, 9, PAUSED)])


def test_flac_loses_nothing(recorded):
    path = export(recorded, "flac")
    assert path == recorded.with_suffix(".flac")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["call.flac", "call.wav"]
    original, _ = soundfile.read(recorded, dtype="int16")
    encoded, rate = soundfile.read(path, dtype="int16")
    assert rate == 8000
    assert np.array_equal(encoded, original)


def test_opus_keeps_both_channels_and_the_duration(recorded, tmp_path):
    (tmp_path / "out").mkdir()
    path = export(recorded, "opus", into=tmp_path / "out")
    assert path == tmp_path / "out" / "call.opus"
    original, _ = soundfile.read(recorded)
    encoded, rate = soundfile.read(path)
    assert rate == 8000
    assert len(encoded) == pytest.approx(len(original), abs=160)
    for channel, tone in ((0, 440), (1, 700)):
        spectrum = np.abs(np.fft.rfft(encoded[8000:16_000, channel]))
        assert int(spectrum.argmax()) == tone
    assert path.stat().st_size < recorded.stat().st_size / 2


def test_an_export_replaces_the_one_before(recorded):
    export(recorded, "flac").write_bytes(b"old")
    assert export(recorded, "flac").read_bytes() != b"old"


@pytest.mark.parametrize("content", [b"", b"no audio at all"])
def test_what_is_no_audio_is_refused_and_leaves_nothing(tmp_path, content):
    (tmp_path / "call.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"call\.wav"):
        export(tmp_path / "call.wav", "flac")
    assert [path.name for path in tmp_path.iterdir()] == ["call.wav"]


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        export(tmp_path / "call.wav", "flac")
    assert list(tmp_path.iterdir()) == []


def test_without_soundfile_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigurationError, match=r"fastagent\[export\]"):
        export(tmp_path / "call.wav", "flac")
