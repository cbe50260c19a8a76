"""Keypad tones (DTMF): the sound of digits at a level in dBm0, and the finding of digits in telephone audio.

Frequencies are those of ITU-T Q.23. Full scale of µ-law is +3.17 dBm0 (ITU-T G.711).
"""

from fastagent._native.dtmf import Detector, ToneEvent, generate
from fastagent.audio.formats import AudioFormat, Encoding

__all__ = ["DBM0_PEAK", "DTMF_DIGITS", "Detector", "ToneEvent", "dtmf_tones"]

DTMF_DIGITS = frozenset("0123456789*#ABCD")

DBM0_PEAK = 32124 / 10 ** (3.17 / 20)
"""Peak of a sine of 0 dBm0 in int16."""

TONE_MS = 100
PAUSE_MS = 100
LEVEL_DBM0 = -10.0
TWIST_DB = 2.0
"""Telephones send the high tone a little louder, as lines lose more of it."""
RAMP_MS = 1
"""A tone rises and falls so slowly that it does not click, and fast enough not to be a shorter tone."""
DURATION_MAX_MS = 60_000


def dtmf_tones(
    digits: str,
    media: AudioFormat,
    *,
    tone_ms: int = TONE_MS,
    pause_ms: int = PAUSE_MS,
    level_dbm0: float = LEVEL_DBM0,
    twist_db: float = TWIST_DB,
) -> bytes:
    """Make the tones of ``digits`` as PCM16, each followed by a pause.

    Args:
        digits: any number of ``0-9 * # A-D``.
        media: PCM16 at 8, 16 or 24 kHz.
        tone_ms: duration of a tone; receivers need 40 ms.
        pause_ms: silence behind each tone; receivers need 40 ms between tones.
        level_dbm0: of the low tone, -60 to +3.
        twist_db: by how much the high tone is louder than the low one, -12 to 12.

    Raises:
        ValueError: a digit there is no key for, a format there is no generator for, a number out of range.
    """
    if media.encoding is not Encoding.PCM16:
        raise ValueError(f"PCM16 expected, got {media.encoding.value}")
    if not 1 <= tone_ms <= DURATION_MAX_MS or not 0 <= pause_ms <= DURATION_MAX_MS:
        raise ValueError(f"tones of 1 to {DURATION_MAX_MS} ms and pauses of at most as many expected")
    if not -60.0 <= level_dbm0 <= 3.0 or not -12.0 <= twist_db <= 12.0:
        raise ValueError("a level of -60 to 3 dBm0 and a twist of -12 to 12 dB expected")
    tone = media.samples_in_ms(tone_ms)
    return generate(
        digits,
        media.sample_rate,
        tone,
        media.samples_in_ms(pause_ms),
        min(peak_of(level_dbm0), 32768.0),
        min(peak_of(level_dbm0 + twist_db), 32768.0),
        min(media.samples_in_ms(RAMP_MS), tone // 2),
    )


def peak_of(level_dbm0: float) -> float:
    """Peak of a sine of that level, in sample values."""
    peak: float = DBM0_PEAK * 10 ** (level_dbm0 / 20)
    return peak
