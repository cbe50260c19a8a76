"""Which formats a call takes, and the pumps built for them."""

import base64
import json

import pytest

from fastagent.audio.formats import (
    ALAW_8K,
    MULAW_8K,
    PCM16_8K,
    PCM16_16K,
    PCM16_24K,
    AudioFormat,
    Encoding,
)
from fastagent.errors import UnsupportedMediaError
from fastagent.media.pumps import MODEL_FORMATS, MediaPlan, build_downlink, build_uplink, plan_media
from fastagent.wire.audiocodes import AUDIOCODES_MEDIA, AudioCodesCodec
from fastagent.wire.envelope import MediaEnvelope
from fastagent.wire.events import MediaOffer
from fastagent.wire.openai_realtime import APPEND_TEMPLATE, AUDIO_MEDIA

RAW = {
    "mulaw": MediaOffer("mulaw", MULAW_8K),
    "alaw": MediaOffer("alaw", ALAW_8K),
    "pcm8": MediaOffer("pcm8", PCM16_8K),
    "pcm16": MediaOffer("pcm16", PCM16_16K),
    "pcm24": MediaOffer("pcm24", PCM16_24K),
    "pcm44": MediaOffer("pcm44", AudioFormat(Encoding.PCM16, 44_100)),
}
OFFERS = RAW | {
    f"wav/{name}": MediaOffer(f"wav/{name}", offer.format, has_wav_header=True) for name, offer in RAW.items()
}


@pytest.mark.parametrize(
    ("offered", "chosen", "model_format"),
    [
        # What both sides speak comes first, in the carrier's order.
        (["mulaw", "pcm24"], "mulaw", MULAW_8K),
        (["pcm24", "mulaw"], "pcm24", PCM16_24K),
        (["pcm16", "pcm8", "alaw"], "alaw", ALAW_8K),
        (["wav/mulaw", "pcm8", "mulaw"], "mulaw", MULAW_8K),
        # Then what needs converting, raw before headers.
        (["pcm8", "pcm16"], "pcm8", PCM16_24K),
        (["pcm16", "pcm8"], "pcm16", PCM16_24K),
        (["wav/mulaw", "pcm8"], "pcm8", PCM16_24K),
        # Headers need care but no conversion.
        (["wav/pcm16", "wav/mulaw"], "wav/pcm16", PCM16_24K),
        (["wav/mulaw"], "wav/mulaw", MULAW_8K),
        (["wav/pcm24"], "wav/pcm24", PCM16_24K),
        # Rates that no kernel converts are passed over.
        (["pcm44", "wav/pcm44", "wav/pcm8"], "wav/pcm8", PCM16_24K),
    ],
)
def test_the_best_offer_is_chosen(offered: list[str], chosen: str, model_format: AudioFormat) -> None:
    plan = plan_media(tuple(OFFERS[name] for name in offered))
    assert plan == MediaPlan(OFFERS[chosen], model_format)


@pytest.mark.parametrize("offered", [[], ["pcm44"], ["pcm44", "wav/pcm44"]])
def test_without_a_usable_offer_there_is_no_plan(offered: list[str]) -> None:
    with pytest.raises(UnsupportedMediaError):
        plan_media(tuple(OFFERS[name] for name in offered))


@pytest.mark.parametrize("name", ["mulaw", "alaw", "pcm24"])
def test_only_raw_audio_in_a_model_format_passes_untouched(name: str) -> None:
    assert plan_media((OFFERS[name],)).is_passthrough
    assert not plan_media((OFFERS[f"wav/{name}"],)).is_passthrough
    assert not plan_media((OFFERS["pcm16"],)).is_passthrough


@pytest.mark.parametrize("offer", AUDIOCODES_MEDIA.values(), ids=lambda offer: offer.name)
def test_every_format_of_the_carrier_has_a_plan_and_working_pumps(offer: MediaOffer) -> None:
    plan = plan_media((offer,))
    assert plan.offer is offer
    assert plan.model_format in MODEL_FORMATS
    uplink = build_uplink(plan, AudioCodesCodec().caller_media, APPEND_TEMPLATE, backlog_ms=1000)
    downlink = build_downlink(plan, AUDIO_MEDIA, lead_ms=400, queue_limit_ms=1000)
    assert uplink.is_passthrough is plan.is_passthrough
    # Headers of what is played are written by the codec, so only the format matters here.
    assert downlink.is_passthrough is (offer.format == plan.model_format)

    chunk = {"type": "userStream.chunk", "audioChunk": _base64(offer.format.silence(20))}
    appended = uplink.feed(json.dumps(chunk).encode())
    assert appended is not None
    heard = json.loads(appended)
    assert heard["type"] == "input_audio_buffer.append"
    assert len(base64.b64decode(heard["audio"])) == 20 * plan.model_format.bytes_per_ms

    downlink.set_template(b'{"audioChunk":"', b'"}')
    delta = {
        "type": "response.output_audio.delta",
        "response_id": "r1",
        "item_id": "i1",
        "content_index": 0,
        "delta": _base64(plan.model_format.silence(20)),
    }
    played = downlink.feed(json.dumps(delta).encode(), 1.0)
    assert played is not None
    assert len(base64.b64decode(json.loads(played)["audioChunk"])) == 20 * offer.format.bytes_per_ms


def test_the_backlog_of_the_uplink_is_bounded_in_time() -> None:
    plan = plan_media((OFFERS["mulaw"],))
    uplink = build_uplink(plan, AudioCodesCodec().caller_media, APPEND_TEMPLATE, backlog_ms=100)
    chunk = {"type": "userStream.chunk", "audioChunk": _base64(MULAW_8K.silence(20))}
    for _ in range(8):
        message = uplink.feed(json.dumps(chunk).encode())
        assert message is not None
        uplink.keep(message)
    assert uplink.backlog_messages == 5
    assert uplink.backlog_dropped == 3
    assert len(uplink.release()) == 5


def test_the_downlink_holds_back_what_exceeds_the_lead_and_drops_what_exceeds_the_queue() -> None:
    plan = plan_media((OFFERS["mulaw"],))
    downlink = build_downlink(plan, AUDIO_MEDIA, lead_ms=400, queue_limit_ms=1000)
    delta = {
        "type": "response.output_audio.delta",
        "response_id": "r1",
        "item_id": "i1",
        "content_index": 0,
        "delta": _base64(MULAW_8K.silence(600)),
    }
    for _ in range(3):
        downlink.feed(json.dumps(delta).encode(), 1.0)
    assert downlink.sent == 3200
    assert downlink.queued == 6400
    assert downlink.dropped == 1


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("fields", [(), (("who",),), (("who",), ("when",))])
def test_uplink_looks_at_what_must_be_said_and_at_the_count_behind_the_declared_fields(fields):
    media = MediaEnvelope(
        ("type",), ("audio",), ("data",), fields, expected=(("format",), "audio/x"), sequence=("n",)
    )
    pump = build_uplink(MediaPlan(RAW["pcm24"], PCM16_24K), media, APPEND_TEMPLATE, backlog_ms=100)
    said = {"type": "audio", "who": "audio/y", "when": 9, "format": "audio/x", "data": "AAAA", "n": 1}
    assert pump.feed(json.dumps(said).encode())
    assert pump.feed(json.dumps(said | {"n": 3}).encode())
    with pytest.raises(LookupError):
        pump.feed(json.dumps(said | {"format": "audio/y", "who": "audio/x", "n": 4}).encode())
    assert (pump.messages, pump.gaps, pump.repeats) == (2, 1, 0)
    # What was left to the codec is not missing.
    assert pump.feed(json.dumps(said | {"n": 5}).encode())
    assert (pump.messages, pump.gaps, pump.repeats) == (3, 1, 0)
