"""Telephone speech whose labels are exact: espeak-ng speaks, and the clean signal says where.

Everything is mono at 8 kHz: samples are float64 arrays on the int16 scale, or int16 once they passed
`on_the_line`. Renderings are kept under ``build/hearing`` and so are the same from run to run.

>>> spoken = say("Hello there.", "en-us+f3")
>>> spoken.samples.dtype, len(spoken.samples) == len(spoken.is_speech)
(dtype('float64'), True)
"""

import ctypes
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

from fastagent._native import g711
from fastagent.local.voice import Espeak

__all__ = [
    "CACHE",
    "FRAME_SAMPLES",
    "SAMPLE_RATE",
    "SENTENCES",
    "TEST_VOICES",
    "TRAIN_VOICES",
    "Law",
    "Utterance",
    "activity",
    "at_level",
    "conversation",
    "frame_labels",
    "frames_of",
    "level_dbfs",
    "on_the_line",
    "say",
    "telephone_band",
]

SAMPLE_RATE = 8000
FRAME_SAMPLES = 160
CACHE = Path(__file__).parents[2] / "build" / "hearing"

FULL_SCALE = 32768.0
ACTIVE_RANGE_DB = 35.0
"""Sound this far below an utterance's loud parts is no longer called speech."""
STEP_SAMPLES = 80
BRIDGED_STEPS = 10
"""Gaps up to 100 ms are the closures of stops, not pauses."""
SHORTEST_STEPS = 3
SEED = 1

Samples = NDArray[np.float64]
Mask = NDArray[np.bool_]
Law = Literal["mulaw", "alaw", "pcm16"]

_ENGLISH = (
    "Hello, I would like to change my appointment on Thursday, please.",
    "Could you tell me how much is left on my account?",
    "My number is four seven one, nine two, double zero five.",
    "Yes, that is right, and the street is called Old Mill Lane.",
    "I am not sure about that, can you say it once more?",
    "The delivery never came, and nobody has called me back since Monday.",
    "What time do you close today?",
    "No, I asked for the blue one, not for the green one.",
    "Thanks a lot, that was all I wanted to know.",
    "Wait, there is something else: is parking free on weekends?",
    "She sells sea shells, fish and chips at the sea shore.",
    "Please send the papers to my office before the end of the month.",
)
SENTENCES: dict[str, tuple[str, ...]] = {
    "en": _ENGLISH,
    "de": (
        "Guten Tag, ich möchte meinen Termin am Donnerstag verschieben.",
        "Können Sie mir bitte sagen, wie viel noch auf dem Konto ist?",
        "Nein, die Lieferung ist bis heute nicht angekommen.",
        "Meine Nummer ist vier sieben eins, neun zwei, null fünf.",
        "Vielen Dank, das war alles, was ich wissen wollte.",
        "Einen Augenblick, ich suche schnell die Unterlagen.",
    ),
    "fr": (
        "Bonjour, je voudrais déplacer mon rendez-vous de jeudi.",
        "Pouvez-vous me dire combien il reste sur mon compte ?",
        "Non, la livraison n'est jamais arrivée chez moi.",
        "Merci beaucoup, c'est tout ce que je voulais savoir.",
        "Attendez, je cherche le numéro de la facture.",
    ),
    "es": (
        "Buenos días, quisiera cambiar mi cita del jueves.",
        "¿Me puede decir cuánto queda en mi cuenta?",
        "No, el pedido no ha llegado todavía.",
        "Muchas gracias, eso era todo lo que quería saber.",
        "Espere un momento, busco los papeles.",
    ),
    "it": (
        "Buongiorno, vorrei spostare il mio appuntamento di giovedì.",
        "Mi può dire quanto resta sul mio conto?",
        "No, la consegna non è mai arrivata.",
        "Grazie mille, era tutto quello che volevo sapere.",
    ),
    "pl": (
        "Dzień dobry, chciałbym przesunąć wizytę z czwartku.",
        "Czy może mi pani powiedzieć, ile zostało na koncie?",
        "Nie, przesyłka jeszcze do mnie nie dotarła.",
        "Dziękuję bardzo, to wszystko, co chciałem wiedzieć.",
    ),
    "ru": (
        "Здравствуйте, я хотел бы перенести встречу в четверг.",
        "Скажите, пожалуйста, сколько осталось на счёте?",
        "Нет, посылка до сих пор не пришла.",
        "Большое спасибо, это всё, что я хотел узнать.",
    ),
    "hi": (
        "नमस्ते, मैं गुरुवार की मुलाकात बदलना चाहता हूँ।",
        "कृपया बताइए कि मेरे खाते में कितना बचा है?",
        "धन्यवाद, मुझे बस यही जानना था।",
    ),
    "tr": (
        "Merhaba, perşembe günkü randevumu değiştirmek istiyorum.",
        "Hesabımda ne kadar kaldığını söyler misiniz?",
        "Teşekkürler, öğrenmek istediğim buydu.",
    ),
    "pt": (
        "Bom dia, queria mudar a minha consulta de quinta-feira.",
        "Pode dizer-me quanto resta na minha conta?",
        "Não, a encomenda ainda não chegou.",
    ),
}
"""What callers say, by language."""

TRAIN_VOICES: tuple[tuple[str, str], ...] = (
    *(("en", f"en-us+{v}") for v in ("f1", "f2", "f4", "m1", "m2", "m4", "m6", "m8", "adam", "Annie")),
    *(("en", f"en+{v}") for v in ("f3", "m3", "m7", "klatt2", "linda", "steph", "grandma", "belinda")),
    *(("en", f"en-us+{v}") for v in ("whisperf", "boris", "Andy", "klatt4", "victor", "max", "Alicia")),
    *(("de", f"de+{v}") for v in ("f2", "m1", "f4", "m5", "anika", "norbert", "Jacky", "klatt")),
    *(("fr", f"fr+{v}") for v in ("f3", "m2", "f5", "m8", "michel", "aunty", "Michael")),
    *(("es", f"es+{v}") for v in ("f1", "m3", "f4", "m6", "sandro", "pablo", "Andrea")),
    *(("pl", f"pl+{v}") for v in ("f2", "m4", "steph3", "john", "klatt3")),
    *(("hi", f"hi+{v}") for v in ("f4", "m1", "shelby", "travis")),
    *(("pt", f"pt+{v}") for v in ("f1", "m2", "Diogo", "Henrique")),
)
"""Language and espeak-ng voice of the speakers that a detector may learn from."""

TEST_VOICES: tuple[tuple[str, str], ...] = (
    *(("en", f"en-us+{v}") for v in ("f3", "m3", "f5", "Mike", "whisper")),
    *(("en", f"en+{v}") for v in ("m5", "steph2", "Gene", "david")),
    *(("it", f"it+{v}") for v in ("f2", "m1", "Mario", "f4", "m7")),
    *(("ru", f"ru+{v}") for v in ("f3", "m3", "Denis", "f1")),
    *(("tr", f"tr+{v}") for v in ("f2", "m2", "Lee")),
)
"""Speakers, and with it, ru and tr also languages, held out for measuring."""


@dataclass(frozen=True)
class Utterance:
    """Speech at about -26 dBFS while it is active, and which of its samples are speech."""

    samples: Samples
    is_speech: Mask
    """One per sample, in steps of 10 ms; closures up to 100 ms inside words count as speech."""


def level_dbfs(samples: Samples) -> float:
    """Root mean square in dB of full scale; a full-scale sine has -3."""
    return float(10 * np.log10(max(float(np.mean(np.square(samples))), 1e-6) / FULL_SCALE**2))


def activity(samples: Samples, range_db: float = ACTIVE_RANGE_DB) -> Mask:
    """Which samples of clean speech are speech."""
    steps = len(samples) // STEP_SAMPLES
    power = np.square(samples[: steps * STEP_SAMPLES]).reshape(steps, STEP_SAMPLES).mean(axis=1)
    if steps == 0 or power.max() <= 0:
        return np.zeros(len(samples), dtype=bool)
    loud = np.quantile(power[power > power.max() * 1e-4], 0.9)
    active = power > loud * 10 ** (-range_db / 10)
    active = _without_runs(active, value=False, shortest=BRIDGED_STEPS + 1, keeps_ends=True)
    active = _without_runs(active, value=True, shortest=SHORTEST_STEPS, keeps_ends=False)
    mask = np.repeat(active, STEP_SAMPLES)
    return np.concatenate([mask, np.zeros(len(samples) - len(mask), dtype=bool)])


def _without_runs(mask: Mask, *, value: bool, shortest: int, keeps_ends: bool) -> Mask:
    """Turn over the runs of ``value`` that are too short; runs at the ends are pauses, not closures."""
    mask = mask.copy()
    edges = np.flatnonzero(np.diff(mask.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), len(mask)]
    for begin, end in pairwise(bounds):
        at_end = begin == 0 or end == len(mask)
        if mask[begin] == value and end - begin < shortest and not (at_end and keeps_ends):
            mask[begin:end] = not value
    return mask


def at_level(samples: Samples, dbfs: float, mask: Mask | None = None) -> Samples:
    """Scale to a level, measured where ``mask`` is set if it is given."""
    measured = samples[mask] if mask is not None and mask.any() else samples
    return samples * 10 ** ((dbfs - level_dbfs(measured)) / 20)


@cache
def _espeak() -> Espeak:
    return Espeak()


@cache
def _seed_espeak() -> Callable[[int], None]:
    """What espeak-ng's breath and flutter are drawn from; without it no two runs speak alike."""
    seed = ctypes.CDLL(espeakng_loader.get_library_path()).espeak_ng_SetRandSeed
    seed.argtypes, seed.restype = [ctypes.c_long], None
    return seed


@lru_cache(maxsize=512)
def say(text: str, voice: str, speed: float = 1.0, pitch: float = 1.0) -> Utterance:
    """One text by one espeak-ng voice.

    Args:
        text: what is said.
        voice: as ``en-us+f3``.
        speed: 1 is about 170 words a minute.
        pitch: raises or lowers the whole voice, formants included, by resampling; 0.85 to 1.2 sounds natural.
    """
    name = hashlib.sha256(f"{text}|{voice}|{speed:.2f}|{pitch:.2f}".encode()).hexdigest()[:20]
    path = CACHE / f"{name}.npy"
    if path.exists():
        pcm = np.load(path)
    else:
        espeak = _espeak()
        _seed_espeak()(SEED)
        raw, rate = espeak.render(text, voice, speed / pitch)
        pcm = soxr.resample(raw, rate * pitch, SAMPLE_RATE, quality="HQ")
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{id(pcm)}.part.npy")
        np.save(part, pcm)
        part.replace(path)
    samples = pcm.astype(np.float64)
    mask = activity(samples)
    return Utterance(at_level(samples, -26.0, mask), mask)


def conversation(
    speakers: Sequence[tuple[str, str]],
    seconds: float,
    seed: int,
    *,
    pause_s: tuple[float, float] = (0.3, 2.0),
) -> Utterance:
    """One side of a call: sentences of one speaker, drawn from ``speakers``, between pauses of silence."""
    rng = np.random.default_rng(seed)
    length = round(seconds * SAMPLE_RATE)
    samples, mask = np.zeros(length), np.zeros(length, dtype=bool)
    language, voice = speakers[int(rng.integers(len(speakers)))]
    speed = float(rng.choice([0.85, 1.0, 1.15, 1.3]))
    pitch = float(rng.choice([0.9, 1.0, 1.0, 1.12]))
    at = round(rng.uniform(0.2, pause_s[1]) * SAMPLE_RATE)
    while at < length:
        text = SENTENCES[language][rng.integers(len(SENTENCES[language]))]
        spoken = say(text, voice, speed, pitch)
        end = min(length, at + len(spoken.samples))
        samples[at:end] = spoken.samples[: end - at]
        mask[at:end] = spoken.is_speech[: end - at]
        at = end + round(rng.uniform(*pause_s) * SAMPLE_RATE)
    return Utterance(samples, mask)


def telephone_band(samples: Samples, low_hz: float = 300.0, high_hz: float = 3400.0) -> Samples:
    """Keep a telephone's band: slopes of 12 dB per octave below it, steep above it; no delay."""
    count = len(samples)
    padded = 1 << max(count + SAMPLE_RATE // 4, 2).bit_length()
    hz = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    ratio = np.square(hz / low_hz)
    gain = ratio / np.sqrt(1 + np.square(ratio)) / np.sqrt(1 + np.power(hz / high_hz, 24))
    return np.asarray(np.fft.irfft(np.fft.rfft(samples, padded) * gain, padded)[:count])


def on_the_line(samples: Samples, law: Law = "mulaw") -> NDArray[np.int16]:
    """As the far end receives it: clipped, rounded, and through G.711 and back."""
    pcm = np.clip(np.rint(samples), -32768, 32767).astype("<i2")
    if law == "pcm16":
        return pcm
    if law == "mulaw":
        back = g711.ulaw_decode(g711.ulaw_encode(pcm.tobytes()))
    else:
        back = g711.alaw_decode(g711.alaw_encode(pcm.tobytes()))
    return np.frombuffer(back, dtype="<i2")


def frames_of(pcm: NDArray[np.int16]) -> Iterator[bytes]:
    """The whole 20 ms frames of a stream, as bytes of PCM16."""
    data = pcm.astype("<i2", copy=False).tobytes()
    size = 2 * FRAME_SAMPLES
    return (data[at : at + size] for at in range(0, len(data) - size + 1, size))


def frame_labels(mask: Mask) -> Mask:
    """Whether at least half of each whole 20 ms frame is speech."""
    count = len(mask) // FRAME_SAMPLES
    shares = mask[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES).mean(axis=1)
    return np.asarray(shares >= 0.5)
