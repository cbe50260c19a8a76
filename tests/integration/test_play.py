"""``fastagent play`` against a running server: from the command line to the call, over real sockets."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastagent import FastAgent
from fastagent.audio import wav
from fastagent.audio.clip_files import ClipLimits
from fastagent.audio.clips import Clip
from fastagent.audio.formats import MULAW_8K, PCM16_8K, PCM16_24K, AudioFormat
from fastagent.cli import main
from fastagent.errors import ConfigurationError, PlaybackRefusedError
from fastagent.server.process import RunningServer, run_server
from fastagent.server.switchboard import Switchboard
from fastagent.settings import Settings
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA
from tests.integration.scene import Scene, chirp, likeness, resampled, run

TOKEN = "correct-token-0123"
NOBODY = "ws://127.0.0.1:1/"
"""A model that is never needed."""


class FakeCall:
    """A call that writes down what it is asked to play."""

    def __init__(self, format: AudioFormat) -> None:
        self.carrier_format = format
        self.played: list[tuple[bytes, dict[str, Any]]] = []
        self.stops = 0
        self.refusal = ""

    def play(self, clip_bytes: bytes, **options: Any) -> str:
        if self.refusal:
            raise PlaybackRefusedError(self.refusal)
        self.played.append((clip_bytes, options))
        return f"clip-{len(self.played)}"

    def stop_playback(self) -> None:
        self.stops += 1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeCall]:
    """What the switchboard finds."""
    found: dict[str, FakeCall] = {}
    monkeypatch.setattr(Switchboard, "find", lambda switchboard, session_id: found.get(session_id))
    return found


def serve_and_play(*command_lines: list[str], **settings: Any) -> list[int]:
    """Run ``fastagent play`` several times against one server; gives the exit codes."""

    async def scenario() -> list[int]:
        values: dict[str, Any] = {"port": 0, "realtime_url": NOBODY, "drain_timeout_s": 1.0, **settings}
        async with asyncio.timeout(60), run_server(FastAgent("bot"), Settings(**values)) as server:
            return [await play(server, *arguments) for arguments in command_lines]

    return asyncio.run(scenario())


async def play(server: RunningServer, *arguments: str) -> int:
    url = f"http://{server.host}:{server.port}"
    return await asyncio.to_thread(main, ["play", *arguments, "--url", url])


def write_chirp(path: Path, duration_ms: int, rate: int) -> bytes:
    pcm = chirp(duration_ms, rate)
    path.write_bytes(wav.header(AudioFormat(PCM16_8K.encoding, rate), 1, len(pcm)) + pcm)
    return pcm


@pytest.mark.parametrize("format", [MULAW_8K, PCM16_24K], ids=str)
def test_file_arrives_at_the_call_in_the_carriers_format(calls, format, tmp_path, capsys):
    calls["c-1"] = FakeCall(format)
    pcm = write_chirp(tmp_path / "greeting.wav", 500, 44_100)
    how = ["--loop", "--when", "when-quiet", "--uninterruptible"]
    assert serve_and_play([str(tmp_path / "greeting.wav"), "--session", "c-1", *how]) == [0]
    [(data, options)] = calls["c-1"].played
    clip_id = options.pop("clip_id")
    assert options == {"loop": True, "when": "when_quiet", "interruptible": False}
    assert capsys.readouterr().out == f"playing {clip_id}, again and again (playback clip-1)\n"
    samples = Clip.from_file(wav.header(format, 1, len(data)) + data, ClipLimits()).encoded(PCM16_8K)
    assert likeness(samples, resampled(pcm, 44_100, 8_000), 8_000) > 0.995


def test_clips_are_found_by_name_and_stopped(calls, tmp_path, capsys):
    calls["c-1"] = FakeCall(PCM16_8K)
    pcm = write_chirp(tmp_path / "ours.wav", 100, 8_000)
    codes = serve_and_play(
        ["--clip", "ours", "--session", "c-1"],
        ["--clip", "beep", "--session", "c-1"],
        ["--stop", "--session", "c-1"],
        clips_dir=str(tmp_path),
    )
    assert codes == [0, 0, 0]
    assert [options["clip_id"] for _, options in calls["c-1"].played] == ["ours", "beep"]
    assert calls["c-1"].played[0][0] == pcm
    assert calls["c-1"].stops == 1
    assert re.fullmatch(
        r"playing ours, 100 ms \(playback clip-1\)\nplaying beep, 250 ms \(playback clip-2\)\nstopped\n",
        capsys.readouterr().out,
    )


def test_refusals_reach_the_terminal_as_lines(calls, tmp_path, capsys):
    calls["c-1"] = FakeCall(PCM16_8K)
    calls["busy"] = FakeCall(PCM16_8K)
    calls["busy"].refusal = "the call is being transferred"
    (tmp_path / "long.wav").write_bytes(wav.header(PCM16_8K, 1, 5_000_000) + bytes(5_000_000))
    (tmp_path / "huge.wav").write_bytes(wav.header(PCM16_24K, 1, 20_000_000) + bytes(20_000_000))
    codes = serve_and_play(
        ["--clip", "beep", "--session", "nobody"],
        ["--clip", "nothing", "--session", "c-1"],
        ["--clip", "beep", "--session", "busy"],
        [str(tmp_path / "long.wav"), "--session", "c-1"],
        [str(tmp_path / "huge.wav"), "--session", "c-1"],
    )
    assert codes == [1] * 5
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("fastagent play: ").partition(":")[0] for line in lines] == [
        "refused with 404",
        "refused with 404",
        "refused with 409",
        "refused with 413",
        "refused with 413",
    ]
    assert lines[2].endswith(": the call is being transferred")
    assert "expected at most 300 s of audio" in lines[3]
    assert calls["c-1"].played == []


def test_playing_wants_the_servers_token(calls, capsys, monkeypatch):
    calls["c-1"] = FakeCall(PCM16_8K)
    monkeypatch.setenv("FASTAGENT_TOKEN", TOKEN)
    beep = ["--clip", "beep", "--session", "c-1"]
    assert serve_and_play([*beep, "--token", f"{TOKEN}x"], beep, audiocodes_tokens=(TOKEN,)) == [1, 0]
    assert "wants a bearer token" in capsys.readouterr().err
    assert len(calls["c-1"].played) == 1


def test_folder_of_clips_must_be_there_when_the_server_starts(tmp_path):
    with pytest.raises(ConfigurationError, match="FASTAGENT_CLIPS_DIR"):
        serve_and_play(clips_dir=str(tmp_path / "nowhere"))


def test_session_is_found_by_its_conversation_id_while_its_call_runs():
    async def scenario(scene: Scene) -> None:
        switchboard = scene.server.service.switchboard
        phones = [(await scene.call(conversation_id=f"conversation-{k}"))[0] for k in range(2)]
        for k in range(2):
            call = switchboard.find(f"conversation-{k}")
            assert call is not None
            assert call.call_id == f"conversation-{k}"
        assert switchboard.find("conversation-2") is None
        await phones[0].hang_up()
        await scene.summary()
        assert switchboard.find("conversation-0") is None
        assert switchboard.find("conversation-1") is not None

    run(scenario)


def test_long_file_is_prepared_beside_the_loop(calls, tmp_path, monkeypatch):
    """While one request's clip is converted, the server answers others."""
    calls["c-1"] = FakeCall(PCM16_8K)
    write_chirp(tmp_path / "greeting.wav", 100, 44_100)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        begun, go_on = asyncio.Event(), asyncio.Event()
        convert = Clip.encoded

        def encoded(clip: Clip, format: AudioFormat) -> bytes:
            async def wait() -> None:
                begun.set()
                await go_on.wait()

            asyncio.run_coroutine_threadsafe(wait(), loop).result(20)
            return convert(clip, format)

        monkeypatch.setattr(Clip, "encoded", encoded)
        settings = Settings(port=0, realtime_url=NOBODY, drain_timeout_s=1.0)
        async with asyncio.timeout(60), run_server(FastAgent("bot"), settings) as server:
            upload = asyncio.create_task(play(server, str(tmp_path / "greeting.wav"), "--session", "c-1"))
            await begun.wait()
            assert await play(server, "--stop", "--session", "c-1") == 0
            assert (calls["c-1"].stops, calls["c-1"].played) == (1, [])
            go_on.set()
            assert await upload == 0
        assert len(np.frombuffer(calls["c-1"].played[0][0], "<i2")) == 800

    asyncio.run(scenario())


# Into a running call


@pytest.mark.parametrize("media", ["raw/mulaw", "raw/lpcm16_24", "wav/lpcm16"])
def test_caller_hears_the_file_whole_and_in_order(media, tmp_path):
    format = AUDIOCODES_MEDIA[media].format
    pcm = write_chirp(tmp_path / "greeting.wav", 400, 44_100)

    async def scenario(scene: Scene) -> None:
        phone, _, tap = await scene.call(media)
        await phone.wait_until(lambda line: "config" in tap.order, "the call to stand")
        session_id = phone.line.conversation_id
        assert await play(scene.server, str(tmp_path / "greeting.wav"), "--session", session_id) == 0
        await phone.wait_until(lambda line: line.streams and line.streams[0].is_done, "the end of the clip")
        [stream] = phone.line.streams
        assert not stream.was_cut
        heard = bytes(tap.all_audio)
        assert len(heard) == 400 * format.bytes_per_ms
        samples = Clip.from_file(wav.header(format, 1, len(heard)) + heard, ClipLimits()).encoded(PCM16_8K)
        assert likeness(samples, resampled(pcm, 44_100, 8_000), 8_000) > 0.995

    run(scenario)


def test_music_goes_round_until_it_is_stopped(tmp_path, capsys):
    write_chirp(tmp_path / "jingle.wav", 200, 8_000)

    async def scenario(scene: Scene) -> None:
        phone, _, tap = await scene.call("raw/lpcm16_8")
        await phone.wait_until(lambda line: "config" in tap.order, "the call to stand")
        session = ("--session", phone.line.conversation_id)
        assert await play(scene.server, str(tmp_path / "jingle.wav"), "--loop", *session) == 0
        await phone.wait_until(lambda line: len(tap.all_audio) > 3 * 200 * 16, "three rounds and more")
        assert await play(scene.server, "--stop", *session) == 0
        await phone.wait_until(lambda line: line.streams[-1].is_done, "the end of the music")
        assert len(phone.line.streams) == 1
        # Seamless: one round behind the other, in one playback.
        round_bytes = bytes(tap.all_audio[: 200 * 16])
        for start in range(0, 3 * len(round_bytes), len(round_bytes)):
            assert bytes(tap.all_audio[start : start + len(round_bytes)]) == round_bytes
        assert await play(scene.server, "--stop", *session) == 0

    run(scenario)
    assert capsys.readouterr().out.count("stopped\n") == 2


def test_clip_takes_the_word_from_the_bot_when_told_to(tmp_path):
    pcm = write_chirp(tmp_path / "news.wav", 300, 24_000)

    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await phone.wait_until(lambda line: "config" in tap.order, "the call to stand")
        session.speak(chirp(5_000, 24_000, low=300, high=600))
        await phone.wait_until(lambda line: len(tap.all_audio) > 4_800, "the bot's words")
        news = [str(tmp_path / "news.wav"), "--session", phone.line.conversation_id]
        assert await play(scene.server, *news) == 0
        await phone.wait_until(lambda line: len(line.streams) == 2 and line.streams[1].is_done, "the clip")
        heard = tap.audio[phone.line.streams[1].stream_id]
        assert bytes(heard) == pcm
        # No word of the bot comes behind it.
        assert len(tap.all_audio) < 48 * 2_000

    run(scenario)


def test_clip_waits_for_quiet_when_told_to(tmp_path):
    pcm = write_chirp(tmp_path / "news.wav", 300, 24_000)
    words = chirp(800, 24_000, low=300, high=600)

    async def scenario(scene: Scene) -> None:
        phone, session, tap = await scene.call()
        await phone.wait_until(lambda line: "config" in tap.order, "the call to stand")
        session.speak(words)
        await phone.wait_until(lambda line: len(tap.all_audio) > 4_800, "the bot's words")
        news = [str(tmp_path / "news.wav"), "--session", phone.line.conversation_id]
        assert await play(scene.server, *news, "--when", "when-quiet") == 0
        await phone.wait_until(lambda line: len(tap.all_audio) >= len(words) + len(pcm), "words and clip")
        assert bytes(tap.all_audio) == words + pcm

    run(scenario)


def test_call_that_hangs_up_cannot_play(tmp_path, capsys):
    async def scenario(scene: Scene) -> None:
        phone, _, tap = await scene.call()
        await phone.wait_until(lambda line: "config" in tap.order, "the call to stand")
        call = scene.server.service.switchboard.find(phone.line.conversation_id)
        assert call is not None
        call.hang_up("done")
        assert await play(scene.server, "--clip", "beep", "--session", phone.line.conversation_id) == 1
        await scene.summary()
        assert await play(scene.server, "--clip", "beep", "--session", phone.line.conversation_id) == 1

    run(scenario)
    refused, unknown = capsys.readouterr().err.splitlines()
    assert "refused with 409: " in refused or "refused with 404: " in refused
    assert "refused with 404: no running call" in unknown
