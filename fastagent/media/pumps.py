"""Which media format a call takes, which conversions that needs, and the native pumps that do them.

A format that both sides speak costs nothing and loses nothing, so it comes first; among those, and among
the rest, the carrier's own order of preference decides.
"""

from dataclasses import dataclass
from functools import cache

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Downlink, Uplink
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_24K, AudioFormat
from fastagent.errors import UnsupportedMediaError
from fastagent.wire.envelope import AudioTemplate, MediaEnvelope
from fastagent.wire.events import MediaOffer

__all__ = ["FRAME_MS", "MODEL_FORMATS", "MediaPlan", "build_downlink", "build_uplink", "plan_media"]

FRAME_MS = 20
"""What a telephone sends at a time."""
MODEL_FORMATS = (PCM16_24K, MULAW_8K, ALAW_8K)
"""What a Realtime model speaks: audio/pcm at 24 kHz, audio/pcmu, audio/pcma."""


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """The formats of a call: what the carrier sends and is played, and what the model hears and says."""

    offer: MediaOffer
    model_format: AudioFormat

    @property
    def is_passthrough(self) -> bool:
        """Audio crosses the bridge untouched."""
        return self.offer.format == self.model_format and not self.offer.has_wav_header


def plan_media(offers: tuple[MediaOffer, ...]) -> MediaPlan:
    """Choose among a carrier's offers.

    Raises:
        UnsupportedMediaError: none of them is usable.
    """
    for offer in offers:
        if offer.format in MODEL_FORMATS and not offer.has_wav_header:
            return MediaPlan(offer, offer.format)
    raw_first = sorted(offers, key=lambda offer: offer.has_wav_header)
    for offer in raw_first:
        if offer.format in MODEL_FORMATS:
            return MediaPlan(offer, offer.format)
        if offer.format.sample_rate in (8_000, 16_000):
            return MediaPlan(offer, PCM16_24K)
    raise UnsupportedMediaError("carrier", "no usable media format was offered")


@cache
def _spec(media: MediaEnvelope) -> EnvelopeSpec:
    own = (media.expected and media.expected[0], media.sequence)
    fields = (*media.fields, *(path for path in own if path is not None))
    return EnvelopeSpec(media.discriminator, media.values, media.audio, fields)


def build_uplink(
    plan: MediaPlan,
    media: MediaEnvelope,
    template: AudioTemplate,
    *,
    backlog_ms: int,
    append_ms: int = FRAME_MS,
) -> Uplink:
    """The pump from caller to model.

    Args:
        append_ms: audio gathered into one message; up to a frame's length none is.
    """
    caller, model = plan.offer.format, plan.model_format
    # The fields that the pump looks at itself stand behind those that are declared; see `_spec`.
    next_field = len(media.fields)
    return Uplink(
        _spec(media),
        caller.encoding.value,
        caller.sample_rate,
        model.encoding.value,
        model.sample_rate,
        template.prefix,
        template.suffix,
        has_wav_header=plan.offer.has_wav_header,
        backlog_ms=backlog_ms,
        append_ms=append_ms if append_ms > FRAME_MS else 0,
        expected_field=-1 if media.expected is None else next_field,
        expected=b"" if media.expected is None else media.expected[1].encode(),
        sequence_field=-1 if media.sequence is None else next_field + (media.expected is not None),
    )


def build_downlink(
    plan: MediaPlan, media: MediaEnvelope, *, lead_ms: int, queue_limit_ms: int, retains: bool = False
) -> Downlink:
    """The pump from model to caller; its template is set when a playback opens.

    Args:
        retains: what was sent can be taken back until it was heard.
    """
    caller, model = plan.offer.format, plan.model_format
    return Downlink(
        _spec(media),
        model.encoding.value,
        model.sample_rate,
        caller.encoding.value,
        caller.sample_rate,
        b"",
        b"",
        lead_ms=lead_ms,
        queue_limit_ms=queue_limit_ms,
        retains=retains,
    )
