"""Loaded by Schemathesis: most of the good requests ask for what is there; some uploads are audio files."""

import zlib

import schemathesis
from hypothesis import strategies as st

from fastagent.audio import wav
from fastagent.audio.formats import PCM16_8K
from tests.integration.api_house import ENDED_ID, LIVE_IDS

KNOWN = {"session_id": (*LIVE_IDS, ENDED_ID, ENDED_ID), "agent_id": ("front-desk",)}
PCM = bytes(range(256)) * 10

schemathesis.openapi.media_type(
    "audio/wav", st.binary(max_size=512) | st.just(wav.header(PCM16_8K, 1, len(PCM)) + PCM)
)


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Put an id that is there into a request that is meant to be good."""
    is_good = case.meta is not None and case.meta.generation.mode.is_positive
    for name, known in KNOWN.items():
        given = case.path_parameters.get(name) if case.path_parameters else None
        if is_good and isinstance(given, str):
            choice = zlib.crc32(given.encode("utf-8", "replace"))
            if choice % 4:
                case.path_parameters[name] = known[choice // 4 % len(known)]
    return case
