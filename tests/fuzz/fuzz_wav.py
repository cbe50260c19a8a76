"""WAV headers: any bytes are a header, part of one, or the documented error, whatever the cut."""

import os

from fastagent.audio import wav
from fastagent.errors import FormatMismatchError


def parse(data: bytes) -> wav.WavHeader | str | None:
    """What `parse_header` gives, a refusal as a word."""
    try:
        return wav.parse_header(data)
    except FormatMismatchError:
        return "refused"


def check(data: bytes) -> None:
    """The first byte picks a cut; the rest is the start of a file."""
    if not data:
        return
    cut, content = data[0], data[1:]
    found = parse(content)
    # What was decided on a part holds for the whole.
    assert parse(content[:cut]) in (None, found)
    file = os.memfd_create("wav")
    try:
        os.write(file, content)
        try:
            format, channels, samples = wav.read_wav(f"/proc/self/fd/{file}")
        except FormatMismatchError:
            return
    finally:
        os.close(file)
    assert isinstance(found, wav.WavHeader)
    assert (format, channels) == (found.format, found.channels)
    assert len(samples) % (channels * format.encoding.bytes_per_sample) == 0
    ours = wav.header(format, channels, len(samples))
    assert wav.parse_header(ours) == wav.WavHeader(format, channels, len(ours), len(samples) or 0)
