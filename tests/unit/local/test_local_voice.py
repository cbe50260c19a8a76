"""Speech from espeak-ng and from pre-rendered prompts."""

import sys
import threading

import numpy as np
import pytest

from fastagent.errors import ConfigurationError
from fastagent.local import prerendered, voice
from fastagent.local.voice import VOICES, Voice
from fastagent.local.words import normalise


def duration_ms(pcm: bytes, sample_rate: int) -> float:
    return len(pcm) / 2 * 1000 / sample_rate


def is_tone(pcm: bytes) -> bool:
    """Whether the prompts' hum is all there is: its energy lies at one frequency."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    peak_hz = np.argmax(spectrum) * 8_000 / len(samples)
    near = slice(int(200 * len(samples) / 8_000), int(240 * len(samples) / 8_000))
    return bool(abs(peak_hz - prerendered.TONE_HZ) < 8 and spectrum[near].sum() > 0.95 * spectrum.sum())


@pytest.fixture(scope="module")
def prompts() -> Voice:
    return Voice("prompts")


class TestPrompts:
    @pytest.mark.parametrize(
        "text",
        [
            "Hello, this is the city clinic. How can I help you?",
            "hello this is the CITY clinic",
            "That is Monday the 23rd at 3 PM. Shall I book it?",
            "You are booked for Friday the 1st of May at 4:30 PM. Is there anything else?",
            "i would like to book an appointment",
        ],
    )
    def test_known_texts_are_put_together_from_files(self, prompts: Voice, text: str) -> None:
        pcm = prompts.speak(text, sample_rate=8_000)
        assert not is_tone(pcm)
        assert 40 < duration_ms(pcm, 8_000) / len(text) < 110

    def test_an_unknown_sentence_is_a_tone_as_long_as_speaking_it(self, prompts: Voice) -> None:
        text = "The quick brown fox jumps."
        pcm = prompts.speak(text, sample_rate=8_000)
        assert is_tone(pcm)
        assert duration_ms(pcm, 8_000) == pytest.approx(65 * len(text), abs=2)

    def test_every_file_of_the_index_is_there(self) -> None:
        book = prerendered.Prompts()
        for text in book._files:
            samples, rate = book.render(text, "", 1.0)
            assert len(samples) > rate // 20, text

    @pytest.mark.parametrize("sample_rate", [8_000, 16_000, 24_000])
    def test_any_rate_lasts_as_long(self, prompts: Voice, sample_rate: int) -> None:
        wanted = duration_ms(prompts.speak("Goodbye.", sample_rate=8_000), 8_000)
        pcm = prompts.speak("Goodbye.", sample_rate=sample_rate)
        assert duration_ms(pcm, sample_rate) == pytest.approx(wanted, abs=1)

    @pytest.mark.parametrize("text", ["", "   ", "...", "\0"])
    def test_no_words_give_no_sound(self, prompts: Voice, text: str) -> None:
        assert prompts.speak(text) == b""


class TestChoice:
    def test_without_espeak_prompts_speak(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "espeakng_loader", None)
        voice._espeak.cache_clear()
        try:
            assert Voice().kind == "prompts"
            with pytest.raises(ConfigurationError, match=r"fastagent\[local\]"):
                Voice("espeak")
        finally:
            voice._espeak.cache_clear()

    def test_the_cache_is_bounded(self) -> None:
        cached = Voice("prompts", cache_bytes=40_000)
        for text in ("Goodbye.", "Of course.", "That is done.", "Are you still there?"):
            cached.speak(text, sample_rate=8_000)
            assert cached._cached_bytes <= 40_000
            assert cached._cached_bytes == sum(map(len, cached._cache.values()))
        assert cached.speak("Goodbye.", sample_rate=8_000)


@pytest.fixture(scope="module")
def espeak() -> Voice:
    pytest.importorskip("espeakng_loader")
    return Voice("espeak")


class TestEspeak:
    def test_speaks_at_the_rate_asked_for(self, espeak: Voice) -> None:
        durations = [
            duration_ms(espeak.speak("Good morning.", sample_rate=rate), rate)
            for rate in (8_000, 16_000, 24_000)
        ]
        assert 500 < durations[0] < 1_500
        assert max(durations) - min(durations) < 2

    def test_every_voice_of_the_protocol_speaks_and_sounds_different(self, espeak: Voice) -> None:
        renderings = {espeak.speak("Good morning.", voice=name, sample_rate=8_000) for name in VOICES}
        assert len(renderings) == len(VOICES)

    def test_faster_speech_is_shorter(self, espeak: Voice) -> None:
        slow, fast = (espeak.speak("Good morning to you.", speed=speed) for speed in (0.7, 1.5))
        assert len(fast) < 0.7 * len(slow)

    def test_what_was_spoken_is_remembered(self, espeak: Voice) -> None:
        assert espeak.speak("Seven stars.") is espeak.speak("Seven stars.")

    def test_an_unknown_voice_is_a_mistake(self, espeak: Voice) -> None:
        with pytest.raises(ValueError, match="no voice 'nobody'"):
            espeak.speak("Hello.", voice="nobody")

    def test_many_threads_may_speak(self, espeak: Voice) -> None:
        shared = Voice("espeak")
        texts = ["No." * number for number in range(1, 12)]
        spoken: dict[str, bytes] = {}

        def speak(text: str) -> None:
            spoken[text] = shared.speak(text, sample_rate=8_000)

        threads = [threading.Thread(target=speak, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for text in texts:
            alone = espeak.speak(text, sample_rate=8_000)
            assert len(spoken[text]) == pytest.approx(len(alone), rel=0.05), text


@pytest.mark.parametrize(
    ("text", "words"),
    [("Hi, there!", "hi there"), ("o\u2019clock", "o'clock"), ("3 PM.", "3 pm"), ("?!", "")],
)
def test_words_are_compared_without_case_and_marks(text: str, words: str) -> None:
    assert normalise(text) == words
