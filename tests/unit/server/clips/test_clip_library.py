"""Clips of a process: names stay inside their folder, one conversion serves all, the cache is bounded."""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soxr

from fastagent.audio import wav
from fastagent.audio.clip_files import ClipLimits
from fastagent.audio.clips import Clip
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K
from fastagent.errors import ClipNotFoundError, ClipTooLargeError, ConfigurationError, FormatMismatchError
from fastagent.server.clips import library as clip_library
from fastagent.server.clips.library import BUILT_IN_CLIPS, LOADS_AT_ONCE_MAX, ClipLibrary

FORMATS = [MULAW_8K, ALAW_8K, PCM16_8K, PCM16_16K, PCM16_24K]


def write(path: Path, samples: int = 800, value: int = 1000) -> Path:
    """A PCM16 file at 8 kHz, whose every sample is ``value``."""
    pcm = np.full(samples, value, "<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav.header(PCM16_8K, 1, len(pcm)) + pcm)
    return path


def value_of(data: bytes) -> int:
    return int(np.frombuffer(data, "<i2")[400])


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "clips"
    write(place / "welcome.wav")
    write(place / "de" / "welcome.wav", value=2000)
    write(tmp_path / "outside.wav", value=3000)
    return place


# Names


@pytest.mark.parametrize(
    ("name", "value"),
    [("welcome", 1000), ("welcome.wav", 1000), ("de/welcome", 2000), ("de/welcome.wav", 2000)],
)
def test_name_is_found_with_and_without_its_suffix(folder, name, value):
    clip = ClipLibrary(folder).named(name, PCM16_8K)
    assert (clip.clip_id, value_of(clip.data), clip.duration_ms) == (name, value, 100)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../outside.wav",
        "../outside",
        "de/../welcome",
        "de/../../outside",
        "./welcome",
        "de//welcome",
        "de/",
        "/welcome",
        ".hidden",
        "de/.hidden",
        "..\\outside.wav",
        "welcome\0",
        "welcome\n",
        "wel\x1bcome",
        "\ud800",
        "x" * 201,
    ],
)
def test_name_that_is_none_is_refused(folder, name):
    write(folder / ".hidden")
    write(folder / "de" / ".hidden")
    with pytest.raises(ClipNotFoundError, match="expected a clip name"):
        ClipLibrary(folder).named(name, PCM16_8K)


@pytest.mark.parametrize(
    "name", ["nobody", "de", "de/nobody", "welcome.wav/x", "x" * 200, "%2e%2e/outside", "ü"]
)
def test_name_of_nothing_is_not_found(folder, name):
    with pytest.raises(ClipNotFoundError, match=r"no such clip in the clips folder, nor among .*hold-music"):
        ClipLibrary(folder).named(name, PCM16_8K)


def test_link_within_the_folder_is_followed(folder):
    # As Kubernetes lays out a mounted ConfigMap.
    write(folder / "..2026_01" / "greeting.wav", value=4000)
    (folder / "..data").symlink_to("..2026_01")
    (folder / "greeting.wav").symlink_to("..data/greeting.wav")
    assert value_of(ClipLibrary(folder).named("greeting", PCM16_8K).data) == 4000


@pytest.mark.parametrize("target", ["../outside.wav", "absolute", "../clips-of-another/x.wav"])
def test_link_out_of_the_folder_is_not_followed(folder, target):
    write(folder.parent / "clips-of-another" / "x.wav")
    (folder / "escape.wav").symlink_to(folder.parent / "outside.wav" if target == "absolute" else target)
    (folder / "away").symlink_to(folder.parent)
    for name in ("escape", "escape.wav", "away/outside", "away/outside.wav", "away/clips/welcome/../x"):
        with pytest.raises(ClipNotFoundError):
            ClipLibrary(folder).named(name, PCM16_8K)


def test_link_that_leads_in_a_circle_is_not_found(folder):
    (folder / "circle.wav").symlink_to("circle.wav")
    with pytest.raises(ClipNotFoundError):
        ClipLibrary(folder).named("circle", PCM16_8K)


def test_folder_may_itself_be_a_link_that_moves_on(folder, tmp_path):
    write(tmp_path / "release-2" / "welcome.wav", value=5000)
    current = tmp_path / "current"
    current.symlink_to(folder)
    library = ClipLibrary(current)
    assert value_of(library.named("welcome", PCM16_8K).data) == 1000
    current.unlink()
    current.symlink_to(tmp_path / "release-2")
    assert value_of(library.named("welcome", PCM16_8K).data) == 5000


def test_what_is_no_file_is_not_found_and_holds_nothing_up(folder):
    os.mkfifo(folder / "pipe.wav")
    (folder / "directory.wav").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for name in ("pipe", "directory"):
        with pytest.raises(ClipNotFoundError):
            ClipLibrary(folder).named(name, PCM16_8K)
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_that_is_no_audio_says_so(folder):
    (folder / "notes.wav").write_text("shopping list")
    with pytest.raises(FormatMismatchError, match="expected an audio file") as caught:
        ClipLibrary(folder).named("notes", PCM16_8K)
    assert "shopping" not in str(caught.value)


def test_folder_that_is_none_is_a_wrong_setting(folder):
    for place in (folder / "nowhere", folder / "welcome.wav"):
        with pytest.raises(ConfigurationError, match="FASTAGENT_CLIPS_DIR"):
            ClipLibrary(place)


# Built-in clips


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("name", sorted(BUILT_IN_CLIPS))
def test_built_in_clip_plays_in_every_format(name, format):
    clip = ClipLibrary().named(name, format)
    assert clip.format == format
    assert 200 < clip.duration_ms <= 20_000
    assert Clip.from_file(wav.header(format, 1, len(clip.data)) + clip.data, ClipLimits()).level_dbfs > -30


def test_built_in_sounds_are_small_and_never_clip():
    sounds = Path(wav.__file__).parent / "sounds"
    assert sum(path.stat().st_size for path in sounds.iterdir()) <= 200_000
    for path in sounds.iterdir():
        clip = Clip.from_file(path.read_bytes(), ClipLimits())
        assert np.abs(clip.samples).max() < 0.9
        assert -30 < clip.level_dbfs < -18


@pytest.mark.parametrize("format", [PCM16_8K, PCM16_24K], ids=str)
def test_hold_music_goes_on_into_itself(format):
    samples = np.frombuffer(ClipLibrary().named("hold-music", format).data, "<i2").astype(float)
    steps = np.abs(np.diff(samples))
    assert abs(samples[0] - samples[-1]) <= np.percentile(steps, 95)
    half_second = np.sqrt(np.mean(samples.reshape(40, -1) ** 2, axis=1))
    assert half_second.min() > 0.2 * half_second.max()
    # It is converted as if silence were around it, and hardly differs from the middle of a long loop.
    stored = np.frombuffer(ClipLibrary().named("hold-music", PCM16_8K).data, "<i2").astype(np.float32)
    rounds = soxr.resample(np.tile(stored, 3), 8_000, format.sample_rate, quality="VHQ")
    assert np.abs(samples - rounds[len(samples) : 2 * len(samples)]).max() < 0.02 * np.std(samples)


def test_file_of_the_folder_comes_before_the_built_in_clip_of_its_name(folder):
    write(folder / "hold-music.wav", value=6000)
    assert value_of(ClipLibrary(folder).named("hold-music", PCM16_8K).data) == 6000
    assert ClipLibrary(folder).named("beep", PCM16_8K).duration_ms == 250


# Cache


def test_clip_is_converted_once_for_each_format_and_level(folder):
    library = ClipLibrary(folder)
    clips = {}
    for _ in range(3):
        for format in FORMATS:
            for level in (None, -30.0):
                clips[format, level] = library.named("welcome", format, level_dbfs=level).data
    assert library.conversions == len(FORMATS) * 2
    assert library.cached_bytes == sum(len(data) for data in clips.values())
    assert value_of(clips[PCM16_8K, None]) == 1000
    assert value_of(clips[PCM16_8K, -30.0]) == pytest.approx(2**15 * 10**-1.5, abs=1)


def test_file_that_changed_is_read_again(folder):
    library = ClipLibrary(folder)
    path = folder / "welcome.wav"
    assert value_of(library.named("welcome", PCM16_8K).data) == 1000
    write(path, value=7000)
    os.utime(path, ns=(10**18, 10**18))
    assert value_of(library.named("welcome", PCM16_8K).data) == 7000
    path.unlink()
    with pytest.raises(ClipNotFoundError):
        library.named("welcome", PCM16_8K)


def test_upload_is_known_by_its_content(folder):
    library = ClipLibrary()
    content = (folder / "welcome.wav").read_bytes()
    other = (folder / "de" / "welcome.wav").read_bytes()
    first, again, second = (library.uploaded(data, PCM16_8K) for data in (content, bytes(content), other))
    assert first == again
    assert first.clip_id.startswith("upload-")
    assert first.clip_id != second.clip_id
    assert library.conversions == 2


def test_least_recently_used_clips_go_first(folder):
    for name in "abc":
        write(folder / f"{name}.wav", samples=1000)
    library = ClipLibrary(folder, cache_bytes=4_000)
    for name in ("a", "b", "a", "c"):
        library.named(name, PCM16_8K)
    assert (library.conversions, library.cached_bytes) == (3, 4_000)
    library.named("a", PCM16_8K)
    assert library.conversions == 3
    library.named("b", PCM16_8K)
    assert (library.conversions, library.cached_bytes) == (4, 4_000)


def test_clip_larger_than_the_cache_is_played_and_pushes_nothing_out(folder):
    library = ClipLibrary(folder, cache_bytes=1_600)
    library.named("welcome", PCM16_8K)
    write(folder / "long.wav", samples=801)
    assert len(library.named("long", PCM16_8K).data) == 1_602
    assert library.cached_bytes == 1_600
    library.named("welcome", PCM16_8K)
    assert library.conversions == 2


def test_too_large_a_file_is_refused_before_it_is_read(folder, monkeypatch):
    library = ClipLibrary(folder, limits=ClipLimits(file_bytes=1_000))
    with pytest.raises(ClipTooLargeError, match="1000 bytes"):
        library.named("welcome", PCM16_8K)
    with pytest.raises(ClipTooLargeError, match="1000 bytes"):
        library.uploaded(bytes(1_001), PCM16_8K)


def test_repr_shows_no_audio(folder):
    assert "data" not in repr(ClipLibrary(folder).named("welcome", PCM16_8K))


# Threads

ROOM = 8


class Gate:
    """Holds up every conversion until it is opened; counts those that convert and those that wait for one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.begun = threading.Semaphore(0)
        self.joined = threading.Semaphore(0)
        self.running = 0
        self.most_running = 0
        self.error: BaseException | None = None
        lock = threading.Lock()
        convert = Clip.encoded
        gate = self

        def encoded(clip, format):
            with lock:
                gate.running += 1
                gate.most_running = max(gate.most_running, gate.running)
            gate.begun.release()
            assert gate.opened.wait(20)
            with lock:
                gate.running -= 1
            if gate.error is not None:
                raise gate.error
            return convert(clip, format)

        class CountingFuture(Future):
            def result(self, timeout=None):
                gate.joined.release()
                return super().result(timeout)

        monkeypatch.setattr(Clip, "encoded", encoded)
        monkeypatch.setattr(clip_library, "Future", CountingFuture)

    def let_all_through(self, count: int) -> None:
        """Open once one converts and all others wait for it."""
        assert self.begun.acquire(timeout=20)
        for _ in range(count - 1):
            assert self.joined.acquire(timeout=20)
        self.opened.set()


def test_those_who_ask_at_once_share_one_conversion(folder, monkeypatch):
    gate = Gate(monkeypatch)
    library = ClipLibrary(folder)
    with ThreadPoolExecutor(ROOM) as pool:
        futures = [pool.submit(library.named, "welcome", MULAW_8K) for _ in range(ROOM)]
        gate.let_all_through(ROOM)
        clips = [future.result(20) for future in futures]
    assert library.conversions == 1
    assert len({id(clip.data) for clip in clips}) == 1


def test_conversion_that_fails_fails_for_all_who_wait_and_is_tried_again_later(folder, monkeypatch):
    gate = Gate(monkeypatch)
    gate.error = FormatMismatchError("on purpose")
    library = ClipLibrary(folder)
    with ThreadPoolExecutor(ROOM) as pool:
        futures = [pool.submit(library.named, "welcome", MULAW_8K) for _ in range(ROOM)]
        gate.let_all_through(ROOM)
        for future in futures:
            with pytest.raises(FormatMismatchError, match="on purpose"):
                future.result(20)
    gate.error = None
    assert library.named("welcome", MULAW_8K).duration_ms == 100
    assert library.conversions == 1
    assert library._running == {}


def test_few_clips_are_converted_at_a_time(folder, monkeypatch):
    gate = Gate(monkeypatch)
    for k in range(ROOM):
        write(folder / f"clip{k}.wav", value=k)
    library = ClipLibrary(folder)
    with ThreadPoolExecutor(ROOM) as pool:
        futures = [pool.submit(library.named, f"clip{k}", PCM16_8K) for k in range(ROOM)]
        for _ in range(LOADS_AT_ONCE_MAX):
            assert gate.begun.acquire(timeout=20)
        assert not gate.begun.acquire(timeout=0.1)
        gate.opened.set()
        assert [value_of(future.result(20).data) for future in futures] == list(range(ROOM))
    assert gate.most_running == LOADS_AT_ONCE_MAX


def test_many_threads_leave_the_books_in_order(folder):
    for k in range(6):
        write(folder / f"clip{k}.wav", samples=800 + k, value=k)
    library = ClipLibrary(folder, cache_bytes=5_000)
    with ThreadPoolExecutor(ROOM) as pool:
        names = [f"clip{(7 * k) % 6}" for k in range(600)]
        for name, clip in zip(
            names, pool.map(lambda name: library.named(name, PCM16_8K), names), strict=True
        ):
            assert value_of(clip.data) == int(name[-1])
    assert library.cached_bytes == sum(len(data) for data in library._cache.values()) <= 5_000
    assert library._running == {}
