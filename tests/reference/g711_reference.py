"""G.711 one sample at a time, in the steps of the ITU-T G.191 reference program; slow and plain.

``itu_table`` reads the tables in tests/data that the reference program itself wrote: 65,536 codes indexed by
the sample as an unsigned 16-bit number, and 256 samples (int16 little-endian) indexed by the code.
"""

import struct
from pathlib import Path
from typing import Literal

DATA = Path(__file__).parents[1] / "data"

Law = Literal["ulaw", "alaw"]


def itu_table(law: Law, direction: Literal["enc", "dec"]) -> bytes:
    return (DATA / f"itu_{law}_{direction}.bin").read_bytes()


def ulaw_encode_sample(sample: int) -> int:
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 0x1FFF)
    segment = 1
    while magnitude >> (5 + segment):
        segment += 1
    code = (8 - segment) << 4 | (0x0F - ((magnitude >> segment) & 0x0F))
    return code if sample < 0 else code | 0x80


def ulaw_decode_sample(code: int) -> int:
    exponent, mantissa = (~code >> 4) & 7, ~code & 0x0F
    step = 4 << (exponent + 1)
    value = (0x80 << exponent) + step * mantissa + step // 2 - 4 * 33
    return value if code & 0x80 else -value


def alaw_encode_sample(sample: int) -> int:
    magnitude = (~sample if sample < 0 else sample) >> 4
    segment = 0
    if magnitude > 15:
        segment = 1
        while magnitude > 31:
            magnitude >>= 1
            segment += 1
        magnitude -= 16
    code = segment << 4 | magnitude
    return (code if sample < 0 else code | 0x80) ^ 0x55


def alaw_decode_sample(code: int) -> int:
    code ^= 0x55
    segment, mantissa = (code >> 4) & 7, code & 0x0F
    value = (mantissa << 4) + 8
    if segment:
        value = (value + 0x100) << (segment - 1)
    return value if code & 0x80 else -value


ENCODE_SAMPLE = {"ulaw": ulaw_encode_sample, "alaw": alaw_encode_sample}
DECODE_SAMPLE = {"ulaw": ulaw_decode_sample, "alaw": alaw_decode_sample}


def encode(law: Law, pcm: bytes) -> bytes:
    return bytes(ENCODE_SAMPLE[law](sample) for (sample,) in struct.iter_unpack("<h", pcm))


def decode(law: Law, codes: bytes) -> bytes:
    return struct.pack(f"<{len(codes)}h", *(DECODE_SAMPLE[law](code) for code in codes))
