"""What a model's tokens cost: prices as data with a date and a source, and a call's money from its usage.

A file that the setting ``prices_file`` names adds models or replaces built-in ones::

    {"my-model": {"text_in": 4, "text_cached": 0.4, "text_out": 16,
                  "audio_in": 32, "audio_cached": 0.4, "audio_out": 64,
                  "as_of": "2026-11-01", "source": "our contract"}}

Prices are US dollars per million tokens. A model that no table knows has its tokens counted and no money.
What writes down the caller's words is billed by the vendor beside this, and is not in the usage of
responses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from fastagent.errors import ConfigurationError
from fastagent.wire.realtime_events import Usage

__all__ = ["BUILT_IN_PRICES", "OTHER_MODEL", "Prices", "TokenCount", "load_prices", "model_label"]

OTHER_MODEL = "other"
"""The label of every model that has no price: whatever a setting names, it makes no further label."""
MODELS_MAX = 64
"""Models that a file may hold: each one is a label."""
FILE_BYTES_MAX = 65_536
PER_TOKEN = 1e-6


class TokenCount(NamedTuple):
    """Tokens as they are billed: each in one class only."""

    text_in: int = 0
    text_cached: int = 0
    text_out: int = 0
    audio_in: int = 0
    audio_cached: int = 0
    audio_out: int = 0

    @classmethod
    def of(cls, usage: Usage) -> "TokenCount":
        """The tokens of a response. Cached ones of a kind that was not told are taken for text first."""
        cached = min(usage.input_cached, usage.input_text + usage.input_audio)
        audio_cached = min(usage.cached_audio, usage.input_audio, cached)
        text_cached = min(cached - audio_cached, usage.input_text)
        audio_cached = cached - text_cached
        return cls(
            usage.input_text - text_cached,
            text_cached,
            usage.output_text,
            usage.input_audio - audio_cached,
            audio_cached,
            usage.output_audio,
        )


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens of one model."""

    text_in: float
    text_cached: float
    text_out: float
    audio_in: float
    audio_cached: float
    audio_out: float
    as_of: str
    """The day it was looked up."""
    source: str

    def dollars(self, tokens: TokenCount) -> float:
        """What these tokens cost."""
        return PER_TOKEN * (
            tokens.text_in * self.text_in
            + tokens.text_cached * self.text_cached
            + tokens.text_out * self.text_out
            + tokens.audio_in * self.audio_in
            + tokens.audio_cached * self.audio_cached
            + tokens.audio_out * self.audio_out
        )


_SOURCE = "developers.openai.com/api/docs/models"
_FULL = Prices(4.0, 0.4, 16.0, 32.0, 0.4, 64.0, "2026-11-21", _SOURCE)
_REASONING = Prices(4.0, 0.4, 24.0, 32.0, 0.4, 64.0, "2026-11-21", _SOURCE)
_MINI = Prices(0.6, 0.06, 2.4, 10.0, 0.3, 20.0, "2026-11-21", _SOURCE)

BUILT_IN_PRICES: Mapping[str, Prices] = MappingProxyType(
    {
        "gpt-realtime": _FULL,
        "gpt-realtime-1.5": _FULL,
        "gpt-realtime-2": _REASONING,
        "gpt-realtime-2.1": _REASONING,
        "gpt-realtime-2.1-mini": _MINI,
        "gpt-realtime-mini": _MINI,
    }
)
"""List prices; a contract may say otherwise."""


def model_label(model: str, prices: Mapping[str, Prices]) -> str:
    """The name a model is counted under: that of its prices, whichever dated snapshot it is, or
    `OTHER_MODEL`."""
    if model in prices:
        return model
    stem, _, rest = model.partition("-20")
    # gpt-realtime-2025-08-28 is gpt-realtime
    is_dated = len(rest) == 8 and rest.replace("-", "").isdigit()
    return stem if is_dated and stem in prices else OTHER_MODEL


def load_prices(path: str) -> Mapping[str, Prices]:
    """The built-in prices with those of a file on top; ``path`` may be empty.

    Raises:
        ConfigurationError: the file cannot be read or holds something else; the message says what is wrong.
    """
    if not path:
        return BUILT_IN_PRICES
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        found = orjson.loads(data)
    except OSError as error:
        raise ConfigurationError(f"FASTAGENT_PRICES: cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise ConfigurationError("FASTAGENT_PRICES: expected a JSON object") from None
    if len(data) > FILE_BYTES_MAX or not isinstance(found, dict) or len(found) > MODELS_MAX:
        raise ConfigurationError(f"FASTAGENT_PRICES: expected a JSON object of at most {MODELS_MAX} models")
    return MappingProxyType(
        {**BUILT_IN_PRICES, **{name: _prices_of(name, entry) for name, entry in found.items()}}
    )


def _prices_of(name: str, entry: Any) -> Prices:
    wanted = [one.name for one in fields(Prices)]
    if not isinstance(entry, dict) or sorted(entry) != sorted(wanted):
        raise ConfigurationError(f"FASTAGENT_PRICES: {name!r}: expected the keys {', '.join(wanted)}")
    for key in wanted:
        value = entry[key]
        if key in ("as_of", "source"):
            is_right = isinstance(value, str)
        else:
            is_right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6
        if not is_right:
            raise ConfigurationError(f"FASTAGENT_PRICES: {name!r}: {key} does not fit")
    return Prices(**entry)
